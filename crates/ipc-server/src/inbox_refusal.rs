//! What the inbox says of a message or of a reply, as a refusal.
//!
//! `routes` and `channel` come here, so that both ways refuse alike.

use ipc_inbox::{NoReply, PutError};
use ipc_protocol::ProblemCode;

use crate::refusal::{RETRY_AFTER, Refusal, shutting_down};

/// Why a message was not put.
pub(crate) fn not_put(error: PutError) -> Refusal {
    match error {
        PutError::IdReused => {
            Refusal::new(ProblemCode::IdReused, "the id was used before, with another body")
        }
        PutError::Closed => shutting_down(),
        PutError::Unavailable => {
            let detail = "the inbox cannot store messages at the moment";
            Refusal::new(ProblemCode::Unavailable, detail).retry_after(RETRY_AFTER)
        }
        full => Refusal::new(ProblemCode::InboxFull, "the inbox is full")
            .because(full)
            .retry_after(RETRY_AFTER),
    }
}

/// Why there is no reply. Of a server that stops there may be one yet, from the next one.
pub(crate) fn no_reply(error: NoReply, is_stopping: bool) -> Refusal {
    match error {
        NoReply::NotGiven => {
            Refusal::new(ProblemCode::NotAnswered, "the application gave no reply")
        }
        NoReply::Unavailable if is_stopping => shutting_down(),
        NoReply::Unavailable => {
            let detail = "the inbox cannot read its replies at the moment";
            Refusal::new(ProblemCode::Unavailable, detail).retry_after(RETRY_AFTER)
        }
        _ => Refusal::new(
            ProblemCode::ReplyForgotten,
            "the reply to this request is not kept any more",
        ),
    }
}

//! Turns the inbox's errors about a message or a reply into refusals.
//!
//! `routes` and `channel` come here, so that both refuse in the same way.

use ipc_inbox::{NoReply, PutError};
use ipc_protocol::{ProblemCode, detail_of_reason};

use crate::refusal::{RETRY_AFTER, Refusal, internal, shutting_down};

/// The refusal of a message that the inbox did not store.
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
        // Not a 503, after which a client takes the message for not delivered.
        PutError::Unknown => internal("storing a message", error).retry_after(RETRY_AFTER),
        PutError::TooLarge => Refusal::new(
            ProblemCode::TooLarge,
            "the message is longer than this server's inbox can store",
        ),
        PutError::RememberedFull => {
            let detail = "the server remembers as many message ids as it may";
            Refusal::new(ProblemCode::IdsFull, detail).retry_after(RETRY_AFTER)
        }
        full => Refusal::new(ProblemCode::InboxFull, "the inbox is full")
            .because(full)
            .retry_after(RETRY_AFTER),
    }
}

/// The refusal of a request that gets no reply. If the server is stopping, the next server may
/// still have the reply, so the client is told to come again.
pub(crate) fn no_reply(error: NoReply, is_stopping: bool) -> Refusal {
    match error {
        NoReply::NotGiven => Refusal::new(ProblemCode::NotAnswered, detail_of_reason(None)),
        NoReply::Declined(reason) => {
            Refusal::new(ProblemCode::NotAnswered, detail_of_reason(Some(&reason)))
        }
        NoReply::Unavailable if is_stopping => shutting_down(),
        NoReply::Unavailable => {
            let detail = "the inbox cannot read its replies at the moment";
            Refusal::new(ProblemCode::Unavailable, detail).retry_after(RETRY_AFTER)
        }
        _ => {
            Refusal::new(ProblemCode::ReplyForgotten, "the server does not have the reply any more")
        }
    }
}

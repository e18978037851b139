//! Writes a message of an inbox as a line of JSON.
//!
//! `dead.rs` and `inbox.rs` come here, with messages that they have read from the inbox.

use std::borrow::Cow;

use ipc_home::Timestamp;
use ipc_inbox::Message;
use serde_json::value::RawValue;

use crate::escape::JsonName;

/// The line `{"number", "id", "user", "peer", "at", "deliveries", "reason", "body"}` of a message.
/// Only a dead letter has a reason. The body is the text that was sent.
pub(crate) fn line(
    number: u64,
    message: &Message,
    deliveries: u32,
    reason: Option<Cow<'_, str>>,
) -> String {
    #[derive(serde::Serialize)]
    struct Line<'a> {
        number: u64,
        id: String,
        user: JsonName<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        peer: Option<JsonName<'a>>,
        at: String,
        deliveries: u32,
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<Cow<'a, str>>,
        body: &'a RawValue,
    }
    let line = serde_json::from_str(&message.body).and_then(|body| {
        serde_json::to_string(&Line {
            number,
            id: message.id.to_string(),
            user: JsonName(&message.user),
            peer: message.peer.as_deref().map(JsonName),
            at: format!("{:.3}", Timestamp::from(message.received_at)),
            deliveries,
            reason,
            body,
        })
    });
    // The server has checked the body, unless somebody has changed it in the file. Line breaks
    // between the members of the object must not break the line.
    let line = line.unwrap_or_else(|_| format!("{{\"number\":{number}}}"));
    line.replace(['\n', '\r'], " ")
}

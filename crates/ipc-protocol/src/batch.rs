//! The frame bodies of `POST /message/batch`: many messages in one envelope, each with an id and an
//! answer of its own.

use serde::{Deserialize, Serialize};

use crate::entry::{self, ChannelEntry, write_channel_entry};
use crate::json_error::JsonError;
use crate::message_id::MessageId;
use crate::problem::ProblemCode;
use crate::scanner::Scanner;

/// How many messages a batch may have, unless a server is configured otherwise.
pub const BATCH_MESSAGES_MAX_DEFAULT: usize = 1000;

/// One element of a batch as it was read: the message's id and its body (a JSON object as text), or
/// the code that refuses the element.
pub type BatchEntry<'a> = Result<(MessageId, &'a str), ProblemCode>;

/// The outcome of each message of a batch. A message is identified by its index, counted from 0.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchReply {
    /// How many messages are newly in the inbox.
    pub accepted: u32,
    /// The first index for which the inbox had no room. Messages from this index on that `others`
    /// omits were not taken and may be sent again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub full_from: Option<u32>,
    /// Why there was no room, as the code of a [`ProblemCode`]. `None` stands for
    /// [`InboxFull`](ProblemCode::InboxFull).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub full_code: Option<String>,
    /// The messages before `full_from` that were not newly accepted, and those after it that were
    /// refused for another reason or are duplicates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<BatchOutcome>,
}

/// A message of a batch that was not newly accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchOutcome {
    /// The message's index in the batch.
    pub index: u32,
    /// [`DUPLICATE`](BatchOutcome::DUPLICATE), or the code of a [`ProblemCode`].
    pub code: String,
}

impl BatchOutcome {
    /// The code of a message that was accepted before, with the same body.
    pub const DUPLICATE: &'static str = "duplicate";
}

/// Appends the body of a batch's frame: an array of these messages. Each is an id and a body, a
/// JSON object as text.
pub fn write_batch<'a>(buffer: &mut Vec<u8>, messages: impl Iterator<Item = (MessageId, &'a str)>) {
    buffer.push(b'[');
    for (index, (id, object)) in messages.enumerate() {
        if index > 0 {
            buffer.push(b',');
        }
        write_channel_entry(buffer, id, object, None);
    }
    buffer.push(b']');
}

/// Reads the array that begins here. Returns `None` if it has more than `messages_max` elements.
///
/// # Errors
/// The array breaks a rule for JSON.
pub(crate) fn read<'a>(
    scanner: &mut Scanner<'a>,
    depth: usize,
    messages_max: usize,
) -> Result<Option<Vec<BatchEntry<'a>>>, JsonError> {
    let (mut entries, mut are_too_many) = (Vec::new(), false);
    scanner.array(depth, |scanner| {
        if are_too_many || entries.len() >= messages_max {
            are_too_many = true;
            return scanner.value(depth + 1);
        }
        entries.push(message(entry::read(scanner, depth + 1)?));
        Ok(())
    })?;
    Ok((!are_too_many).then_some(entries))
}

/// A message of a batch is an entry without `reply_wait_ms`: a batch carries no requests.
fn message(entry: entry::ChannelEntryResult<'_>) -> BatchEntry<'_> {
    match entry? {
        ChannelEntry { id, body, reply_wait: None } => Ok((id, body)),
        ChannelEntry { .. } => Err(ProblemCode::MalformedFrame),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "00112233-4455-4677-8899-aabbccddeeff";

    fn entries(text: &str, messages_max: usize) -> Option<Vec<BatchEntry<'_>>> {
        read(&mut Scanner::new(text), 2, messages_max).unwrap()
    }

    #[test]
    fn what_is_written_is_read() {
        let (first, second) = (MessageId::from_random([1; 16]), MessageId::from_random([2; 16]));
        let mut body = Vec::new();
        write_batch(&mut body, [(first, r#"{"a": [1]}"#), (second, "{}")].into_iter());
        let text = String::from_utf8(body).unwrap();
        assert_eq!(entries(&text, 2).unwrap(), [Ok((first, r#"{"a": [1]}"#)), Ok((second, "{}"))]);
        let mut body = Vec::new();
        write_batch(&mut body, std::iter::empty());
        assert_eq!(body, b"[]");
        assert_eq!(entries("[]", 0).unwrap(), []);
        assert!(entries(&text, 1).is_none() && entries("[1]", 0).is_none());
    }

    #[test]
    fn a_bad_message_does_not_spoil_the_others() {
        let text = format!(
            r#"[{{"id":"{ID}","body":{{}}}}, 1, {{"id":"x","body":{{}}}}, {{"id":"{ID}","body":[]}}, {{"id":"{ID}"}}, {{"id":"{ID}","body":{{}},"to":1}}, {{"body":{{"x":1}},"id":"{ID}"}}]"#
        );
        let id = ID.parse().unwrap();
        let malformed = Err(ProblemCode::MalformedFrame);
        assert_eq!(
            entries(&text, 7).unwrap(),
            [
                Ok((id, "{}")),
                malformed,
                malformed,
                Err(ProblemCode::NotAnObject),
                malformed,
                malformed,
                Ok((id, r#"{"x":1}"#))
            ]
        );
    }

    #[test]
    fn the_wire_form_of_the_reply_is_stable() {
        let reply = BatchReply {
            accepted: 2,
            full_from: Some(3),
            full_code: None,
            others: vec![BatchOutcome { index: 1, code: BatchOutcome::DUPLICATE.into() }],
        };
        let text = r#"{"accepted":2,"full_from":3,"others":[{"index":1,"code":"duplicate"}]}"#;
        assert_eq!(serde_json::to_string(&reply).unwrap(), text);
        assert_eq!(serde_json::from_str::<BatchReply>(text).unwrap(), reply);
        let ids = BatchReply {
            full_from: Some(0),
            full_code: Some(ProblemCode::IdsFull.as_str().into()),
            ..BatchReply::default()
        };
        let text = r#"{"accepted":0,"full_from":0,"full_code":"ids_full"}"#;
        assert_eq!(serde_json::to_string(&ids).unwrap(), text);
        assert_eq!(serde_json::from_str::<BatchReply>(text).unwrap(), ids);
        assert_eq!(
            serde_json::to_string(&BatchReply { accepted: 1, ..BatchReply::default() }).unwrap(),
            r#"{"accepted":1}"#
        );
    }
}

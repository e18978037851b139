//! The ids of the messages that `--send` sends: new ones, a given one, or those that the messages
//! have in a member.
//!
//! `send.rs` comes here before it passes a message to the client, so that an id can be printed
//! first: whoever has to repeat a message needs it.

use std::collections::HashMap;
use std::time::{SystemTime, UNIX_EPOCH};

use ipc_protocol::MessageId;
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use crate::args::GivenIds;
use crate::error::Failure;

/// How many random bytes are fetched at once: those of 100 ids.
const POOL_BYTES: usize = 1000;

/// The random bytes of a new id.
const RANDOM_BYTES: usize = 10;

/// Gives each message its id.
pub(super) struct Ids {
    given: GivenIds,
    random: [u8; POOL_BYTES],
    /// The index of the first unused byte.
    next: usize,
}

impl Ids {
    pub(super) fn new(given: GivenIds) -> Self {
        Ids { given, random: [0; POOL_BYTES], next: POOL_BYTES }
    }

    /// The id of a message. `name` is what an error calls the message.
    pub(super) fn of(&mut self, message: &RawValue, name: &str) -> Result<MessageId, Failure> {
        match &self.given {
            GivenIds::New => self.draw(),
            GivenIds::Id(id) => Ok(*id),
            GivenIds::Member(member) => in_member(message, member).map_err(|what| {
                let advice = "give each message a text or a number there, or leave --idKey out";
                Failure::bad_data(format!("{name} {what}"), Some(advice.to_owned()))
            }),
        }
    }

    fn draw(&mut self) -> Result<MessageId, Failure> {
        if POOL_BYTES - self.next < RANDOM_BYTES {
            getrandom::fill(&mut self.random).map_err(|error| {
                Failure::new(format!("the operating system gave no random numbers: {error}"), None)
            })?;
            self.next = 0;
        }
        let mut random = [0; RANDOM_BYTES];
        random.copy_from_slice(&self.random[self.next..self.next + RANDOM_BYTES]);
        self.next += RANDOM_BYTES;
        // With a clock before 1970 ids are only in another order.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(MessageId::from_time(u64::try_from(since.as_millis()).unwrap_or(u64::MAX), random))
    }
}

/// The id that is in a member of an object, or that is made of it. The error says what is there
/// instead.
fn in_member(message: &RawValue, member: &str) -> Result<MessageId, String> {
    let shown = member.escape_debug();
    let mut members: HashMap<String, &RawValue> = serde_json::from_str(message.get())
        .map_err(|_| format!("cannot be looked into for its id in `{shown}`"))?;
    let value = members.remove(member).ok_or_else(|| format!("has no member `{shown}`"))?.get();
    let text = match value.as_bytes().first() {
        Some(b'"') => serde_json::from_str::<String>(value).unwrap_or_default(),
        Some(b'-' | b'0'..=b'9') => value.to_owned(),
        _ => return Err(format!("has neither a text nor a number in `{shown}`")),
    };
    if text.is_empty() {
        return Err(format!("has an empty text in `{shown}`"));
    }
    Ok(text.parse().unwrap_or_else(|_| made_of(member, &text)))
}

/// The id that stands for a text in a member of this name: the beginning of SHA-256.
fn made_of(member: &str, text: &str) -> MessageId {
    let mut hash = Sha256::new();
    hash.update(member.as_bytes());
    hash.update([0]);
    hash.update(text.as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash.finalize()[..16]);
    MessageId::from_random(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(message: &str, member: &str) -> Result<MessageId, String> {
        in_member(&RawValue::from_string(message.to_owned()).unwrap(), member)
    }

    #[test]
    fn a_uuid_is_the_id_and_of_another_text_or_number_the_same_id_is_made_each_time() {
        let uuid = "01a21eda-5ee0-793e-8423-bfd2df81e5de";
        let with = |value: &str| format!(r#"{{"a":{{"id":1}},"id":{value}}}"#);
        assert_eq!(id(&with(&format!("\"{uuid}\"")), "id").unwrap().to_string(), uuid);
        assert_eq!(
            id(&with(&format!("\"{}\"", uuid.to_uppercase())), "id").unwrap().to_string(),
            uuid
        );
        let order = id(&with("\"order-17\""), "id").unwrap();
        // Printed once with another program: printf 'id\0order-17' | sha256sum.
        assert_eq!(order.to_string(), "37a48a69-e132-45c4-be37-ec8914500db3");
        assert_eq!(id(r#"{"id":"order\u002d17","b":2}"#, "id"), Ok(order), "the text counts");
        assert_eq!(id(r#"{"id":17}"#, "id"), id(r#"{"id":"17"}"#, "id"));
        assert_ne!(id(r#"{"id":17}"#, "id"), id(r#"{"n":17}"#, "n"), "and the member's name");
        assert_ne!(id(r#"{"id":-17}"#, "id"), id(r#"{"id":17}"#, "id"));
    }

    #[test]
    fn what_has_no_id_is_told() {
        for (message, told) in [
            ("{}", "has no member `id`"),
            (r#"{"a":{"id":1}}"#, "has no member `id`"),
            (r#"{"id":null}"#, "has neither a text nor a number in `id`"),
            (r#"{"id":true}"#, "has neither a text nor a number in `id`"),
            (r#"{"id":{"id":1}}"#, "has neither a text nor a number in `id`"),
            (r#"{"id":""}"#, "has an empty text in `id`"),
        ] {
            assert_eq!(id(message, "id").unwrap_err(), told, "{message}");
        }
    }

    #[test]
    fn new_ids_are_all_different() {
        let mut ids = Ids::new(GivenIds::New);
        let message = RawValue::from_string("{}".to_owned()).unwrap();
        let drawn: std::collections::HashSet<_> =
            (0..1000).map(|_| ids.of(&message, "it").unwrap()).collect();
        assert_eq!(drawn.len(), 1000);
    }
}

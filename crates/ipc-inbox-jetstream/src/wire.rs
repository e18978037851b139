//! The form of what is stored in the streams: subjects, headers, ids.
//!
//! A message's payload is its body. One header has the rest as JSON, so that no name can break it.
//! Nothing here connects.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_nats::HeaderMap;
use async_nats::header::NATS_MESSAGE_ID;
use ipc_inbox::{DeadReason, Message};
use ipc_protocol::{Fingerprint, MessageId};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The header with [`Meta`].
const META: &str = "Web-Ipc";

/// How many bytes the headers of a message may have, beside its user and its reason.
const HEADER_BYTES: usize = 1024;

/// The names of everything that belongs to one inbox.
#[derive(Clone, Debug)]
pub(crate) struct Names {
    pub(crate) stream: String,
    pub(crate) dead_stream: String,
    pub(crate) reply_stream: String,
    /// The subject of messages.
    pub(crate) messages: String,
    /// Servers tell each other here which request has its reply now.
    pub(crate) notices: String,
    subjects: String,
}

/// The one consumer of the messages, which all servers share.
pub(crate) const CONSUMER: &str = "web-ipc";

impl Names {
    pub(crate) fn of(name: &str) -> Self {
        let subjects = format!("web-ipc.{name}");
        Names {
            stream: name.to_owned(),
            dead_stream: format!("{name}-dead"),
            reply_stream: format!("{name}-replies"),
            messages: format!("{subjects}.message"),
            notices: format!("{subjects}.notice"),
            subjects,
        }
    }

    /// The subject of a dead letter, or with `*` those of all.
    pub(crate) fn dead(&self, number: impl std::fmt::Display) -> String {
        format!("{}.dead.{number}", self.subjects)
    }

    /// The subject of the reply to a request, or with `*` those of all.
    pub(crate) fn reply(&self, key: impl std::fmt::Display) -> String {
        format!("{}.reply.{key}", self.subjects)
    }
}

/// Identifies a message: a hash of its user and its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key(u128);

impl Key {
    pub(crate) fn of(user: &str, id: MessageId) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(id.as_bytes());
        hasher.update(user.as_bytes());
        Key(half(&hasher.finalize()))
    }

    /// The key with this text.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        u128::from_str_radix(text, 16).ok().map(Key)
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// A hash of a body, which tells a duplicate from a reused id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BodyHash(u128);

impl BodyHash {
    pub(crate) fn of(body: &str) -> Self {
        BodyHash(half(&Sha256::digest(body)))
    }
}

/// The first half of a hash.
fn half(hash: &[u8]) -> u128 {
    hash.iter().take(16).fold(0, |number, byte| number << 8 | u128::from(*byte))
}

/// What is stored of a message beside its body.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Meta {
    id: String,
    user: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    certificate: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    peer: Option<String>,
    /// When the server received it, in microseconds since the Unix epoch.
    at: u64,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    request: bool,
    /// The hash of the body.
    hash: String,
    /// The process that put it.
    pub(crate) origin: String,
    /// The sequence number under which a dead letter was first accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) first: Option<u64>,
    /// How often a dead letter was delivered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    deliveries: Option<u32>,
    /// Why a dead letter was rejected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl Meta {
    pub(crate) fn of(message: &Message, hash: BodyHash, origin: &str) -> Self {
        let at = message.received_at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Meta {
            id: message.id.to_string(),
            user: message.user.to_string(),
            certificate: message.certificate.map(|one| hex(one.as_bytes())),
            peer: message.peer.as_deref().map(str::to_owned),
            at: u64::try_from(at.as_micros()).unwrap_or(u64::MAX),
            request: message.wants_reply,
            hash: format!("{:032x}", hash.0),
            origin: origin.to_owned(),
            first: None,
            deliveries: None,
            reason: None,
        }
    }

    /// The same message as a dead letter.
    pub(crate) fn dead(mut self, first: u64, deliveries: u32, reason: &DeadReason) -> Self {
        self.first = Some(first);
        self.deliveries = Some(deliveries);
        self.reason = match reason {
            DeadReason::Rejected(reason) => Some(reason.to_string()),
            _ => None,
        };
        self
    }

    /// A dead letter as an ordinary message again.
    pub(crate) fn revived(mut self) -> Self {
        (self.deliveries, self.reason) = (None, None);
        self
    }

    /// Of a dead letter.
    pub(crate) fn deliveries(&self) -> u32 {
        self.deliveries.unwrap_or(1)
    }

    /// Of a dead letter.
    pub(crate) fn reason(&self) -> DeadReason {
        let reason = self.reason.as_deref();
        reason.map_or(DeadReason::MaxDeliveries, |reason| DeadReason::Rejected(reason.into()))
    }

    pub(crate) fn hash(&self) -> Option<BodyHash> {
        u128::from_str_radix(&self.hash, 16).ok().map(BodyHash)
    }

    /// The headers with it; with `message_id` the server recognises duplicates.
    pub(crate) fn headers(&self, message_id: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        // Serialising strings and numbers cannot fail.
        headers.insert(META, serde_json::to_string(self).unwrap_or_default());
        headers.insert(NATS_MESSAGE_ID, message_id);
        headers
    }

    pub(crate) fn of_headers(headers: Option<&HeaderMap>) -> Option<Self> {
        serde_json::from_str(headers?.get_last(META)?.as_str()).ok()
    }

    /// The message with this body. `None` if it is none of ours.
    pub(crate) fn message(&self, body: &[u8]) -> Option<Message> {
        let certificate = match &self.certificate {
            Some(text) => Some(Fingerprint::from_bytes(bytes(text)?)),
            None => None,
        };
        Some(Message {
            id: self.id.parse().ok()?,
            user: self.user.as_str().into(),
            certificate,
            peer: self.peer.as_deref().map(Arc::from),
            received_at: SystemTime::UNIX_EPOCH.checked_add(Duration::from_micros(self.at))?,
            body: std::str::from_utf8(body).ok()?.into(),
            wants_reply: self.request,
        })
    }
}

/// The id under which the NATS server recognises a message that is sent again: its id and its user.
pub(crate) fn message_id(user: &str, id: MessageId) -> String {
    // As JSON, a name with a line break cannot break the header. Serialising text cannot fail.
    format!("{id} {}", serde_json::to_string(user).unwrap_or_default())
}

/// How many bytes a message takes of what the NATS server allows.
pub(crate) fn length(message: &Message) -> usize {
    // In JSON a character of a name may take six bytes, and the user is there twice.
    let peer = message.peer.as_ref().map_or(0, |peer| peer.len());
    message.body.len() + 12 * message.user.len() + 6 * peer + HEADER_BYTES
}

/// How many bytes a reply may have where the NATS server takes messages of `max_payload` bytes.
pub(crate) fn reply_bytes_max(max_payload: usize) -> usize {
    max_payload.saturating_sub(HEADER_BYTES)
}

/// What the stream of replies has of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum KeptReply {
    /// The application's reply.
    Given(Arc<str>),
    /// The application gave none.
    NotGiven,
    /// The application gave none, for this reason.
    Declined(Arc<str>),
}

impl KeptReply {
    /// What is stored: one byte that says which, then the reply or the reason. A server that does
    /// not know the byte takes it for [`NotGiven`](KeptReply::NotGiven).
    pub(crate) fn to_payload(&self) -> Vec<u8> {
        match self {
            KeptReply::Given(body) => [b"r".as_slice(), body.as_bytes()].concat(),
            KeptReply::NotGiven => b"n".to_vec(),
            KeptReply::Declined(reason) => [b"d".as_slice(), reason.as_bytes()].concat(),
        }
    }

    pub(crate) fn of_payload(payload: &[u8]) -> Option<Self> {
        match payload.split_first()? {
            (b'r', body) => Some(KeptReply::Given(std::str::from_utf8(body).ok()?.into())),
            (b'n', []) => Some(KeptReply::NotGiven),
            (b'd', reason) => Some(KeptReply::Declined(std::str::from_utf8(reason).ok()?.into())),
            _ => None,
        }
    }
}

/// What servers tell each other about a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    /// Its reply is stored.
    Settled(Key),
    /// Its sender waits at the server that says so.
    Awaited(Key),
}

impl Notice {
    pub(crate) fn to_payload(&self) -> String {
        match self {
            Notice::Settled(key) => format!("s{key}"),
            Notice::Awaited(key) => format!("a{key}"),
        }
    }

    pub(crate) fn of_payload(payload: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(payload).ok()?;
        if let Some(key) = text.strip_prefix('s') {
            return Key::parse(key).map(Notice::Settled);
        }
        Key::parse(text.strip_prefix('a')?).map(Notice::Awaited)
    }
}

/// What the reply subject of a delivered message says: `$JS.ACK.….DELIVERED.SEQ.….….PENDING`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Delivered {
    /// The message's number in the stream.
    pub(crate) sequence: u64,
    /// How often it was delivered, this time included.
    pub(crate) deliveries: u32,
}

impl Delivered {
    pub(crate) fn of_reply_subject(subject: &str) -> Option<Self> {
        let tokens: Vec<&str> = subject.strip_prefix("$JS.ACK.")?.split('.').collect();
        // With nine tokens the subject also names a domain and an account, before the others.
        let first = match tokens.len() {
            7 => 2,
            9.. => 4,
            _ => return None,
        };
        let deliveries = tokens.get(first)?.parse::<u64>().ok()?;
        let sequence = tokens.get(first + 1)?.parse().ok()?;
        Some(Delivered { sequence, deliveries: u32::try_from(deliveries).unwrap_or(u32::MAX) })
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(hex: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if hex.len() != 64 || !hex.is_ascii() {
        return None;
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(hex.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> Message {
        Message {
            id: MessageId::from_random([7; 16]),
            user: "mü\r\n\"ller".into(),
            certificate: Some(Fingerprint::from_bytes([9; 32])),
            peer: Some("worker1".into()),
            received_at: SystemTime::UNIX_EPOCH + Duration::from_micros(1_700_000_000_123_456),
            body: r#"{"a":1}"#.into(),
            wants_reply: true,
        }
    }

    #[test]
    fn a_message_comes_back_as_it_went_and_a_name_breaks_no_header() {
        let message = message();
        let hash = BodyHash::of(&message.body);
        let meta = Meta::of(&message, hash, "me");
        let headers = meta.headers(&message_id(&message.user, message.id));
        for (_, values) in headers.iter() {
            assert!(values.iter().all(|value| !value.as_str().contains(['\r', '\n'])));
        }
        let back = Meta::of_headers(Some(&headers)).unwrap();
        assert_eq!(back.message(message.body.as_bytes()), Some(message.clone()));
        assert_eq!(back.hash(), Some(hash));
        let dead = back.dead(5, 3, &DeadReason::Rejected("a\r\nb".into()));
        let dead = Meta::of_headers(Some(&dead.headers("x"))).unwrap();
        assert_eq!((dead.first, dead.deliveries()), (Some(5), 3));
        assert_eq!(dead.reason(), DeadReason::Rejected("a\r\nb".into()));
        assert_eq!(dead.revived().reason(), DeadReason::MaxDeliveries);
    }

    #[test]
    fn no_header_is_longer_than_is_counted() {
        let message = Message { user: "\u{1}".repeat(300).into(), ..message() };
        let meta = Meta::of(&message, BodyHash::of(&message.body), &"o".repeat(32));
        let headers = meta.headers(&message_id(&message.user, message.id));
        let bytes: usize = headers
            .iter()
            .map(|(name, values)| name.to_string().len() + values[0].as_str().len() + 4)
            .sum();
        assert!(bytes + message.body.len() <= length(&message), "{bytes}");
    }

    #[test]
    fn users_have_ids_of_their_own() {
        let id = MessageId::from_random([1; 16]);
        assert_ne!(Key::of("u", id), Key::of("v", id));
        assert_ne!(message_id("u", id), message_id("v", id));
        assert_eq!(Key::parse(&Key::of("u", id).to_string()), Some(Key::of("u", id)));
    }

    #[test]
    fn the_numbers_of_a_delivery_are_read_in_both_forms() {
        let expected = Some(Delivered { sequence: 42, deliveries: 3 });
        for subject in [
            "$JS.ACK.NAME.web-ipc.3.42.50.1700000000.9",
            "$JS.ACK._.HASH.NAME.web-ipc.3.42.50.1700000000.9",
            "$JS.ACK._.HASH.NAME.web-ipc.3.42.50.1700000000.9.random",
        ] {
            assert_eq!(Delivered::of_reply_subject(subject), expected, "{subject}");
        }
        for subject in ["_INBOX.1", "$JS.ACK.a.b.c", "$JS.ACK.NAME.web-ipc.x.42.50.17.9"] {
            assert_eq!(Delivered::of_reply_subject(subject), None, "{subject}");
        }
    }

    #[test]
    fn what_is_kept_of_a_reply_and_told_of_it_can_be_read_again() {
        for (kept, payload) in [
            (KeptReply::Given(r#"{"n":1}"#.into()), r#"r{"n":1}"#),
            (KeptReply::NotGiven, "n"),
            (KeptReply::Declined("no such file".into()), "dno such file"),
        ] {
            assert_eq!(kept.to_payload(), payload.as_bytes());
            assert_eq!(KeptReply::of_payload(payload.as_bytes()), Some(kept));
        }
        for payload in [b"".as_slice(), b"x", b"n1", b"d\xff"] {
            assert_eq!(KeptReply::of_payload(payload), None);
        }
        let key = Key::of("u", MessageId::from_random([1; 16]));
        for notice in [Notice::Settled(key), Notice::Awaited(key)] {
            assert_eq!(Notice::of_payload(notice.to_payload().as_bytes()), Some(notice));
        }
        assert_eq!(Notice::of_payload(b"x00"), None);
    }
}

//! Dead letters: messages that an inbox no longer delivers, each with its reason.
//!
//! Every kind of inbox with dead letters uses these types. Nothing here stores one.

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;

use crate::message::Message;

/// How many bytes of a reason are kept.
const REASON_BYTES_MAX: usize = 4096;

/// Identifies a dead letter in its inbox. Ids are in the order in which the messages were accepted:
/// a message that dies later may have a smaller id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeadLetterId(u64);

impl DeadLetterId {
    /// The id with this number, for a backend, or for a program that parses numbers.
    pub const fn new(number: u64) -> Self {
        DeadLetterId(number)
    }

    /// Its number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for DeadLetterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for DeadLetterId {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, ParseIntError> {
        text.parse().map(DeadLetterId)
    }
}

/// Why a message is a dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeadReason {
    /// The message was delivered as often as allowed, and never acknowledged.
    MaxDeliveries,
    /// The application [rejected](crate::Delivery::reject) the message, for this reason.
    Rejected(Box<str>),
}

impl fmt::Display for DeadReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeadReason::MaxDeliveries => f.write_str("not acknowledged in any of its deliveries"),
            DeadReason::Rejected(reason) => f.write_str(reason),
        }
    }
}

/// A message that the inbox no longer delivers, and keeps for inspection.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeadLetter {
    /// Identifies the dead letter for [`Inbox::requeue`](crate::Inbox::requeue) and
    /// [`Inbox::discard`](crate::Inbox::discard).
    pub id: DeadLetterId,
    /// Its message.
    pub message: Message,
    /// How often the message was delivered.
    pub deliveries: u32,
    /// Why the message is a dead letter.
    pub reason: DeadReason,
}

impl DeadLetter {
    /// A dead letter, for a backend.
    pub fn new(id: DeadLetterId, message: Message, deliveries: u32, reason: DeadReason) -> Self {
        DeadLetter { id, message, deliveries, reason }
    }
}

/// The inbox could not read or change what it stores.
#[derive(Debug, thiserror::Error)]
#[error("the inbox cannot be used")]
pub struct StorageError(#[source] Box<dyn std::error::Error + Send + Sync>);

impl StorageError {
    /// An error with its cause, from the storage.
    pub fn new(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        StorageError(source.into())
    }
}

/// The part of a reason that is kept: as many whole characters as fit.
pub(crate) fn kept_reason(reason: &str) -> Box<str> {
    let mut end = reason.len().min(REASON_BYTES_MAX);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    reason[..end].into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        assert_eq!(&*kept_reason("no name"), "no name");
        let long = format!("a{}", "\u{e9}".repeat(REASON_BYTES_MAX));
        let kept = kept_reason(&long);
        assert_eq!(kept.len(), REASON_BYTES_MAX - 1);
        assert!(long.starts_with(&*kept));
    }

    #[test]
    fn an_id_is_written_and_read_as_its_number() {
        let id = DeadLetterId::new(7);
        assert_eq!((id.to_string().parse(), id.get()), (Ok(id), 7));
        assert!("-1".parse::<DeadLetterId>().is_err());
    }
}

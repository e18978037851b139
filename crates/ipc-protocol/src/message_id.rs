//! The id of a message. A client draws it once, and keeps it when the message is sealed and sent
//! again.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

/// A message's id: a UUID (RFC 9562), written as 36 characters
/// `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx`.
///
/// Upper and lower case hex digits denote the same id, so a change of case does not make a message
/// new.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId([u8; 16]);

/// The text is not a UUID in the form of 36 characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a UUID of the form xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx")]
pub struct MessageIdError;

impl MessageId {
    /// Length of the text form in characters.
    pub const TEXT_LEN: usize = 36;

    /// Makes a version 4 UUID of 16 random bytes, of which 122 bits are kept.
    pub fn from_random(bytes: [u8; 16]) -> Self {
        MessageId(uuid::Builder::from_random_bytes(bytes).into_uuid().into_bytes())
    }

    /// Makes a version 7 UUID (RFC 9562, section 5.7): the lower 48 bits of the milliseconds since
    /// the Unix epoch, then 74 of the random bits. Ids made one after the other are neighbours in a
    /// database index, which makes inserts cheap.
    pub fn from_time(millis: u64, random: [u8; 10]) -> Self {
        MessageId(
            uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid().into_bytes(),
        )
    }

    /// The time in a version 7 UUID, in milliseconds since the Unix epoch; `None` for another
    /// version. The client chose it, so it may be any number.
    pub fn millis(&self) -> Option<u64> {
        let [a, b, c, d, e, f, version, ..] = self.0;
        (version >> 4 == 7).then(|| u64::from_be_bytes([0, 0, a, b, c, d, e, f]))
    }

    /// Takes the 16 bytes of a UUID as they are.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        MessageId(bytes)
    }

    /// Appends the text form to `buffer`.
    pub(crate) fn write_text(self, buffer: &mut Vec<u8>) {
        let mut text = [0; Self::TEXT_LEN];
        buffer.extend_from_slice(
            Uuid::from_bytes(self.0).hyphenated().encode_lower(&mut text).as_bytes(),
        );
    }

    /// The 16 bytes of the UUID.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl FromStr for MessageId {
    type Err = MessageIdError;

    fn from_str(text: &str) -> Result<Self, MessageIdError> {
        // `Uuid` also reads the braced, the URN and the unhyphenated form, which the protocol does
        // not allow.
        if text.len() != Self::TEXT_LEN {
            return Err(MessageIdError);
        }
        Uuid::try_parse(text).map(|uuid| MessageId(uuid.into_bytes())).map_err(|_| MessageIdError)
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(Uuid::from_bytes_ref(&self.0).as_hyphenated(), f)
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MessageId({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_what_it_writes_and_is_a_version_4_uuid() {
        let id = MessageId::from_random([0xff; 16]);
        assert_eq!(id.to_string(), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(id.to_string().to_uppercase().parse(), Ok(id), "case makes no new id");
    }

    #[test]
    fn other_forms_are_refused() {
        for text in [
            "",
            "ffffffffffff4fffbfffffffffffffff",
            "{ffffffff-ffff-4fff-bfff-ffffffffffff}",
            "urn:uuid:ffffffff-ffff-4fff-bfff-ffffffffffff",
            "gfffffff-ffff-4fff-bfff-ffffffffffff",
            "ffffffff-ffff-4fff-bfff-fffffffffff",
            "ffffffff-ffff-4fff-bfff-ffffffffffff ",
            "ffffffffffff-4fff-bfff-ffff-ffffffff",
        ] {
            assert_eq!(text.parse::<MessageId>(), Err(MessageIdError), "{text}");
        }
    }

    #[test]
    fn ids_with_a_time_are_in_its_order_and_differ_within_a_moment() {
        let id = MessageId::from_time(0x0192_0000_0001, [0xff; 10]);
        assert_eq!(id.to_string(), "01920000-0001-7fff-bfff-ffffffffffff");
        assert!(id < MessageId::from_time(0x0192_0000_0002, [0; 10]));
        assert_ne!(id, MessageId::from_time(0x0192_0000_0001, [0; 10]));
        assert_eq!(MessageId::from_time(1 << 48, [0; 10]), MessageId::from_time(0, [0; 10]));
    }
}

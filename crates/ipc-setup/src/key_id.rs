//! The names of a home's key rings and keys: which file, and the short id of a key.
//!
//! `keys` changes the rings and errors name them; both come here. Nothing is read or written.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use ipc_envelope::Key;
use ipc_home::Home;
use thiserror::Error;

/// Which key ring of a home.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ring {
    /// `envelope.keys`, which seals messages. Clients that share the home have it, and the keys of
    /// enrolled clients are derived from it.
    Envelope,
    /// `session.key`, which seals session tokens. Only the server has it.
    Session,
}

impl Ring {
    pub(crate) fn file(self, home: &Home) -> PathBuf {
        match self {
            Self::Envelope => home.envelope_keys_file(),
            Self::Session => home.session_key_file(),
        }
    }
}

impl fmt::Display for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Envelope => "envelope.keys",
            Self::Session => "session.key",
        })
    }
}

/// The short id of a key: the first four bytes of SHA-256 of its 32 bytes. It says nothing of the
/// key.
///
/// `Display` writes eight lower-case hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyId([u8; 4]);

/// The text is no id of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the id of a key has eight hexadecimal digits")]
pub struct KeyIdError;

impl KeyId {
    /// The id of a key.
    #[must_use]
    pub fn of(key: &Key) -> Self {
        Self(key.short_id())
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", u32::from_be_bytes(self.0))
    }
}

impl FromStr for KeyId {
    type Err = KeyIdError;

    fn from_str(text: &str) -> Result<Self, KeyIdError> {
        let is_id = text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let value = u32::from_str_radix(text, 16).ok().filter(|_| is_id);
        value.map(|value| Self(value.to_be_bytes())).ok_or(KeyIdError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_is_that_of_the_bytes_and_reads_back() {
        let key = Key::from_bytes([0; 32]);
        // printf '%032d' 0 | tr 0 '\0' | sha256sum
        assert_eq!(KeyId::of(&key).to_string(), "66687aad");
        assert_eq!("66687AAD".parse(), Ok(KeyId::of(&key)));
        for text in ["", "66687aa", "66687aad0", "+6687aad", "6668 aad", "xxxxxxxx"] {
            assert_eq!(text.parse::<KeyId>(), Err(KeyIdError), "{text}");
        }
    }
}

//! The value that identifies a certificate in sessions, deliveries and logs. The code that has the
//! certificate computes the hash; this file only holds it.

use std::fmt;

/// The SHA-256 of a certificate in DER form, 32 bytes; shown as 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Takes the 32 bytes of the hash.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Fingerprint(bytes)
    }

    /// The 32 bytes of the hash.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_shown_as_lower_case_hex() {
        let mut bytes = [0; 32];
        bytes[0] = 0xab;
        let shown = Fingerprint::from_bytes(bytes).to_string();
        assert_eq!(shown.len(), 64);
        assert!(shown.starts_with("ab00"));
    }
}

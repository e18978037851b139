//! The rule for a peer name: what may stand in a certificate and name a pair of files.
//!
//! Everything that turns a name from outside into a path comes here first. It touches no file and
//! knows no certificate format; internationalised names are converted elsewhere and arrive in their
//! A-label form.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use thiserror::Error;

/// The longest peer name, in bytes: the upper bound of a common name (RFC 5280, `ub-common-name`).
pub const PEER_NAME_BYTES_MAX: usize = 64;

/// The longest label of a DNS name, in bytes (RFC 1035, section 2.3.4).
const LABEL_BYTES_MAX: usize = 63;

/// Names whose `NAME.key` or `NAME.crt` is, or is easily taken for, another file of the home.
const RESERVED: [&str; 6] = ["web-ipc-ca", "session", "envelope", "users", "admin", "inbox"];

/// The name of a peer: it stands in a certificate, and `NAME.crt` and `NAME.key` lie in the home.
///
/// A DNS name of at most [`PEER_NAME_BYTES_MAX`] ASCII bytes (labels of 1 to 63 letters, digits,
/// `-` and `_`, none beginning or ending with `-`), kept in the case it was given, or an IPv4 or
/// IPv6 address, kept in its shortest form. A `PeerName` is always safe to use as a file name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerName(String);

/// Why a text is no [`PeerName`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PeerNameError {
    /// There is nothing in it.
    #[error("the name is empty")]
    Empty,
    /// It is longer than [`PEER_NAME_BYTES_MAX`].
    #[error("the name is {bytes} bytes long; {PEER_NAME_BYTES_MAX} are allowed")]
    TooLong {
        /// Its length in bytes.
        bytes: usize,
    },
    /// It has a `/` or a `\` and would be a path.
    #[error("the name contains a path separator")]
    PathSeparator,
    /// It has `..` in it.
    #[error("the name contains `..`")]
    ParentDirectory,
    /// A letter beyond ASCII: the A-label form is wanted.
    #[error("the name is not ASCII; write it in its A-label form, xn--…")]
    NotAscii,
    /// A space, a control character or a sign that no DNS name has.
    #[error("the name contains {character:?}, which no host name has")]
    Character {
        /// The first such character.
        character: char,
    },
    /// It begins or ends with a dot.
    #[error("the name begins or ends with a dot")]
    EmptyLabel,
    /// A part between dots is longer than 63 bytes.
    #[error("the part `{label}` of the name is longer than {LABEL_BYTES_MAX} bytes")]
    LabelTooLong {
        /// The part.
        label: String,
    },
    /// A part between dots begins or ends with `-`.
    #[error("the part `{label}` of the name begins or ends with `-`")]
    Hyphen {
        /// The part.
        label: String,
    },
    /// The last part is a number, so it reads like an IPv4 address, and it is none.
    #[error("the name looks like an address, but is none")]
    NotAnAddress,
    /// The pair would take the place of another file of the home.
    #[error("the name `{name}` is reserved for a file of the home")]
    Reserved {
        /// The name.
        name: String,
    },
}

impl PeerName {
    /// Takes a name from outside.
    ///
    /// # Errors
    /// The first rule that it breaks, as a [`PeerNameError`].
    pub fn parse(text: &str) -> Result<Self, PeerNameError> {
        if text.is_empty() {
            return Err(PeerNameError::Empty);
        }
        if text.contains(['/', '\\']) {
            return Err(PeerNameError::PathSeparator);
        }
        if text.contains("..") {
            return Err(PeerNameError::ParentDirectory);
        }
        if let Some(character) = text.chars().find(|c| c.is_control() || c.is_whitespace()) {
            return Err(PeerNameError::Character { character });
        }
        if !text.is_ascii() {
            return Err(PeerNameError::NotAscii);
        }
        if text.len() > PEER_NAME_BYTES_MAX {
            return Err(PeerNameError::TooLong { bytes: text.len() });
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self(address.to_string()));
        }
        if RESERVED.iter().any(|reserved| text.eq_ignore_ascii_case(reserved)) {
            return Err(PeerNameError::Reserved { name: text.to_owned() });
        }
        for label in text.split('.') {
            check_label(label)?;
        }
        // RFC 3696, section 2: no top-level name is all digits; such a text was meant as an
        // address.
        if text
            .rsplit('.')
            .next()
            .is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()))
        {
            return Err(PeerNameError::NotAnAddress);
        }
        Ok(Self(text.to_owned()))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn check_label(label: &str) -> Result<(), PeerNameError> {
    if label.is_empty() {
        return Err(PeerNameError::EmptyLabel);
    }
    if let Some(character) =
        label.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_')))
    {
        return Err(PeerNameError::Character { character });
    }
    if label.len() > LABEL_BYTES_MAX {
        return Err(PeerNameError::LabelTooLong { label: label.to_owned() });
    }
    if label.starts_with('-') || label.ends_with('-') {
        return Err(PeerNameError::Hyphen { label: label.to_owned() });
    }
    Ok(())
}

impl FromStr for PeerName {
    type Err = PeerNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl fmt::Display for PeerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for PeerName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> PeerNameError {
        PeerName::parse(text).unwrap_err()
    }

    #[test]
    fn host_names_and_addresses_are_names() {
        for name in [
            "localhost",
            "testServer1",
            "testServer1.local",
            "a",
            "a_b",
            "x-1.example",
            "127.0.0.1",
            "::1",
        ] {
            assert_eq!(PeerName::parse(name).unwrap().as_str(), name);
        }
    }

    #[test]
    fn an_address_is_kept_in_its_shortest_form() {
        assert_eq!(PeerName::parse("0:0:0:0:0:0:0:1").unwrap().as_str(), "::1");
    }

    #[test]
    fn an_empty_name_is_refused() {
        assert_eq!(refusal(""), PeerNameError::Empty);
    }

    #[test]
    fn sixty_four_bytes_are_a_name_and_sixty_five_are_not() {
        let longest = format!("{}.{}", "a".repeat(31), "b".repeat(32));
        assert!(PeerName::parse(&longest).is_ok());
        assert_eq!(refusal(&format!("{longest}b")), PeerNameError::TooLong { bytes: 65 });
    }

    #[test]
    fn a_label_over_sixty_three_bytes_is_refused() {
        assert!(matches!(refusal(&"a".repeat(64)), PeerNameError::LabelTooLong { .. }));
        assert!(PeerName::parse(&"a".repeat(63)).is_ok());
    }

    #[test]
    fn anything_like_a_path_is_refused() {
        for path in ["../escaped", "a/b", "/etc/passwd", "a\\b", "/"] {
            assert_eq!(refusal(path), PeerNameError::PathSeparator, "{path}");
        }
        for dots in ["..", "a..b", "..."] {
            assert_eq!(refusal(dots), PeerNameError::ParentDirectory, "{dots}");
        }
        for dot in [".", ".hidden", "trailing."] {
            assert_eq!(refusal(dot), PeerNameError::EmptyLabel, "{dot}");
        }
    }

    #[test]
    fn spaces_control_characters_and_signs_are_refused() {
        for (name, character) in
            [("a b", ' '), ("a\0b", '\0'), ("a\n", '\n'), ("*.x", '*'), ("a:b", ':'), ("a%b", '%')]
        {
            assert_eq!(refusal(name), PeerNameError::Character { character }, "{name:?}");
        }
    }

    #[test]
    fn a_name_beyond_ascii_is_refused_with_the_form_to_use() {
        assert_eq!(refusal("bücher.example"), PeerNameError::NotAscii);
        assert!(refusal("bücher").to_string().contains("xn--"));
        assert!(PeerName::parse("xn--bcher-kva.example").is_ok());
    }

    #[test]
    fn hyphens_at_the_ends_of_a_label_are_refused() {
        for name in ["-a", "a-", "a.-b", "a-.b", "--help"] {
            assert!(matches!(refusal(name), PeerNameError::Hyphen { .. }), "{name}");
        }
    }

    #[test]
    fn what_looks_like_an_address_and_is_none_is_refused() {
        for name in ["1.2.3.4.5", "999.1.1.1", "1", "host.1"] {
            assert_eq!(refusal(name), PeerNameError::NotAnAddress, "{name}");
        }
    }

    #[test]
    fn names_of_other_files_of_the_home_are_reserved_in_any_case() {
        for name in [
            "web-ipc-ca",
            "WEB-IPC-CA",
            "session",
            "Session",
            "envelope",
            "users",
            "admin",
            "inbox",
        ] {
            assert!(matches!(refusal(name), PeerNameError::Reserved { .. }), "{name}");
        }
        assert!(PeerName::parse("session1").is_ok());
    }
}

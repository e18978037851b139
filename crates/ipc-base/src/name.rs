//! The rule for names: what may stand in a certificate and name a pair of files.
//!
//! `ipc-pki` comes here with a name in its ASCII form before it certifies it, `ipc-home` before it
//! turns one into a path. Nothing here knows of Unicode, of certificates or of files.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use thiserror::Error;

/// The longest peer name, in characters: the upper bound of a common name (RFC 5280, appendix A,
/// `ub-common-name`).
pub const PEER_NAME_CHARS_MAX: usize = 64;

/// Longest label of a DNS name, in characters (RFC 1035, section 2.3.4).
const LABEL_CHARS_MAX: usize = 63;

/// Names that no peer may have, in any case: `NAME.crt` or `NAME.key` would be, or be taken for,
/// another file of the home.
pub const RESERVED_NAMES: [&str; 8] = [
    "web-ipc-ca",
    "web-ipc-ca.old",
    "web-ipc-ca.cross",
    "session",
    "envelope",
    "users",
    "admin",
    "inbox",
];

/// The name of a peer: it stands in a certificate, and `NAME.crt` and `NAME.key` lie in the home.
///
/// A DNS name of 1 to [`PEER_NAME_CHARS_MAX`] ASCII characters (labels of 1 to 63 letters, digits,
/// `-` and `_`, none beginning or ending with `-`), kept in the case it was given, or an IPv4 or
/// IPv6 address, kept in its shortest form. No wildcard, and none of [`RESERVED_NAMES`]. A
/// `PeerName` is always safe to use as a file name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerName(String);

impl PeerName {
    /// Takes a name from outside.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self(address.to_string()));
        }
        check_dns_name(text, PEER_NAME_CHARS_MAX)?;
        match RESERVED_NAMES.iter().find(|reserved| reserved.eq_ignore_ascii_case(text)) {
            Some(reserved) => Err(NameError::Reserved { name: (*reserved).to_owned() }),
            None => Ok(Self(text.to_owned())),
        }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PeerName {
    type Err = NameError;

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

/// Why a name is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NameError {
    /// There is no character in it.
    #[error("a name cannot be empty")]
    Empty,
    /// It is longer than the place it is meant for allows; an internationalised name counts in its
    /// A-label form.
    #[error("the name has {length} characters, at most {limit} are allowed")]
    TooLong {
        /// Its length in characters.
        length: usize,
        /// The most that is allowed.
        limit: usize,
    },
    /// It holds `/` or `\`, so it is a path and not a name.
    #[error("the name contains the path separator {character:?}")]
    PathSeparator {
        /// The separator found.
        character: char,
    },
    /// It holds a space.
    #[error("the name contains a space")]
    Space,
    /// It holds a control character, NUL included.
    #[error("the name contains the control character {character:?}")]
    Control {
        /// The character found.
        character: char,
    },
    /// A character beyond ASCII: the A-label form (RFC 5890) is wanted.
    #[error("the name is not ASCII; write it in its A-label form, xn--…")]
    NotAscii,
    /// It holds another character that no name may have.
    #[error(
        "the name contains {character:?}; letters, digits, `-`, `_` and single dots are allowed"
    )]
    Forbidden {
        /// The character found.
        character: char,
    },
    /// It begins or ends with a dot.
    #[error("a name cannot begin or end with a dot")]
    OuterDot,
    /// Two dots follow each other.
    #[error("the name has an empty label between two dots")]
    EmptyLabel,
    /// What stands between two dots is longer than 63 characters.
    #[error("the label `{label}` is longer than 63 characters")]
    LabelTooLong {
        /// The label.
        label: String,
    },
    /// A label begins or ends with a hyphen.
    #[error("the label `{label}` begins or ends with a hyphen")]
    HyphenAtEdge {
        /// The label.
        label: String,
    },
    /// Its last label is a number, so peers read it as an IPv4 address, which it is not.
    #[error("`{name}` looks like an IP address but is none")]
    NotAnAddress {
        /// The name.
        name: String,
    },
    /// A `*` somewhere else than as the first label of an alternative name with two more labels
    /// behind it.
    #[error(
        "a wildcard is allowed only as `*.` before two more labels, and only among the alternative names"
    )]
    Wildcard,
    /// A file pair of that name would be another file of the home.
    #[error("the name `{name}` is reserved")]
    Reserved {
        /// The reserved name.
        name: String,
    },
    /// It has characters beyond ASCII, or an `xn--` label, and is no internationalised domain name
    /// (UTS 46).
    #[error("`{name}` is not a valid internationalised domain name")]
    NotAnIdn {
        /// The name.
        name: String,
    },
}

/// Checks a DNS name of at most `chars_max` characters: labels of letters, digits, `-` and `_` with
/// single dots between them.
///
/// The underscore is not a host name's (RFC 1123) but common in service names, and rustls and
/// OpenSSL take it. A last label of digits alone is refused: RFC 1123, section 2.1, and every
/// verifier takes such a name for an address.
///
/// # Errors
/// The first rule that it breaks.
pub fn check_dns_name(name: &str, chars_max: usize) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    if name.len() > chars_max {
        return Err(NameError::TooLong { length: name.chars().count(), limit: chars_max });
    }
    // The characters come first, so that `../escaped` is told about its slash and not about its
    // dots.
    for character in name.chars() {
        match character {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '_' | '.' => {}
            '/' | '\\' => return Err(NameError::PathSeparator { character }),
            ' ' => return Err(NameError::Space),
            '*' => return Err(NameError::Wildcard),
            _ if character.is_control() => return Err(NameError::Control { character }),
            _ if !character.is_ascii() => return Err(NameError::NotAscii),
            _ => return Err(NameError::Forbidden { character }),
        }
    }
    if name.starts_with('.') || name.ends_with('.') {
        return Err(NameError::OuterDot);
    }
    for label in name.split('.') {
        if label.is_empty() {
            return Err(NameError::EmptyLabel);
        }
        if label.len() > LABEL_CHARS_MAX {
            return Err(NameError::LabelTooLong { label: label.to_owned() });
        }
        if label.starts_with('-') || label.ends_with('-') {
            return Err(NameError::HyphenAtEdge { label: label.to_owned() });
        }
    }
    let last_label = name.rsplit('.').next().unwrap_or(name);
    if last_label.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(NameError::NotAnAddress { name: name.to_owned() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(name: &str) -> NameError {
        check_dns_name(name, 253).unwrap_err()
    }

    #[test]
    fn host_and_service_names_are_accepted() {
        let label = "a".repeat(63);
        for name in [
            "localhost",
            "testServer1",
            "a",
            "a.b",
            "job_runner-2.local",
            "_x",
            "3com.example",
            "1a",
            &label,
        ] {
            assert_eq!(check_dns_name(name, 253), Ok(()), "{name}");
        }
    }

    #[test]
    fn the_length_limit_is_inclusive() {
        let name = format!("{}.{}", "a".repeat(32), "b".repeat(31));
        assert_eq!(name.len(), 64);
        assert_eq!(check_dns_name(&name, 64), Ok(()));
        assert_eq!(check_dns_name(&name, 63), Err(NameError::TooLong { length: 64, limit: 63 }));
    }

    #[test]
    fn an_empty_name_is_refused() {
        assert_eq!(refusal(""), NameError::Empty);
    }

    #[test]
    fn a_path_is_refused_as_a_path() {
        for name in ["../escaped", "a/b", "/etc/passwd", "./a", "/"] {
            assert_eq!(refusal(name), NameError::PathSeparator { character: '/' }, "{name}");
        }
        assert_eq!(refusal("a\\b"), NameError::PathSeparator { character: '\\' });
    }

    #[test]
    fn spaces_and_control_characters_are_refused() {
        for name in [" ", "a b", " a", "a "] {
            assert_eq!(refusal(name), NameError::Space, "{name:?}");
        }
        for character in ['\0', '\n', '\r', '\t', '\u{1b}', '\u{7f}'] {
            assert_eq!(refusal(&format!("a{character}b")), NameError::Control { character });
        }
    }

    #[test]
    fn other_characters_are_refused_by_name() {
        for character in [':', '@', ',', '=', '%', '$', '~', '[', '\'', '"'] {
            assert_eq!(refusal(&format!("a{character}b")), NameError::Forbidden { character });
        }
        assert_eq!(refusal("*.a.b"), NameError::Wildcard);
    }

    #[test]
    fn dots_stand_singly_and_inside() {
        for name in [".", "..", ".a", "a.", "a.b."] {
            assert_eq!(refusal(name), NameError::OuterDot, "{name}");
        }
        assert_eq!(refusal("a..b"), NameError::EmptyLabel);
    }

    #[test]
    fn a_label_of_64_characters_is_refused() {
        let label = "a".repeat(64);
        assert_eq!(refusal(&format!("{label}.b")), NameError::LabelTooLong { label });
    }

    #[test]
    fn a_hyphen_at_the_edge_of_a_label_is_refused() {
        for (name, label) in [("-", "-"), ("-a", "-a"), ("a-.b", "a-"), ("a.-b", "-b")] {
            assert_eq!(
                refusal(name),
                NameError::HyphenAtEdge { label: label.to_owned() },
                "{name}"
            );
        }
    }

    #[test]
    fn what_looks_like_an_address_and_is_none_is_refused() {
        for name in ["1.2.3.4.5", "999.1.1.1", "1.2.3", "42", "a.7"] {
            assert_eq!(refusal(name), NameError::NotAnAddress { name: name.to_owned() });
        }
    }

    #[test]
    fn a_refusal_never_prints_a_raw_control_character() {
        assert!(!refusal("a\u{1b}[31m").to_string().contains('\u{1b}'));
    }

    #[test]
    fn a_name_beyond_ascii_is_refused_with_the_form_to_use() {
        assert_eq!(refusal("bücher.example"), NameError::NotAscii);
        assert!(refusal("bücher").to_string().contains("xn--"));
        assert_eq!(check_dns_name("xn--bcher-kva.example", 253), Ok(()));
    }

    fn no_peer(text: &str) -> NameError {
        PeerName::parse(text).unwrap_err()
    }

    #[test]
    fn host_names_and_addresses_are_peer_names() {
        for name in ["localhost", "testServer1.local", "a_b", "x-1.example", "127.0.0.1", "::1"] {
            assert_eq!(PeerName::parse(name).unwrap().as_str(), name);
        }
        assert_eq!(PeerName::parse("0:0:0:0:0:0:0:1").unwrap().as_str(), "::1");
    }

    #[test]
    fn sixty_four_characters_are_a_peer_name_and_sixty_five_are_not() {
        let longest = format!("{}.{}", "a".repeat(31), "b".repeat(32));
        assert!(PeerName::parse(&longest).is_ok());
        let too_long = NameError::TooLong { length: 65, limit: PEER_NAME_CHARS_MAX };
        assert_eq!(no_peer(&format!("{longest}b")), too_long);
    }

    #[test]
    fn whatever_is_no_file_name_is_no_peer_name() {
        for name in ["", ".", "..", "a..b", "../escaped", "a/b", "a\\b", "a\0b", "a b", ".hidden"] {
            assert!(PeerName::parse(name).is_err(), "{name:?}");
        }
        for name in ["-a", "--help"] {
            assert!(matches!(no_peer(name), NameError::HyphenAtEdge { .. }), "{name}");
        }
    }

    #[test]
    fn names_of_other_files_of_the_home_are_reserved_in_any_case() {
        for name in RESERVED_NAMES {
            for spelling in [name.to_owned(), name.to_uppercase()] {
                assert_eq!(no_peer(&spelling), NameError::Reserved { name: name.to_owned() });
            }
        }
        assert!(PeerName::parse("session1").is_ok());
    }
}

//! The rules for peer names, which are used in certificates and as file names.
//!
//! `ipc-pki` checks a name in its ASCII form before it certifies it, and `ipc-home` before it makes
//! a path of it. Nothing here knows Unicode, certificates or files.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use thiserror::Error;

/// The longest peer name, in characters: the upper bound of a common name (RFC 5280, appendix A,
/// `ub-common-name`).
pub const PEER_NAME_CHARS_MAX: usize = 64;

/// Longest label of a DNS name, in characters (RFC 1035, section 2.3.4).
const LABEL_CHARS_MAX: usize = 63;

/// Names that no peer may have, in upper or lower case: `NAME.crt` or `NAME.key` would be another
/// file of the home, or look like it.
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

/// The name of a peer. Its certificate contains it, and the home has `NAME.crt` and `NAME.key`.
///
/// Either a DNS name of 1 to [`PEER_NAME_CHARS_MAX`] ASCII characters, in its given case, or an
/// IPv4 or IPv6 address, in its shortest form. The labels of a DNS name have 1 to 63 letters,
/// digits, `-` and `_`, and neither begin nor end with `-`. Wildcards and [`RESERVED_NAMES`] are
/// refused. A `PeerName` is always safe to use as a file name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerName(String);

impl PeerName {
    /// Parses a name from outside.
    ///
    /// # Errors
    /// The first rule that the name breaks.
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
    /// The name is empty.
    #[error("a name cannot be empty")]
    Empty,
    /// The name is too long for its use. The length of an internationalised name is that of its
    /// A-label form.
    #[error("the name has {length} characters, at most {limit} are allowed")]
    TooLong {
        /// The length of the name, in characters.
        length: usize,
        /// The limit, in characters.
        limit: usize,
    },
    /// The name contains `/` or `\`: it is a path.
    #[error("the name contains the path separator {character:?}")]
    PathSeparator {
        /// The separator.
        character: char,
    },
    /// The name contains a space.
    #[error("the name contains a space")]
    Space,
    /// The name contains a control character, such as NUL.
    #[error("the name contains the control character {character:?}")]
    Control {
        /// The character.
        character: char,
    },
    /// The name contains a character that is not ASCII. The A-label form (RFC 5890) is required.
    #[error("the name is not ASCII; write it in its A-label form, xn--…")]
    NotAscii,
    /// The name contains another character that is not allowed.
    #[error(
        "the name contains {character:?}; letters, digits, `-`, `_` and single dots are allowed"
    )]
    Forbidden {
        /// The character.
        character: char,
    },
    /// The name begins or ends with a dot.
    #[error("a name cannot begin or end with a dot")]
    OuterDot,
    /// The name contains two dots in a row.
    #[error("the name has an empty label between two dots")]
    EmptyLabel,
    /// A label is longer than 63 characters.
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
    /// The last label is a number, so peers would read the name as an IPv4 address, and it is not
    /// one.
    #[error("`{name}` looks like an IP address but is not one")]
    NotAnAddress {
        /// The name.
        name: String,
    },
    /// A `*` is allowed only as the first label of an alternative name that has two more labels.
    #[error(
        "a wildcard is allowed only as `*.` before two more labels, and only among the alternative names"
    )]
    Wildcard,
    /// The files of this name would be other files of the home.
    #[error("the name `{name}` is reserved")]
    Reserved {
        /// The reserved name.
        name: String,
    },
    /// The name has characters beyond ASCII, or an `xn--` label, and is not a valid
    /// internationalised domain name (UTS 46).
    #[error("`{name}` is not a valid internationalised domain name")]
    NotAnIdn {
        /// The name.
        name: String,
    },
}

/// Checks a DNS name of at most `chars_max` characters: labels of letters, digits, `-` and `_` with
/// single dots between them.
///
/// RFC 1123 does not allow the underscore in host names, but it is common in service names, and
/// rustls and OpenSSL accept it. A last label of digits alone is refused, because RFC 1123, section
/// 2.1, and every verifier take such a name for an address.
///
/// # Errors
/// The first rule that the name breaks.
pub fn check_dns_name(name: &str, chars_max: usize) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    if name.len() > chars_max {
        return Err(NameError::TooLong { length: name.chars().count(), limit: chars_max });
    }
    // Characters are checked first, so that the error for `../escaped` is about its slash and not
    // its dots.
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

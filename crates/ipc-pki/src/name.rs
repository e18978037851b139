//! The names of a certificate: parsed once, then passed as types that contain only valid names.
//!
//! Requests for certificates parse what a user typed. Internationalised names become A-labels;
//! `ipc-base` has the rules for those. Nothing here knows how a certificate is made.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use idna::AsciiDenyList;
use idna::uts46::{DnsLength, Hyphens, Uts46};
use ipc_base::{NameError, PeerName, check_dns_name};

/// The longest dNSName in characters (RFC 1035, section 2.3.4, less the root dot and its length
/// byte).
pub const DNS_NAME_CHARS_MAX: usize = 253;

/// Returns the ASCII form of a subject name, which the certificate and its file names have.
///
/// An internationalised name is converted to A-labels (UTS 46), an IP address to its canonical
/// form. Any other name stays unchanged.
///
/// # Errors
/// [`NameError`] says why a name is refused; the rules are those of [`SubjectName::parse`].
pub fn to_ascii(name: &str) -> Result<String, NameError> {
    SubjectName::parse(name).map(|name| name.to_string())
}

/// The name of a peer: the common name of its certificate.
///
/// A [`PeerName`] that a user may write in any script.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SubjectName(PeerName);

impl SubjectName {
    /// Parses a name as a user typed it.
    ///
    /// # Errors
    /// [`NameError`] says why the name is refused.
    pub fn parse(name: &str) -> Result<Self, NameError> {
        let ascii = map_to_ascii(name)?;
        if let Some(address) = parse_address(&ascii) {
            return PeerName::parse(&address.to_string()).map(Self);
        }
        let peer = PeerName::parse(&ascii)?;
        check_idn(name, &ascii)?;
        Ok(Self(peer))
    }

    /// The name in ASCII.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The name as that of a pair of files.
    #[must_use]
    pub fn peer_name(&self) -> &PeerName {
        &self.0
    }

    /// The same name as an alternative name.
    #[must_use]
    pub fn to_alt_name(&self) -> SubjectAltName {
        SubjectAltName(match self.as_str().parse() {
            Ok(address) => AltName::Address(address),
            Err(_) => AltName::Dns(self.as_str().to_owned()),
        })
    }
}

impl FromStr for SubjectName {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        Self::parse(name)
    }
}

impl fmt::Display for SubjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One entry of the subject alternative name: a dNSName or an iPAddress (RFC 5280, section
/// 4.2.1.6).
///
/// Either a DNS name of 1 to [`DNS_NAME_CHARS_MAX`] characters with labels as in [`SubjectName`],
/// optionally after `*.` if it has at least two labels; or an IPv4 or IPv6 address. No name is
/// reserved here, since no file has this name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SubjectAltName(AltName);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum AltName {
    Dns(String),
    Address(IpAddr),
}

impl SubjectAltName {
    /// Parses a name or an address as a user typed it.
    ///
    /// # Errors
    /// [`NameError`] says why the name is refused.
    pub fn parse(name: &str) -> Result<Self, NameError> {
        if let Some(parent) = name.strip_prefix("*.") {
            let ascii = map_to_ascii(parent)?;
            check_name(parent, &ascii, DNS_NAME_CHARS_MAX - 2)?;
            // This wildcard would match a whole top-level domain. rustls and NSS ignore such an
            // entry, so it would mislead.
            if !ascii.contains('.') {
                return Err(NameError::Wildcard);
            }
            return Ok(Self(AltName::Dns(format!("*.{ascii}"))));
        }
        let ascii = map_to_ascii(name)?;
        if let Some(address) = parse_address(&ascii) {
            return Ok(Self(AltName::Address(address)));
        }
        check_name(name, &ascii, DNS_NAME_CHARS_MAX)?;
        Ok(Self(AltName::Dns(ascii)))
    }

    /// The address, if this is one; otherwise this is a DNS name.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        match self.0 {
            AltName::Address(address) => Some(address),
            AltName::Dns(_) => None,
        }
    }

    /// Whether both are the same: DNS names are compared case-insensitively (RFC 5280, section
    /// 7.2).
    #[must_use]
    pub fn matches(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (AltName::Dns(one), AltName::Dns(other)) => one.eq_ignore_ascii_case(other),
            (AltName::Address(one), AltName::Address(other)) => one == other,
            _ => false,
        }
    }
}

impl FromStr for SubjectAltName {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        Self::parse(name)
    }
}

impl fmt::Display for SubjectAltName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            AltName::Dns(name) => f.write_str(name),
            AltName::Address(address) => address.fmt(f),
        }
    }
}

/// Parses an IP address; IPv6 also in brackets, as in a URL.
fn parse_address(text: &str) -> Option<IpAddr> {
    match text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        Some(text) => text.parse().ok().map(IpAddr::V6),
        None => text.parse().ok(),
    }
}

/// Converts a name to ASCII. ASCII text stays unchanged, including its case; other text is mapped
/// by UTS 46, strictly.
///
/// The caller must still check the result: full-width forms map to dots, slashes and spaces.
fn map_to_ascii(name: &str) -> Result<String, NameError> {
    if name.is_ascii() {
        return Ok(name.to_owned());
    }
    // Checked before the mapping, whose cost grows with the length of the name.
    let length = name.chars().count();
    if length > DNS_NAME_CHARS_MAX {
        return Err(NameError::TooLong { length, limit: DNS_NAME_CHARS_MAX });
    }
    uts46(name)
}

/// Checks the ASCII form of an alternative name; `given` is the user's text, for the error.
fn check_name(given: &str, ascii: &str, chars_max: usize) -> Result<(), NameError> {
    check_dns_name(ascii, chars_max)?;
    check_idn(given, ascii)
}

/// Checks A-labels. An invalid one would be shown to a user as something else.
fn check_idn(given: &str, ascii: &str) -> Result<(), NameError> {
    let is_a_label =
        |label: &str| label.get(..4).is_some_and(|prefix| prefix.eq_ignore_ascii_case("xn--"));
    if ascii.split('.').any(is_a_label) {
        uts46(ascii).map_err(|_| NameError::NotAnIdn { name: given.to_owned() })?;
    }
    Ok(())
}

fn uts46(name: &str) -> Result<String, NameError> {
    // The deny list is empty because the syntax check that follows is stricter and reports the
    // reason; it also allows the underscore. Lengths are left to that check too.
    Uts46::new()
        .to_ascii(name.as_bytes(), AsciiDenyList::EMPTY, Hyphens::Check, DnsLength::Ignore)
        .map(|ascii| ascii.into_owned())
        .map_err(|_| NameError::NotAnIdn { name: name.to_owned() })
}

#[cfg(test)]
mod tests {
    use ipc_base::{PEER_NAME_CHARS_MAX, RESERVED_NAMES};

    use super::*;

    #[test]
    fn an_ascii_name_keeps_its_case() {
        assert_eq!(to_ascii("testServer1").unwrap(), "testServer1");
        assert_eq!(SubjectName::parse("testServer1").unwrap().to_string(), "testServer1");
    }

    #[test]
    fn an_internationalised_name_is_written_in_its_a_label_form() {
        assert_eq!(to_ascii("bücher").unwrap(), "xn--bcher-kva");
        assert_eq!(to_ascii("Bücher.Example").unwrap(), "xn--bcher-kva.example");
        assert_eq!(to_ascii("例え.テスト").unwrap(), "xn--r8jz45g.xn--zckzah");
        assert_eq!(to_ascii("straße.example").unwrap(), "xn--strae-oqa.example");
        assert_eq!(to_ascii("xn--bcher-kva").unwrap(), "xn--bcher-kva");
        assert_eq!(
            SubjectAltName::parse("*.bücher.example").unwrap().to_string(),
            "*.xn--bcher-kva.example"
        );
    }

    #[test]
    fn a_name_that_is_no_idn_is_refused() {
        for name in
            ["a\u{202e}b", "xn--a", "XN--A", "\u{301}a", "-ü", "a.xn--0", "\u{85}a", "a\u{fffd}"]
        {
            assert_eq!(
                to_ascii(name),
                Err(NameError::NotAnIdn { name: name.to_owned() }),
                "{name:?}"
            );
        }
    }

    #[test]
    fn full_width_forms_cannot_smuggle_a_path_a_space_or_a_reserved_name() {
        assert_eq!(to_ascii("．．／escaped"), Err(NameError::PathSeparator { character: '/' }));
        assert_eq!(to_ascii("a＼b"), Err(NameError::PathSeparator { character: '\\' }));
        assert_eq!(to_ascii("a\u{a0}b"), Err(NameError::Space));
        assert_eq!(
            to_ascii("ｗｅｂ-ipc-ca"),
            Err(NameError::Reserved { name: "web-ipc-ca".to_owned() })
        );
        assert_eq!(
            to_ascii("web-ipc\u{200b}-ca"),
            Err(NameError::Reserved { name: "web-ipc-ca".to_owned() })
        );
        assert_eq!(to_ascii("ü/b"), Err(NameError::PathSeparator { character: '/' }));
        assert_eq!(to_ascii("ü\0b"), Err(NameError::Control { character: '\0' }));
        assert_eq!(to_ascii("\u{ad}"), Err(NameError::Empty));
        assert_eq!(to_ascii("１２７．０．０．１").unwrap(), "127.0.0.1");
    }

    #[test]
    fn the_length_counts_after_the_mapping() {
        let name = "ü".repeat(60);
        assert!(
            matches!(to_ascii(&name), Err(NameError::TooLong { limit: PEER_NAME_CHARS_MAX, .. })),
            "{name}"
        );
        let name = "ü".repeat(100_000);
        assert_eq!(
            to_ascii(&name),
            Err(NameError::TooLong { length: 100_000, limit: DNS_NAME_CHARS_MAX })
        );
    }

    #[test]
    fn a_subject_has_64_characters_and_no_more() {
        let name = format!("{}.{}", "a".repeat(40), "b".repeat(23));
        assert_eq!(to_ascii(&name).unwrap(), name);
        let name = format!("{name}c");
        assert_eq!(to_ascii(&name), Err(NameError::TooLong { length: 65, limit: 64 }));
        assert!(SubjectAltName::parse(&name).is_ok());
    }

    #[test]
    fn reserved_names_are_refused_in_any_case_but_only_as_a_subject() {
        for name in RESERVED_NAMES {
            for spelling in [name.to_owned(), name.to_uppercase()] {
                assert_eq!(to_ascii(&spelling), Err(NameError::Reserved { name: name.to_owned() }));
                assert!(SubjectAltName::parse(&spelling).is_ok(), "{spelling}");
            }
        }
        assert!(SubjectName::parse("users.example").is_ok());
    }

    #[test]
    fn an_address_is_an_address_in_its_canonical_form() {
        for (given, canonical) in
            [("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("FE80:0::1", "fe80::1"), ("[::1]", "::1")]
        {
            assert_eq!(to_ascii(given).unwrap(), canonical);
            let address: IpAddr = canonical.parse().unwrap();
            assert_eq!(SubjectName::parse(given).unwrap().to_alt_name().address(), Some(address));
            assert_eq!(SubjectAltName::parse(given).unwrap().address(), Some(address));
        }
        assert_eq!(SubjectName::parse("localhost").unwrap().to_alt_name().address(), None);
    }

    #[test]
    fn what_only_looks_like_an_address_is_refused() {
        for name in ["1.2.3.4.5", "999.1.1.1", "127.0.0.01", "1"] {
            assert_eq!(
                SubjectAltName::parse(name),
                Err(NameError::NotAnAddress { name: name.to_owned() })
            );
        }
        for name in
            ["[127.0.0.1]", "[::1", "[]", "[[::1]]", "fe80::1%eth0", "::1::", "127.0.0.1:3000"]
        {
            assert!(
                matches!(SubjectAltName::parse(name), Err(NameError::Forbidden { .. })),
                "{name}"
            );
        }
    }

    #[test]
    fn a_wildcard_is_for_alternative_names_and_leads_at_least_two_labels() {
        assert_eq!(SubjectAltName::parse("*.example.com").unwrap().to_string(), "*.example.com");
        for name in ["*", "*.", "*.local", "a.*.com", "*a.b.c", "*.*.com", "**.b.c"] {
            assert!(SubjectAltName::parse(name).is_err(), "{name}");
        }
        assert_eq!(SubjectAltName::parse("*.local"), Err(NameError::Wildcard));
        assert_eq!(
            SubjectAltName::parse("*.127.0.0.1").unwrap_err().to_string(),
            "`127.0.0.1` looks like an IP address but is not one"
        );
        assert_eq!(SubjectName::parse("*.example.com"), Err(NameError::Wildcard));
    }

    #[test]
    fn an_alternative_name_has_253_characters_and_no_more() {
        let name = ["a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(61)].join(".");
        assert_eq!(name.len(), 253);
        assert!(SubjectAltName::parse(&name).is_ok());
        assert!(matches!(
            SubjectAltName::parse(&format!("{name}d")),
            Err(NameError::TooLong { .. })
        ));
        assert!(matches!(
            SubjectAltName::parse(&format!("*.{name}")),
            Err(NameError::TooLong { .. })
        ));
        assert!(SubjectAltName::parse(&format!("*.{}", &name[2..])).is_ok());
    }

    #[test]
    fn names_match_without_regard_to_case() {
        let parse = |name: &str| SubjectAltName::parse(name).unwrap();
        assert!(parse("LocalHost").matches(&parse("localhost")));
        assert!(parse("::1").matches(&parse("0:0::1")));
        assert!(!parse("a").matches(&parse("b")));
        assert!(!parse("::1").matches(&parse("127.0.0.1")));
    }
}

//! What the openssl crate has no call for in DER: whether a certificate says that it is a CA, a key
//! identifier given as bytes, and the reason in an entry of a revocation list.
//!
//! The authority and the listing call it with a certificate that OpenSSL has parsed already. For
//! unexpected bytes the answer is "no"; no input causes a panic.

const BOOLEAN: u8 = 0x01;
const OCTET_STRING: u8 = 0x04;
const OBJECT_IDENTIFIER: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
/// `[3]`, explicit: the extensions in a TBSCertificate (RFC 5280, section 4.1).
const EXTENSIONS: u8 = 0xa3;
/// 2.5.29.19, id-ce-basicConstraints (RFC 5280, section 4.2.1.9).
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];

/// The reasonCode extension (RFC 5280, section 5.3.1) in a sequence of extensions, but for its last
/// byte, the code.
const REASON_CODE: &[u8] =
    &[SEQUENCE, 12, SEQUENCE, 10, OBJECT_IDENTIFIER, 3, 0x55, 0x1d, 0x15, OCTET_STRING, 3, 10, 1];

/// An entry of a revocation list without extensions (RFC 5280, section 5.1), as OpenSSL wrote it,
/// with the reason for the revocation.
///
/// The entry is a serial number and a date, some 40 bytes. So its length is one byte before and
/// after; OpenSSL reads the result back and would refuse any other.
pub(crate) fn with_reason(entry: &[u8], code: u8) -> Vec<u8> {
    let mut entry = [entry, REASON_CODE, &[code]].concat();
    if let Some(length) = entry.get_mut(1) {
        *length = length.saturating_add(14);
    }
    entry
}

/// The bytes as an OCTET STRING: a key identifier (RFC 5280, section 4.2.1.2).
pub(crate) fn octet_string(content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let length = &length[length.iter().position(|byte| *byte != 0).unwrap_or(length.len() - 1)..];
    let mut string = vec![OCTET_STRING];
    match length {
        [short @ 0..=0x7f] => string.push(*short),
        // At most 8 bytes of length.
        long => {
            string.push(0x80 | u8::try_from(long.len()).unwrap_or(0));
            string.extend(long);
        }
    }
    string.extend(content);
    string
}

/// Whether the basic constraints of a DER certificate say `CA:TRUE`. Without basic constraints it
/// is no CA.
pub(crate) fn is_ca(certificate: &[u8]) -> bool {
    basic_constraints(certificate)
        .and_then(|constraints| first(constraints, BOOLEAN))
        .is_some_and(|ca| ca != [0])
}

/// The content of the BasicConstraints sequence.
fn basic_constraints(certificate: &[u8]) -> Option<&[u8]> {
    let tbs = first(first(certificate, SEQUENCE)?, SEQUENCE)?;
    let (_, extensions) = elements(tbs).find(|(tag, _)| *tag == EXTENSIONS)?;
    elements(first(extensions, SEQUENCE)?)
        .filter(|(tag, _)| *tag == SEQUENCE)
        .find(|(_, extension)| first(extension, OBJECT_IDENTIFIER) == Some(BASIC_CONSTRAINTS))
        .and_then(|(_, extension)| elements(extension).find(|(tag, _)| *tag == OCTET_STRING))
        .and_then(|(_, value)| first(value, SEQUENCE))
}

/// The content of the first element, if it has this tag.
fn first(input: &[u8], tag: u8) -> Option<&[u8]> {
    elements(input).next().filter(|(found, _)| *found == tag).map(|(_, content)| content)
}

/// The consecutive elements in `input` as tag and content, up to the first incomplete one.
fn elements(mut input: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let (tag, content, rest) = split_element(input)?;
        input = rest;
        Some((tag, content))
    })
}

/// Splits off the first element: its tag, its content, and the rest. Only tags of one byte and
/// definite lengths are supported; DER has no others here.
fn split_element(input: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = input.split_first()?;
    let (&length, rest) = rest.split_first()?;
    let (length, rest) = match length {
        0..=0x7f => (usize::from(length), rest),
        0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
            (
                bytes.iter().try_fold(0_usize, |sum, byte| {
                    sum.checked_mul(256)?.checked_add(usize::from(*byte))
                })?,
                rest,
            )
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Authority, AuthorityOptions, LeafRequest, SubjectName};
    use openssl::x509::X509;

    const NOW_SECS: u64 = 1_750_000_000;

    fn der(pem: &[u8]) -> Vec<u8> {
        X509::from_pem(pem).unwrap().to_der().unwrap()
    }

    #[test]
    fn a_ca_is_told_from_a_leaf() {
        let authority = Authority::create(&AuthorityOptions::default(), NOW_SECS).unwrap();
        let leaf =
            authority.issue(&LeafRequest::new(SubjectName::parse("a").unwrap()), NOW_SECS).unwrap();
        assert!(is_ca(&der(authority.certificate_pem())));
        assert!(!is_ca(&der(&leaf.certificate_pem)));
    }

    #[test]
    fn truncated_and_altered_bytes_do_not_panic() {
        let authority = Authority::create(&AuthorityOptions::default(), NOW_SECS).unwrap();
        let der = der(authority.certificate_pem());
        for end in 0..der.len() {
            assert!(!is_ca(&der[..end]), "{end}");
        }
        for index in 0..der.len() {
            for value in [0x00, 0x7f, 0x80, 0x84, 0xff] {
                let mut altered = der.clone();
                altered[index] = value;
                let _ = is_ca(&altered);
            }
        }
    }

    #[test]
    fn an_octet_string_of_any_length_reads_back() {
        for length in [0, 1, 20, 127, 128, 255, 256, 70_000] {
            let content = vec![7; length];
            let string = octet_string(&content);
            assert_eq!(split_element(&string), Some((OCTET_STRING, &content[..], &[][..])));
        }
        assert_eq!(octet_string(&[1, 2]), [4, 2, 1, 2]);
    }

    #[test]
    fn long_and_indefinite_lengths_are_read_or_refused() {
        assert_eq!(split_element(&[4, 0x81, 1, 7, 9]), Some((4, &[7][..], &[9][..])));
        assert_eq!(split_element(&[4, 0x82, 0, 1, 7]), Some((4, &[7][..], &[][..])));
        assert_eq!(split_element(&[4, 0x80, 7, 0, 0]), None);
        assert_eq!(split_element(&[4, 0x84, 0xff, 0xff, 0xff, 0xff]), None);
        assert_eq!(split_element(&[4, 2, 7]), None);
        assert_eq!(split_element(&[4]), None);
    }
}

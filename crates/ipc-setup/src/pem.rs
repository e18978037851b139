//! Takes PEM files apart into their blocks (RFC 7468), so that one can be replaced and the others
//! kept as they are.
//!
//! Lists of revoked certificates and the certificates of authorities come here. Nothing is decoded.

/// The label of a revocation list.
pub(crate) const REVOCATION_LIST: &str = "X509 CRL";
/// The label of a certificate.
pub(crate) const CERTIFICATE: &str = "CERTIFICATE";

/// The blocks of a text with this label, each from its first line to its last. Text between them is
/// left out.
pub(crate) fn blocks<'a>(pem: &'a [u8], label: &str) -> Vec<&'a [u8]> {
    let (begin, end) = (format!("-----BEGIN {label}-----"), format!("-----END {label}-----"));
    let find = |text: &[u8], part: &str| {
        text.windows(part.len()).position(|window| window == part.as_bytes())
    };
    let (mut found, mut rest) = (Vec::new(), pem);
    while let Some(at) = find(rest, &begin) {
        let from = &rest[at..];
        let Some(length) = find(from, &end).map(|at| at + end.len()) else { break };
        let (block, behind) = from.split_at(length);
        found.push(block);
        rest = behind;
    }
    found
}

/// Blocks as a text, one after the other.
pub(crate) fn joined<'a>(blocks: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut text = Vec::new();
    for block in blocks {
        text.extend_from_slice(block.trim_ascii_end());
        text.push(b'\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_told_by_their_label_and_joined_again() {
        let text = b"x\n-----BEGIN A-----\n1\n-----END A-----\ny\n-----BEGIN B-----\n2\n\
                     -----END B-----\n-----BEGIN A-----\n3\n-----END A-----\n-----BEGIN A-----\n4";
        let a = blocks(text, "A");
        let expected =
            "-----BEGIN A-----\n1\n-----END A-----\n-----BEGIN A-----\n3\n-----END A-----\n";
        assert_eq!(joined(a), expected.as_bytes());
        assert_eq!(blocks(text, "B").len(), 1);
        assert!(blocks(text, "C").is_empty() && blocks(b"", "A").is_empty());
    }
}

//! A certificate chain with its private key, in the types of rustls.
//!
//! Server and client present it in the handshake. Nothing is verified here: rustls decides whether
//! a chain is trusted, within its validity, and matches its key.

use std::fmt;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// A peer's certificate, any intermediate certificates after it, and the private key.
///
/// The types of `rustls-pki-types` are public on purpose: every version and provider of rustls uses
/// them.
pub struct Identity {
    /// The leaf first; at least one certificate.
    pub chain: Vec<CertificateDer<'static>>,
    /// The leaf's private key. The receiver must wipe it (rustls keeps it as long as its
    /// configuration).
    pub key: PrivateKeyDer<'static>,
}

impl Clone for Identity {
    fn clone(&self) -> Self {
        Self { chain: self.chain.clone(), key: self.key.clone_key() }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("certificates", &self.chain.len()).finish_non_exhaustive()
    }
}

/// All certificates in a PEM text; `None` if there is none, or one is invalid.
pub(crate) fn certificates_from_pem(pem: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    let certificates: Vec<_> =
        CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().ok()?;
    (!certificates.is_empty()).then_some(certificates)
}

/// The first private key in a PEM text (PKCS#8, PKCS#1 or SEC1); `None` if there is none, or it is
/// encrypted.
pub(crate) fn private_key_from_pem(pem: &[u8]) -> Option<PrivateKeyDer<'static>> {
    if is_encrypted_key(pem) {
        return None;
    }
    PrivateKeyDer::from_pem_slice(pem).ok()
}

/// Whether an unreadable key is encrypted with a passphrase. PKCS#8 has a label for that (RFC 7468,
/// section 11), older forms have a header (RFC 1421, section 4.6.1.1).
pub(crate) fn is_encrypted_key(pem: &[u8]) -> bool {
    let holds = |text: &[u8]| pem.windows(text.len()).any(|window| window == text);
    holds(b"-----BEGIN ENCRYPTED PRIVATE KEY-----") || holds(b"Proc-Type: 4,ENCRYPTED")
}

#[cfg(test)]
mod tests {
    use super::*;

    const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nAAEC\n-----END CERTIFICATE-----\n";
    const KEY: &str = "-----BEGIN PRIVATE KEY-----\nAwQF\n-----END PRIVATE KEY-----\n";

    #[test]
    fn a_chain_is_read_in_its_order() {
        let pem = format!("{CERTIFICATE}text between\n{}", CERTIFICATE.replace("AAEC", "BwgJ"));
        let chain = certificates_from_pem(pem.as_bytes()).unwrap();
        assert_eq!(
            chain.iter().map(|c| c.as_ref().to_vec()).collect::<Vec<_>>(),
            [[0, 1, 2], [7, 8, 9]]
        );
    }

    #[test]
    fn a_text_without_a_certificate_or_with_a_broken_one_is_none() {
        for pem in [
            "",
            "text",
            KEY,
            "-----BEGIN CERTIFICATE-----\nAAEC\n",
            &CERTIFICATE.replace("AAEC", "A*EC"),
        ] {
            assert!(certificates_from_pem(pem.as_bytes()).is_none(), "{pem}");
        }
    }

    #[test]
    fn a_key_is_found_and_a_certificate_is_none() {
        assert_eq!(private_key_from_pem(KEY.as_bytes()).unwrap().secret_der(), [3, 4, 5]);
        assert!(private_key_from_pem(CERTIFICATE.as_bytes()).is_none());
    }

    #[test]
    fn a_key_under_a_passphrase_is_known_in_both_forms_and_is_none() {
        let pkcs8 = KEY.replace("PRIVATE", "ENCRYPTED PRIVATE");
        let sec1 = KEY
            .replace("PRIVATE KEY", "EC PRIVATE KEY")
            .replace("AwQF", "Proc-Type: 4,ENCRYPTED\n\nAwQF");
        for pem in [pkcs8, sec1] {
            assert!(
                is_encrypted_key(pem.as_bytes()) && private_key_from_pem(pem.as_bytes()).is_none(),
                "{pem}"
            );
        }
        assert!(!is_encrypted_key(KEY.as_bytes()));
    }

    #[test]
    fn debug_shows_no_key() {
        let chain = certificates_from_pem(CERTIFICATE.as_bytes()).unwrap();
        let key = private_key_from_pem(KEY.as_bytes()).unwrap();
        let shown = format!("{:?}", Identity { chain, key });
        assert_eq!(shown, "Identity { certificates: 1, .. }");
    }
}

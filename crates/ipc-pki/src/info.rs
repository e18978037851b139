//! Reads a certificate's fields, for listings and tests.
//!
//! Code that shows certificates to a user passes PEM. Nothing is verified here; TLS does that.

use std::error::Error as StdError;
use std::net::IpAddr;

use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::x509::{GeneralNameRef, X509, X509Ref};
use thiserror::Error;

use crate::{der, x509};

/// The fields of a certificate, unverified.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CertificateInfo {
    /// The subject's common name, if it has one.
    pub subject: Option<String>,
    /// The DNS names and IP addresses in their order; entries of other kinds are omitted.
    pub alt_names: Vec<String>,
    /// The first second in which the certificate is valid, in seconds since the Unix epoch; 0 for
    /// an earlier time.
    pub not_before_secs: u64,
    /// The last second in which the certificate is valid, in seconds since the Unix epoch.
    pub not_after_secs: u64,
    /// The serial number in lower-case hexadecimal digits, two per byte.
    pub serial_hex: String,
    /// Whether the basic constraints say that this is a certificate authority.
    pub is_ca: bool,
    /// SHA-256 of the DER form, by which a session is bound to a certificate.
    pub fingerprint_sha256: [u8; 32],
}

/// Why a certificate cannot be read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CertificateInfoError {
    /// The text is not a PEM certificate (RFC 7468, section 5).
    #[error("not a PEM certificate")]
    NotPem {
        /// The error of OpenSSL.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// The certificate contains an invalid date or number.
    #[error("the certificate is malformed")]
    Malformed {
        /// The error of OpenSSL.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
}

impl CertificateInfo {
    /// Reads the first certificate in PEM text.
    ///
    /// # Errors
    /// [`CertificateInfoError`] if there is no certificate, or it cannot be read.
    pub fn from_pem(pem: &[u8]) -> Result<Self, CertificateInfoError> {
        let certificate = X509::from_pem(x509::unmarked(pem))
            .map_err(|source| CertificateInfoError::NotPem { source: source.into() })?;
        Self::read(&certificate)
            .map_err(|source| CertificateInfoError::Malformed { source: source.into() })
    }

    fn read(certificate: &X509Ref) -> Result<Self, ErrorStack> {
        let mut fingerprint_sha256 = [0; 32];
        fingerprint_sha256.copy_from_slice(&certificate.digest(MessageDigest::sha256())?);
        Ok(Self {
            subject: x509::read_common_name(certificate.subject_name()),
            alt_names: certificate
                .subject_alt_names()
                .map(|names| names.iter().filter_map(alt_name).collect())
                .unwrap_or_default(),
            not_before_secs: x509::to_unix_secs(certificate.not_before())?,
            not_after_secs: x509::to_unix_secs(certificate.not_after())?,
            serial_hex: certificate.serial_number().to_bn()?.to_hex_str()?.to_ascii_lowercase(),
            is_ca: der::is_ca(&certificate.to_der()?),
            fingerprint_sha256,
        })
    }
}

fn alt_name(name: &GeneralNameRef) -> Option<String> {
    if let Some(dns) = name.dnsname() {
        return Some(dns.to_owned());
    }
    let bytes = name.ipaddress()?;
    <[u8; 4]>::try_from(bytes)
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .ok()
        .map(|address| address.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Authority, AuthorityOptions, LeafRequest};

    const NOW_SECS: u64 = 1_750_000_000;

    #[test]
    fn a_leaf_is_read_as_it_was_asked_for() {
        let authority = Authority::create(&AuthorityOptions::default(), NOW_SECS).unwrap();
        let mut request = LeafRequest::new("testServer1".parse().unwrap());
        request.alt_names =
            ["testServer1.local", "127.0.0.1", "::1"].map(|name| name.parse().unwrap()).to_vec();
        let pem = authority.issue(&request, NOW_SECS).unwrap().certificate_pem;

        let info = CertificateInfo::from_pem(&pem).unwrap();
        assert_eq!(info.subject.as_deref(), Some("testServer1"));
        assert_eq!(info.alt_names, ["testServer1", "testServer1.local", "127.0.0.1", "::1"]);
        assert!(!info.is_ca);
        assert!(
            info.serial_hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')),
            "{}",
            info.serial_hex
        );
        let der = X509::from_pem(&pem).unwrap().to_der().unwrap();
        assert_eq!(info.fingerprint_sha256, openssl::sha::sha256(&der));
    }

    #[test]
    fn an_authority_is_told_from_a_leaf_and_has_no_alternative_names() {
        let authority = Authority::create(&AuthorityOptions::default(), NOW_SECS).unwrap();
        let info = CertificateInfo::from_pem(authority.certificate_pem()).unwrap();
        assert!(info.is_ca);
        assert!(info.alt_names.is_empty());
    }

    #[test]
    fn what_is_no_certificate_is_refused() {
        let authority = Authority::create(&AuthorityOptions::default(), NOW_SECS).unwrap();
        for pem in [&b""[..], b"text", b"\0\xff\xfe", authority.private_key_pem().as_bytes()] {
            assert!(matches!(
                CertificateInfo::from_pem(pem),
                Err(CertificateInfoError::NotPem { .. })
            ));
        }
        let pem = authority.certificate_pem();
        assert!(matches!(
            CertificateInfo::from_pem(&pem[..pem.len() / 2]),
            Err(CertificateInfoError::NotPem { .. })
        ));
    }
}

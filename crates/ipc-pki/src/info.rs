//! Reads a certificate's fields, for listings and tests.
//!
//! Code that shows certificates to a user passes PEM. Nothing is verified here; TLS does that.

use std::error::Error as StdError;
use std::net::IpAddr;

use ipc_base::SerialNumber;
use openssl::hash::MessageDigest;
use openssl::x509::{GeneralNameRef, X509, X509ExtendedKeyUsage, X509Ref};
use thiserror::Error;

use crate::key::KeyType;
use crate::usages::Usages;
use crate::{der, x509};

/// The fields of a certificate, unverified.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CertificateInfo {
    /// The subject's common name, if it has one.
    pub subject: Option<String>,
    /// The DNS names and IP addresses in their order; entries of other kinds are omitted.
    pub alt_names: Vec<String>,
    /// Those of the names that are IP addresses written as DNS names, as the Python tool writes
    /// them. A verifier that is given an address does not look at them.
    pub addresses_as_names: Vec<String>,
    /// The first second in which the certificate is valid, in seconds since the Unix epoch; 0 for
    /// an earlier time.
    pub not_before_secs: u64,
    /// The last second in which the certificate is valid, in seconds since the Unix epoch.
    pub not_after_secs: u64,
    /// Its serial number.
    pub serial: SerialNumber,
    /// Whether its basic constraints say that it is a certificate authority.
    pub is_ca: bool,
    /// Which ends of a connection it is good for: what its extended key usages name, or both for a
    /// leaf without them (RFC 5280, section 4.2.1.12). `None` where they name neither, and for an
    /// authority without them.
    pub usages: Option<Usages>,
    /// The kind of its key; `None` for one that is not made here.
    pub key_type: Option<KeyType>,
    /// The identifier of its key (RFC 5280, section 4.2.1.2).
    pub key_id: Option<Vec<u8>>,
    /// The identifier of the key that signed it (RFC 5280, section 4.2.1.1). It tells the leaves of
    /// two authorities of one name apart.
    pub issuer_key_id: Option<Vec<u8>>,
    /// SHA-256 of its DER form, which is how a session is tied to a certificate.
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
        let certificate = x509::certificate_from_pem(pem)
            .map_err(|source| CertificateInfoError::NotPem { source })?;
        Self::read(&certificate).map_err(|source| CertificateInfoError::Malformed { source })
    }

    /// Reads every certificate in PEM text, in its order: the authorities of a home while one
    /// replaces the other. There is at least one.
    ///
    /// # Errors
    /// [`CertificateInfoError`] if there is none or one of them cannot be read.
    pub fn all_from_pem(pem: &[u8]) -> Result<Vec<Self>, CertificateInfoError> {
        // Read alone, the first names what is wrong where there is none.
        Self::from_pem(pem)?;
        x509::certificates_from_pem(pem)
            .map_err(|source| CertificateInfoError::NotPem { source })?
            .iter()
            .map(|certificate| Self::read(certificate))
            .collect::<Result<_, _>>()
            .map_err(|source| CertificateInfoError::Malformed { source })
    }

    /// Reads a certificate in DER: that of a connection.
    ///
    /// # Errors
    /// [`CertificateInfoError::Malformed`].
    pub fn from_der(der: &[u8]) -> Result<Self, CertificateInfoError> {
        X509::from_der(der)
            .map_err(Into::into)
            .and_then(|certificate| Self::read(&certificate))
            .map_err(|source| CertificateInfoError::Malformed { source })
    }

    fn read(certificate: &X509Ref) -> Result<Self, Box<dyn StdError + Send + Sync>> {
        let mut fingerprint_sha256 = [0; 32];
        fingerprint_sha256.copy_from_slice(&certificate.digest(MessageDigest::sha256())?);
        let is_ca = der::is_ca(&certificate.to_der()?);
        Ok(Self {
            subject: x509::read_common_name(certificate.subject_name()),
            alt_names: certificate
                .subject_alt_names()
                .map(|names| names.iter().filter_map(alt_name).collect())
                .unwrap_or_default(),
            addresses_as_names: certificate
                .subject_alt_names()
                .map(|names| names.iter().filter_map(address_as_name).collect())
                .unwrap_or_default(),
            not_before_secs: x509::to_unix_secs(certificate.not_before())?,
            not_after_secs: x509::to_unix_secs(certificate.not_after())?,
            serial: x509::read_serial(certificate.serial_number())?,
            is_ca,
            usages: usages(certificate, is_ca),
            key_type: certificate.public_key().ok().and_then(|key| KeyType::of(&key)),
            key_id: certificate.subject_key_id().map(|id| id.as_slice().to_vec()),
            issuer_key_id: certificate.authority_key_id().map(|id| id.as_slice().to_vec()),
            fingerprint_sha256,
        })
    }
}

fn usages(certificate: &X509Ref, is_ca: bool) -> Option<Usages> {
    let Some(named) = certificate.extended_key_usage() else {
        return (!is_ca).then_some(Usages::ServerAndClient);
    };
    match (
        named.contains(X509ExtendedKeyUsage::SSL_SERVER),
        named.contains(X509ExtendedKeyUsage::SSL_CLIENT),
    ) {
        (true, true) => Some(Usages::ServerAndClient),
        (true, false) => Some(Usages::Server),
        (false, true) => Some(Usages::Client),
        (false, false) => None,
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

fn address_as_name(name: &GeneralNameRef) -> Option<String> {
    let dns = name.dnsname()?;
    dns.parse::<IpAddr>().is_ok().then(|| dns.to_owned())
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
        assert_eq!(info.issuer_key_id.as_deref(), Some(authority.key_id()));
        assert!(info.key_id.is_some() && info.key_id != info.issuer_key_id);
        let der = X509::from_pem(&pem).unwrap().to_der().unwrap();
        assert_eq!(info.fingerprint_sha256, openssl::sha::sha256(&der));
        assert_eq!(CertificateInfo::from_der(&der).unwrap(), info);

        let facts = ipc_base::CertificateFacts::from_der(&der).unwrap();
        assert_eq!(facts.serial, info.serial);
        assert_eq!(facts.name.unwrap().as_str(), "testServer1");
        assert_eq!(facts.issuer_key_id, info.issuer_key_id);
        assert_eq!(
            (facts.not_before_secs, facts.not_after_secs),
            (info.not_before_secs, info.not_after_secs)
        );
        assert!(!facts.is_client_only);
    }

    #[test]
    fn the_usages_read_back_as_they_were_asked_for() {
        let authority = Authority::create(&AuthorityOptions::default(), NOW_SECS).unwrap();
        for usages in [Usages::ServerAndClient, Usages::Server, Usages::Client] {
            let mut request = LeafRequest::new("a".parse().unwrap());
            request.usages = usages;
            let pem = authority.issue(&request, NOW_SECS).unwrap().certificate_pem;
            assert_eq!(CertificateInfo::from_pem(&pem).unwrap().usages, Some(usages));
            let der = X509::from_pem(&pem).unwrap().to_der().unwrap();
            let facts = ipc_base::CertificateFacts::from_der(&der).unwrap();
            assert_eq!(facts.is_client_only, usages == Usages::Client);
        }
        let authority = CertificateInfo::from_pem(authority.certificate_pem()).unwrap();
        assert_eq!(authority.usages, None);
    }

    #[test]
    fn a_leaf_without_usages_is_good_for_both_ends_and_can_be_renewed() {
        let key = KeyType::P256.generate().unwrap();
        let name = x509::common_name("a").unwrap();
        let mut builder = x509::start(NOW_SECS, NOW_SECS + 1000).unwrap();
        builder.set_subject_name(&name).unwrap();
        builder.set_issuer_name(&name).unwrap();
        builder.set_pubkey(&key).unwrap();
        let context = builder.x509v3_context(None, None);
        let mut names = openssl::x509::extension::SubjectAlternativeName::new();
        let names = names.dns("localhost").dns("127.0.0.1").build(&context).unwrap();
        builder.append_extension(names).unwrap();
        builder.sign(&key, MessageDigest::sha256()).unwrap();
        let info = CertificateInfo::from_pem(&builder.build().to_pem().unwrap()).unwrap();
        assert_eq!(
            (info.usages, info.issuer_key_id.as_ref()),
            (Some(Usages::ServerAndClient), None)
        );

        // An address that was written as a DNS name becomes one.
        assert_eq!(info.addresses_as_names, ["127.0.0.1"]);
        let renewal = LeafRequest::renewal_of(&info).unwrap();
        assert_eq!(renewal.usages, Usages::ServerAndClient);
        assert!(renewal.alt_names.iter().any(|name| name.address().is_some()), "{renewal:?}");
    }

    #[test]
    fn the_kind_of_key_reads_back_as_it_was_asked_for() {
        let authority = Authority::create(&AuthorityOptions::default(), NOW_SECS).unwrap();
        for key_type in [KeyType::P256, KeyType::Rsa2048, KeyType::Rsa3072] {
            let mut request = LeafRequest::new("a".parse().unwrap());
            request.key_type = key_type;
            let pem = authority.issue(&request, NOW_SECS).unwrap().certificate_pem;
            assert_eq!(CertificateInfo::from_pem(&pem).unwrap().key_type, Some(key_type));
        }
    }

    #[test]
    fn every_certificate_of_a_file_is_read() {
        let make = || Authority::create(&AuthorityOptions::default(), NOW_SECS).unwrap();
        let (new, old) = (make(), make());
        let file = [new.certificate_pem(), old.certificate_pem()].concat();
        let infos = CertificateInfo::all_from_pem(&file).unwrap();
        let key_ids: Vec<_> = infos.iter().map(|info| info.key_id.as_deref()).collect();
        assert_eq!(key_ids, [Some(new.key_id()), Some(old.key_id())]);
        for broken in [&b""[..], &file[..file.len() - 40], b"text"] {
            assert!(CertificateInfo::all_from_pem(broken).is_err());
        }
        assert!(CertificateInfo::from_der(&file).is_err());
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

    #[test]
    fn an_encrypted_certificate_is_refused_without_asking_for_its_passphrase() {
        let authority = Authority::create(&AuthorityOptions::default(), NOW_SECS).unwrap();
        let good = String::from_utf8(authority.certificate_pem().to_vec()).unwrap();
        let encrypted = good.replacen(
            "CERTIFICATE-----\n",
            "CERTIFICATE-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,000102030405060708090A0B0C0D0E0F\n\n",
            1,
        );
        let told = CertificateInfo::from_pem(encrypted.as_bytes()).unwrap_err();
        let cause = std::error::Error::source(&told).unwrap().to_string();
        assert_eq!(cause, "the PEM text is encrypted");
        // Behind a good one too.
        assert!(
            CertificateInfo::all_from_pem([good, encrypted.clone()].concat().as_bytes()).is_err()
        );
        let key = authority.private_key_pem().as_bytes();
        assert!(!crate::key_fits(encrypted.as_bytes(), key));
        assert!(Authority::load(encrypted.as_bytes(), key).is_err());
    }
}

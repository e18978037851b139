//! Leaf certificates: the request for one, and issuing it.
//!
//! Set-up passes a request and gets a certificate with a new key. Nothing here knows the peer's
//! role in the application, or whether a pair of that name exists already.

use std::error::Error as StdError;

use ipc_base::{NameError, SerialNumber};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::pkey::{HasPublic, PKeyRef};
use openssl::x509::X509;
use openssl::x509::extension::{
    AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAlternativeName,
    SubjectKeyIdentifier,
};
use thiserror::Error;

use crate::authority::Authority;
use crate::info::CertificateInfo;
use crate::key::{KeyType, PrivateKeyPem};
use crate::name::{SubjectAltName, SubjectName};
use crate::request::CertificateRequest;
use crate::usages::Usages;
use crate::x509::{self, VALIDITY_DAYS_MAX};

/// Validity of a leaf unless another is asked for, in days: a year.
///
/// Mozilla's Server Side TLS guidelines allow a server's certificate 366 days at most, and scanners
/// such as sslyze check that. With the [`BACKDATED_SECS`](crate::BACKDATED_SECS) before the time of
/// issue a leaf remains below.
pub const LEAF_VALIDITY_DAYS: u32 = 365;

/// The most alternative names in one certificate. This is far below the 64 KiB of a handshake
/// message that rustls accepts.
pub const ALT_NAMES_MAX: usize = 100;

/// A request for a certificate. Make it with [`LeafRequest::new`], then change the fields.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeafRequest {
    /// The common name. It also becomes an alternative name, the first one unless `alt_names` has
    /// it.
    pub name: SubjectName,
    /// Further names and addresses, at most [`ALT_NAMES_MAX`], in the order of the certificate;
    /// repeated ones count once.
    pub alt_names: Vec<SubjectAltName>,
    /// The type of the new key. Default: P-256.
    pub key_type: KeyType,
    /// Days from the time of issue, 1 to [`VALIDITY_DAYS_MAX`]. Default: [`LEAF_VALIDITY_DAYS`].
    /// The certificate never outlives the authority.
    pub validity_days: u32,
    /// Server, client or both. Default: both.
    pub usages: Usages,
}

impl LeafRequest {
    /// A request with the defaults of the fields.
    #[must_use]
    pub fn new(name: SubjectName) -> Self {
        Self {
            name,
            alt_names: Vec::new(),
            key_type: KeyType::default(),
            validity_days: LEAF_VALIDITY_DAYS,
            usages: Usages::default(),
        }
    }

    /// A request for the successor of a certificate: the same names and usages, the other defaults.
    ///
    /// # Errors
    /// [`RenewalError`] where this authority would not have issued such a certificate.
    pub fn renewal_of(certificate: &CertificateInfo) -> Result<Self, RenewalError> {
        if certificate.is_ca {
            return Err(RenewalError::Authority);
        }
        let name = certificate.subject.as_deref().ok_or(RenewalError::NoCommonName)?;
        let alt_names = certificate.alt_names.iter().map(|name| SubjectAltName::parse(name));
        Ok(Self {
            alt_names: alt_names.collect::<Result<_, _>>()?,
            usages: certificate.usages.ok_or(RenewalError::NoUsages)?,
            ..Self::new(SubjectName::parse(name)?)
        })
    }

    /// The names for the certificate, each once. The common name is always one of them, because
    /// peers check only alternative names (RFC 9525, section 2). The Baseline Requirements, section
    /// 7.1.4.3, require the same.
    fn all_names(&self) -> Vec<SubjectAltName> {
        let mut names: Vec<SubjectAltName> = Vec::new();
        for name in &self.alt_names {
            if !names.iter().any(|known| known.matches(name)) {
                names.push(name.clone());
            }
        }
        let subject = self.name.to_alt_name();
        if !names.iter().any(|known| known.matches(&subject)) {
            names.insert(0, subject);
        }
        names
    }
}

/// A new certificate and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct IssuedPair {
    /// The certificate as PEM, without that of the authority.
    pub certificate_pem: Vec<u8>,
    /// The private key. There is no other copy.
    pub key_pem: PrivateKeyPem,
    /// The alternative names, in the order of the certificate.
    pub alt_names: Vec<SubjectAltName>,
    /// Its serial number.
    pub serial: SerialNumber,
    /// The last second in which it is valid, in seconds since the Unix epoch: earlier than asked
    /// for if the authority ends before.
    pub not_after_secs: u64,
}

/// A new certificate for a key that somebody else holds.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct IssuedCertificate {
    /// The certificate as PEM, without the authority's.
    pub certificate_pem: Vec<u8>,
    /// What it is valid for, as it stands in the certificate.
    pub alt_names: Vec<SubjectAltName>,
    /// Its serial number.
    pub serial: SerialNumber,
    /// The last second in which it is valid, in seconds since the Unix epoch: earlier than asked
    /// for if the authority ends before.
    pub not_after_secs: u64,
}

/// A request that was checked, with its names and its dates.
struct DatedRequest<'a> {
    request: &'a LeafRequest,
    alt_names: Vec<SubjectAltName>,
    now_secs: u64,
    not_after_secs: u64,
}

/// Why a certificate cannot be renewed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RenewalError {
    /// It has no common name.
    #[error("the certificate has no common name")]
    NoCommonName,
    /// It is an authority's.
    #[error("the certificate is that of an authority")]
    Authority,
    /// Its extended key usages name neither end of a connection.
    #[error("the certificate is for neither a server nor a client")]
    NoUsages,
    /// It has a name that no certificate is issued for.
    #[error("the certificate has a name that is not allowed")]
    Name {
        /// What is wrong with the name.
        #[from]
        source: NameError,
    },
}

/// Why no certificate was issued.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum IssueError {
    /// The requested validity is 0 days or more than [`VALIDITY_DAYS_MAX`].
    #[error("a validity of {days} days is outside 1 to {VALIDITY_DAYS_MAX}")]
    ValidityDays {
        /// The requested days.
        days: u32,
    },
    /// More alternative names than [`ALT_NAMES_MAX`].
    #[error("{count} alternative names are more than the {ALT_NAMES_MAX} allowed")]
    TooManyAltNames {
        /// How many there are.
        count: usize,
    },
    /// The authority has expired; a new one is needed.
    #[error("the certificate authority has expired")]
    AuthorityExpired {
        /// Its last valid second, in seconds since the Unix epoch.
        not_after_secs: u64,
    },
    /// The authority is not valid yet, so the clock must have been set back since its creation.
    #[error("the certificate authority is not valid yet; the clock seems to be wrong")]
    AuthorityNotYetValid {
        /// Its first valid second, in seconds since the Unix epoch.
        not_before_secs: u64,
    },
    /// OpenSSL failed: no randomness or no memory.
    #[error("OpenSSL could not make the certificate")]
    OpenSsl {
        /// The error of OpenSSL.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
}

impl Authority {
    /// Issues a certificate for a new key, valid from [`BACKDATED_SECS`](crate::BACKDATED_SECS)
    /// before `now_secs`.
    ///
    /// The certificate has critical `CA:FALSE`, critical digitalSignature, the requested extended
    /// key usages, the names as dNSName and iPAddress, subject and authority key identifier, and a
    /// serial number of 16 random bytes. An RSA key also gets only digitalSignature:
    /// keyEncipherment is for a key exchange that rustls does not support.
    ///
    /// # Errors
    /// [`IssueError`]. The names cannot be the reason: they were checked when they were parsed.
    pub fn issue(&self, request: &LeafRequest, now_secs: u64) -> Result<IssuedPair, IssueError> {
        let dated = self.check(request, now_secs)?;
        let failed = |source: ErrorStack| IssueError::OpenSsl { source: source.into() };
        let key = request.key_type.generate().map_err(failed)?;
        let key_pem = PrivateKeyPem::encode(&key).map_err(failed)?;
        let issued = self.certify(dated, &key)?;
        Ok(IssuedPair {
            certificate_pem: issued.certificate_pem,
            key_pem,
            alt_names: issued.alt_names,
            serial: issued.serial,
            not_after_secs: issued.not_after_secs,
        })
    }

    /// Issues a certificate like [`Authority::issue`], for the key of `holder`, who keeps the
    /// private half.
    ///
    /// Names, usages and validity are those of `request`, whose kind of key does not count. Nothing
    /// that the holder asked for is taken but the key.
    ///
    /// # Errors
    /// [`IssueError`].
    pub fn issue_for_key(
        &self,
        request: &LeafRequest,
        holder: &CertificateRequest,
        now_secs: u64,
    ) -> Result<IssuedCertificate, IssueError> {
        self.certify(self.check(request, now_secs)?, holder.key())
    }

    /// Checks all of a request that can be refused.
    fn check<'a>(
        &self,
        request: &'a LeafRequest,
        now_secs: u64,
    ) -> Result<DatedRequest<'a>, IssueError> {
        let days = request.validity_days;
        if !(1..=VALIDITY_DAYS_MAX).contains(&days) {
            return Err(IssueError::ValidityDays { days });
        }
        let alt_names = request.all_names();
        if alt_names.len() > ALT_NAMES_MAX {
            return Err(IssueError::TooManyAltNames { count: alt_names.len() });
        }
        if now_secs < self.not_before_secs {
            return Err(IssueError::AuthorityNotYetValid { not_before_secs: self.not_before_secs });
        }
        if now_secs > self.not_after_secs {
            return Err(IssueError::AuthorityExpired { not_after_secs: self.not_after_secs });
        }
        let not_after_secs = x509::days_after(now_secs, days).min(self.not_after_secs);
        Ok(DatedRequest { request, alt_names, now_secs, not_after_secs })
    }

    fn certify<T: HasPublic>(
        &self,
        dated: DatedRequest<'_>,
        key: &PKeyRef<T>,
    ) -> Result<IssuedCertificate, IssueError> {
        let failed = |source: ErrorStack| IssueError::OpenSsl { source: source.into() };
        let certificate = self.sign_leaf(&dated, key).map_err(failed)?;
        Ok(IssuedCertificate {
            certificate_pem: certificate.to_pem().map_err(failed)?,
            alt_names: dated.alt_names,
            serial: x509::read_serial(certificate.serial_number())
                .map_err(|source| IssueError::OpenSsl { source })?,
            not_after_secs: dated.not_after_secs,
        })
    }

    fn sign_leaf<T: HasPublic>(
        &self,
        dated: &DatedRequest<'_>,
        key: &PKeyRef<T>,
    ) -> Result<X509, ErrorStack> {
        let DatedRequest { request, alt_names, now_secs, not_after_secs } = dated;
        let mut builder = x509::start(*now_secs, *not_after_secs)?;
        builder.set_subject_name(x509::common_name(request.name.as_str())?.as_ref())?;
        builder.set_issuer_name(self.certificate.subject_name())?;
        builder.set_pubkey(key)?;
        builder.append_extension(BasicConstraints::new().critical().build()?)?;
        builder.append_extension(KeyUsage::new().critical().digital_signature().build()?)?;
        builder.append_extension(match request.usages {
            Usages::ServerAndClient => {
                ExtendedKeyUsage::new().server_auth().client_auth().build()?
            }
            Usages::Server => ExtendedKeyUsage::new().server_auth().build()?,
            Usages::Client => ExtendedKeyUsage::new().client_auth().build()?,
        })?;
        let context = builder.x509v3_context(Some(&self.certificate), None);
        let mut names = SubjectAlternativeName::new();
        for name in alt_names {
            match name.address() {
                Some(address) => names.ip(&address.to_string()),
                None => names.dns(&name.to_string()),
            };
        }
        let extensions = [
            names.build(&context)?,
            SubjectKeyIdentifier::new().build(&context)?,
            AuthorityKeyIdentifier::new().keyid(true).build(&context)?,
        ];
        for extension in extensions {
            builder.append_extension(extension)?;
        }
        builder.sign(&self.key, MessageDigest::sha256())?;
        Ok(builder.build())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AuthorityOptions, RequestedPair};
    use openssl::pkey::PKey;

    const NOW_SECS: u64 = 1_750_000_000;

    fn authority() -> Authority {
        Authority::create(&AuthorityOptions::default(), NOW_SECS).unwrap()
    }

    fn request(name: &str, alt_names: &[&str]) -> LeafRequest {
        LeafRequest {
            alt_names: alt_names.iter().map(|name| name.parse().unwrap()).collect(),
            ..LeafRequest::new(name.parse().unwrap())
        }
    }

    fn issue(request: &LeafRequest) -> (X509, String) {
        let pair = authority().issue(request, NOW_SECS).unwrap();
        let certificate = X509::from_pem(&pair.certificate_pem).unwrap();
        let text = String::from_utf8(certificate.to_text().unwrap()).unwrap();
        (certificate, text)
    }

    fn names(request: &LeafRequest) -> Vec<String> {
        CertificateInfo::from_pem(&authority().issue(request, NOW_SECS).unwrap().certificate_pem)
            .unwrap()
            .alt_names
    }

    #[test]
    fn it_says_what_it_is_for_and_nothing_else() {
        let (certificate, text) = issue(&request("localhost", &["localhost", "127.0.0.1", "::1"]));
        assert_eq!(
            x509::read_common_name(certificate.subject_name()).as_deref(),
            Some("localhost")
        );
        assert_eq!(
            x509::read_common_name(certificate.issuer_name()).as_deref(),
            Some("web-ipc-ca")
        );
        for part in [
            "Version: 3 (0x2)",
            "X509v3 Basic Constraints: critical\n                CA:FALSE\n",
            "X509v3 Key Usage: critical\n                Digital Signature\n",
            "X509v3 Extended Key Usage: \n                TLS Web Server Authentication, TLS Web Client Authentication\n",
            "X509v3 Subject Alternative Name: \n                DNS:localhost, IP Address:127.0.0.1, IP Address:0:0:0:0:0:0:0:1\n",
            "X509v3 Subject Key Identifier: \n",
            "X509v3 Authority Key Identifier: \n",
            "Signature Algorithm: ecdsa-with-SHA256",
            "ASN1 OID: prime256v1",
        ] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
        assert_eq!(text.matches("X509v3 ").count(), 7, "six extensions and their heading: {text}");
    }

    #[test]
    fn it_names_the_key_of_its_authority() {
        let authority = authority();
        let pair = authority.issue(&request("a", &[]), NOW_SECS).unwrap();
        let leaf = X509::from_pem(&pair.certificate_pem).unwrap();
        let issuer = authority.certificate.subject_key_id().unwrap().as_slice();
        assert_eq!(leaf.authority_key_id().unwrap().as_slice(), issuer);
        assert_ne!(leaf.subject_key_id().unwrap().as_slice(), issuer);
        assert!(leaf.verify(&authority.key).unwrap());
    }

    #[test]
    fn the_key_that_comes_with_it_is_its_own_and_new_each_time() {
        let authority = authority();
        let one = authority.issue(&request("a", &[]), NOW_SECS).unwrap();
        let other = authority.issue(&request("a", &[]), NOW_SECS).unwrap();
        let key = PKey::private_key_from_pem(one.key_pem.as_bytes()).unwrap();
        assert!(
            X509::from_pem(&one.certificate_pem).unwrap().public_key().unwrap().public_eq(&key)
        );
        assert!(
            !X509::from_pem(&other.certificate_pem).unwrap().public_key().unwrap().public_eq(&key)
        );
    }

    #[test]
    fn its_usages_can_be_narrowed() {
        let usages = |usages| issue(&LeafRequest { usages, ..request("a", &[]) }).1;
        let server = usages(Usages::Server);
        assert!(
            server.contains("TLS Web Server Authentication\n")
                && !server.contains("TLS Web Client"),
            "{server}"
        );
        let client = usages(Usages::Client);
        assert!(
            client.contains("TLS Web Client Authentication\n")
                && !client.contains("TLS Web Server"),
            "{client}"
        );
    }

    #[test]
    fn without_alternative_names_it_is_for_its_name() {
        assert_eq!(names(&request("testServer1", &[])), ["testServer1"]);
        let (certificate, _) = issue(&request("10.1.2.3", &[]));
        let names = certificate.subject_alt_names().unwrap();
        assert_eq!(names[0].ipaddress(), Some(&[10, 1, 2, 3][..]));
        assert_eq!(names[0].dnsname(), None);
    }

    #[test]
    fn its_name_is_always_among_its_names_and_each_stands_once() {
        assert_eq!(names(&request("a", &["b", "c"])), ["a", "b", "c"]);
        assert_eq!(names(&request("b", &["a", "b"])), ["a", "b"]);
        assert_eq!(names(&request("A", &["a", "b", "B", "::1", "0::1"])), ["a", "b", "::1"]);
    }

    #[test]
    fn an_internationalised_name_stands_in_its_a_label_form() {
        let (certificate, text) = issue(&request("bücher", &["*.bücher.example"]));
        assert_eq!(
            x509::read_common_name(certificate.subject_name()).as_deref(),
            Some("xn--bcher-kva")
        );
        assert!(text.contains("DNS:xn--bcher-kva, DNS:*.xn--bcher-kva.example\n"), "{text}");
    }

    #[test]
    fn the_longest_names_fit() {
        let name = format!("{}.{}", "a".repeat(40), "b".repeat(23));
        let alt_names: Vec<String> = (0..ALT_NAMES_MAX - 1)
            .map(|number| {
                format!("{number:062}x.{}.{}.{}", "b".repeat(63), "c".repeat(63), "d".repeat(61))
            })
            .collect();
        let alt_names: Vec<&str> = alt_names.iter().map(String::as_str).collect();
        let mut request = request(&name, &alt_names);
        assert_eq!(names(&request).len(), ALT_NAMES_MAX);

        request.alt_names.push("one.more".parse().unwrap());
        let error = authority().issue(&request, NOW_SECS).unwrap_err();
        assert!(
            matches!(error, IssueError::TooManyAltNames { count } if count == ALT_NAMES_MAX + 1)
        );
    }

    #[test]
    fn it_is_valid_for_a_year_from_five_minutes_ago() {
        let pair = authority().issue(&request("a", &[]), NOW_SECS).unwrap();
        let info = CertificateInfo::from_pem(&pair.certificate_pem).unwrap();
        assert_eq!(info.not_before_secs, NOW_SECS - 300);
        assert_eq!(info.not_after_secs, NOW_SECS + 365 * 86_400);
        assert_eq!(pair.not_after_secs, info.not_after_secs);
        assert_eq!(info.serial.as_be_bytes().len(), 16);
        assert_eq!(info.serial, pair.serial);
        assert!(!info.is_ca);
    }

    #[test]
    fn it_never_outlives_its_authority() {
        let authority = authority();
        let request = LeafRequest { validity_days: VALIDITY_DAYS_MAX, ..request("a", &[]) };
        let pair = authority.issue(&request, NOW_SECS).unwrap();
        assert_eq!(pair.not_after_secs, authority.not_after_secs());
        let info = CertificateInfo::from_pem(&pair.certificate_pem).unwrap();
        assert_eq!(info.not_after_secs, authority.not_after_secs());
    }

    #[test]
    fn a_validity_out_of_range_is_refused() {
        for days in [0, VALIDITY_DAYS_MAX + 1, u32::MAX] {
            let error = authority()
                .issue(&LeafRequest { validity_days: days, ..request("a", &[]) }, NOW_SECS);
            assert!(
                matches!(error, Err(IssueError::ValidityDays { days: found }) if found == days)
            );
        }
    }

    #[test]
    fn an_authority_issues_only_while_it_is_valid_itself() {
        let authority = authority();
        let (first, last) = (NOW_SECS - 300, authority.not_after_secs());
        assert!(authority.issue(&request("a", &[]), first).is_ok());
        assert!(authority.issue(&request("a", &[]), last).is_ok());
        let early = authority.issue(&request("a", &[]), first - 1).unwrap_err();
        assert!(
            matches!(early, IssueError::AuthorityNotYetValid { not_before_secs } if not_before_secs == first)
        );
        for now_secs in [last + 1, u64::MAX] {
            let late = authority.issue(&request("a", &[]), now_secs).unwrap_err();
            assert!(
                matches!(late, IssueError::AuthorityExpired { not_after_secs } if not_after_secs == last)
            );
        }
    }

    #[test]
    fn rsa_is_made_on_request() {
        let (certificate, text) =
            issue(&LeafRequest { key_type: KeyType::Rsa2048, ..request("a", &[]) });
        assert_eq!(certificate.public_key().unwrap().bits(), 2048);
        assert!(
            text.contains("X509v3 Key Usage: critical\n                Digital Signature\n"),
            "{text}"
        );
    }

    #[test]
    fn a_strangers_key_is_certified_as_the_request_says_and_not_as_the_stranger_does() {
        let authority = authority();
        let theirs = RequestedPair::create(&"somebody".parse().unwrap(), KeyType::Rsa2048).unwrap();
        let holder = CertificateRequest::from_pem(&theirs.request_pem).unwrap();
        let request = LeafRequest { usages: Usages::Client, ..request("worker1", &["w1.example"]) };
        let issued = authority.issue_for_key(&request, &holder, NOW_SECS).unwrap();
        let leaf = X509::from_pem(&issued.certificate_pem).unwrap();
        let key = PKey::private_key_from_pem(theirs.key_pem.as_bytes()).unwrap();
        assert!(leaf.public_key().unwrap().public_eq(&key));
        assert!(authority.has_issued(&issued.certificate_pem, theirs.key_pem.as_bytes()));
        let info = CertificateInfo::from_pem(&issued.certificate_pem).unwrap();
        assert_eq!(info.subject.as_deref(), Some("worker1"));
        assert_eq!(info.alt_names, ["worker1", "w1.example"]);
        assert_eq!(info.usages, Some(Usages::Client));
        assert_eq!(info.serial, issued.serial);
        assert_eq!(info.not_after_secs, issued.not_after_secs);
        assert_eq!(info.not_after_secs, NOW_SECS + 365 * 86_400);
        assert!(!info.is_ca);

        let late = authority.not_after_secs() + 1;
        let error = authority.issue_for_key(&request, &holder, late).unwrap_err();
        assert!(matches!(error, IssueError::AuthorityExpired { .. }));
    }

    #[test]
    fn a_renewal_asks_for_the_same_names_and_usages() {
        let authority = authority();
        let request = LeafRequest {
            usages: Usages::Client,
            ..request("bücher", &["*.example.com", "a_b", "127.0.0.1", "::1"])
        };
        let first = authority.issue(&request, NOW_SECS).unwrap();
        let first = CertificateInfo::from_pem(&first.certificate_pem).unwrap();
        let renewal = LeafRequest::renewal_of(&first).unwrap();
        let second = authority.issue(&renewal, NOW_SECS + 1).unwrap();
        let second = CertificateInfo::from_pem(&second.certificate_pem).unwrap();
        assert_eq!(
            (&second.subject, &second.alt_names, second.usages),
            (&first.subject, &first.alt_names, first.usages)
        );
        assert_ne!(second.serial, first.serial);
    }

    #[test]
    fn what_was_not_issued_here_is_not_renewed() {
        let authority = authority();
        let leaf = authority.issue(&request("a", &[]), NOW_SECS).unwrap();
        let leaf = CertificateInfo::from_pem(&leaf.certificate_pem).unwrap();
        let ca = CertificateInfo::from_pem(authority.certificate_pem()).unwrap();
        assert_eq!(LeafRequest::renewal_of(&ca), Err(RenewalError::Authority));
        let unnamed = CertificateInfo { subject: None, ..leaf.clone() };
        assert_eq!(LeafRequest::renewal_of(&unnamed), Err(RenewalError::NoCommonName));
        let useless = CertificateInfo { usages: None, ..leaf.clone() };
        assert_eq!(LeafRequest::renewal_of(&useless), Err(RenewalError::NoUsages));
        for name in ["web-ipc-ca", "../a", ""] {
            let named = CertificateInfo { subject: Some(name.to_owned()), ..leaf.clone() };
            let error = LeafRequest::renewal_of(&named).unwrap_err();
            assert!(matches!(error, RenewalError::Name { .. }), "{name}");
            let alternative = CertificateInfo { alt_names: vec!["a b".to_owned()], ..leaf.clone() };
            assert!(LeafRequest::renewal_of(&alternative).is_err());
        }
    }

    #[test]
    fn debug_shows_no_key() {
        let pair = authority().issue(&request("a", &[]), NOW_SECS).unwrap();
        assert!(format!("{pair:?}").contains("PrivateKeyPem(redacted)"));
    }
}

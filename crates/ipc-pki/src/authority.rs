//! The certificate authority: created once for each home, loaded whenever a certificate is issued.
//!
//! Set-up creates and loads it, and issuing a leaf uses its key. Nothing here knows where the two
//! PEM files are.

use std::error::Error as StdError;
use std::fmt;

use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::x509::extension::{BasicConstraints, KeyUsage, SubjectKeyIdentifier};
use openssl::x509::{X509, X509KeyUsage, X509NameRef};
use thiserror::Error;

use crate::der;
use crate::key::{self, KeyType, PrivateKeyPem};
use crate::x509::{self, TIME_SECS_MAX, VALIDITY_DAYS_MAX};

/// Common name of a certificate authority made here.
pub const CA_COMMON_NAME: &str = "web-ipc-ca";

/// The default validity of a certificate authority, in days: ten years.
pub const CA_VALIDITY_DAYS: u32 = 3_650;

/// The options for a new certificate authority.
///
/// Defaults: a P-256 key, valid for [`CA_VALIDITY_DAYS`] days.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AuthorityOptions {
    /// The kind of key that signs.
    pub key_type: KeyType,
    /// Days from the time of creation, 1 to [`VALIDITY_DAYS_MAX`].
    pub validity_days: u32,
}

impl Default for AuthorityOptions {
    fn default() -> Self {
        Self { key_type: KeyType::default(), validity_days: CA_VALIDITY_DAYS }
    }
}

/// Why no certificate authority was created.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CreateError {
    /// The requested validity is 0 days or more than [`VALIDITY_DAYS_MAX`].
    #[error("a validity of {days} days is outside 1 to {VALIDITY_DAYS_MAX}")]
    ValidityDays {
        /// The requested days.
        days: u32,
    },
    /// The certificate would end after the year 9999, which X.509 cannot express: the clock must be
    /// wrong.
    #[error("the certificate would end after the year 9999")]
    TimeOutOfRange,
    /// OpenSSL failed: no randomness or no memory.
    #[error("OpenSSL could not make the certificate authority")]
    OpenSsl {
        /// The error of OpenSSL.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
}

/// Why two PEM files are not a usable certificate authority.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The certificate is not valid PEM. OpenSSL's own error is omitted: it adds only internal
    /// codes.
    #[error("the CA certificate is not a PEM certificate")]
    Certificate,
    /// The file contains no certificate.
    #[error("the CA certificate file holds no certificate")]
    NoCertificate,
    /// The key is not valid PEM, or is damaged.
    #[error("the CA key is not a PEM private key, or is damaged")]
    Key,
    /// The key is encrypted with a passphrase, and nobody can be asked for it.
    #[error("the CA key is encrypted with a passphrase, which is not supported")]
    EncryptedKey,
    /// The key has a type or size whose signatures the peers do not verify.
    #[error("the CA key must be P-256, P-384 or RSA of 2048 to 8192 bits")]
    UnsupportedKey,
    /// The key belongs to none of the certificates in the file.
    #[error("the CA key does not belong to the CA certificate")]
    Mismatch,
    /// The certificate may not sign others: it lacks `CA:TRUE` or the key usage keyCertSign.
    #[error("the certificate is not that of a certificate authority")]
    NotAnAuthority,
    /// Without a subject key identifier, strict verifiers refuse everything that the authority
    /// issues.
    #[error("the CA certificate has no subject key identifier")]
    NoSubjectKeyIdentifier,
    /// OpenSSL failed for another reason.
    #[error("OpenSSL could not load the certificate authority")]
    OpenSsl {
        /// The error of OpenSSL.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
}

/// A certificate authority with its private key.
///
/// Its certificate has critical `CA:TRUE` with path length 0, critical keyCertSign and cRLSign, and
/// a subject key identifier. `Debug` does not show the key.
pub struct Authority {
    pub(crate) certificate: X509,
    pub(crate) key: PKey<Private>,
    pub(crate) not_before_secs: u64,
    pub(crate) not_after_secs: u64,
    key_id: Vec<u8>,
    certificate_pem: Vec<u8>,
    key_pem: PrivateKeyPem,
}

impl Authority {
    /// Creates a self-signed authority with a new key, valid from
    /// [`BACKDATED_SECS`](crate::BACKDATED_SECS) before `now_secs`.
    ///
    /// # Errors
    /// [`CreateError`]. No argument makes it panic.
    pub fn create(options: &AuthorityOptions, now_secs: u64) -> Result<Self, CreateError> {
        let failed = |source: ErrorStack| CreateError::OpenSsl { source: source.into() };
        let name = x509::common_name(CA_COMMON_NAME).map_err(failed)?;
        Self::create_named(&name, options, now_secs)
    }

    /// Creates the authority that replaces this one: as [`create`](Self::create), with the subject
    /// of this one. Only then can this one certify its key
    /// ([`cross_certify`](Self::cross_certify)).
    ///
    /// # Errors
    /// [`CreateError`].
    pub fn create_successor(
        &self,
        options: &AuthorityOptions,
        now_secs: u64,
    ) -> Result<Self, CreateError> {
        Self::create_named(self.certificate.subject_name(), options, now_secs)
    }

    fn create_named(
        name: &X509NameRef,
        options: &AuthorityOptions,
        now_secs: u64,
    ) -> Result<Self, CreateError> {
        let days = options.validity_days;
        if !(1..=VALIDITY_DAYS_MAX).contains(&days) {
            return Err(CreateError::ValidityDays { days });
        }
        let not_after_secs = x509::days_after(now_secs, days);
        if not_after_secs > TIME_SECS_MAX {
            return Err(CreateError::TimeOutOfRange);
        }
        let failed = |source: ErrorStack| CreateError::OpenSsl { source: source.into() };
        let key = options.key_type.generate().map_err(failed)?;
        let not_before_secs = now_secs.saturating_sub(x509::BACKDATED_SECS);
        let certificate =
            self_signed(name, &key, not_before_secs, not_after_secs).map_err(failed)?;
        Self::assemble(certificate, key).map_err(failed)
    }

    /// Loads an authority from its two PEM files. The key may be PKCS#8 or a traditional form,
    /// unencrypted.
    ///
    /// Expiry is checked when the authority issues a certificate, since only then the time is
    /// known.
    ///
    /// # Errors
    /// [`LoadError`] says which of the two files is wrong, or that they do not match.
    pub fn load(certificate_pem: &[u8], key_pem: &[u8]) -> Result<Self, LoadError> {
        let (certificate, key) = read(certificate_pem, key_pem)?;
        Self::checked(certificate, key)
    }

    /// Loads an authority that another program made, as [`load`](Self::load) does. Where its
    /// certificate has no key usages or no subject key identifier, it is signed anew, with both.
    ///
    /// Key and subject stay. So a peer that trusts the old certificate accepts what is issued from
    /// now on, and the new certificate verifies what was issued before. The new certificate ends
    /// with the old one, or after [`CA_VALIDITY_DAYS`] days from `now_secs` if that is earlier.
    /// Returns the authority, and whether its certificate is a new one.
    ///
    /// # Errors
    /// As [`load`](Self::load), but for what is mended.
    pub fn adopt(
        certificate_pem: &[u8],
        key_pem: &[u8],
        now_secs: u64,
    ) -> Result<(Self, bool), LoadError> {
        let failed = |source: ErrorStack| LoadError::OpenSsl { source: source.into() };
        let (certificate, key) = read(certificate_pem, key_pem)?;
        let is_ca = der::is_ca(&certificate.to_der().map_err(failed)?);
        let lacks_parts =
            certificate.key_usage().is_none() || certificate.subject_key_id().is_none();
        let is_forbidden = certificate
            .key_usage()
            .is_some_and(|usage| !usage.contains(X509KeyUsage::KEY_CERT_SIGN));
        if !is_ca || !lacks_parts || is_forbidden {
            return Ok((Self::checked(certificate, key)?, false));
        }
        let not_before_secs = x509::to_unix_secs(certificate.not_before()).map_err(failed)?;
        let not_after_secs = x509::to_unix_secs(certificate.not_after())
            .map_err(failed)?
            .min(x509::days_after(now_secs, CA_VALIDITY_DAYS));
        let renewed =
            self_signed(certificate.subject_name(), &key, not_before_secs, not_after_secs)
                .map_err(failed)?;
        Ok((Self::checked(renewed, key)?, true))
    }

    /// Checks that the certificate is an authority's that can be used.
    fn checked(certificate: X509, key: PKey<Private>) -> Result<Self, LoadError> {
        let failed = |source: ErrorStack| LoadError::OpenSsl { source: source.into() };
        let may_sign = certificate
            .key_usage()
            .is_some_and(|usage| usage.contains(X509KeyUsage::KEY_CERT_SIGN));
        if !may_sign || !der::is_ca(&certificate.to_der().map_err(failed)?) {
            return Err(LoadError::NotAnAuthority);
        }
        if certificate.subject_key_id().is_none() {
            return Err(LoadError::NoSubjectKeyIdentifier);
        }
        Self::assemble(certificate, key).map_err(failed)
    }

    /// Whether this certificate and key, in PEM, are a pair that this authority issued, whatever
    /// its names and dates.
    #[must_use]
    pub fn has_issued(&self, certificate_pem: &[u8], key_pem: &[u8]) -> bool {
        key::certified(certificate_pem, key_pem)
            .is_some_and(|certificate| certificate.verify(&self.key).unwrap_or(false))
    }

    fn assemble(certificate: X509, key: PKey<Private>) -> Result<Self, ErrorStack> {
        Ok(Self {
            not_before_secs: x509::to_unix_secs(certificate.not_before())?,
            not_after_secs: x509::to_unix_secs(certificate.not_after())?,
            key_id: certificate
                .subject_key_id()
                .map(|id| id.as_slice().to_vec())
                .unwrap_or_default(),
            certificate_pem: certificate.to_pem()?,
            key_pem: PrivateKeyPem::encode(&key)?,
            certificate,
            key,
        })
    }

    /// The certificate as PEM: the trust anchor of the peers.
    #[must_use]
    pub fn certificate_pem(&self) -> &[u8] {
        &self.certificate_pem
    }

    /// The private key as PKCS#8 PEM.
    #[must_use]
    pub fn private_key_pem(&self) -> &PrivateKeyPem {
        &self.key_pem
    }

    /// The identifier of its key: what its leaves and its revocation lists name as their issuer's
    /// (RFC 5280, section 4.2.1.2).
    #[must_use]
    pub fn key_id(&self) -> &[u8] {
        &self.key_id
    }

    /// The last second in which the authority, and so anything it issues, is valid; seconds since
    /// the Unix epoch.
    #[must_use]
    pub fn not_after_secs(&self) -> u64 {
        self.not_after_secs
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority")
            .field("subject", &x509::read_common_name(self.certificate.subject_name()))
            .field("not_after_secs", &self.not_after_secs)
            .field("key", &self.key_pem)
            .finish_non_exhaustive()
    }
}

/// Chooses from several certificates, as during the replacement of an authority, the one that
/// matches the key. If several match, as after a renewal, the one that ends last.
fn certificate_of(certificates: Vec<X509>, key: &PKey<Private>) -> Result<X509, LoadError> {
    let mut unreadable = false;
    let fitting = certificates.into_iter().filter(|certificate| match certificate.public_key() {
        Ok(public) => public.public_eq(key),
        // A public key that OpenSSL cannot read has no supported type.
        Err(_) => {
            unreadable = true;
            false
        }
    });
    let last =
        fitting.max_by_key(|certificate| x509::to_unix_secs(certificate.not_after()).unwrap_or(0));
    last.ok_or(if unreadable { LoadError::UnsupportedKey } else { LoadError::Mismatch })
}

/// Reads a certificate and its key from two PEM files. The key is one that can sign.
fn read(certificate_pem: &[u8], key_pem: &[u8]) -> Result<(X509, PKey<Private>), LoadError> {
    let key_pem = x509::unmarked(key_pem);
    let certificates =
        x509::certificates_from_pem(certificate_pem).map_err(|_| LoadError::Certificate)?;
    if certificates.is_empty() {
        return Err(LoadError::NoCertificate);
    }
    if key::is_encrypted(key_pem) {
        return Err(LoadError::EncryptedKey);
    }
    // OpenSSL's own callback would ask for a passphrase on the terminal.
    let key =
        PKey::private_key_from_pem_callback(key_pem, |_| Ok(0)).map_err(|_| LoadError::Key)?;
    let certificate = certificate_of(certificates, &key)?;
    if !key::can_sign(&key) {
        return Err(LoadError::UnsupportedKey);
    }
    if !key::is_sound(&key) {
        return Err(LoadError::Key);
    }
    Ok((certificate, key))
}

fn self_signed(
    name: &X509NameRef,
    key: &PKey<Private>,
    not_before_secs: u64,
    not_after_secs: u64,
) -> Result<X509, ErrorStack> {
    let mut builder = x509::start_between(not_before_secs, not_after_secs)?;
    builder.set_subject_name(name)?;
    builder.set_issuer_name(name)?;
    builder.set_pubkey(key)?;
    builder.append_extension(BasicConstraints::new().critical().ca().pathlen(0).build()?)?;
    builder.append_extension(KeyUsage::new().critical().key_cert_sign().crl_sign().build()?)?;
    let identifier = SubjectKeyIdentifier::new().build(&builder.x509v3_context(None, None))?;
    builder.append_extension(identifier)?;
    builder.sign(key, MessageDigest::sha256())?;
    Ok(builder.build())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{CertificateInfo, LeafRequest, SubjectName};
    use openssl::symm::Cipher;

    const NOW_SECS: u64 = 1_750_000_000;

    fn authority() -> Authority {
        Authority::create(&AuthorityOptions::default(), NOW_SECS).unwrap()
    }

    fn text(authority: &Authority) -> String {
        String::from_utf8(authority.certificate.to_text().unwrap()).unwrap()
    }

    /// A certificate with arbitrary extensions.
    fn hand_made(
        key: &PKey<Private>,
        extend: impl FnOnce(&mut openssl::x509::X509Builder),
    ) -> Vec<u8> {
        let name = x509::common_name("hand-made").unwrap();
        let mut builder = x509::start(NOW_SECS, NOW_SECS + 1000).unwrap();
        builder.set_subject_name(&name).unwrap();
        builder.set_issuer_name(&name).unwrap();
        builder.set_pubkey(key).unwrap();
        extend(&mut builder);
        builder.sign(key, MessageDigest::sha256()).unwrap();
        builder.build().to_pem().unwrap()
    }

    #[test]
    fn its_certificate_says_what_it_is_for_and_nothing_else() {
        let authority = authority();
        let text = text(&authority);
        assert!(text.contains("Version: 3 (0x2)"), "{text}");
        assert!(
            text.contains(
                "X509v3 Basic Constraints: critical\n                CA:TRUE, pathlen:0\n"
            ),
            "{text}"
        );
        assert!(
            text.contains(
                "X509v3 Key Usage: critical\n                Certificate Sign, CRL Sign\n"
            ),
            "{text}"
        );
        assert!(text.contains("X509v3 Subject Key Identifier: \n"), "{text}");
        assert_eq!(
            text.matches("X509v3 ").count(),
            4,
            "three extensions and their heading: {text}"
        );
        assert!(text.contains("Signature Algorithm: ecdsa-with-SHA256"), "{text}");
        assert!(text.contains("ASN1 OID: prime256v1"), "{text}");
        assert!(authority.certificate.verify(&authority.key).unwrap());
    }

    #[test]
    fn it_is_valid_for_ten_years_from_five_minutes_ago() {
        let info = CertificateInfo::from_pem(authority().certificate_pem()).unwrap();
        assert_eq!(info.subject.as_deref(), Some("web-ipc-ca"));
        assert!(info.is_ca);
        assert_eq!(info.not_before_secs, NOW_SECS - 300);
        assert_eq!(info.not_after_secs, NOW_SECS + 3_650 * 86_400);
        assert_eq!(info.serial.as_be_bytes().len(), 16);
    }

    /// An authority as the Python tool makes it: with neither key usages nor identifiers, and with
    /// a subject of several parts.
    fn of_the_python_tool(key: &PKey<Private>) -> Vec<u8> {
        let mut name = openssl::x509::X509Name::builder().unwrap();
        for (nid, value) in [("C", "US"), ("O", "US-Company"), ("CN", "web-ipc-ca")] {
            name.append_entry_by_text(nid, value).unwrap();
        }
        let name = name.build();
        hand_made(key, |builder| {
            builder.set_subject_name(&name).unwrap();
            builder.set_issuer_name(&name).unwrap();
            builder.set_not_after(&x509::time(NOW_SECS + 36_500 * 86_400).unwrap()).unwrap();
            builder
                .append_extension(BasicConstraints::new().critical().ca().build().unwrap())
                .unwrap();
        })
    }

    #[test]
    fn an_authority_without_usages_and_identifier_is_adopted_with_its_key_and_subject() {
        let key = KeyType::Rsa2048.generate().unwrap();
        let old_pem = of_the_python_tool(&key);
        let key_pem = key.private_key_to_pem_pkcs8().unwrap();
        assert!(matches!(Authority::load(&old_pem, &key_pem), Err(LoadError::NotAnAuthority)));

        let (adopted, is_signed_anew) = Authority::adopt(&old_pem, &key_pem, NOW_SECS).unwrap();
        assert!(is_signed_anew);
        let old = X509::from_pem(&old_pem).unwrap();
        let new = &adopted.certificate;
        assert!(old.subject_name().try_cmp(new.subject_name()).unwrap().is_eq());
        assert!(old.public_key().unwrap().public_eq(&adopted.key));
        assert_eq!(adopted.not_after_secs(), NOW_SECS + 3_650 * 86_400);
        // Whoever has the old certificate verifies what is issued now.
        let leaf = adopted.issue(&LeafRequest::new("a".parse().unwrap()), NOW_SECS).unwrap();
        assert!(key::is_issued_by(&leaf.certificate_pem, &old_pem));
        // And it is one as those made here.
        let again = Authority::load(adopted.certificate_pem(), &key_pem).unwrap();
        let (_, is_signed_anew) =
            Authority::adopt(again.certificate_pem(), &key_pem, NOW_SECS).unwrap();
        assert!(!is_signed_anew);
        assert!(again.revocation_list(&[], 1, NOW_SECS, NOW_SECS + 1).is_ok());

        let successor = adopted.create_successor(&AuthorityOptions::default(), NOW_SECS).unwrap();
        assert_eq!(successor.key.id(), openssl::pkey::Id::EC);
        adopted.cross_certify(&successor).unwrap();
        let other = Authority::create(&AuthorityOptions::default(), NOW_SECS).unwrap();
        assert!(adopted.cross_certify(&other).is_err());
    }

    #[test]
    fn a_leaf_or_an_authority_that_may_not_sign_is_not_adopted() {
        let authority = authority();
        let leaf = authority.issue(&LeafRequest::new("a".parse().unwrap()), NOW_SECS).unwrap();
        let refused = |certificate: &[u8], key: &[u8]| {
            Authority::adopt(certificate, key, NOW_SECS).map(drop).unwrap_err()
        };
        let error = refused(&leaf.certificate_pem, leaf.key_pem.as_bytes());
        assert!(matches!(error, LoadError::NotAnAuthority), "{error:?}");
        let error = refused(authority.certificate_pem(), leaf.key_pem.as_bytes());
        assert!(matches!(error, LoadError::Mismatch), "{error:?}");

        let key = KeyType::P256.generate().unwrap();
        let key_pem = key.private_key_to_pem_pkcs8().unwrap();
        let bare_leaf = hand_made(&key, |_| {});
        assert!(matches!(refused(&bare_leaf, &key_pem), LoadError::NotAnAuthority));
        let forbidden = hand_made(&key, |builder| {
            let constraints = BasicConstraints::new().critical().ca().build().unwrap();
            builder.append_extension(constraints).unwrap();
            builder.append_extension(KeyUsage::new().crl_sign().build().unwrap()).unwrap();
        });
        assert!(matches!(refused(&forbidden, &key_pem), LoadError::NotAnAuthority));
    }

    #[test]
    fn its_validity_and_key_can_be_chosen() {
        let options = AuthorityOptions { validity_days: 1, key_type: KeyType::Rsa2048 };
        let authority = Authority::create(&options, NOW_SECS).unwrap();
        assert_eq!(authority.not_after_secs(), NOW_SECS + 86_400);
        assert_eq!(authority.key.bits(), 2048);
    }

    #[test]
    fn a_validity_out_of_range_is_refused() {
        for days in [0, VALIDITY_DAYS_MAX + 1, u32::MAX] {
            let options = AuthorityOptions { validity_days: days, ..Default::default() };
            let error = Authority::create(&options, NOW_SECS).unwrap_err();
            assert!(matches!(error, CreateError::ValidityDays { days: found } if found == days));
        }
    }

    #[test]
    fn a_clock_beyond_the_year_9999_is_refused_and_one_at_the_epoch_is_not() {
        for now_secs in [TIME_SECS_MAX, u64::MAX] {
            let error = Authority::create(&AuthorityOptions::default(), now_secs).unwrap_err();
            assert!(matches!(error, CreateError::TimeOutOfRange));
        }
        assert_eq!(Authority::create(&AuthorityOptions::default(), 0).unwrap().not_before_secs, 0);
    }

    #[test]
    fn it_loads_back_as_the_same_and_issues_again() {
        let made = authority();
        let loaded =
            Authority::load(made.certificate_pem(), made.private_key_pem().as_bytes()).unwrap();
        assert_eq!(loaded.certificate_pem(), made.certificate_pem());
        assert_eq!(loaded.private_key_pem(), made.private_key_pem());
        assert_eq!(loaded.not_after_secs(), made.not_after_secs());
        let leaf =
            loaded.issue(&LeafRequest::new(SubjectName::parse("a").unwrap()), NOW_SECS).unwrap();
        let leaf = X509::from_pem(&leaf.certificate_pem).unwrap();
        assert!(leaf.verify(&made.key).unwrap());
    }

    #[test]
    fn a_byte_order_mark_before_pem_is_ignored() {
        let made = authority();
        let marked = |pem: &[u8]| ["\u{feff}".as_bytes(), pem].concat();
        let loaded = Authority::load(
            &marked(made.certificate_pem()),
            &marked(made.private_key_pem().as_bytes()),
        )
        .unwrap();
        assert_eq!(loaded.certificate_pem(), made.certificate_pem());
        let pair =
            made.issue(&LeafRequest::new(SubjectName::parse("a").unwrap()), NOW_SECS).unwrap();
        assert!(made.has_issued(&marked(&pair.certificate_pem), &marked(pair.key_pem.as_bytes())));
        assert_eq!(
            CertificateInfo::from_pem(&marked(&pair.certificate_pem)).unwrap().alt_names,
            ["a"]
        );
    }

    #[test]
    fn the_key_of_another_authority_is_refused() {
        let error = Authority::load(
            authority().certificate_pem(),
            authority().private_key_pem().as_bytes(),
        );
        assert!(matches!(error.unwrap_err(), LoadError::Mismatch));
    }

    #[test]
    fn a_leaf_is_no_authority() {
        let leaf = authority()
            .issue(&LeafRequest::new(SubjectName::parse("a").unwrap()), NOW_SECS)
            .unwrap();
        let error = Authority::load(&leaf.certificate_pem, leaf.key_pem.as_bytes()).unwrap_err();
        assert!(matches!(error, LoadError::NotAnAuthority));
    }

    #[test]
    fn half_an_authority_is_refused() {
        let key = KeyType::P256.generate().unwrap();
        let key_pem = PrivateKeyPem::encode(&key).unwrap();
        let load =
            |certificate: Vec<u8>| Authority::load(&certificate, key_pem.as_bytes()).unwrap_err();
        let ca = || BasicConstraints::new().critical().ca().build().unwrap();
        let sign = || KeyUsage::new().critical().key_cert_sign().build().unwrap();

        assert!(matches!(load(hand_made(&key, |_| {})), LoadError::NotAnAuthority));
        let only_ca = hand_made(&key, |builder| builder.append_extension(ca()).unwrap());
        assert!(matches!(load(only_ca), LoadError::NotAnAuthority));
        let only_usage = hand_made(&key, |builder| builder.append_extension(sign()).unwrap());
        assert!(matches!(load(only_usage), LoadError::NotAnAuthority));
        let no_identifier = hand_made(&key, |builder| {
            builder.append_extension(ca()).unwrap();
            builder.append_extension(sign()).unwrap();
        });
        assert!(matches!(load(no_identifier), LoadError::NoSubjectKeyIdentifier));
    }

    #[test]
    fn a_key_whose_signatures_nobody_verifies_is_refused() {
        let key = PKey::from_rsa(openssl::rsa::Rsa::generate(1024).unwrap()).unwrap();
        let certificate = hand_made(&key, |_| {});
        let error = Authority::load(&certificate, PrivateKeyPem::encode(&key).unwrap().as_bytes())
            .unwrap_err();
        assert!(matches!(error, LoadError::UnsupportedKey));
    }

    #[test]
    fn what_is_not_pem_is_refused_on_either_side() {
        let good = authority();
        let key = good.private_key_pem().as_bytes();
        for pem in [&b""[..], b"\0\xff", b"no certificate", key] {
            let error = Authority::load(pem, key).unwrap_err();
            assert!(matches!(error, LoadError::NoCertificate | LoadError::Certificate));
        }
        let half = &good.certificate_pem()[..good.certificate_pem().len() / 2];
        assert!(matches!(Authority::load(half, key).unwrap_err(), LoadError::Certificate));
        for pem in [&b""[..], b"\0\xff", b"no key", &key[..key.len() / 2], good.certificate_pem()] {
            assert!(matches!(
                Authority::load(good.certificate_pem(), pem).unwrap_err(),
                LoadError::Key
            ));
        }
    }

    /// A key whose private number does not match its public half.
    fn damaged(key_pem: &PrivateKeyPem) -> Vec<u8> {
        let key = PKey::private_key_from_pem(key_pem.as_bytes()).unwrap();
        let mut der = key.private_key_to_pkcs8().unwrap();
        let number = key.ec_key().unwrap().private_key().to_vec();
        let at = der.windows(number.len()).position(|window| window == number).unwrap();
        der[at + number.len() - 1] ^= 1;
        let base64 = openssl::base64::encode_block(&der);
        format!("-----BEGIN PRIVATE KEY-----\n{base64}\n-----END PRIVATE KEY-----\n").into_bytes()
    }

    #[test]
    fn a_damaged_key_is_refused_before_it_signs_what_nobody_can_verify() {
        let good = authority();
        let error =
            Authority::load(good.certificate_pem(), &damaged(good.private_key_pem())).unwrap_err();
        assert!(matches!(error, LoadError::Key), "{error:?}");
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said_in_our_own_words() {
        let good = authority();
        for error in [
            Authority::load(
                good.certificate_pem(),
                b"-----BEGIN PRIVATE KEY-----\nAAEC\n-----END PRIVATE KEY-----\n",
            ),
            Authority::load(b"-----BEGIN CERTIFICATE-----\nAAEC\n-----END CERTIFICATE-----\n", b""),
        ] {
            assert!(error.unwrap_err().source().is_none());
        }
    }

    #[test]
    fn a_pair_is_this_authoritys_if_it_signed_the_certificate_and_the_key_belongs_to_it() {
        let (good, other) = (authority(), authority());
        let issue = |authority: &Authority| {
            authority.issue(&LeafRequest::new(SubjectName::parse("a").unwrap()), NOW_SECS).unwrap()
        };
        let (pair, second, foreign) = (issue(&good), issue(&good), issue(&other));
        assert!(good.has_issued(&pair.certificate_pem, pair.key_pem.as_bytes()));
        assert!(!good.has_issued(&pair.certificate_pem, second.key_pem.as_bytes()));
        assert!(!good.has_issued(&foreign.certificate_pem, foreign.key_pem.as_bytes()));
        assert!(!good.has_issued(&pair.certificate_pem, &damaged(&pair.key_pem)));
        assert!(!good.has_issued(&pair.certificate_pem, b""));
        assert!(!good.has_issued(b"", pair.key_pem.as_bytes()));
    }

    #[test]
    fn of_several_certificates_the_one_that_the_key_belongs_to_issues() {
        let (good, other, third) = (authority(), authority(), authority());
        let key = good.private_key_pem().as_bytes();
        let renewed = self_signed(
            good.certificate.subject_name(),
            &good.key,
            NOW_SECS,
            NOW_SECS + 9_000 * 86_400,
        )
        .unwrap()
        .to_pem()
        .unwrap();
        for (file, expected) in [
            ([good.certificate_pem(), other.certificate_pem()].concat(), good.certificate_pem()),
            ([other.certificate_pem(), good.certificate_pem()].concat(), good.certificate_pem()),
            ([good.certificate_pem(), &renewed, other.certificate_pem()].concat(), &renewed),
        ] {
            let loaded = Authority::load(&file, key).unwrap();
            assert_eq!(loaded.certificate_pem(), expected);
            let request = LeafRequest::new(SubjectName::parse("peer1").unwrap());
            let pair = loaded.issue(&request, NOW_SECS).unwrap();
            assert!(good.has_issued(&pair.certificate_pem, pair.key_pem.as_bytes()));
        }
        let neither = [other.certificate_pem(), third.certificate_pem()].concat();
        assert!(matches!(Authority::load(&neither, key).unwrap_err(), LoadError::Mismatch));
    }

    #[test]
    fn an_encrypted_key_is_refused_without_asking_for_its_passphrase() {
        let good = authority();
        let pkcs8 =
            good.key.private_key_to_pem_pkcs8_passphrase(Cipher::aes_128_cbc(), b"secret").unwrap();
        let traditional = good
            .key
            .ec_key()
            .unwrap()
            .private_key_to_pem_passphrase(Cipher::aes_128_cbc(), b"secret")
            .unwrap();
        for key in [pkcs8, traditional] {
            let error = Authority::load(good.certificate_pem(), &key).unwrap_err();
            assert!(matches!(error, LoadError::EncryptedKey));
        }
    }

    #[test]
    fn a_traditional_key_leaves_as_pkcs8() {
        let good = authority();
        let sec1 = good.key.ec_key().unwrap().private_key_to_pem().unwrap();
        let loaded = Authority::load(good.certificate_pem(), &sec1).unwrap();
        assert_eq!(loaded.private_key_pem(), good.private_key_pem());
    }

    #[test]
    fn debug_shows_no_key() {
        let shown = format!("{:?}", authority());
        assert!(shown.contains("web-ipc-ca") && shown.contains("redacted"), "{shown}");
        assert!(!shown.contains("PRIVATE KEY"), "{shown}");
    }
}

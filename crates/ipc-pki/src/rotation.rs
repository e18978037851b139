//! The replacement of an authority: the new one's key, certified by the old one.
//!
//! The authority's home comes here when a rotation begins. Which of the two issues, and when the
//! old one is dropped, is decided elsewhere.

use std::cmp::Ordering;
use std::error::Error as StdError;

use openssl::asn1::{Asn1Object, Asn1OctetString};
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::x509::extension::{AuthorityKeyIdentifier, BasicConstraints, KeyUsage};
use openssl::x509::{X509, X509Extension};
use thiserror::Error;

use crate::authority::Authority;
use crate::{der, x509};

/// id-ce-subjectKeyIdentifier (RFC 5280, section 4.2.1.2).
const SUBJECT_KEY_ID: &str = "2.5.29.14";

/// Why no cross certificate was made.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CrossCertifyError {
    /// Both authorities have one key: nothing is replaced.
    #[error("both certificate authorities have the same key")]
    SameKey,
    /// The authorities have different names. The old one allows no authority beneath it but one of
    /// its own name (RFC 5280, section 4.2.1.9, path length 0).
    #[error("the two certificate authorities have different names")]
    OtherName,
    /// One authority ends before the other begins.
    #[error("the two certificate authorities are never valid at the same time")]
    NeverBothValid,
    /// OpenSSL failed: no randomness or no memory.
    #[error("OpenSSL could not make the cross certificate")]
    OpenSsl {
        /// What OpenSSL reports.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
}

impl Authority {
    /// Certifies the key of the authority `new`, which replaces this one, and returns the
    /// certificate as PEM: "NewWithOld" of RFC 4210, section 4.4.
    ///
    /// A peer that sends it after its own leaf is accepted by those that trust only this authority.
    /// It says: the common name of both, critical `CA:TRUE` with path length 0, critical
    /// keyCertSign and cRLSign, the key identifiers of `new` and of this authority, a serial number
    /// of 16 random bytes. It is valid while both are.
    ///
    /// It bridges one rotation. rustls counts each authority of a chain toward the path length,
    /// also those of one name, and so refuses a chain of two cross certificates.
    ///
    /// # Errors
    /// [`CrossCertifyError`].
    pub fn cross_certify(&self, new: &Authority) -> Result<Vec<u8>, CrossCertifyError> {
        let failed = |source: ErrorStack| CrossCertifyError::OpenSsl { source: source.into() };
        if self.key.public_eq(&new.key) {
            return Err(CrossCertifyError::SameKey);
        }
        let names = self
            .certificate
            .subject_name()
            .try_cmp(new.certificate.subject_name())
            .map_err(failed)?;
        if names != Ordering::Equal {
            return Err(CrossCertifyError::OtherName);
        }
        let not_before_secs = self.not_before_secs.max(new.not_before_secs);
        let not_after_secs = self.not_after_secs.min(new.not_after_secs);
        if not_before_secs > not_after_secs {
            return Err(CrossCertifyError::NeverBothValid);
        }
        self.sign_authority(new, not_before_secs, not_after_secs)
            .and_then(|certificate| certificate.to_pem())
            .map_err(failed)
    }

    fn sign_authority(
        &self,
        new: &Authority,
        not_before_secs: u64,
        not_after_secs: u64,
    ) -> Result<X509, ErrorStack> {
        let mut builder = x509::start_between(not_before_secs, not_after_secs)?;
        builder.set_subject_name(new.certificate.subject_name())?;
        builder.set_issuer_name(self.certificate.subject_name())?;
        builder.set_pubkey(&new.key)?;
        builder.append_extension(BasicConstraints::new().critical().ca().pathlen(0).build()?)?;
        builder.append_extension(KeyUsage::new().critical().key_cert_sign().crl_sign().build()?)?;
        // Taken from the certificate, not made of the key again: an authority that was made
        // elsewhere may have an identifier of another form, and its leaves name that one.
        builder.append_extension(X509Extension::new_from_der(
            Asn1Object::from_str(SUBJECT_KEY_ID)?.as_ref(),
            false,
            Asn1OctetString::new_from_bytes(&der::octet_string(new.key_id()))?.as_ref(),
        )?)?;
        let context = builder.x509v3_context(Some(&self.certificate), None);
        let issuer = AuthorityKeyIdentifier::new().keyid(true).build(&context)?;
        builder.append_extension(issuer)?;
        builder.sign(&self.key, MessageDigest::sha256())?;
        Ok(builder.build())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AuthorityOptions, CertificateInfo, KeyType};

    const NOW_SECS: u64 = 1_750_000_000;

    fn authority(validity_days: u32, now_secs: u64) -> Authority {
        let options = AuthorityOptions { validity_days, ..Default::default() };
        Authority::create(&options, now_secs).unwrap()
    }

    #[test]
    fn it_says_that_the_old_key_vouches_for_the_new_one_and_nothing_else() {
        let (old, new) = (authority(10, NOW_SECS), authority(10, NOW_SECS + 86_400));
        let pem = old.cross_certify(&new).unwrap();
        let certificate = X509::from_pem(&pem).unwrap();
        assert!(certificate.verify(&old.key).unwrap());
        assert!(certificate.public_key().unwrap().public_eq(&new.key));
        let info = CertificateInfo::from_pem(&pem).unwrap();
        assert_eq!(info.subject.as_deref(), Some("web-ipc-ca"));
        assert_eq!(info.key_id.as_deref(), Some(new.key_id()));
        assert_eq!(info.issuer_key_id.as_deref(), Some(old.key_id()));
        let text = String::from_utf8(certificate.to_text().unwrap()).unwrap();
        for part in [
            "X509v3 Basic Constraints: critical\n                CA:TRUE, pathlen:0\n",
            "X509v3 Key Usage: critical\n                Certificate Sign, CRL Sign\n",
            "Issuer: CN = web-ipc-ca",
            "Subject: CN = web-ipc-ca",
        ] {
            let text = text.replace("CN=", "CN = ");
            assert!(text.contains(part), "{part} is not in {text}");
        }
        assert_eq!(text.matches("X509v3 ").count(), 5, "four extensions and their heading: {text}");
        assert_ne!(info.serial, CertificateInfo::from_pem(new.certificate_pem()).unwrap().serial);
    }

    #[test]
    fn it_is_valid_while_both_are() {
        let day = 86_400;
        for (old_days, new_days) in [(10, 3), (3, 10)] {
            let old = authority(old_days, NOW_SECS);
            let new = authority(new_days, NOW_SECS + 2 * day);
            let info = CertificateInfo::from_pem(&old.cross_certify(&new).unwrap()).unwrap();
            assert_eq!(info.not_before_secs, NOW_SECS + 2 * day - 300);
            assert_eq!(
                info.not_after_secs,
                old.not_after_secs().min(new.not_after_secs()),
                "{old_days} {new_days}"
            );
        }
    }

    #[test]
    fn authorities_that_are_never_valid_together_are_refused() {
        let (old, new) = (authority(1, NOW_SECS), authority(1, NOW_SECS + 2 * 86_400));
        assert!(matches!(old.cross_certify(&new).unwrap_err(), CrossCertifyError::NeverBothValid));
    }

    #[test]
    fn an_authority_does_not_replace_itself() {
        let old = authority(10, NOW_SECS);
        let same =
            Authority::load(old.certificate_pem(), old.private_key_pem().as_bytes()).unwrap();
        assert!(matches!(old.cross_certify(&same).unwrap_err(), CrossCertifyError::SameKey));
    }

    /// An authority of another name, with a key identifier that is no hash of its key.
    fn made_elsewhere(name: &str) -> Authority {
        let key = KeyType::P256.generate().unwrap();
        let mut builder = x509::start(NOW_SECS, NOW_SECS + 1000).unwrap();
        let name = x509::common_name(name).unwrap();
        builder.set_subject_name(&name).unwrap();
        builder.set_issuer_name(&name).unwrap();
        builder.set_pubkey(&key).unwrap();
        builder.append_extension(BasicConstraints::new().critical().ca().build().unwrap()).unwrap();
        builder.append_extension(KeyUsage::new().key_cert_sign().build().unwrap()).unwrap();
        let identifier = Asn1OctetString::new_from_bytes(&[4, 3, 1, 2, 3]).unwrap();
        let object = Asn1Object::from_str(SUBJECT_KEY_ID).unwrap();
        builder
            .append_extension(X509Extension::new_from_der(&object, false, &identifier).unwrap())
            .unwrap();
        builder.sign(&key, MessageDigest::sha256()).unwrap();
        let key = crate::key::PrivateKeyPem::encode(&key).unwrap();
        Authority::load(&builder.build().to_pem().unwrap(), key.as_bytes()).unwrap()
    }

    #[test]
    fn an_authority_of_another_name_is_refused() {
        let error = authority(10, NOW_SECS).cross_certify(&made_elsewhere("other-ca")).unwrap_err();
        assert!(matches!(error, CrossCertifyError::OtherName));
    }

    #[test]
    fn the_identifier_of_the_new_key_is_the_one_that_its_leaves_name() {
        let (old, new) = (authority(10, NOW_SECS), made_elsewhere("web-ipc-ca"));
        assert_eq!(new.key_id(), [1, 2, 3]);
        let info = CertificateInfo::from_pem(&old.cross_certify(&new).unwrap()).unwrap();
        assert_eq!(info.key_id.as_deref(), Some(&[1, 2, 3][..]));
    }
}

//! Certificate requests (PKCS#10, RFC 2986): a holder of a key asks for a certificate without
//! giving the key away.
//!
//! A client's home makes one and the authority's home takes it in. A request comes from outside, so
//! its size is limited, its key is checked, and its signature must prove that the sender holds the
//! key.

use std::error::Error as StdError;
use std::fmt;

use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, PKeyRef, Private, Public};
use openssl::x509::{X509Req, X509ReqBuilder};
use thiserror::Error;

use crate::key::{self, KeyType, PrivateKeyPem, Unusable};
use crate::name::SubjectName;
use crate::x509;

/// The longest certificate request that is read, in bytes of PEM. One for RSA of 8192 bits has
/// about 3 KiB.
pub const REQUEST_BYTES_MAX: usize = 16 * 1024;

/// A certificate request and the key that it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RequestedPair {
    /// The request as PEM, for the authority.
    pub request_pem: Vec<u8>,
    /// The private key, which stays with its holder.
    pub key_pem: PrivateKeyPem,
}

/// Why no certificate request was made.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The key cannot be read as PEM, or is damaged.
    #[error("the key is not a PEM private key, or is damaged")]
    Key,
    /// The key is under a passphrase; nobody is asked for one.
    #[error("the key is encrypted with a passphrase, which is not supported")]
    EncryptedKey,
    /// The key is of a kind or size that no certificate is issued for.
    #[error("the key must be P-256, P-384 or RSA of 2048 to 8192 bits")]
    UnsupportedKey,
    /// OpenSSL failed: no randomness or no memory.
    #[error("OpenSSL could not make the certificate request")]
    OpenSsl {
        /// What OpenSSL reports.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
}

impl RequestedPair {
    /// Makes a new key and a request for it, with `name` as its common name.
    ///
    /// # Errors
    /// [`RequestError::OpenSsl`].
    pub fn create(name: &SubjectName, key_type: KeyType) -> Result<Self, RequestError> {
        let key = key_type.generate().map_err(failed)?;
        Self::sign(name, &key).map_err(failed)
    }

    /// Makes a request for a key that exists already, in PEM: a request that may not have arrived
    /// is repeated with the same key.
    ///
    /// # Errors
    /// [`RequestError`].
    pub fn for_key(name: &SubjectName, key_pem: &[u8]) -> Result<Self, RequestError> {
        let key = key::from_pem(key_pem).map_err(|unusable| match unusable {
            Unusable::NotPem => RequestError::Key,
            Unusable::Encrypted => RequestError::EncryptedKey,
            Unusable::Unsupported => RequestError::UnsupportedKey,
        })?;
        Self::sign(name, &key).map_err(failed)
    }

    fn sign(name: &SubjectName, key: &PKey<Private>) -> Result<Self, ErrorStack> {
        let mut builder = X509ReqBuilder::new()?;
        // Zero-based: the only version there is (RFC 2986, section 4.1).
        builder.set_version(0)?;
        builder.set_subject_name(x509::common_name(name.as_str())?.as_ref())?;
        builder.set_pubkey(key)?;
        builder.sign(key, MessageDigest::sha256())?;
        Ok(Self { request_pem: builder.build().to_pem()?, key_pem: PrivateKeyPem::encode(key)? })
    }
}

fn failed(source: ErrorStack) -> RequestError {
    RequestError::OpenSsl { source: source.into() }
}

/// Why a certificate request is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RequestRefused {
    /// It has more than [`REQUEST_BYTES_MAX`] bytes.
    #[error("the certificate request has {length} bytes, at most {REQUEST_BYTES_MAX} are allowed")]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// It is not a PEM certificate request (RFC 7468, section 7).
    #[error("not a PEM certificate request")]
    NotPem,
    /// Its key is of another kind or size than P-256, P-384 and RSA of 2048 to 8192 bits, or is no
    /// sound key of that kind.
    #[error("the key must be P-256, P-384 or RSA of 2048 to 8192 bits")]
    UnsupportedKey,
    /// Its signature was not made with the private half of its key.
    #[error("the certificate request is not signed with its own key")]
    NotItsKey,
}

/// A certificate request whose sender has proved to hold the private key.
///
/// It proves nothing else: the name in it is what the sender would like to be called.
pub struct CertificateRequest {
    key: PKey<Public>,
    subject: Option<String>,
    spki_sha256: [u8; 32],
}

impl CertificateRequest {
    /// Reads a request in PEM and verifies its signature.
    ///
    /// # Errors
    /// [`RequestRefused`].
    pub fn from_pem(pem: &[u8]) -> Result<Self, RequestRefused> {
        if pem.len() > REQUEST_BYTES_MAX {
            return Err(RequestRefused::TooLong { length: pem.len() });
        }
        let pem = x509::unmarked(pem);
        // OpenSSL would ask for the passphrase of an encrypted block on the terminal.
        if key::is_encrypted(pem) {
            return Err(RequestRefused::NotPem);
        }
        let request = X509Req::from_pem(pem).map_err(|_| RequestRefused::NotPem)?;
        let sent = request.public_key().map_err(|_| RequestRefused::UnsupportedKey)?;
        // Before the signature is verified, whose cost depends on the kind of key.
        let key = key::to_certify(&sent).ok().flatten().ok_or(RequestRefused::UnsupportedKey)?;
        if !request.verify(&key).unwrap_or(false) {
            return Err(RequestRefused::NotItsKey);
        }
        let spki = key.public_key_to_der().map_err(|_| RequestRefused::UnsupportedKey)?;
        Ok(Self {
            subject: x509::read_common_name(request.subject_name()),
            spki_sha256: openssl::sha::sha256(&spki),
            key,
        })
    }

    pub(crate) fn key(&self) -> &PKeyRef<Public> {
        &self.key
    }

    /// The common name that the sender asks for, if there is one. Nothing has checked it.
    #[must_use]
    pub fn subject(&self) -> Option<&str> {
        self.subject.as_deref()
    }

    /// SHA-256 of the public key as it will stand in the certificate (SubjectPublicKeyInfo, RFC
    /// 5280, section 4.1.2.7). Two requests have the same if and only if they are for one key.
    #[must_use]
    pub fn spki_sha256(&self) -> [u8; 32] {
        self.spki_sha256
    }
}

impl fmt::Debug for CertificateRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertificateRequest")
            .field("subject", &self.subject)
            .field("spki_sha256", &self.spki_sha256)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use openssl::ec::{EcGroup, EcKey};
    use openssl::nid::Nid;
    use openssl::rsa::Rsa;
    use openssl::sha::sha256;

    fn name() -> SubjectName {
        "worker1".parse().unwrap()
    }

    fn on_curve(curve: Nid) -> PKey<Private> {
        let group = EcGroup::from_curve_name(curve).unwrap();
        PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap()
    }

    fn refusal(pem: &[u8]) -> RequestRefused {
        CertificateRequest::from_pem(pem).unwrap_err()
    }

    /// A request for one key that another signed.
    fn signed_by(key: &PKey<Private>, signer: &PKey<Private>) -> Vec<u8> {
        let mut builder = X509ReqBuilder::new().unwrap();
        builder.set_pubkey(key).unwrap();
        builder.sign(signer, MessageDigest::sha256()).unwrap();
        builder.build().to_pem().unwrap()
    }

    fn pem(der: &[u8]) -> Vec<u8> {
        let base64 = openssl::base64::encode_block(der);
        let lines: Vec<&str> =
            base64.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
        format!(
            "-----BEGIN CERTIFICATE REQUEST-----\n{}\n-----END CERTIFICATE REQUEST-----\n",
            lines.join("\n")
        )
        .into_bytes()
    }

    #[test]
    fn a_request_is_taken_in_with_the_key_that_it_was_made_for() {
        for key_type in [KeyType::P256, KeyType::Rsa2048] {
            let pair = RequestedPair::create(&name(), key_type).unwrap();
            let request = CertificateRequest::from_pem(&pair.request_pem).unwrap();
            let key = PKey::private_key_from_pem(pair.key_pem.as_bytes()).unwrap();
            assert!(request.key().public_eq(&key));
            assert_eq!(request.subject(), Some("worker1"));
            assert_eq!(request.spki_sha256(), sha256(&key.public_key_to_der().unwrap()));
        }
        let p384 = on_curve(Nid::SECP384R1);
        assert!(CertificateRequest::from_pem(&signed_by(&p384, &p384)).is_ok());
    }

    #[test]
    fn a_repeated_request_is_for_the_same_key() {
        let first = RequestedPair::create(&name(), KeyType::P256).unwrap();
        let again = RequestedPair::for_key(&name(), first.key_pem.as_bytes()).unwrap();
        let other = RequestedPair::create(&name(), KeyType::P256).unwrap();
        let hash = |pair: &RequestedPair| {
            CertificateRequest::from_pem(&pair.request_pem).unwrap().spki_sha256()
        };
        assert_eq!(again.key_pem, first.key_pem);
        assert_eq!(hash(&again), hash(&first));
        assert_ne!(hash(&other), hash(&first));
    }

    #[test]
    fn a_request_that_another_key_signed_is_refused() {
        let (theirs, mine) = (on_curve(Nid::X9_62_PRIME256V1), on_curve(Nid::X9_62_PRIME256V1));
        assert_eq!(refusal(&signed_by(&theirs, &mine)), RequestRefused::NotItsKey);
        let rsa = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
        assert_eq!(refusal(&signed_by(&theirs, &rsa)), RequestRefused::NotItsKey);
        assert_eq!(refusal(&signed_by(&rsa, &mine)), RequestRefused::NotItsKey);
    }

    #[test]
    fn a_key_of_another_kind_or_size_is_refused() {
        let short = PKey::from_rsa(Rsa::generate(1024).unwrap()).unwrap();
        for key in [short, on_curve(Nid::SECP256K1), on_curve(Nid::SECP521R1)] {
            assert_eq!(refusal(&signed_by(&key, &key)), RequestRefused::UnsupportedKey);
        }
        // Edwards curves have no digest of their own to sign with, so another key signs.
        let edwards = PKey::generate_ed25519().unwrap();
        let pem = signed_by(&edwards, &on_curve(Nid::X9_62_PRIME256V1));
        assert_eq!(refusal(&pem), RequestRefused::UnsupportedKey);
    }

    #[test]
    fn truncated_and_altered_requests_are_refused() {
        let pair = RequestedPair::create(&name(), KeyType::P256).unwrap();
        let der = X509Req::from_pem(&pair.request_pem).unwrap().to_der().unwrap();
        assert!(CertificateRequest::from_pem(&pem(&der)).is_ok());
        for end in 0..der.len() {
            assert!(CertificateRequest::from_pem(&pem(&der[..end])).is_err(), "{end}");
        }
        for index in 0..der.len() {
            let mut altered = der.clone();
            altered[index] ^= 1;
            assert!(CertificateRequest::from_pem(&pem(&altered)).is_err(), "{index}");
        }
    }

    #[test]
    fn what_is_no_request_is_refused() {
        let pair = RequestedPair::create(&name(), KeyType::P256).unwrap();
        for text in [&b""[..], b"text", b"\0\xff", pair.key_pem.as_bytes()] {
            assert_eq!(refusal(text), RequestRefused::NotPem);
        }
        let long = [pair.request_pem.as_slice(), &vec![b'\n'; REQUEST_BYTES_MAX]].concat();
        assert_eq!(refusal(&long), RequestRefused::TooLong { length: long.len() });
        let fits = &long[..REQUEST_BYTES_MAX];
        assert!(CertificateRequest::from_pem(fits).is_ok());
    }

    #[test]
    fn an_encrypted_request_is_refused_without_asking_for_its_passphrase() {
        let pair = RequestedPair::create(&name(), KeyType::P256).unwrap();
        let text = String::from_utf8(pair.request_pem).unwrap();
        let encrypted = text.replacen(
            "REQUEST-----\n",
            "REQUEST-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,000102030405060708090A0B0C0D0E0F\n\n",
            1,
        );
        assert_eq!(refusal(encrypted.as_bytes()), RequestRefused::NotPem);
    }

    #[test]
    fn a_key_that_no_certificate_is_issued_for_makes_no_request() {
        let for_key = |key: &[u8]| RequestedPair::for_key(&name(), key).unwrap_err();
        let pkcs8 = |key: &PKey<Private>| PrivateKeyPem::encode(key).unwrap();
        let foreign = pkcs8(&on_curve(Nid::SECP256K1));
        assert!(matches!(for_key(foreign.as_bytes()), RequestError::UnsupportedKey));
        assert!(matches!(for_key(b"text"), RequestError::Key));
        let encrypted = on_curve(Nid::X9_62_PRIME256V1)
            .private_key_to_pem_pkcs8_passphrase(openssl::symm::Cipher::aes_128_cbc(), b"secret")
            .unwrap();
        assert!(matches!(for_key(&encrypted), RequestError::EncryptedKey));
    }
}

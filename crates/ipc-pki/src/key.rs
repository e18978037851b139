//! Private keys: their types, generation and encoding.
//!
//! The authority and the leaf certificates use it. Nothing here knows the purpose of a key.

use std::fmt;
use std::str::FromStr;

use openssl::ec::{EcGroup, EcKey};
use openssl::error::ErrorStack;
use openssl::nid::Nid;
use openssl::pkey::{HasPublic, Id, PKey, PKeyRef, Private, Public};
use openssl::rsa::Rsa;
use openssl::x509::X509;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::x509::{self, unmarked};

/// The type of a certificate's key.
///
/// RSA has three sizes: smaller keys are too weak, larger ones slow without benefit, and rustls
/// with ring refuses to load sizes in between, such as 2560 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum KeyType {
    /// ECDSA on the curve P-256 (FIPS 186-5): small, fast, supported by every TLS 1.2 and 1.3 peer.
    /// The default.
    #[default]
    P256,
    /// RSA of 2048 bits, for a peer without ECDSA.
    Rsa2048,
    /// RSA of 3072 bits.
    Rsa3072,
    /// RSA of 4096 bits.
    Rsa4096,
}

/// Why a key type is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum KeyTypeError {
    /// RSA of a size that is not offered.
    #[error("an RSA key of {bits} bits is not offered; choose 2048, 3072 or 4096")]
    RsaBits {
        /// The requested size.
        bits: u32,
    },
    /// There is no key type of this name.
    #[error("`{name}` is not a key type; choose p256, rsa2048, rsa3072 or rsa4096")]
    Unknown {
        /// The requested name.
        name: String,
    },
}

impl KeyType {
    /// RSA of `bits` bits: 2048, 3072 or 4096.
    ///
    /// # Errors
    /// [`KeyTypeError::RsaBits`] for any other size.
    pub fn rsa(bits: u32) -> Result<Self, KeyTypeError> {
        match bits {
            2048 => Ok(Self::Rsa2048),
            3072 => Ok(Self::Rsa3072),
            4096 => Ok(Self::Rsa4096),
            bits => Err(KeyTypeError::RsaBits { bits }),
        }
    }

    /// The kind of a public key, if it is one that is offered.
    pub(crate) fn of(key: &PKeyRef<Public>) -> Option<Self> {
        match key.id() {
            Id::EC => {
                let curve = key.ec_key().ok()?.group().curve_name()?;
                (curve == Nid::X9_62_PRIME256V1).then_some(Self::P256)
            }
            Id::RSA => Self::rsa(key.bits()).ok(),
            _ => None,
        }
    }

    pub(crate) fn generate(self) -> Result<PKey<Private>, ErrorStack> {
        match self {
            Self::P256 => {
                let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1)?;
                PKey::from_ec_key(EcKey::generate(&group)?)
            }
            Self::Rsa2048 => PKey::from_rsa(Rsa::generate(2048)?),
            Self::Rsa3072 => PKey::from_rsa(Rsa::generate(3072)?),
            Self::Rsa4096 => PKey::from_rsa(Rsa::generate(4096)?),
        }
    }
}

impl fmt::Display for KeyType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::P256 => "p256",
            Self::Rsa2048 => "rsa2048",
            Self::Rsa3072 => "rsa3072",
            Self::Rsa4096 => "rsa4096",
        })
    }
}

impl FromStr for KeyType {
    type Err = KeyTypeError;

    /// Parses the names that `Display` writes: `p256`, `rsa2048`, `rsa3072`, `rsa4096`.
    fn from_str(name: &str) -> Result<Self, KeyTypeError> {
        match name {
            "p256" => Ok(Self::P256),
            _ => match name.strip_prefix("rsa").and_then(|bits| bits.parse().ok()) {
                Some(bits) => Self::rsa(bits),
                None => Err(KeyTypeError::Unknown { name: name.to_owned() }),
            },
        }
    }
}

/// A private key as PKCS#8 PEM (RFC 7468, section 10), unencrypted. It is wiped from memory when
/// dropped, and `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct PrivateKeyPem(Zeroizing<Vec<u8>>);

impl PrivateKeyPem {
    pub(crate) fn encode(key: &PKey<Private>) -> Result<Self, ErrorStack> {
        key.private_key_to_pem_pkcs8().map(|pem| Self(Zeroizing::new(pem)))
    }

    /// The PEM text. Write it only where nobody else can read it.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for PrivateKeyPem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKeyPem(redacted)")
    }
}

/// Whether a PEM file contains an encrypted key: PKCS#8's own label or the older `Proc-Type` header
/// (RFC 1421).
///
/// This is checked before OpenSSL reads the file, because OpenSSL would ask for the passphrase on
/// the terminal.
pub(crate) fn is_encrypted(pem: &[u8]) -> bool {
    pem.windows(b"ENCRYPTED".len()).any(|window| window == b"ENCRYPTED")
}

/// Whether our peers can verify a SHA-256 signature made with this key: P-256, P-384, or RSA of
/// 2048 to 8192 bits.
pub(crate) fn can_sign<T: HasPublic>(key: &PKeyRef<T>) -> bool {
    match key.id() {
        Id::EC => key.ec_key().is_ok_and(|key| {
            matches!(key.group().curve_name(), Some(Nid::X9_62_PRIME256V1 | Nid::SECP384R1))
        }),
        Id::RSA => (2048..=8192).contains(&key.bits()),
        _ => false,
    }
}

/// A stranger's public key in the one form in which it is certified, if it is of a kind that
/// [`can_sign`] allows and sound as far as a public key shows.
///
/// An elliptic-curve point is written uncompressed, the only form that ring verifies with. So one
/// key has one encoding and one hash.
pub(crate) fn to_certify(key: &PKeyRef<Public>) -> Result<Option<PKey<Public>>, ErrorStack> {
    if !can_sign(key) {
        return Ok(None);
    }
    if key.id() == Id::RSA {
        let rsa = key.rsa()?;
        // Between 3 and 2^33 − 1, and odd: what ring verifies with. With 1 everybody could sign.
        let exponent = rsa.e();
        let usual = (2..=33).contains(&exponent.num_bits()) && exponent.is_bit_set(0);
        return if usual { PKey::from_rsa(rsa).map(Some) } else { Ok(None) };
    }
    let ec = key.ec_key()?;
    if ec.check_key().is_err() {
        return Ok(None);
    }
    let Some(curve) = ec.group().curve_name() else { return Ok(None) };
    let group = EcGroup::from_curve_name(curve)?;
    PKey::from_ec_key(EcKey::from_public_key(&group, ec.public_key())?).map(Some)
}

/// Why a PEM file is no private key that can be used.
pub(crate) enum Unusable {
    NotPem,
    Encrypted,
    Unsupported,
}

/// Reads a private key from PEM, in PKCS#8 or a traditional form, and checks it.
pub(crate) fn from_pem(pem: &[u8]) -> Result<PKey<Private>, Unusable> {
    let pem = unmarked(pem);
    if is_encrypted(pem) {
        return Err(Unusable::Encrypted);
    }
    // The callback stands in for OpenSSL's own, which would ask on the terminal.
    let key = PKey::private_key_from_pem_callback(pem, |_| Ok(0)).map_err(|_| Unusable::NotPem)?;
    if !can_sign(&key) {
        return Err(Unusable::Unsupported);
    }
    if !is_sound(&key) {
        return Err(Unusable::NotPem);
    }
    Ok(key)
}

/// Whether the private half of an elliptic-curve or RSA key belongs to its public half. OpenSSL
/// takes both from the file as they stand, so that a damaged key would sign what nobody can verify.
pub(crate) fn is_sound(key: &PKey<Private>) -> bool {
    match key.id() {
        Id::EC => key.ec_key().is_ok_and(|key| key.check_key().is_ok()),
        Id::RSA => key.rsa().is_ok_and(|key| key.check_key().unwrap_or(false)),
        _ => true,
    }
}

/// Whether a private key, in PEM, is the one of a certificate, and sound.
#[must_use]
pub fn key_fits(certificate_pem: &[u8], key_pem: &[u8]) -> bool {
    certified(certificate_pem, key_pem).is_some()
}

/// Whether one of these authorities signed the first certificate of a PEM text, whatever its names
/// and dates. Both are PEM.
#[must_use]
pub fn is_issued_by(certificate_pem: &[u8], authorities_pem: &[u8]) -> bool {
    let Ok(certificate) = X509::from_pem(unmarked(certificate_pem)) else { return false };
    let authorities = X509::stack_from_pem(unmarked(authorities_pem)).unwrap_or_default();
    authorities.iter().any(|authority| {
        authority.public_key().is_ok_and(|key| certificate.verify(&key).unwrap_or(false))
    })
}

/// The certificate, if the key belongs to it.
pub(crate) fn certified(certificate_pem: &[u8], key_pem: &[u8]) -> Option<X509> {
    let key_pem = unmarked(key_pem);
    let certificate = x509::certificate_from_pem(certificate_pem).ok()?;
    if is_encrypted(key_pem) {
        return None;
    }
    let key = PKey::private_key_from_pem_callback(key_pem, |_| Ok(0)).ok()?;
    let fits = certificate.public_key().is_ok_and(|public| public.public_eq(&key));
    (fits && is_sound(&key)).then_some(certificate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_p256() {
        assert_eq!(KeyType::default(), KeyType::P256);
        assert_eq!(KeyType::P256.generate().unwrap().bits(), 256);
    }

    #[test]
    fn rsa_is_offered_in_three_sizes() {
        assert_eq!(KeyType::rsa(2048), Ok(KeyType::Rsa2048));
        assert_eq!(KeyType::rsa(3072), Ok(KeyType::Rsa3072));
        assert_eq!(KeyType::rsa(4096), Ok(KeyType::Rsa4096));
        for bits in [0, 512, 1024, 2047, 2049, 2560, 4097, 8192, u32::MAX] {
            assert_eq!(KeyType::rsa(bits), Err(KeyTypeError::RsaBits { bits }));
        }
    }

    #[test]
    fn a_kind_of_key_reads_back_as_it_is_written() {
        for key_type in [KeyType::P256, KeyType::Rsa2048, KeyType::Rsa3072, KeyType::Rsa4096] {
            assert_eq!(key_type.to_string().parse(), Ok(key_type));
        }
        assert_eq!("rsa1024".parse::<KeyType>(), Err(KeyTypeError::RsaBits { bits: 1024 }));
        for name in ["", "rsa", "P256", "ed25519", "rsa-2048", "rsa99999999999"] {
            assert_eq!(
                name.parse::<KeyType>(),
                Err(KeyTypeError::Unknown { name: name.to_owned() })
            );
        }
    }

    #[test]
    fn a_certificate_is_issued_by_the_authority_that_signed_it_and_by_no_other_of_its_name() {
        use crate::{Authority, AuthorityOptions, LeafRequest, SubjectName};
        let authority = || Authority::create(&AuthorityOptions::default(), 1_750_000_000).unwrap();
        let (one, other) = (authority(), authority());
        let request = LeafRequest::new(SubjectName::parse("peer1").unwrap());
        let leaf = one.issue(&request, 1_750_000_000).unwrap().certificate_pem;
        assert!(is_issued_by(&leaf, one.certificate_pem()));
        assert!(!is_issued_by(&leaf, other.certificate_pem()));
        let both = [other.certificate_pem(), one.certificate_pem()].concat();
        assert!(is_issued_by(&leaf, &both));
        for (leaf, authorities) in [(&b""[..], &both[..]), (&leaf, b""), (b"x", b"y")] {
            assert!(!is_issued_by(leaf, authorities));
        }
    }

    #[test]
    fn a_key_leaves_as_pkcs8_and_is_never_shown() {
        let pem = PrivateKeyPem::encode(&KeyType::P256.generate().unwrap()).unwrap();
        assert!(pem.as_bytes().starts_with(b"-----BEGIN PRIVATE KEY-----\n"));
        assert_eq!(format!("{pem:?}"), "PrivateKeyPem(redacted)");
    }

    #[test]
    fn a_compressed_point_is_the_same_key_as_an_uncompressed_one() {
        use openssl::bn::BigNumContext;
        use openssl::ec::{EcPoint, PointConversionForm};
        let private = KeyType::P256.generate().unwrap();
        let uncompressed = private.public_key_to_der().unwrap();
        let ec = private.ec_key().unwrap();
        let mut context = BigNumContext::new().unwrap();
        let bytes = ec
            .public_key()
            .to_bytes(ec.group(), PointConversionForm::COMPRESSED, &mut context)
            .unwrap();
        assert!(EcPoint::from_bytes(ec.group(), &bytes, &mut context).is_ok());
        // SubjectPublicKeyInfo (RFC 5480, section 2) with a point of 33 bytes instead of 65.
        let mut der = uncompressed[..uncompressed.len() - 65].to_vec();
        der[1] -= 32;
        let at = der.len() - 2;
        der[at] -= 32;
        der.extend(&bytes);
        let compressed = PKey::public_key_from_der(&der).unwrap();
        assert_eq!(compressed.public_key_to_der().unwrap(), der);
        let certified = to_certify(&compressed).unwrap().unwrap();
        assert_eq!(certified.public_key_to_der().unwrap(), uncompressed);
    }

    #[test]
    fn an_rsa_key_with_an_exponent_that_ring_refuses_is_not_certified() {
        use openssl::bn::BigNum;
        let modulus = Rsa::generate(2048).unwrap().n().to_owned().unwrap();
        let with_exponent = |exponent: &str| {
            let exponent = BigNum::from_dec_str(exponent).unwrap();
            let rsa = Rsa::from_public_components(modulus.to_owned().unwrap(), exponent).unwrap();
            to_certify(&PKey::from_rsa(rsa).unwrap()).unwrap().is_some()
        };
        for exponent in ["3", "65537", "8589934591"] {
            assert!(with_exponent(exponent), "{exponent}");
        }
        for exponent in ["1", "2", "65536", "8589934593"] {
            assert!(!with_exponent(exponent), "{exponent}");
        }
    }

    #[test]
    fn keys_that_peers_cannot_verify_do_not_sign() {
        let on_curve = |nid| {
            let group = EcGroup::from_curve_name(nid).unwrap();
            PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap()
        };
        assert!(can_sign(&on_curve(Nid::X9_62_PRIME256V1)));
        assert!(can_sign(&on_curve(Nid::SECP384R1)));
        assert!(!can_sign(&on_curve(Nid::SECP256K1)));
        assert!(!can_sign(&PKey::generate_ed25519().unwrap()));
        assert!(!can_sign(&PKey::from_rsa(Rsa::generate(1024).unwrap()).unwrap()));
    }
}

//! What the server and the client need to know of a certificate and of a revocation list, read from
//! DER.
//!
//! They come here with the certificate of a connection, whose chain TLS has verified already, and
//! with the lists of a home. Nothing is verified here: no signature, no date. The bytes are hostile
//! all the same; anything malformed answers `None`.

use x509_cert::Certificate;
use x509_cert::attr::AttributeTypeAndValue;
use x509_cert::crl::{CertificateList, RevokedCert};
use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::der::{Decode, Tag, Tagged};
use x509_cert::ext::Extension;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{
    AuthorityKeyIdentifier, CrlNumber, CrlReason, ExtendedKeyUsage, SubjectAltName,
};
use x509_cert::serial_number::SerialNumber as DerSerialNumber;
use x509_cert::time::Time;

use crate::{PeerName, SerialNumber};

/// id-at-commonName (RFC 5280, appendix A.1).
const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
/// id-kp-serverAuth (RFC 5280, section 4.2.1.12).
const SERVER_AUTH: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.1");
/// id-kp-clientAuth.
const CLIENT_AUTH: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.2");
/// anyExtendedKeyUsage.
const ANY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.37.0");
/// id-ce-cRLNumber (RFC 5280, section 5.2.3).
const CRL_NUMBER: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.20");
/// id-ce-cRLReasons (RFC 5280, section 5.3.1).
const CRL_REASON: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.21");
/// id-ce-authorityKeyIdentifier (RFC 5280, section 5.2.1).
const AUTHORITY_KEY_ID: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.35");

/// What a certificate says of its holder. Nothing of it has been verified.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CertificateFacts {
    /// The name of the peer: the first common name of the subject where that is a valid
    /// [`PeerName`], else the first DNS name among the alternative names where that is one.
    pub name: Option<PeerName>,
    /// The serial number.
    pub serial: SerialNumber,
    /// The first second in which it is valid, in seconds since the Unix epoch.
    pub not_before_secs: u64,
    /// The last second in which it is valid, in seconds since the Unix epoch.
    pub not_after_secs: u64,
    /// Whether the extended key usages name clientAuth and neither serverAuth nor
    /// anyExtendedKeyUsage. That is the certificate of an enrolled client.
    pub is_client_only: bool,
    /// The key identifier of the authority that issued it, where the certificate names one (RFC
    /// 5280, section 4.2.1.1).
    pub issuer_key_id: Option<Vec<u8>>,
}

impl CertificateFacts {
    /// Reads a certificate in DER.
    ///
    /// `None` where it is malformed. A negative serial number, an extension that occurs twice, and
    /// a date before 1970 count as malformed (RFC 5280, sections 4.1.2.2 and 4.2).
    #[must_use]
    pub fn from_der(certificate: &[u8]) -> Option<Self> {
        let certificate = Certificate::from_der(certificate).ok()?;
        let certificate = certificate.tbs_certificate();
        let usages = certificate.get_extension::<ExtendedKeyUsage>().ok()?;
        let usages = usages.map(|(_, usages)| usages.0).unwrap_or_default();
        let alt_names = certificate.get_extension::<SubjectAltName>().ok()?;
        let alt_names = alt_names.map(|(_, names)| names.0).unwrap_or_default();
        let issuer = certificate.get_extension::<AuthorityKeyIdentifier>().ok()?;

        let common_name =
            certificate.subject().iter().find(|attribute| attribute.oid == COMMON_NAME);
        Some(Self {
            name: common_name.and_then(peer_name).or_else(|| first_dns_name(&alt_names)),
            serial: serial_number(certificate.serial_number())?,
            not_before_secs: unix_secs(certificate.validity().not_before),
            not_after_secs: unix_secs(certificate.validity().not_after),
            is_client_only: usages.contains(&CLIENT_AUTH)
                && !usages.contains(&SERVER_AUTH)
                && !usages.contains(&ANY_USAGE),
            issuer_key_id: issuer.and_then(|(_, issuer)| key_id(issuer)),
        })
    }
}

/// Why a certificate was revoked (RFC 5280, section 5.3.1).
///
/// removeFromCRL is missing: it occurs in delta lists only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum RevocationReason {
    /// No reason is given. The default.
    #[default]
    Unspecified,
    /// Somebody else has, or may have, the private key.
    KeyCompromise,
    /// Somebody else has, or may have, the authority's private key.
    CaCompromise,
    /// The name or another part of the certificate is no longer true.
    AffiliationChanged,
    /// Another certificate replaces it.
    Superseded,
    /// It is not needed any more.
    CessationOfOperation,
    /// It is on hold.
    CertificateHold,
    /// A right that it states has been withdrawn.
    PrivilegeWithdrawn,
    /// Somebody else has, or may have, the key of an attribute authority.
    AaCompromise,
}

/// One entry of a revocation list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevokedCertificate {
    /// The serial number of the certificate. It is unique for its authority only.
    pub serial: SerialNumber,
    /// When it was revoked, in seconds since the Unix epoch.
    pub revoked_at_secs: u64,
    /// Why it was revoked.
    pub reason: RevocationReason,
}

/// What a revocation list says (RFC 5280, section 5). Nothing of it has been verified, its
/// signature neither.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RevocationList {
    /// The key identifier of the authority that signed it, where the list names one. It tells the
    /// lists of two authorities of one name apart.
    pub issuer_key_id: Option<Vec<u8>>,
    /// The number of the list, which grows with each list of an authority; `None` where there is
    /// none or it does not fit.
    pub number: Option<u64>,
    /// When it was issued, in seconds since the Unix epoch.
    pub this_update_secs: u64,
    /// When the next list is due, in seconds since the Unix epoch.
    pub next_update_secs: Option<u64>,
    /// The revoked certificates, in the order of the list.
    pub entries: Vec<RevokedCertificate>,
}

impl RevocationList {
    /// Reads a revocation list in DER.
    ///
    /// `None` where it is malformed, is of version 1, or says in a critical extension that it is
    /// not a complete list of one authority: a delta list, a list for some reasons or some kinds of
    /// certificates, an indirect list. RFC 5280, section 5.2, forbids using a list with a critical
    /// extension that the reader does not know.
    #[must_use]
    pub fn from_der(list: &[u8]) -> Option<Self> {
        let list = CertificateList::<x509_cert::certificate::Rfc5280>::from_der(list).ok()?;
        let list = list.tbs_cert_list;
        if list.version != x509_cert::Version::V2 {
            return None;
        }
        let extensions = list.crl_extensions.unwrap_or_default();
        if !knows_critical(&extensions, &[CRL_NUMBER, AUTHORITY_KEY_ID]) {
            return None;
        }
        let number = match extension::<CrlNumber>(&extensions, CRL_NUMBER)? {
            Some(number) => u64_of(number.0.as_bytes()),
            None => None,
        };
        let issuer = extension::<AuthorityKeyIdentifier>(&extensions, AUTHORITY_KEY_ID)?;
        let entries = list.revoked_certificates.unwrap_or_default();
        Some(Self {
            issuer_key_id: issuer.and_then(key_id),
            number,
            this_update_secs: unix_secs(list.this_update),
            next_update_secs: list.next_update.map(unix_secs),
            entries: entries.into_iter().map(revoked).collect::<Option<_>>()?,
        })
    }

    /// The entry of a certificate, if this list has one.
    #[must_use]
    pub fn entry(&self, serial: &SerialNumber) -> Option<&RevokedCertificate> {
        self.entries.iter().find(|entry| entry.serial == *serial)
    }
}

fn revoked(entry: RevokedCert) -> Option<RevokedCertificate> {
    let extensions = entry.crl_entry_extensions.unwrap_or_default();
    if !knows_critical(&extensions, &[CRL_REASON]) {
        return None;
    }
    let reason = match extension::<CrlReason>(&extensions, CRL_REASON)? {
        None | Some(CrlReason::Unspecified) => RevocationReason::Unspecified,
        Some(CrlReason::KeyCompromise) => RevocationReason::KeyCompromise,
        Some(CrlReason::CaCompromise) => RevocationReason::CaCompromise,
        Some(CrlReason::AffiliationChanged) => RevocationReason::AffiliationChanged,
        Some(CrlReason::Superseded) => RevocationReason::Superseded,
        Some(CrlReason::CessationOfOperation) => RevocationReason::CessationOfOperation,
        Some(CrlReason::CertificateHold) => RevocationReason::CertificateHold,
        Some(CrlReason::PrivilegeWithdrawn) => RevocationReason::PrivilegeWithdrawn,
        Some(CrlReason::AaCompromise) => RevocationReason::AaCompromise,
        Some(CrlReason::RemoveFromCRL) => return None,
    };
    Some(RevokedCertificate {
        serial: serial_number(&entry.serial_number)?,
        revoked_at_secs: unix_secs(entry.revocation_date),
        reason,
    })
}

/// The extension of this identifier, decoded; `None` where it is malformed or occurs twice.
fn extension<'a, T: Decode<'a>>(
    extensions: &'a [Extension],
    identifier: ObjectIdentifier,
) -> Option<Option<T>> {
    let mut found = extensions.iter().filter(|extension| extension.extn_id == identifier);
    let Some(first) = found.next() else { return Some(None) };
    if found.next().is_some() {
        return None;
    }
    T::from_der(first.extn_value.as_bytes()).ok().map(Some)
}

fn knows_critical(extensions: &[Extension], known: &[ObjectIdentifier]) -> bool {
    extensions.iter().all(|extension| !extension.critical || known.contains(&extension.extn_id))
}

/// The attribute's text as the name of a peer. Peer names are ASCII, which all of these types
/// write in the same bytes.
fn peer_name(attribute: &AttributeTypeAndValue) -> Option<PeerName> {
    match attribute.value.tag() {
        Tag::Utf8String | Tag::PrintableString | Tag::TeletexString | Tag::Ia5String => {}
        _ => return None,
    }
    PeerName::parse(std::str::from_utf8(attribute.value.value()).ok()?).ok()
}

fn first_dns_name(names: &[GeneralName]) -> Option<PeerName> {
    let first = names.iter().find_map(|name| match name {
        GeneralName::DnsName(name) => Some(name),
        _ => None,
    })?;
    PeerName::parse(first.as_str()).ok()
}

/// A serial number, unless it is negative: its bytes are in two's complement.
fn serial_number(serial: &DerSerialNumber) -> Option<SerialNumber> {
    let bytes = serial.as_bytes();
    match bytes.first() {
        Some(first) if *first < 0x80 => SerialNumber::from_be_bytes(bytes).ok(),
        _ => None,
    }
}

fn key_id(identifier: AuthorityKeyIdentifier) -> Option<Vec<u8>> {
    identifier.key_identifier.map(|identifier| identifier.as_bytes().to_vec())
}

fn unix_secs(time: Time) -> u64 {
    time.to_unix_duration().as_secs()
}

/// The value of big-endian bytes, where it fits.
fn u64_of(bytes: &[u8]) -> Option<u64> {
    bytes
        .iter()
        .try_fold(0_u64, |value, byte| value.checked_mul(256)?.checked_add(u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    // Made by the openssl program: `tests/x509/README.md` says how.
    const AUTHORITY: &[u8] = include_bytes!("../tests/x509/authority.der");
    const CLIENT: &[u8] = include_bytes!("../tests/x509/client.der");
    const SERVER_AND_CLIENT: &[u8] = include_bytes!("../tests/x509/server_and_client.der");
    const ANY_USAGE: &[u8] = include_bytes!("../tests/x509/any_usage.der");
    const LIST: &[u8] = include_bytes!("../tests/x509/list.der");
    const LIST_EMPTY: &[u8] = include_bytes!("../tests/x509/list_empty.der");
    const LIST_FOR_SOME: &[u8] = include_bytes!("../tests/x509/list_for_some.der");

    const KEY_ID: [u8; 20] = [
        0xd2, 0xfe, 0x9c, 0x5a, 0x88, 0x45, 0x49, 0xda, 0xf8, 0x7f, 0x0e, 0x39, 0x18, 0x7d, 0x60,
        0x0b, 0xf6, 0xcd, 0x87, 0x1c,
    ];

    fn facts(certificate: &[u8]) -> CertificateFacts {
        CertificateFacts::from_der(certificate).unwrap()
    }

    fn name(certificate: &[u8]) -> Option<String> {
        facts(certificate).name.map(|name| name.to_string())
    }

    /// The same bytes with one run of them replaced by another of the same length.
    fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
        let places: Vec<usize> =
            (0..=bytes.len() - from.len()).filter(|at| bytes[*at..].starts_with(from)).collect();
        assert_eq!((places.len(), from.len()), (1, to.len()), "the bytes occur once");
        let mut replaced = bytes.to_vec();
        replaced[places[0]..places[0] + to.len()].copy_from_slice(to);
        replaced
    }

    #[test]
    fn a_client_certificate_is_read() {
        let facts = facts(CLIENT);
        assert_eq!(facts.name, Some("worker1".parse().unwrap()));
        assert_eq!(facts.serial.to_string(), "ff01");
        assert_eq!(facts.not_before_secs, 1_795_824_135);
        assert_eq!(facts.not_after_secs, 1_827_360_135);
        assert!(facts.is_client_only);
        assert_eq!(facts.issuer_key_id.as_deref(), Some(&KEY_ID[..]));
    }

    #[test]
    fn without_a_valid_common_name_the_first_dns_name_is_the_peers() {
        assert_eq!(name(SERVER_AND_CLIENT).as_deref(), Some("first.example"));
        assert_eq!(name(ANY_USAGE), None, "the first is a wildcard");
        assert_eq!(name(AUTHORITY), None, "the name is reserved");
    }

    #[test]
    fn only_client_auth_alone_is_client_only() {
        assert!(!facts(SERVER_AND_CLIENT).is_client_only);
        assert!(!facts(ANY_USAGE).is_client_only);
        assert!(!facts(AUTHORITY).is_client_only, "no extended key usage is no limit");
    }

    #[test]
    fn a_serial_number_of_20_bytes_is_read_and_a_negative_one_is_refused() {
        let serial = "0123456789abcdef0123456789abcdef01234567";
        assert_eq!(facts(SERVER_AND_CLIENT).serial.to_string(), serial);
        let positive = [0x02, 0x14, 0x01, 0x23, 0x45];
        let negative = [0x02, 0x14, 0x81, 0x23, 0x45];
        let certificate = replaced(SERVER_AND_CLIENT, &positive, &negative);
        assert_eq!(CertificateFacts::from_der(&certificate), None);
    }

    #[test]
    fn a_name_with_a_nul_or_a_path_is_nobodys() {
        for hostile in [&b"worke\0a"[..], b"../../a", b"worker\xff", b"w rker1"] {
            // The common name; the same name stands among the alternative names.
            let subject = [&[0x0c, 7][..], b"worker1"].concat();
            let altered = replaced(CLIENT, &subject, &[&[0x0c, 7], hostile].concat());
            let facts = CertificateFacts::from_der(&altered);
            assert!(
                facts.is_none_or(|facts| facts.name == Some("worker1".parse().unwrap())),
                "{hostile:?}: the alternative name, or malformed"
            );
        }
    }

    #[test]
    fn a_revocation_list_is_read() {
        let list = RevocationList::from_der(LIST).unwrap();
        assert_eq!(list.issuer_key_id.as_deref(), Some(&KEY_ID[..]));
        assert_eq!(list.number, Some(0x0102));
        assert_eq!(list.this_update_secs, 1_795_824_135);
        assert_eq!(list.next_update_secs, Some(2_111_184_135));
        let entries: Vec<(String, u64, RevocationReason)> = list
            .entries
            .iter()
            .map(|entry| (entry.serial.to_string(), entry.revoked_at_secs, entry.reason))
            .collect();
        assert_eq!(
            entries,
            [
                ("07".to_owned(), 1_767_323_046, RevocationReason::Unspecified),
                ("ff01".to_owned(), 1_767_323_045, RevocationReason::KeyCompromise),
                (
                    "0123456789abcdef0123456789abcdef01234567".to_owned(),
                    1_767_323_047,
                    RevocationReason::Superseded
                ),
            ]
        );
        assert_eq!(list.entry(&facts(CLIENT).serial), Some(&list.entries[1]));
        assert_eq!(list.entry(&"ff".parse().unwrap()), None);
    }

    #[test]
    fn an_empty_list_is_read() {
        let list = RevocationList::from_der(LIST_EMPTY).unwrap();
        assert!(list.entries.is_empty());
        assert!(list.number.is_some());
    }

    #[test]
    fn a_list_for_some_certificates_only_is_refused() {
        assert_eq!(RevocationList::from_der(LIST_FOR_SOME), None);
        let remove_from_crl = replaced(
            LIST,
            &[0x55, 0x1d, 0x15, 4, 3, 10, 1, 1],
            &[0x55, 0x1d, 0x15, 4, 3, 10, 1, 8],
        );
        assert_eq!(RevocationList::from_der(&remove_from_crl), None);
    }

    #[test]
    fn a_number_that_does_not_fit_is_none() {
        assert_eq!(u64_of(&[0xff; 8]), Some(u64::MAX));
        assert_eq!(u64_of(&[1, 0, 0, 0, 0, 0, 0, 0, 0]), None);
        assert_eq!(u64_of(&[]), Some(0));
    }

    #[test]
    fn one_is_not_taken_for_the_other() {
        assert_eq!(RevocationList::from_der(CLIENT), None);
        assert_eq!(CertificateFacts::from_der(LIST), None);
    }

    #[test]
    fn truncated_and_altered_bytes_do_not_panic() {
        for whole in [AUTHORITY, CLIENT, SERVER_AND_CLIENT, ANY_USAGE, LIST, LIST_EMPTY] {
            for end in 0..whole.len() {
                assert_eq!(CertificateFacts::from_der(&whole[..end]), None, "{end}");
                assert_eq!(RevocationList::from_der(&whole[..end]), None, "{end}");
            }
            let trailing = [whole, &[0]].concat();
            assert_eq!(CertificateFacts::from_der(&trailing), None);
            assert_eq!(RevocationList::from_der(&trailing), None);
            for index in 0..whole.len() {
                for value in [0x00, 0x01, 0x30, 0x7f, 0x80, 0x82, 0x84, 0xa3, 0xff] {
                    let mut altered = whole.to_vec();
                    altered[index] = value;
                    let _ = CertificateFacts::from_der(&altered);
                    let _ = RevocationList::from_der(&altered);
                }
            }
        }
    }
}

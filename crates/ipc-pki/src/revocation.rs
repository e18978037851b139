//! Revocation lists (RFC 5280, section 5): which certificates of an authority are no longer good.
//!
//! The authority's home comes here to write its list and to read it back before the next one. Which
//! certificates to revoke is decided elsewhere. What a list says is read by `ipc-base`, without
//! OpenSSL, since servers read lists too.

use std::collections::HashSet;
use std::error::Error as StdError;

use ipc_base::{RevocationList, RevocationReason, RevokedCertificate};
use openssl::bn::BigNum;
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::x509::extension::{AuthorityKeyIdentifier, CrlNumber};
use openssl::x509::{X509, X509Crl, X509CrlBuilder, X509KeyUsage, X509Revoked, X509RevokedBuilder};
use thiserror::Error;

use crate::authority::Authority;
use crate::x509::{self, BACKDATED_SECS};
use crate::{der, key};

const BEGIN: &[u8] = b"-----BEGIN X509 CRL-----";
const END: &[u8] = b"-----END X509 CRL-----";

/// Why no revocation list was made.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RevokeError {
    /// The next list would be due before this one is issued.
    #[error("the next revocation list would be due before this one")]
    NextUpdate,
    /// The authority's certificate does not allow signing lists: no key usage cRLSign.
    #[error("the CA certificate does not allow signing revocation lists")]
    NotAListSigner,
    /// OpenSSL failed: no memory.
    #[error("OpenSSL could not make the revocation list")]
    OpenSsl {
        /// What OpenSSL reports.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
}

/// Why revocation lists cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ListError {
    /// The file holds no list. An authority that has revoked nothing may have an empty list or no
    /// file, but never an empty file.
    #[error("there is no revocation list in the file")]
    NoList,
    /// A list in the file is damaged.
    #[error("revocation list {number} of the file is not a PEM revocation list, or is damaged")]
    Malformed {
        /// Which one, counted from 1.
        number: usize,
    },
    /// A list in the file is not a complete list of one authority: a delta list, or one for some
    /// certificates only.
    #[error("revocation list {number} of the file is not a complete list of version 2")]
    Unsupported {
        /// Which one, counted from 1.
        number: usize,
    },
}

impl Authority {
    /// Signs a revocation list and returns it as PEM: version 2, with the authority's key
    /// identifier and `number`.
    ///
    /// `number` must grow from list to list (RFC 5280, section 5.2.3). `entries` are all
    /// certificates of this authority that are revoked; of several entries with one serial number
    /// the first counts. The list is issued [`BACKDATED_SECS`] before `now_secs`, so that a peer
    /// whose clock is a little slow accepts it. The next list is due at `next_update_secs`; both
    /// are in seconds since the Unix epoch.
    ///
    /// rustls matches a list to an authority by its name alone. A verifier that trusts two
    /// authorities of one name therefore needs a rustls verifier for each, with the list of that
    /// authority only. OpenSSL looks at the key identifier and takes both lists.
    ///
    /// # Errors
    /// [`RevokeError`].
    pub fn revocation_list(
        &self,
        entries: &[RevokedCertificate],
        number: u64,
        now_secs: u64,
        next_update_secs: u64,
    ) -> Result<Vec<u8>, RevokeError> {
        if next_update_secs <= now_secs {
            return Err(RevokeError::NextUpdate);
        }
        // Without key usages everything is allowed, but then `load` takes no authority in.
        if !self.certificate.key_usage().is_some_and(|usage| usage.contains(X509KeyUsage::CRL_SIGN))
        {
            return Err(RevokeError::NotAListSigner);
        }
        self.sign_list(entries, number, now_secs, next_update_secs)
            .and_then(|list| list.to_pem())
            .map_err(|source| RevokeError::OpenSsl { source: source.into() })
    }

    fn sign_list(
        &self,
        entries: &[RevokedCertificate],
        number: u64,
        now_secs: u64,
        next_update_secs: u64,
    ) -> Result<X509Crl, ErrorStack> {
        let mut builder = X509CrlBuilder::new()?;
        builder.set_issuer_name(self.certificate.subject_name())?;
        builder.set_last_update(x509::time(now_secs.saturating_sub(BACKDATED_SECS))?.as_ref())?;
        builder.set_next_update(x509::time(next_update_secs)?.as_ref())?;
        // Only the context of a certificate names an issuer, and only the issuer counts here.
        let context = X509::builder()?;
        let context = context.x509v3_context(Some(&self.certificate), None);
        builder.append_extension(AuthorityKeyIdentifier::new().keyid(true).build(&context)?)?;
        builder.append_extension(
            CrlNumber::new(BigNum::from_slice(&number.to_be_bytes())?)?.build()?,
        )?;
        let mut seen = HashSet::new();
        for entry in entries.iter().filter(|entry| seen.insert(&entry.serial)) {
            builder.add_revoked(revoked(entry)?)?;
        }
        builder.sign(&self.key, MessageDigest::sha256())?;
        builder.build()
    }

    /// This authority's own list among those of a PEM file, with its signature verified; of several
    /// the one with the highest number. `None` where it signed none of them.
    ///
    /// # Errors
    /// [`ListError`] where one of the lists cannot be read, whoever signed it.
    pub fn own_revocation_list(&self, pem: &[u8]) -> Result<Option<RevocationList>, ListError> {
        let mut own = None;
        for list in read_all(pem)? {
            let (signed, said) = list;
            let newest: Option<&RevocationList> = own.as_ref();
            if signed.verify(&self.key).unwrap_or(false)
                && newest.is_none_or(|newest| newest.number < said.number)
            {
                own = Some(said);
            }
        }
        Ok(own)
    }
}

/// What every list of a PEM file says, in the order of the file. Whatever stands between the lists
/// is ignored. No signature is verified: [`Authority::own_revocation_list`] does that.
///
/// # Errors
/// [`ListError`]; a file without a list is an error, since it would revoke nothing unseen.
pub fn revocation_lists_from_pem(pem: &[u8]) -> Result<Vec<RevocationList>, ListError> {
    Ok(read_all(pem)?.into_iter().map(|(_, said)| said).collect())
}

fn read_all(pem: &[u8]) -> Result<Vec<(X509Crl, RevocationList)>, ListError> {
    let mut lists = Vec::new();
    let mut rest = pem;
    while let Some(at) = find(rest, BEGIN) {
        let number = lists.len() + 1;
        let malformed = ListError::Malformed { number };
        let list = &rest[at..];
        let Some(end) = find(list, END) else { return Err(malformed) };
        let (list, behind) = list.split_at(end + END.len());
        rest = behind;
        // OpenSSL would ask for the passphrase of an encrypted block on the terminal.
        if key::is_encrypted(list) {
            return Err(malformed);
        }
        let Ok(signed) = X509Crl::from_pem(list) else { return Err(malformed) };
        let Ok(der) = signed.to_der() else { return Err(malformed) };
        let said = RevocationList::from_der(&der).ok_or(ListError::Unsupported { number })?;
        lists.push((signed, said));
    }
    if lists.is_empty() { Err(ListError::NoList) } else { Ok(lists) }
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

/// One entry. The openssl crate has no call for the extension with the reason, so it is appended in
/// DER.
fn revoked(entry: &RevokedCertificate) -> Result<X509Revoked, ErrorStack> {
    let mut builder = X509RevokedBuilder::new()?;
    builder.set_serial_number(x509::to_asn1(&entry.serial)?.as_ref())?;
    builder.set_revocation_date(x509::time(entry.revoked_at_secs)?.as_ref())?;
    let plain = builder.build();
    match reason_code(entry.reason) {
        None => Ok(plain),
        Some(code) => X509Revoked::from_der(&der::with_reason(&plain.to_der()?, code)),
    }
}

/// The CRLReason (RFC 5280, section 5.3.1). "Unspecified" is said by leaving the extension out, as
/// that section asks for.
fn reason_code(reason: RevocationReason) -> Option<u8> {
    match reason {
        RevocationReason::KeyCompromise => Some(1),
        RevocationReason::CaCompromise => Some(2),
        RevocationReason::AffiliationChanged => Some(3),
        RevocationReason::Superseded => Some(4),
        RevocationReason::CessationOfOperation => Some(5),
        RevocationReason::CertificateHold => Some(6),
        RevocationReason::PrivilegeWithdrawn => Some(9),
        RevocationReason::AaCompromise => Some(10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::AuthorityOptions;
    use openssl::x509::{CrlStatus, ReasonCode};

    const NOW_SECS: u64 = 1_750_000_000;
    const LATER_SECS: u64 = NOW_SECS + 3_650 * 86_400;

    fn authority() -> Authority {
        Authority::create(&AuthorityOptions::default(), NOW_SECS).unwrap()
    }

    fn entry(serial: &str, reason: RevocationReason) -> RevokedCertificate {
        RevokedCertificate {
            serial: serial.parse().unwrap(),
            revoked_at_secs: NOW_SECS - 7,
            reason,
        }
    }

    const REASONS: [RevocationReason; 9] = [
        RevocationReason::Unspecified,
        RevocationReason::KeyCompromise,
        RevocationReason::CaCompromise,
        RevocationReason::AffiliationChanged,
        RevocationReason::Superseded,
        RevocationReason::CessationOfOperation,
        RevocationReason::CertificateHold,
        RevocationReason::PrivilegeWithdrawn,
        RevocationReason::AaCompromise,
    ];

    fn list(authority: &Authority, entries: &[RevokedCertificate], number: u64) -> Vec<u8> {
        authority.revocation_list(entries, number, NOW_SECS, LATER_SECS).unwrap()
    }

    #[test]
    fn a_list_reads_back_as_it_was_written() {
        let authority = authority();
        let serials = ["01", "7f", "80", "ff01", "0123456789abcdef0123456789abcdefffffffff"];
        let entries: Vec<RevokedCertificate> = serials
            .iter()
            .enumerate()
            .flat_map(|(index, serial)| {
                REASONS.into_iter().enumerate().map(move |(number, reason)| {
                    entry(&format!("{index:02x}{number:02x}{}", &serial[..2]), reason)
                })
            })
            .chain([entry(serials[4], RevocationReason::KeyCompromise)])
            .collect();
        let lists = revocation_lists_from_pem(&list(&authority, &entries, u64::MAX)).unwrap();
        assert_eq!(lists.len(), 1);
        assert_eq!(lists[0].entries, entries);
        assert_eq!(lists[0].number, Some(u64::MAX));
        assert_eq!(lists[0].issuer_key_id.as_deref(), Some(authority.key_id()));
        assert_eq!(lists[0].this_update_secs, NOW_SECS - 300);
        assert_eq!(lists[0].next_update_secs, Some(LATER_SECS));
    }

    #[test]
    fn openssl_reads_the_same_and_verifies_the_signature() {
        let authority = authority();
        let entries = [
            entry("0a", RevocationReason::KeyCompromise),
            entry("0b", RevocationReason::Unspecified),
        ];
        let list = X509Crl::from_pem(&list(&authority, &entries, 258)).unwrap();
        assert!(list.verify(&authority.key).unwrap());
        assert!(!list.verify(&self::authority().key).unwrap());
        let (critical, number) = list.extension::<CrlNumber>().unwrap().unwrap();
        assert!(!critical);
        assert_eq!(number.to_bn().unwrap().to_dec_str().unwrap().to_string(), "258");
        let status = |serial: &str| {
            let serial = x509::to_asn1(&serial.parse().unwrap()).unwrap();
            match list.get_by_serial(&serial) {
                CrlStatus::Revoked(revoked) => Some(
                    revoked
                        .extension::<ReasonCode>()
                        .unwrap()
                        .map(|(critical, reason)| (critical, reason.get_i64().unwrap())),
                ),
                _ => None,
            }
        };
        assert_eq!(status("0a"), Some(Some((false, 1))));
        assert_eq!(status("0b"), Some(None));
        assert_eq!(status("0c"), None);
    }

    #[test]
    fn an_empty_list_is_a_list() {
        let authority = authority();
        let lists = revocation_lists_from_pem(&list(&authority, &[], 0)).unwrap();
        assert_eq!((lists[0].entries.len(), lists[0].number), (0, Some(0)));
        let list = X509Crl::from_pem(&list(&authority, &[], 0)).unwrap();
        assert!(list.get_revoked().is_none(), "absent, not empty (RFC 5280, section 5.1.2.6)");
        assert!(list.verify(&authority.key).unwrap());
    }

    #[test]
    fn a_certificate_is_listed_once_as_it_was_first_revoked() {
        let authority = authority();
        let entries = [
            entry("0a", RevocationReason::KeyCompromise),
            entry("0a", RevocationReason::Superseded),
        ];
        let lists = revocation_lists_from_pem(&list(&authority, &entries, 1)).unwrap();
        assert_eq!(lists[0].entries, entries[..1]);
    }

    #[test]
    fn an_authority_finds_its_own_newest_list_among_others_and_only_if_it_signed_it() {
        let (new, old) = (authority(), authority());
        let revoked = |serial| [entry(serial, RevocationReason::Unspecified)];
        let first = list(&old, &revoked("01"), 1);
        let second = list(&old, &revoked("02"), 2);
        let other = list(&new, &revoked("03"), 9);
        let text = b"a remark\n".to_vec();
        let file = [&text, &second, &text, &other, &first].map(Vec::as_slice).concat();
        assert_eq!(revocation_lists_from_pem(&file).unwrap().len(), 3);
        let own = |authority: &Authority| authority.own_revocation_list(&file).unwrap().unwrap();
        assert_eq!(own(&old).entries, revoked("02"));
        assert_eq!(own(&new).entries, revoked("03"));
        assert_eq!(authority().own_revocation_list(&file), Ok(None));
    }

    #[test]
    fn a_file_without_a_list_and_a_damaged_list_are_refused() {
        let authority = authority();
        let good = list(&authority, &[entry("01", RevocationReason::Unspecified)], 1);
        for empty in [&b""[..], b"text", authority.certificate_pem()] {
            assert_eq!(revocation_lists_from_pem(empty), Err(ListError::NoList));
        }
        for damaged in [&good[..good.len() - 10], &[BEGIN, b"\nAAEC\n", END].concat()[..]] {
            assert_eq!(revocation_lists_from_pem(damaged), Err(ListError::Malformed { number: 1 }));
            assert_eq!(
                revocation_lists_from_pem(&[&good, damaged].concat()),
                Err(ListError::Malformed { number: 2 })
            );
        }
        let text = String::from_utf8(good).unwrap();
        let encrypted = text.replacen(
            "CRL-----\n",
            "CRL-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,000102030405060708090A0B0C0D0E0F\n\n",
            1,
        );
        assert_eq!(
            revocation_lists_from_pem(encrypted.as_bytes()),
            Err(ListError::Malformed { number: 1 })
        );
    }

    #[test]
    fn a_list_that_was_due_before_it_was_issued_is_refused() {
        for next_update_secs in [0, NOW_SECS] {
            let error = authority().revocation_list(&[], 1, NOW_SECS, next_update_secs);
            assert!(matches!(error, Err(RevokeError::NextUpdate)));
        }
        let far = authority().revocation_list(&[], 1, NOW_SECS, u64::MAX).unwrap();
        let lists = revocation_lists_from_pem(&far).unwrap();
        assert_eq!(lists[0].next_update_secs, Some(x509::TIME_SECS_MAX));
    }

    #[test]
    fn an_authority_that_may_not_sign_lists_signs_none() {
        let authority = authority();
        let mut builder = x509::start(NOW_SECS, LATER_SECS).unwrap();
        builder.set_subject_name(authority.certificate.subject_name()).unwrap();
        builder.set_issuer_name(authority.certificate.subject_name()).unwrap();
        builder.set_pubkey(&authority.key).unwrap();
        use openssl::x509::extension::{BasicConstraints, KeyUsage, SubjectKeyIdentifier};
        builder.append_extension(BasicConstraints::new().critical().ca().build().unwrap()).unwrap();
        builder.append_extension(KeyUsage::new().key_cert_sign().build().unwrap()).unwrap();
        let identifier =
            SubjectKeyIdentifier::new().build(&builder.x509v3_context(None, None)).unwrap();
        builder.append_extension(identifier).unwrap();
        builder.sign(&authority.key, MessageDigest::sha256()).unwrap();
        let certificate = builder.build().to_pem().unwrap();
        let loaded = Authority::load(&certificate, authority.private_key_pem().as_bytes()).unwrap();
        let error = loaded.revocation_list(&[], 1, NOW_SECS, LATER_SECS).unwrap_err();
        assert!(matches!(error, RevokeError::NotAListSigner));
    }
}

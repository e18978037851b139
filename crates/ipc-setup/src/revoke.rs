//! Revokes certificates: writes the revocation list of the home's authority.
//!
//! The command line comes here with a name or a serial number, and so does an enrolment that is
//! cancelled or has been renewed. A list only grows, but for certificates that have expired; it is
//! replaced as one file, so a run that was killed has revoked everything or nothing.

use ipc_home::{FILE_BYTES_MAX, Home, HomeError, read_public, read_secret};
use ipc_pki::{Authority, RevocationReason, RevokedCertificate, SerialNumber};

use crate::certificates::{CertificateKind, CertificateList, ListedCertificate, list_certificates};
use crate::lock::Lock;
use crate::provision::{exists, load_authority};
use crate::{SetupError, files, node, pem};

/// How long a list is valid, in seconds: ten years. It is replaced when something is revoked, not
/// when time has passed.
const LIST_VALIDITY_SECS: u64 = 3_650 * 86_400;

/// A serial number that can be revoked although no file here has it: all 16 bytes. A shorter one is
/// rather a mistyped name.
const SERIAL_BYTES: usize = 16;

/// A certificate that is revoked now.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Revoked {
    /// The certificate; `None` where no file of the home has the serial number.
    pub certificate: Option<ListedCertificate>,
    /// Its serial number.
    pub serial: SerialNumber,
    /// Whether it was revoked before.
    pub was_revoked: bool,
}

/// Revokes every certificate of a name, or the one with a serial number, and writes
/// `web-ipc-ca.crl`.
///
/// A name wins over a serial number that is spelled the same. A serial number of 16 bytes that no
/// file here has is revoked too: its certificate may have been moved to another host.
///
/// # Errors
/// [`SetupError::UnknownCertificate`], [`SetupError::IssuedElsewhere`],
/// [`SetupError::RevocationListFull`], [`SetupError::Revoke`];
/// [`HomeError::BadRevocationList`] for a list that cannot be read, which is never made anew;
/// [`SetupError::BadAuthority`]; and what is wrong with the home.
pub fn revoke_certificates(
    home: &Home,
    name_or_serial: &str,
    reason: RevocationReason,
    now_secs: u64,
) -> Result<Vec<Revoked>, SetupError> {
    let _lock = Lock::of_complete(home)?;
    node::refuse(home)?;
    let list = list_certificates(home)?;
    let leaves = || list.certificates.iter().filter(|one| one.kind != CertificateKind::Authority);
    let mut found: Vec<_> =
        leaves().filter(|one| one.name.eq_ignore_ascii_case(name_or_serial)).collect();
    let serial = name_or_serial.parse::<SerialNumber>().ok();
    if found.is_empty() {
        found = leaves().filter(|one| Some(&one.serial) == serial.as_ref()).collect();
    }
    if !found.is_empty() {
        revoke(home, &list, &found, reason, now_secs)?;
        return Ok(found
            .into_iter()
            .map(|one| Revoked {
                certificate: Some(one.clone()),
                serial: one.serial.clone(),
                was_revoked: one.revoked_at_secs.is_some(),
            })
            .collect());
    }
    let unknown = || SetupError::UnknownCertificate { name: name_or_serial.to_owned() };
    let serial = serial.filter(|serial| serial.as_be_bytes().len() == SERIAL_BYTES);
    let serial = serial.ok_or_else(unknown)?;
    let authority = load_authority(home)?;
    let was_revoked = !add(home, &authority, &list, vec![serial.clone()], reason, now_secs)?;
    Ok(vec![Revoked { certificate: None, serial, was_revoked }])
}

/// Revokes those of `certificates` that are not, each in the list of its authority. Only for the
/// holder of the lock.
pub(crate) fn revoke(
    home: &Home,
    list: &CertificateList,
    certificates: &[&ListedCertificate],
    reason: RevocationReason,
    now_secs: u64,
) -> Result<(), SetupError> {
    let authorities = load_authorities(home)?;
    let of = |one: &ListedCertificate| {
        let key_id = one.issuer_key_id.as_deref();
        authorities.iter().position(|authority| Some(authority.key_id()) == key_id)
    };
    // Asked of all before anything is written. What was issued here by an authority that has been
    // dropped since is trusted by nobody.
    let issued_dir = home.issued_dir();
    let is_foreign =
        |one: &&&ListedCertificate| of(one).is_none() && !one.file.starts_with(&issued_dir);
    if let Some(foreign) = certificates.iter().find(is_foreign) {
        return Err(SetupError::IssuedElsewhere { name: foreign.name.clone() });
    }
    for (index, authority) in authorities.iter().enumerate() {
        let of_this = certificates.iter().filter(|one| of(one) == Some(index));
        let serials: Vec<_> = of_this.map(|one| one.serial.clone()).collect();
        add(home, authority, list, serials, reason, now_secs)?;
    }
    Ok(())
}

/// The authority that issues, then the one that it replaces, where its key is still here.
fn load_authorities(home: &Home) -> Result<Vec<Authority>, SetupError> {
    let mut authorities = vec![load_authority(home)?];
    let path = home.old_ca_key_file();
    if exists(&path)? {
        let certificates = read_public(&home.ca_certificate_file())?;
        let old = Authority::load(&certificates, &read_secret(&path)?);
        authorities.push(old.map_err(|source| SetupError::BadAuthority { path, source })?);
    }
    Ok(authorities)
}

/// Adds serial numbers to the list of an authority, and says whether there was anything to add.
fn add(
    home: &Home,
    authority: &Authority,
    listed: &CertificateList,
    serials: Vec<SerialNumber>,
    reason: RevocationReason,
    now_secs: u64,
) -> Result<bool, SetupError> {
    let path = home.revocation_list_file();
    let bad = || SetupError::Home(HomeError::BadRevocationList { path: path.clone() });
    let before = match read_public(&path) {
        Ok(pem) => Some(pem),
        Err(HomeError::FileMissing { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    let own = match &before {
        Some(pem) => authority.own_revocation_list(pem).map_err(|_| bad())?,
        None => None,
    };
    let number = own.as_ref().and_then(|list| list.number).unwrap_or(0);
    let mut entries = own.map(|list| list.entries).unwrap_or_default();
    let new: Vec<_> = serials
        .into_iter()
        .filter(|serial| !entries.iter().any(|entry| entry.serial == *serial))
        .map(|serial| RevokedCertificate { serial, revoked_at_secs: now_secs, reason })
        .collect();
    if new.is_empty() {
        return Ok(false);
    }
    // Expired ones need no entry (RFC 5280, section 3.3), so that a list does not grow for ever.
    let expired = listed.expired(now_secs);
    entries.retain(|entry| !expired.contains(&entry.serial));
    entries.extend(new);
    let mut file = authority
        .revocation_list(&entries, number + 1, now_secs, now_secs + LIST_VALIDITY_SECS)
        .map_err(|source| SetupError::Revoke { source })?;
    let before = before.unwrap_or_default();
    for other in pem::blocks(&before, pem::REVOCATION_LIST) {
        if authority.own_revocation_list(other).map_err(|_| bad())?.is_none() {
            file.extend(pem::joined([other]));
        }
    }
    // A server could not read it: nothing at all would be revoked.
    if file.len() as u64 > FILE_BYTES_MAX {
        return Err(SetupError::RevocationListFull { path });
    }
    files::write(&path, &file)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use ipc_base::Remedy;
    use ipc_pki::{AuthorityOptions, revocation_lists_from_pem};

    use super::*;
    use crate::files::kills;
    use crate::testing::new_home;
    use crate::{CertificateRequest, InitOptions, issue_certificate};

    fn now_secs() -> u64 {
        InitOptions::now().now_secs
    }

    fn revoke_now(home: &Home, which: &str) -> Result<Vec<Revoked>, SetupError> {
        revoke_certificates(home, which, RevocationReason::Unspecified, now_secs())
    }

    fn with_peer() -> (tempfile::TempDir, Home) {
        let (directory, home) = new_home();
        issue_certificate(&home, &CertificateRequest::new("peer1", now_secs())).unwrap();
        (directory, home)
    }

    fn serial_of(home: &Home, name: &str) -> SerialNumber {
        let list = list_certificates(home).unwrap();
        list.certificates.into_iter().find(|one| one.name == name).unwrap().serial
    }

    /// The number of the only list, and how many entries it has.
    fn list(home: &Home) -> (Option<u64>, usize) {
        let lists = revocation_lists_from_pem(&std::fs::read(home.revocation_list_file()).unwrap())
            .unwrap();
        assert_eq!((lists.len(), home.revocation_lists().unwrap().len()), (1, 1));
        (lists[0].number, lists[0].entries.len())
    }

    #[test]
    fn a_name_in_any_case_or_a_serial_number_revokes_once() {
        let (_directory, home) = with_peer();
        let revoked = revoke_now(&home, "PEER1").unwrap();
        assert_eq!(revoked.len(), 1);
        assert_eq!(revoked[0].serial, serial_of(&home, "peer1"));
        assert!(!revoked[0].was_revoked);
        assert_eq!(list(&home), (Some(1), 1));
        let listed = list_certificates(&home).unwrap();
        let names: Vec<_> = listed
            .certificates
            .iter()
            .filter(|one| one.revoked_at_secs.is_some())
            .map(|one| one.name.as_str())
            .collect();
        assert_eq!(names, ["peer1"]);

        assert!(revoke_now(&home, "peer1").unwrap()[0].was_revoked);
        assert_eq!(list(&home), (Some(1), 1));
        let serial = serial_of(&home, "localhost").to_string().to_uppercase();
        assert!(!revoke_now(&home, &serial).unwrap()[0].was_revoked);
        assert_eq!(list(&home), (Some(2), 2));
    }

    #[test]
    fn a_whole_serial_number_is_revoked_although_no_file_has_it() {
        let (_directory, home) = new_home();
        let serial = "7f".repeat(16);
        let revoked = revoke_now(&home, &serial).unwrap();
        assert_eq!((revoked[0].certificate.clone(), revoked[0].was_revoked), (None, false));
        assert!(revoke_now(&home, &serial).unwrap()[0].was_revoked);
        assert_eq!(list(&home), (Some(1), 1));
    }

    #[test]
    fn what_is_neither_a_name_nor_a_serial_number_here_is_refused_and_so_is_the_authority() {
        let (_directory, home) = new_home();
        for which in ["peer1", "", "abcd", "web-ipc-ca", "a b"] {
            let error = revoke_now(&home, which).unwrap_err();
            assert!(matches!(error, SetupError::UnknownCertificate { .. }), "{which}: {error:?}");
            assert_eq!(error.remedy(), Some(Remedy::ListCertificates));
        }
        let authority = list_certificates(&home).unwrap().certificates.remove(0);
        assert_eq!(authority.kind, CertificateKind::Authority);
        assert!(!home.revocation_list_file().exists());
    }

    #[test]
    fn a_certificate_of_another_authority_is_refused_and_its_list_is_kept() {
        let ((_one, home), (_other, other)) = (with_peer(), new_home());
        issue_certificate(&other, &CertificateRequest::new("peer2", now_secs())).unwrap();
        std::fs::copy(other.root().join("peer2.crt"), home.root().join("peer2.crt")).unwrap();
        let error = revoke_now(&home, "peer2").unwrap_err();
        assert!(matches!(&error, SetupError::IssuedElsewhere { name } if name == "peer2"));

        let foreign = Authority::create(&AuthorityOptions::default(), now_secs()).unwrap();
        let entry = RevokedCertificate {
            serial: "0a".parse().unwrap(),
            revoked_at_secs: now_secs(),
            reason: RevocationReason::Unspecified,
        };
        let pem = foreign.revocation_list(&[entry], 7, now_secs(), now_secs() + 1000).unwrap();
        files::write(&home.revocation_list_file(), &pem).unwrap();
        revoke_now(&home, "peer1").unwrap();
        revoke_now(&home, "localhost").unwrap();
        let pem = std::fs::read(home.revocation_list_file()).unwrap();
        assert_eq!(revocation_lists_from_pem(&pem).unwrap().len(), 2);
        assert_eq!(foreign.own_revocation_list(&pem).unwrap().unwrap().number, Some(7));
        let own = load_authority(&home).unwrap().own_revocation_list(&pem).unwrap().unwrap();
        assert_eq!((own.number, own.entries.len()), (Some(2), 2));
    }

    #[test]
    fn a_list_that_cannot_be_read_is_never_made_anew() {
        let (_directory, home) = with_peer();
        revoke_now(&home, "peer1").unwrap();
        let good = std::fs::read(home.revocation_list_file()).unwrap();
        for damaged in [&b""[..], &good[..good.len() / 2]] {
            std::fs::write(home.revocation_list_file(), damaged).unwrap();
            let error = revoke_now(&home, "localhost").unwrap_err();
            assert!(
                matches!(error, SetupError::Home(HomeError::BadRevocationList { .. })),
                "{error:?}"
            );
            assert_eq!(std::fs::read(home.revocation_list_file()).unwrap(), damaged);
        }
    }

    #[test]
    fn an_expired_certificate_leaves_the_list_with_the_next_one() {
        let (_directory, home) = with_peer();
        revoke_now(&home, "peer1").unwrap();
        let later_secs = now_secs() + 366 * 86_400;
        revoke_certificates(&home, "localhost", RevocationReason::Superseded, later_secs).unwrap();
        assert_eq!(list(&home), (Some(2), 1));
    }

    #[test]
    fn of_several_at_once_every_one_is_revoked() {
        let (_directory, home) = new_home();
        std::thread::scope(|scope| {
            for byte in 0x10..0x18 {
                let home = &home;
                scope.spawn(move || revoke_now(home, &format!("{byte:x}").repeat(16)).unwrap());
            }
        });
        assert_eq!(list(&home), (Some(8), 8));
    }

    /// Not a test of its own: what the processes of the test below do.
    #[test]
    fn child_process_revokes() {
        let Some(home) = kills::home_of_child() else { return };
        revoke_now(&Home::at(home), "peer1").unwrap();
    }

    #[test]
    fn a_run_killed_at_any_step_has_revoked_everything_or_nothing() {
        let killed = kills::at_each_step(
            "revoke::tests::child_process_revokes",
            || {
                let (directory, home) = with_peer();
                revoke_now(&home, "localhost").unwrap();
                (directory, home.root().to_owned())
            },
            |home| {
                let home = Home::at(home);
                assert!(matches!(list(&home), (Some(1), 1) | (Some(2), 2)));
                revoke_now(&home, "peer1").unwrap();
                assert_eq!(list(&home), (Some(2), 2));
                assert!(home.temporary_files().unwrap().is_empty());
            },
        );
        assert_eq!(killed, 3);
    }
}

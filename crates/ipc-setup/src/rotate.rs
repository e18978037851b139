//! Replaces the authority of a home: a new one beside the old one, then the old one goes.
//!
//! The command line comes here. While both are there both are trusted, so that clients follow one
//! by one: by renewing, or with the next certificate that they are given. The new authority's key
//! is certified by the old one too, and servers send that cross certificate, so that a client that
//! knows only the old authority verifies a leaf of the new one.
//!
//! The order in which files change:
//!
//! | rotation | dropping |
//! |---|---|
//! | `web-ipc-ca.old.key`: the key that signs now | leaves of this home that are still of the old one |
//! | `.web-ipc-ca.key.new`: the next key | `web-ipc-ca.crt`: without the old one |
//! | `web-ipc-ca.crt`: new and old | `web-ipc-ca.crl`: without the old one's list |
//! | `web-ipc-ca.key`: the next key takes its place | `web-ipc-ca.cross.crt` is removed |
//! | `web-ipc-ca.cross.crt` | `web-ipc-ca.old.key` is removed |
//! | the leaves of this home | |
//!
//! The authority that signs is the one whose key is in `web-ipc-ca.key`, at every step.

use std::path::PathBuf;

use ipc_home::{Home, HomeError, read_public, read_secret};
use ipc_pki::{Authority, AuthorityOptions, CertificateInfo, revocation_lists_from_pem};

use crate::certificates::{CertificateList, list_certificates};
use crate::lock::Lock;
use crate::provision::{exists, load_authority};
use crate::renew::{Renewals, renew};
use crate::{SetupError, files, node, pem};

/// Makes a new authority, which issues from now on, and issues every pair of this home anew. The
/// old one stays trusted until [`drop_old_authority`].
///
/// A rotation that was cut short is completed. Pairs that were copied to other hosts by hand are of
/// the old authority there, and have to be copied again before it is dropped.
///
/// # Errors
/// [`SetupError::RotationUnderWay`] if the last rotation has not ended with
/// [`drop_old_authority`]; [`SetupError::Authority`], [`SetupError::CrossCertify`],
/// [`SetupError::BadAuthority`], [`SetupError::Issue`]; and what is wrong with the home.
pub fn rotate_authority(home: &Home, now_secs: u64) -> Result<Renewals, SetupError> {
    let _lock = Lock::of_complete(home)?;
    node::refuse(home)?;
    let finished_key = finish_key(home)?;
    let current = load_authority(home)?;
    let (new, old, is_begun) = match load_old(home)? {
        Some(old) if old.key_id() != current.key_id() => (current, old, true),
        _ => {
            let new = begin(home, &current, now_secs)?;
            (new, current, false)
        }
    };
    let cross_file = home.cross_certificate_file();
    let has_cross = exists(&cross_file)?;
    if !has_cross || !is_begun {
        let cross =
            old.cross_certify(&new).map_err(|source| SetupError::CrossCertify { source })?;
        files::write(&cross_file, &cross)?;
    }
    let renewals = renew_of_old(home, &new, &old, now_secs)?;
    if is_begun && has_cross && !finished_key && renewals.renewed.is_empty() {
        return Err(SetupError::RotationUnderWay);
    }
    Ok(renewals)
}

/// Removes the old authority: what it issued is no longer trusted. A removal that was cut short is
/// completed.
///
/// # Errors
/// [`SetupError::NoOldAuthority`]; [`SetupError::NotFollowed`], unless `force` is set, if a client
/// has no certificate of the new authority yet; [`SetupError::BadAuthority`],
/// [`SetupError::Issue`]; and what is wrong with the home.
pub fn drop_old_authority(home: &Home, force: bool, now_secs: u64) -> Result<Renewals, SetupError> {
    let _lock = Lock::of_complete(home)?;
    node::refuse(home)?;
    finish_key(home)?;
    let current = load_authority(home)?;
    let old = load_old(home)?.filter(|old| old.key_id() != current.key_id());
    let mut renewals = Renewals::default();
    if let Some(old) = &old {
        let waiting = list_certificates(home)?.not_followed(now_secs);
        if !force && !waiting.is_empty() {
            return Err(SetupError::NotFollowed { names: waiting });
        }
        renewals = renew_of_old(home, &current, old, now_secs)?;
        let path = home.ca_certificate_file();
        let certificates = read_public(&path)?;
        let kept = pem::blocks(&certificates, pem::CERTIFICATE).into_iter().filter(|block| {
            let info = CertificateInfo::from_pem(block);
            !info.is_ok_and(|info| info.key_id.as_deref() == Some(old.key_id()))
        });
        files::write(&path, &pem::joined(kept))?;
    } else if !exists(&home.cross_certificate_file())? && !exists(&home.old_ca_key_file())? {
        return Err(SetupError::NoOldAuthority);
    }
    drop_list(home)?;
    files::remove(&home.cross_certificate_file())?;
    files::remove(&home.old_ca_key_file())?;
    Ok(renewals)
}

/// The next key, until its certificate is there.
fn next_key_file(home: &Home) -> PathBuf {
    home.root().join(".web-ipc-ca.key.new")
}

/// Puts the next key in its place if its certificate is there, or removes it: then the rotation had
/// not begun for anybody else. Says whether it was put in its place.
fn finish_key(home: &Home) -> Result<bool, SetupError> {
    let path = next_key_file(home);
    if !exists(&path)? {
        return Ok(false);
    }
    let certificates = read_public(&home.ca_certificate_file())?;
    if Authority::load(&certificates, &read_secret(&path)?).is_ok() {
        files::rename(&path, &home.ca_key_file())?;
        return Ok(true);
    }
    files::remove(&path)?;
    Ok(false)
}

/// The authority of `web-ipc-ca.old.key`, if that is there and its certificate is trusted.
fn load_old(home: &Home) -> Result<Option<Authority>, SetupError> {
    let path = home.old_ca_key_file();
    if !exists(&path)? {
        return Ok(None);
    }
    let certificates = read_public(&home.ca_certificate_file())?;
    match Authority::load(&certificates, &read_secret(&path)?) {
        Ok(old) => Ok(Some(old)),
        // Dropping it was cut short.
        Err(ipc_pki::LoadError::Mismatch) => Ok(None),
        Err(source) => Err(SetupError::BadAuthority { path, source }),
    }
}

/// Makes the new authority and has it sign from now on.
fn begin(home: &Home, old: &Authority, now_secs: u64) -> Result<Authority, SetupError> {
    let mut options = AuthorityOptions::default();
    if let Some(key_type) =
        CertificateInfo::from_pem(old.certificate_pem()).ok().and_then(|info| info.key_type)
    {
        options.key_type = key_type;
    }
    let new = old
        .create_successor(&options, now_secs)
        .map_err(|source| SetupError::Authority { source })?;
    let path = home.ca_certificate_file();
    let before = read_public(&path)?;
    // What else is trusted here stays trusted.
    let others = pem::blocks(&before, pem::CERTIFICATE);
    let both = pem::joined([new.certificate_pem()].into_iter().chain(others));
    files::write(&home.old_ca_key_file(), old.private_key_pem().as_bytes())?;
    files::write(&next_key_file(home), new.private_key_pem().as_bytes())?;
    files::write(&path, &both)?;
    files::rename(&next_key_file(home), &home.ca_key_file())?;
    Ok(new)
}

/// Issues the pairs anew that the old authority issued, but for those that were revoked.
fn renew_of_old(
    home: &Home,
    new: &Authority,
    old: &Authority,
    now_secs: u64,
) -> Result<Renewals, SetupError> {
    let mut renewals = Renewals::default();
    for one in list_certificates(home)?.certificates {
        let Some(name) = one.pair else { continue };
        if one.issuer_key_id.as_deref() != Some(old.key_id()) {
            continue;
        }
        match one.revoked_at_secs {
            Some(_) => renewals.skipped.push(name),
            None => renewals.renewed.push(renew(home, new, &name, now_secs)?),
        }
    }
    Ok(renewals)
}

/// Removes the list of the authority that signed the cross certificate. Only once that authority is
/// no longer trusted: without its list, what it revoked would be good again.
fn drop_list(home: &Home) -> Result<(), SetupError> {
    let cross = match read_public(&home.cross_certificate_file()) {
        Err(HomeError::FileMissing { .. }) => return Ok(()),
        cross => CertificateInfo::from_pem(&cross?).ok(),
    };
    let Some(old_id) = cross.and_then(|cross| cross.issuer_key_id) else { return Ok(()) };
    let path = home.revocation_list_file();
    let lists = match read_public(&path) {
        Err(HomeError::FileMissing { .. }) => return Ok(()),
        lists => lists?,
    };
    let blocks = pem::blocks(&lists, pem::REVOCATION_LIST);
    let of_old = |block: &[u8]| {
        let said = revocation_lists_from_pem(block);
        said.is_ok_and(|said| said.iter().all(|one| one.issuer_key_id.as_ref() == Some(&old_id)))
    };
    let kept: Vec<&[u8]> = blocks.iter().copied().filter(|block| !of_old(block)).collect();
    match (kept.len(), blocks.len()) {
        (kept, all) if kept == all => Ok(()),
        (0, _) => files::remove(&path),
        _ => files::write(&path, &pem::joined(kept)),
    }
}

impl CertificateList {
    /// Names whose last certificate is of an authority that is being replaced, and whose key is not
    /// in this home: clients that have not followed a rotation yet. Sorted, each once.
    #[must_use]
    pub fn not_followed(&self, now_secs: u64) -> Vec<String> {
        let mut authorities = self.certificates.iter().filter(|one| one.is_authority());
        let current = authorities.next().and_then(|one| one.key_id.as_ref());
        let old: Vec<_> = authorities.filter_map(|one| one.key_id.as_ref()).collect();
        let mut names: Vec<String> = Vec::new();
        for one in &self.certificates {
            let is_of_old = one
                .issuer_key_id
                .as_ref()
                .is_some_and(|id| Some(id) != current && old.contains(&id));
            if is_of_old
                && !one.is_authority()
                && one.pair.is_none()
                && one.revoked_at_secs.is_none()
                && !one.is_expired(now_secs)
                && self.is_last(one)
                && !names.contains(&one.name)
            {
                names.push(one.name.clone());
            }
        }
        names.sort();
        names
    }
}

#[cfg(test)]
mod tests {
    use ipc_base::{CertificateIssuer as _, Remedy, RenewalQuery};
    use ipc_home::PeerName;
    use ipc_pki::{KeyType, RequestedPair, RevocationReason, SubjectName};
    use rustls_pki_types::pem::PemObject as _;

    use super::*;
    use crate::files::kills;
    use crate::testing::new_home;
    use crate::{
        CertificateRequest, EnrolRequest, HomeIssuer, InitOptions, create_enrolment,
        issue_certificate, list_enrolments, revoke_certificates,
    };

    fn now_secs() -> u64 {
        InitOptions::now().now_secs
    }

    fn authorities(home: &Home) -> Vec<CertificateInfo> {
        CertificateInfo::all_from_pem(&std::fs::read(home.ca_certificate_file()).unwrap()).unwrap()
    }

    fn names(renewals: &Renewals) -> Vec<&str> {
        renewals.renewed.iter().map(|one| one.name.as_str()).collect()
    }

    fn revoke(home: &Home, name: &str) {
        revoke_certificates(home, name, RevocationReason::Unspecified, now_secs()).unwrap();
    }

    /// That every pair is of the authority that signs, and every file can be read.
    fn assert_good(home: &Home) {
        let authority = load_authority(home).unwrap();
        assert_eq!(authorities(home)[0].key_id.as_deref(), Some(authority.key_id()));
        for name in home.peer_names().unwrap() {
            let read = |path| std::fs::read(path).unwrap();
            let (certificate, key) =
                (read(home.certificate_file(&name)), read(home.key_file(&name)));
            assert!(authority.has_issued(&certificate, &key), "{name}");
        }
        home.revocation_lists().unwrap();
        home.cross_certificates().unwrap();
        assert!(!next_key_file(home).exists());
        assert!(home.temporary_files().unwrap().is_empty());
    }

    #[test]
    fn a_new_authority_signs_and_the_old_one_stays_trusted_until_it_is_dropped() {
        let (_directory, home) = new_home();
        issue_certificate(&home, &CertificateRequest::new("peer1", now_secs())).unwrap();
        let old = authorities(&home).remove(0);
        assert_eq!(names(&rotate_authority(&home, now_secs()).unwrap()), ["localhost", "peer1"]);
        assert_good(&home);
        let both = authorities(&home);
        assert_eq!(both.len(), 2);
        assert_eq!(both[1], old);
        assert_ne!(both[0].key_id, old.key_id);
        let cross = std::fs::read(home.cross_certificate_file()).unwrap();
        let cross = CertificateInfo::from_pem(&cross).unwrap();
        assert_eq!((&cross.key_id, &cross.issuer_key_id), (&both[0].key_id, &old.key_id));

        let error = rotate_authority(&home, now_secs()).unwrap_err();
        assert!(matches!(error, SetupError::RotationUnderWay), "{error:?}");
        assert_eq!(error.remedy(), Some(Remedy::DropOldAuthority { force: false }));

        drop_old_authority(&home, false, now_secs()).unwrap();
        assert_eq!(authorities(&home), both[..1]);
        assert!(!home.cross_certificate_file().exists() && !home.old_ca_key_file().exists());
        assert_good(&home);
        let error = drop_old_authority(&home, false, now_secs()).unwrap_err();
        assert!(matches!(error, SetupError::NoOldAuthority), "{error:?}");
        // And once more from the beginning.
        rotate_authority(&home, now_secs()).unwrap();
        drop_old_authority(&home, false, now_secs()).unwrap();
        assert_good(&home);
    }

    #[test]
    fn what_either_authority_issued_can_be_revoked_and_the_old_list_goes_with_the_old_one() {
        let (_directory, home) = new_home();
        let issue = |name| {
            issue_certificate(&home, &CertificateRequest::new(name, now_secs())).unwrap();
            std::fs::remove_file(home.root().join(format!("{name}.key"))).unwrap();
        };
        issue("old1");
        issue("old2");
        revoke(&home, "old1");
        rotate_authority(&home, now_secs()).unwrap();
        issue("new1");
        revoke(&home, "old2");
        revoke(&home, "new1");
        let lists = || {
            let pem = std::fs::read(home.revocation_list_file()).unwrap();
            let lists = revocation_lists_from_pem(&pem).unwrap();
            lists.iter().map(|list| list.entries.len()).collect::<Vec<_>>()
        };
        assert_eq!(lists().iter().sum::<usize>(), 3);
        assert_eq!(lists().len(), 2);
        drop_old_authority(&home, false, now_secs()).unwrap();
        assert_eq!(lists(), [1]);
        assert_good(&home);
    }

    #[test]
    fn the_old_authority_is_kept_while_a_client_has_not_followed() {
        let (_directory, home) = new_home();
        let addresses = ["192.0.2.1:3000".to_owned()];
        create_enrolment(&home, &EnrolRequest::new("worker1", &addresses, now_secs())).unwrap();
        let list = || list_certificates(&home).unwrap();
        assert!(list().not_followed(now_secs()).is_empty());
        rotate_authority(&home, now_secs()).unwrap();
        assert_eq!(list().not_followed(now_secs()), ["worker1"]);
        let error = drop_old_authority(&home, false, now_secs()).unwrap_err();
        assert!(matches!(&error, SetupError::NotFollowed { names } if *names == ["worker1"]));
        let mend = Remedy::RenewEach.or(Remedy::DropOldAuthority { force: true });
        assert_eq!(error.remedy(), Some(mend));
        assert_eq!(authorities(&home).len(), 2);

        // It follows by renewing.
        let serial = list_enrolments(&home).unwrap().remove(0).serial;
        let pem = std::fs::read(home.issued_dir().join(format!("{serial}.crt"))).unwrap();
        let bundle = rustls_pki_types::CertificateDer::from_pem_slice(&pem).unwrap();
        let name = SubjectName::parse("worker1").unwrap();
        let request = RequestedPair::create(&name, KeyType::P256).unwrap().request_pem;
        let request = String::from_utf8(request).unwrap();
        let issuer = HomeIssuer::new(home.clone(), PeerName::parse("localhost").unwrap());
        // Later by a second, so that the new certificate ends later than the old one.
        let later_secs = now_secs() + 1;
        issuer.renew(&RenewalQuery::new(&bundle, "worker1", Some(&request), later_secs)).unwrap();
        assert!(list().not_followed(now_secs()).is_empty());
        drop_old_authority(&home, false, now_secs()).unwrap();
        assert_good(&home);
    }

    #[test]
    fn by_force_the_old_authority_goes_though_a_client_has_not_followed() {
        let (_directory, home) = new_home();
        let addresses = ["192.0.2.1:3000".to_owned()];
        for name in ["q3", "worker1", "q2"] {
            create_enrolment(&home, &EnrolRequest::new(name, &addresses, now_secs())).unwrap();
        }
        rotate_authority(&home, now_secs()).unwrap();
        let error = drop_old_authority(&home, false, now_secs()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "q2, q3, worker1 still have a certificate of the old authority"
        );
        drop_old_authority(&home, true, now_secs()).unwrap();
        assert_eq!(authorities(&home).len(), 1);
    }

    #[test]
    fn a_client_is_revoked_although_the_authority_of_its_first_certificate_is_gone() {
        let (_directory, home) = new_home();
        let addresses = ["192.0.2.1:3000".to_owned()];
        create_enrolment(&home, &EnrolRequest::new("worker1", &addresses, now_secs())).unwrap();
        rotate_authority(&home, now_secs()).unwrap();
        drop_old_authority(&home, true, now_secs()).unwrap();
        revoke(&home, "worker1");
        crate::cancel_enrolment(&home, "worker1", now_secs()).unwrap();
    }

    #[test]
    fn of_two_rotations_at_once_one_is_made_and_the_other_told_so() {
        let (_directory, home) = new_home();
        let outcomes: Vec<_> = std::thread::scope(|scope| {
            let runs: Vec<_> =
                (0..2).map(|_| scope.spawn(|| rotate_authority(&home, now_secs()))).collect();
            runs.into_iter().map(|run| run.join().unwrap()).collect()
        });
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1, "{outcomes:?}");
        assert_eq!(authorities(&home).len(), 2);
        assert_good(&home);
    }

    /// Not a test of its own: what the processes of the test below do.
    #[test]
    fn child_process_rotates_the_authority() {
        let Some(home) = kills::home_of_child() else { return };
        rotate_authority(&Home::at(home), now_secs()).unwrap();
    }

    #[test]
    fn a_rotation_killed_at_any_step_is_completed_by_its_repetition() {
        let killed = kills::at_each_step(
            "rotate::tests::child_process_rotates_the_authority",
            || {
                let (directory, home) = new_home();
                (directory, home.root().to_owned())
            },
            |path| {
                let home = Home::at(path);
                // Before the repetition too: there is an authority that signs.
                load_authority(&home).unwrap();
                match rotate_authority(&home, now_secs()) {
                    Ok(_) | Err(SetupError::RotationUnderWay) => {}
                    Err(error) => panic!("{error:?}"),
                }
                assert_eq!(authorities(&home).len(), 2);
                assert!(home.cross_certificate_file().exists());
                assert_good(&home);
            },
        );
        assert!(killed > 15, "{killed}");
    }

    #[test]
    fn child_process_drops_the_old_authority() {
        let Some(home) = kills::home_of_child() else { return };
        drop_old_authority(&Home::at(home), false, now_secs()).unwrap();
    }

    #[test]
    fn a_removal_killed_at_any_step_is_completed_by_its_repetition() {
        let killed = kills::at_each_step(
            "rotate::tests::child_process_drops_the_old_authority",
            || {
                let (directory, home) = new_home();
                issue_certificate(&home, &CertificateRequest::new("peer1", now_secs())).unwrap();
                std::fs::remove_file(home.root().join("peer1.key")).unwrap();
                revoke(&home, "peer1");
                rotate_authority(&home, now_secs()).unwrap();
                (directory, home.root().to_owned())
            },
            |path| {
                let home = Home::at(path);
                // While the old authority is trusted, what it revoked is revoked.
                assert!(authorities(&home).len() == 1 || home.revocation_list_file().exists());
                match drop_old_authority(&home, false, now_secs()) {
                    Ok(_) | Err(SetupError::NoOldAuthority) => {}
                    Err(error) => panic!("{error:?}"),
                }
                assert_eq!(authorities(&home).len(), 1);
                assert!(!home.revocation_list_file().exists());
                assert!(!home.cross_certificate_file().exists());
                assert!(!home.old_ca_key_file().exists());
                assert_good(&home);
            },
        );
        assert!(killed > 8, "{killed}");
    }
}

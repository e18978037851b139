//! Renews the pairs of a home: new keys and certificates with the old names, from its authority.
//!
//! The command line comes here, by hand or from a timer. A pair is replaced as `pair` does it, so a
//! run that was killed leaves each pair old or new.

use ipc_home::{Home, HomeError, PeerName, read_public};
use ipc_pki::{Authority, CertificateInfo, KeyType, LeafRequest};

use crate::certificates::{ListedCertificate, list_certificates};
use crate::enrolments::{Enrolment, EnrolmentKind};
use crate::lock::Lock;
use crate::provision::load_authority;
use crate::{IssuedCertificate, SetupError, node, pair};

/// Which pairs to renew.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Renew {
    /// The pair of this name.
    Name(String),
    /// Every pair whose key is in the home.
    All,
    /// Every pair that has less than a third of its life left.
    Due,
}

/// What [`renew_certificates`] did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Renewals {
    /// The new pairs.
    pub renewed: Vec<IssuedCertificate>,
    /// Pairs that were left as they are, since another authority issued them or they were revoked.
    pub skipped: Vec<PeerName>,
}

/// Renews pairs of the home: the same names, usages and kind of key, for 365 days.
///
/// A pair that another authority issued, or that was revoked, is only renewed by its name. The old
/// certificate stays valid until it expires; its key is gone.
///
/// # Errors
/// [`HomeError::CertificateMissing`] if there is no such pair, and [`SetupError::KeyElsewhere`] if
/// it is that of an enrolled client or server; [`SetupError::NotRenewable`];
/// [`SetupError::BadAuthority`], [`SetupError::Issue`]; and what is wrong with the home. Pairs that
/// were renewed before the error stay so.
pub fn renew_certificates(
    home: &Home,
    which: &Renew,
    now_secs: u64,
) -> Result<Renewals, SetupError> {
    let name = match which {
        Renew::Name(name) => Some(
            PeerName::parse(name)
                .map_err(|source| SetupError::Name { name: name.clone(), source })?,
        ),
        _ => None,
    };
    let _lock = Lock::of_complete(home)?;
    node::refuse(home)?;
    let authority = load_authority(home)?;
    let mut renewals = Renewals::default();
    if let Some(name) = name {
        let name = home.name_of_pair(&name)?;
        if !home.key_file(&name).is_file()
            && let Some(enrolment) = Enrolment::read_current(home, &name)?
        {
            let is_server = enrolment.kind == EnrolmentKind::Server;
            return Err(SetupError::KeyElsewhere { name, is_server });
        }
        renewals.renewed.push(renew(home, &authority, &name, now_secs)?);
        return Ok(renewals);
    }
    let list = list_certificates(home)?;
    let authorities: Vec<_> =
        CertificateInfo::all_from_pem(&read_public(&home.ca_certificate_file())?)
            .unwrap_or_default()
            .into_iter()
            .filter_map(|info| info.key_id)
            .collect();
    let is_ours = |one: &ListedCertificate| {
        one.issuer_key_id.as_ref().is_some_and(|id| authorities.contains(id))
    };
    for one in &list.certificates {
        let Some(name) = &one.pair else { continue };
        if *which == Renew::Due && !one.is_due(now_secs) {
            continue;
        }
        if one.revoked_at_secs.is_some() || !is_ours(one) {
            renewals.skipped.push(name.clone());
        } else {
            renewals.renewed.push(renew(home, &authority, name, now_secs)?);
        }
    }
    Ok(renewals)
}

/// Renews one pair. Only for the holder of the lock.
pub(crate) fn renew(
    home: &Home,
    authority: &Authority,
    name: &PeerName,
    now_secs: u64,
) -> Result<IssuedCertificate, SetupError> {
    let (certificate_file, key_file) = (home.certificate_file(name), home.key_file(name));
    // Without its key it is somebody else's, who would be left with a pair of which nobody knows.
    for path in [&certificate_file, &key_file] {
        if !path.is_file() {
            let (name, path) = (name.clone(), path.clone());
            return Err(HomeError::CertificateMissing { name, path }.into());
        }
    }
    let bad =
        |_| HomeError::BadCertificate { path: certificate_file.clone(), name: Some(name.clone()) };
    let info = CertificateInfo::from_pem(&read_public(&certificate_file)?).map_err(bad)?;
    let mut request = LeafRequest::renewal_of(&info)
        .map_err(|source| SetupError::NotRenewable { name: name.clone(), source })?;
    request.key_type = info.key_type.unwrap_or(KeyType::P256);
    let pair = authority
        .issue(&request, now_secs)
        .map_err(|source| SetupError::Issue { name: name.clone(), source })?;
    pair::write(home, name, &pair)?;
    Ok(IssuedCertificate {
        name: name.clone(),
        certificate_file,
        key_file,
        alt_names: pair.alt_names.iter().map(ToString::to_string).collect(),
        not_after_secs: pair.not_after_secs,
        replaced: true,
    })
}

#[cfg(test)]
mod tests {
    use ipc_base::Remedy;
    use ipc_pki::{RevocationReason, SerialNumber};

    use super::*;
    use crate::files::kills;
    use crate::testing::new_home;
    use crate::{
        CertificateRequest, EnrolRequest, InitOptions, cancel_enrolment, create_enrolment,
        issue_certificate, revoke_certificates,
    };

    fn now_secs() -> u64 {
        InitOptions::now().now_secs
    }

    fn issue(home: &Home, name: &str, validity_days: u32) {
        let request = CertificateRequest {
            validity_days,
            alt_names: &[format!("{name}.example"), "192.0.2.1".to_owned()],
            ..CertificateRequest::new(name, now_secs())
        };
        issue_certificate(home, &request).unwrap();
    }

    fn info(home: &Home, name: &str) -> CertificateInfo {
        let path = home.root().join(format!("{name}.crt"));
        CertificateInfo::from_pem(&std::fs::read(path).unwrap()).unwrap()
    }

    fn names(renewals: &Renewals) -> Vec<&str> {
        renewals.renewed.iter().map(|one| one.name.as_str()).collect()
    }

    /// That every pair fits and is one of the home's authority.
    fn assert_good(home: &Home) {
        let authority = load_authority(home).unwrap();
        for name in home.peer_names().unwrap() {
            let read = |path| std::fs::read(path).unwrap();
            let (certificate, key) =
                (read(home.certificate_file(&name)), read(home.key_file(&name)));
            assert!(authority.has_issued(&certificate, &key), "{name}");
        }
        assert!(home.staged_pairs().unwrap().is_empty());
        assert!(home.temporary_files().unwrap().is_empty());
    }

    #[test]
    fn a_renewed_pair_has_another_key_and_the_same_names_usages_and_kind_of_key() {
        let (_directory, home) = new_home();
        let alt_names = ["peer1.example".to_owned(), "::1".to_owned()];
        let request = CertificateRequest {
            alt_names: &alt_names,
            key_type: KeyType::Rsa2048,
            ..CertificateRequest::new("peer1", now_secs())
        };
        issue_certificate(&home, &request).unwrap();
        let (before, localhost) = (info(&home, "peer1"), info(&home, "localhost"));
        let renewals =
            renew_certificates(&home, &Renew::Name("PEER1".to_owned()), now_secs()).unwrap();
        assert_eq!(names(&renewals), ["peer1"]);
        let after = info(&home, "peer1");
        assert_eq!(
            (&after.subject, &after.alt_names, after.usages, after.key_type),
            (&before.subject, &before.alt_names, before.usages, Some(KeyType::Rsa2048))
        );
        assert_ne!((&after.serial, &after.key_id), (&before.serial, &before.key_id));
        assert_eq!(info(&home, "localhost"), localhost);
        assert_good(&home);
    }

    #[test]
    fn what_is_due_is_renewed_and_what_is_not_stays() {
        let (_directory, home) = new_home();
        issue(&home, "short", 30);
        let renew =
            |days: u64| renew_certificates(&home, &Renew::Due, now_secs() + days * 86_400).unwrap();
        assert!(names(&renew(0)).is_empty());
        assert!(names(&renew(19)).is_empty());
        assert_eq!(names(&renew(21)), ["short"]);
        assert!(names(&renew(22)).is_empty());
        assert_eq!(names(&renew(300)), ["localhost", "short"]);
        assert_good(&home);
    }

    #[test]
    fn all_are_renewed_but_those_of_another_authority_and_those_that_were_revoked() {
        let ((_one, home), (_other, other)) = (new_home(), new_home());
        for name in ["peer1", "revoked"] {
            issue(&home, name, 30);
        }
        issue(&other, "foreign", 30);
        for file in ["foreign.crt", "foreign.key"] {
            std::fs::copy(other.root().join(file), home.root().join(file)).unwrap();
        }
        let reason = RevocationReason::Unspecified;
        revoke_certificates(&home, "revoked", reason, now_secs()).unwrap();
        let renewals = renew_certificates(&home, &Renew::All, now_secs()).unwrap();
        assert_eq!(names(&renewals), ["localhost", "peer1"]);
        let skipped: Vec<_> = renewals.skipped.iter().map(PeerName::as_str).collect();
        assert_eq!(skipped, ["foreign", "revoked"]);
        // By name they are meant.
        for name in ["foreign", "revoked"] {
            renew_certificates(&home, &Renew::Name(name.to_owned()), now_secs()).unwrap();
        }
        assert_good(&home);
    }

    #[test]
    fn a_pair_that_is_not_there_or_has_its_key_elsewhere_is_refused() {
        let (_directory, home) = new_home();
        issue(&home, "moved", 30);
        std::fs::remove_file(home.root().join("moved.key")).unwrap();
        for name in ["peer1", "moved"] {
            let error =
                renew_certificates(&home, &Renew::Name(name.to_owned()), now_secs()).unwrap_err();
            assert!(
                matches!(error, SetupError::Home(HomeError::CertificateMissing { .. })),
                "{error:?}"
            );
        }
        let error =
            renew_certificates(&home, &Renew::Name("a b".to_owned()), now_secs()).unwrap_err();
        assert!(matches!(error, SetupError::Name { .. }), "{error:?}");
        let renewals = renew_certificates(&home, &Renew::All, now_secs()).unwrap();
        assert_eq!(names(&renewals), ["localhost"]);
    }

    #[test]
    fn the_name_of_an_enrolled_client_gets_no_pair_here_and_its_own_is_renewed_in_its_home() {
        let (_directory, home) = new_home();
        let addresses = ["192.0.2.1:3000".to_owned()];
        create_enrolment(&home, &EnrolRequest::new("worker1", &addresses, now_secs())).unwrap();
        let name = || "worker1".to_owned();
        for force in [false, true] {
            let request =
                CertificateRequest { force, ..CertificateRequest::new("Worker1", now_secs()) };
            let error = issue_certificate(&home, &request).unwrap_err();
            assert!(matches!(error, SetupError::CertificateNameTaken { .. }), "{error:?}");
            let another = Remedy::act("give the pair another name");
            let mend = another.or(Remedy::CancelEnrolment { name: "Worker1".to_owned() });
            assert_eq!(error.remedy(), Some(mend));
        }
        let error = renew_certificates(&home, &Renew::Name(name()), now_secs()).unwrap_err();
        assert!(matches!(error, SetupError::KeyElsewhere { is_server: false, .. }), "{error:?}");
        let anew = Remedy::EnrolPeerAnew { name: name(), is_server: false };
        let elsewhere = Remedy::RenewElsewhere { name: name() };
        assert_eq!(error.remedy(), Some(elsewhere.or(anew)));
        assert!(!home.root().join("worker1.key").exists());

        cancel_enrolment(&home, "worker1", now_secs()).unwrap();
        issue(&home, "worker1", 30);
        renew_certificates(&home, &Renew::Name(name()), now_secs()).unwrap();
        assert_good(&home);
    }

    #[test]
    fn renewals_at_once_leave_pairs_that_fit() {
        let (_directory, home) = new_home();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| renew_certificates(&home, &Renew::All, now_secs()).unwrap());
            }
        });
        assert_good(&home);
    }

    /// Not a test of its own: what the processes of the test below do.
    #[test]
    fn child_process_renews_all() {
        let Some(home) = kills::home_of_child() else { return };
        renew_certificates(&Home::at(home), &Renew::All, now_secs()).unwrap();
    }

    #[test]
    fn a_run_killed_at_any_step_leaves_pairs_that_fit_after_the_next() {
        let serials = |home: &Home| -> Vec<SerialNumber> {
            ["localhost", "peer1"].map(|name| info(home, name).serial).to_vec()
        };
        let killed = kills::at_each_step(
            "renew::tests::child_process_renews_all",
            || {
                let (directory, home) = new_home();
                issue(&home, "peer1", 30);
                (directory, home.root().to_owned())
            },
            |home| {
                let home = Home::at(home);
                let before = serials(&home);
                renew_certificates(&home, &Renew::All, now_secs()).unwrap();
                assert!(serials(&home).iter().all(|serial| !before.contains(serial)));
                assert_good(&home);
            },
        );
        assert_eq!(killed, 10);
    }
}

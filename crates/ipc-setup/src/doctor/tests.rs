//! Each fault made on purpose: what is said, what mends it, and that it does.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use ipc_base::{ModeChange, Place, Remedy};

use super::*;
use crate::testing::new_home;
use crate::{
    CertificateRequest, EnrolRequest, EnrolmentKind, InitOptions, Renew, RevocationReason,
    accept_enrolment, create_enrolment, drop_old_authority, init, issue_certificate,
    renew_certificates, revoke_certificates, rotate_authority,
};

const DAY_SECS: u64 = 86_400;

fn now_secs() -> u64 {
    InitOptions::now().now_secs
}

/// What is not fine: severity, check and code. What little room the disk has is not of interest.
fn faults(home: &Home, now_secs: u64) -> Vec<(Severity, &'static str, &'static str)> {
    let found = diagnose(home.root(), now_secs).findings.into_iter();
    found
        .filter(|one| one.severity != Severity::Ok && one.check != "disk")
        .map(|one| (one.severity, one.check, one.code))
        .collect()
}

fn assert_fine(home: &Home, now_secs: u64) {
    let found = faults(home, now_secs);
    assert!(found.is_empty(), "{found:?}");
}

fn remedy(home: &Home, code: &str, now_secs: u64) -> Option<Remedy> {
    let found = diagnose(home.root(), now_secs).findings;
    let one = found.iter().find(|one| one.code == code);
    one.unwrap_or_else(|| panic!("{code} is not among {found:?}")).remedy.clone()
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_new_home_is_fine_and_nothing_in_it_changes() {
    let (_directory, home) = new_home();
    let files = || -> BTreeMap<PathBuf, Vec<u8>> {
        let entries = fs::read_dir(home.root()).unwrap().map(|entry| entry.unwrap().path());
        entries.map(|path| (path.clone(), fs::read(&path).unwrap_or_default())).collect()
    };
    let before = files();
    assert_fine(&home, now_secs());
    assert_eq!(files(), before);
    let diagnosis = diagnose(home.root(), now_secs());
    assert_eq!(diagnosis.home, Some((home.clone(), HomeKind::Server)));
    let checks: Vec<_> = diagnosis.findings.iter().map(|one| one.check).collect();
    for (check, _) in CHECKS {
        assert_eq!(checks.contains(&check), check != "issued", "{check}: {checks:?}");
    }
    let key = fs::read_to_string(home.envelope_keys_file()).unwrap();
    assert!(!format!("{:?}", diagnosis.findings).contains(key.trim()));
}

#[test]
fn a_home_that_is_not_there_is_to_be_made() {
    let directory = tempfile::tempdir().unwrap();
    let home = Home::at(directory.path().join("none"));
    assert_eq!(faults(&home, 0), [(Severity::Error, "home", "home_missing")]);
    assert_eq!(remedy(&home, "home_missing", 0), Some(Remedy::MakeHome));
    let diagnosis = diagnose(home.root(), 0);
    assert!(diagnosis.home.is_none());
    assert_eq!(diagnosis.findings.last().unwrap().check, "disk");
    assert!(!home.root().exists());
}

#[test]
fn an_incomplete_home_is_to_be_finished_and_all_of_it_is_looked_at() {
    let (_directory, home) = new_home();
    fs::remove_file(home.admin_cred_file()).unwrap();
    let expected = [
        (Severity::Error, "home", "home_incomplete"),
        (Severity::Error, "credentials", "file_missing"),
    ];
    assert_eq!(faults(&home, now_secs()), expected);
    assert_eq!(remedy(&home, "home_incomplete", now_secs()), Some(Remedy::MakeHome));
    init(home.root(), &InitOptions::now()).unwrap();
    assert_fine(&home, now_secs());
}

#[test]
fn a_file_that_others_can_read_is_told_once_with_its_chmod() {
    let (_directory, home) = new_home();
    let path = home.envelope_keys_file();
    chmod(&path, 0o644);
    let found = faults(&home, now_secs());
    assert_eq!(found[0], (Severity::Error, "permissions", "open_to_others"));
    assert!(found[1..].iter().all(|one| (one.0, one.2) == (Severity::Warning, "not_checked")));
    let change = ModeChange::To(0o600);
    let mend = Remedy::FixPermissions { paths: vec![path.clone()], change };
    assert_eq!(remedy(&home, "open_to_others", now_secs()), Some(mend));
    chmod(&path, 0o600);
    assert_fine(&home, now_secs());
}

#[test]
fn a_file_of_another_user_is_told() {
    let (_directory, home) = new_home();
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can give a file away");
        return;
    }
    let path = home.certificate_file(&ipc_home::PeerName::parse("localhost").unwrap());
    std::os::unix::fs::chown(&path, Some(12_345), None).unwrap();
    let expected = (Severity::Error, "permissions", "foreign_owner");
    assert!(faults(&home, now_secs()).contains(&expected));
    let mend = Some(Remedy::ChangeOwner { path });
    assert_eq!(remedy(&home, "foreign_owner", now_secs()), mend);
}

#[test]
fn damaged_keys_are_told_with_all_that_needs_them() {
    let (_directory, home) = new_home();
    fs::write(home.envelope_keys_file(), "no key\n").unwrap();
    let found = faults(&home, now_secs());
    assert!(found.contains(&(Severity::Error, "keys", "keys_damaged")), "{found:?}");
    assert!(found.iter().all(|one| ["keys", "credentials"].contains(&one.1)), "{found:?}");
    let (_directory, home) = new_home();
    fs::copy(home.envelope_keys_file(), home.session_key_file()).unwrap();
    assert_eq!(faults(&home, now_secs()), [(Severity::Error, "keys", "session_key_shared")]);
    let (_directory, home) = new_home();
    fs::remove_file(home.session_key_file()).unwrap();
    assert_eq!(faults(&home, now_secs()), [(Severity::Error, "keys", "file_missing")]);
}

#[test]
fn a_key_of_another_pair_is_told_and_the_new_pair_keeps_its_names() {
    let (_directory, home) = new_home();
    let alt_names = ["peer1.example".to_owned()];
    let request = CertificateRequest {
        alt_names: &alt_names,
        ..CertificateRequest::new("peer1", now_secs())
    };
    issue_certificate(&home, &request).unwrap();
    fs::copy(home.root().join("localhost.key"), home.root().join("peer1.key")).unwrap();
    let expected = [(Severity::Error, "certificates", "pair_mismatch")];
    assert_eq!(faults(&home, now_secs()), expected);
    let Some(Remedy::IssueCertificate { name, alt_names, replace, place }) =
        remedy(&home, "pair_mismatch", now_secs())
    else {
        panic!("another remedy")
    };
    assert_eq!((&*name, replace, place), ("peer1", true, Place::ThisHome));
    assert!(alt_names.contains(&"peer1.example".to_owned()), "{alt_names:?}");
    let request = CertificateRequest { alt_names: &alt_names, force: true, ..request };
    issue_certificate(&home, &request).unwrap();
    assert_fine(&home, now_secs());
}

#[test]
fn half_a_pair_is_told_and_is_an_error_where_it_is_needed() {
    let (_directory, home) = new_home();
    issue_certificate(&home, &CertificateRequest::new("peer1", now_secs())).unwrap();
    fs::remove_file(home.root().join("peer1.key")).unwrap();
    let expected = [(Severity::Warning, "certificates", "key_missing")];
    assert_eq!(faults(&home, now_secs()), expected);
    let (_directory, home) = new_home();
    let request = CertificateRequest::new("localhost", now_secs());
    for file in ["localhost.key", "localhost.crt"] {
        fs::remove_file(home.root().join(file)).unwrap();
        let expected = [(Severity::Error, "certificates", "pair_incomplete")];
        assert_eq!(faults(&home, now_secs()), expected, "{file}");
    }
    let alt_names = ["localhost".to_owned()];
    let request = CertificateRequest { alt_names: &alt_names, force: true, ..request };
    issue_certificate(&home, &request).unwrap();
    assert_fine(&home, now_secs());
}

#[test]
fn dates_are_told_before_and_after_they_matter_and_a_renewal_helps() {
    let (_directory, home) = new_home();
    let name = || "localhost".to_owned();
    for (days, expected) in [
        (330, None),
        (337, Some((Severity::Warning, "certificates", "expires_soon"))),
        (366, Some((Severity::Error, "certificates", "expired"))),
    ] {
        let then_secs = now_secs() + days * DAY_SECS;
        assert_eq!(faults(&home, then_secs), expected.into_iter().collect::<Vec<_>>(), "{days}");
        if let Some((_, _, code)) = expected {
            let renew = Remedy::RenewCertificate { name: name() };
            assert_eq!(remedy(&home, code, then_secs), Some(renew));
        }
    }
    let then_secs = now_secs() + 366 * DAY_SECS;
    renew_certificates(&home, &Renew::Name(name()), then_secs).unwrap();
    assert_fine(&home, then_secs);
    // By a clock that is behind, the new certificate is not valid yet.
    let expected = [(Severity::Error, "certificates", "not_yet_valid")];
    assert_eq!(faults(&home, now_secs()), expected);
    let mend = remedy(&home, "not_yet_valid", now_secs()).unwrap();
    assert!(matches!(&mend, Remedy::AnyOf(all) if all[0] == Remedy::SetClock), "{mend:?}");
}

#[test]
fn an_authority_near_its_end_is_to_be_replaced() {
    let (_directory, home) = new_home();
    let then_secs = now_secs() + 3_640 * DAY_SECS;
    renew_certificates(&home, &Renew::All, then_secs).unwrap();
    let found = faults(&home, then_secs);
    assert!(found.contains(&(Severity::Warning, "authority", "expires_soon")), "{found:?}");
    assert_eq!(remedy(&home, "expires_soon", then_secs), Some(Remedy::RotateAuthority));
    let then_secs = now_secs() + 3_660 * DAY_SECS;
    assert_eq!(remedy(&home, "expired", then_secs), Some(Remedy::ReplaceHome));
}

#[test]
fn a_revoked_pair_is_told_until_it_is_renewed() {
    let (_directory, home) = new_home();
    let reason = RevocationReason::Unspecified;
    revoke_certificates(&home, "localhost", reason, now_secs()).unwrap();
    let expected = [(Severity::Error, "certificates", "certificate_revoked")];
    assert_eq!(faults(&home, now_secs()), expected);
    let renew = Remedy::RenewCertificate { name: "localhost".to_owned() };
    assert_eq!(remedy(&home, "certificate_revoked", now_secs()), Some(renew));
    renew_certificates(&home, &Renew::Name("localhost".to_owned()), now_secs()).unwrap();
    assert_fine(&home, now_secs());
}

#[test]
fn a_pair_of_nobody_that_is_not_trusted_any_more_is_a_warning_and_may_be_removed() {
    let (_directory, home) = new_home();
    let name = || "peer1".to_owned();
    issue_certificate(&home, &CertificateRequest::new("peer1", now_secs())).unwrap();
    let mend = Remedy::RenewCertificate { name: name() }.or(Remedy::RemovePair { name: name() });

    revoke_certificates(&home, "peer1", RevocationReason::Unspecified, now_secs()).unwrap();
    let expected = [(Severity::Warning, "certificates", "certificate_revoked")];
    assert_eq!(faults(&home, now_secs()), expected);
    assert_eq!(remedy(&home, "certificate_revoked", now_secs()), Some(mend.clone()));

    // It is left as it is when the authority is replaced.
    rotate_authority(&home, now_secs()).unwrap();
    drop_old_authority(&home, false, now_secs()).unwrap();
    let expected = [(Severity::Warning, "certificates", "wrong_authority")];
    assert_eq!(faults(&home, now_secs()), expected);
    assert_eq!(remedy(&home, "wrong_authority", now_secs()), Some(mend));
    renew_certificates(&home, &Renew::Name(name()), now_secs()).unwrap();
    assert_fine(&home, now_secs());

    revoke_certificates(&home, "peer1", RevocationReason::Unspecified, now_secs()).unwrap();
    for suffix in ["crt", "key"] {
        fs::remove_file(home.root().join(format!("peer1.{suffix}"))).unwrap();
    }
    assert_fine(&home, now_secs());
}

#[test]
fn an_authority_of_another_home_is_told_at_its_key_and_at_each_pair() {
    let ((_directory, home), (_other_directory, other)) = (new_home(), new_home());
    fs::copy(other.ca_certificate_file(), home.ca_certificate_file()).unwrap();
    let expected = [
        (Severity::Error, "authority", "authority_mismatch"),
        (Severity::Error, "certificates", "wrong_authority"),
    ];
    assert_eq!(faults(&home, now_secs()), expected);
}

#[test]
fn a_rotation_is_told_wherever_it_stopped() {
    let (_directory, home) = new_home();
    rotate_authority(&home, now_secs()).unwrap();
    let expected = [(Severity::Warning, "authority", "rotation_under_way")];
    assert_eq!(faults(&home, now_secs()), expected);
    fs::remove_file(home.cross_certificate_file()).unwrap();
    let expected = [(Severity::Warning, "authority", "rotation_unfinished")];
    assert_eq!(faults(&home, now_secs()), expected);
    let mend = remedy(&home, "rotation_unfinished", now_secs());
    assert_eq!(mend, Some(Remedy::RotateAuthority));
    rotate_authority(&home, now_secs()).unwrap();
    let mend = remedy(&home, "rotation_under_way", now_secs());
    assert_eq!(mend, Some(Remedy::DropOldAuthority { force: false }));
    drop_old_authority(&home, false, now_secs()).unwrap();
    assert_fine(&home, now_secs());
    fs::copy(home.ca_key_file(), home.old_ca_key_file()).unwrap();
    let mend = remedy(&home, "rotation_unfinished", now_secs());
    assert_eq!(mend, Some(Remedy::DropOldAuthority { force: false }));
    drop_old_authority(&home, false, now_secs()).unwrap();
    assert_fine(&home, now_secs());
}

#[test]
fn a_replacement_of_a_pair_that_was_cut_short_is_told() {
    let (_directory, home) = new_home();
    let name = ipc_home::PeerName::parse("localhost").unwrap();
    ipc_home::write_secret_atomically(&home.staged_key_file(&name), b"half").unwrap();
    let expected = [(Severity::Warning, "certificates", "pair_staged")];
    assert_eq!(faults(&home, now_secs()), expected);
    init(home.root(), &InitOptions::now()).unwrap();
    assert_fine(&home, now_secs());
}

#[test]
fn a_damaged_database_is_told_whether_all_of_it_is_or_a_page() {
    let (_directory, home) = new_home();
    let sound = fs::read(home.users_db()).unwrap();
    let mut bytes = sound.clone();
    let second_page = 4096..8192;
    assert!(bytes.len() >= second_page.end, "{}", bytes.len());
    bytes[second_page].fill(0xff);
    for damaged in [&bytes[..], b"this is no database, but a text"] {
        fs::write(home.users_db(), damaged).unwrap();
        let expected = [(Severity::Error, "databases", "database_damaged")];
        assert_eq!(faults(&home, now_secs()), expected);
        assert!(remedy(&home, "database_damaged", now_secs()).is_some());
    }
    fs::write(home.users_db(), sound).unwrap();
    assert_fine(&home, now_secs());
    ipc_home::write_secret_atomically(&home.inbox_db(), b"this is no database, but a text")
        .unwrap();
    let expected = [(Severity::Error, "databases", "database_damaged")];
    assert_eq!(faults(&home, now_secs()), expected);
    fs::remove_file(home.users_db()).unwrap();
    let found = faults(&home, now_secs());
    assert_eq!(found[0], (Severity::Error, "databases", "file_missing"), "{found:?}");
}

#[test]
fn what_was_issued_for_others_is_warned_of() {
    let (directory, home) = new_home();
    let (client, _) = enrolled(&directory, &home);
    assert_fine(&home, now_secs());
    let then_secs = now_secs() + 340 * DAY_SECS;
    let expected = (Severity::Warning, "issued", "expires_soon");
    assert!(faults(&home, then_secs).contains(&expected));
    let found = diagnose(home.root(), then_secs).findings;
    let issued = found.iter().find(|one| one.check == "issued").unwrap();
    let elsewhere = Remedy::RenewElsewhere { name: "worker1".to_owned() };
    assert_eq!(issued.remedy, Some(elsewhere));
    let found = diagnose(home.root(), now_secs() + 366 * DAY_SECS).findings;
    let issued = found.iter().find(|one| one.check == "issued").unwrap();
    let anew = Remedy::EnrolPeerAnew { name: "worker1".to_owned(), is_server: false };
    assert_eq!((issued.code, &issued.remedy), ("expired", &Some(anew)));
    assert_eq!(remedy(&client, "expires_soon", then_secs), Some(Remedy::RenewOwnCertificate));
    let name = fs::read_dir(home.issued_dir()).unwrap().next().unwrap().unwrap().path();
    fs::write(name, "damaged").unwrap();
    let expected = [(Severity::Warning, "issued", "certificate_damaged")];
    assert_eq!(faults(&home, now_secs()), expected);
}

#[test]
fn a_further_server_is_fine_without_a_pair_for_localhost_and_follows_the_one_that_enrolled_it() {
    let (directory, home) = new_home();
    let addresses = ["127.0.0.1:3000".to_owned()];
    let request = EnrolRequest {
        kind: EnrolmentKind::Server,
        ..EnrolRequest::new("node2", &addresses, now_secs())
    };
    let bundle = create_enrolment(&home, &request).unwrap();
    let path = directory.path().join("node");
    let node = accept_enrolment(&path, &bundle.text, &bundle.code, now_secs()).unwrap().home;
    assert_fine(&node, now_secs());
    let diagnosis = diagnose(node.root(), now_secs());
    assert_eq!(diagnosis.home.unwrap().1, HomeKind::Server);
    assert_eq!(diagnosis.settings.unwrap().addresses, addresses);
    assert!(diagnosis.findings[0].sentence.ends_with("a further server, which follows localhost"));

    fs::remove_file(node.root().join("node2.key")).unwrap();
    assert_eq!(remedy(&node, "pair_incomplete", now_secs()), Some(Remedy::EnrolAnew));
    fs::write(node.node_settings_file(), "{").unwrap();
    assert!(
        faults(&node, now_secs())
            .iter()
            .any(|(severity, check, _)| { (*severity, *check) == (Severity::Error, "home") })
    );
}

/// The home of a client, and where it looks for its server.
fn enrolled(directory: &tempfile::TempDir, home: &Home) -> (Home, Vec<String>) {
    let addresses = ["127.0.0.1:3000".to_owned()];
    let request = EnrolRequest::new("worker1", &addresses, now_secs());
    let bundle = create_enrolment(home, &request).unwrap();
    let path = directory.path().join("client");
    let accepted = accept_enrolment(&path, &bundle.text, &bundle.code, now_secs()).unwrap();
    (accepted.home, accepted.settings.addresses)
}

#[test]
fn in_the_home_of_a_client_what_is_lost_comes_with_another_enrolment() {
    let (directory, home) = new_home();
    let (client, addresses) = enrolled(&directory, &home);
    assert_fine(&client, now_secs());
    let diagnosis = diagnose(client.root(), now_secs());
    assert_eq!(diagnosis.home.unwrap().1, HomeKind::Client);
    assert_eq!(diagnosis.settings.unwrap().addresses, addresses);
    let files = [
        (client.client_cred_file(), "credentials", "credentials_damaged"),
        (client.client_settings_file(), "home", "settings_damaged"),
        (client.root().join("worker1.key"), "certificates", "key_damaged"),
        (client.ca_certificate_file(), "authority", "certificate_damaged"),
    ];
    for (path, check, code) in files {
        let before = fs::read(&path).unwrap();
        fs::write(&path, "damaged").unwrap();
        let found = faults(&client, now_secs());
        assert!(found.contains(&(Severity::Error, check, code)), "{check}: {found:?}");
        assert_eq!(remedy(&client, code, now_secs()), Some(Remedy::EnrolAnew), "{check}");
        fs::write(&path, before).unwrap();
    }
    chmod(&client.client_cred_file(), 0o640);
    let mend = remedy(&client, "open_to_others", now_secs());
    assert!(matches!(mend, Some(Remedy::FixPermissions { .. })), "{mend:?}");
    chmod(&client.client_cred_file(), 0o600);
    let then_secs = now_secs() + 366 * DAY_SECS;
    assert_eq!(remedy(&client, "expired", then_secs), Some(Remedy::EnrolAnew));
    assert_fine(&client, now_secs());
}

//! Homes that are somebody's: another user's, a client's, a running server's, behind a link.

use std::os::unix::fs::symlink;

use ipc_home::{HomeError, write_secret_atomically};

use super::*;

fn chmod(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn mode_of(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o7777
}

#[test]
fn what_links_in_the_place_of_the_database_lead_to_keeps_its_mode_and_nothing_is_made() {
    for name in ["users.db", "users.db-wal", "users.db-shm", "users.db-journal"] {
        let directory = tempfile::tempdir().unwrap();
        let (home, target) = (directory.path().join("home"), directory.path().join("somebodys"));
        std::fs::create_dir(&home).unwrap();
        chmod(&home, 0o700);
        std::fs::write(&target, "not ours").unwrap();
        chmod(&target, 0o644);
        symlink(&target, home.join(name)).unwrap();
        let error = make(&home, false).unwrap_err();
        assert!(
            matches!(error, SetupError::Home(HomeError::SymbolicLink { .. })),
            "{name}: {error:?}"
        );
        assert_eq!(mode_of(&target), 0o644, "{name}");
        assert!(!home.join("envelope.keys").exists(), "{name}");
    }
}

#[test]
fn a_database_that_was_brought_along_is_closed() {
    let (directory, old) = new_home();
    let home = directory.path().join("new");
    std::fs::create_dir(&home).unwrap();
    chmod(&home, 0o700);
    std::fs::copy(old.users_db(), home.join("users.db")).unwrap();
    chmod(&home.join("users.db"), 0o644);
    // As one meets it: a directory with nothing else in it is no home yet, and its files may be as
    // open as they are.
    assert_eq!(make(&home, false).unwrap().outcome, Outcome::Created);
    assert_good(&Home::at(&home));
}

#[test]
fn the_home_of_another_user_is_neither_completed_nor_moved() {
    let (directory, home) = new_home();
    if std::os::unix::fs::chown(home.root(), Some(54_321), None).is_err() {
        println!("skipped: only root can give a directory away");
        return;
    }
    let before = snapshot(home.root());
    for force in [false, true] {
        let error = make(home.root(), force).unwrap_err();
        assert!(matches!(error, SetupError::Home(HomeError::ForeignOwner { .. })), "{error:?}");
        assert!(
            matches!(error.remedy(), Some(Remedy::RunAs { home: of, .. }) if of == home.root()),
            "{error:?}"
        );
    }
    assert_eq!(snapshot(home.root()), before);
    assert_eq!(directory.path().read_dir().unwrap().count(), 1);
}

#[test]
fn a_clients_directory_is_left_as_it_is() {
    let (_directory, home) = new_home();
    for name in ["session.key", "web-ipc-ca.key", "admin.cred", "users.db", ".lock"] {
        std::fs::remove_file(home.root().join(name)).unwrap();
    }
    for name in ["users.db-wal", "users.db-shm"] {
        let _ = std::fs::remove_file(home.root().join(name));
    }
    let before = snapshot(home.root());
    for force in [false, true] {
        let error = make(home.root(), force).unwrap_err();
        assert!(matches!(error, SetupError::Home(HomeError::ClientDirectory { .. })), "{error:?}");
        let elsewhere = Remedy::UseServersHome.or(Remedy::UseAnotherHome);
        assert_eq!(error.remedy(), Some(elsewhere), "{error:?}");
    }
    assert_eq!(snapshot(home.root()), before);
}

#[test]
fn an_authority_whose_key_is_gone_leaves_nothing_made() {
    let directory = tempfile::tempdir().unwrap();
    let home = Home::at(directory.path().join("home"));
    std::fs::create_dir(home.root()).unwrap();
    chmod(home.root(), 0o700);
    let (_other, other) = new_home();
    let certificate = std::fs::read(other.ca_certificate_file()).unwrap();
    write_secret_atomically(&home.ca_certificate_file(), &certificate).unwrap();
    let error = make(home.root(), false).unwrap_err();
    assert!(
        matches!(&error, SetupError::Home(HomeError::FileMissing { path }) if *path == home.ca_key_file()),
        "{error:?}"
    );
    assert!(!home.envelope_keys_file().exists() && !home.session_key_file().exists());
}

#[test]
fn force_on_a_link_moves_what_it_leads_to_and_the_link_stays() {
    let (directory, home) = new_home();
    let link = directory.path().join("link");
    symlink(home.root(), &link).unwrap();
    let old = std::fs::read(home.envelope_keys_file()).unwrap();
    let made = make(&link, true).unwrap();
    let aside = home.root().canonicalize().unwrap().with_file_name("home.2025-03-19T19-38-50Z");
    assert_eq!(made.kept_aside.as_ref(), Some(&aside));
    assert_eq!(std::fs::read(aside.join("envelope.keys")).unwrap(), old);
    assert_eq!(std::fs::read_link(&link).unwrap(), home.root());
    assert_good(&Home::at(&link));
    assert_eq!(make(&link, false).unwrap().outcome, Outcome::AlreadyThere);
}

#[test]
fn force_refuses_while_a_server_has_the_home_and_changes_nothing() {
    let (directory, home) = new_home();
    let before = snapshot(home.root());
    let server = home.hold().unwrap();
    let error = make(home.root(), true).unwrap_err();
    assert!(matches!(error, SetupError::InUse { .. }), "{error:?}");
    assert_eq!(error.remedy(), Some(Remedy::StopServer));
    assert_eq!(make(home.root(), false).unwrap().outcome, Outcome::AlreadyThere);
    let unchanged: BTreeMap<_, _> =
        snapshot(home.root()).into_iter().filter(|(path, _)| !path.ends_with(".lock")).collect();
    assert!(unchanged.iter().all(|(path, file)| before.get(path) == Some(file)));
    assert_eq!(directory.path().read_dir().unwrap().count(), 1);
    drop(server);
    assert!(make(home.root(), true).unwrap().kept_aside.is_some());
}

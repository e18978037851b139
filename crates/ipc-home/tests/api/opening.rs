//! Which directories are accepted as homes.
#![allow(clippy::unwrap_used)]

use ipc_home::{Home, HomeError, ModeChange, Remedy};

use crate::support::{complete_home, fix, set_mode};

#[test]
fn a_complete_home_opens() {
    let directory = tempfile::tempdir().unwrap();
    let home = complete_home(directory.path());
    assert_eq!(Home::open(home.root()).unwrap().root(), home.root());
}

#[test]
fn a_missing_home_is_told_from_an_incomplete_one() {
    let directory = tempfile::tempdir().unwrap();
    let home = complete_home(directory.path());
    assert!(matches!(Home::open(directory.path().join("none")), Err(HomeError::Missing { .. })));
    std::fs::remove_file(home.admin_cred_file()).unwrap();
    assert!(matches!(Home::open(home.root()), Err(HomeError::Incomplete { .. })));
}

#[test]
fn a_file_is_no_home() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    assert!(matches!(Home::open(&file), Err(HomeError::NotADirectory { .. })));
    assert!(matches!(Home::open(file.join("below")), Err(HomeError::NotADirectory { .. })));
}

#[test]
fn a_home_with_any_right_for_others_is_refused_with_the_chmod_that_mends_it() {
    let directory = tempfile::tempdir().unwrap();
    let home = complete_home(directory.path());
    for mode in [0o755, 0o750, 0o710, 0o701, 0o770] {
        set_mode(home.root(), mode);
        let error = Home::open(home.root()).unwrap_err();
        assert!(matches!(error, HomeError::TooOpen { mode: m, .. } if m == mode), "{mode:o}");
        assert_eq!(error.remedy(), Some(fix(home.root(), ModeChange::To(0o700))));
    }
    set_mode(home.root(), 0o700);
    assert!(Home::open(home.root()).is_ok());
}

#[test]
fn what_is_not_a_home_is_refused_before_its_mode_is_looked_at() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("documents");
    std::fs::create_dir(&path).unwrap();
    set_mode(&path, 0o755);
    let error = Home::open(&path).unwrap_err();
    assert!(matches!(error, HomeError::Missing { .. }), "{error:?}");
    std::fs::write(path.join("notes.txt"), "dear diary").unwrap();
    let error = Home::open(&path).unwrap_err();
    assert!(matches!(error, HomeError::NotAHome { .. }), "{error:?}");
    assert_eq!(error.remedy(), Some(Remedy::UseAnotherHome));
    for mark in [".xork", ".ipca"] {
        std::fs::write(path.join(mark), "").unwrap();
        let error = Home::open(&path).unwrap_err();
        assert!(matches!(error, HomeError::PythonTool { .. }), "{error:?}");
        assert_eq!(error.remedy(), Some(Remedy::TakeOver { path: path.clone() }));
        std::fs::remove_file(path.join(mark)).unwrap();
    }
    for path in ["/", "/usr", "/tmp"] {
        let error = Home::open(path).unwrap_err();
        let remedy = error.remedy();
        assert!(!matches!(remedy, Some(Remedy::FixPermissions { .. })), "{path}: {error:?}");
    }
}

#[test]
fn a_home_that_has_only_begun_is_closed_first_and_completed_then() {
    let directory = tempfile::tempdir().unwrap();
    let home = complete_home(directory.path());
    std::fs::remove_file(home.admin_cred_file()).unwrap();
    set_mode(home.root(), 0o755);
    assert!(matches!(Home::open(home.root()), Err(HomeError::TooOpen { .. })));
    set_mode(home.root(), 0o700);
    assert!(matches!(Home::open(home.root()), Err(HomeError::Incomplete { .. })));
}

#[test]
fn a_link_to_a_home_opens_and_one_to_nowhere_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let home = complete_home(directory.path());
    let link = directory.path().join("link");
    std::os::unix::fs::symlink(home.root(), &link).unwrap();
    assert!(Home::open(&link).is_ok());
    std::fs::rename(home.root(), directory.path().join("elsewhere")).unwrap();
    let error = Home::open(&link).unwrap_err();
    assert!(matches!(error, HomeError::BrokenLink { .. }), "{error:?}");
    let mend = Remedy::MendLink { path: link.clone() };
    assert_eq!(error.remedy(), Some(mend.or(Remedy::UseAnotherHome)));
}

#[test]
fn a_name_that_is_too_long_is_refused_with_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let error = Home::open(directory.path().join("x".repeat(300))).unwrap_err();
    assert_eq!(error.remedy(), Some(Remedy::UseShorterHomePath), "{error:?}");
}

#[test]
fn a_home_below_a_directory_that_others_may_write_to_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let home = complete_home(directory.path());
    set_mode(directory.path(), 0o777);
    let error = Home::open(home.root()).unwrap_err();
    assert!(
        matches!(&error, HomeError::WritableByOthers { path, .. } if path == directory.path()),
        "{error:?}"
    );
    let fix = fix(directory.path(), ModeChange::NotWritableByOthers);
    assert_eq!(error.remedy(), Some(fix.or(Remedy::UseAnotherHome)));
    assert!(matches!(Home::open_client(home.root()), Err(HomeError::WritableByOthers { .. })));
    // In /tmp everyone may create entries, and remove only their own.
    set_mode(directory.path(), 0o1777);
    assert!(Home::open(home.root()).is_ok());
}

#[test]
fn a_home_that_another_user_made_is_refused_with_the_command_that_runs_as_that_user() {
    let directory = tempfile::tempdir().unwrap();
    let home = complete_home(directory.path());
    if std::os::unix::fs::chown(home.root(), Some(54_321), None).is_err() {
        println!("skipped: only root can give a directory away");
        return;
    }
    for opened in [Home::open(home.root()), Home::open_client(home.root())] {
        let error = opened.unwrap_err();
        assert!(matches!(error, HomeError::ForeignOwner { owner: 54_321, .. }), "{error:?}");
        let run_as = Remedy::RunAs { user: "#54321".into(), home: home.root().to_owned() };
        assert_eq!(error.remedy(), Some(run_as));
    }
    std::os::unix::fs::chown(home.root(), Some(0), None).unwrap();
    assert!(Home::open(home.root()).is_ok());
}

#[test]
fn all_that_is_open_is_named_at_once_with_the_one_command_that_mends_it() {
    let directory = tempfile::tempdir().unwrap();
    let home = complete_home(directory.path());
    std::fs::create_dir(home.sessions_dir()).unwrap();
    for entry in std::fs::read_dir(home.root()).unwrap() {
        let path = entry.unwrap().path();
        set_mode(&path, if path.is_dir() { 0o755 } else { 0o644 });
    }
    set_mode(home.root(), 0o755);
    let error = Home::open(home.root()).unwrap_err();
    let shown = error.to_string();
    for name in [
        ". (0755)",
        "admin.cred (0644)",
        "envelope.keys (0644)",
        "localhost.key (0644)",
        "session.key (0644)",
        "sessions (0755)",
        "web-ipc-ca.key (0644)",
    ] {
        assert!(shown.contains(name), "{name}: {shown}");
    }
    assert!(!shown.contains(".crt"), "certificates are for everybody: {shown}");
    assert_eq!(error.remedy(), Some(fix(home.root(), ModeChange::OwnerOnly)));
    let mended =
        std::process::Command::new("chmod").args(["-R", "go="]).arg(home.root()).status().unwrap();
    assert!(mended.success());
    Home::open(home.root()).unwrap();
}

#[test]
fn one_open_file_or_the_sessions_alone_have_a_chmod_of_their_own() {
    let directory = tempfile::tempdir().unwrap();
    let home = complete_home(directory.path());
    std::fs::create_dir(home.sessions_dir()).unwrap();
    for (path, open, closed) in
        [(home.sessions_dir(), 0o755, 0o700), (home.session_key_file(), 0o640, 0o600)]
    {
        set_mode(&path, open);
        let remedy = Home::open(home.root()).unwrap_err().remedy();
        assert_eq!(remedy, Some(fix(&path, ModeChange::To(closed))));
        set_mode(&path, closed);
    }
}

/// The files that a client on another host has, in a directory.
fn client_directory(directory: &std::path::Path) -> Home {
    let home = complete_home(directory);
    for file in [home.admin_cred_file(), home.session_key_file(), home.ca_key_file()] {
        std::fs::remove_file(file).unwrap();
    }
    home
}

#[test]
fn the_directory_of_a_client_is_opened_as_one_and_is_no_home() {
    let directory = tempfile::tempdir().unwrap();
    let client = client_directory(directory.path());
    let error = Home::open(client.root()).unwrap_err();
    assert!(matches!(error, HomeError::ClientDirectory { .. }), "{error:?}");
    assert_eq!(error.remedy(), Some(Remedy::UseServersHome.or(Remedy::UseAnotherHome)));
    let opened = Home::open_client(client.root()).unwrap();
    opened.envelope_keys().unwrap();
    std::fs::remove_file(client.ca_certificate_file()).unwrap();
    let error = opened.ca_certificates().unwrap_err();
    let copy = Remedy::CopyFromServer { path: client.ca_certificate_file() };
    assert_eq!(error.remedy(), Some(copy), "{error:?}");
    // A complete home can be used for sending too.
    let other = tempfile::tempdir().unwrap();
    assert!(Home::open_client(complete_home(other.path()).root()).is_ok());
    assert!(matches!(Home::open_client(other.path().join("none")), Err(HomeError::Missing { .. })));
}

#[test]
fn a_mounted_secret_is_used_only_by_who_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let home = complete_home(directory.path());
    // Kubernetes mounts a secret like this: the files are in a directory named after the date, with
    // links to them.
    let (dated, data) = (home.root().join("..2026_11_27"), home.root().join("..data"));
    std::fs::create_dir(&dated).unwrap();
    std::os::unix::fs::symlink("..2026_11_27", &data).unwrap();
    for entry in std::fs::read_dir(home.root()).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            let name = entry.file_name();
            std::fs::rename(entry.path(), dated.join(&name)).unwrap();
            set_mode(&dated.join(&name), 0o440);
            std::os::unix::fs::symlink(std::path::Path::new("..data").join(&name), entry.path())
                .unwrap();
        }
    }
    for path in [&dated, home.root()] {
        set_mode(path, 0o755);
    }
    assert!(Home::open(home.root()).is_err());
    let mounted = Home::dangerously_open_readable(home.root()).unwrap();
    mounted.envelope_keys().unwrap();
    mounted.session_keys().unwrap();
    mounted.admin_credentials().unwrap();
    mounted.identity(&"localhost".parse().unwrap()).unwrap();
    // Others with write access are never accepted.
    set_mode(&dated, 0o775 | 0o002);
    let error = mounted.envelope_keys().unwrap_err();
    assert!(matches!(error, HomeError::WritableByOthers { .. }), "{error:?}");
    set_mode(&dated, 0o755);
    set_mode(home.root(), 0o757);
    assert!(Home::dangerously_open_readable(home.root()).is_err());
}

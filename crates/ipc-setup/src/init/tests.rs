//! Making a home: once, twice, at the same time, interrupted anywhere. Passwords are hashed cheaply
//! here.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use ipc_base::{ModeChange, Place, Remedy};
use ipc_home::{HomeError, PeerName};
use ipc_pki::{Authority, CertificateInfo};

use super::*;
use crate::users;

mod import;
mod lost;
mod others;

const NOW_SECS: u64 = 1_742_413_130;
/// What a child process of these tests makes its home of.
const CHILD_HOME: &str = "IPC_SETUP_TEST_CHILD_HOME";

fn make(path: &Path, force: bool) -> Result<Initialised, SetupError> {
    let options = InitOptions { force, now_secs: NOW_SECS };
    init_with(path, &options, &ipc_store::Options::new().bcrypt_cost_for_tests())
}

fn new_home() -> (tempfile::TempDir, Home) {
    let directory = tempfile::tempdir().unwrap();
    let made = make(&directory.path().join("home"), false).unwrap();
    assert_eq!((made.outcome, made.kept_aside), (Outcome::Created, None));
    (directory, made.home)
}

/// Every file with its content, modification time and mode.
fn snapshot(directory: &Path) -> BTreeMap<PathBuf, (Vec<u8>, std::time::SystemTime, u32)> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let metadata = path.metadata().unwrap();
        let content = if metadata.is_file() { std::fs::read(&path).unwrap() } else { Vec::new() };
        files.insert(
            path,
            (content, metadata.modified().unwrap(), metadata.permissions().mode() & 0o7777),
        );
    }
    files
}

/// That everything of a home is there, fits together, and is closed to others.
fn assert_good(home: &Home) {
    let home = Home::open(home.root()).unwrap();
    home.envelope_keys().unwrap();
    home.session_keys().unwrap();
    let name = PeerName::parse("localhost").unwrap();
    assert_eq!(home.identity(&name).unwrap().chain.len(), 1);
    let read = |path: PathBuf| std::fs::read(path).unwrap();
    Authority::load(&read(home.ca_certificate_file()), &read(home.ca_key_file())).unwrap();
    // A pair that fits and is no authority: that is all `load` then finds wrong with it.
    let leaf = Authority::load(&read(home.certificate_file(&name)), &read(home.key_file(&name)))
        .unwrap_err();
    assert!(matches!(leaf, ipc_pki::LoadError::NotAnAuthority), "{leaf:?}");
    let info = CertificateInfo::from_pem(&read(home.certificate_file(&name))).unwrap();
    assert_eq!(info.alt_names, ["localhost", "127.0.0.1", "::1"]);
    let admin = home.admin_credentials().unwrap();
    assert_eq!((admin.username.as_str(), admin.password.len()), ("ipc-admin", 32));
    assert!(users(&home).unwrap().verify("ipc-admin", &admin.password).unwrap());
    assert_eq!(home.root().metadata().unwrap().permissions().mode() & 0o7777, 0o700);
    for (path, (_, _, mode)) in snapshot(home.root()) {
        assert_eq!(mode, if path.is_dir() { 0o700 } else { 0o600 }, "{}", path.display());
        assert!(!path.to_str().unwrap().ends_with(".tmp"), "{}", path.display());
    }
}

#[test]
fn a_new_home_has_everything() {
    let (_directory, home) = new_home();
    assert_good(&home);
    assert_eq!(users(&home).unwrap().list().unwrap().len(), 1);
    assert_eq!(home.peer_names().unwrap().len(), 1);
}

#[test]
fn two_homes_share_no_secret() {
    let ((_one, one), (_other, other)) = (new_home(), new_home());
    for file in ["envelope.keys", "session.key", "web-ipc-ca.key", "localhost.key"] {
        let read = |home: &Home| std::fs::read(home.root().join(file)).unwrap();
        assert_ne!(read(&one), read(&other), "{file}");
    }
    assert_ne!(
        std::fs::read(one.envelope_keys_file()).unwrap(),
        std::fs::read(one.session_key_file()).unwrap()
    );
    assert_ne!(
        one.admin_credentials().unwrap().password,
        other.admin_credentials().unwrap().password
    );
}

#[test]
fn a_second_run_changes_nothing_at_all() {
    let (_directory, home) = new_home();
    let before = snapshot(home.root());
    let again = make(home.root(), false).unwrap();
    assert_eq!((again.outcome, again.kept_aside), (Outcome::AlreadyThere, None));
    assert_eq!(snapshot(home.root()), before);
}

#[test]
fn an_admin_that_was_deleted_on_purpose_stays_deleted() {
    let (_directory, home) = new_home();
    users(&home).unwrap().delete("ipc-admin").unwrap();
    assert_eq!(make(home.root(), false).unwrap().outcome, Outcome::AlreadyThere);
    assert!(users(&home).unwrap().list().unwrap().is_empty());
}

#[test]
fn files_left_by_a_killed_write_are_swept_up() {
    let (_directory, home) = new_home();
    std::fs::remove_file(home.admin_cred_file()).unwrap();
    std::fs::write(home.root().join(".admin.cred.0123456789abcdef.tmp"), "half").unwrap();
    make(home.root(), false).unwrap();
    assert_good(&home);
}

#[test]
fn an_empty_database_that_a_killed_run_left_is_filled() {
    let (_directory, home) = new_home();
    std::fs::remove_file(home.admin_cred_file()).unwrap();
    std::fs::write(home.users_db(), "").unwrap();
    make(home.root(), false).unwrap();
    assert_good(&home);
}

#[test]
fn a_key_beside_the_certificate_of_another_is_made_anew() {
    let ((_one, home), (_other, other)) = (new_home(), new_home());
    std::fs::copy(other.root().join("localhost.key"), home.root().join("localhost.key")).unwrap();
    std::fs::remove_file(home.admin_cred_file()).unwrap();
    make(home.root(), false).unwrap();
    assert_good(&home);
}

#[test]
fn users_of_an_interrupted_home_stay() {
    let (_directory, home) = new_home();
    users(&home).unwrap().add("test1", "pass321".to_owned().into()).unwrap();
    std::fs::remove_file(home.admin_cred_file()).unwrap();
    make(home.root(), false).unwrap();
    assert_good(&home);
    assert!(users(&home).unwrap().verify("test1", "pass321").unwrap());
}

#[test]
fn force_keeps_the_old_home_aside_and_says_where() {
    let (directory, home) = new_home();
    let before = snapshot(home.root());
    let made = make(home.root(), true).unwrap();
    let aside = directory.path().join("home.2025-03-19T19-38-50Z");
    assert_eq!((made.outcome, made.kept_aside.as_ref()), (Outcome::Created, Some(&aside)));
    assert_good(&home);
    let kept: Vec<_> = snapshot(&aside).into_values().collect();
    assert_eq!(kept, before.clone().into_values().collect::<Vec<_>>());
    assert_ne!(
        std::fs::read(home.envelope_keys_file()).unwrap(),
        before[&home.envelope_keys_file()].0
    );
    assert_good(&Home::at(&aside));

    let again = make(home.root(), true).unwrap();
    assert_eq!(again.kept_aside, Some(directory.path().join("home.2025-03-19T19-38-50Z.2")));
}

#[test]
fn force_without_an_old_home_just_makes_one() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("home");
    let made = make(&path, true).unwrap();
    assert_eq!((made.outcome, made.kept_aside), (Outcome::Created, None));
    assert_good(&made.home);
}

#[test]
fn an_empty_directory_of_the_right_mode_becomes_a_home() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("home");
    ipc_home::make_private_directory(&path).unwrap();
    assert_good(&make(&path, false).unwrap().home);
}

#[test]
fn somebody_elses_directory_is_refused_and_left_alone_with_and_without_force() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("documents");
    std::fs::create_dir(&path).unwrap();
    std::fs::write(path.join("notes.txt"), "dear diary").unwrap();
    let before = snapshot(&path);
    for force in [false, true] {
        let error = make(&path, force).unwrap_err();
        assert!(
            matches!(&error, SetupError::Home(HomeError::NotAHome { path: p }) if *p == path),
            "{error:?}"
        );
        assert!(error.remedy().is_some());
        assert_eq!(snapshot(&path), before);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}

#[test]
fn a_home_open_to_others_is_refused_with_the_chmod_and_not_changed() {
    let (_directory, home) = new_home();
    std::fs::set_permissions(home.root(), std::fs::Permissions::from_mode(0o755)).unwrap();
    for force in [false, true] {
        let error = make(home.root(), force).unwrap_err();
        assert!(
            matches!(error, SetupError::Home(HomeError::TooOpen { mode: 0o755, .. })),
            "{error:?}"
        );
        let (paths, change) = (vec![home.root().to_owned()], ModeChange::To(0o700));
        assert_eq!(error.remedy(), Some(Remedy::FixPermissions { paths, change }));
    }
    assert_eq!(home.root().metadata().unwrap().permissions().mode() & 0o7777, 0o755);
}

#[test]
fn a_file_in_the_place_of_the_home_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    std::fs::write(&path, "").unwrap();
    let error = make(&path, false).unwrap_err();
    assert!(matches!(error, SetupError::Home(HomeError::NotADirectory { .. })), "{error:?}");
    let error = make(&path.join("home"), false).unwrap_err();
    assert!(matches!(error, SetupError::Home(HomeError::NotADirectory { .. })), "{error:?}");
}

#[test]
fn an_error_halfway_leaves_what_the_next_run_completes() {
    for obstacle in
        ["session.key", "web-ipc-ca.key", "localhost.crt", "sessions", "users.db", "admin.cred"]
    {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::at(directory.path().join("home"));
        let path = home.root().join(obstacle);
        ipc_home::make_private_directory(home.root()).unwrap();
        std::fs::write(home.root().join(".lock"), "").unwrap();
        // A link into nowhere is neither there nor can it be made: what the disk refuses halfway
        // looks like this.
        std::os::unix::fs::symlink("/nowhere/at/all", &path).unwrap();
        let made = make(home.root(), false);
        if made.is_err() {
            assert!(
                matches!(Home::open(home.root()), Err(HomeError::Incomplete { .. })),
                "{obstacle}"
            );
            std::fs::remove_file(&path).unwrap();
            make(home.root(), false).unwrap();
        }
        assert_good(&home);
    }
}

#[test]
fn the_users_of_the_python_tool_are_taken_in() {
    let directory = tempfile::tempdir().unwrap();
    let (_other, source) = new_home();
    users(&source).unwrap().delete("ipc-admin").unwrap();
    users(&source).unwrap().add("test1", "pass321".to_owned().into()).unwrap();
    let home = Home::at(directory.path().join("home"));
    ipc_home::make_private_directory(home.root()).unwrap();
    std::fs::copy(source.users_db(), home.users_db()).unwrap();
    std::fs::set_permissions(home.users_db(), std::fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(make(home.root(), false).unwrap().outcome, Outcome::Created);
    assert_good(&home);
    assert!(users(&home).unwrap().verify("test1", "pass321").unwrap());
}

#[test]
fn a_foreign_authority_in_an_incomplete_home_is_refused_and_kept() {
    let (_directory, home) = new_home();
    std::fs::remove_file(home.admin_cred_file()).unwrap();
    std::fs::copy(home.root().join("localhost.crt"), home.ca_certificate_file()).unwrap();
    let before = std::fs::read(home.ca_key_file()).unwrap();
    let error = make(home.root(), false).unwrap_err();
    assert!(matches!(error, SetupError::BadAuthority { .. }), "{error:?}");
    assert_eq!(std::fs::read(home.ca_key_file()).unwrap(), before);
}

#[test]
fn of_eight_threads_at_once_one_makes_the_home_and_all_get_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("deep/home");
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let runs: Vec<_> =
            (0..8).map(|_| scope.spawn(|| make(&path, false).unwrap().outcome)).collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    });
    assert_eq!(
        outcomes.iter().filter(|outcome| **outcome == Outcome::Created).count(),
        1,
        "{outcomes:?}"
    );
    assert_eq!(
        outcomes.iter().filter(|outcome| **outcome == Outcome::AlreadyThere).count(),
        7,
        "{outcomes:?}"
    );
    assert_good(&Home::at(&path));
}

#[test]
fn with_force_at_the_same_time_every_home_ever_made_is_whole() {
    let (directory, home) = new_home();
    std::thread::scope(|scope| {
        for force in [true, false, true, true] {
            let home = &home;
            scope.spawn(move || make(home.root(), force).unwrap());
        }
    });
    let homes: Vec<_> =
        std::fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    // One that comes when another has just moved the home away finds nothing to move.
    assert!((2..=4).contains(&homes.len()), "{homes:?}");
    for path in homes {
        assert_good(&Home::at(path));
    }
}

/// Not a test of its own: what the processes of the two tests below do.
#[test]
fn child_process_makes_a_home() {
    if let Some(path) = std::env::var_os(CHILD_HOME) {
        make(Path::new(&path), false).unwrap();
    }
}

fn child(home: &Path, umask: &str) -> Command {
    let mut command = Command::new("sh");
    command
        .args([
            "-c",
            &format!("umask {umask}; exec \"$0\" --exact init::tests::child_process_makes_a_home"),
        ])
        .arg(std::env::current_exe().unwrap())
        .env(CHILD_HOME, home)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

#[test]
fn four_processes_at_once_under_any_umask_make_one_home_closed_to_others() {
    for umask in ["000", "077", "777"] {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::at(directory.path().join("deep/below/home"));
        let children: Vec<_> = (0..4).map(|_| child(home.root(), umask).spawn().unwrap()).collect();
        for mut child in children {
            assert!(child.wait().unwrap().success(), "umask {umask}");
        }
        assert_good(&home);
    }
}

#[test]
fn a_run_killed_at_any_point_leaves_what_the_next_completes() {
    for piece in [
        ".lock",
        "envelope.keys",
        "session.key",
        "web-ipc-ca.key",
        "localhost.key",
        "sessions",
        "users.db",
    ] {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::at(directory.path().join("home"));
        let mut child = child(home.root(), "022").spawn().unwrap();
        let awaited = home.root().join(piece);
        while !awaited.exists() && child.try_wait().unwrap().is_none() {
            std::hint::spin_loop();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        make(home.root(), false).unwrap();
        assert_good(&home);
    }
}

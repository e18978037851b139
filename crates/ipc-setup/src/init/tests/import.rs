//! Taking over an environment of the Python tool: whole, damaged, refused, interrupted. A
//! certificate authority as that tool makes it is in the tests of `ipc-pki` and in `xtask`.

use ipc_envelope::{Key, KeyRing};
use ipc_home::Credentials;

use super::*;
use crate::init::import::import_with;
use crate::{Imported, ImportedAdmin, LeftReason};

/// The key that the tool wraps its key with, once more: a change of it must be seen.
const WRAPPING_KEY: &str = "y8rKnU8Mr6FwrWPDmExeLuaaCO6nUQ8YKAk4Uu0M8Ic=";
/// 128 characters, as the tool makes them, of which bcrypt reads 72.
const ADMIN_PASSWORD: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\
                              0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
/// When the token in the specification of Fernet was made: the age of a wrapped key does not count.
const LONG_AGO_SECS: u64 = 499_162_800;

fn seal(key: &str, plaintext: &[u8]) -> String {
    KeyRing::from_text(key).unwrap().seal_base64url(plaintext, LONG_AGO_SECS, [7; 16])
}

fn message_key() -> String {
    Key::from_bytes([3; 32]).to_base64url().to_string()
}

fn write_admin(environment: &Path, password: &str) {
    let credentials = format!(r#"{{"username":"ipc-admin","password":"{password}"}}"#);
    let pickle = ipc_pickle::from_json(&credentials).unwrap();
    std::fs::write(environment.join(".ipca"), seal(&message_key(), &pickle)).unwrap();
}

/// An environment with the pairs `localhost` and `peer1`, the users `ipc-admin` and `test1`.
fn environment() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let (directory, home) = new_home();
    let request = crate::CertificateRequest::new("peer1", NOW_SECS);
    crate::issue_certificate(&home, &request).unwrap();
    let users = users(&home).unwrap();
    users.change_password("ipc-admin", ADMIN_PASSWORD[..72].to_owned().into()).unwrap();
    users.add("test1", "pass321".to_owned().into()).unwrap();
    drop(users);
    let environment = directory.path().join("web_env");
    std::fs::create_dir(&environment).unwrap();
    for file in [
        "users.db",
        "web-ipc-ca.crt",
        "web-ipc-ca.key",
        "localhost.crt",
        "localhost.key",
        "peer1.crt",
        "peer1.key",
    ] {
        std::fs::copy(home.root().join(file), environment.join(file)).unwrap();
    }
    std::fs::write(environment.join("ca-serial"), "3").unwrap();
    let wrapped = seal(WRAPPING_KEY, message_key().as_bytes());
    std::fs::write(environment.join(".xork"), wrapped).unwrap();
    write_admin(&environment, ADMIN_PASSWORD);
    let new = directory.path().join("new");
    (directory, environment, new)
}

fn import(path: &Path, from: &Path) -> Result<Imported, SetupError> {
    import_with(path, from, NOW_SECS, &ipc_store::Options::new().bcrypt_cost_for_tests())
}

fn names_in(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn everything_is_taken_over_and_the_environment_stays_as_it_was() {
    let (directory, environment, new) = environment();
    std::fs::set_permissions(environment.join(".xork"), PermissionsExt::from_mode(0o644)).unwrap();
    let before = snapshot(&environment);
    let imported = import(&new, &environment).unwrap();
    assert_eq!(snapshot(&environment), before);
    assert_eq!(names_in(directory.path()), ["home", "new", "web_env"]);

    let home = Home::open(&new).unwrap();
    assert_eq!(imported.home.root(), home.root());
    let keys = std::fs::read_to_string(home.envelope_keys_file()).unwrap();
    assert_eq!(keys, format!("{}\n", message_key()));
    assert_eq!(imported.admin, ImportedAdmin::Kept);
    let Credentials { username, password } = home.admin_credentials().unwrap();
    assert_eq!((username.as_str(), password.as_str()), ("ipc-admin", &ADMIN_PASSWORD[..72]));
    let stored = users(&home).unwrap();
    assert!(stored.verify("test1", "pass321").unwrap());
    assert!(stored.verify(&username, &password).unwrap());
    drop(stored);
    let names: Vec<_> = imported.users.iter().map(|user| user.as_str()).collect();
    assert_eq!(names, ["ipc-admin", "test1"]);
    let pairs: Vec<_> = imported.pairs.iter().map(|pair| pair.name().as_str()).collect();
    assert_eq!((pairs, imported.made_pair), (vec!["localhost", "peer1"], None));
    for file in ["web-ipc-ca.key", "localhost.crt", "localhost.key", "peer1.crt", "peer1.key"] {
        let read = |root: &Path| std::fs::read(root.join(file)).unwrap();
        assert_eq!(read(&new), read(&environment), "{file}");
    }
    let left: Vec<_> = imported.left.iter().map(|file| (file.name.as_str(), file.reason)).collect();
    assert_eq!(left, [("ca-serial", LeftReason::SerialNumbers)]);
    assert!(imported.is_open_to_others);
    for (path, (_, _, mode)) in snapshot(&new) {
        assert_eq!(mode, if path.is_dir() { 0o700 } else { 0o600 }, "{}", path.display());
    }
    // It is a home as any other.
    assert_eq!(make(&new, false).unwrap().outcome, Outcome::AlreadyThere);
    let findings = crate::diagnose(&new, NOW_SECS).findings;
    let bad: Vec<_> =
        findings.iter().filter(|one| one.severity == crate::Severity::Error).collect();
    assert!(bad.is_empty(), "{bad:?}");
}

#[test]
fn who_may_change_the_environment_is_told_of_or_refused() {
    let chmod = |path: &Path, mode| {
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    };
    for (open, mode, is_open) in [
        (None, 0, false),
        (Some(""), 0o770, true),
        (Some("peer1.crt"), 0o620, true),
        (Some("peer1.crt"), 0o644, false),
        (Some("peer1.key"), 0o640, true),
    ] {
        let (_directory, environment, new) = environment();
        chmod(&environment, 0o755);
        for name in names_in(&environment) {
            chmod(&environment.join(name), 0o600);
        }
        if let Some(name) = open {
            chmod(&environment.join(name), mode);
        }
        let imported = import(&new, &environment).unwrap();
        assert_eq!(imported.is_open_to_others, is_open, "{open:?} {mode:o}");
    }
    // Only root can give files away.
    if !rustix::process::geteuid().is_root() {
        return;
    }
    for name in ["", "users.db", ".xork", "peer1.crt"] {
        let (_directory, environment, new) = environment();
        std::os::unix::fs::chown(environment.join(name), Some(12_345), None).unwrap();
        let error = import(&new, &environment).unwrap_err();
        assert!(matches!(error, SetupError::Home(HomeError::ForeignOwner { .. })), "{error:?}");
        assert!(!new.exists());
    }
}

#[test]
fn an_empty_directory_and_a_link_to_one_become_the_home() {
    let (directory, environment, new) = environment();
    ipc_home::make_private_directory(&new).unwrap();
    let link = directory.path().join("link");
    std::os::unix::fs::symlink(&new, &link).unwrap();
    let imported = import(&link, &environment).unwrap();
    assert_eq!(imported.home.root(), new.canonicalize().unwrap());
    assert!(link.is_symlink() && !new.is_symlink());
    Home::open(&new).unwrap();
}

#[test]
fn an_admin_without_good_credentials_has_a_new_password() {
    type Spoil = fn(&Path);
    let spoils: [Spoil; 3] = [
        |environment| std::fs::remove_file(environment.join(".ipca")).unwrap(),
        |environment| std::fs::write(environment.join(".ipca"), "damaged").unwrap(),
        |environment| write_admin(environment, "another"),
    ];
    for spoil in spoils {
        let (_directory, environment, new) = environment();
        spoil(&environment);
        let imported = import(&new, &environment).unwrap();
        assert_eq!(imported.admin, ImportedAdmin::NewPassword);
        let password = imported.home.admin_credentials().unwrap().password;
        assert_eq!(password.len(), 32);
        let users = users(&imported.home).unwrap();
        assert!(users.verify("ipc-admin", &password).unwrap());
        assert!(!users.verify("ipc-admin", &ADMIN_PASSWORD[..72]).unwrap());
        assert!(users.verify("test1", "pass321").unwrap());
    }
}

#[test]
fn an_admin_that_was_deleted_stays_deleted() {
    let (_directory, environment, first) = environment();
    // Through a home of it, since the tool's own commands are not here.
    let home = import(&first, &environment).unwrap().home;
    users(&home).unwrap().delete("ipc-admin").unwrap();
    std::fs::copy(home.users_db(), environment.join("users.db")).unwrap();
    let imported = import(&first.with_file_name("second"), &environment).unwrap();
    assert_eq!((imported.admin, imported.users.len()), (ImportedAdmin::NoUser, 1));
    Home::open(imported.home.root()).unwrap();
}

#[test]
fn what_cannot_be_used_is_left_and_named() {
    let (directory, environment, new) = environment();
    let other = make(&directory.path().join("other"), false).unwrap().home;
    let copy = |from: &Path, to: &str| std::fs::copy(from, environment.join(to)).unwrap();
    for half in ["crt", "key"] {
        let pair = |name: &str| format!("{name}.{half}");
        copy(&other.root().join(pair("localhost")), &pair("foreign"));
        copy(&environment.join(pair("peer1")), &pair("PEER1"));
        copy(&environment.join(pair("peer1")), &pair("users"));
    }
    copy(&environment.join("peer1.crt"), "alone.crt");
    copy(&environment.join("peer1.crt"), "wrong.crt");
    copy(&environment.join("localhost.key"), "wrong.key");
    for name in ["torn.crt", "torn.key", "notes.txt", "no-extension"] {
        std::fs::write(environment.join(name), "text").unwrap();
    }
    for half in ["localhost.crt", "localhost.key"] {
        std::fs::remove_file(environment.join(half)).unwrap();
    }
    let imported = import(&new, &environment).unwrap();
    let left: Vec<_> = imported.left.iter().map(|file| (file.name.as_str(), file.reason)).collect();
    assert_eq!(
        left,
        [
            ("alone.crt", LeftReason::HalfPair),
            ("ca-serial", LeftReason::SerialNumbers),
            ("foreign.crt", LeftReason::OtherAuthority),
            ("no-extension", LeftReason::Unknown),
            ("notes.txt", LeftReason::Unknown),
            ("peer1.crt", LeftReason::Name),
            ("torn.crt", LeftReason::BadPair),
            ("users.crt", LeftReason::Name),
            ("wrong.crt", LeftReason::BadPair),
        ]
    );
    assert_eq!(imported.pairs.len(), 1);
    assert_eq!(imported.pairs[0].name().as_str(), "PEER1");
    // Every home has this one.
    assert_eq!(imported.made_pair.unwrap().as_str(), "localhost");
    assert_good_pairs(&imported.home);
}

fn assert_good_pairs(home: &Home) {
    let authority = crate::provision::load_authority(home).unwrap();
    for name in home.peer_names().unwrap() {
        let read = |path| std::fs::read(path).unwrap();
        let (certificate, key) = (read(home.certificate_file(&name)), read(home.key_file(&name)));
        assert!(authority.has_issued(&certificate, &key), "{name}");
    }
}

#[test]
fn an_environment_that_lacks_or_has_damaged_what_is_needed_leaves_no_home() {
    for file in ["users.db", ".xork", "web-ipc-ca.crt", "web-ipc-ca.key"] {
        let (directory, environment, new) = environment();
        let path = environment.join(file);
        let whole = std::fs::read(&path).unwrap();
        let refused = || {
            let before = snapshot(&environment);
            let error = import(&new, &environment).unwrap_err();
            assert_eq!(snapshot(&environment), before);
            assert_eq!(names_in(directory.path()), ["home", "web_env"], "{file}: {error}");
            error
        };
        std::fs::write(&path, "damaged").unwrap();
        let error = refused();
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        assert_eq!(error.remedy(), Some(Remedy::RestoreFile { path: path.clone() }));

        std::fs::rename(&path, directory.path().join("web_env/kept")).unwrap();
        std::os::unix::fs::symlink("kept", &path).unwrap();
        let error = refused();
        assert!(
            matches!(&error, SetupError::Home(HomeError::SymbolicLink { path: at }) if *at == path),
            "{error:?}"
        );

        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        let error = refused();
        assert!(matches!(error, SetupError::Home(HomeError::NotAFile { .. })), "{error:?}");

        std::fs::remove_dir(&path).unwrap();
        let error = refused();
        assert!(
            matches!(&error, SetupError::NotAnEnvironment { missing, .. } if *missing == [file]),
            "{error:?}"
        );

        // Nothing of the failures is left that would be in the way.
        std::fs::write(&path, whole).unwrap();
        import(&new, &environment).unwrap();
    }
}

#[test]
fn the_directory_of_the_tools_package_is_refused_with_the_one_that_is_meant() {
    let (directory, environment, new) = environment();
    let error = import(&new, directory.path()).unwrap_err();
    assert_eq!(error.remedy(), Some(Remedy::TakeOver { path: environment.clone() }));
    for (path, from) in [(&environment, &environment), (&environment.join("home"), &environment)] {
        let before = snapshot(&environment);
        let error = import(path, from).unwrap_err();
        assert!(matches!(error, SetupError::Home(HomeError::PythonTool { .. })), "{error:?}");
        assert_eq!(snapshot(&environment), before);
    }
    for nothing in [directory.path().join("nothing"), environment.join("users.db")] {
        let error = import(&new, &nothing).unwrap_err();
        assert!(matches!(error, SetupError::NoEnvironment { .. }), "{error:?}");
    }
}

#[test]
fn what_is_there_already_is_neither_replaced_nor_changed() {
    let (directory, environment, new) = environment();
    let only_users = directory.path().join("only-users");
    ipc_home::make_private_directory(&only_users).unwrap();
    std::fs::copy(environment.join("users.db"), only_users.join("users.db")).unwrap();
    let begun = make(&directory.path().join("begun"), false).unwrap().home;
    std::fs::remove_file(begun.admin_cred_file()).unwrap();
    make(&new, false).unwrap();
    for path in [&only_users, begun.root(), &new] {
        let before = snapshot(path);
        let error = import(path, &environment).unwrap_err();
        assert!(matches!(error, SetupError::HomeExists { .. }), "{error:?}");
        assert_eq!(error.remedy(), Some(Remedy::UseAnotherHome));
        assert_eq!(snapshot(path), before);
    }
    let documents = directory.path().join("documents");
    ipc_home::make_private_directory(&documents).unwrap();
    std::fs::write(documents.join("notes.txt"), "dear diary").unwrap();
    let error = import(&documents, &environment).unwrap_err();
    assert!(matches!(error, SetupError::Home(HomeError::NotAHome { .. })), "{error:?}");
}

#[test]
fn what_a_killed_run_has_left_is_cleared_by_the_next() {
    let (directory, environment, new) = environment();
    let staging = directory.path().join(".new.0123456789abcdef.importing");
    ipc_home::make_private_directory(&staging).unwrap();
    ipc_home::make_private_directory(&staging.join("sessions")).unwrap();
    for file in ["envelope.keys", "peer9.key", ".peer9.crt.0123456789abcdef.tmp"] {
        ipc_home::write_secret_atomically(&staging.join(file), b"half").unwrap();
    }
    import(&new, &environment).unwrap();
    assert_eq!(names_in(directory.path()), ["home", "new", "web_env"]);
    assert!(!new.join("peer9.key").exists());
}

#[test]
fn what_is_not_exactly_a_left_directory_of_ours_stays_as_it_is() {
    let (directory, environment, new) = environment();
    let other = make(&directory.path().join("other"), false).unwrap().home;
    let before = snapshot(other.root());
    let links = [".new.importing", ".new.0123456789abcdef.importing"];
    for name in links {
        std::os::unix::fs::symlink(other.root(), directory.path().join(name)).unwrap();
    }
    let kept = [".new.0123456789ABCDEF.importing", ".new.0.importing", ".new2.importing"];
    for name in kept {
        ipc_home::make_private_directory(&directory.path().join(name)).unwrap();
    }
    let locked = directory.path().join(".new.fedcba9876543210.importing");
    ipc_home::make_private_directory(&locked).unwrap();
    let _lock = crate::lock::Lock::acquire(&Home::at(&locked)).unwrap().unwrap();
    import(&new, &environment).unwrap();
    assert_eq!(snapshot(other.root()), before);
    for name in links.iter().chain(&kept) {
        assert!(directory.path().join(name).exists(), "{name}");
    }
    assert!(locked.join(".lock").exists());
    Home::open(&new).unwrap();
}

#[test]
fn a_home_within_the_environment_is_refused_behind_a_link_too() {
    let (directory, environment, _new) = environment();
    let link = directory.path().join("link");
    std::os::unix::fs::symlink(&environment, &link).unwrap();
    let before = snapshot(&environment);
    for path in [link.join("home"), link.join("a/home"), link.clone()] {
        let error = import(&path, &environment).unwrap_err();
        assert!(matches!(error, SetupError::Home(HomeError::PythonTool { .. })), "{error:?}");
        assert_eq!(snapshot(&environment), before);
    }
}

#[test]
fn of_runs_at_the_same_time_one_makes_the_home() {
    let (directory, environment, new) = environment();
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let runs: Vec<_> = (0..4).map(|_| scope.spawn(|| import(&new, &environment))).collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    });
    let (made, refused): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
    assert_eq!((made.len(), refused.len()), (1, 3), "{refused:?}");
    for error in refused {
        assert!(matches!(error, Err(SetupError::HomeExists { .. })), "{error:?}");
    }
    assert_eq!(names_in(directory.path()), ["home", "new", "web_env"]);
    Home::open(&new).unwrap();
}

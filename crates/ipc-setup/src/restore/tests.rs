//! Homes that are restored, and what is refused.

use std::os::unix::fs::PermissionsExt as _;

use ipc_base::Remedy;
use ipc_inbox::Inbox;

use super::*;
use crate::sealed_backup::SealedBackup;
use crate::testing::{names, new_home};
use crate::users;
use crate::users::runtime;

const NOW_SECS: u64 = 1_750_000_000;

/// A home, a sealed backup of it, and the code.
fn backed_up() -> (tempfile::TempDir, Home, PathBuf, Code) {
    let (directory, home) = new_home();
    users(&home).unwrap().add("carol", "pass321".to_owned().into()).unwrap();
    runtime().unwrap().block_on(async {
        let (sender, _inbox) = Inbox::durable().open(home.inbox_db()).await.unwrap();
        sender.finish().await;
    });
    let file = directory.path().join("home.backup");
    let code = Code::generate().unwrap();
    let made = SealedBackup::begin(&home, &file).unwrap().run(&code, NOW_SECS).unwrap();
    assert_eq!(made.messages, Some(0));
    (directory, home, file, code)
}

fn options(force: bool) -> InitOptions {
    InitOptions { force, now_secs: NOW_SECS + 60 }
}

fn restore(file: &Path, path: &Path, code: &Code) -> Result<Restored, SetupError> {
    Restore::begin(file, path, &options(false))?.run(code)
}

#[test]
fn a_restored_home_is_the_home_that_was_backed_up() {
    let (directory, home, file, code) = backed_up();
    let empty = directory.path().join("empty");
    make_private_directory(&empty).unwrap();
    for path in [directory.path().join("new"), directory.path().join("a/b/new"), empty] {
        let restored = restore(&file, &path, &code).unwrap();
        assert_eq!((restored.made_at_secs, restored.messages), (NOW_SECS, Some(0)));
        assert_eq!(restored.made_of, home.root().to_str().unwrap());
        assert_eq!(restored.kept_aside, None);
        assert_eq!(restored.home.root(), path);
        let kept: Vec<String> =
            names(home.root()).into_iter().filter(|name| !name.ends_with(".lock")).collect();
        assert_eq!(names(&path), kept);
        for name in &kept {
            let mode = |root: &Path| root.join(name).metadata().unwrap().permissions().mode();
            assert_eq!(mode(&path), mode(home.root()), "{name}");
        }
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o7777, 0o700);
        let restored = Home::open(&path).unwrap();
        let names = users(&restored).unwrap().list().unwrap();
        assert_eq!(
            names.iter().map(|name| name.as_str()).collect::<Vec<_>>(),
            ["ipc-admin", "carol"]
        );
    }
    assert_eq!(names(directory.path()), ["a", "empty", "home", "home.backup", "new"]);
}

#[test]
fn a_home_that_is_there_stays_unless_it_is_moved_aside_by_force() {
    let (directory, home, file, code) = backed_up();
    let keys = std::fs::read(home.envelope_keys_file()).unwrap();
    let (_other_directory, other) = new_home();
    let others_keys = std::fs::read(other.envelope_keys_file()).unwrap();
    let error = restore(&file, other.root(), &code).unwrap_err();
    assert!(matches!(error, SetupError::RestoreNotEmpty { .. }), "{error:?}");
    assert_eq!(error.remedy(), Some(Remedy::MoveHomeAside));

    // A server that runs on it keeps it.
    let held = other.hold().unwrap();
    let error = Restore::begin(&file, other.root(), &options(true)).unwrap_err();
    assert_eq!(error.remedy(), Some(Remedy::StopServer), "{error:?}");
    drop(held);
    let begun = Restore::begin(&file, other.root(), &options(true)).unwrap();
    let held = other.hold().unwrap();
    let error = begun.run(&code).unwrap_err();
    assert!(matches!(error, SetupError::InUse { .. }), "{error:?}");
    drop(held);
    assert_eq!(std::fs::read(other.envelope_keys_file()).unwrap(), others_keys);

    // And so does a wrong code.
    let begun = Restore::begin(&file, other.root(), &options(true)).unwrap();
    assert!(begun.run(&Code::generate().unwrap()).is_err());
    assert_eq!(std::fs::read(other.envelope_keys_file()).unwrap(), others_keys);

    let restored = Restore::begin(&file, other.root(), &options(true)).unwrap().run(&code).unwrap();
    assert_eq!(std::fs::read(other.envelope_keys_file()).unwrap(), keys);
    let aside = Home::at(restored.kept_aside.unwrap());
    assert_eq!(std::fs::read(aside.envelope_keys_file()).unwrap(), others_keys);
    drop(directory);
}

#[test]
fn what_is_no_home_is_neither_filled_nor_moved() {
    let (directory, _, file, code) = backed_up();
    let somebodys = directory.path().join("somebodys");
    make_private_directory(&somebodys).unwrap();
    std::fs::write(somebodys.join("letter"), "dear").unwrap();
    let client = directory.path().join("client");
    make_private_directory(&client).unwrap();
    for name in ["envelope.keys", "web-ipc-ca.crt"] {
        std::fs::write(client.join(name), "x").unwrap();
        std::fs::set_permissions(client.join(name), std::fs::Permissions::from_mode(0o600))
            .unwrap();
    }
    for place in [&somebodys, &client, &file] {
        for force in [false, true] {
            let begun = Restore::begin(&file, place, &options(force));
            assert!(begun.is_err(), "{}", place.display());
        }
    }
    assert_eq!(names(&somebodys), ["letter"]);
    assert_eq!(names(&client), ["envelope.keys", "web-ipc-ca.crt"]);
    drop(code);
}

#[test]
fn nothing_is_left_of_a_backup_that_is_not_good() {
    let (directory, _, file, code) = backed_up();
    let before = names(directory.path());
    let good = std::fs::read(&file).unwrap();
    let path = directory.path().join("new");
    let refused = |content: &[u8], code: &Code| {
        let bad = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(bad.path(), content).unwrap();
        let error = restore(bad.path(), &path, code).unwrap_err();
        assert_eq!(names(directory.path()), before, "{error:?}");
        assert!(error.remedy().is_some(), "{error:?}");
        match error {
            SetupError::BackupFile { source, .. } => source,
            error => panic!("{error:?}"),
        }
    };
    assert_eq!(refused(&good, &Code::generate().unwrap()), BackupFileError::WrongCode);
    assert_eq!(refused(&good[..good.len() - 1], &code), BackupFileError::Truncated);
    assert_eq!(refused(&good[..good.len() / 2], &code), BackupFileError::Truncated);
    let mut changed = good.clone();
    *changed.last_mut().unwrap() ^= 1;
    assert_eq!(refused(&changed, &code), BackupFileError::Damaged);
    assert_eq!(refused(b"", &code), BackupFileError::NotABackup);
    assert_eq!(refused(b"a text that is no backup", &code), BackupFileError::NotABackup);
    let newer = [b"WIB2", &good[4..]].concat();
    assert_eq!(refused(&newer, &code), BackupFileError::Unsupported);

    let error = restore(&directory.path().join("home"), &path, &code).unwrap_err();
    let source = BackupFileError::Directory;
    assert!(matches!(&error, SetupError::BackupFile { source: s, .. } if *s == source));
    let error = restore(&directory.path().join("nothing"), &path, &code).unwrap_err();
    assert!(matches!(error, SetupError::BackupFileUnreadable { .. }), "{error:?}");
}

/// A backup of whatever is in a directory.
fn sealed(from: &Path, header: &[u8]) -> (tempfile::NamedTempFile, Code) {
    let file = tempfile::NamedTempFile::new().unwrap();
    let code = Code::generate().unwrap();
    let out = file.reopen().unwrap();
    let mut writer =
        crate::sealed_stream::SealedWriter::begin(out, &code, header, NOW_SECS).unwrap();
    archive::pack(from, &mut writer).unwrap();
    writer.finish().unwrap();
    (file, code)
}

const HEADER: &[u8] = br#"{"format":1,"made_by":"a test","made_at":1,"home":"/x"}"#;

#[test]
fn what_is_sealed_must_be_a_whole_and_sound_home() {
    let (directory, home, ..) = backed_up();
    let path = directory.path().join("new");
    let error = |header: &[u8]| {
        let (file, code) = sealed(home.root(), header);
        let error = restore(file.path(), &path, &code).unwrap_err();
        assert!(!path.exists(), "{error:?}");
        (error.remedy(), error)
    };
    let (file, code) = sealed(home.root(), HEADER);
    restore(file.path(), &path, &code).unwrap();
    std::fs::remove_dir_all(&path).unwrap();

    let newer = error(br#"{"format":2,"made_by":"a test","made_at":1,"home":"/x"}"#);
    assert_eq!(newer.0, Some(Remedy::UseNewerVersion), "{newer:?}");

    let users_db = std::fs::read(home.users_db()).unwrap();
    let mut broken = users_db.clone();
    broken[4096..4200].fill(0xff);
    std::fs::write(home.users_db(), &broken).unwrap();
    let (_, damaged) = error(HEADER);
    assert!(matches!(damaged, SetupError::RestoredDatabase { .. }), "{damaged:?}");
    std::fs::write(home.users_db(), &users_db).unwrap();

    let keys = std::fs::read(home.envelope_keys_file()).unwrap();
    let other = ipc_envelope::Key::from_bytes([7; 32]).to_base64url();
    std::fs::write(home.envelope_keys_file(), format!("{}\n", *other)).unwrap();
    let (_, unfit) = error(HEADER);
    assert!(matches!(unfit, SetupError::RestoredHome { .. }), "{unfit:?}");
    std::fs::write(home.envelope_keys_file(), keys).unwrap();

    std::fs::remove_file(home.session_key_file()).unwrap();
    let (_, missing) = error(HEADER);
    let lacks = BackupFileError::NotWhole { missing: vec!["session.key"] };
    assert!(
        matches!(&missing, SetupError::BackupFile { source, .. } if *source == lacks),
        "{missing:?}"
    );
    let (_, nothing) = {
        let empty = tempfile::tempdir().unwrap();
        let (file, code) = sealed(empty.path(), HEADER);
        ((), restore(file.path(), &path, &code).unwrap_err())
    };
    assert!(matches!(nothing, SetupError::BackupFile { .. }), "{nothing:?}");
}

#[test]
fn what_is_sealed_must_fit_together() {
    let (directory, home, ..) = backed_up();
    let (_other_directory, other) = new_home();
    let path = directory.path().join("new");
    for (name, content) in [
        ("session.key", Vec::new()),
        ("localhost.key", Vec::new()),
        ("web-ipc-ca.key", std::fs::read(other.ca_key_file()).unwrap()),
        ("localhost.crt", std::fs::read(other.root().join("localhost.crt")).unwrap()),
        ("node.json", b"{".to_vec()),
    ] {
        let file = home.root().join(name);
        let good = std::fs::read(&file).ok();
        std::fs::write(&file, content).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        // No such home is backed up, and no such backup is restored.
        let out = directory.path().join("bad.backup");
        let begun = SealedBackup::begin(&home, &out).unwrap();
        let error = begun.run(&Code::generate().unwrap(), NOW_SECS).unwrap_err();
        let SetupError::NotRestorable { reason, .. } = &error else { panic!("{name}: {error:?}") };
        assert!(reason.contains(name) && !reason.contains('/'), "{reason}");
        assert!(error.remedy().is_some() && !out.exists(), "{name}");
        let (sealed, code) = sealed(home.root(), HEADER);
        let error = restore(sealed.path(), &path, &code).unwrap_err();
        let SetupError::RestoredHome { reason, .. } = &error else { panic!("{name}: {error:?}") };
        assert!(reason.contains(name) && !reason.contains('/'), "{reason}");
        assert!(!path.exists(), "{name}");
        match good {
            Some(good) => std::fs::write(&file, good).unwrap(),
            None => std::fs::remove_file(&file).unwrap(),
        }
    }
}

#[test]
fn an_authority_whose_key_is_kept_elsewhere_is_no_fault() {
    let (directory, home, ..) = backed_up();
    std::fs::remove_file(home.ca_key_file()).unwrap();
    let (out, path) = (directory.path().join("keyless"), directory.path().join("new"));
    let code = Code::generate().unwrap();
    SealedBackup::begin(&home, &out).unwrap().run(&code, NOW_SECS).unwrap();
    restore(&out, &path, &code).unwrap();
    assert!(path.join("web-ipc-ca.crt").exists() && !path.join("web-ipc-ca.key").exists());
}

#[test]
fn what_a_killed_restoration_has_left_is_removed_by_the_next_one() {
    let (directory, _, file, code) = backed_up();
    let left = directory.path().join(".new.0123456789abcdef.tmp");
    let others = [".new.manual.tmp", ".other.0123456789abcdef.tmp", ".new.0123456789abcdef"]
        .map(|name| directory.path().join(name));
    std::fs::create_dir(&left).unwrap();
    std::fs::write(left.join("envelope.keys"), "unsealed").unwrap();
    others.iter().for_each(|path| std::fs::create_dir(path).unwrap());
    // One that runs has a lock.
    let running = directory.path().join(".new.fedcba9876543210.tmp");
    let _held = make_locked_directory(&running).unwrap();
    restore(&file, &directory.path().join("new"), &code).unwrap();
    assert!(!left.exists());
    assert!(others.iter().all(|path| path.exists()) && running.exists());
}

#[test]
fn a_restoration_that_was_aborted_leaves_nothing() {
    let (directory, _, file, code) = backed_up();
    let before = names(directory.path());
    let begun = Restore::begin(&file, &directory.path().join("new"), &options(false)).unwrap();
    assert!(begun.abort_handle().abort());
    assert!(matches!(begun.run(&code), Err(SetupError::Aborted)));
    assert_eq!(names(directory.path()), before);
}

#[test]
fn what_appears_at_the_place_meanwhile_stays() {
    let (directory, _, file, code) = backed_up();
    let path = directory.path().join("new");
    let begun = Restore::begin(&file, &path, &options(false)).unwrap();
    make_private_directory(&path).unwrap();
    std::fs::write(path.join("session.key"), "mine").unwrap();
    std::fs::set_permissions(path.join("session.key"), std::fs::Permissions::from_mode(0o600))
        .unwrap();
    let error = begun.run(&code).unwrap_err();
    assert!(matches!(error, SetupError::RestoreNotEmpty { .. }), "{error:?}");
    assert_eq!(std::fs::read(path.join("session.key")).unwrap(), b"mine");
    assert_eq!(names(directory.path()), ["home", "home.backup", "new"]);
}

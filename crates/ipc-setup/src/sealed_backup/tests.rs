//! Backups that are made, and what is refused.

use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use ipc_base::Remedy;

use super::*;
use crate::testing::{names, new_home};

const NOW_SECS: u64 = 1_750_000_000;

#[test]
fn a_backup_is_one_closed_file_and_leaves_nothing_else() {
    let (directory, home) = new_home();
    let before = names(home.root());
    // What a run that was killed has left.
    std::fs::create_dir(home.root().join(".backup-0123456789abcdef")).unwrap();
    std::fs::write(home.root().join(".backup-0123456789abcdef/session.key"), "x").unwrap();
    let out = directory.path().join("home.backup");
    let code = Code::generate().unwrap();
    let made = SealedBackup::begin(&home, &out).unwrap().run(&code, NOW_SECS).unwrap();
    assert_eq!(made, BackedUp { path: out.clone(), messages: None });
    assert_eq!(names(home.root()), before);
    assert_eq!(names(directory.path()), ["home", "home.backup"]);
    assert_eq!(out.metadata().unwrap().permissions().mode() & 0o7777, 0o600);

    // No secret of the home can be read in it.
    let sealed = std::fs::read(&out).unwrap();
    for name in ["envelope.keys", "session.key", "web-ipc-ca.key", "localhost.key"] {
        let secret = std::fs::read(home.root().join(name)).unwrap();
        let piece = &secret[secret.len() / 2..][..16];
        assert!(!sealed.windows(piece.len()).any(|window| window == piece), "{name}");
    }
}

#[test]
fn what_is_there_is_never_replaced_and_no_backup_is_made_within_the_home() {
    let (directory, home) = new_home();
    let out = directory.path().join("home.backup");
    std::fs::write(&out, "mine").unwrap();
    for (out, remedy) in [
        (out.clone(), Remedy::ChooseBackupFile),
        (directory.path().to_owned(), Remedy::ChooseBackupFile),
        (home.root().join("inside"), Remedy::ChooseBackupFile),
        (home.issued_dir(), Remedy::ChooseBackupFile),
        (directory.path().join("no/such/file"), Remedy::ChooseBackupFile),
    ] {
        let error = SealedBackup::begin(&home, &out).unwrap_err();
        assert_eq!(error.remedy(), Some(remedy), "{error:?}");
    }
    // One that appears meanwhile stays, too.
    let begun = SealedBackup::begin(&home, &directory.path().join("later")).unwrap();
    std::fs::write(directory.path().join("later"), "mine").unwrap();
    let error = begun.run(&Code::generate().unwrap(), NOW_SECS).unwrap_err();
    assert!(matches!(error, SetupError::BackupFileExists { .. }), "{error:?}");
    for name in ["home.backup", "later"] {
        assert_eq!(std::fs::read(directory.path().join(name)).unwrap(), b"mine");
    }
    assert_eq!(names(directory.path()), ["home", "home.backup", "later"]);
}

#[test]
fn a_backup_that_was_aborted_or_fails_leaves_nothing() {
    let (directory, home) = new_home();
    let before = names(home.root());
    let begin = || SealedBackup::begin(&home, &directory.path().join("home.backup")).unwrap();
    let begun = begin();
    assert!(begun.abort_handle().abort());
    let error = begun.run(&Code::generate().unwrap(), NOW_SECS).unwrap_err();
    assert!(matches!(error, SetupError::Aborted), "{error:?}");
    std::fs::write(home.users_db(), "this is no database at all, and never was one").unwrap();
    let error = begin().run(&Code::generate().unwrap(), NOW_SECS).unwrap_err();
    assert!(matches!(error, SetupError::Store(_)), "{error:?}");
    assert_eq!(names(home.root()), before);
    assert_eq!(names(directory.path()), ["home"]);
}

#[test]
fn a_file_is_renamed_to_a_name_that_nothing_has() {
    let directory = tempfile::tempdir().unwrap();
    let [from, to, taken] = ["from", "to", "taken"].map(|name| directory.path().join(name));
    std::fs::write(&from, "new").unwrap();
    std::fs::write(&taken, "old").unwrap();
    let error = rename_to_new(&from, &taken).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(std::fs::read(&taken).unwrap(), b"old");
    rename_to_new(&from, &to).unwrap();
    assert_eq!(std::fs::read(&to).unwrap(), b"new");
    assert!(!from.exists());
}

#[test]
fn the_code_is_shown_before_the_file_has_its_name() {
    let (directory, home) = new_home();
    let (before, out) = (names(home.root()), directory.path().join("home.backup"));
    let code = Code::generate().unwrap();
    let run = |show: &dyn Fn() -> io::Result<()>| {
        SealedBackup::begin(&home, &out).unwrap().run_and_show(&code, NOW_SECS, show)
    };
    let error = run(&|| Err(io::ErrorKind::StorageFull.into())).unwrap_err();
    assert!(matches!(error, SetupError::CodeNotShown { .. }), "{error:?}");
    assert_eq!(names(directory.path()), ["home"]);
    assert_eq!(names(home.root()), before);
    run(&|| {
        assert!(!out.exists());
        Ok(())
    })
    .unwrap();
    assert!(out.exists());
    // Nobody is shown the code of a backup that was aborted.
    std::fs::remove_file(&out).unwrap();
    let begun = SealedBackup::begin(&home, &out).unwrap();
    assert!(begun.abort_handle().abort());
    let aborted = begun.run_and_show(&code, NOW_SECS, || panic!("it was aborted"));
    assert!(matches!(aborted, Err(SetupError::Aborted)));
}

/// `docs/examples/backup.py` is written from the page with the format.
#[test]
fn another_implementation_opens_it() {
    let (directory, home) = new_home();
    std::fs::create_dir(home.issued_dir()).unwrap();
    std::fs::write(home.issued_dir().join("0a.crt"), "issued").unwrap();
    // More than one chunk.
    std::fs::write(home.root().join("notes"), vec![b'n'; 3_000_000]).unwrap();
    let out = directory.path().join("home.backup");
    let code = Code::generate().unwrap();
    SealedBackup::begin(&home, &out).unwrap().run(&code, NOW_SECS).unwrap();
    let copy = directory.path().join("copy");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/examples/backup.py");
    let opened = |code: &str, copy: &Path| {
        let mut python = Command::new("python3");
        python.arg(script).args([&out, copy]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = python.stderr(Stdio::piped()).spawn().ok()?;
        // Best effort: without the package it does not read.
        let _ = io::Write::write_all(&mut child.stdin.take().unwrap(), code.as_bytes());
        let output = child.wait_with_output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code() != Some(77)).then_some((output.status.success(), told))
    };
    let Some((is_opened, told)) = opened(&code.to_string(), &copy) else {
        eprintln!("skipped: python3 cannot be run, or has no cryptography with Argon2id");
        return;
    };
    assert!(is_opened, "{told}");
    let expected: Vec<String> = names(home.root())
        .into_iter()
        .filter(|name| !name.ends_with(".lock") && name != "sessions" && !name.contains("db-"))
        .collect();
    assert_eq!(names(&copy), expected);
    for name in expected.iter().filter(|name| *name != "issued" && *name != "users.db") {
        let read = |root: &Path| std::fs::read(root.join(name)).unwrap();
        assert_eq!(read(&copy), read(home.root()), "{name}");
    }
    assert_eq!(std::fs::read(copy.join("issued/0a.crt")).unwrap(), b"issued");
    let other = Code::generate().unwrap().to_string();
    let (is_opened, told) = opened(&other, &directory.path().join("other")).unwrap();
    assert!(!is_opened && told.contains("the code does not open this backup"), "{told}");
    // Nothing is left of a backup that is damaged, or that asks for too much memory.
    let good = std::fs::read(&out).unwrap();
    let before = names(directory.path());
    let mut damaged = good.clone();
    *damaged.last_mut().unwrap() ^= 1;
    let mut costly = good.clone();
    costly[4] = 1;
    let length = u32::from_be_bytes(costly[32..36].try_into().unwrap()) as usize;
    let check = <sha2::Sha256 as sha2::Digest>::digest(&costly[..36 + length]);
    costly[36 + length..][..8].copy_from_slice(&check[..8]);
    for (bad, expected) in [(damaged, "the backup is damaged"), (costly, "more memory or time")] {
        std::fs::write(&out, bad).unwrap();
        let (is_opened, told) = opened(&code.to_string(), &directory.path().join("other")).unwrap();
        assert!(!is_opened && told.contains(expected), "{told}");
        assert_eq!(names(directory.path()), before);
    }
}

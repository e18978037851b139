//! Which directories may become a home, and what is moved aside under which name.
//!
//! [`crate::init`] comes here before it writes anything. The rule: never fill, change the mode of, or move a directory
//! that is somebody else's.

use std::ffi::{OsStr, OsString};
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use ipc_home::{DIRECTORY_MODE, Home, HomeError, make_private_directory};
use time::OffsetDateTime;

use crate::SetupError;

/// What only a web-ipc home has.
const MARKS: [&str; 3] = ["envelope.keys", "admin.cred", "web-ipc-ca.crt"];

/// What else a home that was interrupted early may hold. A lone `users.db` is also how the Python tool's users bring
/// their accounts along.
const EARLY: [&str; 10] = [
    ".lock",
    "session.key",
    "web-ipc-ca.key",
    "localhost.crt",
    "localhost.key",
    "sessions",
    "users.db",
    "users.db-wal",
    "users.db-shm",
    "users.db-journal",
];

/// Makes the directory with its parents, or checks that what is there is a home, whole or interrupted, or empty.
pub(crate) fn prepare(home: &Home) -> Result<(), SetupError> {
    let root = home.root();
    loop {
        match names_in(root) {
            Ok(names) if !is_ours(&names) => return Err(SetupError::NotAHome { path: root.to_owned() }),
            Ok(_) => match home.check_directory() {
                // Moved aside by another run between the two looks.
                Err(HomeError::Missing { .. }) => continue,
                checked => return Ok(checked?),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                return Err(HomeError::NotADirectory { path: root.to_owned() }.into());
            }
            Err(source) => return Err(HomeError::Unreadable { path: root.to_owned(), source }.into()),
        }
        if let Some(parent) = root.parent() {
            // 0700 for parents too, as the XDG Base Directory Specification asks; existing ones stay as they are.
            DirBuilder::new()
                .recursive(true)
                .mode(DIRECTORY_MODE)
                .create(parent)
                .map_err(|source| HomeError::Unwritable { path: parent.to_owned(), source })?;
        }
        return Ok(make_private_directory(root)?);
    }
}

/// How far a directory that may be a home has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// There is nothing but the lock and left-over temporary files.
    Nothing,
    /// There is only a `users.db` that was brought along.
    OnlyUsers,
    /// Something of a home is there.
    Something,
}

/// Looks how far a home has come.
pub(crate) fn progress(home: &Home) -> Result<Progress, SetupError> {
    let names = names_in(home.root())
        .map_err(|source| HomeError::Unreadable { path: home.root().to_owned(), source })?;
    let mut progress = Progress::Nothing;
    for name in names.iter().filter(|name| *name != ".lock" && !is_temporary(name)) {
        match name.to_str() {
            Some(name) if name.starts_with("users.db") => progress = Progress::OnlyUsers,
            _ => return Ok(Progress::Something),
        }
    }
    Ok(progress)
}

/// Moves a home aside under a dated name beside it, and says which.
pub(crate) fn move_aside(home: &Home, now_secs: u64) -> Result<PathBuf, SetupError> {
    let root = home.root();
    for attempt in 1..=1000 {
        let aside = dated(root, now_secs, attempt);
        if aside.symlink_metadata().is_ok() {
            continue;
        }
        // A rename onto an empty directory made in this very moment would succeed; nothing would be lost.
        return match std::fs::rename(root, &aside) {
            Ok(()) => Ok(aside),
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => continue,
            Err(source) => Err(HomeError::Unwritable { path: aside, source }.into()),
        };
    }
    let source = io::Error::from(io::ErrorKind::AlreadyExists);
    Err(HomeError::Unwritable { path: dated(root, now_secs, 1), source }.into())
}

/// Removes temporary files of runs that were killed. Only for the holder of the lock: nobody else writes here then.
pub(crate) fn sweep(home: &Home) -> Result<(), SetupError> {
    let unreadable = |source| HomeError::Unreadable { path: home.root().to_owned(), source };
    for name in names_in(home.root()).map_err(unreadable)? {
        if is_temporary(&name) {
            let path = home.root().join(name);
            std::fs::remove_file(&path).map_err(|source| HomeError::Unwritable { path, source })?;
        }
    }
    Ok(())
}

fn is_ours(names: &[OsString]) -> bool {
    names.iter().any(|name| MARKS.iter().any(|mark| name == mark))
        || names.iter().all(|name| EARLY.iter().any(|early| name == early) || is_temporary(name))
}

/// `.NAME.<16 hex digits>.tmp`, as `ipc_home::StagedFile` names them.
fn is_temporary(name: &OsStr) -> bool {
    let Some(stem) = name.to_str().and_then(|name| name.strip_prefix('.')?.strip_suffix(".tmp")) else {
        return false;
    };
    stem.rsplit_once('.').is_some_and(|(name, random)| {
        !name.is_empty() && random.len() == 16 && random.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}

fn names_in(directory: &Path) -> io::Result<Vec<OsString>> {
    std::fs::read_dir(directory)?.map(|entry| Ok(entry?.file_name())).collect()
}

/// `HOME.2025-03-19T19-38-50Z`, from the second attempt on with a counter.
fn dated(root: &Path, now_secs: u64, attempt: u32) -> PathBuf {
    let now = i64::try_from(now_secs).ok().and_then(|secs| OffsetDateTime::from_unix_timestamp(secs).ok());
    let now = now.unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let mut name = root.as_os_str().to_owned();
    name.push(format!(
        ".{:04}-{:02}-{:02}T{:02}-{:02}-{:02}Z",
        now.year(),
        u8::from(now.month()),
        now.day(),
        now.hour(),
        now.minute(),
        now.second()
    ));
    if attempt > 1 {
        name.push(format!(".{attempt}"));
    }
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<OsString> {
        names.iter().map(OsString::from).collect()
    }

    #[test]
    fn an_empty_an_early_and_a_whole_home_are_ours() {
        for ours in [
            &[][..],
            &[".lock"],
            &[".lock", ".envelope.keys.0123456789abcdef.tmp"],
            &["users.db"],
            &["users.db", "users.db-wal", "users.db-shm"],
            &["envelope.keys", "anything", "peer1.crt"],
            &["web-ipc-ca.crt", "ca-serial", ".xork"],
        ] {
            assert!(is_ours(&names(ours)), "{ours:?}");
        }
    }

    #[test]
    fn somebody_elses_directory_is_not() {
        for theirs in [&["notes.txt"][..], &["users.db", "notes.txt"], &[".lock", "Cargo.toml"], &[".x.tmp"]]
        {
            assert!(!is_ours(&names(theirs)), "{theirs:?}");
        }
    }

    #[test]
    fn temporary_files_are_told_by_their_whole_form() {
        assert!(is_temporary(OsStr::new(".admin.cred.00112233445566ff.tmp")));
        for name in
            ["admin.cred.00112233445566ff.tmp", ".admin.cred.tmp", "..00112233445566ff.tmp", ".a.0011.tmp"]
        {
            assert!(!is_temporary(OsStr::new(name)), "{name}");
        }
    }

    #[test]
    fn a_home_is_kept_aside_under_the_date_in_utc() {
        let root = Path::new("/data/web-ipc");
        assert_eq!(dated(root, 1_742_413_130, 1), Path::new("/data/web-ipc.2025-03-19T19-38-50Z"));
        assert_eq!(dated(root, 1_742_413_130, 2), Path::new("/data/web-ipc.2025-03-19T19-38-50Z.2"));
    }

    #[test]
    fn a_taken_name_gets_a_counter() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("home");
        std::fs::create_dir(&root).unwrap();
        std::fs::create_dir(dated(&root, 0, 1)).unwrap();
        assert_eq!(move_aside(&Home::at(&root), 0).unwrap(), dated(&root, 0, 2));
        assert!(!root.exists());
    }

    #[test]
    fn a_new_directory_and_its_parents_are_0700() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("a/b/home");
        prepare(&Home::at(&root)).unwrap();
        for path in [root.as_path(), root.parent().unwrap()] {
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o7777, 0o700);
        }
    }
}

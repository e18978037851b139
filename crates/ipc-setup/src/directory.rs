//! Checks which directories may become a home, and moves old homes aside.
//!
//! [`crate::init`] comes here before it writes anything. A directory that belongs to somebody else
//! is never filled, moved, or given another mode. `ipc-home` tells which those are.

use std::io;
use std::path::{Path, PathBuf};

use ipc_home::{Contents, Home, HomeError, Timestamp, make_private_directory};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use crate::SetupError;

/// Makes the directory with its parents. An existing one must be empty or a home, complete or
/// interrupted.
pub(crate) fn prepare(home: &Home) -> Result<(), SetupError> {
    make_or_check(home)?;
    if home.contents()? == Contents::Client {
        return Err(HomeError::ClientDirectory { path: home.root().to_owned() }.into());
    }
    Ok(())
}

/// Makes the directory with its parents, or checks that what is there is a home, a client's too, or
/// empty.
pub(crate) fn make_or_check(home: &Home) -> Result<(), SetupError> {
    match home.check_directory() {
        Err(HomeError::Missing { .. }) => {
            if let Some(parent) = home.root().parent() {
                make_parents(parent)?;
            }
            make_private_directory(home.root())?;
            // In a directory that everybody may write to, somebody else may have made it first.
            // Only this check looks at the parents.
            home.check_directory()?;
        }
        checked => checked?,
    }
    Ok(())
}

/// Makes missing parents with mode 0700, as the XDG Base Directory Specification asks. It makes
/// them one by one, because under a strict umask a parent needs its mode before anything can be
/// made in it.
pub(crate) fn make_parents(path: &Path) -> Result<(), SetupError> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        make_parents(parent)?;
    }
    Ok(make_private_directory(path)?)
}

/// The target of `path` if that is a symbolic link, so that the directory itself is moved aside and
/// made anew.
pub(crate) fn without_link(path: PathBuf) -> PathBuf {
    match path.symlink_metadata() {
        // A dangling link is refused later, by the check of the home.
        Ok(metadata) if metadata.is_symlink() => path.canonicalize().unwrap_or(path),
        _ => path,
    }
}

/// Renames a home to a dated name beside it. Returns the new path.
pub(crate) fn move_aside(home: &Home, now_secs: u64) -> Result<PathBuf, SetupError> {
    let root = home.root();
    for attempt in 1..=1000 {
        let aside = dated(root, now_secs, attempt);
        if aside.symlink_metadata().is_ok() {
            continue;
        }
        // A rename replaces an empty directory that another process has just made. Nothing is lost.
        return match std::fs::rename(root, &aside) {
            // Made again at once: to other programs a missing directory is a home that was never
            // made.
            Ok(()) => make_private_directory(root).map(|()| aside).map_err(SetupError::from),
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => continue,
            Err(source) => Err(SetupError::MoveAside { path: root.to_owned(), aside, source }),
        };
    }
    let source = io::Error::from(io::ErrorKind::AlreadyExists);
    Err(SetupError::MoveAside { path: root.to_owned(), aside: dated(root, now_secs, 1), source })
}

/// Puts the new home `new`, beside the old one, in its place, and the old one under its dated name.
/// One step does both: whoever is killed leaves a home in its place. Returns the path of the old
/// home, or `None` where the file system has no such step; then nothing was changed.
pub(crate) fn exchange(home: &Home, new: &Path, now_secs: u64) -> io::Result<Option<PathBuf>> {
    let root = home.root();
    for attempt in 1..=1000 {
        let aside = dated(root, now_secs, attempt);
        // First the new home has the dated name, which the old one gets by the exchange.
        match renameat_with(CWD, new, CWD, &aside, RenameFlags::NOREPLACE) {
            Ok(()) => {}
            Err(Errno::EXIST) => continue,
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        let error = match renameat_with(CWD, &aside, CWD, root, RenameFlags::EXCHANGE) {
            Ok(()) => return Ok(Some(aside)),
            Err(error) => error,
        };
        std::fs::rename(&aside, new)?;
        return match error {
            Errno::INVAL | Errno::NOSYS | Errno::NOTSUP => Ok(None),
            error => Err(error.into()),
        };
    }
    Ok(None)
}

/// Removes temporary files of runs that were killed. The caller holds the lock, so that no other
/// run still writes them.
pub(crate) fn clean(home: &Home) -> Result<(), SetupError> {
    for directory in [home.root().to_owned(), home.issued_dir(), home.enrolments_dir()] {
        if !directory.is_dir() {
            continue;
        }
        for name in Home::at(&directory).temporary_files()? {
            let path = directory.join(name);
            std::fs::remove_file(&path).map_err(|source| HomeError::Unwritable { path, source })?;
        }
    }
    Ok(())
}

/// `HOME.2025-03-19T19-38-50Z`, with a counter from the second attempt on.
fn dated(root: &Path, now_secs: u64, attempt: u32) -> PathBuf {
    let mut name = root.as_os_str().to_owned();
    name.push(".");
    name.push(Timestamp::from_unix_secs(now_secs).for_file_name());
    if attempt > 1 {
        name.push(format!(".{attempt}"));
    }
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_home_is_kept_aside_under_the_date_in_utc() {
        let root = Path::new("/data/web-ipc");
        assert_eq!(dated(root, 1_742_413_130, 1), Path::new("/data/web-ipc.2025-03-19T19-38-50Z"));
        assert_eq!(
            dated(root, 1_742_413_130, 2),
            Path::new("/data/web-ipc.2025-03-19T19-38-50Z.2")
        );
    }

    #[test]
    fn a_taken_name_gets_a_counter() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("home");
        std::fs::create_dir(&root).unwrap();
        std::fs::create_dir(dated(&root, 0, 1)).unwrap();
        assert_eq!(move_aside(&Home::at(&root), 0).unwrap(), dated(&root, 0, 2));
        assert_eq!(root.read_dir().unwrap().count(), 0);
    }

    #[test]
    fn an_exchange_leaves_a_home_in_its_place() {
        let directory = tempfile::tempdir().unwrap();
        let (root, new) = (directory.path().join("home"), directory.path().join("new"));
        for path in [&root, &new, &dated(&root, 0, 1)] {
            std::fs::create_dir(path).unwrap();
        }
        std::fs::write(root.join("old"), "").unwrap();
        std::fs::write(new.join("new"), "").unwrap();
        let aside = exchange(&Home::at(&root), &new, 0).unwrap().unwrap();
        assert_eq!(aside, dated(&root, 0, 2));
        assert!(root.join("new").exists() && aside.join("old").exists() && !new.exists());
        // What fails changes nothing.
        std::fs::create_dir(&new).unwrap();
        let gone = Home::at(directory.path().join("gone"));
        assert!(exchange(&gone, &new, 0).is_err());
        assert!(new.exists() && !dated(gone.root(), 0, 1).exists());
    }

    #[test]
    fn nothing_is_made_below_a_directory_that_others_may_write_to() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        let error = prepare(&Home::at(directory.path().join("a/home"))).unwrap_err();
        assert!(matches!(error, SetupError::Home(HomeError::WritableByOthers { .. })), "{error:?}");
        assert_eq!(directory.path().read_dir().unwrap().count(), 0);
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

//! The lock of a home: only its holder changes the home.
//!
//! It is a `flock` on `.lock` in the home, which the system releases when its holder ends, even if
//! that is killed. Readers need no lock, since every file is replaced by a rename.

use std::fs::{File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use ipc_home::{FILE_MODE, Home, HomeError};
use rustix::fs::OFlags;

use crate::{SetupError, directory, pair};

/// The lock of one home, held until it is dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Waits for the lock of the home and takes it.
    ///
    /// `None` if the home was moved aside meanwhile. The lock would be that of the old home, so the
    /// caller begins again.
    pub(crate) fn acquire(home: &Home) -> Result<Option<Self>, SetupError> {
        let path = home.lock_file();
        let Some(file) = open(&path)? else { return Ok(None) };
        let failed = |source: io::Error| SetupError::Lock { path: path.clone(), source };
        file.lock().map_err(failed)?;
        let held = file.metadata().map_err(failed)?;
        match std::fs::symlink_metadata(&path) {
            Ok(there) if (there.dev(), there.ino()) == (held.dev(), held.ino()) => {}
            Ok(_) => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        }
        Ok(Some(Self { _file: file }))
    }

    /// Takes the lock on another file of a home, if nobody holds it and the home is there.
    pub(crate) fn try_acquire_file(path: &Path) -> Result<Option<Self>, SetupError> {
        let Some(file) = open(path)? else { return Ok(None) };
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(source)) => {
                Err(SetupError::Lock { path: path.to_owned(), source })
            }
        }
    }

    /// Waits for the lock on another file of a home. `None` if the home is not there.
    pub(crate) fn acquire_file(path: &Path) -> Result<Option<Self>, SetupError> {
        let Some(file) = open(path)? else { return Ok(None) };
        file.lock().map_err(|source| SetupError::Lock { path: path.to_owned(), source })?;
        Ok(Some(Self { _file: file }))
    }

    /// Takes the lock of a complete home, and finishes or undoes interrupted changes. Waits while
    /// the home is made anew.
    pub(crate) fn of_complete(home: &Home) -> Result<Self, SetupError> {
        loop {
            home.check_directory()?;
            if !home.is_complete()? {
                return Err(HomeError::Incomplete { path: home.root().to_owned() }.into());
            }
            if let Some(lock) = Self::acquire(home)? {
                directory::clean(home)?;
                pair::recover(home)?;
                return Ok(lock);
            }
        }
    }
}

/// Opens a lock file, or makes it. `None` if its directory is not there.
fn open(path: &Path) -> Result<Option<File>, SetupError> {
    let failed = |source: io::Error| SetupError::Lock { path: path.to_owned(), source };
    let not_a_file =
        || failed(io::Error::new(io::ErrorKind::IsADirectory, "it is not a regular file"));
    // NOFOLLOW: a symbolic link would make and lock a file elsewhere. The checks below use the
    // open file, so that nothing can be swapped between opening and checking.
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(FILE_MODE)
        .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed())
        .open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(_) if path.symlink_metadata().is_ok_and(|there| !there.is_file()) => {
            return Err(not_a_file());
        }
        Err(error) => return Err(failed(error)),
    };
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(not_a_file());
    }
    // A file of another user keeps its mode. So does a file with a second hard link, which may be
    // another user's trap.
    let is_ours = metadata.uid() == rustix::process::geteuid().as_raw() && metadata.nlink() == 1;
    if is_ours && metadata.permissions().mode() & 0o7777 != FILE_MODE {
        // Under a strict umask no other process could open it.
        file.set_permissions(Permissions::from_mode(FILE_MODE)).map_err(failed)?;
    }
    Ok(Some(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_file_is_0600_and_can_be_taken_again_once_dropped() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::at(directory.path());
        for _ in 0..2 {
            let lock = Lock::acquire(&home).unwrap().unwrap();
            assert!(File::open(home.lock_file()).unwrap().try_lock().is_err());
            drop(lock);
        }
        assert_eq!(home.lock_file().metadata().unwrap().permissions().mode() & 0o7777, 0o600);
    }

    #[test]
    fn what_is_not_a_file_in_the_place_of_the_lock_is_refused_with_what_to_do() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::at(directory.path());
        let target = directory.path().join("target");
        let refused = || {
            let error = Lock::acquire(&home).unwrap_err();
            let remove = ipc_base::Remedy::RemoveObstacle { path: home.lock_file() };
            assert_eq!(error.remedy(), Some(remove), "{error:?}");
        };
        std::fs::create_dir(home.lock_file()).unwrap();
        refused();
        std::fs::remove_dir(home.lock_file()).unwrap();
        for target_is_there in [false, true] {
            std::os::unix::fs::symlink(&target, home.lock_file()).unwrap();
            refused();
            std::fs::remove_file(home.lock_file()).unwrap();
            assert_eq!(
                target.exists(),
                target_is_there,
                "what the link leads to is neither made nor changed"
            );
            std::fs::write(&target, "").unwrap();
        }
        let made = std::process::Command::new("mkfifo").arg(home.lock_file()).status().unwrap();
        assert!(made.success());
        refused();
    }

    #[test]
    fn a_home_that_is_gone_is_none() {
        let directory = tempfile::tempdir().unwrap();
        assert!(Lock::acquire(&Home::at(directory.path().join("none"))).unwrap().is_none());
    }

    #[test]
    fn a_home_moved_aside_while_waiting_is_none() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::at(directory.path().join("home"));
        std::fs::create_dir(home.root()).unwrap();
        let first = Lock::acquire(&home).unwrap().unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| Lock::acquire(&home).unwrap().is_none());
            // The thread may wait already, or open the file only after the rename. In either case
            // it must not take the old home for the new one.
            std::fs::rename(home.root(), directory.path().join("aside")).unwrap();
            drop(first);
            assert!(waiting.join().unwrap());
        });
    }
}

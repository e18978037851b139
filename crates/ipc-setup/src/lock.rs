//! One at a time: the lock that everyone who changes a home holds.
//!
//! `flock` on `.lock` in the home; the system frees it when its holder ends, however it ends. Readers need none, since
//! every file is replaced in one step.

use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};

use ipc_home::{FILE_MODE, Home};

use crate::SetupError;

/// The lock of one home, held until it is dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Waits for the lock of the home and takes it.
    ///
    /// `None` if the home was moved aside meanwhile: what is locked then is not what lies at its path, and the caller
    /// begins again.
    pub(crate) fn acquire(home: &Home) -> Result<Option<Self>, SetupError> {
        let path = home.lock_file();
        let failed = |source: io::Error| SetupError::Lock { path: path.clone(), source };
        let opened = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(FILE_MODE)
            .open(&path);
        let file = match opened {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        file.lock().map_err(failed)?;
        let held = file.metadata().map_err(failed)?;
        match std::fs::symlink_metadata(&path) {
            Ok(there) if (there.dev(), there.ino()) == (held.dev(), held.ino()) => {}
            Ok(_) => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        }
        if held.permissions().mode() & 0o7777 != FILE_MODE {
            file.set_permissions(Permissions::from_mode(FILE_MODE)).map_err(failed)?;
        }
        Ok(Some(Self { _file: file }))
    }
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
            // Whether the other already waits or only opens after the move, it must not take the old home for the new.
            std::fs::rename(home.root(), directory.path().join("aside")).unwrap();
            drop(first);
            assert!(waiting.join().unwrap());
        });
    }
}

//! Says that a home is in use, so that nobody moves it away under a server.
//!
//! A server holds a shared lock on the home's directory itself, whatever its inbox; who replaces
//! the home asks for the same lock alone. The lock is `flock`'s: the system frees it when its
//! holder ends, however it ends. It goes with the directory where that is renamed, and needs
//! nothing to be written, so that it also works on a read-only file system.

use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;

use crate::{Home, HomeError};

/// The lock on the directory of a home, held until it is dropped.
#[derive(Debug)]
pub struct InUse {
    _directory: File,
}

impl Home {
    /// Says that this process serves the home, until what is returned is dropped. Any number of
    /// processes may.
    ///
    /// Waits for whoever is moving the home away in this moment.
    ///
    /// # Errors
    /// [`HomeError::Missing`] if it has been moved away, [`HomeError::Unreadable`] if it cannot be
    /// locked.
    pub fn hold(&self) -> Result<InUse, HomeError> {
        let directory = self.directory()?;
        match directory.lock_shared() {
            Ok(()) if self.is_at_its_path(&directory)? => Ok(InUse { _directory: directory }),
            Ok(()) => self.hold(),
            // A file system without such locks is no reason not to serve.
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                Ok(InUse { _directory: directory })
            }
            Err(source) => Err(self.unreadable(source)),
        }
    }

    /// Takes the home for this process alone, to move or replace it; `None` while a server has it.
    ///
    /// # Errors
    /// As [`hold`](Self::hold).
    pub fn try_hold_alone(&self) -> Result<Option<InUse>, HomeError> {
        let directory = self.directory()?;
        match directory.try_lock() {
            Ok(()) => Ok(Some(InUse { _directory: directory })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => {
                Ok(Some(InUse { _directory: directory }))
            }
            Err(TryLockError::Error(source)) => Err(self.unreadable(source)),
        }
    }

    fn directory(&self) -> Result<File, HomeError> {
        File::open(self.root()).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => HomeError::Missing { path: self.root().to_owned() },
            _ => self.unreadable(source),
        })
    }

    /// It may have been moved away while the lock was waited for.
    fn is_at_its_path(&self, directory: &File) -> Result<bool, HomeError> {
        let number = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
        let held = directory.metadata().map_err(|source| self.unreadable(source))?;
        let there = self.directory()?.metadata().map_err(|source| self.unreadable(source))?;
        Ok(number(held) == number(there))
    }

    fn unreadable(&self, source: io::Error) -> HomeError {
        HomeError::Unreadable { path: self.root().to_owned(), source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_may_serve_and_none_may_move_it_meanwhile() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::at(directory.path());
        let (first, second) = (home.hold().unwrap(), home.hold().unwrap());
        assert!(home.try_hold_alone().unwrap().is_none());
        drop(first);
        assert!(home.try_hold_alone().unwrap().is_none());
        drop(second);
        let alone = home.try_hold_alone().unwrap().unwrap();
        assert!(home.try_hold_alone().unwrap().is_none());
        drop(alone);
        home.hold().unwrap();
    }

    #[test]
    fn a_server_that_waited_for_a_home_that_was_moved_away_takes_the_one_that_is_there() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::at(directory.path().join("home"));
        std::fs::create_dir(home.root()).unwrap();
        let alone = home.try_hold_alone().unwrap().unwrap();
        std::thread::scope(|scope| {
            let server = scope.spawn(|| {
                loop {
                    match home.hold() {
                        // Between the move and the new home.
                        Err(HomeError::Missing { .. }) => std::thread::yield_now(),
                        other => break other,
                    }
                }
            });
            // Whether it already waits or only opens after the move, it must not serve the old home
            // for the new.
            std::fs::rename(home.root(), directory.path().join("aside")).unwrap();
            std::fs::create_dir(home.root()).unwrap();
            drop(alone);
            let _serving = server.join().unwrap().unwrap();
            assert!(home.try_hold_alone().unwrap().is_none());
            assert!(Home::at(directory.path().join("aside")).try_hold_alone().unwrap().is_some());
        });
    }

    #[test]
    fn a_home_that_is_gone_is_missing() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::at(directory.path().join("none"));
        assert!(matches!(home.hold(), Err(HomeError::Missing { .. })));
    }
}

//! Marks a home as in use, so that no process moves it away while a server uses it.
//!
//! A server holds a shared lock on the home's directory itself, with any kind of inbox. A process
//! that replaces the home requests the exclusive lock. The lock is that of `flock`: the system
//! releases it when its holder ends, even in a crash. The lock follows the directory through a
//! rename. It writes nothing, so it also works on a read-only file system.

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
    /// Marks the home as served by this process, until the result is dropped. Any number of
    /// processes may do so at once.
    ///
    /// If another process is moving the home away at this moment, the call waits.
    ///
    /// # Errors
    /// [`HomeError::Missing`] if the home was moved away, [`HomeError::Unreadable`] if it cannot be
    /// locked.
    pub fn hold(&self) -> Result<InUse, HomeError> {
        let directory = self.directory()?;
        match directory.lock_shared() {
            Ok(()) if self.is_at_its_path(&directory)? => Ok(InUse { _directory: directory }),
            Ok(()) => self.hold(),
            // A file system without such locks must not prevent a server.
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                Ok(InUse { _directory: directory })
            }
            Err(source) => Err(self.unreadable(source)),
        }
    }

    /// Locks the home for this process alone, to move or replace it; `None` while a server uses it.
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

    /// The directory may have been moved away during the wait for the lock.
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
                        // The home has been moved, and the new one is not there yet.
                        Err(HomeError::Missing { .. }) => std::thread::yield_now(),
                        other => break other,
                    }
                }
            });
            // The server may wait for the lock already, or open the directory only after the move.
            // In neither case may it serve the old home.
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

//! Decides which of the processes that share a home logs in: a lock file beside the kept session.
//!
//! The client uses it when its session has ended: one process logs in, and the others use the
//! session that it keeps. The lock saves logins and protects nothing. A process that cannot get it
//! logs in without it: the directory may not be writable, or the holder may hang.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::SystemTime;

use rustix::fs::OFlags;

use crate::permissions::FILE_MODE;
use crate::{Home, HomeError};

/// How often the lock file is reopened if it is replaced at the moment of locking, before that
/// becomes an error.
const TRIES_MAX: u32 = 10;

/// The right to log in, held until it is dropped or the process ends, even in a crash.
#[derive(Debug)]
pub struct LoginLock {
    _file: File,
}

/// Identifies a holder of the login lock: two values are equal if the same holder has held it
/// without interruption.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginHolder {
    device: u64,
    inode: u64,
    since: Option<SystemTime>,
}

/// Which process may log in.
#[derive(Debug)]
pub enum LoginTurn {
    /// The caller, as long as it keeps the lock.
    Ours(LoginLock),
    /// Another process, or another client of this process.
    Theirs(LoginHolder),
}

impl Home {
    /// Takes the lock for the login of `username` at `server`, if it is free. It never blocks.
    ///
    /// # Errors
    /// [`HomeError::Unwritable`] with the system's error, [`HomeError::TooOpen`], and the errors of
    /// [`keep_session`](Self::keep_session) for the directory. The caller then logs in without the
    /// lock.
    pub fn try_login_lock(&self, server: &str, username: &str) -> Result<LoginTurn, HomeError> {
        let path = self.login_lock_file(server, username);
        self.make_sessions_dir()?;
        let failed = |source: io::Error| HomeError::Unwritable { path: path.clone(), source };
        for _ in 0..TRIES_MAX {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(FILE_MODE)
                .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
                .open(&path)
                .map_err(failed)?;
            match file.try_lock() {
                Ok(()) => (),
                Err(TryLockError::WouldBlock) => {
                    return Ok(LoginTurn::Theirs(holder(&file).map_err(failed)?));
                }
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
            // Another process took this holder for hanging and removed the file: the locked file is
            // no longer the one at the path.
            if is_at(&file, &path).map_err(failed)? {
                // Shows waiting processes that the holder has changed.
                file.set_modified(SystemTime::now()).map_err(failed)?;
                return Ok(LoginTurn::Ours(LoginLock { _file: file }));
            }
        }
        Err(failed(io::Error::other("other processes keep replacing it")))
    }

    /// Takes the lock away from a holder that hangs: the next caller of
    /// [`try_login_lock`](Self::try_login_lock) gets it. If another holder has it already, nothing
    /// happens. Between the check and the removal the holder may change; then two processes log in,
    /// which does no harm.
    ///
    /// # Errors
    /// [`HomeError::Unwritable`] with the system's error.
    pub fn break_login_lock(
        &self,
        server: &str,
        username: &str,
        holder_seen: &LoginHolder,
    ) -> Result<(), HomeError> {
        let path = self.login_lock_file(server, username);
        let result = OpenOptions::new()
            .read(true)
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
            .open(&path)
            .and_then(|file| holder(&file))
            .and_then(
                |there| if there == *holder_seen { std::fs::remove_file(&path) } else { Ok(()) },
            );
        match result {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(HomeError::Unwritable { path, source })
            }
            _ => Ok(()),
        }
    }
}

fn holder(file: &File) -> io::Result<LoginHolder> {
    let metadata = file.metadata()?;
    Ok(LoginHolder {
        device: metadata.dev(),
        inode: metadata.ino(),
        since: metadata.modified().ok(),
    })
}

fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let held = file.metadata()?;
    match path.symlink_metadata() {
        Ok(there) => Ok((there.dev(), there.ino()) == (held.dev(), held.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn home() -> (tempfile::TempDir, Home) {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::at(directory.path());
        (directory, home)
    }

    fn ours(home: &Home) -> LoginLock {
        match home.try_login_lock("localhost", "test1").unwrap() {
            LoginTurn::Ours(lock) => lock,
            LoginTurn::Theirs(holder) => panic!("{holder:?} has it"),
        }
    }

    fn theirs(home: &Home) -> LoginHolder {
        match home.try_login_lock("localhost", "test1").unwrap() {
            LoginTurn::Ours(_) => panic!("nobody has it"),
            LoginTurn::Theirs(holder) => holder,
        }
    }

    #[test]
    fn one_has_the_lock_until_it_lets_go_and_each_user_and_server_has_its_own() {
        let (_directory, home) = home();
        let lock = ours(&home);
        assert_eq!(theirs(&home), theirs(&home));
        for (server, user) in [("localhost", "test2"), ("other", "test1")] {
            assert!(matches!(home.try_login_lock(server, user).unwrap(), LoginTurn::Ours(_)));
        }
        let first = theirs(&home);
        drop(lock);
        let _lock = ours(&home);
        assert_ne!(theirs(&home), first, "it is another holder");
    }

    #[test]
    fn a_holder_that_hangs_is_passed_over_and_the_next_one_is_left_alone() {
        let (_directory, home) = home();
        let _hangs = ours(&home);
        let hanging = theirs(&home);
        home.break_login_lock("localhost", "test1", &hanging).unwrap();
        let _next = ours(&home);
        home.break_login_lock("localhost", "test1", &hanging).unwrap();
        assert_ne!(theirs(&home), hanging);
        std::fs::remove_file(home.login_lock_file("localhost", "test1")).unwrap();
        home.break_login_lock("localhost", "test1", &hanging).unwrap();
    }

    #[test]
    fn the_file_is_0600_and_a_link_in_its_place_is_not_followed() {
        let (directory, home) = home();
        drop(ours(&home));
        let path = home.login_lock_file("localhost", "test1");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o7777, 0o600);
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(directory.path().join("elsewhere"), &path).unwrap();
        assert!(matches!(
            home.try_login_lock("localhost", "test1"),
            Err(HomeError::Unwritable { .. })
        ));
        assert!(!directory.path().join("elsewhere").exists());
    }

    #[test]
    fn without_a_directory_to_write_to_there_is_no_lock() {
        let (_directory, home) = home();
        std::fs::write(home.sessions_dir(), "a file where the directory should be").unwrap();
        assert!(matches!(
            home.try_login_lock("localhost", "test1"),
            Err(HomeError::Unwritable { .. })
        ));
    }
}

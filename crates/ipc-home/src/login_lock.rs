//! Which of the processes that share a home logs in: a lock file beside the kept session.
//!
//! The client comes here when its session is over, so that one process logs in and the others take
//! the session that it keeps. The lock saves logins and protects nothing: whoever cannot have it,
//! for want of a directory to write to or because its holder hangs, logs in without it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::SystemTime;

use rustix::fs::OFlags;

use crate::permissions::FILE_MODE;
use crate::{Home, HomeError};

/// How often a lock file is opened that is replaced while it is locked, before that counts as an
/// error.
const TRIES_MAX: u32 = 10;

/// The right to log in, held until it is dropped, or until the process ends, however it ends.
#[derive(Debug)]
pub struct LoginLock {
    _file: File,
}

/// Somebody who holds the lock of a login: equal as long as it is the same holder, in one go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginHolder {
    device: u64,
    inode: u64,
    since: Option<SystemTime>,
}

/// Whose turn it is to log in.
#[derive(Debug)]
pub enum LoginTurn {
    /// The caller's, as long as it keeps the lock.
    Ours(LoginLock),
    /// Another process', or another client's of this one.
    Theirs(LoginHolder),
}

impl Home {
    /// Takes the lock of `username`'s login at `server`, if nobody holds it. It never waits.
    ///
    /// # Errors
    /// [`HomeError::Unwritable`] with what the system said, [`HomeError::TooOpen`] and those of
    /// [`keep_session`](Self::keep_session) for the directory: then there is nobody to agree with.
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
            // Another one took this holder for one that hangs, and what lies there now is not what
            // is locked here.
            if is_at(&file, &path).map_err(failed)? {
                // So that those who wait see that the holder is another one.
                file.set_modified(SystemTime::now()).map_err(failed)?;
                return Ok(LoginTurn::Ours(LoginLock { _file: file }));
            }
        }
        Err(failed(io::Error::other("it is replaced again and again")))
    }

    /// Takes the lock away from a holder that hangs: the next one to try has it. Where another one
    /// holds it by now, nothing happens, save for the moment between the two looks; then two log
    /// in, which does no harm.
    ///
    /// # Errors
    /// [`HomeError::Unwritable`] with what the system said.
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

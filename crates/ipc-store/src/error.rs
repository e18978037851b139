//! What can go wrong with a store, and where SQLite's own errors end.
//!
//! Every fallible call of the crate comes out here. A remedy is not part of a message: the program that prints it knows
//! its own commands.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

use sqlx::migrate::MigrateError;

use crate::hashing::HashingError;
use crate::username::Username;

/// Why a store did not do what it was asked to do. Never holds a password or a hash.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The user to be added exists already.
    #[error("user {username} exists already")]
    Taken {
        /// Whose name is taken.
        username: Username,
    },
    /// The user to be deleted or changed does not exist.
    #[error("user {username} does not exist")]
    Unknown {
        /// Who is not there.
        username: Username,
    },
    /// There is no such file or, while making it, no such directory.
    #[error("there is no user database {}", path.display())]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// What is there is not an SQLite database.
    #[error("{} is not a user database", path.display())]
    NotADatabase {
        /// What was opened.
        path: PathBuf,
    },
    /// It is an SQLite database with a table `users` that has other columns.
    #[error("the table of users in {} has other columns than expected", path.display())]
    OtherTable {
        /// What was opened.
        path: PathBuf,
    },
    /// A newer version of this crate has been at work on the file.
    #[error("the user database {} was written by a newer version", path.display())]
    Newer {
        /// What was opened.
        path: PathBuf,
    },
    /// It is an SQLite database, but a damaged one.
    #[error("the user database {} is damaged", path.display())]
    Corrupt {
        /// What was opened.
        path: PathBuf,
    },
    /// It can be read but not written.
    #[error("the user database {} is read-only", path.display())]
    ReadOnly {
        /// What was to be written.
        path: PathBuf,
    },
    /// The system does not let this process at the file or its directory.
    #[error("permission to use the user database {} was denied", path.display())]
    PermissionDenied {
        /// What was to be used.
        path: PathBuf,
    },
    /// Others kept it locked for longer than the busy timeout.
    #[error("the user database {} is in use by another process", path.display())]
    Busy {
        /// What is locked.
        path: PathBuf,
    },
    /// There is no room for what was to be written; what was there before still is.
    #[error("there is no room left for the user database {}", path.display())]
    DiskFull {
        /// What was to be written.
        path: PathBuf,
    },
    /// Anything else that SQLite or the system reports; the cause says what.
    #[error("the user database {} cannot be used", path.display())]
    Unavailable {
        /// What was to be used.
        path: PathBuf,
        /// What was reported.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// bcrypt could not be run: the system gave no randomness, or the async runtime is shutting down.
    #[error("the password cannot be hashed")]
    Hashing {
        /// What was reported.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}

impl From<HashingError> for StoreError {
    fn from(error: HashingError) -> Self {
        Self::Hashing { source: error.0 }
    }
}

impl StoreError {
    /// What `error`, met while using the database at `path`, means.
    pub(crate) fn from_sqlx(path: &Path, error: sqlx::Error) -> Self {
        let path = path.to_owned();
        match error {
            sqlx::Error::Database(ref database) => {
                // sqlx gives the extended result code as decimal text; its low byte is the primary code.
                // https://www.sqlite.org/rescode.html
                let code = database.code().and_then(|code| code.parse::<i32>().ok());
                match code.map(|code| code & 0xff) {
                    Some(PERM | AUTH) => Self::PermissionDenied { path },
                    Some(BUSY | LOCKED) => Self::Busy { path },
                    Some(READONLY) => Self::ReadOnly { path },
                    Some(CORRUPT) => Self::Corrupt { path },
                    Some(FULL) => Self::DiskFull { path },
                    Some(NOTADB) => Self::NotADatabase { path },
                    Some(CANTOPEN) => Self::cannot_open(path, error),
                    _ => Self::Unavailable { path, source: error.into() },
                }
            }
            // All connections wait for the one process that holds the lock.
            sqlx::Error::PoolTimedOut => Self::Busy { path },
            sqlx::Error::Io(error) => Self::from_io(&path, error),
            error => Self::Unavailable { path, source: error.into() },
        }
    }

    /// What `error`, met while bringing the tables at `path` up to date, means.
    pub(crate) fn from_migration(path: &Path, error: MigrateError) -> Self {
        match error {
            MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => {
                Self::from_sqlx(path, error)
            }
            error => Self::Unavailable { path: path.to_owned(), source: error.into() },
        }
    }

    /// What `error`, met while making the file at `path`, means.
    pub(crate) fn from_io(path: &Path, error: io::Error) -> Self {
        let path = path.to_owned();
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Self::Missing { path },
            io::ErrorKind::PermissionDenied => Self::PermissionDenied { path },
            io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly { path },
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { path },
            _ => Self::Unavailable { path, source: error.into() },
        }
    }

    /// SQLite says "unable to open" whatever the reason, so the system is asked. The file is not opened for that: closing
    /// it again would drop the locks that SQLite holds on it elsewhere in this process.
    /// <https://www.sqlite.org/howtocorrupt.html>, section 2.2.
    fn cannot_open(path: PathBuf, error: sqlx::Error) -> Self {
        match path.metadata() {
            Err(reason) => match Self::from_io(&path, reason) {
                Self::Unavailable { .. } => Self::Unavailable { path, source: error.into() },
                known => known,
            },
            Ok(metadata) if metadata.is_dir() => Self::NotADatabase { path },
            Ok(_) => match access_refused(&path) {
                Some(reason) => Self::from_io(&path, reason),
                None => Self::Unavailable { path, source: error.into() },
            },
        }
    }
}

/// Why the file, or the directory in which SQLite puts its `-wal` and `-shm` beside it, may not be used.
#[cfg(unix)]
fn access_refused(path: &Path) -> Option<io::Error> {
    use rustix::fs::{Access, access};

    let file = access(path, Access::READ_OK).err();
    let directory = || path.parent().and_then(|dir| access(dir, Access::WRITE_OK | Access::EXEC_OK).err());
    file.or_else(directory).map(Into::into)
}

#[cfg(not(unix))]
fn access_refused(_path: &Path) -> Option<io::Error> {
    None
}

// Primary result codes, https://www.sqlite.org/rescode.html.
const PERM: i32 = 3;
const BUSY: i32 = 5;
const LOCKED: i32 = 6;
const READONLY: i32 = 8;
const CORRUPT: i32 = 11;
const FULL: i32 = 13;
const CANTOPEN: i32 = 14;
const AUTH: i32 = 23;
const NOTADB: i32 = 26;

#[cfg(test)]
mod tests {
    use super::*;

    fn from_io(kind: io::ErrorKind) -> StoreError {
        StoreError::from_io(Path::new("/some/users.db"), kind.into())
    }

    #[test]
    fn the_systems_refusals_keep_their_meaning() {
        assert!(matches!(from_io(io::ErrorKind::NotFound), StoreError::Missing { .. }));
        assert!(matches!(from_io(io::ErrorKind::PermissionDenied), StoreError::PermissionDenied { .. }));
        assert!(matches!(from_io(io::ErrorKind::ReadOnlyFilesystem), StoreError::ReadOnly { .. }));
        assert!(matches!(from_io(io::ErrorKind::StorageFull), StoreError::DiskFull { .. }));
        assert!(matches!(from_io(io::ErrorKind::QuotaExceeded), StoreError::DiskFull { .. }));
        assert!(matches!(from_io(io::ErrorKind::TimedOut), StoreError::Unavailable { .. }));
    }

    #[test]
    fn a_message_names_the_file_and_is_one_line() {
        for kind in [io::ErrorKind::NotFound, io::ErrorKind::StorageFull, io::ErrorKind::Other] {
            let message = from_io(kind).to_string();
            assert!(message.contains("/some/users.db") && !message.contains('\n'), "{message}");
        }
    }

    #[test]
    fn an_unforeseen_error_keeps_its_cause() {
        let error = StoreError::from_sqlx(Path::new("users.db"), sqlx::Error::WorkerCrashed);
        assert!(matches!(error, StoreError::Unavailable { .. }));
        assert!(error.source().is_some());
    }

    #[test]
    fn waiting_in_vain_for_a_connection_means_busy() {
        let error = StoreError::from_sqlx(Path::new("users.db"), sqlx::Error::PoolTimedOut);
        assert!(matches!(error, StoreError::Busy { .. }));
    }
}

//! The errors of a database file. SQLite's own errors end here.
//!
//! Every fallible call of the crate returns one. The remedy depends on what the file is to its
//! owner, which adds to it.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

use ipc_base::{Remedy, remedy_of_io, remedy_of_read_only};
use sqlx::migrate::MigrateError;

use crate::system::{access_refused, is_out_of_room};

/// Why a database file could not be opened, read or written. It never contains data of the file.
///
/// `what` names the kind of file to its owner, such as "user database".
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DatabaseError {
    /// There is no such file or, when creating it, no such directory.
    #[error("there is no {what} {}", path.display())]
    Missing {
        /// The kind of file.
        what: &'static str,
        /// The path that was looked up.
        path: PathBuf,
    },
    /// The file is not an SQLite database, or is one of another kind.
    #[error("{} is not a {what}", path.display())]
    NotADatabase {
        /// The expected kind of file.
        what: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// The file is an SQLite database, but its table of that name has other columns.
    #[error("the table of {table} in {} has other columns than expected", path.display())]
    OtherTable {
        /// The file.
        path: PathBuf,
        /// The name of the table.
        table: &'static str,
    },
    /// A newer version of the program has changed the file.
    #[error("the {what} {} was written by a newer version", path.display())]
    Newer {
        /// The kind of file.
        what: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// The file was opened for reading only, but an older version of the program has written it.
    #[error("the {what} {} was written by an older version and has not been updated yet", path.display())]
    Outdated {
        /// The kind of file.
        what: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// The file is an SQLite database, but damaged.
    #[error("the {what} {} is damaged", path.display())]
    Corrupt {
        /// The kind of file.
        what: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// The opened file is no longer at its path: it was removed or replaced, and this process still
    /// has the old one. Only opening the file again helps.
    #[error("the {what} {} was removed or replaced while it was in use: restart the program that uses it", path.display())]
    Replaced {
        /// The kind of file.
        what: &'static str,
        /// The path of the opened file.
        path: PathBuf,
    },
    /// Another program truncated the file or its `-wal`.
    #[error("the {what} {} was cut short by another program", path.display())]
    Truncated {
        /// The kind of file.
        what: &'static str,
        /// The truncated file.
        path: PathBuf,
    },
    /// The file was in use when it was copied, or its `-wal` was removed: its latest changes were
    /// in that `-wal`, which is missing.
    #[error("the {what} {} lacks its latest changes, which were in {}", path.display(), log.display())]
    LogMissing {
        /// The kind of file.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The missing `-wal`.
        log: PathBuf,
    },
    /// The file can be read but not written.
    #[error("the {what} {} is read-only", path.display())]
    ReadOnly {
        /// The kind of file.
        what: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// The system denies this process access to the file or its directory.
    #[error("permission to use the {what} {} was denied", path.display())]
    PermissionDenied {
        /// The kind of file.
        what: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// Other processes kept the file locked for longer than the busy timeout.
    #[error("the {what} {} is in use by another process", path.display())]
    Busy {
        /// The kind of file.
        what: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// There is no room for a write, on the disk or below this process's limit for the size of a
    /// file. Earlier data is unchanged.
    #[error("there is no room left for the {what} {}", path.display())]
    DiskFull {
        /// The kind of file.
        what: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// Any other error of SQLite or the system; see the cause.
    #[error("the {what} {} cannot be used", path.display())]
    Unavailable {
        /// The kind of file.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
}

impl DatabaseError {
    /// What a person can do about the file; `None` if only the cause tells. The owner of the file
    /// may know more: how to create it anew, or to continue without the lost data.
    #[must_use]
    pub fn remedy(&self) -> Option<Remedy> {
        Some(match self {
            Self::Missing { path, .. }
            | Self::NotADatabase { path, .. }
            | Self::OtherTable { path, .. }
            | Self::Truncated { path, .. }
            | Self::Corrupt { path, .. } => Remedy::RestoreFile { path: path.clone() },
            Self::LogMissing { log, .. } => Remedy::RestoreLog { path: log.clone() },
            Self::Newer { .. } => Remedy::UseNewerVersion,
            Self::Replaced { .. } => Remedy::TryAgain,
            Self::ReadOnly { path, .. } => remedy_of_read_only(path),
            Self::PermissionDenied { path, .. } => {
                return remedy_of_io(&io::ErrorKind::PermissionDenied.into(), path);
            }
            Self::Busy { .. } => Remedy::WaitForOther,
            Self::DiskFull { .. } => Remedy::MakeRoom,
            Self::Outdated { .. } | Self::Unavailable { .. } => return None,
        })
    }

    /// Converts `error`, which occurred while using the database at `path`.
    pub(crate) fn from_sqlx(what: &'static str, path: &Path, error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::Database(ref database) => {
                let code = extended_code(&**database).unwrap_or_default();
                Self::from_code(what, path, code, error.into())
            }
            // All connections wait for the one process that holds the lock.
            sqlx::Error::PoolTimedOut => Self::Busy { what, path: path.to_owned() },
            sqlx::Error::Io(error) => Self::from_io(what, path, error),
            error => Self::Unavailable { what, path: path.to_owned(), source: error.into() },
        }
    }

    /// [`from_sqlx`](Self::from_sqlx) for a [`BlockingDatabase`](crate::BlockingDatabase).
    pub(crate) fn from_rusqlite(what: &'static str, path: &Path, error: rusqlite::Error) -> Self {
        let code = error.sqlite_error().map_or(0, |sqlite| sqlite.extended_code);
        Self::from_code(what, path, code, error.into())
    }

    /// Converts an extended result code of SQLite. `source` has its text.
    fn from_code(
        what: &'static str,
        path: &Path,
        code: i32,
        source: Box<dyn Error + Send + Sync>,
    ) -> Self {
        let path = path.to_owned();
        match code & 0xff {
            _ if code == READONLY_DBMOVED => Self::Replaced { what, path },
            PERM | AUTH => Self::PermissionDenied { what, path },
            BUSY | LOCKED => Self::Busy { what, path },
            READONLY => Self::ReadOnly { what, path },
            CORRUPT => Self::Corrupt { what, path },
            FULL => Self::DiskFull { what, path },
            NOTADB => Self::NotADatabase { what, path },
            CANTOPEN => Self::cannot_open(what, path, source),
            // SQLite reports FULL only if a plain write met a full disk. A limit on the size of a
            // file, or a full disk met elsewhere, has one of these codes, like a broken disk.
            _ if WRITE_FAILED.contains(&code) && is_out_of_room(&path) => {
                Self::DiskFull { what, path }
            }
            _ => Self::Unavailable { what, path, source },
        }
    }

    /// Whether `error`, which occurred while one file was copied to another, is about the source.
    pub(crate) fn is_of_source(error: &sqlx::Error) -> bool {
        let code = error.as_database_error().and_then(extended_code).unwrap_or_default();
        matches!(code & 0xff, CORRUPT | NOTADB | BUSY)
    }

    /// Converts `error`, which occurred while migrating the tables at `path`.
    pub(crate) fn from_migration(what: &'static str, path: &Path, error: MigrateError) -> Self {
        match error {
            MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => {
                Self::from_sqlx(what, path, error)
            }
            error => Self::Unavailable { what, path: path.to_owned(), source: error.into() },
        }
    }

    /// Converts `error`, which occurred while creating the file at `path`.
    pub(crate) fn from_io(what: &'static str, path: &Path, error: io::Error) -> Self {
        let path = path.to_owned();
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Self::Missing { what, path },
            io::ErrorKind::PermissionDenied => Self::PermissionDenied { what, path },
            io::ErrorKind::ReadOnlyFilesystem => Self::ReadOnly { what, path },
            io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge => Self::DiskFull { what, path },
            _ => Self::Unavailable { what, path, source: error.into() },
        }
    }

    /// SQLite says "unable to open" for every reason, so the system is asked.
    fn cannot_open(
        what: &'static str,
        path: PathBuf,
        source: Box<dyn Error + Send + Sync>,
    ) -> Self {
        match path.metadata() {
            Err(reason) => match Self::from_io(what, &path, reason) {
                Self::Unavailable { .. } => Self::Unavailable { what, path, source },
                known => known,
            },
            Ok(metadata) if metadata.is_dir() => Self::NotADatabase { what, path },
            Ok(_) => match access_refused(&path) {
                Some(reason) => Self::from_io(what, &path, reason),
                // There is no room even for the names of the files that SQLite creates beside it.
                None if is_out_of_room(&path) => Self::DiskFull { what, path },
                None => Self::Unavailable { what, path, source },
            },
        }
    }
}

/// Whether the error says that another connection has locked the file.
pub(crate) fn is_busy(error: &dyn sqlx::error::DatabaseError) -> bool {
    extended_code(error).is_some_and(|code| code & 0xff == BUSY)
}

/// sqlx gives the extended result code as decimal text; its low byte is the primary code.
/// <https://www.sqlite.org/rescode.html>
fn extended_code(error: &dyn sqlx::error::DatabaseError) -> Option<i32> {
    error.code()?.parse().ok()
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

/// The extended code `SQLITE_READONLY_DBMOVED`, for a move that SQLite notices by itself.
const READONLY_DBMOVED: i32 = 1032;

/// The extended codes `SQLITE_IOERR_WRITE`, `SQLITE_IOERR_FSYNC` and `SQLITE_IOERR_SHMSIZE`.
const WRITE_FAILED: [i32; 3] = [778, 1034, 4874];

#[cfg(test)]
mod tests {
    use super::*;

    const WHAT: &str = "user database";

    fn from_io(kind: io::ErrorKind) -> DatabaseError {
        DatabaseError::from_io(WHAT, Path::new("/some/users.db"), kind.into())
    }

    #[test]
    fn the_systems_refusals_keep_their_meaning() {
        assert!(matches!(from_io(io::ErrorKind::NotFound), DatabaseError::Missing { .. }));
        assert!(matches!(
            from_io(io::ErrorKind::PermissionDenied),
            DatabaseError::PermissionDenied { .. }
        ));
        assert!(matches!(
            from_io(io::ErrorKind::ReadOnlyFilesystem),
            DatabaseError::ReadOnly { .. }
        ));
        assert!(matches!(from_io(io::ErrorKind::StorageFull), DatabaseError::DiskFull { .. }));
        assert!(matches!(from_io(io::ErrorKind::QuotaExceeded), DatabaseError::DiskFull { .. }));
        assert!(matches!(from_io(io::ErrorKind::FileTooLarge), DatabaseError::DiskFull { .. }));
        assert!(matches!(from_io(io::ErrorKind::TimedOut), DatabaseError::Unavailable { .. }));
    }

    #[test]
    fn every_message_says_what_and_where_in_one_line() {
        use DatabaseError::*;

        let (what, path) = (WHAT, PathBuf::from("/some/users.db"));
        let source = || "a cause".into();
        for (error, message) in [
            (Missing { what, path: path.clone() }, "there is no user database /some/users.db"),
            (NotADatabase { what, path: path.clone() }, "/some/users.db is not a user database"),
            (
                OtherTable { path: path.clone(), table: "users" },
                "the table of users in /some/users.db has other columns than expected",
            ),
            (
                Newer { what, path: path.clone() },
                "the user database /some/users.db was written by a newer version",
            ),
            (
                Outdated { what, path: path.clone() },
                "the user database /some/users.db was written by an older version and has not been updated yet",
            ),
            (Corrupt { what, path: path.clone() }, "the user database /some/users.db is damaged"),
            (
                Replaced { what, path: path.clone() },
                "the user database /some/users.db was removed or replaced while it was in use: restart the program that uses it",
            ),
            (
                Truncated { what, path: path.clone() },
                "the user database /some/users.db was cut short by another program",
            ),
            (
                LogMissing { what, path: path.clone(), log: "/some/users.db-wal".into() },
                "the user database /some/users.db lacks its latest changes, which were in /some/users.db-wal",
            ),
            (
                ReadOnly { what, path: path.clone() },
                "the user database /some/users.db is read-only",
            ),
            (
                PermissionDenied { what, path: path.clone() },
                "permission to use the user database /some/users.db was denied",
            ),
            (
                Busy { what, path: path.clone() },
                "the user database /some/users.db is in use by another process",
            ),
            (
                DiskFull { what, path: path.clone() },
                "there is no room left for the user database /some/users.db",
            ),
            (
                Unavailable { what, path: path.clone(), source: source() },
                "the user database /some/users.db cannot be used",
            ),
        ] {
            assert_eq!(error.to_string(), message);
        }
    }

    #[test]
    fn what_helps_is_known_wherever_the_cause_is() {
        let (what, path) = (WHAT, PathBuf::from("/some/users.db"));
        let log = PathBuf::from("/some/users.db-wal");
        for (error, remedy) in [
            (
                DatabaseError::Corrupt { what, path: path.clone() },
                Remedy::RestoreFile { path: path.clone() },
            ),
            (
                DatabaseError::LogMissing { what, path: path.clone(), log: log.clone() },
                Remedy::RestoreLog { path: log },
            ),
            (DatabaseError::Newer { what, path: path.clone() }, Remedy::UseNewerVersion),
            (DatabaseError::Busy { what, path: path.clone() }, Remedy::WaitForOther),
            (DatabaseError::DiskFull { what, path: path.clone() }, Remedy::MakeRoom),
            // There is no such file, so no mode forbids the write.
            (DatabaseError::ReadOnly { what, path: path.clone() }, Remedy::UseWritableHome),
        ] {
            assert_eq!(error.remedy(), Some(remedy), "{error}");
        }
        let unforeseen = DatabaseError::Unavailable { what, path, source: "a cause".into() };
        assert_eq!(unforeseen.remedy(), None);
    }

    #[test]
    fn an_unforeseen_error_keeps_its_cause() {
        let error =
            DatabaseError::from_sqlx(WHAT, Path::new("users.db"), sqlx::Error::WorkerCrashed);
        assert!(matches!(error, DatabaseError::Unavailable { .. }));
        assert!(error.source().is_some());
    }

    #[test]
    fn waiting_in_vain_for_a_connection_means_busy() {
        let error =
            DatabaseError::from_sqlx(WHAT, Path::new("users.db"), sqlx::Error::PoolTimedOut);
        assert!(matches!(error, DatabaseError::Busy { .. }));
    }
}

//! The databases of a home, and the room on its disk.
//!
//! The diagnosis comes here. Databases are read as of one moment, also while a server writes.

use std::path::Path;

use ipc_base::Remedy;
use ipc_home::Home;
use ipc_inbox::{InboxReader, remedy_of_file};
use ipc_store::{DatabaseError, StoreError};

use super::report::Finding;
use super::scope::{HomeKind, Scope};
use crate::SetupError;
use crate::users::{runtime, user_store, users_database};

const DATABASES: &str = "databases";
const DISK: &str = "disk";

/// With less room than this, the next messages of a durable inbox may not fit.
const ROOM_BYTES_MIN: u64 = 16 * MIB;

/// With less room than this, a warning is due.
const ROOM_BYTES_WARN: u64 = 256 * MIB;

const MIB: u64 = 1 << 20;

/// Users and durable inbox.
pub(super) fn databases(scope: &Scope) -> Vec<Finding> {
    if scope.kind == HomeKind::Client {
        return Vec::new();
    }
    let home = &scope.home;
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => return vec![Finding::not_checked(DATABASES, ipc_base::chain(&error))],
    };
    let users = match users_database(home) {
        Ok(Some(database)) => match runtime.block_on(opens(home)) {
            Ok(()) => {
                let sentence = format!("the users are in {}, which answers", database.shown);
                Finding::ok(DATABASES, sentence)
            }
            Err(error) => Finding::of_setup(DATABASES, "database_unusable", &error),
        },
        Ok(None) => match home.users_db_checked() {
            Ok(path) => match runtime.block_on(ipc_store::check_integrity(&path)) {
                Ok(()) => Finding::ok(DATABASES, "users.db is sound"),
                Err(source) => {
                    let code = match &source {
                        StoreError::Database(error) => code_of(error),
                        _ => "database_unusable",
                    };
                    Finding::of_setup(DATABASES, code, &SetupError::Store(source))
                }
            },
            Err(error) => Finding::of_home(DATABASES, &error),
        },
        Err(error) => Finding::of_setup(DATABASES, "database_unusable", &error),
    };
    let inbox = match home.inbox_db_checked() {
        Ok(path) if !path.exists() => None,
        Ok(path) => Some(match runtime.block_on(ipc_inbox::check_integrity(&path)) {
            Ok(()) => Finding::ok(DATABASES, sound_inbox(runtime.block_on(messages_in(&path)))),
            Err(error @ DatabaseError::Outdated { .. }) => {
                let sentence = ipc_base::chain(&error).to_string();
                Finding::warning(DATABASES, code_of(&error), sentence)
                    .mended_by(remedy_of_file(&error))
            }
            Err(error) => {
                Finding::of(DATABASES, code_of(&error), &error).mended_by(remedy_of_file(&error))
            }
        }),
        Err(error) => Some(Finding::of_home(DATABASES, &error)),
    };
    std::iter::once(users).chain(inbox).collect()
}

/// Opens the database that the home's users are in, and closes it.
async fn opens(home: &Home) -> Result<(), SetupError> {
    user_store(home).await?.close().await;
    Ok(())
}

/// How many messages are in the inbox: those that wait, and dead letters.
async fn messages_in(path: &Path) -> Result<u64, DatabaseError> {
    InboxReader::open(path).await?.messages().await
}

/// A server that changes the file just now may keep it from being counted. That is no fault.
fn sound_inbox(messages: Result<u64, DatabaseError>) -> String {
    match messages {
        Ok(1) => "inbox.db is sound, with 1 message".to_owned(),
        Ok(messages) => format!("inbox.db is sound, with {messages} messages"),
        Err(_) => "inbox.db is sound".to_owned(),
    }
}

fn code_of(error: &DatabaseError) -> &'static str {
    match error {
        DatabaseError::Corrupt { .. }
        | DatabaseError::NotADatabase { .. }
        | DatabaseError::OtherTable { .. }
        | DatabaseError::Truncated { .. } => "database_damaged",
        DatabaseError::LogMissing { .. } => "database_log_missing",
        DatabaseError::Newer { .. } => "database_newer",
        DatabaseError::Outdated { .. } => "database_outdated",
        DatabaseError::Busy { .. } => "database_busy",
        _ => "database_unusable",
    }
}

/// The room for files on the disk of `path`, which exists.
pub(super) fn disk(path: &Path) -> Vec<Finding> {
    vec![match rustix::fs::statvfs(path) {
        Ok(disk) => {
            let room = Room {
                bytes: disk.f_bavail.saturating_mul(disk.f_frsize),
                // Some file systems have no fixed number of files, and say 0 of 0.
                has_files: disk.f_files == 0 || disk.f_favail > 0,
            };
            room.finding(path)
        }
        Err(error) => {
            let error = std::io::Error::from(error);
            Finding::not_checked(DISK, format_args!("{}: {error}", path.display()))
        }
    }]
}

/// What is left on a disk for this user.
struct Room {
    bytes: u64,
    has_files: bool,
}

impl Room {
    fn finding(&self, path: &Path) -> Finding {
        let sentence =
            format!("{} MiB are free on the disk of {}", self.bytes / MIB, path.display());
        if !self.has_files {
            let sentence = format!("the disk of {} has no room for another file", path.display());
            return Finding::error(DISK, "disk_full", sentence).mended_by(Remedy::MakeRoom);
        }
        match self.bytes {
            ..ROOM_BYTES_MIN => {
                Finding::error(DISK, "disk_full", sentence).mended_by(Remedy::MakeRoom)
            }
            ROOM_BYTES_MIN..ROOM_BYTES_WARN => {
                Finding::warning(DISK, "disk_nearly_full", sentence).mended_by(Remedy::MakeRoom)
            }
            _ => Finding::ok(DISK, sentence),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::Severity;
    use super::*;

    #[test]
    fn a_disk_without_room_is_an_error_and_one_with_little_a_warning() {
        let said = |bytes, has_files| {
            let finding = Room { bytes, has_files }.finding(Path::new("/x"));
            (finding.severity, finding.code, finding.remedy.is_some())
        };
        assert_eq!(said(ROOM_BYTES_WARN, true), (Severity::Ok, "ok", false));
        assert_eq!(said(ROOM_BYTES_WARN - 1, true), (Severity::Warning, "disk_nearly_full", true));
        assert_eq!(said(ROOM_BYTES_MIN - 1, true), (Severity::Error, "disk_full", true));
        assert_eq!(said(u64::MAX, false), (Severity::Error, "disk_full", true));
    }

    #[test]
    fn a_disk_that_is_not_there_was_not_checked() {
        let found = disk(Path::new("/nonexistent/home"));
        assert_eq!((found[0].severity, found[0].code), (Severity::Warning, "not_checked"));
    }
}

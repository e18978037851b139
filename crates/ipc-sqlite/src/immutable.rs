//! Reads a database file where nothing can be written: on a read-only file system, without write
//! permission, or on a full disk.
//!
//! A store uses it when [`open`](crate::open) was refused and it only has to read. To read a file
//! in WAL mode SQLite creates a `-shm` beside it, which fails there; a file that does not change
//! can be read without one.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use sqlx::sqlite::SqlitePool;

use crate::connections;
use crate::error::DatabaseError;
use crate::migration::{self, Schema};
use crate::options::Options;
use crate::system::beside;

/// A database file that is only read.
///
/// Each connection reads once and is closed. SQLite is told that the file does not change while it
/// is open, so it needs neither locks nor a `-shm`. The next connection sees changes by other
/// processes.
pub struct Immutable {
    path: PathBuf,
    what: &'static str,
    readers: SqlitePool,
    why: Why,
    migrations: usize,
}

/// Why the file cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    ReadOnly,
    PermissionDenied,
    DiskFull,
}

impl Why {
    fn of(error: &DatabaseError) -> Option<Self> {
        match error {
            DatabaseError::ReadOnly { .. } => Some(Self::ReadOnly),
            DatabaseError::PermissionDenied { .. } => Some(Self::PermissionDenied),
            DatabaseError::DiskFull { .. } => Some(Self::DiskFull),
            _ => None,
        }
    }
}

/// Opens the file at `path` for reading, after [`open`](crate::open) failed with `refused`.
///
/// # Errors
/// Returns `refused` if it has another reason than that nothing can be written. Returns it too if
/// the file cannot be read as it is: its latest changes are still in the `-wal`, or migrations of
/// `schema` are missing.
pub async fn open_immutable(
    path: &Path,
    schema: &Schema,
    options: &Options,
    refused: DatabaseError,
) -> Result<Immutable, DatabaseError> {
    open_immutable_since(path, (schema, schema.migrations.len()), options, refused).await
}

/// [`open_immutable`] for a file that may lack migrations of a schema, but not the first so many of
/// them: the caller knows how to read it. [`Immutable::migrations`] says how many it has.
///
/// # Errors
/// As those of [`open_immutable`].
pub async fn open_immutable_since(
    path: &Path,
    (schema, migrations_min): (&Schema, usize),
    options: &Options,
    refused: DatabaseError,
) -> Result<Immutable, DatabaseError> {
    let Some(why) = Why::of(&refused) else { return Err(refused) };
    let Ok(path) = std::path::absolute(path) else { return Err(refused) };
    let connect = connections::connect(&path, options).read_only(true).immutable(true);
    let readers = connections::pool(options.readers_max, options)
        // A connection does not look again at what it has cached.
        .after_release(|_, _| Box::pin(async { Ok(false) }))
        .connect_lazy_with(connect);
    let mut database = Immutable { path, what: schema.what, readers, why, migrations: 0 };
    if database.check_file().is_err() {
        return Err(refused);
    }
    let Ok(mut connection) = database.readers.acquire().await else { return Err(refused) };
    match migration::count(&mut connection, &database.path, schema).await {
        Ok(migrations) if migrations >= migrations_min => database.migrations = migrations,
        Ok(_) => return Err(refused),
        Err(error @ (DatabaseError::NotADatabase { .. } | DatabaseError::Newer { .. })) => {
            return Err(error);
        }
        Err(_) => return Err(refused),
    }
    drop(connection);
    Ok(database)
}

impl Immutable {
    /// The absolute path of the file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The connections for reading, each for one read.
    #[must_use]
    pub fn readers(&self) -> &SqlitePool {
        &self.readers
    }

    /// How many migrations of its schema the file has seen.
    #[must_use]
    pub fn migrations(&self) -> usize {
        self.migrations
    }

    /// Checks that all that was committed is in the file itself. To be asked before each read:
    /// where there is room again, or on a mount that others can write to, somebody else may be
    /// writing.
    ///
    /// # Errors
    /// [`DatabaseError::Replaced`] if there are changes outside of the file, or the file is gone:
    /// only opening it again helps.
    pub fn check_file(&self) -> Result<(), DatabaseError> {
        let replaced = || DatabaseError::Replaced { what: self.what, path: self.path.clone() };
        for suffix in ["-wal", "-journal"] {
            if std::fs::metadata(beside(&self.path, suffix))
                .is_ok_and(|metadata| metadata.len() > 0)
            {
                return Err(replaced());
            }
        }
        match self.path.metadata() {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(replaced()),
            Err(error) => Err(DatabaseError::from_io(self.what, &self.path, error)),
        }
    }

    /// Why nothing can be written.
    #[must_use]
    pub fn refusal(&self) -> DatabaseError {
        let (what, path) = (self.what, self.path.clone());
        match self.why {
            Why::ReadOnly => DatabaseError::ReadOnly { what, path },
            Why::PermissionDenied => DatabaseError::PermissionDenied { what, path },
            Why::DiskFull => DatabaseError::DiskFull { what, path },
        }
    }

    /// Converts `error`, which occurred while reading.
    #[must_use]
    pub fn error(&self, error: sqlx::Error) -> DatabaseError {
        DatabaseError::from_sqlx(self.what, &self.path, error)
    }

    /// Closes the file when all running calls are done; later calls fail.
    pub async fn close(&self) {
        self.readers.close().await;
    }
}

impl fmt::Debug for Immutable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Immutable").field("path", &self.path).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{create, open};

    const NOTES: Schema = Schema {
        what: "note database",
        migrations: &[("notes", "CREATE TABLE notes (text TEXT)")],
        tables: &[("notes", &["text"])],
    };

    fn refused(path: &Path) -> DatabaseError {
        DatabaseError::DiskFull { what: NOTES.what, path: path.to_owned() }
    }

    async fn add(database: &crate::Database, text: &'static str) {
        sqlx::query("INSERT INTO notes VALUES (?)")
            .bind(text)
            .execute(database.writer())
            .await
            .unwrap();
    }

    async fn texts(database: &Immutable) -> Vec<String> {
        database.check_file().unwrap();
        sqlx::query_scalar("SELECT text FROM notes").fetch_all(database.readers()).await.unwrap()
    }

    /// Writes everything into the database file, as the last process does on closing.
    async fn write_back(database: &crate::Database) {
        sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(database.writer()).await.unwrap();
    }

    #[tokio::test]
    async fn a_file_that_lies_still_is_read_without_anything_beside_it_and_changes_are_seen() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notes.db");
        let writing = create(&path, &NOTES, &Options::new()).await.unwrap();
        add(&writing, "milk").await;
        write_back(&writing).await;
        let reading = open_immutable(&path, &NOTES, &Options::new(), refused(&path)).await.unwrap();
        assert_eq!(texts(&reading).await, ["milk"]);
        add(&writing, "bread").await;
        let error = reading.check_file().unwrap_err();
        assert!(
            matches!(error, DatabaseError::Replaced { .. }),
            "more than the file holds: {error:?}"
        );
        write_back(&writing).await;
        assert_eq!(texts(&reading).await, ["milk", "bread"]);
        assert!(matches!(reading.refusal(), DatabaseError::DiskFull { .. }));
        let write = sqlx::query("INSERT INTO notes VALUES ('no')").execute(reading.readers()).await;
        assert!(matches!(reading.error(write.unwrap_err()), DatabaseError::ReadOnly { .. }));
    }

    #[tokio::test]
    async fn what_does_not_hold_all_or_is_not_up_to_date_is_refused_as_before() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notes.db");
        let writing = create(&path, &NOTES, &Options::new()).await.unwrap();
        add(&writing, "milk").await;
        let open_it = async |schema: &Schema| {
            open_immutable(&path, schema, &Options::new(), refused(&path)).await.unwrap_err()
        };
        assert!(
            matches!(open_it(&NOTES).await, DatabaseError::DiskFull { .. }),
            "the -wal has more"
        );
        write_back(&writing).await;
        const NEWER: Schema = Schema {
            what: "note database",
            migrations: &[
                ("notes", "CREATE TABLE notes (text TEXT)"),
                ("more", "CREATE TABLE more (text TEXT)"),
            ],
            tables: &[],
        };
        assert!(matches!(open_it(&NEWER).await, DatabaseError::DiskFull { .. }));
        let other =
            Schema { migrations: &[("letters", "CREATE TABLE letters (text TEXT)")], ..NOTES };
        assert!(matches!(open_it(&other).await, DatabaseError::NotADatabase { .. }));
        // An error that is not about writing stays unchanged.
        let missing = open(&dir.path().join("none.db"), &NOTES, &Options::new()).await.unwrap_err();
        let error = open_immutable(&path, &NOTES, &Options::new(), missing).await.unwrap_err();
        assert!(matches!(error, DatabaseError::Missing { .. }), "{error:?}");
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn reading_leaves_nothing_beside_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notes.db");
        let writing = create(&path, &NOTES, &Options::new()).await.unwrap();
        add(&writing, "milk").await;
        let _closed = writing.close().await;
        let before = std::fs::read(&path).unwrap();
        let reading = open_immutable(&path, &NOTES, &Options::new(), refused(&path)).await.unwrap();
        assert_eq!(texts(&reading).await, ["milk"]);
        reading.close().await;
        assert_eq!(std::fs::read(&path).unwrap(), before);
        let names: Vec<_> =
            dir.path().read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["notes.db"]);
    }
}

//! A database file for a thread of its own, which runs each statement itself and blocks until it is
//! done.
//!
//! A store that commits often uses it. sqlx passes every statement to a thread of the connection
//! and waits for the answer. That costs two wake-ups of a thread, more than a small commit costs.

use std::fmt;
use std::ops::Deref;
use std::sync::atomic::Ordering;

use rusqlite::{Connection, OpenFlags};

use crate::database::Database;
use crate::error::DatabaseError;
use crate::watch::Condition;

/// How many statements of a connection stay prepared.
const PREPARED_MAX: usize = 64;

/// A [`Database`] with one more connection, whose statements run on the calling thread. All its own
/// methods block; those that it takes from `Database` do not.
pub struct BlockingDatabase {
    /// `None` only while the value is dropped.
    connection: Option<Connection>,
    database: Database,
}

impl Database {
    /// Opens one more connection, for this thread. SQLite's `busy_timeout` is that of
    /// [`Options`](crate::Options).
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub fn into_blocking(self) -> Result<BlockingDatabase, DatabaseError> {
        let connect = || {
            let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let connection = Connection::open_with_flags(&self.path, flags)?;
            connection.busy_timeout(self.busy_timeout)?;
            connection.set_prepared_statement_cache_capacity(PREPARED_MAX);
            // Sets how much is synced, and opens the `-wal` while it is known to be the right one.
            connection
                .execute_batch("PRAGMA synchronous = FULL; SELECT count(*) FROM sqlite_schema")?;
            Ok(connection)
        };
        match connect() {
            Ok(connection) => Ok(BlockingDatabase { connection: Some(connection), database: self }),
            Err(error) => Err(DatabaseError::from_rusqlite(self.what, &self.path, error)),
        }
    }
}

impl BlockingDatabase {
    /// Makes all changes of `change` in one commit, or none of them. The write lock is taken at the
    /// start. The files are checked before and after ([`Database::check_file`]): when this returns,
    /// the change is in the file at its path.
    ///
    /// # Errors
    /// [`DatabaseError`]. If the second [`check_file`](Database::check_file) fails, the change may
    /// be committed.
    pub fn write<T>(
        &self,
        change: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, DatabaseError> {
        self.check_file()?;
        let written = self.mark_in_use().and_then(|()| self.commit(change));
        let value = written.map_err(|error| self.rusqlite_error(error))?;
        self.check_file()?;
        Ok(value)
    }

    /// Reads from the file.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub fn read<T>(
        &self,
        question: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, DatabaseError> {
        self.connection().and_then(question).map_err(|error| self.rusqlite_error(error))
    }

    /// As [`Database::write_all_back`].
    ///
    /// # Errors
    /// As that method.
    pub fn write_all_back(&self) -> Result<(), DatabaseError> {
        self.check_file()?;
        match self.write_all() {
            Ok(true) => Ok(()),
            Ok(false) => Err(DatabaseError::Busy { what: self.what, path: self.path.clone() }),
            Err(error) => Err(self.rusqlite_error(error)),
        }
    }

    /// As [`Database::rescue`]: this connection still has the removed `-wal` open.
    ///
    /// # Errors
    /// As that method.
    pub fn rescue(&self) -> Result<(), DatabaseError> {
        if self.watch.condition() != Condition::LogReplaced {
            return Ok(());
        }
        self.write_all().map(drop).map_err(|error| self.rusqlite_error(error))
    }

    /// As [`Database::close`].
    ///
    /// # Errors
    /// As that method.
    pub async fn close(&mut self) -> Result<(), DatabaseError> {
        let written = match self.watch.condition() {
            Condition::Lost => self.check_file(),
            Condition::LogReplaced => self.rescue().and_then(|()| self.check_file()),
            Condition::Whole if self.is_marked.load(Ordering::Relaxed) => self.write_all_back(),
            Condition::Whole => Ok(()),
        };
        self.database.close_connections().await;
        self.close_connection();
        written
    }

    fn write_all(&self) -> rusqlite::Result<bool> {
        let connection = self.connection()?;
        if self.is_marked.load(Ordering::Relaxed) {
            connection.execute_batch("PRAGMA user_version = 0")?;
            self.is_marked.store(false, Ordering::Relaxed);
        }
        self.watch.log_begins_anew();
        let busy: i64 =
            connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", (), |row| row.get(0))?;
        Ok(busy == 0)
    }

    /// SQLite writes to the file when its last connection is closed, and removes the `-wal`. So
    /// this connection stays open if the others do.
    fn close_connection(&mut self) {
        let may_close = self.readers.is_closed() || self.may_close();
        match self.connection.take() {
            Some(connection) if !may_close => std::mem::forget(connection),
            closed => drop(closed),
        }
    }

    fn commit<T>(
        &self,
        change: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        let connection = self.connection()?;
        let run = |text| connection.prepare_cached(text)?.execute(()).map(drop);
        let committed =
            run("BEGIN IMMEDIATE").and_then(|()| change(connection)).and_then(|value| {
                run("COMMIT")?;
                Ok(value)
            });
        // SQLite rolls back by itself after some errors
        // (https://www.sqlite.org/lang_transaction.html, section 2.1).
        if committed.is_err() && !connection.is_autocommit() {
            connection.execute_batch("ROLLBACK")?;
        }
        committed
    }

    /// Marks the file as in use before the first write to it, as [`Database`] does.
    fn mark_in_use(&self) -> rusqlite::Result<()> {
        if !self.is_alone || self.is_marked.load(Ordering::Relaxed) {
            return Ok(());
        }
        let connection = self.connection()?;
        connection.execute_batch("PRAGMA user_version = 1")?;
        self.is_marked.store(true, Ordering::Relaxed);
        let _written = connection.execute_batch("PRAGMA wal_checkpoint(PASSIVE)");
        let _looked = self.check_file();
        Ok(())
    }

    fn connection(&self) -> rusqlite::Result<&Connection> {
        self.connection.as_ref().ok_or(rusqlite::Error::InvalidQuery)
    }

    fn rusqlite_error(&self, error: rusqlite::Error) -> DatabaseError {
        DatabaseError::from_rusqlite(self.what, &self.path, error)
    }
}

/// As a [`Database`] that is dropped without being closed.
impl Drop for BlockingDatabase {
    fn drop(&mut self) {
        self.close_connection();
    }
}

impl Deref for BlockingDatabase {
    type Target = Database;

    fn deref(&self) -> &Database {
        &self.database
    }
}

impl fmt::Debug for BlockingDatabase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockingDatabase").field("path", &self.path).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::migration::Schema;
    use crate::opening::create;
    use crate::options::Options;

    const NOTES: Schema = Schema {
        what: "note database",
        migrations: &[("notes", "CREATE TABLE notes (text TEXT)")],
        tables: &[("notes", &["text"])],
    };

    async fn notes(directory: &tempfile::TempDir, options: &Options) -> BlockingDatabase {
        let database = create(&directory.path().join("notes.db"), &NOTES, options).await.unwrap();
        database.into_blocking().unwrap()
    }

    fn add(connection: &Connection, text: &str) -> rusqlite::Result<()> {
        connection.execute("INSERT INTO notes VALUES (?)", [text]).map(drop)
    }

    fn count(notes: &BlockingDatabase) -> i64 {
        notes
            .read(|connection| {
                connection.query_row("SELECT count(*) FROM notes", (), |row| row.get(0))
            })
            .unwrap()
    }

    #[tokio::test]
    async fn a_write_is_there_as_a_whole_or_not_at_all() {
        let directory = tempfile::tempdir().unwrap();
        let notes = notes(&directory, &Options::new()).await;
        let two =
            |connection: &Connection| add(connection, "a").and_then(|()| add(connection, "b"));
        notes.write(two).unwrap();
        assert_eq!(count(&notes), 2);
        let broken = notes.write(|connection| {
            add(connection, "c")?;
            connection.execute("INSERT INTO nowhere VALUES (1)", ())
        });
        assert!(matches!(broken, Err(DatabaseError::Unavailable { .. })), "{broken:?}");
        assert_eq!(count(&notes), 2);
        notes.write(two).unwrap();
        let transaction = notes.begin_write().await.unwrap();
        transaction.commit().await.unwrap();
        assert_eq!(count(&notes), 4, "nothing of the broken one is left to get in the way");
    }

    #[tokio::test]
    async fn it_syncs_fully() {
        let directory = tempfile::tempdir().unwrap();
        let notes = notes(&directory, &Options::new()).await;
        let ask = |connection: &Connection| {
            let ask = |pragma| connection.query_row(pragma, (), |row| row.get::<_, String>(0));
            let synchronous: i64 =
                connection.query_row("PRAGMA synchronous", (), |row| row.get(0))?;
            Ok((ask("PRAGMA journal_mode")?, synchronous))
        };
        assert_eq!(notes.read(ask).unwrap(), ("wal".to_owned(), 2));
    }

    #[tokio::test]
    async fn closed_it_leaves_the_file_alone_with_everything_in_it() {
        for options in [Options::new(), Options::new().alone()] {
            let directory = tempfile::tempdir().unwrap();
            let mut notes = notes(&directory, &options).await;
            notes.write(|connection| add(connection, "a")).unwrap();
            notes.close().await.unwrap();
            let names: Vec<_> = std::fs::read_dir(directory.path())
                .unwrap()
                .map(|entry| entry.unwrap().file_name())
                .collect();
            assert_eq!(names, ["notes.db"]);
            assert_eq!(count(&self::notes(&directory, &options).await), 1);
        }
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn nothing_is_done_that_is_not_in_the_file_at_its_path() {
        let directory = tempfile::tempdir().unwrap();
        let notes = notes(&directory, &Options::new().alone()).await;
        notes.write(|connection| add(connection, "milk")).unwrap();
        let log = directory.path().join("notes.db-wal");
        // The -wal is removed during a write.
        let written = notes.write(|connection| {
            std::fs::remove_file(&log).unwrap();
            add(connection, "b")
        });
        assert!(
            matches!(&written, Err(DatabaseError::Replaced { path, .. }) if *path == log),
            "{written:?}"
        );
        let written =
            notes.write(|_| -> rusqlite::Result<()> { panic!("nothing is written any more") });
        assert!(matches!(written, Err(DatabaseError::Replaced { .. })), "{written:?}");
        notes.rescue().unwrap();
        let file = std::fs::read(directory.path().join("notes.db")).unwrap();
        assert!(
            file.windows(4).any(|bytes| bytes == b"milk"),
            "what was in the log is in the file now"
        );
    }
}

//! An open database file: its connections, writes to it, and closing it so that everything is in
//! the database file itself.
//!
//! A store runs its statements with it. Nothing here reads or writes the contents.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sqlx::sqlite::{SqliteConnection, SqlitePool};
use sqlx::{Row as _, Sqlite, Transaction};

use crate::error::DatabaseError;
use crate::system::is_out_of_room;
use crate::watch::{Condition, Watch};

/// The `user_version` of a file that one process has to itself: 1 while the file is in use. The
/// mark is in the database file itself, so a copy without the `-wal` has it too.
pub(crate) const IN_USE: i64 = 1;

/// An open database file, which any number of processes may use at once.
///
/// The file is in WAL mode with `synchronous = FULL`: a committed change survives a loss of power.
/// SQLite has one writer at a time, so there is one connection for writes, and writers within the
/// process queue for it in order. Each connection is opened on its first use: a process that reads
/// once opens only one.
pub struct Database {
    pub(crate) path: PathBuf,
    pub(crate) what: &'static str,
    pub(crate) watch: Watch,
    pub(crate) readers: SqlitePool,
    pub(crate) writer: SqlitePool,
    /// How long SQLite waits for other processes.
    pub(crate) busy_timeout: Duration,
    /// No other process writes the file.
    pub(crate) is_alone: bool,
    /// The file is marked as [`IN_USE`].
    pub(crate) is_marked: AtomicBool,
    /// The `-wal` was empty or new although the file was marked as in use.
    pub(crate) lacks_log: bool,
}

impl Database {
    /// The absolute path of the file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The connections for reading.
    #[must_use]
    pub fn readers(&self) -> &SqlitePool {
        &self.readers
    }

    /// The one connection for writing. Most callers want [`begin_write`](Self::begin_write).
    #[must_use]
    pub fn writer(&self) -> &SqlitePool {
        &self.writer
    }

    /// Begins a write once earlier writes are done. Dropping the transaction rolls back what was
    /// not committed.
    ///
    /// The transaction takes the write lock at its start. A lock that is requested only at the
    /// first write may be refused at once, without waiting for the other writer.
    /// <https://www.sqlite.org/lang_transaction.html>
    ///
    /// # Errors
    /// sqlx's error, to be passed to [`error`](Self::error).
    pub async fn begin_write(&self) -> Result<Transaction<'static, Sqlite>, sqlx::Error> {
        self.mark_in_use().await?;
        match self.writer.begin_with("BEGIN IMMEDIATE").await {
            // SQLite rolls a transaction back by itself when the disk is full or fails; sqlx then
            // still believes that it is within the transaction
            // (https://www.sqlite.org/lang_transaction.html, section 2.1). A new connection does
            // not.
            Err(sqlx::Error::InvalidSavePointStatement) => {
                self.writer.acquire().await?.close().await?;
                self.writer.begin_with("BEGIN IMMEDIATE").await
            }
            begun => begun,
        }
    }

    /// Checks that the opened file is still the one at its path, that its `-wal` is still beside
    /// it, and that neither was truncated. A file that was removed or replaced (by a restored
    /// backup, for example) stays usable for a process that has it open: SQLite would write to a
    /// file that no other process sees. The check costs two `stat`. On a system whose files have no
    /// numbers only a removed file is noticed.
    ///
    /// Call it before a write, and again before reporting the write as done: a change in a removed
    /// file is lost. A loss that was noticed once is reported from then on.
    ///
    /// # Errors
    /// [`DatabaseError::Replaced`], [`DatabaseError::Truncated`]; otherwise the system's error for
    /// the path.
    pub fn check_file(&self) -> Result<(), DatabaseError> {
        self.watch.check()
    }

    /// Checks that a write would find its files, as [`check_file`](Self::check_file) does, and room
    /// on their file system.
    ///
    /// # Errors
    /// As `check_file`, and [`DatabaseError::DiskFull`].
    pub fn check_room(&self) -> Result<(), DatabaseError> {
        self.check_file()?;
        match is_out_of_room(self.path()) {
            true => Err(DatabaseError::DiskFull { what: self.what, path: self.path().to_owned() }),
            false => Ok(()),
        }
    }

    /// Whether the file was opened although its latest changes are missing: its `-wal` was emptied,
    /// or created by hand.
    #[must_use]
    pub fn lacks_log(&self) -> bool {
        self.lacks_log
    }

    /// Writes committed changes from the `-wal` into the database file, as far as no reader
    /// prevents it. It does not wait.
    ///
    /// # Errors
    /// [`DatabaseError`]; committed changes are then safe in the `-wal`.
    pub async fn write_back(&self) -> Result<(), DatabaseError> {
        let written = async { checkpoint(&mut *self.writer.acquire().await?, "PASSIVE").await };
        written.await.map(drop).map_err(|error| self.error(error))
    }

    /// Writes everything into the database file, so that a copy of that file alone is complete
    /// until the next write. Waits for readers no longer than the busy timeout.
    ///
    /// # Errors
    /// [`DatabaseError`], such as [`DatabaseError::Busy`] if a reader takes longer. No change is
    /// lost: committed changes are then in the `-wal`.
    pub async fn write_all_back(&self) -> Result<(), DatabaseError> {
        self.check_file()?;
        match self.write_all().await {
            Ok(true) => Ok(()),
            Ok(false) => Err(DatabaseError::Busy { what: self.what, path: self.path.clone() }),
            Err(error) => Err(self.error(error)),
        }
    }

    async fn write_all(&self) -> Result<bool, sqlx::Error> {
        let mut connection = self.writer.acquire().await?;
        if self.is_marked.load(Ordering::Relaxed) {
            set_in_use(&mut connection, false).await?;
            self.is_marked.store(false, Ordering::Relaxed);
        }
        self.watch.log_begins_anew();
        checkpoint(&mut connection, "TRUNCATE").await
    }

    /// Marks the file as in use before the first write to it.
    async fn mark_in_use(&self) -> Result<(), sqlx::Error> {
        if !self.is_alone || self.is_marked.load(Ordering::Relaxed) {
            return Ok(());
        }
        let mut connection = self.writer.acquire().await?;
        set_in_use(&mut connection, true).await?;
        self.is_marked.store(true, Ordering::Relaxed);
        // The mark would reach the database file later anyway. Without room in that file the `-wal`
        // may still have some: the write that follows reports it if not.
        let _written = checkpoint(&mut connection, "PASSIVE").await;
        // Now there is a `-wal`, and this call notes it. An error of it is found by the check of
        // the write.
        let _looked = self.check_file();
        Ok(())
    }

    /// Converts `error`, which occurred while using this file.
    #[must_use]
    pub fn error(&self, error: sqlx::Error) -> DatabaseError {
        DatabaseError::from_sqlx(self.what, &self.path, error)
    }

    /// Closes the file when all running calls are done; later calls fail. Everything is in the
    /// database file then, and SQLite has removed `-wal` and `-shm`, unless other processes have
    /// the file open. Dropping the database without closing it loses no committed change.
    /// # Errors
    /// The reason why the database file is incomplete: [`DatabaseError::DiskFull`] and the like. No
    /// change is lost: committed changes are then in the `-wal`, which belongs to the file. A file
    /// that was removed, replaced or truncated is not closed, since SQLite would write over what is
    /// there now.
    pub async fn close(&self) -> Result<(), DatabaseError> {
        let written = match self.watch.condition() {
            Condition::Lost => self.check_file(),
            Condition::LogReplaced => self.rescue().await.and_then(|()| self.check_file()),
            // If the file is not marked as in use, SQLite writes it back when the last connection
            // closes.
            Condition::Whole if self.is_marked.load(Ordering::Relaxed) => {
                self.write_all_back().await
            }
            Condition::Whole => Ok(()),
        };
        self.close_connections().await;
        written
    }

    /// Closes the connections, or leaves them open if closing would lose or overwrite data.
    pub(crate) async fn close_connections(&self) {
        // A file that is marked as in use counts as incomplete without its `-wal`, which closing
        // would remove.
        if self.watch.condition() == Condition::Lost || self.is_marked.load(Ordering::Relaxed) {
            return self.leave_open();
        }
        self.readers.close().await;
        self.writer.close().await;
    }

    /// If the `-wal` was removed while this process has it open: writes it back as long as that is
    /// possible. The file is then complete, and can be opened again. Otherwise this does nothing.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn rescue(&self) -> Result<(), DatabaseError> {
        if self.watch.condition() != Condition::LogReplaced {
            return Ok(());
        }
        self.write_all().await.map(drop).map_err(|error| self.error(error))
    }

    /// Whether closing the last connection neither loses nor overwrites data.
    pub(crate) fn may_close(&self) -> bool {
        self.watch.condition() == Condition::Whole && !self.is_marked.load(Ordering::Relaxed)
    }

    /// Leaves the connections open until the process ends: SQLite writes when the last one is
    /// closed.
    fn leave_open(&self) {
        std::mem::forget((self.readers.clone(), self.writer.clone()));
    }
}

/// A database that is dropped without being closed looks like after a crash; the next opening finds
/// everything.
impl Drop for Database {
    fn drop(&mut self) {
        if !self.readers.is_closed() && !self.may_close() {
            self.leave_open();
        }
    }
}

/// Runs `PRAGMA wal_checkpoint`. Returns whether it was complete.
pub(crate) async fn checkpoint(
    connection: &mut SqliteConnection,
    mode: &'static str,
) -> Result<bool, sqlx::Error> {
    let pragma = match mode {
        "TRUNCATE" => "PRAGMA wal_checkpoint(TRUNCATE)",
        _ => "PRAGMA wal_checkpoint(PASSIVE)",
    };
    let row = sqlx::query(pragma).fetch_one(connection).await?;
    Ok(row.try_get::<i64, _>(0)? == 0)
}

async fn set_in_use(connection: &mut SqliteConnection, is_in_use: bool) -> Result<(), sqlx::Error> {
    let pragma = if is_in_use { "PRAGMA user_version = 1" } else { "PRAGMA user_version = 0" };
    sqlx::query(pragma).execute(connection).await.map(drop)
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database").field("path", &self.path).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use crate::migration::Schema;
    use crate::options::Options;
    use crate::{create, make_file, open};

    const NOTES: Schema = Schema {
        what: "note database",
        migrations: &[("notes", "CREATE TABLE notes (text TEXT)")],
        tables: &[("notes", &["text"])],
    };

    #[tokio::test]
    async fn an_opened_file_is_in_wal_mode_and_syncs_fully() {
        let dir = tempfile::tempdir().unwrap();
        let database = create(&dir.path().join("notes.db"), &NOTES, &Options::new()).await.unwrap();
        for pool in [database.readers(), database.writer()] {
            let mode: String =
                sqlx::query_scalar("PRAGMA journal_mode").fetch_one(pool).await.unwrap();
            let synchronous: i64 =
                sqlx::query_scalar("PRAGMA synchronous").fetch_one(pool).await.unwrap();
            assert_eq!((mode.as_str(), synchronous), ("wal", 2));
        }
    }

    #[tokio::test]
    async fn a_file_that_is_up_to_date_opens_while_another_process_writes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notes.db");
        let options = Options::new().busy_timeout(Duration::ZERO);
        let first = create(&path, &NOTES, &options).await.unwrap();
        let _writing = first.begin_write().await.unwrap();
        assert!(open(&path, &NOTES, &options).await.is_ok());
    }

    #[tokio::test]
    async fn a_write_that_is_dropped_leaves_nothing_and_frees_the_lock() {
        let dir = tempfile::tempdir().unwrap();
        let database = create(&dir.path().join("notes.db"), &NOTES, &Options::new()).await.unwrap();
        for _ in 0..2 {
            let mut transaction = database.begin_write().await.unwrap();
            sqlx::query("INSERT INTO notes VALUES ('milk')")
                .execute(&mut *transaction)
                .await
                .unwrap();
        }
        let notes: i64 = sqlx::query_scalar("SELECT count(*) FROM notes")
            .fetch_one(database.readers())
            .await
            .unwrap();
        assert_eq!(notes, 0);
    }

    #[test]
    fn making_a_file_leaves_one_that_is_there_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notes.db");
        fs::write(&path, "anything").unwrap();
        make_file(&path, NOTES.what).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"anything");
    }

    #[tokio::test]
    async fn debug_shows_the_path_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let database = create(&dir.path().join("notes.db"), &NOTES, &Options::new()).await.unwrap();
        let path = database.path();
        assert_eq!(format!("{database:?}"), format!("Database {{ path: {path:?}, .. }}"));
    }
}

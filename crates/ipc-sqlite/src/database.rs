//! A database file that is open: its connections, writing to it, and closing it so that everything
//! is in the file itself.
//!
//! A store comes here with its statements. Nothing here reads or writes what the file is for.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sqlx::sqlite::{SqliteConnection, SqlitePool};
use sqlx::{Row as _, Sqlite, Transaction};

use crate::error::DatabaseError;
use crate::watch::{Condition, Watch};

/// What `user_version` of a file says that is used by one process alone: 1 while it is in use. It
/// then stands in the file itself, and a copy of that without its `-wal` bears it too.
pub(crate) const IN_USE: i64 = 1;

/// An open database file, which any number of processes may use at once.
///
/// The file is in WAL mode with `synchronous = FULL`: a change that was committed survives a loss
/// of power. SQLite has one writer at a time, so there is one connection for it, and those within
/// the process queue up for it in order. Each connection is made when first used: a process that
/// only reads one thing opens only one.
pub struct Database {
    pub(crate) path: PathBuf,
    pub(crate) what: &'static str,
    pub(crate) watch: Watch,
    pub(crate) readers: SqlitePool,
    pub(crate) writer: SqlitePool,
    /// How long SQLite waits for other processes.
    pub(crate) busy_timeout: Duration,
    /// Nobody else writes it.
    pub(crate) is_alone: bool,
    /// It says that it is [`IN_USE`].
    pub(crate) is_marked: AtomicBool,
    /// The `-wal` was empty or new though the file was in use when it was left.
    pub(crate) lacks_log: bool,
}

impl Database {
    /// Where the file is, as an absolute path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The connections to read with.
    #[must_use]
    pub fn readers(&self) -> &SqlitePool {
        &self.readers
    }

    /// The one connection to write with. [`begin_write`](Self::begin_write) is mostly what is
    /// wanted.
    #[must_use]
    pub fn writer(&self) -> &SqlitePool {
        &self.writer
    }

    /// Begins a write, once those before it are done. Dropping the transaction takes back what was
    /// not committed.
    ///
    /// It takes the write lock at its start. A lock that is only asked for at the first write may
    /// be refused at once, without waiting for the other writer.
    /// <https://www.sqlite.org/lang_transaction.html>
    ///
    /// # Errors
    /// What sqlx reports, for [`error`](Self::error).
    pub async fn begin_write(&self) -> Result<Transaction<'static, Sqlite>, sqlx::Error> {
        self.mark_in_use().await?;
        match self.writer.begin_with("BEGIN IMMEDIATE").await {
            // SQLite takes a transaction back by itself when the disk is full or fails; sqlx then
            // still believes itself within it (https://www.sqlite.org/lang_transaction.html,
            // section 2.1). A new connection knows better.
            Err(sqlx::Error::InvalidSavePointStatement) => {
                self.writer.acquire().await?.close().await?;
                self.writer.begin_with("BEGIN IMMEDIATE").await
            }
            begun => begun,
        }
    }

    /// Checks that the file that was opened still is the one at its path, with the `-wal` beside
    /// it, and that neither was cut short. One that was removed, or replaced by another (a backup
    /// put back, say), stays usable for whoever has it open: SQLite would go on with what nobody
    /// else sees. Costs two `stat`. Where the system gives files no numbers, only a removed one is
    /// noticed.
    ///
    /// To be asked before a write, and again before anybody is told that it is done: what is in a
    /// file that is no longer there is nowhere. What was noticed once stays so.
    ///
    /// # Errors
    /// [`DatabaseError::Replaced`], [`DatabaseError::Truncated`]; otherwise what the system says of
    /// the path.
    pub fn check_file(&self) -> Result<(), DatabaseError> {
        self.watch.check()
    }

    /// Whether the file was opened although what came last is missing: its `-wal` was emptied, or
    /// made by hand.
    #[must_use]
    pub fn lacks_log(&self) -> bool {
        self.lacks_log
    }

    /// Writes what was committed into the file itself, as far as nobody who reads it is in the way,
    /// and waits for nobody.
    ///
    /// # Errors
    /// [`DatabaseError`]; what was committed is in the `-wal` then, and good.
    pub async fn write_back(&self) -> Result<(), DatabaseError> {
        let written = async { checkpoint(&mut *self.writer.acquire().await?, "PASSIVE").await };
        written.await.map(drop).map_err(|error| self.error(error))
    }

    /// Writes everything into the file itself, so that a copy of it alone has it all, until the
    /// next write. Waits for those who read it, no longer than the busy timeout.
    ///
    /// # Errors
    /// [`DatabaseError`], such as [`DatabaseError::Busy`] for somebody who reads for longer.
    /// Nothing is lost: what was committed is in the `-wal` then.
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

    /// Has the file say itself that it is in use, before the first write to it.
    async fn mark_in_use(&self) -> Result<(), sqlx::Error> {
        if !self.is_alone || self.is_marked.load(Ordering::Relaxed) {
            return Ok(());
        }
        let mut connection = self.writer.acquire().await?;
        set_in_use(&mut connection, true).await?;
        self.is_marked.store(true, Ordering::Relaxed);
        // From the `-wal` it would come into the file some time anyway. Where there is no room for
        // it in the file, the `-wal` may still have some: that is for the write to say.
        let _written = checkpoint(&mut connection, "PASSIVE").await;
        // Now there is a `-wal` to be watched. What is wrong with it is found when the write is
        // checked.
        let _looked = self.check_file();
        Ok(())
    }

    /// What `error`, met while using this file, means.
    #[must_use]
    pub fn error(&self, error: sqlx::Error) -> DatabaseError {
        DatabaseError::from_sqlx(self.what, &self.path, error)
    }

    /// Closes the file when all calls under way are done; later ones fail. Everything is in the
    /// file itself then, and SQLite has tidied its `-wal` and `-shm` away, unless others still have
    /// the file open. Dropping the database without it loses nothing that was committed.
    ///
    /// # Errors
    /// Why not everything is in the file: [`DatabaseError::DiskFull`] and the like. Nothing is lost
    /// then: what was committed is in the `-wal`, which belongs to the file. One that was removed,
    /// replaced or cut short is left alone: to close it would be to write over what is there now.
    pub async fn close(&self) -> Result<(), DatabaseError> {
        let written = match self.watch.condition() {
            Condition::Lost => self.check_file(),
            Condition::LogReplaced => self.rescue().await.and_then(|()| self.check_file()),
            // Where it says nothing of being in use, SQLite does the same when the last connection
            // closes.
            Condition::Whole if self.is_marked.load(Ordering::Relaxed) => {
                self.write_all_back().await
            }
            Condition::Whole => Ok(()),
        };
        self.close_connections().await;
        written
    }

    /// Closes the connections, or leaves them open where that would take something away.
    pub(crate) async fn close_connections(&self) {
        // Without its `-wal` a file that says that it is in use would not be taken for whole.
        if self.watch.condition() == Condition::Lost || self.is_marked.load(Ordering::Relaxed) {
            return self.leave_open();
        }
        self.readers.close().await;
        self.writer.close().await;
    }

    /// Where the `-wal` was removed under this process, which still has it open: writes it back
    /// while that is so. The file is whole then, and can be opened anew. Does nothing otherwise.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub async fn rescue(&self) -> Result<(), DatabaseError> {
        if self.watch.condition() != Condition::LogReplaced {
            return Ok(());
        }
        self.write_all().await.map(drop).map_err(|error| self.error(error))
    }

    /// Whether closing the last connection takes nothing away, and writes over nothing.
    pub(crate) fn may_close(&self) -> bool {
        self.watch.condition() == Condition::Whole && !self.is_marked.load(Ordering::Relaxed)
    }

    /// The connections stay until the process ends: SQLite writes when the last one is closed.
    fn leave_open(&self) {
        std::mem::forget((self.readers.clone(), self.writer.clone()));
    }
}

/// Not closed, it is left as a crash would leave it; the next opening finds everything.
impl Drop for Database {
    fn drop(&mut self) {
        if !self.readers.is_closed() && !self.may_close() {
            self.leave_open();
        }
    }
}

/// `PRAGMA wal_checkpoint`. Returns whether all of it was done.
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

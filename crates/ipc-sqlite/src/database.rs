//! Opens a database file, making it and bringing its tables up to date where needed.
//!
//! A store comes here once, for its connections. Nothing here reads or writes what the file is for.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sqlx::pool::PoolOptions;
use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteConnectOptions, SqliteConnection, SqlitePool, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Sqlite, Transaction};

use crate::error::{DatabaseError, is_busy};
use crate::migration::{self, Schema};
use crate::options::Options;
use crate::system::{FileId, file_id};

/// Between two attempts to switch to WAL while another process holds the file.
const WAL_RETRY_PAUSE: Duration = Duration::from_millis(5);

/// An open database file, which any number of processes may use at once.
///
/// The file is in WAL mode with `synchronous = FULL`: a change that was committed survives a loss of power. SQLite has one
/// writer at a time, so there is one connection for it, and those within the process queue up for it in order. Each
/// connection is made when first used: a process that only reads one thing opens only one.
pub struct Database {
    path: PathBuf,
    what: &'static str,
    /// Which file it was that lay there when it was opened.
    file: FileId,
    readers: SqlitePool,
    writer: SqlitePool,
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

    /// The one connection to write with. [`begin_write`](Self::begin_write) is mostly what is wanted.
    #[must_use]
    pub fn writer(&self) -> &SqlitePool {
        &self.writer
    }

    /// Begins a write, once those before it are done. Dropping the transaction takes back what was not committed.
    ///
    /// It takes the write lock at its start. A lock that is only asked for at the first write may be refused at once,
    /// without waiting for the other writer. <https://www.sqlite.org/lang_transaction.html>
    ///
    /// # Errors
    /// What sqlx reports, for [`error`](Self::error).
    pub async fn begin_write(&self) -> Result<Transaction<'static, Sqlite>, sqlx::Error> {
        match self.writer.begin_with("BEGIN IMMEDIATE").await {
            // SQLite takes a transaction back by itself when the disk is full or fails; sqlx then still believes itself
            // within it (https://www.sqlite.org/lang_transaction.html, section 2.1). A new connection knows better.
            Err(sqlx::Error::InvalidSavePointStatement) => {
                self.writer.acquire().await?.close().await?;
                self.writer.begin_with("BEGIN IMMEDIATE").await
            }
            begun => begun,
        }
    }

    /// Runs statements that begin with `BEGIN IMMEDIATE` and end with `COMMIT`, all in one go: each step of a transaction of its
    /// own goes to SQLite's thread and back, which costs more than most statements do. On an error nothing of it is done. It is
    /// to be waited for to its end: dropped on the way it may leave the connection within the transaction.
    ///
    /// # Errors
    /// What sqlx reports, for [`error`](Self::error).
    pub async fn write_at_once(
        &self,
        statements: Query<'static, Sqlite, SqliteArguments>,
    ) -> Result<(), sqlx::Error> {
        let mut connection = self.writer.acquire().await?;
        match statements.execute(&mut *connection).await {
            Ok(_) => Ok(()),
            Err(error) => {
                // SQLite has taken it back by itself after some errors (https://www.sqlite.org/lang_transaction.html, section
                // 2.1), and then says so. With the connection ends whatever is still begun; the next write opens another.
                if sqlx::query("ROLLBACK").execute(&mut *connection).await.is_err() {
                    // Whatever closing says, this is what went wrong.
                    let _closed = connection.close().await;
                }
                Err(error)
            }
        }
    }

    /// Checks that the file that was opened still is the one at its path. One that was removed, or replaced by another (a
    /// backup put back, say), stays readable for whoever has it open: SQLite would go on with what nobody else sees. Costs
    /// one `stat`. Where the system gives files no numbers, only a removed one is noticed.
    ///
    /// # Errors
    /// [`DatabaseError::Replaced`]; otherwise what the system says of the path.
    pub fn check_file(&self) -> Result<(), DatabaseError> {
        let replaced = || DatabaseError::Replaced { what: self.what, path: self.path.clone() };
        match file_id(&self.path) {
            Ok(file) if file == self.file => Ok(()),
            Ok(_) => Err(replaced()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(replaced()),
            Err(error) => Err(DatabaseError::from_io(self.what, &self.path, error)),
        }
    }

    /// What `error`, met while using this file, means.
    #[must_use]
    pub fn error(&self, error: sqlx::Error) -> DatabaseError {
        DatabaseError::from_sqlx(self.what, &self.path, error)
    }

    /// Closes the file when all calls under way are done; later ones fail. SQLite then tidies its `-wal` and `-shm` away,
    /// unless others still have the file open. Dropping the database without it loses nothing that was committed.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Opens the file at `path`, making it first with [`make_file`] if there is none.
///
/// If it is made and then cannot be opened, an empty file may be left, which the next call takes up.
///
/// # Errors
/// As [`open`]; `Missing` if the directory is.
pub async fn create(path: &Path, schema: &Schema, options: &Options) -> Result<Database, DatabaseError> {
    make_file(path, schema.what)?;
    open(path, schema, options).await
}

/// Makes an empty file at `path`, readable and writable for its owner alone (0600) whatever the umask, unless there is
/// something: that is left as it is. Its directory must be there. An empty file is an empty database to SQLite, so a crash
/// right after leaves nothing that the next opening would stumble over. `what` is that of [`Schema`].
///
/// # Errors
/// [`DatabaseError`]: `Missing` if the directory is, `ReadOnly`, `PermissionDenied`, `DiskFull` or `Unavailable`.
pub fn make_file(path: &Path, what: &'static str) -> Result<(), DatabaseError> {
    let path = absolute(path, what)?;
    match create_new(&path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made.map_err(|error| DatabaseError::from_io(what, &path, error)),
    }
}

#[cfg(unix)]
fn create_new(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};

    let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    // The umask can only take bits away; with a strict one not even the owner could read it. SQLite gives its -wal and
    // -shm files the same mode.
    file.set_permissions(fs::Permissions::from_mode(0o600))
}

#[cfg(not(unix))]
fn create_new(path: &Path) -> io::Result<()> {
    fs::OpenOptions::new().write(true).create_new(true).open(path).map(drop)
}

/// Opens the file at `path`, which must be there, and applies the migrations of `schema` that it has not seen.
///
/// # Errors
/// Any [`DatabaseError`].
pub async fn open(path: &Path, schema: &Schema, options: &Options) -> Result<Database, DatabaseError> {
    let what = schema.what;
    // SQLite takes a relative path that begins with `file:` as a URI.
    let path = absolute(path, what)?;
    // SQLite takes a file of one byte for an empty one and would write over it ("unixFileSize" in its source).
    if path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.len() == 1) {
        return Err(DatabaseError::NotADatabase { what, path });
    }
    // Before the first connection: another that is put there between the two is noticed by the first `check_file`.
    let file = file_id(&path).map_err(|error| DatabaseError::from_io(what, &path, error))?;
    // No statement is logged at any level. sqlx would log the text only, never what is bound to it, but even so the log
    // need not tell what is asked about whom.
    let connect = SqliteConnectOptions::new()
        .filename(&path)
        .busy_timeout(options.busy_timeout)
        .synchronous(SqliteSynchronous::Full)
        .disable_statement_logging();
    // Connections to a local file do not go stale: they are neither tested nor closed while the database is open.
    let pool = |connections_max| {
        PoolOptions::<Sqlite>::new()
            .max_connections(connections_max)
            .acquire_timeout(options.busy_timeout.max(Duration::from_secs(1)))
            .idle_timeout(None)
            .max_lifetime(None)
            .test_before_acquire(false)
            .connect_lazy_with(connect.clone())
    };
    let database = Database { path, what, file, readers: pool(options.readers_max), writer: pool(1) };

    let mut connection = database.readers.acquire().await.map_err(|error| database.error(error))?;
    set_wal(&mut connection, options.busy_timeout).await.map_err(|error| database.error(error))?;
    migration::migrate(&mut connection, &database.path, schema).await?;
    drop(connection);
    Ok(database)
}

fn absolute(path: &Path, what: &'static str) -> Result<PathBuf, DatabaseError> {
    std::path::absolute(path).map_err(|error| DatabaseError::from_io(what, path, error))
}

/// Puts the file into WAL mode, in which reading and writing do not wait for each other. The file remembers it, so that
/// this mostly only looks.
async fn set_wal(connection: &mut SqliteConnection, busy_timeout: Duration) -> Result<(), sqlx::Error> {
    let mode = sqlx::query_scalar::<_, String>("PRAGMA journal_mode").fetch_one(&mut *connection).await?;
    if mode == "wal" {
        return Ok(());
    }
    // SQLite does not apply its busy timeout to this switch (https://www.sqlite.org/c3ref/busy_handler.html), so two
    // processes that open a fresh file at the same time would fail without a retry.
    let deadline = Instant::now() + busy_timeout;
    loop {
        match sqlx::query_scalar::<_, String>("PRAGMA journal_mode = WAL").fetch_one(&mut *connection).await {
            Err(sqlx::Error::Database(error)) if is_busy(&*error) && Instant::now() < deadline => {
                tokio::time::sleep(WAL_RETRY_PAUSE).await;
            }
            switched => return switched.map(drop),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            let mode: String = sqlx::query_scalar("PRAGMA journal_mode").fetch_one(pool).await.unwrap();
            let synchronous: i64 = sqlx::query_scalar("PRAGMA synchronous").fetch_one(pool).await.unwrap();
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
            sqlx::query("INSERT INTO notes VALUES ('milk')").execute(&mut *transaction).await.unwrap();
        }
        let notes: i64 =
            sqlx::query_scalar("SELECT count(*) FROM notes").fetch_one(database.readers()).await.unwrap();
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

    #[tokio::test]
    async fn what_is_written_at_once_is_there_as_a_whole_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let database = create(&dir.path().join("notes.db"), &NOTES, &Options::new()).await.unwrap();
        let count = async || {
            let count = sqlx::query_scalar::<_, i64>("SELECT count(*) FROM notes");
            count.fetch_one(database.readers()).await.unwrap()
        };
        let both = "BEGIN IMMEDIATE; INSERT INTO notes VALUES (?1); INSERT INTO notes VALUES (?2); COMMIT";
        database.write_at_once(sqlx::query(both).bind("a").bind("b")).await.unwrap();
        assert_eq!(count().await, 2);
        let broken = "BEGIN IMMEDIATE; INSERT INTO notes VALUES (?1); INSERT INTO nowhere VALUES (1); COMMIT";
        database.write_at_once(sqlx::query(broken).bind("c")).await.unwrap_err();
        assert_eq!(count().await, 2);
        database.write_at_once(sqlx::query(both).bind("a").bind("b")).await.unwrap();
        let transaction = database.begin_write().await.unwrap();
        transaction.commit().await.unwrap();
        assert_eq!(count().await, 4, "nothing of the broken one is left to get in the way");
    }
}

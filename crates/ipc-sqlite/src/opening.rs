//! Opens a database file, making it and bringing its tables up to date where needed.
//!
//! A store comes here once. What is wrong with a file that is there is found here; nothing is read
//! of what it is for.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use sqlx::Row as _;
use sqlx::sqlite::{SqliteConnection, SqliteSynchronous};

use crate::connections;
use crate::database::{Database, IN_USE};
use crate::error::{DatabaseError, is_busy};
use crate::migration::{self, Schema};
use crate::options::Options;
use crate::system::{file_state, log_path};
use crate::watch::Watch;

/// Between two attempts to switch to WAL while another process holds the file.
const WAL_RETRY_PAUSE: Duration = Duration::from_millis(5);

/// Opens the file at `path`, making it first with [`make_file`] if there is none.
///
/// If it is made and then cannot be opened, an empty file may be left, which the next call takes
/// up.
///
/// # Errors
/// As [`open`]; `Missing` if the directory is.
pub async fn create(
    path: &Path,
    schema: &Schema,
    options: &Options,
) -> Result<Database, DatabaseError> {
    make_file(path, schema.what)?;
    open(path, schema, options).await
}

/// Makes an empty file at `path`, readable and writable for its owner alone (0600) whatever the
/// umask, unless there is something: that is left as it is. Its directory must be there. An empty
/// file is an empty database to SQLite, so a crash right after leaves nothing that the next opening
/// would stumble over. `what` is that of [`Schema`].
///
/// # Errors
/// [`DatabaseError`]: `Missing` if the directory is, `ReadOnly`, `PermissionDenied`, `DiskFull` or
/// `Unavailable`.
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
    // The umask can only take bits away; with a strict one not even the owner could read it. SQLite
    // gives its -wal and -shm files the same mode.
    file.set_permissions(fs::Permissions::from_mode(0o600))
}

#[cfg(not(unix))]
fn create_new(path: &Path) -> io::Result<()> {
    fs::OpenOptions::new().write(true).create_new(true).open(path).map(drop)
}

/// Opens the file at `path`, which must be there, and applies the migrations of `schema` that it
/// has not seen.
///
/// # Errors
/// Any [`DatabaseError`].
pub async fn open(
    path: &Path,
    schema: &Schema,
    options: &Options,
) -> Result<Database, DatabaseError> {
    let (database, before) = prepare(path, schema, options, false)?;
    let opened = async {
        let failed = |error| database.error(error);
        let mut connection = database.readers.acquire().await.map_err(failed)?;
        let state = before.check(&mut connection, &database).await?;
        // The tables first: made outside of the `-wal`, they are in the file itself before anything
        // can be beside it. So a file without tables never was one of ours, or has lost its `-wal`.
        migration::migrate(&mut connection, &database.path, schema).await?;
        set_wal(&mut connection, options.busy_timeout).await.map_err(failed)?;
        Ok(state)
    };
    let opened = opened.await;
    finish(database, opened).await
}

/// Opens the file at `path`, which must be there and up to date, for reading alone: also beside a
/// process that has it to itself, and where nothing can be written. Writing fails with
/// [`DatabaseError::ReadOnly`].
///
/// # Errors
/// Any [`DatabaseError`]; [`DatabaseError::Outdated`] for a file that lacks a migration.
pub async fn open_read_only(
    path: &Path,
    schema: &Schema,
    options: &Options,
) -> Result<Database, DatabaseError> {
    let (database, before) = prepare(path, schema, options, true)?;
    let opened = async {
        let mut connection =
            database.readers.acquire().await.map_err(|error| database.error(error))?;
        let state = before.check(&mut connection, &database).await?;
        match migration::is_up_to_date(&mut connection, &database.path, schema).await? {
            true => Ok(state),
            false => {
                Err(DatabaseError::Outdated { what: schema.what, path: database.path.clone() })
            }
        }
    };
    let opened = opened.await;
    finish(database, opened).await
}

/// The database with what was found, or closed again: SQLite has made files beside it, whose
/// presence means something.
async fn finish(
    mut database: Database,
    opened: Result<State, DatabaseError>,
) -> Result<Database, DatabaseError> {
    // From now on each of the files is known as it is.
    match opened.and_then(|state| database.check_file().map(|()| state)) {
        Ok(state) => {
            *database.is_marked.get_mut() = state.is_in_use && database.is_alone;
            database.lacks_log = state.lacks_log;
            Ok(database)
        }
        Err(error) => {
            database.readers.close().await;
            Err(error)
        }
    }
}

/// Connections to the file at `path`, none of them made yet, and what lies there before the first.
fn prepare(
    path: &Path,
    schema: &Schema,
    options: &Options,
    is_read_only: bool,
) -> Result<(Database, Before), DatabaseError> {
    let what = schema.what;
    let path = absolute(path, what)?;
    // Before the first connection: another that is put there between the two is noticed by the
    // first `check_file`.
    let file = file_state(&path).map_err(|error| DatabaseError::from_io(what, &path, error))?;
    let log_bytes = file_state(&log_path(&path)).ok().map(|log| log.bytes);
    let before =
        Before { bytes: file.bytes, log_bytes, is_immutable: is_read_only && log_bytes.is_none() };
    // SQLite takes a file of one byte for an empty one and would write over it ("unixFileSize" in
    // its source).
    if file.bytes == 1 && path.is_file() {
        return Err(DatabaseError::NotADatabase { what, path });
    }
    // There is nothing beside a file before it has its tables. SQLite would remove the `-wal`, with
    // all that is in it.
    if file.bytes == 0 && before.log_bytes.is_some_and(|bytes| bytes > 0) {
        return Err(DatabaseError::Truncated { what, path });
    }
    let connect = connections::connect(&path, options)
        .read_only(is_read_only)
        // Where nobody has it open, and SQLite would make a `-wal`. On a disk that cannot be
        // written it could not.
        .immutable(before.is_immutable)
        .synchronous(SqliteSynchronous::Full);
    let pool = |connections_max| {
        connections::pool(connections_max, options).connect_lazy_with(connect.clone())
    };
    let is_alone = options.is_alone && !is_read_only;
    let database = Database {
        watch: Watch::new(what, &path, file, is_alone),
        path,
        what,
        readers: pool(options.readers_max),
        writer: pool(1),
        busy_timeout: options.busy_timeout,
        is_alone,
        is_marked: AtomicBool::new(false),
        lacks_log: false,
    };
    Ok((database, before))
}

/// What lay there before SQLite was asked, which makes a `-wal` where there is none.
struct Before {
    bytes: u64,
    log_bytes: Option<u64>,
    /// It is read without looking for a `-wal`; SQLite then says nothing of how it is written.
    is_immutable: bool,
}

/// What a file says of itself.
struct State {
    is_in_use: bool,
    lacks_log: bool,
}

impl Before {
    /// Looks whether the file is whole, as far as it says so itself.
    async fn check(
        &self,
        connection: &mut SqliteConnection,
        database: &Database,
    ) -> Result<State, DatabaseError> {
        let look =
            "SELECT (SELECT count(*) FROM sqlite_schema), (SELECT user_version FROM pragma_user_version),
                           (SELECT journal_mode FROM pragma_journal_mode)";
        let looked = async {
            let row = sqlx::query(look).fetch_one(connection).await?;
            Ok((row.try_get(0)?, row.try_get(1)?, row.try_get::<String, _>(2)? == "wal"))
        };
        let (tables, version, has_log): (i64, i64, bool) =
            looked.await.map_err(|error| database.error(error))?;
        let is_in_use = version == IN_USE;
        // One that SQLite copied itself, by `VACUUM INTO`, is whole and has no `-wal`.
        let lacks_log =
            (has_log || self.is_immutable) && self.bytes > 0 && (tables == 0 || is_in_use);
        if lacks_log && self.log_bytes.is_none() {
            let (what, path) = (database.what, database.path.clone());
            return Err(DatabaseError::LogMissing { what, log: log_path(&path), path });
        }
        Ok(State { is_in_use, lacks_log: lacks_log && self.log_bytes == Some(0) })
    }
}

pub(crate) fn absolute(path: &Path, what: &'static str) -> Result<PathBuf, DatabaseError> {
    std::path::absolute(path).map_err(|error| DatabaseError::from_io(what, path, error))
}

/// Puts the file into WAL mode, in which reading and writing do not wait for each other. The file
/// remembers it, so that this mostly only looks.
async fn set_wal(
    connection: &mut SqliteConnection,
    busy_timeout: Duration,
) -> Result<(), sqlx::Error> {
    let mode =
        sqlx::query_scalar::<_, String>("PRAGMA journal_mode").fetch_one(&mut *connection).await?;
    if mode == "wal" {
        return Ok(());
    }
    // SQLite does not apply its busy timeout to this switch
    // (https://www.sqlite.org/c3ref/busy_handler.html), so two processes that open a fresh file at
    // the same time would fail without a retry.
    let deadline = Instant::now() + busy_timeout;
    loop {
        match sqlx::query_scalar::<_, String>("PRAGMA journal_mode = WAL")
            .fetch_one(&mut *connection)
            .await
        {
            Err(sqlx::Error::Database(error)) if is_busy(&*error) && Instant::now() < deadline => {
                tokio::time::sleep(WAL_RETRY_PAUSE).await;
            }
            switched => return switched.map(drop),
        }
    }
}

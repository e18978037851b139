//! Opens a database file. Creates the file and migrates its tables if necessary.
//!
//! A store calls it once. It finds what is wrong with an existing file, and reads none of its data.

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

/// The pause between two attempts to switch to WAL mode while another process has the file locked.
const WAL_RETRY_PAUSE: Duration = Duration::from_millis(5);

/// Opens the file at `path`. Creates it first with [`make_file`] if there is none.
///
/// If the file is created but cannot be opened, an empty file may be left, which the next call
/// uses.
///
/// # Errors
/// As [`open`]; `Missing` if the directory is missing.
pub async fn create(
    path: &Path,
    schema: &Schema,
    options: &Options,
) -> Result<Database, DatabaseError> {
    make_file(path, schema.what)?;
    open(path, schema, options).await
}

/// Creates an empty file at `path`, readable and writable for its owner only (mode 0600), whatever
/// the umask. An existing file is left unchanged. The directory must exist. SQLite takes an empty
/// file as an empty database, so a crash right afterwards does no harm. `what` is that of
/// [`Schema`].
///
/// # Errors
/// [`DatabaseError`]: `Missing` if the directory is missing, `ReadOnly`, `PermissionDenied`,
/// `DiskFull` or `Unavailable`.
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
    // The umask can only remove bits; with a strict umask not even the owner could read the file.
    // SQLite gives its -wal and -shm files the same mode.
    file.set_permissions(fs::Permissions::from_mode(0o600))
}

#[cfg(not(unix))]
fn create_new(path: &Path) -> io::Result<()> {
    fs::OpenOptions::new().write(true).create_new(true).open(path).map(drop)
}

/// Opens the file at `path`, which must exist, and applies the missing migrations of `schema`.
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
        // Migrates before the switch to WAL mode: so the tables are in the database file itself
        // before there is a `-wal`. A file without tables is therefore not one of ours, or has lost
        // its `-wal`.
        migration::migrate(&mut connection, &database.path, schema).await?;
        set_wal(&mut connection, options.busy_timeout).await.map_err(failed)?;
        Ok(state)
    };
    let opened = opened.await;
    finish(database, opened).await
}

/// Opens the file at `path`, which must exist and be up to date, for reading only: even beside a
/// process that has the file to itself, and where nothing can be written. Writing fails with
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

/// Returns the database with what was found. On an error it closes the connections, so that SQLite
/// removes the files that it created beside the database: their existence has a meaning.
async fn finish(
    mut database: Database,
    opened: Result<State, DatabaseError>,
) -> Result<Database, DatabaseError> {
    // From here on the state of each file is known.
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

/// Prepares connections to the file at `path`, none of them opened yet, and notes what is there
/// before the first one.
fn prepare(
    path: &Path,
    schema: &Schema,
    options: &Options,
    is_read_only: bool,
) -> Result<(Database, Before), DatabaseError> {
    let what = schema.what;
    let path = absolute(path, what)?;
    // This comes before the first connection: the first `check_file` notices a file that is
    // replaced between the two.
    let file = file_state(&path).map_err(|error| DatabaseError::from_io(what, &path, error))?;
    let log_bytes = file_state(&log_path(&path)).ok().map(|log| log.bytes);
    let before =
        Before { bytes: file.bytes, log_bytes, is_immutable: is_read_only && log_bytes.is_none() };
    // SQLite takes a file of one byte as an empty one and would write over it ("unixFileSize" in
    // its source).
    if file.bytes == 1 && path.is_file() {
        return Err(DatabaseError::NotADatabase { what, path });
    }
    // A file without tables never had a `-wal`. SQLite would remove the `-wal` with all its
    // content.
    if file.bytes == 0 && before.log_bytes.is_some_and(|bytes| bytes > 0) {
        return Err(DatabaseError::Truncated { what, path });
    }
    let connect = connections::connect(&path, options)
        .read_only(is_read_only)
        // No process has the file open, and SQLite would create a `-wal`, which fails where nothing
        // can be written.
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

/// The state of the files before SQLite opens the database, and creates a `-wal` if there is none.
struct Before {
    bytes: u64,
    log_bytes: Option<u64>,
    /// The file is read without a `-wal`; SQLite then does not report its journal mode.
    is_immutable: bool,
}

/// The marks in the file.
struct State {
    is_in_use: bool,
    lacks_log: bool,
}

impl Before {
    /// Checks whether the file is complete, as far as its marks tell.
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
        // A file that SQLite copied with `VACUUM INTO` is complete and not in WAL mode.
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

/// Switches the file to WAL mode, in which readers and the writer do not wait for each other. The
/// file remembers the mode, so usually this only reads it.
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
    // (https://www.sqlite.org/c3ref/busy_handler.html). Without a retry two processes that open a
    // new file at the same time would fail.
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

//! Opens the database file, making it and bringing its tables up to date where needed.
//!
//! The store comes here once, for its connections. Nothing here reads or writes a user.

use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use sqlx::migrate::{Migrate as _, MigrateError, Migration, MigrationType, Migrator};
use sqlx::pool::PoolOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqlitePool, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _, SqlSafeStr as _, Sqlite};

use crate::error::StoreError;
use crate::options::Options;

/// Every migration, oldest first. A new one goes to the end; one that was released is never changed.
const MIGRATIONS: &[(&str, &str)] = &[("users", include_str!("../migrations/0001_users.sql"))];

/// Where sqlx notes which migrations a file has seen.
const MIGRATIONS_TABLE: &str = "_sqlx_migrations";

/// Logins read one row each and are short: more connections would only be more threads.
const READERS_MAX: u32 = 4;

/// Between two attempts to switch to WAL while another process holds the file.
const WAL_RETRY_PAUSE: Duration = Duration::from_millis(5);

/// The connections of one store. SQLite has one writer at a time, so there is one connection for it, and those within the
/// process queue up for it in order. Each is made when first used: a process that only lists opens only one.
pub(crate) struct Pools {
    pub(crate) readers: SqlitePool,
    pub(crate) writer: SqlitePool,
}

/// Makes an empty file at `path`, 0600 whatever the umask, unless there is something. An empty file is an empty database
/// to SQLite, so a crash right after leaves nothing that the next opening would stumble over.
pub(crate) fn make_file(path: &Path) -> Result<(), StoreError> {
    match create_new(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made.map_err(|error| StoreError::from_io(path, error)),
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

/// Opens the file at `path`, which must be absolute: SQLite takes a relative path that begins with `file:` as a URI.
pub(crate) async fn open(path: &Path, options: &Options) -> Result<Pools, StoreError> {
    // SQLite takes a file of one byte for an empty one and would write over it ("unixFileSize" in its source).
    if path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.len() == 1) {
        return Err(StoreError::NotADatabase { path: path.to_owned() });
    }
    // No statement is logged at any level. sqlx would log the text only, never what is bound to it, but even so the log of
    // a login need not tell what is asked about whom.
    let connect = SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(options.busy_timeout)
        .synchronous(SqliteSynchronous::Full)
        .disable_statement_logging();
    // Connections to a local file do not go stale: they are neither tested nor closed while the store is open.
    let pool = |connections_max| {
        PoolOptions::<Sqlite>::new()
            .max_connections(connections_max)
            .acquire_timeout(options.busy_timeout.max(Duration::from_secs(1)))
            .idle_timeout(None)
            .max_lifetime(None)
            .test_before_acquire(false)
            .connect_lazy_with(connect.clone())
    };
    let pools = Pools { readers: pool(READERS_MAX), writer: pool(1) };

    let mut connection = pools.readers.acquire().await.map_err(|error| StoreError::from_sqlx(path, error))?;
    set_wal(&mut connection, options.busy_timeout)
        .await
        .map_err(|error| StoreError::from_sqlx(path, error))?;
    migrate(&mut connection, path).await?;
    drop(connection);
    Ok(pools)
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

fn is_busy(error: &dyn sqlx::error::DatabaseError) -> bool {
    error.code().and_then(|code| code.parse::<i32>().ok()).is_some_and(|code| code & 0xff == 5)
}

/// Applies the migrations that the file has not seen. One that has seen them all costs two small reads and no lock.
async fn migrate(connection: &mut SqliteConnection, path: &Path) -> Result<(), StoreError> {
    let failed = |error| StoreError::from_sqlx(path, error);
    if is_up_to_date(connection, path).await? {
        return Ok(());
    }
    // sqlx takes no lock on SQLite while it migrates. Within this transaction the second of two processes waits, and
    // looks again once the first is done.
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
    if is_up_to_date(&mut transaction, path).await? {
        return Ok(());
    }
    apply_missing(&mut transaction).await.map_err(|error| StoreError::from_migration(path, error))?;
    if !has_expected_columns(&mut transaction).await.map_err(failed)? {
        return Err(StoreError::OtherTable { path: path.to_owned() });
    }
    transaction.commit().await.map_err(failed)
}

/// Does what `Migrator::run` would; that one's future cannot be sent to another thread from within a generic caller.
async fn apply_missing(connection: &mut SqliteConnection) -> Result<(), MigrateError> {
    connection.ensure_migrations_table(MIGRATIONS_TABLE).await?;
    let applied = connection.list_applied_migrations(MIGRATIONS_TABLE).await?;
    for migration in migrator().iter() {
        if !applied.iter().any(|known| known.version == migration.version) {
            connection.apply(MIGRATIONS_TABLE, migration).await?;
        }
    }
    Ok(())
}

async fn is_up_to_date(connection: &mut SqliteConnection, path: &Path) -> Result<bool, StoreError> {
    let applied = applied(connection).await.map_err(|error| StoreError::from_sqlx(path, error))?;
    let newest = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    match applied {
        Some(version) if version > newest => Err(StoreError::Newer { path: path.to_owned() }),
        version => Ok(version == Some(newest)),
    }
}

/// The newest migration that was applied to the file, if any was.
async fn applied(connection: &mut SqliteConnection) -> Result<Option<i64>, sqlx::Error> {
    let migrated = sqlx::query_scalar::<_, bool>(
        "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = '_sqlx_migrations')",
    )
    .fetch_one(&mut *connection)
    .await?;
    if !migrated {
        return Ok(None);
    }
    sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations").fetch_one(connection).await
}

fn migrator() -> Migrator {
    let migration = |(version, (name, sql)): (i64, &(&'static str, &'static str))| {
        Migration::new(version, (*name).into(), MigrationType::Simple, (*sql).into_sql_str(), false)
    };
    Migrator::with_migrations((1..).zip(MIGRATIONS).map(migration).collect())
}

/// Whether the table of users is ours: it may have been there before, made by another program.
async fn has_expected_columns(connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
    let found: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM pragma_table_info('users') WHERE name IN ('id', 'username', 'password_hash')",
    )
    .fetch_one(connection)
    .await?;
    Ok(found == 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn migrations_are_numbered_from_one_in_order() {
        let versions: Vec<i64> = migrator().iter().map(|migration| migration.version).collect();
        assert_eq!(versions, (1..).take(MIGRATIONS.len()).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn an_opened_file_is_in_wal_mode_and_syncs_fully() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users.db");
        make_file(&path).unwrap();
        let pools = open(&path, &Options::new()).await.unwrap();
        for pool in [&pools.readers, &pools.writer] {
            let mode: String = sqlx::query_scalar("PRAGMA journal_mode").fetch_one(pool).await.unwrap();
            let synchronous: i64 = sqlx::query_scalar("PRAGMA synchronous").fetch_one(pool).await.unwrap();
            assert_eq!((mode.as_str(), synchronous), ("wal", 2));
        }
    }

    #[tokio::test]
    async fn a_file_that_is_up_to_date_opens_while_another_process_writes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users.db");
        make_file(&path).unwrap();
        let options = Options::new().busy_timeout(Duration::ZERO);
        let first = open(&path, &options).await.unwrap();
        let _writing = first.writer.begin_with("BEGIN IMMEDIATE").await.unwrap();
        assert!(open(&path, &options).await.is_ok());
    }

    #[tokio::test]
    async fn a_file_that_a_newer_version_migrated_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users.db");
        make_file(&path).unwrap();
        let pools = open(&path, &Options::new()).await.unwrap();
        sqlx::query("INSERT INTO _sqlx_migrations VALUES (99, 'later', CURRENT_TIMESTAMP, TRUE, x'00', 0)")
            .execute(&pools.writer)
            .await
            .unwrap();
        assert!(matches!(open(&path, &Options::new()).await, Err(StoreError::Newer { .. })));
    }

    #[test]
    fn making_a_file_leaves_one_that_is_there_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users.db");
        fs::write(&path, "anything").unwrap();
        make_file(&path).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"anything");
    }
}

//! How connections to a database file are made, whatever they are for.
//!
//! Opening comes here. Nothing here touches a file.

use std::path::Path;
use std::time::Duration;

use sqlx::pool::PoolOptions;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Sqlite};

use crate::options::Options;

/// A connection to the file at `path`, which is absolute: SQLite takes a relative path that begins
/// with `file:` as a URI.
pub(crate) fn connect(path: &Path, options: &Options) -> SqliteConnectOptions {
    // No statement is logged at any level. sqlx would log the text only, never what is bound to it,
    // but even so the log need not tell what is asked about whom.
    SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(options.busy_timeout)
        .disable_statement_logging()
}

/// So many connections, each made when it is first used. Connections to a local file do not go
/// stale: they are neither tested nor closed while the database is open.
pub(crate) fn pool(connections_max: u32, options: &Options) -> PoolOptions<Sqlite> {
    PoolOptions::new()
        .max_connections(connections_max)
        .acquire_timeout(options.busy_timeout.max(Duration::from_secs(1)))
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
}

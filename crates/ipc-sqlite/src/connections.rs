//! The settings of every connection to a database file.
//!
//! The code that opens a file uses them. Nothing here touches a file.

use std::path::Path;
use std::time::Duration;

use sqlx::pool::PoolOptions;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Sqlite};

use crate::options::Options;

/// The settings of a connection to the file at `path`, which must be absolute: SQLite takes a
/// relative path that begins with `file:` as a URI.
pub(crate) fn connect(path: &Path, options: &Options) -> SqliteConnectOptions {
    // No statement is logged at any level. sqlx would log only the text, not the bound values, but
    // even the text would tell what is read about users.
    SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(options.busy_timeout)
        .disable_statement_logging()
}

/// A pool of so many connections, each opened on its first use. Connections to a local file do not
/// go stale: they are neither tested nor closed while the database is open.
pub(crate) fn pool(connections_max: u32, options: &Options) -> PoolOptions<Sqlite> {
    PoolOptions::new()
        .max_connections(connections_max)
        .acquire_timeout(options.busy_timeout.max(Duration::from_secs(1)))
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
}

//! Checks a database file for damage while other processes use it.
//!
//! A diagnosis calls it. SQLite reads the whole file as of one moment; nothing is written.

use std::path::Path;

use sqlx::Row as _;

use crate::error::DatabaseError;
use crate::migration::Schema;
use crate::opening::open_read_only;
use crate::options::Options;

/// Reads all pages and indexes of the file at `path` (`PRAGMA integrity_check`). Other processes
/// may use the file.
///
/// # Errors
/// [`DatabaseError::Corrupt`] for what the check finds; otherwise as [`open_read_only`].
pub async fn check_integrity(
    path: &Path,
    schema: &Schema,
    options: &Options,
) -> Result<(), DatabaseError> {
    let database = open_read_only(path, schema, options).await?;
    // One finding is enough: the check of a damaged file may report a hundred.
    let checked = sqlx::query("PRAGMA integrity_check(1)")
        .fetch_one(database.readers())
        .await
        .and_then(|row| row.try_get::<String, _>(0));
    let checked = checked.map_err(|error| database.error(error));
    let path = database.path().to_owned();
    database.close().await?;
    match checked?.as_str() {
        "ok" => Ok(()),
        _ => Err(DatabaseError::Corrupt { what: schema.what, path }),
    }
}

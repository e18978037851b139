//! Copies a database file while other processes use it.
//!
//! A backup calls it. SQLite reads the file as of one moment and writes a new one, so the copy is
//! complete and needs no file beside it, whatever is committed meanwhile. A plain copy of the file
//! would be incomplete.

use std::path::Path;

use sqlx::{ConnectOptions as _, Connection as _};

use crate::connections;
use crate::error::DatabaseError;
use crate::migration::Schema;
use crate::opening::{absolute, make_file, open_read_only};
use crate::options::Options;
use crate::system::file_state;

/// Copies the file at `from`, as it is at this moment, to `to`. Other processes may use `from`.
/// Only the owner may read the copy (mode 0600). `to` must not exist, or be an empty file. The copy
/// is on the disk when this returns; the caller must flush the directory entry. On an error an
/// incomplete copy may be left.
///
/// # Errors
/// Any [`DatabaseError`], of either file.
pub async fn copy(
    from: &Path,
    to: &Path,
    schema: &Schema,
    options: &Options,
) -> Result<(), DatabaseError> {
    let what = schema.what;
    let to = absolute(to, what)?;
    let database = open_read_only(from, schema, options).await?;
    make_file(&to, what)?;
    let state = file_state(&to).map_err(|error| DatabaseError::from_io(what, &to, error))?;
    if state.bytes > 0 {
        return Err(DatabaseError::from_io(what, &to, std::io::ErrorKind::AlreadyExists.into()));
    }
    let path = to.to_str().map(str::to_owned);
    let path = path.ok_or_else(|| DatabaseError::Unavailable {
        what,
        path: to.clone(),
        source: "its path is not UTF-8".into(),
    })?;
    let copied = sqlx::query("VACUUM INTO ?").bind(path).execute(database.readers()).await;
    let closed = database.close().await;
    if let Err(error) = copied {
        let path = if DatabaseError::is_of_source(&error) { database.path() } else { &to };
        return Err(DatabaseError::from_sqlx(what, path, error));
    }
    closed?;
    let marked = async {
        // The mark was copied too, but only the original is in use.
        let mut connection = connections::connect(&to, options).connect().await?;
        sqlx::query("PRAGMA user_version = 0").execute(&mut connection).await?;
        connection.close().await
    };
    marked.await.map_err(|error| DatabaseError::from_sqlx(what, &to, error))?;
    // SQLite does not sync the copy.
    let synced = std::fs::OpenOptions::new().write(true).open(&to).and_then(|file| file.sync_all());
    synced.map_err(|error| DatabaseError::from_io(what, &to, error))
}

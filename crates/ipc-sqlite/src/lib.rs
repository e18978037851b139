//! Opens SQLite files so that committed changes are safe, with precise errors for unusable files.
//!
//! Crates that keep data in a file of their own use it. Nothing here knows that data: the caller
//! describes it with a [`Schema`].
//!
//! - [`open`] and [`create`] return a [`Database`]: connections for reading, and one for writing.
//!   [`open_read_only`] returns one that only reads, even beside a process that writes.
//! - [`open_immutable`] returns an [`Immutable`], to read a file where nothing can be written.
//! - [`Database::into_blocking`] returns a [`BlockingDatabase`]: the calling thread runs each
//!   statement itself.
//! - [`copy`] copies a file that is in use.
//! - [`Options`] say how long to wait for other processes and how many connections read at once.
//! - [`DatabaseError`] is the error of all calls; [`Database::error`] converts an error of sqlx.
//!
//! Types of sqlx and rusqlite are in these signatures on purpose: callers need them for their own
//! statements. The callers' own signatures have none of them. [`DatabaseError`] contains none, so
//! that it can be passed all the way up.
//!
//! All calls must be made within a tokio runtime that has time enabled (actix's is one).
//!
//! ```
//! use ipc_sqlite::{Options, Schema};
//!
//! const NOTES: Schema = Schema {
//!     what: "note database",
//!     migrations: &[("notes", "CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT NOT NULL)")],
//!     tables: &[("notes", &["id", "text"])],
//! };
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! let notes = ipc_sqlite::create(&dir.path().join("notes.db"), &NOTES, &Options::new()).await?;
//!
//! let mut transaction = notes.begin_write().await.map_err(|error| notes.error(error))?;
//! sqlx::query("INSERT INTO notes (text) VALUES ('milk')").execute(&mut *transaction).await?;
//! transaction.commit().await?;
//!
//! let texts: Vec<String> = sqlx::query_scalar("SELECT text FROM notes").fetch_all(notes.readers()).await?;
//! assert_eq!(texts, ["milk"]);
//!
//! // `open` does not create a missing file.
//! let error = ipc_sqlite::open(&dir.path().join("other.db"), &NOTES, &Options::new()).await.unwrap_err();
//! assert!(error.to_string().starts_with("there is no note database "));
//! notes.close().await?;
//! # Ok(())
//! # }
//! ```

mod blocking;
mod connections;
mod copy;
mod database;
mod error;
mod immutable;
mod integrity;
mod migration;
mod opening;
mod options;
mod system;
mod watch;

pub use blocking::BlockingDatabase;
pub use copy::copy;
pub use database::Database;
pub use error::DatabaseError;
pub use immutable::{Immutable, open_immutable, open_immutable_since};
pub use integrity::check_integrity;
pub use ipc_base::{ModeChange, Place, Remedy};
pub use migration::Schema;
pub use opening::{create, make_file, open, open_read_only};
pub use options::Options;

//! Opens SQLite files so that what was committed stays, and says plainly what is wrong with them.
//!
//! Crates that keep something in a file of their own come here. Nothing here knows what they keep:
//! that comes in as a [`Schema`].
//!
//! - [`open`] and [`create`] give a [`Database`]: connections to read with, and the one to write
//!   with; [`open_read_only`] one that only reads, also beside a process that writes.
//! - [`open_immutable`] gives an [`Immutable`], to read a file where nothing can be written and
//!   nothing has to be.
//! - [`Database::into_blocking`] gives a [`BlockingDatabase`]: a thread of its own writes it, with
//!   no way to another thread.
//! - [`copy`] makes a copy of a file that is in use.
//! - [`Options`] say how long to wait for other processes and how many may read at once.
//! - [`DatabaseError`] is all that can go wrong; [`Database::error`] makes one of what sqlx
//!   reports.
//!
//! sqlx's and rusqlite's types show in these signatures on purpose: callers need them to ask their
//! own questions. They show none of them to theirs. [`DatabaseError`] holds none, so that it can go
//! all the way up.
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
//! // What is missing is not made by `open`.
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
pub use ipc_base::{ModeChange, Place, Remedy};
pub use migration::Schema;
pub use opening::{create, make_file, open, open_read_only};
pub use options::Options;

//! Users and their bcrypt password hashes in PostgreSQL, for several servers.
//!
//! Programs open the database here and use it as a [`UserStore`](ipc_store::UserStore): one line
//! of a server's builder. Nothing here knows HTTP, sessions or certificates.
//!
//! - [`PostgresUrl`] is the address of a database; its password is never shown.
//! - [`PostgresUserStore`] opens it; [`PostgresOptions`] change the defaults.
//! - [`PostgresError`] says what is wrong with the database. Calls of the store return it as the
//!   source of [`StoreError::Unavailable`](ipc_store::StoreError::Unavailable) for what may pass,
//!   and of [`StoreError::Storage`](ipc_store::StoreError::Storage) for what does not.
//!
//! `docs/postgresql.md` says which rights it needs and what happens while it is down.
//!
//! ```no_run
//! use ipc_store::{StoreError, UserStore};
//! use ipc_store_postgres::{PostgresUrl, PostgresUserStore};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let url = PostgresUrl::parse("postgres://ipc:secret@db.example/ipc")?;
//! assert_eq!(url.to_string(), "postgres://ipc:***@db.example:5432/ipc");
//! let store = PostgresUserStore::open(url).await?;
//! for user in store.list().await? {
//!     println!("{user}");
//! }
//! # Ok(())
//! # }
//! ```

mod cache;
mod connections;
mod error;
mod migrations;
mod options;
mod store;
mod url;

pub use error::PostgresError;
pub use options::PostgresOptions;
pub use store::PostgresUserStore;
pub use url::{PostgresUrl, PostgresUrlError};

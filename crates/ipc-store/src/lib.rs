//! Users and their bcrypt password hashes in SQLite.
//!
//! Code that checks a login or manages users uses it. Nothing here knows HTTP, sessions or
//! certificates.
//!
//! - [`SqliteUserStore`] opens or creates the file; [`Options`] change the defaults.
//! - [`UserStore`] is the trait of all stores. Use `Arc<dyn UserStore>` if the kind of store does
//!   not matter.
//! - [`Username`] and [`Password`] are checked texts, for every call that changes a user.
//!   [`UserStore::verify`] takes a login as it was presented.
//! - [`StoreError`] is the error of all calls; an error of the file itself is a [`DatabaseError`]
//!   in it.
//! - [`CredentialVersion`] tells whether a user is still the one, with the password, that logged in
//!   some time ago. [`CurrentUser`] has it, with the peer that the user is bound to.
//! - [`StoredUser`] is a user with everything that a store keeps: [`UserStore::export`] and
//!   [`UserStore::import`] copy users from one store to another.
//! - [`UserRecord`] is a user in a list; [`LoginTally`] and [`PeerSighting`] are what a server
//!   tells the store of logins and certificates.
//!
//! ```
//! use ipc_store::{Options, Password, StoreError, UserStore, Username};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! // A real program leaves out `bcrypt_cost_for_tests`.
//! let store = Options::new().bcrypt_cost_for_tests().create(dir.path().join("users.db")).await?;
//! let bob = Username::parse("bob")?;
//! store.add(&bob, &Password::parse("pass321".to_owned())?).await?;
//!
//! let version = store.verify("bob", "pass321").await?;
//! assert!(version.is_some());
//! assert!(store.verify("bob", "pass322").await?.is_none());
//! assert!(store.verify("eve", "pass321").await?.is_none());
//!
//! // Does the session that "bob" got with `version` still stand?
//! let now = store.current(&bob).await?;
//! assert_eq!(now.map(|now| now.credential_version), version);
//! store.change_password(&bob, &Password::parse("pass654".to_owned())?).await?;
//! let now = store.current(&bob).await?;
//! assert_ne!(now.map(|now| now.credential_version), version);
//!
//! // A disabled user cannot log in and has no sessions.
//! store.disable(&bob).await?;
//! assert!(store.verify("bob", "pass654").await?.is_none());
//! assert!(store.current(&bob).await?.is_none());
//!
//! store.delete("bob").await?;
//! assert!(matches!(store.delete("bob").await, Err(StoreError::Unknown { .. })));
//! store.close().await;
//! # Ok(())
//! # }
//! ```

mod error;
mod hashing;
mod options;
mod password;
mod password_hasher;
mod record;
mod sqlite;
mod user_store;
mod username;

pub use error::StoreError;
pub use hashing::CredentialVersion;
pub use ipc_base::{ModeChange, PeerName, Place, Remedy};
pub use ipc_protocol::Fingerprint;
pub use ipc_sqlite::DatabaseError;
pub use options::{CostError, Options};
pub use password::{PASSWORD_BYTES_MAX, Password, PasswordError};
pub use password_hasher::PasswordHasher;
pub use record::{
    CurrentUser, ImportPlan, Imported, LoginTally, PeerSighting, StoredUser, UserRecord,
};
pub use sqlite::{SqliteUserStore, check_integrity, copy};
pub use user_store::{BoxFuture, UserStore};
pub use username::{USERNAME_CHARS_MAX, Username, UsernameError, names_meant};

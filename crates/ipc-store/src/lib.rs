//! Users and their bcrypt password hashes in SQLite.
//!
//! Whoever checks a login or manages users comes here. Nothing here knows HTTP, sessions or certificates.
//!
//! - [`SqliteUserStore`] opens or makes the file; [`Options`] where the defaults do not fit.
//! - [`UserStore`] is what can be done with users, wherever they are kept. Take `Arc<dyn UserStore>` where only that
//!   matters.
//! - [`Username`] and [`Password`] are text that has been checked, for everything that changes a user. A login is checked
//!   with [`UserStore::verify`] as it was presented.
//! - [`StoreError`] is what can go wrong; what is wrong with the file itself is a [`DatabaseError`] in it.
//! - [`CredentialVersion`] tells whether a user is still the one, with the password, that logged in some time ago.
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
//! assert_eq!(store.credential_version(&bob).await?, version);
//! store.change_password(&bob, &Password::parse("pass654".to_owned())?).await?;
//! assert_ne!(store.credential_version(&bob).await?, version);
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
mod sqlite;
mod username;

use std::pin::Pin;

pub use error::StoreError;
pub use hashing::CredentialVersion;
pub use ipc_sqlite::DatabaseError;
pub use options::{CostError, Options};
pub use password::{PASSWORD_BYTES_MAX, Password, PasswordError};
pub use sqlite::{SqliteUserStore, copy};
pub use username::{USERNAME_CHARS_MAX, Username, UsernameError};

/// A future on the heap that may move between threads, so that [`UserStore`] can be a trait object.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Users with a name and a password each, wherever they are kept.
///
/// A store that finds its file removed or replaced under it says so ([`DatabaseError::Replaced`]) instead of answering from
/// what is no longer there. What was reported as done is kept, and other processes see it at once. A future that is dropped before it is done
/// leaves the change wholly made or not made at all.
pub trait UserStore: Send + Sync + 'static {
    /// Adds a user.
    ///
    /// # Errors
    /// [`StoreError::Taken`] if there is one of that name; others as [`StoreError`] lists them.
    fn add<'a>(
        &'a self,
        username: &'a Username,
        password: &'a Password,
    ) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Deletes a user, named as presented: an entry that another program wrote with a name that [`Username`] refuses can be
    /// got rid of too.
    ///
    /// # Errors
    /// [`StoreError::Unknown`] if there is none of that name; others as [`StoreError`] lists them.
    fn delete<'a>(&'a self, username: &'a str) -> BoxFuture<'a, Result<(), StoreError>>;

    /// All users, in the order in which they were added. Entries that another program wrote with names that [`Username`]
    /// refuses are left out, with a warning in the log; they do not exist for the other calls either, but for
    /// [`delete`](Self::delete).
    ///
    /// # Errors
    /// As [`StoreError`] lists them.
    fn list(&self) -> BoxFuture<'_, Result<Vec<Username>, StoreError>>;

    /// Checks a login, with name and password as they were presented, of any length and form. `None` means no: an unknown
    /// user, a wrong password, one over 72 bytes or with a NUL byte (which is never cut to what bcrypt reads).
    ///
    /// Every answer takes one bcrypt, so that the time does not tell whether the user exists. (It does for users whose
    /// hash has another cost than the store's own.) It is run on a blocking thread, and no more at once than the machine
    /// has cores; the rest wait, and how many may is for the caller to say. Users of the Python tool whose password is longer than 72 bytes need
    /// a new one.
    ///
    /// # Errors
    /// As [`StoreError`] lists them, never because of what was presented.
    fn verify<'a>(
        &'a self,
        username: &'a str,
        password: &'a str,
    ) -> BoxFuture<'a, Result<Option<CredentialVersion>, StoreError>>;

    /// Gives a user another password; their [`CredentialVersion`] changes with it.
    ///
    /// # Errors
    /// [`StoreError::Unknown`] if there is none of that name; others as [`StoreError`] lists them.
    fn change_password<'a>(
        &'a self,
        username: &'a Username,
        password: &'a Password,
    ) -> BoxFuture<'a, Result<(), StoreError>>;

    /// The user's present version, `None` if there is no such user. One small read and no bcrypt: what a server asks to
    /// see whether a session still stands.
    ///
    /// # Errors
    /// As [`StoreError`] lists them.
    fn credential_version<'a>(
        &'a self,
        username: &'a Username,
    ) -> BoxFuture<'a, Result<Option<CredentialVersion>, StoreError>>;
}

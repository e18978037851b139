//! What can be done with users, wherever they are kept.
//!
//! The server, and whoever manages users, comes here; each kind of store has a file of its own.
//! Nothing here knows SQL.

use std::pin::Pin;

use crate::{CredentialVersion, Password, StoreError, Username};

/// A future on the heap that may move between threads, so that [`UserStore`] can be a trait object.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Users with a name and a password each, wherever they are kept.
///
/// A store that finds its file removed or replaced under it says so
/// ([`DatabaseError::Replaced`](ipc_sqlite::DatabaseError::Replaced)) instead of answering from
/// what is no longer there. What was reported as done is kept, and other processes see it at once.
/// A future that is dropped before it is done leaves the change wholly made or not made at all.
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

    /// Deletes a user, named as presented: an entry that another program wrote with a name that
    /// [`Username`] refuses can be got rid of too.
    ///
    /// # Errors
    /// [`StoreError::Unknown`] if there is none of that name; others as [`StoreError`] lists them.
    fn delete<'a>(&'a self, username: &'a str) -> BoxFuture<'a, Result<(), StoreError>>;

    /// All users, in the order in which they were added. Entries that another program wrote with
    /// names that [`Username`] refuses are left out, with a warning in the log; they do not exist
    /// for the other calls either, but for [`delete`](Self::delete).
    ///
    /// # Errors
    /// As [`StoreError`] lists them.
    fn list(&self) -> BoxFuture<'_, Result<Vec<Username>, StoreError>>;

    /// Checks a login, with name and password as they were presented, of any length and form.
    /// `None` means no: an unknown user, a wrong password, one over 72 bytes or with a NUL byte
    /// (which is never cut to what bcrypt reads).
    ///
    /// Every answer takes one bcrypt, so that the time does not tell whether the user exists. (It
    /// does for users whose hash has another cost than the store's own.) It is run on a blocking
    /// thread, and no more at once than the machine has cores; the rest wait, and how many may is
    /// for the caller to say. Users of the Python tool whose password is longer than 72 bytes need
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

    /// The user's present version, `None` if there is no such user. One small read and no bcrypt:
    /// what a server asks to see whether a session still stands.
    ///
    /// # Errors
    /// As [`StoreError`] lists them.
    fn credential_version<'a>(
        &'a self,
        username: &'a Username,
    ) -> BoxFuture<'a, Result<Option<CredentialVersion>, StoreError>>;
}

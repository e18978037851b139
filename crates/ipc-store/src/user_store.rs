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
///
/// A store of another kind implements the two methods that have no default, which are all that a
/// server asks: [`verify`](Self::verify) and [`credential_version`](Self::credential_version). By
/// default users cannot be changed or listed here. Methods that are added later have a default.
///
/// # Example
/// Users in memory. [`PasswordHasher`](crate::PasswordHasher) sees to it that an unknown user takes
/// as long as a wrong password.
///
/// ```
/// use std::collections::HashMap;
/// use ipc_store::{
///     BoxFuture, CredentialVersion, Options, Password, PasswordHasher, StoreError, UserStore,
///     Username,
/// };
///
/// struct InMemory {
///     hashes: HashMap<String, String>,
///     hasher: PasswordHasher,
/// }
///
/// impl UserStore for InMemory {
///     fn verify<'a>(
///         &'a self,
///         username: &'a str,
///         password: &'a str,
///     ) -> BoxFuture<'a, Result<Option<CredentialVersion>, StoreError>> {
///         let hash = self.hashes.get(username).map(String::as_str);
///         Box::pin(self.hasher.verify(hash, password))
///     }
///
///     fn credential_version<'a>(
///         &'a self,
///         username: &'a Username,
///     ) -> BoxFuture<'a, Result<Option<CredentialVersion>, StoreError>> {
///         let hash = self.hashes.get(username.as_str());
///         let version = hash.map(|hash| CredentialVersion::of_hash(hash));
///         Box::pin(std::future::ready(Ok(version)))
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let options = Options::new().bcrypt_cost_for_tests();
/// # #[cfg(any())]
/// let options = Options::new();
/// let hasher = options.password_hasher();
/// let hash = hasher.hash(&Password::parse("pass321".to_owned())?).await?;
/// let store = InMemory { hashes: HashMap::from([("bob".to_owned(), hash)]), hasher };
///
/// let version = store.verify("bob", "pass321").await?;
/// assert!(version.is_some());
/// assert_eq!(store.credential_version(&Username::parse("bob")?).await?, version);
/// assert!(store.verify("bob", "pass322").await?.is_none());
/// assert!(store.verify("eve", "pass321").await?.is_none());
/// assert!(matches!(store.list().await, Err(StoreError::Unsupported)));
/// # Ok(())
/// # }
/// ```
pub trait UserStore: Send + Sync + 'static {
    /// Adds a user.
    ///
    /// # Errors
    /// [`StoreError::Taken`] if there is one of that name; others as [`StoreError`] lists them.
    fn add<'a>(
        &'a self,
        username: &'a Username,
        password: &'a Password,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        let _ = (username, password);
        unsupported()
    }

    /// Deletes a user, named as presented: an entry that another program wrote with a name that
    /// [`Username`] refuses can be got rid of too.
    ///
    /// # Errors
    /// [`StoreError::Unknown`] if there is none of that name; others as [`StoreError`] lists them.
    fn delete<'a>(&'a self, username: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        let _ = username;
        unsupported()
    }

    /// All users, in the order in which they were added. Entries that another program wrote with
    /// names that [`Username`] refuses are left out, with a warning in the log; they do not exist
    /// for the other calls either, but for [`delete`](Self::delete).
    ///
    /// # Errors
    /// As [`StoreError`] lists them.
    fn list(&self) -> BoxFuture<'_, Result<Vec<Username>, StoreError>> {
        unsupported()
    }

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
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        let _ = (username, password);
        unsupported()
    }

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

/// The answer of a store whose users are managed elsewhere.
fn unsupported<'a, T: Send + 'a>() -> BoxFuture<'a, Result<T, StoreError>> {
    Box::pin(std::future::ready(Err(StoreError::Unsupported)))
}

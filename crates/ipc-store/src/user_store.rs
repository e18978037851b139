//! The trait of user stores.
//!
//! The server and code that manages users call it; each kind of store has a file of its own.
//! Nothing here knows SQL.

use std::pin::Pin;

use crate::{CredentialVersion, Password, StoreError, Username};

/// A boxed future that is `Send`, so that [`UserStore`] can be a trait object.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A store of users, each with a name and a password.
///
/// A store that finds its file removed or replaced returns
/// [`DatabaseError::Replaced`](ipc_sqlite::DatabaseError::Replaced) instead of answering from the
/// old file. A change that was reported as done is durable, and other processes see it at once. If
/// a future is dropped before it is done, the change is made completely or not at all.
///
/// A store of another kind implements the two methods that have no default, which are all that a
/// server needs: [`verify`](Self::verify) and [`credential_version`](Self::credential_version). By
/// default users cannot be changed or listed. Methods that are added later will have a default.
///
/// # Example
/// Users in memory. [`PasswordHasher`](crate::PasswordHasher) ensures that an unknown user takes as
/// long as a wrong password.
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
    /// [`StoreError::Taken`] if the name exists already; other variants of [`StoreError`].
    fn add<'a>(
        &'a self,
        username: &'a Username,
        password: &'a Password,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        let _ = (username, password);
        unsupported()
    }

    /// Deletes a user by the presented name. So an entry can be deleted that another program wrote
    /// with a name that [`Username`] refuses.
    ///
    /// # Errors
    /// [`StoreError::Unknown`] if there is no such user; other variants of [`StoreError`].
    fn delete<'a>(&'a self, username: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        let _ = username;
        unsupported()
    }

    /// All users, in the order in which they were added. Entries with names that [`Username`]
    /// refuses, which another program wrote, are omitted, with a warning in the log. For the other
    /// calls, except [`delete`](Self::delete), they do not exist.
    ///
    /// # Errors
    /// Any [`StoreError`].
    fn list(&self) -> BoxFuture<'_, Result<Vec<Username>, StoreError>> {
        unsupported()
    }

    /// Checks a login, with name and password as they were presented, of any length and form.
    /// Returns `None` for an unknown user, a wrong password, and a password with more than 72 bytes
    /// or a NUL byte, which is never truncated to what bcrypt reads.
    ///
    /// Every call takes one bcrypt, so that the time does not reveal whether the user exists. (It
    /// does for users whose hash has another cost than the store's own.) bcrypt runs on a thread of
    /// its own, no more at once than the machine has cores; further calls wait, and the caller must
    /// limit their number. A user of the Python tool with a password of more than 72 bytes needs a
    /// new one.
    ///
    /// # Errors
    /// Any [`StoreError`], never because of what was presented.
    fn verify<'a>(
        &'a self,
        username: &'a str,
        password: &'a str,
    ) -> BoxFuture<'a, Result<Option<CredentialVersion>, StoreError>>;

    /// Sets a user's password, which changes the user's [`CredentialVersion`].
    ///
    /// # Errors
    /// [`StoreError::Unknown`] if there is no such user; other variants of [`StoreError`].
    fn change_password<'a>(
        &'a self,
        username: &'a Username,
        password: &'a Password,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        let _ = (username, password);
        unsupported()
    }

    /// The user's current version; `None` if there is no such user. It takes one small read and no
    /// bcrypt: a server calls it to check that a session is still valid.
    ///
    /// # Errors
    /// Any [`StoreError`].
    fn credential_version<'a>(
        &'a self,
        username: &'a Username,
    ) -> BoxFuture<'a, Result<Option<CredentialVersion>, StoreError>>;
}

/// The result of a store whose users are managed elsewhere.
fn unsupported<'a, T: Send + 'a>() -> BoxFuture<'a, Result<T, StoreError>> {
    Box::pin(std::future::ready(Err(StoreError::Unsupported)))
}

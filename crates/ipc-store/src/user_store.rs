//! The trait of user stores.
//!
//! The server and code that manages users call it; each kind of store has a file of its own.
//! Nothing here knows SQL.

use std::pin::Pin;

use ipc_base::PeerName;

use crate::{
    CredentialVersion, CurrentUser, Imported, LoginTally, Password, PeerSighting, StoreError,
    StoredUser, UserRecord, Username,
};

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
/// server asks: [`verify`](Self::verify) and [`current`](Self::current). By default users cannot be
/// changed or listed here, and what a server reports of logins and certificates is not kept.
/// Methods that are added later have a default.
///
/// # Example
/// Users in memory. [`PasswordHasher`](crate::PasswordHasher) ensures that an unknown user takes as
/// long as a wrong password.
///
/// ```
/// use std::collections::HashMap;
/// use ipc_store::{
///     BoxFuture, CredentialVersion, CurrentUser, Options, Password, PasswordHasher, StoreError,
///     UserStore, Username,
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
///     fn current<'a>(
///         &'a self,
///         username: &'a Username,
///     ) -> BoxFuture<'a, Result<Option<CurrentUser>, StoreError>> {
///         let hash = self.hashes.get(username.as_str());
///         let user = hash.map(|hash| CurrentUser::new(CredentialVersion::of_hash(hash)));
///         Box::pin(std::future::ready(Ok(user)))
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
/// let now = store.current(&Username::parse("bob")?).await?;
/// assert_eq!(now.map(|now| now.credential_version), version);
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
    /// `None` means no: an unknown or disabled user, a wrong password, one over 72 bytes or with a
    /// NUL byte (which is never cut to what bcrypt reads). To which peer the user is bound is not
    /// looked at: that is [`current`](Self::current).
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

    /// The user as the user is now; `None` if there is no such user or the user is disabled. One
    /// small read and no bcrypt: what a server asks to see whether a session still stands.
    ///
    /// # Errors
    /// As [`StoreError`] lists them.
    fn current<'a>(
        &'a self,
        username: &'a Username,
    ) -> BoxFuture<'a, Result<Option<CurrentUser>, StoreError>>;

    /// Disables a user: logins are refused and sessions end, also after the user is enabled again.
    /// A user who is disabled already stays so.
    ///
    /// # Errors
    /// [`StoreError::Unknown`] if there is none of that name; others as [`StoreError`] lists them.
    fn disable<'a>(&'a self, username: &'a Username) -> BoxFuture<'a, Result<(), StoreError>> {
        let _ = username;
        unsupported()
    }

    /// Lets a disabled user log in again.
    ///
    /// # Errors
    /// As those of [`disable`](Self::disable).
    fn enable<'a>(&'a self, username: &'a Username) -> BoxFuture<'a, Result<(), StoreError>> {
        let _ = username;
        unsupported()
    }

    /// Binds a user to a peer: the user may use certificates with this peer name only. `None` lets
    /// the user use any.
    ///
    /// # Errors
    /// As those of [`disable`](Self::disable).
    fn bind<'a>(
        &'a self,
        username: &'a Username,
        peer: Option<&'a PeerName>,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        let _ = (username, peer);
        unsupported()
    }

    /// [`list`](Self::list) with all that is known of each user.
    ///
    /// # Errors
    /// As [`StoreError`] lists them.
    fn list_long(&self) -> BoxFuture<'_, Result<Vec<UserRecord>, StoreError>> {
        unsupported()
    }

    /// Adds to what is known of users' logins, in one step for all of them. A server calls this
    /// every few seconds at most. Names of no user are left out. Does nothing by default.
    ///
    /// # Errors
    /// As [`StoreError`] lists them.
    fn note_logins<'a>(
        &'a self,
        tallies: &'a [LoginTally],
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        let _ = tallies;
        Box::pin(std::future::ready(Ok(())))
    }

    /// Notes certificates that were seen, in one step for all of them. A server calls this every
    /// few seconds at most. What a sighting does not say stays as it was noted before; one that is
    /// older than what is noted changes nothing. Does nothing by default.
    ///
    /// # Errors
    /// As [`StoreError`] lists them.
    fn record_sightings<'a>(
        &'a self,
        sightings: &'a [PeerSighting],
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        let _ = sightings;
        Box::pin(std::future::ready(Ok(())))
    }

    /// The certificates that were seen, each as it was seen last, the latest first.
    ///
    /// # Errors
    /// As [`StoreError`] lists them.
    fn peers(&self) -> BoxFuture<'_, Result<Vec<PeerSighting>, StoreError>> {
        unsupported()
    }

    /// All users with their hashes, in the order in which they were added, for
    /// [`import`](Self::import) into another store. Entries that [`list`](Self::list) omits are
    /// omitted.
    ///
    /// # Errors
    /// As [`StoreError`] lists them.
    fn export(&self) -> BoxFuture<'_, Result<Vec<StoredUser>, StoreError>> {
        unsupported()
    }

    /// Takes users as another store has them: hashes, rights, dates. All of them or, on an error,
    /// none. Their sessions go on. Users who are there with the same rights stay as they are; if
    /// one is there with other rights, `may_overwrite` decides.
    ///
    /// # Errors
    /// [`StoreError::Differs`]; others as [`StoreError`] lists them.
    fn import<'a>(
        &'a self,
        users: &'a [StoredUser],
        may_overwrite: bool,
    ) -> BoxFuture<'a, Result<Imported, StoreError>> {
        let _ = (users, may_overwrite);
        unsupported()
    }

    /// Closes files and connections when all running calls are done; later calls fail. Does nothing
    /// by default.
    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}

/// The result of a store whose users are managed elsewhere.
fn unsupported<'a, T: Send + 'a>() -> BoxFuture<'a, Result<T, StoreError>> {
    Box::pin(std::future::ready(Err(StoreError::Unsupported)))
}

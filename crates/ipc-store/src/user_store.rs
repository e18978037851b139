//! What can be done with users, wherever they are kept.
//!
//! The server, and whoever manages users, comes here; each kind of store has a file of its own.
//! Nothing here knows SQL.

use std::pin::Pin;

use ipc_base::PeerName;

use crate::{
    CredentialVersion, CurrentUser, LoginTally, Password, PeerSighting, StoreError, UserRecord,
    Username,
};

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
/// server asks: [`verify`](Self::verify) and [`current`](Self::current). By default users cannot be
/// changed or listed here, and what a server reports of logins and certificates is not kept. Methods
/// that are added later have a default.
///
/// # Example
/// Users in memory. [`PasswordHasher`](crate::PasswordHasher) sees to it that an unknown user takes
/// as long as a wrong password.
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
    /// `None` means no: an unknown or disabled user, a wrong password, one over 72 bytes or with a
    /// NUL byte (which is never cut to what bcrypt reads). To which peer the user is bound is not
    /// looked at: that is [`current`](Self::current).
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
}

/// The answer of a store whose users are managed elsewhere.
fn unsupported<'a, T: Send + 'a>() -> BoxFuture<'a, Result<T, StoreError>> {
    Box::pin(std::future::ready(Err(StoreError::Unsupported)))
}

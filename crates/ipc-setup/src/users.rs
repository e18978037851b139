//! The users of a home: a blocking interface over `ipc-store`.
//!
//! The command line comes here. The admin is a user like any other, except that its password is
//! also written to `admin.cred`, with which clients without credentials of their own log in.

use std::fmt;
use std::sync::Arc;

use ipc_home::{ADMIN_USERNAME, Credentials, Home, PeerName, StagedFile};
use ipc_pki::to_ascii;
use ipc_store::{
    Imported, Options, Password, PeerSighting, SqliteUserStore, UserRecord, UserStore, Username,
};
use tokio::runtime::{Builder, Runtime};
use zeroize::Zeroizing;

use crate::SetupError;
use crate::clock::now_secs;
use crate::lock::Lock;
use crate::random::random_bytes;

/// The users of one home. Every call blocks, so none may be made within an async runtime.
pub struct Users {
    home: Home,
    store: Arc<dyn UserStore>,
    runtime: Runtime,
}

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Users").field("home", &self.home).finish_non_exhaustive()
    }
}

/// Opens the store of a home's users: `users.db`, or the database that
/// [`Home::users_url`](ipc_home::Home::users_url) names. For a server that takes it, and closes it
/// not: [`UserStore::close`] does.
///
/// # Errors
/// As those of [`users`].
pub async fn user_store(home: &Home) -> Result<Arc<dyn UserStore>, SetupError> {
    match home.users_url()? {
        Some(url) => elsewhere(home, &url, Options::default()).await,
        None => Ok(Arc::new(SqliteUserStore::open(home.users_db_checked()?).await?)),
    }
}

/// The database that a home's users are in, if they are not in its `users.db`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct UsersDatabase {
    /// Its URL, without the password.
    pub shown: String,
    /// Whether the URL is good on this host alone: a Unix socket, or an address of loopback.
    pub is_this_host: bool,
}

/// Where the users of a home are; `None` if in its `users.db`. Nothing is opened.
///
/// # Errors
/// [`SetupError::UsersUrl`]; [`HomeError::UsersElsewhere`](ipc_home::HomeError::UsersElsewhere)
/// where the feature `postgres` was left out; and those of reading a secret of the home.
pub fn users_database(home: &Home) -> Result<Option<UsersDatabase>, SetupError> {
    home.users_url()?.map(|url| database_of(home, &url)).transpose()
}

#[cfg(feature = "postgres")]
fn database_of(_: &Home, url: &str) -> Result<UsersDatabase, SetupError> {
    let url = parse_url(url)?;
    Ok(UsersDatabase { shown: url.to_string(), is_this_host: url.is_this_host() })
}

#[cfg(not(feature = "postgres"))]
fn database_of(home: &Home, _: &str) -> Result<UsersDatabase, SetupError> {
    Err(ipc_home::HomeError::UsersElsewhere { path: home.root().to_owned() }.into())
}

/// Whether it is the URL of a database, as far as this build can tell.
pub(crate) fn check_url(url: &str) -> Result<(), SetupError> {
    #[cfg(feature = "postgres")]
    parse_url(url)?;
    let _ = url;
    Ok(())
}

#[cfg(feature = "postgres")]
fn parse_url(url: &str) -> Result<ipc_store_postgres::PostgresUrl, SetupError> {
    ipc_store_postgres::PostgresUrl::parse(url)
        .map_err(|error| SetupError::UsersUrl { reason: error.to_string() })
}

/// Opens the database at `url`. Makes its tables first if there are none.
#[cfg(feature = "postgres")]
async fn elsewhere(
    _: &Home,
    url: &str,
    options: Options,
) -> Result<Arc<dyn UserStore>, SetupError> {
    let url = parse_url(url)?;
    let options = ipc_store_postgres::PostgresOptions::new().hashing(options);
    Ok(Arc::new(options.open(url).await?))
}

/// Refuses the database: this build cannot open it.
#[cfg(not(feature = "postgres"))]
async fn elsewhere(home: &Home, _: &str, _: Options) -> Result<Arc<dyn UserStore>, SetupError> {
    Err(ipc_home::HomeError::UsersElsewhere { path: home.root().to_owned() }.into())
}

/// Opens the users of a complete home.
///
/// # Errors
/// [`HomeError::FileMissing`](ipc_home::HomeError::FileMissing) if there is no `users.db`,
/// [`HomeError::TooOpen`](ipc_home::HomeError::TooOpen) if other users have a right on it;
/// [`SetupError::Store`] if it is damaged or cannot be opened; [`SetupError::Runtime`].
pub fn users(home: &Home) -> Result<Users, SetupError> {
    let runtime = runtime()?;
    let store = runtime.block_on(user_store(home))?;
    Ok(Users { home: home.clone(), store, runtime })
}

impl Users {
    /// Opens `users.db`, and makes it first if there is none; or the database that the home names.
    pub(crate) fn create(home: &Home, options: &Options) -> Result<Self, SetupError> {
        let (runtime, options) = (runtime()?, options.clone());
        let store: Arc<dyn UserStore> = match home.users_url()? {
            Some(url) => runtime.block_on(elsewhere(home, &url, options))?,
            None => Arc::new(runtime.block_on(options.create(home.users_db()))?),
        };
        Ok(Self { home: home.clone(), store, runtime })
    }

    /// Copies all users, and the certificates that were seen, to the PostgreSQL database at `url`:
    /// hashes, rights and dates as they are, so that sessions go on. All users or none. Those that
    /// are there with the same rights stay; others stop the copy unless `may_overwrite`.
    ///
    /// # Errors
    /// [`SetupError::UsersUrl`]; [`SetupError::Store`], among others
    /// [`StoreError::Differs`](ipc_store::StoreError::Differs);
    /// [`HomeError::UsersElsewhere`](ipc_home::HomeError::UsersElsewhere) where the feature
    /// `postgres` was left out.
    pub fn copy_to(&self, url: &str, may_overwrite: bool) -> Result<Imported, SetupError> {
        self.runtime.block_on(async {
            let to = elsewhere(&self.home, url, Options::default()).await?;
            let users = self.store.export().await?;
            let imported = to.import(&users, may_overwrite).await?;
            to.record_sightings(&self.store.peers().await?).await?;
            to.close().await;
            Ok(imported)
        })
    }

    /// Adds a user.
    ///
    /// # Errors
    /// [`SetupError::Username`] and [`SetupError::Password`] if the text breaks their rules;
    /// [`SetupError::Store`] if the name is taken, or the database fails. For the admin also
    /// [`SetupError::AdminNotKept`], and the errors of the home.
    pub fn add(&self, username: &str, password: Zeroizing<String>) -> Result<(), SetupError> {
        let (username, parsed) = parse(username, &password)?;
        let kept = self.prepare_to_keep(&username, password)?;
        self.runtime.block_on(self.store.add(&username, &parsed))?;
        kept.map_or(Ok(()), Kept::keep)
    }

    /// Changes a user's password, which ends the user's sessions.
    ///
    /// # Errors
    /// [`SetupError::Username`] and [`SetupError::Password`] if the text breaks their rules;
    /// [`SetupError::Store`] if there is no such user, or the database fails. For the admin also
    /// [`SetupError::AdminNotKept`], and the errors of the home.
    pub fn change_password(
        &self,
        username: &str,
        password: Zeroizing<String>,
    ) -> Result<(), SetupError> {
        let username = Username::parse_existing(username)?;
        let parsed = Password::parse(password.to_string())?;
        let kept = self.prepare_to_keep(&username, password)?;
        self.runtime.block_on(self.store.change_password(&username, &parsed))?;
        kept.map_or(Ok(()), Kept::keep)
    }

    /// Deletes a user, which ends the user's sessions. The name is not checked, since a `users.db`
    /// of the Python tool may have names that could not be added here.
    ///
    /// # Errors
    /// [`SetupError::Store`] if there is no such user, or the database fails.
    pub fn delete(&self, username: &str) -> Result<(), SetupError> {
        Ok(self.runtime.block_on(self.store.delete(username))?)
    }

    /// Disables a user: logins are refused and sessions end.
    ///
    /// # Errors
    /// [`SetupError::Username`]; [`SetupError::Store`], among others if there is no such user.
    pub fn disable(&self, username: &str) -> Result<(), SetupError> {
        let username = Username::parse_existing(username)?;
        Ok(self.runtime.block_on(self.store.disable(&username))?)
    }

    /// Lets a disabled user log in again.
    ///
    /// # Errors
    /// As those of [`disable`](Self::disable).
    pub fn enable(&self, username: &str) -> Result<(), SetupError> {
        let username = Username::parse_existing(username)?;
        Ok(self.runtime.block_on(self.store.enable(&username))?)
    }

    /// Binds a user to a peer: only certificates with this peer name are accepted of the user.
    /// There need not be one yet.
    ///
    /// # Errors
    /// [`SetupError::Name`] for what is no peer name; as those of
    /// [`disable`](Self::disable).
    pub fn bind(&self, username: &str, peer: &str) -> Result<(), SetupError> {
        let username = Username::parse_existing(username)?;
        let named = |source| SetupError::Name { name: peer.to_owned(), source };
        let peer = to_ascii(peer).and_then(|name| PeerName::parse(&name)).map_err(named)?;
        Ok(self.runtime.block_on(self.store.bind(&username, Some(&peer)))?)
    }

    /// Lets a bound user use any certificate.
    ///
    /// # Errors
    /// As those of [`disable`](Self::disable).
    pub fn unbind(&self, username: &str) -> Result<(), SetupError> {
        let username = Username::parse_existing(username)?;
        Ok(self.runtime.block_on(self.store.bind(&username, None))?)
    }

    /// The certificates with which somebody has logged in: when last, as which user, and with which
    /// envelope key.
    ///
    /// # Errors
    /// [`SetupError::Store`].
    pub fn peers(&self) -> Result<Vec<PeerSighting>, SetupError> {
        Ok(self.runtime.block_on(self.store.peers())?)
    }

    /// All users with what is known of each, in the order in which they were added.
    ///
    /// # Errors
    /// [`SetupError::Store`].
    pub fn list_long(&self) -> Result<Vec<UserRecord>, SetupError> {
        Ok(self.runtime.block_on(self.store.list_long())?)
    }

    /// All users, in the order in which they were added.
    ///
    /// # Errors
    /// [`SetupError::Store`] if the database fails.
    pub fn list(&self) -> Result<Vec<Username>, SetupError> {
        Ok(self.runtime.block_on(self.store.list())?)
    }

    /// Whether this is the password of this user. `false` also for a text that cannot be a name or
    /// a password.
    ///
    /// # Errors
    /// [`SetupError::Store`] if the database fails.
    pub fn verify(&self, username: &str, password: &str) -> Result<bool, SetupError> {
        Ok(self.runtime.block_on(self.store.verify(username, password))?.is_some())
    }

    /// Adds the admin with this password, or changes its password, for the cost of one bcrypt.
    pub(crate) fn put_admin(&self, password: &Zeroizing<String>) -> Result<(), SetupError> {
        let (admin, password) = parse(ADMIN_USERNAME, password)?;
        self.runtime.block_on(async {
            // The store refuses a taken name before it hashes.
            match self.store.add(&admin, &password).await {
                Err(ipc_store::StoreError::Taken { .. }) => {
                    self.store.change_password(&admin, &password).await
                }
                added => added,
            }
        })?;
        Ok(())
    }

    /// For the admin, does everything about the new `admin.cred` that can fail before the database
    /// is written, so that the two keep the same password. Without [`Kept::keep`], nothing changes.
    fn prepare_to_keep(
        &self,
        username: &Username,
        password: Zeroizing<String>,
    ) -> Result<Option<Kept>, SetupError> {
        if username.as_str() != ADMIN_USERNAME {
            return Ok(None);
        }
        let lock = Lock::of_complete(&self.home)?;
        let credentials = Credentials { username: username.to_string(), password };
        let staged =
            self.home.stage_admin_credentials(&credentials, now_secs(), random_bytes()?)?;
        Ok(Some(Kept { staged, _lock: lock }))
    }
}

/// A new `admin.cred` under a temporary name, with the lock held.
struct Kept {
    staged: StagedFile,
    _lock: Lock,
}

impl Kept {
    fn keep(self) -> Result<(), SetupError> {
        self.staged.commit().map_err(|source| SetupError::AdminNotKept { source })
    }
}

impl Drop for Users {
    /// Closes the database, so that SQLite removes the files that it keeps beside it.
    fn drop(&mut self) {
        self.runtime.block_on(self.store.close());
    }
}

fn parse(username: &str, password: &Zeroizing<String>) -> Result<(Username, Password), SetupError> {
    Ok((Username::parse(username)?, Password::parse(password.to_string())?))
}

pub(crate) fn runtime() -> Result<Runtime, SetupError> {
    Builder::new_current_thread()
        .enable_time()
        .build()
        .map_err(|source| SetupError::Runtime { source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipc_base::{ModeChange, Remedy};
    use ipc_home::HomeError;
    use ipc_store::{DatabaseError, StoreError};

    /// A home with what users need, whose passwords are hashed at a low cost.
    fn new_users() -> (tempfile::TempDir, Users) {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::at(directory.path().join("home"));
        ipc_home::make_private_directory(home.root()).unwrap();
        ipc_home::write_secret_atomically(
            &home.envelope_keys_file(),
            b"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
        )
        .unwrap();
        let users = Users::create(&home, &Options::new().bcrypt_cost_for_tests()).unwrap();
        let password = Zeroizing::new("first".to_owned());
        users.put_admin(&password).unwrap();
        let credentials = Credentials { username: ADMIN_USERNAME.to_owned(), password };
        home.write_admin_credentials(&credentials, 0, [0; 16]).unwrap();
        (directory, users)
    }

    fn secret(text: &str) -> Zeroizing<String> {
        Zeroizing::new(text.to_owned())
    }

    fn names(users: &Users) -> Vec<String> {
        users.list().unwrap().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn users_are_added_listed_in_order_checked_changed_and_deleted() {
        let (_directory, users) = new_users();
        users.add("test2", secret("pass321")).unwrap();
        users.add("test1", secret("-x")).unwrap();
        assert_eq!(names(&users), ["ipc-admin", "test2", "test1"]);
        assert!(users.verify("test1", "-x").unwrap());
        assert!(!users.verify("test1", "pass321").unwrap());
        assert!(!users.verify("nobody", "pass321").unwrap());
        users.change_password("test1", secret("other")).unwrap();
        assert!(users.verify("test1", "other").unwrap());
        users.delete("test2").unwrap();
        assert_eq!(names(&users), ["ipc-admin", "test1"]);
    }

    #[test]
    fn a_name_that_is_taken_and_one_that_is_unknown_are_refused() {
        let (_directory, users) = new_users();
        let error = users.add("ipc-admin", secret("x")).unwrap_err();
        assert!(matches!(error, SetupError::Store(StoreError::Taken { .. })), "{error:?}");
        let change = Remedy::ChangePassword { user: "ipc-admin".into() };
        assert_eq!(error.remedy(), Some(Remedy::ChooseUserName.or(change)));
        for error in [users.delete("nobody"), users.change_password("nobody", secret("x"))] {
            let error = error.unwrap_err();
            assert!(matches!(error, SetupError::Store(StoreError::Unknown { .. })), "{error:?}");
            assert_eq!(error.remedy(), Some(Remedy::ListUsers));
        }
    }

    #[test]
    fn what_cannot_be_a_name_or_a_password_is_refused_and_is_nobodys() {
        let (_directory, users) = new_users();
        for name in ["", " a", "a\n", &"a".repeat(81)] {
            assert!(
                matches!(users.add(name, secret("x")), Err(SetupError::Username(_))),
                "{name:?}"
            );
            assert!(!users.verify(name, "x").unwrap());
        }
        for password in ["", "a\0b", &"a".repeat(73)] {
            assert!(
                matches!(users.add("test1", secret(password)), Err(SetupError::Password(_))),
                "{password:?}"
            );
            assert!(!users.verify("ipc-admin", password).unwrap());
        }
    }

    #[test]
    fn admin_cred_follows_the_admins_password() {
        let (_directory, users) = new_users();
        let kept = |users: &Users| users.home.admin_credentials().unwrap().password.to_string();
        users.change_password("ipc-admin", secret("second")).unwrap();
        assert_eq!(kept(&users), "second");
        users.delete("ipc-admin").unwrap();
        users.add("ipc-admin", secret("third")).unwrap();
        assert_eq!(kept(&users), "third");
        users.add("test1", secret("other")).unwrap();
        assert_eq!(kept(&users), "third");
    }

    #[test]
    fn what_keeps_admin_cred_from_being_written_keeps_the_password_as_it_is() {
        let (_directory, users) = new_users();
        let keys = std::fs::read(users.home.envelope_keys_file()).unwrap();
        std::fs::write(users.home.envelope_keys_file(), "damaged").unwrap();
        let error = users.change_password("ipc-admin", secret("second")).unwrap_err();
        assert!(matches!(error, SetupError::Home(HomeError::BadKeys { .. })), "{error:?}");
        std::fs::write(users.home.envelope_keys_file(), keys).unwrap();
        assert!(users.verify("ipc-admin", "first").unwrap());
        assert!(users.home.temporary_files().unwrap().is_empty());
    }

    #[test]
    fn a_write_of_the_database_that_fails_keeps_admin_cred_as_it_is() {
        let (_directory, users) = new_users();
        let error = users.add("ipc-admin", secret("second")).unwrap_err();
        assert!(matches!(error, SetupError::Store(StoreError::Taken { .. })), "{error:?}");
        assert_eq!(users.home.admin_credentials().unwrap().password.as_str(), "first");
        assert!(users.home.temporary_files().unwrap().is_empty());
    }

    #[test]
    fn run_again_a_change_that_was_stopped_between_the_two_brings_them_together() {
        let (_directory, users) = new_users();
        // The database has the new password, and the new admin.cred was not renamed yet.
        users.put_admin(&secret("second")).unwrap();
        let left = users.home.root().join(".admin.cred.0123456789abcdef.tmp");
        std::fs::write(&left, "sealed").unwrap();
        users.change_password("ipc-admin", secret("second")).unwrap();
        assert_eq!(users.home.admin_credentials().unwrap().password.as_str(), "second");
        assert!(users.verify("ipc-admin", "second").unwrap());
        assert!(!left.exists());
    }

    #[test]
    fn a_database_that_others_can_read_is_refused_with_the_chmod() {
        use std::os::unix::fs::PermissionsExt;

        let (_directory, users) = new_users();
        let home = users.home.clone();
        drop(users);
        let path = home.users_db();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let error = super::users(&home).unwrap_err();
        let fix = Remedy::FixPermissions { paths: vec![path], change: ModeChange::To(0o600) };
        assert_eq!(error.remedy(), Some(fix), "{error:?}");
    }

    #[test]
    fn putting_the_admin_twice_changes_its_password() {
        let (_directory, users) = new_users();
        users.put_admin(&secret("again")).unwrap();
        assert!(users.verify("ipc-admin", "again").unwrap());
        assert_eq!(names(&users), ["ipc-admin"]);
    }

    #[test]
    fn a_database_that_is_gone_or_none_is_refused_by_name() {
        let (_directory, users) = new_users();
        let home = users.home.clone();
        drop(users);
        std::fs::write(home.users_db(), "this is no database, however long one makes it").unwrap();
        let error = super::users(&home).unwrap_err();
        assert!(
            matches!(
                error,
                SetupError::Store(StoreError::Database(DatabaseError::NotADatabase { .. }))
            ),
            "{error:?}"
        );
        std::fs::remove_file(home.users_db()).unwrap();
        let error = super::users(&home).unwrap_err();
        assert!(
            matches!(&error, SetupError::Home(HomeError::FileMissing { path }) if *path == home.users_db()),
            "{error:?}"
        );
        let restore = Remedy::RestoreFile { path: home.users_db() };
        assert_eq!(error.remedy(), Some(restore.or(Remedy::ReplaceHome)));
        assert!(!home.users_db().exists());
    }
}

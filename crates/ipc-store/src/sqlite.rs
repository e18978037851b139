//! The users in an SQLite file.
//!
//! Programs open the file here, and use it as a [`UserStore`]. Nothing here knows HTTP, sessions or
//! how long a login lasts.

use std::fmt;
use std::path::Path;

use ipc_protocol::{to_nfc, to_nfd};
use ipc_sqlite::{Database, DatabaseError, Immutable, Schema};
use sqlx::Row as _;
use sqlx::sqlite::{SqlitePool, SqliteRow};
use zeroize::Zeroizing;

use crate::hashing::{CredentialVersion, Hasher, Verdict};
use crate::username::{printable, unescaped};
use crate::{BoxFuture, Options, Password, StoreError, UserStore, Username};

/// The tables of a user database. Logins are short and read one row each, so the default number of
/// connections is enough.
const SCHEMA: Schema = Schema {
    what: "user database",
    migrations: &[("users", include_str!("../migrations/0001_users.sql"))],
    tables: &[("users", &["id", "username", "password_hash"])],
};

/// How many of the entries that cannot log in a warning names.
const LEFT_OUT_NAMED_MAX: usize = 10;

/// Users in an SQLite file, which any number of processes may use at once.
///
/// The file is in WAL mode with `synchronous = FULL`: a change that was reported as done survives a
/// loss of power. The table is that of the Python tool of the same name, whose `users.db` can be
/// opened and used unchanged.
///
/// All calls must be made within a tokio runtime that has time enabled (actix's is one).
///
/// If nothing can be written (a read-only file system, no write permission, a full disk), users can
/// still be looked up and listed, as long as the database file itself is complete; changes are
/// refused.
pub struct SqliteUserStore {
    database: Source,
    hasher: Hasher,
}

/// The file, writable or not.
enum Source {
    Writable(Database),
    ReadOnly(Immutable),
}

impl Source {
    async fn open(path: &Path, options: &ipc_sqlite::Options) -> Result<Self, DatabaseError> {
        match ipc_sqlite::open(path, &SCHEMA, options).await {
            Ok(database) => Ok(Self::Writable(database)),
            Err(refused) => {
                let database = ipc_sqlite::open_immutable(path, &SCHEMA, options, refused).await?;
                log::warn!("users can be looked up but not changed: {}", database.refusal());
                Ok(Self::ReadOnly(database))
            }
        }
    }

    fn writable(&self) -> Result<&Database, DatabaseError> {
        match self {
            Self::Writable(database) => Ok(database),
            Self::ReadOnly(database) => Err(database.refusal()),
        }
    }

    fn path(&self) -> &Path {
        match self {
            Self::Writable(database) => database.path(),
            Self::ReadOnly(database) => database.path(),
        }
    }

    fn readers(&self) -> &SqlitePool {
        match self {
            Self::Writable(database) => database.readers(),
            Self::ReadOnly(database) => database.readers(),
        }
    }

    fn check_file(&self) -> Result<(), DatabaseError> {
        match self {
            Self::Writable(database) => database.check_file(),
            Self::ReadOnly(database) => database.check_file(),
        }
    }

    fn error(&self, error: sqlx::Error) -> DatabaseError {
        match self {
            Self::Writable(database) => database.error(error),
            Self::ReadOnly(database) => database.error(error),
        }
    }
}

impl SqliteUserStore {
    /// Opens the file at `path`, which must exist, with the default [`Options`].
    ///
    /// # Errors
    /// See [`Options::open`].
    pub async fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        Options::default().open(path).await
    }

    /// Opens the file at `path`, or creates it, with the default [`Options`].
    ///
    /// # Errors
    /// See [`Options::create`].
    pub async fn create(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        Options::default().create(path).await
    }

    /// Closes the file when all running calls are done; later calls fail. SQLite then removes its
    /// `-wal` and `-shm`, unless other processes have the file open. Dropping the store without
    /// closing it loses nothing: every change that was reported as done is in the database file
    /// itself, so that a copy of it alone has the change.
    pub fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            match &self.database {
                // The callers were told about errors of the file, and every change that was
                // reported as done is in it.
                Source::Writable(database) => drop(database.close().await),
                Source::ReadOnly(database) => database.close().await,
            }
        })
    }

    fn failed(&self, error: sqlx::Error) -> StoreError {
        self.database.error(error).into()
    }

    fn write_failed(&self, error: WriteError) -> StoreError {
        match error {
            WriteError::Sqlx(error) => self.failed(error),
            WriteError::Database(error) => error.into(),
        }
    }

    async fn stored_hash(
        &self,
        username: &Username,
    ) -> Result<Option<Zeroizing<String>>, StoreError> {
        Ok(self.stored(username).await?.map(|(_, hash)| hash))
    }

    /// The user as stored: the name may be stored in another normal form than it is compared in. If
    /// both forms exist, the one that could be added here counts.
    async fn stored(
        &self,
        username: &Username,
    ) -> Result<Option<(String, Zeroizing<String>)>, StoreError> {
        // A deleted user must not get in because the opened file is no longer the one at its path.
        self.database.check_file()?;
        // The hash is read as bytes: another program may have stored it so. Bytes that are no text
        // are no bcrypt hash.
        sqlx::query(
            "SELECT username, CAST(password_hash AS BLOB) FROM users WHERE username IN (?1, ?2)
             ORDER BY username = ?1 DESC LIMIT 1",
        )
        .bind(username.as_str())
        .bind(username.to_nfd())
        .try_map(|row: SqliteRow| {
            let hash = String::from_utf8(row.try_get::<Vec<u8>, _>(1)?).unwrap_or_default();
            Ok((row.try_get::<String, _>(0)?, Zeroizing::new(hash)))
        })
        .fetch_optional(self.database.readers())
        .await
        .map_err(|error| self.failed(error))
    }

    /// Runs one statement with the bound `values` in a transaction of its own. Returns how many
    /// rows it changed.
    async fn write(&self, statement: &'static str, values: &[&str]) -> Result<u64, WriteError> {
        let database = self.database.writable()?;
        database.check_file()?;
        let mut transaction = database.begin_write().await?;
        let mut query = sqlx::query(statement);
        for value in values {
            query = query.bind((*value).to_owned());
        }
        let done = query.execute(&mut *transaction).await?;
        transaction.commit().await?;
        database.check_file()?;
        // A copy of the database file alone should include every deletion. If there is no room for
        // that, the change is still in the -wal.
        let _written = database.write_back().await;
        Ok(done.rows_affected())
    }
}

/// Why a write failed, before it is converted to a [`StoreError`].
#[derive(Debug, thiserror::Error)]
enum WriteError {
    #[error(transparent)]
    Sqlx(#[from] sqlx::Error),
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

/// Copies the user database at `from`, as it is at this moment, to `to`, which must not exist.
/// Servers and other programs may use `from`. Only the owner may read the copy (mode 0600), which
/// needs no other file beside it. On an error an incomplete copy may be left.
///
/// # Errors
/// [`StoreError::Database`] with any [`DatabaseError`](crate::DatabaseError), of either file.
pub async fn copy(from: &Path, to: &Path) -> Result<(), StoreError> {
    Ok(ipc_sqlite::copy(from, to, &SCHEMA, &ipc_sqlite::Options::new()).await?)
}

impl Options {
    /// Opens the file at `path`, which must exist. A file of the Python tool, or an empty one, is
    /// migrated first.
    ///
    /// # Errors
    /// [`StoreError::Database`] with any [`DatabaseError`](crate::DatabaseError).
    pub async fn open(self, path: impl AsRef<Path>) -> Result<SqliteUserStore, StoreError> {
        let database = Source::open(path.as_ref(), &self.database).await?;
        Ok(SqliteUserStore { database, hasher: Hasher::new(self.bcrypt_cost) })
    }

    /// Opens the file at `path`, or creates it: readable and writable for its owner only (mode
    /// 0600), whatever the umask. The directory must exist. An existing file keeps its users and
    /// its mode.
    ///
    /// If the file is created but cannot be opened, an empty file may be left, which the next call
    /// uses.
    ///
    /// # Errors
    /// As [`Options::open`]; `Missing` if the directory is missing.
    pub async fn create(self, path: impl AsRef<Path>) -> Result<SqliteUserStore, StoreError> {
        ipc_sqlite::make_file(path.as_ref(), SCHEMA.what)?;
        self.open(path).await
    }
}

impl fmt::Debug for SqliteUserStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteUserStore")
            .field("path", &self.database.path())
            .finish_non_exhaustive()
    }
}

impl UserStore for SqliteUserStore {
    fn add<'a>(
        &'a self,
        username: &'a Username,
        password: &'a Password,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let taken = || StoreError::Taken { username: username.clone() };
            self.database.writable()?;
            // This check saves a bcrypt. The table decides, since another process may be adding the
            // same name.
            if self.stored_hash(username).await?.is_some() {
                return Err(taken());
            }
            let hash = self.hasher.hash(password).await?;
            let insert = "INSERT INTO users (username, password_hash) VALUES (?, ?)";
            match self.write(insert, &[username.as_str(), &hash]).await {
                Ok(_) => Ok(()),
                Err(WriteError::Sqlx(sqlx::Error::Database(error)))
                    if error.is_unique_violation() =>
                {
                    Err(taken())
                }
                Err(error) => Err(self.write_failed(error)),
            }
        })
    }

    fn delete<'a>(&'a self, username: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            // SQLite distinguishes a name stored as bytes from the same name stored as text.
            let delete = "DELETE FROM users WHERE username = ?1 OR username = CAST(?1 AS BLOB)";
            // Tries the name unchanged, then in the other normal forms, then unescaped, for a name
            // that cannot be typed.
            let mut names = vec![username.to_owned(), to_nfc(username), to_nfd(username)];
            names.extend(unescaped(username));
            for name in names {
                match self.write(delete, &[&name]).await {
                    Ok(0) => {}
                    Ok(_) => return Ok(()),
                    Err(error) => return Err(self.write_failed(error)),
                }
            }
            Err(StoreError::Unknown { username: username.to_owned() })
        })
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<Username>, StoreError>> {
        Box::pin(async move {
            self.database.check_file()?;
            let names = sqlx::query(
                "SELECT CAST(username AS BLOB), typeof(username) = 'text' FROM users ORDER BY id",
            )
            .try_map(|row: SqliteRow| {
                Ok((row.try_get::<Vec<u8>, _>(0)?, row.try_get::<bool, _>(1)?))
            })
            .fetch_all(self.database.readers())
            .await
            .map_err(|error| self.failed(error))?;
            let rows = names.len();
            let mut users = Vec::with_capacity(rows);
            let mut left_out = Vec::new();
            for (name, is_text) in names {
                match Username::parse_existing(String::from_utf8_lossy(&name)) {
                    Ok(username) if is_text => users.push(username),
                    _ => left_out.push(format!("`{}`", printable(&String::from_utf8_lossy(&name)))),
                }
            }
            if !left_out.is_empty() {
                let count = left_out.len();
                left_out.truncate(LEFT_OUT_NAMED_MAX);
                log::warn!(
                    "{}: left out {count} of {rows} entries, whose names cannot log in: {}{}",
                    self.database.path().display(),
                    left_out.join(", "),
                    if count > left_out.len() { ", …" } else { "" }
                );
            }
            Ok(users)
        })
    }

    fn verify<'a>(
        &'a self,
        username: &'a str,
        password: &'a str,
    ) -> BoxFuture<'a, Result<Option<CredentialVersion>, StoreError>> {
        Box::pin(async move {
            let stored = match Username::parse_existing(username) {
                Ok(username) => self.stored_hash(&username).await?,
                Err(_) => None,
            };
            let version = stored.as_ref().map(|hash| CredentialVersion::of_hash(hash));
            match self.hasher.verify(stored, password).await? {
                Verdict::Right => Ok(version),
                Verdict::Wrong => Ok(None),
                Verdict::UnreadableHash => {
                    log::warn!(
                        "the stored password hash of user {} is not a bcrypt hash: set a new password",
                        printable(username)
                    );
                    Ok(None)
                }
            }
        })
    }

    fn change_password<'a>(
        &'a self,
        username: &'a Username,
        password: &'a Password,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let unknown = || StoreError::Unknown { username: username.to_string() };
            self.database.writable()?;
            let Some((stored_name, _)) = self.stored(username).await? else {
                return Err(unknown());
            };
            let hash = self.hasher.hash(password).await?;
            let update = "UPDATE users SET password_hash = ? WHERE username = ?";
            match self.write(update, &[&hash, &stored_name]).await {
                Ok(0) => Err(unknown()),
                Ok(_) => Ok(()),
                Err(error) => Err(self.write_failed(error)),
            }
        })
    }

    fn credential_version<'a>(
        &'a self,
        username: &'a Username,
    ) -> BoxFuture<'a, Result<Option<CredentialVersion>, StoreError>> {
        Box::pin(async move {
            Ok(self.stored_hash(username).await?.map(|hash| CredentialVersion::of_hash(&hash)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn store(dir: &tempfile::TempDir) -> SqliteUserStore {
        Options::new().bcrypt_cost_for_tests().create(dir.path().join("users.db")).await.unwrap()
    }

    async fn add(store: &SqliteUserStore, name: &str) -> Result<(), StoreError> {
        store
            .add(&Username::parse(name).unwrap(), &Password::parse("pass321".to_owned()).unwrap())
            .await
    }

    #[tokio::test]
    async fn a_write_to_what_may_only_be_read_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(&dir).await;
        sqlx::query("PRAGMA query_only = ON")
            .execute(store.database.writable().unwrap().writer())
            .await
            .unwrap();
        assert!(matches!(
            add(&store, "a").await,
            Err(StoreError::Database(DatabaseError::ReadOnly { .. }))
        ));
    }

    #[tokio::test]
    async fn a_full_disk_says_so_and_loses_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(&dir).await;
        add(&store, "first").await.unwrap();
        // No more pages than there are now.
        sqlx::query("PRAGMA max_page_count = 1")
            .execute(store.database.writable().unwrap().writer())
            .await
            .unwrap();
        let mut names = (0..10_000).map(|number| format!("user{number}"));
        let error = loop {
            if let Err(error) = add(&store, &names.next().unwrap()).await {
                break error;
            }
        };
        assert!(matches!(error, StoreError::Database(DatabaseError::DiskFull { .. })), "{error:?}");
        assert_eq!(store.list().await.unwrap()[0].as_str(), "first");
        assert!(store.verify("first", "pass321").await.unwrap().is_some());
    }

    #[tokio::test]
    async fn the_table_has_the_last_word_on_a_name_that_two_add_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(&dir).await;
        let (one, two) = tokio::join!(add(&store, "same"), add(&store, "same"));
        let (won, lost) = if one.is_ok() { (one, two) } else { (two, one) };
        assert!(won.is_ok());
        assert!(matches!(lost, Err(StoreError::Taken { username }) if username.as_str() == "same"));
        assert_eq!(store.list().await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn a_closed_store_refuses_instead_of_hanging() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(&dir).await;
        store.close().await;
        assert!(matches!(
            store.list().await,
            Err(StoreError::Database(DatabaseError::Unavailable { .. }))
        ));
        assert!(matches!(
            add(&store, "a").await,
            Err(StoreError::Database(DatabaseError::Unavailable { .. }))
        ));
    }

    #[tokio::test]
    async fn a_hash_that_is_none_lets_nobody_in_and_a_new_password_mends_it() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(&dir).await;
        store
            .write("INSERT INTO users (username, password_hash) VALUES (?, ?)", &["bob", "pass321"])
            .await
            .unwrap();
        assert!(store.verify("bob", "pass321").await.unwrap().is_none());
        let (bob, password) =
            (Username::parse("bob").unwrap(), Password::parse("pass321".to_owned()).unwrap());
        store.change_password(&bob, &password).await.unwrap();
        assert!(store.verify("bob", "pass321").await.unwrap().is_some());
    }

    #[tokio::test]
    async fn debug_shows_the_path_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(&dir).await;
        add(&store, "bob").await.unwrap();
        let shown = format!("{store:?}");
        assert!(shown.contains("users.db") && !shown.contains("$2b$"), "{shown}");
    }
}

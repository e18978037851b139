//! The users in an SQLite file.
//!
//! Programs open the file here, and use it as a [`UserStore`]. Nothing here knows HTTP, sessions or
//! how long a login lasts.

use std::fmt;
use std::path::Path;

use ipc_base::PeerName;
use ipc_protocol::Fingerprint;
use ipc_sqlite::{Database, DatabaseError, Immutable, Schema};
use sqlx::sqlite::{SqlitePool, SqliteRow};
use sqlx::{AssertSqlSafe, Row as _};

use crate::hashing::{CredentialVersion, Hasher};
use crate::username::{names_meant, printable};
use crate::{
    BoxFuture, CurrentUser, ImportPlan, Imported, LoginTally, Options, Password, PeerSighting,
    StoreError, StoredUser, UserRecord, UserStore, Username,
};

/// The tables of a user database. Logins are short and read one row each, so the default number of
/// connections is enough.
const SCHEMA: Schema = Schema {
    what: "user database",
    migrations: &[USERS, ("accounts", include_str!("../migrations/0002_accounts.sql"))],
    tables: &[
        (
            "users",
            &[
                "id",
                "username",
                "password_hash",
                "created_at",
                "last_login_at",
                "failed_logins",
                "disabled",
                "times_disabled",
                "bound_peer",
            ],
        ),
        ("peers", &["fingerprint", "name", "serial", "last_seen_at", "user", "envelope_key_id"]),
    ],
};

const USERS: (&str, &str) = ("users", include_str!("../migrations/0001_users.sql"));

/// A file of users as the first version made it. Where it cannot be written, it is read as it is.
const SCHEMA_1: Schema = Schema {
    migrations: &[USERS],
    tables: &[("users", &["id", "username", "password_hash"])],
    ..SCHEMA
};

/// How many certificates are kept; of more, those that were not seen for longest are forgotten.
const PEERS_MAX: i64 = 10_000;

/// How many entries that cannot log in a warning names.
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
                let least = (&SCHEMA, SCHEMA_1.migrations.len());
                let database =
                    ipc_sqlite::open_immutable_since(path, least, options, refused).await?;
                log::warn!("users can be looked up, and not changed: {}", database.refusal());
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

    /// Whether the file has nothing but names and hashes.
    fn is_of_version_1(&self) -> bool {
        matches!(self, Self::ReadOnly(database) if database.migrations() < SCHEMA.migrations.len())
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

    fn failed(&self, error: sqlx::Error) -> StoreError {
        self.database.error(error).into()
    }

    fn write_failed(&self, error: WriteError) -> StoreError {
        match error {
            WriteError::Sqlx(error) => self.failed(error),
            WriteError::Database(error) => error.into(),
        }
    }

    /// The user as the file has it, and the name as it is stored: it may be in another normal form
    /// than the one it is compared in. Where there are both, the one that could be added here
    /// counts.
    async fn stored(
        &self,
        username: &Username,
    ) -> Result<Option<(String, StoredUser)>, StoreError> {
        // A deleted user must not stay in because the file that is read from is no longer the one
        // that is there.
        self.database.check_file()?;
        let select = self.select("WHERE username IN (?1, ?2) ORDER BY username = ?1 DESC LIMIT 1");
        let row = sqlx::query(select)
            .bind(username.as_str())
            .bind(username.to_nfd())
            .fetch_optional(self.database.readers())
            .await
            .map_err(|error| self.failed(error))?;
        let Some(row) = row else { return Ok(None) };
        let read = || Ok((row.try_get::<String, _>(0)?, stored_user(username.clone(), &row)?));
        read().map(Some).map_err(|error| self.failed(error))
    }

    /// The statement that reads users with these conditions, as [`stored_user`] takes them.
    fn select(&self, conditions: &'static str) -> AssertSqlSafe<String> {
        // Names and hashes as bytes: another program may have stored them as such, and a hash that
        // is no text is none of bcrypt's.
        let columns = if self.database.is_of_version_1() {
            "NULL, NULL, 0, 0, 0, NULL"
        } else {
            "created_at, last_login_at, failed_logins, disabled <> 0, times_disabled,
                CAST(bound_peer AS TEXT)"
        };
        AssertSqlSafe(format!(
            "SELECT username, CAST(username AS BLOB), typeof(username) = 'text',
                CAST(password_hash AS BLOB), {columns}
             FROM users {conditions}"
        ))
    }

    /// All users that can log in, in the order in which they were added.
    async fn users(&self) -> Result<Vec<StoredUser>, StoreError> {
        self.database.check_file()?;
        let rows = sqlx::query(self.select("ORDER BY id"))
            .fetch_all(self.database.readers())
            .await
            .map_err(|error| self.failed(error))?;
        let mut users = Vec::with_capacity(rows.len());
        let mut left_out = Vec::new();
        for row in &rows {
            let mut read = || {
                let name = row.try_get::<Vec<u8>, _>(1)?;
                let name = String::from_utf8_lossy(&name);
                match Username::parse_existing(&*name) {
                    Ok(username) if row.try_get(2)? => users.push(stored_user(username, row)?),
                    _ => left_out.push(format!("`{}`", printable(&name))),
                }
                Ok(())
            };
            read().map_err(|error| self.failed(error))?;
        }
        if !left_out.is_empty() {
            let count = left_out.len();
            left_out.truncate(LEFT_OUT_NAMED_MAX);
            log::warn!(
                "{}: {count} of {} entries left out, whose names cannot log in: {}{}",
                self.database.path().display(),
                rows.len(),
                left_out.join(", "),
                if count > left_out.len() { ", …" } else { "" }
            );
        }
        Ok(users)
    }

    /// Runs an update of one user, whose stored name is bound last.
    async fn update(
        &self,
        username: &Username,
        statement: &'static str,
        values: &[Value],
    ) -> Result<(), StoreError> {
        let unknown = || StoreError::Unknown { username: username.to_string() };
        self.database.writable()?;
        let (name, _) = self.stored(username).await?.ok_or_else(unknown)?;
        let mut values = values.to_vec();
        values.push(name.into());
        match self.write(statement, &values).await {
            Ok(0) => Err(unknown()),
            Ok(_) => Ok(()),
            Err(error) => Err(self.write_failed(error)),
        }
    }

    /// Runs one statement, with `values` bound to it, as a write of its own. Returns how many rows
    /// it changed.
    async fn write(&self, statement: &'static str, values: &[Value]) -> Result<u64, WriteError> {
        let rows = self.write_each(&[(statement, values.to_vec())]).await?;
        // A copy of the file alone should know of each user who was deleted. Where there is no room
        // for that, what was committed is beside it.
        let _written = self.database.writable()?.write_back().await;
        Ok(rows)
    }

    /// Writes what is only noted: nothing where there is nothing to say.
    async fn note(&self, statements: &[(&'static str, Vec<Value>)]) -> Result<(), StoreError> {
        if statements.is_empty() {
            return Ok(());
        }
        self.write_each(statements).await.map(drop).map_err(|error| self.write_failed(error))
    }

    /// Runs statements, each with the values bound to it, in one commit. Returns how many rows they
    /// changed.
    async fn write_each(
        &self,
        statements: &[(&'static str, Vec<Value>)],
    ) -> Result<u64, WriteError> {
        let database = self.database.writable()?;
        database.check_file()?;
        let mut transaction = database.begin_write().await?;
        let mut rows = 0;
        for (statement, values) in statements {
            let mut query = sqlx::query(*statement);
            for value in values {
                query = match value.clone() {
                    Value::Text(text) => query.bind(text),
                    Value::Number(number) => query.bind(number),
                    Value::Bytes(bytes) => query.bind(bytes),
                };
            }
            rows += query.execute(&mut *transaction).await?.rows_affected();
        }
        transaction.commit().await?;
        database.check_file()?;
        Ok(rows)
    }
}

/// A user of a row of [`SqliteUserStore::select`].
fn stored_user(username: Username, row: &SqliteRow) -> Result<StoredUser, sqlx::Error> {
    let mut record = UserRecord::new(username);
    let hash = String::from_utf8(row.try_get::<Vec<u8>, _>(3)?).unwrap_or_default();
    record.created_at = row.try_get::<Option<i64>, _>(4)?.map(secs);
    record.last_login_at = row.try_get::<Option<i64>, _>(5)?.map(secs);
    record.failed_logins = secs(row.try_get(6)?);
    record.is_disabled = row.try_get(7)?;
    record.bound_peer = row.try_get(9)?;
    Ok(StoredUser::new(record, hash, secs(row.try_get(8)?)))
}

/// A value of a statement.
#[derive(Clone)]
enum Value {
    Text(Option<String>),
    Number(i64),
    Bytes(Vec<u8>),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(Some(text.to_owned()))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(Some(text))
    }
}

/// A number as the file has it: those made here are not negative.
fn secs(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// A number for the file, whose largest one is never reached by a time or a count.
fn number(secs: u64) -> Value {
    Value::Number(i64::try_from(secs).unwrap_or(i64::MAX))
}

/// Why a write failed, before it is told what that means to users.
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
    let options = ipc_sqlite::Options::new();
    match ipc_sqlite::copy(from, to, &SCHEMA, &options).await {
        // It is not brought up to date for that: a server of an older version may have it open.
        Err(DatabaseError::Outdated { .. }) => {
            Ok(ipc_sqlite::copy(from, to, &SCHEMA_1, &options).await?)
        }
        copied => Ok(copied?),
    }
}

/// Checks the user database at `path` for damage. Nothing is changed; servers and other programs
/// may use it.
///
/// # Errors
/// [`StoreError::Database`] with any [`DatabaseError`](crate::DatabaseError).
pub async fn check_integrity(path: &Path) -> Result<(), StoreError> {
    let options = ipc_sqlite::Options::new();
    match ipc_sqlite::check_integrity(path, &SCHEMA, &options).await {
        // As a copy of it.
        Err(DatabaseError::Outdated { .. }) => {
            Ok(ipc_sqlite::check_integrity(path, &SCHEMA_1, &options).await?)
        }
        checked => Ok(checked?),
    }
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
            // Spares a bcrypt; the last word is the table's, since another process may be adding
            // the same name.
            if self.stored(username).await?.is_some() {
                return Err(taken());
            }
            let hash = self.hasher.hash(password).await?;
            let insert = "INSERT INTO users (username, password_hash, created_at)
                VALUES (?, ?, unixepoch())";
            match self.write(insert, &[username.as_str().into(), hash.as_str().into()]).await {
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
            for name in names_meant(username) {
                match self.write(delete, &[name.into()]).await {
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
            Ok(self.users().await?.into_iter().map(|user| user.record.username).collect())
        })
    }

    fn list_long(&self) -> BoxFuture<'_, Result<Vec<UserRecord>, StoreError>> {
        Box::pin(
            async move { Ok(self.users().await?.into_iter().map(|user| user.record).collect()) },
        )
    }

    fn export(&self) -> BoxFuture<'_, Result<Vec<StoredUser>, StoreError>> {
        Box::pin(async move {
            let mut users: Vec<StoredUser> = Vec::new();
            for user in self.users().await? {
                // Two spellings of one name are one user, with the rights that a login finds.
                match users.iter().position(|other| other.record.username == user.record.username) {
                    None => users.push(user),
                    Some(at) => {
                        if let Some((_, found)) = self.stored(&user.record.username).await? {
                            users[at] = found;
                        }
                    }
                }
            }
            Ok(users)
        })
    }

    fn import<'a>(
        &'a self,
        users: &'a [StoredUser],
        may_overwrite: bool,
    ) -> BoxFuture<'a, Result<Imported, StoreError>> {
        const ADD: &str = "INSERT INTO users (username, password_hash, created_at, last_login_at,
            failed_logins, disabled, times_disabled, bound_peer) VALUES (?, ?, ?, ?, ?, ?, ?, ?)";
        const OVERWRITE: &str = "UPDATE users SET password_hash = ?2, created_at = ?3,
            disabled = ?6, times_disabled = ?7, bound_peer = ?8 WHERE username = ?1";
        Box::pin(async move {
            self.database.writable()?;
            let there = self.export().await?;
            let plan = ImportPlan::new(users, &there, may_overwrite)?;
            let mut statements = Vec::new();
            let values = |name: String, user: &StoredUser| {
                let record = &user.record;
                let time = |secs: Option<u64>| secs.map_or(Value::Text(None), number);
                vec![
                    name.into(),
                    user.password_hash().into(),
                    time(record.created_at),
                    time(record.last_login_at),
                    number(record.failed_logins),
                    Value::Number(record.is_disabled.into()),
                    number(user.times_disabled),
                    Value::Text(record.bound_peer.clone()),
                ]
            };
            for user in &plan.add {
                let name = user.record.username.as_str().to_owned();
                statements.push((ADD, values(name, user)));
            }
            for user in &plan.overwrite {
                let stored = self.stored(&user.record.username).await?;
                let name =
                    stored.map_or(user.record.username.as_str().to_owned(), |(name, _)| name);
                statements.push((OVERWRITE, values(name, user)));
            }
            self.note(&statements).await?;
            let _written = self.database.writable()?.write_back().await;
            Ok(plan.imported())
        })
    }

    /// SQLite then removes its `-wal` and `-shm`, unless other processes have the file open.
    /// Dropping the store without closing it loses nothing: every change that was reported as done
    /// is in the database file itself, so that a copy of it alone has the change.
    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            match &self.database {
                // The callers were told about errors of the file, and every change that was
                // reported as done is in it.
                Source::Writable(database) => drop(database.close().await),
                Source::ReadOnly(database) => database.close().await,
            }
        })
    }

    fn verify<'a>(
        &'a self,
        username: &'a str,
        password: &'a str,
    ) -> BoxFuture<'a, Result<Option<CredentialVersion>, StoreError>> {
        Box::pin(async move {
            let stored = match Username::parse_existing(username) {
                Ok(username) => self.stored(&username).await?.map(|(_, user)| user),
                Err(_) => None,
            };
            self.hasher.check(username, stored.as_ref(), password).await
        })
    }

    fn change_password<'a>(
        &'a self,
        username: &'a Username,
        password: &'a Password,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            self.database.writable()?;
            if self.stored(username).await?.is_none() {
                return Err(StoreError::Unknown { username: username.to_string() });
            }
            let hash = self.hasher.hash(password).await?;
            let update = "UPDATE users SET password_hash = ? WHERE username = ?";
            self.update(username, update, &[hash.as_str().into()]).await
        })
    }

    fn current<'a>(
        &'a self,
        username: &'a Username,
    ) -> BoxFuture<'a, Result<Option<CurrentUser>, StoreError>> {
        Box::pin(
            async move { Ok(self.stored(username).await?.and_then(|(_, user)| user.current())) },
        )
    }

    fn disable<'a>(&'a self, username: &'a Username) -> BoxFuture<'a, Result<(), StoreError>> {
        let update = "UPDATE users SET disabled = 1, times_disabled = times_disabled + 1
            WHERE username = ?";
        Box::pin(self.update(username, update, &[]))
    }

    fn enable<'a>(&'a self, username: &'a Username) -> BoxFuture<'a, Result<(), StoreError>> {
        let update = "UPDATE users SET disabled = 0 WHERE username = ?";
        Box::pin(self.update(username, update, &[]))
    }

    fn bind<'a>(
        &'a self,
        username: &'a Username,
        peer: Option<&'a PeerName>,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let peer = Value::Text(peer.map(ToString::to_string));
            self.update(username, "UPDATE users SET bound_peer = ? WHERE username = ?", &[peer])
                .await
        })
    }

    fn note_logins<'a>(
        &'a self,
        tallies: &'a [LoginTally],
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        // Another server may have noted a later login: the failures it counted stay then.
        const SUCCEEDED: &str = "UPDATE users SET
            failed_logins = CASE WHEN coalesce(last_login_at, 0) > ?1 THEN failed_logins ELSE 0 END,
            last_login_at = max(coalesce(last_login_at, 0), ?1)
            WHERE username IN (?2, ?3)";
        const FAILED: &str = "UPDATE users SET failed_logins = failed_logins + ?1
            WHERE username IN (?2, ?3)";
        Box::pin(async move {
            let mut statements = Vec::new();
            for tally in tallies {
                let names = || [tally.username.as_str().into(), tally.username.to_nfd().into()];
                let mut add = |statement, value| {
                    let mut values = vec![number(value)];
                    values.extend(names());
                    statements.push((statement, values));
                };
                if let Some(at_secs) = tally.succeeded_at {
                    add(SUCCEEDED, at_secs);
                }
                if tally.failed > 0 {
                    add(FAILED, tally.failed);
                }
            }
            self.note(&statements).await
        })
    }

    fn record_sightings<'a>(
        &'a self,
        sightings: &'a [PeerSighting],
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        const SEEN: &str = "INSERT INTO peers
            (fingerprint, name, serial, last_seen_at, user, envelope_key_id)
            VALUES (?, ?, ?, ?, ?, ?)
            ON CONFLICT (fingerprint) DO UPDATE SET
                name = coalesce(excluded.name, name),
                serial = coalesce(excluded.serial, serial),
                last_seen_at = excluded.last_seen_at,
                user = coalesce(excluded.user, user),
                envelope_key_id = coalesce(excluded.envelope_key_id, envelope_key_id)
            WHERE excluded.last_seen_at >= last_seen_at";
        const FORGET: &str = "DELETE FROM peers WHERE fingerprint IN
            (SELECT fingerprint FROM peers ORDER BY last_seen_at DESC LIMIT -1 OFFSET ?)";
        Box::pin(async move {
            let mut statements: Vec<_> = sightings
                .iter()
                .map(|seen| {
                    let values = vec![
                        Value::Bytes(seen.fingerprint.as_bytes().to_vec()),
                        Value::Text(seen.name.as_ref().map(ToString::to_string)),
                        Value::Text(seen.serial.clone()),
                        number(seen.last_seen_at),
                        Value::Text(seen.user.as_ref().map(|user| user.as_str().to_owned())),
                        Value::Text(seen.envelope_key_id.clone()),
                    ];
                    (SEEN, values)
                })
                .collect();
            if !statements.is_empty() {
                statements.push((FORGET, vec![Value::Number(PEERS_MAX)]));
            }
            self.note(&statements).await
        })
    }

    fn peers(&self) -> BoxFuture<'_, Result<Vec<PeerSighting>, StoreError>> {
        Box::pin(async move {
            self.database.check_file()?;
            if self.database.is_of_version_1() {
                return Ok(Vec::new());
            }
            sqlx::query(
                "SELECT fingerprint, name, serial, last_seen_at, user, envelope_key_id FROM peers
                 WHERE typeof(fingerprint) = 'blob' AND length(fingerprint) = 32
                 ORDER BY last_seen_at DESC, fingerprint",
            )
            .try_map(|row: SqliteRow| {
                let fingerprint = row.try_get::<Vec<u8>, _>(0)?;
                let fingerprint = fingerprint.try_into().expect("32 bytes were selected");
                let mut seen =
                    PeerSighting::new(Fingerprint::from_bytes(fingerprint), secs(row.try_get(3)?));
                // What cannot be a name was not written here.
                let name: Option<String> = row.try_get(1)?;
                seen.name = name.and_then(|name| PeerName::parse(&name).ok());
                seen.serial = row.try_get(2)?;
                let user: Option<String> = row.try_get(4)?;
                seen.user = user.and_then(|user| Username::parse_existing(user).ok());
                seen.envelope_key_id = row.try_get(5)?;
                Ok(seen)
            })
            .fetch_all(self.database.readers())
            .await
            .map_err(|error| self.failed(error))
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
            .write(
                "INSERT INTO users (username, password_hash) VALUES (?, ?)",
                &["bob".into(), "pass321".into()],
            )
            .await
            .unwrap();
        assert!(store.verify("bob", "pass321").await.unwrap().is_none());
        let (bob, password) =
            (Username::parse("bob").unwrap(), Password::parse("pass321".to_owned()).unwrap());
        store.change_password(&bob, &password).await.unwrap();
        assert!(store.verify("bob", "pass321").await.unwrap().is_some());
    }

    #[tokio::test]
    async fn a_file_of_the_first_version_that_cannot_be_written_is_read_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users.db");
        let options = ipc_sqlite::Options::new();
        let old = ipc_sqlite::create(&path, &SCHEMA_1, &options).await.unwrap();
        let hash = bcrypt::hash("pass321", 4).unwrap();
        sqlx::query("INSERT INTO users (username, password_hash) VALUES ('bob', ?)")
            .bind(hash)
            .execute(old.writer())
            .await
            .unwrap();
        old.close().await.unwrap();
        let refused = DatabaseError::DiskFull { what: SCHEMA.what, path: path.clone() };
        let least = (&SCHEMA, SCHEMA_1.migrations.len());
        let database =
            ipc_sqlite::open_immutable_since(&path, least, &options, refused).await.unwrap();
        let store = SqliteUserStore {
            database: Source::ReadOnly(database),
            hasher: Hasher::new(crate::hashing::COST_FOR_TESTS),
        };
        let bob = Username::parse("bob").unwrap();
        let version = store.verify("bob", "pass321").await.unwrap();
        assert!(version.is_some());
        assert_eq!(
            store.current(&bob).await.unwrap().unwrap().credential_version,
            version.unwrap()
        );
        assert!(store.verify("bob", "wrong").await.unwrap().is_none());
        assert_eq!(store.list_long().await.unwrap(), [UserRecord::new(bob.clone())]);
        assert_eq!(store.peers().await.unwrap(), []);
        let mut tally = LoginTally::new(bob.clone());
        tally.failed();
        for refused in [store.disable(&bob).await, store.note_logins(&[tally]).await] {
            assert!(matches!(refused, Err(StoreError::Database(DatabaseError::DiskFull { .. }))));
        }
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

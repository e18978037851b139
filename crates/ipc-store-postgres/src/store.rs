//! The users in a PostgreSQL database.
//!
//! Programs open the database here, and use it as a [`UserStore`]. Nothing here knows HTTP,
//! sessions or how long a login lasts.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use ipc_base::PeerName;
use ipc_protocol::Fingerprint;
use ipc_store::{
    BoxFuture, CredentialVersion, CurrentUser, ImportPlan, Imported, LoginTally, Password,
    PasswordHasher, PeerSighting, StoreError, StoredUser, UserRecord, UserStore, Username,
    names_meant,
};
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{Connection as _, Row as _};

use crate::cache::Cache;
use crate::connections::Connections;
use crate::migrations::{self, Found};
use crate::{PostgresError, PostgresOptions, PostgresUrl};

/// How many certificates are kept; of more, those that were not seen for longest are forgotten.
const PEERS_MAX: i64 = 10_000;

/// The lock of those who note logins: two servers would wait for each other's rows.
const NOTES_LOCK: i64 = 0x7765_622d_6970_6331;

/// How many times longer than other calls an import may take.
const IMPORT_TIMES: u32 = 24;

/// The columns of a user, as [`stored_user`] takes them.
const COLUMNS: &str = "username, password_hash, created_at, last_login_at, failed_logins, disabled,
    times_disabled, bound_peer";

/// Users in a PostgreSQL database, which any number of servers may use at once.
///
/// The calls may be made from any async runtime: the connections are on a thread of their own. A
/// call while the database cannot be reached returns [`StoreError::Unavailable`] within the
/// [timeout](PostgresOptions::timeout), and mostly at once; the first call after it is back
/// connects anew.
///
/// [`current`](UserStore::current) may answer from what the database said within
/// [a quarter of a second](PostgresOptions::fresh_for), unless this store has changed something
/// itself since. All other calls ask the database.
pub struct PostgresUserStore {
    connections: Connections,
    hasher: PasswordHasher,
    options: PostgresOptions,
    cache: Mutex<Cache>,
    /// Held by the one who asks whether what is known still holds.
    asking: tokio::sync::Mutex<()>,
}

impl PostgresUserStore {
    /// Opens a database with the default [`PostgresOptions`]. Makes its tables if there are none.
    ///
    /// # Errors
    /// See [`PostgresOptions::open`].
    pub async fn open(url: PostgresUrl) -> Result<Self, StoreError> {
        PostgresOptions::default().open(url).await
    }

    async fn run<T, F>(
        &self,
        work: impl FnOnce(PgConnection) -> F + Send + 'static,
    ) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Future<Output = (Result<T, sqlx::Error>, PgConnection)> + Send,
    {
        Ok(self.connections.run(1, work).await?)
    }

    async fn stored(&self, username: &Username) -> Result<Option<StoredUser>, StoreError> {
        let name = username.as_str().to_owned();
        let row = self.run(async move |mut connection: PgConnection| {
            let select = "SELECT username, password_hash, created_at, last_login_at, failed_logins,
                disabled, times_disabled, bound_peer FROM web_ipc_users WHERE username = $1";
            let row = sqlx::query(select).bind(name).fetch_optional(&mut connection).await;
            (row, connection)
        });
        let Some(row) = row.await? else { return Ok(None) };
        Ok(Some(stored_user(username.clone(), &row).map_err(|error| self.failed(&error))?))
    }

    fn failed(&self, error: &sqlx::Error) -> StoreError {
        PostgresError::of(error, self.connections.url()).into()
    }

    /// Runs a change of one user: `statement` with the name and a text. Returns whether there is
    /// such a user.
    async fn change(
        &self,
        statement: &'static str,
        username: &str,
        value: Option<String>,
    ) -> Result<bool, StoreError> {
        // PostgreSQL has no text with a NUL, so there is no such user.
        if username.contains('\0') {
            return Ok(false);
        }
        let name = username.to_owned();
        let changed = self.run(async move |mut connection: PgConnection| {
            let query = sqlx::query(statement).bind(name).bind(value);
            let changed = query.execute(&mut connection).await;
            (changed.map(|changed| changed.rows_affected() > 0), connection)
        });
        let changed = changed.await;
        self.cache().doubt();
        changed
    }

    async fn change_user(
        &self,
        statement: &'static str,
        username: &Username,
        value: Option<String>,
    ) -> Result<(), StoreError> {
        match self.change(statement, username.as_str(), value).await? {
            true => Ok(()),
            false => Err(StoreError::Unknown { username: username.to_string() }),
        }
    }

    /// Asks for a user, and takes the answer.
    async fn ask(&self, username: &Username) -> Result<Option<CurrentUser>, StoreError> {
        let asked_at = Instant::now();
        let name = username.as_str().to_owned();
        let row = self.run(async move |mut connection: PgConnection| {
            let select = "SELECT username, password_hash, created_at, last_login_at, failed_logins,
                disabled, times_disabled, bound_peer, token::text
                FROM web_ipc_users_state LEFT JOIN web_ipc_users ON username = $1";
            (sqlx::query(select).bind(name).fetch_one(&mut connection).await, connection)
        });
        let row = row.await?;
        let read = || {
            let token: String = row.try_get(8)?;
            let is_there = row.try_get::<Option<String>, _>(0)?.is_some();
            let user = is_there.then(|| stored_user(username.clone(), &row)).transpose()?;
            Ok((token, user.and_then(|user| user.current())))
        };
        let (token, user) = read().map_err(|error| self.failed(&error))?;
        self.cache().take(token, asked_at, username.as_str().to_owned(), user.clone());
        Ok(user)
    }

    fn known(&self, username: &Username) -> Known {
        let cache = self.cache();
        if !cache.is_fresh(self.options.fresh_for, Instant::now()) {
            return Known::Stale;
        }
        cache.user(username.as_str()).map_or(Known::No, |user| Known::Yes(user.clone()))
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is known of a user without asking.
enum Known {
    Yes(Option<CurrentUser>),
    /// Nothing of this user.
    No,
    /// Nothing of anybody that is recent enough.
    Stale,
}

impl PostgresOptions {
    /// Opens a database. Makes its tables if there are none, or brings them up to date; other
    /// servers may do so at the same time.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] or [`StoreError::Storage`] with a [`PostgresError`] as its
    /// source.
    pub async fn open(self, url: PostgresUrl) -> Result<PostgresUserStore, StoreError> {
        check_files(&url)?;
        let connections = Connections::new(url, self.timeout)?;
        let found = connections.run(IMPORT_TIMES, async |mut connection: PgConnection| {
            (migrations::run(&mut connection).await, connection)
        });
        let url = || connections.url().to_string();
        match found.await? {
            Found::UpToDate => {}
            Found::Newer => return Err(PostgresError::Newer { url: url() }.into()),
            Found::TooOld { version, needed } => {
                return Err(PostgresError::TooOld { url: url(), version, needed }.into());
            }
            Found::Encoding(encoding) => {
                return Err(PostgresError::Encoding { url: url(), encoding }.into());
            }
        }
        Ok(PostgresUserStore {
            connections,
            hasher: self.hashing.clone().password_hasher(),
            options: self,
            cache: Mutex::default(),
            asking: tokio::sync::Mutex::default(),
        })
    }
}

/// Reads the files that an address names: sqlx does not say which one cannot be read, and takes one
/// without an authority for one that trusts nobody.
fn check_files(url: &PostgresUrl) -> Result<(), PostgresError> {
    for (parameter, path) in url.files() {
        let bytes = std::fs::read(path).map_err(|source| PostgresError::File {
            parameter,
            path: path.clone(),
            source: Arc::new(source),
        })?;
        let (expected, end) = match *parameter {
            "sslkey" => ("private key", "PRIVATE KEY-----"),
            _ => ("certificate", "CERTIFICATE-----"),
        };
        // Of keys there are several kinds, such as `EC PRIVATE KEY`.
        let is_there = bytes.split(|byte| *byte == b'\n').any(|line| {
            line.starts_with(b"-----BEGIN ") && line.trim_ascii_end().ends_with(end.as_bytes())
        });
        if !is_there {
            return Err(PostgresError::BadFile { parameter, path: path.clone(), expected });
        }
    }
    Ok(())
}

impl fmt::Debug for PostgresUserStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresUserStore")
            .field("url", self.connections.url())
            .finish_non_exhaustive()
    }
}

impl UserStore for PostgresUserStore {
    fn add<'a>(
        &'a self,
        username: &'a Username,
        password: &'a Password,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let taken = || StoreError::Taken { username: username.clone() };
            // Spares a bcrypt; the last word is the table's.
            if self.stored(username).await?.is_some() {
                return Err(taken());
            }
            let hash = self.hasher.hash(password).await?;
            let insert = "INSERT INTO web_ipc_users (username, password_hash, created_at)
                VALUES ($1, $2, floor(extract(epoch FROM now()))::bigint)
                ON CONFLICT (username) DO NOTHING";
            match self.change(insert, username.as_str(), Some(hash)).await? {
                true => Ok(()),
                false => Err(taken()),
            }
        })
    }

    fn delete<'a>(&'a self, username: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            // `change` binds a second value.
            let delete = "DELETE FROM web_ipc_users WHERE username = $1 AND $2::text IS NULL";
            for name in names_meant(username) {
                if self.change(delete, &name, None).await? {
                    return Ok(());
                }
            }
            Err(StoreError::Unknown { username: username.to_owned() })
        })
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<Username>, StoreError>> {
        Box::pin(async move {
            Ok(self.export().await?.into_iter().map(|user| user.record.username).collect())
        })
    }

    fn list_long(&self) -> BoxFuture<'_, Result<Vec<UserRecord>, StoreError>> {
        Box::pin(
            async move { Ok(self.export().await?.into_iter().map(|user| user.record).collect()) },
        )
    }

    fn verify<'a>(
        &'a self,
        username: &'a str,
        password: &'a str,
    ) -> BoxFuture<'a, Result<Option<CredentialVersion>, StoreError>> {
        Box::pin(async move {
            let stored = match Username::parse_existing(username) {
                Ok(username) => self.stored(&username).await?,
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
            if self.stored(username).await?.is_none() {
                return Err(StoreError::Unknown { username: username.to_string() });
            }
            let hash = self.hasher.hash(password).await?;
            let update = "UPDATE web_ipc_users SET password_hash = $2 WHERE username = $1";
            self.change_user(update, username, Some(hash)).await
        })
    }

    fn current<'a>(
        &'a self,
        username: &'a Username,
    ) -> BoxFuture<'a, Result<Option<CurrentUser>, StoreError>> {
        Box::pin(async move {
            match self.known(username) {
                Known::Yes(user) => return Ok(user),
                Known::No => return self.ask(username).await,
                Known::Stale => {}
            }
            if self.options.fresh_for.is_zero() {
                return self.ask(username).await;
            }
            // One asks for all.
            let _asking = self.asking.lock().await;
            match self.known(username) {
                Known::Yes(user) => Ok(user),
                Known::No | Known::Stale => self.ask(username).await,
            }
        })
    }

    fn disable<'a>(&'a self, username: &'a Username) -> BoxFuture<'a, Result<(), StoreError>> {
        let update = "UPDATE web_ipc_users SET disabled = true, times_disabled = times_disabled + 1
            WHERE username = $1 AND $2::text IS NULL";
        Box::pin(self.change_user(update, username, None))
    }

    fn enable<'a>(&'a self, username: &'a Username) -> BoxFuture<'a, Result<(), StoreError>> {
        let update = "UPDATE web_ipc_users SET disabled = false
            WHERE username = $1 AND $2::text IS NULL";
        Box::pin(self.change_user(update, username, None))
    }

    fn bind<'a>(
        &'a self,
        username: &'a Username,
        peer: Option<&'a PeerName>,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        let update = "UPDATE web_ipc_users SET bound_peer = $2 WHERE username = $1";
        Box::pin(self.change_user(update, username, peer.map(ToString::to_string)))
    }

    fn note_logins<'a>(
        &'a self,
        tallies: &'a [LoginTally],
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        // Another server may have noted a later login: the failures it counted stay then.
        const NOTE: &str = "UPDATE web_ipc_users AS u SET
                failed_logins = n.failed + CASE
                    WHEN n.succeeded_at IS NULL OR coalesce(u.last_login_at, 0) > n.succeeded_at
                    THEN u.failed_logins ELSE 0 END,
                last_login_at = CASE WHEN n.succeeded_at IS NULL THEN u.last_login_at
                    ELSE greatest(coalesce(u.last_login_at, 0), n.succeeded_at) END
            FROM unnest($1::text[], $2::bigint[], $3::bigint[]) AS n (name, succeeded_at, failed)
            WHERE u.username = n.name";
        Box::pin(async move {
            if tallies.is_empty() {
                return Ok(());
            }
            let names: Vec<_> =
                tallies.iter().map(|tally| tally.username.as_str().to_owned()).collect();
            let times: Vec<_> =
                tallies.iter().map(|tally| tally.succeeded_at.map(number)).collect();
            let failed: Vec<_> = tallies.iter().map(|tally| number(tally.failed)).collect();
            self.run(async move |mut connection: PgConnection| {
                let noted = async {
                    let mut transaction = connection.begin().await?;
                    lock_notes(&mut transaction).await?;
                    let note = sqlx::query(NOTE).bind(names).bind(times).bind(failed);
                    note.execute(&mut *transaction).await?;
                    transaction.commit().await
                }
                .await;
                (noted, connection)
            })
            .await
        })
    }

    fn record_sightings<'a>(
        &'a self,
        sightings: &'a [PeerSighting],
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        const SEEN: &str = "INSERT INTO web_ipc_peers AS p
            (fingerprint, name, serial, last_seen_at, username, envelope_key_id)
            SELECT DISTINCT ON (fingerprint) * FROM unnest($1::bytea[], $2::text[], $3::text[],
                $4::bigint[], $5::text[], $6::text[])
                AS s (fingerprint, name, serial, last_seen_at, username, envelope_key_id)
            ORDER BY fingerprint, last_seen_at DESC
            ON CONFLICT (fingerprint) DO UPDATE SET
                name = coalesce(excluded.name, p.name),
                serial = coalesce(excluded.serial, p.serial),
                last_seen_at = excluded.last_seen_at,
                username = coalesce(excluded.username, p.username),
                envelope_key_id = coalesce(excluded.envelope_key_id, p.envelope_key_id)
            WHERE excluded.last_seen_at >= p.last_seen_at";
        const FORGET: &str = "DELETE FROM web_ipc_peers WHERE fingerprint IN
            (SELECT fingerprint FROM web_ipc_peers ORDER BY last_seen_at DESC OFFSET $1)";
        Box::pin(async move {
            if sightings.is_empty() {
                return Ok(());
            }
            let seen = || sightings.iter();
            let fingerprints: Vec<_> = seen().map(|s| s.fingerprint.as_bytes().to_vec()).collect();
            let names: Vec<_> = seen().map(|s| s.name.as_ref().map(ToString::to_string)).collect();
            let serials: Vec<_> = seen().map(|s| s.serial.clone()).collect();
            let times: Vec<_> = seen().map(|s| number(s.last_seen_at)).collect();
            let users: Vec<_> = seen().map(|s| s.user.as_ref().map(ToString::to_string)).collect();
            let keys: Vec<_> = seen().map(|s| s.envelope_key_id.clone()).collect();
            self.run(async move |mut connection: PgConnection| {
                let noted = async {
                    let mut transaction = connection.begin().await?;
                    lock_notes(&mut transaction).await?;
                    let insert = sqlx::query(SEEN).bind(fingerprints).bind(names).bind(serials);
                    let insert = insert.bind(times).bind(users).bind(keys);
                    insert.execute(&mut *transaction).await?;
                    sqlx::query(FORGET).bind(PEERS_MAX).execute(&mut *transaction).await?;
                    transaction.commit().await
                }
                .await;
                (noted, connection)
            })
            .await
        })
    }

    fn peers(&self) -> BoxFuture<'_, Result<Vec<PeerSighting>, StoreError>> {
        Box::pin(async move {
            let rows = self.run(async |mut connection: PgConnection| {
                let select = "SELECT fingerprint, name, serial, last_seen_at, username,
                    envelope_key_id FROM web_ipc_peers ORDER BY last_seen_at DESC, fingerprint";
                (sqlx::query(select).fetch_all(&mut connection).await, connection)
            });
            let rows = rows.await?;
            rows.iter().map(sighting).collect::<Result<_, _>>().map_err(|error| self.failed(&error))
        })
    }

    fn export(&self) -> BoxFuture<'_, Result<Vec<StoredUser>, StoreError>> {
        Box::pin(async move {
            let rows = self
                .run(async |mut connection: PgConnection| (all(&mut connection).await, connection));
            users_of(&rows.await?).map_err(|error| self.failed(&error))
        })
    }

    fn import<'a>(
        &'a self,
        users: &'a [StoredUser],
        may_overwrite: bool,
    ) -> BoxFuture<'a, Result<Imported, StoreError>> {
        Box::pin(async move {
            let users: Arc<[StoredUser]> = users.into();
            let imported =
                self.connections.run(IMPORT_TIMES, async move |mut connection: PgConnection| {
                    let imported = import(&mut connection, &users, may_overwrite).await;
                    (imported, connection)
                });
            let imported = imported.await;
            self.cache().doubt();
            imported?
        })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.connections.close())
    }
}

async fn import(
    connection: &mut PgConnection,
    users: &[StoredUser],
    may_overwrite: bool,
) -> Result<Result<Imported, StoreError>, sqlx::Error> {
    const ADD: &str = "INSERT INTO web_ipc_users (username, password_hash, created_at,
        disabled, times_disabled, bound_peer, last_login_at, failed_logins)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
    const OVERWRITE: &str = "UPDATE web_ipc_users SET password_hash = $2, created_at = $3,
        disabled = $4, times_disabled = $5, bound_peer = $6 WHERE username = $1";
    let mut transaction = connection.begin().await?;
    // Nobody else changes a user until the end; all may be read.
    let lock = "LOCK TABLE web_ipc_users IN SHARE ROW EXCLUSIVE MODE";
    sqlx::query(lock).execute(&mut *transaction).await?;
    let there = users_of(&all(&mut transaction).await?)?;
    let plan = match ImportPlan::new(users, &there, may_overwrite) {
        Ok(plan) => plan,
        Err(refused) => {
            transaction.rollback().await?;
            return Ok(Err(refused));
        }
    };
    let bound = |statement: &'static str, user: &StoredUser| {
        sqlx::query(statement)
            .bind(user.record.username.as_str().to_owned())
            .bind(user.password_hash().to_owned())
            .bind(user.record.created_at.map(number))
            .bind(user.record.is_disabled)
            .bind(number(user.times_disabled))
            .bind(user.record.bound_peer.clone())
    };
    for user in &plan.add {
        bound(ADD, user)
            .bind(user.record.last_login_at.map(number))
            .bind(number(user.record.failed_logins))
            .execute(&mut *transaction)
            .await?;
    }
    for user in &plan.overwrite {
        bound(OVERWRITE, user).execute(&mut *transaction).await?;
    }
    transaction.commit().await?;
    Ok(Ok(plan.imported()))
}

async fn all(connection: &mut PgConnection) -> Result<Vec<PgRow>, sqlx::Error> {
    let select = format!("SELECT {COLUMNS} FROM web_ipc_users ORDER BY id");
    sqlx::query(sqlx::AssertSqlSafe(select)).fetch_all(connection).await
}

/// The users that can log in.
fn users_of(rows: &[PgRow]) -> Result<Vec<StoredUser>, sqlx::Error> {
    let mut users = Vec::with_capacity(rows.len());
    let mut left_out = 0_usize;
    for row in rows {
        match Username::parse_existing(row.try_get::<String, _>(0)?) {
            Ok(username) => users.push(stored_user(username, row)?),
            Err(_) => left_out += 1,
        }
    }
    if left_out > 0 {
        log::warn!("{left_out} of {} entries left out, whose names cannot log in", rows.len());
    }
    Ok(users)
}

async fn lock_notes(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let lock = sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(NOTES_LOCK);
    lock.execute(connection).await.map(drop)
}

fn stored_user(username: Username, row: &PgRow) -> Result<StoredUser, sqlx::Error> {
    let mut record = UserRecord::new(username);
    record.created_at = row.try_get::<Option<i64>, _>(2)?.map(secs);
    record.last_login_at = row.try_get::<Option<i64>, _>(3)?.map(secs);
    record.failed_logins = secs(row.try_get(4)?);
    record.is_disabled = row.try_get(5)?;
    record.bound_peer = row.try_get(7)?;
    Ok(StoredUser::new(record, row.try_get(1)?, secs(row.try_get(6)?)))
}

fn sighting(row: &PgRow) -> Result<PeerSighting, sqlx::Error> {
    let fingerprint = row.try_get::<Vec<u8>, _>(0)?;
    let fingerprint = fingerprint.try_into().expect("the table has 32 bytes");
    let mut seen = PeerSighting::new(Fingerprint::from_bytes(fingerprint), secs(row.try_get(3)?));
    // What cannot be a name was not written here.
    let name: Option<String> = row.try_get(1)?;
    seen.name = name.and_then(|name| PeerName::parse(&name).ok());
    seen.serial = row.try_get(2)?;
    let user: Option<String> = row.try_get(4)?;
    seen.user = user.and_then(|user| Username::parse_existing(user).ok());
    seen.envelope_key_id = row.try_get(5)?;
    Ok(seen)
}

/// A number as the table has it: those made here are not negative.
fn secs(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// A number for the table, whose largest one is never reached by a time or a count.
fn number(secs: u64) -> i64 {
    i64::try_from(secs).unwrap_or(i64::MAX)
}

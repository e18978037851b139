//! Makes the tables, and brings them up to date.
//!
//! `store` comes here with the first connection. Of several servers that start at once one makes
//! them, under an advisory lock, and the others find them made. Where they are up to date nothing
//! is written, so that a server needs no right to make tables.

use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, Row as _};

/// The migrations, in their order. One that was released is never changed.
const MIGRATIONS: &[&str] = &[include_str!("../migrations/0001_users.sql")];

/// The lock of those who migrate: "web-ipc" as a number.
const LOCK: i64 = 0x0077_6562_2d69_7063;

/// `gen_random_uuid()` is part of PostgreSQL since this version.
const VERSION_MIN: i32 = 13;

/// What a database is.
pub(crate) enum Found {
    UpToDate,
    Newer,
    TooOld { version: i32, needed: i32 },
    Encoding(String),
}

/// Migrates if need be.
pub(crate) async fn run(connection: &mut PgConnection) -> Result<Found, sqlx::Error> {
    let row = sqlx::query(
        "SELECT current_setting('server_version_num')::int / 10000, current_setting('server_encoding')",
    )
    .fetch_one(&mut *connection)
    .await?;
    let (version, encoding): (i32, String) = (row.try_get(0)?, row.try_get(1)?);
    if version < VERSION_MIN {
        return Ok(Found::TooOld { version, needed: VERSION_MIN });
    }
    if encoding != "UTF8" {
        return Ok(Found::Encoding(encoding));
    }
    if let Some(found) = of_count(applied(connection).await?) {
        return Ok(found);
    }
    let mut transaction = connection.begin().await?;
    sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(LOCK).execute(&mut *transaction).await?;
    let applied = applied(&mut transaction).await?;
    if let Some(found) = of_count(applied) {
        return Ok(found);
    }
    if applied == 0 {
        let table = "CREATE TABLE web_ipc_migrations (
            number bigint PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())";
        sqlx::query(table).execute(&mut *transaction).await?;
    }
    for (index, sql) in MIGRATIONS.iter().enumerate().skip(applied) {
        sqlx::raw_sql(*sql).execute(&mut *transaction).await?;
        let number = i64::try_from(index + 1).expect("a handful");
        let insert = "INSERT INTO web_ipc_migrations (number) VALUES ($1)";
        sqlx::query(insert).bind(number).execute(&mut *transaction).await?;
    }
    transaction.commit().await?;
    log::info!("made the tables of users in PostgreSQL, or brought them up to date");
    Ok(Found::UpToDate)
}

/// How many migrations the database has had.
async fn applied(connection: &mut PgConnection) -> Result<usize, sqlx::Error> {
    // That it reads a table makes PostgreSQL take note of what others have made meanwhile: a lock
    // that is only advisory does not.
    let look = "SELECT to_regclass('web_ipc_migrations') IS NOT NULL FROM pg_class LIMIT 1";
    let is_there: bool = sqlx::query_scalar(look).fetch_one(&mut *connection).await?;
    if !is_there {
        return Ok(0);
    }
    let count: i64 =
        sqlx::query_scalar("SELECT count(*) FROM web_ipc_migrations").fetch_one(connection).await?;
    Ok(usize::try_from(count).unwrap_or(0))
}

fn of_count(applied: usize) -> Option<Found> {
    match applied.cmp(&MIGRATIONS.len()) {
        std::cmp::Ordering::Less => None,
        std::cmp::Ordering::Equal => Some(Found::UpToDate),
        std::cmp::Ordering::Greater => Some(Found::Newer),
    }
}

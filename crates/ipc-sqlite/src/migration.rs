//! Migrates the tables of a file.
//!
//! The code that opens a file calls it with a new connection. The caller describes the tables with
//! a [`Schema`].

use std::path::Path;

use sqlx::migrate::{Migrate as _, MigrateError, Migration, MigrationType, Migrator};
use sqlx::sqlite::SqliteConnection;
use sqlx::{Connection as _, SqlSafeStr as _};

use crate::error::DatabaseError;

/// Where sqlx notes which migrations were applied to a file.
const MIGRATIONS_TABLE: &str = "_sqlx_migrations";

/// The contents of one kind of database file.
#[derive(Clone, Copy, Debug)]
pub struct Schema {
    /// The name of the kind in errors, as in "a user database": words that go with "a" and "the".
    pub what: &'static str,
    /// Every migration, oldest first: its name, and its statements in SQL. A new migration goes to
    /// the end; a released one is never changed. The names identify the kind of file.
    pub migrations: &'static [(&'static str, &'static str)],
    /// Tables with the columns that they must have, at least, once all migrations are applied. A
    /// migration with `IF NOT EXISTS` may find a table of another program.
    pub tables: &'static [(&'static str, &'static [&'static str])],
}

/// Applies the missing migrations. An up-to-date file costs two small reads and no lock.
pub(crate) async fn migrate(
    connection: &mut SqliteConnection,
    path: &Path,
    schema: &Schema,
) -> Result<(), DatabaseError> {
    let failed = |error| DatabaseError::from_sqlx(schema.what, path, error);
    if is_up_to_date(connection, path, schema).await? {
        return Ok(());
    }
    // sqlx takes no lock on SQLite while it migrates. Within this transaction the second of two
    // processes waits, and checks again once the first is done.
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
    if is_up_to_date(&mut transaction, path, schema).await? {
        return Ok(());
    }
    apply_missing(&mut transaction, schema)
        .await
        .map_err(|error| DatabaseError::from_migration(schema.what, path, error))?;
    for &(table, expected) in schema.tables {
        let columns = columns(&mut transaction, table).await.map_err(failed)?;
        if !expected.iter().all(|expected| columns.iter().any(|column| column == expected)) {
            return Err(DatabaseError::OtherTable { path: path.to_owned(), table });
        }
    }
    transaction.commit().await.map_err(failed)
}

/// Does the same as `Migrator::run`, whose future is not `Send` within a generic caller.
async fn apply_missing(
    connection: &mut SqliteConnection,
    schema: &Schema,
) -> Result<(), MigrateError> {
    connection.ensure_migrations_table(MIGRATIONS_TABLE).await?;
    let applied = connection.list_applied_migrations(MIGRATIONS_TABLE).await?;
    for migration in migrator(schema).iter() {
        if !applied.iter().any(|known| known.version == migration.version) {
            connection.apply(MIGRATIONS_TABLE, migration).await?;
        }
    }
    Ok(())
}

pub(crate) async fn is_up_to_date(
    connection: &mut SqliteConnection,
    path: &Path,
    schema: &Schema,
) -> Result<bool, DatabaseError> {
    Ok(count(connection, path, schema).await? == schema.migrations.len())
}

/// How many migrations of the schema the file has seen.
pub(crate) async fn count(
    connection: &mut SqliteConnection,
    path: &Path,
    schema: &Schema,
) -> Result<usize, DatabaseError> {
    let (what, path) = (schema.what, path.to_owned());
    let applied =
        applied(connection).await.map_err(|error| DatabaseError::from_sqlx(what, &path, error))?;
    // Every kind of file numbers its migrations from one, so the names tell the kinds apart.
    let ours = applied.iter().zip(schema.migrations).all(|(applied, (name, _))| applied == name);
    if !ours {
        return Err(DatabaseError::NotADatabase { what, path });
    }
    if applied.len() > schema.migrations.len() {
        return Err(DatabaseError::Newer { what, path });
    }
    Ok(applied.len())
}

/// The names of the migrations that were applied to the file, oldest first.
async fn applied(connection: &mut SqliteConnection) -> Result<Vec<String>, sqlx::Error> {
    let migrated = sqlx::query_scalar::<_, bool>(
        "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = '_sqlx_migrations')",
    )
    .fetch_one(&mut *connection)
    .await?;
    if !migrated {
        return Ok(Vec::new());
    }
    sqlx::query_scalar("SELECT description FROM _sqlx_migrations ORDER BY version")
        .fetch_all(connection)
        .await
}

fn migrator(schema: &Schema) -> Migrator {
    let migration = |(version, (name, sql)): (i64, &(&'static str, &'static str))| {
        Migration::new(version, (*name).into(), MigrationType::Simple, (*sql).into_sql_str(), false)
    };
    Migrator::with_migrations((1..).zip(schema.migrations).map(migration).collect())
}

/// The names of the columns of `table`; none if there is no such table.
async fn columns(
    connection: &mut SqliteConnection,
    table: &'static str,
) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar("SELECT name FROM pragma_table_info(?)")
        .bind(table)
        .fetch_all(connection)
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: Schema = Schema {
        what: "note database",
        migrations: &[
            ("notes", "CREATE TABLE IF NOT EXISTS notes (text TEXT)"),
            ("authors", "ALTER TABLE notes ADD COLUMN author TEXT"),
        ],
        tables: &[("notes", &["text", "author"])],
    };
    const ONE: Schema = Schema {
        migrations: &[("notes", "CREATE TABLE IF NOT EXISTS notes (text TEXT)")],
        tables: &[("notes", &["text"])],
        ..TWO
    };

    async fn connection() -> SqliteConnection {
        SqliteConnection::connect("sqlite::memory:").await.unwrap()
    }

    async fn migrate(
        connection: &mut SqliteConnection,
        schema: &Schema,
    ) -> Result<(), DatabaseError> {
        super::migrate(connection, Path::new("/some/notes.db"), schema).await
    }

    async fn run(connection: &mut SqliteConnection, sql: &'static str) {
        sqlx::raw_sql(sql).execute(connection).await.unwrap();
    }

    #[test]
    fn migrations_are_numbered_from_one_in_order() {
        let versions: Vec<i64> = migrator(&TWO).iter().map(|migration| migration.version).collect();
        assert_eq!(versions, [1, 2]);
    }

    #[tokio::test]
    async fn a_file_of_an_older_version_gets_what_it_lacks_and_keeps_what_it_has() {
        let mut connection = connection().await;
        migrate(&mut connection, &ONE).await.unwrap();
        run(&mut connection, "INSERT INTO notes VALUES ('milk')").await;
        for _ in 0..2 {
            migrate(&mut connection, &TWO).await.unwrap();
        }
        assert_eq!(columns(&mut connection, "notes").await.unwrap(), ["text", "author"]);
        let texts: Vec<String> =
            sqlx::query_scalar("SELECT text FROM notes").fetch_all(&mut connection).await.unwrap();
        assert_eq!(texts, ["milk"]);
    }

    #[tokio::test]
    async fn a_file_that_a_newer_version_migrated_is_refused() {
        let mut connection = connection().await;
        migrate(&mut connection, &TWO).await.unwrap();
        let error = migrate(&mut connection, &ONE).await.unwrap_err();
        assert!(matches!(error, DatabaseError::Newer { .. }), "{error:?}");
        assert_eq!(
            error.to_string(),
            "the note database /some/notes.db was written by a newer version"
        );
    }

    #[tokio::test]
    async fn a_file_with_the_migrations_of_another_kind_is_not_one_of_ours() {
        const USERS: Schema = Schema {
            what: "user database",
            migrations: &[("users", "CREATE TABLE users (name TEXT)")],
            tables: &[],
        };
        let mut connection = connection().await;
        migrate(&mut connection, &USERS).await.unwrap();
        for notes in [ONE, TWO] {
            let error = migrate(&mut connection, &notes).await.unwrap_err();
            assert!(matches!(error, DatabaseError::NotADatabase { .. }), "{error:?}");
        }
        assert!(columns(&mut connection, "notes").await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_table_that_is_not_ours_is_refused_and_nothing_is_added_to_the_file() {
        let mut connection = connection().await;
        run(&mut connection, "CREATE TABLE notes (title TEXT)").await;
        let error = migrate(&mut connection, &ONE).await.unwrap_err();
        assert!(matches!(error, DatabaseError::OtherTable { table: "notes", .. }), "{error:?}");
        assert_eq!(
            error.to_string(),
            "the table of notes in /some/notes.db has other columns than expected"
        );
        let tables: Vec<String> = sqlx::query_scalar("SELECT name FROM sqlite_schema")
            .fetch_all(&mut connection)
            .await
            .unwrap();
        assert_eq!(tables, ["notes"]);
    }

    #[tokio::test]
    async fn a_table_with_more_columns_than_ours_will_do() {
        let mut connection = connection().await;
        run(&mut connection, "CREATE TABLE notes (title TEXT, text TEXT)").await;
        migrate(&mut connection, &ONE).await.unwrap();
    }
}

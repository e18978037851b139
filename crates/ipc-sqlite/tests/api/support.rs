//! What the tests share: a file of notes for each test, and functions to use it.

use std::path::{Path, PathBuf};

use ipc_sqlite::{Database, DatabaseError, Options, Schema};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{Connection, SqlSafeStr};
use tempfile::TempDir;

pub(crate) const NOTES: Schema = Schema {
    what: "note database",
    migrations: &[(
        "notes",
        "CREATE TABLE IF NOT EXISTS notes (id INTEGER PRIMARY KEY, text TEXT NOT NULL)",
    )],
    tables: &[("notes", &["id", "text"])],
};

/// A temporary directory, and the path of `notes.db` in it.
pub(crate) struct Place {
    pub(crate) dir: TempDir,
    pub(crate) path: PathBuf,
}

impl Place {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notes.db");
        Self { dir, path }
    }

    pub(crate) async fn create(&self) -> Database {
        create(&self.path).await.unwrap()
    }

    /// Creates a file with one note in it, and closes it.
    pub(crate) async fn with_note(self) -> Self {
        let database = self.create().await;
        add(&database, "milk").await.unwrap();
        database.close().await.unwrap();
        self
    }

    /// Runs SQL on the file as another program would. The connection is open until it is dropped.
    pub(crate) async fn raw(&self, sql: &'static str) -> SqliteConnection {
        let options = SqliteConnectOptions::new().filename(&self.path).create_if_missing(true);
        let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
        sqlx::raw_sql(sql.into_sql_str()).execute(&mut connection).await.unwrap();
        connection
    }
}

pub(crate) async fn create(path: &Path) -> Result<Database, DatabaseError> {
    ipc_sqlite::create(path, &NOTES, &Options::new()).await
}

pub(crate) async fn open(path: &Path) -> Result<Database, DatabaseError> {
    ipc_sqlite::open(path, &NOTES, &Options::new()).await
}

pub(crate) async fn add(database: &Database, text: &str) -> Result<(), DatabaseError> {
    let added = async {
        let mut transaction = database.begin_write().await?;
        sqlx::query("INSERT INTO notes (text) VALUES (?)")
            .bind(text.to_owned())
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await
    };
    added.await.map_err(|error| database.error(error))
}

pub(crate) async fn notes(database: &Database) -> Result<Vec<String>, DatabaseError> {
    sqlx::query_scalar("SELECT text FROM notes ORDER BY id")
        .fetch_all(database.readers())
        .await
        .map_err(|error| database.error(error))
}

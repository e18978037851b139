//! What the tests share: a store in a file for each test.

use std::path::PathBuf;

use ipc_store::{Options, SqliteUserStore};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{Connection, SqlSafeStr};
use tempfile::TempDir;

use crate::suite::place::Place;
pub(crate) use crate::suite::place::{name, names, password, version};

/// A temporary directory, and the path of `users.db` in it.
pub(crate) struct FilePlace {
    pub(crate) dir: TempDir,
    pub(crate) path: PathBuf,
}

impl FilePlace {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users.db");
        Self { dir, path }
    }

    pub(crate) async fn create(&self) -> SqliteUserStore {
        options().create(&self.path).await.unwrap()
    }

    pub(crate) async fn open(&self) -> SqliteUserStore {
        options().open(&self.path).await.unwrap()
    }

    /// Runs SQL on the file as another program would. The connection is open until it is dropped.
    pub(crate) async fn raw(&self, sql: &'static str) -> SqliteConnection {
        let options = SqliteConnectOptions::new().filename(&self.path).create_if_missing(true);
        let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
        sqlx::raw_sql(sql.into_sql_str()).execute(&mut connection).await.unwrap();
        connection
    }
}

pub(crate) fn options() -> Options {
    Options::new().bcrypt_cost_for_tests()
}

impl Place for FilePlace {
    type Store = SqliteUserStore;

    async fn open(&self) -> SqliteUserStore {
        self.create().await
    }

    async fn bind_all_to(&self, peer: &'static str) {
        assert_eq!(peer, "no peer");
        drop(self.raw("UPDATE users SET bound_peer = 'no peer'").await);
    }
}

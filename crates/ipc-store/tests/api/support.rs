//! What the tests share: a store for each test, and functions for names and passwords.

use std::path::PathBuf;

use ipc_store::{CredentialVersion, Options, Password, SqliteUserStore, UserStore, Username};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{Connection, SqlSafeStr};
use tempfile::TempDir;

/// A temporary directory, and the path of `users.db` in it.
pub(crate) struct Place {
    pub(crate) dir: TempDir,
    pub(crate) path: PathBuf,
}

impl Place {
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

pub(crate) fn name(text: &str) -> Username {
    Username::parse(text).unwrap()
}

pub(crate) fn password(text: &str) -> Password {
    Password::parse(text.to_owned()).unwrap()
}

/// The version of a user who may have sessions.
pub(crate) async fn version(store: &impl UserStore, user: &str) -> Option<CredentialVersion> {
    store.current(&name(user)).await.unwrap().map(|user| user.credential_version)
}

pub(crate) async fn names(store: &impl UserStore) -> Vec<String> {
    store.list().await.unwrap().iter().map(ToString::to_string).collect()
}

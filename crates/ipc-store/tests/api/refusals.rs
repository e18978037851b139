//! Files without users, or files that cannot be used at the moment. `ipc-sqlite` tests all other
//! errors of files.

use std::error::Error as _;
use std::fs;
use std::time::Duration;

use ipc_store::{DatabaseError, StoreError, UserStore};

use crate::support::{FilePlace, name, options, password};

/// The error of the file. The message of the store's error must be the same.
fn database(error: StoreError) -> DatabaseError {
    let message = error.to_string();
    let StoreError::Database(error) = error else { panic!("{error:?}") };
    assert_eq!(error.to_string(), message);
    error
}

#[tokio::test]
async fn a_missing_file_is_missing_and_stays_so() {
    let place = FilePlace::new();
    let error = database(options().open(&place.path).await.unwrap_err());
    assert!(matches!(error, DatabaseError::Missing { .. }), "{error:?}");
    assert_eq!(error.to_string(), format!("there is no user database {}", place.path.display()));
    assert_eq!(fs::read_dir(place.dir.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_text_file_is_not_a_user_database_and_stays_as_it_is() {
    let place = FilePlace::new();
    let text = "not a database, but somebody's notes. ".repeat(200);
    fs::write(&place.path, &text).unwrap();
    let error = database(options().create(&place.path).await.unwrap_err());
    assert!(matches!(error, DatabaseError::NotADatabase { .. }), "{error:?}");
    assert_eq!(error.to_string(), format!("{} is not a user database", place.path.display()));
    assert_eq!(fs::read_to_string(&place.path).unwrap(), text);
}

#[tokio::test]
async fn a_table_of_users_that_is_not_ours_is_refused_and_nothing_is_added_to_the_file() {
    let place = FilePlace::new();
    drop(place.raw("CREATE TABLE users (name TEXT, email TEXT)").await);
    let error = database(options().open(&place.path).await.unwrap_err());
    assert!(matches!(error, DatabaseError::OtherTable { .. }), "{error:?}");
    assert_eq!(
        error.to_string(),
        format!("the table of users in {} has other columns than expected", place.path.display())
    );
    let tables: Vec<String> = sqlx::query_scalar("SELECT name FROM sqlite_schema")
        .fetch_all(&mut place.raw("").await)
        .await
        .unwrap();
    assert_eq!(tables, ["users"]);
}

#[tokio::test]
async fn a_file_that_another_process_keeps_locked_is_busy_after_the_timeout() {
    let place = FilePlace::new();
    let store =
        options().busy_timeout(Duration::from_millis(50)).create(&place.path).await.unwrap();
    store.add(&name("bob"), &password("x")).await.unwrap();
    let mut locked = place.raw("BEGIN IMMEDIATE").await;
    let error = database(store.add(&name("eve"), &password("x")).await.unwrap_err());
    assert!(matches!(error, DatabaseError::Busy { .. }), "{error:?}");
    // Logins work meanwhile.
    assert!(store.verify("bob", "x").await.unwrap().is_some());
    sqlx::raw_sql("ROLLBACK").execute(&mut locked).await.unwrap();
    store.add(&name("eve"), &password("x")).await.unwrap();
}

#[tokio::test]
async fn an_unforeseen_error_has_its_cause_for_the_log() {
    let place = FilePlace::new();
    let store = place.create().await;
    drop(place.raw("ALTER TABLE users RENAME TO gone").await);
    let error = store.list().await.unwrap_err();
    assert!(error.source().unwrap().to_string().contains("no such table"));
    let error = database(error);
    assert!(matches!(error, DatabaseError::Unavailable { .. }), "{error:?}");
}

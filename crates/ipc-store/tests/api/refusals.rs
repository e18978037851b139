//! Files that cannot be used, each with an error that says why and which file.

use std::error::Error as _;
use std::fs;
use std::path::Path;
use std::time::Duration;

use ipc_store::{SqliteUserStore, StoreError, UserStore};

use crate::support::{Place, name, options, password, raw};

/// The error of opening `path`, after a look at its message: one line that names the file.
async fn refusal(path: &Path) -> StoreError {
    let error = options().busy_timeout(Duration::from_millis(50)).open(path).await.unwrap_err();
    let message = error.to_string();
    assert!(message.contains(path.to_str().unwrap()) && !message.contains('\n'), "{message}");
    error
}

#[tokio::test]
async fn a_missing_file_is_missing_and_stays_so() {
    let place = Place::new();
    let error = refusal(&place.path).await;
    assert!(matches!(error, StoreError::Missing { .. }), "{error:?}");
    assert_eq!(fs::read_dir(place.dir.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_missing_directory_is_missing_too() {
    let place = Place::new();
    let path = place.dir.path().join("no/such/users.db");
    assert!(matches!(refusal(&path).await, StoreError::Missing { .. }));
    assert!(matches!(SqliteUserStore::create(&path).await, Err(StoreError::Missing { .. })));
}

#[cfg(unix)]
#[tokio::test]
async fn a_link_to_nowhere_is_missing() {
    let place = Place::new();
    std::os::unix::fs::symlink(place.dir.path().join("nowhere"), &place.path).unwrap();
    assert!(matches!(refusal(&place.path).await, StoreError::Missing { .. }));
    assert!(matches!(options().create(&place.path).await, Err(StoreError::Missing { .. })));
}

#[tokio::test]
async fn a_text_file_is_not_a_database_and_stays_as_it_is() {
    for length in [1, 50, 99, 100, 5000] {
        let place = Place::new();
        let text = "not a database, but somebody's notes. ".repeat(200)[..length].to_owned();
        fs::write(&place.path, &text).unwrap();
        let error = refusal(&place.path).await;
        assert!(matches!(error, StoreError::NotADatabase { .. }), "{length}: {error:?}");
        assert!(matches!(options().create(&place.path).await, Err(StoreError::NotADatabase { .. })));
        assert_eq!(fs::read_to_string(&place.path).unwrap(), text);
    }
}

#[tokio::test]
async fn a_directory_is_not_a_database() {
    let place = Place::new();
    fs::create_dir(&place.path).unwrap();
    let error = refusal(&place.path).await;
    assert!(matches!(error, StoreError::NotADatabase { .. }), "{error:?}");
}

#[tokio::test]
async fn a_table_of_users_that_is_not_ours_is_refused_and_nothing_is_added_to_the_file() {
    let place = Place::new();
    drop(place.raw("CREATE TABLE users (name TEXT, email TEXT)").await);
    let error = refusal(&place.path).await;
    assert!(matches!(error, StoreError::OtherTable { .. }), "{error:?}");
    let tables: Vec<String> = sqlx::query_scalar("SELECT name FROM sqlite_schema")
        .fetch_all(&mut place.raw("").await)
        .await
        .unwrap();
    assert_eq!(tables, ["users"]);
}

#[tokio::test]
async fn a_damaged_file_says_so() {
    let place = Place::new();
    let store = place.create().await;
    store.add(&name("bob"), &password("x")).await.unwrap();
    store.close().await;
    // All but the first page, which holds the header and the list of tables.
    let mut bytes = fs::read(&place.path).unwrap();
    assert!(bytes.len() > 4096);
    bytes[4096..].fill(0xa5);
    fs::write(&place.path, bytes).unwrap();
    match options().open(&place.path).await {
        Err(error) => assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}"),
        Ok(store) => {
            let error = store.list().await.unwrap_err();
            assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
        }
    }
}

#[tokio::test]
async fn a_truncated_file_says_so() {
    let place = Place::new();
    let store = place.create().await;
    store.add(&name("bob"), &password("x")).await.unwrap();
    store.close().await;
    let bytes = fs::read(&place.path).unwrap();
    fs::write(&place.path, &bytes[..4096]).unwrap();
    let error = match options().open(&place.path).await {
        Err(error) => error,
        Ok(store) => store.list().await.unwrap_err(),
    };
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
}

#[tokio::test]
async fn a_file_that_another_process_keeps_locked_is_busy_after_the_timeout() {
    let place = Place::new();
    let store = options().busy_timeout(Duration::from_millis(50)).create(&place.path).await.unwrap();
    store.add(&name("bob"), &password("x")).await.unwrap();
    let mut locked = place.raw("BEGIN IMMEDIATE").await;
    let error = store.add(&name("eve"), &password("x")).await.unwrap_err();
    assert!(matches!(error, StoreError::Busy { .. }), "{error:?}");
    // Reading goes on meanwhile.
    assert!(store.verify("bob", "x").await.unwrap().is_some());
    sqlx::raw_sql("ROLLBACK").execute(&mut locked).await.unwrap();
    store.add(&name("eve"), &password("x")).await.unwrap();
}

#[tokio::test]
async fn a_fresh_file_that_another_process_keeps_locked_is_busy_after_the_timeout() {
    let place = Place::new();
    let _locked = raw(&place.path, "CREATE TABLE other (x); BEGIN EXCLUSIVE").await;
    let error = refusal(&place.path).await;
    assert!(matches!(error, StoreError::Busy { .. }), "{error:?}");
}

#[cfg(unix)]
mod permissions {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Root may read and write whatever the mode says, so there is nothing to see then.
    fn modes_do_not_bind() -> bool {
        let file = tempfile::NamedTempFile::new().unwrap();
        set_mode(file.path(), 0o000);
        fs::File::open(file.path()).is_ok()
    }

    #[tokio::test]
    async fn a_file_that_may_not_be_read_is_denied() {
        if modes_do_not_bind() {
            println!("skipped: file modes do not bind this user");
            return;
        }
        let place = Place::new();
        place.create().await.close().await;
        set_mode(&place.path, 0o000);
        let error = refusal(&place.path).await;
        assert!(matches!(error, StoreError::PermissionDenied { .. }), "{error:?}");
    }

    #[tokio::test]
    async fn a_file_that_may_not_be_written_can_still_be_read() {
        if modes_do_not_bind() {
            println!("skipped: file modes do not bind this user");
            return;
        }
        let place = Place::new();
        let store = place.create().await;
        store.add(&name("bob"), &password("x")).await.unwrap();
        store.close().await;
        set_mode(&place.path, 0o400);
        let store = place.open().await;
        assert!(store.verify("bob", "x").await.unwrap().is_some());
        let error = store.add(&name("eve"), &password("x")).await.unwrap_err();
        assert!(matches!(error, StoreError::ReadOnly { .. }), "{error:?}");
    }

    #[tokio::test]
    async fn a_directory_that_may_not_be_written_is_denied() {
        if modes_do_not_bind() {
            println!("skipped: file modes do not bind this user");
            return;
        }
        let place = Place::new();
        set_mode(place.dir.path(), 0o500);
        let error = options().create(&place.path).await.unwrap_err();
        assert!(matches!(error, StoreError::PermissionDenied { .. }), "{error:?}");
        set_mode(place.dir.path(), 0o700);
        place.create().await.close().await;
        set_mode(place.dir.path(), 0o500);
        let opened = options().open(&place.path).await;
        set_mode(place.dir.path(), 0o700);
        let error = opened.unwrap_err();
        assert!(
            matches!(error, StoreError::PermissionDenied { .. } | StoreError::ReadOnly { .. }),
            "{error:?}"
        );
    }

    #[tokio::test]
    async fn a_directory_that_may_not_be_entered_is_denied() {
        if modes_do_not_bind() {
            println!("skipped: file modes do not bind this user");
            return;
        }
        let place = Place::new();
        place.create().await.close().await;
        set_mode(place.dir.path(), 0o000);
        let opened = options().open(&place.path).await;
        set_mode(place.dir.path(), 0o700);
        assert!(matches!(opened, Err(StoreError::PermissionDenied { .. })), "{opened:?}");
    }
}

#[tokio::test]
async fn an_unforeseen_error_has_its_cause_for_the_log() {
    let place = Place::new();
    let store = place.create().await;
    drop(place.raw("ALTER TABLE users RENAME TO gone").await);
    let error = store.list().await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
    assert!(error.source().unwrap().to_string().contains("no such table"));
}

//! Files that cannot be used, each with an error that says why and which file.

use std::error::Error as _;
use std::fs;
use std::path::Path;
use std::time::Duration;

use ipc_sqlite::{DatabaseError, Options};

use crate::support::{NOTES, Place, add, create, notes, open};

/// The error of opening `path`. Its message must be one line that names the file.
async fn refusal(path: &Path) -> DatabaseError {
    let options = Options::new().busy_timeout(Duration::from_millis(50));
    let error = ipc_sqlite::open(path, &NOTES, &options).await.unwrap_err();
    let message = error.to_string();
    assert!(message.contains(path.to_str().unwrap()) && !message.contains('\n'), "{message}");
    error
}

#[tokio::test]
async fn a_missing_file_is_missing_and_stays_so() {
    let place = Place::new();
    let error = refusal(&place.path).await;
    assert!(matches!(error, DatabaseError::Missing { .. }), "{error:?}");
    assert_eq!(fs::read_dir(place.dir.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_missing_directory_is_missing_too() {
    let place = Place::new();
    let path = place.dir.path().join("no/such/notes.db");
    assert!(matches!(refusal(&path).await, DatabaseError::Missing { .. }));
    assert!(matches!(create(&path).await, Err(DatabaseError::Missing { .. })));
}

#[cfg(unix)]
#[tokio::test]
async fn a_link_to_nowhere_is_missing() {
    let place = Place::new();
    std::os::unix::fs::symlink(place.dir.path().join("nowhere"), &place.path).unwrap();
    assert!(matches!(refusal(&place.path).await, DatabaseError::Missing { .. }));
    assert!(matches!(create(&place.path).await, Err(DatabaseError::Missing { .. })));
}

#[tokio::test]
async fn a_text_file_is_not_a_database_and_stays_as_it_is() {
    for length in [1, 50, 99, 100, 5000] {
        let place = Place::new();
        let text = "not a database, but somebody's notes. ".repeat(200)[..length].to_owned();
        fs::write(&place.path, &text).unwrap();
        let error = refusal(&place.path).await;
        assert!(matches!(error, DatabaseError::NotADatabase { .. }), "{length}: {error:?}");
        assert!(matches!(create(&place.path).await, Err(DatabaseError::NotADatabase { .. })));
        assert_eq!(fs::read_to_string(&place.path).unwrap(), text);
    }
}

#[tokio::test]
async fn a_directory_is_not_a_database() {
    let place = Place::new();
    fs::create_dir(&place.path).unwrap();
    let error = refusal(&place.path).await;
    assert!(matches!(error, DatabaseError::NotADatabase { .. }), "{error:?}");
}

#[tokio::test]
async fn a_damaged_file_says_so() {
    let place = Place::new().with_note().await;
    // Overwrites all but the first page, which holds the header and the list of tables.
    let mut bytes = fs::read(&place.path).unwrap();
    assert!(bytes.len() > 4096);
    bytes[4096..].fill(0xa5);
    fs::write(&place.path, bytes).unwrap();
    match open(&place.path).await {
        Err(error) => assert!(matches!(error, DatabaseError::Corrupt { .. }), "{error:?}"),
        Ok(database) => {
            let error = notes(&database).await.unwrap_err();
            assert!(matches!(error, DatabaseError::Corrupt { .. }), "{error:?}");
        }
    }
}

#[tokio::test]
async fn a_truncated_file_says_so() {
    let place = Place::new().with_note().await;
    let bytes = fs::read(&place.path).unwrap();
    fs::write(&place.path, &bytes[..4096]).unwrap();
    let error = match open(&place.path).await {
        Err(error) => error,
        Ok(database) => notes(&database).await.unwrap_err(),
    };
    assert!(matches!(error, DatabaseError::Corrupt { .. }), "{error:?}");
}

#[tokio::test]
async fn a_file_that_another_process_keeps_locked_is_busy_after_the_timeout() {
    let place = Place::new();
    let options = Options::new().busy_timeout(Duration::from_millis(50));
    let database = ipc_sqlite::create(&place.path, &NOTES, &options).await.unwrap();
    add(&database, "milk").await.unwrap();
    let mut locked = place.raw("BEGIN IMMEDIATE").await;
    let error = add(&database, "tea").await.unwrap_err();
    assert!(matches!(error, DatabaseError::Busy { .. }), "{error:?}");
    // Reading works meanwhile.
    assert_eq!(notes(&database).await.unwrap(), ["milk"]);
    sqlx::raw_sql("ROLLBACK").execute(&mut locked).await.unwrap();
    add(&database, "tea").await.unwrap();
}

#[tokio::test]
async fn a_fresh_file_that_another_process_keeps_locked_is_busy_after_the_timeout() {
    let place = Place::new();
    let _locked = place.raw("CREATE TABLE other (x); BEGIN EXCLUSIVE").await;
    let error = refusal(&place.path).await;
    assert!(matches!(error, DatabaseError::Busy { .. }), "{error:?}");
}

#[cfg(unix)]
mod permissions {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Root may read and write whatever the mode says, so there is nothing to test then.
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
        place.create().await.close().await.unwrap();
        set_mode(&place.path, 0o000);
        let error = refusal(&place.path).await;
        assert!(matches!(error, DatabaseError::PermissionDenied { .. }), "{error:?}");
    }

    #[tokio::test]
    async fn a_file_that_may_not_be_written_can_still_be_read() {
        if modes_do_not_bind() {
            println!("skipped: file modes do not bind this user");
            return;
        }
        let place = Place::new().with_note().await;
        set_mode(&place.path, 0o400);
        let database = open(&place.path).await.unwrap();
        assert_eq!(notes(&database).await.unwrap(), ["milk"]);
        let error = add(&database, "tea").await.unwrap_err();
        assert!(matches!(error, DatabaseError::ReadOnly { .. }), "{error:?}");
    }

    #[tokio::test]
    async fn a_directory_that_may_not_be_written_is_denied() {
        if modes_do_not_bind() {
            println!("skipped: file modes do not bind this user");
            return;
        }
        let place = Place::new();
        set_mode(place.dir.path(), 0o500);
        let error = create(&place.path).await.unwrap_err();
        assert!(matches!(error, DatabaseError::PermissionDenied { .. }), "{error:?}");
        set_mode(place.dir.path(), 0o700);
        place.create().await.close().await.unwrap();
        set_mode(place.dir.path(), 0o500);
        let opened = open(&place.path).await;
        set_mode(place.dir.path(), 0o700);
        let error = opened.unwrap_err();
        assert!(
            matches!(
                error,
                DatabaseError::PermissionDenied { .. } | DatabaseError::ReadOnly { .. }
            ),
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
        place.create().await.close().await.unwrap();
        set_mode(place.dir.path(), 0o000);
        let opened = open(&place.path).await;
        set_mode(place.dir.path(), 0o700);
        assert!(matches!(opened, Err(DatabaseError::PermissionDenied { .. })), "{opened:?}");
    }
}

#[tokio::test]
async fn an_unforeseen_error_has_its_cause_for_the_log() {
    let place = Place::new();
    let database = place.create().await;
    drop(place.raw("ALTER TABLE notes RENAME TO gone").await);
    let error = notes(&database).await.unwrap_err();
    assert!(matches!(error, DatabaseError::Unavailable { .. }), "{error:?}");
    assert!(error.source().unwrap().to_string().contains("no such table"));
}

#[cfg(unix)]
#[tokio::test]
async fn a_file_that_is_removed_or_replaced_while_it_is_open_is_noticed() {
    let place = Place::new();
    let database = place.create().await;
    database.check_file().unwrap();
    let backup = place.dir.path().join("backup.db");
    fs::copy(&place.path, &backup).unwrap();
    fs::remove_file(&place.path).unwrap();
    let error = database.check_file().unwrap_err();
    assert!(matches!(error, DatabaseError::Replaced { .. }), "{error:?}");
    fs::copy(&backup, &place.path).unwrap();
    let error = database.check_file().unwrap_err();
    assert!(matches!(error, DatabaseError::Replaced { .. }), "{error:?}");
    assert!(error.to_string().contains("restart"), "{error}");
    open(&place.path).await.unwrap().check_file().unwrap();
}

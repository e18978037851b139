//! The file itself: its mode, its name, and what is left beside it.

use std::fs;
use std::path::Path;

use ipc_sqlite::DatabaseError;

use crate::support::{Place, add, create, notes, open};

#[cfg(unix)]
#[tokio::test]
async fn the_file_and_what_sqlite_puts_beside_it_are_for_the_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;

    let place = Place::new();
    let database = place.create().await;
    add(&database, "milk").await.unwrap();
    let mut seen = Vec::new();
    for entry in fs::read_dir(place.dir.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{entry:?}");
        seen.push(entry.file_name().into_string().unwrap());
    }
    seen.sort();
    assert_eq!(seen, ["notes.db", "notes.db-shm", "notes.db-wal"]);
    database.close().await.unwrap();
    assert_eq!(fs::read_dir(place.dir.path()).unwrap().count(), 1);
}

#[cfg(unix)]
#[test]
fn the_file_is_0600_under_any_umask() {
    use std::os::unix::fs::PermissionsExt as _;
    use std::process::Command;

    // The umask belongs to the whole process, so this test runs itself again in child processes.
    if let Some(path) = std::env::var_os("IPC_SQLITE_TEST_CREATE") {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let database = create(path.as_ref()).await.unwrap();
            add(&database, "milk").await.unwrap();
        });
        return;
    }
    for umask in ["000", "022", "077", "777"] {
        let place = Place::new();
        let child = Command::new("sh")
            .args(["-c", "umask $1; exec \"$0\" --exact files::the_file_is_0600_under_any_umask"])
            .arg(std::env::current_exe().unwrap())
            .arg(umask)
            .env("IPC_SQLITE_TEST_CREATE", &place.path)
            .output()
            .unwrap();
        assert!(child.status.success(), "{umask}: {child:?}");
        let mut files = 0;
        for entry in fs::read_dir(place.dir.path()).unwrap() {
            let entry = entry.unwrap();
            assert_eq!(
                entry.metadata().unwrap().permissions().mode() & 0o777,
                0o600,
                "{umask} {entry:?}"
            );
            files += 1;
        }
        assert!(files >= 1);
    }
}

#[tokio::test]
async fn creating_where_a_file_is_keeps_what_is_in_it() {
    let place = Place::new();
    let database = place.create().await;
    add(&database, "milk").await.unwrap();
    database.close().await.unwrap();
    assert_eq!(notes(&place.create().await).await.unwrap(), ["milk"]);
}

#[tokio::test]
async fn what_was_committed_is_there_after_closing_and_after_mere_dropping() {
    let place = Place::new();
    let database = place.create().await;
    add(&database, "milk").await.unwrap();
    database.close().await.unwrap();
    let database = open(&place.path).await.unwrap();
    add(&database, "tea").await.unwrap();
    drop(database);
    assert_eq!(notes(&open(&place.path).await.unwrap()).await.unwrap(), ["milk", "tea"]);
}

#[tokio::test]
async fn names_that_mean_something_to_sqlite_are_plain_file_names_here() {
    for file in ["file:notes.db?mode=memory", ":memory:", "100% é.db", "-x", "a?b#c.db"] {
        let place = Place::new();
        let path = place.dir.path().join(file);
        let database = create(&path).await.unwrap();
        add(&database, "milk").await.unwrap();
        database.close().await.unwrap();
        assert!(fs::metadata(&path).unwrap().len() > 0, "{file}");
        assert_eq!(notes(&open(&path).await.unwrap()).await.unwrap(), ["milk"], "{file}");
    }
}

#[tokio::test]
async fn a_path_that_no_file_can_have_is_an_error_and_not_a_panic() {
    for path in ["", "a\0b"] {
        assert!(open(Path::new(path)).await.is_err(), "{path:?}");
        assert!(create(Path::new(path)).await.is_err(), "{path:?}");
    }
}

#[tokio::test]
async fn a_name_too_long_for_the_system_is_an_error_with_its_cause() {
    let place = Place::new();
    let path = place.dir.path().join("x".repeat(300));
    assert!(matches!(create(&path).await, Err(DatabaseError::Unavailable { .. })));
}

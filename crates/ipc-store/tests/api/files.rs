//! The file itself, as far as users notice it.

use std::fs;

use ipc_store::{DatabaseError, StoreError, UserStore};

use crate::support::{FilePlace, name, names, password};

#[cfg(unix)]
#[tokio::test]
async fn the_file_and_what_sqlite_puts_beside_it_are_for_the_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;

    let place = FilePlace::new();
    let store = place.create().await;
    store.add(&name("bob"), &password("x")).await.unwrap();
    for entry in fs::read_dir(place.dir.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{entry:?}");
    }
    store.close().await;
    assert_eq!(fs::read_dir(place.dir.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn users_are_there_after_closing_and_after_mere_dropping() {
    let place = FilePlace::new();
    let store = place.create().await;
    store.add(&name("bob"), &password("x")).await.unwrap();
    store.close().await;
    let store = place.open().await;
    store.add(&name("eve"), &password("x")).await.unwrap();
    drop(store);
    assert_eq!(names(&place.create().await).await, ["bob", "eve"]);
}

#[cfg(unix)]
#[tokio::test]
async fn a_backup_put_in_the_place_of_an_open_file_lets_nobody_in_whom_it_does_not_know() {
    let place = FilePlace::new();
    let backup = place.dir.path().join("backup.db");
    let store = place.create().await;
    store.close().await;
    fs::copy(&place.path, &backup).unwrap();

    let store = place.open().await;
    store.add(&name("leaver"), &password("x")).await.unwrap();
    for suffix in ["", "-wal", "-shm"] {
        fs::remove_file(format!("{}{suffix}", place.path.display())).unwrap();
    }
    for put_back in [false, true] {
        if put_back {
            fs::copy(&backup, &place.path).unwrap();
        }
        let leaver = name("leaver");
        for error in [
            store.verify("leaver", "x").await.unwrap_err(),
            store.current(&leaver).await.unwrap_err(),
            store.disable(&leaver).await.unwrap_err(),
            store.list_long().await.unwrap_err(),
            store.peers().await.unwrap_err(),
            store.list().await.unwrap_err(),
            store.add(&name("eve"), &password("x")).await.unwrap_err(),
            store.change_password(&leaver, &password("y")).await.unwrap_err(),
            store.delete("leaver").await.unwrap_err(),
        ] {
            assert!(
                matches!(error, StoreError::Database(DatabaseError::Replaced { .. })),
                "{error:?}"
            );
        }
    }
    assert!(place.open().await.verify("leaver", "x").await.unwrap().is_none());
}

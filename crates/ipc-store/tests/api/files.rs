//! The file itself: its mode, its name, and what is left beside it.

use std::fs;

use ipc_store::{StoreError, UserStore};

use crate::support::{Place, name, names, options, password};

#[cfg(unix)]
#[tokio::test]
async fn the_file_and_what_sqlite_puts_beside_it_are_for_the_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;

    let place = Place::new();
    let store = place.create().await;
    store.add(&name("bob"), &password("x")).await.unwrap();
    let mut seen = Vec::new();
    for entry in fs::read_dir(place.dir.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{entry:?}");
        seen.push(entry.file_name().into_string().unwrap());
    }
    seen.sort();
    assert_eq!(seen, ["users.db", "users.db-shm", "users.db-wal"]);
    store.close().await;
    assert_eq!(fs::read_dir(place.dir.path()).unwrap().count(), 1);
}

#[cfg(unix)]
#[test]
fn the_file_is_0600_under_any_umask() {
    use std::os::unix::fs::PermissionsExt as _;
    use std::process::Command;

    // The umask belongs to the whole process, so this test runs once more in children that have one of their own.
    if let Some(path) = std::env::var_os("IPC_STORE_TEST_CREATE") {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let store = options().create(path).await.unwrap();
            store.add(&name("bob"), &password("x")).await.unwrap();
        });
        return;
    }
    for umask in ["000", "022", "077", "777"] {
        let place = Place::new();
        let child = Command::new("sh")
            .args(["-c", "umask $1; exec \"$0\" --exact files::the_file_is_0600_under_any_umask"])
            .arg(std::env::current_exe().unwrap())
            .arg(umask)
            .env("IPC_STORE_TEST_CREATE", &place.path)
            .output()
            .unwrap();
        assert!(child.status.success(), "{umask}: {child:?}");
        let mut files = 0;
        for entry in fs::read_dir(place.dir.path()).unwrap() {
            let entry = entry.unwrap();
            assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{umask} {entry:?}");
            files += 1;
        }
        assert!(files >= 1);
    }
}

#[tokio::test]
async fn creating_where_a_store_is_keeps_its_users() {
    let place = Place::new();
    let store = place.create().await;
    store.add(&name("bob"), &password("x")).await.unwrap();
    store.close().await;
    assert_eq!(names(&place.create().await).await, ["bob"]);
}

#[tokio::test]
async fn users_are_there_after_closing_and_after_mere_dropping() {
    let place = Place::new();
    let store = place.create().await;
    store.add(&name("bob"), &password("x")).await.unwrap();
    store.close().await;
    let store = place.open().await;
    store.add(&name("eve"), &password("x")).await.unwrap();
    drop(store);
    assert_eq!(names(&place.open().await).await, ["bob", "eve"]);
}

#[tokio::test]
async fn names_that_mean_something_to_sqlite_are_plain_file_names_here() {
    for file in ["file:users.db?mode=memory", ":memory:", "100% é.db", "-x", "a?b#c.db"] {
        let place = Place::new();
        let path = place.dir.path().join(file);
        let store = options().create(&path).await.unwrap();
        store.add(&name("bob"), &password("x")).await.unwrap();
        store.close().await;
        assert!(fs::metadata(&path).unwrap().len() > 0, "{file}");
        assert_eq!(names(&options().open(&path).await.unwrap()).await, ["bob"], "{file}");
    }
}

#[tokio::test]
async fn a_path_that_no_file_can_have_is_an_error_and_not_a_panic() {
    for path in ["", "a\0b"] {
        assert!(options().open(path).await.is_err(), "{path:?}");
        assert!(options().create(path).await.is_err(), "{path:?}");
    }
}

#[tokio::test]
async fn a_name_too_long_for_the_system_is_an_error_with_its_cause() {
    let place = Place::new();
    let path = place.dir.path().join("x".repeat(300));
    assert!(matches!(options().create(&path).await, Err(StoreError::Unavailable { .. })));
}

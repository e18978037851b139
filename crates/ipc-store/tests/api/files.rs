//! The file itself, as far as users see it.

use std::fs;

use ipc_store::UserStore;

use crate::support::{Place, name, names, password};

#[cfg(unix)]
#[tokio::test]
async fn the_file_and_what_sqlite_puts_beside_it_are_for_the_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;

    let place = Place::new();
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
    let place = Place::new();
    let store = place.create().await;
    store.add(&name("bob"), &password("x")).await.unwrap();
    store.close().await;
    let store = place.open().await;
    store.add(&name("eve"), &password("x")).await.unwrap();
    drop(store);
    assert_eq!(names(&place.create().await).await, ["bob", "eve"]);
}

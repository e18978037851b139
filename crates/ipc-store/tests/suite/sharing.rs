//! Several stores on one database at the same time.

use ipc_store::UserStore;

use super::place::{Place, name, names, password};

pub(crate) async fn two_stores_that_write_at_the_same_time_both_succeed(place: impl Place) {
    let stores = [("one", place.open().await), ("two", place.open().await)];
    let writers = stores.map(|(tag, store)| {
        tokio::spawn(async move {
            for number in 0..25 {
                let user = name(&format!("{tag}-{number}"));
                store.add(&user, &password("x")).await.unwrap();
                store.change_password(&user, &password("y")).await.unwrap();
                if number % 5 == 0 {
                    store.delete(user.as_str()).await.unwrap();
                }
            }
        })
    });
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!(names(&place.open().await).await.len(), 40);
}

pub(crate) async fn what_one_store_changes_another_sees_at_once(place: impl Place) {
    let (one, two) = (place.open().await, place.open().await);
    one.add(&name("bob"), &password("x")).await.unwrap();
    let version = two.verify("bob", "x").await.unwrap();
    assert!(version.is_some());
    two.change_password(&name("bob"), &password("y")).await.unwrap();
    assert_ne!(super::place::version(&one, "bob").await, version);
    two.delete("bob").await.unwrap();
    assert_eq!(one.current(&name("bob")).await.unwrap(), None);
}

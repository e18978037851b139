//! The calls of a user store.

use std::sync::Arc;

use ipc_store::{StoreError, UserStore};

use super::place::{Place, name, names, password, version};

pub(crate) async fn a_user_that_was_added_can_log_in_and_no_other_can(place: impl Place) {
    let store = place.open().await;
    store.add(&name("bob"), &password("pass321")).await.unwrap();
    assert!(store.verify("bob", "pass321").await.unwrap().is_some());
    for (user, presented) in
        [("bob", "pass322"), ("bob", ""), ("eve", "pass321"), ("", "pass321"), ("", "")]
    {
        assert!(store.verify(user, presented).await.unwrap().is_none(), "{user:?} {presented:?}");
    }
}

pub(crate) async fn a_login_with_anything_at_all_is_an_answer_and_not_an_error(place: impl Place) {
    let store = place.open().await;
    store.add(&name("bob"), &password("pass321")).await.unwrap();
    let long = "x".repeat(1 << 20);
    for user in ["bob", "\0", "bob\0", " bob", "bob\n", "' OR 1=1 --", "%", "_ob", long.as_str()] {
        for presented in ["pass321\0", "\0", long.as_str(), "' OR 1=1 --", "\u{10ffff}"] {
            assert!(
                store.verify(user, presented).await.unwrap().is_none(),
                "{user:.10?} {presented:.10?}"
            );
        }
    }
}

pub(crate) async fn names_are_compared_exactly_but_for_the_spelling_of_one_letter(
    place: impl Place,
) {
    let store = place.open().await;
    store.add(&name("Bob"), &password("one")).await.unwrap();
    store.add(&name("bob"), &password("two")).await.unwrap();
    assert!(store.verify("Bob", "one").await.unwrap().is_some());
    assert!(store.verify("bob", "one").await.unwrap().is_none());
    assert!(store.verify("BOB", "one").await.unwrap().is_none());
    // One letter with its accent, then the letter with a combining accent: they look the same.
    store.add(&name("\u{e9}"), &password("three")).await.unwrap();
    assert!(store.verify("e\u{301}", "three").await.unwrap().is_some());
    assert!(store.verify("e", "three").await.unwrap().is_none());
}

pub(crate) async fn users_are_listed_in_the_order_in_which_they_were_added(place: impl Place) {
    let store = place.open().await;
    assert!(names(&store).await.is_empty());
    for user in ["zoe", "adam", "mia"] {
        store.add(&name(user), &password("x")).await.unwrap();
    }
    store.delete("adam").await.unwrap();
    store.add(&name("bea"), &password("x")).await.unwrap();
    store.add(&name("adam"), &password("x")).await.unwrap();
    store.change_password(&name("zoe"), &password("y")).await.unwrap();
    assert_eq!(names(&store).await, ["zoe", "mia", "bea", "adam"]);
}

pub(crate) async fn a_name_that_is_taken_is_refused_and_the_first_password_stays(
    place: impl Place,
) {
    let store = place.open().await;
    store.add(&name("bob"), &password("first")).await.unwrap();
    let refused = store.add(&name("bob"), &password("second")).await.unwrap_err();
    assert!(matches!(&refused, StoreError::Taken { username } if *username == name("bob")));
    assert_eq!(refused.to_string(), "user bob exists already");
    assert!(store.verify("bob", "first").await.unwrap().is_some());
    assert!(store.verify("bob", "second").await.unwrap().is_none());
}

pub(crate) async fn a_deleted_user_is_gone_at_once(place: impl Place) {
    let store = place.open().await;
    store.add(&name("bob"), &password("pass321")).await.unwrap();
    store.delete("bob").await.unwrap();
    assert!(store.verify("bob", "pass321").await.unwrap().is_none());
    assert_eq!(store.current(&name("bob")).await.unwrap(), None);
    assert!(names(&store).await.is_empty());
}

pub(crate) async fn a_user_that_is_not_there_can_be_neither_deleted_nor_changed(place: impl Place) {
    let store = place.open().await;
    let deleted = store.delete("eve").await.unwrap_err();
    let changed = store.change_password(&name("eve"), &password("x")).await.unwrap_err();
    for refused in [deleted, changed] {
        assert!(matches!(&refused, StoreError::Unknown { username } if username == "eve"));
        assert_eq!(refused.to_string(), "user eve does not exist");
    }
    assert!(names(&store).await.is_empty());
}

pub(crate) async fn a_changed_password_replaces_the_old_one(place: impl Place) {
    let store = place.open().await;
    store.add(&name("bob"), &password("old")).await.unwrap();
    store.change_password(&name("bob"), &password("new")).await.unwrap();
    assert!(store.verify("bob", "old").await.unwrap().is_none());
    assert!(store.verify("bob", "new").await.unwrap().is_some());
}

pub(crate) async fn the_credential_version_stays_until_the_password_is_set_or_the_user_made_anew(
    place: impl Place,
) {
    let store = place.open().await;
    let (bob, same) = (name("bob"), password("same"));
    store.add(&bob, &same).await.unwrap();
    store.add(&name("eve"), &same).await.unwrap();
    let first = store.verify("bob", "same").await.unwrap();
    assert!(first.is_some());
    assert_eq!(store.verify("bob", "same").await.unwrap(), first);
    assert_eq!(version(&store, "bob").await, first);
    assert_ne!(version(&store, "eve").await, first);

    store.change_password(&bob, &same).await.unwrap();
    let second = version(&store, "bob").await;
    assert_ne!(second, first);

    store.delete(bob.as_str()).await.unwrap();
    store.add(&bob, &same).await.unwrap();
    let third = version(&store, "bob").await;
    assert!(third.is_some() && third != first && third != second);
}

pub(crate) async fn a_user_of_the_longest_name_and_password_works(place: impl Place) {
    let store = place.open().await;
    let (user, secret) = ("é".repeat(80), "x".repeat(72));
    store.add(&name(&user), &password(&secret)).await.unwrap();
    assert!(store.verify(&user, &secret).await.unwrap().is_some());
    assert!(store.verify(&user, &"x".repeat(73)).await.unwrap().is_none());
    assert!(store.verify(&user, &"x".repeat(71)).await.unwrap().is_none());
}

pub(crate) async fn many_tasks_share_one_store_as_a_trait_object(place: impl Place) {
    let store: Arc<dyn UserStore> = Arc::new(place.open().await);
    let tasks: Vec<_> = (0..20)
        .map(|number| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                let user = format!("user{number}");
                store.add(&name(&user), &password("x")).await.unwrap();
                assert!(store.verify(&user, "x").await.unwrap().is_some());
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(store.list().await.unwrap().len(), 20);
}

//! What is known of a user beside name and password, and of the certificates that servers saw.

use std::time::{SystemTime, UNIX_EPOCH};

use ipc_store::{
    Fingerprint, LoginTally, PeerName, PeerSighting, StoreError, UserRecord, UserStore,
};

use super::place::{Place, name, names, password, version};

fn peer(text: &str) -> PeerName {
    PeerName::parse(text).unwrap()
}

async fn record(store: &impl UserStore, user: &str) -> UserRecord {
    let records = store.list_long().await.unwrap();
    records.into_iter().find(|record| record.username.as_str() == user).unwrap()
}

fn tally(user: &str, succeeded_at: Option<u64>, failed: u64) -> LoginTally {
    let mut tally = LoginTally::new(name(user));
    if let Some(at) = succeeded_at {
        tally.succeeded(at);
    }
    (0..failed).for_each(|_| tally.failed());
    tally
}

pub(crate) async fn a_disabled_user_is_refused_and_has_no_sessions_and_others_are_not_touched(
    place: impl Place,
) {
    let (store, server) = (place.open().await, place.open().await);
    for user in ["bob", "eve"] {
        store.add(&name(user), &password("x")).await.unwrap();
    }
    let before = server.verify("bob", "x").await.unwrap();
    assert!(before.is_some());
    store.disable(&name("bob")).await.unwrap();
    store.disable(&name("bob")).await.unwrap();
    assert_eq!(server.current(&name("bob")).await.unwrap(), None);
    for presented in ["x", "wrong"] {
        assert_eq!(server.verify("bob", presented).await.unwrap(), None);
    }
    assert!(server.verify("eve", "x").await.unwrap().is_some());
    assert!(record(&server, "bob").await.is_disabled && !record(&server, "eve").await.is_disabled);
    // A new password lets nobody in.
    store.change_password(&name("bob"), &password("y")).await.unwrap();
    assert_eq!(server.verify("bob", "y").await.unwrap(), None);
    assert_eq!(names(&server).await, ["bob", "eve"]);
}

pub(crate) async fn an_enabled_user_logs_in_again_and_sessions_from_before_stay_ended(
    place: impl Place,
) {
    let store = place.open().await;
    store.add(&name("bob"), &password("x")).await.unwrap();
    let mut versions = vec![version(&store, "bob").await];
    for _ in 0..3 {
        store.disable(&name("bob")).await.unwrap();
        store.enable(&name("bob")).await.unwrap();
        store.enable(&name("bob")).await.unwrap();
        let now = version(&store, "bob").await;
        assert!(now.is_some() && !versions.contains(&now));
        assert_eq!(store.verify("bob", "x").await.unwrap(), now);
        assert_eq!(store.verify("bob", "wrong").await.unwrap(), None);
        versions.push(now);
    }
    assert!(!record(&store, "bob").await.is_disabled);
}

pub(crate) async fn a_user_is_bound_to_one_peer_until_unbound(place: impl Place) {
    let store = place.open().await;
    store.add(&name("bob"), &password("x")).await.unwrap();
    let before = version(&store, "bob").await;
    for bound in ["worker1", "worker2"] {
        store.bind(&name("bob"), Some(&peer(bound))).await.unwrap();
        let user = store.current(&name("bob")).await.unwrap().unwrap();
        assert_eq!(user.bound_peer, Some(peer(bound)));
        assert_eq!(record(&store, "bob").await.bound_peer.as_deref(), Some(bound));
    }
    assert_eq!(version(&store, "bob").await, before, "sessions with the right certificate go on");
    store.bind(&name("bob"), None).await.unwrap();
    assert_eq!(store.current(&name("bob")).await.unwrap().unwrap().bound_peer, None);
    assert_eq!(record(&store, "bob").await.bound_peer, None);
}

pub(crate) async fn a_user_whom_another_program_bound_to_what_is_no_peer_is_not_let_in(
    place: impl Place,
) {
    let store = place.open().await;
    store.add(&name("bob"), &password("x")).await.unwrap();
    place.bind_all_to("no peer").await;
    assert_eq!(store.current(&name("bob")).await.unwrap(), None);
    assert_eq!(record(&store, "bob").await.bound_peer.as_deref(), Some("no peer"));
    store.bind(&name("bob"), None).await.unwrap();
    assert!(store.current(&name("bob")).await.unwrap().is_some());
}

pub(crate) async fn a_user_that_is_not_there_can_be_neither_disabled_nor_enabled_nor_bound(
    place: impl Place,
) {
    let store = place.open().await;
    store.add(&name("bob"), &password("x")).await.unwrap();
    let eve = name("eve");
    for refused in [
        store.disable(&eve).await,
        store.enable(&eve).await,
        store.bind(&eve, Some(&peer("worker1"))).await,
        store.bind(&eve, None).await,
    ] {
        let refused = refused.unwrap_err();
        assert!(matches!(&refused, StoreError::Unknown { username } if username == "eve"));
    }
    let bob = record(&store, "bob").await;
    assert!(!bob.is_disabled && bob.bound_peer.is_none());
}

pub(crate) async fn a_user_made_anew_is_neither_disabled_nor_bound(place: impl Place) {
    let store = place.open().await;
    store.add(&name("bob"), &password("x")).await.unwrap();
    store.disable(&name("bob")).await.unwrap();
    store.bind(&name("bob"), Some(&peer("worker1"))).await.unwrap();
    store.note_logins(&[tally("bob", Some(5), 3)]).await.unwrap();
    store.delete("bob").await.unwrap();
    store.add(&name("bob"), &password("x")).await.unwrap();
    let mut expected = UserRecord::new(name("bob"));
    expected.created_at = record(&store, "bob").await.created_at;
    assert_eq!(record(&store, "bob").await, expected);
    assert!(store.verify("bob", "x").await.unwrap().is_some());
}

pub(crate) async fn a_list_tells_when_a_user_was_added_and_how_logins_went(place: impl Place) {
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let store = place.open().await;
    let before = now();
    for user in ["bob", "eve"] {
        store.add(&name(user), &password("x")).await.unwrap();
    }
    let created_at = record(&store, "bob").await.created_at.unwrap();
    assert!((before..=now()).contains(&created_at));
    let logins = async || {
        let bob = record(&store, "bob").await;
        (bob.last_login_at, bob.failed_logins)
    };
    assert_eq!(logins().await, (None, 0));
    store.note_logins(&[tally("bob", None, 2), tally("nobody", Some(9), 9)]).await.unwrap();
    assert_eq!(logins().await, (None, 2));
    store.note_logins(&[tally("bob", None, 1)]).await.unwrap();
    assert_eq!(logins().await, (None, 3));
    store.note_logins(&[tally("bob", Some(100), 1)]).await.unwrap();
    assert_eq!(logins().await, (Some(100), 1), "one failed after the login");
    // Another server is later to write of an earlier login.
    store.note_logins(&[tally("bob", Some(90), 2)]).await.unwrap();
    assert_eq!(logins().await, (Some(100), 3));
    store.note_logins(&[]).await.unwrap();
    let eve = record(&store, "eve").await;
    assert_eq!((eve.last_login_at, eve.failed_logins), (None, 0));
    assert_eq!(names(&store).await, ["bob", "eve"], "nobody was added");
}

fn seen(number: u8, at: u64) -> PeerSighting {
    PeerSighting::new(Fingerprint::from_bytes([number; 32]), at)
}

pub(crate) async fn certificates_are_listed_as_they_were_seen_last(place: impl Place) {
    let (store, reader) = (place.open().await, place.open().await);
    assert_eq!(reader.peers().await.unwrap(), []);
    let mut full = seen(1, 10);
    full.name = Some(peer("worker1"));
    full.serial = Some("0a".into());
    full.user = Some(name("bob"));
    full.envelope_key_id = Some("k1".into());
    store.record_sightings(&[full.clone(), seen(2, 20)]).await.unwrap();
    assert_eq!(reader.peers().await.unwrap(), [seen(2, 20), full.clone()]);
    // What is not said stays; what is older changes nothing.
    store.record_sightings(&[seen(1, 30)]).await.unwrap();
    let mut older = full.clone();
    (older.last_seen_at, older.user) = (29, Some(name("eve")));
    store.record_sightings(&[older]).await.unwrap();
    full.last_seen_at = 30;
    assert_eq!(reader.peers().await.unwrap(), [full.clone(), seen(2, 20)]);
    full.envelope_key_id = Some("k2".into());
    store.record_sightings(std::slice::from_ref(&full)).await.unwrap();
    assert_eq!(reader.peers().await.unwrap()[0], full);
}

pub(crate) async fn no_more_certificates_are_kept_than_ten_thousand(place: impl Place) {
    let store = place.open().await;
    let many: Vec<_> = (0..10_002_u64)
        .map(|number| {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&number.to_be_bytes());
            PeerSighting::new(Fingerprint::from_bytes(bytes), number)
        })
        .collect();
    store.record_sightings(&many).await.unwrap();
    let kept = store.peers().await.unwrap();
    assert_eq!((kept.len(), kept.last().unwrap().last_seen_at), (10_000, 2));
}

pub(crate) async fn users_are_copied_with_hashes_rights_and_dates_and_their_sessions_go_on(
    place: impl Place,
) {
    let store = place.open().await;
    for user in ["zoe", "bob", "eve"] {
        store.add(&name(user), &password(user)).await.unwrap();
    }
    store.disable(&name("bob")).await.unwrap();
    store.enable(&name("bob")).await.unwrap();
    store.disable(&name("eve")).await.unwrap();
    store.bind(&name("zoe"), Some(&peer("worker1"))).await.unwrap();
    store.note_logins(&[tally("zoe", Some(100), 2)]).await.unwrap();
    let (exported, bob) = (store.export().await.unwrap(), version(&store, "bob").await);
    assert!(bob.is_some() && exported[1].password_hash().starts_with("$2b$"));
    assert!(!format!("{exported:?}").contains("$2b$"), "a hash is not shown");
    for user in ["zoe", "bob", "eve"] {
        store.delete(user).await.unwrap();
    }
    let imported = store.import(&exported, false).await.unwrap();
    assert_eq!((imported.added, imported.unchanged, imported.overwritten), (3, 0, 0));
    assert_eq!(store.export().await.unwrap(), exported);
    assert_eq!(version(&store, "bob").await, bob);
    assert_eq!(store.verify("bob", "bob").await.unwrap(), bob);
    assert_eq!(store.verify("eve", "eve").await.unwrap(), None);
    assert_eq!(names(&store).await, ["zoe", "bob", "eve"]);
    // Again: nothing is left to do, and what was noted since stays.
    store.note_logins(&[tally("zoe", Some(200), 0)]).await.unwrap();
    let imported = store.import(&exported, false).await.unwrap();
    assert_eq!((imported.added, imported.unchanged, imported.overwritten), (0, 3, 0));
    assert_eq!(record(&store, "zoe").await.last_login_at, Some(200));
}

pub(crate) async fn a_user_with_other_rights_is_overwritten_only_when_told_and_else_nobody_is_copied(
    place: impl Place,
) {
    let store = place.open().await;
    for user in ["bob", "eve", "zoe"] {
        store.add(&name(user), &password("old")).await.unwrap();
    }
    let exported = store.export().await.unwrap();
    store.change_password(&name("bob"), &password("new")).await.unwrap();
    store.disable(&name("eve")).await.unwrap();
    store.delete("zoe").await.unwrap();
    let refused = store.import(&exported, false).await.unwrap_err();
    let StoreError::Differs { usernames } = &refused else { panic!("{refused:?}") };
    assert_eq!(*usernames, [name("bob"), name("eve")]);
    assert_eq!(names(&store).await, ["bob", "eve"], "all or none");
    assert!(store.verify("bob", "new").await.unwrap().is_some());
    let imported = store.import(&exported, true).await.unwrap();
    assert_eq!((imported.added, imported.unchanged, imported.overwritten), (1, 0, 2));
    for user in ["bob", "eve", "zoe"] {
        assert!(store.verify(user, "old").await.unwrap().is_some(), "{user}");
    }
}

pub(crate) async fn a_closed_store_refuses_instead_of_hanging(place: impl Place) {
    let store = place.open().await;
    store.close().await;
    store.list().await.unwrap_err();
    store.add(&name("a"), &password("x")).await.unwrap_err();
}

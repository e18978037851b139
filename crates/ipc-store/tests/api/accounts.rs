//! What is known of a user beside name and password, and of the certificates that servers saw.

use std::time::{SystemTime, UNIX_EPOCH};

use ipc_store::{
    Fingerprint, LoginTally, PeerName, PeerSighting, StoreError, UserRecord, UserStore,
};

use crate::support::{Place, name, names, password, version};

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

#[tokio::test]
async fn a_disabled_user_is_refused_and_has_no_sessions_and_others_are_not_touched() {
    let place = Place::new();
    let (store, server) = (place.create().await, place.open().await);
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

#[tokio::test]
async fn an_enabled_user_logs_in_again_and_sessions_from_before_stay_ended() {
    let place = Place::new();
    let store = place.create().await;
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

#[tokio::test]
async fn a_user_is_bound_to_one_peer_until_unbound() {
    let place = Place::new();
    let store = place.create().await;
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

#[tokio::test]
async fn a_user_whom_another_program_bound_to_what_is_no_peer_is_not_let_in() {
    let place = Place::new();
    let store = place.create().await;
    store.add(&name("bob"), &password("x")).await.unwrap();
    drop(place.raw("UPDATE users SET bound_peer = 'no peer'").await);
    assert_eq!(store.current(&name("bob")).await.unwrap(), None);
    assert_eq!(record(&store, "bob").await.bound_peer.as_deref(), Some("no peer"));
    store.bind(&name("bob"), None).await.unwrap();
    assert!(store.current(&name("bob")).await.unwrap().is_some());
}

#[tokio::test]
async fn a_user_that_is_not_there_can_be_neither_disabled_nor_enabled_nor_bound() {
    let place = Place::new();
    let store = place.create().await;
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

#[tokio::test]
async fn a_user_made_anew_is_neither_disabled_nor_bound() {
    let place = Place::new();
    let store = place.create().await;
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

#[tokio::test]
async fn a_list_tells_when_a_user_was_added_and_how_logins_went() {
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let place = Place::new();
    let store = place.create().await;
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

#[tokio::test]
async fn certificates_are_listed_as_they_were_seen_last() {
    let place = Place::new();
    let (store, reader) = (place.create().await, place.open().await);
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

#[tokio::test]
async fn no_more_certificates_are_kept_than_ten_thousand() {
    let place = Place::new();
    let store = place.create().await;
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

#[tokio::test]
async fn what_another_program_wrote_among_the_certificates_does_no_harm() {
    let place = Place::new();
    let store = place.create().await;
    drop(
        place
            .raw(
                "INSERT INTO peers (fingerprint, name, last_seen_at, user) VALUES
                 ('text', NULL, 1, NULL), (x'00', NULL, 2, NULL),
                 (zeroblob(32), 'no peer', -3, ' no user')",
            )
            .await,
    );
    assert_eq!(store.peers().await.unwrap(), [seen(0, 0)]);
}

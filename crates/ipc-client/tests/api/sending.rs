//! Messages that arrive: what goes over the wire, on how many connections, and in which order.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use ipc_client::{Client, Outcome, SendError};
use rustls_pki_types::ServerName;
use serde_json::json;

use crate::fake::{Answer, Fake, http, success, took, with_session};
use crate::fixture::{Place, built, issue, now_secs};
use crate::ways::{Way, both_ways};

#[test]
fn a_message_is_sealed_for_its_route_and_arrives_as_it_was_sent() {
    let place = Place::new();
    let fake = Fake::tls(place.tls(), with_session(|_| success()));
    let sent = place.client(&fake).send(&json!({"test": 1, "ü": [1.5, null]})).wait().unwrap();
    assert!(!sent.duplicate);

    let submits = fake.submits();
    let last = submits.last().unwrap();
    assert_eq!(last.id, sent.id.to_string());
    assert_eq!(last.to, "/message/submit");
    assert_eq!(last.body, r#"{"test":1,"ü":[1.5,null]}"#);
    assert_eq!(last.session.as_deref(), Some(crate::fake::TOKEN));
    assert!(last.head.starts_with("post "), "{}", last.head);
    assert!(last.head.contains("content-type: application/octet-stream\r\n"), "{}", last.head);
    assert!(
        last.head.contains(&format!("host: localhost:{}\r\n", fake.address().port())),
        "{}",
        last.head
    );
    assert!(last.head.contains("accept-encoding: identity\r\n"), "{}", last.head);
}

fn one_connection_and_one_login_carry_many_messages_in_order(way: Way) {
    let place = Place::new();
    let fake = Fake::tls(place.tls(), with_session(|_| success()));
    let client = place.client_by(way, &fake);
    for n in 0..50 {
        client.send(&json!({"n": n})).wait().unwrap();
    }
    assert_eq!((fake.connections(), fake.logins().len()), (1, 1));
    let bodies: Vec<_> =
        fake.admitted("/message/submit").into_iter().map(|seen| seen.body).collect();
    assert_eq!(bodies, (0..50).map(|n| format!(r#"{{"n":{n}}}"#)).collect::<Vec<_>>());
}

#[test]
fn the_address_is_dialled_and_the_name_is_verified() {
    let place = Place::new();
    for name in ["testServer1.example", "under_score", "::1", "192.0.2.7"] {
        assert!(ServerName::try_from(name).is_ok());
        let pair = issue(&place.authority, name, now_secs());
        let fake = Fake::tls(place.tls_as(&pair), with_session(|_| success()));
        for address in [fake.address().to_string(), format!("localhost:{}", fake.address().port())]
        {
            let client =
                Client::builder(&place.home).server(name, address).build().unwrap().blocking();
            client.send(&json!({})).wait().unwrap_or_else(|error| panic!("{name}: {error:?}"));
        }
    }
}

fn a_message_of_megabytes_gets_through(way: Way) {
    let place = Place::new();
    let fake = Fake::tls(place.tls(), with_session(|_| success()));
    let text = "x".repeat(3 * 1024 * 1024);
    let client = place.client_by(way, &fake);
    for _ in 0..2 {
        client.send(&json!({"text": text})).wait().unwrap();
    }
    assert_eq!(fake.submits().last().unwrap().body.len(), text.len() + r#"{"text":""}"#.len());
}

#[test]
fn a_message_beyond_the_limit_is_refused_before_it_is_sent() {
    let place = Place::new();
    let fake = Fake::tls(place.tls(), with_session(|_| success()));
    let client = place.builder(&fake).plaintext_bytes_max(1000).build().unwrap().blocking();
    // The second message is within the limit, but its frame is not.
    for length in [2000, 980] {
        let error = client.send(&json!({"t": "x".repeat(length)})).wait().unwrap_err();
        assert!(
            matches!(error, SendError::TooLarge { bytes, bytes_max: 1000 } if bytes > 1000),
            "{error:?}"
        );
        assert_eq!(error.outcome(), Outcome::Refused);
    }
    assert_eq!(fake.connections(), 0);
    client.send(&json!({"t": "x".repeat(600)})).wait().unwrap();
}

#[test]
fn what_is_no_json_object_is_refused_before_it_is_sent() {
    let place = Place::new();
    let fake = Fake::tls(place.tls(), with_session(|_| success()));
    let client = place.client(&fake);
    for value in [json!([1]), json!("x"), json!(null)] {
        assert!(matches!(client.send(&value).wait(), Err(SendError::Body(_))));
    }
    assert!(matches!(client.send(&[("x", f64::NAN)]).wait(), Err(SendError::Body(_))));
    assert_eq!(fake.connections(), 0);
}

fn a_duplicate_is_told(way: Way) {
    let place = Place::new();
    let fake = Fake::tls(
        place.tls(),
        with_session(|_| Answer::Send(http(200, "Web-IPC-Duplicate: true\r\n", b"success"))),
    );
    assert!(place.client_by(way, &fake).send(&json!({})).wait().unwrap().duplicate);
}

fn sends_beyond_the_connections_wait_and_do_not_fail(way: Way) {
    let place = Place::new();
    let fake = Fake::tls(place.tls(), with_session(took));
    let client = built(way, place.builder(&fake).connections_max(3)).blocking();
    std::thread::scope(|scope| {
        for n in 0..40 {
            let client = &client;
            scope.spawn(move || client.send(&json!({"n": n})).wait().unwrap());
        }
    });
    assert!(fake.open_max() <= 3, "{} connections", fake.open_max());
    let delivered: BTreeSet<_> = fake.messages().into_iter().collect();
    assert_eq!(delivered.len(), 40);
}

both_ways!(
    one_connection_and_one_login_carry_many_messages_in_order,
    a_message_of_megabytes_gets_through,
    a_duplicate_is_told,
    sends_beyond_the_connections_wait_and_do_not_fail,
);

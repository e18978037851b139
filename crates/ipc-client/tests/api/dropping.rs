//! Dropped futures: messages that were not in flight are not sent, and what waits for an answer is
//! released.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use serde_json::json;

use crate::fake::{Answer, Fake, counted, grant, problem, success, with_session};
use crate::fixture::{Place, built};
use crate::gate::{Gate, teller};
use crate::ways::{Way, both_ways};
use ipc_client::ProblemCode;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap()
}

#[test]
fn a_send_dropped_while_it_waits_for_a_connection_is_not_sent() {
    let place = Place::new();
    let gate = std::sync::Arc::new(Gate::default());
    let (tell, arrival) = teller();
    let kept = gate.clone();
    let fake = Fake::tls(
        place.tls(),
        with_session(move |seen| {
            tell(&seen.body);
            kept.pass();
            success()
        }),
    );
    let client = place.builder(&fake).connections_max(1).build().unwrap();
    let runtime = runtime();
    let first = runtime.spawn(client.send(&json!({"n": 0})));
    assert_eq!(arrival.recv().unwrap(), r#"{"n":0}"#);
    let others: Vec<_> = (1..100).map(|n| runtime.spawn(client.send(&json!({"n": n})))).collect();
    for other in others {
        other.abort();
        assert!(runtime.block_on(other).unwrap_err().is_cancelled());
    }
    gate.open();
    runtime.block_on(first).unwrap().unwrap();
    client.blocking().send(&json!({"n": 100})).wait().unwrap();
    let bodies: Vec<_> =
        fake.admitted("/message/submit").into_iter().map(|seen| seen.body).collect();
    assert_eq!(bodies, [r#"{"n":0}"#, r#"{"n":100}"#]);
}

#[test]
fn a_send_dropped_while_another_logs_in_for_it_is_not_sent() {
    let place = Place::new();
    let gate = std::sync::Arc::new(Gate::default());
    let (tell, arrival) = teller();
    let kept = gate.clone();
    let fake = Fake::tls(place.tls(), move |seen| match seen.path.as_str() {
        "/client/auth" => {
            tell("login");
            kept.pass();
            grant(seen, crate::fake::TOKEN)
        }
        _ if seen.session.is_some() => success(),
        _ => {
            tell(&seen.body);
            problem(ProblemCode::SessionExpired, "")
        }
    });
    let client = place.builder(&fake).build().unwrap();
    let runtime = runtime();
    let first = runtime.spawn(client.send(&json!({"n": 1})));
    while arrival.recv().unwrap() != "login" {}
    // The server's only thread is held up, so these messages wait for a response.
    let second = runtime.spawn(client.send(&json!({"n": 2})));
    second.abort();
    assert!(runtime.block_on(second).unwrap_err().is_cancelled());
    gate.open();
    runtime.block_on(first).unwrap().unwrap();
    client.blocking().send(&json!({"n": 3})).wait().unwrap();
    let bodies: Vec<_> =
        fake.admitted("/message/submit").into_iter().map(|seen| seen.body).collect();
    assert_eq!(bodies, [r#"{"n":1}"#, r#"{"n":3}"#]);
}

fn a_send_dropped_in_a_pause_ends_there(way: Way) {
    let place = Place::new();
    let (tell, arrival) = teller();
    let fake = Fake::tls(
        place.tls(),
        counted(move |seen, _| {
            tell(&seen.body);
            problem(ProblemCode::InboxFull, "Retry-After: 300\r\n")
        }),
    );
    let client = built(way, place.builder(&fake).timeout(Duration::from_secs(480)));
    let runtime = runtime();
    let send = runtime.spawn(client.send(&json!({"n": 1})));
    arrival.recv().unwrap();
    send.abort();
    // The thread ends with its last call and closes its connection, and does not wait for five
    // minutes.
    drop(client);
    fake.wait_for_goodbye();
}

fn a_send_dropped_on_its_way_is_not_said_to_be_sent_again(way: Way) {
    crate::logged::watch();
    let place = Place::new();
    let gate = std::sync::Arc::new(Gate::default());
    let (tell, arrival) = teller();
    let kept = gate.clone();
    let fake = Fake::tls(
        place.tls(),
        counted(move |seen, turn| match turn {
            0 => success(),
            _ => {
                tell(&seen.body);
                kept.pass();
                problem(ProblemCode::InboxFull, "Retry-After: 377\r\n")
            }
        }),
    );
    let client = built(way, place.builder(&fake).timeout(Duration::from_secs(480)));
    let runtime = runtime();
    // With a session, the next message is in flight with its first attempt.
    runtime.block_on(client.send(&json!({"n": 0}))).unwrap();
    let send = runtime.spawn(client.send(&json!({"n": 1})));
    arrival.recv().unwrap();
    send.abort();
    assert!(runtime.block_on(send).unwrap_err().is_cancelled());
    gate.open();
    drop(client);
    fake.wait_for_goodbye();
    // No other test asks for a pause of this length.
    assert!(!crate::logged::so_far().contains("377000 ms"));
}

fn a_request_that_nobody_waits_for_frees_its_connection(way: Way) {
    let place = Place::new();
    let (tell, arrival) = teller();
    let fake = Fake::tls(
        place.tls(),
        with_session(move |seen| match seen.path.as_str() {
            "/message/request" => {
                tell(&seen.body);
                Answer::Hang
            }
            _ => success(),
        }),
    );
    let client = built(way, place.builder(&fake).connections_max(1));
    let runtime = runtime();
    for n in 0..3 {
        let request = runtime.spawn(client.request(&json!({"n": n})));
        arrival.recv().unwrap();
        request.abort();
        let _ = runtime.block_on(request);
    }
    client.blocking().send(&json!({})).wait().unwrap();
    assert_eq!(fake.admitted("/message/submit").len(), 1);
}

#[test]
fn a_send_all_that_nobody_waits_for_sends_no_further_batch() {
    let place = Place::new();
    let (tell, arrival) = teller();
    let fake = Fake::tls(
        place.tls(),
        with_session(move |seen| match seen.path.as_str() {
            "/message/batch" => {
                tell("batch");
                problem(ProblemCode::InboxFull, "Retry-After: 1\r\n")
            }
            _ => success(),
        }),
    );
    let client = place.builder(&fake).build().unwrap();
    let runtime = runtime();
    let all = client.send_all((0..10_000).map(|n| json!({"n": n})));
    let all = runtime.spawn(all.into_future());
    arrival.recv().unwrap();
    all.abort();
    assert!(runtime.block_on(all).unwrap_err().is_cancelled());
    drop(client);
    fake.wait_for_goodbye();
    assert_eq!(fake.admitted("/message/batch").len(), 1);
}

both_ways!(
    a_send_dropped_in_a_pause_ends_there,
    a_send_dropped_on_its_way_is_not_said_to_be_sent_again,
    a_request_that_nobody_waits_for_frees_its_connection,
);

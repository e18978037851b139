//! A server of the Python tool: the wire, what is sent again and what not, and what it does not
//! have. `xtask` has the same with Python.
#![allow(clippy::unwrap_used)]

use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ipc_client::{ClientBuilder, Outcome, PythonFault, Remedy, SendError};
use serde_json::json;

use crate::fake::{Answer, Fake, Plan, Seen, http};
use crate::fixture::{PASSWORD, Place};

fn answer(status: u16, text: &str) -> Answer {
    Answer::Send(http(status, "", text.as_bytes()))
}

fn success() -> Answer {
    answer(200, "success")
}

/// The script of a server of the Python tool, which answers a message after a login by `accept`.
fn python(
    accept: impl Fn(&Seen) -> Answer + Send + Sync + 'static,
) -> impl Fn(&Seen) -> Answer + Send + Sync + 'static {
    let knows_the_client = AtomicBool::new(false);
    move |seen| match seen.path.as_str() {
        "/is/running" => answer(200, "Web-Server is running"),
        "/client/auth" => {
            knows_the_client.store(true, Ordering::SeqCst);
            success()
        }
        "/message/submit" if knows_the_client.load(Ordering::SeqCst) => accept(seen),
        "/message/submit" => answer(419, "expired"),
        other => panic!("the Python tool has no {other}"),
    }
}

fn builder(place: &Place, fake: &Fake) -> ClientBuilder {
    // A channel would be refused; that none is asked for is tested.
    place.builder(fake).channel(true).python_compat()
}

fn paths(fake: &Fake) -> Vec<String> {
    fake.seen().into_iter().map(|seen| seen.path).collect()
}

fn bodies(fake: &Fake) -> Vec<String> {
    fake.submits().into_iter().map(|seen| seen.body).collect()
}

#[test]
fn a_message_and_a_login_are_pickled_dicts_in_text_without_a_type() {
    let place = Place::new();
    let fake = Fake::tls(place.tls(), python(|_| success()));
    let client = builder(&place, &fake).build().unwrap().blocking();
    let message = json!({"n": 1, "x": 1.0, "big": u64::MAX, "list": [null, true, "é"]});
    let sent = client.send(&message).wait().unwrap();
    assert!(!sent.duplicate);
    client.send(&json!({"n": 2})).wait().unwrap();
    let (submit, auth) = ("/message/submit", "/client/auth");
    assert_eq!(paths(&fake), [submit, auth, submit, submit]);
    let text = r#"{"big":18446744073709551615,"list":[null,true,"é"],"n":1,"x":1.0}"#;
    assert_eq!(bodies(&fake), [text, text, r#"{"n":2}"#]);
    let login: serde_json::Value = serde_json::from_str(&fake.logins()[0].body).unwrap();
    assert_eq!(login, json!({"username": "ipc-admin", "password": PASSWORD}));
    for seen in fake.seen() {
        assert!(seen.head.starts_with("post ") && !seen.head.contains("content-type"), "{seen:?}");
    }
    assert_eq!((fake.connections(), fake.openings()), (1, 0));
    assert!(place.kept_sessions().is_empty());
    assert!(client.is_running().unwrap());
}

#[test]
fn many_messages_go_one_by_one_over_one_connection_and_in_order() {
    let place = Place::new();
    let fake = Fake::tls(place.tls(), python(|_| success()));
    let client = builder(&place, &fake).connections_max(4).build().unwrap().blocking();
    let report = client.send_all((0..200).map(|n| json!({"n": n}))).wait().unwrap();
    assert_eq!((report.sent, report.refused), (200, 0));
    let expected: Vec<_> = (0..200).map(|n| format!(r#"{{"n":{n}}}"#)).collect();
    assert_eq!(bodies(&fake)[1..], expected);
    assert_eq!((fake.connections(), fake.logins().len()), (1, 1));
}

#[test]
fn a_login_that_has_ended_is_repeated_and_one_that_does_not_hold_is_not() {
    let place = Place::new();
    let fake = Fake::tls(
        place.tls(),
        python(|seen| if seen.turn == 2 { answer(419, "expired") } else { success() }),
    );
    let client = builder(&place, &fake).build().unwrap().blocking();
    for n in 0..3 {
        client.send(&json!({"n": n})).wait().unwrap();
    }
    assert_eq!((fake.logins().len(), fake.submits().len()), (2, 5));

    let fake = Fake::tls(place.tls(), python(|_| answer(419, "expired")));
    let client = builder(&place, &fake).build().unwrap().blocking();
    let error = client.send(&json!({})).wait().unwrap_err();
    assert_eq!((error.outcome(), error.status()), (Outcome::Refused, Some(419)), "{error}");
    assert!(error.to_string().contains("no login from this address"), "{error}");
    assert_eq!(fake.logins().len(), 1);
}

#[test]
fn a_refused_login_ends_the_call() {
    let place = Place::new();
    let fake = Fake::tls(place.tls(), |seen: &Seen| match seen.is_login() {
        true => answer(401, "Unauthorized"),
        false => answer(419, "expired"),
    });
    let client = builder(&place, &fake).build().unwrap().blocking();
    let error = client.send(&json!({})).wait().unwrap_err();
    assert!(matches!(error, SendError::BadCredentials { .. }), "{error:?}");
    assert_eq!((fake.logins().len(), fake.submits().len()), (1, 1));
}

#[test]
fn failed_means_that_the_message_could_not_be_read() {
    let place = Place::new();
    let fake = Fake::tls(place.tls(), python(|_| answer(500, "failed")));
    let client = builder(&place, &fake).build().unwrap().blocking();
    let error = client.send(&json!({})).wait().unwrap_err();
    assert!(matches!(error, SendError::PythonTool { fault: PythonFault::NotRead }), "{error:?}");
    assert_eq!((error.outcome(), error.status()), (Outcome::Refused, Some(500)));
    assert_eq!(error.remedy(), Some(Remedy::UseServersKeys));
    assert!(!error.is_retryable());
    assert_eq!(fake.submits().len(), 2);
}

#[test]
fn what_may_have_arrived_is_not_sent_again() {
    let place = Place::new();
    let ends: [fn() -> Answer; 4] = [
        || Answer::Close,
        || Answer::SendAndClose(b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\nsuc".to_vec()),
        // Of a proxy, or of the framework.
        || answer(500, "Internal Server Error"),
        || answer(502, "Bad Gateway"),
    ];
    for end in ends {
        let fake = Fake::tls(place.tls(), python(move |_| end()));
        let client = builder(&place, &fake).build().unwrap().blocking();
        let error = client.send(&json!({})).wait().unwrap_err();
        assert_eq!(error.outcome(), Outcome::NotKnown, "{error:?}");
        assert!(!error.is_timeout(), "{error:?}");
        assert_eq!(fake.submits().len(), 2, "one without a login, one with it");
        // The client goes on.
        assert!(client.is_running().unwrap());
    }
    let fake = Fake::tls(place.tls(), python(|_| Answer::Hang));
    let client = builder(&place, &fake).build().unwrap().blocking();
    let error = client.send(&json!({})).timeout(Duration::from_secs(2)).wait().unwrap_err();
    assert_eq!(error.outcome(), Outcome::NotKnown, "{error:?}");
    assert_eq!(fake.submits().len(), 2);
}

#[test]
fn of_many_messages_those_behind_a_lost_answer_are_not_sent() {
    let place = Place::new();
    let fake = Fake::tls(
        place.tls(),
        python(|seen| if seen.turn == 5 { Answer::Close } else { success() }),
    );
    let client = builder(&place, &fake).build().unwrap().blocking();
    let error = client.send_all((0..50).map(|n| json!({"n": n}))).wait().unwrap_err();
    assert_eq!(error.source.outcome(), Outcome::NotKnown, "{error:?}");
    assert_eq!(error.report.sent, 4);
    assert_eq!(fake.submits().len(), 6, "one without a login");
}

#[test]
fn what_was_not_begun_is_tried_again() {
    let place = Place::new();
    // 503 says that nothing was begun.
    let fake = Fake::tls(
        place.tls(),
        python(|seen| match seen.turn {
            1 | 2 => answer(503, "Service Unavailable"),
            _ => success(),
        }),
    );
    let client = builder(&place, &fake).build().unwrap().blocking();
    client.send(&json!({})).wait().unwrap();
    assert_eq!(fake.submits().len(), 4);

    // Nobody listens yet.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let client = ipc_client::Client::builder(&place.home)
        .server("localhost", format!("127.0.0.1:{port}"))
        .python_compat()
        .build()
        .unwrap()
        .blocking();
    std::thread::scope(|scope| {
        let sending = scope.spawn(|| client.send(&json!({"n": 1})).wait());
        let config = place.tls();
        let fake = Fake::start(port, move |_| Plan::Tls(config.clone()), python(|_| success()));
        sending.join().unwrap().unwrap();
        assert_eq!(fake.submits().len(), 2);
    });
}

#[test]
fn what_that_server_does_not_have_is_refused_before_anything_is_sent() {
    let place = Place::new();
    let fake = Fake::tls(place.tls(), python(|_| success()));
    let client = builder(&place, &fake).plaintext_bytes_max(1000).build().unwrap().blocking();
    let error = client.request(&json!({})).wait().unwrap_err();
    assert!(
        matches!(error, SendError::PythonTool { fault: PythonFault::Lacks { what: "replies" } }),
        "{error:?}"
    );
    assert_eq!(error.outcome(), Outcome::Refused);
    let twice = serde_json::value::RawValue::from_string(r#"{"a":1,"a":2}"#.to_owned()).unwrap();
    let error = client.send(&twice).wait().unwrap_err();
    assert!(
        matches!(&error, SendError::PythonTool { fault: PythonFault::NotPickled { .. } }),
        "{error:?}"
    );
    let error = client.send(&json!({"long": "x".repeat(2000)})).wait().unwrap_err();
    assert!(matches!(error, SendError::TooLarge { .. }), "{error:?}");
    assert!(fake.seen().is_empty());
}

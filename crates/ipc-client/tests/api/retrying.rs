//! Temporary failures: what is sent again, for how long, and what the caller learns.
#![allow(clippy::unwrap_used)]

use std::error::Error;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use ipc_client::{Client, Outcome, ProblemCode, SendError};
use ipc_protocol::Retry;
use serde_json::json;

use crate::fake::{Answer, Fake, Plan, counted, http, problem, success, with_session};
use crate::fixture::{Place, built};
use crate::ways::{Way, both_ways};

fn a_lost_answer_brings_the_same_message_freshly_sealed(way: Way) {
    let place = Place::new();
    let fake = Fake::tls(
        place.tls(),
        counted(|_, turn| match turn {
            0 => Answer::Close,
            1 => Answer::SendAndClose(b"HTTP/1.1 200 X\r\ncontent-le".to_vec()),
            _ => success(),
        }),
    );
    let sent = place.client_by(way, &fake).send(&json!({"n": 1})).wait().unwrap();
    let submits: Vec<_> =
        fake.submits().into_iter().filter(|seen| seen.session.is_some()).collect();
    assert_eq!(submits.len(), 3);
    for (n, seen) in submits.iter().enumerate() {
        assert_eq!(
            (seen.id.as_str(), seen.body.as_str()),
            (sent.id.to_string().as_str(), r#"{"n":1}"#)
        );
        for other in &submits[..n] {
            assert_ne!(seen.envelope[9..25], other.envelope[9..25], "an IV was used twice");
        }
    }
}

#[test]
fn an_answer_cut_in_its_body_is_no_answer() {
    let place = Place::new();
    let fake = Fake::tls(
        place.tls(),
        counted(|_, turn| match turn {
            0 => Answer::SendAndClose(
                b"HTTP/1.1 503 X\r\ncontent-length: 500\r\n\r\n{\"code\"".to_vec(),
            ),
            1 => Answer::SendAndClose(b"HTTP/1.1 200 X\r\ncontent-length: 7\r\n\r\nsucc".to_vec()),
            _ => success(),
        }),
    );
    let sent = place.client(&fake).send(&json!({})).wait().unwrap();
    let ids: Vec<_> = fake.submits().into_iter().map(|seen| seen.id).collect();
    assert_eq!(ids, vec![sent.id.to_string(); 4]);
}

fn a_server_that_asks_to_wait_is_obeyed(way: Way) {
    let place = Place::new();
    let fake = Fake::tls(
        place.tls(),
        counted(|_, turn| match turn {
            0 => problem(ProblemCode::InboxFull, "Retry-After: 1\r\n"),
            _ => success(),
        }),
    );
    let before = Instant::now();
    let sent = place.client_by(way, &fake).send(&json!({})).wait().unwrap();
    assert!(before.elapsed() >= Duration::from_secs(1));
    let ids: Vec<_> = fake.admitted("/message/submit").into_iter().map(|seen| seen.id).collect();
    assert_eq!(ids, vec![sent.id.to_string(); 2]);
}

fn each_refusal_is_sent_again_or_not_as_the_protocol_says(way: Way) {
    let to_requests =
        [ProblemCode::NotAnswered, ProblemCode::NoReplyInTime, ProblemCode::ReplyForgotten];
    let to_sends = ProblemCode::ALL.into_iter().filter(|code| !to_requests.contains(code));
    for code in to_sends.filter(|code| code.retry() != Retry::AfterLogin) {
        let place = Place::new();
        let fake = Fake::tls(
            place.tls(),
            counted(move |_, turn| if turn < 2 { problem(code, "") } else { success() }),
        );
        let result = place.client_by(way, &fake).send(&json!({})).wait();
        let attempts = fake.admitted("/message/submit").len();
        match code.retry() {
            Retry::AfterPause => {
                result.unwrap_or_else(|error| panic!("{code}: {error:?}"));
                assert_eq!(attempts, 3, "{code}");
            }
            _ => {
                let error = result.unwrap_err();
                // If a refusal ends the channel, the client sends the message again by POST, whose
                // response says why.
                let is_of_the_entry =
                    [ProblemCode::IdReused, ProblemCode::NotAnObject, ProblemCode::MalformedFrame]
                        .contains(&code);
                let (wanted, why) = match (way, is_of_the_entry) {
                    (Way::Post, _) => (1, "because of the script"),
                    (Way::Channel, true) => (1, ""),
                    (Way::Channel, false) => (2, "because of the script"),
                };
                assert_eq!(attempts, wanted, "{code}");
                // A refusal that is not about the frame may come while the server stores messages
                // of an earlier frame.
                let is_of_the_frame = [400, 413].contains(&code.status());
                let is_in_doubt = way == Way::Channel && !is_of_the_entry && !is_of_the_frame;
                let outcome = if is_in_doubt { Outcome::NotKnown } else { Outcome::Refused };
                assert_eq!(error.outcome(), outcome, "{code}");
                let refusal = match &error {
                    SendError::InDoubt { last } if is_in_doubt => last,
                    error => error,
                };
                if code != ProblemCode::BadCredentials {
                    assert!(
                        matches!(refusal, SendError::Refused { status, code: Some(got), detail }
                            if *status == code.status() && *got == code && detail == why),
                        "{error:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_redirect_is_not_followed() {
    let place = Place::new();
    let fake = Fake::tls(
        place.tls(),
        counted(|_, _| Answer::Send(http(307, "Location: /message/elsewhere\r\n", b""))),
    );
    let error = place.client(&fake).send(&json!({})).wait().unwrap_err();
    assert!(matches!(error, SendError::Refused { status: 307, code: None, .. }), "{error:?}");
    assert!(fake.seen().iter().all(|seen| seen.path != "/message/elsewhere"));
}

#[test]
fn a_200_that_says_something_else_is_no_success() {
    for body in [&b"<html>log in</html>"[..], b"", b"succes", &[b'x'; 100_000]] {
        let place = Place::new();
        let body = body.to_vec();
        let fake = Fake::tls(place.tls(), counted(move |_, _| Answer::Send(http(200, "", &body))));
        let error = place.client(&fake).send(&json!({})).wait().unwrap_err();
        assert!(matches!(error, SendError::Unexpected { status: 200, .. }), "{error:?}");
        assert_eq!(error.outcome(), Outcome::NotKnown);
    }
}

#[test]
fn a_server_that_comes_up_late_gets_the_message() {
    let place = Place::new();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let client = Client::builder(&place.home)
        .server("localhost", format!("127.0.0.1:{port}"))
        .build()
        .unwrap()
        .blocking();
    assert!(!client.is_running().unwrap(), "nothing listens yet");
    let fake = std::thread::scope(|scope| {
        let sending = scope.spawn(|| client.send(&json!({"late": true})).wait());
        let config = place.tls();
        let fake =
            Fake::start(port, move |_| Plan::Tls(config.clone()), with_session(|_| success()));
        sending.join().unwrap().unwrap();
        fake
    });
    assert!(client.is_running().unwrap());
    assert_eq!(fake.submits().last().unwrap().body, r#"{"late":true}"#);
}

fn a_server_restarted_in_between_needs_no_new_login(way: Way) {
    let place = Place::new();
    let fake = Fake::tls(place.tls(), with_session(|_| success()));
    let address = fake.address();
    let client = place.client_by(way, &fake);
    client.send(&json!({"n": 1})).wait().unwrap();
    drop(fake);
    let config = place.tls();
    let fake = Fake::start(
        address.port(),
        move |_| Plan::Tls(config.clone()),
        with_session(|_| success()),
    );
    client.send(&json!({"n": 2})).wait().unwrap();
    assert!(fake.logins().is_empty());
}

fn deadline_of(error: SendError) -> (Outcome, String) {
    let outcome = error.outcome();
    match &error {
        SendError::Timeout { .. } => (outcome, error.source().unwrap().to_string()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_deadline_ends_a_send_that_finds_nobody() {
    let place = Place::new();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let nobody = Client::builder(&place.home)
        .server("localhost", format!("127.0.0.1:{port}"))
        .timeout(Duration::from_millis(600))
        .build()
        .unwrap()
        .blocking();
    let before = Instant::now();
    let (outcome, cause) = deadline_of(nobody.send(&json!({})).wait().unwrap_err());
    assert_eq!(outcome, Outcome::NeverArrived);
    assert!(cause.contains("no connection to 127.0.0.1"), "{cause}");
    assert!(before.elapsed() < Duration::from_secs(5));
}

fn the_deadline_ends_a_send_and_says_what_became_of_it(way: Way) {
    let place = Place::new();
    let deadline = Duration::from_secs(2);

    let silent = Fake::tls(place.tls(), with_session(|_| Answer::Hang));
    let client = built(way, place.builder(&silent).timeout(deadline)).blocking();
    let (outcome, cause) = deadline_of(client.send(&json!({})).wait().unwrap_err());
    assert_eq!(outcome, Outcome::NotKnown);
    assert!(cause.contains("no answer from the server at"), "{cause}");

    // By POST the server asks for a pause beyond the deadline after some attempts. Without it the
    // last attempt could be cut off by the deadline on a busy machine, which is another outcome.
    let full = Fake::tls(
        place.tls(),
        counted(|_, turn| match turn {
            0 => success(),
            1..=3 => problem(ProblemCode::InboxFull, ""),
            _ => problem(ProblemCode::InboxFull, "Retry-After: 3600\r\n"),
        }),
    );
    let client = built(way, place.builder(&full)).blocking();
    client.send(&json!({})).wait().unwrap();
    let deadline = match way {
        Way::Post => Duration::from_secs(20),
        // A channel has no `Retry-After`: the pause is always a second.
        Way::Channel => Duration::from_millis(900),
    };
    let error = client.send(&json!({})).timeout(deadline).wait().unwrap_err();
    assert!(error.remedy().unwrap().to_string().contains("application"), "{error:?}");
    let (outcome, cause) = deadline_of(error);
    assert_eq!(outcome, Outcome::Refused);
    assert!(cause.contains("inbox_full"), "{cause}");
    let attempts = full.submits().len() - 1;
    match way {
        Way::Post => assert_eq!(attempts, 4, "the client tries until it may not"),
        Way::Channel => assert_eq!(attempts, 1, "the pause is longer than the time left"),
    }
}

#[test]
fn a_wait_beyond_the_deadline_is_not_begun() {
    let place = Place::new();
    let fake = Fake::tls(
        place.tls(),
        with_session(|_| problem(ProblemCode::InboxFull, "Retry-After: 3600\r\n")),
    );
    let before = Instant::now();
    let (outcome, _) = deadline_of(place.client(&fake).send(&json!({})).wait().unwrap_err());
    assert_eq!(outcome, Outcome::Refused);
    assert!(before.elapsed() < Duration::from_secs(10));
    assert_eq!(fake.submits().len(), 2);
}

fn a_refusal_after_a_lost_answer_leaves_it_open_whether_the_message_arrived(way: Way) {
    let place = Place::new();
    let fake =
        Fake::tls(
            place.tls(),
            counted(|_, turn| {
                if turn == 0 { Answer::Close } else { problem(ProblemCode::WrongCertificate, "") }
            }),
        );
    let error = place.client_by(way, &fake).send(&json!({})).wait().unwrap_err();
    assert_eq!(error.outcome(), Outcome::NotKnown);
    let SendError::InDoubt { last } = &error else { panic!("{error:?}") };
    assert!(matches!(**last, SendError::Refused { status: 403, .. }));
}

#[test]
fn a_refusal_before_the_message_was_read_is_heard() {
    let place = Place::new();
    let config = place.tls();
    let body = ipc_protocol::Problem::new(ProblemCode::TooLarge, "too much").to_json();
    let answer = http(413, "connection: close\r\n", body.as_bytes());
    let fake = Fake::start(
        0,
        move |_| Plan::AnswerEarly(config.clone(), answer.clone()),
        |_| panic!("no request is read to its end"),
    );
    let error = place.client(&fake).send(&json!({"text": "x".repeat(8 << 20)})).wait().unwrap_err();
    assert!(
        matches!(error, SendError::Refused { code: Some(ProblemCode::TooLarge), .. }),
        "{error:?}"
    );
    assert_eq!(fake.connections(), 1);
}

fn a_send_that_nobody_waits_for_is_not_tried_again(way: Way) {
    let place = Place::new();
    let (arrived, arrival) = std::sync::mpsc::channel();
    let arrived = std::sync::Mutex::new(arrived);
    let fake = Fake::tls(
        place.tls(),
        counted(move |seen, turn| {
            arrived.lock().unwrap().send(seen.body.clone()).unwrap();
            if turn == 0 {
                problem(ProblemCode::InboxFull, "Retry-After: 1\r\n")
            } else {
                success()
            }
        }),
    );
    let client = built(way, place.builder(&fake));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let send = runtime.spawn(client.send(&json!({"n": 1})));
    assert_eq!(arrival.recv().unwrap(), r#"{"n":1}"#);
    send.abort();
    assert!(runtime.block_on(send).unwrap_err().is_cancelled());
    // When the call is given up, the thread ends and closes the connection.
    drop(client);
    fake.wait_for_goodbye();
    assert_eq!(fake.admitted("/message/submit").len(), 1);
}

both_ways!(
    the_deadline_ends_a_send_and_says_what_became_of_it,
    a_lost_answer_brings_the_same_message_freshly_sealed,
    a_server_that_asks_to_wait_is_obeyed,
    each_refusal_is_sent_again_or_not_as_the_protocol_says,
    a_server_restarted_in_between_needs_no_new_login,
    a_refusal_after_a_lost_answer_leaves_it_open_whether_the_message_arrived,
    a_send_that_nobody_waits_for_is_not_tried_again,
);

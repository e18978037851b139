//! Responses that are not the answer to a request: interim ones, other protocols, endless ones, and
//! refusals by a wrong clock.
#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use ipc_client::{Client, Outcome, ProblemCode, Protocol, SendError, Speaks};
use ipc_protocol::Problem;
use serde_json::json;

use crate::fake::{Answer, Fake, Plan, counted, http, problem, success, with_session};
use crate::fixture::{Place, now_secs};

/// A response with interim ones before it.
fn behind(interim: &str, answer: Answer) -> Answer {
    match answer {
        Answer::Send(bytes) => Answer::Send([interim.as_bytes(), &bytes].concat()),
        _ => unreachable!(),
    }
}

#[test]
fn interim_answers_are_not_the_answer_and_leave_the_connection_in_order() {
    let place = Place::new();
    for protocol in [Protocol::Https, Protocol::Http] {
        let config = place.tls();
        let plan = move |_| match protocol {
            Protocol::Https => Plan::Tls(config.clone()),
            Protocol::Http => Plan::Plain,
        };
        let fake = Fake::start(
            0,
            plan,
            counted(|_, turn| match turn {
                0 => behind("HTTP/1.1 100 Continue\r\n\r\n", success()),
                1 => behind(
                    "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n",
                    problem(ProblemCode::InboxFull, ""),
                ),
                2 => behind(&"HTTP/1.1 102 Processing\r\n\r\n".repeat(20), success()),
                _ => success(),
            }),
        );
        let client = place.builder(&fake).protocol(protocol).build().unwrap().blocking();
        for n in 0..3 {
            client.send(&json!({"n": n})).wait().unwrap();
        }
        let bodies: Vec<_> = fake.messages().into_iter().map(|(_, body)| body).collect();
        assert_eq!(bodies, [r#"{"n":0}"#, r#"{"n":1}"#, r#"{"n":1}"#, r#"{"n":2}"#]);
        assert_eq!(fake.connections(), 1);
    }
}

#[test]
fn interim_answers_without_an_end_are_no_answer() {
    let place = Place::new();
    let fake = Fake::tls(
        place.tls(),
        counted(|_, turn| match turn {
            0 => Answer::Send("HTTP/1.1 100 Continue\r\n\r\n".repeat(10_000).into_bytes()),
            1 => Answer::Send(
                format!("HTTP/1.1 103 X\r\nLink: {}", "x".repeat(1 << 20)).into_bytes(),
            ),
            _ => success(),
        }),
    );
    place.client(&fake).send(&json!({})).wait().unwrap();
    assert_eq!(fake.messages().len(), 3);
}

#[test]
fn another_protocol_that_nobody_asked_for_is_the_end() {
    let place = Place::new();
    let fake = Fake::tls(
        place.tls(),
        counted(|_, _| {
            Answer::Send(
                b"HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n".to_vec(),
            )
        }),
    );
    let error = place.client(&fake).send(&json!({})).wait().unwrap_err();
    assert!(matches!(error, SendError::Unexpected { status: 101, .. }), "{error:?}");
}

fn wrong_protocol(error: SendError) -> Speaks {
    assert!(error.remedy().is_some());
    match error {
        SendError::WrongProtocol { speaks, .. } => speaks,
        other => panic!("{other:?}"),
    }
}

#[test]
fn plain_http_to_a_server_that_speaks_https_is_given_up_at_once() {
    let place = Place::new();
    let fake = Fake::tls(place.tls(), with_session(|_| panic!("nothing arrives")));
    // A small message, and one that is still being written when the alert comes.
    for text in ["", &"x".repeat(4 << 20)] {
        let client = place.builder(&fake).protocol(Protocol::Http).build().unwrap().blocking();
        let error = client.send(&json!({"text": text})).wait().unwrap_err();
        assert!(error.to_string().ends_with(" speaks https, not plain http"), "{error}");
        assert_eq!(error.outcome(), Outcome::NeverArrived);
        assert_eq!(wrong_protocol(error), Speaks::Tls);
        let error = client.request(&json!({"text": text})).wait().unwrap_err();
        assert_eq!(wrong_protocol(error), Speaks::Tls);
        let error = client.is_running().unwrap_err();
        assert_eq!(wrong_protocol(error), Speaks::Tls);
    }
}

/// A server that sends these bytes on its first connection, repeatedly if `is_endless`, until the
/// client has closed.
fn answers(bytes: &'static [u8], is_endless: bool) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        let (mut tcp, _) = listener.accept().unwrap();
        tcp.read_exact(&mut [0; 5]).unwrap();
        tcp.write_all(bytes).unwrap();
        while is_endless && tcp.write_all(&bytes.repeat(1000)).is_ok() {}
        let _ = std::io::copy(&mut tcp, &mut std::io::sink());
    });
    (address, server)
}

#[test]
fn a_server_that_speaks_no_http_is_given_up_at_once() {
    for (bytes, is_endless) in [
        (&b"SSH-2.0-OpenSSH_9.6\r\n"[..], false),
        (b"+OK ready\r\n", false),
        (b"\0\0\x12\x04\0\0\0\0\0", false),
        (b"HTTP/1.1 200 OK\r\nx: y\r\n", true),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\ncontent-length: 8\r\n\r\nsuccess", false),
    ] {
        let place = Place::new();
        let (address, server) = answers(bytes, is_endless);
        let builder =
            Client::builder(&place.home).server("localhost", address).protocol(Protocol::Http);
        let client = builder.build().unwrap().blocking();
        let error = client.send(&json!({})).wait().unwrap_err();
        assert_eq!(error.outcome(), Outcome::NotKnown);
        assert!(matches!(wrong_protocol(error), Speaks::NoHttp { .. }), "{bytes:?}");
        drop(client);
        server.join().unwrap();
    }
}

#[test]
fn an_answer_without_an_end_is_read_no_further_than_it_can_be_of_use() {
    let place = Place::new();
    let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let chunk = [&b"10000\r\n"[..], &[b'x'; 0x10000], b"\r\n"].concat();
    let endless = [&head[..], &chunk.repeat(100)].concat();
    let fake = Fake::tls(place.tls(), counted(move |_, _| Answer::Send(endless.clone())));
    let error = place.client(&fake).send(&json!({})).wait().unwrap_err();
    assert!(matches!(error, SendError::Unexpected { status: 200, .. }), "{error:?}");
}

/// A refusal by a server whose clock is off.
fn stale(off_secs: i64, detail: &str) -> Answer {
    let date = SystemTime::now() + Duration::from_secs(1000);
    let date = date - Duration::from_secs(1000_u64.checked_add_signed(-off_secs).unwrap());
    let headers = format!("date: {}\r\n", awc::http::header::HttpDate::from(date));
    let body = Problem::new(ProblemCode::StaleEnvelope, detail).to_json();
    Answer::Send(http(400, &headers, body.as_bytes()))
}

#[test]
fn whose_clock_is_off_and_how_far_is_told_at_once() {
    for (off_secs, side) in [(90, "behind"), (-90, "ahead of")] {
        let place = Place::new();
        let fake = Fake::tls(
            place.tls(),
            with_session(move |_| {
                stale(off_secs, "the envelope was sealed then; 60 s are allowed")
            }),
        );
        let error = place.client(&fake).send(&json!({})).wait().unwrap_err();
        let says = |secs| {
            format!(
                "the server refused the envelope with status 400 (stale_envelope): \
                 this host's clock is {secs} s {side} the server's; 60 s are allowed"
            )
        };
        // The second may have changed meanwhile.
        assert!([89, 90, 91].map(says).contains(&error.to_string()), "{error}");
        assert_eq!(error.remedy(), Some("set the clocks of both hosts".into()));
        assert_eq!(fake.messages().len(), 1, "another attempt would also be stale");
        assert_eq!(error.outcome(), Outcome::Refused);
    }
}

#[test]
fn an_envelope_that_was_long_on_its_way_is_sent_again() {
    let place = Place::new();
    let fake = Fake::tls(
        place.tls(),
        counted(|_, turn| match turn {
            0 => {
                stale(0, "the envelope was sealed 90 s ago by the server's clock; 60 s are allowed")
            }
            1 => stale(
                20,
                "the envelope was sealed 70 s ago by the server's clock; 60 s are allowed",
            ),
            _ => success(),
        }),
    );
    place.client(&fake).send(&json!({})).wait().unwrap();
    assert_eq!(fake.messages().len(), 3);
    assert!(now_secs() > 0);
}

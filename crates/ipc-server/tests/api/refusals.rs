//! Tests each refusal with its status and code.

use std::time::Duration;

use ipc_protocol::{ProblemCode, Route};
use ipc_server::Server;
use tokio::io::AsyncReadExt as _;

use crate::channel_fixture::{self, BINARY, PING, PONG, ws_frame};
use crate::fixture::*;
use crate::ways::*;

/// Starts a server and connects to it, for refusals that need no session.
async fn started() -> (Server, Connection) {
    let server = builder().start().await.unwrap();
    let connection = connect(&server).await;
    (server, connection)
}

fn plain_envelope() -> Vec<u8> {
    sealed(Route::MessageSubmit, new_id(), None, "{}")
}

#[tokio::test]
async fn an_envelope_with_any_byte_changed_is_refused() {
    let server = builder().start().await.unwrap();
    for way in Way::BOTH {
        let envelope = HOME.keys.seal(&way.plaintext(None, "{}"), now_secs(), [7; 16]);
        for position in [0, 1, 8, 9, 24, 25, 60, envelope.len() - 33, envelope.len() - 1] {
            let mut changed = envelope.clone();
            changed[position] ^= 1;
            let answer = way.open(&server, "").await.put(&changed).await;
            assert_eq!(answer, Outcome::Refused(ProblemCode::MalformedEnvelope));
        }
    }
}

#[tokio::test]
async fn what_is_no_envelope_is_refused() {
    let server = builder().start().await.unwrap();
    let other_key = ipc_envelope::KeyRing::new(ipc_envelope::Key::from_bytes([9; 32]));
    for way in Way::BOTH {
        let plaintext = way.plaintext(None, "{}");
        for body in [
            Vec::new(),
            b"{}".to_vec(),
            vec![0x80; 72],
            HOME.keys.seal(&plaintext, now_secs(), [7; 16])[..80].to_vec(),
            other_key.seal(&plaintext, now_secs(), [0; 16]),
            HOME.keys.seal_base64url(b"{}", now_secs(), [0; 16]).into_bytes(),
        ] {
            let answer = way.open(&server, "").await.put(&body).await;
            assert_eq!(answer, Outcome::Refused(ProblemCode::MalformedEnvelope));
        }
    }
}

#[tokio::test]
async fn raw_bytes_where_text_is_announced_and_text_that_is_not_canonical_are_refused() {
    let (_server, mut connection) = started().await;
    let text = HOME.keys.seal_base64url(
        &frame(Route::MessageSubmit, new_id(), None, "{}"),
        now_secs(),
        [0; 16],
    );
    for body in [
        plain_envelope(),
        text.trim_end_matches('=').as_bytes()[..text.len() - 4].to_vec(),
        format!("{text}\n").into_bytes(),
    ] {
        let answer = connection
            .request("POST", "/message/submit", "content-type: text/plain\r\n", &body)
            .await;
        answer.is_refusal(ProblemCode::MalformedEnvelope);
    }
}

#[tokio::test]
async fn an_envelope_of_another_time_is_refused_and_the_answer_speaks_of_the_clock() {
    let (server, mut connection) = started().await;
    for sealed_at in [now_secs() - 62, now_secs() + 65, 0, u64::MAX] {
        for way in Way::BOTH {
            let envelope = HOME.keys.seal(&way.plaintext(None, "{}"), sealed_at, [0; 16]);
            let answer = way.open(&server, "").await.put(&envelope).await;
            assert_eq!(answer, Outcome::Refused(ProblemCode::StaleEnvelope));
        }
        let envelope = HOME.keys.seal(&Way::Post.plaintext(None, "{}"), sealed_at, [0; 16]);
        let problem = connection
            .post(Route::MessageSubmit, &envelope)
            .await
            .is_refusal(ProblemCode::StaleEnvelope);
        assert!(problem.detail.contains("clock"), "{}", problem.detail);
    }
}

#[tokio::test]
async fn a_frame_for_another_route_is_refused() {
    let (server, mut connection) = started().await;
    let session = admin_session(&server).await;
    let malformed = Outcome::Refused(ProblemCode::MalformedFrame);
    for way in Way::BOTH {
        for other in Route::ALL.into_iter().filter(|route| *route != way.route()) {
            let envelope = sealed(other, new_id(), Some(&session), "{}");
            assert_eq!(way.open(&server, &session).await.put(&envelope).await, malformed);
        }
        // A frame for one way is refused on the other.
        let other = Way::BOTH.into_iter().find(|other| *other != way).unwrap();
        let envelope = HOME.keys.seal(&other.plaintext(Some(&session), "{}"), now_secs(), [7; 16]);
        assert_eq!(way.open(&server, &session).await.put(&envelope).await, malformed);
    }
    let for_submit =
        sealed(Route::MessageSubmit, new_id(), None, r#"{"username":"ipc-admin","password":"x"}"#);
    connection.post(Route::ClientAuth, &for_submit).await.is_refusal(ProblemCode::MalformedFrame);
    server.stop().await;
    assert!(server.inbox().recv().await.is_none());
}

#[tokio::test]
async fn a_plaintext_that_is_no_frame_is_refused() {
    let server = builder().start().await.unwrap();
    for way in Way::BOTH {
        for plaintext in [
            "",
            "{}",
            "\u{80}\u{4}pickle",
            "[1]",
            r#"{"v":1,"to":"/message/submit","id":"x","body":{}}"#,
            r#"{"v":1,"to":"/message/submit","id":"00000000-0000-4000-8000-000000000000"}"#,
            r#"{"v":2,"to":"/message/submit","id":"00000000-0000-4000-8000-000000000000","body":{}}"#,
            r#"{"body":{},"v":1,"to":"/message/submit","id":"00000000-0000-4000-8000-000000000000","x":1}"#,
        ] {
            let plaintext = plaintext.replace("/message/submit", way.route().path());
            let envelope = HOME.keys.seal(plaintext.as_bytes(), now_secs(), [0; 16]);
            let answer = way.open(&server, "").await.put(&envelope).await;
            assert_eq!(answer, Outcome::Refused(ProblemCode::MalformedFrame), "{plaintext}");
        }
    }
}

/// Bodies that break a rule for JSON, some short and some long.
fn bad_bodies() -> Vec<String> {
    let names = |count: usize| {
        (0..count).map(|name| format!(r#""{name}":0"#)).collect::<Vec<_>>().join(",")
    };
    vec![
        r#"{"a":1,"a":2}"#.to_owned(),
        r#"{"a":18446744073709551616}"#.to_owned(),
        r#"{"a":NaN}"#.to_owned(),
        format!(r#"{{"a":"{}","a":2}}"#, "x".repeat(300_000)),
        format!("{{{}}}", names(65_537)),
        format!(r#"{{"a":[{{{}}}]}}"#, names(65_537)),
    ]
}

#[tokio::test]
async fn a_body_that_breaks_a_rule_for_json_is_refused_and_one_within_the_bound_of_names_is_not() {
    let server = builder().channel_message_bytes_max(4 << 20).start().await.unwrap();
    let mut connection = connect(&server).await;
    let session = admin_session(&server).await;
    for body in bad_bodies() {
        for way in Way::BOTH {
            let answer = way.open(&server, &session).await.send(new_id(), &body).await;
            assert_eq!(answer, Outcome::Refused(ProblemCode::MalformedFrame));
        }
        let text = HOME.keys.seal_base64url(
            &frame(Route::MessageSubmit, new_id(), Some(&session), &body),
            now_secs(),
            [0; 16],
        );
        let answer = connection.request("POST", "/message/submit", "", text.as_bytes()).await;
        answer.is_refusal(ProblemCode::MalformedFrame);
    }
    let names: Vec<_> = (0..65_536).map(|name| format!(r#""{name}":0"#)).collect();
    let body = format!("{{{}}}", names.join(","));
    connection.submit(new_id(), &session, &body).await.is_success();
    assert_eq!(server.inbox().recv().await.unwrap().body(), body);
}

#[tokio::test]
async fn nobody_without_a_session_has_a_body_gone_through() {
    let server = builder().channel_message_bytes_max(4 << 20).start().await.unwrap();
    let mut connection = connect(&server).await;
    for body in bad_bodies() {
        // With a valid session the body would be refused with 400.
        for session in [None, Some("x")] {
            for route in [Route::MessageSubmit, Route::MessageRequest, Route::MessageBatch] {
                let envelope = sealed(route, new_id(), session, &body);
                connection.post(route, &envelope).await.is_refusal(ProblemCode::SessionExpired);
            }
            for way in Way::BOTH {
                let answer = way
                    .open(&server, session.unwrap_or_default())
                    .await
                    .send(new_id(), &body)
                    .await;
                assert_eq!(answer, Outcome::Refused(ProblemCode::SessionExpired));
            }
            let id = new_id();
            let session =
                session.map(|session| format!(r#","session":"{session}""#)).unwrap_or_default();
            let behind =
                format!(r#"{{"body":{body},"v":1,"to":"/message/submit","id":"{id}"{session}}}"#);
            let envelope = HOME.keys.seal(behind.as_bytes(), now_secs(), [0; 16]);
            connection
                .post(Route::MessageSubmit, &envelope)
                .await
                .is_refusal(ProblemCode::SessionExpired);
        }
    }
}

#[tokio::test]
async fn a_session_behind_the_body_counts_like_one_in_front_of_it() {
    let (server, mut connection) = started().await;
    let session = admin_session(&server).await;
    for long in [10, 300_000] {
        let body = format!(r#"{{"a":"}},{}"}}"#, "x".repeat(long));
        let (id, session) = (new_id(), session.as_str());
        let behind = format!(
            r#"{{"body":{body},"session":"{session}","v":1,"to":"/message/submit","id":"{id}"}}"#
        );
        let envelope = HOME.keys.seal(behind.as_bytes(), now_secs(), [0; 16]);
        connection.post(Route::MessageSubmit, &envelope).await.is_success();
        assert_eq!(server.inbox().recv().await.unwrap().body(), body);
    }
}

#[tokio::test]
async fn a_login_longer_than_any_is_refused_before_anybody_looks_at_it() {
    let (_server, mut connection) = started().await;
    let long = "x".repeat(20_000);
    connection.log_in(&long, "x").await.is_refusal(ProblemCode::TooLarge);
    connection.log_in("nobody", &long).await.is_refusal(ProblemCode::TooLarge);
    connection.log_in("nobody", &"x".repeat(10_000)).await.is_refusal(ProblemCode::BadCredentials);
}

#[tokio::test]
async fn while_a_long_frame_is_gone_through_its_worker_answers_others() {
    let (server, mut slow) = started().await;
    let session = admin_session(&server).await;
    let object: Vec<_> = (0..65_000).map(|name| format!(r#""\u0061{name}":0"#)).collect();
    let objects = vec![format!("{{{}}}", object.join(",")); 8];
    let body = format!(r#"{{"a":[{}]}}"#, objects.join(","));
    let envelope = sealed(Route::MessageSubmit, new_id(), Some(&session), &body);
    let mut other = connect(&server).await;
    assert_eq!(other.request("GET", "/is/running", "", b"").await.status, 200);
    let head = format!(
        "POST /message/submit HTTP/1.1\r\nhost: x\r\ncontent-type: application/octet-stream\r\ncontent-length: {}\r\n\r\n",
        envelope.len()
    );
    let request = [head.as_bytes(), &envelope].concat();
    let (most, last) = request.split_at(request.len() - 1);
    slow.write(most).await.unwrap();
    // The only worker reads some of what has arrived between any two of these.
    for _ in 0..500 {
        assert_eq!(other.request("GET", "/is/running", "", b"").await.status, 200);
    }
    slow.write(last).await.unwrap();
    // It may serve one request before it sees the last byte, but not several.
    for _ in 0..5 {
        let answer = tokio::select! {
            biased;
            answer = slow.read_response() => panic!("gone through before anything else was done: {answer:?}"),
            answer = other.request("GET", "/is/running", "", b"") => answer,
        };
        assert_eq!(answer.status, 200);
    }
    slow.read_response().await.unwrap().is_success();
}

#[tokio::test]
async fn while_a_long_message_of_a_channel_is_gone_through_its_worker_answers_others() {
    let server = builder().channel_message_bytes_max(16 << 20).start().await.unwrap();
    let mut channel = channel_fixture::open(&server).await;
    let object: Vec<_> = (0..65_000).map(|name| format!(r#""\u0061{name}":0"#)).collect();
    let objects = vec![format!("{{{}}}", object.join(",")); 8];
    let body = format!(r#"{{"a":[{}]}}"#, objects.join(","));
    let mut other = connect(&server).await;
    assert_eq!(other.request("GET", "/is/running", "", b"").await.status, 200);
    // The first brings the session, so that the sender is known only when its head was read.
    for n in 0..2 {
        let envelope = channel.sealed(None, &[channel_fixture::message(&body)]);
        let (most, last) = envelope.split_at(envelope.len() - 1);
        channel.connection.write(&ws_frame(BINARY, most)).await.unwrap();
        channel.write(PING, b"").await;
        // The pong says that the worker has read everything but the last byte.
        assert_eq!(channel.read().await.unwrap().opcode, PONG);
        channel.connection.write(&ws_frame(0x80, last)).await.unwrap();
        // The worker may serve one request before it sees the last byte, but not several.
        for _ in 0..5 {
            let first = tokio::select! {
                biased;
                answer = channel.answer() => panic!("gone through before anything else was done: {answer:?}"),
                answer = other.request("GET", "/is/running", "", b"") => answer,
            };
            assert_eq!(first.status, 200);
        }
        assert_eq!(channel.answer().await, channel_fixture::settled(&[(n, n, "accepted")]));
        assert_eq!(server.inbox().recv().await.unwrap().body(), body);
    }
}

#[tokio::test]
async fn a_body_that_is_no_object_is_refused() {
    let (server, _connection) = started().await;
    let session = admin_session(&server).await;
    for way in Way::BOTH {
        let mut line = way.open(&server, &session).await;
        for body in ["[]", "1", "\"x\"", "null"] {
            let answer = line.send(new_id(), body).await;
            assert_eq!(answer, Outcome::Refused(ProblemCode::NotAnObject), "{body}");
        }
        assert_eq!(line.send(new_id(), "{}").await, Outcome::Accepted, "the line goes on");
    }
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_refused_announced_or_not() {
    let server = builder().plaintext_bytes_max(10_000).start().await.unwrap();
    let long = vec![0_u8; 15_000];
    connect(&server)
        .await
        .post(Route::MessageSubmit, &long)
        .await
        .is_refusal(ProblemCode::TooLarge);

    let mut connection = connect(&server).await;
    let head = "POST /message/submit HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\ncontent-type: application/octet-stream\r\n\r\n";
    let chunk = [&b"3a98\r\n"[..], &long, b"\r\n0\r\n\r\n"].concat();
    connection.write(&[head.as_bytes(), &chunk].concat()).await.unwrap();
    connection.read_response().await.unwrap().is_refusal(ProblemCode::TooLarge);
}

#[tokio::test]
async fn a_body_that_never_ends_is_cut_off_with_the_reason() {
    let server = builder().plaintext_bytes_max(10_000).start().await.unwrap();
    let mut connection = connect(&server).await;
    let head = "POST /message/submit HTTP/1.1\r\nhost: x\r\ncontent-length: 999999999999\r\ncontent-type: application/octet-stream\r\n\r\n";
    connection.write(head.as_bytes()).await.unwrap();
    connection.write(&vec![0; 40_000]).await.unwrap();
    connection.read_response().await.unwrap().is_refusal(ProblemCode::TooLarge);
}

#[tokio::test]
async fn a_body_that_comes_too_slowly_is_refused() {
    let server = builder().body_timeout(Duration::from_millis(50)).start().await.unwrap();
    let mut connection = connect(&server).await;
    let head = "POST /message/submit HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nhalf";
    connection.write(head.as_bytes()).await.unwrap();
    connection.read_response().await.unwrap().is_refusal(ProblemCode::RequestTimeout);
}

#[tokio::test]
async fn an_unknown_route_is_404_and_a_wrong_method_405() {
    let (_server, mut connection) = started().await;
    for path in
        ["/", "/message", "/message/submit/", "/message/other", "/is/running/x", "/../users.db"]
    {
        connection.request("POST", path, "", b"").await.is_refusal(ProblemCode::NotFound);
        connection.request("GET", path, "", b"").await.is_refusal(ProblemCode::NotFound);
    }
    for (method, path, allowed) in [
        ("POST", "/is/running", "GET, HEAD"),
        ("GET", "/client/auth", "POST"),
        ("GET", "/message/submit", "POST"),
        ("PUT", "/message/submit", "POST"),
        ("DELETE", "/message/submit", "POST"),
        ("BREW", "/message/submit", "POST"),
    ] {
        let answer = connection.request(method, path, "", b"").await;
        answer.is_refusal(ProblemCode::MethodNotAllowed);
        assert_eq!(answer.header("allow"), Some(allowed), "{method} {path}");
    }
}

#[tokio::test]
async fn a_body_that_says_it_is_compressed_is_refused_with_the_reason() {
    let (_server, mut connection) = started().await;
    for encoding in ["gzip", "br", "identity, gzip"] {
        let headers =
            format!("content-type: application/octet-stream\r\ncontent-encoding: {encoding}\r\n");
        let answer =
            connection.request("POST", "/message/submit", &headers, &plain_envelope()).await;
        let problem = answer.is_refusal(ProblemCode::MalformedEnvelope);
        assert!(problem.detail.contains("Content-Encoding"), "{}", problem.detail);
    }
    let headers = "content-type: application/octet-stream\r\ncontent-encoding: identity\r\n";
    let answer = connection.request("POST", "/message/submit", headers, &plain_envelope()).await;
    answer.is_refusal(ProblemCode::SessionExpired);
}

#[tokio::test]
async fn no_session_and_one_of_another_making_are_answered_alike() {
    let (server, mut connection) = started().await;
    let without = connection.post(Route::MessageSubmit, &plain_envelope()).await;
    let expected = without.is_refusal(ProblemCode::SessionExpired);
    let forged = HOME.keys.seal_base64url(b"anything", now_secs(), [0; 16]);
    for session in ["", "x", forged.as_str()] {
        let answer = connection.submit(new_id(), session, "{}").await;
        assert_eq!(answer.is_refusal(ProblemCode::SessionExpired), expected);
        for way in Way::BOTH {
            let answer = way.open(&server, session).await.send(new_id(), "{}").await;
            assert_eq!(answer, Outcome::Refused(ProblemCode::SessionExpired));
        }
    }
    for way in Way::BOTH {
        let envelope = HOME.keys.seal(&way.plaintext(None, "{}"), now_secs(), [7; 16]);
        let answer = way.open(&server, "").await.put(&envelope).await;
        assert_eq!(answer, Outcome::Refused(ProblemCode::SessionExpired));
    }
}

#[tokio::test]
async fn a_session_whose_time_is_over_is_refused() {
    let server = builder().session_lifetime(Duration::ZERO).start().await.unwrap();
    for way in Way::BOTH {
        let mut connection = connect(&server).await;
        let session = connection.admin_session().await;
        let answer = way.open_on(connection, &session).await.send(new_id(), "{}").await;
        assert_eq!(answer, Outcome::Refused(ProblemCode::SessionExpired));
    }
}

#[tokio::test]
async fn what_is_not_http_is_refused_and_the_server_goes_on() {
    let (server, mut connection) = started().await;
    connection.write(b"\x16\x03\x01 nonsense\r\n\r\n").await.unwrap();
    assert_eq!(connection.read_response().await.unwrap().status, 400);
    let mut next = connect(&server).await;
    assert_eq!(next.request("GET", "/is/running", "", b"").await.status, 200);
}

#[tokio::test]
async fn a_host_or_a_target_of_no_form_is_refused() {
    let (_server, mut connection) = started().await;
    for host in
        ["", " ", "a b@c/d", "user@a", "a/b", "a:x", "a:65536", "::1", "[::1", "a,b c", "a\tb"]
    {
        let head = format!("GET /is/running HTTP/1.1\r\nhost: {host}\r\n\r\n");
        connection.write(head.as_bytes()).await.unwrap();
        connection.read_response().await.unwrap().is_refusal(ProblemCode::MalformedRequest);
    }
    for (method, target) in [
        ("GET", "/is/running#f"),
        ("GET", "/is/running#"),
        ("GET", "/is/running?a#f"),
        ("POST", "/message/submit#f"),
        ("GET", "*"),
        ("GET", "localhost:3000"),
        ("GET", "ftp://localhost/is/running"),
        ("GET", "http://user@localhost/is/running"),
    ] {
        connection.request(method, target, "", b"").await.is_refusal(ProblemCode::MalformedRequest);
    }
    for (method, target, status) in [
        ("GET", "/is/running", 200),
        ("GET", "/is/running?", 200),
        ("GET", "http://localhost/is/running", 200),
        ("GET", "HTTPS://other:1/is/running", 200),
        ("OPTIONS", "*", 404),
        ("OPTIONS", "/is/running", 405),
    ] {
        assert_eq!(
            connection.request(method, target, "", b"").await.status,
            status,
            "{method} {target}"
        );
    }
    for host in ["a", "127.0.0.1:3000", "[::1]:3000", "a:"] {
        let head = format!("GET /is/running HTTP/1.1\r\nhost: {host}\r\n\r\n");
        connection.write(head.as_bytes()).await.unwrap();
        assert_eq!(connection.read_response().await.unwrap().status, 200, "{host}");
    }
    // After this request the connection no longer carries HTTP, so the server ends it.
    connection.write(b"CONNECT a:443 HTTP/1.1\r\nhost: a:443\r\n\r\n").await.unwrap();
    let answer = connection.read_response().await.unwrap();
    answer.is_refusal(ProblemCode::NotFound);
    assert_eq!(answer.header("connection"), Some("close"));
}

#[tokio::test]
async fn no_host_is_refused_with_http_1_1_and_needed_with_http_1_0_by_nobody() {
    let server = builder().start().await.unwrap();
    for (head, begin) in [
        ("GET /is/running HTTP/1.1\r\n\r\n", "HTTP/1.1 400 "),
        ("GET /is/running HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n", "HTTP/1.1 400 "),
        ("GET /is/running HTTP/1.0\r\n\r\n", "HTTP/1.0 200 "),
        ("GET /is/running HTTP/1.0\r\nhost: a b\r\n\r\n", "HTTP/1.0 400 "),
    ] {
        let mut connection = connect(&server).await;
        connection.write(head.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // The server closes each of these connections, in order or with an error.
        let _end = connection.stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with(begin), "{head:?} {answer:?}");
    }
}

//! Tests peers that break the rules of a channel: each gets the close code of the broken rule.

use std::time::Duration;

use ipc_protocol::{ProblemCode, Protocol, Route, write_frame};
use ipc_server::Server;
use rustls::{AlertDescription, Error as TlsError};
use tokio::io::AsyncBufReadExt as _;
use tokio::net::TcpSocket;

use crate::channel_fixture::*;
use crate::fixture::*;

async fn started() -> (Server, Channel) {
    let server = builder().start().await.unwrap();
    let channel = open(&server).await;
    (server, channel)
}

/// Writes bytes without framing.
async fn write_raw(channel: &mut Channel, bytes: &[u8]) {
    channel.connection.write(bytes).await.unwrap();
}

#[tokio::test]
async fn what_is_no_handshake_is_refused_and_told_what_to_do() {
    let server = builder().start().await.unwrap();
    let path = Route::MessageChannel.path();
    let without = |name: &str| -> String {
        HANDSHAKE.split_inclusive("\r\n").filter(|line| !line.starts_with(name)).collect()
    };
    for (headers, code) in [
        (String::new(), ProblemCode::UpgradeRequired),
        (without("upgrade"), ProblemCode::UpgradeRequired),
        (without("connection"), ProblemCode::UpgradeRequired),
        (without("sec-websocket-protocol"), ProblemCode::UpgradeRequired),
        (HANDSHAKE.replace("web-ipc.1", "web-ipc.2"), ProblemCode::UpgradeRequired),
        (HANDSHAKE.replace("version: 13", "version: 8"), ProblemCode::UpgradeRequired),
        (without("sec-websocket-version"), ProblemCode::MalformedRequest),
        (without("sec-websocket-key"), ProblemCode::MalformedRequest),
        (HANDSHAKE.replace("key: dGhl", "key: x"), ProblemCode::MalformedRequest),
    ] {
        let answer = connect(&server).await.request("GET", path, &headers, b"").await;
        answer.is_refusal(code);
        if code == ProblemCode::UpgradeRequired {
            assert_eq!(answer.header("upgrade"), Some("websocket"));
            assert_eq!(answer.header("sec-websocket-version"), Some("13"));
        }
    }
    let with_body = connect(&server).await.request("GET", path, HANDSHAKE, b"body").await;
    with_body.is_refusal(ProblemCode::MalformedRequest);
    for method in ["POST", "HEAD", "PUT"] {
        let mut connection = connect(&server).await;
        let head = format!("{method} {path} HTTP/1.1\r\nhost: x\r\n{HANDSHAKE}\r\n");
        connection.write(head.as_bytes()).await.unwrap();
        let answer = connection.read_head().await.unwrap();
        assert_eq!((answer.status, answer.header("allow")), (405, Some("GET")), "{method}");
    }
}

#[tokio::test]
async fn no_other_route_becomes_a_channel() {
    let server = builder().start().await.unwrap();
    for path in ["/is/running", "/message/channel/", "/message/%63hannel", "/message/submit"] {
        let mut connection = connect(&server).await;
        let head = format!("GET {path} HTTP/1.1\r\nhost: x\r\n{HANDSHAKE}\r\n");
        connection.write(head.as_bytes()).await.unwrap();
        assert_ne!(connection.read_head().await.unwrap().status, 101, "{path}");
    }
}

#[tokio::test]
async fn without_a_certificate_there_is_no_channel() {
    let server = builder().start().await.unwrap();
    let attempt = async {
        let mut connection = connect_tls(server.address(), &tls(None)).await?;
        let head =
            format!("GET {} HTTP/1.1\r\nhost: x\r\n{HANDSHAKE}\r\n", Route::MessageChannel.path());
        connection.write(head.as_bytes()).await?;
        connection.read_head().await
    };
    let error = attempt.await.map(|answer| panic!("{answer:?}")).unwrap_err();
    let alert = error.get_ref().and_then(|error| error.downcast_ref::<TlsError>());
    assert_eq!(alert, Some(&TlsError::AlertReceived(AlertDescription::CertificateRequired)));
}

#[tokio::test]
async fn what_is_not_the_websocket_of_a_channel_closes_it() {
    let long_ping = ws_frame(0x80 | PING, &[0; 126]);
    for (bytes, code, reason) in [
        (ws_frame(0x81, b"text"), 1003, "text messages are not supported"),
        (ws_frame(0x01, b"text in fragments"), 1003, "text messages are not supported"),
        (b"\x82\x04abcd".to_vec(), 1002, "a frame without a mask"),
        (ws_frame(0x83, b"opcode 3"), 1002, "an unknown opcode"),
        (ws_frame(0x8f, b"opcode 15"), 1002, "an unknown opcode"),
        (ws_frame(0xc2, b"reserved bit"), 1002, "not WebSocket"),
        (ws_frame(0x80, b"of no message"), 1002, "a fragment without a message"),
        (
            [ws_frame(0x02, b"one"), ws_frame(0x82, b"two")].concat(),
            1002,
            "a message began within another",
        ),
        (ws_frame(PING, b""), 1002, "a control frame in fragments"),
        (long_ping, 1002, "a control frame is too long"),
        (ws_frame(0x80 | CLOSE, b"x"), 1002, "a malformed close frame"),
        (ws_frame(0x80 | CLOSE, &[3, 237]), 1002, "a malformed close frame"),
        (b"GET /message/channel HTTP/1.1\r\nhost: x\r\n\r\n".to_vec(), 1002, "not WebSocket"),
        (
            format!("GET / HTTP/1.1\r\nhost: x\r\n{HANDSHAKE}\r\n").into_bytes(),
            1002,
            "not WebSocket",
        ),
    ] {
        let (_server, mut channel) = started().await;
        assert_eq!(channel.ask(&[message("{}")]).await, settled(&[(0, 0, "accepted")]));
        write_raw(&mut channel, &bytes).await;
        channel.is_closed(code, reason).await;
    }
}

#[tokio::test]
async fn what_came_before_a_broken_rule_is_answered_first() {
    let (server, mut channel) = started().await;
    let good = channel.sealed(None, &[message("{}")]);
    let bytes = [ws_frame(0x82, &good), ws_frame(0x81, b"text")].concat();
    write_raw(&mut channel, &bytes).await;
    assert_eq!(channel.answer().await, settled(&[(0, 0, "accepted")]));
    channel.is_closed(1003, "text messages are not supported").await;
    assert_eq!(server.inbox().recv().await.unwrap().body(), "{}");
}

#[tokio::test]
async fn a_message_in_too_many_fragments_closes_the_channel() {
    let (_server, mut channel) = started().await;
    let sealed = channel.sealed(None, &[message("{}")]);
    let mut pieces: Vec<&[u8]> = sealed.chunks(sealed.len().div_ceil(128)).collect();
    assert!(pieces.len() <= 128);
    while pieces.len() < 128 {
        pieces.push(b"");
    }
    let fragment = |index: usize, count: usize, piece: &[u8]| {
        let first = if index == 0 { BINARY } else { 0 } | if index + 1 == count { 0x80 } else { 0 };
        ws_frame(first, piece)
    };
    let whole: Vec<u8> =
        pieces.iter().enumerate().flat_map(|(index, piece)| fragment(index, 128, piece)).collect();
    // A ping may come between fragments.
    let (first, rest) = whole.split_at(fragment(0, 128, pieces[0]).len());
    write_raw(&mut channel, &[first, &ws_frame(0x80 | PING, b""), rest].concat()).await;
    assert_eq!(channel.read().await.unwrap().opcode, PONG);
    assert_eq!(channel.answer().await, settled(&[(0, 0, "accepted")]));
    let flood: Vec<u8> = (0..129).flat_map(|index| fragment(index, 1000, b"")).collect();
    write_raw(&mut channel, &flood).await;
    channel.is_closed(1008, "too many fragments").await;
}

#[tokio::test]
async fn a_message_beyond_the_limit_closes_the_channel_before_it_has_come() {
    let longest = ipc_protocol::CHANNEL_MESSAGE_BYTES_MAX_DEFAULT;
    let announced = |bytes: u64| [&[0x82, 0xff][..], &bytes.to_be_bytes(), &[1, 2, 3, 4]].concat();
    let half = ws_frame(0x02, &vec![0; longest / 2 + 1]);
    let other_half = ws_frame(0x80, &vec![0; longest / 2]);
    for bytes in [announced(longest as u64 + 1), announced(1 << 40), [half, other_half].concat()] {
        let (_server, mut channel) = started().await;
        write_raw(&mut channel, &bytes).await;
        channel.is_closed(1009, "the message is too long").await;
    }
    // A message of exactly the maximum length is read like any other.
    let (_server, mut channel) = started().await;
    write_raw(&mut channel, &ws_frame(0x82, &vec![0; longest])).await;
    channel.is_closed(4400, "malformed_envelope").await;
    let (_server, mut channel) = started().await;
    write_raw(&mut channel, &announced(u64::MAX)).await;
    assert!(matches!(channel.closed().await.0, 1002 | 1009));
}

#[tokio::test]
async fn a_flood_of_control_frames_closes_the_channel() {
    for opcode in [PING, PONG] {
        let (_server, mut channel) = started().await;
        write_raw(&mut channel, &ws_frame(0x80 | opcode, b"").repeat(50)).await;
        channel.is_closed(1008, "too many control frames").await;
    }
}

#[tokio::test]
async fn an_envelope_that_is_none_or_stale_or_of_something_else_closes_the_channel() {
    let session = admin_session(&builder().start().await.unwrap()).await;
    let id = new_id();
    let good = channel_frame(id, Some(&session), 0, None, &[message("{}")]);
    let other_key = ipc_envelope::KeyRing::new(ipc_envelope::Key::from_bytes([9; 32]));
    let framed = |to: &str, body: &str| {
        let mut plaintext = Vec::new();
        write_frame(&mut plaintext, to, id, Some(&session), body);
        envelope(&plaintext)
    };
    let channel_of = |body: &str| framed(Route::MessageChannel.path(), body);
    let mut changed = envelope(&good);
    changed[60] ^= 1;
    for (sealed, reason) in [
        (Vec::new(), "malformed_envelope"),
        (b"{}".to_vec(), "malformed_envelope"),
        (changed, "malformed_envelope"),
        (other_key.seal(&good, now_secs(), [0; 16]), "malformed_envelope"),
        (HOME.keys.seal_base64url(&good, now_secs(), [0; 16]).into_bytes(), "malformed_envelope"),
        (HOME.keys.seal(&good, now_secs() - 100, [0; 16]), "stale_envelope"),
        (HOME.keys.seal(&good, now_secs() + 100, [0; 16]), "stale_envelope"),
        (envelope(b"{}"), "malformed_frame"),
        (envelope(b"\xff"), "malformed_frame"),
        (framed("/message/submit", "{}"), "malformed_frame"),
        (framed("/client/auth", r#"{"username":"x","password":"y"}"#), "malformed_frame"),
        (framed("reply", "{}"), "malformed_frame"),
        (channel_of("[]"), "not_an_object"),
        (channel_of("{}"), "malformed_frame"),
        (channel_of(r#"{"first":0,"entries":[],"more":1}"#), "malformed_frame"),
        (channel_of(r#"{"first":0,"first":0,"entries":[]}"#), "malformed_frame"),
        (channel_of(r#"{"first":-1,"entries":[]}"#), "malformed_frame"),
    ] {
        let (server, mut channel) = started().await;
        channel.write(BINARY, &sealed).await;
        channel.is_closed(4400, reason).await;
        server.stop().await;
        assert!(server.inbox().recv().await.is_none());
    }
}

#[tokio::test]
async fn a_captured_frame_is_of_no_use_on_another_channel_or_again() {
    let (server, mut channel) = started().await;
    let captured = channel.sealed(None, &[message("{}")]);
    channel.write(BINARY, &captured).await;
    assert_eq!(channel.answer().await, settled(&[(0, 0, "accepted")]));
    channel.write(BINARY, &captured).await;
    channel.is_closed(1008, "the entries are not numbered consecutively").await;
    // On another channel the same messages are duplicates.
    let mut other = open(&server).await;
    other.id = channel.id;
    other.write(BINARY, &captured).await;
    assert_eq!(other.answer().await, settled(&[(0, 0, "duplicate")]));
}

#[tokio::test]
async fn numbers_that_are_not_those_they_must_be_close_the_channel() {
    let numbered = "the entries are not numbered consecutively";
    let resumed = "`resume` is not the number of the refusal";
    for (first, resume, reason) in [
        (0, None, numbered),
        (2, None, numbered),
        (u64::MAX, None, numbered),
        (1, Some(0), resumed),
        (1, Some(1), resumed),
    ] {
        let (_server, mut channel) = started().await;
        assert_eq!(channel.ask(&[message("{}")]).await, settled(&[(0, 0, "accepted")]));
        let plaintext = channel_frame(channel.id, None, first, resume, &[message("{}")]);
        channel.write(BINARY, &envelope(&plaintext)).await;
        channel.is_closed(1008, reason).await;
    }
}

#[tokio::test]
async fn a_frame_of_another_channel_closes_this_one() {
    let (_server, mut channel) = started().await;
    channel.send(&[message("{}")]).await;
    channel.answer().await;
    let plaintext = channel_frame(new_id(), None, 1, None, &[]);
    channel.write(BINARY, &envelope(&plaintext)).await;
    channel.is_closed(1008, "a frame of another channel").await;
}

#[tokio::test]
async fn without_a_session_or_with_one_that_is_none_the_channel_is_closed() {
    let server = builder().start().await.unwrap();
    for session in [None, Some(""), Some("x")] {
        let mut channel = open_with(connect(&server).await, session).await;
        channel.send(&[message("{}")]).await;
        channel.is_closed(4419, "session_expired").await;
    }
    let session = admin_session(&server).await;
    let mut other = connect_tls(server.address(), &tls(Some(identity("client2")))).await.unwrap();
    let own = other.admin_session().await;
    let mut channel = open_with(other, Some(&session)).await;
    channel.send(&[message("{}")]).await;
    channel.is_closed(4403, "wrong_certificate").await;
    // An invalid session does not replace the valid one, and ends the channel.
    let mut channel = open(&server).await;
    channel.send(&[message("{}")]).await;
    channel.answer().await;
    channel.session = Some(own.to_string());
    channel.send(&[message("{}")]).await;
    channel.is_closed(4403, "wrong_certificate").await;
    server.stop().await;
    assert_eq!(server.inbox().recv().await.unwrap().body(), "{}");
    assert!(server.inbox().recv().await.is_none());
}

#[tokio::test]
async fn a_session_that_ends_while_the_channel_is_open_closes_it() {
    let server = builder().session_lifetime(Duration::from_secs(1)).start().await.unwrap();
    let mut connection = connect(&server).await;
    let session = connection.admin_session().await;
    let mut channel = open_with(connection, Some(&session)).await;
    channel.send(&[request("{}")]).await;
    channel.is_closed(4419, "session_expired").await;
}

#[tokio::test]
async fn a_new_session_on_an_open_channel_replaces_the_old_one() {
    let server = builder().session_lifetime(Duration::from_secs(6)).start().await.unwrap();
    let mut logins = connect(&server).await;
    let session = logins.admin_session().await;
    let mut channel = open_with(connect(&server).await, Some(&session)).await;
    let start = std::time::Instant::now();
    while start.elapsed() < Duration::from_secs(8) {
        channel.session = Some(logins.admin_session().await.to_string());
        let next = channel.next;
        assert_eq!(channel.ask(&[message("{}")]).await, settled(&[(next, next, "accepted")]));
        server.inbox().recv().await.unwrap().ack().await.unwrap();
    }
}

/// Adds a user and opens a channel with that user's session.
async fn open_as_new_user(server: &Server, name: &'static str) -> Channel {
    let add =
        move || ipc_setup::users(&HOME.home).unwrap().add(name, "pass".to_owned().into()).unwrap();
    tokio::task::spawn_blocking(add).await.unwrap();
    let mut connection = connect(server).await;
    let session = session_in(&connection.log_in(name, "pass").await);
    open_with(connection, Some(&session)).await
}

#[tokio::test]
async fn a_user_who_is_deleted_is_out_whether_the_channel_is_idle_or_waits() {
    let server = builder().start().await.unwrap();
    for (name, entry) in [("deleted-idle", message("{}")), ("deleted-waiting", request("{}"))] {
        let mut channel = open_as_new_user(&server, name).await;
        channel.send(&[entry]).await;
        let delivery = server.inbox().recv().await.unwrap();
        if !delivery.wants_reply() {
            channel.answer().await;
        }
        let delete = move || ipc_setup::users(&HOME.home).unwrap().delete(name).unwrap();
        tokio::task::spawn_blocking(delete).await.unwrap();
        let start = std::time::Instant::now();
        channel.is_closed(4419, "session_expired").await;
        assert!(start.elapsed() <= Duration::from_secs(1), "{:?}", start.elapsed());
    }
}

#[tokio::test]
async fn a_session_of_another_user_closes_the_channel() {
    let server = builder().start().await.unwrap();
    let mut channel = open_as_new_user(&server, "first-of-two").await;
    channel.send(&[]).await;
    channel.session = Some(admin_session(&server).await.to_string());
    channel.send(&[message("{}")]).await;
    channel.is_closed(1008, "a session of another user than the channel's").await;
}

#[tokio::test]
async fn a_certificate_that_expires_while_the_channel_is_open_closes_it() {
    let server = builder().start().await.unwrap();
    let short_lived = issue("short-lived-channel", now_secs() - DAY + 4);
    let mut connection = connect_tls(server.address(), &tls(Some(short_lived))).await.unwrap();
    let session = connection.admin_session().await;
    let mut channel = open_with(connection, Some(&session)).await;
    channel.send(&[message("{}")]).await;
    channel.is_closed(4403, "wrong_certificate").await;
}

#[tokio::test]
async fn more_entries_or_requests_than_there_may_be_close_the_channel() {
    let server = builder().channel_entries_max(2).channel_requests_max(3).start().await.unwrap();
    let mut channel = open(&server).await;
    assert_eq!((channel.limits.entries, channel.limits.requests), (2, 3));
    channel.send(&[request("{}"), request("{}")]).await;
    channel.send(&[request("{}"), message("{}")]).await;
    assert_eq!(channel.answer().await, settled(&[(3, 3, "accepted")]));
    channel.send(&[request("{}")]).await;
    channel.is_closed(1008, "too many requests wait for their reply").await;
    let mut channel = open(&server).await;
    channel.send(&[message("{}"), message("{}"), message("{}")]).await;
    channel.is_closed(4413, "too_large").await;
    server.stop().await;
    for _ in 0..4 {
        assert_eq!(server.inbox().recv().await.unwrap().body(), "{}");
    }
    assert!(server.inbox().recv().await.is_none(), "no entry of a refused frame is accepted");
}

#[tokio::test]
async fn entry_after_entry_without_a_look_at_the_answers_closes_the_channel() {
    // Gives a client that reads late the time to see the reason.
    let server = builder()
        .protocol(Protocol::Http)
        .body_timeout(Duration::from_secs(2))
        .start()
        .await
        .unwrap();
    let session = connect_plain(&server).await.admin_session().await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let stream = socket.connect(server.address()).await.unwrap();
    let connection = Connection { stream: tokio::io::BufReader::new(stream) };
    let mut channel = open_with(connection, Some(&session)).await;
    // All entries are malformed, and neighbours get different codes, so that answers cannot be
    // merged into ranges.
    let entries = format!(r#"1,{{"id":"{}","body":[]}}"#, new_id());
    let entries = vec![entries; 500].join(",");
    let mut first = 0;
    loop {
        let session = channel.session.take();
        let body = format!(r#"{{"first":{first},"entries":[{entries}]}}"#);
        let mut plaintext = Vec::new();
        write_frame(
            &mut plaintext,
            Route::MessageChannel.path(),
            channel.id,
            session.as_deref(),
            &body,
        );
        first += 1000;
        let sealed = envelope(&plaintext);
        let writing = channel.write(BINARY, &sealed);
        if tokio::time::timeout(Duration::from_secs(3), writing).await.is_err() {
            // The server has stopped reading.
            break;
        }
        assert!(first < 5_000_000, "the server reads without end");
    }
    assert_eq!(channel.closed().await, (1008, "the peer did not take the answers".to_owned()));
}

#[tokio::test]
async fn a_peer_that_is_silent_is_asked_and_then_given_up() {
    let server = builder().channel_silence_max(Duration::from_millis(200)).start().await.unwrap();
    let mut channel = open(&server).await;
    channel.send(&[request("{}")]).await;
    for _ in 0..5 {
        assert_eq!(channel.read().await.unwrap().opcode, PING);
        channel.write(PONG, b"").await;
    }
    assert_eq!(channel.read().await.unwrap().opcode, PING);
    channel.is_closed(1008, "the peer was silent too long").await;
}

#[tokio::test]
async fn a_channel_on_which_nothing_is_said_is_closed_and_one_that_waits_is_not() {
    let short = Duration::from_millis(200);
    let server = builder().channel_idle_timeout(short).start().await.unwrap();
    let mut channel = open(&server).await;
    channel.send(&[request("{}")]).await;
    let delivery = server.inbox().recv().await.unwrap();
    let quiet = tokio::time::timeout(short * 2, channel.connection.stream.fill_buf()).await;
    assert!(quiet.is_err(), "{quiet:?}");
    delivery.reply(&serde_json::json!({})).await.unwrap();
    assert_eq!(channel.answer().await.replies.len(), 1);
    channel.is_closed(1001, "the channel was idle too long").await;
    // A channel whose first frame does not come is closed too.
    let server = builder().body_timeout(short).start().await.unwrap();
    open(&server).await.is_closed(1001, "the channel was idle too long").await;
}

#[tokio::test]
async fn an_idle_channel_makes_room_for_another_connection_and_one_that_waits_does_not() {
    let server = builder().connections_max(2).start().await.unwrap();
    let mut busy = open(&server).await;
    busy.send(&[request("{}")]).await;
    let delivery = server.inbox().recv().await.unwrap();
    let mut idle = open(&server).await;
    idle.ask(&[message("{}")]).await;
    assert_eq!(connect(&server).await.request("GET", "/is/running", "", b"").await.status, 200);
    idle.is_closed(1001, "another connection needs its place").await;
    delivery.reply(&serde_json::json!({})).await.unwrap();
    assert_eq!(busy.answer().await.replies.len(), 1);
}

#[tokio::test]
async fn channels_count_among_the_connections_of_their_peer() {
    let server =
        builder().workers(1).connections_max(3).peer_connections_max(2).start().await.unwrap();
    let (mut channels, mut deliveries) = (Vec::new(), Vec::new());
    for _ in 0..2 {
        let mut channel = open(&server).await;
        channel.send(&[request("{}")]).await;
        deliveries.push(server.inbox().recv().await.unwrap());
        channels.push(channel);
    }
    // Under TLS 1.3 the client's handshake is done before the server's.
    if let Ok(mut refused) = connect_tls(server.address(), &tls(Some(identity("localhost")))).await
    {
        let get = b"GET /is/running HTTP/1.1\r\nhost: x\r\n\r\n";
        assert!(refused.write(get).await.is_err() || refused.read_response().await.is_err());
    }
    let mut other = connect_tls(server.address(), &tls(Some(identity("client2")))).await.unwrap();
    assert_eq!(other.request("GET", "/is/running", "", b"").await.status, 200);
    for (mut channel, delivery) in channels.into_iter().zip(deliveries) {
        delivery.reply(&serde_json::json!({})).await.unwrap();
        assert_eq!(channel.answer().await.replies.len(), 1);
    }
}

#[tokio::test]
async fn a_long_message_takes_of_the_memory_that_all_bodies_share() {
    let server = builder()
        .channel_message_bytes_max(1 << 20)
        .bodies_bytes_max(200_000)
        .start()
        .await
        .unwrap();
    let mut channel = open(&server).await;
    let body = format!(r#"{{"x":"{}"}}"#, "a".repeat(150_000));
    // Each message gives its memory back.
    for n in 0..3 {
        assert_eq!(channel.ask(&[message(&body)]).await, settled(&[(n, n, "accepted")]));
    }
    let longer = format!(r#"{{"x":"{}"}}"#, "a".repeat(400_000));
    channel.send(&[message(&longer)]).await;
    assert_eq!(channel.closed().await, (4503, "unavailable".to_owned()));
}

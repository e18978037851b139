//! Tests the limits on what a slow, silent or talkative peer can do.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ipc_protocol::{ProblemCode, Route};
use ipc_server::{Protocol, Server};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;

use crate::fixture::*;

const SHORT: Duration = Duration::from_millis(50);
const LONG: Duration = Duration::from_secs(600);
const CHUNKED: &str = "POST /message/submit HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n";

/// Waits for the end of a connection, on which no more bytes may arrive.
async fn ends<S: AsyncRead + AsyncWrite + Unpin>(connection: &mut Connection<S>) {
    let mut rest = Vec::new();
    // The connection may end in order or with an error.
    let end =
        tokio::time::timeout(Duration::from_secs(20), connection.stream.read_to_end(&mut rest));
    assert!(
        end.await.expect("the server ends the connection").is_err() || rest.is_empty(),
        "{rest:?}"
    );
}

async fn is_well(server: &Server) {
    assert_eq!(connect(server).await.request("GET", "/is/running", "", b"").await.status, 200);
}

#[tokio::test]
async fn the_first_head_of_a_connection_that_does_not_end_is_answered_with_408() {
    for begin in [&b""[..], b"GET /is/run"] {
        let server = builder().head_timeout(SHORT).idle_timeout(LONG).start().await.unwrap();
        let mut connection = connect(&server).await;
        connection.write(begin).await.unwrap();
        assert_eq!(connection.read_response().await.unwrap().status, 408);
        ends(&mut connection).await;
    }
}

#[tokio::test]
async fn one_byte_of_a_later_head_does_not_keep_a_connection() {
    for (protocol, begin) in
        [(Protocol::Https, "G"), (Protocol::Http, "G"), (Protocol::Https, "\r\n")]
    {
        let server = builder()
            .protocol(protocol)
            .head_timeout(SHORT)
            .idle_timeout(LONG)
            .start()
            .await
            .unwrap();
        match protocol {
            Protocol::Https => keeps_nobody_after(&mut connect(&server).await, begin).await,
            Protocol::Http => keeps_nobody_after(&mut connect_plain(&server).await, begin).await,
        }
    }
}

async fn keeps_nobody_after<S: AsyncRead + AsyncWrite + Unpin>(
    connection: &mut Connection<S>,
    begin: &str,
) {
    assert_eq!(connection.request("GET", "/is/running", "", b"").await.status, 200);
    connection.write(begin.as_bytes()).await.unwrap();
    ends(connection).await;
}

#[tokio::test]
async fn a_head_beyond_32_kib_is_answered_with_431_whatever_is_in_it() {
    let server = builder().start().await.unwrap();
    for long in [
        // The HTTP library panics at a header name of 64 KiB.
        format!("{}: x", "a".repeat(1 << 16)),
        format!("a: {}", "x".repeat(1 << 20)),
        "a: x\r\n".repeat(20_000),
    ] {
        for before in ["", "GET /is/running HTTP/1.1\r\nhost: x\r\n\r\n"] {
            let mut connection = connect(&server).await;
            let request = format!("{before}GET /is/running HTTP/1.1\r\nhost: x\r\n{long}\r\n\r\n");
            // The response may come before the whole request is written.
            let _ = connection.write(request.as_bytes()).await;
            if !before.is_empty() {
                assert_eq!(connection.read_response().await.unwrap().status, 200);
            }
            let answer = connection.read_response().await.unwrap();
            assert_eq!((answer.status, answer.header("connection")), (431, Some("close")));
            ends(&mut connection).await;
        }
    }
    let mut connection = connect(&server).await;
    let long = format!("a: {}\r\n", "x".repeat(30_000));
    assert_eq!(connection.request("GET", "/is/running", &long, b"").await.status, 200);
}

#[tokio::test]
async fn a_connection_that_is_idle_is_closed() {
    let server = builder().head_timeout(LONG).idle_timeout(SHORT).start().await.unwrap();
    let mut connection = connect(&server).await;
    assert_eq!(connection.request("GET", "/is/running", "", b"").await.status, 200);
    ends(&mut connection).await;
}

#[tokio::test]
async fn a_chunked_body_that_nobody_reads_ends_with_its_connection() {
    let server = builder().plaintext_bytes_max(1000).start().await.unwrap();
    let long = format!("2000\r\n{}\r\n", "a".repeat(0x2000));
    for (head, code) in [
        (CHUNKED, ProblemCode::TooLarge),
        (
            "POST /nowhere HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n",
            ProblemCode::NotFound,
        ),
        (
            "PUT /message/submit HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n",
            ProblemCode::MethodNotAllowed,
        ),
    ] {
        for goes_on in [false, true] {
            let mut connection = connect(&server).await;
            connection.write(format!("{head}\r\n{long}").as_bytes()).await.unwrap();
            let answer = connection.read_response().await.unwrap();
            answer.is_refusal(code);
            assert_eq!(answer.header("connection"), Some("close"));
            let start = Instant::now();
            while goes_on && connection.write(long.as_bytes()).await.is_ok() {
                assert!(
                    start.elapsed() < Duration::from_secs(20),
                    "the server reads and discards without end"
                );
            }
            if !goes_on {
                ends(&mut connection).await;
            }
        }
    }
}

#[tokio::test]
async fn a_chunked_body_that_was_read_to_its_end_keeps_the_connection_whatever_the_answer() {
    let server = builder().plaintext_bytes_max(1000).start().await.unwrap();
    let mut connection = connect(&server).await;
    for (body, code) in [
        ("4\r\nabcd\r\n0\r\n\r\n".to_owned(), ProblemCode::MalformedEnvelope),
        (format!("700\r\n{}\r\n0\r\n\r\n", "a".repeat(0x700)), ProblemCode::TooLarge),
    ] {
        connection.write(format!("{CHUNKED}\r\n{body}").as_bytes()).await.unwrap();
        connection.read_response().await.unwrap().is_refusal(code);
    }
    assert_eq!(connection.request("GET", "/is/running", "", b"").await.status, 200);
}

#[tokio::test]
async fn a_body_announced_to_be_too_long_is_refused_before_it_is_sent_to_whoever_asks() {
    let server = builder().plaintext_bytes_max(1000).start().await.unwrap();
    let mut connection = connect(&server).await;
    let head = "POST /message/submit HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 100000\r\n\r\n";
    connection.write(head.as_bytes()).await.unwrap();
    let answer = connection.read_response().await.unwrap();
    answer.is_refusal(ProblemCode::TooLarge);
    assert_eq!(answer.header("connection"), Some("close"));
    ends(&mut connection).await;
}

#[tokio::test]
async fn a_body_announced_to_be_too_long_that_does_not_come_is_too_long_rather_than_late() {
    let server = builder().plaintext_bytes_max(1000).body_timeout(SHORT).start().await.unwrap();
    let mut connection = connect(&server).await;
    let head = "POST /message/submit HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n";
    connection.write(head.as_bytes()).await.unwrap();
    connection.read_response().await.unwrap().is_refusal(ProblemCode::TooLarge);
}

#[tokio::test]
async fn bodies_share_the_memory_there_is_and_short_ones_need_none_of_it() {
    let server = builder().bodies_bytes_max(100_000).start().await.unwrap();
    let mut first = connect(&server).await;
    let head = "POST /message/submit HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 150000\r\ncontent-type: application/octet-stream\r\n\r\n";
    first.write(head.as_bytes()).await.unwrap();
    assert_eq!(first.read_response().await.unwrap().status, 100);
    first.write(&[0; 149_999]).await.unwrap();

    let start = Instant::now();
    let mut second = connect(&server).await;
    loop {
        // The first envelope's bytes may not have arrived yet.
        let answer = second.post(Route::MessageSubmit, &[0; 150_000]).await;
        if answer.status == 503 {
            answer.is_refusal(ProblemCode::Unavailable);
            assert_eq!(answer.header("retry-after"), Some("1"));
            break;
        }
        answer.is_refusal(ProblemCode::MalformedEnvelope);
        assert!(start.elapsed() < Duration::from_secs(10), "there is memory for both");
    }
    let session = admin_session(&server).await;
    second.submit(new_id(), &session, "{}").await.is_success();

    first.write(&[0]).await.unwrap();
    first.read_response().await.unwrap().is_refusal(ProblemCode::MalformedEnvelope);
    second
        .post(Route::MessageSubmit, &[0; 150_000])
        .await
        .is_refusal(ProblemCode::MalformedEnvelope);
}

#[tokio::test]
async fn a_long_envelope_is_opened_like_a_short_one() {
    let server = builder().start().await.unwrap();
    let (mut connection, session) = (connect(&server).await, admin_session(&server).await);
    let body = format!(r#"{{"x":"{}"}}"#, "a".repeat(400_000));
    connection.submit(new_id(), &session, &body).await.is_success();
    let plaintext = frame(Route::MessageSubmit, new_id(), Some(&session), &body);
    let text = HOME.keys.seal_base64url(&plaintext, now_secs(), [1; 16]);
    connection.request("POST", "/message/submit", "", text.as_bytes()).await.is_success();
    for _ in 0..2 {
        assert_eq!(server.inbox().recv().await.unwrap().body(), body);
    }
    let stale = HOME.keys.seal(&plaintext, now_secs() - 100, [1; 16]);
    connection.post(Route::MessageSubmit, &stale).await.is_refusal(ProblemCode::StaleEnvelope);
    connection
        .post(Route::MessageSubmit, &[0; 400_000])
        .await
        .is_refusal(ProblemCode::MalformedEnvelope);
}

#[tokio::test]
async fn silent_connections_do_not_keep_others_from_their_handshake() {
    let server = builder().handshakes_max(2).handshake_timeout(LONG).start().await.unwrap();
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(connect_plain(&server).await);
    }
    is_well(&server).await;
    // The server has closed the oldest connection.
    ends(&mut silent[0]).await;
}

#[tokio::test]
async fn a_handshake_that_takes_too_long_is_given_up() {
    let server = builder().handshake_timeout(SHORT).start().await.unwrap();
    ends(&mut connect_plain(&server).await).await;
}

#[tokio::test]
async fn where_all_places_are_taken_the_longest_idle_connection_makes_room() {
    let server = builder().connections_max(2).idle_timeout(LONG).start().await.unwrap();
    let mut first = connect(&server).await;
    let mut second = connect(&server).await;
    for connection in [&mut first, &mut second] {
        assert_eq!(connection.request("GET", "/is/running", "", b"").await.status, 200);
    }
    let mut third = connect(&server).await;
    assert_eq!(third.request("GET", "/is/running", "", b"").await.status, 200);
    ends(&mut first).await;
    assert_eq!(second.request("GET", "/is/running", "", b"").await.status, 200);
}

#[tokio::test]
async fn a_request_under_way_keeps_its_place_and_whoever_finds_none_is_sent_away() {
    let server = builder().connections_max(1).start().await.unwrap();
    let session = admin_session(&server).await;
    let mut busy = connect(&server).await;
    let envelope = sealed(Route::MessageSubmit, new_id(), Some(&session), "{}");
    let head = format!(
        "POST /message/submit HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-type: application/octet-stream\r\ncontent-length: {}\r\n\r\n",
        envelope.len()
    );
    busy.write(head.as_bytes()).await.unwrap();
    assert_eq!(busy.read_response().await.unwrap().status, 100);
    // Under TLS 1.3 the client's handshake ends before the server's.
    if let Ok(mut other) = connect_tls(server.address(), &tls(Some(identity("localhost")))).await {
        ends(&mut other).await;
    }
    busy.write(&envelope).await.unwrap();
    busy.read_response().await.unwrap().is_success();
    is_well(&server).await;
}

#[tokio::test]
async fn a_peer_with_as_many_connections_as_it_may_have_keeps_no_other_out() {
    let server = builder()
        .workers(1)
        .connections_max(4)
        .peer_connections_max(2)
        .idle_timeout(LONG)
        .start()
        .await
        .unwrap();
    let address = server.address();
    let own = || async move { connect_tls(address, &tls(Some(identity("localhost")))).await };
    let client2 =
        || async move { connect_tls(address, &tls(Some(identity("client2")))).await.unwrap() };
    // Idle for longer than any other.
    let mut other = client2().await;
    assert_eq!(other.request("GET", "/is/running", "", b"").await.status, 200);
    let mut busy = Vec::new();
    for _ in 0..2 {
        let mut connection = own().await.unwrap();
        let head = "POST /message/submit HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n";
        connection.write(head.as_bytes()).await.unwrap();
        assert_eq!(connection.read_response().await.unwrap().status, 100);
        busy.push(connection);
    }
    // Under TLS 1.3 the client's handshake is done before the server's.
    if let Ok(mut third) = own().await {
        ends(&mut third).await;
    }
    let mut newcomer = client2().await;
    assert_eq!(newcomer.request("GET", "/is/running", "", b"").await.status, 200);
    busy[0].write(b"xxxxx").await.unwrap();
    busy[0].read_response().await.unwrap().is_refusal(ProblemCode::MalformedEnvelope);
    // Of this peer's connections one is idle now, and makes room.
    is_well(&server).await;
    ends(&mut busy[0]).await;
    busy[1].write(b"xxxxx").await.unwrap();
    busy[1].read_response().await.unwrap().is_refusal(ProblemCode::MalformedEnvelope);
    assert_eq!(other.request("GET", "/is/running", "", b"").await.status, 200);
}

#[tokio::test]
async fn an_answer_that_nobody_takes_does_not_hold_its_connection() {
    let server = builder().protocol(Protocol::Http).body_timeout(SHORT).start().await.unwrap();
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let stream: TcpStream = socket.connect(server.address()).await.unwrap();
    let requests = "GET /is/running HTTP/1.1\r\nhost: x\r\n\r\n".repeat(1000);
    let start = Instant::now();
    loop {
        stream.writable().await.unwrap();
        match stream.try_write(requests.as_bytes()) {
            // The connection was reset, since the server had closed it.
            Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => break,
            _ => assert!(
                start.elapsed() < Duration::from_secs(20),
                "the server keeps the connection"
            ),
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(
        connect_plain(&server).await.request("GET", "/is/running", "", b"").await.status,
        200
    );
}

#[tokio::test]
async fn a_short_stop_timeout_still_is_one() {
    let server =
        Arc::new(builder().stop_timeout(Duration::from_millis(500)).start().await.unwrap());
    let session = admin_session(&server).await;
    let mut slow = connect(&server).await;
    let envelope = sealed(Route::MessageSubmit, new_id(), Some(&session), "{}");
    let head = format!(
        "POST /message/submit HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-type: application/octet-stream\r\ncontent-length: {}\r\n\r\n",
        envelope.len()
    );
    let mut idle = connect(&server).await;
    assert_eq!(idle.request("GET", "/is/running", "", b"").await.status, 200);
    slow.write(head.as_bytes()).await.unwrap();
    assert_eq!(slow.read_response().await.unwrap().status, 100);
    let finishing = async {
        // Once the idle connection is closed, the stop has begun.
        ends(&mut idle).await;
        slow.write(&envelope).await.unwrap();
        slow.read_response().await.unwrap()
    };
    let (answer, ()) = tokio::join!(finishing, server.stop());
    answer.is_success();
}

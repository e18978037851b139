//! Tests many requests on one connection before its first response (RFC 9112, sections 9.3.2 and
//! 9.6).

use std::time::Duration;

use ipc_protocol::{ProblemCode, Route};
use ipc_server::Protocol;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

use crate::fixture::*;

const LONG: Duration = Duration::from_secs(600);
const IS_RUNNING: &[u8] = b"GET /is/running HTTP/1.1\r\nhost: x\r\n\r\n";

/// How long a test waits for a response before it fails.
const SOON: Duration = Duration::from_secs(20);

fn posted(path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/octet-stream\r\ncontent-length: {}\r\n{headers}\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

fn submit(session: &str, headers: &str) -> Vec<u8> {
    let route = Route::MessageSubmit;
    posted(route.path(), headers, &sealed(route, new_id(), Some(session), "{}"))
}

/// Reads responses to the end of the connection.
async fn read_all<S: AsyncRead + AsyncWrite + Unpin>(
    connection: &mut Connection<S>,
) -> Vec<Response> {
    let mut responses = Vec::new();
    let reading = async {
        loop {
            match connection.read_response().await {
                Ok(response) => responses.push(response),
                Err(error) => {
                    break assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof, "{error}");
                }
            }
        }
    };
    tokio::time::timeout(SOON, reading).await.expect("the server ends the connection");
    responses
}

async fn read_some<S: AsyncRead + AsyncWrite + Unpin>(
    connection: &mut Connection<S>,
    count: usize,
) -> Vec<Response> {
    let mut responses = Vec::new();
    for _ in 0..count {
        let response = tokio::time::timeout(SOON, connection.read_response()).await;
        responses.push(response.expect("every request is answered soon").unwrap());
    }
    responses
}

#[tokio::test]
async fn requests_that_come_while_others_wait_for_their_answer_are_answered_in_their_order() {
    // No timer of the server may help.
    let server = builder().head_timeout(LONG).idle_timeout(LONG).start().await.unwrap();
    let session = admin_session(&server).await;
    let submits: Vec<u8> = (0..15).flat_map(|_| submit(&session, "")).collect();
    let route = Route::MessageRequest;
    for between in [IS_RUNNING.repeat(30), [submits, IS_RUNNING.repeat(15)].concat()] {
        let mut connection = connect(&server).await;
        let request = posted(route.path(), "", &sealed(route, new_id(), Some(&session), "{}"));
        // More requests than actix-http keeps waiting, then a head in two pieces.
        let (begun, rest) = IS_RUNNING.split_at(10);
        connection.write(&[&request, &between, begun].concat()).await.unwrap();
        // After this the server has read the first piece.
        let delivery = loop {
            let delivery = server.inbox().recv().await.unwrap();
            if delivery.wants_reply() {
                break delivery;
            }
            delivery.ack().await.unwrap();
        };
        connection.write(&[rest, &IS_RUNNING.repeat(20)].concat()).await.unwrap();
        delivery.reply(&serde_json::json!({"answer": 1})).await.unwrap();
        let responses = read_some(&mut connection, 52).await;
        for response in &responses {
            assert_eq!((response.status, response.header("connection")), (200, None));
        }
        let submitted = |response: &Response| response.body == b"success";
        let first_submit = responses.iter().position(submitted);
        assert!(
            first_submit.is_none_or(|first| first == 1 && responses[1..16].iter().all(submitted))
        );
        assert!(responses[31..].iter().all(|response| response.body.starts_with(b"Web-Server")));
    }
}

#[tokio::test]
async fn requests_that_were_read_while_others_waited_need_no_further_byte_to_be_answered() {
    // No timer of the server may help.
    let server = builder().head_timeout(LONG).idle_timeout(LONG).start().await.unwrap();
    let mut other = connect(&server).await;
    let mut connection = connect(&server).await;
    // A login takes long, and its end wakes the connection once.
    let route = Route::ClientAuth;
    let body = r#"{"username":"nobody","password":"wrong"}"#;
    let login = posted(route.path(), "", &sealed(route, new_id(), None, body));
    let (begun, rest) = IS_RUNNING.split_at(10);
    for piece in [
        [&login, IS_RUNNING.repeat(30).as_slice(), begun].concat(),
        [rest, &IS_RUNNING.repeat(20)].concat(),
    ] {
        connection.write(&piece).await.unwrap();
        // The only worker has read this piece before it answers a later request on another
        // connection.
        for _ in 0..2 {
            assert_eq!(other.request("GET", "/is/running", "", b"").await.status, 200);
        }
    }
    let responses = read_some(&mut connection, 52).await;
    responses[0].is_refusal(ProblemCode::BadCredentials);
    assert!(responses[1..].iter().all(|response| response.status == 200));
}

#[tokio::test]
async fn a_request_that_comes_in_two_pieces_costs_those_before_it_nothing() {
    let server = builder().start().await.unwrap();
    let session = admin_session(&server).await;
    let submits: Vec<u8> = (0..40).flat_map(|_| submit(&session, "")).collect();
    for cut in [submits.len() - 100, submits.len() - 1, 100] {
        let mut connection = connect(&server).await;
        let (first, second) = submits.split_at(cut);
        connection.write(first).await.unwrap();
        let before = if cut == 100 { 0 } else { 39 };
        let mut responses = read_some(&mut connection, before).await;
        connection.write(second).await.unwrap();
        responses.extend(read_some(&mut connection, 40 - before).await);
        for response in responses {
            response.is_success();
            assert_eq!(response.header("connection"), None);
        }
    }
}

#[tokio::test]
async fn a_request_that_asks_for_the_end_of_its_connection_is_the_last_to_be_answered() {
    let server = builder().start().await.unwrap();
    let session = admin_session(&server).await;
    for (last, header) in [
        (
            b"GET /is/running HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".to_vec(),
            Some("close"),
        ),
        (submit(&session, "Connection: keep-alive, Close\r\n"), Some("close")),
        // In HTTP/1.0 a request without a `Connection` header asks to end the connection.
        (b"GET /is/running HTTP/1.0\r\nhost: x\r\n\r\n".to_vec(), None),
    ] {
        let mut connection = connect(&server).await;
        let requests = [IS_RUNNING.repeat(3), last, IS_RUNNING.repeat(1000)].concat();
        connection.write(&requests).await.unwrap();
        let responses = read_all(&mut connection).await;
        assert!(responses.iter().all(|response| response.status == 200));
        let closing: Vec<_> =
            responses.iter().map(|response| response.header("connection")).collect();
        assert_eq!(closing, [None, None, None, header]);
    }
}

#[tokio::test]
async fn an_answer_that_ends_the_connection_is_the_last_one() {
    let server = builder().plaintext_bytes_max(1000).start().await.unwrap();
    let too_long = posted("/message/submit", "", &[0; 1500]);
    let chunked =
        b"POST /nope HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    for (request, code) in [
        (posted("/nope", "", b"body"), ProblemCode::NotFound),
        (chunked.to_vec(), ProblemCode::NotFound),
        (posted("/is/running", "", b"body"), ProblemCode::MethodNotAllowed),
    ] {
        let mut connection = connect(&server).await;
        connection.write(&request.repeat(40)).await.unwrap();
        let responses = read_all(&mut connection).await;
        assert_eq!(responses.len(), 1, "{:?}", String::from_utf8_lossy(&request));
        responses[0].is_refusal(code);
        assert_eq!(responses[0].header("connection"), Some("close"));
    }
    // After a body that was read to its end the connection stays open.
    let mut connection = connect(&server).await;
    connection.write(&too_long.repeat(3)).await.unwrap();
    for response in read_some(&mut connection, 3).await {
        response.is_refusal(ProblemCode::TooLarge);
        assert_eq!(response.header("connection"), None);
    }
}

#[tokio::test]
async fn the_wish_for_another_protocol_is_ignored_and_the_length_of_the_body_counts() {
    let server = builder().start().await.unwrap();
    let session = admin_session(&server).await;
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    let mut connection = connect(&server).await;
    connection.write(&[submit(&session, upgrade), IS_RUNNING.to_vec()].concat()).await.unwrap();
    let responses = read_all(&mut connection).await;
    assert_eq!(responses.len(), 1, "{responses:?}");
    responses[0].is_success();
    assert_eq!(
        responses[0].header("connection"),
        Some("close"),
        "so that no client waits for the other response"
    );

    for (request, status) in [
        (format!("GET /is/running HTTP/1.1\r\nhost: x\r\n{upgrade}\r\n"), 200),
        (format!("GET /nope HTTP/1.1\r\nhost: x\r\n{upgrade}\r\n"), 404),
        (
            "GET /nope HTTP/1.1\r\nhost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
                .to_owned(),
            404,
        ),
        // Without `Content-Length` there is no body.
        (format!("POST /message/submit HTTP/1.1\r\nhost: x\r\n{upgrade}\r\n"), 400),
    ] {
        let mut connection = connect(&server).await;
        connection.write(&[request.as_bytes(), IS_RUNNING].concat()).await.unwrap();
        let responses = read_all(&mut connection).await;
        let answers: Vec<_> = responses
            .iter()
            .map(|response| (response.status, response.header("connection")))
            .collect();
        assert_eq!(answers, [(status, Some("close"))], "{request}");
    }
}

#[tokio::test]
async fn a_client_that_closes_its_side_gets_all_its_answers() {
    let server = builder().protocol(Protocol::Http).start().await.unwrap();
    let mut connection = connect_plain(&server).await;
    connection.write(&IS_RUNNING.repeat(100)).await.unwrap();
    tokio::io::AsyncWriteExt::shutdown(&mut connection.stream).await.unwrap();
    assert_eq!(read_all(&mut connection).await.len(), 100);
}

/// A client that writes before it reads makes its requests wait in the sockets, not in the server.
#[tokio::test]
async fn any_number_of_requests_is_answered_while_the_answers_are_taken() {
    let server = builder().start().await.unwrap();
    let session = admin_session(&server).await;
    let connection = connect(&server).await;
    let (reader, mut writer) = tokio::io::split(connection.stream.into_inner());
    let mut connection = Connection {
        stream: tokio::io::BufReader::new(tokio::io::join(reader, tokio::io::empty())),
    };
    let writing = async move {
        for index in 0..2000 {
            let request = match index % 4 {
                0 => submit(&session, ""),
                1 => posted("/message/submit", "", b"no envelope"),
                2 => b"POST /message/submit HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\n\r\n".to_vec(),
                _ => IS_RUNNING.repeat(50),
            };
            tokio::io::AsyncWriteExt::write_all(&mut writer, &request).await.unwrap();
        }
        tokio::io::AsyncWriteExt::flush(&mut writer).await.unwrap();
        writer
    };
    let reading = async {
        for _ in 0..500 {
            for status in [200, 400, 400].into_iter().chain([200; 50]) {
                assert_eq!(connection.read_response().await.unwrap().status, status);
            }
        }
    };
    let taking = async {
        while let Some(delivery) = server.inbox().recv().await {
            delivery.ack().await.unwrap();
        }
    };
    tokio::select! {
        _ = tokio::time::timeout(SOON, async { tokio::join!(writing, reading) }) => (),
        () = taking => unreachable!("the server runs"),
    }
    let mut rest = [0; 1];
    assert!(tokio::time::timeout(Duration::ZERO, connection.stream.read(&mut rest)).await.is_err());
}

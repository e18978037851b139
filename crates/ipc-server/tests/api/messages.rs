//! Tests which messages are accepted, and how often.

use ipc_protocol::{Fingerprint, ProblemCode, Route};
use ipc_server::Server;
use sha2::{Digest, Sha256};

use crate::fixture::*;
use crate::ways::*;

async fn started() -> (Server, Connection, zeroize::Zeroizing<String>) {
    let server = builder().start().await.unwrap();
    let connection = connect(&server).await;
    let session = admin_session(&server).await;
    (server, connection, session)
}

#[tokio::test]
async fn a_message_is_delivered_as_it_was_sent_with_all_that_is_known_of_its_sender() {
    for way in Way::BOTH {
        let (server, _connection, session) = started().await;
        let id = new_id();
        let before = std::time::SystemTime::now();
        let body = r#"{ "test": 1.50, "é":"\u00e9" }"#;
        assert_eq!(way.open(&server, &session).await.send(id, body).await, Outcome::Accepted);
        let delivery = server.inbox().recv().await.unwrap();
        assert_eq!(delivery.body(), body);
        assert_eq!((delivery.id(), delivery.user()), (id, "ipc-admin"));
        assert!(delivery.received_at() >= before && !delivery.wants_reply());
        assert_eq!(delivery.peer(), Some("localhost"));
        let certificate = Sha256::digest(&identity("localhost").chain[0]);
        assert_eq!(
            delivery.certificate(),
            Some(Fingerprint::from_bytes(certificate.into())),
            "on_connect must see the TLS stream"
        );
    }
}

#[tokio::test]
async fn a_body_of_base64url_text_is_answered_in_kind() {
    let server = builder().start().await.unwrap();
    let mut connection = connect(&server).await;
    let text = |route: Route, session: Option<&str>, body: &str| {
        HOME.keys.seal_base64url(&frame(route, new_id(), session, body), now_secs(), [1; 16])
    };
    let admin = HOME.home.admin_credentials().unwrap();
    let body =
        serde_json::json!({"username": admin.username, "password": *admin.password}).to_string();
    let answer = connection
        .request("POST", "/client/auth", "", text(Route::ClientAuth, None, &body).as_bytes())
        .await;
    assert!(answer.body.starts_with(b"gAAAAA"));
    let session = session_in(&answer);
    for content_type in ["", "content-type: text/plain\r\n"] {
        let body = text(Route::MessageSubmit, Some(&session), "{}");
        connection
            .request("POST", "/message/submit", content_type, body.as_bytes())
            .await
            .is_success();
    }
}

#[tokio::test]
async fn a_raw_body_is_known_by_its_type_whatever_its_parameters() {
    let (_server, mut connection, session) = started().await;
    for content_type in ["application/octet-stream; charset=utf-8", "Application/Octet-Stream;"] {
        let envelope = sealed(Route::MessageSubmit, new_id(), Some(&session), "{}");
        let headers = format!("content-type: {content_type}\r\n");
        connection.request("POST", "/message/submit", &headers, &envelope).await.is_success();
    }
}

#[tokio::test]
async fn head_asks_whether_the_server_is_running_without_a_body() {
    let (_server, mut connection, _session) = started().await;
    connection.write(b"HEAD /is/running HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let answer = connection.read_head().await.unwrap();
    assert_eq!((answer.status, answer.header("content-length")), (200, Some("21")));
    assert_eq!(connection.request("GET", "/is/running", "", b"").await.body.len(), 21);
}

#[tokio::test]
async fn a_message_that_comes_again_either_way_is_answered_like_the_first_and_delivered_once() {
    for (first_way, second_way) in [
        (Way::Post, Way::Post),
        (Way::Post, Way::Channel),
        (Way::Channel, Way::Post),
        (Way::Channel, Way::Channel),
    ] {
        let (server, _connection, session) = started().await;
        let (mut first, mut second) =
            (first_way.open(&server, &session).await, second_way.open(&server, &session).await);
        let id = new_id();
        assert_eq!(first.send(id, "{}").await, Outcome::Accepted);
        assert_eq!(first.send(id, "{}").await, Outcome::Duplicate);
        assert_eq!(second.send(id, "{}").await, Outcome::Duplicate);
        let reused = Outcome::Refused(ProblemCode::IdReused);
        assert_eq!(first.send(id, r#"{"other":1}"#).await, reused);
        assert_eq!(second.send(id, r#"{"other":1}"#).await, reused);
        assert_eq!(
            second.send(new_id(), r#"{"n":2}"#).await,
            Outcome::Accepted,
            "a refused id does not affect later messages"
        );
        server.stop().await;
        assert_eq!(server.inbox().recv().await.unwrap().body(), "{}");
        assert_eq!(server.inbox().recv().await.unwrap().body(), r#"{"n":2}"#);
        assert!(server.inbox().recv().await.is_none());
    }
}

#[tokio::test]
async fn the_very_same_bytes_deliver_nothing_twice() {
    let (server, mut connection, session) = started().await;
    let captured = sealed(Route::MessageSubmit, new_id(), Some(&session), r#"{"n":2}"#);
    connection.post(Route::MessageSubmit, &captured).await.is_success();
    let replayed = connection.post(Route::MessageSubmit, &captured).await;
    replayed.is_success();
    assert_eq!(replayed.header("web-ipc-duplicate"), Some("true"));
    server.stop().await;
    assert_eq!(server.inbox().recv().await.unwrap().body(), r#"{"n":2}"#);
    assert!(server.inbox().recv().await.is_none());
}

#[tokio::test]
async fn the_same_id_of_another_user_is_another_message() {
    let add =
        || ipc_setup::users(&HOME.home).unwrap().add("same-id", "pass".to_owned().into()).unwrap();
    tokio::task::spawn_blocking(add).await.unwrap();
    for way in Way::BOTH {
        let (server, mut connection, session) = started().await;
        let other = session_in(&connection.log_in("same-id", "pass").await);
        let id = new_id();
        for session in [&session, &other] {
            assert_eq!(way.open(&server, session).await.send(id, "{}").await, Outcome::Accepted);
        }
        let (first, second) =
            (server.inbox().recv().await.unwrap(), server.inbox().recv().await.unwrap());
        assert_eq!((first.user(), second.user()), ("ipc-admin", "same-id"));
    }
}

#[tokio::test]
async fn a_message_of_16_mib_arrives_and_one_byte_more_is_refused() {
    let (server, mut connection, session) = started().await;
    let id = new_id();
    let around = frame(Route::MessageSubmit, id, Some(&session), r#"{"x":""}"#).len();
    let body = |length: usize| format!(r#"{{"x":"{}"}}"#, "a".repeat(length - around));
    let longest = body(16 * 1024 * 1024);
    connection.submit(id, &session, &longest).await.is_success();
    assert_eq!(server.inbox().recv().await.unwrap().body(), longest);
    // Sixteen bytes more make the envelope longer, whatever the padding was.
    connection
        .submit(new_id(), &session, &body(16 * 1024 * 1024 + 16))
        .await
        .is_refusal(ProblemCode::TooLarge);
}

#[tokio::test]
async fn two_servers_on_one_home_share_sessions_and_a_restart_logs_nobody_out() {
    let (first, _connection, session) = started().await;
    first.stop().await;
    let second = builder().name("localhost").start().await.unwrap();
    for way in Way::BOTH {
        assert_eq!(way.open(&second, &session).await.send(new_id(), "{}").await, Outcome::Accepted);
    }
}

#[tokio::test]
async fn over_plain_http_on_loopback_the_same_works_without_certificates() {
    for way in Way::BOTH {
        let server = builder().protocol(ipc_server::Protocol::Http).start().await.unwrap();
        let mut connection = connect_plain(&server).await;
        let session = connection.admin_session().await;
        let mut line = way.open_on(connection, &session).await;
        assert_eq!(line.send(new_id(), "{}").await, Outcome::Accepted);
        let delivery = server.inbox().recv().await.unwrap();
        assert_eq!((delivery.certificate(), delivery.peer()), (None, None));

        let secure = builder().start().await.unwrap();
        let refused = way.open(&secure, &session).await.send(new_id(), "{}").await;
        assert_eq!(refused, Outcome::Refused(ProblemCode::WrongCertificate));
    }
}

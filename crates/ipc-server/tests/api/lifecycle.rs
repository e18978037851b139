//! Tests how a server starts and stops.

use std::time::Duration;

use ipc_home::Home;
use ipc_protocol::{ProblemCode, Route};
use ipc_server::{Protocol, Server, StartError};

use crate::channel_fixture::{open, settled};
use crate::fixture::*;

/// A free port outside the range from which other tests' servers choose.
fn elsewhere() -> std::net::SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn a_stop_finishes_what_is_under_way_and_leaves_what_was_accepted() {
    let server = builder().bind(elsewhere()).start().await.unwrap();
    let mut idle = connect(&server).await;
    let session = admin_session(&server).await;
    idle.submit(new_id(), &session, r#"{"n":1}"#).await.is_success();

    // Half of this request's body has arrived when the server is told to stop.
    let mut slow = connect(&server).await;
    assert_eq!(slow.request("GET", "/is/running", "", b"").await.status, 200);
    let envelope = sealed(Route::MessageSubmit, new_id(), Some(&session), r#"{"n":2}"#);
    let head = format!(
        "POST /message/submit HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-type: application/octet-stream\r\ncontent-length: {}\r\n\r\n",
        envelope.len()
    );
    let (first_half, second_half) = envelope.split_at(50);
    slow.write(head.as_bytes()).await.unwrap();
    // When the server asks for the body, it is handling the request.
    assert_eq!(slow.read_response().await.unwrap().status, 100);
    slow.write(first_half).await.unwrap();

    let finishing = async {
        // Once the idle connection is closed, the stop has begun.
        assert!(idle.read_response().await.is_err());
        slow.write(second_half).await.unwrap();
        slow.read_response().await.unwrap()
    };
    let (answer, ()) = tokio::join!(finishing, server.stop());
    answer.is_success();
    assert_eq!(server.inbox().recv().await.unwrap().body(), r#"{"n":1}"#);
    assert_eq!(server.inbox().recv().await.unwrap().body(), r#"{"n":2}"#);
    assert!(server.inbox().recv().await.is_none());
    assert!(tokio::net::TcpStream::connect(server.address()).await.is_err());
    server.stop().await;
}

#[tokio::test]
async fn a_draining_server_works_on_and_says_503_to_a_load_balancer() {
    let server = builder().bind(elsewhere()).start().await.unwrap();
    let session = admin_session(&server).await;
    let mut kept = connect(&server).await;
    assert_eq!(kept.request("GET", "/is/running", "", b"").await.status, 200);

    server.begin_drain();
    server.begin_drain();
    let answer = kept.request("GET", "/is/running", "", b"").await;
    assert_eq!(answer.is_refusal(ProblemCode::ShuttingDown).detail, "the server is stopping");
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert_eq!(answer.header("connection"), None, "the connection is kept");
    kept.write(b"HEAD /is/running HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    assert_eq!(kept.read_head().await.unwrap().status, 503);

    // On this connection and on a new one, by POST and over a channel.
    kept.submit(new_id(), &session, r#"{"n":1}"#).await.is_success();
    let mut new = connect(&server).await;
    new.request("GET", "/is/running", "", b"").await.is_refusal(ProblemCode::ShuttingDown);
    new.submit(new_id(), &session, r#"{"n":2}"#).await.is_success();
    let mut channel = open(&server).await;
    let answer = channel.ask(&[(new_id(), r#"{"n":3}"#, None)]).await;
    assert_eq!(answer, settled(&[(0, 0, "accepted")]));
    for n in 1..=3 {
        let delivery = server.inbox().recv().await.unwrap();
        assert_eq!(delivery.body(), format!(r#"{{"n":{n}}}"#));
        delivery.ack().await.unwrap();
    }

    server.stop().await;
    assert!(kept.read_response().await.is_err());
    assert!(tokio::net::TcpStream::connect(server.address()).await.is_err());
}

#[tokio::test]
async fn a_stop_does_not_wait_for_ever() {
    let server = builder().stop_timeout(Duration::from_secs(1)).start().await.unwrap();
    let mut stuck = connect(&server).await;
    stuck
        .write(b"POST /message/submit HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nhalf")
        .await
        .unwrap();
    tokio::time::timeout(Duration::from_secs(20), server.stop()).await.expect("the server stops");
}

#[tokio::test]
async fn a_stopped_server_frees_its_port_for_the_next() {
    let server = builder().bind(elsewhere()).start().await.unwrap();
    let address = server.address();
    let session = admin_session(&server).await;
    server.stop().await;
    let next = builder().bind(address).start().await.unwrap();
    connect(&next).await.submit(new_id(), &session, "{}").await.is_success();
}

#[tokio::test]
async fn a_dropped_server_closes_its_inbox() {
    let server = builder().start().await.unwrap();
    let inbox = server.inbox().clone();
    drop(server);
    assert!(inbox.recv().await.is_none());
}

#[test]
fn the_blocking_face_starts_and_stops() {
    let server = builder().start_blocking().unwrap();
    let inbox = server.inbox().clone();
    assert!((3000..=3999).contains(&server.address().port()));
    assert_eq!(server.name(), "localhost");
    server.stop();
    assert!(inbox.recv_blocking().is_none());
}

#[tokio::test]
async fn what_keeps_a_server_from_starting_is_named_with_what_to_do() {
    let refused = |error: StartError| {
        (error.to_string(), error.remedy().map_or_else(String::new, |remedy| remedy.to_string()))
    };

    let first = builder().start().await.unwrap();
    let (what, remedy) = refused(builder().bind(first.address()).start().await.unwrap_err());
    assert!(
        what.contains(&first.address().to_string()) && remedy.contains("another port"),
        "{what}; {remedy}"
    );

    let (what, remedy) = refused(builder().name("nobody").start().await.unwrap_err());
    assert!(
        what.contains("nobody") && remedy.contains("new certificate for `nobody`"),
        "{what}; {remedy}"
    );

    let error = builder().name("../localhost").start().await.unwrap_err();
    assert!(matches!(error, StartError::Name { .. }), "{error}");

    let error = builder().protocol(Protocol::Http).bind("0.0.0.0:0").start().await.unwrap_err();
    assert!(
        matches!(error, StartError::RemoteHttp { .. })
            && error.remedy().unwrap().to_string().contains("https"),
        "{error}"
    );

    let nowhere = Home::at(HOME.home.root().join("no-home"));
    let error = Server::builder(&nowhere).start().await.unwrap_err();
    assert!(error.remedy().is_some(), "{error}");
}

#[tokio::test]
async fn plain_http_elsewhere_starts_when_the_danger_is_named() {
    let server = builder()
        .protocol(Protocol::Http)
        .bind("0.0.0.0:0")
        .dangerously_allow_remote_http()
        .start()
        .await;
    server.unwrap().stop().await;
}

#[tokio::test]
async fn a_home_is_not_moved_away_while_a_server_has_it_whatever_its_inbox() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("home");
    let options = ipc_setup::InitOptions { force: true, ..ipc_setup::InitOptions::now() };
    // Making a home blocks, and the thread of an async test must not block.
    let init = |path: std::path::PathBuf| {
        tokio::task::spawn_blocking(move || ipc_setup::init(&path, &options))
    };
    let home = init(path.clone()).await.unwrap().unwrap().home;
    for inbox in [
        ipc_server::InboxChoice::from(ipc_server::Inbox::memory()),
        ipc_server::Inbox::durable().into(),
    ] {
        let server = Server::builder(&home).bind(elsewhere()).inbox(inbox).start().await.unwrap();
        let error = init(path.clone()).await.unwrap().unwrap_err();
        assert!(matches!(error, ipc_setup::SetupError::InUse { .. }), "{error:?}");
        server.stop().await;
    }
    assert!(
        init(path).await.unwrap().unwrap().kept_aside.is_some(),
        "a stopped server releases its home"
    );
}

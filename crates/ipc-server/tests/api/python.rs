//! Peers that run the unmodified Python tool: pickled dicts in envelopes, and no session token.
//!
//! `xtask/src/e2e/python_peer.py` is such a peer in Python.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipc_home::PeerName;
use ipc_inbox::MemoryOptions;
use ipc_pickle::from_json;
use ipc_protocol::{MessageId, ProblemCode, Protocol, Route};
use ipc_server::{Server, ServerBuilder, StartError};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::BufReader;
use tokio::net::TcpSocket;
use tokio_rustls::TlsConnector;

use crate::fixture::*;
use crate::trust::{OwnHome, own_home};
use crate::ways::*;

fn python() -> ServerBuilder {
    builder().python_compat()
}

/// Seals a plaintext as Python's `cryptography` does.
fn token_at(plaintext: &[u8], sealed_at_secs: u64) -> String {
    HOME.keys.seal_base64url(plaintext, sealed_at_secs, *new_id().as_bytes())
}

fn token(plaintext: &[u8]) -> String {
    token_at(plaintext, now_secs())
}

/// The body of a message or a login, given as JSON.
fn pickled(object: &str) -> String {
    token(&from_json(object).unwrap())
}

fn credentials(username: &str, password: &str) -> String {
    serde_json::json!({"username": username, "password": password}).to_string()
}

fn admin() -> String {
    let admin = HOME.home.admin_credentials().unwrap();
    credentials(&admin.username, &admin.password)
}

impl Connection {
    /// Posts a body as the Python tool does: without a content type.
    async fn post_python(&mut self, route: Route, token: &str) -> Response {
        self.request("POST", route.path(), "", token.as_bytes()).await
    }

    async fn submit_python(&mut self, token: &str) -> Response {
        self.post_python(Route::MessageSubmit, token).await
    }

    async fn log_in_python(&mut self, credentials: &str) -> Response {
        self.post_python(Route::ClientAuth, &pickled(credentials)).await
    }
}

/// The id that a token gives its message.
fn id_of(token: &str) -> MessageId {
    let raw = base64_simd::URL_SAFE.decode_to_vec(token).unwrap();
    let mut id: [u8; 16] = raw[raw.len() - 32..][..16].try_into().unwrap();
    id[6] = id[6] & 0x0f | 0x80;
    id[8] = id[8] & 0x3f | 0x80;
    MessageId::from_bytes(id)
}

/// A connection from another address of this host.
async fn connect_from(source: &str, server: &Server, config: &Arc<ClientConfig>) -> Connection {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(source.parse().unwrap(), 0)).unwrap();
    let stream = socket.connect(server.address()).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let stream = TlsConnector::from(Arc::clone(config)).connect(name, stream).await.unwrap();
    Connection { stream: BufReader::new(stream) }
}

#[tokio::test]
async fn the_tools_client_logs_in_and_its_message_arrives_once_however_often_it_is_sent() {
    let server = python().start().await.unwrap();
    let message = pickled(r#"{"test":1,"at":[1.0,null]}"#);
    // Its client makes a new connection for each request.
    let answer = connect(&server).await.submit_python(&message).await;
    answer.is_refusal(ProblemCode::SessionExpired);
    let running = connect(&server).await.request("GET", "/is/running", "", b"").await;
    assert_eq!(running.status, 200);
    connect(&server).await.log_in_python(&admin()).await.is_success();
    let first = connect(&server).await.submit_python(&message).await;
    first.is_success();
    assert_eq!(first.header("web-ipc-duplicate"), None);
    for _ in 0..2 {
        let again = connect(&server).await.submit_python(&message).await;
        again.is_success();
        assert_eq!(again.header("web-ipc-duplicate"), Some("true"));
    }
    // The same dict, sealed again, is another message.
    connect(&server).await.submit_python(&pickled(r#"{"test":1}"#)).await.is_success();

    server.stop().await;
    let delivery = server.inbox().recv().await.unwrap();
    assert_eq!(delivery.body(), r#"{"test":1,"at":[1.0,null]}"#);
    assert_eq!((delivery.user(), delivery.peer()), ("ipc-admin", Some("localhost")));
    assert!(delivery.certificate().is_some());
    assert_eq!(delivery.id(), id_of(&message));
    assert_eq!(server.inbox().recv().await.unwrap().body(), r#"{"test":1}"#);
    assert!(server.inbox().recv().await.is_none());
}

#[tokio::test]
async fn without_being_told_to_a_server_takes_no_pickle() {
    let server = builder().start().await.unwrap();
    let mut connection = connect(&server).await;
    let answer = connection.log_in_python(&admin()).await;
    answer.is_refusal(ProblemCode::MalformedFrame);
    let answer = connection.submit_python(&pickled(r#"{"test":1}"#)).await;
    answer.is_refusal(ProblemCode::MalformedFrame);
}

#[tokio::test]
async fn frames_are_taken_beside_pickles_raw_as_text_and_long() {
    let server = python().start().await.unwrap();
    let mut connection = connect(&server).await;
    connection.log_in_python(&admin()).await.is_success();
    let session = connection.admin_session().await;
    connection.submit(new_id(), &session, r#"{"n":0}"#).await.is_success();
    let long = format!(r#"{{"n":"{}"}}"#, "x".repeat(200_000));
    for body in [r#"{"n":1}"#, &long] {
        let frame = frame(Route::MessageSubmit, new_id(), Some(&session), body);
        connection.submit_python(&token(&frame)).await.is_success();
    }
    // A frame brings its own session: that of the peer does not count for it.
    let frame = frame(Route::MessageSubmit, new_id(), None, "{}");
    let answer = connection.submit_python(&token(&frame)).await;
    answer.is_refusal(ProblemCode::SessionExpired);
    let mut channel = Way::Channel.open(&server, &session).await;
    assert_eq!(channel.send(new_id(), r#"{"n":2}"#).await, Outcome::Accepted);
    for body in [r#"{"n":3}"#, &long] {
        connection.submit_python(&pickled(body)).await.is_success();
    }
    for body in [r#"{"n":0}"#, r#"{"n":1}"#, &long, r#"{"n":2}"#, r#"{"n":3}"#, &long] {
        assert_eq!(server.inbox().recv().await.unwrap().body(), body);
    }
}

#[tokio::test]
async fn a_pickle_that_is_not_data_is_refused_and_nothing_is_put() {
    let server = python().start().await.unwrap();
    let mut connection = connect(&server).await;
    connection.log_in_python(&admin()).await.is_success();
    for (pickle, code) in [
        // {"a": os.system("…")} by `__reduce__`, in protocols 0, 2 and 4.
        (
            &b"(dp0\nVa\np1\ncposix\nsystem\np2\n(Vtouch x\np3\ntp4\nRp5\ns."[..],
            ProblemCode::MalformedFrame,
        ),
        (
            b"\x80\x02}q\0X\x01\0\0\0aq\x01cposix\nsystem\nX\x05\0\0\0touch\x85Rs.",
            ProblemCode::MalformedFrame,
        ),
        (
            b"\x80\x04}\x8c\x01a\x8c\x05posix\x8c\x06system\x93\x8c\x05touch\x85Rs.",
            ProblemCode::MalformedFrame,
        ),
        (b"\x80\x04cposix\nsystem\n.", ProblemCode::MalformedFrame),
        (b"\x80\x04}\x8c\x01aC\x01bs.", ProblemCode::MalformedFrame),
        (b"\x80\x04}K\x01Ns.", ProblemCode::MalformedFrame),
        (b"\x80\x04}", ProblemCode::MalformedFrame),
        (b"\x80\x04].", ProblemCode::NotAnObject),
        (b"\x80\x04N.", ProblemCode::NotAnObject),
        (b"cposix\nsystem\n.", ProblemCode::MalformedFrame),
    ] {
        connection.submit_python(&token(pickle)).await.is_refusal(code);
        let answer = connection.post_python(Route::ClientAuth, &token(pickle)).await;
        answer.is_refusal(code);
    }
    server.stop().await;
    assert!(server.inbox().recv().await.is_none());
}

#[tokio::test]
async fn a_pickle_that_becomes_too_long_is_refused_and_one_at_the_limit_is_not() {
    let server = python().plaintext_bytes_max(1000).start().await.unwrap();
    let mut connection = connect(&server).await;
    connection.log_in_python(&admin()).await.is_success();
    let doubled = |count: usize| {
        let items = [b"h\0".repeat(count), b"e".to_vec()].concat();
        token(&[b"\x80\x04}\x8c\x01a](\x8c\x60", &[b'x'; 96][..], b"q\0", &items, b"s."].concat())
    };
    // {"a":["x…",…]} with 99 bytes for each of them.
    connection.submit_python(&doubled(9)).await.is_success();
    connection.submit_python(&doubled(10)).await.is_refusal(ProblemCode::TooLarge);
    connection
        .submit_python(&pickled(&format!(r#"{{"a":"{}"}}"#, "x".repeat(1500))))
        .await
        .is_refusal(ProblemCode::TooLarge);
}

#[tokio::test]
async fn to_read_a_pickle_takes_memory_from_the_budget() {
    let server = python().bodies_bytes_max(5_000_000).start().await.unwrap();
    let mut connection = connect(&server).await;
    connection.log_in_python(&admin()).await.is_success();
    // Lists within a list, of some kilobytes: 176 bytes for each of them, and 32 of text.
    let lists =
        |count: usize| token(&[&b"\x80\x04}\x8c\x01a]("[..], &b"]".repeat(count), b"es."].concat());
    connection.submit_python(&lists(20_000)).await.is_success();
    let answer = connection.submit_python(&lists(30_000)).await;
    answer.is_refusal(ProblemCode::Unavailable);
    assert_eq!(answer.header("retry-after"), Some("1"));
    // All of it came back.
    for _ in 0..3 {
        connection.submit_python(&lists(20_000)).await.is_success();
    }
}

#[tokio::test]
async fn references_make_a_message_only_so_many_times_as_long_as_its_pickle() {
    let server = python().start().await.unwrap();
    let mut connection = connect(&server).await;
    connection.log_in_python(&admin()).await.is_success();
    // {"a":["x…",…]}, whose pickle has some 10,000 bytes.
    let repeated = |count: usize| {
        let text = [&b"\x80\x04}\x8c\x01a](X\x10\x27\0\0"[..], &[b'x'; 10_000], b"q\0"].concat();
        token(&[&text[..], &b"h\0".repeat(count), b"es."].concat())
    };
    connection.submit_python(&repeated(36)).await.is_success();
    connection.submit_python(&repeated(40)).await.is_refusal(ProblemCode::TooLarge);
}

#[tokio::test]
async fn a_login_that_is_sent_as_a_message_is_not_put() {
    let server = python().start().await.unwrap();
    let mut connection = connect(&server).await;
    connection.log_in_python(&admin()).await.is_success();
    for login in [
        admin(),
        credentials("x", "hunter2"),
        r#"{"password":"hunter2","username":"x"}"#.to_owned(),
    ] {
        let answer = connection.submit_python(&pickled(&login)).await;
        let problem = answer.is_refusal(ProblemCode::MalformedFrame);
        assert!(!problem.detail.contains("hunter2"));
    }
    for message in [r#"{"username":"x"}"#, r#"{"username":"x","password":"y","more":1}"#] {
        connection.submit_python(&pickled(message)).await.is_success();
    }
    server.stop().await;
    assert_eq!(server.inbox().recv().await.unwrap().body(), r#"{"username":"x"}"#);
    assert!(server.inbox().recv().await.unwrap().body().contains("more"));
    assert!(server.inbox().recv().await.is_none());
}

#[tokio::test]
async fn a_login_of_another_form_or_with_a_wrong_password_is_refused() {
    let server = python().failed_logins_max(3).start().await.unwrap();
    let mut connection = connect(&server).await;
    for form in [
        "{}",
        r#"{"username":"a"}"#,
        r#"{"username":"a","password":17171717}"#,
        r#"{"username":"a","password":"hunter2","x":1}"#,
    ] {
        let problem = connection.log_in_python(form).await.is_refusal(ProblemCode::MalformedFrame);
        assert!(!problem.detail.contains("hunter2") && !problem.detail.contains("1717"));
    }
    // A login of another form was not tried and does not count.
    for _ in 0..3 {
        let answer = connection.log_in_python(&credentials("guessed", "wrong")).await;
        answer.is_refusal(ProblemCode::BadCredentials);
    }
    let answer = connection.log_in_python(&credentials("guessed", "wrong")).await;
    answer.is_refusal(ProblemCode::TooManyAttempts);
    let answer = connection.submit_python(&pickled("{}")).await;
    answer.is_refusal(ProblemCode::SessionExpired);
}

#[tokio::test]
async fn failed_logins_of_one_client_keep_no_other_out_that_has_the_same_pair() {
    let server = python().failed_logins_max(1).peer_failed_logins_max(2).start().await.unwrap();
    let pair = tls(Some(identity("localhost")));
    let mut hostile = connect_from("127.0.0.2", &server, &pair).await;
    let admin_with =
        |password| credentials(&HOME.home.admin_credentials().unwrap().username, password);
    for (login, code) in [
        (admin_with("wrong"), ProblemCode::BadCredentials),
        (admin(), ProblemCode::TooManyAttempts),
        (credentials("guessed", "wrong"), ProblemCode::BadCredentials),
        (credentials("another", "wrong"), ProblemCode::TooManyAttempts),
    ] {
        hostile.log_in_python(&login).await.is_refusal(code);
    }
    let mut other = connect_from("127.0.0.1", &server, &pair).await;
    other.log_in_python(&admin()).await.is_success();
    other
        .log_in_python(&credentials("another", "wrong"))
        .await
        .is_refusal(ProblemCode::BadCredentials);
    // Nor those that send frames.
    other.admin_session().await;
}

#[tokio::test]
async fn a_session_is_that_of_an_address_and_a_certificate_together() {
    let server = python().start().await.unwrap();
    let (own, other) = (tls(Some(identity("localhost"))), tls(Some(identity("client2"))));
    let mut first = connect_from("127.0.0.1", &server, &own).await;
    first.log_in_python(&admin()).await.is_success();
    first.submit_python(&pickled("{}")).await.is_success();
    for (source, config) in [("127.0.0.1", &other), ("127.0.0.2", &own)] {
        let mut stranger = connect_from(source, &server, config).await;
        let route = Route::MessageSubmit.path();
        for headers in ["", "x-forwarded-for: 127.0.0.1\r\n", "forwarded: for=127.0.0.1\r\n"] {
            let answer = stranger.request("POST", route, headers, pickled("{}").as_bytes()).await;
            answer.is_refusal(ProblemCode::SessionExpired);
        }
        stranger.log_in_python(&admin()).await.is_success();
        stranger.submit_python(&pickled("{}")).await.is_success();
    }
    first.submit_python(&pickled("{}")).await.is_success();
}

#[tokio::test]
async fn a_login_or_message_that_was_captured_is_good_for_nothing() {
    let server = python().start().await.unwrap();
    let mut connection = connect(&server).await;
    let login = pickled(&admin());
    connection.post_python(Route::ClientAuth, &login).await.is_success();
    let mut stranger =
        connect_tls(server.address(), &tls(Some(identity("client2")))).await.unwrap();
    let answer = stranger.post_python(Route::ClientAuth, &login).await;
    answer.is_refusal(ProblemCode::IdReused);
    let answer = stranger.submit_python(&pickled("{}")).await;
    answer.is_refusal(ProblemCode::SessionExpired);
    let pickle = from_json("{}").unwrap();
    for sealed_at_secs in [now_secs() - 3600, now_secs() + 3600] {
        let answer = connection.submit_python(&token_at(&pickle, sealed_at_secs)).await;
        answer.is_refusal(ProblemCode::StaleEnvelope);
        let login = token_at(&from_json(&admin()).unwrap(), sealed_at_secs);
        let answer = connection.post_python(Route::ClientAuth, &login).await;
        answer.is_refusal(ProblemCode::StaleEnvelope);
    }
    let forged = pickled("{}").replacen("gAAAAA", "gAAAAB", 1);
    connection.submit_python(&forged).await.is_refusal(ProblemCode::MalformedEnvelope);
}

#[tokio::test]
async fn a_session_ends_with_its_time_and_not_with_its_use() {
    let server = python().session_lifetime(Duration::ZERO).start().await.unwrap();
    let mut connection = connect(&server).await;
    connection.log_in_python(&admin()).await.is_success();
    let answer = connection.submit_python(&pickled("{}")).await;
    answer.is_refusal(ProblemCode::SessionExpired);
}

#[tokio::test]
async fn the_oldest_session_makes_room_and_its_peer_logs_in_again() {
    let server = python().python_sessions_max(1).start().await.unwrap();
    let mut first = connect(&server).await;
    let mut second = connect_tls(server.address(), &tls(Some(identity("client2")))).await.unwrap();
    first.log_in_python(&admin()).await.is_success();
    second.log_in_python(&admin()).await.is_success();
    second.submit_python(&pickled("{}")).await.is_success();
    first.submit_python(&pickled("{}")).await.is_refusal(ProblemCode::SessionExpired);
    first.log_in_python(&admin()).await.is_success();
    first.submit_python(&pickled("{}")).await.is_success();
}

#[tokio::test]
async fn what_one_user_sent_does_not_become_a_message_of_the_next_one() {
    let place = own_home();
    let home = place.home.clone();
    tokio::task::spawn_blocking(move || {
        let users = ipc_setup::users(&home).unwrap();
        for user in ["first", "second"] {
            users.add(user, "pass".to_owned().into()).unwrap();
        }
    })
    .await
    .unwrap();
    let server = Server::builder(&place.home).bind("127.0.0.1:0").python_compat();
    let server = server.start().await.unwrap();
    let mut connection = connect(&server).await;
    connection.log_in_python(&credentials("first", "pass")).await.is_success();
    let message = pickled(r#"{"n":1}"#);
    connection.submit_python(&message).await.is_success();
    // The answer was lost, and somebody else logs in from the same host before it is sent again.
    connection.log_in_python(&credentials("second", "pass")).await.is_success();
    connection.submit_python(&message).await.is_refusal(ProblemCode::IdReused);
    connection.submit_python(&pickled(r#"{"n":2}"#)).await.is_success();
    connection.log_in_python(&credentials("first", "pass")).await.is_success();
    connection.submit_python(&message).await.is_success();

    server.stop().await;
    for expected in [("first", r#"{"n":1}"#), ("second", r#"{"n":2}"#)] {
        let delivery = server.inbox().recv().await.unwrap();
        assert_eq!((delivery.user(), delivery.body()), expected);
    }
    assert!(server.inbox().recv().await.is_none());
}

#[tokio::test]
async fn a_deleted_user_a_new_password_a_bound_user_and_a_dropped_session_key_end_a_session() {
    let place = own_home();
    let home = place.home.clone();
    tokio::task::spawn_blocking(move || {
        let users = ipc_setup::users(&home).unwrap();
        for user in ["leaver", "changer", "bound", "stayer"] {
            users.add(user, "pass".to_owned().into()).unwrap();
        }
    })
    .await
    .unwrap();
    let inbox = MemoryOptions::default().messages_max(1_000_000).build();
    let server = Server::builder(&place.home)
        .bind("127.0.0.1:0")
        .workers(1)
        .inbox(inbox)
        .python_compat()
        .start()
        .await
        .unwrap();
    let mut connection = connect(&server).await;
    for (user, code) in [
        ("leaver", ProblemCode::SessionExpired),
        ("changer", ProblemCode::SessionExpired),
        ("bound", ProblemCode::WrongCertificate),
        ("stayer", ProblemCode::SessionExpired),
    ] {
        connection.log_in_python(&credentials(user, "pass")).await.is_success();
        connection.submit_python(&pickled("{}")).await.is_success();
        let home = place.home.clone();
        let change = move || {
            let users = ipc_setup::users(&home).unwrap();
            match user {
                "leaver" => users.delete(user).unwrap(),
                "changer" => users.change_password(user, "pass2".to_owned().into()).unwrap(),
                "bound" => users.bind(user, "client2").unwrap(),
                _ => {
                    let key = ipc_envelope::Key::from_bytes([9; 32]);
                    let path = home.session_key_file();
                    ipc_home::write_secret_atomically(&path, key.to_base64url().as_bytes())
                        .unwrap();
                }
            }
        };
        tokio::task::spawn_blocking(change).await.unwrap();
        let start = Instant::now();
        loop {
            let answer = connection.submit_python(&pickled("{}")).await;
            if answer.status != 200 {
                answer.is_refusal(code);
                break;
            }
            assert!(start.elapsed() < Duration::from_secs(30), "{user} is still taken");
        }
    }
}

#[tokio::test]
async fn a_full_inbox_refuses_and_the_same_bytes_are_taken_once_there_is_room() {
    let inbox = MemoryOptions::default().messages_max(1).build();
    let server = python().inbox(inbox).start().await.unwrap();
    let mut connection = connect(&server).await;
    connection.log_in_python(&admin()).await.is_success();
    let (first, second) = (pickled(r#"{"n":1}"#), pickled(r#"{"n":2}"#));
    connection.submit_python(&first).await.is_success();
    let answer = connection.submit_python(&second).await;
    answer.is_refusal(ProblemCode::InboxFull);
    assert_eq!(answer.header("retry-after"), Some("1"));
    let delivery = server.inbox().recv().await.unwrap();
    delivery.ack().await.unwrap();
    let again = connection.submit_python(&second).await;
    again.is_success();
    assert_eq!(again.header("web-ipc-duplicate"), None);
}

/// A home with an authority and a pair as the Python tool makes them, which both ends present.
fn home_of_the_tool() -> (OwnHome, Arc<ClientConfig>) {
    let place = own_home();
    let made = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python-tool");
    let read = |file| std::fs::read(made.join(file)).unwrap();
    let write = |file, content: &[u8]| {
        ipc_home::write_secret_atomically(&place.home.root().join(file), content).unwrap();
    };
    for file in ["web-ipc-ca.key", "localhost.crt", "localhost.key"] {
        write(file, &read(file));
    }
    let (certificate, key) = (read("web-ipc-ca.crt"), read("web-ipc-ca.key"));
    let (authority, _) = ipc_pki::Authority::adopt(&certificate, &key, now_secs()).unwrap();
    write("web-ipc-ca.crt", authority.certificate_pem());
    let mut roots = rustls::RootCertStore::empty();
    for certificate in place.home.ca_certificates().unwrap() {
        roots.add(certificate).unwrap();
    }
    let pair = place.home.identity(&PeerName::parse("localhost").unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(pair.chain, pair.key)
        .unwrap();
    (place, Arc::new(config))
}

#[tokio::test]
async fn the_tools_own_certificates_are_good_at_both_ends_and_can_be_revoked() {
    let (place, config) = home_of_the_tool();
    let server = Server::builder(&place.home)
        .bind("127.0.0.1:0")
        .workers(1)
        .python_compat()
        .start()
        .await
        .unwrap();
    let mut connection = connect_tls(server.address(), &config).await.unwrap();
    connection.log_in_python(&admin()).await.is_success();
    connection.submit_python(&pickled("{}")).await.is_success();
    let delivery = server.inbox().recv().await.unwrap();
    assert_eq!((delivery.user(), delivery.peer()), ("ipc-admin", Some("localhost")));

    // It does not name its authority's key, by which a revocation list is found for others.
    place.revoke(&place.home.identity(&PeerName::parse("localhost").unwrap()).unwrap());
    let start = Instant::now();
    loop {
        let answer = connection.submit_python(&pickled("{}")).await;
        if answer.status == 403 {
            answer.is_refusal(ProblemCode::CertificateRevoked);
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(30), "the revoked certificate is taken");
    }
}

#[tokio::test]
async fn over_plain_http_the_tools_peers_are_not_accepted() {
    let error = python().protocol(Protocol::Http).start().await.unwrap_err();
    assert!(matches!(error, StartError::PythonCompatHttp), "{error:?}");
    assert!(error.remedy().is_some());
}

//! Tests logins, and how sessions end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ipc_protocol::{ProblemCode, Route};
use ipc_server::Server;
use ipc_store::{
    BoxFuture, CredentialVersion, CurrentUser, DatabaseError, LoginTally, Password, StoreError,
    UserStore, Username,
};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use crate::channel_fixture::{message, open_with};
use crate::fixture::*;
use crate::logged;
use crate::ways::*;

/// Runs a change of the users on a blocking thread.
async fn change_users(change: impl FnOnce(ipc_setup::Users) + Send + 'static) {
    tokio::task::spawn_blocking(move || change(ipc_setup::users(&HOME.home).unwrap()))
        .await
        .unwrap();
}

#[tokio::test]
async fn unknown_user_and_wrong_password_are_one_answer() {
    let server = builder().start().await.unwrap();
    let mut connection = connect(&server).await;
    let wrong = connection.log_in("ipc-admin", "wrong").await;
    let unknown = connection.log_in("nobody", "wrong").await;
    let expected = wrong.is_refusal(ProblemCode::BadCredentials);
    assert_eq!(unknown.is_refusal(ProblemCode::BadCredentials), expected);
    assert_eq!(wrong.header("www-authenticate"), Some("Web-IPC"));
    for (username, password) in [("", ""), ("ipc-admin", ""), ("ipc-admin\0", "x"), ("a", "x\0")] {
        let answer = connection.log_in(username, password).await;
        assert_eq!(answer.is_refusal(ProblemCode::BadCredentials), expected);
    }
}

#[tokio::test]
async fn a_first_message_without_a_session_is_logged_as_normal_by_post_and_over_a_channel() {
    logged::watch();
    let server = builder().start().await.unwrap();
    let mut posting = connect(&server).await;
    let mut channel = open_with(connect(&server).await, None).await;
    let port = |connection: &Connection| {
        connection.stream.get_ref().get_ref().0.local_addr().unwrap().port()
    };
    let (post, websocket) = (port(&posting), port(&channel.connection));
    let route = Route::MessageSubmit;
    let answer = posting.post(route, &sealed(route, new_id(), None, "{}")).await;
    answer.is_refusal(ProblemCode::SessionExpired);
    channel.send(&[message("{}")]).await;
    channel.is_closed(4419, "session_expired").await;
    server.stop().await;

    let why = "session_expired (no session yet, which is normal: a login follows)";
    let post = logged::with(&format!("127.0.0.1:{post} - \"POST /message/submit\""));
    assert!(
        post.len() == 1
            && post[0].starts_with("INFO ")
            && post[0].ends_with(&format!(" 419 {why}")),
        "{post:?}"
    );
    let websocket = logged::with(&format!("127.0.0.1:{websocket} - channel closed"));
    assert!(
        websocket.len() == 1 && websocket[0].starts_with("INFO ") && websocket[0].contains(why),
        "{websocket:?}"
    );
}

#[tokio::test]
async fn a_login_of_another_form_is_refused_without_quoting_it() {
    let server = builder().start().await.unwrap();
    let mut connection = connect(&server).await;
    for body in [
        r#"{}"#,
        r#"{"username":"a"}"#,
        r#"{"username":"a","password":17171717}"#,
        r#"{"username":"a","password":"hunter2","x":1}"#,
    ] {
        let answer = connection
            .post(Route::ClientAuth, &sealed(Route::ClientAuth, new_id(), None, body))
            .await;
        let problem = answer.is_refusal(ProblemCode::MalformedFrame);
        assert!(
            !problem.detail.contains("hunter2") && !problem.detail.contains("1717"),
            "{}",
            problem.detail
        );
    }
    let answer =
        connection.post(Route::ClientAuth, &sealed(Route::ClientAuth, new_id(), None, "[]")).await;
    answer.is_refusal(ProblemCode::NotAnObject);
}

#[tokio::test]
async fn after_too_many_failures_one_waits_and_headers_make_nobody_another() {
    let server =
        builder().protocol(ipc_server::Protocol::Http).failed_logins_max(2).start().await.unwrap();
    let login = |password: &str| {
        let body = serde_json::json!({"username": "guess", "password": password}).to_string();
        sealed(Route::ClientAuth, new_id(), None, &body)
    };
    for attempt in 0..4 {
        // Each login uses its own connection and claims an address of its own.
        let headers = format!(
            "content-type: application/octet-stream\r\nx-forwarded-for: 192.0.2.{attempt}\r\nforwarded: for=192.0.2.{attempt}\r\n"
        );
        let mut connection = connect_plain(&server).await;
        let answer = connection.request("POST", "/client/auth", &headers, &login("wrong")).await;
        if attempt < 2 {
            answer.is_refusal(ProblemCode::BadCredentials);
        } else {
            answer.is_refusal(ProblemCode::TooManyAttempts);
            let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
            assert!((1..=60).contains(&wait));
        }
    }
    let admin = connect_plain(&server).await.admin_session().await;
    assert!(!admin.is_empty(), "another user is not blocked");
}

#[tokio::test]
async fn no_more_logins_wait_than_may() {
    let server = builder().logins_waiting_max(0).start().await.unwrap();
    let answer = connect(&server).await.log_in("ipc-admin", "x").await;
    answer.is_refusal(ProblemCode::TooManyAttempts);
    assert_eq!(answer.header("retry-after"), Some("1"));
}

#[tokio::test]
async fn names_that_nobody_can_have_are_limited_together() {
    let server = builder().failed_logins_max(2).start().await.unwrap();
    let mut connection = connect(&server).await;
    for name in ["x\0", &"y".repeat(10_000)] {
        connection.log_in(name, "x").await.is_refusal(ProblemCode::BadCredentials);
    }
    connection.log_in(&"z".repeat(81), "x").await.is_refusal(ProblemCode::TooManyAttempts);
    connection.log_in("nobody", "x").await.is_refusal(ProblemCode::BadCredentials);
}

#[tokio::test]
async fn a_name_in_another_normal_form_is_the_same_user_for_sessions_failures_and_the_application()
{
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("users.db");
    let store = ipc_store::Options::new().bcrypt_cost_for_tests().create(&path).await.unwrap();
    let (composed, decomposed) = ("Zo\u{eb}", "Zoe\u{308}");
    let password = Password::parse("p\u{e4}ss".into()).unwrap();
    store.add(&Username::parse(composed).unwrap(), &password).await.unwrap();
    let server = builder().users(Arc::new(store)).failed_logins_max(1).start().await.unwrap();
    let mut connection = connect(&server).await;
    let session = session_in(&connection.log_in(decomposed, "pa\u{308}ss").await);
    connection.submit(new_id(), &session, "{}").await.is_success();
    assert_eq!(server.inbox().recv().await.unwrap().user(), composed);
    connection.log_in(composed, "wrong").await.is_refusal(ProblemCode::BadCredentials);
    connection.log_in(decomposed, "wrong").await.is_refusal(ProblemCode::TooManyAttempts);
}

#[tokio::test]
async fn a_users_database_that_is_replaced_under_a_server_lets_nobody_in_whom_the_new_one_may_not_know()
 {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("users.db");
    let open = ipc_store::Options::new().bcrypt_cost_for_tests().create(&path).await.unwrap();
    let (name, password) =
        (Username::parse("leaver").unwrap(), Password::parse("x".into()).unwrap());
    open.add(&name, &password).await.unwrap();
    let server = builder().users(Arc::new(open)).start().await.unwrap();
    let mut connection = connect(&server).await;
    let session = session_in(&connection.log_in("leaver", "x").await);
    // The message is always the same, so that the inbox does not fill.
    let id = new_id();
    connection.submit(id, &session, "{}").await.is_success();

    for suffix in ["", "-wal", "-shm"] {
        std::fs::remove_file(format!("{}{suffix}", path.display())).unwrap();
    }
    ipc_store::Options::new().create(&path).await.unwrap().close().await;
    connection.log_in("leaver", "x").await.is_refusal(ProblemCode::Unavailable);
    // A session is checked again within a second.
    let begun = Instant::now();
    while connection.submit(id, &session, "{}").await.status == 200 {
        assert!(
            begun.elapsed() < Duration::from_secs(2),
            "the deleted user's session is still accepted"
        );
    }
    connection.submit(id, &session, "{}").await.is_refusal(ProblemCode::Unavailable);
}

/// A store that blocks while it checks the password of `stuck` until the test releases it, and
/// accepts all other logins at once.
struct Slow {
    begun: mpsc::UnboundedSender<()>,
    go_on: Semaphore,
}

/// Makes a store, and a channel that reports each login of `stuck` that reaches it.
fn slow() -> (Arc<Slow>, mpsc::UnboundedReceiver<()>) {
    let (begun, has_begun) = mpsc::unbounded_channel();
    (Arc::new(Slow { begun, go_on: Semaphore::new(0) }), has_begun)
}

impl UserStore for Slow {
    fn add<'a>(
        &'a self,
        _: &'a Username,
        _: &'a Password,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        broken()
    }
    fn delete<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        broken()
    }
    fn list(&self) -> BoxFuture<'_, Result<Vec<Username>, StoreError>> {
        broken()
    }
    fn verify<'a>(
        &'a self,
        name: &'a str,
        password: &'a str,
    ) -> BoxFuture<'a, Result<Option<CredentialVersion>, StoreError>> {
        Box::pin(async move {
            if name == "stuck" && password != "right" {
                self.begun.send(()).unwrap();
                self.go_on.acquire().await.unwrap().forget();
                return Ok(None);
            }
            Ok(Some(CredentialVersion::from_bytes([1; 8])))
        })
    }
    fn change_password<'a>(
        &'a self,
        _: &'a Username,
        _: &'a Password,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        broken()
    }
    fn current<'a>(
        &'a self,
        _: &'a Username,
    ) -> BoxFuture<'a, Result<Option<CurrentUser>, StoreError>> {
        let user = CurrentUser::new(CredentialVersion::from_bytes([1; 8]));
        Box::pin(async { Ok(Some(user)) })
    }
}

/// A store that knows everybody and never has done with notes of logins. It tells when it has begun
/// with them, and whether what it holds meanwhile is dropped in a runtime, as a connection to a
/// database must be.
struct Noting {
    begun: mpsc::UnboundedSender<()>,
    dropped: mpsc::UnboundedSender<bool>,
}

struct Held(mpsc::UnboundedSender<bool>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.send(tokio::runtime::Handle::try_current().is_ok()).unwrap();
    }
}

impl UserStore for Noting {
    fn add<'a>(
        &'a self,
        _: &'a Username,
        _: &'a Password,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        broken()
    }
    fn delete<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        broken()
    }
    fn list(&self) -> BoxFuture<'_, Result<Vec<Username>, StoreError>> {
        broken()
    }
    fn verify<'a>(
        &'a self,
        _: &'a str,
        _: &'a str,
    ) -> BoxFuture<'a, Result<Option<CredentialVersion>, StoreError>> {
        Box::pin(async { Ok(Some(CredentialVersion::from_bytes([1; 8]))) })
    }
    fn change_password<'a>(
        &'a self,
        _: &'a Username,
        _: &'a Password,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        broken()
    }
    fn current<'a>(
        &'a self,
        _: &'a Username,
    ) -> BoxFuture<'a, Result<Option<CurrentUser>, StoreError>> {
        let user = CurrentUser::new(CredentialVersion::from_bytes([1; 8]));
        Box::pin(async { Ok(Some(user)) })
    }
    fn note_logins<'a>(&'a self, _: &'a [LoginTally]) -> BoxFuture<'a, Result<(), StoreError>> {
        let held = Held(self.dropped.clone());
        self.begun.send(()).unwrap();
        Box::pin(async {
            let _held = held;
            std::future::pending().await
        })
    }
}

#[tokio::test]
async fn what_a_store_holds_for_notes_is_given_back_in_a_runtime_when_the_server_ends() {
    let (begun, mut has_begun) = mpsc::unbounded_channel();
    let (dropped, mut was_dropped) = mpsc::unbounded_channel();
    let server = builder().users(Arc::new(Noting { begun, dropped })).start().await.unwrap();
    session_in(&connect(&server).await.log_in("somebody", "x").await);
    has_begun.recv().await.unwrap();
    server.stop().await;
    assert_eq!(was_dropped.recv().await, Some(true));
}

/// Sends `logins` logins of `stuck` at once, each on its own connection, all with one certificate.
fn stuck(server: &Server, logins: usize) -> JoinSet<Response> {
    let config = tls(Some(identity("localhost")));
    (0..logins)
        .map(|_| {
            let (address, config) = (server.address(), Arc::clone(&config));
            async move { connect_tls(address, &config).await.unwrap().log_in("stuck", "x").await }
        })
        .collect()
}

/// A connection of the peer that `connect` is, with a certificate that it has since renewed.
async fn with_another_certificate(server: &Server) -> Connection {
    connect_tls(server.address(), &tls(Some(issue("localhost", now_secs())))).await.unwrap()
}

#[tokio::test]
async fn the_waiting_logins_of_one_peer_leave_places_to_others() {
    let (store, mut has_begun) = slow();
    let server = builder()
        .users(store.clone())
        .peer_logins_waiting_max(3)
        .failed_logins_max(100)
        .workers(2)
        .start()
        .await
        .unwrap();
    let mut logins = stuck(&server, 20);
    for _ in 0..3 {
        has_begun.recv().await.unwrap();
    }
    for _ in 0..17 {
        let answer = logins.join_next().await.unwrap().unwrap();
        answer.is_refusal(ProblemCode::TooManyAttempts);
        assert_eq!(answer.header("retry-after"), Some("1"));
    }
    let mut other = connect_tls(server.address(), &tls(Some(identity("client2")))).await.unwrap();
    session_in(&other.log_in("somebody", "x").await);
    let own = connect(&server).await.log_in("somebody", "x").await;
    own.is_refusal(ProblemCode::TooManyAttempts);
    let own = with_another_certificate(&server).await.log_in("somebody", "x").await;
    own.is_refusal(ProblemCode::TooManyAttempts);
    store.go_on.add_permits(3);
    while let Some(answer) = logins.join_next().await {
        answer.unwrap().is_refusal(ProblemCode::BadCredentials);
    }
    session_in(&connect(&server).await.log_in("somebody", "x").await);
}

#[tokio::test]
async fn failures_of_a_stranger_slow_the_logins_of_a_user_down_and_lock_nobody_out() {
    let (store, mut has_begun) = slow();
    let server = builder()
        .users(store.clone())
        .peer_logins_waiting_max(100)
        .failed_logins_max(10)
        .start()
        .await
        .unwrap();
    let mut logins = stuck(&server, 10);
    for _ in 0..10 {
        has_begun.recv().await.unwrap();
    }
    store.go_on.add_permits(10);
    while let Some(answer) = logins.join_next().await {
        answer.unwrap().is_refusal(ProblemCode::BadCredentials);
    }
    let refused = connect(&server).await.log_in("stuck", "right").await;
    refused.is_refusal(ProblemCode::TooManyAttempts);
    let refused = with_another_certificate(&server).await.log_in("stuck", "right").await;
    refused.is_refusal(ProblemCode::TooManyAttempts);
    let mut other = connect_tls(server.address(), &tls(Some(identity("client2")))).await.unwrap();
    let begun = Instant::now();
    session_in(&other.log_in("stuck", "right").await);
    assert!(begun.elapsed() >= Duration::from_secs(2), "{:?}", begun.elapsed());
    session_in(&other.log_in("stuck", "right").await);
}

#[tokio::test]
async fn many_guesses_at_once_are_no_more_than_one_after_the_other() {
    let (store, mut has_begun) = slow();
    let server = builder()
        .users(store.clone())
        .peer_logins_waiting_max(100)
        .failed_logins_max(3)
        .workers(2)
        .start()
        .await
        .unwrap();
    let mut logins = stuck(&server, 20);
    for _ in 0..3 {
        has_begun.recv().await.unwrap();
    }
    for _ in 0..17 {
        logins.join_next().await.unwrap().unwrap().is_refusal(ProblemCode::TooManyAttempts);
    }
    store.go_on.add_permits(100);
    while let Some(answer) = logins.join_next().await {
        answer.unwrap().is_refusal(ProblemCode::BadCredentials);
    }
    assert!(has_begun.try_recv().is_err(), "only three guesses were checked");
    connect(&server).await.log_in("stuck", "x").await.is_refusal(ProblemCode::TooManyAttempts);
}

/// Posts a login that is sealed already.
async fn post_login<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>(
    connection: &mut Connection<S>,
    envelope: &[u8],
) -> Response {
    connection.post(Route::ClientAuth, envelope).await
}

#[tokio::test]
async fn a_login_that_was_captured_is_good_for_nothing_and_costs_its_user_nothing() {
    let (store, _has_begun) = slow();
    let server = builder()
        .protocol(ipc_server::Protocol::Http)
        .users(store)
        .failed_logins_max(1)
        .start()
        .await
        .unwrap();
    let login = |id: ipc_protocol::MessageId, username: &str| {
        let body = serde_json::json!({"username": username, "password": "x"}).to_string();
        sealed(Route::ClientAuth, id, None, &body)
    };
    let id = new_id();
    let captured = login(id, "somebody");
    let mut connection = connect_plain(&server).await;
    session_in(&post_login(&mut connection, &captured).await);
    for _ in 0..5 {
        post_login(&mut connect_plain(&server).await, &captured)
            .await
            .is_refusal(ProblemCode::IdReused);
        // A login that is sealed again is the same login.
        post_login(&mut connection, &login(id, "somebody")).await.is_refusal(ProblemCode::IdReused);
    }
    session_in(&post_login(&mut connection, &login(new_id(), "somebody")).await);
}

#[tokio::test]
async fn a_captured_login_that_failed_does_not_fail_again() {
    let server = builder().failed_logins_max(2).start().await.unwrap();
    let mut connection = connect(&server).await;
    let body = serde_json::json!({"username": "typist", "password": "x"}).to_string();
    let captured = sealed(Route::ClientAuth, new_id(), None, &body);
    post_login(&mut connection, &captured).await.is_refusal(ProblemCode::BadCredentials);
    for _ in 0..5 {
        post_login(&mut connection, &captured).await.is_refusal(ProblemCode::IdReused);
    }
    connection.log_in("typist", "x").await.is_refusal(ProblemCode::BadCredentials);
    connection.log_in("typist", "x").await.is_refusal(ProblemCode::TooManyAttempts);
}

#[tokio::test]
async fn one_certificate_tries_no_more_passwords_with_many_users_than_it_may() {
    let server = builder().peer_failed_logins_max(3).start().await.unwrap();
    let mut connection = connect(&server).await;
    for user in 0..3 {
        connection
            .log_in(&format!("user{user}"), "x")
            .await
            .is_refusal(ProblemCode::BadCredentials);
    }
    let answer = connection.log_in("user3", "x").await;
    answer.is_refusal(ProblemCode::TooManyAttempts);
    let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait));
    connect(&server).await.log_in("user4", "x").await.is_refusal(ProblemCode::TooManyAttempts);
    let mut other = connect_tls(server.address(), &tls(Some(identity("client2")))).await.unwrap();
    other.log_in("user3", "x").await.is_refusal(ProblemCode::BadCredentials);
}

/// Sends until the session is refused, and returns how long that took.
async fn until_refused(line: &mut Line) -> Duration {
    until_refused_with(line, ProblemCode::SessionExpired).await
}

async fn until_refused_with(line: &mut Line, code: ProblemCode) -> Duration {
    let start = Instant::now();
    loop {
        match line.send(new_id(), "{}").await {
            Outcome::Accepted => (),
            outcome => {
                assert_eq!(outcome, Outcome::Refused(code));
                return start.elapsed();
            }
        }
        assert!(start.elapsed() < Duration::from_secs(10), "the session is still accepted");
    }
}

#[tokio::test]
async fn a_deleted_user_and_one_with_a_new_password_are_out_within_a_second() {
    for (way, leaver, changer) in
        [(Way::Post, "leaver", "changer"), (Way::Channel, "channel-leaver", "channel-changer")]
    {
        change_users(move |users| {
            users.add(leaver, "pass".to_owned().into()).unwrap();
            users.add(changer, "pass".to_owned().into()).unwrap();
        })
        .await;
        let server = builder()
            .inbox(ipc_server::MemoryOptions::default().messages_max(1_000_000).build())
            .start()
            .await
            .unwrap();
        let mut connection = connect(&server).await;
        let leaver_session = session_in(&connection.log_in(leaver, "pass").await);
        let changer_session = session_in(&connection.log_in(changer, "pass").await);
        let mut leaver_line = way.open(&server, &leaver_session).await;
        assert_eq!(leaver_line.send(new_id(), "{}").await, Outcome::Accepted);

        change_users(move |users| users.delete(leaver).unwrap()).await;
        assert!(until_refused(&mut leaver_line).await <= Duration::from_secs(1));
        connection.log_in(leaver, "pass").await.is_refusal(ProblemCode::BadCredentials);

        let mut changer_line = way.open(&server, &changer_session).await;
        assert_eq!(changer_line.send(new_id(), "{}").await, Outcome::Accepted);
        change_users(move |users| {
            users.change_password(changer, "pass2".to_owned().into()).unwrap()
        })
        .await;
        assert!(until_refused(&mut changer_line).await <= Duration::from_secs(1));
        session_in(&connection.log_in(changer, "pass2").await);

        // A new user with the same name and password does not revive the old session.
        change_users(move |users| users.add(leaver, "pass".to_owned().into()).unwrap()).await;
        let answer = way.open(&server, &leaver_session).await.send(new_id(), "{}").await;
        assert_eq!(answer, Outcome::Refused(ProblemCode::SessionExpired));
    }
}

#[tokio::test]
async fn a_disabled_user_is_out_within_a_second_and_refused_like_a_wrong_password() {
    for (way, user) in [(Way::Post, "disabled"), (Way::Channel, "channel-disabled")] {
        change_users(move |users| users.add(user, "pass".to_owned().into()).unwrap()).await;
        let server = builder()
            .inbox(ipc_server::MemoryOptions::default().messages_max(1_000_000).build())
            .start()
            .await
            .unwrap();
        let mut connection = connect(&server).await;
        let session = session_in(&connection.log_in(user, "pass").await);
        let mut line = way.open(&server, &session).await;
        assert_eq!(line.send(new_id(), "{}").await, Outcome::Accepted);

        change_users(move |users| users.disable(user).unwrap()).await;
        assert!(until_refused(&mut line).await <= Duration::from_secs(1));
        let right = connection.log_in(user, "pass").await;
        let wrong = connection.log_in(user, "wrong").await;
        let unknown = connection.log_in("nobody", "pass").await;
        let expected = wrong.is_refusal(ProblemCode::BadCredentials);
        assert_eq!(right.is_refusal(ProblemCode::BadCredentials), expected);
        assert_eq!(unknown.is_refusal(ProblemCode::BadCredentials), expected);

        change_users(move |users| users.enable(user).unwrap()).await;
        let again = session_in(&connection.log_in(user, "pass").await);
        let mut line = way.open(&server, &again).await;
        assert_eq!(line.send(new_id(), "{}").await, Outcome::Accepted);
        // A session that has ended stays ended.
        let answer = way.open(&server, &session).await.send(new_id(), "{}").await;
        assert_eq!(answer, Outcome::Refused(ProblemCode::SessionExpired));
    }
}

#[tokio::test]
async fn a_bound_user_is_refused_with_another_certificate_at_login_and_within_a_second_later() {
    for (way, user) in [(Way::Post, "bound"), (Way::Channel, "channel-bound")] {
        change_users(move |users| users.add(user, "pass".to_owned().into()).unwrap()).await;
        let server = builder()
            .inbox(ipc_server::MemoryOptions::default().messages_max(1_000_000).build())
            .start()
            .await
            .unwrap();
        let mut connection = connect(&server).await;
        let session = session_in(&connection.log_in(user, "pass").await);
        let mut line = way.open(&server, &session).await;
        assert_eq!(line.send(new_id(), "{}").await, Outcome::Accepted);

        change_users(move |users| users.bind(user, "client2").unwrap()).await;
        let refused = until_refused_with(&mut line, ProblemCode::WrongCertificate).await;
        assert!(refused <= Duration::from_secs(1));
        connection.log_in(user, "pass").await.is_refusal(ProblemCode::WrongCertificate);
        connection.log_in(user, "wrong").await.is_refusal(ProblemCode::BadCredentials);
        let mut other =
            connect_tls(server.address(), &tls(Some(identity("client2")))).await.unwrap();
        session_in(&other.log_in(user, "pass").await);

        change_users(move |users| users.bind(user, "CLIENT2").unwrap()).await;
        session_in(&other.log_in(user, "pass").await);
        change_users(move |users| users.unbind(user).unwrap()).await;
        session_in(&connection.log_in(user, "pass").await);
    }
}

#[tokio::test]
async fn a_bound_user_does_not_get_in_without_a_certificate() {
    change_users(|users| {
        users.add("bound-plain", "pass".to_owned().into()).unwrap();
        users.bind("bound-plain", "localhost").unwrap();
    })
    .await;
    let server = builder().protocol(ipc_server::Protocol::Http).start().await.unwrap();
    let mut connection = connect_plain(&server).await;
    let refused = connection.log_in("bound-plain", "pass").await;
    refused.is_refusal(ProblemCode::WrongCertificate);
}

#[tokio::test]
async fn logins_and_the_certificate_are_in_the_store_when_the_server_has_stopped() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("users.db");
    let options = || ipc_store::Options::new().bcrypt_cost_for_tests();
    let store = Arc::new(options().create(&path).await.unwrap());
    let user = Username::parse("noted").unwrap();
    store.add(&user, &Password::parse("x".into()).unwrap()).await.unwrap();
    let server = builder().users(store).start().await.unwrap();
    let mut connection = connect(&server).await;
    connection.log_in("noted", "wrong").await.is_refusal(ProblemCode::BadCredentials);
    session_in(&connection.log_in("noted", "x").await);
    for name in ["noted", "unknown", "noted"] {
        connection.log_in(name, "wrong").await.is_refusal(ProblemCode::BadCredentials);
    }
    server.stop().await;
    let store = options().open(&path).await.unwrap();
    let records = store.list_long().await.unwrap();
    assert_eq!(records.len(), 1);
    assert!(records[0].last_login_at.is_some());
    assert_eq!(records[0].failed_logins, 2);
    let peers = store.peers().await.unwrap();
    assert_eq!(peers.len(), 1);
    assert_eq!(peers[0].name.as_ref().map(|name| name.as_str()), Some("localhost"));
    assert_eq!(peers[0].user.as_ref(), Some(&user));
    assert!(peers[0].serial.is_some());
}

/// A store whose every operation fails.
struct Broken;

fn broken<T: 'static>() -> BoxFuture<'static, Result<T, StoreError>> {
    let error = DatabaseError::Busy { what: "user database", path: "/home/secret/users.db".into() };
    Box::pin(async { Err(error.into()) })
}

impl UserStore for Broken {
    fn add<'a>(
        &'a self,
        _: &'a Username,
        _: &'a Password,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        broken()
    }
    fn delete<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        broken()
    }
    fn list(&self) -> BoxFuture<'_, Result<Vec<Username>, StoreError>> {
        broken()
    }
    fn verify<'a>(
        &'a self,
        _: &'a str,
        _: &'a str,
    ) -> BoxFuture<'a, Result<Option<CredentialVersion>, StoreError>> {
        broken()
    }
    fn change_password<'a>(
        &'a self,
        _: &'a Username,
        _: &'a Password,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        broken()
    }
    fn current<'a>(
        &'a self,
        _: &'a Username,
    ) -> BoxFuture<'a, Result<Option<CurrentUser>, StoreError>> {
        broken()
    }
}

#[tokio::test]
async fn a_users_database_that_does_not_answer_lets_nobody_in() {
    let good = builder().start().await.unwrap();
    let session = connect(&good).await.admin_session().await;
    let server = builder().users(Arc::new(Broken)).start().await.unwrap();
    let mut connection = connect(&server).await;
    for answer in [
        connection.log_in("ipc-admin", "x").await,
        connection.submit(new_id(), &session, "{}").await,
    ] {
        let problem = answer.is_refusal(ProblemCode::Unavailable);
        assert!(!problem.detail.contains("secret"), "a refusal must not tell the peer a path");
        assert_eq!(answer.header("retry-after"), Some("1"));
    }
    assert_eq!(connection.request("GET", "/is/running", "", b"").await.status, 200);
    let answer = Way::Channel.open(&server, &session).await.send(new_id(), "{}").await;
    assert_eq!(answer, Outcome::Refused(ProblemCode::Unavailable));
}

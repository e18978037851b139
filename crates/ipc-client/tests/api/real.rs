//! The client and the real server, end to end.
#![allow(clippy::unwrap_used)]

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use ipc_client::{Client, NoReply, Outcome, ProblemCode, SendError};
use ipc_home::Home;
use ipc_server::{Inbox, InboxChoice, MemoryOptions, Server, StartError};
use serde_json::json;
use serde_json::value::RawValue;
use tempfile::TempDir;
use tokio::task::JoinHandle;

/// A complete home.
struct Installation {
    home: Home,
    _directory: TempDir,
}

fn installation() -> Installation {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("home");
    // `init` has a runtime of its own, which cannot run inside another.
    let made = std::thread::spawn(move || {
        ipc_setup::init(&path, &ipc_setup::InitOptions::now()).unwrap().home
    });
    let home = made.join().unwrap();
    Installation { home, _directory: directory }
}

impl Installation {
    async fn serve(&self, address: &str, inbox: impl Into<InboxChoice>) -> Server {
        Server::builder(&self.home)
            .name("localhost")
            .bind(address)
            .inbox(inbox)
            .start()
            .await
            .unwrap()
    }

    /// A server with a durable inbox, even if the last one has only just stopped.
    async fn serve_again(&self, address: &str) -> Server {
        loop {
            let server = Server::builder(&self.home).name("localhost").bind(address);
            match server.inbox(Inbox::durable()).start().await {
                // The last server closes its file a moment after it has stopped.
                Err(StartError::Inbox(_)) => tokio::task::yield_now().await,
                started => return started.unwrap(),
            }
        }
    }

    fn client(&self, server: &Server) -> Client {
        Client::builder(&self.home).server("localhost", server.address()).build().unwrap()
    }
}

/// An address for a server that restarts there. Nothing else uses its port meanwhile: servers of
/// other tests get the first free port of 3000 to 3999, and systems give outgoing connections
/// higher ports.
fn address_of_its_own() -> String {
    static NEXT: AtomicU16 = AtomicU16::new(21_000);
    loop {
        let address = format!("127.0.0.1:{}", NEXT.fetch_add(1, Ordering::SeqCst));
        if TcpListener::bind(&address).is_ok() {
            return address;
        }
    }
}

fn raw(text: String) -> Box<RawValue> {
    RawValue::from_string(text).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_gets_its_reply_and_one_that_is_let_go_none() {
    let installation = installation();
    let server = installation.serve("127.0.0.1:0", Inbox::memory()).await;
    let client = installation.client(&server);
    let work = async {
        let delivery = server.inbox().recv().await.unwrap();
        assert!(delivery.wants_reply());
        let asked: serde_json::Value = delivery.parse().unwrap();
        delivery.reply(&json!({"time": "noon", "asked": asked})).await.unwrap();
    };
    let (reply, ()) = tokio::join!(client.request(&json!({"what": "time"})), work);
    let reply = reply.unwrap();
    assert_eq!(reply.parse::<serde_json::Value>().unwrap()["asked"], json!({"what": "time"}));
    assert!(!reply.duplicate);

    let let_go = async { drop(server.inbox().recv().await.unwrap()) };
    let (reply, ()) = tokio::join!(client.request(&json!({"what": "time"})), let_go);
    let error = reply.unwrap_err();
    assert!(matches!(error, SendError::NoReply { reason: NoReply::NotGiven }), "{error:?}");

    let before = Instant::now();
    let error = client.request(&json!({})).timeout(Duration::from_millis(100)).await.unwrap_err();
    assert!(matches!(error, SendError::NoReply { reason: NoReply::NotInTime { .. } }), "{error:?}");
    assert_eq!(error.outcome(), Outcome::Accepted);
    assert!(before.elapsed() < Duration::from_secs(10));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_messages_arrive_in_order_through_an_inbox_with_room_for_few() {
    let installation = installation();
    let server =
        installation.serve("127.0.0.1:0", MemoryOptions::default().messages_max(70).build()).await;
    let client = installation.client(&server);
    let send = async { client.send_all((0..1000).map(|n| json!({"n": n}))).await.unwrap() };
    let receive = async {
        for n in 0..1000 {
            let delivery = server.inbox().recv().await.unwrap();
            assert_eq!(delivery.body(), format!(r#"{{"n":{n}}}"#));
            delivery.ack().await.unwrap();
        }
    };
    let (report, ()) = tokio::join!(send, receive);
    assert_eq!((report.sent, report.duplicates, report.refused), (1000, 0, 0));
    server.stop().await;
    assert!(server.inbox().recv().await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_the_server_finds_wrong_is_told_and_one_that_is_deep_passes() {
    let installation = installation();
    let server = installation.serve("127.0.0.1:0", Inbox::memory()).await;
    let client = installation.client(&server);
    let deep = |levels: usize| raw(format!("{}1{}", r#"{"a":"#.repeat(levels), "}".repeat(levels)));
    let mut messages: Vec<_> = (0..40).map(|n| raw(format!(r#"{{"n":{n}}}"#))).collect();
    messages[7] = raw(r#"{"n":7,"n":8}"#.to_owned());
    // The deepest message that is allowed. The levels that a batch adds do not count.
    messages[20] = deep(127);
    messages[30] = deep(128);
    let report = client.send_all(&messages).await.unwrap();
    let refused: Vec<_> = report.refusals.iter().map(|refusal| refusal.index).collect();
    assert_eq!((report.sent, refused), (38, vec![7, 30]));
    let error = &report.refusals[0].error;
    assert!(
        matches!(error, SendError::Refused { code: Some(ProblemCode::MalformedFrame), .. }),
        "{error:?}"
    );
    server.stop().await;
    for (_, message) in messages.iter().enumerate().filter(|(n, _)| ![7, 30].contains(n)) {
        assert_eq!(server.inbox().recv().await.unwrap().body(), message.get());
    }
    assert!(server.inbox().recv().await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_takes_less_at_once_gets_all_of_it() {
    let installation = installation();
    let builder = Server::builder(&installation.home).name("localhost").bind("127.0.0.1:0");
    let server = builder.batch_messages_max(30).plaintext_bytes_max(20_000).start().await.unwrap();
    let client = installation.client(&server);
    let text = "x".repeat(1000);
    let report = client.send_all((0..200).map(|n| json!({"n": n, "t": text}))).await.unwrap();
    assert_eq!((report.sent, report.refused), (200, 0));
    let report =
        client.send_all([json!({"t": "x".repeat(30_000)}), json!({"n": 200})]).await.unwrap();
    assert_eq!((report.sent, report.refusals[0].index), (1, 0));
    server.stop().await;
    for n in 0..=200 {
        let body = server.inbox().recv().await.unwrap();
        assert!(body.body().starts_with(&format!(r#"{{"n":{n}"#)), "{}", body.body());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_restarted_meanwhile_loses_and_doubles_nothing() {
    let installation = installation();
    let address = address_of_its_own();
    let server = installation.serve_again(&address).await;
    let client = installation.client(&server);
    let (answered, mut answers) = tokio::sync::mpsc::unbounded_channel();
    let sending = tokio::spawn(async move {
        let all = client.send_all((0..600).map(|n| json!({"n": n}))).batch_messages(20);
        all.on_progress(move |_| answered.send(()).unwrap()).await.unwrap()
    });
    answers.recv().await.unwrap();
    server.stop().await;
    drop(server);
    let server = installation.serve_again(&address).await;
    let report = sending.await.unwrap();
    assert_eq!((report.sent, report.refused), (600, 0));
    for n in 0..600 {
        let delivery = server.inbox().recv().await.unwrap();
        assert_eq!(delivery.body(), format!(r#"{{"n":{n}}}"#));
        delivery.ack().await.unwrap();
    }
    server.stop().await;
    assert!(server.inbox().recv().await.is_none());
}

/// Starts tasks that send at the same time, each task one message after another.
fn senders(
    client: &Client,
    tasks: u32,
    messages: u32,
    sent: &Arc<AtomicU32>,
) -> Vec<JoinHandle<()>> {
    let send = |task| {
        let (client, sent) = (client.clone(), Arc::clone(sent));
        async move {
            for n in 0..messages {
                client.send(&json!({"task": task, "n": n})).await.unwrap();
                sent.fetch_add(1, Ordering::SeqCst);
            }
        }
    };
    (0..tasks).map(|task| tokio::spawn(send(task))).collect()
}

/// Receives all messages of these tasks. Asserts that each arrives once, and those of a task in
/// order.
async fn take_all(inbox: &Inbox, tasks: u32, messages: u32) {
    let mut next = vec![0_u64; tasks as usize];
    for _ in 0..tasks * messages {
        let delivery = inbox.recv().await.unwrap();
        let body: serde_json::Value = delivery.parse().unwrap();
        let next = &mut next[usize::try_from(body["task"].as_u64().unwrap()).unwrap()];
        assert_eq!(body["n"], *next, "{body}");
        *next += 1;
        delivery.ack().await.unwrap();
    }
    assert!(next.into_iter().all(|next| next == u64::from(messages)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_many_tasks_send_while_a_server_is_restarted_arrives_once_and_in_the_order_of_each() {
    let installation = installation();
    let address = address_of_its_own();
    let server = installation.serve_again(&address).await;
    let client = installation.client(&server);
    let sent = Arc::new(AtomicU32::new(0));
    let senders = senders(&client, 40, 20, &sent);
    while sent.load(Ordering::SeqCst) < 100 {
        tokio::task::yield_now().await;
    }
    server.stop().await;
    drop(server);
    let server = installation.serve_again(&address).await;
    for sender in senders {
        sender.await.unwrap();
    }
    take_all(server.inbox(), 40, 20).await;
    server.stop().await;
    assert!(server.inbox().recv().await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_many_tasks_send_through_an_inbox_with_room_for_few_arrives_once_and_in_the_order_of_each()
 {
    let installation = installation();
    let inbox = MemoryOptions::default().messages_max(7).build();
    let server = installation.serve("127.0.0.1:0", inbox).await;
    let client = installation.client(&server);
    let senders = senders(&client, 30, 10, &Arc::default());
    take_all(server.inbox(), 30, 10).await;
    for sender in senders {
        sender.await.unwrap();
    }
    server.stop().await;
    assert!(server.inbox().recv().await.is_none());
}

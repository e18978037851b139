//! Tests a server with a durable inbox: every message that it accepted is in the file after it has
//! stopped.

use ipc_protocol::MessageId;
use ipc_server::{DurableOptions, Inbox, Server, StartError};

use crate::fixture::*;
use crate::ways::*;

/// Starts a server whose inbox is a file in `directory`.
async fn server_on(directory: &tempfile::TempDir) -> Server {
    let path = directory.path().join("inbox.db");
    let inbox = loop {
        match DurableOptions::default().open(&path).await {
            // The previous server has not closed the file yet.
            Err(ipc_inbox::OpenError::InUse { .. }) => tokio::task::yield_now().await,
            opened => break opened.unwrap(),
        }
    };
    builder().inbox(inbox).start().await.unwrap()
}

#[tokio::test]
async fn what_was_acknowledged_outlives_the_server_and_is_accepted_once() {
    for way in Way::BOTH {
        let directory = tempfile::tempdir().unwrap();
        let ids = [new_id(), new_id()];
        let session = {
            let server = server_on(&directory).await;
            let session = admin_session(&server).await;
            let mut line = way.open(&server, &session).await;
            for id in ids {
                assert_eq!(line.send(id, "{}").await, Outcome::Accepted);
            }
            server.stop().await;
            session
        };
        let server = server_on(&directory).await;
        for again in Way::BOTH {
            assert_eq!(
                again.open(&server, &session).await.send(ids[0], "{}").await,
                Outcome::Duplicate
            );
        }
        for id in ids {
            let delivery = server.inbox().recv().await.unwrap();
            assert_eq!(delivery.id(), id);
            delivery.ack().await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_durable_inbox_is_a_file_of_the_home_and_has_one_server() {
    let first = builder().inbox(Inbox::durable()).start().await.unwrap();
    assert!(HOME.home.inbox_db().is_file());
    assert!(first.inbox().dead_letters(None, 10).await.unwrap().is_empty());
    let error = builder().inbox(DurableOptions::default()).start().await.unwrap_err();
    assert!(matches!(error, StartError::Inbox(_)) && error.remedy().is_some(), "{error}");
    builder().start().await.unwrap();
}

/// The WAL files beside the databases of a home. While a database is in use they hold its newest
/// changes.
fn beside(home: &ipc_home::Home) -> Vec<String> {
    let entries = std::fs::read_dir(home.root()).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.ends_with("-wal") || name.ends_with("-shm")).collect()
}

#[tokio::test]
async fn after_a_stop_everything_is_in_the_files_of_the_home_themselves() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("home");
    let init = move || ipc_setup::init(&path, &ipc_setup::InitOptions::now());
    let home = tokio::task::spawn_blocking(init).await.unwrap().unwrap().home;
    let builder = || Server::builder(&home).bind("127.0.0.1:0").inbox(Inbox::durable());
    let (sender, inbox) = Inbox::durable().open(home.inbox_db()).await.unwrap();
    let server = builder().inbox((sender.clone(), inbox)).start().await.unwrap();
    let message = |number| ipc_inbox::Message {
        id: MessageId::from_random([number; 16]),
        user: "u".into(),
        certificate: None,
        peer: None,
        received_at: std::time::SystemTime::now(),
        body: "{}".into(),
        wants_reply: false,
    };
    for number in 0..3 {
        sender.put(message(number), std::time::Duration::ZERO).await.unwrap();
    }
    assert!(!beside(&home).is_empty());
    server.stop().await;
    // The test still has the handle, so the file stays open.
    let copy = directory.path().join("inbox.db");
    std::fs::copy(home.inbox_db(), &copy).unwrap();
    let (_sender, copy) = DurableOptions::default().open(&copy).await.unwrap();
    assert_eq!(copy.waiting().await, 3);
    assert!(beside(&home).iter().all(|name| name.starts_with("inbox.db")), "{:?}", beside(&home));
    server.inbox().recv().await.unwrap().ack().await.unwrap();
    assert_eq!(server.finish_inbox().await, 2);
    assert!(beside(&home).is_empty(), "{:?}", beside(&home));

    // A server that fails to start leaves no such files either.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let error = builder().bind(taken.local_addr().unwrap().to_string()).start().await.unwrap_err();
    assert!(matches!(error, StartError::Listen { .. }), "{error:?}");
    assert!(beside(&home).is_empty(), "{:?}", beside(&home));
}

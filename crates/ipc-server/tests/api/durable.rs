//! A server with a durable inbox: what it acknowledged is there after it has gone.

use ipc_server::{DurableOptions, Inbox, Server, StartError};

use crate::fixture::*;

/// A server whose inbox is a file in a directory of its own.
async fn server_on(directory: &tempfile::TempDir) -> Server {
    let path = directory.path().join("inbox.db");
    let inbox = loop {
        match DurableOptions::default().open(&path).await {
            // The last one who had it has not let go of it yet.
            Err(ipc_inbox::OpenError::InUse { .. }) => tokio::task::yield_now().await,
            opened => break opened.unwrap().inbox().clone(),
        }
    };
    builder().inbox(inbox).start().await.unwrap()
}

#[tokio::test]
async fn what_was_acknowledged_outlives_the_server_and_is_accepted_once() {
    let directory = tempfile::tempdir().unwrap();
    let ids = [new_id(), new_id()];
    let session = {
        let server = server_on(&directory).await;
        let session = admin_session(&server).await;
        let mut connection = connect(&server).await;
        for id in ids {
            connection.submit(id, &session, "{}").await.is_success();
        }
        server.stop().await;
        session
    };
    let server = server_on(&directory).await;
    let again = connect(&server).await.submit(ids[0], &session, "{}").await;
    assert_eq!(again.header("web-ipc-duplicate"), Some("true"));
    for id in ids {
        let delivery = server.inbox().recv().await.unwrap();
        assert_eq!(delivery.id(), id);
        delivery.ack().await.unwrap();
    }
}

#[tokio::test]
async fn a_durable_inbox_is_a_file_of_the_home_and_has_one_server() {
    let first = builder().inbox(Inbox::durable()).start().await.unwrap();
    assert!(HOME.home.inbox_db().is_file());
    assert!(first.durable_inbox().unwrap().dead_letters(10).await.unwrap().is_empty());
    let error = builder().inbox(DurableOptions::default()).start().await.unwrap_err();
    assert!(matches!(error, StartError::Inbox(_)) && error.remedy().is_some(), "{error}");
    assert!(builder().start().await.unwrap().durable_inbox().is_none());
}

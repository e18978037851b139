//! A full inbox, and what still works beside it.

use std::time::Duration;

use ipc_protocol::ProblemCode;
use ipc_server::MemoryOptions;

use crate::fixture::*;

#[tokio::test]
async fn a_full_inbox_is_503_with_a_time_to_come_again_and_nothing_is_lost_or_doubled() {
    let server = builder().inbox(MemoryOptions::default().messages_max(2).build()).start().await.unwrap();
    let mut connection = connect(&server).await;
    let session = admin_session(&server).await;
    let ids = [new_id(), new_id(), new_id()];
    for id in &ids[..2] {
        connection.submit(*id, &session, "{}").await.is_success();
    }
    let answer = connection.submit(ids[2], &session, "{}").await;
    answer.is_refusal(ProblemCode::InboxFull);
    assert_eq!(answer.header("retry-after"), Some("1"));

    let running = connection.request("GET", "/is/running", "", b"").await;
    assert_eq!((running.status, running.body.as_slice()), (200, &b"Web-Server is running"[..]));
    let again = connection.submit(ids[0], &session, "{}").await;
    again.is_success();
    assert_eq!(again.header("web-ipc-duplicate"), Some("true"), "what is in needs no room");

    assert_eq!(server.inbox().recv().await.unwrap().id(), ids[0]);
    let retried = connection.submit(ids[2], &session, "{}").await;
    retried.is_success();
    assert_eq!(retried.header("web-ipc-duplicate"), None, "what was refused was not remembered");
    server.stop().await;
    assert_eq!(server.inbox().recv().await.unwrap().id(), ids[1]);
    assert_eq!(server.inbox().recv().await.unwrap().id(), ids[2]);
    assert!(server.inbox().recv().await.is_none());
}

#[tokio::test]
async fn a_place_that_comes_free_in_time_lets_the_message_in() {
    let inbox = MemoryOptions::default().messages_max(1).build();
    let server = builder().inbox(inbox.clone()).inbox_wait(Duration::from_secs(30)).start().await.unwrap();
    let mut connection = connect(&server).await;
    let session = admin_session(&server).await;
    connection.submit(new_id(), &session, "{}").await.is_success();
    let (answer, taken) = tokio::join!(connection.submit(new_id(), &session, "{}"), inbox.recv());
    answer.is_success();
    assert!(taken.is_some());
}

#[tokio::test]
async fn as_many_ids_are_remembered_as_may_be_and_then_messages_are_refused() {
    let server =
        builder().inbox(MemoryOptions::default().remembered_ids_max(1).build()).start().await.unwrap();
    let mut connection = connect(&server).await;
    let session = admin_session(&server).await;
    connection.submit(new_id(), &session, "{}").await.is_success();
    connection.submit(new_id(), &session, "{}").await.is_refusal(ProblemCode::InboxFull);
}

#[tokio::test]
async fn an_inbox_that_is_closed_is_a_server_that_stops() {
    let server = builder().start().await.unwrap();
    let mut connection = connect(&server).await;
    let session = admin_session(&server).await;
    server.inbox().close();
    let answer = connection.submit(new_id(), &session, "{}").await;
    answer.is_refusal(ProblemCode::ShuttingDown);
    assert_eq!(answer.header("retry-after"), Some("1"));
}

#[tokio::test]
async fn four_senders_on_two_workers_share_one_inbox_and_each_keeps_its_order() {
    let server = builder().workers(2).start().await.unwrap();
    let session = admin_session(&server).await;
    let senders: Vec<_> = (0..4)
        .map(|sender| {
            let (address, session) = (server.address(), session.clone());
            tokio::spawn(async move {
                let mut connection = connect_tls(address, &tls(Some(identity("localhost")))).await.unwrap();
                for number in 0..100 {
                    let body = format!(r#"{{"sender":{sender},"number":{number}}}"#);
                    connection.submit(new_id(), &session, &body).await.is_success();
                }
            })
        })
        .collect();
    for sender in senders {
        sender.await.unwrap();
    }
    server.stop().await;
    let mut next = [0; 4];
    while let Some(delivery) = server.inbox().recv().await {
        let body: serde_json::Value = delivery.parse().unwrap();
        let sender = body["sender"].as_u64().unwrap() as usize;
        assert_eq!(body["number"], next[sender]);
        next[sender] += 1;
    }
    assert_eq!(next, [100; 4]);
}

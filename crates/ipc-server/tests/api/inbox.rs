//! Tests a full inbox, and what works in spite of it.

use std::time::Duration;

use ipc_protocol::ProblemCode;
use ipc_server::MemoryOptions;

use crate::fixture::*;
use crate::ways::*;

#[tokio::test]
async fn a_full_inbox_refuses_and_nothing_is_lost_or_doubled() {
    for way in Way::BOTH {
        let server = builder()
            .inbox(MemoryOptions::default().messages_max(2).build())
            .start()
            .await
            .unwrap();
        let session = admin_session(&server).await;
        let mut line = way.open(&server, &session).await;
        let ids = [new_id(), new_id(), new_id()];
        for id in &ids[..2] {
            assert_eq!(line.send(*id, "{}").await, Outcome::Accepted);
        }
        assert_eq!(line.send(ids[2], "{}").await, Outcome::Refused(ProblemCode::InboxFull));
        assert_eq!(line.send(ids[0], "{}").await, Outcome::Duplicate, "a duplicate needs no room");

        assert_eq!(server.inbox().recv().await.unwrap().id(), ids[0]);
        // The id of a refused message is not remembered.
        assert_eq!(line.send(ids[2], "{}").await, Outcome::Accepted);
        server.stop().await;
        assert_eq!(server.inbox().recv().await.unwrap().id(), ids[1]);
        assert_eq!(server.inbox().recv().await.unwrap().id(), ids[2]);
        assert!(server.inbox().recv().await.is_none());
    }
}

#[tokio::test]
async fn a_post_that_finds_no_room_is_told_when_to_come_again_and_other_routes_answer() {
    let server =
        builder().inbox(MemoryOptions::default().messages_max(1).build()).start().await.unwrap();
    let mut connection = connect(&server).await;
    let session = admin_session(&server).await;
    connection.submit(new_id(), &session, "{}").await.is_success();
    let answer = connection.submit(new_id(), &session, "{}").await;
    answer.is_refusal(ProblemCode::InboxFull);
    assert_eq!(answer.header("retry-after"), Some("1"));
    let running = connection.request("GET", "/is/running", "", b"").await;
    assert_eq!((running.status, running.body.as_slice()), (200, &b"Web-Server is running"[..]));
}

#[tokio::test]
async fn a_place_that_comes_free_in_time_lets_the_message_in() {
    for way in Way::BOTH {
        let (sender, inbox) = MemoryOptions::default().messages_max(1).build();
        let server = builder()
            .inbox((sender, inbox.clone()))
            .inbox_wait(Duration::from_secs(30))
            .start()
            .await
            .unwrap();
        let session = admin_session(&server).await;
        let mut line = way.open(&server, &session).await;
        assert_eq!(line.send(new_id(), "{}").await, Outcome::Accepted);
        let (answer, taken) = tokio::join!(line.send(new_id(), "{}"), inbox.recv());
        assert_eq!(answer, Outcome::Accepted);
        assert!(taken.is_some());
    }
}

#[tokio::test]
async fn as_many_ids_are_remembered_as_may_be_and_then_messages_are_refused() {
    for way in Way::BOTH {
        let server = builder()
            .inbox(MemoryOptions::default().remembered_ids_max(1).build())
            .start()
            .await
            .unwrap();
        let session = admin_session(&server).await;
        let mut line = way.open(&server, &session).await;
        assert_eq!(line.send(new_id(), "{}").await, Outcome::Accepted);
        assert_eq!(line.send(new_id(), "{}").await, Outcome::Refused(ProblemCode::IdsFull));
    }
}

#[tokio::test]
async fn a_post_for_whose_id_there_is_no_room_is_told_when_to_come_again() {
    let inbox = MemoryOptions::default().remembered_ids_max(1).build();
    let server = builder().inbox(inbox).start().await.unwrap();
    let mut connection = connect(&server).await;
    let session = admin_session(&server).await;
    connection.submit(new_id(), &session, "{}").await.is_success();
    let answer = connection.submit(new_id(), &session, "{}").await;
    let problem = answer.is_refusal(ProblemCode::IdsFull);
    assert_eq!(problem.detail, "the server remembers as many message ids as it may");
    assert_eq!(answer.header("retry-after"), Some("1"));
}

#[tokio::test]
async fn an_inbox_that_is_closed_is_a_server_that_stops() {
    for way in Way::BOTH {
        let (sender, inbox) = MemoryOptions::default().build();
        let server = builder().inbox((sender.clone(), inbox)).start().await.unwrap();
        let session = admin_session(&server).await;
        let mut line = way.open(&server, &session).await;
        sender.close();
        assert_eq!(line.send(new_id(), "{}").await, Outcome::Refused(ProblemCode::ShuttingDown));
    }
}

#[tokio::test]
async fn four_senders_on_two_workers_share_one_inbox_and_each_keeps_its_order() {
    let server = builder().workers(2).start().await.unwrap();
    let session = admin_session(&server).await;
    // Two senders for each way.
    let senders: Vec<_> = (0..4)
        .map(|sender| {
            let (address, session) = (server.address(), session.clone());
            tokio::spawn(async move {
                let connection =
                    connect_tls(address, &tls(Some(identity("localhost")))).await.unwrap();
                let mut line = Way::BOTH[sender % 2].open_on(connection, &session).await;
                for number in 0..100 {
                    let body = format!(r#"{{"sender":{sender},"number":{number}}}"#);
                    assert_eq!(line.send(new_id(), &body).await, Outcome::Accepted);
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

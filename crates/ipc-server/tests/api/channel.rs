//! Channels: what is accepted, how it is answered, and how one ends.

use ipc_server::MemoryOptions;
use serde_json::json;

use crate::channel_fixture::*;
use crate::fixture::*;

#[tokio::test]
async fn entries_are_delivered_in_order_with_all_that_is_known_of_their_sender() {
    let server = builder().start().await.unwrap();
    let mut channel = open(&server).await;
    assert_eq!(channel.limits, ipc_protocol::ChannelLimits::default());
    let entries = [message(r#"{ "n": 1.50 }"#), message(r#"{"n":2}"#)];
    assert_eq!(channel.ask(&entries).await, settled(&[(0, 1, "accepted")]));
    assert_eq!(channel.ask(&[message(r#"{"n":3}"#)]).await, settled(&[(2, 2, "accepted")]));
    for (id, body) in
        [(Some(entries[0].0), r#"{ "n": 1.50 }"#), (Some(entries[1].0), r#"{"n":2}"#), (None, r#"{"n":3}"#)]
    {
        let delivery = server.inbox().recv().await.unwrap();
        assert_eq!((delivery.body(), delivery.user()), (body, "ipc-admin"));
        assert!(id.is_none_or(|id| id == delivery.id()));
        assert!(delivery.certificate().is_some() && !delivery.wants_reply());
    }
}

#[tokio::test]
async fn requests_get_their_replies_in_whatever_order_they_are_given() {
    let server = builder().start().await.unwrap();
    let mut channel = open(&server).await;
    let ids = [request(r#"{"q":0}"#), message("{}"), request(r#"{"q":2}"#)];
    assert_eq!(channel.ask(&ids).await, settled(&[(1, 1, "accepted")]), "a request is answered by its reply");
    let mut deliveries = Vec::new();
    for _ in 0..3 {
        deliveries.push(server.inbox().recv().await.unwrap());
    }
    deliveries.pop().unwrap().reply(&json!({"a": 2})).await.unwrap();
    let replies = channel.answer().await.replies;
    assert_eq!(replies, [(2, false, r#"{"a":2}"#.to_owned())]);
    // Another message is answered while a request waits.
    assert_eq!(channel.ask(&[message("{}")]).await, settled(&[(3, 3, "accepted")]));
    deliveries.remove(0).reply(&json!({"a": 0})).await.unwrap();
    assert_eq!(channel.answer().await.replies, [(0, false, r#"{"a":0}"#.to_owned())]);
    let again = (ids[0].0, ids[0].1, ids[0].2);
    assert_eq!(channel.ask(&[again]).await.replies, [(4, true, r#"{"a":0}"#.to_owned())]);
}

#[tokio::test]
async fn a_stop_waits_for_replies_and_then_closes_the_channel() {
    let server = builder().start().await.unwrap();
    let mut channel = open(&server).await;
    channel.send(&[request("{}")]).await;
    let delivery = server.inbox().recv().await.unwrap();
    server.begin_stop();
    delivery.reply(&json!({"n": 1})).await.unwrap();
    assert_eq!(channel.answer().await.replies, [(0, false, r#"{"n":1}"#.to_owned())]);
    channel.is_closed(1001, "the server is stopping").await;
    server.stop().await;
}

#[tokio::test]
async fn a_ping_is_answered() {
    let server = builder().start().await.unwrap();
    let mut channel = open(&server).await;
    channel.write(PING, b"are you there").await;
    let pong = channel.read().await.unwrap();
    assert_eq!((pong.opcode, pong.payload.as_slice()), (PONG, &b"are you there"[..]));
}

#[tokio::test]
async fn from_the_first_entry_that_finds_no_room_none_is_taken_until_the_client_resumes() {
    let inbox = MemoryOptions::default().messages_max(2).build();
    let server = builder().inbox(inbox).inbox_wait(std::time::Duration::ZERO).start().await.unwrap();
    let mut channel = open(&server).await;
    let bodies: Vec<String> = (0..6).map(|n| format!(r#"{{"n":{n}}}"#)).collect();
    let all: Vec<_> = bodies.iter().map(|body| message(body)).collect();
    let answer = channel.ask(&all[..3]).await;
    assert_eq!(answer.settled, [(0, 1, "accepted".to_owned())]);
    assert_eq!(answer.refused, Some((2, "inbox_full".to_owned())));
    // What is on its way is dropped although there is room again.
    assert_eq!(server.inbox().recv().await.unwrap().body(), bodies[0]);
    channel.send(&all[3..4]).await;
    channel.send(&all[4..5]).await;
    channel.resume(2, &all[2..3]).await;
    assert_eq!(channel.answer().await, settled(&[(5, 5, "accepted")]), "and nothing is said of the others");
    for body in &bodies[1..3] {
        assert_eq!(server.inbox().recv().await.unwrap().body(), body);
    }
    assert_eq!(channel.ask(&all[3..5]).await, settled(&[(6, 7, "accepted")]));
}

//! Tests channels: which entries are accepted, how they are answered, and how a channel ends.

use std::time::Duration;

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
    for (id, body) in [
        (Some(entries[0].0), r#"{ "n": 1.50 }"#),
        (Some(entries[1].0), r#"{"n":2}"#),
        (None, r#"{"n":3}"#),
    ] {
        let delivery = server.inbox().recv().await.unwrap();
        assert_eq!((delivery.body(), delivery.user()), (body, "ipc-admin"));
        assert!(id.is_none_or(|id| id == delivery.id()));
        assert!(delivery.certificate().is_some() && !delivery.wants_reply());
        assert_eq!(delivery.peer(), Some("localhost"));
    }
}

#[tokio::test]
async fn requests_get_their_replies_in_whatever_order_they_are_given() {
    let server = builder().start().await.unwrap();
    let mut channel = open(&server).await;
    let ids = [request(r#"{"q":0}"#), message("{}"), request(r#"{"q":2}"#)];
    assert_eq!(
        channel.ask(&ids).await,
        settled(&[(1, 1, "accepted")]),
        "a request is answered by its reply"
    );
    let mut deliveries = Vec::new();
    for _ in 0..3 {
        deliveries.push(server.inbox().recv().await.unwrap());
    }
    deliveries.pop().unwrap().reply(&json!({"a": 2})).await.unwrap();
    let replies = channel.answer().await.replies;
    assert_eq!(replies, [(2, false, r#"{"a":2}"#.to_owned())]);
    // A message is answered while a request waits.
    assert_eq!(channel.ask(&[message("{}")]).await, settled(&[(3, 3, "accepted")]));
    deliveries.remove(0).reply(&json!({"a": 0})).await.unwrap();
    assert_eq!(channel.answer().await.replies, [(0, false, r#"{"a":0}"#.to_owned())]);
    let again = (ids[0].0, ids[0].1, ids[0].2);
    assert_eq!(channel.ask(&[again]).await.replies, [(4, true, r#"{"a":0}"#.to_owned())]);
}

#[tokio::test]
async fn a_stop_waits_for_replies_and_then_closes_the_channel() {
    let server = builder().start().await.unwrap();
    let (mut idle, mut waiting) = (open(&server).await, open(&server).await);
    idle.ask(&[message("{}")]).await;
    waiting.send(&[request("{}")]).await;
    server.inbox().recv().await.unwrap().ack().await.unwrap();
    let delivery = server.inbox().recv().await.unwrap();
    server.begin_stop();
    idle.is_closed(1001, "the server is stopping").await;
    // An entry that arrives now is not accepted.
    waiting.send(&[message("{}")]).await;
    waiting.write(PING, b"x").await;
    assert_eq!(waiting.read().await.unwrap().opcode, PONG);
    delivery.reply(&json!({"n": 1})).await.unwrap();
    assert_eq!(waiting.answer().await.replies, [(0, false, r#"{"n":1}"#.to_owned())]);
    waiting.is_closed(1001, "the server is stopping").await;
    server.stop().await;
    assert!(server.inbox().recv().await.is_none());
}

#[tokio::test]
async fn a_request_without_a_reply_is_told_before_the_server_has_stopped() {
    let server = builder().stop_timeout(Duration::from_secs(1)).start().await.unwrap();
    let mut channel = open(&server).await;
    let entries = [request("{}"), message("{}"), request("{}")];
    assert_eq!(channel.ask(&entries).await, settled(&[(1, 1, "accepted")]));
    server.begin_stop();
    let answer = channel.answer().await;
    assert_eq!(answer, settled(&[(0, 0, "shutting_down"), (2, 2, "shutting_down")]));
    channel.is_closed(1001, "the server is stopping").await;
    server.stop().await;
}

#[tokio::test]
async fn a_channel_that_its_client_closes_ends_at_once_with_the_same_code() {
    let server = builder().start().await.unwrap();
    let mut channel = open(&server).await;
    channel.send(&[message("{}")]).await;
    channel.write(CLOSE, &[3, 232]).await;
    assert_eq!(channel.answer().await, settled(&[(0, 0, "accepted")]));
    assert_eq!(channel.closed().await, (1000, String::new()));
    assert_eq!(channel.read().await, None, "the client need not close first");
}

#[tokio::test]
async fn what_a_channel_left_open_is_answered_on_the_next() {
    let server = builder().start().await.unwrap();
    let mut first = open(&server).await;
    let entries = [request(r#"{"q":1}"#), message("{}")];
    first.ask(&entries).await;
    drop(first);
    server.inbox().recv().await.unwrap().reply(&json!({"a": 1})).await.unwrap();
    let mut second = open(&server).await;
    let answer = second.ask(&entries).await;
    assert_eq!(answer.settled, [(1, 1, "duplicate".to_owned())]);
    let replies =
        if answer.replies.is_empty() { second.answer().await.replies } else { answer.replies };
    assert_eq!(replies, [(0, true, r#"{"a":1}"#.to_owned())]);
}

#[tokio::test]
async fn a_bad_entry_does_not_spoil_the_others_of_its_frame() {
    let server = builder().start().await.unwrap();
    let mut channel = open(&server).await;
    let (first, last) = (message(r#"{"n":0}"#), message(r#"{"n":3}"#));
    let bad = message("[1]");
    let answer = channel.ask(&[first, bad, first, (first.0, "{}", None), last]).await;
    assert_eq!(
        answer,
        settled(&[
            (0, 0, "accepted"),
            (1, 1, "not_an_object"),
            (2, 2, "duplicate"),
            (3, 3, "id_reused"),
            (4, 4, "accepted")
        ])
    );
    server.stop().await;
    for body in [r#"{"n":0}"#, r#"{"n":3}"#] {
        assert_eq!(server.inbox().recv().await.unwrap().body(), body);
    }
    assert!(server.inbox().recv().await.is_none());
}

#[tokio::test]
async fn a_frame_without_entries_is_taken_and_answered_with_nothing() {
    let server = builder().start().await.unwrap();
    let mut channel = open(&server).await;
    channel.send(&[]).await;
    assert_eq!(channel.ask(&[message("{}")]).await, settled(&[(0, 0, "accepted")]));
}

#[tokio::test]
async fn many_frames_at_once_are_answered_in_order_and_each_entry_once() {
    let server = builder()
        .inbox(MemoryOptions::default().messages_max(100_000).build())
        .start()
        .await
        .unwrap();
    let mut channel = open(&server).await;
    let mut bytes = Vec::new();
    for _ in 0..2000 {
        let sealed = channel.sealed(None, &[message("{}"), message("{}")]);
        bytes.extend(ws_frame(0x82, &sealed));
    }
    channel.connection.write(&bytes).await.unwrap();
    let mut next = 0;
    while next < 4000 {
        for (first, last, code) in channel.answer().await.settled {
            assert_eq!((first, code.as_str()), (next, "accepted"));
            next = last + 1;
        }
    }
}

#[tokio::test]
async fn a_thousand_requests_wait_on_one_channel() {
    let server = builder().start().await.unwrap();
    let mut channel = open(&server).await;
    let entries: Vec<_> = (0..1000).map(|_| request("{}")).collect();
    for some in entries.chunks(100) {
        channel.send(some).await;
    }
    let mut deliveries = Vec::new();
    while deliveries.len() < 1000 {
        deliveries.extend(server.inbox().recv_many(1000).await);
    }
    assert_eq!(channel.ask(&[message("{}")]).await, settled(&[(1000, 1000, "accepted")]));
    for (n, delivery) in deliveries.into_iter().enumerate().rev() {
        delivery.reply(&json!({"n": n})).await.unwrap();
    }
    let mut replies = Vec::new();
    while replies.len() < 1000 {
        replies.extend(channel.answer().await.replies);
    }
    replies.sort_unstable();
    for (n, (entry, is_duplicate, body)) in replies.into_iter().enumerate() {
        assert_eq!((entry, is_duplicate, body), (n as u64, false, format!(r#"{{"n":{n}}}"#)));
    }
}

#[tokio::test]
async fn a_reply_longer_than_a_message_has_its_own_and_takes_of_the_memory_of_all_bodies() {
    let long = json!({"text": "x".repeat(1_000_000)});
    let server = builder().bodies_bytes_max(1_500_000).start().await.unwrap();
    let mut channel = open(&server).await;
    // Each message gives its memory back.
    for n in 0..3 {
        channel.send(&[request("{}"), request("{}")]).await;
        let (first, second) =
            (server.inbox().recv().await.unwrap(), server.inbox().recv().await.unwrap());
        first.reply(&long).await.unwrap();
        second.reply(&json!({})).await.unwrap();
        let mut replies = Vec::new();
        while replies.len() < 2 {
            let frame = channel.read().await.unwrap();
            let answer = channel.opened(&frame.payload);
            let is_long = answer.replies.iter().any(|(entry, ..)| *entry == 2 * n);
            assert!(
                frame.payload.len() <= channel.limits.message_bytes
                    || (is_long && answer.replies.len() == 1)
            );
            replies.extend(answer.replies);
        }
        replies.sort_unstable();
        assert_eq!(
            replies,
            [(2 * n, false, long.to_string()), (2 * n + 1, false, "{}".to_owned())]
        );
    }
    let server = builder().bodies_bytes_max(500_000).start().await.unwrap();
    let mut channel = open(&server).await;
    channel.send(&[request("{}")]).await;
    server.inbox().recv().await.unwrap().reply(&long).await.unwrap();
    assert_eq!(channel.answer().await, settled(&[(0, 0, "unavailable")]));
}

#[tokio::test]
async fn behind_a_refusal_only_what_needs_no_room_is_answered() {
    let inbox = MemoryOptions::default().messages_max(1).build();
    let server = builder().inbox(inbox).inbox_wait(Duration::ZERO).start().await.unwrap();
    let mut channel = open(&server).await;
    let known = request(r#"{"n":0}"#);
    channel.send(&[known]).await;
    let answer = channel.ask(&[message("{}"), known, (known.0, "{}", None), message("[]")]).await;
    assert_eq!(answer.refused, Some((1, "inbox_full".to_owned())));
    // A request from the refused number on gets no reply, even if its id is known.
    assert_eq!(answer.settled, settled(&[(3, 3, "id_reused"), (4, 4, "not_an_object")]).settled);
    server.inbox().recv().await.unwrap().reply(&json!({})).await.unwrap();
    assert_eq!(
        channel.answer().await.replies,
        [(0, false, "{}".to_owned())],
        "entry 2 gets no reply"
    );
    channel.resume(1, &[message("{}"), known]).await;
    let answer = channel.answer().await;
    assert_eq!(answer.settled, [(5, 5, "accepted".to_owned())]);
    let replies =
        if answer.replies.is_empty() { channel.answer().await.replies } else { answer.replies };
    assert_eq!(replies, [(6, true, "{}".to_owned())]);
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
async fn a_frame_with_more_than_the_inbox_holds_is_taken_as_fast_as_the_application_takes() {
    let inbox = MemoryOptions::default().messages_max(2).build();
    let server = builder().inbox(inbox).inbox_wait(Duration::from_secs(60)).start().await.unwrap();
    let mut channel = open(&server).await;
    let bodies: Vec<String> = (0..50).map(|n| format!(r#"{{"n":{n}}}"#)).collect();
    let all: Vec<_> = bodies.iter().map(|body| message(body)).collect();
    // Entry 20 was sent before, so it is a duplicate.
    assert_eq!(channel.ask(&all[20..21]).await, settled(&[(0, 0, "accepted")]));
    server.inbox().recv().await.unwrap().ack().await.unwrap();
    channel.send(&all).await;
    let receive = async {
        for (n, body) in bodies.iter().enumerate().filter(|(n, _)| *n != 20) {
            let delivery = server.inbox().recv().await.unwrap();
            assert_eq!(delivery.body(), body, "{n}");
            delivery.ack().await.unwrap();
        }
    };
    let answers = async {
        let mut next = 1;
        while next <= 50 {
            let answer = channel.answer().await;
            assert_eq!(answer.refused, None);
            for (first, last, code) in answer.settled {
                assert_eq!(first, next);
                assert_eq!(code, if first == 21 { "duplicate" } else { "accepted" });
                next = last + 1;
            }
        }
    };
    tokio::join!(receive, answers);
}

#[tokio::test]
async fn from_the_first_entry_that_finds_no_room_none_is_taken_until_the_client_resumes() {
    let inbox = MemoryOptions::default().messages_max(2).build();
    let server = builder().inbox(inbox).inbox_wait(Duration::ZERO).start().await.unwrap();
    let mut channel = open(&server).await;
    let bodies: Vec<String> = (0..6).map(|n| format!(r#"{{"n":{n}}}"#)).collect();
    let all: Vec<_> = bodies.iter().map(|body| message(body)).collect();
    let answer = channel.ask(&all[..3]).await;
    assert_eq!(
        answer,
        settled(&[(0, 1, "accepted")]),
        "the server still waits for room for the others"
    );
    assert_eq!(channel.answer().await.refused, Some((2, "inbox_full".to_owned())));
    // Entries sent before `resume` are dropped although there is room again.
    assert_eq!(server.inbox().recv().await.unwrap().body(), bodies[0]);
    channel.send(&all[3..4]).await;
    channel.send(&all[4..5]).await;
    channel.resume(2, &all[2..3]).await;
    assert_eq!(
        channel.answer().await,
        settled(&[(5, 5, "accepted")]),
        "the dropped entries get no answer"
    );
    for body in &bodies[1..3] {
        assert_eq!(server.inbox().recv().await.unwrap().body(), body);
    }
    assert_eq!(channel.ask(&all[3..5]).await, settled(&[(6, 7, "accepted")]));
}

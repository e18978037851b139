//! Runs the suite with the kinds of inbox of this crate, and with that of the example.

use std::time::{Duration, SystemTime};

use ipc_inbox::{
    AckError, DeadLetterId, DurableOptions, Inbox, InboxStatus, MemoryOptions, Message, NoReply,
    Put,
};

use crate::suite::{suite, whole_suite};
use crate::support::{Both, NO_WAIT, id, message};
use crate::vec_deque::VecDequeInbox;

whole_suite!(in_memory, super::memory);
whole_suite!(in_a_file, super::durable);

async fn memory(messages_max: usize) -> Both {
    MemoryOptions::default().messages_max(messages_max).build().into()
}

async fn durable(messages_max: usize) -> Both {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap().keep();
    let options = DurableOptions::default().messages_max(messages_max as u64);
    options.open(directory.join("inbox.db")).await.unwrap().into()
}

/// The inbox of the example.
async fn vec_deque(messages_max: usize) -> Both {
    Inbox::with_backend(VecDequeInbox::new(messages_max)).into()
}

// The tests for what every backend must do. The example does not serve puts in the order in which
// they wait for room, does not recognise duplicates in a batch without room, and lacks the optional
// methods.
suite!(
    of_the_example,
    super::vec_deque,
    [
        messages_come_out_in_the_order_in_which_they_went_in,
        messages_and_requests_go_in_together,
        a_delivery_names_the_certificate_and_the_peer_of_its_message,
        thousands_wait_for_their_replies_and_each_gets_its_own,
        many_are_acknowledged_together_each_with_its_own_answer,
        a_message_put_twice_is_taken_once,
        a_full_inbox_refuses_in_time_and_knows_duplicates,
        a_message_taken_and_acknowledged_lets_one_in,
        whoever_stops_waiting_for_room_has_put_nothing_and_holds_no_place,
        the_same_message_waiting_twice_goes_in_once,
        a_closed_inbox_refuses_and_gives_out_what_it_has,
        closing_wakes_those_who_wait,
        whoever_stops_waiting_for_a_message_has_taken_none,
        many_are_taken_at_once_but_not_waited_for,
        many_putters_and_takers_lose_nothing_and_double_nothing,
        a_batch_has_an_answer_for_each_message,
        a_reply_reaches_all_who_wait_and_those_who_come_later,
        a_request_that_is_dropped_or_only_acknowledged_has_no_reply,
        a_reply_that_cannot_be_sent_is_refused_and_the_sender_is_told,
        what_is_no_request_takes_no_reply,
        those_who_wait_to_be_taken_are_counted,
        a_finished_inbox_takes_and_gives_nothing_and_says_how_many_were_left,
        finishing_ends_every_wait,
        a_delivery_that_is_extended_can_be_acknowledged,
        the_stream_gives_every_message_and_ends_with_the_inbox,
    ]
);

#[tokio::test]
async fn a_backend_that_puts_nothing_back_says_so_and_the_sender_is_told() {
    let inbox = vec_deque(10).await;
    for number in [1, 2, 3] {
        inbox.put(Message { wants_reply: true, ..message(number, "{}") }, NO_WAIT).await.unwrap();
    }
    let unsupported = inbox.recv().await.unwrap().nack(Duration::ZERO).await;
    assert!(matches!(unsupported, Err(AckError::Unsupported)), "{unsupported:?}");
    let unsupported = inbox.recv().await.unwrap().reject("bad").await;
    assert!(matches!(unsupported, Err(AckError::Unsupported)), "{unsupported:?}");
    inbox.recv().await.unwrap().decline("its reason is lost").await.unwrap();
    for number in [1, 2, 3] {
        assert_eq!(inbox.reply_to("müller", id(number)).await, Err(NoReply::NotGiven));
    }
    assert!(inbox.dead(9).await.unwrap().is_empty());
    assert_eq!(inbox.requeue(&[DeadLetterId::new(1)]).await.unwrap(), 0);
    assert_eq!(inbox.discard(&[DeadLetterId::new(1)]).await.unwrap(), 0);
}

/// What both kinds of inbox of this crate count and say of themselves.
async fn says_what_it_did_and_what_it_holds(inbox: Both) {
    let old = SystemTime::now() - Duration::from_secs(90);
    for number in 1..=5 {
        let received_at = old + Duration::from_secs(number.into());
        let wants_reply = number == 4;
        let message = Message { received_at, wants_reply, ..message(number, "{}") };
        assert_eq!(inbox.put(message.clone(), NO_WAIT).await, Ok(Put::Accepted));
        assert_eq!(inbox.put(message, NO_WAIT).await, Ok(Put::Duplicate));
    }
    let age = |status: &InboxStatus| {
        status.oldest.unwrap().duration_since(old).unwrap().as_secs_f64().round()
    };
    let status = inbox.status().await;
    assert_eq!((status.waiting, age(&status)), (Some(5), 1.0));
    assert_eq!((status.remembered_ids, status.dead_letters), (Some(5), Some(0)));
    assert_eq!(status.problem, None);

    let taken = inbox.recv_many(9).await;
    assert_eq!(inbox.statistics().in_hand(), 5);
    assert_eq!(inbox.status().await.oldest, None, "all are with the application");
    let mut taken = taken.into_iter();
    let mut next = || taken.next().unwrap();
    next().ack().await.unwrap();
    next().nack(Duration::from_secs(3600)).await.unwrap();
    next().reject("no").await.unwrap();
    next().reply(&serde_json::json!({})).await.unwrap();
    let status = inbox.status().await;
    assert_eq!((status.waiting, age(&status)), (Some(1), 2.0), "the one that was given back");
    assert_eq!(status.dead_letters, Some(1));
    next().nack(Duration::ZERO).await.unwrap();
    let again = inbox.recv().await.unwrap();
    assert_eq!(again.redeliveries(), 1);
    drop(again);

    let did = inbox.statistics();
    assert_eq!((did.accepted, did.duplicates, did.put_seconds.count()), (5, 5, 10));
    assert_eq!((did.delivered, did.redelivered, did.in_hand()), (5, 1, 0));
    assert_eq!((did.acknowledged, did.replied, did.given_back), (1, 1, 2));
    assert_eq!((did.rejected, did.declined, did.dropped), (1, 0, 1));
    let request = Message { wants_reply: true, ..message(6, "{}") };
    inbox.put(request, NO_WAIT).await.unwrap();
    inbox.recv().await.unwrap().decline("no").await.unwrap();
    let did_more = inbox.statistics();
    assert_eq!((did_more.declined, did_more.acknowledged, did_more.in_hand()), (1, 1, 0));
    assert_eq!(did.delivery_seconds.count(), 5);
    assert!(did.delivery_seconds.sum > 5.0 * 80.0, "{}", did.delivery_seconds.sum);
}

#[tokio::test]
async fn an_inbox_in_memory_says_what_it_did_and_what_it_holds() {
    says_what_it_did_and_what_it_holds(memory(10).await).await;
}

#[tokio::test]
async fn an_inbox_in_a_file_says_what_it_did_and_what_it_holds() {
    says_what_it_did_and_what_it_holds(durable(10).await).await;
}

#[tokio::test]
async fn a_backend_that_says_only_how_many_wait_has_a_status_too() {
    let inbox = vec_deque(10).await;
    inbox.put(message(1, "{}"), NO_WAIT).await.unwrap();
    let status = inbox.status().await;
    assert_eq!(status, InboxStatus::of_waiting(1));
    // What it does not take back is dropped, and counted once.
    let _unsupported = inbox.recv().await.unwrap().nack(Duration::ZERO).await;
    let did = inbox.statistics();
    assert_eq!((did.given_back, did.dropped, did.in_hand()), (0, 1, 0));
}

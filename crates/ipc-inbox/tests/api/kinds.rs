//! Runs the suite with the kinds of inbox of this crate, and with that of the example.

use std::time::Duration;

use ipc_inbox::{AckError, DeadLetterId, DurableOptions, Inbox, MemoryOptions, Message, NoReply};

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
    for number in [1, 2] {
        inbox.put(Message { wants_reply: true, ..message(number, "{}") }, NO_WAIT).await.unwrap();
    }
    let unsupported = inbox.recv().await.unwrap().nack(Duration::ZERO).await;
    assert!(matches!(unsupported, Err(AckError::Unsupported)), "{unsupported:?}");
    let unsupported = inbox.recv().await.unwrap().reject("bad").await;
    assert!(matches!(unsupported, Err(AckError::Unsupported)), "{unsupported:?}");
    for number in [1, 2] {
        assert_eq!(inbox.reply_to("müller", id(number)).await, Err(NoReply::NotGiven));
    }
    assert!(inbox.dead(9).await.unwrap().is_empty());
    assert_eq!(inbox.requeue(&[DeadLetterId::new(1)]).await.unwrap(), 0);
    assert_eq!(inbox.discard(&[DeadLetterId::new(1)]).await.unwrap(), 0);
}

//! The tests that every kind of inbox passes. A kind is a function that makes an inbox for a given
//! number of messages. The crates of other kinds include this file and `support.rs` with `#[path]`.

use std::time::{Duration, SystemTime};

use futures_util::StreamExt as _;
use ipc_inbox::{
    DeadLetterId, DeadReason, Delivery, Message, NoReply, Pending, Put, PutError, ReplyError,
};
use ipc_protocol::{Fingerprint, MessageId};

use crate::support::Both;

const NO_WAIT: Duration = Duration::ZERO;
/// Longer than any test: a test that waits this long never passes.
const LONG: Duration = Duration::from_secs(3600);

fn id(number: u8) -> MessageId {
    MessageId::from_random([number; 16])
}

fn message(number: u8, body: &str) -> Message {
    Message {
        id: id(number),
        user: "u".into(),
        certificate: Some(Fingerprint::from_bytes([number; 32])),
        peer: Some("worker1".into()),
        received_at: SystemTime::UNIX_EPOCH,
        body: body.into(),
        wants_reply: false,
    }
}

fn request(number: u8) -> Message {
    Message { wants_reply: true, ..message(number, "{}") }
}

/// Starts to wait, and returns the rest of the wait.
async fn started<T: Send + Unpin + 'static>(
    pending: impl Future<Output = T> + Send + 'static,
) -> tokio::task::JoinHandle<T> {
    let mut pending = Box::pin(pending);
    let first =
        std::future::poll_fn(|context| std::task::Poll::Ready(pending.as_mut().poll(context)))
            .await;
    assert!(first.is_pending(), "nothing is there to wait for");
    tokio::spawn(pending)
}

/// A put that finds no room and waits.
async fn waiting_put(
    inbox: &Both,
    message: Message,
) -> tokio::task::JoinHandle<Result<Put, PutError>> {
    let inbox = inbox.clone();
    started(async move { inbox.put(message, LONG).await }).await
}

/// A sender that waits for the reply to a request.
async fn waiting_reply(
    inbox: &Both,
    id: MessageId,
) -> tokio::task::JoinHandle<Result<std::sync::Arc<str>, NoReply>> {
    let inbox = inbox.clone();
    started(async move { inbox.reply_to("u", id).await }).await
}

/// Runs these tests with an inbox that `$make` makes. Before the name there may be an attribute for
/// each test.
macro_rules! suite {
    ($kind:ident, $make:path, [$($test:ident),* $(,)?]) => {
        crate::suite::suite!(cfg(test), $kind, $make, [$($test),*]);
    };
    ($attribute:meta, $kind:ident, $make:path, [$($test:ident),* $(,)?]) => {
        mod $kind {
            $(#[tokio::test]
            #[$attribute]
            async fn $test() {
                crate::suite::$test($make).await;
            })*
        }
    };
}

/// Runs all tests with an inbox that `$make` makes.
macro_rules! whole_suite {
    ($kind:ident, $make:path) => {
        crate::suite::whole_suite!(cfg(test), $kind, $make);
    };
    ($attribute:meta, $kind:ident, $make:path) => {
        crate::suite::suite!($attribute, $kind, $make, [
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
            those_who_wait_for_room_come_before_those_who_come_later,
            a_closed_inbox_refuses_and_gives_out_what_it_has,
            closing_wakes_those_who_wait,
            whoever_stops_waiting_for_a_message_has_taken_none,
            many_are_taken_at_once_but_not_waited_for,
            many_putters_and_takers_lose_nothing_and_double_nothing,
            a_batch_has_an_answer_for_each_message,
            a_batch_takes_the_room_there_is_in_order,
            a_batch_waits_only_while_there_is_room_for_none,
            a_reply_reaches_all_who_wait_and_those_who_come_later,
            a_request_that_is_dropped_or_only_acknowledged_has_no_reply,
            a_request_that_is_declined_has_no_reply_and_every_sender_hears_why,
            a_reply_that_cannot_be_sent_is_refused_and_the_sender_is_told,
            what_is_no_request_takes_no_reply,
            those_who_wait_to_be_taken_are_counted,
            a_finished_inbox_takes_and_gives_nothing_and_says_how_many_were_left,
            finishing_ends_every_wait,
            what_is_put_back_comes_again_in_its_order_before_what_came_later,
            what_is_put_back_comes_again_once_its_delay_is_over,
            what_is_put_back_into_a_closed_inbox_can_still_be_taken,
            what_is_put_back_too_often_is_a_dead_letter,
            what_is_rejected_is_a_dead_letter_with_its_reason_until_it_is_requeued_or_discarded,
            a_request_that_is_put_back_can_still_be_answered_and_one_that_is_rejected_has_no_reply,
            a_delivery_that_is_extended_can_be_acknowledged,
            the_stream_gives_every_message_and_ends_with_the_inbox,
        ]);
    };
}

pub(crate) use {suite, whole_suite};

pub(crate) async fn what_is_put_back_comes_again_in_its_order_before_what_came_later<
    F: Future<Output = Both>,
>(
    make: fn(usize) -> F,
) {
    let inbox = make(10).await;
    for number in 1..=4 {
        inbox.put(message(number, "{}"), NO_WAIT).await.unwrap();
    }
    let first = inbox.recv().await.unwrap();
    let second = inbox.recv().await.unwrap();
    inbox.recv().await.unwrap().ack().await.unwrap();
    second.nack(Duration::ZERO).await.unwrap();
    first.nack(Duration::ZERO).await.unwrap();
    assert_eq!(inbox.waiting().await, 3);
    for (number, redeliveries) in [(1, 1), (2, 1), (4, 0)] {
        let delivery = inbox.recv().await.unwrap();
        assert_eq!((delivery.id(), delivery.redeliveries()), (id(number), redeliveries));
        delivery.ack().await.unwrap();
    }
    assert_eq!(inbox.waiting().await, 0);
}

pub(crate) async fn what_is_put_back_comes_again_once_its_delay_is_over<
    F: Future<Output = Both>,
>(
    make: fn(usize) -> F,
) {
    let inbox = make(10).await;
    for number in 1..=3 {
        inbox.put(message(number, "{}"), NO_WAIT).await.unwrap();
    }
    let first = inbox.recv().await.unwrap();
    let second = inbox.recv().await.unwrap();
    first.nack(LONG).await.unwrap();
    let third = inbox.recv().await.unwrap();
    assert_eq!(third.id(), id(3), "the first one's delay is not over");
    let taker = inbox.clone();
    let taking = started(async move { taker.recv().await.unwrap() }).await;
    second.nack(Duration::from_millis(1)).await.unwrap();
    let second = taking.await.unwrap();
    assert_eq!(second.id(), id(2));
    assert_eq!(inbox.waiting().await, 1, "the first one");
    assert!(Delivery::ack_all(vec![second, third]).await.iter().all(Result::is_ok));
}

pub(crate) async fn what_is_put_back_into_a_closed_inbox_can_still_be_taken<
    F: Future<Output = Both>,
>(
    make: fn(usize) -> F,
) {
    let inbox = make(1).await;
    inbox.put(message(1, "{}"), NO_WAIT).await.unwrap();
    let delivery = inbox.recv().await.unwrap();
    inbox.close();
    delivery.nack(Duration::ZERO).await.unwrap();
    inbox.recv().await.unwrap().ack().await.unwrap();
    assert!(inbox.recv().await.is_none());
}

pub(crate) async fn what_is_put_back_too_often_is_a_dead_letter<F: Future<Output = Both>>(
    make: fn(usize) -> F,
) {
    let inbox = make(1).await;
    inbox.put(message(1, r#"{"n":1}"#), NO_WAIT).await.unwrap();
    for redeliveries in 0..10 {
        assert!(inbox.dead(1).await.unwrap().is_empty());
        let delivery = inbox.recv().await.unwrap();
        assert_eq!(delivery.redeliveries(), redeliveries);
        assert_eq!(delivery.is_last_delivery(), redeliveries == 9);
        delivery.nack(Duration::ZERO).await.unwrap();
    }
    let [letter] = inbox.dead(9).await.unwrap().try_into().unwrap();
    assert_eq!((letter.message, letter.deliveries), (message(1, r#"{"n":1}"#), 10));
    assert_eq!(letter.reason, DeadReason::MaxDeliveries);
    assert_eq!(inbox.waiting().await, 0);
}

pub(crate) async fn what_is_rejected_is_a_dead_letter_with_its_reason_until_it_is_requeued_or_discarded<
    F: Future<Output = Both>,
>(
    make: fn(usize) -> F,
) {
    let inbox = make(10).await;
    for number in [1, 2] {
        inbox.put(message(number, "{}"), NO_WAIT).await.unwrap();
        inbox.recv().await.unwrap().reject(format!("reason {number}")).await.unwrap();
    }
    let [first, second] = inbox.dead(9).await.unwrap().try_into().unwrap();
    assert_eq!((first.message.id, first.deliveries), (id(1), 1));
    assert_eq!(first.reason, DeadReason::Rejected("reason 1".into()));
    assert_eq!(inbox.dead(1).await.unwrap(), std::slice::from_ref(&first));
    let rest = inbox.dead_letters(Some(first.id), 9).await.unwrap();
    assert_eq!(rest, std::slice::from_ref(&second));
    assert!(inbox.dead_letters(Some(second.id), 9).await.unwrap().is_empty());
    assert_eq!(inbox.put(message(1, "{}"), NO_WAIT).await, Ok(Put::Duplicate));

    assert_eq!(inbox.requeue(&[first.id, DeadLetterId::new(999)]).await.unwrap(), 1);
    let again = inbox.recv().await.unwrap();
    assert_eq!((again.id(), again.redeliveries()), (id(1), 0));
    again.nack(Duration::ZERO).await.unwrap();
    inbox.recv().await.unwrap().reject("other").await.unwrap();
    assert_eq!(inbox.dead(1).await.unwrap()[0].reason, DeadReason::Rejected("other".into()));

    let both = [first.id, second.id];
    assert_eq!(inbox.discard(&both).await.unwrap(), 2);
    assert_eq!((inbox.discard(&both).await.unwrap(), inbox.requeue(&both).await.unwrap()), (0, 0));
    assert!(inbox.dead(9).await.unwrap().is_empty());
    assert_eq!(inbox.put(message(2, "{}"), NO_WAIT).await, Ok(Put::Duplicate));
    assert_eq!(inbox.waiting().await, 0);
}

pub(crate) async fn a_request_that_is_put_back_can_still_be_answered_and_one_that_is_rejected_has_no_reply<
    F: Future<Output = Both>,
>(
    make: fn(usize) -> F,
) {
    let inbox = make(10).await;
    inbox.put(request(1), NO_WAIT).await.unwrap();
    let reply = waiting_reply(&inbox, id(1)).await;
    inbox.recv().await.unwrap().nack(Duration::ZERO).await.unwrap();
    let again = inbox.recv().await.unwrap();
    assert!(again.is_awaited(), "the sender goes on waiting");
    again.reply(&serde_json::json!({"n": 1})).await.unwrap();
    assert_eq!(reply.await.unwrap().as_deref(), Ok(r#"{"n":1}"#));

    inbox.put(request(2), NO_WAIT).await.unwrap();
    let reply = waiting_reply(&inbox, id(2)).await;
    inbox.recv().await.unwrap().reject("bad").await.unwrap();
    assert_eq!(reply.await.unwrap(), Err(NoReply::NotGiven));
    // Once requeued, the request can be asked for again.
    let dead = inbox.dead(1).await.unwrap();
    assert_eq!(inbox.requeue(&[dead[0].id]).await.unwrap(), 1);
    let reply = waiting_reply(&inbox, id(2)).await;
    inbox.recv().await.unwrap().reply(&serde_json::json!({"n": 2})).await.unwrap();
    assert_eq!(reply.await.unwrap().as_deref(), Ok(r#"{"n":2}"#));
}

pub(crate) async fn a_delivery_that_is_extended_can_be_acknowledged<F: Future<Output = Both>>(
    make: fn(usize) -> F,
) {
    let inbox = make(1).await;
    inbox.put(message(1, "{}"), NO_WAIT).await.unwrap();
    let delivery = inbox.recv().await.unwrap();
    for time in [LONG, Duration::MAX] {
        delivery.extend(time).await.unwrap();
    }
    delivery.ack().await.unwrap();
    assert_eq!(inbox.put(message(2, "{}"), NO_WAIT).await, Ok(Put::Accepted), "its place is free");
}

pub(crate) async fn the_stream_gives_every_message_and_ends_with_the_inbox<
    F: Future<Output = Both>,
>(
    make: fn(usize) -> F,
) {
    let inbox = make(10).await;
    let mut stream = inbox.inbox.clone();
    let next = started(async move { (stream.next().await.map(|one| one.id()), stream) }).await;
    for number in 1..=3 {
        inbox.put(message(number, "{}"), NO_WAIT).await.unwrap();
    }
    let (first, mut stream) = next.await.unwrap();
    assert_eq!(first, Some(id(1)));
    inbox.close();
    for number in [2, 3] {
        let delivery = stream.next().await.unwrap();
        assert_eq!(delivery.id(), id(number));
        delivery.ack().await.unwrap();
    }
    assert!(stream.next().await.is_none());
    assert!(stream.next().await.is_none());
}

pub(crate) async fn those_who_wait_to_be_taken_are_counted<F: Future<Output = Both>>(
    make: fn(usize) -> F,
) {
    let inbox = make(200).await;
    assert_eq!(inbox.waiting().await, 0);
    inbox.put_all((0..150).map(|number| message(number, "{}")).collect(), NO_WAIT).await;
    inbox.put(message(1, "{}"), NO_WAIT).await.unwrap();
    assert_eq!(inbox.waiting().await, 150, "a duplicate does not wait");
    let taken = inbox.recv_many(10).await;
    assert_eq!((taken.len(), inbox.waiting().await), (10, 140));
    inbox.close();
    assert_eq!(inbox.waiting().await, 140, "they can still be taken");
    inbox.recv().await.unwrap().ack().await.unwrap();
    assert_eq!(inbox.waiting().await, 139);
}

pub(crate) async fn a_finished_inbox_takes_and_gives_nothing_and_says_how_many_were_left<
    F: Future<Output = Both>,
>(
    make: fn(usize) -> F,
) {
    let inbox = make(10).await;
    for number in 0..5 {
        inbox.put(message(number, "{}"), NO_WAIT).await.unwrap();
    }
    let mut taken = inbox.recv_many(2).await;
    // This call began before the end, so it is done.
    let acknowledged = taken.pop().unwrap().ack();
    let (acknowledged, left) = tokio::join!(acknowledged, inbox.finish());
    acknowledged.unwrap();
    assert_eq!(left, 3);
    assert_eq!(inbox.put(message(9, "{}"), NO_WAIT).await, Err(PutError::Closed));
    assert_eq!(inbox.put_all(vec![message(8, "{}")], NO_WAIT).await, [Err(PutError::Closed)]);
    assert!(inbox.recv().await.is_none());
    assert_eq!((inbox.waiting().await, inbox.finish().await), (0, 0));
    drop(taken);
}

pub(crate) async fn finishing_ends_every_wait<F: Future<Output = Both>>(make: fn(usize) -> F) {
    let inbox = make(1).await;
    let taking = started({
        let inbox = inbox.clone();
        async move { inbox.recv().await.is_none() }
    })
    .await;
    inbox.finish().await;
    assert!(taking.await.unwrap());

    let inbox = make(1).await;
    inbox.put(request(1), NO_WAIT).await.unwrap();
    let replied = started({
        let inbox = inbox.clone();
        async move { inbox.reply_to("u", id(1)).await }
    })
    .await;
    let putting = waiting_put(&inbox, message(2, "{}")).await;
    inbox.finish().await;
    assert!(replied.await.unwrap().is_err());
    assert_eq!(putting.await.unwrap(), Err(PutError::Closed));
}

pub(crate) async fn messages_come_out_in_the_order_in_which_they_went_in<
    F: Future<Output = Both>,
>(
    make: fn(usize) -> F,
) {
    let inbox = make(10).await;
    for number in 0..10 {
        assert_eq!(
            inbox.put(message(number, &format!("{{\"n\":{number}}}")), NO_WAIT).await,
            Ok(Put::Accepted)
        );
    }
    for number in 0..10 {
        let delivery = inbox.recv().await.unwrap();
        assert_eq!(delivery.body(), format!("{{\"n\":{number}}}"));
        assert_eq!((delivery.redeliveries(), delivery.user(), delivery.id()), (0, "u", id(number)));
        assert_eq!(delivery.received_at(), SystemTime::UNIX_EPOCH);
        delivery.ack().await.unwrap();
    }
}

pub(crate) async fn a_delivery_names_the_certificate_and_the_peer_of_its_message<
    F: Future<Output = Both>,
>(
    make: fn(usize) -> F,
) {
    let inbox = make(10).await;
    let senders = [
        (None, None),
        (Some(Fingerprint::from_bytes([1; 32])), Some("worker1")),
        (Some(Fingerprint::from_bytes([1; 32])), Some("worker1")),
        (Some(Fingerprint::from_bytes([2; 32])), None),
        (Some(Fingerprint::from_bytes([3; 32])), Some("host2.example")),
    ];
    let messages = (0..).zip(senders).map(|(number, (certificate, peer))| Message {
        certificate,
        peer: peer.map(Into::into),
        ..message(number, "{}")
    });
    let put = inbox.put_all(messages.collect(), NO_WAIT).await;
    assert_eq!(put, vec![Ok(Put::Accepted); senders.len()]);
    for (number, sender) in (0..).zip(senders) {
        let delivery = inbox.recv().await.unwrap();
        assert_eq!(delivery.id(), id(number));
        assert_eq!((delivery.certificate(), delivery.peer()), sender);
        delivery.ack().await.unwrap();
    }
}

pub(crate) async fn a_message_put_twice_is_taken_once<F: Future<Output = Both>>(
    make: fn(usize) -> F,
) {
    let inbox = make(10).await;
    assert_eq!(inbox.put(message(1, "{}"), NO_WAIT).await, Ok(Put::Accepted));
    assert_eq!(inbox.put(message(1, "{}"), NO_WAIT).await, Ok(Put::Duplicate));
    inbox.recv().await.unwrap().ack().await.unwrap();
    assert_eq!(
        inbox.put(message(1, "{}"), NO_WAIT).await,
        Ok(Put::Duplicate),
        "also after it was acknowledged"
    );
    assert_eq!(inbox.put(message(1, "{ }"), NO_WAIT).await, Err(PutError::IdReused));
    let other_user = Message { user: "v".into(), ..message(1, "{ }") };
    assert_eq!(inbox.put(other_user, NO_WAIT).await, Ok(Put::Accepted));
    inbox.recv().await.unwrap().ack().await.unwrap();
    inbox.close();
    assert!(inbox.recv().await.is_none());
}

pub(crate) async fn a_full_inbox_refuses_in_time_and_knows_duplicates<F: Future<Output = Both>>(
    make: fn(usize) -> F,
) {
    let inbox = make(1).await;
    inbox.put(message(1, "{}"), NO_WAIT).await.unwrap();
    assert_eq!(inbox.put(message(2, "{}"), Duration::from_millis(1)).await, Err(PutError::Full));
    assert_eq!(
        inbox.put(message(1, "{}"), LONG).await,
        Ok(Put::Duplicate),
        "a duplicate needs no room"
    );
    inbox.recv().await.unwrap().ack().await.unwrap();
    assert_eq!(
        inbox.put(message(2, "{}"), NO_WAIT).await,
        Ok(Put::Accepted),
        "what was refused is not remembered"
    );
}

pub(crate) async fn a_message_taken_and_acknowledged_lets_one_in<F: Future<Output = Both>>(
    make: fn(usize) -> F,
) {
    let inbox = make(1).await;
    inbox.put(message(1, "{}"), NO_WAIT).await.unwrap();
    let waiting = waiting_put(&inbox, message(2, "{}")).await;
    inbox.recv().await.unwrap().ack().await.unwrap();
    assert_eq!(waiting.await.unwrap(), Ok(Put::Accepted));
    assert_eq!(inbox.recv().await.unwrap().id(), id(2));
}

pub(crate) async fn whoever_stops_waiting_for_room_has_put_nothing_and_holds_no_place<
    F: Future<Output = Both>,
>(
    make: fn(usize) -> F,
) {
    let inbox = make(1).await;
    inbox.put(message(1, "{}"), NO_WAIT).await.unwrap();
    let waiting = waiting_put(&inbox, message(2, "{}")).await;
    waiting.abort();
    assert!(waiting.await.unwrap_err().is_cancelled());
    inbox.recv().await.unwrap().ack().await.unwrap();
    assert_eq!(
        inbox.put(message(2, "{}"), NO_WAIT).await,
        Ok(Put::Accepted),
        "not remembered, and there is room"
    );
}

pub(crate) async fn the_same_message_waiting_twice_goes_in_once<F: Future<Output = Both>>(
    make: fn(usize) -> F,
) {
    let inbox = make(1).await;
    inbox.put(message(1, "{}"), NO_WAIT).await.unwrap();
    let first = waiting_put(&inbox, message(2, "{}")).await;
    let second = waiting_put(&inbox, message(2, "{}")).await;
    inbox.recv().await.unwrap().ack().await.unwrap();
    assert_eq!(first.await.unwrap(), Ok(Put::Accepted));
    inbox.recv().await.unwrap().ack().await.unwrap();
    assert_eq!(second.await.unwrap(), Ok(Put::Duplicate));
    assert_eq!(
        inbox.put(message(3, "{}"), NO_WAIT).await,
        Ok(Put::Accepted),
        "the duplicate gave its place back"
    );
}

pub(crate) async fn those_who_wait_for_room_come_before_those_who_come_later<
    F: Future<Output = Both>,
>(
    make: fn(usize) -> F,
) {
    let inbox = make(1).await;
    inbox.put(message(1, "{}"), NO_WAIT).await.unwrap();
    let first = waiting_put(&inbox, message(2, "{}")).await;
    inbox.recv().await.unwrap().ack().await.unwrap();
    let late = inbox.put(message(3, "{}"), NO_WAIT).await;
    assert_eq!(late, Err(PutError::Full), "the free place belongs to the one who waited");
    assert_eq!(first.await.unwrap(), Ok(Put::Accepted));
}

pub(crate) async fn a_closed_inbox_refuses_and_gives_out_what_it_has<F: Future<Output = Both>>(
    make: fn(usize) -> F,
) {
    let inbox = make(1).await;
    inbox.put(message(1, "{}"), NO_WAIT).await.unwrap();
    let waiting = waiting_put(&inbox, message(2, "{}")).await;
    inbox.close();
    assert_eq!(waiting.await.unwrap(), Err(PutError::Closed));
    assert_eq!(inbox.put(message(3, "{}"), LONG).await, Err(PutError::Closed));
    assert_eq!(inbox.put_all(vec![message(3, "{}")], LONG).await, [Err(PutError::Closed)]);
    let delivery = inbox.recv().await.unwrap();
    assert_eq!(delivery.id(), id(1));
    delivery.ack().await.unwrap();
    assert!(inbox.recv().await.is_none());
    assert!(inbox.recv().await.is_none());
}

pub(crate) async fn closing_wakes_those_who_wait<F: Future<Output = Both>>(make: fn(usize) -> F) {
    let inbox = make(1).await;
    let taker = inbox.clone();
    let taker = started(async move { taker.recv().await.is_none() }).await;
    inbox.close();
    assert!(taker.await.unwrap());
}

pub(crate) async fn whoever_stops_waiting_for_a_message_has_taken_none<F: Future<Output = Both>>(
    make: fn(usize) -> F,
) {
    let inbox = make(10).await;
    for number in 0..10 {
        let taker = inbox.clone();
        let taker = started(async move { taker.recv().await.is_some() }).await;
        taker.abort();
        let _cancelled = taker.await;
        inbox.put(message(number, "{}"), NO_WAIT).await.unwrap();
        let delivery = inbox.recv().await.unwrap();
        assert_eq!(delivery.id(), id(number));
        delivery.ack().await.unwrap();
    }
}

pub(crate) async fn many_are_taken_at_once_but_not_waited_for<F: Future<Output = Both>>(
    make: fn(usize) -> F,
) {
    let inbox = make(10).await;
    for number in 0..5 {
        inbox.put(message(number, "{}"), NO_WAIT).await.unwrap();
    }
    let ids = |deliveries: &[ipc_inbox::Delivery]| {
        deliveries.iter().map(|one| one.id()).collect::<Vec<_>>()
    };
    let first = inbox.recv_many(3).await;
    assert_eq!(ids(&first), [id(0), id(1), id(2)]);
    let rest = inbox.recv_many(100).await;
    assert_eq!(ids(&rest), [id(3), id(4)]);
    let taker = inbox.clone();
    let waiting = started(async move { taker.recv_many(100).await }).await;
    inbox.put(message(5, "{}"), NO_WAIT).await.unwrap();
    assert_eq!(ids(&waiting.await.unwrap()), [id(5)]);
    for delivery in first.into_iter().chain(rest) {
        delivery.ack().await.unwrap();
    }
    inbox.close();
    assert!(inbox.recv_many(2).await.is_empty());
}

pub(crate) async fn many_putters_and_takers_lose_nothing_and_double_nothing<
    F: Future<Output = Both>,
>(
    make: fn(usize) -> F,
) {
    let inbox = make(3).await;
    let putters: Vec<_> = (0..8_u8)
        .map(|user| {
            let inbox = inbox.clone();
            tokio::spawn(async move {
                for number in 0..50_u8 {
                    let one = Message { user: user.to_string().into(), ..message(number, "{}") };
                    assert_eq!(inbox.put(one, LONG).await, Ok(Put::Accepted));
                }
            })
        })
        .collect();
    let takers: Vec<_> = (0..3)
        .map(|_| {
            let inbox = inbox.clone();
            tokio::spawn(async move {
                let mut taken = Vec::new();
                while let Some(delivery) = inbox.recv().await {
                    taken.push((delivery.user().to_owned(), delivery.id()));
                    delivery.ack().await.unwrap();
                }
                taken
            })
        })
        .collect();
    for putter in putters {
        putter.await.unwrap();
    }
    inbox.close();
    let mut taken = Vec::new();
    for taker in takers {
        taken.extend(taker.await.unwrap());
    }
    assert_eq!(taken.len(), 400);
    taken.sort();
    taken.dedup();
    assert_eq!(taken.len(), 400);
}

pub(crate) async fn a_batch_has_an_answer_for_each_message<F: Future<Output = Both>>(
    make: fn(usize) -> F,
) {
    let inbox = make(10).await;
    inbox.put(message(1, "{}"), NO_WAIT).await.unwrap();
    let batch = vec![
        message(2, "{}"),
        message(1, "{}"),
        message(1, "[]"),
        message(3, "{}"),
        message(3, "{}"),
        message(3, "[]"),
    ];
    assert_eq!(
        inbox.put_all(batch.clone(), NO_WAIT).await,
        [
            Ok(Put::Accepted),
            Ok(Put::Duplicate),
            Err(PutError::IdReused),
            Ok(Put::Accepted),
            Ok(Put::Duplicate),
            Err(PutError::IdReused),
        ]
    );
    let again = inbox.put_all(batch, NO_WAIT).await;
    assert_eq!(
        again.iter().filter(|answer| **answer == Ok(Put::Duplicate)).count(),
        4,
        "{again:?}"
    );
    inbox.close();
    for number in [1, 2, 3] {
        let delivery = inbox.recv().await.unwrap();
        assert_eq!(delivery.id(), id(number));
        delivery.ack().await.unwrap();
    }
    assert!(inbox.recv().await.is_none());
    assert_eq!(inbox.put_all(Vec::new(), LONG).await, []);
}

pub(crate) async fn a_batch_takes_the_room_there_is_in_order<F: Future<Output = Both>>(
    make: fn(usize) -> F,
) {
    let inbox = make(3).await;
    inbox.put(message(1, "{}"), NO_WAIT).await.unwrap();
    let batch: Vec<_> = [2, 3, 4, 1, 5].into_iter().map(|number| message(number, "{}")).collect();
    let full = Err(PutError::Full);
    assert_eq!(
        inbox.put_all(batch.clone(), LONG).await,
        [Ok(Put::Accepted), Ok(Put::Accepted), full, Ok(Put::Duplicate), full]
    );
    for number in [1, 2, 3] {
        let delivery = inbox.recv().await.unwrap();
        assert_eq!(delivery.id(), id(number));
        delivery.ack().await.unwrap();
    }
    assert_eq!(
        inbox.put_all(batch[2..].to_vec(), NO_WAIT).await,
        [Ok(Put::Accepted), Ok(Put::Duplicate), Ok(Put::Accepted)]
    );
}

pub(crate) async fn a_batch_waits_only_while_there_is_room_for_none<F: Future<Output = Both>>(
    make: fn(usize) -> F,
) {
    let inbox = make(1).await;
    inbox.put(message(1, "{}"), NO_WAIT).await.unwrap();
    let batch = || vec![message(2, "{}"), message(3, "{}"), message(1, "{}")];
    let full = Err(PutError::Full);
    assert_eq!(
        inbox.put_all(batch(), Duration::from_millis(1)).await,
        [full, full, Ok(Put::Duplicate)]
    );
    let waiting = {
        let inbox = inbox.clone();
        started(async move { inbox.put_all(batch(), LONG).await }).await
    };
    inbox.recv().await.unwrap().ack().await.unwrap();
    assert_eq!(waiting.await.unwrap(), [Ok(Put::Accepted), full, Ok(Put::Duplicate)]);
}

pub(crate) async fn a_reply_reaches_all_who_wait_and_those_who_come_later<
    F: Future<Output = Both>,
>(
    make: fn(usize) -> F,
) {
    let inbox = make(10).await;
    assert_eq!(inbox.put(request(1), NO_WAIT).await, Ok(Put::Accepted));
    let first = {
        let inbox = inbox.clone();
        started(async move { inbox.reply_to("u", id(1)).await }).await
    };
    assert_eq!(
        inbox.put(request(1), NO_WAIT).await,
        Ok(Put::Duplicate),
        "sent again while it is worked on"
    );
    let second = {
        let inbox = inbox.clone();
        started(async move { inbox.reply_to("u", id(1)).await }).await
    };
    let delivery = inbox.recv().await.unwrap();
    assert!(delivery.wants_reply());
    delivery.reply(&serde_json::json!({"time": "noon"})).await.unwrap();
    let expected: Result<std::sync::Arc<str>, NoReply> = Ok(r#"{"time":"noon"}"#.into());
    assert_eq!(first.await.unwrap(), expected);
    assert_eq!(second.await.unwrap(), expected);
    assert_eq!(inbox.put(request(1), NO_WAIT).await, Ok(Put::Duplicate));
    assert_eq!(inbox.reply_to("u", id(1)).await, expected);
    assert_eq!(inbox.reply_to("v", id(1)).await, Err(NoReply::Forgotten), "another user's");
    assert_eq!(inbox.reply_to("u", id(9)).await, Err(NoReply::Forgotten), "never asked");
}

pub(crate) async fn a_request_that_is_dropped_or_only_acknowledged_has_no_reply<
    F: Future<Output = Both>,
>(
    make: fn(usize) -> F,
) {
    let inbox = make(10).await;
    inbox.put(request(1), NO_WAIT).await.unwrap();
    let waiting = {
        let inbox = inbox.clone();
        started(async move { inbox.reply_to("u", id(1)).await }).await
    };
    drop(inbox.recv().await.unwrap());
    assert_eq!(waiting.await.unwrap(), Err(NoReply::NotGiven));
    inbox.put(request(2), NO_WAIT).await.unwrap();
    let delivery = inbox.recv().await.unwrap();
    assert_eq!(
        delivery.id(),
        id(2),
        "a request that was let go does not come again: its sender knows"
    );
    delivery.ack().await.unwrap();
    assert_eq!(inbox.reply_to("u", id(2)).await, Err(NoReply::NotGiven));
}

pub(crate) async fn a_request_that_is_declined_has_no_reply_and_every_sender_hears_why<
    F: Future<Output = Both>,
>(
    make: fn(usize) -> F,
) {
    let inbox = make(10).await;
    let declined = |reason: &str| Err(NoReply::Declined(reason.into()));
    inbox.put(request(1), NO_WAIT).await.unwrap();
    let waiting = waiting_reply(&inbox, id(1)).await;
    inbox.recv().await.unwrap().decline("status 3,\n\u{1b}[1mit \"said\" é").await.unwrap();
    let expected = declined("status 3,  [1mit \"said\" é");
    assert_eq!(waiting.await.unwrap(), expected);
    assert_eq!(inbox.put(request(1), NO_WAIT).await, Ok(Put::Duplicate), "sent again");
    assert_eq!(inbox.reply_to("u", id(1)).await, expected);

    inbox.put(request(2), NO_WAIT).await.unwrap();
    let delivery = inbox.recv().await.unwrap();
    assert_eq!(delivery.id(), id(2), "a request that was declined does not come again");
    delivery.decline("x".repeat(201)).await.unwrap();
    assert_eq!(inbox.reply_to("u", id(2)).await, declined(&"x".repeat(200)));

    inbox.put(request(3), NO_WAIT).await.unwrap();
    inbox.recv().await.unwrap().decline(" \n").await.unwrap();
    assert_eq!(inbox.reply_to("u", id(3)).await, Err(NoReply::NotGiven), "it says nothing");

    inbox.put(request(5), NO_WAIT).await.unwrap();
    let refused = inbox.recv().await.unwrap().reply(&serde_json::json!([1])).await.unwrap_err();
    assert_eq!(inbox.reply_to("u", id(5)).await, declined(&refused.to_string()));

    inbox.put(message(4, "{}"), NO_WAIT).await.unwrap();
    let refused = inbox.recv().await.unwrap().decline("no").await;
    assert!(matches!(refused, Err(ReplyError::NotARequest)), "{refused:?}");
    assert!(inbox.dead(9).await.unwrap().is_empty());
}

pub(crate) async fn a_reply_that_cannot_be_sent_is_refused_and_the_sender_is_told<
    F: Future<Output = Both>,
>(
    make: fn(usize) -> F,
) {
    let inbox = make(10).await;
    inbox.put(request(1), NO_WAIT).await.unwrap();
    let refused = inbox.recv().await.unwrap().reply(&serde_json::json!([1])).await;
    assert!(matches!(refused, Err(ReplyError::Body(_))));
    // The reason is lost where the backend keeps none.
    let told = inbox.reply_to("u", id(1)).await;
    assert!(matches!(told, Err(NoReply::NotGiven | NoReply::Declined(_))), "{told:?}");

    inbox.put(request(2), NO_WAIT).await.unwrap();
    let long = serde_json::json!({"x": "a".repeat(16 * 1024 * 1024)});
    let refused = inbox.recv().await.unwrap().reply(&long).await;
    assert!(matches!(refused, Err(ReplyError::TooLarge { .. })));
    let told = inbox.reply_to("u", id(2)).await;
    assert!(matches!(told, Err(NoReply::NotGiven | NoReply::Declined(_))), "{told:?}");
}

pub(crate) async fn what_is_no_request_takes_no_reply<F: Future<Output = Both>>(
    make: fn(usize) -> F,
) {
    let inbox = make(10).await;
    inbox.put(message(1, "{}"), NO_WAIT).await.unwrap();
    let refused = inbox.recv().await.unwrap().reply(&serde_json::json!({})).await;
    assert!(matches!(refused, Err(ReplyError::NotARequest)));
    assert!(matches!(inbox.reply_to("u", id(1)), Pending::Ready(_) | Pending::Later(_)));
    assert_eq!(inbox.reply_to("u", id(1)).await, Err(NoReply::Forgotten));
}

/// A request whose id is this number.
fn numbered_request(number: u32) -> Message {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    Message {
        id: MessageId::from_random(bytes),
        body: format!(r#"{{"n":{number}}}"#).into(),
        ..request(0)
    }
}

pub(crate) async fn messages_and_requests_go_in_together<F: Future<Output = Both>>(
    make: fn(usize) -> F,
) {
    let inbox = make(10).await;
    let mixed = vec![message(1, "{}"), request(2), message(3, "{}"), request(4), request(2)];
    let puts = inbox.put_all(mixed, NO_WAIT).await;
    let accepted = || Ok(Put::Accepted);
    assert_eq!(puts, [accepted(), accepted(), accepted(), accepted(), Ok(Put::Duplicate)]);
    let replies = [waiting_reply(&inbox, id(2)).await, waiting_reply(&inbox, id(4)).await];
    assert_eq!(inbox.reply_to("u", id(1)).await, Err(NoReply::Forgotten), "it is no request");
    let deliveries = {
        let mut deliveries = Vec::new();
        while deliveries.len() < 4 {
            deliveries.append(&mut inbox.recv_many(4).await);
        }
        deliveries
    };
    for delivery in deliveries {
        match delivery.wants_reply() {
            true => {
                let reply = serde_json::json!({"to": delivery.id().to_string()});
                delivery.reply(&reply).await.unwrap();
            }
            false => delivery.ack().await.unwrap(),
        }
    }
    for (reply, number) in replies.into_iter().zip([2, 4]) {
        assert_eq!(&*reply.await.unwrap().unwrap(), format!(r#"{{"to":"{}"}}"#, id(number)));
    }
}

pub(crate) async fn thousands_wait_for_their_replies_and_each_gets_its_own<
    F: Future<Output = Both>,
>(
    make: fn(usize) -> F,
) {
    const COUNT: u32 = 3000;
    let inbox = make(COUNT as usize).await;
    let requests: Vec<_> = (0..COUNT).map(numbered_request).collect();
    let ids: Vec<_> = requests.iter().map(|request| request.id).collect();
    for put in inbox.put_all(requests, NO_WAIT).await {
        assert_eq!(put, Ok(Put::Accepted));
    }
    let mut waiting = Vec::new();
    for id in &ids {
        waiting.push(waiting_reply(&inbox, *id).await);
    }
    // Every third one stops waiting, which must not affect the others.
    for wait in waiting.iter().step_by(3) {
        wait.abort();
    }
    let mut replied = 0;
    while replied < COUNT {
        let deliveries = inbox.recv_many(500).await;
        replied += u32::try_from(deliveries.len()).unwrap();
        let replies = deliveries.into_iter().map(|delivery| async move {
            let reply = delivery.parse::<serde_json::Value>().unwrap();
            delivery.reply(&reply).await
        });
        let replies: Vec<_> = replies.map(tokio::spawn).collect();
        for reply in replies {
            reply.await.unwrap().unwrap();
        }
    }
    for (number, wait) in waiting.into_iter().enumerate().filter(|(number, _)| number % 3 != 0) {
        assert_eq!(&*wait.await.unwrap().unwrap(), format!(r#"{{"n":{number}}}"#));
    }
}

pub(crate) async fn many_are_acknowledged_together_each_with_its_own_answer<
    F: Future<Output = Both>,
>(
    make: fn(usize) -> F,
) {
    let (inbox, other) = (make(4).await, make(4).await);
    assert!(Delivery::ack_all(Vec::new()).await.is_empty());
    for number in 1..=3 {
        inbox.put(message(number, "{}"), NO_WAIT).await.unwrap();
    }
    other.put(request(4), NO_WAIT).await.unwrap();
    let reply = waiting_reply(&other, id(4)).await;
    let mut deliveries = Vec::new();
    while deliveries.len() < 3 {
        deliveries.append(&mut inbox.recv_many(3).await);
    }
    deliveries.push(other.recv().await.unwrap());
    let results = Delivery::ack_all(deliveries).await;
    assert_eq!((results.len(), results.iter().filter(|result| result.is_ok()).count()), (4, 4));
    assert_eq!(reply.await.unwrap(), Err(NoReply::NotGiven), "that was no reply");
    // All places are free again.
    for number in 11..=14 {
        assert_eq!(inbox.put(message(number, "{}"), NO_WAIT).await, Ok(Put::Accepted));
    }
}

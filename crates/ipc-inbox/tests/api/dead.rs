//! Dead letters: when a message becomes one, and how they are listed, requeued and discarded.

use std::time::Duration;

use ipc_inbox::{
    AckError, DeadLetterId, DeadReason, DurableOptions, InboxReader, Message, NoReply, Put,
    PutError,
};

use crate::support::{Both, File, NO_WAIT, id, message};

const NEVER: Duration = Duration::from_secs(1_000_000);

/// Waits until there is a dead letter. Only this function asks the inbox for it.
async fn first_dead(durable: &Both) -> ipc_inbox::DeadLetter {
    loop {
        if let Some(letter) = durable.dead(1).await.unwrap().pop() {
            return letter;
        }
    }
}

#[tokio::test]
async fn what_is_dropped_at_its_last_try_is_dead_at_once() {
    let file = File::new();
    let options = DurableOptions::default().visibility_timeout(NEVER).max_deliveries(2);
    // The times are so long that nothing is due by itself, except after the first drop.
    let durable = file.open_with(options.clone().nack_delay(Duration::ZERO)).await;
    let inbox = &durable;
    inbox.put(message(1, "{}"), NO_WAIT).await.unwrap();
    for is_last in [false, true] {
        assert!(durable.dead(1).await.unwrap().is_empty());
        let delivery = inbox.recv().await.unwrap();
        assert_eq!(delivery.is_last_delivery(), is_last);
    }
    let dead = durable.dead(9).await.unwrap();
    assert_eq!((dead.len(), &dead[0].message, dead[0].deliveries), (1, &message(1, "{}"), 2));

    let file = File::new();
    let durable = file.open_with(options.max_deliveries(1).nack_delay(NEVER)).await;
    durable.put(message(1, "{}"), NO_WAIT).await.unwrap();
    drop(durable.recv().await);
    assert_eq!(durable.dead(9).await.unwrap().len(), 1, "there is nothing to wait for");
}

#[tokio::test]
async fn what_runs_out_of_time_at_its_last_try_is_dead_though_nobody_asks_for_a_message() {
    let file = File::new();
    let options =
        DurableOptions::default().visibility_timeout(Duration::from_millis(1)).max_deliveries(1);
    let durable = file.open_with(options).await;
    durable.put(message(1, "{}"), NO_WAIT).await.unwrap();
    let held = durable.recv().await.unwrap();
    assert_eq!(first_dead(&durable).await.message.id, id(1));
    assert!(held.ack().await.is_err());
    assert_eq!(durable.waiting().await, 0);
}

#[tokio::test]
async fn what_a_crash_ended_at_its_last_try_is_dead_with_the_next_opening() {
    let options = DurableOptions::default().visibility_timeout(NEVER).max_deliveries(1);
    let file = File::new();
    let durable = file.open_with(options.clone()).await;
    for number in [1, 2] {
        durable.put(message(number, "{}"), NO_WAIT).await.unwrap();
    }
    let _held = durable.recv().await.unwrap();
    for (tries, dead) in [(1, 1), (2, 0)] {
        let crashed = file.crashed();
        let durable = crashed.open_with(options.clone().max_deliveries(tries)).await;
        assert_eq!(durable.dead(9).await.unwrap().len(), dead, "with {tries} tries");
        assert_eq!(durable.waiting().await, 2 - dead as u64);
        let next = durable.recv().await.unwrap();
        assert_eq!(next.id(), id(if dead == 1 { 2 } else { 1 }));
    }
}

#[tokio::test]
async fn dead_letters_are_listed_beside_the_one_who_has_the_file() {
    let file = File::new();
    let options = DurableOptions::default().max_deliveries(1);
    let durable = file.open_with(options).await;
    for number in 1..=3 {
        durable.put(message(number, "{}"), NO_WAIT).await.unwrap();
    }
    drop(durable.recv_many(2).await);
    assert_eq!(durable.dead(9).await.unwrap().len(), 2);
    let reader = InboxReader::open(file.path()).await.unwrap();
    let first = reader.dead_letters(None, 1).await.unwrap();
    assert_eq!((first.len(), first[0].message.id), (1, id(1)));
    let rest = reader.dead_letters(Some(first[0].id), 9).await.unwrap();
    assert_eq!((rest.len(), rest[0].message.id), (1, id(2)));
    assert_eq!(reader.messages().await.unwrap(), 3);
    // The reader shows the current state, not the state at its opening.
    durable.discard(&[first[0].id]).await.unwrap();
    assert_eq!(reader.dead_letters(None, 9).await.unwrap().len(), 1);
    assert_eq!(durable.put(message(4, "{}"), NO_WAIT).await, Ok(Put::Accepted));
}

#[tokio::test]
async fn what_is_handed_out_too_often_is_dead_until_it_is_put_back() {
    let file = File::new();
    let options = DurableOptions::default()
        .visibility_timeout(NEVER)
        .nack_delay(Duration::ZERO)
        .max_deliveries(2)
        .messages_max(2);
    let durable = file.open_with(options).await;
    let inbox = &durable;
    inbox.put(message(1, "{}"), NO_WAIT).await.unwrap();
    for redeliveries in 0..2 {
        let delivery = inbox.recv().await.unwrap();
        assert_eq!((delivery.id(), delivery.redeliveries()), (id(1), redeliveries));
    }
    // A third taker gets nothing, and the message is dead.
    let taker = tokio::spawn({
        let inbox = inbox.clone();
        async move { inbox.recv().await.is_some() }
    });
    let dead = loop {
        let dead = durable.dead(10).await.unwrap();
        if !dead.is_empty() {
            break dead;
        }
    };
    taker.abort();
    assert!(taker.await.unwrap_err().is_cancelled(), "nothing was there to take");
    assert_eq!((dead.len(), dead[0].message.id, dead[0].deliveries), (1, id(1), 2));
    assert_eq!(
        inbox.put(message(1, "{}"), NO_WAIT).await,
        Ok(Put::Duplicate),
        "it is still remembered"
    );
    inbox.put(message(3, "{}"), NO_WAIT).await.unwrap();
    assert_eq!(
        inbox.put(message(4, "{}"), NO_WAIT).await,
        Err(PutError::Full),
        "it still takes a place"
    );

    assert_eq!(durable.requeue(&[dead[0].id, DeadLetterId::new(999)]).await.unwrap(), 1);
    let delivery = inbox.recv().await.unwrap();
    assert_eq!((delivery.id(), delivery.redeliveries()), (id(1), 0));
    delivery.ack().await.unwrap();
    assert!(durable.dead(10).await.unwrap().is_empty());
}

#[tokio::test]
async fn whoever_waits_for_the_reply_to_a_message_that_becomes_dead_is_told() {
    let file = File::new();
    let options =
        DurableOptions::default().visibility_timeout(Duration::from_millis(1)).max_deliveries(1);
    let durable = file.open_with(options).await;
    let inbox = &durable;
    inbox.put(Message { wants_reply: true, ..message(1, "{}") }, NO_WAIT).await.unwrap();
    let waiting = inbox.reply_to("müller", id(1));
    let _held = inbox.recv().await.unwrap();
    let taker = tokio::spawn({
        let inbox = inbox.clone();
        async move { inbox.recv().await.is_some() }
    });
    assert_eq!(waiting.await, Err(NoReply::NotGiven));
    taker.abort();
    assert_eq!(durable.dead(1).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_dead_letter_that_is_discarded_makes_room_and_stays_known() {
    let file = File::new();
    let options = DurableOptions::default()
        .visibility_timeout(Duration::from_millis(1))
        .max_deliveries(1)
        .messages_max(1);
    let durable = file.open_with(options.clone()).await;
    let inbox = &durable;
    inbox.put(message(1, "{}"), NO_WAIT).await.unwrap();
    let _held = inbox.recv().await.unwrap();
    let taker = tokio::spawn({
        let inbox = inbox.clone();
        async move { inbox.recv().await.map(|delivery| delivery.id()) }
    });
    let number = loop {
        if let Some(letter) = durable.dead(1).await.unwrap().first() {
            break letter.id;
        }
    };
    assert_eq!(inbox.put(message(2, "{}"), NO_WAIT).await, Err(PutError::Full));
    assert_eq!(durable.discard(&[number, DeadLetterId::new(999)]).await.unwrap(), 1);
    assert_eq!(durable.discard(&[number]).await.unwrap(), 0, "once");
    assert_eq!(inbox.put(message(1, "{}"), NO_WAIT).await, Ok(Put::Duplicate));
    assert_eq!(inbox.put(message(2, "{}"), NO_WAIT).await, Ok(Put::Accepted));
    assert_eq!(taker.await.unwrap(), Some(id(2)));
}

#[tokio::test]
async fn a_rejection_is_in_the_file_with_its_reason_as_soon_as_it_is_answered() {
    let file = File::new();
    let inbox = file.open().await;
    inbox.put(message(1, "{}"), NO_WAIT).await.unwrap();
    inbox.recv().await.unwrap().reject("no \"name\"\n").await.unwrap();
    let reader = InboxReader::open(file.path()).await.unwrap();
    let crashed = file.crashed();
    for dead in
        [reader.dead_letters(None, 9).await.unwrap(), crashed.open().await.dead(9).await.unwrap()]
    {
        let reasons: Vec<_> = dead.into_iter().map(|letter| letter.reason).collect();
        assert_eq!(reasons, [DeadReason::Rejected("no \"name\"\n".into())]);
    }
}

#[tokio::test]
async fn messages_that_wait_are_read_beside_the_inbox_that_has_them_and_dead_ones_are_not() {
    let file = File::new();
    let inbox = file.open().await;
    for number in 1..=4 {
        inbox.put(message(number, &format!("{{\"n\":{number}}}")), NO_WAIT).await.unwrap();
    }
    inbox.recv().await.unwrap().ack().await.unwrap();
    inbox.recv().await.unwrap().reject("bad").await.unwrap();
    let in_hand = inbox.recv().await.unwrap();
    let reader = InboxReader::open(file.path()).await.unwrap();
    let waiting = reader.waiting(None, 9).await.unwrap();
    let bodies: Vec<_> = waiting.iter().map(|one| (&*one.message.body, one.message.id)).collect();
    assert_eq!(bodies, [("{\"n\":3}", id(3)), ("{\"n\":4}", id(4))]);
    assert_eq!(waiting[0].deliveries, 1, "the application has it in hand");
    assert!(waiting[0].number < waiting[1].number);
    assert_eq!(reader.waiting(None, 1).await.unwrap(), waiting[..1]);
    assert_eq!(reader.waiting(Some(waiting[0].number), 9).await.unwrap(), waiting[1..]);
    assert!(reader.waiting(Some(u64::MAX), 9).await.unwrap().is_empty());
    assert_eq!(reader.newest().await.unwrap(), Some(waiting[1].number));
    in_hand.ack().await.unwrap();
    assert_eq!(reader.waiting(None, 9).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_rejection_that_cannot_be_stored_is_told() {
    let file = File::new();
    let inbox = file.open().await;
    inbox.put(message(1, "{}"), NO_WAIT).await.unwrap();
    let delivery = inbox.recv().await.unwrap();
    std::fs::remove_file(file.path()).unwrap();
    let error = delivery.reject("bad").await.unwrap_err();
    assert!(matches!(error, AckError::Storage { .. }), "{error}");
}

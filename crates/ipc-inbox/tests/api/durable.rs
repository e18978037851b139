//! What only a durable inbox does: it keeps messages, delivers them again, buries them, and reports
//! errors of its file.

use std::time::Duration;

use ipc_inbox::{
    AckError, Delivery, DurableOptions, InboxReader, Message, NoReply, OpenError, Put, PutError,
    ReplyError,
};
use ipc_protocol::MessageId;

use crate::support::{Both, File, NO_WAIT, id, message, numbered};

#[tokio::test]
async fn what_was_accepted_is_there_after_a_restart_as_it_was_and_in_order() {
    let file = File::new();
    let body = r#"{ "a": 1.50, "b":"\u00e9 \"x\"", "c": "é\u0000" }"#;
    {
        let inbox = file.open().await;
        for number in 1..=3 {
            assert_eq!(inbox.put(message(number, body), NO_WAIT).await, Ok(Put::Accepted));
        }
    }
    let inbox = file.open().await;
    for number in 1..=3 {
        assert_eq!(
            inbox.put(message(number, body), NO_WAIT).await,
            Ok(Put::Duplicate),
            "ids are remembered"
        );
        let delivery = inbox.recv().await.unwrap();
        assert_eq!((delivery.id(), delivery.body(), delivery.user()), (id(number), body, "müller"));
        assert_eq!(delivery.certificate(), message(number, body).certificate);
        assert_eq!(delivery.peer(), message(number, body).peer.as_deref());
        assert_eq!(delivery.received_at(), message(number, body).received_at);
        assert_eq!(delivery.redeliveries(), 0);
        delivery.ack().await.unwrap();
    }
    drop(inbox);
    let inbox = file.open().await;
    assert_eq!(inbox.put(message(1, "{}"), NO_WAIT).await, Err(PutError::IdReused));
    inbox.close();
    assert!(inbox.recv().await.is_none(), "what was acknowledged is gone");
}

#[tokio::test]
async fn what_was_handed_out_and_not_acknowledged_comes_again_after_a_restart_and_is_marked() {
    let file = File::new();
    {
        let inbox = file.open().await;
        for number in 1..=3 {
            inbox.put(message(number, "{}"), NO_WAIT).await.unwrap();
        }
        let first = inbox.recv().await.unwrap();
        let second = inbox.recv().await.unwrap();
        second.ack().await.unwrap();
        drop(first);
    }
    let inbox = file.open().await;
    let again = inbox.recv().await.unwrap();
    assert_eq!(again.id(), id(1));
    assert!(again.redeliveries() >= 1);
    assert_eq!(inbox.recv().await.unwrap().id(), id(3));
}

#[tokio::test]
async fn what_was_only_marked_ahead_counts_no_try() {
    let file = File::new();
    {
        let inbox = file.open().await;
        for number in 1..=10 {
            inbox.put(message(number, "{}"), NO_WAIT).await.unwrap();
        }
        // The other messages are prefetched with this one, and never taken.
        inbox.recv().await.unwrap().ack().await.unwrap();
    }
    let inbox = file.open().await;
    for number in 2..=10 {
        let delivery = inbox.recv().await.unwrap();
        assert_eq!((delivery.id(), delivery.redeliveries()), (id(number), 0));
        delivery.ack().await.unwrap();
    }
}

#[tokio::test]
async fn a_message_that_ends_each_process_that_takes_it_takes_no_other_to_the_dead() {
    let file = File::new();
    let options = DurableOptions::default().max_deliveries(3);
    {
        let inbox = file.open_with(options.clone()).await;
        for number in 1..=5 {
            inbox.put(message(number, "{}"), NO_WAIT).await.unwrap();
        }
    }
    let mut file = file;
    for _ in 0..3 {
        let durable = file.open_with(options.clone()).await;
        let first = durable.recv().await.unwrap();
        assert_eq!(first.id(), id(1));
        // A process that is killed at this point leaves these files, without any clean-up.
        let left = File::new();
        for name in ["inbox.db", "inbox.db-wal"] {
            std::fs::copy(file.directory.path().join(name), left.directory.path().join(name))
                .unwrap();
        }
        file = left;
    }
    let durable = file.open_with(options).await;
    for number in 2..=5 {
        let delivery = durable.recv().await.unwrap();
        assert_eq!(delivery.id(), id(number));
        assert!(delivery.redeliveries() <= 1);
        delivery.ack().await.unwrap();
    }
    let dead = durable.dead(10).await.unwrap();
    assert_eq!((dead.len(), dead[0].message.id), (1, id(1)));
}

#[tokio::test]
async fn what_is_not_acknowledged_in_time_comes_again_before_what_came_later() {
    let file = File::new();
    let options = DurableOptions::default().visibility_timeout(Duration::from_millis(20));
    let inbox = file.open_with(options).await;
    inbox.put(message(1, "{}"), NO_WAIT).await.unwrap();
    let first = inbox.recv().await.unwrap();
    // Nothing else is there: this waits until the first message is delivered again.
    let again = inbox.recv().await.unwrap();
    assert_eq!((again.id(), again.redeliveries()), (id(1), 1));
    again.ack().await.unwrap();
    assert!(matches!(first.ack().await, Err(AckError::TooLate)));
    inbox.put(message(2, "{}"), NO_WAIT).await.unwrap();
    assert_eq!(inbox.recv().await.unwrap().id(), id(2));
}

#[tokio::test]
async fn bytes_are_limited_too_and_one_message_always_fits() {
    let file = File::new();
    let inbox = file.open_with(DurableOptions::default().bytes_max(20)).await;
    let long = format!(r#"{{"x":"{}"}}"#, "a".repeat(100));
    assert_eq!(inbox.put(message(1, &long), NO_WAIT).await, Ok(Put::Accepted));
    assert_eq!(inbox.put(message(2, "{}"), NO_WAIT).await, Err(PutError::Full));
    inbox.recv().await.unwrap().ack().await.unwrap();
    assert_eq!(inbox.put(message(2, "{}"), NO_WAIT).await, Ok(Put::Accepted));
    assert_eq!(inbox.put(message(3, &long), NO_WAIT).await, Err(PutError::Full));
}

#[tokio::test]
async fn limits_count_what_is_in_the_file_after_a_restart() {
    let file = File::new();
    let options = DurableOptions::default().messages_max(2);
    {
        let inbox = file.open_with(options.clone()).await;
        inbox.put(message(1, "{}"), NO_WAIT).await.unwrap();
        inbox.put(message(2, "{}"), NO_WAIT).await.unwrap();
    }
    let inbox = file.open_with(options).await;
    assert_eq!(inbox.put(message(3, "{}"), NO_WAIT).await, Err(PutError::Full));
}

#[tokio::test]
async fn a_reply_is_there_after_a_restart_and_an_open_request_is_waited_for() {
    let file = File::new();
    let request = |number| Message { wants_reply: true, ..message(number, "{}") };
    {
        let inbox = file.open().await;
        for number in [1, 2, 4, 3] {
            inbox.put(request(number), NO_WAIT).await.unwrap();
        }
        inbox.recv().await.unwrap().reply(&serde_json::json!({"n": 1})).await.unwrap();
        inbox.recv().await.unwrap().ack().await.unwrap();
        inbox.recv().await.unwrap().decline("status 3").await.unwrap();
    }
    let inbox = file.open().await;
    assert_eq!(inbox.put(request(1), NO_WAIT).await, Ok(Put::Duplicate));
    assert_eq!(inbox.reply_to("müller", id(1)).await.as_deref(), Ok(r#"{"n":1}"#));
    assert_eq!(inbox.reply_to("müller", id(2)).await, Err(NoReply::NotGiven));
    assert_eq!(inbox.put(request(4), NO_WAIT).await, Ok(Put::Duplicate));
    let declined = Err(NoReply::Declined("status 3".into()));
    assert_eq!(inbox.reply_to("müller", id(4)).await, declined);
    let (reply, given) = tokio::join!(inbox.reply_to("müller", id(3)), async {
        inbox.recv().await.unwrap().reply(&serde_json::json!({"n": 3})).await
    });
    given.unwrap();
    assert_eq!(reply.as_deref(), Ok(r#"{"n":3}"#));
}

#[tokio::test]
async fn many_messages_leave_no_trace_in_the_file_but_their_ids() {
    let file = File::new();
    let inbox = file.open().await;
    let body = format!(r#"{{"x":"{}"}}"#, "a".repeat(100_000));
    for round in 0..20_u8 {
        let batch: Vec<_> = (0..10)
            .map(|index| Message {
                id: MessageId::from_bytes([round * 10 + index; 16]),
                ..message(0, &body)
            })
            .collect();
        assert!(
            inbox.put_all(batch, NO_WAIT).await.iter().all(|answer| *answer == Ok(Put::Accepted))
        );
        for _ in 0..10 {
            inbox.recv().await.unwrap().ack().await.unwrap();
        }
    }
    let files = std::fs::read_dir(file.directory.path()).unwrap();
    let bytes: u64 = files.map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
    // 20 MB passed through the inbox, one message at a time; the log is written back at 4 MB.
    assert!(
        bytes < 12_000_000,
        "the room of what is gone is used again, but there are {bytes} bytes"
    );
}

#[tokio::test]
async fn more_messages_than_a_statement_takes_are_stored_in_one_go_and_known_again() {
    let file = File::new();
    let batch: Vec<_> = (0..2500).map(numbered).collect();
    {
        let inbox = file.open().await;
        let answers = inbox.put_all(batch.clone(), NO_WAIT).await;
        assert!(answers.len() == 2500 && answers.iter().all(|answer| *answer == Ok(Put::Accepted)));
    }
    let inbox = file.open().await;
    let again = inbox.put_all([batch, vec![numbered(2500)]].concat(), NO_WAIT).await;
    assert!(again[..2500].iter().all(|answer| *answer == Ok(Put::Duplicate)));
    assert_eq!(again[2500..], [Ok(Put::Accepted)]);
    for number in 0..=2500 {
        assert_eq!(inbox.recv().await.unwrap().id(), numbered(number).id);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_one_try_whoever_stops_waiting_takes_nothing_along() {
    const MESSAGES: u32 = 400;
    let file = File::new();
    let inbox = file.open_with(DurableOptions::default().max_deliveries(1)).await;
    let batch = (0..MESSAGES).map(numbered).collect();
    assert_eq!(inbox.put_all(batch, NO_WAIT).await.len(), MESSAGES as usize);
    let mut next = 0;
    for turn in 0.. {
        // A receiver gives up at some moment of the writer's work.
        let mut taken = {
            let mut taking = std::pin::pin!(inbox.recv_many(1));
            for _ in 0..turn % 2000 {
                std::hint::spin_loop();
            }
            let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
            match taking.as_mut().poll(&mut cx) {
                std::task::Poll::Ready(taken) => taken,
                std::task::Poll::Pending => Vec::new(),
            }
        };
        if turn % 50 == 0 {
            taken.extend(inbox.recv_many(1).await);
        }
        for delivery in taken {
            assert_eq!((delivery.id(), delivery.redeliveries()), (numbered(next).id, 0));
            delivery.ack().await.unwrap();
            next += 1;
        }
        if next >= MESSAGES {
            break;
        }
    }
}

#[tokio::test]
async fn with_one_try_a_crash_ends_nothing_that_nobody_has_seen() {
    let file = File::new();
    let options = DurableOptions::default().max_deliveries(1);
    let durable = file.open_with(options.clone()).await;
    let inbox = &durable;
    {
        // A taker waits when the message is put, and is gone before it arrives.
        let mut taking = std::pin::pin!(inbox.recv());
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(taking.as_mut().poll(&mut cx).is_pending());
        inbox.put(message(1, "{}"), NO_WAIT).await.unwrap();
    }
    // When the second put is answered, the thread is done with everything before the first.
    for number in [2, 3] {
        inbox.put(message(number, "{}"), NO_WAIT).await.unwrap();
    }
    // The files that a crash would leave.
    let crashed = File::new();
    for end in ["", "-wal"] {
        let name = |file: &File| {
            let mut name = file.path().into_os_string();
            name.push(end);
            name
        };
        std::fs::copy(name(&file), name(&crashed)).unwrap();
    }
    let durable = crashed.open_with(options).await;
    let first = durable.recv().await.unwrap();
    assert_eq!(first.id(), id(1));
    assert!(durable.dead(1).await.unwrap().is_empty());
}

#[tokio::test]
async fn what_is_left_when_an_inbox_is_finished_comes_with_the_next_opening_at_once() {
    let file = File::new();
    let inbox = file.open().await;
    for number in 1..=5 {
        inbox.put(message(number, "{}"), NO_WAIT).await.unwrap();
    }
    let mut taken = inbox.recv_many(2).await;
    taken.remove(0).ack().await.unwrap();
    assert_eq!(inbox.finish().await, 3);
    // A handle and a delivery still exist, and the file is free nevertheless.
    let next: Both = DurableOptions::default().open(file.path()).await.unwrap().into();
    assert!(matches!(taken.remove(0).ack().await, Err(AckError::TooLate)));
    let again = next.recv().await.unwrap();
    assert_eq!(
        (again.id(), again.redeliveries()),
        (id(2), 1),
        "it was handed out and not acknowledged"
    );
    for number in 3..=5 {
        let delivery = next.recv().await.unwrap();
        assert_eq!((delivery.id(), delivery.redeliveries()), (id(number), 0), "nobody had it");
    }
    drop(inbox);
}

#[tokio::test]
async fn one_inbox_is_open_once() {
    let file = File::new();
    let first = file.open().await;
    let second = DurableOptions::default().open(file.path()).await;
    assert!(matches!(second, Err(OpenError::InUse { .. })));
    drop(first);
    file.open().await;
}

#[tokio::test]
async fn a_file_that_is_no_inbox_is_named() {
    let file = File::new();
    std::fs::write(file.path(), "this is not a database, by far not").unwrap();
    let error = DurableOptions::default().open(file.path()).await.unwrap_err();
    assert!(error.to_string().contains("inbox.db"), "{error}");
    let missing = DurableOptions::default()
        .open(file.directory.path().join("no/inbox.db"))
        .await
        .unwrap_err();
    assert!(matches!(missing, OpenError::Database(_)), "{missing}");
}

#[cfg(unix)]
#[tokio::test]
async fn its_files_are_for_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let file = File::new();
    let inbox = file.open().await;
    inbox.put(message(1, "{}"), NO_WAIT).await.unwrap();
    for entry in std::fs::read_dir(file.directory.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(
            entry.metadata().unwrap().permissions().mode() & 0o777,
            0o600,
            "{:?}",
            entry.file_name()
        );
    }
}

#[tokio::test]
async fn many_at_once_share_commits_and_lose_nothing() {
    let file = File::new();
    let inbox = file.open().await;
    let putters: Vec<_> = (0..50_u8)
        .map(|number| {
            let inbox = inbox.clone();
            tokio::spawn(async move {
                for round in 0..10_u8 {
                    let mut bytes = [number; 16];
                    bytes[0] = round;
                    let one = Message { id: MessageId::from_bytes(bytes), ..message(0, "{}") };
                    assert_eq!(inbox.put(one, NO_WAIT).await, Ok(Put::Accepted));
                }
            })
        })
        .collect();
    for putter in putters {
        putter.await.unwrap();
    }
    inbox.close();
    let mut ids = Vec::new();
    while let Some(delivery) = inbox.recv().await {
        ids.push(delivery.id());
        delivery.ack().await.unwrap();
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 500);
}

#[tokio::test]
async fn a_delivery_that_is_dropped_comes_again_long_before_its_time() {
    let file = File::new();
    let options = DurableOptions::default()
        .visibility_timeout(Duration::from_secs(1_000_000))
        .nack_delay(Duration::from_millis(10));
    let inbox = file.open_with(options).await;
    inbox.put(message(1, "{}"), NO_WAIT).await.unwrap();
    drop(inbox.recv().await.unwrap());
    let again = inbox.recv().await.unwrap();
    assert_eq!((again.id(), again.redeliveries()), (id(1), 1));
    again.ack().await.unwrap();
}

#[tokio::test]
async fn whoever_lets_his_time_pass_cannot_disturb_the_next_holder() {
    let file = File::new();
    let options = DurableOptions::default()
        .visibility_timeout(Duration::from_millis(20))
        .max_deliveries(1000);
    let durable = file.open_with(options).await;
    let inbox = &durable;
    let request = Message { wants_reply: true, ..message(1, "{}") };
    inbox.put(request, NO_WAIT).await.unwrap();
    let first = inbox.recv().await.unwrap();
    // Repeats until a lease lasts long enough for the reply: the lease is short, and the machine
    // may be slow.
    let mut second = inbox.recv().await.unwrap();
    // Dropping an expired request must not tell its sender that there is no reply: another delivery
    // is about to give one.
    drop(first);
    loop {
        match second.reply(&serde_json::json!({"n": 1})).await {
            Ok(()) => break,
            Err(ReplyError::Ack(AckError::TooLate)) => second = inbox.recv().await.unwrap(),
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(inbox.reply_to("müller", id(1)).await.unwrap().as_ref(), r#"{"n":1}"#);
}

#[tokio::test]
async fn no_id_is_forgotten_that_may_still_be_retried() {
    let file = File::new();
    let options = DurableOptions::default().remembered_ids_max(2);
    for _opening in 0..2 {
        let inbox = file.open_with(options.clone()).await;
        for number in [1, 2] {
            let put = inbox.put(message(number, "{}"), NO_WAIT).await;
            assert!(put.is_ok(), "{put:?}");
        }
        assert_eq!(inbox.put(message(3, "{}"), NO_WAIT).await, Err(PutError::RememberedFull));
        assert_eq!(inbox.put(message(1, "{}"), NO_WAIT).await, Ok(Put::Duplicate));
    }
}

#[tokio::test]
async fn a_user_with_as_many_ids_as_one_may_have_is_refused_across_openings_and_others_are_not() {
    let file = File::new();
    let options = DurableOptions::default().remembered_user_ids_max(2);
    let other = |number| Message { user: "other".into(), ..message(number, "{}") };
    for opening in 0..2 {
        let inbox = file.open_with(options.clone()).await;
        for number in [1, 2] {
            let put = inbox.put(message(number, "{}"), NO_WAIT).await;
            assert!(put.is_ok(), "{put:?}");
        }
        // No wait could help, and nobody waits behind it.
        let refused = inbox.put(message(3, "{}"), Duration::from_secs(600)).await;
        assert_eq!(refused, Err(PutError::RememberedFull));
        assert_eq!(inbox.put(message(1, "{}"), NO_WAIT).await, Ok(Put::Duplicate));
        assert_eq!(inbox.put(other(3 + opening), NO_WAIT).await, Ok(Put::Accepted));
    }
}

#[tokio::test]
async fn acknowledgements_of_whoever_was_too_slow_are_told_apart_from_the_others() {
    let file = File::new();
    let options = DurableOptions::default().visibility_timeout(Duration::from_millis(1));
    let inbox = file.open_with(options).await;
    inbox.put(message(1, "{}"), NO_WAIT).await.unwrap();
    let late = inbox.recv().await.unwrap();
    // The message is delivered again, so the first lease has expired.
    let again = inbox.recv().await.unwrap();
    assert_eq!(late.id(), again.id());
    assert!(matches!(Delivery::ack_all(vec![late]).await[..], [Err(AckError::TooLate)]));
}

#[tokio::test]
async fn a_backlog_larger_than_what_is_kept_ready_comes_in_order_beside_what_is_put_meanwhile() {
    const BEFORE: u32 = 9000;
    let file = File::new();
    let inbox = file.open().await;
    for numbers in (0..BEFORE).collect::<Vec<_>>().chunks(500) {
        inbox.put_all(numbers.iter().copied().map(numbered).collect(), NO_WAIT).await;
    }
    let (mut taken, mut put) = (0, BEFORE);
    while taken < put {
        let deliveries = inbox.recv_many(700).await;
        for delivery in &deliveries {
            assert_eq!((delivery.id(), delivery.redeliveries()), (numbered(taken).id, 0));
            taken += 1;
        }
        if put < BEFORE + 3000 {
            inbox.put_all((put..put + 300).map(numbered).collect(), NO_WAIT).await;
            put += 300;
        }
        assert!(Delivery::ack_all(deliveries).await.iter().all(Result::is_ok));
    }
    assert_eq!(inbox.waiting().await, 0);
    inbox.finish().await;
    let reader = InboxReader::open(file.path()).await.unwrap();
    assert_eq!(reader.messages().await.unwrap(), 0);
}

#[tokio::test]
async fn a_crash_loses_nothing_of_a_backlog_that_was_read_ahead_and_marks_what_was() {
    let file = File::new();
    let inbox = file.open().await;
    for first in (0..4000).step_by(500) {
        inbox.put_all((first..first + 500).map(numbered).collect(), NO_WAIT).await;
    }
    let deliveries = inbox.recv_many(10).await;
    assert_eq!(Delivery::ack_all(deliveries).await.len(), 10);
    let crashed = file.crashed();
    let inbox = crashed.open().await;
    let (mut deliveries, mut marked) = (Vec::new(), 0);
    while deliveries.len() < 3990 {
        deliveries.append(&mut inbox.recv_many(1000).await);
    }
    for (number, delivery) in (10..).zip(&deliveries) {
        assert_eq!(delivery.id(), numbered(number).id);
        assert!(delivery.redeliveries() <= 1);
        marked += delivery.redeliveries();
    }
    assert!((1..=3000).contains(&marked), "{marked}: what was ready in memory, and no more");
    assert!(Delivery::ack_all(deliveries).await.iter().all(Result::is_ok));
}

#[tokio::test]
async fn a_delivery_that_is_extended_outlives_the_visibility_time() {
    let file = File::new();
    let options = DurableOptions::default().visibility_timeout(Duration::from_millis(20));
    let inbox = file.open_with(options).await;
    inbox.put(message(1, "{}"), NO_WAIT).await.unwrap();
    // Repeats until a lease lasts long enough to be extended: it is short, and the machine may be
    // slow.
    let first = loop {
        let delivery = inbox.recv().await.unwrap();
        if delivery.extend(Duration::from_secs(3600)).await.is_ok() {
            break delivery;
        }
    };
    inbox.put(message(2, "{}"), NO_WAIT).await.unwrap();
    let second = inbox.recv().await.unwrap();
    // The lease of the second message has ended, though it was delivered later.
    let again = inbox.recv().await.unwrap();
    assert_eq!((second.id(), again.id()), (id(2), id(2)));
    first.ack().await.unwrap();
    assert!(matches!(second.extend(Duration::from_secs(1)).await, Err(AckError::TooLate)));
    assert!(matches!(second.nack(Duration::ZERO).await, Err(AckError::TooLate)));
}

#[tokio::test]
async fn whoever_was_too_slow_can_reject_nothing() {
    let file = File::new();
    let options = DurableOptions::default().visibility_timeout(Duration::from_millis(1));
    let inbox = file.open_with(options).await;
    inbox.put(message(1, "{}"), NO_WAIT).await.unwrap();
    let late = inbox.recv().await.unwrap();
    let _again = inbox.recv().await.unwrap();
    assert!(matches!(late.reject("late").await, Err(AckError::TooLate)));
    assert!(inbox.dead(9).await.unwrap().is_empty());
    inbox.put(message(2, "{}"), NO_WAIT).await.unwrap();
    inbox.finish().await;
}

#[tokio::test]
async fn what_was_put_back_comes_at_once_after_a_restart() {
    let file = File::new();
    {
        let inbox = file.open().await;
        inbox.put(message(1, "{}"), NO_WAIT).await.unwrap();
        inbox.recv().await.unwrap().nack(Duration::from_secs(3600)).await.unwrap();
        assert_eq!(inbox.waiting().await, 1);
        assert_eq!(inbox.finish().await, 1);
    }
    let again = file.open().await.recv().await.unwrap();
    assert_eq!((again.id(), again.redeliveries()), (id(1), 1));
}

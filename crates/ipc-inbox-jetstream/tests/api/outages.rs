//! What holds while the NATS server is killed and started again.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use ipc_inbox::{Message, Put, PutError};

use crate::nats::{self, Nats};
use crate::support::{Both, NO_WAIT, message, numbered};

/// How many messages a round puts.
pub(crate) const ROUND: u32 = 400;

/// Puts messages in batches, and each again under its id until it is accepted. Counts them.
async fn put_until_accepted(inbox: &Both, numbers: std::ops::Range<u32>, count: &AtomicU32) {
    let mut left: Vec<Message> = numbers.map(numbered).collect();
    while !left.is_empty() {
        let rest = left.split_off(left.len().min(50));
        let puts = inbox.put_all(left.clone(), NO_WAIT).await;
        let mut again: Vec<Message> = Vec::new();
        for (put, message) in puts.into_iter().zip(left) {
            match put {
                Ok(_) => {
                    count.fetch_add(1, Ordering::Relaxed);
                }
                Err(PutError::Unavailable | PutError::Unknown) => again.push(message),
                Err(error) => panic!("{error}"),
            }
        }
        if !again.is_empty() {
            tokio::task::yield_now().await;
        }
        again.extend(rest);
        left = again;
    }
}

/// Begins to put the messages of a round, and returns in the middle of it.
pub(crate) async fn half_a_round(inbox: &Both, round: u32) -> tokio::task::JoinHandle<()> {
    let count = Arc::new(AtomicU32::new(0));
    let putting = {
        let (inbox, count) = (inbox.clone(), Arc::clone(&count));
        let numbers = round * ROUND..(round + 1) * ROUND;
        tokio::spawn(async move { put_until_accepted(&inbox, numbers, &count).await })
    };
    while count.load(Ordering::Relaxed) < ROUND / 4 {
        tokio::task::yield_now().await;
    }
    putting
}

/// Takes messages until there are `count` different ones. Panics if one comes twice without a mark.
pub(crate) fn take_each_once(inbox: &Both, count: u32) -> tokio::task::JoinHandle<()> {
    let inbox = inbox.clone();
    tokio::spawn(async move {
        let mut seen: HashMap<_, u32> = HashMap::new();
        while seen.len() < count as usize {
            for delivery in inbox.recv_many(64).await {
                let times = seen.entry(delivery.id()).or_default();
                *times += 1;
                assert!(*times == 1 || delivery.redeliveries() > 0, "{} twice", delivery.id());
                // Without an answer it may come again, marked.
                let _marked = delivery.ack().await;
            }
        }
    })
}

#[tokio::test]
#[cfg_attr(no_nats_server, ignore = "nats-server is not installed")]
async fn nothing_is_lost_or_stored_twice_while_the_nats_server_is_killed() {
    const ROUNDS: u32 = 4;
    let mut nats = Nats::start();
    let name = nats::name();
    let inbox: Both = nats.options(&name).open().await.unwrap().into();
    let taking = take_each_once(&inbox, ROUNDS * ROUND);
    for round in 0..ROUNDS {
        let putting = half_a_round(&inbox, round).await;
        nats = tokio::task::spawn_blocking(move || {
            nats.kill();
            nats.run();
            nats
        })
        .await
        .unwrap();
        putting.await.unwrap();
    }
    taking.await.unwrap();
    // Once everything is there, nothing is accepted a second time.
    let again: Vec<Message> = (0..ROUNDS * ROUND).map(numbered).collect();
    let other: Both = nats.options(&name).open().await.unwrap().into();
    for put in other.put_all(again, NO_WAIT).await {
        assert_eq!(put, Ok(Put::Duplicate));
    }
}

#[tokio::test]
#[cfg_attr(no_nats_server, ignore = "nats-server is not installed")]
async fn without_the_nats_server_a_put_is_refused_at_once_and_later_accepted() {
    let mut nats = Nats::start();
    let inbox: Both = nats.options(&nats::name()).open().await.unwrap().into();
    inbox.put(message(1, "{}"), NO_WAIT).await.unwrap();
    inbox.recv().await.unwrap().ack().await.unwrap();
    nats.kill();
    let long = Duration::from_secs(3600);
    let asked_at = Instant::now();
    // The first one may notice it.
    while inbox.put(message(2, "{}"), long).await != Err(PutError::Unavailable) {}
    assert!(asked_at.elapsed() < Duration::from_secs(3), "{:?}", asked_at.elapsed());
    assert_eq!(inbox.waiting().await, 0);
    nats.run();
    while let Err(error) = inbox.put(message(2, "{}"), NO_WAIT).await {
        assert!(matches!(error, PutError::Unavailable | PutError::Unknown), "{error}");
        tokio::task::yield_now().await;
    }
    // What was accepted and acknowledged before the restart is known.
    let other: Both = nats.options("T-other").open().await.unwrap().into();
    assert_eq!(other.put(message(1, "{}"), NO_WAIT).await, Ok(Put::Accepted), "its own ids");
    assert_eq!(inbox.put(message(1, "{}"), NO_WAIT).await, Ok(Put::Duplicate));
    inbox.recv().await.unwrap().ack().await.unwrap();
}

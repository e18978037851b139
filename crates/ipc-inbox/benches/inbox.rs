//! Measures putting, taking and acknowledging, one message and a hundred at a time, in memory and
//! in a file: `cargo bench -p ipc-inbox`. The file is in the directory for temporary files; with
//! `TMPDIR=/dev/shm` the disk is not measured.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use divan::Bencher;
use divan::counter::ItemsCount;
use ipc_inbox::{Delivery, DurableOptions, Inbox, InboxSender, MemoryOptions, Message, Put};
use ipc_protocol::MessageId;
use tokio::runtime::Runtime;

/// How many messages at a time.
const COUNTS: [usize; 2] = [1, 100];

fn main() {
    divan::main();
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime can be made")
}

/// `count` new messages.
fn messages(count: usize) -> Vec<Message> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let (user, received_at) = (Arc::from("ipc-admin"), SystemTime::now());
    let message = |_| {
        let number = u128::from(NUMBER.fetch_add(1, Ordering::Relaxed));
        Message {
            // Multiplied, so that the ids are spread out like random ones.
            id: MessageId::from_random(
                number.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835).to_be_bytes(),
            ),
            user: Arc::clone(&user),
            certificate: None,
            peer: None,
            received_at,
            body: r#"{"test":1}"#.into(),
            wants_reply: false,
        }
    };
    (0..count).map(message).collect()
}

async fn put_take_and_acknowledge(sender: &InboxSender, inbox: &Inbox, messages: Vec<Message>) {
    let count = messages.len();
    for put in sender.put_all(messages, Duration::ZERO).await {
        assert_eq!(put, Ok(Put::Accepted));
    }
    let mut taken = 0;
    while taken < count {
        let deliveries = inbox.recv_many(count).await;
        taken += deliveries.len();
        assert!(Delivery::ack_all(deliveries).await.iter().all(Result::is_ok));
    }
}

#[divan::bench(args = COUNTS)]
fn memory(bencher: Bencher<'_, '_>, count: usize) {
    let (runtime, (sender, inbox)) = (runtime(), MemoryOptions::default().build());
    bencher.counter(ItemsCount::new(count)).with_inputs(|| messages(count)).bench_local_values(
        |messages| runtime.block_on(put_take_and_acknowledge(&sender, &inbox, messages)),
    );
}

#[divan::bench(args = COUNTS, max_time = 2)]
fn durable(bencher: Bencher<'_, '_>, count: usize) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let runtime = runtime();
    let opened =
        runtime.block_on(DurableOptions::default().open(directory.path().join("inbox.db")));
    let (sender, inbox) = opened.expect("an inbox can be made");
    bencher.counter(ItemsCount::new(count)).with_inputs(|| messages(count)).bench_local_values(
        |messages| runtime.block_on(put_take_and_acknowledge(&sender, &inbox, messages)),
    );
}

/// How long a sender waits while another thread takes and acknowledges everything: the commit, and
/// the way to the inbox's thread and back.
#[divan::bench(args = [1, 16, 64, 500], max_time = 2)]
fn durable_beside_a_receiver(bencher: Bencher<'_, '_>, count: usize) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let runtime = runtime();
    let opened =
        runtime.block_on(DurableOptions::default().open(directory.path().join("inbox.db")));
    let (sender, inbox) = opened.expect("an inbox can be made");
    let receiver = std::thread::spawn({
        let inbox = inbox.clone();
        move || {
            let runtime = self::runtime();
            runtime.block_on(async {
                loop {
                    let deliveries = inbox.recv_many(256).await;
                    if deliveries.is_empty() {
                        break;
                    }
                    assert!(Delivery::ack_all(deliveries).await.iter().all(Result::is_ok));
                }
            });
        }
    });
    bencher.counter(ItemsCount::new(count)).with_inputs(|| messages(count)).bench_local_values(
        |messages| {
            for put in runtime.block_on(sender.put_all(messages, Duration::ZERO)) {
                assert_eq!(put, Ok(Put::Accepted));
            }
        },
    );
    runtime.block_on(sender.finish());
    receiver.join().expect("the receiver ends when the inbox does");
}

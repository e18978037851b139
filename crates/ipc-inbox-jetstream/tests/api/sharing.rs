//! Several servers with one inbox, and what opening one refuses.

use std::time::{Duration, Instant};

use async_nats::jetstream::stream::{Config, DiscardPolicy};
use ipc_inbox::{AckError, Delivery, Message, NoReply, Put, PutError};
use ipc_inbox_jetstream::{JetStreamError, JetStreamOptions};

use crate::nats::{self, Nats};
use crate::support::{Both, NO_WAIT, id, message, numbered};

fn request(number: u8) -> Message {
    Message { wants_reply: true, ..message(number, "{}") }
}

async fn open(options: JetStreamOptions) -> Both {
    options.open().await.unwrap().into()
}

/// Two servers with the same new inbox.
async fn two() -> (Both, Both) {
    let options = nats::shared().options(&nats::name());
    (open(options.clone()).await, open(options).await)
}

#[tokio::test]
#[cfg_attr(no_nats_server, ignore = "nats-server is not installed")]
async fn each_message_goes_to_one_server_and_both_know_its_id() {
    let (one, other) = two().await;
    for number in 0..100 {
        let (put, again) = if number % 2 == 0 { (&one, &other) } else { (&other, &one) };
        assert_eq!(put.put(numbered(number), NO_WAIT).await, Ok(Put::Accepted));
        assert_eq!(again.put(numbered(number), NO_WAIT).await, Ok(Put::Duplicate));
        let changed = Message { body: "{ }".into(), ..numbered(number) };
        assert_eq!(again.put(changed, NO_WAIT).await, Err(PutError::IdReused));
    }
    let take = |inbox: Both| async move {
        let mut ids = Vec::new();
        while let Some(delivery) = inbox.recv().await {
            assert_eq!(delivery.redeliveries(), 0);
            ids.push(delivery.id());
            delivery.ack().await.unwrap();
        }
        ids
    };
    one.close();
    other.close();
    let (ids, more) = tokio::join!(take(one.clone()), take(other.clone()));
    let mut all = [ids, more].concat();
    assert_eq!(all.len(), 100);
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 100);
}

#[tokio::test]
#[cfg_attr(no_nats_server, ignore = "nats-server is not installed")]
async fn an_id_that_the_nats_server_knows_without_its_message_is_no_duplicate() {
    let name = nats::name();
    let options = nats::shared().options(&name);
    let (one, other) = (open(options.clone()).await, open(options).await);
    assert_eq!(one.put(message(1, "{}"), NO_WAIT).await, Ok(Put::Accepted));
    one.recv().await.unwrap().ack().await.unwrap();
    let address = format!("127.0.0.1:{}", nats::shared().port());
    let jetstream = async_nats::jetstream::new(async_nats::connect(address).await.unwrap());
    let stream = jetstream.get_stream(&name).await.unwrap();
    stream.delete_message(1).await.unwrap();
    assert_eq!(other.put(message(1, "{}"), NO_WAIT).await, Err(PutError::Unknown));
    assert_eq!(other.put(message(2, "{}"), NO_WAIT).await, Ok(Put::Accepted));
}

#[tokio::test]
#[cfg_attr(no_nats_server, ignore = "nats-server is not installed")]
async fn a_reply_reaches_the_server_that_waits_and_every_server_that_is_asked() {
    let (one, other) = two().await;
    let third = open(nats::shared().options(&nats::name())).await;
    assert_eq!(one.put(request(1), NO_WAIT).await, Ok(Put::Accepted));
    let waiting = {
        let one = one.clone();
        tokio::spawn(async move { one.reply_to("müller", id(1)).await })
    };
    let delivery = other.recv().await.unwrap();
    assert!(delivery.is_awaited(), "at a server that this one does not know");
    delivery.reply(&serde_json::json!({"n": 1})).await.unwrap();
    assert_eq!(waiting.await.unwrap().as_deref(), Ok(r#"{"n":1}"#));
    assert_eq!(other.put(request(1), NO_WAIT).await, Ok(Put::Duplicate));
    assert_eq!(other.reply_to("müller", id(1)).await.as_deref(), Ok(r#"{"n":1}"#));
    assert_eq!(third.reply_to("müller", id(1)).await, Err(NoReply::Forgotten), "another inbox");
}

#[tokio::test]
#[cfg_attr(no_nats_server, ignore = "nats-server is not installed")]
async fn what_a_server_had_goes_to_another_when_it_ends() {
    let (one, other) = two().await;
    for number in [1, 2] {
        one.put(message(number, "{}"), NO_WAIT).await.unwrap();
    }
    let held = one.recv().await.unwrap();
    assert_eq!(one.finish().await, 1);
    assert!(matches!(held.ack().await, Err(AckError::TooLate)));
    // In whichever order the NATS server delivers them again.
    let (first, second) = (other.recv().await.unwrap(), other.recv().await.unwrap());
    let mut ids = [first.id(), second.id()];
    ids.sort();
    assert_eq!(ids, [id(1), id(2)]);
    assert!(first.redeliveries() == 1 && second.redeliveries() == 1);
    assert!(Delivery::ack_all(vec![first, second]).await.iter().all(Result::is_ok));
}

#[tokio::test]
#[cfg_attr(no_nats_server, ignore = "nats-server is not installed")]
async fn a_delivery_outlives_ack_wait_while_its_server_lives_and_ends_with_its_own_time() {
    let options = nats::shared().options(&nats::name());
    let options = options.takeover_after(Duration::from_millis(400));
    let inbox = open(options.visibility_timeout(Duration::from_secs(2))).await;
    for number in [1, 2] {
        inbox.put(message(number, "{}"), NO_WAIT).await.unwrap();
    }
    let first = inbox.recv().await.unwrap();
    let second = inbox.recv().await.unwrap();
    let taken_at = Instant::now();
    second.extend(Duration::from_secs(3600)).await.unwrap();
    // The first one's time is over, and the second one's is not: nobody else gets that one.
    let again = inbox.recv().await.unwrap();
    assert_eq!((again.id(), again.redeliveries()), (id(1), 1));
    assert!(taken_at.elapsed() >= Duration::from_secs(2), "several times ack_wait");
    assert!(matches!(first.ack().await, Err(AckError::TooLate)));
    second.ack().await.unwrap();
    again.ack().await.unwrap();
    assert_eq!(inbox.waiting().await, 0);
}

#[tokio::test]
#[cfg_attr(no_nats_server, ignore = "nats-server is not installed")]
async fn a_stream_that_is_full_refuses_and_still_knows_its_ids() {
    let options = nats::shared().options(&nats::name()).stored_messages_max(2);
    let (one, other) = (open(options.clone()).await, open(options).await);
    for number in [1, 2] {
        one.put(message(number, "{}"), NO_WAIT).await.unwrap();
        one.recv().await.unwrap().ack().await.unwrap();
    }
    assert_eq!(one.put(message(3, "{}"), NO_WAIT).await, Err(PutError::Full));
    assert_eq!(other.put(message(1, "{}"), NO_WAIT).await, Ok(Put::Duplicate));
}

#[tokio::test]
#[cfg_attr(no_nats_server, ignore = "nats-server is not installed")]
async fn the_room_that_another_server_makes_is_noticed() {
    let options = nats::shared().options(&nats::name()).messages_max(1);
    let (one, other) = (open(options.clone()).await, open(options).await);
    one.put(message(1, "{}"), NO_WAIT).await.unwrap();
    other.recv().await.unwrap().ack().await.unwrap();
    let put = one.put(message(2, "{}"), Duration::from_secs(60)).await;
    assert_eq!(put, Ok(Put::Accepted));
}

#[tokio::test]
#[cfg_attr(no_nats_server, ignore = "nats-server is not installed")]
async fn a_message_longer_than_the_nats_server_takes_is_refused_by_itself() {
    let inbox = open(nats::shared().options(&nats::name())).await;
    let long = format!(r#"{{"a":"{}"}}"#, "a".repeat(1024 * 1024));
    let batch = vec![message(1, "{}"), message(2, &long), message(3, "{}")];
    let puts = inbox.put_all(batch, NO_WAIT).await;
    assert_eq!(puts, [Ok(Put::Accepted), Err(PutError::TooLarge), Ok(Put::Accepted)]);
    assert_eq!(inbox.recv().await.unwrap().reply_bytes_max(), 1024 * 1024 - 1024);
}

#[tokio::test]
#[cfg_attr(no_nats_server, ignore = "nats-server is not installed")]
async fn what_is_in_the_way_when_an_inbox_is_opened_is_said_in_one_sentence() {
    let told = |options: JetStreamOptions| async move {
        let error = options.open().await.unwrap_err();
        (error.to_string(), error)
    };
    let port = nats::free_port();
    let (text, _) = told(JetStreamOptions::new([format!("127.0.0.1:{port}")], "J").unwrap()).await;
    let begin = format!("no NATS server answers at nats://127.0.0.1:{port}/J: Connection refused");
    assert!(text.starts_with(&begin), "{text}");

    let guarded = Nats::start_with(&["--user", "me", "--pass", "right"]);
    let (text, error) = told(guarded.options("J").user_and_password("me", "wrong")).await;
    assert!(matches!(error, JetStreamError::Login { .. }), "{error:?}");
    assert!(text.ends_with("refuses the user me with this password"), "{text}");
    let (_directory, path) = nats::file("right\n");
    open(guarded.options("J").user_and_password_file("me", &path)).await.finish().await;
    let missing = path.with_file_name("missing");
    let (text, error) = told(guarded.options("J").credentials_file(&missing)).await;
    let of = "of the parameter credentials";
    assert_eq!(text, format!("the file {} {of} cannot be read", missing.display()));
    assert!(error.remedy().is_some());

    let plain = Nats::start_without_jetstream();
    let (text, _) = told(plain.options("J")).await;
    assert!(text.ends_with("has no JetStream for this account"), "{text}");

    // A stream of the same name with another configuration.
    let address = format!("127.0.0.1:{}", nats::shared().port());
    let jetstream = async_nats::jetstream::new(async_nats::connect(address).await.unwrap());
    let name = nats::name();
    let stream = |change: fn(&mut Config)| {
        let mut config = Config {
            name: name.clone(),
            subjects: vec![format!("web-ipc.{name}.message")],
            discard: DiscardPolicy::New,
            duplicate_window: Duration::from_secs(600),
            ..Config::default()
        };
        change(&mut config);
        config
    };
    type Change = (fn(&mut Config), &'static str);
    let changes: [Change; 3] = [
        (|config| config.discard = DiscardPolicy::Old, "it discards old messages"),
        (|config| config.duplicate_window = Duration::from_secs(120), "duplicate window is 120s"),
        (|config| config.max_age = Duration::from_secs(9000), "are deleted (max_age)"),
    ];
    for (change, expected) in changes {
        jetstream.create_stream(stream(change)).await.unwrap();
        let (text, _) = told(nats::shared().options(&name)).await;
        assert!(text.starts_with(&format!("the stream {name} exists with another")), "{text}");
        assert!(text.contains(expected), "{text}");
        jetstream.delete_stream(&name).await.unwrap();
    }
}

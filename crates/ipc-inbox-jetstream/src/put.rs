//! Puts messages: takes places for them, publishes them together, and says what became of each.
//!
//! Whether an id was accepted before is decided by the NATS server, with the message. What this
//! process knows of ids only saves asking.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::HeaderMap;
use async_nats::header::NATS_MESSAGE_ID;
use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::publish::PublishAck;
use bytes::Bytes;
use ipc_inbox::{Message, Put, PutError};

use crate::ids::Known;
use crate::leaders::Led;
use crate::shared::{ANSWER_WITHIN, Shared};
use crate::wire::{self, BodyHash, Key, Meta};

type Outcome = Result<Put, PutError>;

/// How often the NATS server is asked for the number of a message that it is only just storing.
const UNNUMBERED_TRIES: u32 = 20;
const UNNUMBERED_PAUSE: Duration = Duration::from_millis(50);

/// How long an answer may take before another NATS server is tried, unless others come meanwhile.
const LATE_AFTER: Duration = Duration::from_secs(2);

/// A message that is about to be published.
struct Outgoing {
    index: usize,
    key: Key,
    known: Known,
    /// The id under which the NATS server knows it.
    id: String,
    publish: PublishMessage,
}

/// Puts messages, and waits for room for the first, no longer than `wait`.
pub(crate) async fn put_all(
    shared: &Arc<Shared>,
    messages: Vec<Message>,
    wait: Duration,
) -> Vec<Outcome> {
    if shared.is_closed() {
        return vec![Err(PutError::Closed); messages.len()];
    }
    let mut outcomes = vec![Err(PutError::Full); messages.len()];
    // Messages that come again in the same batch, each with the index of the first.
    let mut again: Vec<(usize, usize, BodyHash)> = Vec::new();
    let mut fresh: Vec<Outgoing> = Vec::new();
    let mut first_of: HashMap<Key, usize> = HashMap::new();
    for (index, message) in messages.into_iter().enumerate() {
        let key = Key::of(&message.user, message.id);
        let known = Known { hash: BodyHash::of(&message.body), wants_reply: message.wants_reply };
        if let Some(before) = shared.ids.get(key) {
            outcomes[index] = compared(before.hash, known.hash);
            continue;
        }
        if let Some(first) = first_of.get(&key) {
            again.push((index, *first, known.hash));
            continue;
        }
        if wire::length(&message) > shared.client.max_payload() {
            outcomes[index] = Err(PutError::TooLarge);
            continue;
        }
        first_of.insert(key, fresh.len());
        fresh.push(outgoing(shared, index, key, known, message));
    }
    let all: Vec<(usize, Key, BodyHash)> =
        fresh.iter().map(|one| (one.index, one.key, one.known.hash)).collect();
    match places(shared, fresh.len(), wait).await {
        Err(refused) => {
            for (index, _, _) in &all {
                outcomes[*index] = Err(refused);
            }
        }
        Ok(count) => {
            fresh.truncate(count);
            let shared_by_call = Arc::clone(shared);
            let indices: Vec<usize> = fresh.iter().map(|one| one.index).collect();
            let put = shared.call(async move { publish_all(&shared_by_call, fresh).await });
            // Without its thread the inbox has ended.
            let put = put.await.unwrap_or_else(|_| vec![Err(PutError::Closed); indices.len()]);
            for (index, outcome) in indices.into_iter().zip(put) {
                outcomes[index] = outcome;
            }
            // Those without room may have come by another call meanwhile.
            for (index, key, hash) in all.iter().skip(count) {
                if let Some(before) = shared.ids.get(*key) {
                    outcomes[*index] = compared(before.hash, *hash);
                }
            }
        }
    }
    for (index, first, hash) in again {
        let (first_index, _, first_hash) = all[first];
        outcomes[index] = match outcomes[first_index] {
            Ok(_) => compared(first_hash, hash),
            refused => refused,
        };
    }
    outcomes
}

fn compared(before: BodyHash, now: BodyHash) -> Outcome {
    match before == now {
        true => Ok(Put::Duplicate),
        false => Err(PutError::IdReused),
    }
}

fn outgoing(shared: &Shared, index: usize, key: Key, known: Known, message: Message) -> Outgoing {
    let meta = Meta::of(&message, known.hash, &shared.origin);
    let id = wire::message_id(&message.user, message.id);
    let headers = meta.headers(&id);
    let body = Bytes::from(String::from(message.body));
    let publish = PublishMessage::build().payload(body).headers(headers);
    Outgoing { index, key, known, id, publish }
}

/// Takes places for `count` messages, as many as there are. Waits only for the first.
async fn places(shared: &Arc<Shared>, count: usize, wait: Duration) -> Result<usize, PutError> {
    if count == 0 {
        return Ok(0);
    }
    // A server without its engine says so at once, so that clients go on with the next server.
    if !shared.is_connected() {
        return Err(PutError::Unavailable);
    }
    let closed = |_| PutError::Closed;
    let taken = shared.room.take_now(count).map_err(closed)?;
    if taken > 0 {
        return Ok(taken);
    }
    shared.count.notify_one();
    match tokio::time::timeout(wait, shared.room.take_one()).await {
        Ok(Ok(())) => Ok(1 + shared.room.take_now(count - 1).unwrap_or(0)),
        Ok(Err(_)) => Err(PutError::Closed),
        Err(_) => Ok(0),
    }
}

/// Publishes messages in order, all before the first answer, and gives back the places of those
/// that were not stored.
async fn publish_all(shared: &Arc<Shared>, messages: Vec<Outgoing>) -> Vec<Outcome> {
    let count = messages.len();
    let mut places = Places { shared, count, stored: 0 };
    let mut sent = Vec::with_capacity(count);
    for Outgoing { key, known, id, publish, .. } in messages {
        let again = publish.clone();
        let answer = shared.jetstream.send_publish(shared.names.messages.clone(), publish).await;
        sent.push((key, known, id, again, answer));
    }
    // All were sent by now, so they share one deadline.
    let asked_at = Instant::now();
    let mut outcomes = Vec::with_capacity(count);
    for (key, known, id, again, answer) in sent {
        let acked = match answer {
            Ok(acked) => answer_of(shared, acked.into_future(), asked_at).await,
            Err(error) => Err(error),
        };
        match &acked {
            Ok(_) => shared.answers(Led::Messages),
            // Nobody takes messages of this subject, as far as this NATS server knows.
            Err(error) if error.kind() == PublishErrorKind::StreamNotFound => {
                shared.is_silent(Led::Messages, asked_at).await;
            }
            Err(_) => (),
        }
        let outcome = match acked {
            Ok(PublishAck { duplicate: false, sequence, .. }) => {
                places.stored += 1;
                accepted(shared, sequence, &id);
                Ok(Put::Accepted)
            }
            Ok(PublishAck { sequence, .. }) => duplicate(shared, sequence, &id, known, again).await,
            Err(error) => Err(refused(shared, &error)),
        };
        if outcome.is_ok() {
            shared.ids.insert(key, known, Instant::now());
        }
        outcomes.push(outcome);
    }
    outcomes
}

/// Waits for the answer to what was published at `asked_at`.
async fn answer_of(
    shared: &Shared,
    acked: impl Future<Output = Result<PublishAck, PublishError>>,
    asked_at: Instant,
) -> Result<PublishAck, PublishError> {
    let mut acked = std::pin::pin!(acked);
    let deadline = (asked_at + ANSWER_WITHIN).into();
    let late = (asked_at + LATE_AFTER).into();
    let mut is_late = false;
    loop {
        // Without an answer the message may have been stored or not.
        tokio::select! {
            biased;
            acked = &mut acked => return acked,
            () = shared.interrupted() => {
                return Err(PublishError::new(PublishErrorKind::BrokenPipe));
            }
            () = tokio::time::sleep_until(deadline) => {
                return Err(PublishError::new(PublishErrorKind::TimedOut));
            }
            () = tokio::time::sleep_until(late), if !is_late => {
                is_late = true;
                shared.is_silent(Led::Messages, asked_at).await;
            }
        }
    }
}

/// Places that were taken. Whatever happens, those without a message are given back.
struct Places<'a> {
    shared: &'a Shared,
    count: usize,
    stored: usize,
}

impl Drop for Places<'_> {
    fn drop(&mut self) {
        self.shared.room.put_is_done(self.count, self.stored);
    }
}

/// The NATS server has stored a message. `cargo xtask cluster` reads the line of the log, and looks
/// whether the message stays under its number.
fn accepted(shared: &Shared, sequence: u64, id: &str) {
    log::debug!("stored as {sequence}: {id}");
    shared.local.accepted(sequence);
}

/// What became of a message whose id the NATS server knows: it compares the bodies.
async fn duplicate(
    shared: &Shared,
    mut sequence: u64,
    id: &str,
    known: Known,
    again: PublishMessage,
) -> Outcome {
    // The leader of several replicas answers 0 while it is storing the first one. If it never
    // does, because it lost its followers meanwhile, the message may not be there.
    for _ in 0..UNNUMBERED_TRIES {
        if sequence != 0 {
            break;
        }
        tokio::time::sleep(UNNUMBERED_PAUSE).await;
        let sent = shared.jetstream.send_publish(shared.names.messages.clone(), again.clone());
        match sent.await {
            Ok(acked) => match acked.await {
                // The first one was not stored, and this one is.
                Ok(PublishAck { duplicate: false, sequence, .. }) => {
                    shared.room.add();
                    accepted(shared, sequence, id);
                    return Ok(Put::Accepted);
                }
                Ok(answer) => sequence = answer.sequence,
                Err(error) => return Err(refused(shared, &error)),
            },
            Err(error) => return Err(refused(shared, &error)),
        }
    }
    if sequence == 0 {
        return Err(PutError::Unknown);
    }
    let stream = match shared.jetstream.get_stream_no_info(&shared.names.stream).await {
        Ok(stream) => stream,
        Err(_) => return Err(PutError::Unavailable),
    };
    match stream.get_raw_message(sequence).await {
        // The number is that of another message, or of none: servers that have lost their leader
        // may know an id whose message was never stored on most of them. The message may or may
        // not come to be there, so the sender asks again.
        Ok(stored) if !is_of(&stored.headers, id) => Err(PutError::Unknown),
        Ok(stored) => {
            let meta = Meta::of_headers(Some(&stored.headers));
            match meta.and_then(|meta| meta.hash()) {
                Some(before) => compared(before, known.hash),
                // Its id is ours, so it is.
                None => Ok(Put::Duplicate),
            }
        }
        Err(error) if is_missing(&error) => Err(PutError::Unknown),
        Err(_) => Err(PutError::Unavailable),
    }
}

/// Whether a stored message has this id.
fn is_of(headers: &HeaderMap, id: &str) -> bool {
    headers.get(NATS_MESSAGE_ID).is_some_and(|stored| stored.as_str() == id)
}

fn is_missing(error: &async_nats::jetstream::stream::RawMessageError) -> bool {
    use async_nats::jetstream::stream::LastRawMessageErrorKind as Kind;
    match error.kind() {
        Kind::NoMessageFound => true,
        Kind::JetStream(error) => error.error_code() == ErrorCode::NO_MESSAGE_FOUND,
        _ => false,
    }
}

/// Why a message was not stored.
fn refused(shared: &Shared, error: &PublishError) -> PutError {
    let reason = std::error::Error::source(error)
        .and_then(|source| source.downcast_ref::<async_nats::jetstream::Error>());
    let refused = match (error.kind(), reason.map(|reason| reason.error_code())) {
        (PublishErrorKind::MaxPayloadExceeded, _)
        | (_, Some(ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM)) => PutError::TooLarge,
        // "maximum messages exceeded", "maximum bytes exceeded"
        (_, Some(ErrorCode::STREAM_STORE_FAILED | ErrorCode::ACCOUNT_RESOURCES_EXCEEDED)) => {
            PutError::Full
        }
        // Another server is storing the same message just now.
        (_, Some(ErrorCode::STREAM_DUPLICATE_MESSAGE_CONFLICT)) => PutError::Unknown,
        (_, Some(_)) | (PublishErrorKind::StreamNotFound, _) => PutError::Unavailable,
        (PublishErrorKind::TimedOut | PublishErrorKind::BrokenPipe, _) => PutError::Unknown,
        _ => PutError::Unavailable,
    };
    if refused != PutError::TooLarge {
        shared.trouble.report(format_args!("the NATS server does not store messages: {error}"));
    }
    refused
}

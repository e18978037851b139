//! Dead letters: listed, put back, discarded. Several servers and commands may do so at once.

use std::sync::Arc;

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{LastRawMessageErrorKind, Stream};
use futures_util::TryStreamExt as _;
use ipc_inbox::{DeadLetter, DeadLetterId, StorageError};

use crate::replies;
use crate::shared::Shared;
use crate::wire::{Key, Meta};

/// A dead letter as it is stored.
struct Stored {
    /// Its number in the stream of dead letters.
    sequence: u64,
    meta: Meta,
    body: Vec<u8>,
}

async fn stream(shared: &Shared) -> Result<Stream<()>, StorageError> {
    if !shared.is_connected() {
        return Err(StorageError::new("the connection to the NATS server is interrupted"));
    }
    let stream = shared.jetstream.get_stream_no_info(&shared.names.dead_stream).await;
    stream.map_err(StorageError::new)
}

/// The numbers of all dead letters, in the order in which their messages were accepted.
async fn numbers(shared: &Shared, stream: &Stream<()>) -> Result<Vec<u64>, StorageError> {
    let subjects = stream.info_with_subjects(shared.names.dead("*"));
    let subjects = subjects.await.map_err(StorageError::new)?;
    let subjects: Vec<(String, usize)> = subjects.try_collect().await.map_err(StorageError::new)?;
    let number = |subject: &str| subject.rsplit('.').next().and_then(|last| last.parse().ok());
    let mut numbers: Vec<u64> =
        subjects.iter().filter_map(|(subject, _)| number(subject)).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

async fn find(
    shared: &Shared,
    stream: &Stream<()>,
    number: u64,
) -> Result<Option<Stored>, StorageError> {
    match stream.get_last_raw_message_by_subject(&shared.names.dead(number)).await {
        Ok(stored) => {
            let meta = Meta::of_headers(Some(&stored.headers));
            let body = stored.payload.to_vec();
            Ok(meta.map(|meta| Stored { sequence: stored.sequence, meta, body }))
        }
        Err(error) => match error.kind() {
            LastRawMessageErrorKind::NoMessageFound => Ok(None),
            LastRawMessageErrorKind::JetStream(reason)
                if reason.error_code() == ErrorCode::NO_MESSAGE_FOUND =>
            {
                Ok(None)
            }
            _ => Err(StorageError::new(error)),
        },
    }
}

pub(crate) async fn list(
    shared: Arc<Shared>,
    after: Option<DeadLetterId>,
    count_max: usize,
) -> Result<Vec<DeadLetter>, StorageError> {
    let stream = stream(&shared).await?;
    let numbers = numbers(&shared, &stream).await?;
    let mut letters = Vec::new();
    for number in numbers.into_iter().filter(|number| after.is_none_or(|one| *number > one.get())) {
        if letters.len() == count_max {
            break;
        }
        let Some(Stored { meta, body, .. }) = find(&shared, &stream, number).await? else {
            continue;
        };
        let id = DeadLetterId::new(number);
        if let Some(message) = meta.message(&body) {
            letters.push(DeadLetter::new(id, message, meta.deliveries(), meta.reason()));
        }
    }
    Ok(letters)
}

/// Puts dead letters back. Each is published as a new message, under an id that names this dead
/// letter, and removed afterwards: if the first is done and the second fails, a repetition finds it
/// published, for as long as ids are remembered.
pub(crate) async fn requeue(
    shared: Arc<Shared>,
    ids: Vec<DeadLetterId>,
) -> Result<usize, StorageError> {
    let stream = stream(&shared).await?;
    let mut count = 0;
    for id in ids {
        let Some(Stored { sequence, meta, body }) = find(&shared, &stream, id.get()).await? else {
            continue;
        };
        if let Some(message) = meta.message(&body).filter(|message| message.wants_reply) {
            replies::forget(&shared, Key::of(&message.user, message.id)).await?;
        }
        let message_id = format!("{} {} {sequence}", shared.names.dead_stream, id.get());
        let headers = meta.revived().headers(&message_id);
        let publish = PublishMessage::build().payload(body.into()).headers(headers);
        let sent = shared.jetstream.send_publish(shared.names.messages.clone(), publish).await;
        let acked = sent.map_err(StorageError::new)?.await.map_err(StorageError::new)?;
        if !acked.duplicate {
            shared.room.add();
            shared.local.accepted(acked.sequence);
        }
        stream.delete_message(sequence).await.map_err(StorageError::new)?;
        count += 1;
    }
    Ok(count)
}

pub(crate) async fn discard(
    shared: Arc<Shared>,
    ids: Vec<DeadLetterId>,
) -> Result<usize, StorageError> {
    let stream = stream(&shared).await?;
    let mut count = 0;
    for id in ids {
        let purged = stream.purge().filter(shared.names.dead(id.get())).await;
        count += usize::from(purged.map_err(StorageError::new)?.purged > 0);
    }
    Ok(count)
}

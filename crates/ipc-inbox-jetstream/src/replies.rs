//! Replies to requests: kept in a stream, and found there by whichever server is asked.
//!
//! The server of the application stores a reply and then tells the others that it is there, by a
//! message that nobody keeps. A server whose caller waits looks into the stream when it begins to
//! wait, when it is told, when its connection is there again, and now and then besides. So a
//! message that is lost delays a reply, and none is missed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::HeaderMap;
use async_nats::header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE;
use async_nats::jetstream::context::PublishErrorKind;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::LastRawMessageErrorKind;
use async_nats::jetstream::{self, ErrorCode};
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use ipc_inbox::{NoReply, StorageError};
use ipc_protocol::MessageId;

use crate::leaders::Led;
use crate::shared::{Lost, Shared};
use crate::waits::Reply;
use crate::wire::{KeptReply, Key, Notice};

/// How often a server looks for all replies that are waited for, if it hears nothing.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// For how long a reply is stored again and again, if the NATS server does not answer, and how long
/// each attempt waits. Often there is another leader by then.
const INSIST_FOR: Duration = Duration::from_secs(10);
const ATTEMPT_WITHIN: Duration = Duration::from_secs(2);
const INSIST_EVERY: Duration = Duration::from_millis(100);

/// How long a look may take.
const LOOK_WITHIN: Duration = Duration::from_secs(2);

/// How many replies are looked for at the same time.
const LOOKS_AT_ONCE: usize = 64;

/// The header with the process that tells the others something.
const ORIGIN: &str = "Web-Ipc-Origin";

/// Stores the reply to a request, unless there is one, and tells all who wait. While the NATS
/// server cannot, it is asked again, also when the lease of the request is over: only the first
/// reply counts, whoever gives it.
pub(crate) async fn keep(shared: &Arc<Shared>, key: Key, kept: KeptReply) -> Result<(), Lost> {
    let until = Instant::now() + INSIST_FOR;
    loop {
        let asked_at = Instant::now();
        let attempt = tokio::time::timeout(ATTEMPT_WITHIN, try_to_keep(shared, key, &kept)).await;
        let attempt = attempt.unwrap_or(Err(Lost::Timeout));
        match attempt {
            Ok(()) => shared.answers(Led::Replies),
            Err(Lost::NoLeader | Lost::Timeout) => shared.is_silent(Led::Replies, asked_at).await,
            Err(_) => (),
        }
        match attempt {
            Ok(()) => return Ok(()),
            Err(lost) if Instant::now() + INSIST_EVERY >= until => return Err(lost),
            Err(_) => tokio::time::sleep(INSIST_EVERY).await,
        }
    }
}

async fn try_to_keep(shared: &Arc<Shared>, key: Key, kept: &KeptReply) -> Result<(), Lost> {
    let publish = PublishMessage::build()
        .payload(kept.to_payload().into())
        // The first reply is the one that counts.
        .header(NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, "0");
    let sent = shared.jetstream.send_publish(shared.names.reply(key), publish).await;
    let acked = match sent {
        Ok(acked) => tokio::select! {
            acked = acked.into_future() => acked,
            () = shared.interrupted() => return Err(Lost::Connection),
        },
        Err(error) => Err(error),
    };
    match acked {
        Ok(_) => {
            shared.waits.settle(key, kept);
            tell(shared, &Notice::Settled(key)).await;
            Ok(())
        }
        Err(error) if error.kind() == PublishErrorKind::WrongLastSequence => {
            look(shared, key).await.map(|_| ())
        }
        Err(error) => {
            shared.trouble.report(format_args!("the NATS server did not store a reply: {error}"));
            Err(match error.kind() {
                PublishErrorKind::StreamNotFound => Lost::NoLeader,
                PublishErrorKind::TimedOut => Lost::Timeout,
                _ => Lost::Refused,
            })
        }
    }
}

/// Removes what is kept of a request, since it is to be answered again.
pub(crate) async fn forget(shared: &Shared, key: Key) -> Result<(), StorageError> {
    let stream = shared.jetstream.get_stream_no_info(&shared.names.reply_stream).await;
    let stream = stream.map_err(StorageError::new)?;
    stream.purge().filter(shared.names.reply(key)).await.map_err(StorageError::new)?;
    Ok(())
}

/// Waits for the reply to a request.
pub(crate) async fn wait(shared: Arc<Shared>, user: String, id: MessageId) -> Reply {
    let key = Key::of(&user, id);
    let known = shared.ids.get(key);
    if known.is_some_and(|known| !known.wants_reply) {
        return Err(NoReply::Forgotten);
    }
    if !shared.is_connected() {
        return Err(NoReply::Unavailable);
    }
    let Some(reply) = shared.waits.wait(key) else { return Err(NoReply::Unavailable) };
    let looking = Arc::clone(&shared);
    drop(shared.runtime.spawn(async move {
        let found = look(&looking, key).await;
        if let Ok(None) = found {
            if known.is_none() {
                // Nobody has put it, as far as is known.
                looking.waits.refuse(key, NoReply::Forgotten);
            } else {
                tell(&looking, &Notice::Awaited(key)).await;
            }
        }
    }));
    reply.await.unwrap_or(Err(NoReply::Unavailable))
}

/// Looks for a reply, and gives it to all who wait here.
async fn look(shared: &Shared, key: Key) -> Result<Option<()>, Lost> {
    let asked_at = Instant::now();
    let looked = tokio::select! {
        looked = tokio::time::timeout(LOOK_WITHIN, try_to_look(shared, key)) => looked,
        // What is asked on the way to another NATS server says nothing of that one.
        () = shared.interrupted() => return Err(Lost::Connection),
    };
    match looked {
        Ok(Ok(found)) => {
            shared.answers(Led::Replies);
            Ok(found)
        }
        // An answer, if not the one that was hoped for: another NATS server has no other.
        Ok(Err(Lost::Refused)) => Err(Lost::Refused),
        Ok(Err(lost)) => {
            shared.is_silent(Led::Replies, asked_at).await;
            Err(lost)
        }
        Err(_) => {
            shared.is_silent(Led::Replies, asked_at).await;
            Err(Lost::Timeout)
        }
    }
}

async fn try_to_look(shared: &Shared, key: Key) -> Result<Option<()>, Lost> {
    let stream = shared.jetstream.get_stream_no_info(&shared.names.reply_stream).await;
    let stream = stream.map_err(|_| Lost::Refused)?;
    // The leader answers this, and so has everything that was stored.
    match stream.get_last_raw_message_by_subject(&shared.names.reply(key)).await {
        Ok(stored) => {
            let kept = KeptReply::of_payload(&stored.payload).unwrap_or(KeptReply::NotGiven);
            shared.waits.settle(key, &kept);
            Ok(Some(()))
        }
        Err(error) => match error.kind() {
            LastRawMessageErrorKind::NoMessageFound => Ok(None),
            LastRawMessageErrorKind::JetStream(reason)
                if reason.error_code() == ErrorCode::NO_MESSAGE_FOUND =>
            {
                Ok(None)
            }
            LastRawMessageErrorKind::JetStream(reason) if !says_no_leader(&reason) => {
                Err(Lost::Refused)
            }
            // Without a leader there is mostly no answer.
            _ => Err(Lost::NoLeader),
        },
    }
}

/// Whether JetStream answers that a leader is missing.
fn says_no_leader(reason: &jetstream::Error) -> bool {
    [ErrorCode::CLUSTER_NOT_AVAILABLE, ErrorCode::CLUSTER_NOT_LEADER].contains(&reason.error_code())
}

/// Tells the other servers something. Whoever does not hear it finds out later.
async fn tell(shared: &Shared, notice: &Notice) {
    let mut headers = HeaderMap::new();
    headers.insert(ORIGIN, shared.origin.as_str());
    let subject = shared.names.notices.clone();
    let sent = shared.client.publish_with_headers(subject, headers, notice.to_payload().into());
    if let Err(error) = sent.await {
        log::debug!("the other servers were not told of a reply: {error}");
    }
}

/// Listens to the other servers, and looks for replies, until the inbox ends.
pub(crate) async fn listen(shared: Arc<Shared>) {
    let mut notices = match shared.client.subscribe(shared.names.notices.clone()).await {
        Ok(notices) => notices,
        Err(error) => return log::error!("other servers cannot be heard: {error}"),
    };
    let mut is_connected = shared.is_connected.clone();
    let mut next_look = tokio::time::interval(LOOK_EVERY);
    // Looks that take long are not made up for.
    next_look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            notice = notices.next() => {
                let Some(notice) = notice else { return };
                let origin = notice.headers.as_ref().and_then(|headers| headers.get_last(ORIGIN));
                if origin.is_some_and(|origin| origin.as_str() == shared.origin) {
                    continue;
                }
                match Notice::of_payload(&notice.payload) {
                    Some(Notice::Settled(key)) if shared.waits.is_awaited_here(key) => {
                        let looking = Arc::clone(&shared);
                        drop(shared.runtime.spawn(async move {
                            // If that fails, it is looked for again.
                            let _found = look(&looking, key).await;
                        }));
                    }
                    Some(Notice::Awaited(key)) => shared.waits.is_awaited_elsewhere(key),
                    _ => (),
                }
                continue;
            }
            _ = next_look.tick() => (),
            state = is_connected.changed() => if state.is_err() {
                return;
            },
        }
        if !shared.is_connected() {
            continue;
        }
        for keys in shared.waits.all().chunks(LOOKS_AT_ONCE) {
            // What fails is looked for again.
            join_all(keys.iter().map(|key| look(&shared, *key))).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_answer_than_a_missing_leader_is_no_silence() {
        for (code, is_missing) in [(10008, true), (10009, true), (10059, false), (10003, false)] {
            let json = format!("{{\"code\":503,\"err_code\":{code},\"description\":\"\"}}");
            let reason: jetstream::Error = serde_json::from_str(&json).unwrap();
            assert_eq!(says_no_leader(&reason), is_missing, "{code}");
        }
    }
}

//! What ends a delivery: acknowledgement, reply, giving back, rejection; and the leases of the
//! messages that are here.
//!
//! Each call here has the message already: its lease was ended by `backend`, so nobody else can
//! end it a second time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::jetstream::message::PublishMessage;
use futures_util::future::join_all;
use ipc_inbox::{AckError, DeadReason};

use crate::local::Arrived;
use crate::replies;
use crate::shared::{Lost, Shared};
use crate::wire::{KeptReply, Key};

/// The longest pause between two looks at the leases.
const RENEW_EVERY_MAX: Duration = Duration::from_secs(5);
const RENEW_EVERY_MIN: Duration = Duration::from_millis(20);

/// For how long the NATS server is told again, if it cannot be reached.
const INSIST_FOR: Duration = Duration::from_secs(10);
const INSIST_EVERY: Duration = Duration::from_millis(100);

/// How long the end of an inbox waits until nothing is delivered here any more.
const STOP_PULLING_WITHIN: Duration = Duration::from_millis(1500);

const ACK: &str = "+ACK";
const PROGRESS: &str = "+WPI";
const TERM: &str = "+TERM";

fn failed(lost: Lost) -> AckError {
    AckError::Storage { source: lost.into() }
}

/// Tells the NATS server something about a delivery, and returns when it has taken it up. While it
/// cannot be reached, it is told again: being told twice changes nothing.
async fn tell(shared: &Shared, arrived: &Arrived, what: &str) -> Result<(), Lost> {
    let until = insist_until(what, arrived.leased_until, Instant::now());
    loop {
        match shared.ask(arrived.ack_subject.clone(), what.into()).await {
            Ok(_) => {
                if what == ACK || what == TERM {
                    shared.local.is_settled(arrived);
                }
                return Ok(());
            }
            Err(lost) if Instant::now() + INSIST_EVERY >= until => return Err(lost),
            Err(_) => tokio::time::sleep(INSIST_EVERY).await,
        }
    }
}

/// Until when the NATS server is told again. An election of its leader may take longer than a
/// lease. That a message was processed is true after the lease too, and spares it another delivery.
/// All else would end the next delivery.
fn insist_until(what: &str, leased_until: Instant, now: Instant) -> Instant {
    match what {
        ACK => now + INSIST_FOR,
        _ => leased_until.min(now + INSIST_FOR),
    }
}

/// Acknowledges messages, all before the first answer. A request among them gets no reply.
pub(crate) async fn acknowledge(
    shared: Arc<Shared>,
    messages: Vec<Arrived>,
) -> Vec<Result<(), AckError>> {
    shared.room.settling(messages.len());
    let all = messages.iter().map(|arrived| async {
        if arrived.message.wants_reply {
            replies::keep(&shared, key(arrived), KeptReply::NotGiven).await?;
        }
        tell(&shared, arrived, ACK).await
    });
    let results = join_all(all).await;
    shared.room.settling_is_done(results.len(), results.iter().filter(|one| one.is_ok()).count());
    results.into_iter().map(|result| result.map_err(failed)).collect()
}

/// Stores the reply to a request, or the reason why there is none, and acknowledges the request.
pub(crate) async fn reply(
    shared: Arc<Shared>,
    arrived: Arrived,
    kept: KeptReply,
) -> Result<(), AckError> {
    shared.room.settling(1);
    let told = match replies::keep(&shared, key(&arrived), kept).await {
        Ok(()) => tell(&shared, &arrived, ACK).await,
        Err(lost) => Err(lost),
    };
    shared.room.settling_is_done(1, usize::from(told.is_ok()));
    told.map_err(failed)
}

/// Gives a message back, to be delivered again after `delay`.
pub(crate) async fn give_back(
    shared: Arc<Shared>,
    arrived: Arrived,
    delay: Duration,
) -> Result<(), AckError> {
    if delay.is_zero() {
        shared.local.comes_back(arrived.sequence, Instant::now());
    }
    let told = tell(&shared, &arrived, &not_now(delay)).await;
    shared.changed.notify_waiters();
    shared.pull.notify_one();
    told.map_err(failed)
}

fn not_now(delay: Duration) -> String {
    match delay.is_zero() {
        true => "-NAK".to_owned(),
        false => {
            // Its number of nanoseconds has 63 bits.
            let nanos = i64::try_from(delay.as_nanos()).unwrap_or(i64::MAX);
            format!(r#"-NAK {{"delay":{nanos}}}"#)
        }
    }
}

/// Makes a message a dead letter: copies it, and then ends its deliveries. If the copy is there and
/// the end fails, the message comes again, and replaces the copy when it is buried again.
pub(crate) async fn bury(
    shared: Arc<Shared>,
    arrived: Arrived,
    deliveries: u32,
    reason: DeadReason,
) -> Result<(), AckError> {
    shared.room.settling(1);
    let told = bury_settling(&shared, &arrived, deliveries, &reason).await;
    shared.room.settling_is_done(1, usize::from(told.is_ok()));
    match &told {
        Ok(()) => match &reason {
            DeadReason::Rejected(reason) => {
                log::warn!("a message was rejected and is a dead letter now: {reason:?}");
            }
            _ => log::warn!(
                "1 message delivered {deliveries} times without an acknowledgement is a dead \
                 letter now"
            ),
        },
        Err(lost) => log::warn!("a message is not a dead letter yet: {lost}"),
    }
    told.map_err(failed)
}

async fn bury_settling(
    shared: &Arc<Shared>,
    arrived: &Arrived,
    deliveries: u32,
    reason: &DeadReason,
) -> Result<(), Lost> {
    let first = arrived.first();
    let meta = arrived.meta.clone().dead(first, deliveries, reason);
    let id = format!("{} {}", arrived.sequence, arrived.deliveries);
    let body = arrived.message.body.as_bytes().to_vec();
    let publish = PublishMessage::build().payload(body.into()).headers(meta.headers(&id));
    let sent = shared.jetstream.send_publish(shared.names.dead(first), publish).await;
    let copied = match sent {
        Ok(acked) => tokio::select! {
            acked = acked.into_future() => acked,
            () = shared.interrupted() => return Err(Lost::Connection),
        },
        Err(error) => Err(error),
    };
    copied.map_err(|error| {
        let what = format_args!("the NATS server did not store a dead letter: {error}");
        shared.trouble.report(what);
        Lost::Refused
    })?;
    if arrived.message.wants_reply {
        replies::keep(shared, key(arrived), KeptReply::NotGiven).await?;
    }
    tell(shared, arrived, TERM).await
}

/// Ends the deliveries of a message that is none of ours, or that is done with.
pub(crate) async fn pass_over(shared: Arc<Shared>, ack_subject: String) {
    // If that fails, it comes again.
    let _again = shared.ask(ack_subject, TERM.into()).await;
}

fn key(arrived: &Arrived) -> Key {
    Key::of(&arrived.message.user, arrived.message.id)
}

/// Renews the leases of all messages here, and gives back those whose application took too long.
/// Runs until the inbox ends.
pub(crate) async fn keep_leases(shared: Arc<Shared>) {
    let shortest = shared.ack_wait.min(shared.options.visibility_timeout);
    let every = (shortest / 4).clamp(RENEW_EVERY_MIN, RENEW_EVERY_MAX);
    let mut renewed_at = Instant::now();
    loop {
        tokio::time::sleep(every).await;
        let now = Instant::now();
        let (subjects, late) = shared.local.to_renew(now);
        for arrived in late {
            log::info!("message {} was not acknowledged in time", arrived.message.id);
            let give_back = give_back(Arc::clone(&shared), arrived, Duration::ZERO);
            drop(shared.call(async move {
                // If that fails, the NATS server delivers it again by itself.
                let _by_itself = give_back.await;
            }));
        }
        // A third of the time leaves two more tries.
        if now.duration_since(renewed_at) < shared.ack_wait / 3 || !shared.is_connected() {
            continue;
        }
        let mut all_sent = true;
        for subject in subjects {
            all_sent &= shared.client.publish(subject, PROGRESS.into()).await.is_ok();
        }
        if all_sent && shared.client.flush().await.is_ok() && shared.is_connected() {
            shared.local.renewed(now, now + shared.ack_wait);
            renewed_at = now;
        }
    }
}

/// Gives back everything that is here, for the other servers and for the next start.
pub(crate) async fn release_all(shared: &Shared) {
    if !shared.is_connected() {
        drop(shared.local.end());
        return;
    }
    let mut here = shared.local.end();
    shared.pull.notify_one();
    // Otherwise the NATS server would deliver here what is given back here.
    let mut is_pulling = shared.is_pulling.subscribe();
    let stopped = is_pulling.wait_for(|is_pulling| !is_pulling);
    if tokio::time::timeout(STOP_PULLING_WITHIN, stopped).await.is_err() {
        return;
    }
    here.extend(shared.local.end());
    for arrived in here {
        if shared.client.publish(arrived.ack_subject, "-NAK".into()).await.is_err() {
            return;
        }
    }
    // What is not given back is delivered again a little later.
    let _later = shared.client.flush().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_acknowledgement_is_insisted_on_beyond_its_lease() {
        let now = Instant::now();
        let (soon, late) = (now + Duration::from_secs(1), now + Duration::from_secs(60));
        for (what, expected) in [(ACK, INSIST_FOR), ("-NAK", soon - now), (TERM, soon - now)] {
            assert_eq!(insist_until(what, soon, now) - now, expected, "{what}");
            assert_eq!(insist_until(what, late, now) - now, INSIST_FOR, "{what}");
        }
    }
}

//! Asks the NATS server for messages, and takes in those that come.
//!
//! One task does so for as long as the inbox is open. It asks for a number of messages and for a
//! while; what has not come by then is asked for again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::{Message, StatusCode};
use futures_util::StreamExt as _;
use ipc_inbox::DeadReason;

use crate::local::Arrived;
use crate::settling;
use crate::shared::{Shared, delivered};
use crate::wire::{CONSUMER, Meta};

/// For how long one request is good. The end of an inbox waits for it: nats-server 2.9 mixes up the
/// order of what is given back while a request of a process that is gone is still open.
const REQUEST_TIME: Duration = Duration::from_secs(1);

/// How much longer its end is waited for.
const GRACE: Duration = Duration::from_secs(2);

/// The pause after the NATS server could not serve a request.
const PAUSE: Duration = Duration::from_millis(250);

/// How many messages of a request will not come, in the status that ends it.
const PENDING: &str = "Nats-Pending-Messages";

/// Runs until the inbox ends. From then on the NATS server delivers nothing to this process.
pub(crate) async fn run(shared: Arc<Shared>) {
    pull(&shared).await;
    shared.is_pulling.send_replace(false);
}

async fn pull(shared: &Arc<Shared>) {
    let subject = shared.client.new_inbox();
    let mut messages = match shared.client.subscribe(subject.clone()).await {
        Ok(messages) => messages,
        Err(error) => return log::error!("no messages can be taken from the inbox: {error}"),
    };
    let mut is_connected = shared.is_connected.clone();
    let mut ends_at = tokio::time::Instant::now() + REQUEST_TIME + GRACE;
    loop {
        if shared.local.has_ended() && !shared.local.is_asking() {
            // If that fails, the connection is gone too.
            let _gone = messages.unsubscribe().await;
            return;
        }
        if shared.is_connected() {
            let count = shared.local.to_request();
            if count > 0 {
                request(shared, &subject, count).await;
                ends_at = tokio::time::Instant::now() + REQUEST_TIME + GRACE;
            }
        }
        tokio::select! {
            message = messages.next() => match message {
                Some(message) => take_in(shared, &message).await,
                None => return,
            },
            () = shared.pull.notified() => (),
            state = is_connected.changed() => match state {
                // What was asked for on the old connection does not come.
                Ok(()) => shared.local.not_coming(None),
                Err(_) => return,
            },
            () = tokio::time::sleep_until(ends_at) => {
                shared.local.not_coming(None);
                ends_at = tokio::time::Instant::now() + REQUEST_TIME + GRACE;
            }
        }
    }
}

async fn request(shared: &Shared, reply: &str, count: usize) {
    let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{}.{CONSUMER}", shared.names.stream);
    let time = REQUEST_TIME.as_nanos();
    let payload = format!(r#"{{"batch":{count},"expires":{time}}}"#);
    let sent = shared.client.publish_with_reply(subject, reply.to_owned(), payload.into()).await;
    if sent.is_err() {
        shared.local.not_coming(Some(count));
    }
}

async fn take_in(shared: &Arc<Shared>, message: &Message) {
    let Some(status) = message.status else { return take(shared, message) };
    if status == StatusCode::IDLE_HEARTBEAT {
        return;
    }
    let pending = message.headers.as_ref().and_then(|headers| headers.get_last(PENDING));
    shared.local.not_coming(pending.and_then(|count| count.as_str().parse().ok()));
    if status != StatusCode::TIMEOUT && status != StatusCode::NOT_FOUND {
        let reason = message.description.as_deref().unwrap_or_default();
        log::debug!("the NATS server gives no messages now: {status} {reason}");
        tokio::time::sleep(PAUSE).await;
    }
}

/// Takes in one message.
fn take(shared: &Arc<Shared>, message: &Message) {
    // It is not of JetStream.
    let Some((ack_subject, at)) = delivered(message) else { return };
    let meta = Meta::of_headers(message.headers.as_ref());
    let Some((meta, content)) =
        meta.and_then(|meta| meta.message(&message.payload).map(|content| (meta, content)))
    else {
        log::warn!(
            "message {} of the stream {} is none of web-ipc, and is passed over",
            at.sequence,
            shared.names.stream
        );
        shared.local.not_coming(Some(1));
        drop(shared.call(settling::pass_over(Arc::clone(shared), ack_subject)));
        return;
    };
    let arrived = Arrived {
        message: content,
        meta,
        sequence: at.sequence,
        deliveries: at.deliveries,
        ack_subject,
        leased_until: Instant::now() + shared.ack_wait,
    };
    if at.deliveries > shared.options.max_deliveries {
        // Its last delivery ended without an acknowledgement.
        shared.local.not_coming(Some(1));
        let deliveries = shared.options.max_deliveries;
        let reason = DeadReason::MaxDeliveries;
        let buried = settling::bury(Arc::clone(shared), arrived, deliveries, reason);
        drop(shared.call(async move {
            // If that fails, the message comes again.
            let _again = buried.await;
        }));
        return;
    }
    match shared.local.arrives(arrived) {
        Ok(()) => shared.changed.notify_waiters(),
        // The NATS server has forgotten it.
        Err(settled) => {
            drop(shared.call(settling::pass_over(Arc::clone(shared), settled.ack_subject)));
        }
    }
}

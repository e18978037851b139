//! Each message as a line of JSON on stdout.
//!
//! Some are printed together, and acknowledged when they are written. What was not acknowledged when the server stops is kept
//! by a durable inbox and handed out again; one in memory is printed first.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::time::Duration;

use futures_util::future::join_all;
use ipc_server::Delivery;
use serde_json::json;
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::{Cause, Serving, lost_messages, rfc_3339, until};
use crate::error::{self, Failure, Verdict};
use crate::out;
use crate::stdio::WriteError;

/// How long the lines under way when a signal comes may still take, where they come again if they take longer.
const LAST_LINES_WAIT: Duration = Duration::from_secs(2);

/// Lines that are written, and acknowledged, together.
const LINES_MAX: usize = 256;

/// Something under way, of which there may be none.
type UnderWay<T> = Option<Pin<Box<dyn Future<Output = T>>>>;

/// Prints each message as a line.
pub(super) async fn print_all(mut serving: Serving) -> Result<Verdict, Failure> {
    let (inbox, is_durable) = (serving.server.inbox().clone(), serving.is_durable);
    let mut printing: UnderWay<Result<(), Unwritten>> = None;
    let mut in_hand = 0;
    let mut stops_at = None;
    let cause = loop {
        let is_stopping = stops_at.is_some();
        if is_stopping && is_durable && printing.is_none() {
            // It keeps what is left.
            break Cause::Stopped;
        }
        tokio::select! {
            biased;
            signal = serving.signals.next() => {
                if is_stopping {
                    break Cause::SecondSignal(signal);
                }
                let stop = serving.begin_stop(in_hand, "printed").await;
                stops_at = Some(if is_durable { Instant::now() + LAST_LINES_WAIT } else { stop });
            }
            () = until(stops_at) => break if is_durable { Cause::Stopped } else { Cause::TimeOver },
            written = finished(&mut printing), if printing.is_some() => {
                printing = None;
                if let Err(unwritten) = written {
                    return Ok(unwritten.end(serving).await);
                }
                in_hand = 0;
            }
            deliveries = inbox.recv_many(LINES_MAX), if printing.is_none() => {
                if deliveries.is_empty() {
                    // It is closed, and nothing is left in it.
                    break Cause::Stopped;
                }
                in_hand = deliveries.len();
                printing = Some(Box::pin(print(deliveries)));
            }
        }
    };
    Ok(serving.end_because(cause, in_hand, None).await)
}

async fn finished<T>(future: &mut UnderWay<T>) -> T {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

/// Messages whose lines were not written, and why.
struct Unwritten {
    deliveries: Vec<Delivery>,
    error: io::Error,
}

impl Unwritten {
    /// Ends the server, and says what becomes of them and of those that wait.
    async fn end(self, mut serving: Serving) -> Verdict {
        let count = self.deliveries.len() as u64;
        // Whoever waits for a reply is told that there is none.
        drop(self.deliveries);
        let lost = serving.end().await + count;
        let why = match self.error.kind() {
            io::ErrorKind::BrokenPipe => "the reader of the messages has gone away".to_owned(),
            _ => format!("cannot write to stdout: {}", self.error),
        };
        let fate = match serving.is_durable {
            true => "what it has not read is kept".to_owned(),
            false => lost_messages(lost),
        };
        log::error!(target: error::TARGET, "{why}; {fate}");
        Verdict::Refused
    }
}

/// Prints messages, and acknowledges those that are written.
async fn print(mut deliveries: Vec<Delivery>) -> Result<(), Unwritten> {
    let mut lines = String::new();
    let mut ends = Vec::with_capacity(deliveries.len());
    for delivery in &deliveries {
        lines += &line(delivery);
        ends.push(lines.len());
    }
    // Not on this thread: a reader that is slow must not keep a signal from being heard.
    let written = tokio::task::spawn_blocking(move || out::write_lines(lines.as_bytes())).await;
    let error = match written {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error),
        Err(error) => Some(WriteError { written: 0, error: io::Error::other(error) }),
    };
    let count = error.as_ref().map_or(ends.len(), |error| ends.partition_point(|end| *end <= error.written));
    let unwritten = deliveries.split_off(count);
    for result in join_all(deliveries.into_iter().map(Delivery::ack)).await {
        if let Err(error) = result {
            log::warn!("a message that was printed may be printed again: {error}");
        }
    }
    match error {
        None => Ok(()),
        Some(WriteError { error, .. }) => Err(Unwritten { deliveries: unwritten, error }),
    }
}

/// `{"id", "user", "at", "body"}`, the body as it was sent; with `redelivered` where it may have been printed before.
fn line(delivery: &Delivery) -> String {
    #[derive(serde::Serialize)]
    struct Line<'a> {
        id: String,
        user: &'a str,
        at: String,
        /// How often it was printed before, where it may have been.
        #[serde(skip_serializing_if = "is_first")]
        redelivered: u32,
        body: &'a RawValue,
    }
    let body: Result<&RawValue, _> = serde_json::from_str(delivery.body());
    let line = body.and_then(|body| {
        let (id, at) = (delivery.id().to_string(), rfc_3339(delivery.received_at()));
        let redelivered = delivery.redeliveries();
        serde_json::to_string(&Line { id, user: delivery.user(), at, redelivered, body })
    });
    // A body was checked before it was accepted; one with line breaks between its members is still one line.
    let line = line.unwrap_or_else(|_| json!({"id": delivery.id().to_string()}).to_string());
    line.replace(['\n', '\r'], " ") + "\n"
}

fn is_first(redelivered: &u32) -> bool {
    *redelivered == 0
}

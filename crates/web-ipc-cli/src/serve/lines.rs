//! Each message as a line of JSON on stdout.
//!
//! Messages are printed in batches. A batch is acknowledged when it is written, while the next one
//! is printed. When the server stops, a durable inbox keeps what was not acknowledged, and delivers
//! it again to the next server. Messages in memory are printed first.

use std::fmt::Write as _;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::time::{Duration, SystemTime};

use futures_util::future::FutureExt as _;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use ipc_base::chain;
use ipc_home::Timestamp;
use ipc_server::{Delivery, Inbox};
use serde_json::json;
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::ending::{Cause, Serving, lost_messages, until};
use super::limits::Limits;
use crate::error::{self, Failure, Verdict};
use crate::escape::JsonName;
use crate::out;
use crate::stdio::WriteError;

/// How long lines that are being printed when a signal comes may still take. Only with a durable
/// inbox, which delivers them again if they take longer.
const LAST_LINES_WAIT: Duration = Duration::from_secs(2);

/// The most lines that are printed and acknowledged together.
const LINES_MAX: usize = 512;

/// The most lines that are printed, or about to be, and not yet acknowledged. After a kill as many
/// may be printed again, marked as redelivered. One commit of the inbox acknowledges as many at
/// most: with 256, a backlog of a million was printed at half the rate at which it was sent.
const IN_HAND_MAX: usize = 2 * LINES_MAX;

/// Lines are written when they have this many bytes.
const WRITE_BYTES: usize = 256 * 1024;

/// Work that is going on, if there is any.
type UnderWay<T> = Option<Pin<Box<dyn Future<Output = T>>>>;

/// Prints each message as a line, or its body alone.
pub(super) async fn print_all(
    mut serving: Serving,
    mut limits: Limits,
    body_only: bool,
) -> Result<Verdict, Failure> {
    let (inbox, is_durable) = (serving.server.inbox().clone(), serving.is_durable);
    let mut receiving: UnderWay<Vec<Delivery>> = None;
    let mut printing: UnderWay<Printed> = None;
    let mut acknowledging = FuturesUnordered::new();
    // Messages that are about to be printed, or printed and not yet acknowledged.
    let mut in_hand = 0;
    let mut stops_at = None;
    let cause = loop {
        let is_stopping = stops_at.is_some();
        if is_stopping && is_durable && printing.is_none() && acknowledging.is_empty() {
            // The inbox keeps what is left.
            break Cause::Stopped;
        }
        if limits.is_reached() && printing.is_none() && acknowledging.is_empty() {
            return Ok(serving.end_counted().await);
        }
        if is_stopping && is_durable {
            // Messages that it has received are not delivered: the inbox has them again.
            receiving = None;
        } else if receiving.is_none()
            && printing.is_none()
            && in_hand <= IN_HAND_MAX - LINES_MAX
            && !limits.is_reached()
        {
            let count_max = usize::try_from(limits.left()).unwrap_or(usize::MAX).min(LINES_MAX);
            receiving = Some(Box::pin(next(inbox.clone(), count_max)));
        }
        let idle_at = limits.idle_at().filter(|_| {
            !is_stopping && !limits.is_reached() && printing.is_none() && acknowledging.is_empty()
        });
        tokio::select! {
            biased;
            signal = serving.next_signal() => {
                let Some(signal) = signal else { continue };
                if is_stopping {
                    break Cause::SecondSignal(signal);
                }
                let stop = serving.begin_stop(in_hand, "printed").await;
                stops_at = Some(if is_durable { Instant::now() + LAST_LINES_WAIT } else { stop });
            }
            () = until(stops_at) => break if is_durable { Cause::Stopped } else { Cause::TimeOver },
            Some(count) = acknowledging.next() => {
                in_hand -= count;
                limits.begin_anew();
            }
            printed = finished(&mut printing) => {
                printing = None;
                let Printed { written, unwritten } = printed;
                let mut acknowledgement = Box::pin(acknowledge(written));
                // Polled once here, so that it is begun even if this loop ends now.
                match acknowledgement.as_mut().now_or_never() {
                    Some(count) => {
                        in_hand -= count;
                        limits.begin_anew();
                    }
                    None => acknowledging.push(acknowledgement),
                }
                if let Some(unwritten) = unwritten {
                    drop(receiving);
                    return Ok(unwritten.end(serving).await);
                }
            }
            deliveries = finished(&mut receiving), if printing.is_none() => {
                receiving = None;
                if deliveries.is_empty() {
                    // The inbox is closed and empty.
                    break Cause::Stopped;
                }
                in_hand += deliveries.len();
                limits.take(deliveries.len() as u64);
                if limits.is_reached() {
                    // Nothing more is accepted that nobody would take.
                    serving.server.begin_stop();
                }
                printing = Some(Box::pin(print(deliveries, body_only)));
            }
            () = until(idle_at) => {
                limits.end_wait();
                let stop = serving.begin_stop(in_hand, "printed").await;
                stops_at = Some(if is_durable { Instant::now() + LAST_LINES_WAIT } else { stop });
            }
        }
    };
    drop(receiving);
    let verdict = serving.end_because(cause, in_hand, None).await;
    Ok(limits.verdict(verdict))
}

async fn next(inbox: Inbox, count_max: usize) -> Vec<Delivery> {
    inbox.recv_many(count_max).await
}

async fn finished<T>(future: &mut UnderWay<T>) -> T {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

/// Messages whose lines could not be written, and why.
struct Unwritten {
    deliveries: Vec<Delivery>,
    error: io::Error,
}

impl Unwritten {
    /// Ends the server, and logs what becomes of these messages and of those that wait.
    async fn end(self, mut serving: Serving) -> Verdict {
        let count = self.deliveries.len() as u64;
        // Senders that wait for a reply are told that there is none.
        drop(self.deliveries);
        let lost = serving.end().await + count;
        let why = match self.error.kind() {
            io::ErrorKind::BrokenPipe => "the reader of the messages has gone away".to_owned(),
            _ => format!("cannot write to stdout: {}", self.error),
        };
        let fate = match serving.is_durable {
            true => "the inbox keeps what it has not read".to_owned(),
            false => lost_messages(lost),
        };
        log::error!(target: error::TARGET, "{why}; {fate}");
        Verdict::Refused
    }
}

/// The result of printing a batch.
struct Printed {
    /// The messages whose lines were written.
    written: Vec<Delivery>,
    unwritten: Option<Unwritten>,
}

/// Prints messages.
async fn print(deliveries: Vec<Delivery>, body_only: bool) -> Printed {
    // On another thread: a slow reader must not delay the handling of a signal.
    match tokio::task::spawn_blocking(move || print_here(deliveries, body_only)).await {
        Ok(printed) => printed,
        // The thread has dropped the messages. A durable inbox delivers them again.
        Err(error) => Printed {
            written: Vec::new(),
            unwritten: Some(Unwritten { deliveries: Vec::new(), error: io::Error::other(error) }),
        },
    }
}

/// Prints messages on this thread, and waits while the reader is slow.
fn print_here(mut deliveries: Vec<Delivery>, body_only: bool) -> Printed {
    let on_terminal = out::is_terminal();
    let (mut lines, mut ends) = (Lines { body_only, ..Lines::default() }, Vec::new());
    let mut begun = 0;
    while begun < deliveries.len() {
        lines.text.clear();
        ends.clear();
        for delivery in &deliveries[begun..] {
            lines.add(delivery, on_terminal);
            ends.push(lines.text.len());
            if lines.text.len() >= WRITE_BYTES {
                break;
            }
        }
        if let Err(WriteError { written, error }) = out::write_lines(lines.text.as_bytes()) {
            let whole = ends.partition_point(|end| *end <= written);
            let unwritten = deliveries.split_off(begun + whole);
            return Printed {
                written: deliveries,
                unwritten: Some(Unwritten { deliveries: unwritten, error }),
            };
        }
        begun += ends.len();
    }
    Printed { written: deliveries, unwritten: None }
}

/// Acknowledges messages whose lines were written. Returns how many there were.
async fn acknowledge(written: Vec<Delivery>) -> usize {
    let count = written.len();
    for result in Delivery::ack_all(written).await {
        if let Err(error) = result {
            log::warn!("a message that was printed may be printed again: {}", chain(&error));
        }
    }
    count
}

/// Lines of messages. Consecutive messages often have the same user and time, so the text of both
/// is kept.
#[derive(Default)]
struct Lines {
    text: String,
    /// Whether a line is the body alone.
    body_only: bool,
    user: Option<(String, String)>,
    peer: Option<(String, String)>,
    at: Option<(SystemTime, String)>,
}

impl Lines {
    /// Adds a line `{"id", "user", "at", "body"}` with the body as it was sent, and with
    /// `redelivered` if the message may have been printed before.
    fn add(&mut self, delivery: &Delivery, on_terminal: bool) {
        let start = self.text.len();
        // The server has checked the body. If somebody has changed it in the inbox's file, the line
        // must still be JSON.
        let body = serde_json::from_str::<&RawValue>(delivery.body());
        let user = json_name(&mut self.user, delivery.user());
        let peer = delivery.peer().map(|peer| json_name(&mut self.peer, peer)).transpose();
        if let (Ok(body), true) = (&body, self.body_only) {
            self.text += &body.get().replace(['\n', '\r'], " ");
            self.text.push('\n');
        } else if let (Ok(body), Ok(user), Ok(peer)) = (body, user, peer) {
            let at = self.at.take().filter(|(at, _)| *at == delivery.received_at());
            let at = at.unwrap_or_else(|| {
                let at = delivery.received_at();
                // Always three digits, so that the text sorts by time.
                (at, format!("{:.3}", Timestamp::from(at)))
            });
            let (text, id) = (&mut self.text, delivery.id());
            let _never_fails = write!(text, r#"{{"id":"{id}","user":{user},"#);
            if let Some(peer) = peer {
                let _never_fails = write!(text, r#""peer":{peer},"#);
            }
            let _never_fails = write!(text, r#""at":"{}","#, at.1);
            if delivery.redeliveries() > 0 {
                let _never_fails = write!(text, r#""redelivered":{},"#, delivery.redeliveries());
            }
            *text += r#""body":"#;
            // Line breaks between the members of the object must not break the line.
            match body.get().bytes().all(|byte| byte != b'\n' && byte != b'\r') {
                true => *text += body.get(),
                false => *text += &body.get().replace(['\n', '\r'], " "),
            }
            *text += "}\n";
            self.at = Some(at);
        } else {
            self.text += &json!({"id": delivery.id().to_string()}).to_string();
            self.text += "\n";
        }
        if on_terminal {
            let shown = out::json_as_shown(&self.text[start..], on_terminal).into_owned();
            self.text.replace_range(start.., &shown);
        }
    }
}

/// A name as JSON has it. `last` has the one of the line before, which is usually the same.
fn json_name<'a>(
    last: &'a mut Option<(String, String)>,
    name: &str,
) -> serde_json::Result<&'a str> {
    if last.as_ref().is_none_or(|(last, _)| last != name) {
        *last = Some((name.to_owned(), serde_json::to_string(&JsonName(name))?));
    }
    Ok(last.as_ref().map_or("", |(_, json)| json))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipc_inbox::Message;
    use ipc_protocol::MessageId;

    /// Messages that were sent and received: by whom, from which peer, when, and their bodies.
    async fn delivered(sent: &[(&str, Option<&str>, u64, &str)]) -> Vec<Delivery> {
        let (sender, inbox) = Inbox::memory().build();
        for (number, (user, peer, millis, body)) in (1..).zip(sent) {
            let message = Message {
                id: MessageId::from_random([number; 16]),
                user: (*user).into(),
                certificate: None,
                peer: peer.map(Into::into),
                received_at: SystemTime::UNIX_EPOCH + Duration::from_millis(*millis),
                body: (*body).into(),
                wants_reply: false,
            };
            sender.put(message, Duration::ZERO).await.unwrap();
        }
        inbox.recv_many(sent.len()).await
    }

    #[tokio::test]
    async fn each_message_is_a_line_whatever_stood_in_the_one_before() {
        let deliveries = delivered(&[
            ("a", None, 0, r#"{"n":1.50}"#),
            ("a", Some("worker1"), 0, "{\r\n \"n\": \"\\n\"}"),
            ("b \"c\"", Some("worker1"), 1, "{}"),
            ("b \"c\"", Some("worker1"), 2, "no JSON"),
            ("a", None, 2, "{}"),
            ("a", Some("w\"\u{202e}"), 2, "{}"),
        ])
        .await;
        let mut lines = Lines::default();
        deliveries.iter().for_each(|delivery| lines.add(delivery, false));
        let id = |number: usize| deliveries[number].id();
        let expected = [
            format!(
                r#"{{"id":"{}","user":"a","at":"1970-01-01T00:00:00.000Z","body":{{"n":1.50}}}}"#,
                id(0)
            ),
            format!(
                r#"{{"id":"{}","user":"a","peer":"worker1","at":"1970-01-01T00:00:00.000Z","body":{{   "n": "\n"}}}}"#,
                id(1)
            ),
            format!(
                r#"{{"id":"{}","user":"b \"c\"","peer":"worker1","at":"1970-01-01T00:00:00.001Z","body":{{}}}}"#,
                id(2)
            ),
            format!(r#"{{"id":"{}"}}"#, id(3)),
            format!(
                r#"{{"id":"{}","user":"a","at":"1970-01-01T00:00:00.002Z","body":{{}}}}"#,
                id(4)
            ),
            format!(
                r#"{{"id":"{}","user":"a","peer":"w\"\u202e","at":"1970-01-01T00:00:00.002Z","body":{{}}}}"#,
                id(5)
            ),
        ];
        assert_eq!(lines.text.lines().collect::<Vec<_>>(), expected);
        for line in lines.text.lines() {
            serde_json::from_str::<&RawValue>(line).unwrap();
        }
    }

    #[tokio::test]
    async fn a_body_alone_is_a_line_too() {
        let deliveries = delivered(&[
            ("a", None, 0, "{\r\n \"n\": \"\\n\"}"),
            ("b", Some("worker1"), 1, r#"{"n":1.50}"#),
            ("b", None, 2, "no JSON"),
        ])
        .await;
        let mut lines = Lines { body_only: true, ..Lines::default() };
        deliveries.iter().for_each(|delivery| lines.add(delivery, false));
        let id = deliveries[2].id();
        assert_eq!(
            lines.text,
            format!("{{   \"n\": \"\\n\"}}\n{{\"n\":1.50}}\n{{\"id\":\"{id}\"}}\n")
        );
    }

    #[tokio::test]
    async fn on_a_terminal_a_line_shows_what_a_terminal_would_obey() {
        let deliveries =
            delivered(&[("a", None, 0, "{\"x\":\"\u{202e}\"}"), ("a", None, 0, "{}")]).await;
        let mut lines = Lines::default();
        deliveries.iter().for_each(|delivery| lines.add(delivery, true));
        assert!(
            lines.text.contains(r#""body":{"x":"\u202e"}"#)
                && lines.text.ends_with("\"body\":{}}\n"),
            "{}",
            lines.text
        );
    }
}

//! Each message as a line of JSON on stdout.
//!
//! Some are printed together, and acknowledged when they are written, while the next are printed.
//! What was not acknowledged when the server stops is kept by a durable inbox and handed out again;
//! one in memory is printed first.

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
use crate::error::{self, Failure, Verdict};
use crate::escape::JsonName;
use crate::out;
use crate::stdio::WriteError;

/// How long the lines under way when a signal comes may still take, where they come again if they
/// take longer.
const LAST_LINES_WAIT: Duration = Duration::from_secs(2);

/// Lines that are printed, and acknowledged, together.
const LINES_MAX: usize = 512;

/// Lines that are printed, or about to be, and not yet acknowledged: so many may come again,
/// marked, after the process was killed. One commit of the inbox acknowledges no more of them: with
/// 256 in hand a backlog of a million came out at half the rate at which it was sent.
const IN_HAND_MAX: usize = 2 * LINES_MAX;

/// Lines are written once there are so many bytes of them.
const WRITE_BYTES: usize = 256 * 1024;

/// Something under way, of which there may be none.
type UnderWay<T> = Option<Pin<Box<dyn Future<Output = T>>>>;

/// Prints each message as a line.
pub(super) async fn print_all(mut serving: Serving) -> Result<Verdict, Failure> {
    let (inbox, is_durable) = (serving.server.inbox().clone(), serving.is_durable);
    let mut receiving: UnderWay<Vec<Delivery>> = None;
    let mut printing: UnderWay<Printed> = None;
    let mut acknowledging = FuturesUnordered::new();
    // Printed, about to be, or printed and not yet acknowledged.
    let mut in_hand = 0;
    let mut stops_at = None;
    let cause = loop {
        let is_stopping = stops_at.is_some();
        if is_stopping && is_durable && printing.is_none() && acknowledging.is_empty() {
            // It keeps what is left.
            break Cause::Stopped;
        }
        if is_stopping && is_durable {
            // What it may have is handed out to nobody.
            receiving = None;
        } else if receiving.is_none() && printing.is_none() && in_hand <= IN_HAND_MAX - LINES_MAX {
            receiving = Some(Box::pin(next(inbox.clone())));
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
            Some(count) = acknowledging.next() => in_hand -= count,
            printed = finished(&mut printing) => {
                printing = None;
                let Printed { written, unwritten } = printed;
                let mut acknowledgement = Box::pin(acknowledge(written));
                // Begun at once: whatever ends this loop, it is on its way.
                match acknowledgement.as_mut().now_or_never() {
                    Some(count) => in_hand -= count,
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
                    // It is closed, and nothing is left in it.
                    break Cause::Stopped;
                }
                in_hand += deliveries.len();
                printing = Some(Box::pin(print(deliveries)));
            }
        }
    };
    drop(receiving);
    Ok(serving.end_because(cause, in_hand, None).await)
}

async fn next(inbox: Inbox) -> Vec<Delivery> {
    inbox.recv_many(LINES_MAX).await
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

/// What became of messages that were to be printed.
struct Printed {
    /// Those whose lines are written.
    written: Vec<Delivery>,
    unwritten: Option<Unwritten>,
}

/// Prints messages.
async fn print(deliveries: Vec<Delivery>) -> Printed {
    // Not on this thread: a reader that is slow must not keep a signal from being heard.
    match tokio::task::spawn_blocking(move || print_here(deliveries)).await {
        Ok(printed) => printed,
        // They have gone with it, and come again from a durable inbox.
        Err(error) => Printed {
            written: Vec::new(),
            unwritten: Some(Unwritten { deliveries: Vec::new(), error: io::Error::other(error) }),
        },
    }
}

/// Prints messages, and waits for their reader.
fn print_here(mut deliveries: Vec<Delivery>) -> Printed {
    let on_terminal = out::is_terminal();
    let (mut lines, mut ends) = (Lines::default(), Vec::new());
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

/// Acknowledges messages that are written. Returns how many there were.
async fn acknowledge(written: Vec<Delivery>) -> usize {
    let count = written.len();
    for result in Delivery::ack_all(written).await {
        if let Err(error) = result {
            log::warn!("a message that was printed may be printed again: {}", chain(&error));
        }
    }
    count
}

/// Lines of messages, and what many of them have in common: their user, their peer, and the time at
/// which they came.
#[derive(Default)]
struct Lines {
    text: String,
    user: Option<(String, String)>,
    peer: Option<(String, String)>,
    at: Option<(SystemTime, String)>,
}

impl Lines {
    /// `{"id", "user", "peer", "at", "body"}`, the body as it was sent; without `peer` where the
    /// sender showed no certificate, and with `redelivered` where it may have been printed before.
    fn add(&mut self, delivery: &Delivery, on_terminal: bool) {
        let start = self.text.len();
        // A body was checked before it was accepted; whoever changed it in the file gets no line
        // that is none.
        let body = serde_json::from_str::<&RawValue>(delivery.body());
        let user = json_name(&mut self.user, delivery.user());
        let peer = delivery.peer().map(|peer| json_name(&mut self.peer, peer)).transpose();
        if let (Ok(body), Ok(user), Ok(peer)) = (body, user, peer) {
            let at = self.at.take().filter(|(at, _)| *at == delivery.received_at());
            let at = at.unwrap_or_else(|| {
                let at = delivery.received_at();
                // Always three digits, so that text sorts as time does.
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
            // With line breaks between its members it is still one line.
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

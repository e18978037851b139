//! `web-ipc --serve`: a server whose messages go to stdout, a JSON line each, or to a command, one each.
//!
//! It uses the public libraries alone. A message is acknowledged when its line has been written, or its command has ended
//! well. How it starts and how it ends is here; what becomes of messages in between is in `serve/lines.rs` and
//! `serve/jobs.rs`.

mod command;
mod jobs;
mod lines;

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, SystemTime};

use ipc_home::locate;
use ipc_server::{Inbox, InboxChoice, Server};
use time::OffsetDateTime;
use tokio::time::Instant;

use crate::args::{InboxKind, Serve};
use crate::error::{self, Failure, Verdict};
use crate::home::{self, peer_name};
use crate::out::counted;
use crate::signals::{self, EndSignal, EndSignals};

/// How long a durable inbox leaves a message with this process. What prints or runs here is never handed out a second time
/// while it is at work, however long that takes; what was let go, or left by a process that ended, comes again at once.
const VISIBILITY_TIMEOUT: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// How often a durable inbox hands a message out, unless the user says otherwise.
const TRIES: u16 = 10;

/// How long the end of connections is waited for once all is done.
const CONNECTIONS_WAIT: Duration = Duration::from_secs(5);

/// How long the inbox may take to close its file when the end is to come at once.
const DISK_WAIT: Duration = Duration::from_secs(1);

/// Serves until it is told to stop, or nobody reads its lines any more.
pub(crate) fn run(explicit_home: Option<&Path>, serve: &Serve) -> Result<Verdict, Failure> {
    let name = peer_name(&serve.name)?;
    let home = home::open_or_make(&locate(explicit_home)?)?;
    let unready = |error| Failure::of(&error, None).while_doing("cannot listen for signals");
    let runtime = signals::runtime().map_err(unready)?;
    let tries = serve.tries.unwrap_or(TRIES);
    let result = runtime.block_on(async {
        let signals = EndSignals::watch().map_err(unready)?;
        let inbox: InboxChoice = match serve.inbox {
            InboxKind::Memory => Inbox::memory().into(),
            InboxKind::Durable => {
                Inbox::durable().visibility_timeout(VISIBILITY_TIMEOUT).tries_max(u32::from(tries)).into()
            }
        };
        let stop_within = Duration::from_secs(u64::from(serve.stop_within_secs));
        let server = Server::builder(&home)
            .name(name)
            .bind(SocketAddr::new(serve.ip, serve.port))
            .protocol(serve.protocol)
            .inbox(inbox)
            .raise_open_files_limit()
            // The end of that time is seen to here: nobody is cut off before.
            .stop_timeout(stop_within + CONNECTIONS_WAIT)
            .start()
            .await?;
        let serving = Serving { server, signals, is_durable: serve.inbox == InboxKind::Durable, stop_within };
        match &serve.exec {
            None => lines::print_all(serving).await,
            Some(command) => {
                let job = jobs::Job::new(command, home.root(), serving.is_durable.then_some(tries));
                jobs::run_all(serving, job, serve.jobs).await
            }
        }
    });
    // A write that nobody reads would be waited for for ever.
    runtime.shutdown_background();
    result
}

/// A server at work, and what is known of its end.
struct Serving {
    server: Server,
    signals: EndSignals,
    is_durable: bool,
    stop_within: Duration,
}

/// Why a server ends.
enum Cause {
    /// It was told to, and all that it had to do is done.
    Stopped,
    /// It was told to a second time.
    SecondSignal(EndSignal),
    /// It was told to, and the time for it is over.
    TimeOver,
}

impl Serving {
    /// Takes no further message from now on, and tells what there is left to do. `in_hand` are messages that were taken from
    /// the inbox, `deal` says what becomes of them. Returns when that must be done.
    async fn begin_stop(&self, in_hand: usize, deal: &str) -> Instant {
        self.server.begin_stop();
        let left = in_hand as u64
            + match self.is_durable {
                true => 0,
                false => self.server.inbox().waiting().await,
            };
        if left > 0 {
            let (place, fate) = match self.is_durable {
                true => ("in hand", "comes again"),
                false => ("acknowledged and in memory", "is lost"),
            };
            let (messages, are) = (counted(left, "message"), is_or_are(left));
            let secs = self.stop_within.as_secs();
            log::info!(
                "stopping: {messages} {place} {are} {deal} first, for {secs} s at most (--stopWithin); a second signal ends \
                 that at once, and what is left {fate}"
            );
        }
        Instant::now() + self.stop_within
    }

    /// Ends it all. Whoever waits for a reply hears that there is none now. Returns how many messages are lost with the inbox.
    async fn end(&mut self) -> u64 {
        self.server.begin_stop();
        let inbox = self.server.inbox().clone();
        let left = inbox.finish().await;
        tokio::select! {
            _ = tokio::time::timeout(CONNECTIONS_WAIT, self.server.stop()) => {}
            _ = self.signals.next() => {}
        }
        if self.is_durable { 0 } else { left }
    }

    /// Ends it, and says what that does to the messages in hand and to those that wait. `ended` is what was ended of what was
    /// being done, as `2 commands`.
    async fn end_because(&mut self, cause: Cause, in_hand: usize, ended: Option<String>) -> Verdict {
        if let Cause::Stopped = cause {
            self.end().await;
            return Verdict::Done;
        }
        // At once: nobody's connection is waited for, nor for long a disk.
        self.server.begin_stop();
        let inbox = self.server.inbox().clone();
        let left = tokio::time::timeout(DISK_WAIT, inbox.finish()).await.unwrap_or_default();
        let lost = if self.is_durable { 0 } else { left + in_hand as u64 };
        let why = match cause {
            Cause::SecondSignal(_) => "ended by a second signal".to_owned(),
            _ => format!("ended, as a stop may take {} s (--stopWithin)", self.stop_within.as_secs()),
        };
        let ended = ended.map(|ended| format!("; {ended} ended with it")).unwrap_or_default();
        let messages = match (self.is_durable, in_hand) {
            (true, 0) => String::new(),
            (true, _) => {
                format!("; {} in hand: what had a try left comes again", counted(in_hand, "message"))
            }
            (false, _) => format!("; {}", lost_messages(lost)),
        };
        log::error!(target: error::TARGET, "{why}{ended}{messages}");
        match cause {
            Cause::SecondSignal(signal) => Verdict::Interrupted(signal),
            _ if lost > 0 => Verdict::Refused,
            _ => Verdict::Done,
        }
    }
}

/// What became of messages in memory.
fn lost_messages(lost: u64) -> String {
    let remedy = if lost > 0 { "; --inbox durable keeps them" } else { "" };
    format!("{} {} lost{remedy}", counted(lost, "message"), is_or_are(lost))
}

fn is_or_are(count: u64) -> &'static str {
    if count == 1 { "is" } else { "are" }
}

/// Waits until a time that may not be set.
async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// RFC 3339 in UTC, with always three digits of the second's fraction, so that text sorts as time does.
pub(crate) fn rfc_3339(time: SystemTime) -> String {
    let time = OffsetDateTime::from(time);
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
        time.year(),
        u8::from(time.month()),
        time.day(),
        time.hour(),
        time.minute(),
        time.second(),
        time.millisecond()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;

    #[test]
    fn times_are_utc_with_milliseconds() {
        assert_eq!(
            rfc_3339(UNIX_EPOCH + Duration::from_millis(1_742_413_130_608)),
            "2025-03-19T19:38:50.608Z"
        );
        assert_eq!(rfc_3339(UNIX_EPOCH + Duration::from_micros(1_500)), "1970-01-01T00:00:00.001Z");
        assert_eq!(rfc_3339(UNIX_EPOCH), "1970-01-01T00:00:00.000Z");
    }
}

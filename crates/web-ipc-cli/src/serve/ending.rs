//! The end of a server: in good order after a signal, by a second signal, or when the time for a
//! stop is over; and what becomes of the messages that are left. A signal may also have it read its
//! configuration again.
//!
//! `lines.rs` and `jobs.rs` come here with the number of messages that they have in hand.

use std::time::Duration;

use ipc_server::Server;
use tokio::time::Instant;

use super::manager::ServiceManager;
use super::reload::Running;
use crate::error::{self, Verdict};
use crate::plural::counted;
use crate::signals::{EndSignal, EndSignals, Told};

/// How long a stop waits for connections to close when all messages are dealt with.
pub(super) const CONNECTIONS_WAIT: Duration = Duration::from_secs(5);

/// How long the inbox may take to close its file when the server must end at once.
const DISK_WAIT: Duration = Duration::from_secs(1);

/// A running server, and how it may end.
pub(super) struct Serving {
    pub(super) server: Server,
    pub(super) manager: ServiceManager,
    pub(super) signals: EndSignals,
    pub(super) is_durable: bool,
    pub(super) drain: Drain,
    pub(super) stop_within: Duration,
    /// The command of `--exec`, and how many of it run at once.
    pub(super) command: Option<(String, u16)>,
    pub(super) running: Running,
}

/// How long the server goes on after the first signal.
pub(super) struct Drain {
    /// Zero once it has begun.
    time: Duration,
    has_begun: bool,
    /// The signal that began it, and when it ends.
    begun: Option<(EndSignal, Instant)>,
}

impl Drain {
    pub(super) fn new(time: Duration) -> Self {
        Drain { time, has_begun: false, begun: None }
    }

    /// Another time, unless it has begun.
    fn change(&mut self, time: Duration) {
        if !self.has_begun {
            self.time = time;
        }
    }
}

/// Why a server ends.
pub(super) enum Cause {
    /// A signal stopped it, and everything in hand is done.
    Stopped,
    /// A second signal came.
    SecondSignal(EndSignal),
    /// The time for the stop is over.
    TimeOver,
}

impl Serving {
    /// Waits for the next signal. The first one, if the server drains, counts from the end of that
    /// time on; another signal counts at once. `None` if the configuration was reloaded instead.
    /// May be dropped and called again at any time.
    pub(super) async fn next_signal(&mut self) -> Option<EndSignal> {
        loop {
            let until_drained = self.drain.begun.map(|(_, until)| until);
            let signal = tokio::select! {
                told = self.signals.next_told() => match told {
                    Told::End(signal) => signal,
                    Told::Reload => {
                        self.reload();
                        return None;
                    }
                },
                () = until(until_drained) => self.drain.begun.expect("it has an end").0,
            };
            self.drain.begun = None;
            self.drain.has_begun = true;
            let time = std::mem::take(&mut self.drain.time);
            if time.is_zero() {
                return Some(signal);
            }
            self.server.begin_drain();
            let secs = time.as_secs();
            log::info!("stopping in {secs} s (--drain); another signal begins the stop at once");
            self.drain.begun = Some((signal, Instant::now() + time));
        }
    }

    /// Reads the configuration again, and does what takes effect without a restart.
    fn reload(&mut self) {
        self.manager.reloading();
        match self.running.reload() {
            Err(fault) => {
                log::error!(
                    "the configuration was not reloaded, and nothing has changed: {}",
                    fault.sentence()
                );
            }
            Ok(new) => {
                if new.has("drain") {
                    self.drain.change(Duration::from_secs(u64::from(new.serve.drain_secs)));
                }
                if new.has("exec") || new.has("jobs") {
                    self.command = new.serve.exec.clone().map(|exec| (exec, new.serve.jobs));
                }
                let told = new.told();
                match new.waiting.is_empty() {
                    true => log::info!("{told}"),
                    false => log::warn!("{told}"),
                }
                crate::log::change(new.log);
            }
        }
        self.manager.reloaded();
    }

    /// Refuses further messages from now on, and logs how many are left. `in_hand` is the number of
    /// messages that were taken from the inbox, and `deal` says what is done with those that are
    /// left. Returns the time by which that must be done.
    pub(super) async fn begin_stop(&self, in_hand: usize, deal: &str) -> Instant {
        self.manager.stopping();
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

    /// Ends the server. Senders that wait for a reply are told that there is none. Returns how many
    /// messages are lost with the inbox.
    pub(super) async fn end(&mut self) -> u64 {
        self.server.begin_stop();
        let left = self.server.finish_inbox().await;
        tokio::select! {
            _ = tokio::time::timeout(CONNECTIONS_WAIT, self.server.stop()) => {}
            () = self.signals.next_end() => {}
        }
        if self.is_durable { 0 } else { left }
    }

    /// Ends the server after as many messages as were asked for. Those that were accepted behind
    /// them are lost from memory.
    pub(super) async fn end_counted(&mut self) -> Verdict {
        let lost = self.end().await;
        if lost == 0 {
            return Verdict::Done;
        }
        log::error!(
            target: error::TARGET,
            "as many messages came as --count says; {}",
            lost_messages(lost)
        );
        Verdict::Refused
    }

    /// Ends the server, and logs what becomes of the messages in hand and of those that wait.
    /// `ended` names the work that is cut off, as `2 commands`.
    pub(super) async fn end_because(
        &mut self,
        cause: Cause,
        in_hand: usize,
        ended: Option<String>,
    ) -> Verdict {
        if let Cause::Stopped = cause {
            self.end().await;
            return Verdict::Done;
        }
        // At once: without waiting for connections, and not for long for the disk.
        self.server.begin_stop();
        let finished = tokio::time::timeout(DISK_WAIT, self.server.finish_inbox()).await;
        let left = finished.unwrap_or_default();
        let lost = if self.is_durable { 0 } else { left + in_hand as u64 };
        let why = match cause {
            Cause::SecondSignal(_) => "ended by a second signal".to_owned(),
            _ => {
                format!("ended after {} s (--stopWithin)", self.stop_within.as_secs())
            }
        };
        let ended = ended.map(|ended| format!("; {ended} ended with it")).unwrap_or_default();
        let messages = match (self.is_durable, in_hand) {
            (true, 0) => String::new(),
            (true, _) => {
                format!(
                    "; {} in hand: all but those on their last try are delivered again",
                    counted(in_hand, "message")
                )
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

/// What is logged of lost messages.
pub(super) fn lost_messages(lost: u64) -> String {
    let remedy = if lost > 0 { "; --inbox durable keeps them" } else { "" };
    format!("{} {} lost{remedy}", counted(lost, "message"), is_or_are(lost))
}

fn is_or_are(count: u64) -> &'static str {
    if count == 1 { "is" } else { "are" }
}

/// Waits until a time, or for ever if there is none.
pub(super) async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

//! When a server ends by itself: after so many messages, or when none comes any more.
//!
//! `lines.rs` and `jobs.rs` count here what they take from the inbox.

use std::time::Duration;

use tokio::time::Instant;

use crate::error::{self, Verdict};
use crate::plural::counted;
use crate::status::Status;

/// `--count` and `--timeout`.
pub(super) struct Limits {
    count: Option<u64>,
    wait: Option<Duration>,
    taken: u64,
    /// When the last message was taken, or the server began.
    last_at: Instant,
    /// Whether the wait for a message has ended the server.
    has_ended: bool,
}

impl Limits {
    pub(super) fn new(count: Option<u64>, wait: Option<Duration>) -> Self {
        Limits { count, wait, taken: 0, last_at: Instant::now(), has_ended: false }
    }

    /// How many messages may still be taken.
    pub(super) fn left(&self) -> u64 {
        self.count.map_or(u64::MAX, |count| count.saturating_sub(self.taken))
    }

    /// Whether all messages were taken.
    pub(super) fn is_reached(&self) -> bool {
        self.left() == 0
    }

    /// Counts messages that were taken.
    pub(super) fn take(&mut self, messages: u64) {
        self.taken += messages;
        self.last_at = Instant::now();
    }

    /// Begins the wait for a message anew, as when one was worked on until now.
    pub(super) fn begin_anew(&mut self) {
        self.last_at = Instant::now();
    }

    /// When the server ends if no message comes.
    pub(super) fn idle_at(&self) -> Option<Instant> {
        self.wait.map(|wait| self.last_at + wait)
    }

    /// Logs that no message has come for so long.
    pub(super) fn end_wait(&mut self) {
        self.has_ended = true;
        let secs = self.wait.unwrap_or_default().as_secs();
        log::info!("stopping: no message has come for {secs} s (--timeout)");
    }

    /// How the command ends that would otherwise be done.
    pub(super) fn verdict(&self, done: Verdict) -> Verdict {
        match (done, self.count) {
            (Verdict::Done, Some(count)) if !self.is_reached() => {
                let secs = self.wait.unwrap_or_default().as_secs();
                let why = match self.has_ended {
                    true => format!("and then none for {secs} s (--timeout)"),
                    false => "before it was stopped".to_owned(),
                };
                log::error!(
                    target: error::TARGET,
                    "{} came, of {count} (--count), {why}",
                    counted(self.taken, "message")
                );
                Verdict::Partly(Status::TryLater)
            }
            _ => done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_server_without_limits_takes_any_number_and_waits_for_ever() {
        let mut limits = Limits::new(None, None);
        limits.take(u64::MAX - 1);
        assert!(!limits.is_reached() && limits.idle_at().is_none());
        assert_eq!(limits.verdict(Verdict::Done), Verdict::Done);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_before_all_messages_came_is_no_success() {
        let mut limits = Limits::new(Some(100), None);
        limits.take(3);
        assert_eq!(limits.verdict(Verdict::Done), Verdict::Partly(Status::TryLater));
        assert_eq!(limits.verdict(Verdict::Refused), Verdict::Refused);
        limits.take(97);
        assert_eq!(limits.verdict(Verdict::Done), Verdict::Done);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_begins_anew_with_each_message_and_its_end_counts_what_is_missing() {
        let wait = Duration::from_secs(5);
        let mut limits = Limits::new(Some(3), Some(wait));
        tokio::time::sleep(wait / 2).await;
        limits.take(2);
        assert_eq!((limits.left(), limits.idle_at()), (1, Some(Instant::now() + wait)));
        tokio::time::sleep(wait / 2).await;
        limits.begin_anew();
        assert_eq!(limits.idle_at(), Some(Instant::now() + wait));
        limits.end_wait();
        assert_eq!(limits.verdict(Verdict::Done), Verdict::Partly(Status::TryLater));
        assert_eq!(limits.verdict(Verdict::Refused), Verdict::Refused);
        limits.take(1);
        assert!(limits.is_reached());
        assert_eq!(limits.verdict(Verdict::Done), Verdict::Done);
    }
}

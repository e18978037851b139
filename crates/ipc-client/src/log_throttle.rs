//! Limits how often the client logs what it waits for.
//!
//! All waits for a peer in this crate use it. A client logs one wait in five seconds, however many
//! messages wait, since they usually wait for the same.

use std::cell::Cell;
use std::time::Duration;

use tokio::time::Instant;

/// The longest time without a log line while the client waits.
pub(crate) const SAY_EVERY: Duration = Duration::from_secs(5);

/// When the client last logged what it waits for.
#[derive(Debug, Default)]
pub(crate) struct LogThrottle {
    said_at: Cell<Option<Instant>>,
}

impl LogThrottle {
    /// The level of the next line: info if a line is due, else debug.
    pub(crate) fn level(&self, now: Instant) -> log::Level {
        match self.said_at.get() {
            Some(said_at) if now < said_at + SAY_EVERY => log::Level::Debug,
            _ => {
                self.said_at.set(Some(now));
                log::Level::Info
            }
        }
    }

    /// Like [`level`](LogThrottle::level), for a wait since `begun_at`. A short wait gets the level
    /// trace.
    pub(crate) fn level_after(&self, begun_at: Instant, now: Instant) -> log::Level {
        if now < begun_at + SAY_EVERY { log::Level::Trace } else { self.level(now) }
    }
}

/// The time in seconds, such as `12 s`, rounded, or `0.4 s` if it is shorter than a second.
pub(crate) fn seconds(time: Duration) -> String {
    match time.as_secs_f64() {
        secs if secs < 1.0 => format!("{secs:.1} s"),
        secs => format!("{secs:.0} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::SendError;

    #[test]
    fn one_line_is_shown_in_five_seconds() {
        let (progress, start) = (LogThrottle::default(), Instant::now());
        let shown = |secs| progress.level(start + Duration::from_secs(secs)) == log::Level::Info;
        assert_eq!(
            [0, 0, 4, 5, 6, 9, 10, 30].map(shown),
            [true, false, false, true, false, false, true, true]
        );
    }

    #[test]
    fn times_and_errors_are_told_in_full() {
        assert_eq!(seconds(Duration::from_millis(430)), "0.4 s");
        assert_eq!(seconds(Duration::from_millis(29_700)), "30 s");
        let refused = std::io::Error::other("connection refused");
        let error =
            SendError::Unreachable { address: "a:1".into(), source: std::sync::Arc::new(refused) };
        let error = SendError::LoginFailed { last: Box::new(error) };
        assert_eq!(
            ipc_base::chain(&error).to_string(),
            "the login failed: no connection to a:1 could be made: connection refused"
        );
    }
}

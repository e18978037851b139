//! Counts failed logins, so that a password cannot be tried for long. The time is an argument.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ipc_protocol::Fingerprint;

/// How long failures count.
const WINDOW: Duration = Duration::from_secs(60);

/// How many pairs of peer and user are watched at most. Each failure costs a bcrypt of some hundred milliseconds,
/// so that no peer gets this far within a window; where many do, nobody new logs in for the rest of it.
const WATCHED_MAX: usize = 10_000;

/// Who tries: a certificate, or over plain http an address. A peer that fails keeps nobody else out, not even from
/// the same user's account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Source {
    /// The certificate's fingerprint.
    Certificate(Fingerprint),
    /// The peer's address.
    Address(IpAddr),
}

/// The failed logins of the last minute.
#[derive(Debug)]
pub(crate) struct Attempts {
    failures_max: u32,
    failed: Mutex<HashMap<(Source, Box<str>), Failures>>,
}

#[derive(Debug)]
struct Failures {
    count: u32,
    since: Instant,
}

impl Failures {
    fn wait(&self, now: Instant) -> Option<Duration> {
        WINDOW.checked_sub(now.saturating_duration_since(self.since)).filter(|wait| !wait.is_zero())
    }
}

impl Attempts {
    /// Lets `failures_max` logins fail within a minute, for each peer and user name.
    pub(crate) fn new(failures_max: u32) -> Self {
        Attempts { failures_max, failed: Mutex::default() }
    }

    /// Whether a login may be tried.
    ///
    /// # Errors
    /// How long to wait before the next one.
    pub(crate) fn check(&self, source: Source, username: &str, now: Instant) -> Result<(), Duration> {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        match failed.get(&(source, username.into())) {
            Some(failures) => match failures.wait(now) {
                Some(wait) if failures.count >= self.failures_max => Err(wait),
                _ => Ok(()),
            },
            None if failed.len() < WATCHED_MAX => Ok(()),
            None => {
                failed.retain(|_, failures| failures.wait(now).is_some());
                if failed.len() < WATCHED_MAX { Ok(()) } else { Err(WINDOW) }
            }
        }
    }

    /// Notes a login that failed.
    pub(crate) fn failed(&self, source: Source, username: &str, now: Instant) {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let failures = failed.entry((source, username.into())).or_insert(Failures { count: 0, since: now });
        if failures.wait(now).is_none() {
            *failures = Failures { count: 0, since: now };
        }
        failures.count += 1;
    }

    /// Notes a login that succeeded: what failed before no longer counts.
    pub(crate) fn succeeded(&self, source: Source, username: &str) {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).remove(&(source, username.into()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Source = Source::Address(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST));
    const THERE: Source = Source::Certificate(Fingerprint::from_bytes([1; 32]));

    #[test]
    fn after_the_last_failure_allowed_one_waits_for_the_rest_of_the_minute() {
        let (attempts, start) = (Attempts::new(3), Instant::now());
        for _ in 0..3 {
            assert_eq!(attempts.check(HERE, "a", start), Ok(()));
            attempts.failed(HERE, "a", start);
        }
        assert_eq!(attempts.check(HERE, "a", start + Duration::from_secs(20)), Err(Duration::from_secs(40)));
        assert_eq!(attempts.check(HERE, "a", start + WINDOW), Ok(()));
        attempts.failed(HERE, "a", start + WINDOW);
        assert_eq!(attempts.check(HERE, "a", start + WINDOW), Ok(()), "counting begins anew");
    }

    #[test]
    fn another_peer_and_another_user_are_not_kept_out() {
        let (attempts, now) = (Attempts::new(1), Instant::now());
        attempts.failed(HERE, "a", now);
        assert!(attempts.check(HERE, "a", now).is_err());
        assert_eq!(attempts.check(THERE, "a", now), Ok(()));
        assert_eq!(attempts.check(HERE, "b", now), Ok(()));
    }

    #[test]
    fn a_login_that_succeeds_clears_what_failed() {
        let (attempts, now) = (Attempts::new(2), Instant::now());
        attempts.failed(HERE, "a", now);
        attempts.succeeded(HERE, "a");
        attempts.failed(HERE, "a", now);
        assert_eq!(attempts.check(HERE, "a", now), Ok(()));
    }

    #[test]
    fn the_table_does_not_grow_without_end() {
        let (attempts, now) = (Attempts::new(1), Instant::now());
        for number in 0..WATCHED_MAX {
            attempts.failed(HERE, &number.to_string(), now);
        }
        assert_eq!(attempts.check(HERE, "new", now), Err(WINDOW));
        assert_eq!(attempts.check(HERE, "new", now + WINDOW), Ok(()));
        assert!(attempts.failed.lock().unwrap().is_empty());
    }
}

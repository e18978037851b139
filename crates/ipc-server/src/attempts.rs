//! Counts failed logins, so that a password cannot be tried for long. The time is an argument.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ipc_protocol::Fingerprint;
use ipc_store::Username;

/// How long failures count.
const WINDOW: Duration = Duration::from_secs(60);

/// When to come again where it is not failures but logins under way that fill the limit.
const SOON: Duration = Duration::from_secs(1);

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

/// Who tries, and as whom. All names that no user can have are one, `None`: what is kept is never longer than a name
/// may be.
type Pair = (Source, Option<Username>);

/// The failed logins of the last minute.
#[derive(Debug)]
pub(crate) struct Attempts {
    failures_max: u32,
    watched: Mutex<Watched>,
}

#[derive(Debug)]
struct Watched {
    pairs: HashMap<Pair, Failures>,
    /// When those that no longer count were last thrown away.
    swept_at: Option<Instant>,
}

#[derive(Debug)]
struct Failures {
    count: u32,
    since: Instant,
    /// Logins that have begun and may fail.
    under_way: u32,
}

impl Failures {
    fn wait(&self, now: Instant) -> Option<Duration> {
        WINDOW.checked_sub(now.saturating_duration_since(self.since)).filter(|wait| !wait.is_zero())
    }

    fn counts(&self, now: Instant) -> bool {
        self.under_way > 0 || (self.count > 0 && self.wait(now).is_some())
    }
}

/// A login that has begun. It counts against the limit from here on, so that many at once are no way around it, and as
/// a failure if nothing else is said of it.
#[derive(Debug)]
#[must_use = "a login that is dropped counts as one that failed"]
pub(crate) struct Attempt<'a> {
    attempts: &'a Attempts,
    pair: Pair,
    began: Instant,
    outcome: Outcome,
}

#[derive(Clone, Copy, Debug)]
enum Outcome {
    Failed,
    Succeeded,
    Withdrawn,
}

impl Attempts {
    /// Lets `failures_max` logins fail within a minute, for each peer and user name.
    pub(crate) fn new(failures_max: u32) -> Self {
        let watched = Watched { pairs: HashMap::new(), swept_at: None };
        Attempts { failures_max, watched: Mutex::new(watched) }
    }

    /// Begins a login.
    ///
    /// # Errors
    /// How long to wait before the next one.
    pub(crate) fn begin(
        &self,
        source: Source,
        username: &str,
        now: Instant,
    ) -> Result<Attempt<'_>, Duration> {
        let pair = (source, Username::parse_existing(username).ok());
        let mut watched = self.watched();
        watched.sweep(now);
        let is_full = watched.pairs.len() >= WATCHED_MAX;
        let failures = match watched.pairs.entry(pair.clone()) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(_) if is_full => return Err(WINDOW),
            Entry::Vacant(entry) => entry.insert(Failures { count: 0, since: now, under_way: 0 }),
        };
        match failures.wait(now) {
            Some(wait) if failures.count >= self.failures_max => return Err(wait),
            Some(_) => (),
            None => (failures.count, failures.since) = (0, now),
        }
        if failures.count.saturating_add(failures.under_way) >= self.failures_max {
            return Err(SOON);
        }
        failures.under_way += 1;
        Ok(Attempt { attempts: self, pair, began: now, outcome: Outcome::Failed })
    }

    fn watched(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watched {
    /// Throws away what no longer counts, once in a window or where there is no room.
    fn sweep(&mut self, now: Instant) {
        let is_due = self.swept_at.is_none_or(|at| now.saturating_duration_since(at) >= WINDOW);
        if is_due || self.pairs.len() >= WATCHED_MAX {
            self.pairs.retain(|_, failures| failures.counts(now));
            self.swept_at = Some(now);
        }
    }
}

impl Attempt<'_> {
    /// The login failed.
    pub(crate) fn failed(mut self) {
        self.outcome = Outcome::Failed;
    }

    /// The login succeeded: what failed before no longer counts.
    pub(crate) fn succeeded(mut self) {
        self.outcome = Outcome::Succeeded;
    }

    /// It was no login after all: nobody looked at the password.
    pub(crate) fn withdrawn(mut self) {
        self.outcome = Outcome::Withdrawn;
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        let mut watched = self.attempts.watched();
        let Some(failures) = watched.pairs.get_mut(&self.pair) else { return };
        failures.under_way = failures.under_way.saturating_sub(1);
        match self.outcome {
            Outcome::Withdrawn => (),
            Outcome::Succeeded => failures.count = 0,
            Outcome::Failed => {
                if failures.count == 0 {
                    failures.since = self.began;
                }
                failures.count += 1;
            }
        }
        if failures.count == 0 && failures.under_way == 0 {
            watched.pairs.remove(&self.pair);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Source = Source::Address(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST));
    const THERE: Source = Source::Certificate(Fingerprint::from_bytes([1; 32]));

    /// How long to wait, if one has to.
    fn wait(attempts: &Attempts, source: Source, username: &str, now: Instant) -> Option<Duration> {
        attempts.begin(source, username, now).map(Attempt::withdrawn).err()
    }

    fn fail(attempts: &Attempts, source: Source, username: &str, now: Instant) {
        attempts.begin(source, username, now).unwrap().failed();
    }

    #[test]
    fn after_the_last_failure_allowed_one_waits_for_the_rest_of_the_minute() {
        let (attempts, start) = (Attempts::new(3), Instant::now());
        for _ in 0..3 {
            fail(&attempts, HERE, "a", start);
        }
        let later = start + Duration::from_secs(20);
        assert_eq!(wait(&attempts, HERE, "a", later), Some(Duration::from_secs(40)));
        fail(&attempts, HERE, "a", start + WINDOW);
        assert_eq!(wait(&attempts, HERE, "a", start + WINDOW), None, "counting begins anew");
    }

    #[test]
    fn of_many_at_once_no_more_begin_than_may_fail() {
        let (attempts, now) = (Attempts::new(3), Instant::now());
        let begun: Vec<_> = (0..60).filter_map(|_| attempts.begin(HERE, "a", now).ok()).collect();
        assert_eq!(begun.len(), 3);
        assert_eq!(wait(&attempts, HERE, "a", now), Some(SOON), "they may yet succeed");
        drop(begun);
        assert_eq!(wait(&attempts, HERE, "a", now), Some(WINDOW), "what is dropped has failed");
    }

    #[test]
    fn a_login_that_was_withdrawn_does_not_count() {
        let (attempts, now) = (Attempts::new(1), Instant::now());
        for _ in 0..5 {
            attempts.begin(HERE, "a", now).unwrap().withdrawn();
        }
        assert!(attempts.watched().pairs.is_empty());
    }

    #[test]
    fn another_peer_and_another_user_are_not_kept_out() {
        let (attempts, now) = (Attempts::new(1), Instant::now());
        fail(&attempts, HERE, "a", now);
        assert!(wait(&attempts, HERE, "a", now).is_some());
        assert_eq!(wait(&attempts, THERE, "a", now), None);
        assert_eq!(wait(&attempts, HERE, "b", now), None);
    }

    #[test]
    fn a_login_that_succeeds_clears_what_failed() {
        let (attempts, now) = (Attempts::new(2), Instant::now());
        fail(&attempts, HERE, "a", now);
        attempts.begin(HERE, "a", now).unwrap().succeeded();
        assert!(attempts.watched().pairs.is_empty());
        fail(&attempts, HERE, "a", now);
        assert_eq!(wait(&attempts, HERE, "a", now), None);
    }

    #[test]
    fn names_that_nobody_can_have_are_counted_as_one_and_not_kept() {
        let (attempts, now) = (Attempts::new(4), Instant::now());
        for name in ["", "a\0", " a", &"x".repeat(16 << 20)] {
            fail(&attempts, HERE, name, now);
        }
        assert!(wait(&attempts, HERE, &"y".repeat(81), now).is_some());
        assert_eq!(attempts.watched().pairs.len(), 1);
        assert_eq!(wait(&attempts, HERE, "a", now), None);
    }

    #[test]
    fn what_no_longer_counts_is_thrown_away_with_the_next_login() {
        let (attempts, now) = (Attempts::new(1), Instant::now());
        for number in 0..100 {
            fail(&attempts, HERE, &number.to_string(), now);
        }
        fail(&attempts, HERE, "new", now + WINDOW);
        assert_eq!(attempts.watched().pairs.len(), 1);
    }

    #[test]
    fn the_table_does_not_grow_without_end() {
        let (attempts, now) = (Attempts::new(1), Instant::now());
        for number in 0..WATCHED_MAX {
            fail(&attempts, HERE, &number.to_string(), now);
        }
        assert_eq!(wait(&attempts, HERE, "new", now), Some(WINDOW));
        assert_eq!(wait(&attempts, HERE, "new", now + WINDOW), None);
    }
}

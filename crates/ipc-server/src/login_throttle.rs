//! Counts failed logins, so that nobody can try passwords for long. The time is an argument.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ipc_home::PeerName;
use ipc_protocol::Fingerprint;
use ipc_store::Username;

use crate::oldest::remove_oldest;

/// For how long a failure counts.
const WINDOW: Duration = Duration::from_secs(60);

/// The longest time for which a peer is refused. The first block lasts for the rest of [`WINDOW`],
/// each one after it twice as long.
const BLOCK_MAX: Duration = Duration::from_secs(15 * 60);

/// When to come again where it is not failures but logins under way that fill the limit.
const SOON: Duration = Duration::from_secs(1);

/// How many peers, and pairs of peer and user, are counted at most. Beyond that the oldest counts
/// are forgotten, so that no newcomer is kept out. Each failure costs a bcrypt of some hundred
/// milliseconds, so a guesser's own count expires before the guesser has pushed it out.
const WATCHED_MAX: usize = 10_000;

/// Who tries to log in: the peer that a certificate names, or an address over plain http. Failures
/// count for each source, so that a peer that fails locks nobody else out, not even from the same
/// user's account. Of clients that share a certificate each address is a source.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Source {
    /// The peer name in the certificate, in lower case. A renewed certificate has the same name, so
    /// that renewing brings a peer no further guesses.
    Name(Arc<str>),
    /// The fingerprint of a certificate without a peer name.
    Certificate(Fingerprint),
    /// The peer's address.
    Address(IpAddr),
    /// A certificate that many clients share, and the network that one of them comes from.
    #[cfg(feature = "python-compat")]
    Shared(Box<Source>, IpAddr),
}

impl Source {
    /// The source of a peer with this certificate.
    pub(crate) fn of_certificate(name: Option<&PeerName>, fingerprint: Fingerprint) -> Self {
        name.map_or(Source::Certificate(fingerprint), |name| {
            Source::Name(name.as_str().to_ascii_lowercase().into())
        })
    }

    /// The source of one of the clients that share a certificate, as all do that run the Python
    /// tool: the address tells them apart. Of an IPv6 address only the network counts, since a host
    /// has all 2⁶⁴ addresses of its own.
    #[cfg(feature = "python-compat")]
    pub(crate) fn at(self, address: IpAddr) -> Self {
        // A listener for both versions of IP has IPv4 addresses in the form of IPv6.
        let network = match address.to_canonical() {
            IpAddr::V6(address) => IpAddr::V6((address.to_bits() >> 64 << 64).into()),
            address => address,
        };
        Source::Shared(Box::new(self), network)
    }
}

/// What failures are counted for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Counted {
    /// A peer and the user name it tries. All invalid names count as one, `None`, so that nothing
    /// longer than a valid name is stored.
    Pair(Source, Option<Username>),
    /// A peer with all user names it tries. A few passwords tried with many users are as many
    /// guesses as many passwords with one.
    Peer(Source),
}

/// The failed logins of the last minute.
#[derive(Debug)]
pub(crate) struct LoginThrottle {
    failures_max: u32,
    peer_failures_max: u32,
    watched: Mutex<Watched>,
}

#[derive(Debug)]
struct Watched {
    counted: HashMap<Counted, Failures>,
    /// When counts that had expired were last removed.
    swept_at: Option<Instant>,
}

#[derive(Debug)]
struct Failures {
    count: u32,
    since: Instant,
    /// Logins that have begun and may still fail.
    under_way: u32,
    /// How often the limit was reached, one soon after the other.
    blocks: u32,
    blocked_until: Option<Instant>,
}

/// How long the block of this number lasts, from the first failure on.
fn block(number: u32) -> Duration {
    let doublings = number.saturating_sub(1).min(10);
    (WINDOW * (1 << doublings)).min(BLOCK_MAX)
}

impl Failures {
    fn new(now: Instant) -> Self {
        Failures { count: 0, since: now, under_way: 0, blocks: 0, blocked_until: None }
    }

    /// How long the peer is still refused.
    fn blocked(&self, now: Instant) -> Option<Duration> {
        let wait = self.blocked_until?.saturating_duration_since(now);
        (!wait.is_zero()).then_some(wait)
    }

    /// Whether the next block is longer: until a time as long as the last one has passed.
    fn remembers(&self, now: Instant) -> bool {
        self.blocked_until.is_some_and(|until| now < until + block(self.blocks))
    }

    fn fail(&mut self, began: Instant, failures_max: u32) {
        if self.count == 0 {
            self.since = began;
        }
        self.count = self.count.saturating_add(1);
        if self.count == failures_max {
            self.blocks = self.blocks.saturating_add(1);
            self.blocked_until = Some(self.since + block(self.blocks));
        }
    }

    fn wait(&self, now: Instant) -> Option<Duration> {
        WINDOW.checked_sub(now.saturating_duration_since(self.since)).filter(|wait| !wait.is_zero())
    }

    /// The age of the count, for the case that the table is full: the end of a block, or else the
    /// first failure. `None` while a login is under way, whose outcome is still to be counted.
    fn at(&self) -> Option<Instant> {
        (self.under_way == 0)
            .then(|| self.blocked_until.map_or(self.since, |at| at.max(self.since)))
    }

    fn counts(&self, now: Instant) -> bool {
        self.under_way > 0 || (self.count > 0 && self.wait(now).is_some()) || self.remembers(now)
    }
}

/// A login that has begun. It counts against the limit from its beginning, so that many logins at
/// once do not get around it. Unless an outcome is reported, it counts as a failure.
#[derive(Debug)]
#[must_use = "a login that is dropped counts as one that failed"]
pub(crate) struct LoginAttempt<'a> {
    attempts: &'a LoginThrottle,
    counted: [Counted; 2],
    began: Instant,
    outcome: Outcome,
}

#[derive(Clone, Copy, Debug)]
enum Outcome {
    Failed,
    Succeeded,
    Withdrawn,
}

impl LoginThrottle {
    /// Lets `failures_max` logins fail within a minute for each pair of peer and user name, and
    /// `peer_failures_max` for each peer.
    pub(crate) fn new(failures_max: u32, peer_failures_max: u32) -> Self {
        let watched = Watched { counted: HashMap::new(), swept_at: None };
        LoginThrottle { failures_max, peer_failures_max, watched: Mutex::new(watched) }
    }

    /// Begins a login.
    ///
    /// # Errors
    /// The time to wait before the next login, if the limit is reached.
    pub(crate) fn begin(
        &self,
        source: &Source,
        username: &str,
        now: Instant,
    ) -> Result<LoginAttempt<'_>, Duration> {
        let username = Username::parse_existing(username).ok();
        let counted = [Counted::Pair(source.clone(), username), Counted::Peer(source.clone())];
        let mut watched = self.watched();
        watched.forget_expired(now);
        for (counted, failures_max) in
            counted.iter().zip([self.failures_max, self.peer_failures_max])
        {
            watched.may_begin(counted, failures_max, now)?;
        }
        for counted in &counted {
            let failures = watched.counted.entry(counted.clone());
            failures.or_insert_with(|| Failures::new(now)).under_way += 1;
        }
        Ok(LoginAttempt { attempts: self, counted, began: now, outcome: Outcome::Failed })
    }

    fn watched(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watched {
    /// Whether another login may begin. The error is the time to wait.
    fn may_begin(
        &mut self,
        counted: &Counted,
        failures_max: u32,
        now: Instant,
    ) -> Result<(), Duration> {
        let Some(failures) = self.counted.get_mut(counted) else {
            // If no failure is allowed at all, nobody may begin.
            return if failures_max == 0 { Err(WINDOW) } else { Ok(()) };
        };
        if let Some(wait) = failures.blocked(now) {
            return Err(wait);
        }
        if !failures.remembers(now) {
            (failures.blocks, failures.blocked_until) = (0, None);
        }
        if failures.wait(now).is_none() || failures.count >= failures_max {
            (failures.count, failures.since) = (0, now);
        }
        if failures.count.saturating_add(failures.under_way) >= failures_max {
            Err(SOON)
        } else {
            Ok(())
        }
    }

    /// Removes expired counts, once in a window or when the table is full. If it is still full,
    /// also removes the oldest.
    fn forget_expired(&mut self, now: Instant) {
        let is_due = self.swept_at.is_none_or(|at| now.saturating_duration_since(at) >= WINDOW);
        if is_due || self.counted.len() >= WATCHED_MAX {
            self.counted.retain(|_, failures| failures.counts(now));
            self.swept_at = Some(now);
        }
        if self.counted.len() >= WATCHED_MAX {
            remove_oldest(&mut self.counted, Failures::at);
        }
    }
}

impl LoginAttempt<'_> {
    /// Reports that the login failed.
    pub(crate) fn failed(mut self) {
        self.outcome = Outcome::Failed;
    }

    /// Reports that the login succeeded. Earlier failures of this peer with this user no longer
    /// count.
    pub(crate) fn succeeded(mut self) {
        self.outcome = Outcome::Succeeded;
    }

    /// Reports that the password was not checked. The login then does not count.
    pub(crate) fn withdrawn(mut self) {
        self.outcome = Outcome::Withdrawn;
    }
}

impl Drop for LoginAttempt<'_> {
    fn drop(&mut self) {
        let mut watched = self.attempts.watched();
        for counted in &self.counted {
            let Some(failures) = watched.counted.get_mut(counted) else { continue };
            failures.under_way = failures.under_way.saturating_sub(1);
            match (self.outcome, counted) {
                (Outcome::Withdrawn, _) => (),
                (Outcome::Succeeded, Counted::Pair(..)) => {
                    (failures.count, failures.blocks, failures.blocked_until) = (0, 0, None);
                }
                // One user whose password is known is no way to guess those of others without end.
                (Outcome::Succeeded, Counted::Peer(_)) => (),
                (Outcome::Failed, Counted::Pair(..)) => {
                    failures.fail(self.began, self.attempts.failures_max);
                }
                (Outcome::Failed, Counted::Peer(_)) => {
                    failures.fail(self.began, self.attempts.peer_failures_max);
                }
            }
            if failures.count == 0 && failures.under_way == 0 && failures.blocks == 0 {
                watched.counted.remove(counted);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Source = Source::Address(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST));
    const THERE: Source = Source::Certificate(Fingerprint::from_bytes([1; 32]));

    /// How long this peer has to wait, if at all.
    fn wait(
        attempts: &LoginThrottle,
        source: &Source,
        username: &str,
        now: Instant,
    ) -> Option<Duration> {
        attempts.begin(source, username, now).map(LoginAttempt::withdrawn).err()
    }

    fn fail(attempts: &LoginThrottle, source: &Source, username: &str, now: Instant) {
        attempts.begin(source, username, now).unwrap().failed();
    }

    #[test]
    fn after_the_last_failure_allowed_one_waits_for_the_rest_of_the_minute() {
        let (attempts, start) = (LoginThrottle::new(3, u32::MAX), Instant::now());
        for _ in 0..3 {
            fail(&attempts, &HERE, "a", start);
        }
        let later = start + Duration::from_secs(20);
        assert_eq!(wait(&attempts, &HERE, "a", later), Some(Duration::from_secs(40)));
        fail(&attempts, &HERE, "a", start + WINDOW);
        assert_eq!(wait(&attempts, &HERE, "a", start + WINDOW), None, "counting begins anew");
    }

    #[test]
    fn each_block_is_twice_as_long_as_the_last_up_to_a_quarter_of_an_hour() {
        let (attempts, mut now) = (LoginThrottle::new(3, u32::MAX), Instant::now());
        for minutes in [1, 2, 4, 8, 15, 15] {
            for _ in 0..3 {
                fail(&attempts, &HERE, "a", now);
            }
            let expected = Duration::from_secs(60 * minutes);
            assert_eq!(wait(&attempts, &HERE, "a", now), Some(expected));
            assert_eq!(wait(&attempts, &THERE, "a", now), None, "a stranger locks nobody out");
            now += expected;
        }
        // A time as long as the last block without another one, and all is forgotten.
        now += BLOCK_MAX;
        for _ in 0..3 {
            fail(&attempts, &HERE, "a", now);
        }
        assert_eq!(wait(&attempts, &HERE, "a", now), Some(WINDOW));
    }

    #[test]
    fn of_many_at_once_no_more_begin_than_may_fail() {
        let (attempts, now) = (LoginThrottle::new(3, u32::MAX), Instant::now());
        let begun: Vec<_> = (0..60).filter_map(|_| attempts.begin(&HERE, "a", now).ok()).collect();
        assert_eq!(begun.len(), 3);
        assert_eq!(wait(&attempts, &HERE, "a", now), Some(SOON), "they may yet succeed");
        drop(begun);
        assert_eq!(wait(&attempts, &HERE, "a", now), Some(WINDOW), "what is dropped has failed");
    }

    #[test]
    fn a_login_that_was_withdrawn_does_not_count() {
        let (attempts, now) = (LoginThrottle::new(1, u32::MAX), Instant::now());
        for _ in 0..5 {
            attempts.begin(&HERE, "a", now).unwrap().withdrawn();
        }
        assert!(attempts.watched().counted.is_empty());
    }

    #[test]
    fn another_peer_and_another_user_are_not_kept_out() {
        let (attempts, now) = (LoginThrottle::new(1, u32::MAX), Instant::now());
        fail(&attempts, &HERE, "a", now);
        assert!(wait(&attempts, &HERE, "a", now).is_some());
        assert_eq!(wait(&attempts, &THERE, "a", now), None);
        assert_eq!(wait(&attempts, &HERE, "b", now), None);
    }

    #[test]
    fn certificates_of_one_name_are_one_peer_and_those_without_a_name_are_not() {
        let fingerprint = |number| Fingerprint::from_bytes([number; 32]);
        let named = |name: &str, number| {
            Source::of_certificate(Some(&PeerName::parse(name).unwrap()), fingerprint(number))
        };
        let unnamed = |number| Source::of_certificate(None, fingerprint(number));
        let (attempts, now) = (LoginThrottle::new(1, u32::MAX), Instant::now());
        fail(&attempts, &named("worker1", 1), "a", now);
        fail(&attempts, &unnamed(2), "a", now);
        assert!(wait(&attempts, &named("Worker1", 3), "a", now).is_some(), "it was renewed");
        assert_eq!(wait(&attempts, &named("worker2", 4), "a", now), None);
        assert_eq!(wait(&attempts, &unnamed(5), "a", now), None);
    }

    #[cfg(feature = "python-compat")]
    #[test]
    fn clients_that_share_a_certificate_are_told_apart_by_their_networks() {
        let at = |address: &str| THERE.at(address.parse().unwrap());
        let (attempts, now) = (LoginThrottle::new(1, u32::MAX), Instant::now());
        fail(&attempts, &at("192.0.2.1"), "a", now);
        fail(&attempts, &at("2001:db8::1"), "a", now);
        for refused in ["192.0.2.1", "::ffff:192.0.2.1", "2001:db8::1:0:0:1"] {
            assert!(wait(&attempts, &at(refused), "a", now).is_some(), "{refused}");
        }
        for other in ["192.0.2.2", "2001:db8:0:1::1", "::1"] {
            assert_eq!(wait(&attempts, &at(other), "a", now), None, "{other}");
        }
        assert_eq!(wait(&attempts, &THERE, "a", now), None, "a frame's login is another source");
        let other_certificate = HERE.at("192.0.2.1".parse().unwrap());
        assert_eq!(wait(&attempts, &other_certificate, "a", now), None);
    }

    #[test]
    fn failures_of_one_peer_count_together_whomever_it_tries_to_be() {
        let (attempts, start) = (LoginThrottle::new(10, 30), Instant::now());
        for number in 0..30 {
            fail(&attempts, &HERE, &format!("user{number}"), start);
        }
        let later = start + Duration::from_secs(20);
        assert_eq!(wait(&attempts, &HERE, "user30", later), Some(Duration::from_secs(40)));
        assert_eq!(wait(&attempts, &THERE, "user30", later), None, "another peer is not kept out");
        assert_eq!(wait(&attempts, &HERE, "user30", start + WINDOW), None);
    }

    #[test]
    fn many_users_at_once_are_no_way_around_it_and_neither_is_one_that_succeeds() {
        let (attempts, now) = (LoginThrottle::new(10, 4), Instant::now());
        let begin = |number: u32| attempts.begin(&HERE, &format!("user{number}"), now);
        let begun: Vec<_> = (0..60).filter_map(|number| begin(number).ok()).collect();
        assert_eq!(begun.len(), 4);
        assert_eq!(begin(100).map(drop).err(), Some(SOON));
        begun.into_iter().for_each(LoginAttempt::withdrawn);
        for number in 0..3 {
            fail(&attempts, &HERE, &format!("user{number}"), now);
            attempts.begin(&HERE, "own", now).unwrap().succeeded();
        }
        fail(&attempts, &HERE, "user3", now);
        assert_eq!(wait(&attempts, &HERE, "own", now), Some(WINDOW));
    }

    #[test]
    fn a_login_that_succeeds_clears_what_failed() {
        let (attempts, now) = (LoginThrottle::new(2, u32::MAX), Instant::now());
        fail(&attempts, &HERE, "a", now);
        attempts.begin(&HERE, "a", now).unwrap().succeeded();
        assert_eq!(attempts.watched().counted.len(), 1, "of the peer it still counts");
        fail(&attempts, &HERE, "a", now);
        assert_eq!(wait(&attempts, &HERE, "a", now), None);
    }

    #[test]
    fn names_that_nobody_can_have_are_counted_as_one_and_not_kept() {
        let (attempts, now) = (LoginThrottle::new(4, u32::MAX), Instant::now());
        for name in ["", "a\0", " a", &"x".repeat(16 << 20)] {
            fail(&attempts, &HERE, name, now);
        }
        assert!(wait(&attempts, &HERE, &"y".repeat(81), now).is_some());
        assert_eq!(attempts.watched().counted.len(), 2, "the peer, and it with these names");
        assert_eq!(wait(&attempts, &HERE, "a", now), None);
    }

    #[test]
    fn what_no_longer_counts_is_thrown_away_with_the_next_login() {
        let (attempts, now) = (LoginThrottle::new(1, u32::MAX), Instant::now());
        for number in 0..100 {
            fail(&attempts, &HERE, &number.to_string(), now);
        }
        fail(&attempts, &HERE, "new", now + 2 * WINDOW);
        assert_eq!(attempts.watched().counted.len(), 2);
    }

    #[test]
    fn a_full_table_forgets_the_oldest_counts_and_keeps_no_newcomer_out() {
        let (attempts, start) = (LoginThrottle::new(2, u32::MAX), Instant::now());
        for _ in 0..2 {
            fail(&attempts, &HERE, "blocked", start);
        }
        let under_way = attempts.begin(&THERE, "slow", start).unwrap();
        let mut now = start;
        for number in 0..WATCHED_MAX + 100 {
            now += Duration::from_millis(1);
            fail(&attempts, &HERE, &number.to_string(), now);
            assert!(attempts.watched().counted.len() <= WATCHED_MAX + 1, "{number}");
        }
        assert_eq!(wait(&attempts, &THERE, "new", now), None);
        assert!(wait(&attempts, &HERE, "blocked", now).is_some(), "a block is newer than a count");
        under_way.failed();
        fail(&attempts, &THERE, "slow", now);
        assert!(
            wait(&attempts, &THERE, "slow", now).is_some(),
            "both of its failures were counted"
        );
        let pair = |name: &str| Counted::Pair(HERE, Username::parse(name).ok());
        let watched = attempts.watched();
        assert!(!watched.counted.contains_key(&pair("0")), "the oldest");
        assert!(watched.counted.contains_key(&pair(&(WATCHED_MAX + 99).to_string())));
    }
}

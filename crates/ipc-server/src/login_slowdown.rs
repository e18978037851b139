//! Slows down the logins of a user whose logins fail often, whoever tries them: guesses that come
//! from many certificates or addresses take longer. A login is never refused here, so that a
//! stranger cannot lock a user out. The time is an argument.
//!
//! `routes` comes here with each login. `login_throttle` counts for each peer, and refuses.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ipc_store::{PeerSighting, Username};

use crate::login_throttle::Source;
use crate::oldest::remove_oldest;

/// How many failures of a user cost nobody a pause: a person mistypes three times.
const FREE_FAILURES: u32 = 5;

/// The pause after so many failures. Each further failure doubles it.
const FIRST_PAUSE: Duration = Duration::from_millis(125);

/// The longest pause: a client's patience of 30 s has room for it.
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// A user's failures are forgotten after this time without another one.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60);

/// How many users, and how many pairs of user and peer, are remembered at most. Beyond that
/// the oldest are forgotten. A user costs a failed login, a pair a login that succeeds.
const REMEMBERED_MAX: usize = 10_000;

/// The failed logins of each user, from all peers together, and who has logged in before.
#[derive(Debug, Default)]
pub(crate) struct LoginSlowdown(Mutex<Remembered>);

#[derive(Debug, Default)]
struct Remembered {
    failures: HashMap<Username, Failures>,
    /// When a user last logged in from a peer with a certificate.
    logins: HashMap<(Username, Source), Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Failures {
    count: u32,
    last: Instant,
}

impl LoginSlowdown {
    /// How long a login has to pause before it begins. Zero for a user who has logged in from this
    /// peer before.
    pub(crate) fn pause(&self, source: &Source, username: &str, now: Instant) -> Duration {
        // Names that no user can have fail anyway.
        let Ok(username) = Username::parse_existing(username) else { return Duration::ZERO };
        let remembered = self.remembered();
        let Some(failures) = remembered.failures.get(&username).filter(|one| one.counts(now))
        else {
            return Duration::ZERO;
        };
        match remembered.logins.contains_key(&(username, source.clone())) {
            true => Duration::ZERO,
            false => pause_after(failures.count),
        }
    }

    /// Remembers who has logged in before, from what the user store has noted of certificates.
    pub(crate) fn remember(&self, sightings: Vec<PeerSighting>, now: Instant) {
        let mut remembered = self.remembered();
        // The latest come first.
        for seen in sightings.into_iter().take(REMEMBERED_MAX) {
            if let Some(user) = seen.user {
                let source = Source::of_certificate(seen.name.as_ref(), seen.fingerprint);
                remembered.logins.insert((user, source), now);
            }
        }
    }

    /// Counts a failed login of a user.
    pub(crate) fn failed(&self, username: &str, now: Instant) {
        let Ok(username) = Username::parse_existing(username) else { return };
        let mut remembered = self.remembered();
        if remembered.failures.len() >= REMEMBERED_MAX {
            remembered.failures.retain(|_, failures| failures.counts(now));
        }
        if remembered.failures.len() >= REMEMBERED_MAX {
            remove_oldest(&mut remembered.failures, |failures| Some(failures.last));
        }
        let failures =
            remembered.failures.entry(username).or_insert(Failures { count: 0, last: now });
        let count = if failures.counts(now) { failures.count } else { 0 };
        *failures = Failures { count: count.saturating_add(1), last: now };
    }

    /// Remembers that a user has logged in from a peer with a certificate; an address proves
    /// nothing. The user's failures still count for others: who knows the password at one peer is
    /// not who guesses from another.
    pub(crate) fn succeeded(&self, source: &Source, username: &str, now: Instant) {
        if matches!(source, Source::Address(_)) {
            return;
        }
        let Ok(username) = Username::parse_existing(username) else { return };
        let mut remembered = self.remembered();
        if remembered.logins.len() >= REMEMBERED_MAX {
            remove_oldest(&mut remembered.logins, |at| Some(*at));
        }
        remembered.logins.insert((username, source.clone()), now);
    }

    fn remembered(&self) -> MutexGuard<'_, Remembered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Failures {
    fn counts(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.last) < FORGOTTEN_AFTER
    }
}

fn pause_after(failures: u32) -> Duration {
    match failures.checked_sub(FREE_FAILURES) {
        None => Duration::ZERO,
        Some(doublings) => (FIRST_PAUSE * (1 << doublings.min(10))).min(PAUSE_MAX),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use ipc_home::PeerName;
    use ipc_protocol::Fingerprint;

    use super::*;

    const STRANGER: Source = Source::Certificate(Fingerprint::from_bytes([1; 32]));
    const KNOWN: Source = Source::Certificate(Fingerprint::from_bytes([2; 32]));
    const ADDRESS: Source = Source::Address(IpAddr::V4(Ipv4Addr::LOCALHOST));

    #[test]
    fn the_pause_grows_with_each_failure_up_to_two_seconds_and_is_forgotten_after_a_minute() {
        let (slowdown, now) = (LoginSlowdown::default(), Instant::now());
        let pauses: Vec<_> = (0..12)
            .map(|_| {
                slowdown.failed("admin", now);
                slowdown.pause(&STRANGER, "admin", now).as_millis()
            })
            .collect();
        assert_eq!(pauses, [0, 0, 0, 0, 125, 250, 500, 1000, 2000, 2000, 2000, 2000]);
        assert_eq!(slowdown.pause(&ADDRESS, "admin", now), PAUSE_MAX);
        assert_eq!(slowdown.pause(&STRANGER, "other", now), Duration::ZERO);
        let later = now + Duration::from_secs(59);
        assert_eq!(slowdown.pause(&STRANGER, "admin", later), PAUSE_MAX);
        let later = now + FORGOTTEN_AFTER;
        assert_eq!(slowdown.pause(&STRANGER, "admin", later), Duration::ZERO);
        slowdown.failed("admin", later);
        assert_eq!(slowdown.pause(&STRANGER, "admin", later), Duration::ZERO, "counted anew");
    }

    #[test]
    fn who_has_logged_in_before_does_not_pause_and_clears_nothing_for_others() {
        let (slowdown, now) = (LoginSlowdown::default(), Instant::now());
        slowdown.succeeded(&KNOWN, "admin", now);
        slowdown.succeeded(&ADDRESS, "admin", now);
        for _ in 0..100 {
            slowdown.failed("admin", now);
            slowdown.failed("other", now);
        }
        slowdown.succeeded(&KNOWN, "admin", now);
        assert_eq!(slowdown.pause(&KNOWN, "admin", now), Duration::ZERO);
        assert_eq!(slowdown.pause(&STRANGER, "admin", now), PAUSE_MAX);
        assert_eq!(slowdown.pause(&KNOWN, "other", now), PAUSE_MAX, "another user of it");
        assert_eq!(slowdown.pause(&ADDRESS, "admin", now), PAUSE_MAX, "an address proves nothing");
    }

    #[test]
    fn who_logged_in_before_a_restart_does_not_pause_either() {
        let (slowdown, now) = (LoginSlowdown::default(), Instant::now());
        let mut known = PeerSighting::new(Fingerprint::from_bytes([2; 32]), 1);
        known.user = Some(Username::parse("admin").unwrap());
        let without_user = PeerSighting::new(Fingerprint::from_bytes([1; 32]), 1);
        let mut named = known.clone();
        named.name = Some(PeerName::parse("Worker1").unwrap());
        slowdown.remember(vec![known, without_user, named], now);
        for _ in 0..100 {
            slowdown.failed("admin", now);
        }
        assert_eq!(slowdown.pause(&KNOWN, "admin", now), Duration::ZERO);
        assert_eq!(slowdown.pause(&STRANGER, "admin", now), PAUSE_MAX);
        let renewed = Source::Name("worker1".into());
        assert_eq!(slowdown.pause(&renewed, "admin", now), Duration::ZERO, "renewed since");
    }

    #[test]
    fn a_flood_of_names_or_certificates_drops_the_oldest_and_is_not_kept() {
        let (slowdown, start) = (LoginSlowdown::default(), Instant::now());
        for number in 0..REMEMBERED_MAX + 5 {
            let at = start + Duration::from_millis(number as u64);
            slowdown.failed(&format!("user{number}"), at);
            slowdown.failed("no\0name", at);
            let mut certificate = [0; 32];
            certificate[..8].copy_from_slice(&number.to_be_bytes());
            let certificate = Source::Certificate(Fingerprint::from_bytes(certificate));
            slowdown.succeeded(&certificate, "user", at);
        }
        let remembered = slowdown.remembered();
        for (left, most) in
            [(remembered.failures.len(), REMEMBERED_MAX), (remembered.logins.len(), REMEMBERED_MAX)]
        {
            assert!(left <= most && left > most / 2, "{left}");
        }
        let name = |number: usize| Username::parse(format!("user{number}")).unwrap();
        assert!(!remembered.failures.contains_key(&name(0)));
        assert!(remembered.failures.contains_key(&name(REMEMBERED_MAX + 4)));
    }
}

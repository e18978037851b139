//! What all workers of a server share. It is made once, outside the factory that actix-web runs in each worker, so
//! that there is one inbox and one count of everything.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ipc_envelope::KeyRing;
use ipc_inbox::Inbox;

use crate::attempts::Attempts;
use crate::peer::Transport;
use crate::receive::Limits;
use crate::users::Users;

/// What all workers share.
pub(crate) struct State {
    pub(crate) transport: Transport,
    pub(crate) envelope_keys: KeyRing,
    pub(crate) session_keys: KeyRing,
    pub(crate) users: Users,
    pub(crate) inbox: Inbox,
    pub(crate) attempts: Attempts,
    pub(crate) logins: Places,
    pub(crate) limits: Limits,
    pub(crate) inbox_wait: Duration,
    pub(crate) session_secs: u64,
    pub(crate) is_stopping: AtomicBool,
}

impl State {
    pub(crate) fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Relaxed)
    }
}

/// A count of what goes on at the same time, with a limit.
#[derive(Debug)]
pub(crate) struct Places {
    taken: AtomicUsize,
    max: usize,
}

/// A place that is given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Place<'a>(&'a AtomicUsize);

impl Places {
    pub(crate) fn new(max: usize) -> Self {
        Places { taken: AtomicUsize::new(0), max }
    }

    /// A place, if one is free.
    pub(crate) fn take(&self) -> Option<Place<'_>> {
        let place = Place(&self.taken);
        // The place counts from here on, so that its drop gives back what this took.
        (self.taken.fetch_add(1, Ordering::Relaxed) < self.max).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Seconds since the Unix epoch; 0 for a clock before it, which makes every envelope stale.
pub(crate) fn unix_secs(now: SystemTime) -> u64 {
    now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// An initialisation vector from the operating system.
///
/// # Errors
/// If the system gives no random bytes, which no supported one does once it has started.
pub(crate) fn random_iv() -> Result<[u8; 16], getrandom::Error> {
    let mut iv = [0; 16];
    getrandom::fill(&mut iv)?;
    Ok(iv)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_places_are_taken_than_there_are_and_each_is_given_back() {
        let places = Places::new(2);
        let (first, second) = (places.take(), places.take());
        assert!(first.is_some() && second.is_some());
        assert!(places.take().is_none());
        assert!(places.take().is_none(), "a place that was refused counts no more");
        drop(first);
        assert!(places.take().is_some());
    }
}

//! Limits how many logins run or wait, in total and for each peer. Each login computes a bcrypt, so
//! a login behind many others waits long.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::login_throttle::Source;

/// The logins that run or wait.
#[derive(Debug)]
pub(crate) struct LoginPermits {
    max: usize,
    each_max: usize,
    waiting: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    of_each: HashMap<Source, usize>,
}

/// The permission to run one login. It is given back when it is dropped.
#[derive(Debug)]
pub(crate) struct LoginPermit<'a> {
    logins: &'a LoginPermits,
    source: Source,
}

impl LoginPermits {
    /// Permits `max` logins at a time, `each_max` of them for one peer.
    pub(crate) fn new(max: usize, each_max: usize) -> Self {
        LoginPermits { max, each_max, waiting: Mutex::default() }
    }

    /// Takes a permit, if one is free for this peer.
    pub(crate) fn take(&self, source: &Source) -> Option<LoginPermit<'_>> {
        let mut waiting = self.waiting();
        let own = waiting.of_each.get(source).copied().unwrap_or(0);
        if waiting.all >= self.max || own >= self.each_max {
            return None;
        }
        waiting.all += 1;
        waiting.of_each.insert(source.clone(), own + 1);
        Some(LoginPermit { logins: self, source: source.clone() })
    }

    fn waiting(&self) -> MutexGuard<'_, Taken> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for LoginPermit<'_> {
    fn drop(&mut self) {
        let mut waiting = self.logins.waiting();
        waiting.all -= 1;
        match waiting.of_each.get_mut(&self.source) {
            Some(own) if *own > 1 => *own -= 1,
            _ => drop(waiting.of_each.remove(&self.source)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    fn peer(number: u8) -> Source {
        Source::Address(IpAddr::V4(Ipv4Addr::new(192, 0, 2, number)))
    }

    #[test]
    fn no_more_places_are_taken_than_there_are_and_each_is_given_back() {
        let logins = LoginPermits::new(2, 2);
        let (first, second) = (logins.take(&peer(1)), logins.take(&peer(2)));
        assert!(first.is_some() && second.is_some());
        assert!(logins.take(&peer(3)).is_none());
        assert!(logins.take(&peer(3)).is_none(), "a refused login takes no permit");
        drop(first);
        assert!(logins.take(&peer(3)).is_some());
    }

    #[test]
    fn one_peer_does_not_take_all_the_places() {
        let logins = LoginPermits::new(8, 2);
        let own = [logins.take(&peer(1)), logins.take(&peer(1))];
        assert!(own.iter().all(Option::is_some) && logins.take(&peer(1)).is_none());
        assert!(logins.take(&peer(2)).is_some(), "another peer has its own");
        drop(own);
        assert!(logins.take(&peer(1)).is_some());
        assert!(logins.waiting().of_each.is_empty(), "a peer without a login is not remembered");
    }
}

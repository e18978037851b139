//! The ids that this process has seen accepted: they answer a duplicate without asking the NATS
//! server, also while there is no room.
//!
//! The NATS server alone decides what is accepted. An id that is not here is asked for there.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::wire::{BodyHash, Key};

/// How many ids a generation has at most. There are two.
const IDS_MAX: usize = 128 * 1024;

/// What is known of an accepted message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) hash: BodyHash,
    pub(crate) wants_reply: bool,
}

#[derive(Debug)]
pub(crate) struct Ids {
    period: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    current: HashMap<Key, Known>,
    previous: HashMap<Key, Known>,
    since: Instant,
}

impl Ids {
    /// Forgets an id after one period at the earliest, unless there are too many, and after two at
    /// the latest.
    pub(crate) fn new(period: Duration, now: Instant) -> Self {
        let state = State { current: HashMap::new(), previous: HashMap::new(), since: now };
        Ids { period, state: Mutex::new(state) }
    }

    pub(crate) fn get(&self, key: Key) -> Option<Known> {
        let state = self.state();
        state.current.get(&key).or_else(|| state.previous.get(&key)).copied()
    }

    pub(crate) fn insert(&self, key: Key, known: Known, now: Instant) {
        let mut state = self.state();
        if state.current.len() >= IDS_MAX || now.duration_since(state.since) >= self.period {
            state.previous = std::mem::take(&mut state.current);
            state.since = now;
        }
        state.current.insert(key, known);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipc_protocol::MessageId;

    fn key(number: u32) -> Key {
        let mut id = [0; 16];
        id[..4].copy_from_slice(&number.to_be_bytes());
        Key::of("u", MessageId::from_random(id))
    }

    #[test]
    fn an_id_is_known_for_a_period_and_forgotten_after_two() {
        const PERIOD: Duration = Duration::from_secs(600);
        let start = Instant::now();
        let ids = Ids::new(PERIOD, start);
        let known = Known { hash: BodyHash::of("{}"), wants_reply: true };
        ids.insert(key(1), known, start);
        ids.insert(key(2), known, start + PERIOD);
        assert_eq!(ids.get(key(1)), Some(known));
        ids.insert(key(3), known, start + 2 * PERIOD);
        assert_eq!((ids.get(key(1)), ids.get(key(2))), (None, Some(known)));
    }

    #[test]
    fn there_are_never_more_than_two_generations_of_ids() {
        let now = Instant::now();
        let ids = Ids::new(Duration::from_secs(600), now);
        let known = Known { hash: BodyHash::of("{}"), wants_reply: false };
        let all = u32::try_from(IDS_MAX).unwrap() * 2 + 1;
        for number in 0..all {
            ids.insert(key(number), known, now);
        }
        assert_eq!((ids.get(key(0)), ids.get(key(all - 1))), (None, Some(known)));
    }
}

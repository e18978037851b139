//! The requests whose senders wait at this process for a reply.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ipc_inbox::NoReply;
use tokio::sync::oneshot;

use crate::wire::{KeptReply, Key};

/// The result of a request.
pub(crate) type Reply = Result<Arc<str>, NoReply>;

/// How many requests are noted for which somebody waits at another server.
const ELSEWHERE_MAX: usize = 64 * 1024;

#[derive(Debug, Default)]
pub(crate) struct Waits {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    waiting: HashMap<Key, Vec<oneshot::Sender<Reply>>>,
    elsewhere: HashSet<Key>,
    has_ended: bool,
}

impl Waits {
    /// Begins to wait. `None` once all waits have ended.
    pub(crate) fn wait(&self, key: Key) -> Option<oneshot::Receiver<Reply>> {
        let mut state = self.state();
        if state.has_ended {
            return None;
        }
        let (sender, receiver) = oneshot::channel();
        let waiting = state.waiting.entry(key).or_default();
        waiting.retain(|sender| !sender.is_closed());
        waiting.push(sender);
        Some(receiver)
    }

    /// Gives everyone who waits for a request its reply.
    pub(crate) fn settle(&self, key: Key, kept: &KeptReply) {
        let mut state = self.state();
        state.elsewhere.remove(&key);
        drop(state);
        self.tell(
            key,
            &match kept {
                KeptReply::Given(body) => Ok(Arc::clone(body)),
                KeptReply::NotGiven => Err(NoReply::NotGiven),
                KeptReply::Declined(reason) => Err(NoReply::Declined(Arc::clone(reason))),
            },
        );
    }

    /// Tells everyone who waits for a request that there is no reply now.
    pub(crate) fn refuse(&self, key: Key, reason: NoReply) {
        self.tell(key, &Err(reason));
    }

    fn tell(&self, key: Key, reply: &Reply) {
        let waiting = self.state().waiting.remove(&key);
        for sender in waiting.into_iter().flatten() {
            // A waiter that is gone misses nothing.
            let _gone = sender.send(reply.clone());
        }
    }

    /// Whether somebody waits for this request, here or, as far as is known, at another server.
    pub(crate) fn is_awaited(&self, key: Key) -> bool {
        let state = self.state();
        let is_open = |all: &Vec<oneshot::Sender<_>>| all.iter().any(|one| !one.is_closed());
        state.elsewhere.contains(&key) || state.waiting.get(&key).is_some_and(is_open)
    }

    pub(crate) fn is_awaited_here(&self, key: Key) -> bool {
        self.state().waiting.contains_key(&key)
    }

    /// Somebody waits for this request at another server.
    pub(crate) fn is_awaited_elsewhere(&self, key: Key) {
        let mut state = self.state();
        // Too many are worth less than memory: at worst a command is given up early.
        if state.elsewhere.len() >= ELSEWHERE_MAX {
            state.elsewhere.clear();
        }
        state.elsewhere.insert(key);
    }

    /// The requests for which somebody waits here.
    pub(crate) fn all(&self) -> Vec<Key> {
        let mut state = self.state();
        state.waiting.retain(|_, waiting| {
            waiting.retain(|sender| !sender.is_closed());
            !waiting.is_empty()
        });
        state.waiting.keys().copied().collect()
    }

    /// Tells everyone that the reply cannot be waited for any more.
    pub(crate) fn end_all(&self) {
        let mut state = self.state();
        state.has_ended = true;
        let ended = std::mem::take(&mut state.waiting);
        drop(state);
        for sender in ended.into_values().flatten() {
            let _gone = sender.send(Err(NoReply::Unavailable));
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipc_protocol::MessageId;

    #[test]
    fn all_who_wait_get_the_reply_and_those_who_left_do_not_count() {
        let waits = Waits::default();
        let key = Key::of("u", MessageId::from_random([1; 16]));
        let (mut first, second) = (waits.wait(key).unwrap(), waits.wait(key).unwrap());
        drop(second);
        assert!(waits.is_awaited(key));
        assert_eq!(waits.all(), [key]);
        waits.settle(key, &KeptReply::Given("{}".into()));
        assert_eq!(first.try_recv().unwrap().as_deref(), Ok("{}"));
        assert!(!waits.is_awaited(key));
        drop(waits.wait(key).unwrap());
        assert!(!waits.is_awaited(key), "nobody is left");
        waits.is_awaited_elsewhere(key);
        assert!(waits.is_awaited(key) && waits.all().is_empty());
        let mut last = waits.wait(key).unwrap();
        waits.end_all();
        assert_eq!(last.try_recv().unwrap(), Err(NoReply::Unavailable));
        assert!(waits.wait(key).is_none());
    }
}

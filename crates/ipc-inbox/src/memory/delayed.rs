//! Messages that were given back to an inbox in memory, until their delay is over.
//!
//! A receiver needs no particular async runtime, so a thread waits for the first message that is
//! due. There is such a thread only while a message is delayed. The current time is an argument.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The delay of an item whose delay is too long for the clock.
const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

pub(super) struct Delayed<T> {
    state: Mutex<State<T>>,
    /// Another item is first, or the inbox has ended.
    changed: Condvar,
}

struct State<T> {
    /// By the time they are due, then by `order`.
    items: BTreeMap<(Instant, u64), T>,
    has_thread: bool,
    has_ended: bool,
}

/// Whether the caller must call [`Delayed::wait`] from a new thread.
#[must_use]
pub(super) struct NeedsThread(pub(super) bool);

impl<T> Delayed<T> {
    pub(super) fn new() -> Self {
        let state = State { items: BTreeMap::new(), has_thread: false, has_ended: false };
        Delayed { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Adds an item that is due after `delay`. `order` is unique.
    pub(super) fn add(&self, now: Instant, delay: Duration, order: u64, item: T) -> NeedsThread {
        let due = now.checked_add(delay).unwrap_or_else(|| now + FAR);
        let mut state = self.state();
        state.items.insert((due, order), item);
        let had_thread = std::mem::replace(&mut state.has_thread, true);
        drop(state);
        self.changed.notify_one();
        NeedsThread(!had_thread)
    }

    pub(super) fn len(&self) -> usize {
        self.state().items.len()
    }

    /// Applies `f` to each item.
    pub(super) fn map<U>(&self, f: impl FnMut(&T) -> U) -> Vec<U> {
        self.state().items.values().map(f).collect()
    }

    /// Removes the items that are due, each with its order.
    pub(super) fn take_due(&self, now: Instant) -> Vec<(u64, T)> {
        let mut due = Vec::new();
        let mut state = self.state();
        while let Some(first) = state.items.first_entry().filter(|first| first.key().0 <= now) {
            let ((_, order), item) = first.remove_entry();
            due.push((order, item));
        }
        due
    }

    /// Removes all items, each with its order.
    pub(super) fn take_all(&self) -> Vec<(u64, T)> {
        let items = std::mem::take(&mut self.state().items);
        self.changed.notify_one();
        items.into_iter().map(|((_, order), item)| (order, item)).collect()
    }

    /// Waits until an item is due. Returns `false` when there is no item left: the thread must end.
    pub(super) fn wait(&self) -> bool {
        let mut state = self.state();
        loop {
            let first = state.items.first_key_value().map(|((due, _), _)| *due);
            let Some(due) = first.filter(|_| !state.has_ended) else {
                state.has_thread = false;
                return false;
            };
            let left = due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Ends the thread, even if items are left.
    pub(super) fn end(&self) {
        self.state().has_ended = true;
        self.changed.notify_one();
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn what_is_due_comes_by_its_time_and_then_in_its_order() {
        let (delayed, now) = (Delayed::new(), Instant::now());
        assert!(delayed.add(now, SECOND * 2, 1, "late").0);
        assert!(!delayed.add(now, SECOND, 3, "b").0, "there is a thread already");
        assert!(!delayed.add(now, SECOND, 2, "a").0);
        assert!(!delayed.add(now, Duration::MAX, 4, "never").0);
        assert_eq!(delayed.take_due(now), []);
        assert_eq!(delayed.take_due(now + SECOND), [(2, "a"), (3, "b")]);
        assert_eq!(delayed.len(), 2);
        assert_eq!(delayed.take_all(), [(1, "late"), (4, "never")]);
    }

    #[test]
    fn the_thread_ends_when_nothing_is_left_or_all_is_over() {
        let (delayed, now) = (Delayed::new(), Instant::now());
        assert!(!delayed.wait());
        assert!(delayed.add(now, Duration::ZERO, 1, ()).0);
        assert!(delayed.wait(), "one is due");
        assert_eq!(delayed.take_due(now).len(), 1);
        assert!(!delayed.wait());
        assert!(delayed.add(now, SECOND * 3600, 2, ()).0, "another thread is needed");
        delayed.end();
        assert!(!delayed.wait());
    }
}

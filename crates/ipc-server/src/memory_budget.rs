//! Limits the memory for bodies: a number of bytes that all connections share.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The shared bytes.
#[derive(Debug)]
pub(crate) struct MemoryBudget {
    taken: AtomicUsize,
    max: usize,
}

/// Bytes taken from the budget. They are given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    budget: Arc<MemoryBudget>,
    bytes: usize,
}

impl MemoryBudget {
    pub(crate) fn new(max: usize) -> Arc<Self> {
        Arc::new(MemoryBudget { taken: AtomicUsize::new(0), max })
    }
}

impl Reservation {
    /// A reservation of no bytes.
    pub(crate) fn none(budget: &Arc<MemoryBudget>) -> Self {
        Reservation { budget: Arc::clone(budget), bytes: 0 }
    }

    /// Grows the reservation to `bytes` in total. Returns `false` and changes nothing if the budget
    /// does not have enough.
    #[must_use]
    pub(crate) fn grow_to(&mut self, bytes: usize) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        let fits = |taken: usize| taken.checked_add(more).filter(|taken| *taken <= self.budget.max);
        let is_taken =
            self.budget.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok();
        if is_taken {
            self.bytes += more;
        }
        is_taken
    }

    /// Grows the reservation by `more` bytes, or returns `false` and changes nothing.
    #[cfg(feature = "python-compat")]
    #[must_use]
    pub(crate) fn grow_by(&mut self, more: usize) -> bool {
        self.grow_to(self.bytes.saturating_add(more))
    }

    /// Gives all but `bytes` back, if it has more.
    #[cfg(feature = "python-compat")]
    pub(crate) fn shrink_to(&mut self, bytes: usize) {
        let less = self.bytes.saturating_sub(bytes);
        self.bytes -= less;
        self.budget.taken.fetch_sub(less, Ordering::Relaxed);
    }

    /// Gives all bytes back.
    pub(crate) fn release(&mut self) {
        self.budget.taken.fetch_sub(std::mem::take(&mut self.bytes), Ordering::Relaxed);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(feature = "python-compat")]
    #[test]
    fn what_shrinks_gives_back_the_rest_and_grows_by_what_there_is() {
        let budget = MemoryBudget::new(10);
        let mut one = Reservation::none(&budget);
        assert!(one.grow_by(4) && one.grow_by(4) && !one.grow_by(3) && !one.grow_by(usize::MAX));
        one.shrink_to(9);
        assert_eq!(budget.taken.load(Ordering::Relaxed), 8);
        one.shrink_to(3);
        assert_eq!(budget.taken.load(Ordering::Relaxed), 3);
        drop(one);
        assert_eq!(budget.taken.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn no_more_is_taken_than_there_is_and_all_of_it_comes_back() {
        let budget = MemoryBudget::new(10);
        let (mut first, mut second) = (Reservation::none(&budget), Reservation::none(&budget));
        assert!(first.grow_to(6) && first.grow_to(4) && second.grow_to(4));
        assert!(!second.grow_to(5) && !second.grow_to(usize::MAX), "only 10 in all");
        drop(first);
        assert!(second.grow_to(10));
        second.release();
        drop(second);
        assert_eq!(budget.taken.load(Ordering::Relaxed), 0);
    }
}

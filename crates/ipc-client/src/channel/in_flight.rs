//! The table of a channel's entries that have no answer yet, by number.
//!
//! `engine` puts in the entries that it has sent. This file does not know what an entry is: the
//! items know which of their entries have an answer.

use std::collections::BTreeMap;
use std::ops::Range;

/// Contiguous entries. Positions are counted from 0 within the item.
pub(crate) trait Item {
    /// The number of entries.
    fn count(&self) -> u64;

    /// Whether some of the entries at these positions have no answer.
    fn is_open(&self, positions: Range<u64>) -> bool;

    /// Splits the item at a position within it.
    fn split_at(self, position: u64) -> (Self, Self)
    where
        Self: Sized;
}

/// An answer to an entry that was not sent or has an answer already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotInFlight;

/// Entries in flight, by the number of their first entry.
#[derive(Debug)]
pub(crate) struct InFlight<T> {
    items: BTreeMap<u64, T>,
    /// The number of the next entry.
    next: u64,
}

impl<T> Default for InFlight<T> {
    fn default() -> Self {
        InFlight { items: BTreeMap::new(), next: 0 }
    }
}

impl<T: Item> InFlight<T> {
    /// The number of the next entry.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Adds entries that were sent.
    pub(crate) fn push(&mut self, item: T) {
        let first = self.next;
        self.next += item.count();
        self.items.insert(first, item);
    }

    /// The items that have entries without an answer, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.items.values()
    }

    /// Processes the answer to the entries `first` to `last`. Calls `tell` for each item with the
    /// positions concerned. `tell` returns whether none of them had an answer.
    ///
    /// # Errors
    /// [`NotInFlight`] if one of the entries had an answer already, or was not sent.
    pub(crate) fn settle(
        &mut self,
        first: u64,
        last: u64,
        mut tell: impl FnMut(&T, Range<u64>) -> bool,
    ) -> Result<(), NotInFlight> {
        let mut number = first;
        while number <= last {
            let (&key, item) = self.items.range(..=number).next_back().ok_or(NotInFlight)?;
            let end = key + item.count();
            if number >= end {
                return Err(NotInFlight);
            }
            let run_end = end.min(last.saturating_add(1));
            if !tell(item, number - key..run_end - key) {
                return Err(NotInFlight);
            }
            if !item.is_open(0..item.count()) {
                self.items.remove(&key);
            }
            number = run_end;
        }
        Ok(())
    }

    /// Takes out the entries `first` to `last`, in order.
    pub(crate) fn take(&mut self, first: u64, last: u64) -> Vec<T> {
        let mut taken = Vec::new();
        for (number, item) in self.split_off(first) {
            let kept = last.saturating_add(1).saturating_sub(number);
            if kept == 0 {
                self.items.insert(number, item);
            } else if kept >= item.count() {
                taken.push(item);
            } else {
                let (front, behind) = item.split_at(kept);
                taken.push(front);
                self.items.insert(number + kept, behind);
            }
        }
        taken
    }

    /// Takes out all entries from number `from` on, in order.
    pub(crate) fn take_from(&mut self, from: u64) -> Vec<T> {
        self.split_off(from).into_iter().map(|(_, item)| item).collect()
    }

    fn split_off(&mut self, from: u64) -> Vec<(u64, T)> {
        let mut taken = Vec::new();
        let split = self.items.range(..from).next_back();
        if let Some((&key, item)) = split
            && key + item.count() > from
            && let Some(item) = self.items.remove(&key)
        {
            let (front, behind) = item.split_at(from - key);
            if front.is_open(0..front.count()) {
                self.items.insert(key, front);
            }
            taken.push((from, behind));
        }
        taken.extend(self.items.split_off(&from));
        taken
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;

    /// Named entries, and the names of those that have an answer.
    #[derive(Clone, Debug)]
    struct Named {
        names: Vec<u64>,
        answered: Rc<RefCell<Vec<u64>>>,
    }

    impl Item for Named {
        fn count(&self) -> u64 {
            self.names.len() as u64
        }

        fn is_open(&self, positions: Range<u64>) -> bool {
            let answered = self.answered.borrow();
            positions
                .into_iter()
                .any(|at| !answered.contains(&self.names[usize::try_from(at).unwrap()]))
        }

        fn split_at(mut self, position: u64) -> (Self, Self) {
            let behind = self.names.split_off(usize::try_from(position).unwrap());
            let answered = Rc::clone(&self.answered);
            (self, Named { names: behind, answered })
        }
    }

    /// A table with items of these sizes. Entries are named by their numbers.
    fn table(counts: &[u64]) -> (InFlight<Named>, Rc<RefCell<Vec<u64>>>) {
        let answered = Rc::<RefCell<Vec<u64>>>::default();
        let mut table = InFlight::default();
        for count in counts {
            let names = (table.next()..table.next() + count).collect();
            table.push(Named { names, answered: Rc::clone(&answered) });
        }
        (table, answered)
    }

    fn settle(table: &mut InFlight<Named>, first: u64, last: u64) -> Result<(), NotInFlight> {
        table.settle(first, last, |item, positions| {
            let mut answered = item.answered.borrow_mut();
            positions.into_iter().all(|at| {
                let name = item.names[usize::try_from(at).unwrap()];
                let is_new = !answered.contains(&name);
                answered.push(name);
                is_new
            })
        })
    }

    #[test]
    fn an_answer_settles_what_it_names_across_items_and_in_any_order() {
        let (mut table, answered) = table(&[1, 3, 2]);
        assert_eq!(settle(&mut table, 4, 5), Ok(()));
        assert_eq!(settle(&mut table, 0, 1), Ok(()));
        assert_eq!(settle(&mut table, 3, 3), Ok(()));
        assert_eq!(*answered.borrow(), [4, 5, 0, 1, 3]);
        assert_eq!(table.iter().count(), 1, "an entry of the second item is open");
        assert_eq!(settle(&mut table, 2, 2), Ok(()));
        assert!(table.is_empty() && table.next() == 6);
    }

    #[test]
    fn an_answer_to_what_was_not_sent_or_was_answered_is_none() {
        for (first, last) in [(3, 3), (1, 3), (0, u64::MAX), (u64::MAX, u64::MAX)] {
            let (mut table, _) = table(&[1, 2]);
            assert_eq!(settle(&mut table, first, last), Err(NotInFlight), "{first} to {last}");
        }
        let (mut table, _) = table(&[1, 2]);
        assert_eq!(settle(&mut table, 1, 1), Ok(()));
        assert_eq!(settle(&mut table, 1, 2), Err(NotInFlight), "entry 1 has an answer already");
        assert_eq!(settle(&mut InFlight::default(), 0, 0), Err(NotInFlight));
    }

    #[test]
    fn what_was_refused_from_a_number_on_is_taken_out_in_order_and_the_rest_stays() {
        let (mut table, _) = table(&[2, 4, 1]);
        settle(&mut table, 0, 2).unwrap();
        let taken: Vec<_> = table.take_from(4).into_iter().map(|item| item.names).collect();
        assert_eq!(taken, [vec![4, 5], vec![6]]);
        assert_eq!(settle(&mut table, 4, 4), Err(NotInFlight));
        assert_eq!(settle(&mut table, 3, 3), Ok(()));
        assert!(table.is_empty());
        assert!(table.take_from(0).is_empty());
    }

    #[test]
    fn what_lies_between_two_numbers_is_taken_out_and_the_rest_stays() {
        let (mut table, _) = table(&[2, 4, 1, 1]);
        settle(&mut table, 6, 6).unwrap();
        let taken: Vec<_> = table.take(1, 3).into_iter().map(|item| item.names).collect();
        assert_eq!(taken, [vec![1], vec![2, 3]]);
        for number in [0, 4, 5, 7] {
            assert_eq!(settle(&mut table, number, number), Ok(()), "{number}");
        }
        assert!(table.is_empty());
    }
}

//! Makes room in a table that is full, by removing its oldest entries.
//!
//! The tables of failed logins come here, so that a flood of names keeps no newcomer out.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash};
use std::time::Instant;

/// Removes the oldest tenth of a table, at least one entry, so that the next entries do not each
/// search for the oldest. `at` returns the time of an entry, or `None` if it has to stay.
pub(crate) fn remove_oldest<K: Eq + Hash, V, S: BuildHasher>(
    table: &mut HashMap<K, V, S>,
    at: impl Fn(&V) -> Option<Instant>,
) {
    let mut times: Vec<Instant> = table.values().filter_map(&at).collect();
    let mut left = (table.len() / 10).max(1).min(times.len());
    if left == 0 {
        return;
    }
    let (_, &mut last, _) = times.select_nth_unstable(left - 1);
    table.retain(|_, entry| {
        let goes = left > 0 && at(entry).is_some_and(|at| at <= last);
        left -= usize::from(goes);
        !goes
    });
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn table(entries: u64, start: Instant) -> HashMap<u64, Instant> {
        (0..entries).map(|number| (number, start + Duration::from_secs(number))).collect()
    }

    #[test]
    fn the_oldest_tenth_is_removed_and_at_least_one_entry() {
        let start = Instant::now();
        for (entries, left) in [(100, 10..100), (5, 1..5), (1, 0..0), (0, 0..0)] {
            let mut table = table(entries, start);
            remove_oldest(&mut table, |at| Some(*at));
            let mut numbers: Vec<_> = table.into_keys().collect();
            numbers.sort_unstable();
            assert_eq!(numbers, left.collect::<Vec<_>>());
        }
    }

    #[test]
    fn of_entries_of_one_time_no_more_are_removed_than_of_others() {
        let start = Instant::now();
        let mut table: HashMap<_, _> = (0..100).map(|number| (number, start)).collect();
        remove_oldest(&mut table, |at| Some(*at));
        assert_eq!(table.len(), 90);
    }

    #[test]
    fn what_has_to_stay_stays() {
        let start = Instant::now();
        let mut all = table(20, start);
        remove_oldest(&mut all, |at| (*at > start + Duration::from_secs(9)).then_some(*at));
        let mut numbers: Vec<_> = all.into_keys().collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..10).chain(12..20).collect::<Vec<_>>());
        let mut all = table(20, start);
        remove_oldest(&mut all, |_| None);
        assert_eq!(all.len(), 20);
    }
}

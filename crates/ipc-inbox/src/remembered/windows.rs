//! Ids that tell when they were made, and were made just now: those that most clients send.
//!
//! They are kept by the time they tell, a small table for each moment. So what is looked up and
//! entered now lies side by side and stays in the processor's caches, however many ids there are of
//! the past.

use std::collections::{HashMap, VecDeque, hash_map};
use std::time::{Duration, Instant};

use foldhash::quality::RandomState;

use super::entry::{BodyHash, Entry, Moment};

/// So many milliseconds, as a power of two, share a window: at a million messages a second it has
/// 128,000 ids, some megabytes.
const MILLIS_LOG2: u32 = 7;

// A window says the first five bytes of its ids, see `place_of`.
const _: () = assert!(MILLIS_LOG2 <= 8);

/// Ids are taken from so many windows before the present one, and from one after it, as the clocks
/// of two hosts may differ by a little. Nobody can make windows of other times.
const BEFORE: u64 = 16;
const AFTER: u64 = 1;

/// Between two looks for windows that are over.
const LOOK_EVERY: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(super) struct Windows {
    hasher: RandomState,
    windows: HashMap<u64, Window, RandomState>,
    /// The windows, as they were begun.
    begun: VecDeque<u64>,
    ids: usize,
    look_at: Instant,
}

/// A user's number, and of an id what its window does not say already: an entry of the map takes 24
/// bytes instead of 28.
type Rest = (u32, [u8; 11]);

#[derive(Debug)]
struct Window {
    ids: HashMap<Rest, BodyHash, RandomState>,
    /// When an id was last entered.
    last: Instant,
}

impl Windows {
    pub(super) fn new(hasher: &RandomState, now: Instant) -> Self {
        Windows {
            hasher: hasher.clone(),
            windows: HashMap::with_hasher(hasher.clone()),
            begun: VecDeque::new(),
            ids: 0,
            look_at: now,
        }
    }

    pub(super) fn ids(&self) -> usize {
        self.ids
    }

    pub(super) fn get(&self, entry: &Entry) -> Option<&BodyHash> {
        let (window, rest) = place_of(entry)?;
        self.windows.get(&window)?.ids.get(&rest)
    }

    /// Enters an id if it was made just now.
    pub(super) fn insert(&mut self, entry: Entry, body: BodyHash, at: Moment) -> bool {
        let present = at.unix_millis >> MILLIS_LOG2;
        let just_now = present.saturating_sub(BEFORE)..=present.saturating_add(AFTER);
        let Some((window, rest)) = place_of(&entry).filter(|(window, _)| just_now.contains(window))
        else {
            return false;
        };
        let window = match self.windows.entry(window) {
            hash_map::Entry::Occupied(window) => window.into_mut(),
            hash_map::Entry::Vacant(place) => {
                self.begun.push_back(window);
                place
                    .insert(Window { ids: HashMap::with_hasher(self.hasher.clone()), last: at.now })
            }
        };
        window.last = at.now;
        self.ids += usize::from(window.ids.insert(rest, body).is_none());
        true
    }

    /// Lets go of windows whose last id was entered more than a period ago.
    pub(super) fn forget(&mut self, now: Instant, period: Duration) {
        if now < self.look_at {
            return;
        }
        self.look_at = now + LOOK_EVERY;
        while let Some(first) = self.begun.front()
            && let Some(window) = self.windows.get(first)
            && now.saturating_duration_since(window.last) > period
        {
            self.ids -= window.ids.len();
            self.windows.remove(first);
            self.begun.pop_front();
        }
    }
}

/// The window of an id that tells its time, and what is left of it. The first five bytes are the
/// upper bits of the time, more than which the window has.
fn place_of((user, id): &Entry) -> Option<(u64, Rest)> {
    let [_, _, _, _, _, rest @ ..] = *id.as_bytes();
    Some((id.millis()? >> MILLIS_LOG2, (*user, rest)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipc_protocol::MessageId;

    #[test]
    fn an_entry_takes_24_bytes() {
        assert_eq!(size_of::<(Rest, BodyHash)>(), 24);
    }

    #[test]
    fn nobody_makes_windows_of_other_times() {
        let (now, hasher) = (Instant::now(), RandomState::default());
        let mut windows = Windows::new(&hasher, now);
        let present = 1_700_000_000_000;
        let at = Moment { now, unix_millis: present };
        let mut taken = 0;
        for millis in (present - 60_000..present + 60_000).step_by(10) {
            taken +=
                usize::from(windows.insert((1, MessageId::from_time(millis, [0; 10])), [0; 8], at));
        }
        assert_eq!(windows.windows.len() as u64, BEFORE + 1 + AFTER);
        assert_eq!((windows.ids, windows.begun.len()), (taken, windows.windows.len()));
        windows.forget(now + Duration::from_secs(601), Duration::from_secs(600));
        assert_eq!((windows.ids, windows.begun.len(), windows.windows.len()), (0, 0, 0));
    }
}

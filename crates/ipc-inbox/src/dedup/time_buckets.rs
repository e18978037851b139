//! Ids that contain the time they were drawn and were drawn just now, as most clients send them.
//!
//! They are grouped by that time, one small map for each short interval. So the ids that are looked
//! up and inserted now share a few memory pages, which stay in the processor's caches however many
//! older ids there are.

use std::collections::{HashMap, VecDeque, hash_map};
use std::time::{Duration, Instant};

use foldhash::quality::RandomState;

use super::entry::{BodyHash, Clocks, Entry};

/// A bucket covers 2 to the power of this many milliseconds. At a million messages a second a
/// bucket has 128,000 ids, which take some megabytes.
const MILLIS_LOG2: u32 = 7;

// A bucket stands for the first five bytes of its ids, see `bucket_of`.
const _: () = assert!(MILLIS_LOG2 <= 8);

/// How many buckets before and after the present one accept ids: the clocks of two hosts may differ
/// a little. No client can create buckets for other times.
const BEFORE: u64 = 16;
const AFTER: u64 = 1;

/// The pause between two searches for expired buckets.
const LOOK_EVERY: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(super) struct TimeBuckets {
    hasher: RandomState,
    buckets: HashMap<u64, Bucket, RandomState>,
    /// The buckets, in the order of their creation.
    begun: VecDeque<u64>,
    ids: usize,
    look_at: Instant,
}

/// A user's number, and the part of an id that the bucket does not imply. An entry of the map takes
/// 24 bytes instead of 28.
type Rest = (u32, [u8; 11]);

#[derive(Debug)]
struct Bucket {
    ids: HashMap<Rest, BodyHash, RandomState>,
    /// How many of them each user has.
    of_each: HashMap<u32, usize, RandomState>,
    /// When an id was last inserted.
    last: Instant,
}

impl TimeBuckets {
    pub(super) fn new(hasher: &RandomState, now: Instant) -> Self {
        TimeBuckets {
            hasher: hasher.clone(),
            buckets: HashMap::with_hasher(hasher.clone()),
            begun: VecDeque::new(),
            ids: 0,
            look_at: now,
        }
    }

    pub(super) fn ids(&self) -> usize {
        self.ids
    }

    pub(super) fn get(&self, entry: &Entry) -> Option<&BodyHash> {
        let (bucket, rest) = bucket_of(entry)?;
        self.buckets.get(&bucket)?.ids.get(&rest)
    }

    /// Inserts an id if it was drawn just now. Returns whether it did.
    pub(super) fn insert(&mut self, entry: Entry, body: BodyHash, at: Clocks) -> bool {
        let present = at.unix_millis >> MILLIS_LOG2;
        let just_now = present.saturating_sub(BEFORE)..=present.saturating_add(AFTER);
        let Some((bucket, rest)) =
            bucket_of(&entry).filter(|(bucket, _)| just_now.contains(bucket))
        else {
            return false;
        };
        let bucket = match self.buckets.entry(bucket) {
            hash_map::Entry::Occupied(bucket) => bucket.into_mut(),
            hash_map::Entry::Vacant(place) => {
                self.begun.push_back(bucket);
                place.insert(Bucket {
                    ids: HashMap::with_hasher(self.hasher.clone()),
                    of_each: HashMap::with_hasher(self.hasher.clone()),
                    last: at.now,
                })
            }
        };
        bucket.last = at.now;
        if bucket.ids.insert(rest, body).is_none() {
            self.ids += 1;
            *bucket.of_each.entry(entry.0).or_default() += 1;
        }
        true
    }

    /// Drops buckets whose last id was inserted more than a period ago. Calls `forgotten` with the
    /// users whose ids were dropped, and how many.
    pub(super) fn forget(
        &mut self,
        now: Instant,
        period: Duration,
        mut forgotten: impl FnMut(u32, usize),
    ) {
        if now < self.look_at {
            return;
        }
        self.look_at = now + LOOK_EVERY;
        while let Some(first) = self.begun.front()
            && let Some(bucket) = self.buckets.get(first)
            && now.saturating_duration_since(bucket.last) > period
        {
            self.ids -= bucket.ids.len();
            bucket.of_each.iter().for_each(|(user, ids)| forgotten(*user, *ids));
            self.buckets.remove(first);
            self.begun.pop_front();
        }
    }
}

/// The bucket of an id that contains its time, and the rest of the id. The first five bytes are the
/// upper bits of the time, and the number of the bucket implies them.
fn bucket_of((user, id): &Entry) -> Option<(u64, Rest)> {
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
        let mut buckets = TimeBuckets::new(&hasher, now);
        let present = 1_700_000_000_000;
        let at = Clocks { now, unix_millis: present };
        let mut taken = 0;
        for millis in (present - 60_000..present + 60_000).step_by(10) {
            taken +=
                usize::from(buckets.insert((1, MessageId::from_time(millis, [0; 10])), [0; 8], at));
        }
        assert_eq!(buckets.buckets.len() as u64, BEFORE + 1 + AFTER);
        assert_eq!((buckets.ids, buckets.begun.len()), (taken, buckets.buckets.len()));
        let mut forgotten = 0;
        buckets.forget(now + Duration::from_secs(601), Duration::from_secs(600), |user, ids| {
            assert_eq!(user, 1);
            forgotten += ids;
        });
        assert_eq!(forgotten, taken);
        assert_eq!((buckets.ids, buckets.begun.len(), buckets.buckets.len()), (0, 0, 0));
    }
}

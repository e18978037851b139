//! The accepted ids of each user, with a hash of the body that tells a duplicate from a reused id.
//! The time is an argument.

mod entry;
mod time_buckets;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use foldhash::quality::RandomState;
use ipc_protocol::MessageId;

use entry::Entry;
pub(crate) use entry::{BodyHash, Clocks};
use time_buckets::TimeBuckets;

/// How many shards the ids are distributed over, by their last bits, which are random in every kind
/// of UUID that clients draw. A shard that grows moves all its entries at once. A small shard is
/// done soon; one with millions of entries would delay every caller.
const SHARDS: usize = 1024;

/// Remembers each id for at least one period and at most two. [`TimeBuckets`] keeps the ids that
/// were drawn just now. All others are in two generations: once a period the older generation is
/// dropped as a whole, at the same cost for any number of ids.
#[derive(Debug)]
pub(crate) struct Dedup {
    period: Duration,
    ids_max: usize,
    user_ids_max: usize,
    /// A number for each user, so that every entry has one small size.
    users: HashMap<Arc<str>, u32, RandomState>,
    /// How many ids each user has, by the user's number.
    ids_of: Vec<usize>,
    hasher: RandomState,
    buckets: TimeBuckets,
    current: Generation,
    previous: Generation,
    current_since: Instant,
}

/// The ids of one period.
#[derive(Debug)]
struct Generation {
    shards: Box<[HashMap<Entry, BodyHash, RandomState>]>,
    ids: usize,
    /// How many of them each user has.
    of_each: HashMap<u32, usize, RandomState>,
}

impl Generation {
    fn new(hasher: &RandomState) -> Self {
        // An empty shard allocates no memory.
        let shards = (0..SHARDS).map(|_| HashMap::with_hasher(hasher.clone())).collect();
        Generation { shards, ids: 0, of_each: HashMap::with_hasher(hasher.clone()) }
    }

    fn shard(entry: &Entry) -> usize {
        let [.., last_but_one, last] = *entry.1.as_bytes();
        usize::from(u16::from_be_bytes([last_but_one, last])) % SHARDS
    }

    fn get(&self, entry: &Entry) -> Option<&BodyHash> {
        if self.ids == 0 {
            // The older generation is usually empty in the first minutes of a process.
            return None;
        }
        self.shards[Self::shard(entry)].get(entry)
    }

    fn insert(&mut self, entry: Entry, body: BodyHash) {
        if self.shards[Self::shard(&entry)].insert(entry, body).is_none() {
            self.ids += 1;
            *self.of_each.entry(entry.0).or_default() += 1;
        }
    }
}

/// What is known of an id.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// The id is new.
    New,
    /// The id was accepted with the same body.
    SameBody,
    /// The id was accepted with another body.
    OtherBody,
}

impl Dedup {
    /// Remembers `ids_max` ids at most, `user_ids_max` of each user.
    pub(crate) fn new(period: Duration, ids_max: usize, user_ids_max: usize, now: Instant) -> Self {
        // The key is random in each process: no client can choose ids that collide.
        let hasher = RandomState::default();
        Dedup {
            period,
            ids_max,
            user_ids_max,
            users: HashMap::with_hasher(hasher.clone()),
            ids_of: Vec::new(),
            buckets: TimeBuckets::new(&hasher, now),
            current: Generation::new(&hasher),
            previous: Generation::new(&hasher),
            hasher,
            current_since: now,
        }
    }

    pub(crate) fn look_up(
        &mut self,
        user: &str,
        id: MessageId,
        body: BodyHash,
        at: Clocks,
    ) -> Known {
        self.rotate(at.now);
        let Some(&user) = self.users.get(user) else { return Known::New };
        let entry = (user, id);
        // All of them are searched: an id drawn just now may have been accepted earlier, when the
        // clock differed.
        let elsewhere = || self.current.get(&entry).or_else(|| self.previous.get(&entry));
        match self.buckets.get(&entry).or_else(elsewhere) {
            None => Known::New,
            Some(hash) if *hash == body => Known::SameBody,
            Some(_) => Known::OtherBody,
        }
    }

    /// Whether one more id of this user can be remembered.
    pub(crate) fn has_room(&self, user: &str) -> bool {
        let own = self.users.get(user).map_or(0, |number| self.ids_of[*number as usize]);
        own < self.user_ids_max && self.ids() < self.ids_max
    }

    /// How many ids are remembered.
    pub(crate) fn ids(&self) -> usize {
        self.buckets.ids() + self.current.ids + self.previous.ids
    }

    pub(crate) fn insert(&mut self, user: &Arc<str>, id: MessageId, body: BodyHash, at: Clocks) {
        self.rotate(at.now);
        let user = match self.users.get(user) {
            Some(&number) => number,
            None => {
                let number = u32::try_from(self.users.len())
                    .expect("fewer than 4 billion users send within a period");
                self.users.insert(Arc::clone(user), number);
                self.ids_of.push(0);
                number
            }
        };
        // The caller has looked the id up: it is new.
        self.ids_of[user as usize] += 1;
        if !self.buckets.insert((user, id), body, at) {
            self.current.insert((user, id), body);
        }
    }

    fn rotate(&mut self, now: Instant) {
        let ids_of = &mut self.ids_of;
        self.buckets.forget(now, self.period, |user, ids| ids_of[user as usize] -= ids);
        let age = now.saturating_duration_since(self.current_since);
        if age < self.period {
            return;
        }
        let dropped = std::mem::replace(
            &mut self.previous,
            std::mem::replace(&mut self.current, Generation::new(&self.hasher)),
        );
        for (user, ids) in dropped.of_each {
            self.ids_of[user as usize] -= ids;
        }
        if age >= self.period * 2 {
            self.previous = Generation::new(&self.hasher);
            self.buckets = TimeBuckets::new(&self.hasher, now);
            self.users = HashMap::with_hasher(self.hasher.clone());
            self.ids_of = Vec::new();
        }
        self.current_since = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Duration = Duration::from_secs(600);

    const ONE: BodyHash = [1; 8];
    const OTHER: BodyHash = [2; 8];

    /// The tests begin at this Unix time.
    const START_MILLIS: u64 = 1_700_000_000_000;

    struct Clock(Instant);

    impl Clock {
        fn at(&self, secs: u64) -> Clocks {
            Clocks {
                now: self.0 + Duration::from_secs(secs),
                unix_millis: START_MILLIS + secs * 1000,
            }
        }
    }

    fn remembered(ids_max: usize) -> (Clock, Dedup) {
        let now = Instant::now();
        (Clock(now), Dedup::new(PERIOD, ids_max, usize::MAX, now))
    }

    fn random_id(number: u8) -> MessageId {
        MessageId::from_random([number; 16])
    }

    /// An id that was drawn this long after [`START_MILLIS`].
    fn timed_id(millis: u64) -> MessageId {
        MessageId::from_time(START_MILLIS + millis, [0; 10])
    }

    /// An id without a time, one drawn at that time, one drawn earlier, and one with a time in the
    /// future.
    fn ids(millis: u64) -> [MessageId; 4] {
        [
            random_id(1),
            timed_id(millis),
            timed_id(millis.saturating_sub(400_000)),
            timed_id(millis + 300_000),
        ]
    }

    #[test]
    fn an_id_is_known_with_its_body_and_for_its_user_only() {
        for (id, another) in [(random_id(1), random_id(2)), (timed_id(0), timed_id(1))] {
            let (clock, mut remembered) = remembered(100);
            let at = clock.at(0);
            let user: Arc<str> = "a".into();
            assert_eq!(remembered.look_up("a", id, ONE, at), Known::New);
            remembered.insert(&user, id, ONE, at);
            assert_eq!(remembered.look_up("a", id, ONE, at), Known::SameBody);
            assert_eq!(remembered.look_up("a", id, OTHER, at), Known::OtherBody);
            assert_eq!(remembered.look_up("a", another, ONE, at), Known::New);
            assert_eq!(remembered.look_up("b", id, ONE, at), Known::New);
            remembered.insert(&"b".into(), id, OTHER, at);
            assert_eq!(remembered.look_up("a", id, ONE, at), Known::SameBody);
            assert_eq!(remembered.look_up("b", id, ONE, at), Known::OtherBody);
        }
    }

    #[test]
    fn an_id_is_known_for_a_whole_period_whatever_it_tells_and_wherever_in_a_generation_it_came() {
        for came_after in [0, 1, 300, 599] {
            for id in ids(came_after * 1000) {
                let (clock, mut remembered) = remembered(100);
                let user: Arc<str> = "a".into();
                remembered.insert(&user, id, ONE, clock.at(came_after));
                for later in [1, 299, 300, 301, 599, 600] {
                    let at = clock.at(came_after + later);
                    assert_eq!(
                        remembered.look_up("a", id, ONE, at),
                        Known::SameBody,
                        "{id} {came_after} + {later}"
                    );
                }
                assert_eq!(
                    remembered.look_up("a", id, ONE, clock.at(came_after + 1800)),
                    Known::New
                );
            }
        }
    }

    #[test]
    fn a_clock_that_was_set_makes_nobody_forget() {
        let (clock, mut remembered) = remembered(100);
        let user: Arc<str> = "a".into();
        remembered.insert(&user, timed_id(0), ONE, clock.at(0));
        for unix_millis in [START_MILLIS - 3_600_000, START_MILLIS + 3_600_000] {
            let at = Clocks { unix_millis, ..clock.at(599) };
            assert_eq!(remembered.look_up("a", timed_id(0), ONE, at), Known::SameBody);
        }
    }

    #[test]
    fn ids_made_just_now_are_let_go_by_themselves_and_count_as_long_as_they_are_there() {
        let (clock, mut remembered) = remembered(2);
        let user: Arc<str> = "a".into();
        remembered.insert(&user, timed_id(0), ONE, clock.at(0));
        remembered.insert(&user, timed_id(300_000), ONE, clock.at(300));
        assert!(!remembered.has_room("a"));
        assert_eq!(remembered.look_up("a", timed_id(0), ONE, clock.at(601)), Known::New);
        assert!(remembered.has_room("a"));
        assert_eq!(remembered.look_up("a", timed_id(300_000), ONE, clock.at(601)), Known::SameBody);
    }

    #[test]
    fn a_user_with_as_many_ids_as_one_may_have_takes_no_room_of_others() {
        for make in [|number: u8| timed_id(u64::from(number)), random_id] {
            let now = Instant::now();
            let (clock, mut remembered) = (Clock(now), Dedup::new(PERIOD, 100, 2, now));
            let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
            remembered.insert(&a, make(1), ONE, clock.at(0));
            assert!(remembered.has_room("a"));
            remembered.insert(&a, make(2), ONE, clock.at(0));
            assert!(!remembered.has_room("a") && remembered.has_room("b"));
            remembered.insert(&b, make(1), ONE, clock.at(0));
            assert!(remembered.has_room("b"));
            // Not before its time …
            for secs in [300, 599, 600] {
                assert_eq!(remembered.look_up("a", make(1), ONE, clock.at(secs)), Known::SameBody);
                assert!(!remembered.has_room("a"), "{secs}");
            }
            // … and then by itself, while another user keeps the inbox busy.
            for secs in [700, 1100, 1201] {
                remembered.insert(
                    &b,
                    random_id(u8::try_from(secs / 10).unwrap_or(0)),
                    ONE,
                    clock.at(secs),
                );
            }
            assert_eq!(remembered.look_up("a", make(1), ONE, clock.at(1201)), Known::New);
            assert!(remembered.has_room("a"));
            assert_eq!(remembered.ids_of[0], 0);
        }
    }

    #[test]
    fn after_a_long_silence_everything_is_forgotten() {
        for id in ids(0) {
            let (clock, mut remembered) = remembered(1);
            remembered.insert(&"a".into(), id, ONE, clock.at(0));
            assert!(!remembered.has_room("a"));
            assert_eq!(remembered.look_up("a", id, ONE, clock.at(1200)), Known::New);
            assert!(remembered.has_room("a"));
            assert!(remembered.users.is_empty());
        }
    }

    #[test]
    fn an_entry_takes_28_bytes() {
        assert_eq!(size_of::<(Entry, BodyHash)>(), 28);
    }
}

//! The ids that were accepted, for each user, with enough of the body to tell a repetition from a reused id.
//! The time is an argument.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use foldhash::quality::RandomState;
use ipc_protocol::MessageId;

/// Into so many tables ids are parted by their last bits, which are random in every kind of UUID that anybody draws. A table that grows moves all its entries at once: a small one is
/// soon done, where one of millions would hold everybody up.
const TABLES: usize = 1024;

/// Remembers each id for at least a period, and at most two: ids are kept in two generations, and once a period
/// the older one is let go as a whole, which costs the same however many there are.
#[derive(Debug)]
pub(crate) struct Remembered {
    period: Duration,
    ids_max: usize,
    /// A number for each user, so that an entry is of one small size.
    users: HashMap<Arc<str>, u32>,
    hasher: RandomState,
    current: Generation,
    previous: Generation,
    current_since: Instant,
}

/// The ids of a period.
#[derive(Debug)]
struct Generation {
    tables: Box<[HashMap<Entry, BodyHash, RandomState>]>,
    ids: usize,
}

impl Generation {
    fn new(hasher: &RandomState) -> Self {
        // A table without entries takes no memory of its own.
        let tables = (0..TABLES).map(|_| HashMap::with_hasher(hasher.clone())).collect();
        Generation { tables, ids: 0 }
    }

    fn table(entry: &Entry) -> usize {
        let [.., last_but_one, last] = *entry.1.as_bytes();
        usize::from(u16::from_be_bytes([last_but_one, last])) % TABLES
    }

    fn get(&self, entry: &Entry) -> Option<&BodyHash> {
        if self.ids == 0 {
            // The older generation mostly is empty in a process's first minutes.
            return None;
        }
        self.tables[Self::table(entry)].get(entry)
    }

    fn insert(&mut self, entry: Entry, body: BodyHash) {
        self.ids += usize::from(self.tables[Self::table(&entry)].insert(entry, body).is_none());
    }
}

/// A user's number and a message's id.
type Entry = (u32, MessageId);

/// A body's hash; in bytes, so that an entry of the map has no padding: 28 bytes instead of 32.
pub(crate) type BodyHash = [u8; 8];

/// What is known of an id.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// Nothing.
    New,
    /// It came with the same body.
    SameBody,
    /// It came with another body.
    OtherBody,
}

impl Remembered {
    pub(crate) fn new(period: Duration, ids_max: usize, now: Instant) -> Self {
        // Keyed afresh in each process: nobody can choose ids that meet in one place.
        let hasher = RandomState::default();
        Remembered {
            period,
            ids_max,
            users: HashMap::new(),
            current: Generation::new(&hasher),
            previous: Generation::new(&hasher),
            hasher,
            current_since: now,
        }
    }

    pub(crate) fn look_up(&mut self, user: &str, id: MessageId, body: BodyHash, now: Instant) -> Known {
        self.rotate(now);
        let Some(&user) = self.users.get(user) else { return Known::New };
        let entry = (user, id);
        match self.current.get(&entry).or_else(|| self.previous.get(&entry)) {
            None => Known::New,
            Some(hash) if *hash == body => Known::SameBody,
            Some(_) => Known::OtherBody,
        }
    }

    /// Whether one more id may be remembered.
    pub(crate) fn has_room(&self) -> bool {
        self.current.ids + self.previous.ids < self.ids_max
    }

    pub(crate) fn insert(&mut self, user: &Arc<str>, id: MessageId, body: BodyHash, now: Instant) {
        self.rotate(now);
        let user = match self.users.get(user) {
            Some(&number) => number,
            None => {
                let number =
                    u32::try_from(self.users.len()).expect("fewer than 4 billion users send within a period");
                self.users.insert(Arc::clone(user), number);
                number
            }
        };
        self.current.insert((user, id), body);
    }

    fn rotate(&mut self, now: Instant) {
        let age = now.saturating_duration_since(self.current_since);
        if age < self.period {
            return;
        }
        self.previous = std::mem::replace(&mut self.current, Generation::new(&self.hasher));
        if age >= self.period * 2 {
            self.previous = Generation::new(&self.hasher);
            self.users = HashMap::new();
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

    fn id(number: u8) -> MessageId {
        MessageId::from_random([number; 16])
    }

    #[test]
    fn an_id_is_known_with_its_body_and_for_its_user_only() {
        let now = Instant::now();
        let mut remembered = Remembered::new(PERIOD, 100, now);
        let user: Arc<str> = "a".into();
        assert_eq!(remembered.look_up("a", id(1), ONE, now), Known::New);
        remembered.insert(&user, id(1), ONE, now);
        assert_eq!(remembered.look_up("a", id(1), ONE, now), Known::SameBody);
        assert_eq!(remembered.look_up("a", id(1), OTHER, now), Known::OtherBody);
        assert_eq!(remembered.look_up("a", id(2), ONE, now), Known::New);
        assert_eq!(remembered.look_up("b", id(1), ONE, now), Known::New);
        remembered.insert(&"b".into(), id(1), OTHER, now);
        assert_eq!(remembered.look_up("a", id(1), ONE, now), Known::SameBody);
        assert_eq!(remembered.look_up("b", id(1), ONE, now), Known::OtherBody);
    }

    #[test]
    fn an_id_is_known_for_a_whole_period_wherever_in_a_generation_it_came() {
        let start = Instant::now();
        for came_after in [0, 1, 300, 599] {
            let mut remembered = Remembered::new(PERIOD, 100, start);
            let user: Arc<str> = "a".into();
            let came = start + Duration::from_secs(came_after);
            remembered.insert(&user, id(1), ONE, came);
            for later in [1, 300, 599, 600] {
                let now = came + Duration::from_secs(later);
                assert_eq!(
                    remembered.look_up("a", id(1), ONE, now),
                    Known::SameBody,
                    "{came_after} + {later}"
                );
            }
            let forgotten = came + PERIOD * 3;
            assert_eq!(remembered.look_up("a", id(1), ONE, forgotten), Known::New);
        }
    }

    #[test]
    fn after_a_long_silence_everything_is_forgotten() {
        let start = Instant::now();
        let mut remembered = Remembered::new(PERIOD, 1, start);
        remembered.insert(&"a".into(), id(1), ONE, start);
        assert!(!remembered.has_room());
        assert_eq!(remembered.look_up("a", id(1), ONE, start + PERIOD * 2), Known::New);
        assert!(remembered.has_room());
        assert!(remembered.users.is_empty());
    }

    #[test]
    fn an_entry_takes_28_bytes() {
        assert_eq!(size_of::<(Entry, BodyHash)>(), 28);
    }
}

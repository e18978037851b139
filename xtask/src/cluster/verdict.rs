//! Records what was acknowledged, stored and delivered, and judges it by what `docs/delivery.md`
//! promises for an inbox on JetStream.
//!
//! A run comes here with every answer of a client, every message of the stream and every delivery.
//! Nothing here starts a process or connects.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::time::Duration;

use serde_json::Value;

use super::clients::Kind;

/// The sender in a message's `from`, and the number of the message.
type Key = (String, u64);

/// How many messages a report names.
const NAMED_MAX: usize = 20;

/// The longest time that a client may wait through a failure.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(10);

/// Everything that is known of the messages of a run.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    acknowledged: BTreeMap<String, BTreeSet<u64>>,
    unanswered: BTreeSet<Key>,
    /// The first place of each stored message.
    stored: HashMap<Key, u64>,
    stored_twice: BTreeSet<Key>,
    /// The place of the last stored message, and the greatest number of each sender until then.
    last_sequence: u64,
    highest: HashMap<String, u64>,
    stored_out_of_order: BTreeSet<Key>,
    swapped: u64,
    /// The last delivery of each message.
    delivered: HashMap<Key, Delivery>,
    /// How many faults of NATS there were.
    nats_faults: u32,
    unmarked: u64,
    /// First deliveries in their order, for each start of a server.
    in_order: BTreeMap<u32, Vec<Key>>,
    delivered_twice: BTreeSet<Key>,
    redelivered: u64,
    longest_wait: Option<(Duration, String)>,
}

#[derive(Debug)]
struct Delivery {
    id: String,
    /// The start of a server that was given it.
    run: u32,
    /// How many faults of NATS there were before.
    nats_faults: u32,
}

/// A message in the body of which the fixture has written its sender and number.
fn key(body: &Value) -> Option<Key> {
    Some((body["from"].as_str()?.to_owned(), body["n"].as_u64()?))
}

impl Ledger {
    /// Records an answer, and how long its call took.
    pub(super) fn acknowledge(&mut self, from: &str, number: u64, has_reply: bool) {
        self.acknowledged.entry(from.to_owned()).or_default().insert(number);
        if !has_reply {
            self.unanswered.insert((from.to_owned(), number));
        }
    }

    /// Records how long a call took, and what for.
    pub(super) fn wait(&mut self, time: Duration, what: impl FnOnce() -> String) {
        if self.longest_wait.as_ref().is_none_or(|(longest, _)| *longest < time) {
            self.longest_wait = Some((time, what()));
        }
    }

    /// Records a stored message. They come in the order of the stream.
    pub(super) fn store(&mut self, sequence: u64, body: &[u8]) -> Result<(), String> {
        self.last_sequence = self.last_sequence.max(sequence);
        let body: Option<Value> = serde_json::from_slice(body).ok();
        let key = body.as_ref().and_then(key);
        let key = key.ok_or_else(|| format!("message {sequence} of the stream: {body:?}"))?;
        if self.stored.contains_key(&key) {
            self.stored_twice.insert(key);
            return Ok(());
        }
        self.stored.insert(key.clone(), sequence);
        let highest = self.highest.entry(key.0.clone()).or_default();
        if *highest > key.1 {
            match Kind::of(&key.0) {
                // One that had no answer when a NATS server died may come after one that followed
                // it in the same call.
                Some(kind) if (*highest - 1) / kind.each == (key.1 - 1) / kind.each => {
                    self.swapped += 1;
                }
                _ => drop(self.stored_out_of_order.insert(key)),
            }
        } else {
            *highest = key.1;
        }
        Ok(())
    }

    /// The place of the last message that was recorded as stored.
    pub(super) fn last_sequence(&self) -> u64 {
        self.last_sequence
    }

    /// Records what the command of this start of a server was given: id, earlier deliveries, body.
    pub(super) fn deliver(&mut self, run: u32, line: &str) -> Result<(), String> {
        let wrong = || format!("the command wrote a line that is no message: {line}");
        let mut words = line.splitn(3, ' ');
        let (id, times, body) = (words.next(), words.next(), words.next());
        let id = id.ok_or_else(wrong)?.to_owned();
        let times: u64 = times.and_then(|times| times.parse().ok()).ok_or_else(wrong)?;
        let body: Option<Value> = body.and_then(|body| serde_json::from_str(body).ok());
        let key = body.as_ref().and_then(key).ok_or_else(wrong)?;
        let delivery = Delivery { id, run, nats_faults: self.nats_faults };
        match self.delivered.insert(key.clone(), delivery) {
            Some(before) if before.id != self.delivered[&key].id => {
                self.delivered_twice.insert(key);
            }
            Some(_) if times > 0 => self.redelivered += 1,
            // The NATS server that had delivered it died before the others knew, and another
            // web-ipc server gets it.
            Some(before) if before.run != run && before.nats_faults < self.nats_faults => {
                self.unmarked += 1;
            }
            Some(_) => {
                self.delivered_twice.insert(key);
            }
            None if times == 0 => self.in_order.entry(run).or_default().push(key),
            None => {}
        }
        Ok(())
    }

    /// Records that a NATS server dies, or loses a link to another.
    pub(super) fn nats_fails(&mut self) {
        self.nats_faults += 1;
    }

    fn lost(&self) -> impl Iterator<Item = Key> {
        let all = self.acknowledged.iter();
        all.flat_map(|(from, numbers)| numbers.iter().map(|number| (from.clone(), *number)))
            .filter(|key| !self.delivered.contains_key(key))
    }

    /// The messages that a server was given for the first time after a later one. Without a stream
    /// the numbers of each sender have to rise.
    fn delivered_out_of_order(&self) -> Vec<Key> {
        let mut late = Vec::new();
        for keys in self.in_order.values() {
            let mut highest: HashMap<&str, u64> = HashMap::new();
            for key in keys {
                // A message that was removed from the stream before it was read has no place.
                let (row, place) = match self.stored.is_empty() {
                    false => ("", self.stored.get(key).copied()),
                    true => (key.0.as_str(), Some(key.1)),
                };
                let Some(place) = place else { continue };
                let highest = highest.entry(row).or_default();
                if *highest > place {
                    late.push(key.clone());
                }
                *highest = place.max(*highest);
            }
        }
        late
    }

    pub(super) fn verdict(&self) -> Verdict {
        let list = |keys: &BTreeSet<Key>| keys.iter().cloned().collect();
        Verdict {
            acknowledged: self.acknowledged.values().map(BTreeSet::len).sum(),
            stored: self.stored.len(),
            lost: self.lost().collect(),
            stored_twice: list(&self.stored_twice),
            delivered_twice: list(&self.delivered_twice),
            stored_out_of_order: list(&self.stored_out_of_order),
            delivered_out_of_order: self.delivered_out_of_order(),
            unanswered: list(&self.unanswered),
            redelivered: self.redelivered,
            swapped: self.swapped,
            unmarked: self.unmarked,
            longest_wait: self.longest_wait.clone().unwrap_or_default(),
        }
    }
}

/// What became of the messages of a run.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// How many messages were acknowledged to their clients.
    pub(crate) acknowledged: usize,
    /// How many different messages the stream had.
    pub(crate) stored: usize,
    /// Acknowledged messages that were never delivered.
    pub(crate) lost: Vec<Key>,
    /// Messages that the stream had under two sequences.
    pub(crate) stored_twice: Vec<Key>,
    /// Messages that were delivered again without a mark, or under another id.
    pub(crate) delivered_twice: Vec<Key>,
    /// Messages that were stored after a later one, and not in the same call.
    pub(crate) stored_out_of_order: Vec<Key>,
    /// Messages that a server was given for the first time after a later one.
    pub(crate) delivered_out_of_order: Vec<Key>,
    /// Requests without a reply.
    pub(crate) unanswered: Vec<Key>,
    /// Deliveries of a message after its first, all marked.
    pub(crate) redelivered: u64,
    /// Messages of one call that were stored in another order, as is documented.
    pub(crate) swapped: u64,
    /// Messages that came to another server without a mark, since a NATS server had died that had
    /// delivered them before, as is documented.
    pub(crate) unmarked: u64,
    /// How long a call took at most, from its beginning to its answer, and which.
    pub(crate) longest_wait: (Duration, String),
}

impl Verdict {
    fn kinds(&self) -> [(&'static str, &[Key]); 6] {
        [
            ("lost", &self.lost),
            ("stored twice", &self.stored_twice),
            ("delivered twice without a mark", &self.delivered_twice),
            ("stored out of order", &self.stored_out_of_order),
            ("delivered out of order", &self.delivered_out_of_order),
            ("without a reply", &self.unanswered),
        ]
    }

    /// Whether every promise was kept, and nobody waited for too long.
    pub(crate) fn is_good(&self) -> bool {
        self.kinds().iter().all(|(_, keys)| keys.is_empty()) && self.longest_wait.0 < WAIT_MAX
    }

    /// The messages behind a bad verdict, one line for each kind.
    pub(crate) fn details(&self) -> String {
        let mut details = String::new();
        for (what, keys) in self.kinds().iter().filter(|(_, keys)| !keys.is_empty()) {
            let named: Vec<String> =
                keys.iter().take(NAMED_MAX).map(|(from, n)| format!("{from} {n}")).collect();
            details += &format!("{what}: {}", named.join(", "));
            if keys.len() > NAMED_MAX {
                details += &format!(" and {} more", keys.len() - NAMED_MAX);
            }
            details.push('\n');
        }
        if self.longest_wait.0 >= WAIT_MAX {
            details += &format!("a client waited {WAIT_MAX:?} or longer\n");
        }
        details
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} acknowledged, {} stored", self.acknowledged, self.stored)?;
        for (what, keys) in self.kinds() {
            write!(f, ", {} {what}", keys.len())?;
        }
        let (wait, what) = &self.longest_wait;
        write!(
            f,
            ", {} redelivered and marked, {} without a mark after a death of NATS, {} in another \
             order within a call; the longest wait was {:.1} s ({what})",
            self.redelivered,
            self.unmarked,
            self.swapped,
            wait.as_secs_f64()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "send.1";

    fn body(from: &str, number: u64) -> String {
        format!("{{\"from\":\"{from}\",\"n\":{number}}}")
    }

    fn store(ledger: &mut Ledger, sequence: u64, from: &str, number: u64) {
        ledger.store(sequence, body(from, number).as_bytes()).unwrap();
    }

    fn deliver(ledger: &mut Ledger, run: u32, number: u64, times: u64) {
        ledger.deliver(run, &format!("id-{number} {times} {}", body(A, number))).unwrap();
    }

    /// Three messages that were acknowledged and stored.
    fn three() -> Ledger {
        let mut ledger = Ledger::default();
        for number in 1..=3 {
            ledger.acknowledge(A, number, true);
            store(&mut ledger, number + 10, A, number);
        }
        ledger
    }

    fn a(number: u64) -> Vec<Key> {
        vec![(A.to_owned(), number)]
    }

    #[test]
    fn all_there_once_and_in_order_is_good() {
        let mut ledger = three();
        for (run, number) in [(1, 1), (2, 2), (1, 3)] {
            deliver(&mut ledger, run, number, 0);
        }
        assert_eq!(ledger.last_sequence(), 13);
        let verdict = ledger.verdict();
        assert!(verdict.is_good(), "{verdict}");
        assert_eq!(
            (verdict.acknowledged, verdict.stored, verdict.details()),
            (3, 3, String::new())
        );
    }

    #[test]
    fn an_acknowledged_message_that_was_never_delivered_is_lost() {
        let mut ledger = three();
        deliver(&mut ledger, 1, 1, 0);
        deliver(&mut ledger, 1, 3, 0);
        let verdict = ledger.verdict();
        assert_eq!(verdict.lost, a(2));
        assert!(!verdict.is_good());
        assert_eq!(verdict.details(), "lost: send.1 2\n");
    }

    #[test]
    fn what_the_stream_has_under_two_sequences_is_twice() {
        let mut ledger = three();
        store(&mut ledger, 14, A, 2);
        (1..=3).for_each(|number| deliver(&mut ledger, 1, number, 0));
        assert_eq!(ledger.verdict().stored_twice, a(2));
        assert!(!ledger.verdict().is_good());
    }

    #[test]
    fn a_second_delivery_is_good_with_a_mark_and_the_same_id_only() {
        let mut ledger = three();
        (1..=3).for_each(|number| deliver(&mut ledger, 1, number, 0));
        deliver(&mut ledger, 2, 2, 1);
        assert!(ledger.verdict().is_good());
        assert_eq!(ledger.verdict().redelivered, 1);
        deliver(&mut ledger, 2, 3, 0);
        assert_eq!(ledger.verdict().delivered_twice, a(3));
        ledger.deliver(2, &format!("other 1 {}", body(A, 1))).unwrap();
        assert_eq!(ledger.verdict().delivered_twice.len(), 2);
        assert!(!ledger.verdict().is_good());
    }

    #[test]
    fn without_a_mark_it_may_come_to_another_server_after_a_fault_of_nats_only() {
        let mut ledger = three();
        (1..=3).for_each(|number| deliver(&mut ledger, 1, number, 0));
        ledger.nats_fails();
        deliver(&mut ledger, 2, 1, 0);
        assert!(ledger.verdict().is_good());
        assert_eq!(ledger.verdict().unmarked, 1);
        // The same server knows what it had, and what another one gets later has its place.
        deliver(&mut ledger, 1, 2, 0);
        deliver(&mut ledger, 3, 1, 0);
        assert_eq!(ledger.verdict().delivered_twice, [a(1), a(2)].concat());
    }

    #[test]
    fn one_by_one_messages_are_stored_in_order() {
        let mut ledger = Ledger::default();
        store(&mut ledger, 1, A, 5);
        store(&mut ledger, 2, A, 1);
        assert_eq!(ledger.verdict().stored_out_of_order, a(1));
        assert!(!ledger.verdict().is_good());
    }

    #[test]
    fn within_one_call_another_order_is_counted_and_between_calls_it_is_wrong() {
        let each = Kind::of("send_all").unwrap().each;
        let mut ledger = Ledger::default();
        store(&mut ledger, 1, "send_all", 2);
        store(&mut ledger, 2, "send_all", 1);
        assert!(ledger.verdict().is_good());
        assert_eq!(ledger.verdict().swapped, 1);
        store(&mut ledger, 3, "send_all", each + 1);
        store(&mut ledger, 4, "send_all", each);
        assert_eq!(ledger.verdict().stored_out_of_order, [("send_all".to_owned(), each)]);
    }

    #[test]
    fn each_start_of_a_server_is_given_new_messages_in_the_order_of_the_stream() {
        let mut ledger = three();
        deliver(&mut ledger, 1, 2, 0);
        // Another server may be behind, and a message that comes again too.
        deliver(&mut ledger, 2, 1, 0);
        deliver(&mut ledger, 1, 3, 0);
        deliver(&mut ledger, 1, 1, 1);
        assert!(ledger.verdict().is_good());
        let mut ledger = three();
        deliver(&mut ledger, 1, 3, 0);
        deliver(&mut ledger, 1, 2, 0);
        deliver(&mut ledger, 2, 1, 0);
        assert_eq!(ledger.verdict().delivered_out_of_order, a(2));
        assert!(!ledger.verdict().is_good());
    }

    #[test]
    fn a_request_without_a_reply_and_a_long_wait_are_wrong() {
        let mut ledger = three();
        (1..=3).for_each(|number| deliver(&mut ledger, 1, number, 0));
        ledger.wait(Duration::from_secs(9), || "round 1".to_owned());
        assert!(ledger.verdict().is_good());
        ledger.acknowledge(A, 3, false);
        assert_eq!(ledger.verdict().unanswered, a(3));
        assert!(!ledger.verdict().is_good());
        let mut ledger = three();
        (1..=3).for_each(|number| deliver(&mut ledger, 1, number, 0));
        ledger.wait(WAIT_MAX, || "round 2".to_owned());
        ledger.wait(Duration::from_secs(1), || "round 3".to_owned());
        let verdict = ledger.verdict();
        assert!(!verdict.is_good());
        assert!(
            verdict.to_string().ends_with("the longest wait was 10.0 s (round 2)"),
            "{verdict}"
        );
        assert!(verdict.details().contains("waited 10s"), "{}", verdict.details());
    }

    #[test]
    fn lines_and_bodies_of_another_form_are_refused() {
        let mut ledger = Ledger::default();
        for line in ["", "id", "id 0", "id x {\"from\":\"a\",\"n\":1}", "id 0 {\"n\":1}", "id 0 {"]
        {
            assert!(ledger.deliver(1, line).is_err(), "{line}");
        }
        assert!(ledger.store(1, b"{}").is_err() && ledger.store(1, b"x").is_err());
    }
}

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

/// How much longer it may wait than NATS had no leader, if that is more. An election of NATS takes
/// 4 to 9 s, and there is another one if it fails, or if a leader is deposed by a server that does
/// not hear it. Nothing can be stored meanwhile, and none of these times can be configured. A
/// request that a server had in hand then is delivered again after 5 s (`takeover`).
const WAIT_WITH_LEADER_MAX: Duration = Duration::from_secs(8);

/// Everything that is known of the messages of a run.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    acknowledged: BTreeMap<String, BTreeSet<u64>>,
    unanswered: BTreeSet<Key>,
    /// The first place of each stored message.
    stored: HashMap<Key, u64>,
    stored_twice: BTreeSet<Key>,
    /// The id of each message of the stream, as it was read last.
    ids: BTreeMap<u64, String>,
    /// What NATS acknowledged to a server, in the order in which the servers logged it.
    confirmed: Vec<Confirmed>,
    /// The place of the last stored message, and the greatest number of each sender until then.
    last_sequence: u64,
    highest: HashMap<String, u64>,
    stored_out_of_order: BTreeSet<Key>,
    swapped: u64,
    /// The last delivery of each message.
    delivered: HashMap<Key, Delivery>,
    /// How many faults of NATS servers there were, and whether the last one is mended.
    nats_faults: u32,
    is_nats_disturbed: bool,
    unmarked: u64,
    /// First deliveries in their order, for each start of a server.
    in_order: BTreeMap<u32, Vec<Key>>,
    /// With the two deliveries, for people.
    delivered_twice: BTreeMap<Key, String>,
    redelivered: u64,
    longest_wait: (Duration, String),
    longest_leaderless: Duration,
    waited_too_long: Vec<String>,
}

/// A message that NATS acknowledged to a server as stored, and not as a duplicate.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Confirmed {
    sequence: u64,
    id: String,
    /// The round and its fault.
    round: String,
}

#[derive(Debug)]
struct Delivery {
    id: String,
    /// The start of a server that was given it.
    run: u32,
    /// The earlier deliveries that the mark named.
    times: u64,
    round: String,
    /// How many faults of NATS servers there were before, and whether the last one was not mended.
    nats_faults: u32,
    is_nats_disturbed: bool,
}

impl fmt::Display for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to start {} with mark {} in {}", self.id, self.run, self.times, self.round)
    }
}

impl fmt::Display for Confirmed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}, {})", self.sequence, self.id, self.round)
    }
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

    /// Records the longest call of a round, whose it was, and for how long NATS had no leader in
    /// that round, if one of its servers was killed or a link between two of them was cut.
    pub(super) fn wait(&mut self, time: Duration, leaderless: Option<Duration>, whose: String) {
        let leaderless = leaderless.unwrap_or_default();
        self.longest_leaderless = self.longest_leaderless.max(leaderless);
        if time >= WAIT_MAX.max(leaderless + WAIT_WITH_LEADER_MAX) {
            self.waited_too_long.push(format!("{:.1} s ({whose})", time.as_secs_f64()));
        }
        if self.longest_wait.0 < time {
            self.longest_wait = (time, whose);
        }
    }

    /// Records that NATS acknowledged to a server that it has stored a message, and when.
    pub(super) fn confirm(&mut self, sequence: u64, id: String, round: &str) {
        self.confirmed.push(Confirmed { sequence, id, round: round.to_owned() });
    }

    /// Records which messages the stream has at the end, from its first sequence on.
    pub(super) fn has_finally(&mut self, first_sequence: u64, ids: BTreeMap<u64, String>) {
        self.ids.retain(|sequence, _| *sequence < first_sequence);
        self.ids.extend(ids);
    }

    /// Records a stored message. They come in the order of the stream.
    pub(super) fn store(&mut self, sequence: u64, id: &str, body: &[u8]) -> Result<(), String> {
        self.last_sequence = self.last_sequence.max(sequence);
        self.ids.insert(sequence, id.to_owned());
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

    /// Records what the command of this start of a server was given: id, earlier deliveries, body;
    /// and in which round.
    pub(super) fn deliver(&mut self, run: u32, line: &str, round: &str) -> Result<(), String> {
        let wrong = || format!("the command wrote a line that is no message: {line}");
        let mut words = line.splitn(3, ' ');
        let (id, times, body) = (words.next(), words.next(), words.next());
        let id = id.ok_or_else(wrong)?.to_owned();
        let times: u64 = times.and_then(|times| times.parse().ok()).ok_or_else(wrong)?;
        let body: Option<Value> = body.and_then(|body| serde_json::from_str(body).ok());
        let key = body.as_ref().and_then(key).ok_or_else(wrong)?;
        let delivery = Delivery {
            id,
            run,
            times,
            round: round.to_owned(),
            nats_faults: self.nats_faults,
            is_nats_disturbed: self.is_nats_disturbed,
        };
        let Some(before) = self.delivered.get(&key) else {
            if times == 0 {
                self.in_order.entry(run).or_default().push(key.clone());
            }
            self.delivered.insert(key, delivery);
            return Ok(());
        };
        if before.id == delivery.id && times > 0 {
            self.redelivered += 1;
        } else if before.id == delivery.id && self.may_be_forgotten(before, run) {
            self.unmarked += 1;
        } else {
            self.delivered_twice.insert(key.clone(), format!("{before}, then {delivery}"));
        }
        self.delivered.insert(key, delivery);
        Ok(())
    }

    /// Whether NATS may have forgotten a delivery when this start of a server gets the message: a
    /// NATS server died or was cut off from the others after it had delivered it and before they
    /// knew. The server that had it before knows it.
    fn may_be_forgotten(&self, before: &Delivery, run: u32) -> bool {
        let has_failed_since = before.is_nats_disturbed || before.nats_faults < self.nats_faults;
        before.run != run && has_failed_since
    }

    /// Records that a NATS server dies, or loses its link to another.
    pub(super) fn nats_fails(&mut self) {
        self.nats_faults += 1;
        self.is_nats_disturbed = true;
    }

    /// Records that all NATS servers are there again and have everything.
    pub(super) fn nats_is_whole(&mut self) {
        self.is_nats_disturbed = false;
    }

    /// What NATS acknowledged and does not have under that sequence. What it had removed before it
    /// was read is not among it.
    fn forgotten(&self) -> Vec<Confirmed> {
        let Some(first) = self.ids.keys().next() else { return Vec::new() };
        let is_gone = |one: &&Confirmed| {
            one.sequence >= *first && self.ids.get(&one.sequence) != Some(&one.id)
        };
        self.confirmed.iter().filter(is_gone).cloned().collect()
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
            forgotten: self.forgotten().iter().map(ToString::to_string).collect(),
            stored_twice: list(&self.stored_twice),
            delivered_twice: self.delivered_twice.keys().cloned().collect(),
            notes: self.delivered_twice.values().cloned().collect(),
            stored_out_of_order: list(&self.stored_out_of_order),
            delivered_out_of_order: self.delivered_out_of_order(),
            unanswered: list(&self.unanswered),
            redelivered: self.redelivered,
            swapped: self.swapped,
            unmarked: self.unmarked,
            longest_wait: self.longest_wait.clone(),
            longest_leaderless: self.longest_leaderless,
            waited_too_long: self.waited_too_long.clone(),
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
    /// Messages that NATS acknowledged as stored under a sequence, where it has another one or none
    /// now: each with its sequence, and when it was acknowledged. That is a fault of NATS, also if
    /// nothing is lost since a client sent it again.
    pub(crate) forgotten: Vec<String>,
    /// Messages that the stream had under two sequences.
    pub(crate) stored_twice: Vec<Key>,
    /// Messages that were delivered again without a mark, or under another id.
    pub(crate) delivered_twice: Vec<Key>,
    /// What is known of each of these.
    pub(crate) notes: Vec<String>,
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
    /// Messages that came to another server without a mark, after a NATS server had failed that had
    /// delivered them before, as is documented.
    pub(crate) unmarked: u64,
    /// How long a call took at most, from its beginning to its answer, and which.
    pub(crate) longest_wait: (Duration, String),
    /// For how long something in NATS had no leader at most, after a fault of its servers.
    pub(crate) longest_leaderless: Duration,
    /// The calls that took too long: for [`WAIT_MAX`], and for longer than NATS had no leader.
    pub(crate) waited_too_long: Vec<String>,
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
        self.kinds().iter().all(|(_, keys)| keys.is_empty())
            && self.forgotten.is_empty()
            && self.waited_too_long.is_empty()
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
        for note in self.notes.iter().take(NAMED_MAX) {
            details += &format!("delivered twice: {note}\n");
        }
        if !self.forgotten.is_empty() {
            let named = self.forgotten.iter().take(NAMED_MAX).map(String::as_str);
            details += "acknowledged by nats-server, and not in its stream: ";
            details += &named.collect::<Vec<_>>().join(", ");
            if self.forgotten.len() > NAMED_MAX {
                details += &format!(" and {} more", self.forgotten.len() - NAMED_MAX);
            }
            details.push('\n');
        }
        for wait in self.waited_too_long.iter().take(NAMED_MAX) {
            details += &format!("a client waited too long: {wait}\n");
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
            ", {} acknowledged by nats-server and not kept by it, {} redelivered and marked, {} without a mark after a fault of NATS, {} in another \
             order within a call; the longest wait was {:.1} s ({what}), NATS had no leader for {:.1} s at \
             most",
            self.forgotten.len(),
            self.redelivered,
            self.unmarked,
            self.swapped,
            wait.as_secs_f64(),
            self.longest_leaderless.as_secs_f64()
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
        ledger.store(sequence, &format!("id-{number}"), body(from, number).as_bytes()).unwrap();
    }

    fn deliver(ledger: &mut Ledger, run: u32, number: u64, times: u64) {
        let line = format!("id-{number} {times} {}", body(A, number));
        ledger.deliver(run, &line, "round 1").unwrap();
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
    fn what_nats_acknowledged_and_has_not_is_its_fault_and_named_apart() {
        let mut ledger = three();
        (1..=3).for_each(|number| deliver(&mut ledger, 1, number, 0));
        // What was removed before it was read does not count.
        for (sequence, id) in [(3, "id-0"), (11, "id-1"), (12, "id-2"), (13, "id-3")] {
            ledger.confirm(sequence, id.to_owned(), "round 1");
        }
        assert!(ledger.verdict().is_good(), "{}", ledger.verdict());
        // Neither does what is removed later.
        let left = BTreeMap::from([(12, "id-2".to_owned()), (13, "other".to_owned())]);
        ledger.has_finally(12, left);
        ledger.confirm(14, "id-4".to_owned(), "round 2");
        let verdict = ledger.verdict();
        assert_eq!(verdict.forgotten, ["13 (id-3, round 1)", "14 (id-4, round 2)"]);
        assert!(!verdict.is_good() && verdict.lost.is_empty());
        assert!(verdict.to_string().contains("2 acknowledged by nats-server and not kept"));
        assert!(verdict.details().contains("not in its stream: 13 (id-3, round 1), 14"));
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
        ledger.deliver(2, &format!("other 1 {}", body(A, 1)), "round 2").unwrap();
        assert_eq!(ledger.verdict().delivered_twice.len(), 2);
        assert!(!ledger.verdict().is_good());
        let expected = "id-1 to start 1 with mark 0 in round 1, then other to start 2 with mark 1";
        assert!(ledger.verdict().details().contains(expected), "{}", ledger.verdict().details());
    }

    #[test]
    fn without_a_mark_it_may_come_to_another_server_after_a_fault_of_nats_only() {
        let mut ledger = three();
        (1..=3).for_each(|number| deliver(&mut ledger, 1, number, 0));
        ledger.nats_fails();
        deliver(&mut ledger, 2, 1, 0);
        // While it lasts there may be two leaders.
        deliver(&mut ledger, 3, 1, 0);
        assert!(ledger.verdict().is_good());
        assert_eq!(ledger.verdict().unmarked, 2);
        // The same server knows what it had.
        deliver(&mut ledger, 1, 2, 0);
        assert_eq!(ledger.verdict().delivered_twice, a(2));
        // What is delivered after the fault has its place.
        ledger.nats_is_whole();
        deliver(&mut ledger, 1, 3, 1);
        deliver(&mut ledger, 2, 3, 0);
        assert_eq!(ledger.verdict().delivered_twice, [a(2), a(3)].concat());
        assert_eq!(ledger.verdict().unmarked, 2);
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
        ledger.wait(Duration::from_secs(9), None, "round 1".to_owned());
        assert!(ledger.verdict().is_good());
        ledger.acknowledge(A, 3, false);
        assert_eq!(ledger.verdict().unanswered, a(3));
        assert!(!ledger.verdict().is_good());
        let mut ledger = three();
        (1..=3).for_each(|number| deliver(&mut ledger, 1, number, 0));
        ledger.wait(WAIT_MAX, None, "round 2".to_owned());
        ledger.wait(Duration::from_secs(1), None, "round 3".to_owned());
        let verdict = ledger.verdict();
        assert!(!verdict.is_good());
        assert!(verdict.to_string().contains("longest wait was 10.0 s (round 2)"), "{verdict}");
        assert!(verdict.details().contains("too long: 10.0 s (round 2)"), "{}", verdict.details());
    }

    #[test]
    fn nobody_waits_much_longer_than_nats_has_no_leader() {
        let waited = |secs: u64, leaderless: u64| {
            let mut ledger = three();
            (1..=3).for_each(|number| deliver(&mut ledger, 1, number, 0));
            let leaderless = Some(Duration::from_secs(leaderless));
            ledger.wait(Duration::from_secs(secs), leaderless, "round 1".to_owned());
            ledger.verdict()
        };
        for (secs, leaderless) in [(9, 0), (9, 5), (9, 9), (19, 12)] {
            assert!(waited(secs, leaderless).is_good(), "{secs} {leaderless}");
        }
        for (secs, leaderless) in [(10, 0), (10, 2), (17, 9), (20, 12)] {
            assert!(!waited(secs, leaderless).is_good(), "{secs} {leaderless}");
        }
        assert!(waited(19, 12).to_string().ends_with("NATS had no leader for 12.0 s at most"));
    }

    #[test]
    fn lines_and_bodies_of_another_form_are_refused() {
        let mut ledger = Ledger::default();
        for line in ["", "id", "id 0", "id x {\"from\":\"a\",\"n\":1}", "id 0 {\"n\":1}", "id 0 {"]
        {
            assert!(ledger.deliver(1, line, "round 1").is_err(), "{line}");
        }
        assert!(ledger.store(1, "i", b"{}").is_err() && ledger.store(1, "i", b"x").is_err());
    }
}

//! What was acknowledged and what came out, and the verdict on both.
//!
//! A run comes here with every line that a receiver printed and every number that a sender was given an acknowledgement for.
//! Nothing here starts a process or reads a file.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use serde_json::Value;

/// A sender's word and the number of its message.
type Key = (String, u64);

/// Numbers that a report names; of more it says how many.
const NAMED_MAX: usize = 20;

/// All that is known of a run's messages.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    senders: BTreeMap<String, Numbers>,
    /// Printed, and perhaps not acknowledged by the receiver: these alone may come again.
    unsettled: BTreeSet<Key>,
    /// The last line of the receiver that runs.
    last: Option<Key>,
    twice: BTreeSet<Key>,
    out_of_order: BTreeSet<Key>,
    redelivered: u64,
}

/// One sender's messages.
#[derive(Debug, Default)]
struct Numbers {
    acknowledged: BTreeSet<u64>,
    /// What came out, with its id.
    arrived: HashMap<u64, String>,
    highest: Option<u64>,
}

impl Ledger {
    /// Takes down that a sender was told that this message is stored.
    pub(super) fn acknowledge(&mut self, from: &str, number: u64) {
        self.senders.entry(from.to_owned()).or_default().acknowledged.insert(number);
    }

    /// Takes down a line of the receiver's. The error says why it is none that it may print.
    ///
    /// The receiver takes the next message only when the one before is acknowledged, so that of each process only the last
    /// line may come again, from the next one, and marked.
    pub(super) fn arrive(&mut self, line: &str) -> Result<(), String> {
        let message = Message::read(line).ok_or_else(|| format!("the receiver printed: {line}"))?;
        let key = (message.from, message.number);
        if let Some(before) = self.last.replace(key.clone()) {
            self.unsettled.remove(&before);
        }
        let numbers = self.senders.entry(key.0.clone()).or_default();
        match numbers.arrived.get(&key.1) {
            Some(id) if message.redeliveries > 0 && *id == message.id && self.unsettled.contains(&key) => {
                self.redelivered += 1;
            }
            Some(_) => {
                self.twice.insert(key.clone());
            }
            None => {
                if numbers.highest.is_some_and(|highest| highest > key.1) {
                    self.out_of_order.insert(key.clone());
                }
                numbers.highest = numbers.highest.max(Some(key.1));
                numbers.arrived.insert(key.1, message.id);
            }
        }
        self.unsettled.insert(key);
        Ok(())
    }

    /// Takes down that the receiver was killed: its last line may come again.
    pub(super) fn receiver_ended(&mut self) {
        self.last = None;
    }

    /// Messages that were acknowledged and have not come out yet.
    pub(super) fn waiting(&self) -> usize {
        self.senders
            .values()
            .map(|numbers| numbers.acknowledged.len().saturating_sub(numbers.arrived.len()))
            .sum()
    }

    /// The verdict, after the last line.
    pub(super) fn verdict(&self) -> Verdict {
        let lost = self.senders.iter().flat_map(|(from, numbers)| {
            let missing = numbers.acknowledged.iter().filter(|number| !numbers.arrived.contains_key(number));
            missing.map(|number| (from.clone(), *number))
        });
        Verdict {
            acknowledged: self.senders.values().map(|numbers| numbers.acknowledged.len()).sum(),
            lost: lost.collect(),
            twice: self.twice.iter().cloned().collect(),
            out_of_order: self.out_of_order.iter().cloned().collect(),
            redelivered: self.redelivered,
        }
    }
}

/// How a run's messages fared.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Messages that a sender was told are stored.
    pub(crate) acknowledged: usize,
    /// Those of them that never came out.
    pub(crate) lost: Vec<(String, u64)>,
    /// What came out again and may not have.
    pub(crate) twice: Vec<(String, u64)>,
    /// What came out for the first time after a later one of the same sender.
    pub(crate) out_of_order: Vec<(String, u64)>,
    /// What came again because the receiver was killed with it in its hands.
    pub(crate) redelivered: u64,
}

impl Verdict {
    /// Whether every promise was kept.
    pub(crate) fn is_good(&self) -> bool {
        self.lost.is_empty() && self.twice.is_empty() && self.out_of_order.is_empty()
    }

    /// The numbers behind a bad verdict, a line for each kind.
    pub(crate) fn details(&self) -> String {
        let mut details = String::new();
        for (what, keys) in
            [("lost", &self.lost), ("twice", &self.twice), ("out of order", &self.out_of_order)]
        {
            if keys.is_empty() {
                continue;
            }
            let named: Vec<String> =
                keys.iter().take(NAMED_MAX).map(|(from, number)| format!("{from} {number}")).collect();
            details.push_str(&format!("{what}: {}", named.join(", ")));
            if keys.len() > NAMED_MAX {
                details.push_str(&format!(" and {} more", keys.len() - NAMED_MAX));
            }
            details.push('\n');
        }
        details
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} acknowledged, {} lost, {} twice, {} out of order, {} redelivered after a kill",
            self.acknowledged,
            self.lost.len(),
            self.twice.len(),
            self.out_of_order.len(),
            self.redelivered
        )
    }
}

/// A message as the receiver prints it.
struct Message {
    id: String,
    redeliveries: u64,
    from: String,
    number: u64,
}

impl Message {
    fn read(line: &str) -> Option<Self> {
        let value: Value = serde_json::from_str(line).ok()?;
        Some(Message {
            id: value["id"].as_str()?.to_owned(),
            redeliveries: value["redeliveries"].as_u64()?,
            from: value["body"]["from"].as_str()?.to_owned(),
            number: value["body"]["n"].as_u64()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(from: &str, number: u64, redeliveries: u64) -> String {
        let body = format!("{{\"from\":\"{from}\",\"n\":{number}}}");
        format!(
            "{{\"body\":{body},\"id\":\"{from}-{number}\",\"redeliveries\":{redeliveries},\"user\":\"u\"}}"
        )
    }

    /// A ledger with these acknowledged; of what came out, a `None` is a kill.
    fn ledger(acknowledged: &[u64], came: &[Option<(u64, u64)>]) -> Verdict {
        let mut ledger = Ledger::default();
        for number in acknowledged {
            ledger.acknowledge("a", *number);
        }
        for came in came {
            match came {
                Some((number, redeliveries)) => ledger.arrive(&line("a", *number, *redeliveries)).unwrap(),
                None => ledger.receiver_ended(),
            }
        }
        ledger.verdict()
    }

    fn a(numbers: &[u64]) -> Vec<(String, u64)> {
        numbers.iter().map(|number| ("a".to_owned(), *number)).collect()
    }

    #[test]
    fn all_once_and_in_order_is_good_with_a_kill_or_without() {
        let verdict = ledger(&[1, 2, 3], &[Some((1, 0)), None, Some((2, 1)), Some((3, 0))]);
        assert!(verdict.is_good());
        let said = "3 acknowledged, 0 lost, 0 twice, 0 out of order, 0 redelivered after a kill";
        assert_eq!(verdict.to_string(), said);
    }

    #[test]
    fn what_was_not_acknowledged_may_be_there_or_not() {
        assert!(ledger(&[1, 2], &[Some((1, 0)), Some((2, 0)), Some((3, 0))]).is_good());
        assert!(ledger(&[1], &[Some((1, 0))]).is_good());
    }

    #[test]
    fn an_acknowledged_message_that_never_came_is_lost() {
        let verdict = ledger(&[1, 2, 3], &[Some((1, 0)), None, Some((3, 0))]);
        assert_eq!(verdict.lost, a(&[2]));
        assert!(!verdict.is_good());
    }

    #[test]
    fn the_last_line_before_a_kill_may_come_again_marked() {
        let verdict = ledger(&[1, 2], &[Some((1, 0)), Some((2, 0)), None, Some((2, 1)), None, Some((2, 2))]);
        assert!(verdict.is_good());
        assert_eq!(verdict.redelivered, 2);
    }

    #[test]
    fn a_second_time_without_a_mark_is_twice() {
        assert_eq!(ledger(&[1], &[Some((1, 0)), None, Some((1, 0))]).twice, a(&[1]));
    }

    #[test]
    fn a_second_time_without_a_kill_is_twice_even_when_marked() {
        assert_eq!(ledger(&[1], &[Some((1, 0)), Some((1, 1))]).twice, a(&[1]));
    }

    #[test]
    fn what_the_receiver_had_acknowledged_may_not_come_again_even_when_marked() {
        assert_eq!(ledger(&[1, 2], &[Some((1, 0)), Some((2, 0)), None, Some((1, 1))]).twice, a(&[1]));
    }

    #[test]
    fn a_second_time_under_another_id_is_twice() {
        let mut ledger = Ledger::default();
        ledger.arrive(&line("a", 1, 0)).unwrap();
        ledger.receiver_ended();
        ledger.arrive(&line("a", 1, 1).replace("a-1", "other")).unwrap();
        assert_eq!(ledger.verdict().twice, a(&[1]));
    }

    #[test]
    fn a_first_time_behind_a_later_one_is_out_of_order() {
        let verdict = ledger(&[1, 2, 3], &[Some((1, 0)), Some((3, 0)), Some((2, 0))]);
        assert_eq!(verdict.out_of_order, a(&[2]));
        assert_eq!(verdict.details(), "out of order: a 2\n");
    }

    #[test]
    fn senders_are_judged_apart() {
        let mut ledger = Ledger::default();
        for (from, number) in [("a", 5), ("b", 1), ("b", 2), ("a", 6)] {
            ledger.acknowledge(from, number);
            ledger.arrive(&line(from, number, 0)).unwrap();
        }
        assert!(ledger.verdict().is_good());
        ledger.acknowledge("b", 5);
        assert_eq!(ledger.waiting(), 1);
        assert_eq!(ledger.verdict().lost, [("b".to_owned(), 5)]);
    }

    #[test]
    fn a_line_of_another_form_is_no_message() {
        for text in
            ["", "{", "listening", "{\"id\":\"1\",\"redeliveries\":0,\"body\":{\"from\":\"a\"}}", "[]"]
        {
            assert!(Ledger::default().arrive(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_long_list_is_cut() {
        let verdict = ledger(&(0..30).collect::<Vec<_>>(), &[]);
        assert!(verdict.details().ends_with("a 19 and 10 more\n"), "{}", verdict.details());
    }
}

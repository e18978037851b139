//! Records which messages were acknowledged and which were delivered, and judges both.
//!
//! A run comes here with every line that a receiver printed and every number that was acknowledged
//! to a sender. Nothing here starts a process or reads a file.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::fmt;

use serde_json::Value;

use super::options::Reader;

/// The sender in a message's `from`, and the number of the message.
type Key = (String, u64);

/// How many numbers a report lists. Of more it gives only the count.
const NAMED_MAX: usize = 20;

/// The state of all messages of a run.
#[derive(Debug)]
pub(crate) struct Ledger {
    reader: Reader,
    senders: BTreeMap<String, Numbers>,
    /// The last messages that the running receiver printed, which it may not have acknowledged yet.
    in_hand: VecDeque<Key>,
    /// The unacknowledged messages of a killed receiver. Only these may be delivered again.
    unsettled: BTreeSet<Key>,
    twice: BTreeSet<Key>,
    out_of_order: BTreeSet<Key>,
    redelivered: u64,
}

/// The messages of one sender.
#[derive(Debug, Default)]
struct Numbers {
    acknowledged: BTreeSet<u64>,
    /// The delivered messages, with their ids.
    arrived: HashMap<u64, String>,
    highest: Option<u64>,
}

impl Ledger {
    /// Makes an empty ledger for the lines of this reader.
    pub(crate) fn new(reader: Reader) -> Self {
        Ledger {
            reader,
            senders: BTreeMap::new(),
            in_hand: VecDeque::new(),
            unsettled: BTreeSet::new(),
            twice: BTreeSet::new(),
            out_of_order: BTreeSet::new(),
            redelivered: 0,
        }
    }

    /// Records that this message was acknowledged to its sender.
    pub(crate) fn acknowledge(&mut self, from: &str, number: u64) {
        self.senders.entry(from.to_owned()).or_default().acknowledged.insert(number);
    }

    /// Records a line of the receiver. The error says why the receiver must not print it.
    ///
    /// The receiver takes further messages only after it has acknowledged the ones before. So after
    /// a kill only the last lines, as many as the reader may hold unacknowledged, may be delivered
    /// again: once, marked as redelivered, and before all new messages.
    pub(crate) fn arrive(&mut self, line: &str) -> Result<(), String> {
        let message = Message::read(line, self.reader)
            .ok_or_else(|| format!("the receiver printed a line that is not a message: {line}"))?;
        let key = (message.from, message.number);
        let numbers = self.senders.entry(key.0.clone()).or_default();
        match numbers.arrived.get(&key.1) {
            Some(id) => {
                let may_come = self.unsettled.remove(&key);
                if may_come && message.redeliveries > 0 && *id == message.id {
                    self.redelivered += 1;
                } else {
                    self.twice.insert(key.clone());
                }
            }
            None => {
                if numbers.highest.is_some_and(|highest| highest > key.1) {
                    self.out_of_order.insert(key.clone());
                }
                numbers.highest = numbers.highest.max(Some(key.1));
                numbers.arrived.insert(key.1, message.id);
                // Messages that were not delivered again by now were acknowledged.
                self.unsettled.clear();
            }
        }
        self.in_hand.push_back(key);
        if self.in_hand.len() > self.reader.lines_in_hand_max() {
            self.in_hand.pop_front();
        }
        Ok(())
    }

    /// Records that the receiver was killed. Its unacknowledged messages may be delivered again.
    pub(crate) fn receiver_ended(&mut self) {
        self.unsettled.extend(self.in_hand.drain(..));
    }

    /// Whether this message was delivered.
    pub(crate) fn has_arrived(&self, from: &str, number: u64) -> bool {
        self.senders.get(from).is_some_and(|numbers| numbers.arrived.contains_key(&number))
    }

    /// How many acknowledged messages were not delivered yet.
    pub(crate) fn backlog(&self) -> usize {
        self.senders
            .values()
            .map(|numbers| numbers.acknowledged.len().saturating_sub(numbers.arrived.len()))
            .sum()
    }

    /// The verdict, after the last line.
    pub(crate) fn verdict(&self) -> Verdict {
        let lost = self.senders.iter().flat_map(|(from, numbers)| {
            let missing =
                numbers.acknowledged.iter().filter(|number| !numbers.arrived.contains_key(number));
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

/// What became of the messages of a run.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// How many messages were acknowledged to a sender.
    pub(crate) acknowledged: usize,
    /// Acknowledged messages that were never delivered.
    pub(crate) lost: Vec<(String, u64)>,
    /// Messages that were delivered again without a kill as reason.
    pub(crate) twice: Vec<(String, u64)>,
    /// Messages that were first delivered after a later one of the same sender.
    pub(crate) out_of_order: Vec<(String, u64)>,
    /// How many messages were delivered again because the receiver was killed before it
    /// acknowledged them.
    pub(crate) redelivered: u64,
}

impl Verdict {
    /// Whether every promise was kept.
    pub(crate) fn is_good(&self) -> bool {
        self.lost.is_empty() && self.twice.is_empty() && self.out_of_order.is_empty()
    }

    /// The numbers behind a bad verdict, one line for each kind.
    pub(crate) fn details(&self) -> String {
        let mut details = String::new();
        for (what, keys) in
            [("lost", &self.lost), ("twice", &self.twice), ("out of order", &self.out_of_order)]
        {
            if keys.is_empty() {
                continue;
            }
            let named: Vec<String> = keys
                .iter()
                .take(NAMED_MAX)
                .map(|(from, number)| format!("{from} {number}"))
                .collect();
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
pub(super) struct Message {
    pub(super) id: String,
    pub(super) redeliveries: u64,
    pub(super) from: String,
    pub(super) number: u64,
}

impl Message {
    /// Reads a line. Returns `None` if it does not have the form of this reader.
    pub(super) fn read(line: &str, reader: Reader) -> Option<Self> {
        let value: Value = serde_json::from_str(line).ok()?;
        let redeliveries = match reader {
            Reader::Receive => value["redeliveries"].as_u64()?,
            Reader::Serve => match value.get("redelivered") {
                // The member is left out if it would be zero.
                Some(redelivered) => redelivered.as_u64().filter(|times| *times > 0)?,
                None => 0,
            },
        };
        Some(Message {
            id: value["id"].as_str()?.to_owned(),
            redeliveries,
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

    /// A line of `web-ipc --serve`, which has `redelivered` only for a redelivery.
    fn served(from: &str, number: u64, redelivered: u64) -> String {
        let mark = if redelivered == 0 {
            String::new()
        } else {
            format!("\"redelivered\":{redelivered},")
        };
        let body = format!("{{\"from\":\"{from}\",\"n\":{number}}}");
        format!(
            "{{\"id\":\"{from}-{number}\",\"user\":\"u\",\"at\":\"2025-03-19T19:38:50.608Z\",{mark}\"body\":{body}}}"
        )
    }

    /// The verdict on these acknowledged and delivered messages. A `None` in `came` is a kill.
    fn ledger(acknowledged: &[u64], came: &[Option<(u64, u64)>]) -> Verdict {
        judge(Reader::Receive, acknowledged, came)
    }

    fn judge(reader: Reader, acknowledged: &[u64], came: &[Option<(u64, u64)>]) -> Verdict {
        let mut ledger = Ledger::new(reader);
        for number in acknowledged {
            ledger.acknowledge("a", *number);
        }
        for came in came {
            match came {
                Some((number, redeliveries)) => {
                    let line = match reader {
                        Reader::Receive => line("a", *number, *redeliveries),
                        Reader::Serve => served("a", *number, *redeliveries),
                    };
                    ledger.arrive(&line).unwrap();
                }
                None => ledger.receiver_ended(),
            }
        }
        ledger.verdict()
    }

    /// Lines of messages that are delivered for the first time.
    fn fresh(numbers: std::ops::RangeInclusive<u64>) -> Vec<Option<(u64, u64)>> {
        numbers.map(|number| Some((number, 0))).collect()
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
        let verdict =
            ledger(&[1, 2], &[Some((1, 0)), Some((2, 0)), None, Some((2, 1)), None, Some((2, 2))]);
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
        assert_eq!(
            ledger(&[1, 2], &[Some((1, 0)), Some((2, 0)), None, Some((1, 1))]).twice,
            a(&[1])
        );
    }

    #[test]
    fn of_a_reader_of_many_all_it_had_in_hand_may_come_again_marked_and_once_for_each_kill() {
        let again = [None, Some((1, 1)), Some((2, 1)), Some((3, 1))];
        let came = [fresh(1..=3), again.to_vec(), vec![None, Some((3, 2)), Some((4, 1))]].concat();
        let verdict = judge(Reader::Serve, &[1, 2, 3, 4], &came);
        assert!(verdict.is_good(), "{verdict}");
        assert_eq!(verdict.redelivered, 4);
        // The reader `receive` holds only one unacknowledged message.
        assert_eq!(ledger(&[1, 2, 3], &[fresh(1..=3), again.to_vec()].concat()).twice, a(&[1, 2]));
    }

    #[test]
    fn a_line_of_a_reader_of_many_that_comes_again_without_a_mark_is_twice() {
        let came = [fresh(1..=3), vec![None, Some((1, 1)), Some((2, 0)), Some((3, 1))]].concat();
        assert_eq!(judge(Reader::Serve, &[1, 2, 3], &came).twice, a(&[2]));
    }

    #[test]
    fn a_line_of_a_reader_of_many_that_comes_again_without_a_kill_is_twice() {
        assert_eq!(
            judge(Reader::Serve, &[], &[fresh(1..=3), vec![Some((2, 1))]].concat()).twice,
            a(&[2])
        );
        let came = [fresh(1..=3), vec![None, Some((2, 1)), Some((2, 2))]].concat();
        assert_eq!(judge(Reader::Serve, &[], &came).twice, a(&[2]));
    }

    #[test]
    fn what_a_reader_of_many_had_printed_before_all_it_has_in_hand_may_not_come_again() {
        let too_many = 1 + Reader::Serve.lines_in_hand_max() as u64;
        let came = [fresh(1..=too_many), vec![None, Some((1, 1)), Some((2, 1))]].concat();
        let verdict = judge(Reader::Serve, &[], &came);
        assert_eq!((verdict.twice, verdict.redelivered), (a(&[1]), 1));
    }

    #[test]
    fn what_comes_again_after_something_new_is_twice() {
        let came = [fresh(1..=3), vec![None, Some((2, 1)), Some((4, 0)), Some((3, 1))]].concat();
        assert_eq!(judge(Reader::Serve, &[], &came).twice, a(&[3]));
        assert_eq!(ledger(&[], &[Some((1, 0)), None, Some((2, 0)), Some((1, 1))]).twice, a(&[1]));
    }

    #[test]
    fn a_reader_of_many_is_held_to_nothing_lost_and_order_too() {
        let verdict =
            judge(Reader::Serve, &[1, 2, 3, 4], &[Some((1, 0)), Some((3, 0)), None, Some((2, 1))]);
        assert_eq!((verdict.lost, verdict.out_of_order), (a(&[4]), a(&[2])));
    }

    #[test]
    fn a_second_time_under_another_id_is_twice() {
        let mut ledger = Ledger::new(Reader::Receive);
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
        let mut ledger = Ledger::new(Reader::Receive);
        for (from, number) in [("a", 5), ("b", 1), ("b", 2), ("a", 6)] {
            ledger.acknowledge(from, number);
            ledger.arrive(&line(from, number, 0)).unwrap();
        }
        assert!(ledger.verdict().is_good());
        ledger.acknowledge("b", 5);
        assert_eq!(ledger.backlog(), 1);
        assert!(
            ledger.has_arrived("b", 2)
                && !ledger.has_arrived("b", 5)
                && !ledger.has_arrived("c", 1)
        );
        assert_eq!(ledger.verdict().lost, [("b".to_owned(), 5)]);
    }

    #[test]
    fn a_line_of_another_form_is_no_message() {
        for text in [
            "",
            "{",
            "listening",
            "{\"id\":\"1\",\"redeliveries\":0,\"body\":{\"from\":\"a\"}}",
            "[]",
        ] {
            for reader in [Reader::Receive, Reader::Serve] {
                assert!(Ledger::new(reader).arrive(text).is_err(), "{text:?}");
            }
        }
        assert!(Ledger::new(Reader::Serve).arrive(&served("a", 1, 7).replace('7', "0")).is_err());
        assert!(Ledger::new(Reader::Receive).arrive(&served("a", 1, 1)).is_err());
    }

    #[test]
    fn a_long_list_is_cut() {
        let verdict = ledger(&(0..30).collect::<Vec<_>>(), &[]);
        assert!(verdict.details().ends_with("a 19 and 10 more\n"), "{}", verdict.details());
    }
}

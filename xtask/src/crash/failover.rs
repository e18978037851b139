//! Rounds with two servers. The server in use is killed for good, and clients continue with the
//! other.
//!
//! The task and the end-to-end scenario come here. Each server keeps its messages in memory, so
//! messages that the killed server acknowledged and did not deliver die with it. The order shows
//! which these are. The killed server has a sender's messages up to some number, and the other
//! server has those from some number on. Only the acknowledged messages between the two may be
//! missing.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use super::event::Event;
use super::ledger::Message;
use super::options::{InboxKind, Mode, Options, Reader};
use super::receiver::{self, ReceiverProcess};
use super::sender::{self, Task};
use crate::driver::{Process, Sandbox};
use crate::faults::{self, Random};

/// A round without any event for so long counts as hanging. This is longer than a sender's timeout,
/// whose end is an event.
const SILENCE_MAX: Duration = Duration::from_secs(180);

/// The server in use is killed at one of its first 2^LINES_BITS lines, or within 2^LIFE_MS_BITS
/// milliseconds of the senders' start, while the senders are sending.
const LINES_BITS: u64 = 9;
const LIFE_MS_BITS: u64 = 7;

/// How many rounds in a row may end before the other server gets a message, because the senders
/// finish before the kill.
const MISSES_MAX: u32 = 100;

/// What became of the messages of all rounds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// How many messages were acknowledged to a sender.
    pub(crate) acknowledged: usize,
    /// Acknowledged messages that neither server delivered, and that did not die with the killed
    /// server.
    pub(crate) lost: Vec<(String, u64)>,
    /// Messages that one server delivered twice, or both servers under different ids.
    pub(crate) twice: Vec<(String, u64)>,
    /// Messages that a server delivered after a later one of the same sender.
    pub(crate) out_of_order: Vec<(String, u64)>,
    /// How many messages the killed server had acknowledged and not delivered.
    pub(crate) died: usize,
    /// How many messages both servers delivered under one id: the killed server had not answered
    /// these.
    pub(crate) at_both: usize,
}

impl Verdict {
    /// Whether every promise was kept.
    pub(crate) fn is_good(&self) -> bool {
        self.lost.is_empty() && self.twice.is_empty() && self.out_of_order.is_empty()
    }

    /// Judges the messages of one sender: its acknowledged numbers, in order, and the messages that
    /// each server printed.
    fn judge(
        &mut self,
        from: &str,
        may_die: bool,
        acknowledged: &[u64],
        killed: &[Delivered],
        other: &[Delivered],
    ) {
        self.acknowledged += acknowledged.len();
        let ids: HashMap<u64, &str> =
            killed.iter().map(|message| (message.number, message.id.as_str())).collect();
        for messages in [killed, other] {
            let mut seen = BTreeMap::new();
            for message in messages {
                let is_again =
                    seen.insert(message.number, ()).is_some() || message.redeliveries > 0;
                let is_late = seen.range(message.number + 1..).next().is_some();
                if is_again {
                    self.twice.push((from.to_owned(), message.number));
                } else if is_late {
                    self.out_of_order.push((from.to_owned(), message.number));
                }
            }
        }
        for message in other {
            match ids.get(&message.number) {
                None => {}
                Some(id) if *id == message.id => self.at_both += 1,
                Some(_) => self.twice.push((from.to_owned(), message.number)),
            }
        }
        let last = killed.iter().map(|message| message.number).max().unwrap_or_default();
        let first = other.iter().map(|message| message.number).min().unwrap_or(u64::MAX);
        let arrived = |number| {
            ids.contains_key(&number) || other.iter().any(|message| message.number == number)
        };
        for number in acknowledged.iter().copied().filter(|number| !arrived(*number)) {
            if may_die && last < number && number < first {
                self.died += 1;
            } else {
                self.lost.push((from.to_owned(), number));
            }
        }
    }

    /// The numbers behind a bad verdict, one line for each kind.
    pub(crate) fn details(&self) -> String {
        let kinds =
            [("lost", &self.lost), ("twice", &self.twice), ("out of order", &self.out_of_order)];
        let named = kinds.iter().filter(|(_, keys)| !keys.is_empty()).map(|(what, keys)| {
            let keys: Vec<String> =
                keys.iter().take(20).map(|(from, number)| format!("{from} {number}")).collect();
            format!("{what}: {} …\n", keys.join(", "))
        });
        named.collect()
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} acknowledged, {} lost, {} twice, {} out of order, {} died with the server that had acknowledged them, {} at \
             both under one id",
            self.acknowledged,
            self.lost.len(),
            self.twice.len(),
            self.out_of_order.len(),
            self.died,
            self.at_both
        )
    }
}

/// A message that a server printed.
#[derive(Debug)]
struct Delivered {
    number: u64,
    id: String,
    redeliveries: u64,
}

/// The messages that a server printed, by sender.
type DeliveredBySender = HashMap<String, Vec<Delivered>>;

/// The origin of an event: the server that is killed, the other server, or a sender.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    Killed,
    Other,
    Sender,
}

/// A sender of one mode. Its processes run one after the other.
struct LoadSender {
    mode: Mode,
    /// The number of the next message.
    next: u64,
    acks: PathBuf,
    acks_read: u64,
}

/// Runs all rounds. `say` gets a line for each round. The error says why there is no verdict.
pub(super) fn run(
    sandbox: &Sandbox,
    options: &Options,
    say: &mut dyn FnMut(&str),
) -> Result<Verdict, String> {
    let mut random = Random::new(options.seed);
    let mut verdict = Verdict::default();
    let mut loads: Vec<LoadSender> = options
        .modes
        .iter()
        .map(|mode| {
            let acks = sandbox.folder().join(format!("{}.acks", mode.word()));
            LoadSender { mode: *mode, next: 1, acks, acks_read: 0 }
        })
        .collect();
    let (mut rounds, mut misses) = (0, 0);
    while rounds < options.rounds {
        let kill_point = match random.below(2) {
            0 => KillPoint::Line(1 + random.of_any_size(LINES_BITS)),
            _ => KillPoint::Time(Duration::from_millis(random.of_any_size(LIFE_MS_BITS))),
        };
        let (killed, other) = round(sandbox, options, kill_point, &mut loads, &mut verdict)?;
        if other == 0 {
            misses += 1;
            if misses > MISSES_MAX {
                return Err("the senders finish before their server is killed".to_owned());
            }
            continue;
        }
        (rounds, misses) = (rounds + 1, 0);
        say(&format!(
            "round {rounds}: killed after {killed} lines ({kill_point:?}), {other} lines from the other server"
        ));
    }
    let log = other_log(sandbox);
    let (channels, posts) = faults::channels_and_posts(&log);
    if channels < options.rounds as usize {
        return Err(format!(
            "only {channels} channels to the other server were opened; see {}",
            log.display()
        ));
    }
    say(&format!("the other servers opened {channels} channels, and answered {posts} POSTs"));
    Ok(verdict)
}

/// When the server in use is killed.
#[derive(Clone, Copy, Debug)]
enum KillPoint {
    Line(u64),
    Time(Duration),
}

fn other_log(sandbox: &Sandbox) -> PathBuf {
    sandbox.folder().join("other.log")
}

/// Runs one round. Returns how many lines each server printed.
fn round(
    sandbox: &Sandbox,
    options: &Options,
    kill_point: KillPoint,
    loads: &mut [LoadSender],
    verdict: &mut Verdict,
) -> Result<(usize, usize), String> {
    let (tell, events) = channel();
    let (mut killed, killed_port) = serve(sandbox, "killed.log", Origin::Killed, &tell)?;
    let (mut other, other_port) = serve(sandbox, "other.log", Origin::Other, &tell)?;
    let mut round = Round {
        events,
        killed: DeliveredBySender::new(),
        other: DeliveredBySender::new(),
        killed_lines: 0,
        other_lines: 0,
    };
    for _ in 0..2 {
        match round.next(Instant::now() + SILENCE_MAX)? {
            Some((_, Event::Listening)) => {}
            _ => {
                return Err(format!(
                    "a server does not start\n{}",
                    faults::tail(&other_log(sandbox))
                ));
            }
        }
    }
    let address = format!("127.0.0.1:{killed_port},127.0.0.1:{other_port}");
    let mut senders: Vec<Process> = Vec::new();
    for (place, load) in loads.iter().enumerate() {
        let (mode, start, count) = (load.mode, load.next, load.mode.messages_each());
        let in_flight = options.in_flight;
        let task =
            Task { place, mode, address: &address, in_flight, start, count, acks: &load.acks };
        let (sender_tell, sender_events) = channel();
        forward(sender_events, Origin::Sender, tell.clone());
        senders.push(sender::start(sandbox, &task, &load.acks.with_extension("log"), sender_tell)?);
    }
    let mut kill_at = match kill_point {
        KillPoint::Line(_) => None,
        KillPoint::Time(life) => Some(Instant::now() + life),
    };
    let (mut is_killed, mut is_gone, mut at_work) = (false, false, senders.len());
    while at_work > 0 || !is_gone {
        let event = round.next(kill_at.unwrap_or_else(|| Instant::now() + SILENCE_MAX))?;
        let is_due = match kill_point {
            KillPoint::Line(line) => round.killed_lines as u64 >= line,
            KillPoint::Time(_) => kill_at.is_some_and(|at| Instant::now() >= at),
        };
        match event {
            Some((Origin::Sender, Event::SenderClosed(place, said))) => {
                at_work -= 1;
                check_sender(&mut senders[place], &loads[place], &said)?;
            }
            Some((Origin::Killed, Event::ReceiverClosed)) if is_killed => is_gone = true,
            Some((_, Event::ReceiverClosed)) => {
                return Err(format!(
                    "a server ended by itself\n{}",
                    faults::tail(&other_log(sandbox))
                ));
            }
            _ => {}
        }
        // If the senders have finished, no further line comes.
        if !is_killed && (is_due || at_work == 0) {
            killed.process.kill()?;
            (is_killed, kill_at) = (true, None);
        }
    }
    killed.process.wait()?;
    other.process.terminate()?;
    while !matches!(
        round.next(Instant::now() + SILENCE_MAX)?,
        Some((Origin::Other, Event::ReceiverClosed))
    ) {}
    let status = other.process.wait()?;
    if !status.success() {
        return Err(format!(
            "the other server ended with {status}\n{}",
            faults::tail(&other_log(sandbox))
        ));
    }
    for load in loads {
        round.judge(load, options.in_flight, verdict)?;
    }
    Ok((round.killed_lines, round.other_lines))
}

/// Starts a server with its messages in memory. Returns it with its port.
fn serve(
    sandbox: &Sandbox,
    log: &str,
    origin: Origin,
    tell: &Sender<(Origin, Event)>,
) -> Result<(ReceiverProcess, u16), String> {
    let (receiver_tell, events) = channel();
    forward(events, origin, tell.clone());
    let port = faults::free_port()?;
    let log = sandbox.folder().join(log);
    let kind = (Reader::Receive, InboxKind::Memory);
    Ok((receiver::start(sandbox, port, kind, &log, receiver_tell)?, port))
}

/// Adds the origin to each event, so that a round waits for all events in one place.
fn forward(events: Receiver<Event>, origin: Origin, tell: Sender<(Origin, Event)>) {
    thread::spawn(move || {
        // After the end of the round nobody receives events.
        while let Ok(event) = events.recv()
            && tell.send((origin, event)).is_ok()
        {}
    });
}

/// Checks a sender that has ended: every message must have an answer, and it must have reported no
/// error.
fn check_sender(process: &mut Process, load: &LoadSender, said: &str) -> Result<(), String> {
    let (mode, count) = (load.mode.word(), load.mode.messages_each());
    let log = load.acks.with_extension("log");
    let status = process.wait()?;
    let told = std::fs::read_to_string(&log).unwrap_or_default();
    if !status.success() || said.trim_end() != format!("acknowledged {count}") || !told.is_empty() {
        return Err(format!(
            "the sender of {mode} reported an error: {status}\n{said}{}",
            faults::tail(&log)
        ));
    }
    Ok(())
}

struct Round {
    events: Receiver<(Origin, Event)>,
    killed: DeliveredBySender,
    other: DeliveredBySender,
    killed_lines: usize,
    other_lines: usize,
}

impl Round {
    /// Waits for the next event, and records its line. Returns `None` at the time `until`.
    fn next(&mut self, until: Instant) -> Result<Option<(Origin, Event)>, String> {
        let wait = until.saturating_duration_since(Instant::now());
        let event = match self.events.recv_timeout(wait) {
            Ok(event) => event,
            Err(RecvTimeoutError::Timeout) if wait < SILENCE_MAX / 2 => return Ok(None),
            Err(_) => return Err(format!("no event for {} s", SILENCE_MAX.as_secs())),
        };
        if let (origin, Event::Line(line)) = &event {
            let message = Message::read(line, Reader::Receive)
                .ok_or_else(|| format!("a server printed a line that is not a message: {line}"))?;
            let (lines, count) = match origin {
                Origin::Killed => (&mut self.killed, &mut self.killed_lines),
                _ => (&mut self.other, &mut self.other_lines),
            };
            *count += 1;
            let Message { id, redeliveries, from, number } = message;
            lines.entry(from).or_default().push(Delivered { number, id, redeliveries });
        }
        Ok(Some(event))
    }

    /// Judges a sender's messages.
    fn judge(
        &self,
        load: &mut LoadSender,
        in_flight: u64,
        verdict: &mut Verdict,
    ) -> Result<(), String> {
        let numbers = sender::acknowledged(&load.acks, &mut load.acks_read)?;
        let expected = load.next..load.next + load.mode.messages_each();
        if !sender::are_all_in_order(&numbers, expected.clone(), load.mode, in_flight) {
            let acks = load.acks.display();
            return Err(format!(
                "{acks} does not have the numbers {expected:?}, each once and in order"
            ));
        }
        load.next = expected.end;
        let mut by_order: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for number in numbers {
            by_order
                .entry(sender::from_word(load.mode, in_flight, number))
                .or_default()
                .push(number);
        }
        // The server prints a request before it replies, so no acknowledged request can die with
        // it.
        let may_die = load.mode != Mode::Request;
        let none = Vec::new();
        for (from, numbers) in by_order {
            let killed = self.killed.get(&from).unwrap_or(&none);
            let other = self.other.get(&from).unwrap_or(&none);
            verdict.judge(&from, may_die, &numbers, killed, other);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(numbers: &[u64]) -> Vec<Delivered> {
        numbers
            .iter()
            .map(|number| Delivered { number: *number, id: number.to_string(), redeliveries: 0 })
            .collect()
    }

    fn judged(killed: &[u64], other: &[u64]) -> Verdict {
        let mut verdict = Verdict::default();
        verdict.judge("a", true, &[1, 2, 3, 4, 5], &lines(killed), &lines(other));
        verdict
    }

    fn a(numbers: &[u64]) -> Vec<(String, u64)> {
        numbers.iter().map(|number| ("a".to_owned(), *number)).collect()
    }

    #[test]
    fn what_one_server_has_up_to_a_number_and_the_other_from_there_on_is_good() {
        for (killed, other, died, at_both) in [
            (&[1, 2][..], &[3, 4, 5][..], 0, 0),
            (&[1, 2, 3], &[3, 4, 5], 0, 1),
            (&[1], &[4, 5], 2, 0),
            (&[], &[1, 2, 3, 4, 5], 0, 0),
            (&[], &[3, 4, 5], 2, 0),
            (&[1, 2], &[], 3, 0),
        ] {
            let verdict = judged(killed, other);
            assert!(verdict.is_good(), "{killed:?} {other:?}: {verdict}");
            assert_eq!((verdict.died, verdict.at_both, verdict.acknowledged), (died, at_both, 5));
        }
    }

    #[test]
    fn a_gap_within_what_a_server_has_is_lost() {
        assert_eq!(judged(&[1, 3], &[4, 5]).lost, a(&[2]));
        assert_eq!(judged(&[1, 2], &[3, 5]).lost, a(&[4]));
        assert_eq!(judged(&[1, 2], &[3, 4]).lost, a(&[5]));
    }

    #[test]
    fn a_request_that_was_answered_has_come_out() {
        let mut verdict = Verdict::default();
        verdict.judge("a", false, &[1, 2, 3], &lines(&[1]), &lines(&[3]));
        assert_eq!(verdict.lost, a(&[2]));
    }

    #[test]
    fn what_comes_twice_or_under_two_ids_or_late_is_told() {
        assert_eq!(judged(&[1, 2, 2], &[3, 4, 5]).twice, a(&[2]));
        assert_eq!(judged(&[1, 3, 2], &[4, 5]).out_of_order, a(&[2]));
        let mut other = lines(&[2, 3, 4, 5]);
        other[0].id = "another".to_owned();
        let mut verdict = Verdict::default();
        verdict.judge("a", true, &[1, 2, 3, 4, 5], &lines(&[1, 2]), &other);
        assert_eq!(
            (verdict.twice.clone(), verdict.details()),
            (a(&[2]), "twice: a 2 …\n".to_owned())
        );
        other[3].redeliveries = 1;
        verdict.judge("a", true, &[2, 3, 4, 5], &lines(&[]), &other);
        assert_eq!(verdict.twice, a(&[2, 5]));
    }
}

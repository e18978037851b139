//! The options of `cargo xtask crash`.
//!
//! `main` comes here with the words after the task's name, and the end-to-end scenarios with their
//! own options.

use crate::faults;

/// Where the receiver keeps accepted messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InboxKind {
    /// In memory, so acknowledged messages die with the process.
    Memory,
    /// In a file.
    Durable,
}

impl InboxKind {
    /// The word that the receiver takes.
    pub(super) fn word(self) -> &'static str {
        match self {
            InboxKind::Memory => "memory",
            InboxKind::Durable => "durable",
        }
    }
}

/// The program that reads the inbox and is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    /// The fixture `receive`: it acknowledges each message before it takes the next,
    /// and replies to requests.
    Receive,
    /// `web-ipc --serve`: it prints several messages, then acknowledges them. It gives no replies.
    Serve,
}

impl Reader {
    /// The word on the command line.
    pub(super) fn word(self) -> &'static str {
        match self {
            Reader::Receive => "receive",
            Reader::Serve => "serve",
        }
    }

    /// How many messages it may have printed and not yet acknowledged.
    pub(super) fn lines_in_hand_max(self) -> usize {
        match self {
            Reader::Receive => 1,
            Reader::Serve => 1024,
        }
    }
}

/// How a sender sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Single messages, several in flight.
    Send,
    /// In batches.
    SendAll,
    /// Requests, several in flight, each of which waits for its reply.
    Request,
}

impl Mode {
    /// All modes.
    pub(crate) const ALL: &'static [Mode] = &[Mode::Send, Mode::SendAll, Mode::Request];

    /// The word on the sender's command line, which its messages have in `from` too.
    pub(super) fn word(self) -> &'static str {
        match self {
            Mode::Send => "send",
            Mode::SendAll => "send_all",
            Mode::Request => "request",
        }
    }

    /// How many messages one process of a sender sends. It takes some seconds, so that a run has
    /// many processes that begin and end.
    pub(super) fn messages_each(self) -> u64 {
        match self {
            Mode::Send | Mode::Request => 250,
            Mode::SendAll => 1000,
        }
    }
}

/// The fault in each round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The receiver is killed and started again.
    Kill,
    /// A connection is cut.
    Cut,
    /// The server in use, of two, is killed for good.
    Failover,
}

impl Fault {
    /// The first word of the last line.
    pub(super) fn word(self) -> &'static str {
        match self {
            Fault::Kill => "crash",
            Fault::Cut => "cut",
            Fault::Failover => "failover",
        }
    }
}

/// The default for how many messages, or requests, a sender has in flight. With more than one they
/// go over a channel from the first on.
const IN_FLIGHT: u64 = 8;

/// The options of the task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) rounds: u32,
    pub(crate) inbox: InboxKind,
    pub(crate) reader: Reader,
    /// The modes of the senders, which all run at the same time.
    pub(crate) modes: &'static [Mode],
    pub(crate) fault: Fault,
    /// How many messages, or requests, a sender has in flight.
    pub(crate) in_flight: u64,
    pub(crate) seed: u64,
}

impl Options {
    /// Options for `rounds` rounds of this fault, with the durable inbox, the reader `receive`,
    /// senders of all modes and a random seed.
    pub(crate) fn new(rounds: u32, fault: Fault) -> Self {
        Options {
            rounds,
            inbox: InboxKind::Durable,
            reader: Reader::Receive,
            modes: Mode::ALL,
            fault,
            in_flight: IN_FLIGHT,
            seed: faults::fresh_seed(),
        }
    }

    /// Reads the words after the task's name. The error is a sentence.
    pub(crate) fn parse(words: &[&str]) -> Result<Self, String> {
        let mut options = Options::new(20, Fault::Kill);
        let mut words = words.iter();
        while let Some(word) = words.next() {
            if let Some(fault) = [("--cut", Fault::Cut), ("--failover", Fault::Failover)]
                .iter()
                .find(|(name, _)| name == word)
            {
                options.fault = fault.1;
                continue;
            }
            if !["--rounds", "--inbox", "--reader", "--mode", "--in-flight", "--seed"]
                .contains(word)
            {
                return Err(format!("unknown option `{word}`"));
            }
            let value = *words.next().ok_or_else(|| format!("{word} needs a value"))?;
            let wrong = || format!("{word} cannot be `{value}`");
            match *word {
                "--rounds" => {
                    options.rounds =
                        value.parse().ok().filter(|rounds| *rounds > 0).ok_or_else(wrong)?;
                }
                "--inbox" => {
                    options.inbox = [InboxKind::Memory, InboxKind::Durable]
                        .into_iter()
                        .find(|kind| kind.word() == value)
                        .ok_or_else(wrong)?;
                }
                "--reader" => {
                    options.reader = [Reader::Receive, Reader::Serve]
                        .into_iter()
                        .find(|reader| reader.word() == value)
                        .ok_or_else(wrong)?;
                }
                "--in-flight" => {
                    let in_flight =
                        value.parse().ok().filter(|in_flight| (1..=64).contains(in_flight));
                    options.in_flight = in_flight.ok_or_else(wrong)?;
                }
                "--mode" if value == "all" => options.modes = Mode::ALL,
                "--mode" => {
                    let is_named = |mode: &Mode| mode.word() == value;
                    let place = Mode::ALL.iter().position(is_named).ok_or_else(wrong)?;
                    options.modes = &Mode::ALL[place..=place];
                }
                _ => options.seed = value.parse().map_err(|_| wrong())?,
            }
        }
        if options.fault == Fault::Failover {
            // Each server has its own inbox in memory, and only `receive` runs there.
            options.inbox = InboxKind::Memory;
            if options.reader != Reader::Receive {
                return Err("--failover works only with --reader receive".to_owned());
            }
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_words_it_is_twenty_kills_of_the_durable_inbox_with_every_mode() {
        let options = Options::parse(&[]).unwrap();
        assert_eq!((options.rounds, options.inbox), (20, InboxKind::Durable));
        assert_eq!(options.reader, Reader::Receive);
        assert_eq!((options.modes, options.fault), (Mode::ALL, Fault::Kill));
    }

    #[test]
    fn every_option_is_read() {
        let words = "--rounds 7 --inbox memory --reader serve --mode send_all --in-flight 3 --seed 42 --cut";
        let options = Options::parse(&words.split(' ').collect::<Vec<_>>()).unwrap();
        let expected = Options {
            rounds: 7,
            inbox: InboxKind::Memory,
            reader: Reader::Serve,
            modes: &[Mode::SendAll],
            fault: Fault::Cut,
            in_flight: 3,
            seed: 42,
        };
        assert_eq!(options, expected);
        assert_eq!(Options::parse(&["--mode", "all"]).unwrap().modes.len(), 3);
        let failover = Options::parse(&["--failover"]).unwrap();
        assert_eq!((failover.fault, failover.inbox), (Fault::Failover, InboxKind::Memory));
    }

    #[test]
    fn what_is_no_option_or_no_value_is_refused() {
        for words in [
            &["--round", "7"][..],
            &["7"],
            &["--rounds"],
            &["--rounds", "0"],
            &["--rounds", "many"],
            &["--inbox", "disk"],
            &["--reader", "nobody"],
            &["--mode", "requests"],
            &["--seed", "-1"],
            &["--in-flight", "0"],
            &["--in-flight", "65"],
            &["--failover", "--reader", "serve"],
        ] {
            assert!(Options::parse(words).is_err(), "{words:?}");
        }
    }
}

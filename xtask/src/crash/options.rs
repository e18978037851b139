//! What `cargo xtask crash` is asked to do.
//!
//! `main` comes here with the words behind the task's name, and the end-to-end scenarios with
//! options of their own.

use super::random;

/// Where the receiver keeps what it accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InboxKind {
    /// In memory, where an acknowledged message dies with the process.
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

/// What reads the inbox, and is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    /// The fixture `receive`: it acknowledges each message before it takes the next,
    /// and replies to requests.
    Receive,
    /// `web-ipc --serve`: it prints some at a time, then acknowledges them. To a request it gives
    /// no reply.
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

    /// How many lines it may have printed and not yet acknowledged.
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
    /// Message by message, several in flight.
    Send,
    /// In batches.
    SendAll,
    /// Requests, several in flight, each with its reply.
    Request,
}

impl Mode {
    /// All there are.
    pub(crate) const ALL: &'static [Mode] = &[Mode::Send, Mode::SendAll, Mode::Request];

    /// The word that the sender takes; also what its messages are known by.
    pub(super) fn word(self) -> &'static str {
        match self {
            Mode::Send => "send",
            Mode::SendAll => "send_all",
            Mode::Request => "request",
        }
    }

    /// How many messages one sender's process sends: some seconds' worth, so that a run sees many
    /// begin and end.
    pub(super) fn messages_each(self) -> u64 {
        match self {
            Mode::Send | Mode::Request => 250,
            Mode::SendAll => 1000,
        }
    }
}

/// What goes wrong, round after round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The receiver is killed and started again.
    Kill,
    /// A connection is cut.
    Cut,
    /// Of two servers the one that is in use is killed for good.
    Failover,
}

impl Fault {
    /// What the closing line begins with.
    pub(super) fn word(self) -> &'static str {
        match self {
            Fault::Kill => "crash",
            Fault::Cut => "cut",
            Fault::Failover => "failover",
        }
    }
}

/// How many messages, and requests, a sender has in flight, unless something else is said: more
/// than one, so that they go over a channel from the first on.
const IN_FLIGHT: u64 = 8;

/// The options of the task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) rounds: u32,
    pub(crate) inbox: InboxKind,
    pub(crate) reader: Reader,
    /// The senders, all at work at the same time.
    pub(crate) modes: &'static [Mode],
    pub(crate) fault: Fault,
    /// How many messages, and requests, a sender has in flight.
    pub(crate) in_flight: u64,
    pub(crate) seed: u64,
}

impl Options {
    /// So many rounds of this fault, in the durable inbox that the fixture reads, with a
    /// sender of every mode and a seed of chance.
    pub(crate) fn new(rounds: u32, fault: Fault) -> Self {
        Options {
            rounds,
            inbox: InboxKind::Durable,
            reader: Reader::Receive,
            modes: Mode::ALL,
            fault,
            in_flight: IN_FLIGHT,
            seed: random::fresh_seed(),
        }
    }

    /// Reads the words behind the task's name. The error is a sentence.
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
                return Err(format!("there is no option `{word}`"));
            }
            let value = *words.next().ok_or_else(|| format!("{word} takes a value"))?;
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
            // Each server has its own, and the programs of this one are all there are.
            options.inbox = InboxKind::Memory;
            if options.reader != Reader::Receive {
                return Err("--failover has no other reader than receive".to_owned());
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

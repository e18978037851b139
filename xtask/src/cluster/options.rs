//! The options of `cargo xtask cluster`.
//!
//! `main` comes here with the words after the task's name, and the end-to-end scenarios with their
//! own options.

use crate::faults::fresh_seed;

/// Where the servers keep accepted messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InboxKind {
    /// On the three NATS servers.
    JetStream,
    /// Each server in its own memory, so acknowledged messages die with it. The verdict must say
    /// so.
    Memory,
}

impl InboxKind {
    /// The word on the command line.
    pub(super) fn word(self) -> &'static str {
        match self {
            InboxKind::JetStream => "jetstream",
            InboxKind::Memory => "memory",
        }
    }
}

/// Which faults are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FaultSet {
    All,
    /// Those that leave the NATS servers, and their connections, alone.
    WithoutNats,
}

impl FaultSet {
    /// The word on the command line.
    pub(super) fn word(self) -> &'static str {
        match self {
            FaultSet::All => "all",
            FaultSet::WithoutNats => "without-nats",
        }
    }
}

/// The options of the task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) rounds: u32,
    pub(crate) seed: u64,
    pub(crate) inbox: InboxKind,
    pub(crate) faults: FaultSet,
    /// Whether a debug build is used, which is quicker to build.
    pub(crate) is_debug: bool,
}

impl Options {
    /// Options for `rounds` rounds, with a random seed.
    pub(crate) fn new(rounds: u32) -> Self {
        let seed = fresh_seed();
        let (inbox, faults) = (InboxKind::JetStream, FaultSet::All);
        Options { rounds, seed, inbox, faults, is_debug: false }
    }

    /// Reads the words after the task's name. The error is a sentence.
    pub(crate) fn parse(words: &[&str]) -> Result<Self, String> {
        let mut options = Options::new(20);
        let mut words = words.iter();
        while let Some(word) = words.next() {
            if *word == "--debug" {
                options.is_debug = true;
                continue;
            }
            if !["--rounds", "--seed", "--inbox", "--faults"].contains(word) {
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
                    options.inbox = [InboxKind::JetStream, InboxKind::Memory]
                        .into_iter()
                        .find(|kind| kind.word() == value)
                        .ok_or_else(wrong)?;
                }
                "--faults" => {
                    options.faults = [FaultSet::All, FaultSet::WithoutNats]
                        .into_iter()
                        .find(|set| set.word() == value)
                        .ok_or_else(wrong)?;
                }
                _ => options.seed = value.parse().map_err(|_| wrong())?,
            }
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_is_read() {
        let words = "--rounds 7 --seed 42 --inbox memory --faults without-nats --debug";
        let words: Vec<&str> = words.split(' ').collect();
        let (inbox, faults) = (InboxKind::Memory, FaultSet::WithoutNats);
        let expected = Options { rounds: 7, seed: 42, inbox, faults, is_debug: true };
        assert_eq!(Options::parse(&words), Ok(expected));
        let without = Options::parse(&[]).unwrap();
        assert_eq!(
            (without.rounds, without.inbox, without.faults, without.is_debug),
            (20, InboxKind::JetStream, FaultSet::All, false)
        );
    }

    #[test]
    fn what_is_no_option_or_no_value_is_refused() {
        for words in [
            &["--round", "7"][..],
            &["7"],
            &["--rounds"],
            &["--rounds", "0"],
            &["--seed", "-1"],
            &["--inbox", "durable"],
            &["--faults", "none"],
        ] {
            assert!(Options::parse(words).is_err(), "{words:?}");
        }
    }
}

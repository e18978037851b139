//! The options of `cargo xtask bench`.
//!
//! `main` passes the arguments after the task's name, and the end-to-end scenario uses the short
//! form.

use super::exchange::{self, Attack, Case, IN_FLIGHT, SIZES};

/// What to measure, and how long.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Options {
    /// How many rounds measure everything.
    pub(crate) rounds: u32,
    /// How long a case is measured in a round, in seconds.
    pub(crate) secs: f64,
    /// How long a case runs before that, in seconds.
    pub(crate) warm_up_secs: f64,
    /// Measures only cases with one of these texts in the name, and their raw cases. Empty:
    /// everything.
    pub(crate) only: Vec<String>,
    /// Only messages of these sizes, in bytes. Empty: all.
    pub(crate) sizes: Vec<usize>,
    /// Only with so many in flight. Empty: all.
    pub(crate) in_flight: Vec<usize>,
    /// Whether to write the page.
    pub(crate) write: bool,
    /// Whether only to check that everything runs.
    pub(crate) quick: bool,
}

impl Options {
    /// The defaults.
    fn usual() -> Self {
        Options {
            rounds: 5,
            secs: 1.0,
            warm_up_secs: 0.3,
            only: Vec::new(),
            sizes: Vec::new(),
            in_flight: Vec::new(),
            write: false,
            quick: false,
        }
    }

    /// The short form: each kind of case once, for a moment.
    pub(crate) fn quick() -> Self {
        Options { rounds: 1, secs: 0.05, warm_up_secs: 0.0, quick: true, ..Options::usual() }
    }

    /// Parses the arguments after the task's name. The error is a sentence.
    pub(crate) fn parse(words: &[&str]) -> Result<Self, String> {
        let is_quick = words.contains(&"--quick");
        let mut options = if is_quick { Options::quick() } else { Options::usual() };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match *word {
                "--quick" => continue,
                "--write" if is_quick => {
                    return Err("--quick measures nothing that --write could write".into());
                }
                "--write" => {
                    options.write = true;
                    continue;
                }
                "--rounds" | "--secs" | "--only" | "--size" | "--in-flight" => {}
                _ => return Err(format!("unknown option `{word}`")),
            }
            let value = *words.next().ok_or_else(|| format!("{word} needs a value"))?;
            let wrong = || format!("{word} cannot be `{value}`");
            match *word {
                "--rounds" => {
                    options.rounds =
                        value.parse().ok().filter(|rounds| *rounds > 0).ok_or_else(wrong)?;
                }
                "--secs" => {
                    let secs = value.parse().ok().filter(|secs| (0.01..=600.0).contains(secs));
                    options.secs = secs.ok_or_else(wrong)?;
                }
                "--size" => options.sizes = picked(value, &SIZES).ok_or_else(wrong)?,
                "--in-flight" => options.in_flight = picked(value, &IN_FLIGHT).ok_or_else(wrong)?,
                _ => options.only = value.split(',').map(|name| name.trim().to_owned()).collect(),
            }
        }
        if options.only.iter().any(String::is_empty) {
            return Err("--only needs parts of names, separated by commas".into());
        }
        if options.write && options.is_a_part() {
            return Err("--write needs all cases: the page would lose the others".into());
        }
        Ok(options)
    }

    /// Whether the options exclude something.
    pub(crate) fn is_a_part(&self) -> bool {
        !(self.only.is_empty() && self.sizes.is_empty() && self.in_flight.is_empty())
    }

    /// The requested cases, each with the case that it is compared with.
    pub(crate) fn cases(&self) -> Vec<Case> {
        let cases = if self.quick { exchange::one_of_each_kind() } else { exchange::all() };
        let named: Vec<Case> = cases.iter().filter(|case| self.wants_case(case)).copied().collect();
        let is_needed = |case: &Case| {
            named.iter().any(|named| {
                let calm = Case { attack: Attack::None, ..*named };
                // Several clients are compared with one as well.
                let of_one = Case { clients: 1, ..*named };
                [*named, named.raw_baseline(), calm, of_one, of_one.raw_baseline()].contains(case)
            })
        };
        cases.into_iter().filter(is_needed).collect()
    }

    /// Whether this case is to be measured.
    fn wants_case(&self, case: &Case) -> bool {
        let is_among = |these: &[usize], one| these.is_empty() || these.contains(&one);
        let name = case.to_string();
        (self.only.is_empty() || self.names(&name))
            && is_among(&self.sizes, case.bytes)
            && is_among(&self.in_flight, case.in_flight)
    }

    /// Whether to measure something of this name that is not a case.
    pub(crate) fn wants(&self, name: &str) -> bool {
        !self.is_a_part() || self.names(name)
    }

    fn names(&self, name: &str) -> bool {
        self.only.iter().any(|part| name.contains(part.as_str()))
    }
}

/// Parses comma-separated numbers, each one of `all`.
fn picked(value: &str, all: &[usize]) -> Option<Vec<usize>> {
    value
        .split(',')
        .map(|number| number.trim().parse().ok().filter(|number| all.contains(number)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::cases::exchange::{Inbox, Workload};

    fn parse(words: &str) -> Result<Options, String> {
        Options::parse(&words.split_whitespace().collect::<Vec<_>>())
    }

    #[test]
    fn without_words_everything_is_measured_and_nothing_written() {
        let options = parse("").unwrap();
        assert_eq!(options, Options::usual());
        assert!(!options.write && !options.quick && options.wants("anything"));
    }

    #[test]
    fn every_option_is_read() {
        let options =
            parse("--rounds 3 --secs 0.5 --only durable,local --size 64,1024 --in-flight 16")
                .unwrap();
        assert_eq!((options.rounds, options.secs), (3, 0.5));
        let wants = |case| options.wants_case(&case);
        assert!(wants(Case::send(Inbox::Durable, 64, 16)) && wants(Case::local(1024, 16)));
        assert!(!wants(Case::send(Inbox::Memory, 64, 16)) && !wants(Case::local(64, 1)));
        assert!(!wants(Case::local(1024 * 1024, 16)));
        assert!(options.wants("durable reader") && !options.wants("idle server"));
        assert!(!parse("--size 64").unwrap().wants("idle server"));
        assert!(parse("--write").unwrap().write);
        assert_eq!(parse("--quick").unwrap(), Options::quick());
        assert_eq!(parse("--rounds 2 --quick").unwrap(), Options { rounds: 2, ..Options::quick() });
    }

    #[test]
    fn what_is_no_option_or_no_value_is_refused() {
        for words in [
            "--round 3",
            "3",
            "--rounds",
            "--rounds 0",
            "--secs 0",
            "--secs NaN",
            "--secs many",
            "--only",
            "--only send,",
            "--size 65",
            "--size 64,",
            "--in-flight 2",
            "--in-flight many",
            "--quick --write",
            "--write --only send",
            "--write --size 64",
        ] {
            assert!(parse(words).is_err(), "{words}");
        }
    }

    #[test]
    fn a_case_brings_what_it_is_compared_with() {
        let only = |name: &str| Options { only: vec![name.into()], ..Options::quick() }.cases();
        assert_eq!(
            only("flood"),
            [Case::raw(64, 16), Case::send(Inbox::Memory, 64, 16), Case::flooded(16)]
        );
        let siege: [Workload; 2] = [Workload::Send, Workload::Post];
        let siege = siege.map(|one| [Case::unbesieged(one), Case::besieged(one)]).concat();
        assert_eq!(only("siege"), [&[Case::raw(64, 1)], &*siege].concat());
        assert_eq!(only("nothing of this name"), []);
    }
}

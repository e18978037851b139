//! The options of `cargo xtask scaling`.

/// How often and how long to measure.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Options {
    /// How many rounds measure everything.
    pub(super) rounds: u32,
    /// How long a case is measured in a round, in seconds.
    pub(super) secs: f64,
    /// How many messages each client has in flight.
    pub(super) in_flight: usize,
    /// How many messages a second each client sends, where it does not send as fast as it can.
    pub(super) rate: u32,
}

impl Options {
    /// Parses the arguments after the task's name. The error is a sentence.
    pub(crate) fn parse(words: &[&str]) -> Result<Self, String> {
        let mut options = Options { rounds: 5, secs: 4.0, in_flight: 64, rate: 500 };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            if !["--rounds", "--secs", "--in-flight", "--rate"].contains(word) {
                return Err(format!("unknown option `{word}`"));
            }
            let value = *words.next().ok_or_else(|| format!("{word} needs a value"))?;
            let wrong = || format!("{word} cannot be `{value}`");
            match *word {
                "--rounds" => {
                    options.rounds = value.parse().ok().filter(|n| *n > 0).ok_or_else(wrong)?;
                }
                "--secs" => {
                    let secs = value.parse().ok().filter(|secs| (0.1..=600.0).contains(secs));
                    options.secs = secs.ok_or_else(wrong)?;
                }
                "--rate" => {
                    let rate = value.parse().ok().filter(|rate| (1..=1_000_000).contains(rate));
                    options.rate = rate.ok_or_else(wrong)?;
                }
                _ => {
                    let in_flight = value.parse().ok().filter(|n| (1..=1024).contains(n));
                    options.in_flight = in_flight.ok_or_else(wrong)?;
                }
            }
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &str) -> Result<Options, String> {
        Options::parse(&words.split_whitespace().collect::<Vec<_>>())
    }

    #[test]
    fn every_option_is_read_and_has_a_default() {
        assert_eq!(parse("").unwrap(), Options { rounds: 5, secs: 4.0, in_flight: 64, rate: 500 });
        assert_eq!(
            parse("--rounds 2 --secs 0.5 --in-flight 16 --rate 100").unwrap(),
            Options { rounds: 2, secs: 0.5, in_flight: 16, rate: 100 }
        );
    }

    #[test]
    fn what_is_no_option_or_no_value_is_refused() {
        for words in [
            "3",
            "--round 3",
            "--rounds",
            "--rounds 0",
            "--secs 0",
            "--secs NaN",
            "--in-flight 0",
            "--in-flight many",
            "--rate 0",
        ] {
            assert!(parse(words).is_err(), "{words}");
        }
    }
}

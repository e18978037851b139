//! What `cargo xtask bench` is asked to do.
//!
//! `main` comes here with the words behind the task's name, and the end-to-end scenario for the short form.

/// What to measure, and how long.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Options {
    /// How often everything is measured, in turns.
    pub(super) rounds: u32,
    /// How long a case is measured in a round, in seconds.
    pub(super) secs: f64,
    /// How long it runs before that.
    pub(super) warm_up_secs: f64,
    /// Only what has this in its name, with the raw cases that it is compared with.
    pub(super) only: Option<String>,
    /// Writes the page.
    pub(super) write: bool,
    /// Only shows that everything runs.
    pub(super) quick: bool,
}

impl Options {
    /// What is measured unless something else is said.
    fn usual() -> Self {
        Options { rounds: 5, secs: 1.0, warm_up_secs: 0.3, only: None, write: false, quick: false }
    }

    /// The short form: each kind of case once, for a moment.
    pub(crate) fn quick() -> Self {
        Options { rounds: 1, secs: 0.05, warm_up_secs: 0.0, quick: true, ..Options::usual() }
    }

    /// Reads the words behind the task's name. The error is a sentence.
    pub(crate) fn parse(words: &[&str]) -> Result<Self, String> {
        let is_quick = words.contains(&"--quick");
        let mut options = if is_quick { Options::quick() } else { Options::usual() };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match *word {
                "--quick" => continue,
                "--write" if is_quick => return Err("--quick measures nothing that could be written".into()),
                "--write" => {
                    options.write = true;
                    continue;
                }
                "--rounds" | "--secs" | "--only" => {}
                _ => return Err(format!("there is no option `{word}`")),
            }
            let value = *words.next().ok_or_else(|| format!("{word} takes a value"))?;
            let wrong = || format!("{word} cannot be `{value}`");
            match *word {
                "--rounds" => {
                    options.rounds = value.parse().ok().filter(|rounds| *rounds > 0).ok_or_else(wrong)?;
                }
                "--secs" => {
                    let secs = value.parse().ok().filter(|secs| (0.01..=600.0).contains(secs));
                    options.secs = secs.ok_or_else(wrong)?;
                }
                _ => options.only = Some(value.to_owned()),
            }
        }
        if options.write && options.only.is_some() {
            return Err("--write takes all cases: the page would lose the others".into());
        }
        Ok(options)
    }

    /// Whether something of this name is to be measured.
    pub(super) fn wants(&self, name: &str) -> bool {
        self.only.as_deref().is_none_or(|only| name.contains(only))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let options = parse("--rounds 3 --secs 0.5 --only durable").unwrap();
        assert_eq!((options.rounds, options.secs), (3, 0.5));
        assert!(options.wants("send durable, 64 B") && !options.wants("send memory, 64 B"));
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
            "--quick --write",
            "--write --only send",
        ] {
            assert!(parse(words).is_err(), "{words}");
        }
    }
}

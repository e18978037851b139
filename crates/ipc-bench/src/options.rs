//! The options of a program, each as `--name value`.
//!
//! Every program reads its own; only the program knows their names and meanings.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;
use std::time::Duration;

/// The upper limit of a duration, in seconds.
const SECS_MAX: f64 = 3600.0;

/// The options that were given.
#[derive(Debug)]
pub(crate) struct Options {
    given: BTreeMap<String, String>,
    /// The names that a program asked for.
    asked: RefCell<BTreeSet<String>>,
}

impl Options {
    /// Reads the arguments after the program's name.
    pub(crate) fn parse(words: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let mut given = BTreeMap::new();
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            let name =
                word.strip_prefix("--").ok_or_else(|| format!("`{word}` is not an option"))?;
            let value = words.next().ok_or_else(|| format!("{word} needs a value"))?;
            given.insert(name.to_owned(), value);
        }
        Ok(Options { given, asked: RefCell::default() })
    }

    /// The value of an option, if it was given.
    pub(crate) fn get<T: FromStr>(&self, name: &str) -> Result<Option<T>, String> {
        self.asked.borrow_mut().insert(name.to_owned());
        let Some(value) = self.given.get(name) else { return Ok(None) };
        value.parse().map(Some).map_err(|_| format!("--{name} cannot be `{value}`"))
    }

    /// The value of an option that must be given.
    pub(crate) fn required<T: FromStr>(&self, name: &str) -> Result<T, String> {
        self.get(name)?.ok_or_else(|| format!("--{name} is missing"))
    }

    /// The value of an option in seconds.
    pub(crate) fn secs(&self, name: &str, default: f64) -> Result<Duration, String> {
        let secs = self.get(name)?.unwrap_or(default);
        if !(0.0..=SECS_MAX).contains(&secs) {
            return Err(format!("--{name} cannot be `{secs}`"));
        }
        Ok(Duration::from_secs_f64(secs))
    }

    /// Refuses options that no program asked for: a misspelt option would change what is measured.
    pub(crate) fn refuse_unused(&self) -> Result<(), String> {
        match self.given.keys().find(|name| !self.asked.borrow().contains(*name)) {
            Some(name) => Err(format!("unknown option --{name}")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &str) -> Result<Options, String> {
        Options::parse(words.split(' ').map(str::to_owned))
    }

    #[test]
    fn values_are_read_by_name() {
        let options = parse("--bytes 64 --workload send --secs 0.5").unwrap();
        assert_eq!(options.get::<usize>("bytes"), Ok(Some(64)));
        assert_eq!(options.get::<usize>("batch"), Ok(None));
        assert_eq!(options.required::<String>("workload"), Ok("send".to_owned()));
        assert_eq!(options.secs("secs", 1.0), Ok(Duration::from_millis(500)));
        assert_eq!(options.refuse_unused(), Ok(()));
    }

    #[test]
    fn what_is_missing_or_wrong_is_said() {
        assert!(parse("bytes").is_err());
        assert!(parse("--bytes").is_err());
        let options = parse("--bytes many --secs -1 --othr 1").unwrap();
        assert_eq!(options.get::<usize>("bytes"), Err("--bytes cannot be `many`".to_owned()));
        assert!(options.secs("secs", 1.0).is_err());
        assert_eq!(options.required::<String>("home"), Err("--home is missing".to_owned()));
        assert_eq!(options.refuse_unused(), Err("unknown option --othr".to_owned()));
    }
}

//! Shows an error with its causes, in one line.
//!
//! The log lines of the libraries and the command line use it.

use std::error::Error;
use std::fmt;

/// Shows `error` and its causes, the outermost first: `error: cause: cause`.
///
/// A cause is left out if the line ends with its text already: some errors of other libraries show
/// their cause themselves.
pub fn chain<'a>(error: &'a (dyn Error + 'static)) -> Chain<'a> {
    Chain(error)
}

/// An error with its causes, made by [`chain`].
#[derive(Clone, Copy, Debug)]
pub struct Chain<'a>(&'a (dyn Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut last = self.0.to_string();
        f.write_str(&last)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            let text = error.to_string();
            if !last.ends_with(&text) {
                write!(f, ": {text}")?;
                last = text;
            }
            cause = error.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Failed(&'static str, Option<Box<Failed>>);

    impl fmt::Display for Failed {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Failed {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_deref().map(|cause| cause as _)
        }
    }

    fn failed(texts: &[&'static str]) -> Failed {
        let (first, rest) = texts.split_first().unwrap();
        Failed(first, (!rest.is_empty()).then(|| failed(rest).into()))
    }

    #[test]
    fn an_error_is_shown_with_all_its_causes() {
        assert_eq!(chain(&failed(&["a"])).to_string(), "a");
        assert_eq!(chain(&failed(&["a", "b", "c"])).to_string(), "a: b: c");
    }

    #[test]
    fn a_cause_that_the_error_shows_itself_is_shown_once() {
        assert_eq!(chain(&failed(&["no: why", "why"])).to_string(), "no: why");
        assert_eq!(chain(&failed(&["no: why", "why", "deep"])).to_string(), "no: why: deep");
        assert_eq!(chain(&failed(&["why not", "why"])).to_string(), "why not: why");
    }
}

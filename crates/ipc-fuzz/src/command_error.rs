//! The part of the command's error type that the target `json_lines` needs.

use std::error::Error;
use std::fmt;

/// What went wrong, and what to do about it.
#[derive(Debug)]
pub(crate) struct Failure(String);

impl Failure {
    pub(crate) fn bad_data(what: impl Into<String>, advice: Option<String>) -> Self {
        let advice = advice.map(|advice| format!("; {advice}")).unwrap_or_default();
        Failure(what.into() + &advice)
    }

    pub(crate) fn of(error: &(dyn Error + 'static), _remedy: Option<()>) -> Self {
        Failure(error.to_string())
    }

    pub(crate) fn while_doing(self, attempt: &str) -> Self {
        Failure(format!("{attempt}: {}", self.0))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

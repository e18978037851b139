//! The options of a store.
//!
//! A program sets them if the defaults do not fit. Nothing here touches a file.

use std::time::Duration;

use crate::hashing::{COST_DEFAULT, COST_FOR_TESTS, COST_MAX, COST_MIN};

/// The options of a [`SqliteUserStore`](crate::SqliteUserStore).
///
/// Defaults:
/// - bcrypt cost 12, some 250 ms of one core for each login;
/// - busy timeout 5 s.
#[derive(Clone, Debug)]
pub struct Options {
    pub(crate) bcrypt_cost: u32,
    pub(crate) database: ipc_sqlite::Options,
}

impl Default for Options {
    fn default() -> Self {
        Self { bcrypt_cost: COST_DEFAULT, database: ipc_sqlite::Options::new() }
    }
}

impl Options {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the cost of new hashes: 2^`cost` rounds, 10 to 18. Stored hashes keep their cost, and
    /// still verify.
    ///
    /// # Errors
    /// [`CostError`] if `cost` is outside that range.
    pub fn bcrypt_cost(self, cost: u32) -> Result<Self, CostError> {
        if !(COST_MIN..=COST_MAX).contains(&cost) {
            return Err(CostError { cost });
        }
        Ok(Self { bcrypt_cost: cost, ..self })
    }

    /// Makes new hashes as cheap as bcrypt allows (cost 4, about a millisecond). For tests only: an
    /// attacker who steals such a hash finds the password 256 times faster than with the default.
    #[must_use]
    pub fn bcrypt_cost_for_tests(self) -> Self {
        Self { bcrypt_cost: COST_FOR_TESTS, ..self }
    }

    /// Waits up to `timeout` for another process that is writing; at most an hour.
    #[must_use]
    pub fn busy_timeout(self, timeout: Duration) -> Self {
        Self { database: self.database.busy_timeout(timeout), ..self }
    }
}

/// A bcrypt cost that is too low to protect a password or too high for a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a bcrypt cost is from {COST_MIN} to {COST_MAX}, not {cost}")]
#[non_exhaustive]
pub struct CostError {
    /// The rejected cost.
    pub cost: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_cost_is_twelve_and_the_default_wait_five_seconds() {
        let options = Options::new();
        assert_eq!(options.bcrypt_cost, 12);
        assert_eq!(options.database, options.clone().busy_timeout(Duration::from_secs(5)).database);
    }

    #[test]
    fn a_cost_that_is_too_cheap_or_too_dear_is_refused() {
        for cost in [0, 4, 9, 19, 31, 32, u32::MAX] {
            assert_eq!(Options::new().bcrypt_cost(cost).unwrap_err(), CostError { cost });
        }
        for cost in [10, 12, 18] {
            assert_eq!(Options::new().bcrypt_cost(cost).unwrap().bcrypt_cost, cost);
        }
    }

    #[test]
    fn only_the_word_for_tests_makes_it_cheaper() {
        assert_eq!(Options::new().bcrypt_cost_for_tests().bcrypt_cost, 4);
    }
}

//! Counts the tests that passed, failed and were skipped.
//!
//! Every task that tests something counts here and prints its last line with it. This file runs
//! nothing.

use std::fmt;
use std::ops::AddAssign;

/// A count of tests, printed as `N passed, M failed, K skipped`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) skipped: usize,
}

impl Counts {
    /// The count of one check.
    pub(crate) fn one(passed: bool) -> Self {
        Self { passed: usize::from(passed), failed: usize::from(!passed), skipped: 0 }
    }

    /// Reads the last line of Rust's own test runner. Returns `None` for any other line.
    pub(crate) fn from_test_result(line: &str) -> Option<Self> {
        let (_, numbers) = line.trim().strip_prefix("test result: ")?.split_once(". ")?;
        let mut counts = Self::default();
        for part in numbers.split(';') {
            let Some((number, word)) = part.trim().split_once(' ') else { continue };
            let Ok(number) = number.parse() else { continue };
            match word {
                "passed" => counts.passed = number,
                "failed" => counts.failed = number,
                "ignored" => counts.skipped = number,
                _ => {}
            }
        }
        Some(counts)
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closing_line_of_a_good_run_is_read() {
        let line = "test result: ok. 12 passed; 0 failed; 3 ignored; 0 measured; 1 filtered out; finished in 0.31s";
        assert_eq!(
            Counts::from_test_result(line),
            Some(Counts { passed: 12, failed: 0, skipped: 3 })
        );
    }

    #[test]
    fn the_closing_line_of_a_bad_run_is_read() {
        let line = "test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 2.00s";
        assert_eq!(
            Counts::from_test_result(line),
            Some(Counts { passed: 1, failed: 2, skipped: 0 })
        );
    }

    #[test]
    fn other_lines_are_no_closing_lines() {
        for line in
            ["", "running 3 tests", "test result", "test results: ok. 1 passed", "test a ... ok"]
        {
            assert_eq!(Counts::from_test_result(line), None, "{line}");
        }
    }

    #[test]
    fn counts_add_up_and_print_in_the_agreed_form() {
        let mut sum = Counts::one(true);
        sum += Counts::one(false);
        sum += Counts { passed: 5, failed: 0, skipped: 2 };
        assert_eq!(sum.to_string(), "6 passed, 1 failed, 2 skipped");
    }
}

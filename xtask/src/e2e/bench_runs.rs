//! Checks that `bench` runs in its short form. The figures do not matter.

use super::Outcome;
use crate::bench;
use crate::driver::Built;

/// Runs each kind of case for a moment, from the debug build.
pub(super) fn quick(built: &Built) -> Outcome {
    bench::run_quickly(built).unwrap_or_else(|error| panic!("{error}"));
    Outcome::Passed
}

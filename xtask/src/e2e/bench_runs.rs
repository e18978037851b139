//! The short form of `bench`: that it runs, not how fast.

use super::Outcome;
use crate::bench;
use crate::driver::Built;

/// Each kind of case for a moment, from the debug build.
pub(super) fn quick(built: &Built) -> Outcome {
    bench::run_quickly(built).unwrap_or_else(|error| panic!("{error}"));
    Outcome::Passed
}

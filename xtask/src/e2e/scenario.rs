//! Defines a scenario and its outcome.
//!
//! Every file of scenarios comes here. This file does not know which scenarios there are.

use crate::driver::Built;

/// The outcome of a scenario that did not fail.
pub(super) enum Outcome {
    Passed,
    /// It could not run here, for this reason.
    Skipped(String),
}

/// A scenario. It panics if it fails.
pub(super) type Scenario = fn(&Built) -> Outcome;

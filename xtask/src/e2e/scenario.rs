//! What a scenario is, and how one ends.
//!
//! Every file of scenarios comes here; which there are is not known here.

use crate::driver::Built;

/// How a scenario that did not fail ended.
pub(super) enum Outcome {
    Passed,
    /// It could not be run here; why.
    Skipped(String),
}

/// A scenario: panics when what it sees is wrong.
pub(super) type Scenario = fn(&Built) -> Outcome;

//! What a program may fail with, and how it is shown.
//!
//! Every program comes here; none tells one failure from another.

use std::error::Error;

/// What any of the programs may fail with; it is only shown.
pub(crate) type Failure = Box<dyn Error>;

/// A failure with its causes, on one line.
pub(crate) fn with_causes(failure: &dyn Error) -> String {
    let mut said = failure.to_string();
    let mut cause = failure.source();
    while let Some(error) = cause {
        said += &format!(": {error}");
        cause = error.source();
    }
    said
}

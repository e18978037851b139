//! An error in words, for a line of the log.

use std::error::Error;

/// An error with what caused it.
pub(super) fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // One that shows its cause itself says it once.
        let own = error.to_string();
        if !text.ends_with(&own) {
            text += ": ";
            text += &own;
        }
        cause = error.source();
    }
    text
}

//! What a program may fail with.
//!
//! Every program comes here; none tells one failure from another.

use std::error::Error;

/// What any of the programs may fail with; it is only shown.
pub(crate) type Failure = Box<dyn Error>;

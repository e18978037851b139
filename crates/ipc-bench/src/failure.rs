//! The error type of the programs.
//!
//! Every program uses it; none distinguishes errors.

use std::error::Error;

/// Any error of a program; it is only printed.
pub(crate) type Failure = Box<dyn Error>;

//! What becomes of pickles, held against Python's own.

#![allow(clippy::print_stderr, clippy::unwrap_used)]

mod hostile;
mod python;
mod round_trip;
mod vectors;

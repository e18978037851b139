//! The second layer of `bench`: runs the cases, and keeps the results.
//!
//! The task measures with it, and the third layer reads the results. Nothing here knows how they
//! are shown.

mod measurements;
mod priority;
mod rounds;
mod single_process;
mod test_bed;

pub(crate) use measurements::{Measurements, Sample};
pub(crate) use priority::RaisedPriority;
pub(crate) use rounds::run;
pub(crate) use test_bed::TestBed;

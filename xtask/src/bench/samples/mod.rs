//! The second layer of `bench`: runs the cases, and keeps what each run brought.
//!
//! The task comes here to measure, the third layer for what was measured. How it is shown is not
//! known here.

mod measurements;
mod priority;
mod rounds;
mod single_process;
mod statistics;
mod test_bed;

pub(crate) use measurements::{Measurements, Sample};
pub(crate) use priority::RaisedPriority;
pub(crate) use rounds::run;
pub(crate) use statistics::Spread;
pub(crate) use test_bed::TestBed;

//! The third layer of `bench`: measurements as tables, as charts, and in the page.
//!
//! The task passes the results of the rounds. The only programs that run here identify the machine.

mod charts;
mod environment;
mod page;
mod tables;

pub(crate) use charts::all as charts;
pub(crate) use environment::{BACKGROUND_CPU_MAX, Environment};
pub(crate) use page::write;
pub(crate) use tables::all as tables;

//! The third layer of `bench`: what was measured, as tables, as charts, and in the page.
//!
//! The task comes here with what the rounds brought. Nothing is run here but what tells on which
//! machine it was.

mod charts;
mod environment;
mod page;
mod tables;

pub(crate) use charts::all as charts;
pub(crate) use environment::{BACKGROUND_CPU_MAX, Environment};
pub(crate) use page::write;
pub(crate) use tables::all as tables;

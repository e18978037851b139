//! Builds the programs of the workspace and drives them from outside: one mechanism for `e2e`,
//! `crash` and `bench`.
//!
//! The three tasks come here for what was built, a home of its own to run it in, and processes that
//! cannot outlive their handle. What a process must print, and what that means, each task knows.

mod build;
mod captured;
mod process;
mod sandbox;

pub(crate) use build::{Built, build, build_bench, build_release};
pub(crate) use captured::{Captured, Finished, PATIENCE};
pub(crate) use process::{Output, Process, Stream};
pub(crate) use sandbox::{Sandbox, chmod};

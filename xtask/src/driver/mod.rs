//! Builds and runs the programs of the workspace, for `e2e`, `crash`, `cluster`, `bench` and
//! `scaling`.
//!
//! The tasks get here the built programs, a temporary home to run them in, and processes that
//! cannot outlive their handle. What a process must print is known only to the task.

mod build;
mod captured;
mod debian;
mod figures;
mod namespaces;
mod nats;
mod postgres;
mod process;
mod sandbox;

pub(crate) use build::{
    Built, build, build_bench, build_release, build_scaling, build_with_engines,
};
pub(crate) use captured::{Captured, Finished, PATIENCE};
pub(crate) use debian::{Container, Debian};
pub(crate) use figures::{finish, number, stop};
pub(crate) use namespaces::{HUB, Namespaces};
pub(crate) use nats::{Nats, StartingNats, nats_program};
pub(crate) use postgres::Postgres;
pub(crate) use process::{Output, Process, Stream};
pub(crate) use sandbox::{Sandbox, chmod};

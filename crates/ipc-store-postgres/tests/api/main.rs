//! The store as programs use it, on a real PostgreSQL. Where none is installed, the tests say that
//! they were skipped.

// A skipped test says so.
#![allow(clippy::print_stderr, clippy::unwrap_used)]

mod outage;
mod refusals;
mod sharing;
#[path = "../../../ipc-store/tests/suite/mod.rs"]
mod suite;
mod support;
mod tls;

suite::for_all!(support::DatabasePlace::new());

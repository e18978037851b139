//! The command with an inbox on NATS JetStream and users in PostgreSQL: real servers, which the
//! tests start. A test says that it was skipped where its server is not installed.

#![cfg(any(feature = "jetstream", feature = "postgres"))]
// A skipped test says so.
#![allow(clippy::print_stderr, clippy::unwrap_used)]

#[cfg(feature = "postgres")]
mod cluster;
mod command;
#[cfg(feature = "jetstream")]
mod inbox;
#[cfg(feature = "jetstream")]
mod nats;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "postgres")]
mod users;

//! Tests the server over real TLS, with a client that shares no code with `ipc-client`.
#![allow(clippy::unwrap_used)]

mod batches;
mod certificates;
mod channel;
mod channel_fixture;
mod channel_refusals;
mod durable;
mod fixture;
mod inbox;
mod lifecycle;
mod limits;
mod logged;
mod login;
mod messages;
mod openapi;
mod pipelining;
#[cfg(feature = "python-compat")]
mod python;
mod refusals;
mod renewal;
mod requests;
mod trust;
mod ways;

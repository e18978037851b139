//! Tests the client against a server with scripted answers, over real sockets and TLS, and against
//! the real server.

mod answers;
mod batches;
mod channel;
mod channel_ends;
mod combining;
mod dropping;
mod enrolled;
mod faces;
mod fake;
mod fixture;
mod following;
mod gate;
mod keys;
mod logged;
mod login;
mod options;
#[cfg(feature = "python-compat")]
mod python;
mod real;
mod renewing;
mod requests;
mod retrying;
mod script;
mod secrets;
mod sending;
mod translated;
mod trust;
mod ways;
mod wire;

//! Connections to one server: addresses, TCP and TLS, HTTP/1.1 over awc, and WebSockets.
//!
//! `exchange` and `channel` use it. It does not know messages, sessions or envelopes.

pub(crate) mod address;
pub(crate) mod attempt;
pub(crate) mod connector;
pub(crate) mod http;
mod interim;
mod stream;
pub(crate) mod tls;

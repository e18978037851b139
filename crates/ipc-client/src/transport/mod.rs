//! Connections to one server: addresses, TCP and TLS, HTTP/1.1 over awc, and WebSockets on it.
//!
//! `exchange` and `channel` come here. What a message, a session or an envelope is, is not known
//! here.

pub(crate) mod address;
pub(crate) mod attempt;
pub(crate) mod connector;
pub(crate) mod http;
mod interim;
mod stream;
pub(crate) mod tls;

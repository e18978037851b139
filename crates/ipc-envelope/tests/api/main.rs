//! Tests of the public interface: published vectors, a second implementation, hostile tokens and
//! properties.
#![allow(clippy::unwrap_used)]

mod hostile;
mod interop;
mod properties;
mod published;
mod support;
mod wire;

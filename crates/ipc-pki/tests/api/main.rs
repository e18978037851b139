//! The certificates, judged by verifiers that are not ours: rustls, the openssl program and
//! Python's ssl module.
//!
//! The last two run where they are installed; where they are not, the test says that it was
//! skipped.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod openssl_program;
mod python;
mod revocation;
mod rotation;
mod rustls_verifiers;
mod support;

//! Verifies the certificates with independent software: rustls, the openssl program and Python's
//! ssl module.
//!
//! The last two run if they are installed; otherwise the test reports that it was skipped.

#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod openssl_program;
mod python;
mod revocation;
mod rotation;
mod rustls_verifiers;
mod support;

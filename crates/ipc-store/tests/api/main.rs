//! The store as programs use it: through the public API, on real files.

#![allow(clippy::unwrap_used)]

mod files;
mod logging;
mod peers;
mod python;
mod refusals;
mod sharing;
#[path = "../suite/mod.rs"]
mod suite;
mod support;
mod upgrade;

suite::for_all!(async { Some(support::FilePlace::new()) });

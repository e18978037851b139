//! The store as programs use it: through the public API, on real files.

#![allow(clippy::unwrap_used)]

mod files;
mod logging;
mod python;
mod refusals;
mod sharing;
mod support;
mod users;

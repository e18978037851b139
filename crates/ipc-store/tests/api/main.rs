//! The store as programs use it: through the public API, on real files.

#![allow(clippy::unwrap_used)]

mod accounts;
mod files;
mod logging;
mod python;
mod refusals;
mod sharing;
mod support;
mod upgrade;
mod users;

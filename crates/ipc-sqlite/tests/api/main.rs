//! Database files as the crates above use them: through the public API, on real files.

#![allow(clippy::unwrap_used)]

mod files;
mod refusals;
mod room;
mod support;
mod whole;

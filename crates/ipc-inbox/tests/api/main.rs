//! What every kind of inbox must do, tested once for all of them, and what only one kind does.
#![allow(clippy::unwrap_used)]

mod durable;
mod suite;

//! What every kind of inbox must do, tested once for all of them, and what only one kind does.
#![allow(clippy::unwrap_used)]

mod dead;
mod durable;
mod files;
mod suite;
mod support;
/// The example, whose `main` is not run here.
#[allow(dead_code)]
#[path = "../../examples/vec_deque.rs"]
mod vec_deque;

//! Tests every kind of inbox for what all must do, and each kind for what only it does.
#![allow(clippy::unwrap_used)]

mod dead;
mod durable;
mod files;
mod kinds;
mod suite;
mod support;
/// The example. Its `main` is not called here.
#[allow(dead_code)]
#[path = "../../examples/vec_deque.rs"]
mod vec_deque;

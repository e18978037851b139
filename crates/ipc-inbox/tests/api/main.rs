//! What every kind of inbox must do, tested once for all of them.
#![allow(clippy::unwrap_used)]

mod suite;

//! Homes whose certificates are due, with real servers.
//!
//! Whatever is due was issued 20 days ago for 25 days, by a home that was made then.
#![allow(clippy::unwrap_used)]

mod authority;
mod fixture;
mod over_the_line;
mod renewing;

//! The time of the system's clock.
//!
//! What is dated by its caller does not come here.

use std::time::{SystemTime, UNIX_EPOCH};

/// The time now, in seconds since the Unix epoch.
pub(crate) fn now_secs() -> u64 {
    // A clock before 1970 is as wrong as one in 1970.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
}

//! The types of an entry, and the two clocks that decide how long it stays.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use ipc_protocol::MessageId;

/// A user's number and a message's id.
pub(super) type Entry = (u32, MessageId);

/// The hash of a body. It is an array of bytes, so that an entry of the map has no padding: 28
/// bytes instead of 32.
pub(crate) type BodyHash = [u8; 8];

/// One moment on two clocks: the monotonic clock, and the Unix time that ids contain.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clocks {
    pub(crate) now: Instant,
    pub(crate) unix_millis: u64,
}

impl Clocks {
    pub(crate) fn now() -> Self {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Clocks {
            now: Instant::now(),
            unix_millis: u64::try_from(unix.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

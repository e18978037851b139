//! What an id is remembered by, and when.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use ipc_protocol::MessageId;

/// A user's number and a message's id.
pub(super) type Entry = (u32, MessageId);

/// A body's hash; in bytes, so that an entry of the map has no padding: 28 bytes instead of 32.
pub(crate) type BodyHash = [u8; 8];

/// When something happens, by the clock that only goes forward and by the one that ids tell.
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

//! What a durable inbox is opened with, and why it may not be.
//!
//! Plain values; nothing here touches a file.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use ipc_sqlite::DatabaseError;

use crate::backend::REPLY_BYTES_MAX_DEFAULT;

/// Ids are never remembered for a shorter time: so long clients may retry.
pub(super) const REMEMBERED_MIN: Duration = Duration::from_secs(ipc_protocol::REMEMBERED_SECS);

/// What a durable inbox may grow to, and when and how often it delivers a message again.
///
/// # Defaults
///
/// | option | default |
/// |---|---|
/// | [`messages_max`](Self::messages_max) | 1,000,000 messages |
/// | [`bytes_max`](Self::bytes_max) | 4 GiB of bodies |
/// | [`remembered_for`](Self::remembered_for) | 24 hours |
/// | [`remembered_ids_max`](Self::remembered_ids_max) | 20 million ids |
/// | [`visibility_timeout`](Self::visibility_timeout) | 5 minutes |
/// | [`nack_delay`](Self::nack_delay) | 10 s |
/// | [`max_deliveries`](Self::max_deliveries) | 10 |
/// | [`replies_bytes_max`](Self::replies_bytes_max) | 64 MiB |
/// | [`reply_bytes_max`](Self::reply_bytes_max) | 16 MiB less 1 KiB |
#[derive(Clone, Debug)]
pub struct DurableOptions {
    pub(super) messages_max: u64,
    pub(super) bytes_max: u64,
    pub(super) remembered_for: Duration,
    pub(super) remembered_ids_max: u64,
    pub(super) visibility_timeout: Duration,
    pub(super) nack_delay: Duration,
    pub(super) max_deliveries: u32,
    pub(super) replies_bytes_max: u64,
    pub(super) reply_bytes_max: usize,
}

impl Default for DurableOptions {
    fn default() -> Self {
        DurableOptions {
            messages_max: 1_000_000,
            bytes_max: 4 * 1024 * 1024 * 1024,
            remembered_for: Duration::from_secs(24 * 60 * 60),
            remembered_ids_max: 20_000_000,
            visibility_timeout: Duration::from_secs(5 * 60),
            nack_delay: Duration::from_secs(10),
            max_deliveries: 10,
            replies_bytes_max: 64 * 1024 * 1024,
            reply_bytes_max: REPLY_BYTES_MAX_DEFAULT,
        }
    }
}

impl DurableOptions {
    /// How many messages are kept at most, those handed out and dead ones included; at least 1.
    pub fn messages_max(mut self, messages: u64) -> Self {
        self.messages_max = messages.max(1);
        self
    }

    /// How many bytes of bodies are kept at most. One message is taken into an empty inbox whatever
    /// its length.
    pub fn bytes_max(mut self, bytes: u64) -> Self {
        self.bytes_max = bytes;
        self
    }

    /// How long an accepted id is remembered, at least; never shorter than clients may retry (10
    /// minutes).
    pub fn remembered_for(mut self, time: Duration) -> Self {
        self.remembered_for = time.max(REMEMBERED_MIN);
        self
    }

    /// How many accepted ids are remembered at most. Where there are more than three quarters of
    /// that, those older than clients may retry (10 minutes) are forgotten before their time, the
    /// oldest first. Where none is as old, a further message is refused, since an id forgotten
    /// earlier could be accepted twice.
    pub fn remembered_ids_max(mut self, ids: u64) -> Self {
        self.remembered_ids_max = ids.max(1);
        self
    }

    /// For how long a message is lent to a delivery: one that is not acknowledged by then is
    /// delivered again. [`Delivery::extend`](crate::Delivery::extend) asks for more.
    pub fn visibility_timeout(mut self, time: Duration) -> Self {
        self.visibility_timeout = time;
        self
    }

    /// After which time a message whose delivery was dropped is delivered again, if its time is not
    /// over sooner. [`Delivery::nack`](crate::Delivery::nack) takes a time of its own.
    pub fn nack_delay(mut self, time: Duration) -> Self {
        self.nack_delay = time;
        self
    }

    /// How often a message is delivered at most, at least once. Not acknowledged by then, it
    /// becomes a dead letter.
    pub fn max_deliveries(mut self, tries: u32) -> Self {
        self.max_deliveries = tries.max(1);
        self
    }

    /// How many bytes of replies are kept, for requests that are sent again; the oldest go first.
    pub fn replies_bytes_max(mut self, bytes: u64) -> Self {
        self.replies_bytes_max = bytes;
        self
    }

    /// How long one reply may be, in bytes of JSON text.
    pub fn reply_bytes_max(mut self, bytes: usize) -> Self {
        self.reply_bytes_max = bytes;
        self
    }
}

/// Why a durable inbox was not opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The file is missing its directory, damaged, read-only, of another kind …
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// Another process, or another server of this one, has it open.
    #[error("the inbox {} is in use by another server", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The lock beside the file cannot be made.
    #[error("the inbox {} cannot be locked", path.display())]
    Lock {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Its thread cannot be started.
    #[error("the inbox's thread cannot be started")]
    Thread {
        /// What the system says.
        source: io::Error,
    },
}

//! The options of an inbox in memory.
//!
//! An application sets them before there is an inbox; `memory` reads them.

use std::time::Duration;

use ipc_protocol::REMEMBERED_SECS;

use crate::backend::REPLY_BYTES_MAX_DEFAULT;

/// How large an inbox in memory may grow, and how often it delivers a message.
///
/// # Defaults
///
/// | option | default |
/// |---|---|
/// | [`messages_max`](Self::messages_max) | 1024 messages |
/// | [`bytes_max`](Self::bytes_max) | 256 MiB of bodies |
/// | [`remembered_for`](Self::remembered_for) | 10 minutes |
/// | [`remembered_ids_max`](Self::remembered_ids_max) | 10 million ids |
/// | [`remembered_user_ids_max`](Self::remembered_user_ids_max) | three quarters of `remembered_ids_max`: 7.5 million ids |
/// | [`max_deliveries`](Self::max_deliveries) | 10 |
/// | [`dead_letters_max`](Self::dead_letters_max) | 1000 dead letters |
/// | [`replies_bytes_max`](Self::replies_bytes_max) | 64 MiB |
/// | [`reply_bytes_max`](Self::reply_bytes_max) | 16 MiB less 1 KiB |
#[derive(Clone, Debug)]
pub struct MemoryOptions {
    pub(super) messages_max: usize,
    pub(super) bytes_max: usize,
    pub(super) remembered_for: Duration,
    pub(super) remembered_ids_max: usize,
    remembered_user_ids_max: Option<usize>,
    pub(super) max_deliveries: u32,
    pub(super) dead_letters_max: usize,
    pub(super) replies_bytes_max: usize,
    pub(super) reply_bytes_max: usize,
}

impl Default for MemoryOptions {
    fn default() -> Self {
        MemoryOptions {
            messages_max: 1024,
            bytes_max: 256 * 1024 * 1024,
            remembered_for: Duration::from_secs(REMEMBERED_SECS),
            remembered_ids_max: 10_000_000,
            remembered_user_ids_max: None,
            max_deliveries: 10,
            dead_letters_max: 1000,
            replies_bytes_max: 64 * 1024 * 1024,
            reply_bytes_max: REPLY_BYTES_MAX_DEFAULT,
        }
    }
}

impl MemoryOptions {
    /// How many messages wait at most; at least 1. A further message waits outside the inbox for a
    /// while; then its sender is told to try again.
    pub fn messages_max(mut self, messages: usize) -> Self {
        self.messages_max = messages;
        self
    }

    /// How many bytes of bodies wait at most. They are counted in kibibytes, at least one for each
    /// message. A longer message fits into an empty inbox.
    pub fn bytes_max(mut self, bytes: usize) -> Self {
        self.bytes_max = bytes;
        self
    }

    /// How many accepted ids are remembered at most. Beyond that a new message is refused:
    /// forgetting an id early could accept a message twice.
    pub fn remembered_ids_max(mut self, ids: usize) -> Self {
        self.remembered_ids_max = ids;
        self
    }

    /// How many accepted ids of one user are remembered at most, so that one user leaves room to
    /// others. Beyond that a new message of this user is refused. Default: three quarters of
    /// [`remembered_ids_max`](Self::remembered_ids_max).
    pub fn remembered_user_ids_max(mut self, ids: usize) -> Self {
        self.remembered_user_ids_max = Some(ids);
        self
    }

    pub(super) fn user_ids_max(&self) -> usize {
        // Rounded up: where only one id may be remembered, it may be anybody's.
        let most = self.remembered_ids_max;
        self.remembered_user_ids_max.unwrap_or_else(|| most - most / 4)
    }

    /// How long an accepted id is remembered at least: never less than clients may retry (10
    /// minutes).
    pub fn remembered_for(mut self, time: Duration) -> Self {
        self.remembered_for = time.max(Duration::from_secs(REMEMBERED_SECS));
        self
    }

    /// How often a message is delivered at most; at least once. A message that is given back with
    /// [`Delivery::nack`](crate::Delivery::nack) after its last delivery becomes a dead letter.
    pub fn max_deliveries(mut self, deliveries: u32) -> Self {
        self.max_deliveries = deliveries.max(1);
        self
    }

    /// How many dead letters are kept; 0 keeps none. Together they have at most 16 MiB, except that
    /// a single longer one is kept. Those of the oldest messages are dropped first.
    pub fn dead_letters_max(mut self, letters: usize) -> Self {
        self.dead_letters_max = letters;
        self
    }

    /// How many bytes of replies are kept, for requests that are sent again; the oldest are dropped
    /// first.
    pub fn replies_bytes_max(mut self, bytes: usize) -> Self {
        self.replies_bytes_max = bytes;
        self
    }

    /// How many bytes of JSON text one reply may have.
    pub fn reply_bytes_max(mut self, bytes: usize) -> Self {
        self.reply_bytes_max = bytes;
        self
    }
}

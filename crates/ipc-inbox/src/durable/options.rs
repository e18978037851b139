//! The options of a durable inbox, and the errors of opening one.
//!
//! Plain values; nothing here touches a file.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use ipc_base::{Remedy, remedy_of_io};
use ipc_sqlite::DatabaseError;

use crate::backend::REPLY_BYTES_MAX_DEFAULT;

/// The shortest time for which ids are remembered, since clients may retry for that long.
pub(super) const REMEMBERED_MIN: Duration = Duration::from_secs(ipc_protocol::REMEMBERED_SECS);

/// How large a durable inbox may grow, and when and how often it delivers a message again.
///
/// # Defaults
///
/// | option | default |
/// |---|---|
/// | [`messages_max`](Self::messages_max) | 1,000,000 messages |
/// | [`bytes_max`](Self::bytes_max) | 4 GiB of bodies |
/// | [`remembered_for`](Self::remembered_for) | 24 hours |
/// | [`remembered_ids_max`](Self::remembered_ids_max) | 20 million ids |
/// | [`remembered_user_ids_max`](Self::remembered_user_ids_max) | three quarters of `remembered_ids_max`: 15 million ids |
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
    remembered_user_ids_max: Option<u64>,
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
            remembered_user_ids_max: None,
            visibility_timeout: Duration::from_secs(5 * 60),
            nack_delay: Duration::from_secs(10),
            max_deliveries: 10,
            replies_bytes_max: 64 * 1024 * 1024,
            reply_bytes_max: REPLY_BYTES_MAX_DEFAULT,
        }
    }
}

impl DurableOptions {
    /// How many messages are kept at most, including delivered ones and dead letters; at least 1.
    pub fn messages_max(mut self, messages: u64) -> Self {
        self.messages_max = messages.max(1);
        self
    }

    /// How many bytes of bodies are kept at most. An empty inbox accepts one message of any length.
    pub fn bytes_max(mut self, bytes: u64) -> Self {
        self.bytes_max = bytes;
        self
    }

    /// How long an accepted id is remembered at least: never less than clients may retry (10
    /// minutes).
    pub fn remembered_for(mut self, time: Duration) -> Self {
        self.remembered_for = time.max(REMEMBERED_MIN);
        self
    }

    /// How many accepted ids are remembered at most. When three quarters of that are exceeded, ids
    /// older than clients may retry (10 minutes) are forgotten early, oldest first. If no id is
    /// that old and the limit is reached, a new message is refused: forgetting a younger id could
    /// accept a message twice.
    pub fn remembered_ids_max(mut self, ids: u64) -> Self {
        self.remembered_ids_max = ids.max(1);
        self
    }

    /// How many accepted ids of one user are remembered at most, so that one user leaves room to
    /// others. When a user has reached that, ids older than clients may retry (10 minutes) are
    /// forgotten early, oldest first, of all users. If no id is that old, a new message of this
    /// user is refused at once. At least 1. Default: three quarters of
    /// [`remembered_ids_max`](Self::remembered_ids_max).
    pub fn remembered_user_ids_max(mut self, ids: u64) -> Self {
        self.remembered_user_ids_max = Some(ids.max(1));
        self
    }

    pub(super) fn user_ids_max(&self) -> u64 {
        // Rounded up: where only one id may be remembered, it may be anybody's.
        let most = self.remembered_ids_max;
        self.remembered_user_ids_max.unwrap_or_else(|| most - most / 4)
    }

    /// How long a delivery leases a message: without an acknowledgement by then, the message is
    /// delivered again. [`Delivery::extend`](crate::Delivery::extend) asks for more time.
    pub fn visibility_timeout(mut self, time: Duration) -> Self {
        self.visibility_timeout = time;
        self
    }

    /// How soon a message whose delivery was dropped is delivered again, unless its lease ends
    /// sooner. [`Delivery::nack`](crate::Delivery::nack) has its own delay.
    pub fn nack_delay(mut self, time: Duration) -> Self {
        self.nack_delay = time;
        self
    }

    /// How often a message is delivered at most; at least once. If the last delivery is not
    /// acknowledged, the message becomes a dead letter.
    pub fn max_deliveries(mut self, tries: u32) -> Self {
        self.max_deliveries = tries.max(1);
        self
    }

    /// How many bytes of replies are kept, for requests that are sent again; the oldest are dropped
    /// first.
    pub fn replies_bytes_max(mut self, bytes: u64) -> Self {
        self.replies_bytes_max = bytes;
        self
    }

    /// How many bytes of JSON text one reply may have.
    pub fn reply_bytes_max(mut self, bytes: usize) -> Self {
        self.reply_bytes_max = bytes;
        self
    }
}

/// Why a durable inbox was not opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The file cannot be used: its directory is missing, or it is damaged, read-only, of another
    /// kind …
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// Another process, or another server in this process, has the inbox open.
    #[error("the inbox {} is in use by another server", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The lock file cannot be created or locked.
    #[error("the inbox {} cannot be locked", path.display())]
    Lock {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The inbox's thread cannot be started.
    #[error("the inbox's thread cannot be started")]
    Thread {
        /// The error of the operating system.
        source: io::Error,
    },
}

impl OpenError {
    /// What a person can do about the error; `None` if only the cause tells.
    #[must_use]
    pub fn remedy(&self) -> Option<Remedy> {
        match self {
            Self::Database(error) => remedy_of_file(error),
            Self::InUse { .. } => Some(Remedy::StopOtherServer),
            Self::Lock { path, source } => remedy_of_io(source, path),
            Self::Thread { .. } => None,
        }
    }
}

/// What a person can do about an error of an inbox's file; `None` if only the cause tells. If the
/// file cannot be restored, the person can move it aside and begin with an empty inbox.
#[must_use]
pub fn remedy_of_file(error: &DatabaseError) -> Option<Remedy> {
    Some(match error {
        DatabaseError::Missing { .. } => return None,
        DatabaseError::Outdated { .. } => Remedy::UpdateInbox,
        DatabaseError::LogMissing { path, log, .. } => Remedy::RestoreLog { path: log.clone() }
            .or(Remedy::ReplaceLog { database: path.clone(), log: log.clone() }),
        error => match error.remedy()? {
            Remedy::RestoreFile { path } => {
                Remedy::RestoreFile { path: path.clone() }.or(Remedy::MoveAside { path })
            }
            other => other,
        },
    })
}

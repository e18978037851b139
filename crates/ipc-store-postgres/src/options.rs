//! The options of a store.
//!
//! A program sets them if the defaults do not fit. Nothing here opens a socket.

use std::time::Duration;

/// For how long an answer of [`current`](ipc_store::UserStore::current) is used without asking. A
/// server uses it for half a second more, so that a change is effective within a second.
const FRESH_FOR: Duration = Duration::from_millis(250);

/// How long a call waits for the database.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The options of a [`PostgresUserStore`](crate::PostgresUserStore).
///
/// Defaults:
/// - those of [`ipc_store::Options`] for password hashes;
/// - what is known of users is used for 250 ms without asking;
/// - a call waits 5 s for the database.
#[derive(Clone, Debug)]
pub struct PostgresOptions {
    pub(crate) hashing: ipc_store::Options,
    pub(crate) fresh_for: Duration,
    pub(crate) timeout: Duration,
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self { hashing: ipc_store::Options::new(), fresh_for: FRESH_FOR, timeout: TIMEOUT }
    }
}

impl PostgresOptions {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Hashes passwords as these options say.
    #[must_use]
    pub fn hashing(self, hashing: ipc_store::Options) -> Self {
        Self { hashing, ..self }
    }

    /// Sets for how long an answer of `current` is used without asking the database; at most half a
    /// second, since a server promises that a change is effective within one. Zero asks each time.
    #[must_use]
    pub fn fresh_for(self, fresh_for: Duration) -> Self {
        Self { fresh_for: fresh_for.min(Duration::from_millis(500)), ..self }
    }

    /// Sets how long a call waits for the database; from 100 ms to a minute.
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout: timeout.clamp(Duration::from_millis(100), Duration::from_secs(60)), ..self }
    }
}

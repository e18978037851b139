//! The options of a database file.
//!
//! The code that opens a file sets them. Nothing here touches a file.

use std::time::Duration;

/// The longest busy timeout; a longer one is shortened to it. SQLite counts milliseconds in 32
/// bits.
const BUSY_TIMEOUT_MAX: Duration = Duration::from_secs(3600);

/// The options of a database file.
///
/// Defaults:
/// - busy timeout 5 s;
/// - at most 4 connections that read;
/// - other processes may use the file at the same time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    pub(crate) busy_timeout: Duration,
    pub(crate) readers_max: u32,
    pub(crate) is_alone: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { busy_timeout: Duration::from_secs(5), readers_max: 4, is_alone: false }
    }
}

impl Options {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Waits up to `timeout` for another process that is writing; at most an hour.
    #[must_use]
    pub fn busy_timeout(self, timeout: Duration) -> Self {
        Self { busy_timeout: timeout.min(BUSY_TIMEOUT_MAX), ..self }
    }

    /// Reads over at most `connections` connections at once, each with its own thread; at least
    /// one.
    #[must_use]
    pub fn readers_max(self, connections: u32) -> Self {
        Self { readers_max: connections.max(1), ..self }
    }

    /// Says that no other process writes the file while it is open; the caller ensures that with a
    /// lock. The file is then marked while it is in use, so that a copy without its `-wal`, which
    /// lacks the latest changes, is refused
    /// ([`DatabaseError::LogMissing`](crate::DatabaseError::LogMissing)). A file that is shorter
    /// than before is then known to be truncated.
    #[must_use]
    pub fn alone(self) -> Self {
        Self { is_alone: true, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_to_wait_five_seconds_and_to_read_four_at_once() {
        let options = Options::new();
        assert_eq!((options.busy_timeout, options.readers_max), (Duration::from_secs(5), 4));
    }

    #[test]
    fn an_endless_busy_timeout_is_shortened_to_what_sqlite_can_count() {
        let options = Options::new().busy_timeout(Duration::MAX);
        assert!(i32::try_from(options.busy_timeout.as_millis()).is_ok());
    }

    #[test]
    fn there_is_always_a_connection_to_read_with() {
        assert_eq!(Options::new().readers_max(0).readers_max, 1);
    }
}

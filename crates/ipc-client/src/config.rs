//! The settings of a client, which all its parts read. Plain values.

use std::time::Duration;

/// The settings of a client, see the setters of [`ClientBuilder`](crate::ClientBuilder).
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// How long a call may take, unless it is told otherwise.
    pub(crate) timeout: Duration,
    /// The most connections for POST requests.
    pub(crate) connections_max: usize,
    /// The longest plaintext of a frame, sent or received.
    pub(crate) plaintext_bytes_max: usize,
    /// Whether messages go over a channel, if the server opens one.
    pub(crate) uses_channel: bool,
}

impl Config {
    /// How long an attempt waits for an answer. A dead connection must not use up the whole
    /// timeout.
    pub(crate) fn attempt_max(&self) -> Duration {
        const ATTEMPT_MIN: Duration = Duration::from_secs(10);
        ATTEMPT_MIN.max(self.timeout / 2)
    }
}

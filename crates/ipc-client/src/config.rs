//! What was settled when a client was built and that every part of it looks at. Plain values.

use std::time::Duration;

/// The settings of a client, see the setters of [`ClientBuilder`](crate::ClientBuilder).
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// How long a call may take, unless it is told otherwise.
    pub(crate) timeout: Duration,
    /// How many connections carry POST requests, at most.
    pub(crate) connections_max: usize,
    /// The longest plaintext of a frame that is sent, and of one that is read.
    pub(crate) plaintext_bytes_max: usize,
    /// Whether messages go over a channel where the server opens one.
    pub(crate) uses_channel: bool,
}

impl Config {
    /// How long an attempt waits for an answer: a connection that died unnoticed must not take all
    /// the time there is.
    pub(crate) fn attempt_max(&self) -> Duration {
        const ATTEMPT_MIN: Duration = Duration::from_secs(10);
        ATTEMPT_MIN.max(self.timeout / 2)
    }
}

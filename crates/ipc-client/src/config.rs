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

/// How long a server may be silent, while it owes an answer, before the next address is tried.
/// Trying is cheap: what had no answer is sent again under its id.
pub(crate) const SILENT_AT_ONE_OF_SEVERAL_MAX: Duration = Duration::from_secs(5);

/// How fast a body is sent at least. A slow line must not look like a silent server.
const BODY_BYTES_PER_SEC_MIN: usize = 16 * 1024;

impl Config {
    /// How long an attempt waits for an answer if there is another address. A server that stores
    /// messages answers within seconds.
    pub(crate) fn attempt_max_of_several(&self, body_bytes: usize) -> Duration {
        let sending = Duration::from_secs((body_bytes / BODY_BYTES_PER_SEC_MIN) as u64);
        self.attempt_max().min(SILENT_AT_ONE_OF_SEVERAL_MAX + sending)
    }

    /// How long an attempt waits for an answer. A dead connection must not use up the whole
    /// timeout.
    pub(crate) fn attempt_max(&self) -> Duration {
        const ATTEMPT_MIN: Duration = Duration::from_secs(10);
        ATTEMPT_MIN.max(self.timeout / 2)
    }
}

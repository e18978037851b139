//! The settings of a client, which all its parts read. Plain values.

use std::time::Duration;

use ipc_protocol::DEADLINE_SECS_MAX;

use crate::error::{PythonFault, SendError};

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
    /// What the server is.
    pub(crate) server: ServerKind,
}

/// What a server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServerKind {
    /// One of this protocol.
    WebIpc,
    /// One of the unmodified Python tool.
    #[cfg(feature = "python-compat")]
    PythonTool,
}

/// How long an idle connection is kept: less than the server's 75 s.
const KEEP_ALIVE: Duration = Duration::from_secs(60);

/// The same for a server of the Python tool, which closes one after 5 s. A message that met the end
/// of its connection might have arrived, and would not be sent again.
#[cfg(feature = "python-compat")]
const KEEP_ALIVE_PYTHON: Duration = Duration::from_secs(2);

/// The largest number of messages in one POST. A server accepts 1000 unless configured otherwise.
const POST_MESSAGES_MAX: usize = 500;

/// How long a server may be silent, while it owes an answer, before the next address is tried.
/// Trying is cheap: what had no answer is sent again under its id.
pub(crate) const SILENT_AT_ONE_OF_SEVERAL_MAX: Duration = Duration::from_secs(5);

/// How fast a body is sent at least. A slow line must not look like a silent server.
const BODY_BYTES_PER_SEC_MIN: usize = 16 * 1024;

impl Config {
    /// How long an attempt waits for an answer if there is another address. A server that stores
    /// messages answers within seconds.
    pub(crate) fn attempt_max_of_several(&self, body_bytes: usize) -> Duration {
        if !self.repeats() {
            return self.attempt_max();
        }
        let sending = Duration::from_secs((body_bytes / BODY_BYTES_PER_SEC_MIN) as u64);
        self.attempt_max().min(SILENT_AT_ONE_OF_SEVERAL_MAX + sending)
    }

    /// How long an attempt waits for an answer. A dead connection must not use up the whole
    /// timeout.
    pub(crate) fn attempt_max(&self) -> Duration {
        if !self.repeats() {
            // The call's own deadline ends it: there is no second attempt to save time for.
            return Duration::from_secs(DEADLINE_SECS_MAX);
        }
        const ATTEMPT_MIN: Duration = Duration::from_secs(10);
        ATTEMPT_MIN.max(self.timeout / 2)
    }

    /// Refuses what only a server of this protocol has.
    #[cfg_attr(not(feature = "python-compat"), allow(unused_variables))]
    pub(crate) fn refuse_beyond_messages(&self, what: &'static str) -> Result<(), SendError> {
        if self.server == ServerKind::WebIpc {
            return Ok(());
        }
        let fault = PythonFault::Lacks { what };
        Err(SendError::PythonTool { fault })
    }

    /// Whether a message without an answer is sent again: the server takes each id once.
    fn repeats(&self) -> bool {
        self.server == ServerKind::WebIpc
    }

    /// How many connections for POST requests there are at most, and how long an idle one is kept.
    pub(crate) fn pool(&self) -> (usize, Duration) {
        match self.server {
            ServerKind::WebIpc => (self.connections_max, KEEP_ALIVE),
            #[cfg(feature = "python-compat")]
            ServerKind::PythonTool => (self.connections_max, KEEP_ALIVE_PYTHON),
        }
    }

    /// The largest number of messages in one POST.
    pub(crate) fn post_messages_max(&self) -> usize {
        match self.server {
            ServerKind::WebIpc => POST_MESSAGES_MAX,
            #[cfg(feature = "python-compat")]
            ServerKind::PythonTool => 1,
        }
    }
}

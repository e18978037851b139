//! The requests that a scripted server gets, its answers, and its log.
#![allow(clippy::unwrap_used)]

use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;

use crate::wire::ChannelLog;

/// A request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) path: String,
    /// Method and headers, in lower case.
    pub(crate) head: String,
    pub(crate) envelope: Vec<u8>,
    pub(crate) to: String,
    pub(crate) id: String,
    pub(crate) session: Option<String>,
    pub(crate) body: String,
    /// The messages of a batch: id and body.
    pub(crate) entries: Vec<(String, String)>,
    /// The number of this request among those for its path, from 0.
    pub(crate) turn: usize,
    /// Only from a client that asks for a channel.
    pub(crate) websocket_key: String,
}

impl Seen {
    pub(crate) fn is_login(&self) -> bool {
        self.path == "/client/auth"
    }
}

/// How the server handles a request.
pub(crate) enum Answer {
    /// Sends these bytes and keeps the connection.
    Send(Vec<u8>),
    /// Sends these bytes and closes.
    SendAndClose(Vec<u8>),
    /// Closes without a response.
    Close,
    /// Never answers, and waits until the client closes.
    Hang,
}

pub(crate) type Script = dyn Fn(&Seen) -> Answer + Send + Sync;

#[derive(Default)]
pub(crate) struct Log {
    pub(crate) seen: Mutex<Vec<Seen>>,
    pub(crate) channels: ChannelLog,
    pub(crate) openings: AtomicUsize,
    pub(crate) connections: AtomicUsize,
    pub(crate) open: AtomicUsize,
    pub(crate) open_max: AtomicUsize,
}

impl Log {
    /// Records a request, and numbers it among those for its path.
    pub(crate) fn note(&self, mut seen: Seen) -> Seen {
        let mut all = self.seen.lock().unwrap();
        seen.turn = all.iter().filter(|other| other.path == seen.path).count();
        all.push(seen.clone());
        seen
    }
}

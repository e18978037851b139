//! How a channel ends: the close code (RFC 6455, section 7.4) and the reason that the peer and the
//! log get.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use actix_http::ws::{CloseCode, CloseReason};
use ipc_protocol::close_code_of;
use log::Level;

use crate::rate_limited_log::{Kind, RateLimitedLog, shown};
use crate::refusal::Refusal;

/// RFC 6455, section 7.4.1.
const AWAY: u16 = 1001;
const PROTOCOL: u16 = 1002;
const UNSUPPORTED: u16 = 1003;
const POLICY: u16 = 1008;
const SIZE: u16 = 1009;

/// Why a channel is closed.
#[derive(Debug)]
pub(super) struct Closing {
    pub(super) code: u16,
    /// Short enough for a close frame: 123 bytes.
    reason: &'static str,
    /// For the log only; never a secret.
    cause: Option<String>,
    level: Level,
    /// Whoever is there may have no replies any more.
    pub(super) is_refusal: bool,
}

impl Closing {
    fn new(code: u16, reason: &'static str) -> Self {
        Closing { code, reason, cause: None, level: Level::Info, is_refusal: false }
    }

    /// The server ends it and nobody is to blame.
    pub(super) fn away(reason: &'static str) -> Self {
        Self::new(AWAY, reason)
    }

    /// What came is not WebSocket.
    pub(super) fn protocol(reason: &'static str) -> Self {
        Self::new(PROTOCOL, reason)
    }

    /// A message of a kind that there is none of here.
    pub(super) fn unsupported(reason: &'static str) -> Self {
        Self::new(UNSUPPORTED, reason)
    }

    /// A rule of the channel or one of its limits was broken.
    pub(super) fn policy(reason: &'static str) -> Self {
        Self::new(POLICY, reason)
    }

    /// A message is too long.
    pub(super) fn size(reason: &'static str) -> Self {
        Self::new(SIZE, reason)
    }

    /// The peer has closed it, with this code.
    pub(super) fn answer_to(code: Option<CloseCode>) -> Self {
        Self::new(code.map_or(1000, u16::from), "")
    }

    /// For the peer.
    pub(super) fn frame(&self) -> CloseReason {
        let description = (!self.reason.is_empty()).then(|| self.reason.to_owned());
        CloseReason { code: CloseCode::from(self.code), description }
    }
}

impl fmt::Display for Closing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.reason, &self.cause) {
            ("", _) => write!(f, "{} by the peer", self.code),
            (reason, None) => write!(f, "{} {reason}", self.code),
            (reason, Some(cause)) => write!(f, "{} {reason} ({cause})", self.code),
        }
    }
}

impl From<Refusal> for Closing {
    fn from(refusal: Refusal) -> Self {
        let (code, level) = (refusal.code(), refusal.level());
        Closing {
            code: close_code_of(code),
            reason: code.as_str(),
            cause: refusal.into_cause(),
            level,
            is_refusal: true,
        }
    }
}

/// Writes the line of the log about the end of a channel, however it comes about.
pub(super) struct Closed {
    log: Arc<RateLimitedLog>,
    peer: Option<SocketAddr>,
    closing: Option<Closing>,
}

impl Closed {
    pub(super) fn new(log: Arc<RateLimitedLog>, peer: Option<SocketAddr>) -> Self {
        Closed { log, peer, closing: None }
    }

    /// The channel was closed so; `None` if its connection broke.
    pub(super) fn note(&mut self, closing: Option<Closing>) {
        self.closing = closing;
    }
}

impl Drop for Closed {
    fn drop(&mut self) {
        let level = self.closing.as_ref().map_or(Level::Info, |closing| closing.level);
        if log::log_enabled!(level)
            && self.log.takes(level, self.peer, Kind::Event("channels closed"))
        {
            let peer = shown(self.peer);
            match &self.closing {
                Some(closing) => log::log!(level, "{peer} - channel closed: {closing}"),
                None => log::log!(level, "{peer} - channel closed: its connection ended"),
            }
        }
    }
}

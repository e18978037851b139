//! The end of a channel: the close code (RFC 6455, section 7.4) and the reason for the peer and the
//! log.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use actix_http::ws::{CloseCode, CloseReason};
use ipc_protocol::{ProblemCode, close_code_of};
use log::Level;

use crate::rate_limited_log::{Kind, RateLimitedLog, shown};
use crate::refusal::Refusal;

/// Codes of RFC 6455, section 7.4.1.
const AWAY: u16 = 1001;
const PROTOCOL: u16 = 1002;
const UNSUPPORTED: u16 = 1003;
const POLICY: u16 = 1008;
const SIZE: u16 = 1009;

/// Why a channel is closed.
#[derive(Debug)]
pub(super) struct Closing {
    pub(super) code: u16,
    /// The reason for the peer, at most 123 bytes as a close frame allows.
    reason: &'static str,
    /// The message for the log. It never contains a secret.
    cause: Option<String>,
    level: Level,
    /// The refusal that ends the channel: the peer is no longer entitled to replies.
    pub(super) refusal: Option<ProblemCode>,
}

impl Closing {
    fn new(code: u16, reason: &'static str) -> Self {
        Closing { code, reason, cause: None, level: Level::Info, refusal: None }
    }

    /// The server ends the channel, and nobody made a mistake.
    pub(super) fn away(reason: &'static str) -> Self {
        Self::new(AWAY, reason)
    }

    /// The peer's bytes are not valid WebSocket.
    pub(super) fn protocol(reason: &'static str) -> Self {
        Self::new(PROTOCOL, reason)
    }

    /// The peer sent a kind of message that channels do not support.
    pub(super) fn unsupported(reason: &'static str) -> Self {
        Self::new(UNSUPPORTED, reason)
    }

    /// The peer broke a rule or a limit of the channel.
    pub(super) fn policy(reason: &'static str) -> Self {
        Self::new(POLICY, reason)
    }

    /// The peer's message is too long.
    pub(super) fn size(reason: &'static str) -> Self {
        Self::new(SIZE, reason)
    }

    /// Answers the peer's close frame with its own code.
    pub(super) fn answer_to(code: Option<CloseCode>) -> Self {
        Self::new(code.map_or(1000, u16::from), "")
    }

    /// The code and the reason for the close frame.
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
            refusal: Some(code),
        }
    }
}

/// Logs the end of a channel when it is dropped, so also when the connection ends.
pub(super) struct Closed {
    log: Arc<RateLimitedLog>,
    peer: Option<SocketAddr>,
    closing: Option<Closing>,
}

impl Closed {
    pub(super) fn new(log: Arc<RateLimitedLog>, peer: Option<SocketAddr>) -> Self {
        Closed { log, peer, closing: None }
    }

    /// Sets how the channel was closed. `None` means that its connection ended.
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

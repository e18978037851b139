//! The sessions of peers that run the Python tool. Such a peer cannot carry a token, so the server
//! keeps it, under the peer's address and certificate. The time is an argument.
//!
//! `routes` comes here with each login of such a peer, `python` with each message. A token that is
//! kept is one as any client gets: what it is good for is decided where theirs are.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use ipc_protocol::Fingerprint;
use zeroize::Zeroizing;

use crate::oldest::remove_oldest;
use crate::peer::Peer;
use crate::python_ids::PythonIds;

/// The default of
/// [`ServerBuilder::python_sessions_max`](crate::ServerBuilder::python_sessions_max). With their
/// longest names they take some 8 MB.
pub(crate) const SESSIONS_MAX_DEFAULT: usize = 10_000;

/// Whom a session belongs to: both must be the same.
type Key = (IpAddr, Option<Fingerprint>);

/// The tokens by their peers.
pub(crate) struct PythonSessions {
    sessions_max: usize,
    /// Whose the messages of the last minutes were.
    pub(crate) message_ids: PythonIds,
    tokens: Mutex<HashMap<Key, Kept>>,
}

struct Kept {
    token: Zeroizing<String>,
    granted_at: Instant,
}

fn key(peer: &Peer) -> Key {
    // A listener for both versions of IP has IPv4 addresses in the form of IPv6.
    (peer.address.to_canonical(), peer.certificate)
}

impl PythonSessions {
    pub(crate) fn new(sessions_max: usize) -> Self {
        PythonSessions { sessions_max, message_ids: PythonIds::default(), tokens: Mutex::default() }
    }

    /// Keeps the token of a login, in place of the one before. Where there are too many, the oldest
    /// tenth goes: it is what ends first.
    pub(crate) fn keep(&self, peer: &Peer, token: Zeroizing<String>, now: Instant) {
        let (key, mut tokens) = (key(peer), self.tokens());
        if tokens.len() >= self.sessions_max && !tokens.contains_key(&key) {
            remove_oldest(&mut tokens, |kept| Some(kept.granted_at));
        }
        tokens.insert(key, Kept { token, granted_at: now });
    }

    /// The token of this peer's last login.
    pub(crate) fn token(&self, peer: &Peer) -> Option<Zeroizing<String>> {
        self.tokens().get(&key(peer)).map(|kept| kept.token.clone())
    }

    /// Forgets `token`, which is no longer good, unless the peer has logged in again meanwhile.
    pub(crate) fn forget(&self, peer: &Peer, token: &str) {
        let (key, mut tokens) = (key(peer), self.tokens());
        if tokens.get(&key).is_some_and(|kept| kept.token.as_str() == token) {
            tokens.remove(&key);
        }
    }

    fn tokens(&self) -> MutexGuard<'_, HashMap<Key, Kept>> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use ipc_envelope::KeyRing;

    use super::*;

    fn peer(address: &str, certificate: u8) -> Peer {
        Peer {
            certificate: Some(Fingerprint::from_bytes([certificate; 32])),
            facts: None,
            shared_name: None,
            envelope_keys: Arc::new(KeyRing::new(ipc_envelope::Key::from_bytes([1; 32]))),
            address: address.parse().unwrap(),
        }
    }

    fn token(text: &str) -> Zeroizing<String> {
        Zeroizing::new(text.to_owned())
    }

    #[test]
    fn a_session_belongs_to_an_address_and_a_certificate_together() {
        let (sessions, now) = (PythonSessions::new(10), Instant::now());
        sessions.keep(&peer("192.0.2.1", 1), token("first"), now);
        assert_eq!(sessions.token(&peer("192.0.2.1", 1)), Some(token("first")));
        assert_eq!(sessions.token(&peer("::ffff:192.0.2.1", 1)), Some(token("first")));
        assert_eq!(sessions.token(&peer("192.0.2.2", 1)), None);
        assert_eq!(sessions.token(&peer("192.0.2.1", 2)), None);
        sessions.keep(&peer("192.0.2.1", 1), token("second"), now);
        assert_eq!(sessions.token(&peer("192.0.2.1", 1)), Some(token("second")));
        sessions.forget(&peer("192.0.2.1", 1), "first");
        assert_eq!(sessions.token(&peer("192.0.2.1", 1)), Some(token("second")), "it is newer");
        sessions.forget(&peer("192.0.2.1", 1), "second");
        assert_eq!(sessions.token(&peer("192.0.2.1", 1)), None);
    }

    #[test]
    fn no_more_are_kept_than_may_be_and_the_oldest_go() {
        let (sessions, start) = (PythonSessions::new(20), Instant::now());
        for number in 0..20 {
            let at = start + Duration::from_secs(number);
            sessions.keep(&peer("192.0.2.1", number as u8), token("x"), at);
        }
        // Who logs in again takes no further place.
        let later = start + Duration::from_secs(60);
        sessions.keep(&peer("192.0.2.1", 0), token("again"), later);
        assert_eq!(sessions.tokens().len(), 20);
        sessions.keep(&peer("192.0.2.1", 20), token("x"), later);
        assert_eq!(sessions.tokens().len(), 19);
        for (number, is_kept) in [(0, true), (1, false), (2, false), (3, true), (20, true)] {
            assert_eq!(sessions.token(&peer("192.0.2.1", number)).is_some(), is_kept, "{number}");
        }
    }
}

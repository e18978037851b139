//! Counts what the server does, for those who watch it.
//!
//! Routes and channels count here, `observer` reads. Every count is an atomic number or a lock that
//! is held for a few instructions.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use ipc_protocol::ProblemCode;

use crate::peer::Peer;

/// How many refusals are kept.
const REFUSALS_KEPT: usize = 20;

/// How many peers are kept. At the limit, the half that sent nothing for the longest time goes, so
/// that not every message of further peers searches for the oldest one.
const PEERS_KEPT: usize = 1000;

/// A request, an entry or a channel that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecentRefusal {
    /// When.
    pub at: SystemTime,
    /// Why.
    pub code: ProblemCode,
    /// The address of the peer.
    pub address: Option<SocketAddr>,
    /// The peer name in its certificate, which the handshake found valid.
    pub peer: Option<Arc<str>>,
}

/// A peer that has sent messages since the server was started.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SeenPeer {
    /// The peer name in its certificate.
    pub name: Arc<str>,
    /// The user of its last message.
    pub user: Arc<str>,
    /// When its last message came, or the frame with it.
    pub last_message: SystemTime,
}

/// What a server has done since it was started. Its inbox counts for itself.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServerStatistics {
    /// When the server was started.
    pub started_at: SystemTime,
    /// How often each reason was given for a refusal; every code is in it. A message that is
    /// refused again after a retry counts again.
    pub refusals: Vec<(ProblemCode, u64)>,
    /// Logins that were granted a session.
    pub logins_granted: u64,
    /// Logins with an unknown user or a wrong password.
    pub logins_failed: u64,
    /// Channels that were opened.
    pub channels_opened: u64,
    /// Channels that are open.
    pub channels: u64,
    /// Connections that are open, those of channels included.
    pub connections: u64,
    /// The last refusals, the newest first. A first request without a session is none: the client
    /// logs in after it. Neither is one of a server that stops.
    pub recent_refusals: Vec<RecentRefusal>,
    /// Peers with a certificate that have sent messages, the last to send first.
    pub peers: Vec<SeenPeer>,
}

/// What all workers count.
#[derive(Debug)]
pub(crate) struct Counters {
    started_at: SystemTime,
    /// In the order of [`ProblemCode::ALL`].
    refusals: [AtomicU64; ProblemCode::ALL.len()],
    logins_granted: AtomicU64,
    logins_failed: AtomicU64,
    channels_opened: AtomicU64,
    channels_closed: AtomicU64,
    recent: Mutex<VecDeque<RecentRefusal>>,
    peers: Mutex<HashMap<Arc<str>, SeenPeer>>,
}

/// Counts as an open channel until it is dropped.
#[derive(Debug)]
pub(crate) struct OpenChannel(Arc<Counters>);

impl Drop for OpenChannel {
    fn drop(&mut self) {
        count(&self.0.channels_closed);
    }
}

impl Counters {
    pub(crate) fn new(started_at: SystemTime) -> Arc<Self> {
        Arc::new(Counters {
            started_at,
            refusals: Default::default(),
            logins_granted: AtomicU64::new(0),
            logins_failed: AtomicU64::new(0),
            channels_opened: AtomicU64::new(0),
            channels_closed: AtomicU64::new(0),
            recent: Mutex::default(),
            peers: Mutex::default(),
        })
    }

    /// Counts a refusal, and keeps it for those who look.
    pub(crate) fn refused(
        &self,
        code: ProblemCode,
        address: Option<SocketAddr>,
        peer: Option<Arc<str>>,
    ) {
        let place = ProblemCode::ALL.iter().position(|known| *known == code);
        if let Some(counter) = place.and_then(|place| self.refusals.get(place)) {
            count(counter);
        }
        // Both are normal: a login follows the one, and the page shows the other.
        if matches!(code, ProblemCode::SessionExpired | ProblemCode::ShuttingDown) {
            return;
        }
        let mut recent = lock(&self.recent);
        recent.truncate(REFUSALS_KEPT - 1);
        recent.push_front(RecentRefusal { at: SystemTime::now(), code, address, peer });
    }

    pub(crate) fn login_granted(&self) {
        count(&self.logins_granted);
    }

    pub(crate) fn login_failed(&self) {
        count(&self.logins_failed);
    }

    pub(crate) fn channel_opened(self: &Arc<Self>) -> OpenChannel {
        count(&self.channels_opened);
        OpenChannel(Arc::clone(self))
    }

    /// Notes that a user of this peer sends messages.
    pub(crate) fn seen(&self, peer: &Peer, user: &Arc<str>, at: SystemTime) {
        if let Some(name) = &peer.shared_name {
            self.note(name, user, at);
        }
    }

    fn note(&self, name: &Arc<str>, user: &Arc<str>, at: SystemTime) {
        let mut peers = lock(&self.peers);
        if let Some(seen) = peers.get_mut(name) {
            seen.last_message = at;
            if seen.user != *user {
                seen.user = Arc::clone(user);
            }
            return;
        }
        if peers.len() >= PEERS_KEPT {
            let mut times: Vec<_> = peers.values().map(|seen| seen.last_message).collect();
            let (_, median, _) = times.select_nth_unstable(PEERS_KEPT / 2);
            peers.retain(|_, seen| seen.last_message > *median);
        }
        let seen = SeenPeer { name: Arc::clone(name), user: Arc::clone(user), last_message: at };
        peers.insert(Arc::clone(name), seen);
    }

    /// `connections` is what is counted elsewhere.
    pub(crate) fn read(&self, connections: u64) -> ServerStatistics {
        // First, so that no more are closed than were opened.
        let closed = self.channels_closed.load(Ordering::Relaxed);
        let channels_opened = self.channels_opened.load(Ordering::Relaxed);
        let counts = self.refusals.iter().map(|counter| counter.load(Ordering::Relaxed));
        let mut peers: Vec<SeenPeer> = lock(&self.peers).values().cloned().collect();
        peers.sort_by(|one, other| {
            other.last_message.cmp(&one.last_message).then_with(|| one.name.cmp(&other.name))
        });
        ServerStatistics {
            started_at: self.started_at,
            refusals: ProblemCode::ALL.into_iter().zip(counts).collect(),
            logins_granted: self.logins_granted.load(Ordering::Relaxed),
            logins_failed: self.logins_failed.load(Ordering::Relaxed),
            channels_opened,
            channels: channels_opened.saturating_sub(closed),
            connections,
            recent_refusals: lock(&self.recent).iter().cloned().collect(),
            peers,
        }
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Nothing that runs under a lock of this file leaves its value half changed.
fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn refusals_are_counted_by_code_and_the_newest_are_kept() {
        let counters = Counters::new(SystemTime::now());
        counters.refused(ProblemCode::SessionExpired, None, None);
        for _ in 0..REFUSALS_KEPT + 5 {
            counters.refused(ProblemCode::InboxFull, None, Some("worker1".into()));
        }
        counters.refused(ProblemCode::IdReused, None, None);
        let read = counters.read(3);
        let of = |code| read.refusals.iter().find(|(known, _)| *known == code).unwrap().1;
        assert_eq!(of(ProblemCode::SessionExpired), 1);
        assert_eq!(of(ProblemCode::InboxFull), REFUSALS_KEPT as u64 + 5);
        assert_eq!((read.recent_refusals.len(), read.connections), (REFUSALS_KEPT, 3));
        assert_eq!(read.recent_refusals[0].code, ProblemCode::IdReused);
        assert_eq!(read.recent_refusals[1].peer.as_deref(), Some("worker1"));
    }

    #[test]
    fn a_channel_is_open_until_it_is_dropped() {
        let counters = Counters::new(SystemTime::now());
        let open = [counters.channel_opened(), counters.channel_opened()];
        assert_eq!(counters.read(0).channels, 2);
        drop(open);
        let read = counters.read(0);
        assert_eq!((read.channels, read.channels_opened), (0, 2));
    }

    #[test]
    fn peers_are_bounded_and_those_who_sent_last_come_first() {
        let counters = Counters::new(SystemTime::now());
        let at = |secs| SystemTime::UNIX_EPOCH + Duration::from_secs(secs);
        for number in 0..=PEERS_KEPT as u64 {
            counters.note(&number.to_string().into(), &"ada".into(), at(number));
        }
        counters.note(&"5".into(), &"eve".into(), at(9999));
        let read = counters.read(0);
        assert!((PEERS_KEPT / 3..=PEERS_KEPT).contains(&read.peers.len()), "{}", read.peers.len());
        assert_eq!((&*read.peers[0].name, &*read.peers[0].user), ("5", "eve"));
        assert_eq!(&*read.peers[1].name, "1000", "the newest before it");
        assert!(read.peers.iter().all(|seen| &*seen.name != "0"), "it was the oldest");
    }
}

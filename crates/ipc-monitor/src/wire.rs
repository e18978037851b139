//! Writes a snapshot as JSON for the status page. Times are milliseconds since the Unix epoch.

use std::time::{SystemTime, UNIX_EPOCH};

use ipc_server::{Histogram, ProblemCode};
use serde::Serialize;

use crate::snapshot::Snapshot;

/// How many peers the page gets.
const PEERS_SHOWN: usize = 50;

/// How many certificates the page gets, those that expire first.
const CERTIFICATES_SHOWN: usize = 50;

#[derive(Serialize)]
struct Page<'s> {
    at: u64,
    name: &'s str,
    address: &'s str,
    started_at: u64,
    not_ready: Vec<String>,
    accepted: u64,
    duplicates: u64,
    refused: u64,
    delivered: u64,
    redelivered: u64,
    waiting: Option<u64>,
    in_hand: u64,
    oldest_at: Option<u64>,
    dead_letters: Option<u64>,
    connections: u64,
    channels: u64,
    logins_granted: u64,
    logins_failed: u64,
    put: Times<'s>,
    delivery: Times<'s>,
    recent_refusals: Vec<Refusal<'s>>,
    peers: Vec<Peer<'s>>,
    certificates: Vec<Certificate<'s>>,
    dead: Vec<Dead<'s>>,
}

#[derive(Serialize)]
struct Times<'s> {
    bounds: &'s [f64],
    counts: &'s [u64],
}

#[derive(Serialize)]
struct Refusal<'s> {
    at: u64,
    code: &'static str,
    peer: Option<&'s str>,
    address: Option<String>,
}

#[derive(Serialize)]
struct Peer<'s> {
    name: &'s str,
    user: &'s str,
    at: u64,
}

#[derive(Serialize)]
struct Certificate<'s> {
    name: &'s str,
    kind: &'s str,
    expires_at: u64,
    is_revoked: bool,
}

#[derive(Serialize)]
struct Dead<'s> {
    number: u64,
    user: &'s str,
    peer: Option<&'s str>,
    at: u64,
    reason: String,
}

fn millis(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl<'s> From<&'s Histogram> for Times<'s> {
    fn from(histogram: &'s Histogram) -> Self {
        Times { bounds: histogram.bounds, counts: &histogram.counts }
    }
}

/// The refusals that a person should know of. A first request without a session is none, since the
/// client logs in after it, nor is one of a server that stops.
fn refused(refusals: &[(ProblemCode, u64)]) -> u64 {
    let is_normal = |code| matches!(code, ProblemCode::SessionExpired | ProblemCode::ShuttingDown);
    let counted = refusals.iter().filter(|(code, _)| !is_normal(*code));
    counted.map(|(_, count)| count).sum()
}

/// The JSON text of a snapshot, on one line.
pub(crate) fn json(snapshot: &Snapshot) -> String {
    let Snapshot { server, inbox, status, .. } = snapshot;
    let refusals = server.recent_refusals.iter().map(|refusal| Refusal {
        at: millis(refusal.at),
        code: refusal.code.as_str(),
        peer: refusal.peer.as_deref(),
        address: refusal.address.map(|address| address.to_string()),
    });
    let peers = server.peers.iter().take(PEERS_SHOWN).map(|peer| Peer {
        name: &peer.name,
        user: &peer.user,
        at: millis(peer.last_message),
    });
    let certificates =
        snapshot.certificates.iter().take(CERTIFICATES_SHOWN).map(|one| Certificate {
            name: &one.name,
            kind: &one.kind,
            expires_at: millis(one.expires_at),
            is_revoked: one.is_revoked,
        });
    let dead = snapshot.dead_letters.iter().map(|letter| Dead {
        number: letter.id.get(),
        user: &letter.message.user,
        peer: letter.message.peer.as_deref(),
        at: millis(letter.message.received_at),
        reason: letter.reason.to_string(),
    });
    let page = Page {
        at: millis(snapshot.at),
        name: &snapshot.name,
        address: &snapshot.address,
        started_at: millis(server.started_at),
        not_ready: snapshot.not_ready.iter().map(ToString::to_string).collect(),
        accepted: inbox.accepted,
        duplicates: inbox.duplicates,
        refused: refused(&server.refusals),
        delivered: inbox.delivered,
        redelivered: inbox.redelivered,
        waiting: status.waiting,
        in_hand: inbox.in_hand(),
        oldest_at: status.oldest.map(millis),
        dead_letters: status.dead_letters,
        connections: server.connections,
        channels: server.channels,
        logins_granted: server.logins_granted,
        logins_failed: server.logins_failed,
        put: (&inbox.put_seconds).into(),
        delivery: (&inbox.delivery_seconds).into(),
        recent_refusals: refusals.collect(),
        peers: peers.collect(),
        certificates: certificates.collect(),
        dead: dead.collect(),
    };
    // Numbers and strings alone: nothing here cannot be written.
    serde_json::to_string(&page).unwrap_or_default()
}

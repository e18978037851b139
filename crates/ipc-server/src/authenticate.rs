//! Authenticates the sender of a frame: opens the session token, compares it with the connection's
//! certificate, and looks up its user.
//!
//! `admit` comes here for each request, `channel` for each frame.

use std::fmt::{self, Display};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use ipc_inbox::Message;
use ipc_protocol::{Fingerprint, MessageId, ProblemCode};
use ipc_store::StoreError;

use crate::peer::Peer;
use crate::refusal::{RETRY_AFTER, Refusal};
use crate::session::{LastSession, Session};
use crate::state::State;
use crate::users::Standing;

/// Who sent a message, and when it arrived.
pub(crate) struct Sender {
    pub(crate) user: Arc<str>,
    pub(crate) certificate: Option<Fingerprint>,
    /// The peer name in the certificate.
    pub(crate) peer: Option<Arc<str>>,
    pub(crate) received_at: SystemTime,
    /// Which key of the peer's ring opened the frame.
    pub(crate) key_index: usize,
}

impl Sender {
    /// The user of an authenticated session on this peer's connection. The statistics note both.
    /// `key_index` says which key of the peer's ring opened the frame.
    pub(crate) fn new(
        user: Arc<str>,
        peer: &Peer,
        received_at: SystemTime,
        key_index: usize,
        state: &State,
    ) -> Self {
        state.statistics.seen(peer, &user, received_at);
        let (certificate, peer) = (peer.certificate, peer.shared_name.clone());
        Sender { user, certificate, peer, received_at, key_index }
    }

    /// Makes a message from this sender. Copies `body`, and shares the names.
    pub(crate) fn message(&self, id: MessageId, body: &str, wants_reply: bool) -> Message {
        let (user, body) = (Arc::clone(&self.user), body.into());
        Message {
            id,
            user,
            certificate: self.certificate,
            peer: self.peer.clone(),
            received_at: self.received_at,
            body,
            wants_reply,
        }
    }
}

/// Opens a session token on this connection. `last` is the connection's cache of the session it
/// opened last.
///
/// # Errors
/// 419 if there is no token, or the session has expired; 403 if it was granted to another
/// certificate.
pub(crate) fn session(
    token: Option<&str>,
    (last, peer): (Option<&LastSession>, &Peer),
    state: &State,
    now_secs: u64,
) -> Result<Rc<Session>, Refusal> {
    let token = token.ok_or_else(|| expired(NoSession::NotSent))?;
    let session = match last {
        Some(last) => last.open(token, state.trust().session_keys(), now_secs),
        None => Session::open(token, state.trust().session_keys().ring, now_secs).map(Rc::new),
    };
    let session = session.ok_or_else(|| expired(NoSession::Ended))?;
    if session.certificate != peer.certificate {
        return Err(Refusal::new(
            ProblemCode::WrongCertificate,
            "the session was granted to another certificate",
        ));
    }
    Ok(session)
}

/// Looks up the user of a session.
///
/// # Errors
/// 419 if the user was removed or disabled or has changed the password; 403 if the user is bound to
/// another peer; 503 if the user store fails.
pub(crate) async fn user(
    session: &Session,
    peer: &Peer,
    state: &State,
) -> Result<Arc<str>, Refusal> {
    let with = (session.credential_version, peer.name());
    let current = state.users.current(&session.user, with, Instant::now()).await;
    standing(current.map_err(unavailable)?)
}

/// The user of this standing.
///
/// # Errors
/// 419 and 403, as [`user`].
pub(crate) fn standing(standing: Standing) -> Result<Arc<str>, Refusal> {
    match standing {
        Standing::Good(user) => Ok(user),
        Standing::Ended => Err(expired(NoSession::UserChanged)),
        Standing::OtherPeer => Err(other_peer()),
    }
}

/// The refusal of a user who is bound to another peer than that of the connection.
pub(crate) fn other_peer() -> Refusal {
    Refusal::new(ProblemCode::WrongCertificate, "the user may use another certificate only")
}

/// Why a frame has no session that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoSession {
    /// The frame brings none. A client's first frame is such: its refusal makes the client log in.
    NotSent,
    /// Its time is over, or this server's key did not seal its token.
    Ended,
    /// The user was removed or has another password.
    UserChanged,
}

impl Display for NoSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NoSession::NotSent => "no session yet, which is normal: a login follows",
            NoSession::Ended => "the session has ended or is not of this home: a login follows",
            NoSession::UserChanged => "the user was removed or has a new password",
        })
    }
}

/// The refusal 419. The log gets the reason, so that nobody takes a client's first request for a
/// fault.
pub(crate) fn expired(why: NoSession) -> Refusal {
    Refusal::new(ProblemCode::SessionExpired, "no session, or one that has ended: log in")
        .because(why)
}

/// The refusal 503 for a failure of the user store.
pub(crate) fn unavailable(error: StoreError) -> Refusal {
    let detail = "the users' database does not answer at the moment";
    Refusal::new(ProblemCode::Unavailable, detail)
        .because(ipc_base::chain(&error))
        .logged_as_error()
        .retry_after(RETRY_AFTER)
}

#[cfg(test)]
mod tests {
    use log::Level;

    use super::*;

    #[test]
    fn messages_of_one_sender_share_its_names() {
        let sender = Sender {
            user: "ada".into(),
            certificate: None,
            peer: Some("worker1".into()),
            received_at: SystemTime::UNIX_EPOCH,
            key_index: 0,
        };
        let message = |number| sender.message(MessageId::from_random([number; 16]), "{}", false);
        let (first, second) = (message(1), message(2));
        assert_eq!((&*first.user, first.peer.as_deref()), ("ada", Some("worker1")));
        assert!(Arc::ptr_eq(&first.user, &second.user));
        assert!(Arc::ptr_eq(&first.peer.unwrap(), &second.peer.unwrap()));
    }

    #[test]
    fn the_log_gets_why_there_is_no_session_and_the_peer_does_not() {
        for (why, text) in [
            (NoSession::NotSent, "no session yet, which is normal: a login follows"),
            (NoSession::Ended, "the session has ended or is not of this home: a login follows"),
            (NoSession::UserChanged, "the user was removed or has a new password"),
        ] {
            let refusal = expired(why);
            assert_eq!(refusal.level(), Level::Info, "{why:?}");
            assert_eq!(refusal.for_the_log(), format!(" session_expired ({text})"));
            let body = refusal.response().into_body();
            let body = actix_web::body::MessageBody::try_into_bytes(body).unwrap();
            let body = std::str::from_utf8(&body).unwrap();
            assert!(body.contains("log in") && !body.contains(text), "{body}");
        }
    }
}

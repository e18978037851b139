//! Whose session it is that a frame brings: opened, compared with the connection's certificate, and
//! its user looked up.
//!
//! `admit` comes here with each request, `channel` with each frame.

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

/// Whose message it is, and when it came.
pub(crate) struct Sender {
    pub(crate) user: Arc<str>,
    pub(crate) certificate: Option<Fingerprint>,
    pub(crate) received_at: SystemTime,
}

impl Sender {
    /// A message of this sender, whose body is copied.
    pub(crate) fn message(&self, id: MessageId, body: &str, wants_reply: bool) -> Message {
        let (user, body) = (Arc::clone(&self.user), body.into());
        Message {
            id,
            user,
            certificate: self.certificate,
            received_at: self.received_at,
            body,
            wants_reply,
        }
    }
}

/// The session that a token grants on this connection, which may remember the last one.
///
/// # Errors
/// 419 if there is none, or its time is over; 403 if it was granted to another certificate.
pub(crate) fn session(
    token: Option<&str>,
    (last, peer): (Option<&LastSession>, &Peer),
    state: &State,
    now_secs: u64,
) -> Result<Rc<Session>, Refusal> {
    let token = token.ok_or_else(expired)?;
    let session = match last {
        Some(last) => last.open(token, &state.session_keys, now_secs),
        None => Session::open(token, &state.session_keys, now_secs).map(Rc::new),
    };
    let session = session.ok_or_else(expired)?;
    if session.certificate != peer.certificate {
        return Err(Refusal::new(
            ProblemCode::WrongCertificate,
            "the session was granted to another certificate",
        ));
    }
    Ok(session)
}

/// The user of a session.
///
/// # Errors
/// 419 if he is gone or disabled or has another password; 403 if he is bound to another peer; 503 if
/// nobody knows.
pub(crate) async fn user(
    session: &Session,
    peer: &Peer,
    state: &State,
) -> Result<Arc<str>, Refusal> {
    let with = (session.credential_version, peer.name());
    let current = state.users.current(&session.user, with, Instant::now()).await;
    standing(current.map_err(unavailable)?)
}

/// The user, where he may be here.
///
/// # Errors
/// 419 and 403, as [`user`].
pub(crate) fn standing(standing: Standing) -> Result<Arc<str>, Refusal> {
    match standing {
        Standing::Good(user) => Ok(user),
        Standing::Ended => Err(expired()),
        Standing::OtherPeer => Err(other_peer()),
    }
}

/// The refusal of a user who is bound to another peer than that of the connection.
pub(crate) fn other_peer() -> Refusal {
    Refusal::new(ProblemCode::WrongCertificate, "the user may use another certificate only")
}

/// The refusal of a session that is none, or none any more.
pub(crate) fn expired() -> Refusal {
    Refusal::new(ProblemCode::SessionExpired, "no session, or one that has ended: log in")
}

/// The refusal where the users' database fails.
pub(crate) fn unavailable(error: StoreError) -> Refusal {
    let detail = "the users' database does not answer at the moment";
    Refusal::new(ProblemCode::Unavailable, detail)
        .because(ipc_base::chain(&error))
        .logged_as_error()
        .retry_after(RETRY_AFTER)
}

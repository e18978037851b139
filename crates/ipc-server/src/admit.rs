//! What a request goes through before its route does anything with it: the body is taken in, the envelope opened, the frame's head
//! read, the session looked at, and only then the frame's body gone through.
//!
//! `routes` comes here. What becomes of a message is not known here.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use actix_web::{HttpRequest, web};
use ipc_envelope::Freshness;
use ipc_inbox::Message;
use ipc_protocol::{Fingerprint, Frame, FrameError, FrameHead, MessageId, ProblemCode, Route};
use ipc_store::StoreError;
use zeroize::Zeroizing;

use crate::answer::{COME_AGAIN, Refusal, internal, shutting_down};
use crate::budget::Held;
use crate::peer::Peer;
use crate::receive::{Envelope, receive};
use crate::session::{LastSession, Session};
use crate::state::{State, unix_secs};

/// Whose message it is, and when it came.
pub(crate) struct Sender {
    user: Arc<str>,
    certificate: Option<Fingerprint>,
    received_at: SystemTime,
}

impl Sender {
    /// A message of this sender, whose body is copied.
    pub(crate) fn message(&self, id: MessageId, body: &str, wants_reply: bool) -> Message {
        let (user, body) = (Arc::clone(&self.user), body.into());
        Message { id, user, certificate: self.certificate, received_at: self.received_at, body, wants_reply }
    }
}

/// What every sealed request goes through first: the peer, then the body.
pub(crate) async fn take_in(
    request: &HttpRequest,
    payload: web::Payload,
    state: &State,
) -> Result<(Peer, Envelope), Refusal> {
    if state.is_stopping() {
        return Err(shutting_down());
    }
    let peer = Peer::of(request, &state.transport, Instant::now())?;
    let limits = state.limits.of(request.path());
    let sealed = receive(request, payload, limits, &state.budget, &state.envelope_keys).await?;
    Ok((peer, sealed))
}

/// Opens an envelope for `route` and finds out whose it is; then has `make` make of the frame what the route needs of it. Returns
/// that with the room that the envelope took.
///
/// What is long is opened and gone through on a thread that may block.
pub(crate) async fn admit<T: Send + 'static>(
    mut sealed: Envelope,
    route: Route,
    from: (&HttpRequest, Peer),
    state: &State,
    make: impl FnOnce(&Frame<'_>, &Sender) -> Result<T, Refusal> + Send + 'static,
) -> Result<(T, Held), Refusal> {
    let received_at = SystemTime::now();
    let now_secs = unix_secs(received_at);
    let certificate = from.1.certificate;
    if !sealed.is_long() {
        let head = head(&mut sealed, route, now_secs)?;
        let user = authenticate(head.session(), from, state, now_secs).await?;
        let made = make(&head.frame().map_err(malformed)?, &Sender { user, certificate, received_at })?;
        return Ok((made, sealed.into_held()));
    }
    let (sealed, session) = on_a_thread(state, move || {
        let session =
            head(&mut sealed, route, now_secs)?.session().map(|token| Zeroizing::new(token.to_owned()));
        Ok((sealed, session))
    })
    .await?;
    let session = session.as_ref().map(|token| token.as_str());
    let user = authenticate(session, from, state, now_secs).await?;
    on_a_thread(state, move || {
        let mut sealed = sealed;
        // It is open, and its head is soon read again.
        let frame = head(&mut sealed, route, now_secs)?.frame().map_err(malformed)?;
        let made = make(&frame, &Sender { user, certificate, received_at })?;
        Ok((made, sealed.into_held()))
    })
    .await
}

/// Opens an envelope, if it is not, and reads what stands around the frame's body.
fn head(sealed: &mut Envelope, route: Route, now_secs: u64) -> Result<FrameHead<'_>, Refusal> {
    let plaintext = sealed.open(Freshness::at(now_secs))?;
    FrameHead::parse(plaintext).and_then(|head| head.addressed_to(route)).map_err(malformed)
}

/// Does work on a thread that may block. Some cores are left to the connections: more than
/// [`long_envelopes`](State::long_envelopes) are never at it.
async fn on_a_thread<T: Send + 'static>(
    state: &State,
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    let failed = |error: &dyn std::fmt::Display| internal("going through an envelope", error);
    let permit = Arc::clone(&state.long_envelopes).acquire_owned().await.map_err(|error| failed(&error))?;
    // The permit goes along: the work goes on where nobody waits for it any more.
    let work = web::block(move || {
        let result = work();
        drop(permit);
        result
    });
    work.await.map_err(|error| failed(&error))?
}

/// The user whose session it is.
async fn authenticate(
    token: Option<&str>,
    (request, peer): (&HttpRequest, Peer),
    state: &State,
    now_secs: u64,
) -> Result<Arc<str>, Refusal> {
    let expired = || Refusal::new(ProblemCode::SessionExpired, "no session, or one that has ended: log in");
    let token = token.ok_or_else(expired)?;
    let session = match request.conn_data::<LastSession>() {
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
    let current = state.users.current(&session.user, session.credential_version, Instant::now()).await;
    current.map_err(unavailable)?.ok_or_else(expired)
}

pub(crate) fn malformed(error: FrameError) -> Refusal {
    let code = match error {
        FrameError::BodyNotAnObject | FrameError::BodyNotAnArray => ProblemCode::NotAnObject,
        FrameError::TooManyMessages { .. } => ProblemCode::TooLarge,
        _ => ProblemCode::MalformedFrame,
    };
    Refusal::new(code, error.to_string())
}

pub(crate) fn unavailable(error: StoreError) -> Refusal {
    let detail = "the users' database does not answer at the moment";
    Refusal::new(ProblemCode::Unavailable, detail).because(error).logged_as_error().retry_after(COME_AGAIN)
}

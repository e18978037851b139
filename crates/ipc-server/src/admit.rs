//! What a request goes through before its route does anything with it: the body is taken in, the
//! envelope opened, the frame's head read, the session looked at, and only then the frame's body
//! gone through.
//!
//! `routes` comes here. What becomes of a message is not known here.

use std::sync::Arc;
use std::time::SystemTime;

use actix_web::{HttpRequest, web};
use ipc_envelope::Freshness;
use ipc_protocol::{Frame, FrameError, FrameHead, ProblemCode, Route};
use zeroize::Zeroizing;

use crate::authenticate::{self, Sender};
use crate::memory_budget::Reservation;
use crate::peer::Peer;
use crate::refusal::{Refusal, internal, shutting_down};
use crate::sealed_body::{SealedBody, receive};
use crate::state::{State, unix_secs};

/// What every sealed request goes through first: the peer, then the body.
pub(crate) async fn take_in(
    request: &HttpRequest,
    payload: web::Payload,
    state: &State,
) -> Result<(Peer, SealedBody), Refusal> {
    if state.is_stopping() {
        return Err(shutting_down());
    }
    let peer = Peer::of(request, &state.transport, unix_secs(SystemTime::now()))?;
    let limits = state.limits.of(request.path());
    let sealed = receive(request, payload, limits, &state.budget, &state.envelope_keys).await?;
    Ok((peer, sealed))
}

/// Opens an envelope for `route` and finds out whose it is; then has `make` make of the frame what
/// the route needs of it. Returns that with the room that the envelope took.
///
/// What is long is opened and gone through on a thread that may block.
pub(crate) async fn admit<T: Send + 'static>(
    mut sealed: SealedBody,
    route: Route,
    from: (&HttpRequest, Peer),
    state: &State,
    make: impl FnOnce(&Frame<'_>, &Sender) -> Result<T, Refusal> + Send + 'static,
) -> Result<(T, Reservation), Refusal> {
    let received_at = SystemTime::now();
    let now_secs = unix_secs(received_at);
    let certificate = from.1.certificate;
    if !sealed.is_long() {
        let head = head(&mut sealed, route, now_secs)?;
        let session =
            authenticate::session(head.session(), (from.0.conn_data(), &from.1), state, now_secs)?;
        let user = authenticate::user(&session, &from.1, state).await?;
        let made =
            make(&head.frame().map_err(malformed)?, &Sender { user, certificate, received_at })?;
        return Ok((made, sealed.into_reservation()));
    }
    let (sealed, session) = on_a_thread(state, move || {
        let session = head(&mut sealed, route, now_secs)?
            .session()
            .map(|token| Zeroizing::new(token.to_owned()));
        Ok((sealed, session))
    })
    .await?;
    let session = session.as_ref().map(|token| token.as_str());
    let session = authenticate::session(session, (from.0.conn_data(), &from.1), state, now_secs)?;
    let user = authenticate::user(&session, &from.1, state).await?;
    on_a_thread(state, move || {
        let mut sealed = sealed;
        // It is open, and its head is soon read again.
        let frame = head(&mut sealed, route, now_secs)?.frame().map_err(malformed)?;
        let made = make(&frame, &Sender { user, certificate, received_at })?;
        Ok((made, sealed.into_reservation()))
    })
    .await
}

/// Opens an envelope, if it is not, and reads what stands around the frame's body.
fn head(sealed: &mut SealedBody, route: Route, now_secs: u64) -> Result<FrameHead<'_>, Refusal> {
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
    let permit =
        Arc::clone(&state.long_envelopes).acquire_owned().await.map_err(|error| failed(&error))?;
    // The permit goes along: the work goes on where nobody waits for it any more.
    let work = web::block(move || {
        let result = work();
        drop(permit);
        result
    });
    work.await.map_err(|error| failed(&error))?
}

pub(crate) fn malformed(error: FrameError) -> Refusal {
    let code = match error {
        FrameError::BodyNotAnObject | FrameError::BodyNotAnArray => ProblemCode::NotAnObject,
        FrameError::TooManyMessages { .. } => ProblemCode::TooLarge,
        _ => ProblemCode::MalformedFrame,
    };
    Refusal::new(code, ipc_base::chain(&error).to_string())
}

//! Admits a sealed request: reads its body, opens the envelope, parses the frame's head, checks the
//! session, and only then parses the frame's body.
//!
//! `routes` comes here. This file does not know what happens to a message afterwards.

use std::sync::Arc;
use std::time::SystemTime;

use actix_web::{HttpRequest, web};
use ipc_envelope::Freshness;
use ipc_protocol::{Frame, FrameError, FrameHead, ProblemCode, Route};
use zeroize::Zeroizing;

use crate::authenticate::{self, Sender};
use crate::clock::unix_secs;
use crate::memory_budget::Reservation;
use crate::peer::Peer;
use crate::refusal::{Refusal, internal, shutting_down};
use crate::sealed_body::{SealedBody, receive};
use crate::state::State;

/// The first step for every sealed request: identifies the peer, then reads the body.
pub(crate) async fn take_in(
    request: &HttpRequest,
    payload: web::Payload,
    state: &State,
) -> Result<(Peer, SealedBody), Refusal> {
    if state.is_stopping() {
        return Err(shutting_down());
    }
    let peer = Peer::of(request, &state.trust(), unix_secs(SystemTime::now()))?;
    let limits = state.limits.of(request.path());
    let sealed = receive(request, payload, limits, &state.budget, &peer.envelope_keys).await?;
    Ok((peer, sealed))
}

/// Opens an envelope for `route`, authenticates its sender, and calls `make` with the frame.
/// Returns what `make` returns, with the memory reservation of the envelope.
///
/// A long envelope is opened and parsed on a thread that may block.
pub(crate) async fn admit<T: Send + 'static>(
    mut sealed: SealedBody,
    route: Route,
    from: (&HttpRequest, Peer),
    state: &State,
    make: impl FnOnce(&Frame<'_>, &Sender) -> Result<T, Refusal> + Send + 'static,
) -> Result<(T, Reservation), Refusal> {
    let received_at = SystemTime::now();
    let now_secs = unix_secs(received_at);
    if !sealed.is_long() {
        let key_index = opened_with(&mut sealed, now_secs)?;
        let head = head(&mut sealed, route, now_secs)?;
        let session =
            authenticate::session(head.session(), (from.0.conn_data(), &from.1), state, now_secs)?;
        let user = authenticate::user(&session, &from.1, state).await?;
        let sender = Sender::new(user, &from.1, received_at, key_index, state);
        let made = make(&head.frame().map_err(malformed)?, &sender)?;
        return Ok((made, sealed.into_reservation()));
    }
    let (sealed, session, key_index) = on_a_thread(state, move || {
        let key_index = opened_with(&mut sealed, now_secs)?;
        let session = head(&mut sealed, route, now_secs)?
            .session()
            .map(|token| Zeroizing::new(token.to_owned()));
        Ok((sealed, session, key_index))
    })
    .await?;
    let session = session.as_ref().map(|token| token.as_str());
    let session = authenticate::session(session, (from.0.conn_data(), &from.1), state, now_secs)?;
    let user = authenticate::user(&session, &from.1, state).await?;
    let sender = Sender::new(user, &from.1, received_at, key_index, state);
    on_a_thread(state, move || {
        let mut sealed = sealed;
        // The envelope is open already, so this only parses the head again, which is fast.
        let frame = head(&mut sealed, route, now_secs)?.frame().map_err(malformed)?;
        let made = make(&frame, &sender)?;
        Ok((made, sealed.into_reservation()))
    })
    .await
}

/// Opens an envelope, unless it is open already; a long one on a thread that may block.
#[cfg(feature = "python-compat")]
pub(crate) async fn open(mut sealed: SealedBody, state: &State) -> Result<SealedBody, Refusal> {
    let now_secs = unix_secs(SystemTime::now());
    if !sealed.is_long() {
        opened_with(&mut sealed, now_secs)?;
        return Ok(sealed);
    }
    on_a_thread(state, move || {
        opened_with(&mut sealed, now_secs)?;
        Ok(sealed)
    })
    .await
}

/// Opens the envelope and returns which key of the peer's ring opened it.
fn opened_with(sealed: &mut SealedBody, now_secs: u64) -> Result<usize, Refusal> {
    sealed.open(Freshness::at(now_secs))?;
    Ok(sealed.key_index())
}

/// Opens an envelope, unless it is open already, and parses the frame's members around the body.
fn head(sealed: &mut SealedBody, route: Route, now_secs: u64) -> Result<FrameHead<'_>, Refusal> {
    let plaintext = sealed.open(Freshness::at(now_secs))?;
    FrameHead::parse(plaintext).and_then(|head| head.addressed_to(route)).map_err(malformed)
}

/// Runs work on a thread that may block. At most [`long_envelopes`](State::long_envelopes) run at
/// the same time, so that some cores are left to the connections.
pub(crate) async fn on_a_thread<T: Send + 'static>(
    state: &State,
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    let failed = |error: &dyn std::fmt::Display| internal("opening an envelope", error);
    let permit =
        Arc::clone(&state.long_envelopes).acquire_owned().await.map_err(|error| failed(&error))?;
    // The work keeps the permit, because it runs to its end even if this future is dropped.
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

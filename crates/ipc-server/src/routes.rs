//! The routes. Each maps a request to calls of the layers below, and their results to a status.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use ipc_envelope::{Freshness, KeyRing};
use ipc_inbox::{Message, NotifyGuard, Put, PutError};
use ipc_protocol::{
    AuthReply, AuthRequest, BatchOutcome, BatchReply, Frame, IS_RUNNING_TEXT, MessageId,
    ProblemCode, REPLY_ADDRESS, REPLY_WAIT_SECS_DEFAULT, Route, to_nfc, write_frame,
};
use zeroize::Zeroizing;

use crate::admit::{admit, malformed, take_in};
use crate::answer::{accepted, answer, envelope, mark_duplicate};
use crate::authenticate::{other_peer, unavailable};
use crate::channel;
use crate::clock::unix_secs;
use crate::inbox_refusal::{no_reply, not_put};
use crate::login_ids::NotNew;
use crate::login_throttle::{LoginAttempt, Source};
use crate::memory_budget::Reservation;
use crate::peer::Peer;
use crate::prefer;
#[cfg(feature = "python-compat")]
use crate::python;
use crate::refusal::{RETRY_AFTER, Refusal, internal, shutting_down};
use crate::renewal;
use crate::reply_body::{REPLY_FREE_BYTES, ReplyBody};
use crate::session::Session;
use crate::state::{State, random_iv};
use crate::users::Standing;

/// Adds the routes to an app. Each path is a resource of its own, so that a wrong method gets 405
/// and not 404.
pub(crate) fn configure(app: &mut web::ServiceConfig) {
    let resource = |route: Route| {
        web::resource(route.path()).default_service(web::to(
            move |request: HttpRequest| async move {
                let mut response = answer(&request, Err(method_not_allowed(route)));
                let allowed = if route == Route::IsRunning { "GET, HEAD" } else { route.method() };
                response
                    .headers_mut()
                    .insert(header::ALLOW, header::HeaderValue::from_static(allowed));
                response
            },
        ))
    };
    app.service(
        resource(Route::IsRunning)
            .route(web::get().to(is_running))
            .route(web::head().to(is_running)),
    )
    .service(resource(Route::ClientAuth).route(web::post().to(client_auth)))
    .service(resource(Route::ClientRenew).route(web::post().to(client_renew)))
    .service(resource(Route::MessageSubmit).route(web::post().to(message_submit)))
    .service(resource(Route::MessageRequest).route(web::post().to(message_request)))
    .service(resource(Route::MessageBatch).route(web::post().to(message_batch)))
    .service(resource(Route::MessageChannel).route(web::get().to(message_channel)))
    .default_service(web::to(|request: HttpRequest| async move {
        answer(&request, Err(Refusal::new(ProblemCode::NotFound, "there is no such route")))
    }));
}

fn method_not_allowed(route: Route) -> Refusal {
    Refusal::new(
        ProblemCode::MethodNotAllowed,
        format!("this route accepts only {}", route.method()),
    )
}

async fn is_running(request: HttpRequest, state: web::Data<State>) -> HttpResponse {
    if state.is_draining() {
        return answer(&request, Err(shutting_down()));
    }
    let text = HttpResponse::Ok().content_type("text/plain; charset=utf-8").body(IS_RUNNING_TEXT);
    answer(&request, Ok(text))
}

async fn client_auth(
    request: HttpRequest,
    payload: web::Payload,
    state: web::Data<State>,
) -> HttpResponse {
    let result = log_in(&request, payload, &state).await;
    answer(&request, result)
}

async fn client_renew(
    request: HttpRequest,
    payload: web::Payload,
    state: web::Data<State>,
) -> HttpResponse {
    let result = renewal::renew(&request, payload, &state).await.and_then(|answer| {
        sealed_reply(
            &answer.body,
            (answer.id, answer.is_raw),
            (&answer.keys, answer.key_index),
            &state,
        )
    });
    answer(&request, result)
}

async fn message_submit(
    request: HttpRequest,
    payload: web::Payload,
    state: web::Data<State>,
) -> HttpResponse {
    let result = submit(&request, payload, &state).await;
    answer(&request, result)
}

async fn message_request(
    request: HttpRequest,
    payload: web::Payload,
    state: web::Data<State>,
) -> HttpResponse {
    let result = request_reply(&request, payload, &state).await;
    answer(&request, result)
}

async fn message_batch(
    request: HttpRequest,
    payload: web::Payload,
    state: web::Data<State>,
) -> HttpResponse {
    let result = submit_all(&request, payload, &state).await;
    answer(&request, result)
}

async fn message_channel(
    request: HttpRequest,
    payload: web::Payload,
    state: web::Data<State>,
) -> HttpResponse {
    let result = channel::open(&request, payload, &state);
    answer(&request, result)
}

async fn log_in(
    request: &HttpRequest,
    payload: web::Payload,
    state: &State,
) -> Result<HttpResponse, Refusal> {
    let (peer, mut sealed) = take_in(request, payload, state).await?;
    let is_raw = sealed.is_raw();
    // A login is short, because its route has a limit of its own, so it is opened on this thread.
    let freshness = Freshness::at(unix_secs(SystemTime::now()));
    sealed.open(freshness)?;
    let key_index = sealed.key_index();
    #[cfg(feature = "python-compat")]
    if let Some(sessions) = &state.python
        && !is_raw
        && python::is_pickle(sealed.open(freshness)?)
    {
        let (id, credentials) = python::login(sealed, freshness)?;
        // The Python tool gives all its clients one pair, so that a name alone is all of them.
        let source = peer.source().at(peer.address);
        let granted = grant((&peer, source), credentials, (id, key_index), state).await?;
        sessions.keep(&peer, granted.session, Instant::now());
        return Ok(accepted(false));
    }
    let frame = Frame::parse(sealed.open(freshness)?)
        .and_then(|frame| frame.addressed_to(Route::ClientAuth))
        .map_err(malformed)?;
    let id = frame.id();
    // The error of serde_json is dropped, because it could quote the password.
    let credentials: AuthRequest = serde_json::from_str(frame.object().map_err(malformed)?)
        .map_err(|_| {
            Refusal::new(
                ProblemCode::MalformedFrame,
                "the frame's body is not {\"username\": …, \"password\": …}",
            )
        })?;
    drop(sealed);
    let reply = grant((&peer, peer.source()), credentials, (id, key_index), state).await?;
    let body = Zeroizing::new(
        serde_json::to_string(&reply).map_err(|error| internal("writing a reply", error))?,
    );
    sealed_reply(&body, (id, is_raw), (&peer.envelope_keys, key_index), state)
}

/// Grants a session to a peer whose user gave a right password. Its failures count for `source`.
/// `id` is the id of the login, and `key_index` says which key of the peer's ring opened it.
async fn grant(
    (peer, source): (&Peer, Source),
    mut credentials: AuthRequest,
    (id, key_index): (MessageId, usize),
    state: &State,
) -> Result<AuthReply, Refusal> {
    // The same name must count as one user, however a keyboard composes it: for the count of
    // failures, the session and the application.
    credentials.username = to_nfc(&credentials.username);

    let attempt =
        state.attempts.begin(&source, &credentials.username, Instant::now()).map_err(|wait| {
            Refusal::new(ProblemCode::TooManyAttempts, "too many logins of this user failed")
                .retry_after(wait)
        })?;
    // Before the permit is taken: a login that pauses keeps nobody else from logging in.
    let pause = state.login_slowdown.pause(&source, &credentials.username, Instant::now());
    if !pause.is_zero() {
        tokio::time::sleep(pause).await;
    }
    let Some(_place) = state.logins.take(&source) else {
        attempt.withdrawn();
        return Err(Refusal::new(ProblemCode::TooManyAttempts, "too many logins are waiting")
            .retry_after(RETRY_AFTER));
    };
    // This comes before the password check, so that a replayed login costs its user nothing.
    if let Err(why) = state.login_ids.remember(id, Instant::now()) {
        attempt.withdrawn();
        return Err(login_not_new(why));
    }
    let version = match state.users.verify(&credentials.username, &credentials.password).await {
        Ok(version) => version,
        Err(error) => {
            attempt.withdrawn();
            return Err(unavailable(error));
        }
    };
    let Some(credential_version) = version else {
        note_failed(attempt, &credentials.username, state);
        return Err(bad_credentials());
    };
    let with = (credential_version, peer.name());
    // As of now: an answer of half a second ago may know of another binding.
    match state
        .users
        .current_within(Duration::ZERO, &credentials.username, with, Instant::now())
        .await
    {
        Ok(Standing::Good(_)) => attempt.succeeded(),
        Ok(ended) => {
            note_failed(attempt, &credentials.username, state);
            return Err(match ended {
                Standing::OtherPeer => other_peer(),
                _ => bad_credentials()
                    .because("the password is right, but the user is disabled or just changed"),
            });
        }
        Err(error) => {
            attempt.withdrawn();
            return Err(unavailable(error));
        }
    }

    let now_secs = unix_secs(SystemTime::now());
    let key_id = state.trust().key_id(key_index);
    state.login_notes.succeeded(&credentials.username, peer, key_id, now_secs);
    state.statistics.login_granted();
    state.login_slowdown.succeeded(&source, &credentials.username, Instant::now());
    let iv = random_iv().map_err(no_random_bytes)?;
    let session = Session {
        user: credentials.username,
        credential_version,
        expires_at_secs: now_secs.saturating_add(state.session_secs),
        certificate: peer.certificate,
    };
    Ok(AuthReply {
        session: session.seal(state.trust().session_keys().ring, now_secs, iv),
        expires_in: state.session_secs,
    })
}

/// Counts a login that failed.
fn note_failed(attempt: LoginAttempt<'_>, username: &str, state: &State) {
    attempt.failed();
    state.login_slowdown.failed(username, Instant::now());
    state.login_notes.failed(username);
    state.statistics.login_failed();
}

fn bad_credentials() -> Refusal {
    Refusal::new(ProblemCode::BadCredentials, "the user is unknown or the password wrong")
}

fn login_not_new(why: NotNew) -> Refusal {
    match why {
        NotNew::Known => Refusal::new(
            ProblemCode::IdReused,
            "a login with this id was tried before; each login needs an id of its own",
        ),
        NotNew::Full => Refusal::new(ProblemCode::TooManyAttempts, "too many logins were tried")
            .retry_after(RETRY_AFTER),
    }
}

/// The response 200 with a reply in an envelope.
fn sealed_reply(
    body: &str,
    (id, is_raw): (MessageId, bool),
    (keys, key_index): (&KeyRing, usize),
    state: &State,
) -> Result<HttpResponse, Refusal> {
    let mut reservation = Reservation::none(&state.budget);
    // Until the peer has taken it, a reply takes memory like a body.
    let bytes = body.len() + body.len() / 3 * usize::from(!is_raw);
    if bytes > REPLY_FREE_BYTES && !reservation.grow_to(bytes) {
        let detail = "the server has no memory for a reply of this length at the moment";
        return Err(Refusal::new(ProblemCode::Unavailable, detail).retry_after(RETRY_AFTER));
    }
    let mut plaintext = Zeroizing::new(Vec::new());
    write_frame(&mut plaintext, REPLY_ADDRESS, id, None, body);
    let (now_secs, iv) = (unix_secs(SystemTime::now()), random_iv().map_err(no_random_bytes)?);
    // With the key that the peer has shown to have: it may not have the first one yet.
    let token = if is_raw {
        keys.seal_with(key_index, &plaintext, now_secs, iv)
    } else {
        keys.seal_base64url_with(key_index, &plaintext, now_secs, iv).into_bytes()
    };
    Ok(envelope(ReplyBody::new(token, reservation), is_raw))
}

async fn submit(
    request: &HttpRequest,
    payload: web::Payload,
    state: &State,
) -> Result<HttpResponse, Refusal> {
    let (peer, sealed) = take_in(request, payload, state).await?;
    #[cfg(feature = "python-compat")]
    let sealed = match &state.python {
        Some(sessions) if !sealed.is_raw() => {
            match python::message(sealed, &peer, sessions, state).await? {
                Ok((message, _held)) => return put(message, state).await,
                Err(frame) => frame,
            }
        }
        _ => sealed,
    };
    let (message, _held) =
        admit(sealed, Route::MessageSubmit, (request, peer), state, |frame, sender| {
            Ok(sender.message(frame.id(), frame.object().map_err(malformed)?, false))
        })
        .await?;
    put(message, state).await
}

/// Puts a message into the inbox, and makes the response.
async fn put(message: Message, state: &State) -> Result<HttpResponse, Refusal> {
    let (put, notify) = state.inbox.put_deferred(message, state.inbox_wait).await;
    notify_after_the_answer(notify);
    Ok(accepted(put.map_err(not_put)? == Put::Duplicate))
}

/// Wakes receivers of the inbox once the response is on its way.
fn notify_after_the_answer(notify: NotifyGuard) {
    if !notify.is_none() {
        // The task that writes the response runs until it has to wait; only then another task runs.
        actix_web::rt::spawn(async move { drop(notify) });
    }
}

/// Stores a request and waits for the application's reply, without blocking a thread.
async fn request_reply(
    request: &HttpRequest,
    payload: web::Payload,
    state: &State,
) -> Result<HttpResponse, Refusal> {
    let (peer, sealed) = take_in(request, payload, state).await?;
    let (is_raw, keys) = (sealed.is_raw(), Arc::clone(&peer.envelope_keys));
    let ((message, key_index), reservation) =
        admit(sealed, Route::MessageRequest, (request, peer), state, |frame, sender| {
            let body = frame.object().map_err(malformed)?;
            Ok((sender.message(frame.id(), body, true), sender.key_index))
        })
        .await?;
    let (id, user) = (message.id, Arc::clone(&message.user));
    let wait = reply_wait(request).min(state.reply_wait_max);
    let put = state.inbox.put(message, state.inbox_wait).await.map_err(not_put)?;
    // A request may wait long, and the memory of its envelope is no longer needed.
    drop(reservation);
    let reply = tokio::time::timeout(wait, state.inbox.reply_to(&user, id))
        .await
        .map_err(|_| {
            Refusal::new(
                ProblemCode::NoReplyInTime,
                format!("no reply within {} s", wait.as_secs()),
            )
        })?
        .map_err(|error| no_reply(error, state.is_stopping()))?;
    let mut response = sealed_reply(&reply, (id, is_raw), (&keys, key_index), state)?;
    if put == Put::Duplicate {
        mark_duplicate(&mut response);
    }
    Ok(response)
}

/// How long the client wants to wait for a reply.
fn reply_wait(request: &HttpRequest) -> Duration {
    let preferences = request.headers().get_all("prefer").map(|value| value.as_bytes());
    Duration::from_secs(prefer::wait_secs(preferences).unwrap_or(REPLY_WAIT_SECS_DEFAULT))
}

/// Stores the messages of a batch in one step. Replies with what became of those that were not
/// newly accepted.
async fn submit_all(
    request: &HttpRequest,
    payload: web::Payload,
    state: &State,
) -> Result<HttpResponse, Refusal> {
    let (peer, sealed) = take_in(request, payload, state).await?;
    let (is_raw, keys) = (sealed.is_raw(), Arc::clone(&peer.envelope_keys));
    let messages_max = state.batch_messages_max;
    let (batch, _held) =
        admit(sealed, Route::MessageBatch, (request, peer.clone()), state, move |frame, sender| {
            let entries = frame.batch(messages_max).map_err(malformed)?;
            let codes: Vec<_> = entries.iter().map(|entry| entry.err()).collect();
            let good = entries.into_iter().filter_map(|entry| entry.ok());
            let messages = good.map(|(id, body)| sender.message(id, body, false)).collect();
            Ok((frame.id(), codes, messages, sender.key_index))
        })
        .await?;
    let (id, codes, messages, key_index) = batch;
    let (put, notify) = state.inbox.put_all_deferred(messages, state.inbox_wait).await;
    notify_after_the_answer(notify);
    let mut put = put.into_iter();

    let mut reply = BatchReply::default();
    let refused = |code: ProblemCode| {
        state.statistics.refused(code, request.peer_addr(), peer.shared_name.clone());
        code.as_str()
    };
    for (index, code) in (0..).zip(codes) {
        let code = match code {
            Some(code) => refused(code),
            None => match put.next() {
                Some(Ok(Put::Accepted)) => {
                    reply.accepted += 1;
                    continue;
                }
                Some(Ok(Put::Duplicate)) => BatchOutcome::DUPLICATE,
                Some(Err(PutError::RememberedFull)) if reply.full_from.is_none() => {
                    reply.full_from = Some(index);
                    reply.full_code = Some(refused(ProblemCode::IdsFull).into());
                    continue;
                }
                Some(Err(PutError::Full | PutError::RememberedFull)) | None => {
                    if reply.full_from.is_none() {
                        refused(ProblemCode::InboxFull);
                        reply.full_from = Some(index);
                    }
                    continue;
                }
                Some(Err(
                    error @ (PutError::Closed | PutError::Unavailable | PutError::Unknown),
                )) => return Err(not_put(error)),
                Some(Err(error)) => refused(not_put(error).code()),
            },
        };
        reply.others.push(BatchOutcome { index, code: code.into() });
    }
    let body = serde_json::to_string(&reply).map_err(|error| internal("writing a reply", error))?;
    sealed_reply(&body, (id, is_raw), (&keys, key_index), state)
}

fn no_random_bytes(error: impl std::fmt::Display) -> Refusal {
    internal("getting random bytes", error)
}

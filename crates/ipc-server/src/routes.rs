//! The routes: each maps a request onto the layers below and back onto a status.

use std::time::{Duration, Instant, SystemTime};

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use ipc_envelope::Freshness;
use ipc_inbox::{Message, Pending, Put, PutError};
use ipc_protocol::{
    AuthReply, AuthRequest, Frame, FrameError, IS_RUNNING_TEXT, ProblemCode, REPLY_ADDRESS, Route,
    write_frame,
};
use ipc_store::StoreError;
use zeroize::Zeroizing;

use crate::answer::{Refusal, accepted, answer, envelope};
use crate::peer::Peer;
use crate::receive::{Envelope, receive};
use crate::session::Session;
use crate::state::{State, random_iv, unix_secs};

/// When a client that found the inbox full, or the server stopping, may come again.
const COME_AGAIN: Duration = Duration::from_secs(1);

/// Adds the routes to an app. Each path is a resource of its own, so that a wrong method is 405 and not 404.
pub(crate) fn configure(app: &mut web::ServiceConfig) {
    let resource = |route: Route| {
        web::resource(route.path()).default_service(web::to(move |request: HttpRequest| async move {
            let mut response = answer(&request, Err(method_not_allowed(route)));
            let allowed = if route == Route::IsRunning { "GET, HEAD" } else { route.method() };
            response.headers_mut().insert(header::ALLOW, header::HeaderValue::from_static(allowed));
            response
        }))
    };
    app.service(
        resource(Route::IsRunning).route(web::get().to(is_running)).route(web::head().to(is_running)),
    )
    .service(resource(Route::ClientAuth).route(web::post().to(client_auth)))
    .service(resource(Route::MessageSubmit).route(web::post().to(message_submit)))
    .default_service(web::to(|request: HttpRequest| async move {
        answer(&request, Err(Refusal::new(ProblemCode::NotFound, "there is no such route")))
    }));
}

fn method_not_allowed(route: Route) -> Refusal {
    Refusal::new(ProblemCode::MethodNotAllowed, format!("the route answers {} only", route.method()))
}

async fn is_running(request: HttpRequest) -> HttpResponse {
    let text = HttpResponse::Ok().content_type("text/plain; charset=utf-8").body(IS_RUNNING_TEXT);
    answer(&request, Ok(text))
}

async fn client_auth(request: HttpRequest, payload: web::Payload, state: web::Data<State>) -> HttpResponse {
    let result = log_in(&request, payload, &state).await;
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

/// What every sealed request goes through first: the peer, then the body.
async fn admit(
    request: &HttpRequest,
    payload: web::Payload,
    state: &State,
) -> Result<(Peer, Envelope), Refusal> {
    if state.is_stopping() {
        return Err(shutting_down());
    }
    let peer = Peer::of(request, &state.transport, Instant::now())?;
    let sealed = receive(request, payload, state.limits, &state.budget).await?;
    let freshness = Freshness::at(unix_secs(SystemTime::now()));
    Ok((peer, sealed.open_if_long(&state.envelope_keys, freshness).await?))
}

async fn log_in(
    request: &HttpRequest,
    payload: web::Payload,
    state: &State,
) -> Result<HttpResponse, Refusal> {
    let (peer, mut sealed) = admit(request, payload, state).await?;
    let is_raw = sealed.is_raw;
    let plaintext = sealed.open(&state.envelope_keys, Freshness::at(unix_secs(SystemTime::now())))?;
    let frame =
        Frame::parse(plaintext).and_then(|frame| frame.addressed_to(Route::ClientAuth)).map_err(malformed)?;
    let id = frame.id();
    // Whatever serde_json would say of it could quote the password.
    let credentials: AuthRequest =
        serde_json::from_str(frame.object().map_err(malformed)?).map_err(|_| {
            Refusal::new(
                ProblemCode::MalformedFrame,
                "the frame's body is not {\"username\": …, \"password\": …}",
            )
        })?;
    sealed.wipe();

    let source = peer.source();
    let attempt = state.attempts.begin(source, &credentials.username, Instant::now()).map_err(|wait| {
        Refusal::new(ProblemCode::TooManyAttempts, "too many logins of this user failed").retry_after(wait)
    })?;
    let Some(_place) = state.logins.take(source) else {
        attempt.withdrawn();
        return Err(
            Refusal::new(ProblemCode::TooManyAttempts, "too many logins are waiting").retry_after(COME_AGAIN)
        );
    };
    let version = match state.users.verify(&credentials.username, &credentials.password).await {
        Ok(version) => version,
        Err(error) => {
            attempt.withdrawn();
            return Err(unavailable(error));
        }
    };
    let Some(credential_version) = version else {
        attempt.failed();
        return Err(Refusal::new(ProblemCode::BadCredentials, "the user is unknown or the password wrong"));
    };
    attempt.succeeded();

    let now_secs = unix_secs(SystemTime::now());
    let iv = || random_iv().map_err(|error| internal("no random bytes", error));
    let session = Session {
        user: credentials.username,
        credential_version,
        expires_at_secs: now_secs.saturating_add(state.session_secs),
        certificate: peer.certificate,
    };
    let reply = AuthReply {
        session: session.seal(&state.session_keys, now_secs, iv()?),
        expires_in: state.session_secs,
    };
    let body = Zeroizing::new(serde_json::to_string(&reply).map_err(|error| internal("no reply", error))?);
    let mut plaintext = Zeroizing::new(Vec::new());
    write_frame(&mut plaintext, REPLY_ADDRESS, id, None, &body);
    let token = if is_raw {
        state.envelope_keys.seal(&plaintext, now_secs, iv()?)
    } else {
        state.envelope_keys.seal_base64url(&plaintext, now_secs, iv()?).into_bytes()
    };
    Ok(envelope(token, is_raw))
}

async fn submit(
    request: &HttpRequest,
    payload: web::Payload,
    state: &State,
) -> Result<HttpResponse, Refusal> {
    let (peer, mut sealed) = admit(request, payload, state).await?;
    let received_at = SystemTime::now();
    let plaintext = sealed.open(&state.envelope_keys, Freshness::at(unix_secs(received_at)))?;
    let frame = Frame::parse(plaintext)
        .and_then(|frame| frame.addressed_to(Route::MessageSubmit))
        .map_err(malformed)?;
    let user = sender(frame.session(), peer, state, unix_secs(received_at)).await?;
    let body = frame.object().map_err(malformed)?.into();
    let message = Message { id: frame.id(), user, certificate: peer.certificate, received_at, body };
    put(message, state).await.map(|put| accepted(put == Put::Duplicate))
}

/// The user whose session it is.
async fn sender(
    token: Option<&str>,
    peer: Peer,
    state: &State,
    now_secs: u64,
) -> Result<std::sync::Arc<str>, Refusal> {
    let expired = || Refusal::new(ProblemCode::SessionExpired, "no session, or one that has ended: log in");
    let session =
        token.and_then(|token| Session::open(token, &state.session_keys, now_secs)).ok_or_else(expired)?;
    if session.certificate != peer.certificate {
        return Err(Refusal::new(
            ProblemCode::WrongCertificate,
            "the session was granted to another certificate",
        ));
    }
    let current = state.users.current(&session.user, session.credential_version, Instant::now()).await;
    current.map_err(unavailable)?.ok_or_else(expired)
}

/// Puts a message, and waits a little where there is no room.
async fn put(message: Message, state: &State) -> Result<Put, Refusal> {
    let full = || Refusal::new(ProblemCode::InboxFull, "the inbox is full").retry_after(COME_AGAIN);
    let result = match state.inbox.put(message) {
        // There is no wait, so no timer is needed.
        at_once @ Pending::Ready(_) => at_once.await,
        later => tokio::time::timeout(state.inbox_wait, later).await.map_err(|_| full())?,
    };
    result.map_err(|error| match error {
        PutError::IdReused => {
            Refusal::new(ProblemCode::IdReused, "the id was used before, with another body")
        }
        PutError::Closed => shutting_down(),
        other => full().because(other),
    })
}

fn malformed(error: FrameError) -> Refusal {
    let code = match error {
        FrameError::BodyNotAnObject => ProblemCode::NotAnObject,
        _ => ProblemCode::MalformedFrame,
    };
    Refusal::new(code, error.to_string())
}

fn shutting_down() -> Refusal {
    Refusal::new(ProblemCode::ShuttingDown, "the server is stopping").retry_after(COME_AGAIN)
}

fn unavailable(error: StoreError) -> Refusal {
    log::error!("{error}");
    let detail = "the users' database does not answer at the moment";
    Refusal::new(ProblemCode::Unavailable, detail).because(error).retry_after(COME_AGAIN)
}

fn internal(what: &str, error: impl std::fmt::Display) -> Refusal {
    log::error!("{what}: {error}");
    Refusal::new(ProblemCode::InternalError, "the server failed; its log says how")
}

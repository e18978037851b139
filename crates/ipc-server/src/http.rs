//! Serves HTTP/1.1 on the listening socket, over TLS or plain.
//!
//! This does not use actix-web's own `HttpServer`, for three reasons. It offers HTTP/2 by ALPN as
//! soon as anything in the build enables that feature of actix-http, as awc does. It hands the
//! connection to its callback as `dyn Any`. And it ignores a callback that is set after the socket.
//! Here the stream has its own type, so that a mismatch does not compile.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use actix_http::body::BoxBody;
use actix_http::error::{DispatchError, ParseError};
use actix_http::{ConnectionType, HttpService, KeepAlive, Request, Response};
use actix_service::{
    Service as _, ServiceFactory, ServiceFactoryExt as _, apply_fn_factory, fn_service, map_config,
};
use actix_web::dev::{AppConfig, Extensions, ServiceRequest};
use actix_web::rt::net::TcpStream;
use actix_web::{App, web};
use futures_util::future::{self, Either};
use log::Level;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::server::TlsStream;

use crate::answer::{answer, refuse};
use crate::answer_body::AnswerBody;
use crate::channel::registry::Channels;
use crate::clock::unix_secs;
use crate::connection_slots::{ConnectionSlot, ConnectionSlots, NoSlot};
use crate::handshake::Acceptor;
use crate::peer::{Peer, PeerCertificate};
use crate::rate_limited_log::{Kind, RateLimitedLog, shown};
use crate::request_body;
use crate::request_head;
use crate::routes;
use crate::session::LastSession;
use crate::spans::RequestSpan;
use crate::state::State;
use crate::timeouts::{ConnectionState, TimeoutStream, Timeouts};
use crate::trust::Transport;

/// The name of the only service. It shows up in actix's log only.
const SERVICE: &str = "web-ipc";

/// How long a client may take to close its side after the server has closed the connection. What
/// the client still sends until then is dropped.
pub(crate) const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// How many connections beyond the limits are accepted, so that the code here can choose which
/// connection makes room. They have files of their own, see `open_files`.
const AHEAD_MAX: usize = 64;

/// actix-server takes no more workers than this.
pub(crate) const WORKERS_MAX: usize = 512;

/// The limits of the HTTP side of a server. See the setters of
/// [`ServerBuilder`](crate::ServerBuilder).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) workers: usize,
    pub(crate) connections_max: usize,
    pub(crate) peer_connections_max: usize,
    pub(crate) handshakes_max: usize,
    pub(crate) times: Timeouts,
    pub(crate) handshake_timeout: Duration,
    pub(crate) stop_timeout: Duration,
}

/// A connection's stream.
type Stream<S> = TimeoutStream<S, Joined>;

/// What a connection has while it lasts.
struct Joined {
    _slot: ConnectionSlot,
    /// `None` over plain http.
    certificate: Option<Rc<PeerCertificate>>,
}

/// Serves a listening socket, over TLS if there is a configuration for it.
pub(crate) fn serve(
    listener: TcpListener,
    settings: Settings,
    state: &web::Data<State>,
) -> io::Result<actix_server::Server> {
    let workers = settings.workers;
    let connections_max = settings.connections_max.div_ceil(workers);
    let peer_connections_max = settings.peer_connections_max.div_ceil(workers);
    let handshakes_max = settings.handshakes_max.div_ceil(workers);
    let stop_secs =
        settings.stop_timeout.as_secs() + u64::from(settings.stop_timeout.subsec_nanos() > 0);
    let builder = actix_server::Server::build()
        .workers(workers)
        // Above the limits of this crate, which choose the connection that has to go. At its own
        // limit actix-server accepts no connection.
        .max_concurrent_connections(
            connections_max.saturating_add(handshakes_max).saturating_add(AHEAD_MAX / workers),
        )
        .shutdown_timeout(stop_secs)
        // The application handles signals.
        .disable_signals();
    let state = state.clone();
    let is_tls = matches!(state.trust().transport, Transport::Tls(_));
    let builder = match is_tls {
        true => builder.listen(SERVICE, listener, move || {
            let log = Arc::clone(&state.log);
            let acceptor =
                Acceptor::new(handshakes_max, settings.handshake_timeout, Arc::clone(&log));
            let acceptor = Rc::new(acceptor);
            let slots = ConnectionSlots::new(
                connections_max,
                peer_connections_max,
                Arc::clone(&state.stopping),
            );
            let http = http1(settings, state.clone());
            let state = state.clone();
            fn_service(move |stream: TcpStream| {
                let (acceptor, slots, log) =
                    (Rc::clone(&acceptor), Rc::clone(&slots), Arc::clone(&log));
                let tls = tls_of(&state);
                async move {
                    let peer = prepared(&stream);
                    let tls = tls.ok_or(DispatchError::InternalError)?;
                    let stream = acceptor.accept(stream, tls).await.map_err(DispatchError::Io)?;
                    let certificate = PeerCertificate::of(stream.get_ref().1).map(Rc::new);
                    let of = (peer, certificate);
                    Ok::<(Stream<TlsStream<TcpStream>>, _), _>((
                        joined(stream, &slots, settings.times, of, &log)?,
                        peer,
                    ))
                }
            })
            .and_then(http)
        })?,
        false => builder.listen(SERVICE, listener, move || {
            let (slots, log) = (
                // All programs behind a proxy have one address, so nothing is counted for each
                // peer.
                ConnectionSlots::new(connections_max, usize::MAX, Arc::clone(&state.stopping)),
                Arc::clone(&state.log),
            );
            let http = http1(settings, state.clone());
            fn_service(move |stream: TcpStream| {
                let peer = prepared(&stream);
                future::ready(
                    joined(stream, &slots, settings.times, (peer, None), &log)
                        .map(|stream| (stream, peer)),
                )
            })
            .and_then(http)
        })?,
    };
    Ok(builder.run())
}

/// Prepares a new connection and returns its peer's address. Disables Nagle's algorithm: a response
/// is one or two writes and then a wait, and the algorithm would hold the second write back until
/// the first is acknowledged, which a waiting client delays by 40 ms.
fn prepared(stream: &TcpStream) -> Option<SocketAddr> {
    if let Err(error) = stream.set_nodelay(true) {
        log::debug!("TCP_NODELAY: {error}");
    }
    stream.peer_addr().ok()
}

/// Takes a slot for a connection and puts its time limits around the stream.
fn joined<S>(
    stream: S,
    slots: &Rc<ConnectionSlots>,
    times: Timeouts,
    (address, certificate): (Option<SocketAddr>, Option<Rc<PeerCertificate>>),
    log: &RateLimitedLog,
) -> Result<Stream<S>, DispatchError> {
    let connection = ConnectionState::new(times);
    let peer = certificate.as_ref().map(|certificate| certificate.counted_as());
    let refused = match slots.acquire(&connection, peer) {
        Ok(slot) => {
            let joined = Joined { _slot: slot, certificate };
            return Ok(TimeoutStream::new(stream, connection, joined));
        }
        Err(refused) => refused,
    };
    if log::log_enabled!(Level::Info)
        && log.takes(Level::Info, address, Kind::Event("connections refused"))
    {
        let why = match refused {
            NoSlot::AllBusy => "the connection limit is reached and no connection is idle",
            NoSlot::PeerBusy => {
                "its peer has as many connections as one peer may have, and none of them is idle"
            }
        };
        log::info!("{} - connection refused: {why}", shown(address));
    }
    Err(DispatchError::Io(io::ErrorKind::ConnectionRefused.into()))
}

/// The TLS configuration that holds now.
fn tls_of(state: &State) -> Option<Arc<ServerConfig>> {
    match &state.trust().transport {
        Transport::Tls(tls) => Some(Arc::clone(&tls.config)),
        Transport::Plain => None,
    }
}

/// The routes, served over one kind of stream.
fn http1<S: AsyncRead + AsyncWrite + Unpin + 'static>(
    settings: Settings,
    state: web::Data<State>,
) -> impl ServiceFactory<
    (Stream<S>, Option<SocketAddr>),
    Config = (),
    Response = (),
    Error = DispatchError,
    InitError = (),
> {
    let (shared, expectations) = (Rc::new(state.clone()), state.clone());
    let stopping = Arc::clone(&state.stopping);
    let log = Arc::clone(&state.log);
    let app = App::new()
        .app_data(state)
        .app_data(Channels::new())
        .configure(routes::configure)
        .wrap_fn(move |mut request, routes| {
            let span = RequestSpan::new(request.head(), request.peer_addr());
            let (connection, has_fragment) = begun(&mut request);
            // Checked here once for all routes, including requests that match no route.
            let peer = Peer::of(request.request(), &shared.trust(), unix_secs(SystemTime::now()));
            let answered =
                match peer.and_then(|_| request_head::check(request.head(), has_fragment)) {
                    Ok(()) => Either::Left(routes.call(request)),
                    Err(refusal) => {
                        let response = answer(request.request(), Err(refusal));
                        Either::Right(future::ready(Ok(request.into_response(response))))
                    }
                };
            let shared = Rc::clone(&shared);
            let own = span.clone();
            let handled = async move {
                let mut answered = answered.await;
                let is_kept = connection
                    .as_ref()
                    .is_none_or(|connection| connection.answered(shared.is_stopping()));
                if let (false, Ok(response)) = (is_kept, &mut answered) {
                    response.response_mut().head_mut().set_connection_type(ConnectionType::Close);
                }
                if let Ok(response) = &answered {
                    own.answered(response.status().as_u16());
                }
                let body_end = AnswerEnd(connection);
                answered
                    .map(|response| response.map_body(|_, body| AnswerBody::new(body, body_end)))
            };
            span.run(handled)
        });
    let http = HttpService::build()
        // The stream limits how long a connection is kept.
        .keep_alive(KeepAlive::Os)
        // Applies to the first request only, which then gets a 408. The stream has the same limit
        // for all requests.
        .client_request_timeout(settings.times.head)
        .client_disconnect_timeout(DISCONNECT_TIMEOUT)
        .graceful_shutdown_signal(move || {
            let stopping = Arc::clone(&stopping);
            async move { stopping.begun().await }
        })
        .expect(fn_service(move |request| future::ready(expected(request, &expectations))))
        .on_connect_ext(move |stream: &Stream<S>, extensions: &mut Extensions| {
            extensions.insert(Rc::clone(stream.connection()));
            extensions.insert(LastSession::default());
            if let Some(certificate) = &stream.held().certificate {
                extensions.insert(Rc::clone(certificate));
            }
        })
        .h1(map_config(app, |()| AppConfig::default()));
    apply_fn_factory(http, move |(stream, peer): (Stream<S>, _), http| {
        let connection = Rc::clone(stream.connection());
        let (served, log) = (http.call((stream, peer)), Arc::clone(&log));
        async move {
            let result = served.await;
            match &result {
                // The stream has sent the response in place of actix-http.
                _ if connection.head_is_too_long() => {
                    note_end(&ParseError::TooLarge.into(), peer, &log)
                }
                Err(error) => note_end(error, peer, &log),
                Ok(()) => (),
            }
            result
        }
    })
}

/// Logs that a connection ended because of what the peer sent. actix-http's own log line for this
/// does not name the peer and has no limit.
fn note_end(error: &DispatchError, peer: Option<SocketAddr>, log: &RateLimitedLog) {
    let (level, kind, text) = match error {
        DispatchError::Parse(ParseError::TooLarge) => {
            let text = "the request's head is too long or has too many fields; answered with 431 and closed";
            (Level::Warn, Kind::Answer(431, ""), text)
        }
        DispatchError::Parse(_) => {
            let text = "the request is not HTTP/1.1, or a field of its head is malformed or missing; answered with 400 and closed";
            (Level::Warn, Kind::Answer(400, "(not HTTP)"), text)
        }
        DispatchError::InternalError => (
            Level::Error,
            Kind::Event("failures of the HTTP library"),
            "the HTTP library failed during a request",
        ),
        // The other errors mean that the connection broke or took too long.
        _ => return,
    };
    if log::log_enabled!(level) && log.takes(level, peer, kind) {
        log::log!(level, "{} - {text}", shown(peer));
    }
}

/// Dropped with a response's body. Tells the connection that all of the response was written.
struct AnswerEnd(Option<Rc<ConnectionState>>);

impl Drop for AnswerEnd {
    fn drop(&mut self) {
        if let Some(connection) = &self.0 {
            connection.answer_is_written();
        }
    }
}

/// Tells the connection that a request has begun. Returns the connection, and whether the request's
/// target has a fragment.
fn begun(request: &mut ServiceRequest) -> (Option<Rc<ConnectionState>>, bool) {
    let connection = request.request().conn_data::<Rc<ConnectionState>>().cloned();
    let (length, is_last) = request_body::settle(request);
    let has_fragment = connection.as_ref().is_some_and(|connection| {
        let has_fragment = connection.has_fragment();
        connection.request_begins(length, is_last);
        has_fragment
    });
    (connection, has_fragment)
}

/// Answers a client that asks with `Expect: 100-continue` whether to send its body.
fn expected(request: Request, state: &State) -> Result<Request, Response<BoxBody>> {
    let Some(refusal) = state.limits.of(request.path()).announced_too_long(&request.head().headers)
    else {
        return Ok(request);
    };
    if let Some(connection) = request.conn_data::<Rc<ConnectionState>>() {
        connection.close_soon();
    }
    Err(refuse(&request, &refusal, state).into())
}

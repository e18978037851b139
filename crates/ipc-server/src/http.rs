//! HTTP/1.1 on the listening socket, over TLS or plain.
//!
//! actix-web's own `HttpServer` is not used: it offers HTTP/2 by ALPN as soon as anything in the build turns that
//! feature of actix-http on (awc does), hands the connection to its callback as `dyn Any`, and ignores the callback
//! where it is set after the socket. Here the stream has its type, and a mismatch does not compile.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use actix_http::error::DispatchError;
use actix_http::{HttpService, KeepAlive};
use actix_server::GracefulShutdownSignal;
use actix_service::{ServiceFactory, ServiceFactoryExt as _, map_config};
use actix_tls::accept::TlsError;
use actix_tls::accept::rustls_0_23::{Acceptor, TlsStream};
use actix_web::dev::{AppConfig, Extensions};
use actix_web::rt::net::TcpStream;
use actix_web::{App, web};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::peer::note_certificate;
use crate::routes;
use crate::state::State;

/// The name of the one service, seen in actix's log only.
const SERVICE: &str = "web-ipc";

/// How long a client may take to close its side of a connection that the server has closed.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// actix-server takes no more workers than this.
const WORKERS_MAX: usize = 512;

/// What the HTTP side of a server may use, see the setters of [`ServerBuilder`](crate::ServerBuilder).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) workers: usize,
    pub(crate) connections_max: usize,
    pub(crate) idle_timeout: Duration,
    pub(crate) head_timeout: Duration,
    pub(crate) handshake_timeout: Duration,
    pub(crate) stop_timeout: Duration,
}

/// Serves a socket that listens, over TLS where there is a configuration for it.
pub(crate) fn serve(
    listener: TcpListener,
    tls: Option<ServerConfig>,
    settings: Settings,
    state: &web::Data<State>,
) -> io::Result<actix_server::Server> {
    let workers = settings.workers.clamp(1, WORKERS_MAX);
    let builder = actix_server::Server::build()
        .workers(workers)
        .max_concurrent_connections(settings.connections_max.div_ceil(workers))
        .shutdown_timeout(settings.stop_timeout.as_secs())
        // Signals are the application's.
        .disable_signals();
    let (stopping, state) = (builder.graceful_shutdown_signal(), state.clone());
    let builder = match tls {
        Some(mut config) => {
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
            builder.listen(SERVICE, listener, move || {
                let mut acceptor = Acceptor::new(config.clone());
                acceptor.set_handshake_timeout(settings.handshake_timeout);
                let http = http1(note_certificate, settings, stopping.clone(), state.clone());
                acceptor
                    .map_init_err(|()| ())
                    .map_err(TlsError::into_service_error)
                    .map(|stream: TlsStream<TcpStream>| {
                        let peer = prepared(stream.get_ref().0);
                        (stream, peer)
                    })
                    .and_then(http.map_err(TlsError::Service))
            })?
        }
        None => builder.listen(SERVICE, listener, move || {
            let http =
                http1(|_: &TcpStream, _: &mut Extensions| (), settings, stopping.clone(), state.clone());
            actix_service::fn_service(|stream: TcpStream| async move {
                let peer = prepared(&stream);
                Ok((stream, peer))
            })
            .and_then(http)
        })?,
    };
    Ok(builder.run())
}

/// An answer is one or two writes and then a wait: Nagle's algorithm would hold the second back until the first is
/// acknowledged, which a client that waits for it delays by 40 ms.
fn prepared(stream: &TcpStream) -> Option<SocketAddr> {
    if let Err(error) = stream.set_nodelay(true) {
        log::debug!("TCP_NODELAY: {error}");
    }
    stream.peer_addr().ok()
}

/// The routes over one kind of stream.
fn http1<T: AsyncRead + AsyncWrite + Unpin + 'static>(
    on_connect: impl Fn(&T, &mut Extensions) + 'static,
    settings: Settings,
    stopping: GracefulShutdownSignal,
    state: web::Data<State>,
) -> impl ServiceFactory<(T, Option<SocketAddr>), Config = (), Response = (), Error = DispatchError, InitError = ()>
{
    let app = App::new().app_data(state).configure(routes::configure);
    HttpService::build()
        .keep_alive(KeepAlive::Timeout(settings.idle_timeout))
        .client_request_timeout(settings.head_timeout)
        .client_disconnect_timeout(DISCONNECT_TIMEOUT)
        .graceful_shutdown_signal(move || {
            let stopping = stopping.clone();
            async move { stopping.notified().await }
        })
        .on_connect_ext(on_connect)
        .h1(map_config(app, |()| AppConfig::default()))
}

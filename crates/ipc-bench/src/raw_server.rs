//! The bare server: actix-web over mutual TLS, with a handler that reads the body and drops it.
//!
//! web-ipc's server is compared with it: the same libraries, and nothing else. Only HTTP/1.1, kept
//! connections, TCP_NODELAY, no timers of its own.

use std::net::TcpListener;
use std::sync::Arc;

use actix_http::error::DispatchError;
use actix_http::{HttpService, KeepAlive};
use actix_service::{IntoServiceFactory as _, ServiceFactoryExt as _, fn_service, map_config};
use actix_web::dev::AppConfig;
use actix_web::rt::net::TcpStream;
use actix_web::{App, HttpResponse, web};
use futures_util::StreamExt as _;
use ipc_home::Home;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio_rustls::TlsAcceptor;

use crate::failure::Failure;
use crate::options::Options;
use crate::server;
use crate::tls::Material;

/// The path of the posts, as long as web-ipc's own.
pub(crate) const PATH: &str = "/message/submit";

/// Serves until it is told to stop.
pub(crate) fn run(options: &Options) -> Result<(), Failure> {
    let home = Home::open(options.required::<String>("home")?)?;
    let workers = options.get("workers")?.unwrap_or(1);
    options.refuse_unused()?;
    let acceptor = TlsAcceptor::from(Material::read(&home, "localhost")?.server_config()?);
    actix_rt::System::new().block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let acceptor = Arc::new(acceptor);
        let running = actix_server::Server::build()
            .workers(workers)
            .disable_signals()
            .shutdown_timeout(1)
            .listen("raw", listener, move || {
                let acceptor = Arc::clone(&acceptor);
                let app = App::new().route(PATH, web::post().to(read_and_drop));
                let http = HttpService::build()
                    .keep_alive(KeepAlive::Os)
                    .h1(map_config(app, |()| AppConfig::default()));
                fn_service(move |stream: TcpStream| {
                    let acceptor = Arc::clone(&acceptor);
                    async move {
                        let peer = stream.peer_addr().ok();
                        stream.set_nodelay(true).map_err(DispatchError::Io)?;
                        let stream = acceptor.accept(stream).await.map_err(DispatchError::Io)?;
                        Ok::<_, DispatchError>((stream, peer))
                    }
                })
                .into_factory()
                .and_then(http)
            })?
            .run();
        let (handle, ended) = (running.handle(), actix_rt::spawn(running));
        println!("listening on {address}");
        terminate.recv().await;
        handle.stop(true).await;
        ended.await??;
        server::report(&json!(null))
    })
}

async fn read_and_drop(mut body: web::Payload) -> HttpResponse {
    while let Some(chunk) = body.next().await {
        if chunk.is_err() {
            return HttpResponse::BadRequest().finish();
        }
    }
    HttpResponse::Ok().finish()
}

//! Makes connections: TCP without delay, then TLS. awc comes here for a connection; the worker, when it wants to
//! know why a server hung up.
//!
//! TLS is made here and not by awc, since awc takes the name to verify from the URL: a bracketed IPv6 address is none
//! that rustls takes, and the socket would stay without TCP_NODELAY.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_rt::net::TcpStream;
use actix_service::Service;
use actix_tls::connect::{ConnectError, ConnectInfo, Connection};
use awc::http::Uri;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::address::Address;
use crate::error::{SendError, Speaks};
use crate::stream::{ALERT_BEGINS, Stream};
use crate::tls;

/// The longest a TCP connection to one address may take, and the longest a TLS handshake may take.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// How long a connection made only to hear an alert waits for one.
const ALERT_WAIT: Duration = Duration::from_secs(1);

/// What is known of one attempt to send a request, told by those who do the work.
#[derive(Default)]
pub(crate) struct Attempt {
    /// A connection was made for it, rather than an older one used.
    pub(crate) connected: Cell<bool>,
    /// The request began to be written: from here on it may arrive.
    pub(crate) writing: Cell<bool>,
}

tokio::task_local! {
    /// The attempt that the running task makes. awc calls the connector from within the request's own future, but
    /// hands it only the URL.
    pub(crate) static ATTEMPT: Rc<Attempt>;
}

/// What it takes to make a connection.
#[derive(Clone)]
pub(crate) struct Dialer {
    pub(crate) address: Address,
    /// `None` for plain HTTP.
    pub(crate) tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    /// The name of the certificate pair that is presented, for errors.
    pub(crate) identity: String,
    /// Plain HTTP must not leave this host, whatever a name resolves to.
    pub(crate) loopback_only: bool,
}

impl Dialer {
    async fn dial(&self) -> io::Result<Stream> {
        match &self.tls {
            None => self.dial_tcp().await.map(Stream::plain),
            Some(tls) => self.dial_tls(tls).await.map(Stream::tls),
        }
    }

    async fn dial_tls(
        &self,
        (config, name): &(Arc<ClientConfig>, ServerName<'static>),
    ) -> io::Result<TlsStream<TcpStream>> {
        let tcp = self.dial_tcp().await?;
        let handshake = TlsConnector::from(config.clone()).connect(name.clone(), tcp);
        timeout(CONNECT_MAX, handshake).await.map_err(|_| timed_out("the TLS handshake"))?
    }

    async fn dial_tcp(&self) -> io::Result<TcpStream> {
        let mut error = None;
        for address in self.address.resolve().await? {
            match self.dial_one(address).await {
                Ok(tcp) => return Ok(tcp),
                Err(reason) => error = Some(reason),
            }
        }
        Err(error.unwrap_or_else(|| io::ErrorKind::NotFound.into()))
    }

    async fn dial_one(&self, address: SocketAddr) -> io::Result<TcpStream> {
        if self.loopback_only && !address.ip().is_loopback() {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!("the name leads to {address}, where plain http may not go"),
            ));
        }
        let tcp = timeout(CONNECT_MAX, TcpStream::connect(address))
            .await
            .map_err(|_| timed_out("the TCP connection"))??;
        // A request is one or a few writes and then a wait: Nagle's algorithm would hold the last one back.
        tcp.set_nodelay(true)?;
        Ok(tcp)
    }

    /// Connects and only listens, for at most a second, to hear whether the server refuses this client's certificate,
    /// or, over plain HTTP, whether it speaks TLS.
    ///
    /// Under TLS 1.3 that alert comes after the handshake, and where the server closes with our request unread, the
    /// reset may wipe it out before it is read. On a connection without a request, or with one of a few bytes, it stays.
    pub(crate) async fn hear_refusal(&self) -> Option<SendError> {
        let Some(tls) = &self.tls else {
            let listen = async {
                let mut stream = self.dial_tcp().await?;
                stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
                stream.read_u8().await
            };
            let speaks_tls = matches!(timeout(ALERT_WAIT, listen).await, Ok(Ok(ALERT_BEGINS)));
            let address = self.address.to_string();
            return speaks_tls.then_some(SendError::WrongProtocol { address, speaks: Speaks::Tls });
        };
        let listen = async {
            let mut stream = self.dial_tls(tls).await?;
            stream.read_u8().await.map(|_| ())
        };
        let error = timeout(ALERT_WAIT, listen).await.ok()?.err()?;
        tls::tls_error(&error).and_then(|error| tls::certificate_refusal(error, &self.identity))
    }
}

fn timed_out(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("{what} took more than {} s", CONNECT_MAX.as_secs()))
}

impl Service<ConnectInfo<Uri>> for Dialer {
    type Response = Connection<Uri, Stream>;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, ConnectError>>>>;

    actix_service::always_ready!();

    fn call(&self, info: ConnectInfo<Uri>) -> Self::Future {
        let dialer = self.clone();
        Box::pin(async move {
            let stream = dialer.dial().await.map_err(ConnectError::Io)?;
            // Outside of a request there is nobody to tell.
            let _ = ATTEMPT.try_with(|attempt| attempt.connected.set(true));
            Ok(Connection::new(info.request().clone(), stream))
        })
    }
}

//! Makes connections: TCP without delay, then TLS. awc comes here for a connection; the worker,
//! when it wants to know why a server hung up.
//!
//! TLS is made here and not by awc, since awc takes the name to verify from the URL: a bracketed
//! IPv6 address is none that rustls takes, and the socket would stay without TCP_NODELAY.

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

use crate::error::{SendError, Speaks};
use crate::transport::address::Address;
use crate::transport::attempt::ATTEMPT;
use crate::transport::stream::{ALERT_BEGINS, Stream};
use crate::transport::tls;

/// The longest a TCP connection to one address may take, and the longest a TLS handshake may take.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// How long a connection made only to hear an alert waits for one.
const ALERT_WAIT: Duration = Duration::from_secs(1);

/// What it takes to make a connection.
#[derive(Clone)]
pub(crate) struct Connector {
    /// The servers of one name, at least one. They stand in for each other.
    pub(crate) addresses: Vec<Address>,
    /// `None` for plain HTTP.
    pub(crate) tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    /// The name of the certificate pair that is presented, for errors.
    pub(crate) identity: String,
    /// Plain HTTP must not leave this host, whatever a name resolves to.
    pub(crate) loopback_only: bool,
}

impl Connector {
    /// Connects to the address in use; where that fails, to the next, until one answers. The error
    /// is that of the last.
    async fn dial(&self, in_use: &Cell<usize>) -> io::Result<Stream> {
        let mut tried = 0;
        loop {
            let result = self.dial_address(self.address(in_use)).await;
            tried += 1;
            match result {
                // A certificate that is not good is a reason to stop, and not to look for another
                // server.
                Err(error) if tried < self.addresses.len() && tls::tls_error(&error).is_none() => {
                    log::info!(
                        "{}: {}; trying the next address",
                        self.address(in_use),
                        ipc_base::chain(&error)
                    );
                    self.go_to_next(in_use);
                }
                result => return result,
            }
        }
    }

    /// The address in use.
    pub(crate) fn address(&self, in_use: &Cell<usize>) -> &Address {
        &self.addresses[in_use.get() % self.addresses.len()]
    }

    /// The next connection goes to the next address.
    pub(crate) fn go_to_next(&self, in_use: &Cell<usize>) {
        in_use.set((in_use.get() + 1) % self.addresses.len());
    }

    async fn dial_address(&self, address: &Address) -> io::Result<Stream> {
        match &self.tls {
            None => self.dial_tcp(address).await.map(Stream::plain),
            Some(tls) => self.dial_tls(address, tls).await.map(Stream::tls),
        }
    }

    async fn dial_tls(
        &self,
        address: &Address,
        (config, name): &(Arc<ClientConfig>, ServerName<'static>),
    ) -> io::Result<TlsStream<TcpStream>> {
        let tcp = self.dial_tcp(address).await?;
        let handshake = TlsConnector::from(config.clone()).connect(name.clone(), tcp);
        timeout(CONNECT_MAX, handshake).await.map_err(|_| timed_out("the TLS handshake"))?
    }

    async fn dial_tcp(&self, address: &Address) -> io::Result<TcpStream> {
        let mut error = None;
        for address in address.resolve().await? {
            match self.dial_one(address).await {
                Ok(tcp) => return Ok(tcp),
                Err(reason) => error = Some(reason),
            }
        }
        Err(error.unwrap_or_else(|| io::ErrorKind::NotFound.into()))
    }

    async fn dial_one(&self, address: SocketAddr) -> io::Result<TcpStream> {
        if self.loopback_only && !ipc_protocol::is_loopback(address.ip()) {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!("the name leads to {address}, where plain http may not go"),
            ));
        }
        let tcp = timeout(CONNECT_MAX, TcpStream::connect(address))
            .await
            .map_err(|_| timed_out("the TCP connection"))??;
        // A request is one or a few writes and then a wait: Nagle's algorithm would hold the last
        // one back.
        tcp.set_nodelay(true)?;
        Ok(tcp)
    }

    /// Connects and only listens, for at most a second, to hear whether the server refuses this
    /// client's certificate, or, over plain HTTP, whether it speaks TLS.
    ///
    /// Under TLS 1.3 that alert comes after the handshake, and where the server closes with our
    /// request unread, the reset may wipe it out before it is read. On a connection without a
    /// request, or with one of a few bytes, it stays.
    pub(crate) async fn probe_alert(&self, address: &Address) -> Option<SendError> {
        let Some(tls) = &self.tls else {
            let listen = async {
                let mut stream = self.dial_tcp(address).await?;
                stream
                    .write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                    .await?;
                stream.read_u8().await
            };
            let speaks_tls = matches!(timeout(ALERT_WAIT, listen).await, Ok(Ok(ALERT_BEGINS)));
            let address = address.to_string();
            return speaks_tls.then_some(SendError::WrongProtocol { address, speaks: Speaks::Tls });
        };
        let listen = async {
            let mut stream = self.dial_tls(address, tls).await?;
            stream.read_u8().await.map(|_| ())
        };
        let error = timeout(ALERT_WAIT, listen).await.ok()?.err()?;
        tls::tls_error(&error).and_then(|error| tls::certificate_refusal(error, &self.identity))
    }
}

fn timed_out(what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::TimedOut,
        format!("{what} took more than {} s", CONNECT_MAX.as_secs()),
    )
}

/// A connector on the thread that uses it, with the address in use.
#[derive(Clone)]
pub(crate) struct LocalConnector {
    connector: Rc<Connector>,
    in_use: Rc<Cell<usize>>,
}

impl LocalConnector {
    /// With the address in use of the one before, if there was one.
    pub(crate) fn new(connector: Connector, before: Option<&LocalConnector>) -> Self {
        let in_use = before.map(|before| Rc::clone(&before.in_use)).unwrap_or_default();
        LocalConnector { connector: Rc::new(connector), in_use }
    }

    /// The address in use.
    pub(crate) fn address(&self) -> &Address {
        self.connector.address(&self.in_use)
    }

    /// All addresses, for an error about none that could be connected to.
    pub(crate) fn all_addresses(&self) -> String {
        let addresses: Vec<_> = self.connector.addresses.iter().map(ToString::to_string).collect();
        addresses.join(", ")
    }

    /// The next connection goes to the next address, where there are several.
    pub(crate) fn go_to_next(&self) {
        self.connector.go_to_next(&self.in_use);
    }

    /// The port of the first address, which is part of the URL.
    pub(crate) fn port(&self) -> u16 {
        self.connector.addresses[0].port()
    }

    /// The name of the certificate pair that is presented.
    pub(crate) fn identity(&self) -> &str {
        &self.connector.identity
    }

    /// See [`Connector::probe_alert`].
    pub(crate) async fn probe_alert(&self) -> Option<SendError> {
        self.connector.probe_alert(self.address()).await
    }
}

impl Service<ConnectInfo<Uri>> for LocalConnector {
    type Response = Connection<Uri, Stream>;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, ConnectError>>>>;

    actix_service::always_ready!();

    fn call(&self, info: ConnectInfo<Uri>) -> Self::Future {
        let LocalConnector { connector, in_use } = self.clone();
        Box::pin(async move {
            let stream = connector.dial(&in_use).await.map_err(ConnectError::Io)?;
            // Outside of a request there is nobody to tell.
            let _ = ATTEMPT.try_with(|attempt| attempt.connected.set(true));
            Ok(Connection::new(info.request().clone(), stream))
        })
    }
}

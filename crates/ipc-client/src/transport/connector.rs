//! Makes connections: TCP without delay, then TLS. awc uses it for its connections, and `exchange`
//! to find out why a server hung up.
//!
//! The connector makes TLS itself because awc takes the name to verify from the URL, with two
//! faults: rustls does not accept the bracketed form of an IPv6 address, and the socket would not
//! have TCP_NODELAY.

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

/// The longest time for a TCP connection to one address, and for a TLS handshake.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// How long [`Connector::probe_alert`] waits for an alert.
const ALERT_WAIT: Duration = Duration::from_secs(1);

/// How to connect to a server.
#[derive(Clone)]
pub(crate) struct Connector {
    /// The servers of one name, at least one. They replace each other.
    pub(crate) addresses: Vec<Address>,
    /// `None` for plain HTTP.
    pub(crate) tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    /// The name of the certificate pair that is presented. Errors show it.
    pub(crate) identity: String,
    /// Whether plain HTTP must stay on this host, whatever a name resolves to.
    pub(crate) loopback_only: bool,
}

impl Connector {
    /// Connects to the current address, and if that fails to the next, until one accepts. Returns
    /// the error of the last one.
    async fn dial(&self, in_use: &Cell<usize>) -> io::Result<Stream> {
        let mut tried = 0;
        loop {
            let result = self.dial_address(self.address(in_use)).await;
            tried += 1;
            match result {
                // A certificate that is not trusted is no reason to try another server.
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

    /// The current address.
    pub(crate) fn address(&self, in_use: &Cell<usize>) -> &Address {
        &self.addresses[in_use.get() % self.addresses.len()]
    }

    /// Makes the next address the current one.
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
                format!("the name resolves to {address}, where plain http is not allowed"),
            ));
        }
        let tcp = timeout(CONNECT_MAX, TcpStream::connect(address))
            .await
            .map_err(|_| timed_out("the TCP connection"))??;
        // A request is one or a few writes and then a wait. Nagle's algorithm would delay the last
        // write.
        tcp.set_nodelay(true)?;
        Ok(tcp)
    }

    /// Makes a connection and only listens, for at most a second, to find out whether the server
    /// refuses this client's certificate. Over plain HTTP it finds out whether the server speaks
    /// TLS.
    ///
    /// Under TLS 1.3 the alert comes after the handshake. If the server closes while the request is
    /// unread, the connection is reset, which may discard the alert before the client reads it. On
    /// a connection without a request, or with one of a few bytes, the alert stays.
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

/// A connector on the thread that uses it, with the current address.
#[derive(Clone)]
pub(crate) struct LocalConnector {
    connector: Rc<Connector>,
    in_use: Rc<Cell<usize>>,
    /// How often an address was left. A connection from before is not used again.
    left: Rc<Cell<u64>>,
}

impl LocalConnector {
    /// With the address in use of the one before, if there was one.
    pub(crate) fn new(connector: Connector, before: Option<&LocalConnector>) -> Self {
        let (in_use, left) = before
            .map(|before| (Rc::clone(&before.in_use), Rc::clone(&before.left)))
            .unwrap_or_default();
        LocalConnector { connector: Rc::new(connector), in_use, left }
    }

    /// The current address.
    pub(crate) fn address(&self) -> &Address {
        self.connector.address(&self.in_use)
    }

    /// All addresses, for the error if none accepts a connection.
    pub(crate) fn all_addresses(&self) -> String {
        let addresses: Vec<_> = self.connector.addresses.iter().map(ToString::to_string).collect();
        addresses.join(", ")
    }

    /// How many addresses there are.
    pub(crate) fn address_count(&self) -> u32 {
        u32::try_from(self.connector.addresses.len()).unwrap_or(u32::MAX)
    }

    /// Whether there is another address than the current one.
    pub(crate) fn has_others(&self) -> bool {
        self.connector.addresses.len() > 1
    }

    /// Makes the next address the current one, if there are several. Idle connections to the one
    /// that is left are not used again.
    pub(crate) fn go_to_next(&self) {
        if self.has_others() {
            self.connector.go_to_next(&self.in_use);
            self.left.set(self.left.get() + 1);
        }
    }

    /// How often an address was left.
    pub(crate) fn times_left(&self) -> u64 {
        self.left.get()
    }

    /// The port of the first address. It is part of the URL.
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
        let LocalConnector { connector, in_use, .. } = self.clone();
        Box::pin(async move {
            let stream = connector.dial(&in_use).await.map_err(ConnectError::Io)?;
            // Outside a request there is no attempt to update.
            let _ = ATTEMPT.try_with(|attempt| attempt.connected.set(true));
            Ok(Connection::new(info.request().clone(), stream))
        })
    }
}

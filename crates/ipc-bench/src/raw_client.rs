//! The bare client: awc over mutual TLS, with kept connections and TCP_NODELAY, without checks of
//! its own.
//!
//! web-ipc's client is compared with it, and the flood posts with it. The connector does TLS
//! itself, as in web-ipc's client, since awc's TLS would leave the socket without TCP_NODELAY.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_rt::net::{ActixStream, Ready, TcpStream};
use actix_service::Service;
use actix_tls::connect::{ConnectError, ConnectInfo, Connection};
use awc::body::{BodySize, MessageBody};
use awc::http::Uri;
use bytes::Bytes;
use rustls::{ClientConfig, HandshakeKind};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::failure::Failure;

/// Longer than anything takes here.
const FOREVER: Duration = Duration::from_secs(3600);

/// How much of a body awc gets at a time.
const CHUNK_BYTES: usize = 64 * 1024;

/// Posts to one server. Must be made and used on one thread, within an actix runtime.
pub(crate) struct RawClient {
    client: awc::Client,
    uri: Uri,
    resumed: Rc<Cell<u64>>,
}

impl RawClient {
    /// A client without a connection yet, which will have at most so many.
    pub(crate) fn new(
        address: SocketAddr,
        path: &str,
        config: Arc<ClientConfig>,
        connections_max: usize,
    ) -> Result<Self, Failure> {
        let resumed = Rc::new(Cell::new(0));
        let dialer = Dialer {
            address,
            config,
            name: ServerName::try_from("localhost")?,
            resumed: Rc::clone(&resumed),
        };
        let connector = awc::Connector::new()
            .connector(dialer)
            .timeout(FOREVER)
            .conn_keep_alive(FOREVER)
            .conn_lifetime(FOREVER)
            .limit(connections_max);
        let client = awc::Client::builder()
            .connector(connector)
            .disable_redirects()
            .disable_timeout()
            .finish();
        let uri = format!("http://localhost:{}{path}", address.port()).parse()?;
        Ok(RawClient { client, uri, resumed })
    }

    /// Posts a body, reads the response to its end, and returns its status.
    pub(crate) async fn post(&self, body: Bytes) -> Result<u16, Failure> {
        let request = self.client.post(self.uri.clone());
        let request =
            request.insert_header((awc::http::header::CONTENT_TYPE, "application/octet-stream"));
        let mut response =
            request.send_body(Chunks { rest: body }).await.map_err(|error| error.to_string())?;
        response.body().await.map_err(|error| error.to_string())?;
        Ok(response.status().as_u16())
    }

    /// How many handshakes resumed an earlier session.
    pub(crate) fn resumed(&self) -> u64 {
        self.resumed.get()
    }
}

/// A body in chunks. awc copies each chunk into a buffer that it keeps; a chunk of a megabyte would
/// make the buffer grow each time.
struct Chunks {
    rest: Bytes,
}

impl MessageBody for Chunks {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.rest.len() as u64)
    }

    fn poll_next(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Infallible>>> {
        let this = self.get_mut();
        let chunk = this.rest.split_to(this.rest.len().min(CHUNK_BYTES));
        Poll::Ready((!chunk.is_empty()).then_some(Ok(chunk)))
    }
}

/// Makes connections.
#[derive(Clone)]
struct Dialer {
    address: SocketAddr,
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    resumed: Rc<Cell<u64>>,
}

impl Dialer {
    async fn dial(self) -> io::Result<Stream> {
        let tcp = TcpStream::connect(self.address).await?;
        tcp.set_nodelay(true)?;
        let tls = TlsConnector::from(self.config).connect(self.name, tcp).await?;
        if tls.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed) {
            self.resumed.set(self.resumed.get() + 1);
        }
        Ok(Stream(tls))
    }
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
            Ok(Connection::new(info.request().clone(), stream))
        })
    }
}

/// A connection, of a type that awc takes.
#[derive(Debug)]
struct Stream(TlsStream<TcpStream>);

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        chunks: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, chunks)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }
}

impl ActixStream for Stream {
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<Ready>> {
        ActixStream::poll_read_ready(self.0.get_ref().0, cx)
    }

    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<Ready>> {
        ActixStream::poll_write_ready(self.0.get_ref().0, cx)
    }
}

//! One connection, plain or TLS, in the form that awc uses.
//!
//! awc writes a whole request before it reads the response, and gives up when a write fails. A
//! server that refuses early, with an HTTP status or a TLS alert, then closes. So the write fails
//! while the reason is unread in the receive buffer. The stream therefore keeps the error of a
//! write, and reports it only if reading gives nothing better.
//!
//! awc also takes the first head for the final response, so the stream removes interim ones
//! (`interim`).

use std::fmt;
use std::io::{self, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use actix_rt::net::{ActixStream, Ready, TcpStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::client::TlsStream;

use crate::transport::attempt::ATTEMPT;
use crate::transport::interim::{Heads, Step};
use crate::transport::tls::SpeaksTls;

/// The first byte of a TLS alert (RFC 8446, section 5.1). No HTTP response begins with it.
pub(crate) const ALERT_BEGINS: u8 = 0x15;

pub(crate) struct Stream {
    transport: Transport,
    /// Whether a write has failed. Later writes do nothing.
    write_failed: bool,
    /// Why a write failed, until that is reported.
    write_error: Option<io::Error>,
    heads: Heads,
}

enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    pub(crate) fn plain(tcp: TcpStream) -> Self {
        Stream::of(Transport::Plain(tcp))
    }

    pub(crate) fn tls(tls: TlsStream<TcpStream>) -> Self {
        Stream::of(Transport::Tls(Box::new(tls)))
    }

    fn of(transport: Transport) -> Self {
        Stream { transport, write_failed: false, write_error: None, heads: Heads::default() }
    }

    fn tcp(&self) -> &TcpStream {
        match &self.transport {
            Transport::Plain(tcp) => tcp,
            Transport::Tls(tls) => tls.get_ref().0,
        }
    }

    /// Keeps the error of a write and reports success.
    fn swallow<T>(&mut self, result: io::Result<T>, swallowed: T) -> io::Result<T> {
        result.or_else(|error| {
            self.write_failed = true;
            self.write_error = Some(error);
            Ok(swallowed)
        })
    }
}

impl Stream {
    /// Reads what has arrived, including interim responses.
    fn poll_read_any(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let filled_before = buffer.filled().len();
        let result = match &mut self.transport {
            Transport::Plain(tcp) => Pin::new(tcp).poll_read(cx, buffer),
            Transport::Tls(tls) => Pin::new(tls.as_mut()).poll_read(cx, buffer),
        };
        let Some(write_error) = &self.write_error else { return result };
        let brought_nothing = match &result {
            // If the socket itself is broken, reading will soon fail too.
            Poll::Pending => !is_broken_socket(write_error),
            Poll::Ready(Ok(())) => buffer.filled().len() == filled_before,
            // A TLS error says more than the failed write. An I/O error says as much.
            Poll::Ready(Err(_)) => false,
        };
        match self.write_error.take_if(|_| brought_nothing) {
            Some(error) => Poll::Ready(Err(error)),
            None => result,
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let filled_before = buffer.filled().len();
        loop {
            let held = this.heads.hand_on(buffer.remaining());
            if !held.is_empty() {
                buffer.put_slice(held);
                return Poll::Ready(Ok(()));
            }
            let is_at_beginning = this.heads.is_at_beginning();
            ready!(this.poll_read_any(cx, buffer))?;
            let read = &buffer.filled()[filled_before..];
            match read.first() {
                None if is_at_beginning || buffer.remaining() == 0 => return Poll::Ready(Ok(())),
                None => {
                    this.heads.end();
                    let held = this.heads.hand_on(buffer.remaining());
                    buffer.put_slice(held);
                    return Poll::Ready(Ok(()));
                }
                Some(&ALERT_BEGINS)
                    if is_at_beginning && matches!(this.transport, Transport::Plain(_)) =>
                {
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, SpeaksTls)));
                }
                Some(_) => match this.heads.take(read)? {
                    Step::Through => return Poll::Ready(Ok(())),
                    // The bytes are held, and none is handed on yet.
                    Step::Held => buffer.set_filled(filled_before),
                },
            }
        }
    }
}

fn is_broken_socket(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset)
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.write_failed {
            return Poll::Ready(Ok(bytes.len()));
        }
        this.heads.begin();
        // A stream exists only after the handshake, so these bytes are the request's.
        let _ = ATTEMPT.try_with(|attempt| attempt.writing.set(true));
        let result = match &mut this.transport {
            Transport::Plain(tcp) => Pin::new(tcp).poll_write(cx, bytes),
            Transport::Tls(tls) => Pin::new(tls.as_mut()).poll_write(cx, bytes),
        };
        result.map(|result| this.swallow(result, bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.write_failed {
            return Poll::Ready(Ok(()));
        }
        let result = match &mut this.transport {
            Transport::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Transport::Tls(tls) => Pin::new(tls.as_mut()).poll_flush(cx),
        };
        result.map(|result| this.swallow(result, ()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().transport {
            Transport::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Transport::Tls(tls) => Pin::new(tls.as_mut()).poll_shutdown(cx),
        }
    }
}

impl ActixStream for Stream {
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<Ready>> {
        ActixStream::poll_read_ready(self.tcp(), cx)
    }

    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<Ready>> {
        ActixStream::poll_write_ready(self.tcp(), cx)
    }
}

impl Drop for Stream {
    /// Sends the TLS closure alert (RFC 8446, section 6.1), so that the server does not take the
    /// end for a truncation attack. awc closes a connection without it. The alert is sent only if
    /// the socket takes it at once, since a drop must not wait.
    fn drop(&mut self) {
        if let Transport::Tls(tls) = &mut self.transport
            && !self.write_failed
        {
            let (tcp, session) = tls.get_mut();
            session.send_close_notify();
            // Nothing depends on whether the alert was sent.
            let _ = session.write_tls(&mut AtOnce(tcp));
        }
    }
}

/// Writes as much as the socket takes without waiting.
struct AtOnce<'a>(&'a TcpStream);

impl Write for AtOnce<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("peer", &self.tcp().peer_addr().ok()).finish_non_exhaustive()
    }
}

//! One HTTP request and its response, or the opening of a WebSocket, over awc. `exchange` and
//! `channel` decide what to send and what a response means.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use actix_codec::Framed;
use actix_http::error::ParseError;
use awc::BoxedSocket;
use awc::body::MessageBody;
use awc::error::{ConnectError, PayloadError, SendRequestError, WsClientError};
use awc::http::header::{
    CONTENT_LENGTH, CONTENT_TYPE, DATE, HttpDate, RETRY_AFTER, SEC_WEBSOCKET_EXTENSIONS,
    SEC_WEBSOCKET_PROTOCOL,
};
use awc::http::{Method, Uri};
use awc::ws::Codec;
use bytes::Bytes;
use ipc_protocol::{
    CHANNEL_LIMITS_HEADER, CHANNEL_SUBPROTOCOL, ChannelLimits, DEADLINE_SECS_MAX, DUPLICATE_HEADER,
    RAW_ENVELOPE_TYPE, Route,
};

use crate::error::{SendError, Speaks};
use crate::transport::attempt::{ATTEMPT, Attempt};
use crate::transport::connector::{Connector, LocalConnector};
use crate::transport::tls;

/// A connection is closed after this time. The next handshake then uses new certificates, of either
/// end.
const LIFETIME: Duration = Duration::from_secs(3600);

/// The header with which a client says how long the server should wait for a reply.
const PREFER: &str = "prefer";

/// Sends requests to one server.
pub(crate) struct Http {
    client: awc::Client,
    connector: LocalConnector,
    name: String,
    authority: String,
}

/// A request.
pub(crate) struct Request<B> {
    pub(crate) route: Route,
    pub(crate) body: B,
    /// The media type of the body, where it is told.
    pub(crate) content_type: Option<&'static str>,
    /// How long the server should wait for a reply.
    pub(crate) reply_wait_secs: Option<u64>,
    /// The longest response body to read.
    pub(crate) response_bytes_max: usize,
}

/// An open WebSocket, and the server's limits for a channel.
pub(crate) type WebSocket = (Framed<BoxedSocket, Codec>, ChannelLimits);

/// Why no WebSocket was opened.
pub(crate) enum OpenError {
    /// The server, or a proxy in front of it, answered with another status than 101. Says what it
    /// answered.
    NotOpened(String),
    /// There was no response.
    NoAnswer(SendError),
}

/// A response of any status, read to its end.
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) retry_after: Option<Duration>,
    pub(crate) duplicate: bool,
    /// The server's clock, in seconds since the Unix epoch. Only in a refusal, and in the answer of
    /// [`Route::IsRunning`].
    pub(crate) server_time_secs: Option<u64>,
    /// Whether the body is a raw envelope. Otherwise it is text.
    pub(crate) raw: bool,
    /// Whether the body was longer than the limit. It is then left out.
    pub(crate) too_long: bool,
    pub(crate) body: Bytes,
}

impl Http {
    /// Must be called on the thread, and within the runtime, that will send. An idle connection is
    /// kept for `keep_alive`. `before` is what sent
    /// until now, if anything did: the address in use stays.
    pub(crate) fn new(
        name: &str,
        connector: Connector,
        (connections_max, keep_alive): (usize, Duration),
        before: Option<&Http>,
    ) -> Self {
        let own = LocalConnector::new(connector, before.map(Http::connector));
        // Plain `http` to awc: TLS is the connector's part. The connector also has limits of its
        // own for each step.
        let connector = awc::Connector::new()
            .connector(own.clone())
            .timeout(Duration::from_secs(DEADLINE_SECS_MAX))
            .conn_keep_alive(keep_alive)
            .conn_lifetime(LIFETIME)
            .limit(connections_max);
        let client = awc::Client::builder()
            .connector(connector)
            .disable_redirects()
            .disable_timeout()
            .finish();
        let port = own.port();
        let authority =
            if name.contains(':') { format!("[{name}]:{port}") } else { format!("{name}:{port}") };
        Http { client, connector: own, name: name.to_owned(), authority }
    }

    pub(crate) fn connector(&self) -> &LocalConnector {
        &self.connector
    }

    /// Sends one request and reads its response. Records in `attempt` how far it got. The caller
    /// limits the time.
    ///
    /// # Errors
    /// An error if there was no response: [`SendError::Unreachable`], [`SendError::NoAnswer`],
    /// [`SendError::WrongProtocol`], [`SendError::Handshake`], [`SendError::ServerNotTrusted`],
    /// [`SendError::CertificateRefused`].
    pub(crate) async fn exchange<B: MessageBody + 'static>(
        &self,
        Request { route, body, content_type, reply_wait_secs, response_bytes_max }: Request<B>,
        attempt: &Rc<Attempt>,
    ) -> Result<Response, SendError> {
        let uri = self.uri(route).map_err(|error| self.error_of(&error, attempt))?;
        let request = async {
            let request = match route.method() {
                "GET" => self.client.request(Method::GET, uri),
                _ => self.client.request(Method::POST, uri),
            };
            let request = match content_type {
                Some(content_type) => request.insert_header((CONTENT_TYPE, content_type)),
                None => request,
            };
            let request = match reply_wait_secs {
                // RFC 7240, section 4.3.
                Some(secs) => request.insert_header((PREFER, format!("wait={secs}"))),
                None => request,
            };
            let mut response =
                request.send_body(body).await.map_err(|error| self.no_answer(error, attempt))?;
            let status = response.status().as_u16();
            let header = |name| response.headers().get(name).map(|value| value.as_bytes());
            let mut answer = Response {
                status,
                retry_after: header(RETRY_AFTER.as_str()).and_then(retry_after),
                duplicate: header(DUPLICATE_HEADER) == Some(b"true"),
                server_time_secs: header(DATE.as_str())
                    .filter(|_| status >= 400 || route == Route::IsRunning)
                    .and_then(date_secs),
                raw: header(CONTENT_TYPE.as_str()) == Some(RAW_ENVELOPE_TYPE.as_bytes()),
                too_long: false,
                body: Bytes::new(),
            };
            if status < 200 {
                // Another protocol follows, and the response has no end to wait for.
                return Ok(answer);
            }
            let length = header(CONTENT_LENGTH.as_str()).and_then(content_length);
            answer.body = match response.body().limit(response_bytes_max).await {
                Ok(body) => body,
                // No expected body is as long. The status still counts.
                Err(PayloadError::Overflow) => return Ok(Response { too_long: true, ..answer }),
                Err(error) => return Err(self.error_of(&payload_error(error), attempt)),
            };
            // awc accepts the end of the connection as the end of the body.
            if length.is_some_and(|length| length != answer.body.len()) {
                let cut = io::Error::new(io::ErrorKind::UnexpectedEof, "the response ends early");
                return Err(self.error_of(&cut, attempt));
            }
            Ok(answer)
        };
        ATTEMPT.scope(attempt.clone(), request).await
    }

    /// Opens a channel, over an idle connection or a new one. A message may have
    /// `message_bytes_max` bytes.
    ///
    /// # Errors
    /// [`OpenError`], with the errors of [`exchange`](Self::exchange) if there was no response.
    pub(crate) async fn open_channel(
        &self,
        message_bytes_max: usize,
        attempt: &Rc<Attempt>,
    ) -> Result<WebSocket, OpenError> {
        let uri = self
            .uri(Route::MessageChannel)
            .map_err(|error| OpenError::NoAnswer(self.error_of(&error, attempt)))?;
        let request =
            self.client.ws(uri).protocols([CHANNEL_SUBPROTOCOL]).max_frame_size(message_bytes_max);
        let opened = ATTEMPT.scope(attempt.clone(), request.connect()).await;
        let (response, socket) = opened.map_err(|error| match error {
            WsClientError::SendRequest(error) => {
                OpenError::NoAnswer(self.no_answer(error, attempt))
            }
            WsClientError::InvalidResponseStatus(status) => {
                OpenError::NotOpened(format!("status {}", status.as_u16()))
            }
            other => OpenError::NotOpened(other.to_string()),
        })?;
        let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
        if header(SEC_WEBSOCKET_PROTOCOL.as_str()) != Some(CHANNEL_SUBPROTOCOL) {
            return Err(OpenError::NotOpened(format!("no subprotocol {CHANNEL_SUBPROTOCOL}")));
        }
        if header(SEC_WEBSOCKET_EXTENSIONS.as_str()).is_some() {
            return Err(OpenError::NotOpened("an extension that was not offered".to_owned()));
        }
        let limits = header(CHANNEL_LIMITS_HEADER).map_or(Ok(ChannelLimits::default()), str::parse);
        match limits {
            Ok(limits) => Ok((socket, limits)),
            Err(error) => Err(OpenError::NotOpened(error.to_string())),
        }
    }

    /// awc keeps idle connections by the authority of the URI. The user part, which goes nowhere
    /// else, keeps those to an address that was left apart.
    fn uri(&self, route: Route) -> io::Result<Uri> {
        let uri = Uri::builder().scheme("http");
        let uri = match self.connector.times_left() {
            0 => uri.authority(self.authority.as_str()),
            left => uri.authority(format!("{left}@{}", self.authority)),
        };
        uri.path_and_query(route.path())
            .build()
            .map_err(|error| io::Error::other(error.to_string()))
    }

    /// The error of an attempt whose time is over.
    pub(crate) fn timed_out(&self, attempt: &Attempt) -> SendError {
        self.error_of(&io::Error::new(io::ErrorKind::TimedOut, "the time ran out"), attempt)
    }

    /// The meaning of an error of awc.
    fn no_answer(&self, error: SendRequestError, attempt: &Attempt) -> SendError {
        match error {
            SendRequestError::Response(
                fault @ (ParseError::Version
                | ParseError::Header
                | ParseError::Status
                | ParseError::TooLarge
                | ParseError::Utf8(_)),
            ) => {
                let speaks = Speaks::NoHttp { fault: fault.to_string() };
                SendError::WrongProtocol { address: self.connector.address().to_string(), speaks }
            }
            error => self.error_of(&io_error(error), attempt),
        }
    }

    /// The meaning of an I/O error, considering how far the attempt got.
    pub(crate) fn error_of(&self, error: &io::Error, attempt: &Attempt) -> SendError {
        let address = self.connector.address().to_string();
        let identity = self.connector.identity();
        let source = Arc::new(io::Error::new(error.kind(), error.to_string()));
        if tls::is_tls(error) {
            return SendError::WrongProtocol { address, speaks: Speaks::Tls };
        }
        match (tls::tls_error(error), attempt.writing.get()) {
            (Some(tls), false) => tls::handshake_error(tls, &self.name, &address, identity),
            (Some(tls), true) => tls::certificate_refusal(tls, identity)
                .unwrap_or(SendError::NoAnswer { address, source }),
            (None, false) => {
                SendError::Unreachable { address: self.connector.all_addresses(), source }
            }
            (None, true) => SendError::NoAnswer { address, source },
        }
    }
}

/// Reads the seconds form of `Retry-After` (RFC 9110, section 10.2.3). It ignores the date form: a
/// web-ipc server never sends it, and it depends on two clocks.
fn retry_after(value: &[u8]) -> Option<Duration> {
    let text = std::str::from_utf8(value).ok()?.trim();
    let digits_only = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    // A number that does not fit into 64 bits is longer than any deadline.
    digits_only.then(|| Duration::from_secs(text.parse().unwrap_or(u64::MAX)))
}

fn date_secs(value: &[u8]) -> Option<u64> {
    let date: HttpDate = std::str::from_utf8(value).ok()?.parse().ok()?;
    SystemTime::from(date).duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs())
}

fn content_length(value: &[u8]) -> Option<usize> {
    std::str::from_utf8(value).ok()?.trim().parse().ok()
}

/// The I/O error in an error of awc, which does not return it as its source.
fn io_error(error: SendRequestError) -> io::Error {
    match error {
        SendRequestError::Connect(ConnectError::Io(error))
        | SendRequestError::Send(error)
        | SendRequestError::Response(ParseError::Io(error)) => error,
        SendRequestError::Connect(ConnectError::Disconnected) => io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "the server closed the connection without a response",
        ),
        SendRequestError::Connect(ConnectError::Timeout) | SendRequestError::Timeout => {
            io::Error::new(io::ErrorKind::TimedOut, "the time ran out")
        }
        other => io::Error::other(other.to_string()),
    }
}

fn payload_error(error: PayloadError) -> io::Error {
    match error {
        PayloadError::Io(error) | PayloadError::Incomplete(Some(error)) => error,
        other => io::Error::other(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_servers_clock_is_read_where_it_is_one() {
        assert_eq!(date_secs(b"Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        for value in [&b""[..], b"noon", b"Sun, 06 Nov 1964 08:49:37 GMT", b"\xff"] {
            assert_eq!(date_secs(value), None, "{value:?}");
        }
    }

    #[test]
    fn only_seconds_are_read_from_retry_after() {
        assert_eq!(retry_after(b"3"), Some(Duration::from_secs(3)));
        assert_eq!(retry_after(b" 0 "), Some(Duration::ZERO));
        assert_eq!(retry_after(b"99999999999999999999999"), Some(Duration::from_secs(u64::MAX)));
        for value in [&b""[..], b"-1", b"1.5", b"+1", b"Wed, 21 Oct 2015 07:28:00 GMT", b"\xff"] {
            assert_eq!(retry_after(value), None, "{value:?}");
        }
    }
}

//! One HTTP request and its answer, over awc. What to send and what an answer means is decided elsewhere.

use std::error::Error;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use awc::error::{ConnectError, PayloadError, SendRequestError};
use awc::http::header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use awc::http::{Method, Uri};
use bytes::Bytes;
use ipc_protocol::{DEADLINE_SECS_MAX, DUPLICATE_HEADER, RAW_ENVELOPE_TYPE, Route};
use tokio::time::{Instant, timeout_at};

use crate::connect::{ATTEMPT, Attempt, Dialer};
use crate::envelope::Envelope;
use crate::error::SendError;
use crate::{retry, tls};

/// How long an unused connection is kept: less than the 75 s that the server keeps it.
const KEEP_ALIVE: Duration = Duration::from_secs(60);

/// How long a connection is used at all. Then a new handshake takes notice of new certificates.
const LIFETIME: Duration = Duration::from_secs(3600);

/// The header with which a caller says how long it wants to wait.
const PREFER: &str = "prefer";

/// Sends requests to one server.
pub(crate) struct Http {
    client: awc::Client,
    dialer: Dialer,
    name: String,
    authority: String,
}

/// A request.
pub(crate) struct Question {
    pub(crate) route: Route,
    pub(crate) body: Envelope,
    /// How long the server is asked to wait for a reply; it is told whole seconds, rounded up.
    pub(crate) reply_wait: Option<Duration>,
    /// The longest answer to read.
    pub(crate) answer_bytes_max: usize,
}

/// An answer of any status, read to its end.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) retry_after: Option<Duration>,
    pub(crate) duplicate: bool,
    /// The body is a raw envelope rather than text.
    pub(crate) raw: bool,
    /// The body was longer than asked for, and is left out.
    pub(crate) too_long: bool,
    pub(crate) body: Bytes,
}

impl Http {
    /// Must be called on the thread, and within the runtime, that will send.
    pub(crate) fn new(name: &str, dialer: Dialer, connections_max: usize) -> Self {
        // Plain `http` to awc: TLS is the dialer's part. The dialer also has limits of its own for each step.
        let connector = awc::Connector::new()
            .connector(dialer.clone())
            .timeout(Duration::from_secs(DEADLINE_SECS_MAX))
            .conn_keep_alive(KEEP_ALIVE)
            .conn_lifetime(LIFETIME)
            .limit(connections_max);
        let client =
            awc::Client::builder().connector(connector).disable_redirects().disable_timeout().finish();
        let port = dialer.address.port();
        let authority =
            if name.contains(':') { format!("[{name}]:{port}") } else { format!("{name}:{port}") };
        Http { client, dialer, name: name.to_owned(), authority }
    }

    pub(crate) fn dialer(&self) -> &Dialer {
        &self.dialer
    }

    /// Sends one request and reads its answer, all before `limit`. `attempt` is told how far it got.
    ///
    /// # Errors
    /// Those without an answer: [`SendError::Unreachable`], [`SendError::NoAnswer`], [`SendError::Handshake`],
    /// [`SendError::ServerNotTrusted`], [`SendError::CertificateRefused`].
    pub(crate) async fn exchange(
        &self,
        Question { route, body, reply_wait, answer_bytes_max }: Question,
        limit: Instant,
        attempt: &Rc<Attempt>,
    ) -> Result<Answer, SendError> {
        let uri =
            Uri::builder().scheme("http").authority(self.authority.as_str()).path_and_query(route.path());
        let uri = uri.build().map_err(|error| self.fault(&io::Error::other(error.to_string()), attempt))?;
        let request = async {
            let request = match route.method() {
                "GET" => self.client.request(Method::GET, uri),
                _ => self.client.request(Method::POST, uri).insert_header((CONTENT_TYPE, RAW_ENVELOPE_TYPE)),
            };
            let request = match reply_wait {
                // RFC 7240, section 4.3.
                Some(wait) => request.insert_header((PREFER, format!("wait={}", whole_secs(wait)))),
                None => request,
            };
            let mut response =
                request.send_body(body).await.map_err(|error| self.fault(&io_error(error), attempt))?;
            let header = |name| response.headers().get(name).map(|value| value.as_bytes());
            let mut answer = Answer {
                status: response.status().as_u16(),
                retry_after: header(RETRY_AFTER.as_str()).and_then(retry::retry_after),
                duplicate: header(DUPLICATE_HEADER) == Some(b"true"),
                raw: header(CONTENT_TYPE.as_str()) == Some(RAW_ENVELOPE_TYPE.as_bytes()),
                too_long: false,
                body: Bytes::new(),
            };
            let length = header(CONTENT_LENGTH.as_str()).and_then(content_length);
            answer.body = match response.body().limit(answer_bytes_max).await {
                Ok(body) => body,
                // Too long for anything that is looked for in it; the status still counts.
                Err(PayloadError::Overflow) => return Ok(Answer { too_long: true, ..answer }),
                Err(error) => return Err(self.fault(&payload_error(error), attempt)),
            };
            // awc takes an end of the connection for an end of the body.
            if length.is_some_and(|length| length != answer.body.len()) {
                let cut = io::Error::new(io::ErrorKind::UnexpectedEof, "the answer ends in the middle");
                return Err(self.fault(&cut, attempt));
            }
            Ok(answer)
        };
        match timeout_at(limit, ATTEMPT.scope(attempt.clone(), request)).await {
            Ok(result) => result,
            Err(_) => Err(self.fault(&io::Error::new(io::ErrorKind::TimedOut, "the time ran out"), attempt)),
        }
    }

    /// What an I/O error means, going by how far the attempt got.
    fn fault(&self, error: &io::Error, attempt: &Attempt) -> SendError {
        let address = self.dialer.address.to_string();
        let identity = &self.dialer.identity;
        let source = io::Error::new(error.kind(), error.to_string());
        match (tls::tls_error(error), attempt.writing.get()) {
            (Some(tls), false) => tls::handshake_error(tls, &self.name, &address, identity),
            (Some(tls), true) => {
                tls::certificate_refusal(tls, identity).unwrap_or(SendError::NoAnswer { address, source })
            }
            (None, false) => SendError::Unreachable { address, source },
            (None, true) => SendError::NoAnswer { address, source },
        }
    }
}

fn whole_secs(wait: Duration) -> u64 {
    wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0))
}

fn content_length(value: &[u8]) -> Option<usize> {
    std::str::from_utf8(value).ok()?.trim().parse().ok()
}

/// The I/O error in an error of awc, which itself tells no source.
fn io_error(error: SendRequestError) -> io::Error {
    match error {
        SendRequestError::Connect(ConnectError::Io(error)) | SendRequestError::Send(error) => error,
        SendRequestError::Connect(ConnectError::Disconnected) => {
            io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed the connection without an answer")
        }
        SendRequestError::Connect(ConnectError::Timeout) | SendRequestError::Timeout => {
            io::Error::new(io::ErrorKind::TimedOut, "the time ran out")
        }
        SendRequestError::Response(error) => unwrap_io(error),
        other => io::Error::other(other.to_string()),
    }
}

fn payload_error(error: PayloadError) -> io::Error {
    match error {
        PayloadError::Io(error) | PayloadError::Incomplete(Some(error)) => error,
        other => io::Error::other(other.to_string()),
    }
}

/// The I/O error that another one stands for, or a new one that says the same. A TLS error inside is kept.
fn unwrap_io(error: impl Error + 'static) -> io::Error {
    match error.source().and_then(|source| source.downcast_ref::<io::Error>()) {
        Some(inner) => match tls::tls_error(inner) {
            Some(tls) => io::Error::new(inner.kind(), tls.clone()),
            None => io::Error::new(inner.kind(), inner.to_string()),
        },
        None => io::Error::other(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_told_in_whole_seconds_rounded_up() {
        for (millis, secs) in [(0, 0), (1, 1), (1000, 1), (1001, 2)] {
            assert_eq!(whole_secs(Duration::from_millis(millis)), secs);
        }
        assert_eq!(whole_secs(Duration::MAX), u64::MAX);
    }
}

//! Turns a TCP connection into a TLS stream, or logs why that failed.
//!
//! `http` comes here with each connection of an https server. The verifier in the TLS configuration
//! decides which certificates are accepted; this file does not.

use std::fmt::{self, Display};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use actix_web::rt::net::TcpStream;
use futures_util::future::{Either, select};
use ipc_base::{CertificateProblem, End, chain, is_about_certificate, refused_because};
use log::Level;
use rustls::ServerConfig;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::connection_slots::Handshakes;
use crate::rate_limited_log::{Kind, RateLimitedLog, shown};

/// Makes handshakes, one acceptor for each worker.
pub(crate) struct Acceptor {
    under_way: Handshakes,
    timeout: Duration,
    log: Arc<RateLimitedLog>,
}

/// Why there is no TLS stream.
#[derive(Debug)]
enum Failure {
    /// The peer closed the connection without sending a byte, as programs do that only test whether
    /// the port is open.
    Nothing,
    /// The handshake failed.
    Tls(io::Error),
    Displaced,
    Late,
}

impl Acceptor {
    /// Makes an acceptor for at most `max` handshakes at a time, each of at most `timeout`.
    pub(crate) fn new(max: usize, timeout: Duration, log: Arc<RateLimitedLog>) -> Self {
        Acceptor { under_way: Handshakes::new(max), timeout, log }
    }

    /// Makes the handshake.
    ///
    /// # Errors
    /// If it fails, takes too long, or loses its place to a newer handshake. The reason is logged.
    pub(crate) async fn accept(
        &self,
        stream: TcpStream,
        tls: Arc<ServerConfig>,
    ) -> io::Result<TlsStream<TcpStream>> {
        let peer = stream.peer_addr().ok();
        let mut place = self.under_way.begin();
        let handshake = std::pin::pin!(self.handshake(stream, tls));
        let handshake = select(handshake, &mut place.displaced);
        let failure = match tokio::time::timeout(self.timeout, handshake).await {
            Ok(Either::Left((Ok(stream), _))) => return Ok(stream),
            Ok(Either::Left((Err(failure), _))) => failure,
            Ok(Either::Right(_)) => Failure::Displaced,
            Err(_) => Failure::Late,
        };
        self.note(peer, &failure);
        Err(match failure {
            Failure::Tls(error) => error,
            Failure::Nothing => io::ErrorKind::UnexpectedEof.into(),
            Failure::Displaced => io::ErrorKind::ConnectionAborted.into(),
            Failure::Late => io::ErrorKind::TimedOut.into(),
        })
    }

    async fn handshake(
        &self,
        stream: TcpStream,
        tls: Arc<ServerConfig>,
    ) -> Result<TlsStream<TcpStream>, Failure> {
        // A connection that ends without a byte is not a failed handshake, however it ends.
        if !matches!(stream.peek(&mut [0]).await, Ok(1)) {
            return Err(Failure::Nothing);
        }
        TlsAcceptor::from(tls).accept(stream).await.map_err(Failure::Tls)
    }

    fn note(&self, peer: Option<SocketAddr>, failure: &Failure) {
        if let Failure::Nothing = failure {
            let kind = Kind::Event("connections closed without a byte");
            if log::log_enabled!(Level::Debug) && self.log.takes(Level::Debug, peer, kind) {
                log::debug!("{} - connected and closed without a byte", shown(peer));
            }
        } else if log::log_enabled!(Level::Info)
            && self.log.takes(Level::Info, peer, Kind::Event("TLS refused"))
        {
            log::info!("{} - TLS refused: {failure}", shown(peer));
        }
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Nothing => f.write_str("the peer sent nothing"),
            Failure::Tls(error) => f.write_str(&in_words(error)),
            Failure::Displaced => f.write_str("too many handshakes at the same time"),
            Failure::Late => f.write_str("the handshake took too long"),
        }
    }
}

/// Describes in words why a handshake failed.
fn in_words(error: &io::Error) -> String {
    let Some(tls) = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>()) else {
        return match error.kind() {
            io::ErrorKind::UnexpectedEof => {
                "the peer closed the connection during the handshake".to_owned()
            }
            _ => chain(error).to_string(),
        };
    };
    match tls {
        rustls::Error::InvalidMessage(_) => {
            "this peer does not speak TLS; it may speak plain http".to_owned()
        }
        rustls::Error::NoCertificatesPresented => "the client presented no certificate".to_owned(),
        rustls::Error::InvalidCertificate(fault) => {
            format!("the client's certificate {}", CertificateProblem::of(fault, End::Client))
        }
        rustls::Error::AlertReceived(alert) if is_about_certificate(*alert) => {
            let alert = format!("{alert:?}");
            let reason = refused_because(&alert, End::Client);
            format!("the client refuses this server's certificate ({alert}): {reason}")
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use rustls::{AlertDescription, CertificateError};

    use super::*;

    #[test]
    fn what_a_handshake_failed_of_is_told_in_words() {
        let tls =
            |error: rustls::Error| in_words(&io::Error::new(io::ErrorKind::InvalidData, error));
        assert!(
            tls(rustls::InvalidMessage::InvalidContentType.into()).contains("does not speak TLS")
        );
        assert!(tls(rustls::Error::NoCertificatesPresented).contains("no certificate"));
        assert_eq!(
            tls(CertificateError::UnknownIssuer.into()),
            "the client's certificate was not issued by this home's authority"
        );
        assert_eq!(
            tls(rustls::Error::AlertReceived(AlertDescription::UnknownCA)),
            "the client refuses this server's certificate (UnknownCA): it was not issued by the authority that the client trusts"
        );
        assert_eq!(tls(CertificateError::Expired.into()), "the client's certificate has expired");
        assert!(in_words(&io::ErrorKind::UnexpectedEof.into()).contains("during the handshake"));
        assert_eq!(in_words(&io::Error::other("reset")), "reset");
    }
}

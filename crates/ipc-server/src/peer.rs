//! Identifies the peer of a connection: its address and the certificate it presented.

use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::dev::Extensions;
use actix_web::rt::net::TcpStream;
use ipc_base::{CertificateProblem, End};
use ipc_protocol::{Fingerprint, ProblemCode};
use rustls::server::danger::ClientCertVerifier;
use rustls_pki_types::{CertificateDer, UnixTime};
use sha2::{Digest, Sha256};
use tokio_rustls::server::TlsStream;

use crate::login_throttle::Source;
use crate::refusal::Refusal;

/// A certificate that was valid before is verified for this many seconds ahead. If it is valid at
/// both times, it is valid in between.
const AHEAD_SECS: u64 = 60;

/// The transport of the connections, with the verifier of their certificates.
pub(crate) enum Transport {
    /// TLS, with a client certificate on each connection.
    Tls(Arc<dyn ClientCertVerifier>),
    /// Plain http, without certificates.
    Plain,
}

/// The certificate of a connection, kept in the connection's data.
struct PeerCertificate {
    chain: Vec<CertificateDer<'static>>,
    fingerprint: Fingerprint,
    /// From when to when it was found valid, in seconds since the Unix epoch. The verifier depends
    /// on nothing else that changes.
    good: Cell<Option<(u64, u64)>>,
}

/// Stores the certificate when a connection is made. If there is none, nothing is stored, and every
/// request on the connection is refused.
pub(crate) fn note_certificate(stream: &TlsStream<TcpStream>, extensions: &mut Extensions) {
    let (_, session) = stream.get_ref();
    if let Some(chain) = session.peer_certificates().filter(|chain| !chain.is_empty()) {
        extensions.insert(Rc::new(PeerCertificate {
            fingerprint: fingerprint(&chain[0]),
            chain: chain.iter().map(|certificate| certificate.clone().into_owned()).collect(),
            good: Cell::new(None),
        }));
    }
}

/// The SHA-256 of a certificate.
pub(crate) fn fingerprint(certificate: &CertificateDer<'_>) -> Fingerprint {
    Fingerprint::from_bytes(Sha256::digest(certificate).into())
}

/// A peer whose certificate was checked for this request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer {
    /// The certificate. `None` only over plain http.
    pub(crate) certificate: Option<Fingerprint>,
    address: IpAddr,
}

impl Peer {
    /// Checks the peer of a request. This is done for each request, since a resumed TLS session
    /// skips the verifier.
    ///
    /// # Errors
    /// 403 over https if there is no certificate, or if it is not valid at this time.
    pub(crate) fn of(
        request: &HttpRequest,
        transport: &Transport,
        now_secs: u64,
    ) -> Result<Self, Refusal> {
        // Headers that claim another address are ignored: any client can send them.
        Self::look(
            request.peer_addr(),
            request.conn_data::<Rc<PeerCertificate>>(),
            transport,
            now_secs,
        )
    }

    fn look(
        address: Option<SocketAddr>,
        shown: Option<&Rc<PeerCertificate>>,
        transport: &Transport,
        now_secs: u64,
    ) -> Result<Self, Refusal> {
        let address = address.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |address| address.ip());
        let certificate = match transport {
            Transport::Plain => None,
            Transport::Tls(verifier) => {
                let none = || {
                    Refusal::new(
                        ProblemCode::WrongCertificate,
                        "the connection has no client certificate",
                    )
                };
                let shown = shown.ok_or_else(none)?;
                Some(shown.verify(verifier.as_ref(), now_secs)?)
            }
        };
        Ok(Peer { certificate, address })
    }

    /// The source under which failed logins of this peer are counted.
    pub(crate) fn source(&self) -> Source {
        self.certificate.map_or(Source::Address(self.address), Source::Certificate)
    }
}

/// Describes in words why a certificate is refused, for the log.
fn in_words(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(fault) => {
            format!("it {}", CertificateProblem::of(fault, End::Client))
        }
        other => other.to_string(),
    }
}

/// The peer of a connection that lives longer than the request that opened it, such as a channel.
pub(crate) struct LastingPeer {
    pub(crate) address: Option<SocketAddr>,
    shown: Option<Rc<PeerCertificate>>,
}

impl LastingPeer {
    pub(crate) fn of(request: &HttpRequest) -> Self {
        LastingPeer { address: request.peer_addr(), shown: request.conn_data().cloned() }
    }

    /// Like [`Peer::of`], without the request.
    ///
    /// # Errors
    /// Those of [`Peer::of`].
    pub(crate) fn look(&self, transport: &Transport, now_secs: u64) -> Result<Peer, Refusal> {
        Peer::look(self.address, self.shown.as_ref(), transport, now_secs)
    }
}

impl PeerCertificate {
    fn verify(
        &self,
        verifier: &dyn ClientCertVerifier,
        now_secs: u64,
    ) -> Result<Fingerprint, Refusal> {
        let good = self.good.get();
        if good.is_none_or(|(from, until)| now_secs < from || now_secs > until) {
            let verify = |secs: u64| {
                let at = UnixTime::since_unix_epoch(Duration::from_secs(secs));
                verifier.verify_client_cert(&self.chain[0], &self.chain[1..], at)
            };
            // The first request of a connection does not pay for a second verification.
            let ahead = good
                .filter(|(from, _)| *from <= now_secs)
                .map(|(from, _)| (from, now_secs + AHEAD_SECS));
            let good = match ahead {
                Some((from, until)) if verify(until).is_ok() => (from, until),
                _ => {
                    verify(now_secs).map_err(|error| {
                        let detail = "the client certificate is not valid here, or no longer";
                        Refusal::new(ProblemCode::WrongCertificate, detail)
                            .because(in_words(&error))
                    })?;
                    (now_secs, now_secs)
                }
            };
            self.good.set(Some(good));
        }
        Ok(self.fingerprint)
    }
}

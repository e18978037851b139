//! Who is at the other end of a connection: its address and the certificate it showed.

use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::dev::Extensions;
use actix_web::rt::net::TcpStream;
use ipc_base::{CertificateFacts, CertificateProblem, End, PeerName};
use ipc_protocol::{Fingerprint, ProblemCode};
use rustls::server::danger::ClientCertVerifier;
use rustls_pki_types::{CertificateDer, UnixTime};
use sha2::{Digest, Sha256};
use tokio_rustls::server::TlsStream;

use crate::login_throttle::Source;
use crate::refusal::Refusal;

/// How far ahead a certificate is verified that was found good before: it is good all the time
/// between.
const AHEAD_SECS: u64 = 60;

/// What connections run over, and who looks at their certificates.
pub(crate) enum Transport {
    /// TLS, with a certificate on each connection.
    Tls(Arc<dyn ClientCertVerifier>),
    /// Plain http, without one.
    Plain,
}

/// The certificate of a connection, kept beside it.
struct PeerCertificate {
    chain: Vec<CertificateDer<'static>>,
    fingerprint: Fingerprint,
    facts: Option<Arc<CertificateFacts>>,
    /// From when to when it was found good, in seconds since the Unix epoch. What verifies it knows
    /// of nothing else that changes.
    good: Cell<Option<(u64, u64)>>,
}

/// Notes the certificate when a connection is made. Where there is none, nothing is noted, and
/// every request on the connection is refused.
pub(crate) fn note_certificate(stream: &TlsStream<TcpStream>, extensions: &mut Extensions) {
    let (_, session) = stream.get_ref();
    if let Some(chain) = session.peer_certificates().filter(|chain| !chain.is_empty()) {
        extensions.insert(Rc::new(PeerCertificate {
            fingerprint: fingerprint(&chain[0]),
            facts: CertificateFacts::from_der(&chain[0]).map(Arc::new),
            chain: chain.iter().map(|certificate| certificate.clone().into_owned()).collect(),
            good: Cell::new(None),
        }));
    }
}

/// The SHA-256 of a certificate.
pub(crate) fn fingerprint(certificate: &CertificateDer<'_>) -> Fingerprint {
    Fingerprint::from_bytes(Sha256::digest(certificate).into())
}

/// A peer that was looked at for this request.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// The certificate; `None` over plain http only.
    pub(crate) certificate: Option<Fingerprint>,
    /// What the certificate says of itself.
    pub(crate) facts: Option<Arc<CertificateFacts>>,
    pub(crate) address: IpAddr,
}

impl Peer {
    /// Looks at the peer of a request: on each one, since a resumed TLS session skips the verifier.
    ///
    /// # Errors
    /// 403 over https if there is no certificate, or one that is no longer good.
    pub(crate) fn of(
        request: &HttpRequest,
        transport: &Transport,
        now_secs: u64,
    ) -> Result<Self, Refusal> {
        // Headers that claim another address are not believed: anybody can send them.
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
        let (certificate, facts) = match transport {
            Transport::Plain => (None, None),
            Transport::Tls(verifier) => {
                let none = || {
                    Refusal::new(
                        ProblemCode::WrongCertificate,
                        "the connection shows no client certificate",
                    )
                };
                let shown = shown.ok_or_else(none)?;
                let fingerprint = shown.verify(verifier.as_ref(), now_secs)?;
                (Some(fingerprint), shown.facts.clone())
            }
        };
        Ok(Peer { certificate, facts, address })
    }

    /// The peer name in the certificate.
    pub(crate) fn name(&self) -> Option<&PeerName> {
        self.facts.as_ref()?.name.as_ref()
    }

    /// Whom failed logins are counted for.
    pub(crate) fn source(&self) -> Source {
        self.certificate.map_or(Source::Address(self.address), Source::Certificate)
    }
}

/// Why a certificate is not taken, for the log.
fn in_words(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InvalidCertificate(fault) => {
            format!("it {}", CertificateProblem::of(fault, End::Client))
        }
        other => other.to_string(),
    }
}

/// The peer of a connection that outlasts its request, and with it what the request was read from.
pub(crate) struct LastingPeer {
    pub(crate) address: Option<SocketAddr>,
    shown: Option<Rc<PeerCertificate>>,
}

impl LastingPeer {
    pub(crate) fn of(request: &HttpRequest) -> Self {
        LastingPeer { address: request.peer_addr(), shown: request.conn_data().cloned() }
    }

    /// [`Peer::of`], without the request.
    ///
    /// # Errors
    /// As there.
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
            // A connection's first request does not pay for two.
            let ahead = good
                .filter(|(from, _)| *from <= now_secs)
                .map(|(from, _)| (from, now_secs + AHEAD_SECS));
            let good = match ahead {
                Some((from, until)) if verify(until).is_ok() => (from, until),
                _ => {
                    verify(now_secs).map_err(|error| {
                        let detail = "the client certificate is not, or no longer, good here";
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

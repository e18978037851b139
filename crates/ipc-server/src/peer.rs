//! Who is at the other end of a connection: its address and the certificate it showed.

use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::HttpRequest;
use actix_web::dev::Extensions;
use actix_web::rt::net::TcpStream;
use ipc_protocol::{Fingerprint, ProblemCode};
use rustls::server::danger::ClientCertVerifier;
use rustls_pki_types::{CertificateDer, UnixTime};
use sha2::{Digest, Sha256};
use tokio_rustls::server::TlsStream;

use crate::answer::Refusal;
use crate::attempts::Source;

/// How long a verified certificate is believed on a connection that stays open: one that expires in the meantime is
/// refused within a second.
const VERIFIED_FOR: Duration = Duration::from_secs(1);

/// What connections run over, and who looks at their certificates.
pub(crate) enum Transport {
    /// TLS, with a certificate on each connection.
    Tls(Arc<dyn ClientCertVerifier>),
    /// Plain http, without one.
    Plain,
}

/// The certificate of a connection, kept beside it.
struct Shown {
    chain: Vec<CertificateDer<'static>>,
    fingerprint: Fingerprint,
    verified_at: Cell<Option<Instant>>,
}

/// Notes the certificate when a connection is made. Where there is none, nothing is noted, and every request on the
/// connection is refused.
pub(crate) fn note_certificate(stream: &TlsStream<TcpStream>, extensions: &mut Extensions) {
    let (_, session) = stream.get_ref();
    if let Some(chain) = session.peer_certificates().filter(|chain| !chain.is_empty()) {
        extensions.insert(Shown {
            fingerprint: fingerprint(&chain[0]),
            chain: chain.iter().map(|certificate| certificate.clone().into_owned()).collect(),
            verified_at: Cell::new(None),
        });
    }
}

/// The SHA-256 of a certificate.
pub(crate) fn fingerprint(certificate: &CertificateDer<'_>) -> Fingerprint {
    Fingerprint::from_bytes(Sha256::digest(certificate).into())
}

/// A peer that was looked at for this request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer {
    /// The certificate; `None` over plain http only.
    pub(crate) certificate: Option<Fingerprint>,
    address: IpAddr,
}

impl Peer {
    /// Looks at the peer of a request: on each one, since a resumed TLS session skips the verifier.
    ///
    /// # Errors
    /// 403 over https if there is no certificate, or one that is no longer good.
    pub(crate) fn of(request: &HttpRequest, transport: &Transport, now: Instant) -> Result<Self, Refusal> {
        // Headers that claim another address are not believed: anybody can send them.
        let address = request.peer_addr().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |address| address.ip());
        let certificate = match transport {
            Transport::Plain => None,
            Transport::Tls(verifier) => {
                let none = || {
                    Refusal::new(ProblemCode::WrongCertificate, "the connection shows no client certificate")
                };
                let shown = request.conn_data::<Shown>().ok_or_else(none)?;
                Some(shown.verify(verifier.as_ref(), now)?)
            }
        };
        Ok(Peer { certificate, address })
    }

    /// Whom failed logins are counted for.
    pub(crate) fn source(&self) -> Source {
        self.certificate.map_or(Source::Address(self.address), Source::Certificate)
    }
}

impl Shown {
    fn verify(&self, verifier: &dyn ClientCertVerifier, now: Instant) -> Result<Fingerprint, Refusal> {
        let is_fresh = self.verified_at.get().is_some_and(|at| now < at + VERIFIED_FOR);
        if !is_fresh {
            verifier.verify_client_cert(&self.chain[0], &self.chain[1..], UnixTime::now()).map_err(
                |error| {
                    Refusal::new(
                        ProblemCode::WrongCertificate,
                        "the client certificate is not, or no longer, good here",
                    )
                    .because(error)
                },
            )?;
            self.verified_at.set(Some(now));
        }
        Ok(self.fingerprint)
    }
}

//! Identifies the peer of a connection: its address and the certificate it presented.

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::dev::Extensions;
use actix_web::rt::net::TcpStream;
use ipc_base::{CertificateFacts, CertificateProblem, End, PeerName};
use ipc_envelope::KeyRing;
use ipc_protocol::{Fingerprint, ProblemCode};
use rustls::CertificateError;
use rustls_pki_types::{CertificateDer, UnixTime};
use sha2::{Digest, Sha256};
use tokio_rustls::server::TlsStream;

use crate::connection_slots::PeerKey;
use crate::login_throttle::Source;
use crate::refusal::Refusal;
use crate::trust::{Tls, Transport, Trust};

/// A certificate that was valid before is verified for this many seconds ahead. If it is valid at
/// both times, it is valid in between.
const AHEAD_SECS: u64 = 60;

/// The certificate of a connection, kept in the connection's data.
struct PeerCertificate {
    chain: Vec<CertificateDer<'static>>,
    fingerprint: Fingerprint,
    facts: Option<Arc<CertificateFacts>>,
    /// The peer name in it, for all messages of the connection.
    shared_name: Option<Arc<str>>,
    /// When it was found valid.
    good: Cell<Option<Good>>,
    /// The keys of an enrolled client, with the number of the snapshot that they are derived from.
    derived: RefCell<Option<(u64, Arc<KeyRing>)>>,
}

/// From when to when a certificate was found valid, in seconds since the Unix epoch, under the
/// snapshot of this number. The verifier depends on nothing else that changes.
#[derive(Clone, Copy)]
struct Good {
    trust: u64,
    from: u64,
    until: u64,
}

/// Stores the certificate when a connection is made. If there is none, nothing is stored, and every
/// request on the connection is refused.
pub(crate) fn note_certificate(stream: &TlsStream<TcpStream>, extensions: &mut Extensions) {
    let (_, session) = stream.get_ref();
    if let Some(chain) = session.peer_certificates().filter(|chain| !chain.is_empty()) {
        let facts = CertificateFacts::from_der(&chain[0]).map(Arc::new);
        extensions.insert(Rc::new(PeerCertificate {
            fingerprint: fingerprint(&chain[0]),
            shared_name: name_of(facts.as_deref()).map(|name| name.as_str().into()),
            facts,
            chain: chain.iter().map(|certificate| certificate.clone().into_owned()).collect(),
            good: Cell::new(None),
            derived: RefCell::new(None),
        }));
    }
}

/// What the connections of a stream's peer are counted under. `None` without a certificate.
pub(crate) fn counted_as(stream: &TlsStream<TcpStream>) -> Option<PeerKey> {
    let leaf = stream.get_ref().1.peer_certificates()?.first()?;
    let name = CertificateFacts::from_der(leaf).and_then(|facts| facts.name);
    Some(match name {
        Some(name) => PeerKey::Name(name.to_string().to_ascii_lowercase().into()),
        None => PeerKey::Certificate(fingerprint(leaf)),
    })
}

fn name_of(facts: Option<&CertificateFacts>) -> Option<&PeerName> {
    facts?.name.as_ref()
}

/// The certificate of a request's connection, in DER.
pub(crate) fn certificate_of(request: &HttpRequest) -> Option<CertificateDer<'static>> {
    request.conn_data::<Rc<PeerCertificate>>()?.chain.first().cloned()
}

/// The SHA-256 of a certificate.
pub(crate) fn fingerprint(certificate: &CertificateDer<'_>) -> Fingerprint {
    Fingerprint::from_bytes(Sha256::digest(certificate).into())
}

/// A peer whose certificate was checked for this request.
#[derive(Clone)]
pub(crate) struct Peer {
    /// The certificate. `None` only over plain http.
    pub(crate) certificate: Option<Fingerprint>,
    /// What the certificate says of itself.
    pub(crate) facts: Option<Arc<CertificateFacts>>,
    /// The peer name in the certificate, as messages have it: one allocation for each connection.
    pub(crate) shared_name: Option<Arc<str>>,
    /// The keys that it seals and opens with.
    pub(crate) envelope_keys: Arc<KeyRing>,
    pub(crate) address: IpAddr,
}

impl Peer {
    /// Checks the peer of a request. This is done for each request, since a resumed TLS session
    /// skips the verifier.
    ///
    /// # Errors
    /// 403 over https if there is no certificate, or if it is not valid at this time.
    pub(crate) fn of(request: &HttpRequest, trust: &Trust, now_secs: u64) -> Result<Self, Refusal> {
        // Headers that claim another address are ignored: any client can send them.
        Self::look(request.peer_addr(), request.conn_data::<Rc<PeerCertificate>>(), trust, now_secs)
    }

    fn look(
        address: Option<SocketAddr>,
        shown: Option<&Rc<PeerCertificate>>,
        trust: &Trust,
        now_secs: u64,
    ) -> Result<Self, Refusal> {
        let address = address.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |address| address.ip());
        match &trust.transport {
            Transport::Plain => Ok(Peer {
                certificate: None,
                facts: None,
                shared_name: None,
                envelope_keys: Arc::clone(&trust.envelope_keys),
                address,
            }),
            Transport::Tls(tls) => {
                let none = || {
                    Refusal::new(
                        ProblemCode::WrongCertificate,
                        "the connection has no client certificate",
                    )
                };
                let shown = shown.ok_or_else(none)?;
                shown.verify(tls, trust.number, now_secs)?;
                Ok(Peer {
                    certificate: Some(shown.fingerprint),
                    facts: shown.facts.clone(),
                    shared_name: shown.shared_name.clone(),
                    envelope_keys: shown.envelope_keys(trust)?,
                    address,
                })
            }
        }
    }

    /// The peer name in the certificate.
    pub(crate) fn name(&self) -> Option<&PeerName> {
        name_of(self.facts.as_deref())
    }

    /// The source under which failed logins of this peer are counted.
    pub(crate) fn source(&self) -> Source {
        self.certificate.map_or(Source::Address(self.address), Source::Certificate)
    }
}

fn not_valid(error: &rustls::Error) -> Refusal {
    let refusal = match error {
        rustls::Error::InvalidCertificate(CertificateError::Revoked) => {
            Refusal::new(ProblemCode::CertificateRevoked, "the client certificate was revoked")
        }
        _ => Refusal::new(
            ProblemCode::WrongCertificate,
            "the client certificate is not valid here, or no longer",
        ),
    };
    refusal.because(in_words(error))
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
    pub(crate) fn look(&self, trust: &Trust, now_secs: u64) -> Result<Peer, Refusal> {
        Peer::look(self.address, self.shown.as_ref(), trust, now_secs)
    }
}

impl PeerCertificate {
    /// The keys of this peer: an enrolled client has keys derived for its name, whoever shares the
    /// home the ring itself.
    ///
    /// # Errors
    /// 403 if the certificate is an enrolled client's without a name, or cannot be read.
    fn envelope_keys(&self, trust: &Trust) -> Result<Arc<KeyRing>, Refusal> {
        let unusable = || {
            let detail = "the client certificate names no peer";
            Refusal::new(ProblemCode::WrongCertificate, detail)
        };
        let facts = self.facts.as_ref().ok_or_else(unusable)?;
        if !facts.is_client_only {
            return Ok(Arc::clone(&trust.envelope_keys));
        }
        let name = facts.name.as_ref().ok_or_else(unusable)?;
        let mut derived = self.derived.borrow_mut();
        match &*derived {
            Some((number, ring)) if *number == trust.number => Ok(Arc::clone(ring)),
            _ => {
                let ring = KeyRing::from_keys(trust.derived_keys(name)).map_err(|_| unusable())?;
                let ring = Arc::new(ring);
                *derived = Some((trust.number, Arc::clone(&ring)));
                Ok(ring)
            }
        }
    }

    /// Verifies the certificate, unless it was found valid for this time under this snapshot.
    ///
    /// # Errors
    /// 403 if it is not valid, or revoked.
    fn verify(&self, tls: &Tls, trust: u64, now_secs: u64) -> Result<(), Refusal> {
        let good = self.good.get().filter(|good| good.trust == trust);
        if good.is_none_or(|good| now_secs < good.from || now_secs > good.until) {
            let verify = |secs: u64| {
                let at = UnixTime::since_unix_epoch(Duration::from_secs(secs));
                tls.verifier.verify_client_cert(&self.chain[0], &self.chain[1..], at)
            };
            // The first request of a connection does not pay for a second verification.
            let ahead = good
                .filter(|good| good.from <= now_secs)
                .map(|good| Good { until: now_secs + AHEAD_SECS, ..good });
            let good = match ahead {
                Some(ahead) if verify(ahead.until).is_ok() => ahead,
                _ => {
                    verify(now_secs).map_err(|error| not_valid(&error))?;
                    Good { trust, from: now_secs, until: now_secs }
                }
            };
            self.good.set(Some(good));
        }
        Ok(())
    }
}

//! Identifies the peer of a connection: its address and the certificate it presented.

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_web::HttpRequest;
use ipc_base::{CertificateFacts, CertificateProblem, End, PeerName};
use ipc_envelope::KeyRing;
use ipc_protocol::{Fingerprint, ProblemCode};
use rustls::{CertificateError, ServerConnection};
use rustls_pki_types::{CertificateDer, UnixTime};
use sha2::{Digest, Sha256};

use crate::connection_slots::PeerKey;
use crate::login_throttle::Source;
use crate::refusal::Refusal;
use crate::trust::{Tls, Transport, Trust};

/// A certificate that was valid before is verified for this many seconds ahead. If it is valid at
/// both times, it is valid in between.
const AHEAD_SECS: u64 = 60;

/// The certificate of a connection, kept in the connection's data. It is parsed once, when the
/// connection is made. rustls's verifier has to read it in the handshake for itself.
pub(crate) struct PeerCertificate {
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

fn name_of(facts: Option<&CertificateFacts>) -> Option<&PeerName> {
    facts?.name.as_ref()
}

/// The certificate of a request's connection, in DER.
pub(crate) fn certificate_of(request: &HttpRequest) -> Option<CertificateDer<'static>> {
    request.conn_data::<Rc<PeerCertificate>>()?.chain.first().cloned()
}

/// The SHA-256 of a certificate.
fn fingerprint(certificate: &CertificateDer<'_>) -> Fingerprint {
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
        match self.certificate {
            Some(fingerprint) => Source::of_certificate(self.name(), fingerprint),
            None => Source::Address(self.address),
        }
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

    /// The peer name in the certificate that was shown.
    pub(crate) fn name(&self) -> Option<Arc<str>> {
        self.shown.as_ref().and_then(|shown| shown.name())
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
    /// Reads the certificate of a TLS session, a resumed one too. Without one there is `None`, and
    /// every request on the connection is refused.
    pub(crate) fn of(session: &ServerConnection) -> Option<Self> {
        let chain = session.peer_certificates().filter(|chain| !chain.is_empty())?;
        let facts = CertificateFacts::from_der(&chain[0]).map(Arc::new);
        Some(PeerCertificate {
            fingerprint: fingerprint(&chain[0]),
            shared_name: name_of(facts.as_deref()).map(|name| name.as_str().into()),
            facts,
            chain: chain.iter().map(|certificate| certificate.clone().into_owned()).collect(),
            good: Cell::new(None),
            derived: RefCell::new(None),
        })
    }

    /// The peer name in it.
    pub(crate) fn name(&self) -> Option<Arc<str>> {
        self.shared_name.clone()
    }

    /// What the connections of this peer are counted under.
    pub(crate) fn counted_as(&self) -> PeerKey {
        match &self.shared_name {
            Some(name) => PeerKey::Name(name.to_ascii_lowercase().into()),
            None => PeerKey::Certificate(self.fingerprint),
        }
    }

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
                tls.verifier.verify(&self.chain, self.facts.as_deref(), at)
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

#[cfg(test)]
mod tests {
    use ipc_home::Home;
    use ipc_setup::{InitOptions, RevocationReason, init, revoke_certificates};
    use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore};

    use super::*;

    /// A client's TLS configuration with the pair `localhost` of a home.
    fn client(home: &Home) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        for certificate in home.ca_certificates().unwrap() {
            roots.add(certificate).unwrap();
        }
        let pair = home.identity(&PeerName::parse("localhost").unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(pair.chain, pair.key)
            .unwrap();
        Arc::new(config)
    }

    /// A handshake in memory, with the tickets that the client gets after it. Returns the kind that
    /// the client sees, and what the server has of the client.
    fn connect(config: &Arc<ClientConfig>, tls: &Tls) -> (HandshakeKind, PeerCertificate) {
        let name = "localhost".try_into().unwrap();
        let mut client = ClientConnection::new(Arc::clone(config), name).unwrap();
        let mut server = ServerConnection::new(Arc::clone(&tls.config)).unwrap();
        while client.wants_write() || server.wants_write() {
            let mut bytes = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut bytes).unwrap();
            }
            let mut unread = &bytes[..];
            while !unread.is_empty() {
                server.read_tls(&mut unread).unwrap();
                server.process_new_packets().unwrap();
            }
            let mut bytes = Vec::new();
            while server.wants_write() {
                server.write_tls(&mut bytes).unwrap();
            }
            let mut unread = &bytes[..];
            while !unread.is_empty() {
                client.read_tls(&mut unread).unwrap();
                client.process_new_packets().unwrap();
            }
        }
        let kind = client.handshake_kind().unwrap();
        assert_eq!(server.handshake_kind(), Some(kind));
        (kind, PeerCertificate::of(&server).unwrap())
    }

    fn tls(trust: Trust) -> Tls {
        match trust.transport {
            Transport::Tls(tls) => tls,
            Transport::Plain => panic!("it is read for https"),
        }
    }

    #[test]
    fn a_resumed_session_of_a_revoked_certificate_is_refused_though_no_verifier_saw_it() {
        let directory = tempfile::tempdir().unwrap();
        let options = InitOptions::now();
        let home = init(&directory.path().join("home"), &options).unwrap().home;
        let now_secs = options.now_secs;
        let name = PeerName::parse("localhost").unwrap();
        let read =
            |number| tls(Trust::read(&home, &name, ipc_protocol::Protocol::Https, number).unwrap());
        let before = read(0);
        let config = client(&home);
        let (kind, shown) = connect(&config, &before);
        assert_eq!(kind, HandshakeKind::Full);
        shown.verify(&before, 0, now_secs).unwrap();
        let (kind, kept) = connect(&config, &before);
        assert_eq!(kind, HandshakeKind::Resumed);
        kept.verify(&before, 0, now_secs).unwrap();

        revoke_certificates(&home, "localhost", RevocationReason::Unspecified, now_secs).unwrap();
        // Another list of what is revoked, and the TLS configuration that has given out tickets.
        let mut after = read(1);
        after.config = Arc::clone(&before.config);
        let (kind, resumed) = connect(&config, &after);
        assert_eq!(kind, HandshakeKind::Resumed, "the verifier of the handshake is not asked");
        for one in [shown, kept, resumed] {
            let refusal = one.verify(&after, 1, now_secs).unwrap_err();
            assert_eq!(refusal.code(), ProblemCode::CertificateRevoked);
        }
    }
}

//! Whom a server trusts and what it opens envelopes with: all that it reads from files of its home,
//! as one snapshot.
//!
//! `state` keeps the snapshot that holds now, and `following` replaces it when a file has changed.
//! Whoever handles a request or a channel takes the snapshot once and works with that. Nothing here
//! knows a route.

use std::collections::HashSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::{ArcSwap, Guard};
use ipc_base::{CertificateFacts, RevocationList, SerialNumber, pair_problem};
use ipc_envelope::{Key, KeyRing};
use ipc_home::{Home, HomeError, PeerName};
use ipc_protocol::Protocol;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, ring};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig,
    SignatureScheme,
};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};

use crate::error::StartError;
use crate::session::SessionKeys;
use crate::validity::OwnCertificate;

/// One state of the files that a server reads.
pub(crate) struct Trust {
    /// Which snapshot it is, counted from 0. What a connection remembers holds for one snapshot.
    pub(crate) number: u64,
    pub(crate) transport: Transport,
    /// The authorities' certificates, which clients that renew get.
    pub(crate) authorities: Vec<CertificateDer<'static>>,
    /// The ring of peers that share the home, and of connections without a certificate.
    pub(crate) envelope_keys: Arc<KeyRing>,
    /// Its keys, from which each enrolled client's are derived.
    keys: Vec<Key>,
    session_keys: KeyRing,
    /// The keys of that ring, for further servers of the installation.
    session_keys_one_by_one: Vec<Key>,
    /// Lists of revoked certificates, for those servers too.
    pub(crate) revocation_lists: Vec<CertificateRevocationListDer<'static>>,
    /// What a server sends behind its own certificate while the authority is replaced.
    pub(crate) cross_certificates: Vec<CertificateDer<'static>>,
}

/// What connections run over, and who verifies their certificates.
pub(crate) enum Transport {
    /// TLS, with a certificate on each connection.
    Tls(Tls),
    /// Plain http, without one.
    Plain,
}

/// TLS of the server: which certificate it shows, and which it takes.
pub(crate) struct Tls {
    pub(crate) config: Arc<ServerConfig>,
    /// Verifies a client's certificate again after the handshake.
    pub(crate) verifier: Arc<Verifier>,
    /// The server's own certificate.
    pub(crate) own: OwnCertificate,
    /// How many certificates are revoked.
    revoked: usize,
}

impl Trust {
    /// Reads and checks everything.
    ///
    /// # Errors
    /// A file is missing, damaged or open to others; the server's certificate does not fit its key,
    /// or the authority's certificate is none.
    pub(crate) fn read(
        home: &Home,
        name: &PeerName,
        protocol: Protocol,
        number: u64,
    ) -> Result<Self, StartError> {
        let keys = home.envelope_keys_one_by_one()?;
        let envelope_keys = home.envelope_keys()?;
        let authorities = match protocol {
            Protocol::Https => home.ca_certificates()?,
            Protocol::Http => Vec::new(),
        };
        let (revocation_lists, cross_certificates) = match protocol {
            Protocol::Https => (home.revocation_lists()?, home.cross_certificates()?),
            Protocol::Http => (Vec::new(), Vec::new()),
        };
        let transport = match protocol {
            Protocol::Https => Transport::Tls(configuration(
                home,
                name,
                &authorities,
                &revocation_lists,
                &cross_certificates,
            )?),
            Protocol::Http => Transport::Plain,
        };
        Ok(Self {
            number,
            transport,
            authorities,
            envelope_keys: Arc::new(envelope_keys),
            keys,
            session_keys: home.session_keys()?,
            session_keys_one_by_one: home.session_keys_one_by_one()?,
            revocation_lists,
            cross_certificates,
        })
    }

    /// The keys of session tokens.
    pub(crate) fn session_keys(&self) -> SessionKeys<'_> {
        SessionKeys { ring: &self.session_keys, number: self.number }
    }

    /// The short id of a key of the ring, in hexadecimal digits. A derived key has that of the key
    /// that it is derived from.
    pub(crate) fn key_id(&self, index: usize) -> Option<String> {
        let id = self.keys.get(index)?.short_id();
        Some(id.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// The keys of the enrolled client of this name, in the order of the ring.
    pub(crate) fn derived_keys(&self, name: &PeerName) -> Vec<Key> {
        self.keys.iter().map(|key| key.derive_for(name.as_str())).collect()
    }

    /// The keys that servers of this installation share, for a further one: those of the envelope
    /// ring, and those of session tokens.
    pub(crate) fn keys_of_servers(&self) -> (&[Key], &[Key]) {
        (&self.keys, &self.session_keys_one_by_one)
    }

    /// Refuses a certificate of the server's own that no client takes at this time.
    ///
    /// # Errors
    /// It has expired or is not valid yet.
    pub(crate) fn check(&self, now: SystemTime) -> Result<(), StartError> {
        match &self.transport {
            Transport::Tls(tls) => tls.own.check(now),
            Transport::Plain => Ok(()),
        }
    }

    /// The files that a snapshot is read from.
    pub(crate) fn files(home: &Home, name: &PeerName, protocol: Protocol) -> Vec<PathBuf> {
        let mut files = vec![home.envelope_keys_file(), home.session_key_file()];
        if protocol == Protocol::Https {
            let name = home.name_of_pair(name).unwrap_or_else(|_| name.clone());
            files.extend([
                home.ca_certificate_file(),
                home.cross_certificate_file(),
                home.revocation_list_file(),
                home.certificate_file(&name),
                home.key_file(&name),
            ]);
        }
        files
    }
}

impl fmt::Display for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.keys.len() {
            1 => f.write_str("1 envelope key")?,
            keys => write!(f, "{keys} envelope keys")?,
        }
        let Transport::Tls(tls) = &self.transport else { return Ok(()) };
        match self.authorities.len() {
            1 => f.write_str(", 1 authority")?,
            authorities => write!(f, ", {authorities} authorities")?,
        }
        write!(f, ", {} revoked, the certificate {}", tls.revoked, tls.own)
    }
}

/// The snapshot that holds now. A look at it costs no lock.
pub(crate) struct CurrentTrust(ArcSwap<Trust>);

impl CurrentTrust {
    pub(crate) fn new(trust: Trust) -> Self {
        Self(ArcSwap::from_pointee(trust))
    }

    pub(crate) fn load(&self) -> Guard<Arc<Trust>> {
        self.0.load()
    }

    /// The snapshot for longer than a look.
    pub(crate) fn load_full(&self) -> Arc<Trust> {
        self.0.load_full()
    }

    pub(crate) fn replace(&self, trust: Trust) {
        self.0.store(Arc::new(trust));
    }
}

fn configuration(
    home: &Home,
    name: &PeerName,
    authorities: &[CertificateDer<'static>],
    revocation_lists: &[CertificateRevocationListDer<'static>],
    cross_certificates: &[CertificateDer<'static>],
) -> Result<Tls, StartError> {
    let roots = roots(home, authorities)?;
    let unusable_authority = |error: VerifierBuilderError| StartError::Authority {
        path: home.ca_certificate_file(),
        reason: error.to_string(),
    };
    let by_chain = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), provider())
        .build()
        .map_err(unusable_authority)?;
    let revoked = revoked(home, revocation_lists)?;
    let revoked_count = revoked.by_issuer.len();
    let verifier = Arc::new(Verifier { by_chain, revoked });
    let as_a_client = WebPkiServerVerifier::builder_with_provider(roots, provider())
        .build()
        .map_err(unusable_authority)?;
    let mut identity = home.identity(name)?;
    let own = OwnCertificate::new(
        name.clone(),
        home.certificate_file(name),
        identity.chain.clone(),
        as_a_client,
    );
    // Clients that trust the authority's predecessor alone verify the certificate by these.
    identity.chain.extend(cross_certificates.iter().cloned());
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(home, name, &error))?
        .with_client_cert_verifier(Arc::clone(&verifier) as Arc<dyn ClientCertVerifier>)
        .with_single_cert(identity.chain, identity.key)
        .map_err(|error| unusable(home, name, &error))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Tls { config: Arc::new(config), verifier, own, revoked: revoked_count })
}

/// The authorities of the home as trust anchors.
fn roots(
    home: &Home,
    authorities: &[CertificateDer<'static>],
) -> Result<Arc<RootCertStore>, StartError> {
    let unusable = |reason| StartError::Authority { path: home.ca_certificate_file(), reason };
    let mut roots = RootCertStore::empty();
    for certificate in authorities {
        roots.add(certificate.clone()).map_err(|error| unusable(pair_problem(&error)))?;
    }
    Ok(Arc::new(roots))
}

/// What is revoked.
#[derive(Debug, Default)]
struct Revoked {
    /// A serial number, with the identifier of the key that issued it.
    by_issuer: HashSet<(Option<Vec<u8>>, SerialNumber)>,
    /// The serial numbers alone.
    serials: HashSet<SerialNumber>,
}

impl Revoked {
    fn add(&mut self, list: RevocationList) {
        for entry in list.entries {
            self.serials.insert(entry.serial.clone());
            self.by_issuer.insert((list.issuer_key_id.clone(), entry.serial));
        }
    }

    fn has(&self, facts: &CertificateFacts) -> bool {
        match &facts.issuer_key_id {
            Some(_) => {
                self.by_issuer.contains(&(facts.issuer_key_id.clone(), facts.serial.clone()))
            }
            // A certificate of the Python tool does not name its authority's key, so that the
            // serial number in any list counts. One of theirs is that of no other certificate here.
            None => self.serials.contains(&facts.serial),
        }
    }
}

/// Reads the lists of revoked certificates. One that cannot be read is not left out: what it
/// revokes would be trusted again.
fn revoked(
    home: &Home,
    lists: &[CertificateRevocationListDer<'static>],
) -> Result<Revoked, StartError> {
    let mut revoked = Revoked::default();
    for list in lists {
        let list = RevocationList::from_der(list)
            .ok_or_else(|| HomeError::BadRevocationList { path: home.revocation_list_file() })?;
        revoked.add(list);
    }
    Ok(revoked)
}

/// Verifies a client's certificate by its chain, and refuses one that was revoked.
///
/// rustls has lists of revoked certificates of its own, and finds the one that counts by the name
/// of the authority. While an authority is replaced there are two of one name, told apart by their
/// keys alone. The lists come from the home, whose files are trusted, so that no signature is
/// verified.
#[derive(Debug)]
pub(crate) struct Verifier {
    by_chain: Arc<dyn ClientCertVerifier>,
    revoked: Revoked,
}

impl Verifier {
    /// Verifies a certificate whose facts are known already. `chain` has at least the certificate.
    ///
    /// # Errors
    /// As in the handshake.
    pub(crate) fn verify(
        &self,
        chain: &[CertificateDer<'_>],
        facts: Option<&CertificateFacts>,
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        self.by_chain.verify_client_cert(&chain[0], &chain[1..], now)?;
        self.refuse_revoked(facts)
    }

    /// Refuses what was revoked. What cannot be read cannot be told from that.
    fn refuse_revoked(&self, facts: Option<&CertificateFacts>) -> Result<(), rustls::Error> {
        let facts = facts.ok_or(CertificateError::BadEncoding)?;
        match self.revoked.has(facts) {
            true => Err(CertificateError::Revoked.into()),
            false => Ok(()),
        }
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.by_chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self.by_chain.verify_client_cert(end_entity, intermediates, now)?;
        self.refuse_revoked(CertificateFacts::from_der(end_entity).as_ref())?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.by_chain.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.by_chain.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.by_chain.supported_verify_schemes()
    }
}

/// The one provider of cryptography, named wherever one is needed: nothing is left to a
/// process-wide default.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn unusable(home: &Home, name: &PeerName, error: &rustls::Error) -> StartError {
    let path = home.certificate_file(name);
    StartError::Certificate { name: name.to_string(), path, reason: pair_problem(error) }
}

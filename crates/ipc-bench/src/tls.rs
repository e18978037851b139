//! Mutual TLS from a home, configured as in web-ipc, for the bare client and server.
//!
//! Both use the same library, provider, versions, certificates and application protocol as web-ipc.
//! So the comparison shows only what is above TLS.

use std::sync::Arc;

use ipc_home::{Home, Identity, PeerName};
use rustls::crypto::ring;
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::failure::Failure;

/// The parts of both configurations, read once.
pub(crate) struct Material {
    roots: Arc<RootCertStore>,
    identity: Identity,
}

impl Material {
    /// Reads the authority and the pair `name` of a home.
    pub(crate) fn read(home: &Home, name: &str) -> Result<Self, Failure> {
        let mut roots = RootCertStore::empty();
        for authority in home.ca_certificates()? {
            roots.add(authority)?;
        }
        Ok(Material { roots: Arc::new(roots), identity: home.identity(&PeerName::parse(name)?)? })
    }

    /// A server that accepts only clients of the home's authority.
    pub(crate) fn server_config(&self) -> Result<Arc<ServerConfig>, Failure> {
        let provider = Arc::new(ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(
            Arc::clone(&self.roots),
            Arc::clone(&provider),
        )
        .build()?;
        let Identity { chain, key } = self.identity.clone();
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// A client without a session to resume.
    pub(crate) fn client_config(&self) -> Result<Arc<ClientConfig>, Failure> {
        let Identity { chain, key } = self.identity.clone();
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
            .with_root_certificates(Arc::clone(&self.roots))
            .with_client_auth_cert(chain, key)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

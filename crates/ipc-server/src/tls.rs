//! The server's TLS configuration: the certificate that it presents, and those that it accepts.

use std::sync::Arc;

use ipc_base::pair_problem;
use ipc_home::{Home, PeerName};
use rustls::client::WebPkiServerVerifier;
use rustls::crypto::{CryptoProvider, ring};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};

use crate::error::StartError;
use crate::validity::OwnCertificate;

/// What a server needs for TLS.
pub(crate) struct Tls {
    /// The configuration, for TLS 1.2 and 1.3.
    pub(crate) config: ServerConfig,
    /// The verifier of client certificates. It is also called for each request.
    pub(crate) verifier: Arc<dyn ClientCertVerifier>,
    /// The certificate that the server presents.
    pub(crate) own: OwnCertificate,
}

/// Reads what a server of this name needs for TLS.
pub(crate) fn configuration(home: &Home, name: &PeerName) -> Result<Tls, StartError> {
    let roots = roots(home)?;
    let unusable_authority = |error: VerifierBuilderError| StartError::Authority {
        path: home.ca_certificate_file(),
        reason: error.to_string(),
    };
    let verifier: Arc<dyn ClientCertVerifier> =
        WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), provider())
            .build()
            .map_err(unusable_authority)?;
    let as_a_client = WebPkiServerVerifier::builder_with_provider(roots, provider())
        .build()
        .map_err(unusable_authority)?;
    let identity = home.identity(name)?;
    let own = OwnCertificate::new(
        name.clone(),
        home.certificate_file(name),
        identity.chain.clone(),
        as_a_client,
    );
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(home, name, &error))?
        .with_client_cert_verifier(Arc::clone(&verifier))
        .with_single_cert(identity.chain, identity.key)
        .map_err(|error| unusable(home, name, &error))?;
    Ok(Tls { config, verifier, own })
}

/// The home's own authority. No other is trusted.
fn roots(home: &Home) -> Result<Arc<RootCertStore>, StartError> {
    let unusable = |reason| StartError::Authority { path: home.ca_certificate_file(), reason };
    let mut roots = RootCertStore::empty();
    for certificate in home.ca_certificates()? {
        roots.add(certificate).map_err(|error| unusable(pair_problem(&error)))?;
    }
    Ok(Arc::new(roots))
}

/// The provider is passed explicitly. One installed for the process would be the application's
/// choice.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn unusable(home: &Home, name: &PeerName, error: &rustls::Error) -> StartError {
    let path = home.certificate_file(name);
    StartError::Certificate { name: name.to_string(), path, reason: pair_problem(error) }
}

//! TLS of the server: which certificate it shows, and which it takes.

use std::sync::Arc;

use ipc_home::{Home, PeerName};
use rustls::crypto::{CryptoProvider, ring};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{CertificateError, RootCertStore, ServerConfig};

use crate::StartError;

/// The configuration for TLS 1.2 and 1.3 and, apart from it, the verifier of client certificates, which is asked
/// again for each request.
pub(crate) fn configuration(
    home: &Home,
    name: &PeerName,
) -> Result<(ServerConfig, Arc<dyn ClientCertVerifier>), StartError> {
    let verifier = verifier(home)?;
    let identity = home.identity(name)?;
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(home, name, &error))?
        .with_client_cert_verifier(Arc::clone(&verifier))
        .with_single_cert(identity.chain, identity.key)
        .map_err(|error| unusable(home, name, &error))?;
    Ok((config, verifier))
}

/// Takes client certificates of the home's own authority, and a connection only with one.
fn verifier(home: &Home) -> Result<Arc<dyn ClientCertVerifier>, StartError> {
    let unusable = |reason| StartError::Authority { path: home.ca_certificate_file(), reason };
    let mut roots = RootCertStore::empty();
    for certificate in home.ca_certificates()? {
        roots.add(certificate).map_err(|error| unusable(in_words(&error)))?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
        .build()
        .map_err(|error| unusable(error.to_string()))
        .map(|verifier| verifier as Arc<dyn ClientCertVerifier>)
}

/// Named here rather than installed for the process, which belongs to the application.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn unusable(home: &Home, name: &PeerName, error: &rustls::Error) -> StartError {
    let path = home.certificate_file(name);
    StartError::Certificate { name: name.to_string(), path, reason: in_words(error) }
}

/// What is wrong with a certificate or a key, for a person.
fn in_words(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InconsistentKeys(_) => "the key is not that of the certificate".to_owned(),
        rustls::Error::InvalidCertificate(CertificateError::BadEncoding) => {
            "the certificate is damaged".to_owned()
        }
        rustls::Error::General(text) if text.contains("private key") => "the key is damaged".to_owned(),
        other => other.to_string(),
    }
}

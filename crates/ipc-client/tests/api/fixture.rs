//! A home with an authority, made for one test.
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipc_client::{Client, ClientBuilder};
use ipc_home::{Credentials, Home};
use ipc_pki::{Authority, AuthorityOptions, IssuedPair, LeafRequest};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::value::RawValue;
use tempfile::TempDir;

use crate::fake::{Fake, WARMING_UP};
pub(crate) use crate::keys::{KEY, now_secs, ring};
use crate::ways::Way;

pub(crate) const DAY_SECS: u64 = 86_400;

/// A secret that no log may show.
pub(crate) const PASSWORD: &str = "the-admins-own-password";

/// A certificate for `name` alone.
pub(crate) fn issue(authority: &Authority, name: &str, at_secs: u64) -> IssuedPair {
    authority.issue(&LeafRequest::new(name.parse().unwrap()), at_secs).unwrap()
}

/// A home with an authority and the client's pair `localhost`.
pub(crate) struct Place {
    pub(crate) home: Home,
    pub(crate) authority: Authority,
    _directory: TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        // The authority is older than any certificate of a test.
        let authority =
            Authority::create(&AuthorityOptions::default(), now_secs() - 500 * DAY_SECS).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("home");
        ipc_home::make_private_directory(&root).unwrap();
        let place = Place { home: Home::at(&root), authority, _directory: directory };
        place.write("envelope.keys", KEY.as_bytes());
        place.write("web-ipc-ca.crt", place.authority.certificate_pem());
        place.present(&issue(&place.authority, "localhost", now_secs()));
        place
            .home
            .write_admin_credentials(&Credentials::new("ipc-admin", PASSWORD), now_secs(), [9; 16])
            .unwrap();
        place
    }

    /// Gives the client another certificate pair.
    pub(crate) fn present(&self, pair: &IssuedPair) {
        self.present_as("localhost", pair);
    }

    /// Puts a pair into the home, under this name.
    pub(crate) fn present_as(&self, name: &str, pair: &IssuedPair) {
        self.write(&format!("{name}.key"), pair.key_pem.as_bytes());
        self.write(&format!("{name}.crt"), &pair.certificate_pem);
    }

    pub(crate) fn write(&self, file: &str, content: &[u8]) {
        ipc_home::write_secret_atomically(&self.home.root().join(file), content).unwrap();
    }

    /// The files of kept sessions.
    pub(crate) fn kept_sessions(&self) -> Vec<PathBuf> {
        match std::fs::read_dir(self.home.sessions_dir()) {
            Ok(entries) => {
                let files = entries.map(|entry| entry.unwrap().path());
                // The lock of a login is not a session.
                files.filter(|path| path.extension().is_none()).collect()
            }
            Err(_) => Vec::new(),
        }
    }

    /// A client of a server named `localhost`.
    pub(crate) fn builder(&self, fake: &Fake) -> ClientBuilder {
        Client::builder(&self.home)
            .server("localhost", fake.address())
            .timeout(Duration::from_secs(20))
            .channel(false)
    }

    pub(crate) fn client(&self, fake: &Fake) -> ipc_client::blocking::Client {
        self.builder(fake).build().unwrap().blocking()
    }

    /// A client whose messages go this way.
    pub(crate) fn client_by(&self, way: Way, fake: &Fake) -> ipc_client::blocking::Client {
        built(way, self.builder(fake)).blocking()
    }

    /// The TLS configuration of a server named `localhost` that accepts clients of this authority.
    pub(crate) fn tls(&self) -> Arc<ServerConfig> {
        self.tls_as(&issue(&self.authority, "localhost", now_secs()))
    }

    /// The same configuration with another certificate.
    pub(crate) fn tls_as(&self, pair: &IssuedPair) -> Arc<ServerConfig> {
        server_config(pair, Some(&self.authority), rustls::ALL_VERSIONS)
    }
}

/// Builds a client whose messages go this way.
pub(crate) fn built(way: Way, builder: ClientBuilder) -> Client {
    if way == Way::Post {
        return builder.build().unwrap();
    }
    let client = builder.channel(true).build().unwrap();
    // The first message of a client goes by POST.
    let warming_up: Box<RawValue> = RawValue::from_string(WARMING_UP.to_owned()).unwrap();
    client.send(&warming_up).timeout(Duration::from_secs(20)).wait().unwrap();
    client
}

/// The TLS configuration of a server. Without `clients` it requests no certificate.
pub(crate) fn server_config(
    pair: &IssuedPair,
    clients: Option<&Authority>,
    versions: &[&'static SupportedProtocolVersion],
) -> Arc<ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(versions)
        .unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots
                .add(CertificateDer::from_pem_slice(authority.certificate_pem()).unwrap())
                .unwrap();
            builder.with_client_cert_verifier(
                WebPkiClientVerifier::builder_with_provider(roots.into(), provider)
                    .build()
                    .unwrap(),
            )
        }
    };
    let chain = vec![CertificateDer::from_pem_slice(&pair.certificate_pem).unwrap()];
    let mut config = builder
        .with_single_cert(chain, PrivateKeyDer::from_pem_slice(pair.key_pem.as_bytes()).unwrap())
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Arc::new(config)
}

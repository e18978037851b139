//! What a client takes from its home: names, addresses, certificates, keys, credentials.
//!
//! The builder comes here when a client is made, and the engine again after a file has changed.
//! What becomes of connections then is not known here.

use std::sync::Arc;

use ipc_home::{ClientSettings, Credentials, Home, PeerName};
use ipc_protocol::Protocol;
use rustls_pki_types::ServerName;
use sha2::{Digest, Sha256};

use crate::build_error::BuildError;
use crate::error::CredentialsOrigin;
use crate::exchange::password_check::GivenPassword;
use crate::exchange::session::SessionCache;
use crate::transport::address::Address;
use crate::transport::connector::Connector;
use crate::transport::tls::{self, Unusable};

/// The certificate pair that is presented, unless said otherwise by the builder's caller or by
/// `client.json`.
pub const IDENTITY_DEFAULT: &str = "localhost";

/// Where a client's material comes from: the home, and what the builder's caller gave in its place.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) home: Home,
    /// The name of the server and its addresses, where given.
    pub(crate) server: Option<(String, Vec<String>)>,
    pub(crate) identity: Option<String>,
    pub(crate) credentials: Option<Credentials>,
    pub(crate) protocol: Protocol,
    pub(crate) allow_remote_http: bool,
    pub(crate) keep_session: bool,
}

/// All that a client needs to connect and to seal.
pub(crate) struct Material {
    /// The name that the server's certificate must be for.
    pub(crate) name: String,
    pub(crate) connector: Connector,
    pub(crate) ring: ipc_envelope::KeyRing,
    pub(crate) credentials: Credentials,
    pub(crate) credentials_origin: CredentialsOrigin,
    /// `None` if sessions are not to be kept.
    pub(crate) cache: Option<SessionCache>,
}

impl Source {
    /// Reads the home and checks that what is in it can be used.
    ///
    /// # Errors
    /// [`BuildError`].
    pub(crate) fn load(&self) -> Result<Material, BuildError> {
        let settings = self.settings()?;
        let (name, texts) = match (&self.server, &settings) {
            (Some(server), _) => server.clone(),
            (None, Some(settings)) => (settings.server.to_string(), settings.addresses.clone()),
            (None, None) => return Err(BuildError::NoServer),
        };
        let server_name = ServerName::try_from(name.clone())
            .map_err(|_| BuildError::ServerName { name: name.clone() })?;
        let addresses = texts.into_iter().map(|text| {
            Address::parse(&text)
                .map_err(|fault| BuildError::Address { address: text, reason: fault.as_str() })
        });
        let addresses = addresses.collect::<Result<Vec<_>, _>>()?;
        if addresses.is_empty() {
            return Err(BuildError::NoServer);
        }
        let identity = self.identity_name(settings.as_ref());
        let loopback_only = !self.allow_remote_http;
        let (tls, certificate) = match self.protocol {
            Protocol::Http => {
                let remote =
                    addresses.iter().find(|address| loopback_only && !address.is_loopback());
                if let Some(address) = remote {
                    return Err(BuildError::RemoteHttp { address: address.to_string() });
                }
                (None, None)
            }
            Protocol::Https => {
                let (config, certificate) = self.tls(&identity)?;
                (Some((Arc::new(config), server_name)), certificate)
            }
        };
        let (credentials, credentials_origin) = match &self.credentials {
            Some(given) => (given.clone(), CredentialsOrigin::Given),
            None if settings.is_some() => {
                (self.home.client_credentials()?, CredentialsOrigin::ClientCred)
            }
            None => (self.home.admin_credentials()?, CredentialsOrigin::AdminCred),
        };
        let ring = self.home.envelope_keys()?;
        let cache = self.keep_session.then(|| {
            let password =
                self.credentials.as_ref().map(|given| GivenPassword::of(&given.password));
            SessionCache::new(self.home.clone(), name.clone(), certificate, password)
        });
        let loopback_only = loopback_only && tls.is_none();
        let connector = Connector { addresses, loopback_only, tls, identity };
        Ok(Material { name, connector, ring, credentials, credentials_origin, cache })
    }

    /// `client.json`, where it has anything to say beside what was given.
    fn settings(&self) -> Result<Option<ClientSettings>, BuildError> {
        if self.server.is_some() && self.identity.is_some() && self.credentials.is_some() {
            return Ok(None);
        }
        Ok(self.home.client_settings()?)
    }

    fn identity_name(&self, settings: Option<&ClientSettings>) -> String {
        match (&self.identity, settings) {
            (Some(given), _) => given.clone(),
            (None, Some(settings)) => settings.identity.to_string(),
            (None, None) => IDENTITY_DEFAULT.to_owned(),
        }
    }

    /// What TLS makes of the pair `identity` and the authority, with the SHA-256 of the pair's
    /// certificate.
    fn tls(&self, identity: &str) -> Result<(rustls::ClientConfig, Option<[u8; 32]>), BuildError> {
        let name = PeerName::parse(identity)
            .map_err(|source| BuildError::Identity { name: identity.to_owned(), source })?;
        let pair = self.home.identity(&name)?;
        let certificate = pair.chain.first().map(|leaf| Sha256::digest(leaf).into());
        let config =
            tls::client_config(self.home.ca_certificates()?, pair).map_err(|unusable| {
                match unusable {
                    Unusable::Authority(reason) => {
                        BuildError::Authority { path: self.home.ca_certificate_file(), reason }
                    }
                    Unusable::Pair(reason) => BuildError::Tls {
                        identity: identity.to_owned(),
                        path: self.home.certificate_file(&name),
                        reason,
                    },
                }
            })?;
        Ok((config, certificate))
    }

    /// The credentials that are in the home now; `None` where the builder's caller gave them.
    pub(crate) fn credentials_in_home(
        &self,
        origin: CredentialsOrigin,
    ) -> Option<Result<Credentials, ipc_home::HomeError>> {
        match origin {
            CredentialsOrigin::Given => None,
            CredentialsOrigin::AdminCred => Some(self.home.admin_credentials()),
            CredentialsOrigin::ClientCred => Some(self.home.client_credentials()),
        }
    }
}

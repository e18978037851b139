//! What a client takes from its home: names, addresses, certificates, keys, credentials.
//!
//! The builder comes here when a client is made, and the engine again after a file has changed.
//! What becomes of connections then is not known here.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use ipc_envelope::KeyRing;
use ipc_home::{ClientSettings, Credentials, FileStamps, Home, HomeError, PeerName};
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
    /// Why a changed home was of no use, as it was told last.
    pub(crate) told: Arc<Mutex<Option<String>>>,
}

/// Which material it is: each that differs from the one before has a number that is larger by one.
pub(crate) type Epoch = u64;

/// Hands on what the thread that watches the home has read.
pub(crate) type Follow = Arc<dyn Fn(Material) + Send + Sync>;

/// What was read, and what tells whether it is still the same.
pub(crate) struct Seen {
    pub(crate) files: Vec<PathBuf>,
    /// What the files looked like before they were read.
    pub(crate) stamps: FileStamps,
    /// SHA-256 of all that connections are made with.
    pub(crate) link: [u8; 32],
    /// SHA-256 of the keys.
    pub(crate) keys: [u8; 32],
}

/// All that a client needs to connect and to seal.
pub(crate) struct Material {
    /// The name that the server's certificate must be for.
    pub(crate) name: String,
    pub(crate) connector: Connector,
    pub(crate) ring: KeyRing,
    pub(crate) credentials: Credentials,
    pub(crate) credentials_origin: CredentialsOrigin,
    /// `None` if sessions are not to be kept.
    pub(crate) cache: Option<SessionCache>,
    pub(crate) seen: Seen,
}

impl Source {
    /// Reads the home and checks that what is in it can be used.
    ///
    /// # Errors
    /// [`BuildError`].
    pub(crate) fn load(&self) -> Result<Material, BuildError> {
        let (settings, files, stamps) = self.look()?;
        let (name, texts) = match (&self.server, &settings) {
            (Some(server), _) => server.clone(),
            (None, Some(settings)) => (settings.server.to_string(), settings.addresses.clone()),
            (None, None) => return Err(BuildError::NoServer),
        };
        let server_name = ServerName::try_from(name.clone())
            .map_err(|_| BuildError::ServerName { name: name.clone() })?;
        let addresses = texts.iter().map(|text| {
            Address::parse(text).map_err(|fault| BuildError::Address {
                address: text.clone(),
                reason: fault.as_str(),
            })
        });
        let addresses = addresses.collect::<Result<Vec<_>, _>>()?;
        if addresses.is_empty() {
            return Err(BuildError::NoServer);
        }
        let identity = self.identity_name(settings.as_ref());
        let loopback_only = !self.allow_remote_http;
        let mut link = Sha256::new();
        for part in std::iter::once(&name).chain(&texts) {
            add(&mut link, part.as_bytes());
        }
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
                let (config, certificate) = self.tls(&identity, &mut link)?;
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
        let (ring, keys) = self.keys()?;
        let cache = self.keep_session.then(|| {
            let password =
                self.credentials.as_ref().map(|given| GivenPassword::of(&given.password));
            SessionCache::new(self.home.clone(), name.clone(), certificate, password)
        });
        let loopback_only = loopback_only && tls.is_none();
        let connector = Connector { addresses, loopback_only, tls, identity };
        let seen = Seen { files, stamps, link: link.finalize().into(), keys };
        Ok(Material { name, connector, ring, credentials, credentials_origin, cache, seen })
    }

    /// Reads the home again after a change; `None` where it cannot be used as it is, which is told
    /// once.
    pub(crate) fn load_again(&self) -> Option<Material> {
        let loaded = self.load();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        match loaded {
            Ok(material) => {
                *told = None;
                Some(material)
            }
            Err(error) => {
                let why = ipc_base::chain(&error).to_string();
                if told.as_ref() != Some(&why) {
                    log::warn!(
                        "{} has changed and cannot be used, so the client keeps what it read before: {why}",
                        self.home.root().display()
                    );
                    *told = Some(why);
                }
                None
            }
        }
    }

    /// `client.json`, and the files to read with what they look like now.
    fn look(&self) -> Result<(Option<ClientSettings>, Vec<PathBuf>, FileStamps), BuildError> {
        loop {
            let settings = self.settings()?;
            let files = self.files(settings.as_ref());
            let stamps = FileStamps::of(&files);
            // What was read before the look may be older than what was looked at.
            if self.settings()? == settings {
                return Ok((settings, files, stamps));
            }
        }
    }

    /// All files that are read.
    fn files(&self, settings: Option<&ClientSettings>) -> Vec<PathBuf> {
        let home = &self.home;
        let mut files = vec![home.envelope_keys_file(), home.client_settings_file()];
        if self.credentials.is_none() {
            files.extend([home.client_cred_file(), home.admin_cred_file()]);
        }
        if self.protocol == Protocol::Https {
            files.push(home.ca_certificate_file());
            if let Ok(name) = PeerName::parse(&self.identity_name(settings)) {
                let name = home.name_of_pair(&name).unwrap_or(name);
                files.extend([home.certificate_file(&name), home.key_file(&name)]);
            }
        }
        files
    }

    /// The key ring, and the SHA-256 of its keys.
    fn keys(&self) -> Result<(KeyRing, [u8; 32]), BuildError> {
        let keys = self.home.envelope_keys_one_by_one()?;
        let mut digest = Sha256::new();
        for key in &keys {
            add(&mut digest, key.to_base64url().as_bytes());
        }
        let ring = KeyRing::from_keys(keys).map_err(|source| HomeError::BadKeys {
            path: self.home.envelope_keys_file(),
            source,
        })?;
        Ok((ring, digest.finalize().into()))
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

    /// What TLS makes of the pair `identity` and the authorities, with the SHA-256 of the pair's
    /// certificate. All certificates are added to `link`.
    fn tls(
        &self,
        identity: &str,
        link: &mut Sha256,
    ) -> Result<(rustls::ClientConfig, Option<[u8; 32]>), BuildError> {
        let name = PeerName::parse(identity)
            .map_err(|source| BuildError::Identity { name: identity.to_owned(), source })?;
        let pair = self.home.identity(&name)?;
        let certificate = pair.chain.first().map(|leaf| Sha256::digest(leaf).into());
        let authorities = self.home.ca_certificates()?;
        for certificate in pair.chain.iter().chain(&authorities) {
            add(link, certificate);
        }
        let config = tls::client_config(authorities, pair).map_err(|unusable| match unusable {
            Unusable::Authority(reason) => {
                BuildError::Authority { path: self.home.ca_certificate_file(), reason }
            }
            Unusable::Pair(reason) => BuildError::Tls {
                identity: identity.to_owned(),
                path: self.home.certificate_file(&name),
                reason,
            },
        })?;
        Ok((config, certificate))
    }

    /// The credentials that are in the home now; `None` where the builder's caller gave them.
    pub(crate) fn credentials_in_home(
        &self,
        origin: CredentialsOrigin,
    ) -> Option<Result<Credentials, HomeError>> {
        match origin {
            CredentialsOrigin::Given => None,
            CredentialsOrigin::AdminCred => Some(self.home.admin_credentials()),
            CredentialsOrigin::ClientCred => Some(self.home.client_credentials()),
        }
    }
}

/// Adds one of several parts to a digest, told apart from the next by its length.
fn add(digest: &mut Sha256, part: &[u8]) {
    digest.update((part.len() as u64).to_be_bytes());
    digest.update(part);
}

//! Prepares a client: reads the home, checks the options, starts the thread. Nothing is sent.

use std::io;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ipc_base::Remedy;
use ipc_home::{Credentials, Home, HomeError, NameError, PeerName};
use ipc_protocol::{
    DEADLINE_SECS_MAX as TIMEOUT_SECS_MAX, PLAINTEXT_BYTES_MAX_DEFAULT, Protocol, to_nfc,
};
use rustls_pki_types::ServerName;
use sha2::{Digest, Sha256};

use crate::client::Client;
use crate::config::Config;
use crate::exchange::Setup;
use crate::exchange::password_check::GivenPassword;
use crate::exchange::session::SessionCache;
use crate::local::LocalClient;
use crate::transport::address::Address;
use crate::transport::connector::Connector;
use crate::transport::tls::{self, Unusable};
use crate::worker;

/// The default timeout of a call.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);

/// The default limit of connections for POST requests.
pub const CONNECTIONS_MAX_DEFAULT: usize = 4;

/// The default name of the certificate pair that the client presents.
pub const IDENTITY_DEFAULT: &str = "localhost";

/// No server would accept more connections than this.
const CONNECTIONS_LIMIT: usize = 1024;

const TIMEOUTS: RangeInclusive<Duration> =
    Duration::from_millis(1)..=Duration::from_secs(TIMEOUT_SECS_MAX);

/// The options of a [`Client`]. The server is required. Everything else has a default.
#[derive(Clone, Debug)]
pub struct ClientBuilder {
    home: Home,
    server: Option<(String, Vec<String>)>,
    identity: String,
    credentials: Option<Credentials>,
    protocol: Protocol,
    allow_remote_http: bool,
    timeout: Duration,
    connections_max: usize,
    plaintext_bytes_max: usize,
    keep_session: bool,
    channel: bool,
}

/// Why a client could not be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// [`ClientBuilder::server`] was not called.
    #[error("no server was given")]
    NoServer,
    /// The server name is neither a DNS name nor an IP address.
    #[error("the server name `{name}` is neither a DNS name nor an IP address")]
    ServerName {
        /// The name that was given.
        name: String,
    },
    /// The address cannot be used.
    #[error("invalid address `{address}`: {reason}")]
    Address {
        /// The address that was given.
        address: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The name of the certificate pair is invalid.
    #[error("`{name}` is not a valid name of a certificate pair")]
    Identity {
        /// The name that was given.
        name: String,
        /// What is wrong with it.
        #[source]
        source: NameError,
    },
    /// Plain `http` to another host is not allowed.
    #[error("plain http to {address} is not allowed, since it would leave this host")]
    RemoteHttp {
        /// The address.
        address: String,
    },
    /// The timeout is out of bounds.
    #[error("the timeout must be between 1 ms and {TIMEOUT_SECS_MAX} s, not {} s", timeout.as_secs_f64())]
    Timeout {
        /// The timeout that was given.
        timeout: Duration,
    },
    /// The number of connections is out of bounds.
    #[error(
        "the number of connections must be between 1 and {CONNECTIONS_LIMIT}, not {connections}"
    )]
    Connections {
        /// The number that was given.
        connections: usize,
    },
    /// The home could not be read.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The certificate of the home's authority cannot be used for TLS.
    #[error("{} cannot be used for TLS: {reason}", path.display())]
    Authority {
        /// The file of the certificate.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The certificate pair cannot be used for TLS.
    #[error("the certificate pair `{identity}` cannot be used for TLS: {reason}")]
    Tls {
        /// The name of the certificate pair.
        identity: String,
        /// The file of the certificate.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The system could not start the thread, or the runtime on it.
    #[error("the client's thread could not be started")]
    Thread {
        /// The error of the system.
        #[source]
        source: io::Error,
    },
}

impl BuildError {
    /// What a person can do about it. `None` if only the cause can tell.
    #[must_use]
    pub fn remedy(&self) -> Option<Remedy> {
        Some(match self {
            BuildError::NoServer => "give the server's name and address".into(),
            BuildError::ServerName { .. } => "give a name such as localhost or 127.0.0.1".into(),
            BuildError::Address { .. } => "give an address such as 127.0.0.1:3000".into(),
            BuildError::Identity { .. } => {
                "give the name of a pair NAME.crt, NAME.key in the home".into()
            }
            BuildError::RemoteHttp { .. } => "use https".into(),
            BuildError::Timeout { .. } | BuildError::Connections { .. } => {
                "give a value within these bounds".into()
            }
            BuildError::Home(error) => return error.remedy(),
            BuildError::Authority { path, .. } => {
                Remedy::RestoreFile { path: path.clone() }.or(Remedy::ReplaceHome)
            }
            BuildError::Tls { identity, path, .. } => ipc_home::remedy_of_pair(path, identity),
            BuildError::Thread { .. } => return None,
        })
    }
}

impl Client {
    /// Begins a client. It takes keys and certificates from `home`, and the credentials too unless
    /// others are given.
    #[must_use]
    pub fn builder(home: &Home) -> ClientBuilder {
        ClientBuilder::new(home)
    }
}

impl LocalClient {
    /// Begins a client, as [`Client::builder`] does. Finish with
    /// [`build_local`](ClientBuilder::build_local).
    #[must_use]
    pub fn builder(home: &Home) -> ClientBuilder {
        Client::builder(home)
    }
}

impl ClientBuilder {
    pub(crate) fn new(home: &Home) -> Self {
        ClientBuilder {
            home: home.clone(),
            server: None,
            identity: IDENTITY_DEFAULT.to_owned(),
            credentials: None,
            protocol: Protocol::default(),
            allow_remote_http: false,
            timeout: TIMEOUT_DEFAULT,
            connections_max: CONNECTIONS_MAX_DEFAULT,
            plaintext_bytes_max: PLAINTEXT_BYTES_MAX_DEFAULT,
            keep_session: true,
            channel: true,
        }
    }

    /// The server: the name that its certificate must be for, and the address to connect to,
    /// `HOST:PORT` or `[IPV6]:PORT`. The name need not resolve to the address, nor to anything.
    ///
    /// Several addresses are those of servers that replace each other under one name. The client
    /// connects to the first that answers. When a connection fails or breaks, the client goes to
    /// the next address and sends everything without an answer there, under the same ids. The next
    /// server knows what the first one accepted without an answer only if both share an inbox.
    ///
    /// ```
    /// # let builder = ipc_client::Client::builder(&ipc_home::Home::at("/nowhere"));
    /// let builder = builder.server("inbox.example", ["10.0.0.1:3000", "10.0.0.2:3000"]);
    /// ```
    #[must_use]
    pub fn server(mut self, name: impl Into<String>, addresses: impl IntoAddresses) -> Self {
        self.server = Some((name.into(), addresses.into_addresses()));
        self
    }

    /// The certificate pair of the home (`NAME.crt`, `NAME.key`) that this client presents. Default
    /// `localhost`.
    #[must_use]
    pub fn identity(mut self, name: impl Into<String>) -> Self {
        self.identity = name.into();
        self
    }

    /// The user to log in as. Default: the home's own admin, from `admin.cred`. The client reads
    /// that file again when the server refuses its credentials, since the admin's password may have
    /// changed.
    #[must_use]
    pub fn credentials(mut self, username: impl Into<String>, password: impl Into<String>) -> Self {
        // NFC gives a name one form, however it was typed. The kept session is found under it.
        self.credentials = Some(Credentials::new(to_nfc(&username.into()), password));
        self
    }

    /// HTTPS, the default, or plain HTTP. Plain HTTP is for loopback and for a TLS-terminating
    /// proxy on this host. [`build`](Self::build) refuses it for other hosts.
    #[must_use]
    pub fn protocol(mut self, protocol: Protocol) -> Self {
        self.protocol = protocol;
        self
    }

    /// Lets plain HTTP leave this host. Messages and logins are still sealed, but no certificate
    /// authenticates either end. An attacker on the path can drop and delay messages, and can forge
    /// those answers of the server that are not sealed, such as `success`.
    #[must_use]
    pub fn dangerously_allow_remote_http(mut self) -> Self {
        self.allow_remote_http = true;
        self
    }

    /// How long a call may take in all, including attempts, pauses and logins. For a request this
    /// is the time until the server has it. 1 ms to [`TIMEOUT_SECS_MAX`](crate::TIMEOUT_SECS_MAX)
    /// seconds. Default 30 s.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The most connections for POST requests, beside the one of the channel. Further requests
    /// wait. Messages that are too long for a channel go by POST, and all messages if the server
    /// opens no channel. Then requests that wait for a reply leave one connection to other
    /// messages, if there are several. 1 to 1024, default 4.
    #[must_use]
    pub fn connections_max(mut self, connections: usize) -> Self {
        self.connections_max = connections;
        self
    }

    /// Whether messages go over a channel, one WebSocket for all of them, if the server opens one.
    /// Without a channel each message goes by POST, which is slower. Turn it off behind a proxy
    /// that opens WebSockets and does not carry them. Default on.
    #[must_use]
    pub fn channel(mut self, channel: bool) -> Self {
        self.channel = channel;
        self
    }

    /// The longest frame that is sent, in bytes of JSON text: the message and a few hundred bytes
    /// around it. Default 16 MiB, like the server's.
    #[must_use]
    pub fn plaintext_bytes_max(mut self, bytes: usize) -> Self {
        self.plaintext_bytes_max = bytes;
        self
    }

    /// Whether the home keeps a session. Then the next process of the same user need not log in,
    /// and of many processes that need a session at the same time only one logs in. With given
    /// [credentials](Self::credentials) the session is kept for that password: a process with
    /// another one logs in. A read-only home is no error. Default on.
    #[must_use]
    pub fn keep_session(mut self, keep: bool) -> Self {
        self.keep_session = keep;
        self
    }

    /// Reads the home and starts the client's thread. Nothing is sent, so the server need not run
    /// yet.
    ///
    /// Keys and certificates are read here, once: a running client keeps using the old ones after a
    /// change. Only `admin.cred` is read again, see [`credentials`](Self::credentials).
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn build(self) -> Result<Client, BuildError> {
        let setup = self.settle()?;
        let (config, addresses) = described(&setup);
        let jobs = worker::start(setup).map_err(|source| BuildError::Thread { source })?;
        Ok(Client::new(jobs, config, addresses))
    }

    /// Reads the home and makes a client that works on the calling thread. [`build`](Self::build)
    /// makes one with a thread of its own.
    ///
    /// # Errors
    /// [`BuildError`].
    ///
    /// # Panics
    /// Outside an actix runtime or a tokio `LocalSet`.
    pub fn build_local(self) -> Result<LocalClient, BuildError> {
        let setup = self.settle()?;
        let (config, addresses) = described(&setup);
        Ok(LocalClient::new(Client::new(worker::start_here(setup), config, addresses)))
    }

    /// Reads and checks all that is needed before the thread starts.
    fn settle(self) -> Result<Setup, BuildError> {
        let (name, texts) = self.server.ok_or(BuildError::NoServer)?;
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
        if !TIMEOUTS.contains(&self.timeout) {
            return Err(BuildError::Timeout { timeout: self.timeout });
        }
        if !(1..=CONNECTIONS_LIMIT).contains(&self.connections_max) {
            return Err(BuildError::Connections { connections: self.connections_max });
        }
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
                let pair = PeerName::parse(&self.identity).map_err(|source| {
                    BuildError::Identity { name: self.identity.clone(), source }
                })?;
                let identity = self.home.identity(&pair)?;
                let certificate = identity.chain.first().map(|leaf| Sha256::digest(leaf).into());
                let config = tls::client_config(self.home.ca_certificates()?, identity).map_err(
                    |unusable| match unusable {
                        Unusable::Authority(reason) => {
                            BuildError::Authority { path: self.home.ca_certificate_file(), reason }
                        }
                        Unusable::Pair(reason) => BuildError::Tls {
                            identity: self.identity.clone(),
                            path: self.home.certificate_file(&pair),
                            reason,
                        },
                    },
                )?;
                (Some((Arc::new(config), server_name)), certificate)
            }
        };
        let (credentials, admin_home) = match self.credentials {
            Some(credentials) => (credentials, None),
            None => (self.home.admin_credentials()?, Some(self.home.clone())),
        };
        let ring = self.home.envelope_keys()?;
        let cache = self.keep_session.then(|| {
            let password = admin_home.is_none().then(|| GivenPassword::of(&credentials.password));
            SessionCache::new(self.home, name.clone(), certificate, password)
        });
        let now_secs =
            SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let kept =
            cache.as_ref().and_then(|cache| cache.load(&credentials.username, now_secs, None));
        let loopback_only = loopback_only && tls.is_none();
        let connector = Connector { addresses, loopback_only, tls, identity: self.identity };
        let config = Config {
            name,
            timeout: self.timeout,
            connections_max: self.connections_max,
            plaintext_bytes_max: self.plaintext_bytes_max,
            uses_channel: self.channel,
        };
        Ok(Setup { config, connector, ring, credentials, admin_home, kept, cache })
    }
}

/// The part of the set-up that a handle shows: the settings, and the addresses as text.
fn described(setup: &Setup) -> (Config, String) {
    let addresses: Vec<_> = setup.connector.addresses.iter().map(ToString::to_string).collect();
    (setup.config.clone(), addresses.join(", "))
}

/// One address, or several, of a server: `HOST:PORT` or `[IPV6]:PORT`.
pub trait IntoAddresses {
    /// The addresses as text, in the order in which they are tried.
    fn into_addresses(self) -> Vec<String>;
}

impl IntoAddresses for &str {
    fn into_addresses(self) -> Vec<String> {
        vec![self.to_owned()]
    }
}

impl IntoAddresses for String {
    fn into_addresses(self) -> Vec<String> {
        vec![self]
    }
}

impl IntoAddresses for &String {
    fn into_addresses(self) -> Vec<String> {
        vec![self.clone()]
    }
}

impl IntoAddresses for SocketAddr {
    fn into_addresses(self) -> Vec<String> {
        vec![self.to_string()]
    }
}

impl IntoAddresses for &SocketAddr {
    fn into_addresses(self) -> Vec<String> {
        vec![self.to_string()]
    }
}

impl<A: IntoAddresses, const N: usize> IntoAddresses for [A; N] {
    fn into_addresses(self) -> Vec<String> {
        self.into_iter().flat_map(IntoAddresses::into_addresses).collect()
    }
}

impl<A: IntoAddresses> IntoAddresses for Vec<A> {
    fn into_addresses(self) -> Vec<String> {
        self.into_iter().flat_map(IntoAddresses::into_addresses).collect()
    }
}

impl<A: IntoAddresses + Clone> IntoAddresses for &[A] {
    fn into_addresses(self) -> Vec<String> {
        self.iter().cloned().flat_map(IntoAddresses::into_addresses).collect()
    }
}

//! Settles everything a client needs before anything is sent: reads the home, checks the options,
//! starts the thread.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ipc_home::{Credentials, Home};
use ipc_protocol::{
    DEADLINE_SECS_MAX as TIMEOUT_SECS_MAX, PLAINTEXT_BYTES_MAX_DEFAULT, Protocol, to_nfc,
};

use crate::build_error::{BuildError, CONNECTIONS_LIMIT};
use crate::client::Client;
use crate::config::Config;
use crate::exchange::Setup;
use crate::local::LocalClient;
use crate::source::{Material, Source};
use crate::worker;

/// How long a call may take, unless set otherwise.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);

/// The number of connections for POST requests, unless set otherwise.
pub const CONNECTIONS_MAX_DEFAULT: usize = 4;

const TIMEOUTS: RangeInclusive<Duration> =
    Duration::from_millis(1)..=Duration::from_secs(TIMEOUT_SECS_MAX);

/// Options of a [`Client`]. The server is required unless the home is that of an enrolled client,
/// which names one; everything else has a default.
#[derive(Clone, Debug)]
pub struct ClientBuilder {
    source: Source,
    timeout: Duration,
    connections_max: usize,
    plaintext_bytes_max: usize,
    channel: bool,
}

impl Client {
    /// Begins a client that takes keys, certificates and, unless it is given others, credentials
    /// from `home`.
    #[must_use]
    pub fn builder(home: &Home) -> ClientBuilder {
        ClientBuilder::new(home)
    }
}

impl LocalClient {
    /// Begins a client, as [`Client::builder`] does; finish with
    /// [`build_local`](ClientBuilder::build_local).
    #[must_use]
    pub fn builder(home: &Home) -> ClientBuilder {
        Client::builder(home)
    }
}

impl ClientBuilder {
    pub(crate) fn new(home: &Home) -> Self {
        ClientBuilder {
            source: Source {
                home: home.clone(),
                server: None,
                identity: None,
                credentials: None,
                protocol: Protocol::default(),
                allow_remote_http: false,
                keep_session: true,
                told: Arc::default(),
            },
            timeout: TIMEOUT_DEFAULT,
            connections_max: CONNECTIONS_MAX_DEFAULT,
            plaintext_bytes_max: PLAINTEXT_BYTES_MAX_DEFAULT,
            channel: true,
        }
    }

    /// The server: the name that its certificate must be for, and the address to connect to,
    /// `HOST:PORT` or `[IPV6]:PORT`. The name need not resolve to the address, nor to anything.
    /// Default: that of `client.json`, in the home of an enrolled client.
    ///
    /// Several addresses are those of servers that stand in for each other under one name. The
    /// client connects to the first that answers. When a connection fails or breaks it goes to the
    /// next, and what had no answer goes there, under the same ids. What the first server took
    /// before it broke, and had no time to answer, is known to the next one only where they share
    /// an inbox.
    ///
    /// ```
    /// # let builder = ipc_client::Client::builder(&ipc_home::Home::at("/nowhere"));
    /// let builder = builder.server("inbox.example", ["10.0.0.1:3000", "10.0.0.2:3000"]);
    /// ```
    #[must_use]
    pub fn server(mut self, name: impl Into<String>, addresses: impl IntoAddresses) -> Self {
        self.source.server = Some((name.into(), addresses.into_addresses()));
        self
    }

    /// The certificate pair of the home (`NAME.crt`, `NAME.key`) that this client presents. Default
    /// `localhost`, or in the home of an enrolled client that of `client.json`.
    #[must_use]
    pub fn identity(mut self, name: impl Into<String>) -> Self {
        self.source.identity = Some(name.into());
        self
    }

    /// The user to log in as. Default: in the home of an enrolled client its own user, from
    /// `client.cred`; elsewhere the home's admin, from `admin.cred`. The file is read again when
    /// the server refuses what it said: the password may have been changed since.
    #[must_use]
    pub fn credentials(mut self, username: impl Into<String>, password: impl Into<String>) -> Self {
        // One name, however a keyboard spells it: the kept session is found under it.
        self.source.credentials = Some(Credentials::new(to_nfc(&username.into()), password));
        self
    }

    /// HTTPS, the default, or plain HTTP. The latter is for loopback and for a proxy on this host
    /// that ends TLS; elsewhere [`build`](Self::build) refuses it.
    #[must_use]
    pub fn protocol(mut self, protocol: Protocol) -> Self {
        self.source.protocol = protocol;
        self
    }

    /// Lets plain HTTP leave this host. Messages and logins are still sealed, but neither end is
    /// authenticated by a certificate, and whoever is on the way can drop and delay them and forge
    /// the server's answers that are not sealed, `success` among them.
    #[must_use]
    pub fn dangerously_allow_remote_http(mut self) -> Self {
        self.source.allow_remote_http = true;
        self
    }

    /// How long a call may take in all, attempts, pauses and logins included, and how long it may
    /// take to get a request to the server; 1 ms to [`TIMEOUT_SECS_MAX`](crate::TIMEOUT_SECS_MAX)
    /// seconds. Default 30 s.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How many connections carry POST requests at most, beside the one of the channel; a further
    /// one waits. Messages go by POST that are too long for a channel, and all where the server
    /// opens none; there, requests that wait for a reply leave one connection to everything else,
    /// where there are several. 1 to 1024, default 4.
    #[must_use]
    pub fn connections_max(mut self, connections: usize) -> Self {
        self.connections_max = connections;
        self
    }

    /// Whether messages go over a channel, one WebSocket for all of them, where the server opens
    /// one. Without it each goes by POST, which is slower: for a proxy in between that opens
    /// WebSockets and does not carry them. Default yes.
    #[must_use]
    pub fn channel(mut self, channel: bool) -> Self {
        self.channel = channel;
        self
    }

    /// The longest frame that is sent, in bytes of JSON text: the message and a few hundred bytes
    /// around it. Default 16 MiB, which is also the server's.
    #[must_use]
    pub fn plaintext_bytes_max(mut self, bytes: usize) -> Self {
        self.plaintext_bytes_max = bytes;
        self
    }

    /// Whether a session is kept in the home, so that the next process of the same user need not
    /// log in, and of many that need one at the same time only one logs in. Where
    /// [credentials](Self::credentials) are given, it is kept for the password that got it: with
    /// another one the next process logs in. A home that cannot be written to does no harm. Default
    /// yes.
    #[must_use]
    pub fn keep_session(mut self, keep: bool) -> Self {
        self.source.keep_session = keep;
        self
    }

    /// Reads the home and starts the client's thread. Nothing is sent yet; a server need not be up.
    ///
    /// Keys, certificates and what else comes from the home are read here, and again when their
    /// files change: what is sent then goes over new connections, and nothing on its way is lost.
    /// Where the changed files cannot be used, as a key that does not fit its certificate, the log
    /// says so once, and the client keeps what it read before. A client that has lived for some
    /// seconds watches the files with a thread; before, it looks at them when it is refused.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn build(self) -> Result<Client, BuildError> {
        let setup = self.settle()?;
        let (config, server, addresses) = described(&setup);
        let jobs = worker::start(setup).map_err(|source| BuildError::Thread { source })?;
        Ok(Client::new(jobs, config, server, addresses))
    }

    /// Reads the home and makes a client that works on the thread that calls, as
    /// [`build`](Self::build) does one with a thread of its own.
    ///
    /// # Errors
    /// [`BuildError`].
    ///
    /// # Panics
    /// Outside of an actix runtime and of a tokio `LocalSet`.
    pub fn build_local(self) -> Result<LocalClient, BuildError> {
        let setup = self.settle()?;
        let (config, server, addresses) = described(&setup);
        Ok(LocalClient::new(Client::new(worker::start_here(setup), config, server, addresses)))
    }

    /// Everything that is decided before there is a thread.
    fn settle(self) -> Result<Setup, BuildError> {
        if !TIMEOUTS.contains(&self.timeout) {
            return Err(BuildError::Timeout { timeout: self.timeout });
        }
        if !(1..=CONNECTIONS_LIMIT).contains(&self.connections_max) {
            return Err(BuildError::Connections { connections: self.connections_max });
        }
        let material = self.source.load()?;
        let now_secs =
            SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let kept = material
            .cache
            .as_ref()
            .and_then(|cache| cache.load(&material.credentials.username, now_secs, None));
        let config = Config {
            timeout: self.timeout,
            connections_max: self.connections_max,
            plaintext_bytes_max: self.plaintext_bytes_max,
            uses_channel: self.channel,
        };
        Ok(Setup { config, source: self.source, material, kept })
    }
}

/// What a handle knows of its client: the settings, the server's name, and the addresses as text.
fn described(setup: &Setup) -> (Config, String, String) {
    let Material { name, connector, .. } = &setup.material;
    let addresses: Vec<_> = connector.addresses.iter().map(ToString::to_string).collect();
    (setup.config.clone(), name.clone(), addresses.join(", "))
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

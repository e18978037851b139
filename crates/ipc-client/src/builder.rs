//! Prepares a client: reads the home, checks the options, starts the thread. Nothing is sent.

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
use crate::config::{Config, ServerKind};
use crate::exchange::Setup;
use crate::local::LocalClient;
use crate::source::{Material, Source};
use crate::worker;

/// The default timeout of a call.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);

/// The default limit of connections for POST requests.
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
    server_kind: ServerKind,
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
            server_kind: ServerKind::WebIpc,
        }
    }

    /// The server: the name that its certificate must be for, and the address to connect to,
    /// `HOST:PORT` or `[IPV6]:PORT`. The name need not resolve to the address, nor to anything.
    /// Default: that of `client.json`, in the home of an enrolled client.
    ///
    /// Several addresses are those of servers that replace each other under one name. The client
    /// connects to the first that answers. When a connection fails or breaks, or a server says that
    /// it is stopping or cannot store messages, the client goes to the next address and sends
    /// everything without an answer there, under the same ids. The next server knows what the first
    /// one accepted without an answer only if both share an inbox.
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

    /// HTTPS, the default, or plain HTTP. Plain HTTP is for loopback and for a TLS-terminating
    /// proxy on this host. [`build`](Self::build) refuses it for other hosts.
    #[must_use]
    pub fn protocol(mut self, protocol: Protocol) -> Self {
        self.source.protocol = protocol;
        self
    }

    /// Lets plain HTTP leave this host. Messages and logins are still sealed, but no certificate
    /// authenticates either end. An attacker on the path can drop and delay messages, and can forge
    /// those answers of the server that are not sealed, such as `success`.
    #[must_use]
    pub fn dangerously_allow_remote_http(mut self) -> Self {
        self.source.allow_remote_http = true;
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

    /// Tells the client that its server is one of the unmodified Python tool.
    ///
    /// Messages and logins are then pickled dicts, one message a POST, over one connection and in
    /// order. There are no replies, no batches and no renewals. Integers stay integers, and numbers
    /// with a fraction or an exponent become floats. The home has to have the message key of that
    /// server as its first envelope key, and an authority that its certificate is of: one that was
    /// made by `web-ipc --init --run --importFrom` has both.
    ///
    /// That server does not know ids, and stores a message as often as it comes. So the client
    /// sends nothing again that may have arrived: if the answer is lost, the call ends with
    /// [`Outcome::NotKnown`](crate::Outcome::NotKnown). It tries again, until the timeout, while no
    /// connection can be made. An id that is given to a call has no effect.
    ///
    /// ```
    /// # let builder = ipc_client::Client::builder(&ipc_home::Home::at("/nowhere"));
    /// let builder = builder.server("localhost", "127.0.0.1:3000").python_compat();
    /// ```
    #[cfg(feature = "python-compat")]
    #[must_use]
    pub fn python_compat(mut self) -> Self {
        self.server_kind = ServerKind::PythonTool;
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
        self.source.keep_session = keep;
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
        let (config, server, addresses) = described(&setup);
        let jobs = worker::start(setup).map_err(|source| BuildError::Thread { source })?;
        Ok(Client::new(jobs, config, server, addresses))
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
        let (config, server, addresses) = described(&setup);
        Ok(LocalClient::new(Client::new(worker::start_here(setup), config, server, addresses)))
    }

    /// Reads and checks all that is needed before the thread starts.
    fn settle(mut self) -> Result<Setup, BuildError> {
        if self.server_kind != ServerKind::WebIpc {
            // There are no sessions to keep, and a second connection would let a message overtake
            // another.
            (self.source.keep_session, self.channel) = (false, false);
            self.connections_max = self.connections_max.min(1);
        }
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
            server: self.server_kind,
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

//! A running monitor: a thread of its own with an HTTP server.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::{App, HttpServer, web};
use ipc_base::Remedy;
use ipc_server::Observer;

use crate::certificates::{Certificates, MonitoredCertificate};
use crate::http::{self, Shared};

/// How many connections there may be.
const CONNECTIONS_MAX: usize = 64;

/// How long a request's head may take, and a connection stay open without a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
const IDLE_TIMEOUT: Duration = Duration::from_secs(75);

/// 9464 is the port that OpenTelemetry gives its exporter for Prometheus.
const ADDRESS: &str = "127.0.0.1:9464";

/// A running monitor. It stops when it is dropped.
pub struct Monitor {
    address: SocketAddr,
    handle: ServerHandle,
    thread: Option<JoinHandle<()>>,
}

/// Sets up a [`Monitor`].
///
/// | setting | default |
/// |---|---|
/// | [`bind`](Self::bind) | `127.0.0.1:9464` |
/// | [`allow_remote`](Self::allow_remote) | not allowed |
/// | [`host_name`](Self::host_name) | none but IP addresses and `localhost` |
/// | [`certificates`](Self::certificates) | none |
#[derive(Debug)]
pub struct MonitorBuilder {
    address: String,
    allows_remote: bool,
    host_names: Vec<String>,
    certificates: Certificates,
}

/// A monitor that has its address and shows nothing yet.
///
/// With it a program can be sure of the address before it starts a server, which accepts messages
/// from then on.
#[derive(Debug)]
pub struct MonitorListener {
    listener: TcpListener,
    address: SocketAddr,
    host_names: Vec<String>,
    certificates: Certificates,
}

/// Why a monitor does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MonitorError {
    /// The address is not `HOST:PORT`, or its host is unknown.
    #[error("the monitor's address {address} is not known")]
    Address {
        /// What was given.
        address: String,
        /// The system's error.
        source: io::Error,
    },
    /// The address can be reached from other hosts, which was not allowed.
    #[error("the monitor's address {address} can be reached from other hosts")]
    Remote {
        /// The address.
        address: SocketAddr,
    },
    /// The monitor cannot listen.
    #[error("the monitor cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The system's error.
        source: io::Error,
    },
    /// The system gives no thread.
    #[error("the monitor's thread does not start")]
    Thread {
        /// The system's error.
        source: io::Error,
    },
}

impl MonitorError {
    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> Remedy {
        Remedy::Act(
            match self {
                MonitorError::Address { .. } => {
                    "give an address as HOST:PORT, such as 127.0.0.1:9464"
                }
                MonitorError::Remote { .. } => {
                    "choose an address of loopback, or allow remote ones on purpose"
                }
                MonitorError::Listen { source, .. }
                    if source.kind() == io::ErrorKind::AddrInUse =>
                {
                    "choose another port, or stop the program that has this one"
                }
                MonitorError::Listen { .. } => "choose an address of this host and a free port",
                MonitorError::Thread { .. } => "allow this user more threads and open files",
            }
            .into(),
        )
    }
}

impl Monitor {
    /// A builder for a monitor.
    pub fn builder() -> MonitorBuilder {
        MonitorBuilder {
            address: ADDRESS.into(),
            allows_remote: false,
            host_names: Vec::new(),
            certificates: Certificates::new(Vec::new),
        }
    }

    /// The address that the monitor listens on. The port is never 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl MonitorBuilder {
    /// Sets the address to listen on, as `HOST:PORT`. Port 0 is a free one.
    pub fn bind(mut self, address: impl Into<String>) -> Self {
        self.address = address.into();
        self
    }

    /// Allows an address that other hosts can reach. Whoever reaches it can read the names of peers
    /// and users. There is neither TLS nor a login: put a proxy with both before it, or let only
    /// trusted hosts connect.
    pub fn allow_remote(mut self) -> Self {
        self.allows_remote = true;
        self
    }

    /// Adds a name by which the monitor may be asked. A request must have an IP address,
    /// `localhost` or such a name as its `Host`, so that no web site that points its own name here
    /// reads the answer through a browser (DNS rebinding).
    pub fn host_name(mut self, name: impl Into<String>) -> Self {
        self.host_names.push(name.into());
        self
    }

    /// Sets where certificates come from whose end is shown. The function may read files. It is
    /// called at most once a second, and only while somebody looks.
    pub fn certificates(
        mut self,
        source: impl Fn() -> Vec<MonitoredCertificate> + Send + Sync + 'static,
    ) -> Self {
        self.certificates = Certificates::new(source);
        self
    }

    /// Takes the address. Connections wait until [`MonitorListener::start`].
    ///
    /// # Errors
    /// [`MonitorError`].
    pub fn listen(self) -> Result<MonitorListener, MonitorError> {
        let address = resolve(&self.address)?;
        if !address.ip().is_loopback() && !self.allows_remote {
            return Err(MonitorError::Remote { address });
        }
        let failed = |source| MonitorError::Listen { address, source };
        let listener = TcpListener::bind(address).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let MonitorBuilder { host_names, certificates, .. } = self;
        Ok(MonitorListener { listener, address, host_names, certificates })
    }

    /// Takes the address and starts the monitor of a server.
    ///
    /// # Errors
    /// [`MonitorError`].
    pub fn start(self, observer: Observer) -> Result<Monitor, MonitorError> {
        self.listen()?.start(observer)
    }
}

impl MonitorListener {
    /// Starts the monitor of a server.
    ///
    /// # Errors
    /// [`MonitorError::Thread`].
    pub fn start(self, observer: Observer) -> Result<Monitor, MonitorError> {
        let MonitorListener { listener, address, host_names, certificates } = self;
        let shared = web::Data::new(Shared::new(observer, certificates, host_names));
        let (started, answer) = mpsc::sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("web-ipc-monitor".into())
            .spawn(move || run(listener, shared, &started))
            .map_err(|source| MonitorError::Thread { source })?;
        let gone = || io::Error::other("the monitor's thread ended");
        let handle = answer.recv().unwrap_or_else(|_| Err(gone()));
        let handle = handle.map_err(|source| MonitorError::Thread { source })?;
        log::info!("Status page on http://{address}/, metrics on http://{address}/metrics");
        Ok(Monitor { address, handle, thread: Some(thread) })
    }
}

fn resolve(text: &str) -> Result<SocketAddr, MonitorError> {
    let failed = |source| MonitorError::Address { address: text.to_owned(), source };
    let none = || failed(io::Error::other("the name has no address"));
    text.to_socket_addrs().map_err(failed)?.next().ok_or_else(none)
}

/// Serves on the monitor's thread until it is stopped.
fn run(
    listener: TcpListener,
    shared: web::Data<Shared>,
    started: &mpsc::SyncSender<io::Result<ServerHandle>>,
) {
    actix_rt::System::new().block_on(async move {
        let server =
            HttpServer::new(move || App::new().app_data(shared.clone()).configure(http::configure))
                .workers(1)
                .max_connections(CONNECTIONS_MAX)
                .client_request_timeout(HEAD_TIMEOUT)
                .keep_alive(IDLE_TIMEOUT)
                .disable_signals()
                .listen(listener);
        let server = match server {
            Ok(server) => server.run(),
            Err(error) => {
                // Fails only if nobody waits, and then nobody misses it.
                let _gone = started.send(Err(error));
                return;
            }
        };
        let _gone = started.send(Ok(server.handle()));
        if let Err(error) = server.await {
            log::error!("the monitor failed: {error}");
        }
    });
}

impl Drop for Monitor {
    fn drop(&mut self) {
        // The command is sent at once. Pages that are open are not waited for.
        drop(self.handle.stop(false));
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("the monitor's thread panicked");
        }
    }
}

impl fmt::Debug for Monitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Monitor").field("address", &self.address).finish_non_exhaustive()
    }
}

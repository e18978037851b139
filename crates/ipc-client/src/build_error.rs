//! Why a client could not be built, and what to do about it.
//!
//! The builder and whatever reads the home come here. Plain values.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use ipc_base::Remedy;
use ipc_home::{HomeError, NameError};
use ipc_protocol::DEADLINE_SECS_MAX as TIMEOUT_SECS_MAX;

/// More connections than this no server would take.
pub(crate) const CONNECTIONS_LIMIT: usize = 1024;

/// Why a client could not be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// [`ClientBuilder::server`](crate::ClientBuilder::server) was not called.
    #[error("no server was given")]
    NoServer,
    /// The name to verify is neither a DNS name nor an IP address.
    #[error("`{name}` is not a name that a server's certificate can be for")]
    ServerName {
        /// The name as given.
        name: String,
    },
    /// The address cannot be used.
    #[error("`{address}` is not an address to connect to: {reason}")]
    Address {
        /// The address as given.
        address: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The name of the certificate pair cannot be one.
    #[error("`{name}` is not the name of a certificate pair")]
    Identity {
        /// The name as given.
        name: String,
        /// What is wrong with it.
        #[source]
        source: NameError,
    },
    /// Plain `http` to another host was not allowed.
    #[error("plain http to {address} would leave this host")]
    RemoteHttp {
        /// The address.
        address: String,
    },
    /// The timeout is out of bounds.
    #[error("a timeout of {} s is not between 1 ms and {TIMEOUT_SECS_MAX} s", timeout.as_secs_f64())]
    Timeout {
        /// The timeout as given.
        timeout: Duration,
    },
    /// The number of connections is out of bounds.
    #[error("{connections} connections are not between 1 and {CONNECTIONS_LIMIT}")]
    Connections {
        /// The number as given.
        connections: usize,
    },
    /// The home could not be read.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The certificate of the home's authority is not one for TLS.
    #[error("{} cannot be used for TLS: {reason}", path.display())]
    Authority {
        /// Its file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// TLS takes the certificate pair not as it is.
    #[error("the certificate pair `{identity}` cannot be used for TLS: {reason}")]
    Tls {
        /// The name of the certificate pair.
        identity: String,
        /// Its certificate.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The system gave no thread or no runtime on it.
    #[error("the client's thread could not be started")]
    Thread {
        /// What the system says.
        #[source]
        source: io::Error,
    },
}

impl BuildError {
    /// What a person can do about it; `None` where only the cause can tell.
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
                "give a number within these bounds".into()
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

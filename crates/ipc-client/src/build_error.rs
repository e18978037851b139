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

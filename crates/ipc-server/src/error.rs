//! Why a server did not start.

use std::io;
use std::net::SocketAddr;

use ipc_home::{HomeError, PeerNameError};
use ipc_store::StoreError;

/// Why a server did not start. Nothing is left behind: the port is free again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The home, or a file of it, is missing, open to others, or damaged.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The users' database does not open.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The peer name is none.
    #[error("{name:?} is no peer name: {source}")]
    Name {
        /// The name as it was given.
        name: String,
        /// What is wrong with it.
        source: PeerNameError,
    },
    /// The certificate, its key or the authority's certificate cannot be used for TLS.
    #[error("the certificate of {name} cannot be used: {source}")]
    Certificate {
        /// The peer name.
        name: String,
        /// What the TLS library says.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The address is none, or its host name does not resolve.
    #[error("{address:?} is no address to listen on: {source}")]
    Address {
        /// The address as it was given.
        address: String,
        /// What the system says.
        source: io::Error,
    },
    /// The address cannot be listened on: taken, not this host's, or not permitted.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// Every port that port 0 stands for is taken.
    #[error("every port from {first} to {last} is taken")]
    NoFreePort {
        /// The first port tried.
        first: u16,
        /// The last port tried.
        last: u16,
    },
    /// Plain http was asked for on an address that others reach.
    #[error(
        "plain http on {address}, which is not loopback, would let anybody there reach the server without a certificate"
    )]
    RemoteHttp {
        /// The address.
        address: SocketAddr,
    },
    /// A thread or the server on it could not be started.
    #[error("the server's threads cannot be started: {source}")]
    Threads {
        /// What the system says.
        source: io::Error,
    },
}

impl StartError {
    /// What to do about it, as an imperative clause; `None` where the error says it all.
    pub fn remedy(&self) -> Option<String> {
        match self {
            StartError::Home(error) => error.remedy(),
            StartError::Certificate { name, .. } => {
                Some(format!("make it anew: web-ipc --certs --name {name} --altNames {name} --force"))
            }
            StartError::Listen { source, .. } if source.kind() == io::ErrorKind::AddrInUse => {
                Some("choose another port, or 0 for the first free one of 3000 to 3999".into())
            }
            StartError::Listen { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Some("choose a port above 1023".into())
            }
            StartError::Listen { source, .. } if source.kind() == io::ErrorKind::AddrNotAvailable => {
                Some("choose an address of this host, such as 127.0.0.1".into())
            }
            StartError::NoFreePort { .. } => Some("name a port".into()),
            StartError::RemoteHttp { .. } => {
                Some("use https, or a loopback address such as 127.0.0.1".into())
            }
            _ => None,
        }
    }
}

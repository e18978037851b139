//! Why a JetStream inbox was not opened.

use ipc_base::Remedy;

/// Why a JetStream inbox was not opened. No message has a password in it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JetStreamError {
    /// None of the servers answers.
    #[error("no NATS server answers at {servers}")]
    Unreachable {
        /// Their addresses.
        servers: String,
        /// What went wrong with the last one.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The NATS server refuses user, password or credentials.
    #[error("the NATS server at {servers} refuses the login")]
    Login {
        /// The addresses.
        servers: String,
    },
    /// TLS could not be agreed on.
    #[error("no TLS connection to the NATS server at {servers}")]
    Tls {
        /// The addresses.
        servers: String,
        /// What went wrong.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A file with a password, credentials or certificates cannot be read.
    #[error("the file {path} cannot be read")]
    File {
        /// Its path.
        path: String,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The NATS server runs without JetStream, or the account may not use it.
    #[error("the NATS server at {servers} has no JetStream for this account")]
    NoJetStream {
        /// The addresses.
        servers: String,
    },
    /// The NATS server is too old.
    #[error("the NATS server is of version {version}, and 2.9 or newer is needed")]
    TooOld {
        /// Its version.
        version: String,
    },
    /// A stream or the consumer of this name exists, with a configuration that does not keep what
    /// an inbox promises.
    #[error("{what} exists with another configuration: {difference}")]
    OtherConfiguration {
        /// The stream or the consumer.
        what: String,
        /// What it has, and what it should have.
        difference: String,
    },
    /// The NATS server does not make or show a stream or consumer.
    #[error("the NATS server does not give {what}")]
    Stream {
        /// The stream or the consumer.
        what: String,
        /// Its reason.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The inbox's thread cannot be started.
    #[error("the inbox's thread cannot be started")]
    Thread {
        /// The error of the operating system.
        source: std::io::Error,
    },
}

impl JetStreamError {
    /// What a person can do about the error; `None` if only the cause tells.
    #[must_use]
    pub fn remedy(&self) -> Option<Remedy> {
        match self {
            Self::File { path, source } => {
                ipc_base::remedy_of_io(source, std::path::Path::new(path))
            }
            _ => None,
        }
    }
}

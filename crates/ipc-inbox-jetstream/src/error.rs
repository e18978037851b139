//! Why a JetStream inbox was not opened.
//!
//! Programs get it from `JetStreamOptions::open`. It names the parameters of an address, since
//! these are words of this crate, and no option of a command.

use std::io;
use std::path::PathBuf;

use ipc_base::{CertificateProblem, End, Remedy, refused_because};

/// Why a JetStream inbox was not opened. No message has a password in it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JetStreamError {
    /// None of the servers answers.
    #[error("no NATS server answers at {servers}: {reason}")]
    Unreachable {
        /// Their addresses.
        servers: String,
        /// Why the last one does not.
        reason: String,
    },
    /// The name of a host leads to no address.
    #[error("the host of {servers} has no address: {reason}")]
    UnknownHost {
        /// The addresses.
        servers: String,
        /// Why, in the words of the system.
        reason: String,
    },
    /// Something listens there, and it is not a NATS server.
    #[error("what listens at {servers} is not a NATS server")]
    NotNats {
        /// The addresses.
        servers: String,
    },
    /// The NATS server asks for a login, and the options have none.
    #[error("the NATS server at {servers} asks for a login, and none is given")]
    LoginMissing {
        /// The addresses.
        servers: String,
    },
    /// The NATS server refuses user, password or credentials.
    #[error("the NATS server at {servers} refuses {login}")]
    Login {
        /// The addresses.
        servers: String,
        /// What it refuses: the user's name, or the file with the credentials.
        login: String,
    },
    /// The user of the NATS server lacks a right.
    #[error("the user of the NATS server at {servers} lacks a right: {reason}")]
    NoRight {
        /// The addresses.
        servers: String,
        /// Which, in the words of the NATS server.
        reason: String,
    },
    /// The certificate of the NATS server cannot be accepted.
    #[error("the certificate of the NATS server at {servers} {}", told(problem, authority.as_ref()))]
    ServerCertificate {
        /// The addresses.
        servers: String,
        /// What is wrong with it.
        problem: CertificateProblem,
        /// The file with the authorities that are trusted, if not those of the system are.
        authority: Option<PathBuf>,
    },
    /// The NATS server asks for a certificate, and the options have none.
    #[error("the NATS server at {servers} asks for a client's certificate, and none is given")]
    ClientCertificateMissing {
        /// The addresses.
        servers: String,
    },
    /// The NATS server refuses the client's certificate.
    #[error(
        "the NATS server at {servers} refuses this client's certificate: {}",
        refused_because(alert, End::Server)
    )]
    ClientCertificate {
        /// The addresses.
        servers: String,
        /// The name of its alert, such as `BadCertificate`.
        alert: String,
    },
    /// The NATS server does not speak TLS.
    #[error("the NATS server at {servers} does not speak TLS")]
    NoTls {
        /// The addresses.
        servers: String,
    },
    /// TLS could not be agreed on for another reason.
    #[error("no TLS connection to the NATS server at {servers}: {reason}")]
    Tls {
        /// The addresses.
        servers: String,
        /// What went wrong.
        reason: String,
    },
    /// A file that the options name cannot be read.
    #[error("the file {} of the parameter {parameter} cannot be read", path.display())]
    File {
        /// The parameter of the address, such as `passwordFile`.
        parameter: &'static str,
        /// The file's path.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// A file that the options name does not hold what it should.
    #[error("the file {} of the parameter {parameter} has no {expected} in it", path.display())]
    BadFile {
        /// The parameter of the address, such as `credentials`.
        parameter: &'static str,
        /// The file's path.
        path: PathBuf,
        /// What it should hold.
        expected: &'static str,
    },
    /// Certificate and key cannot be used together.
    #[error("the key {} does not belong to the certificate {}", key.display(), certificate.display())]
    Identity {
        /// The file with the certificate.
        certificate: PathBuf,
        /// The file with the key.
        key: PathBuf,
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
    /// There are fewer NATS servers than replicas were asked for.
    #[error("there are too few NATS servers for {what} with {replicas} replicas")]
    TooFewServers {
        /// The stream.
        what: String,
        /// How many replicas it was to have.
        replicas: usize,
    },
    /// The NATS server, or the account there, has no room for a stream.
    #[error("the NATS server has no room for {what}: {reason}")]
    NoRoom {
        /// The stream.
        what: String,
        /// Its reason.
        reason: String,
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
        source: io::Error,
    },
}

/// What is wrong with the certificate of the NATS server. Its authority is not that of a home.
fn told(problem: &CertificateProblem, authority: Option<&PathBuf>) -> String {
    match (problem, authority) {
        (CertificateProblem::UnknownAuthority, Some(file)) => {
            format!("was not issued by an authority in {}", file.display())
        }
        (CertificateProblem::UnknownAuthority, None) => {
            "was not issued by an authority that this host trusts".to_owned()
        }
        (problem, _) => problem.to_string(),
    }
}

impl JetStreamError {
    /// What a person can do about the error; `None` if only the cause tells.
    #[must_use]
    pub fn remedy(&self) -> Option<Remedy> {
        Some(Remedy::act(match self {
            Self::Unreachable { .. } => "start it, or give another address",
            Self::UnknownHost { .. } => "check the name, or give another address",
            Self::NotNats { .. } => "check host and port: nats-server listens on 4222 by default",
            Self::LoginMissing { .. } => {
                "add the parameters user and passwordFile, or credentials, to the address"
            }
            Self::Login { .. } => {
                "check the user with its password, or the credentials, against the configuration \
                 of nats-server"
            }
            Self::NoRight { .. } => "give it the rights that docs/jetstream.md lists",
            Self::ServerCertificate { problem, authority, .. } => match (problem, authority) {
                (CertificateProblem::UnknownAuthority, None) => {
                    "name the file of the authority that issued it with the parameter ca"
                }
                (CertificateProblem::UnknownAuthority, Some(_)) => {
                    "give the parameter ca the file of the authority that issued it"
                }
                (CertificateProblem::WrongName { .. }, _) => {
                    "give an address with a name that the certificate is for"
                }
                (
                    CertificateProblem::Expired { .. } | CertificateProblem::NotValidYet { .. },
                    _,
                ) => return Some(Remedy::CheckClocks.then("renew it".into())),
                _ => "give nats-server another certificate",
            },
            Self::ClientCertificateMissing { .. } => {
                "add the parameters cert and key to the address"
            }
            Self::ClientCertificate { .. } => {
                "give the parameters cert and key a pair whose authority nats-server trusts"
            }
            Self::NoTls { .. } => {
                "configure TLS there, or give an address with nats:// and without the parameters \
                 ca, cert and key"
            }
            Self::File { source, .. } => match source.kind() {
                io::ErrorKind::NotFound => "check its path",
                io::ErrorKind::IsADirectory => "name a file",
                io::ErrorKind::PermissionDenied => "let this user read it",
                _ => return None,
            },
            Self::BadFile { parameter: "credentials", .. } => {
                "name one that nsc has made: nsc generate creds"
            }
            Self::BadFile { .. } => "name a PEM file that has one",
            Self::Identity { .. } => "check the parameters cert and key",
            Self::NoJetStream { .. } => {
                "start nats-server with -js, or enable JetStream for the account"
            }
            Self::TooOld { .. } => "install a newer nats-server",
            Self::OtherConfiguration { .. } => {
                "give the inbox another name, or change that configuration"
            }
            Self::TooFewServers { .. } => {
                "start a cluster of as many, or give the parameter replicas a smaller number"
            }
            Self::NoRoom { .. } => {
                "give the parameter bytes a smaller number, or JetStream more room"
            }
            Self::Tls { .. } | Self::Stream { .. } | Self::Thread { .. } => return None,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cannot_be_read_has_the_remedy_of_its_cause() {
        let remedy = |kind: io::ErrorKind| {
            let error =
                JetStreamError::File { parameter: "ca", path: "/x".into(), source: kind.into() };
            error.remedy().map(|remedy| remedy.to_string())
        };
        assert_eq!(remedy(io::ErrorKind::PermissionDenied).unwrap(), "let this user read it");
        assert_eq!(remedy(io::ErrorKind::NotFound).unwrap(), "check its path");
        assert_eq!(remedy(io::ErrorKind::Other), None);
    }

    #[test]
    fn a_certificate_that_has_expired_is_told_with_the_time_and_the_clocks() {
        let error = JetStreamError::ServerCertificate {
            servers: "nats://n/J".into(),
            problem: CertificateProblem::Expired { not_after_secs: Some(0) },
            authority: None,
        };
        assert!(error.to_string().ends_with(" expired at 1970-01-01T00:00:00Z"), "{error}");
        let remedy = error.remedy().unwrap().to_string();
        assert_eq!(remedy, "check the clocks of both hosts, then renew it");
    }
}

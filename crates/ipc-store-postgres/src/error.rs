//! What is wrong with a database, in one sentence, and whether it may pass.
//!
//! All other files turn errors of sqlx into these, which show none of sqlx's types.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipc_base::{CertificateProblem, End, Remedy, TlsFault, refused_because};
use ipc_store::StoreError;

use crate::PostgresUrl;

/// What is wrong with a database. It never contains a password or a hash.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum PostgresError {
    /// No connection could be made, or it broke.
    #[error("the users' database {url} cannot be reached: {reason}")]
    Unreachable {
        /// The database, without its password.
        url: String,
        /// Why, in the words of the system or of PostgreSQL.
        reason: String,
    },
    /// The name of the host leads to no address.
    #[error("the host of the users' database {url} has no address: {reason}")]
    UnknownHost {
        /// The database, without its password.
        url: String,
        /// Why, in the words of the system.
        reason: String,
    },
    /// Something answers there, and it is not PostgreSQL.
    #[error("what answers at {url} is not PostgreSQL")]
    NotPostgres {
        /// The database, without its password.
        url: String,
    },
    /// PostgreSQL refuses the user or the password.
    #[error("PostgreSQL refuses {url}: {reason}")]
    Refused {
        /// The database, without its password.
        url: String,
        /// Why, in the words of PostgreSQL.
        reason: String,
    },
    /// PostgreSQL does not let this user in from here in this way.
    #[error("PostgreSQL does not let {url} in: {reason}")]
    NotAllowed {
        /// The database, without its password.
        url: String,
        /// Why, in the words of PostgreSQL.
        reason: String,
    },
    /// PostgreSQL knows no such database.
    #[error("PostgreSQL does not have {url}: {reason}")]
    NoDatabase {
        /// The database, without its password.
        url: String,
        /// Why, in the words of PostgreSQL.
        reason: String,
    },
    /// The user lacks a right.
    #[error("the user of {url} lacks a right that web-ipc needs: {reason}")]
    NoRight {
        /// The database, without its password.
        url: String,
        /// Which, in the words of PostgreSQL.
        reason: String,
    },
    /// The certificate of PostgreSQL cannot be accepted.
    #[error("the certificate of PostgreSQL at {url} {}", told(problem, authority.as_ref()))]
    ServerCertificate {
        /// The database, without its password.
        url: String,
        /// What is wrong with it.
        problem: CertificateProblem,
        /// The file of `sslrootcert`.
        authority: Option<PathBuf>,
    },
    /// There is no TLS connection, for another reason.
    #[error("no TLS connection to PostgreSQL at {url}: {reason}")]
    Tls {
        /// The database, without its password.
        url: String,
        /// Why.
        reason: String,
    },
    /// A file that the address names cannot be read.
    #[error("the file {} of the parameter {parameter} cannot be read", path.display())]
    File {
        /// The parameter, such as `sslrootcert`.
        parameter: &'static str,
        /// The path of the file.
        path: PathBuf,
        /// The error of the system.
        source: Arc<io::Error>,
    },
    /// A file that the address names does not hold what it should.
    #[error("the file {} of the parameter {parameter} has no {expected} in it", path.display())]
    BadFile {
        /// The parameter, such as `sslrootcert`.
        parameter: &'static str,
        /// The path of the file.
        path: PathBuf,
        /// What it should hold.
        expected: &'static str,
    },
    /// The database is of a later version of web-ipc.
    #[error("the users' database {url} is of a later version of web-ipc")]
    Newer {
        /// The database, without its password.
        url: String,
    },
    /// PostgreSQL is too old.
    #[error("the PostgreSQL at {url} is of version {version}, and {needed} or newer is needed")]
    TooOld {
        /// The database, without its password.
        url: String,
        /// Its major version.
        version: i32,
        /// The oldest one that will do.
        needed: i32,
    },
    /// The database has another encoding than UTF8.
    #[error("the encoding of the database {url} is {encoding}, and UTF8 is needed")]
    Encoding {
        /// The database, without its password.
        url: String,
        /// What it is.
        encoding: String,
    },
    /// PostgreSQL refused a statement for another reason.
    #[error("the users' database {url} failed: {reason}")]
    Failed {
        /// The database, without its password.
        url: String,
        /// Why, in the words of PostgreSQL.
        reason: String,
    },
}

/// What is wrong with the certificate of PostgreSQL. Its authority is not that of a home.
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

impl PostgresError {
    pub(crate) fn unreachable(url: &PostgresUrl, reason: impl ToString) -> Self {
        Self::Unreachable { url: url.to_string(), reason: reason.to_string() }
    }

    pub(crate) fn timed_out(url: &PostgresUrl, after: Duration) -> Self {
        Self::unreachable(url, format_args!("no answer within {} s", after.as_secs()))
    }

    /// The error of a connection that was not made.
    pub(crate) fn of_connecting(error: &sqlx::Error, url: &PostgresUrl) -> Self {
        let shown = url.to_string();
        if let Some(fault) = TlsFault::among_causes(error) {
            return match fault {
                TlsFault::ServerCertificate(problem) => {
                    let authority = url.authority_file().map(ToOwned::to_owned);
                    Self::ServerCertificate { url: shown, problem, authority }
                }
                TlsFault::ClientCertificate { alert } => {
                    let why = refused_because(&alert, End::Server);
                    let reason = format!("it refuses the certificate of this client: {why}");
                    Self::Tls { url: shown, reason }
                }
                TlsFault::Other(reason) => Self::Tls { url: shown, reason },
                other => Self::Tls { url: shown, reason: format!("{other:?}") },
            };
        }
        match error {
            sqlx::Error::Tls(fault) => {
                Self::Tls { url: shown, reason: ipc_base::chain(&**fault).to_string() }
            }
            // What came is no message of PostgreSQL.
            sqlx::Error::Protocol(_) => Self::NotPostgres { url: shown },
            // The system has no code for it: the look-up is a library's.
            sqlx::Error::Io(fault) if fault.raw_os_error().is_none() && is_lookup(fault) => {
                Self::UnknownHost { url: shown, reason: fault.to_string() }
            }
            error => Self::of(error, url),
        }
    }

    pub(crate) fn of(error: &sqlx::Error, url: &PostgresUrl) -> Self {
        let shown = url.to_string();
        let sqlx::Error::Database(database) = error else {
            return match error {
                sqlx::Error::ColumnDecode { .. }
                | sqlx::Error::Decode(_)
                | sqlx::Error::Encode(_)
                | sqlx::Error::RowNotFound => {
                    Self::Failed { url: shown, reason: error.to_string() }
                }
                sqlx::Error::Io(fault) => {
                    Self::Unreachable { url: shown, reason: fault.to_string() }
                }
                _ => Self::Unreachable { url: shown, reason: error.to_string() },
            };
        };
        let reason = database.message().to_owned();
        match database.code().as_deref().unwrap_or_default() {
            "28P01" => Self::Refused { url: shown, reason },
            "28000" => Self::NotAllowed { url: shown, reason },
            "3D000" => Self::NoDatabase { url: shown, reason },
            "42501" => Self::NoRight { url: shown, reason },
            // Shutting down, crashed, starting up, all connections in use, connection exceptions.
            "57P01" | "57P02" | "57P03" | "53300" => Self::Unreachable { url: shown, reason },
            code if code.starts_with("08") => Self::Unreachable { url: shown, reason },
            _ => Self::Failed { url: shown, reason },
        }
    }

    /// Whether the same may succeed later without anybody's doing.
    pub(crate) fn may_pass(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. }
                | Self::UnknownHost { .. }
                | Self::NotPostgres { .. }
                | Self::ServerCertificate { .. }
                | Self::Tls { .. }
        )
    }

    /// What a person can do about the error; `None` if only the message tells.
    #[must_use]
    pub fn remedy(&self) -> Option<Remedy> {
        Some(Remedy::act(match self {
            Self::Unreachable { .. } => "start it, or check host and port in its address",
            Self::UnknownHost { .. } => "check the name in the address",
            Self::NotPostgres { .. } => {
                "check host and port: PostgreSQL listens on 5432 by default"
            }
            Self::Refused { .. } => {
                "check the user of the address, and the password there, in PGPASSWORD or in the \
                 password file"
            }
            Self::NotAllowed { .. } => {
                "check the user of the address, and what pg_hba.conf says of it"
            }
            Self::NoDatabase { .. } => "make it with createdb, or name another in the address",
            Self::NoRight { .. } => "give it the rights that docs/postgresql.md lists",
            Self::ServerCertificate { problem, authority, .. } => match (problem, authority) {
                (CertificateProblem::UnknownAuthority, None) => {
                    "name the file of the authority that issued it with the parameter sslrootcert"
                }
                (CertificateProblem::UnknownAuthority, Some(_)) => {
                    "give the parameter sslrootcert the file of the authority that issued it"
                }
                (CertificateProblem::WrongName { .. }, _) => {
                    "give an address with a name that the certificate is for"
                }
                (
                    CertificateProblem::Expired { .. } | CertificateProblem::NotValidYet { .. },
                    _,
                ) => return Some(Remedy::CheckClocks.then("renew it".into())),
                _ => "give PostgreSQL another certificate",
            },
            Self::Tls { .. } => {
                "check the TLS of PostgreSQL, and the parameters sslmode, sslcert and sslkey of \
                 the address"
            }
            Self::File { source, .. } => match source.kind() {
                io::ErrorKind::NotFound => "check its path",
                io::ErrorKind::IsADirectory => "name a file",
                io::ErrorKind::PermissionDenied => "let this user read it",
                _ => return None,
            },
            Self::BadFile { .. } => "name a PEM file that has one",
            Self::Newer { .. } => "update this web-ipc",
            Self::TooOld { .. } => "install a newer PostgreSQL",
            Self::Encoding { .. } => {
                "make another database, with createdb --encoding UTF8 --template template0"
            }
            Self::Failed { .. } => return None,
        }))
    }
}

/// Whether the error is that of a look-up of a name. It has no kind of its own.
fn is_lookup(error: &io::Error) -> bool {
    error.to_string().starts_with("failed to lookup address")
}

impl From<PostgresError> for StoreError {
    fn from(error: PostgresError) -> Self {
        match error.may_pass() {
            true => Self::Unavailable { source: error.into() },
            false => Self::Storage { source: error.into() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cannot_be_read_has_the_remedy_of_its_cause() {
        let remedy = |kind: io::ErrorKind| {
            let error = PostgresError::File {
                parameter: "sslrootcert",
                path: "/x".into(),
                source: Arc::new(kind.into()),
            };
            error.remedy().map(|remedy| remedy.to_string())
        };
        assert_eq!(remedy(io::ErrorKind::PermissionDenied).unwrap(), "let this user read it");
        assert_eq!(remedy(io::ErrorKind::NotFound).unwrap(), "check its path");
        assert_eq!(remedy(io::ErrorKind::Other), None);
    }

    #[test]
    fn a_certificate_that_has_expired_is_told_with_the_time_and_the_clocks() {
        let error = PostgresError::ServerCertificate {
            url: "postgres://n/d".into(),
            problem: CertificateProblem::Expired { not_after_secs: Some(0) },
            authority: None,
        };
        assert!(error.to_string().ends_with(" expired at 1970-01-01T00:00:00Z"), "{error}");
        let remedy = error.remedy().unwrap().to_string();
        assert_eq!(remedy, "check the clocks of both hosts, then renew it");
    }
}

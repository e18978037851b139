//! What is wrong with a database, in one sentence, and whether it may pass.
//!
//! All other files turn errors of sqlx into these, which show none of sqlx's types.

use std::time::Duration;

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
    /// PostgreSQL does not let this user in, or knows no such database.
    #[error("PostgreSQL refuses {url}: {reason}")]
    Refused {
        /// The database, without its password.
        url: String,
        /// Why, in the words of PostgreSQL.
        reason: String,
    },
    /// The user lacks a right.
    #[error(
        "the user of {url} lacks a right that web-ipc needs (docs/postgresql.md lists them): {reason}"
    )]
    NoRight {
        /// The database, without its password.
        url: String,
        /// Which, in the words of PostgreSQL.
        reason: String,
    },
    /// The database is of a later version of web-ipc.
    #[error("the users' database {url} is of a later version of web-ipc: update this one")]
    Newer {
        /// The database, without its password.
        url: String,
    },
    /// The database cannot hold users.
    #[error("{url} cannot hold users: {reason}")]
    Unsuitable {
        /// The database, without its password.
        url: String,
        /// Why not.
        reason: String,
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

impl PostgresError {
    pub(crate) fn unreachable(url: &PostgresUrl, reason: impl ToString) -> Self {
        Self::Unreachable { url: url.to_string(), reason: reason.to_string() }
    }

    pub(crate) fn timed_out(url: &PostgresUrl, after: Duration) -> Self {
        Self::unreachable(url, format_args!("no answer within {} s", after.as_secs()))
    }

    pub(crate) fn of(error: &sqlx::Error, url: &PostgresUrl) -> Self {
        let shown = url.to_string();
        let sqlx::Error::Database(database) = error else {
            return match error {
                sqlx::Error::ColumnDecode { .. }
                | sqlx::Error::Decode(_)
                | sqlx::Error::Encode(_)
                | sqlx::Error::RowNotFound => Self::Failed { url: shown, reason: chain(error) },
                _ => Self::Unreachable { url: shown, reason: chain(error) },
            };
        };
        let reason = database.message().to_owned();
        match database.code().as_deref().unwrap_or_default() {
            "28000" | "28P01" | "3D000" => Self::Refused { url: shown, reason },
            "42501" => Self::NoRight { url: shown, reason },
            // Shutting down, crashed, starting up, all connections in use, connection exceptions.
            "57P01" | "57P02" | "57P03" | "53300" => Self::Unreachable { url: shown, reason },
            code if code.starts_with("08") => Self::Unreachable { url: shown, reason },
            _ => Self::Failed { url: shown, reason },
        }
    }

    /// Whether the same may succeed later without anybody's doing.
    pub(crate) fn may_pass(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }
}

impl From<PostgresError> for StoreError {
    fn from(error: PostgresError) -> Self {
        match error.may_pass() {
            true => Self::Unavailable { source: error.into() },
            false => Self::Storage { source: error.into() },
        }
    }
}

/// An error of sqlx with its causes, without sqlx's words for which layer it is from.
fn chain(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Io(error) => error.to_string(),
        sqlx::Error::Tls(error) => {
            let mut text = format!("TLS: {error}");
            let mut source = error.source();
            while let Some(cause) = source {
                text = format!("{text}: {cause}");
                source = cause.source();
            }
            text
        }
        error => error.to_string(),
    }
}

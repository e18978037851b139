//! The address of a database: parsed, and shown without its password.
//!
//! `connections` takes the options of sqlx from here. Nothing here opens a socket.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::sync::Arc;

use sqlx::ConnectOptions as _;
use sqlx::postgres::{PgConnectOptions, PgSslMode};

/// What may stand behind the `?` of a URL. sqlx logs and ignores others, values included.
const PARAMETERS: [&str; 12] = [
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
    "options",
];

/// The address of a PostgreSQL database, as `postgres://USER:PASSWORD@HOST:PORT/DATABASE`, with the
/// parameters of libpq behind a `?`. What it leaves out comes from libpq's environment variables
/// and its password file.
///
/// Without `sslmode`, the server's certificate is verified (`verify-full`) unless the database is
/// on this host: on a loopback address or a Unix socket.
///
/// `Display` and `Debug` never show the password.
#[derive(Clone)]
pub struct PostgresUrl {
    pub(crate) options: PgConnectOptions,
    is_here: bool,
    shown: Arc<str>,
    /// The parameters that name files, with their paths.
    files: Arc<[(&'static str, PathBuf)]>,
}

/// The parameters that name files.
const FILES: [&str; 3] = [AUTHORITY, "sslcert", "sslkey"];

/// The parameter that names the file with the authorities.
const AUTHORITY: &str = "sslrootcert";

impl PostgresUrl {
    /// Parses a URL. Nothing is opened.
    ///
    /// # Errors
    /// [`PostgresUrlError`], which does not quote the URL.
    pub fn parse(url: &str) -> Result<Self, PostgresUrlError> {
        let rest = url.strip_prefix("postgres://").or_else(|| url.strip_prefix("postgresql://"));
        let of_inbox = url.starts_with("nats://") || url.starts_with("tls://");
        let wrong = if of_inbox { PostgresUrlError::OfInbox } else { PostgresUrlError::Scheme };
        let rest = rest.ok_or(wrong)?;
        let query = rest.split_once('?').map_or("", |(_, query)| query);
        let keys = || {
            let pairs = query.split('&').filter(|pair| !pair.is_empty());
            pairs.map(|pair| pair.split_once('=').map_or(pair, |(key, _)| key))
        };
        for key in keys() {
            if !PARAMETERS.contains(&key) && !key.starts_with("options[") {
                return Err(PostgresUrlError::Parameter { name: key.to_owned() });
            }
        }
        // sqlx's error may quote a part of the URL.
        let mut options =
            PgConnectOptions::from_str(url).map_err(|_| PostgresUrlError::Malformed)?;
        let is_here = options.get_socket().is_some() || is_this_host(options.get_host());
        let is_chosen =
            keys().any(|key| key == "sslmode") || std::env::var_os("PGSSLMODE").is_some();
        if !is_here && !is_chosen {
            options = options.ssl_mode(PgSslMode::VerifyFull);
        }
        let authority = rest.split(['/', '?']).next().unwrap_or_default();
        let has_password = authority.rsplit_once('@').is_some_and(|(user, _)| user.contains(':'))
            || keys().any(|key| key == "password");
        let place = match options.get_socket() {
            Some(path) => path.display().to_string(),
            None => format!("{}:{}", options.get_host(), options.get_port()),
        };
        let shown = format!(
            "postgres://{}{}@{place}/{}",
            options.get_username(),
            if has_password { ":***" } else { "" },
            options.get_database().unwrap_or_else(|| options.get_username())
        );
        let files = query.split('&').filter_map(|pair| {
            let (key, value) = pair.split_once('=')?;
            let name = FILES.into_iter().find(|name| *name == key)?;
            Some((name, PathBuf::from(decoded(value)?)))
        });
        let files = files.collect();
        Ok(Self {
            options: options.disable_statement_logging(),
            is_here,
            shown: shown.into(),
            files,
        })
    }

    /// Whether it names a database on this host, which is another one elsewhere: on a loopback
    /// address or a Unix socket.
    #[must_use]
    pub fn is_this_host(&self) -> bool {
        self.is_here
    }

    /// The parameters that name files, with their paths.
    pub(crate) fn files(&self) -> &[(&'static str, PathBuf)] {
        &self.files
    }

    /// The file of `sslrootcert`.
    pub(crate) fn authority_file(&self) -> Option<&Path> {
        let file = self.files.iter().find(|(name, _)| *name == AUTHORITY);
        file.map(|(_, path)| path.as_path())
    }
}

/// A value of a query without its percent-encoding. `None` if it is none.
fn decoded(value: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            b'+' => b' ',
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

fn is_this_host(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host.starts_with('/')
        || host == "localhost"
        || bare.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

impl fmt::Display for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PostgresUrl({})", self.shown)
    }
}

/// Why a text is not the address of a database. It has no part of the text but the name of a
/// parameter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PostgresUrlError {
    /// It is no URL of PostgreSQL.
    #[error("the address of the users' database must begin with postgres://")]
    Scheme,
    /// It is the address of an inbox.
    #[error(
        "the address of the users' database must begin with postgres://, and NATS keeps no users"
    )]
    OfInbox,
    /// It has a part that cannot be read.
    #[error(
        "the address of the users' database is not postgres://USER:PASSWORD@HOST:PORT/DATABASE; \
         a special character in the password is written as % and two hexadecimal digits"
    )]
    Malformed,
    /// It has a parameter that is not known.
    #[error("the address of the users' database has an unknown parameter `{}`", name.escape_debug())]
    Parameter {
        /// The parameter.
        name: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_shown_nowhere() {
        for url in [
            "postgres://ipc:se%40cret@db.example/ipc",
            "postgresql://ipc:secret@db.example:5432/ipc?sslmode=require",
            "postgres://ipc@db.example/ipc?password=secret",
        ] {
            let url = PostgresUrl::parse(url).unwrap();
            assert_eq!(url.to_string(), "postgres://ipc:***@db.example:5432/ipc");
            assert!(!format!("{url:?}").contains("cret"));
        }
    }

    #[test]
    fn the_certificate_is_verified_unless_the_database_is_on_this_host_or_it_is_said_otherwise() {
        let mode =
            |url: &str| format!("{:?}", PostgresUrl::parse(url).unwrap().options.get_ssl_mode());
        assert_eq!(mode("postgres://ipc@db.example/ipc"), "VerifyFull");
        assert_eq!(mode("postgres://ipc@192.0.2.1/ipc"), "VerifyFull");
        for here in ["localhost", "127.0.0.1", "[::1]", "%2Frun%2Fpostgresql"] {
            assert_ne!(mode(&format!("postgres://ipc@{here}/ipc")), "VerifyFull", "{here}");
        }
        assert_eq!(mode("postgres://ipc@db.example/ipc?sslmode=disable"), "Disable");
    }

    #[test]
    fn the_files_that_an_address_names_are_known() {
        let url = "postgres://db/ipc?sslrootcert=%2Fa%20b.crt&sslmode=require&sslkey=/k";
        let url = PostgresUrl::parse(url).unwrap();
        let files = [("sslrootcert", PathBuf::from("/a b.crt")), ("sslkey", PathBuf::from("/k"))];
        assert_eq!(url.files(), files);
        assert_eq!(url.authority_file(), Some(Path::new("/a b.crt")));
        assert_eq!(decoded("%4"), None);
    }

    #[test]
    fn what_is_no_address_is_refused_without_quoting_it() {
        for (url, error) in [
            ("secret", PostgresUrlError::Scheme),
            ("mysql://ipc:secret@db/ipc", PostgresUrlError::Scheme),
            ("nats://ipc:secret@db/ipc", PostgresUrlError::OfInbox),
            ("postgres://ipc:secret@db:port/ipc", PostgresUrlError::Malformed),
            ("postgres://ipc@db/ipc?sslmode=secret", PostgresUrlError::Malformed),
            (
                "postgres://db/ipc?passwd=secret",
                PostgresUrlError::Parameter { name: "passwd".into() },
            ),
        ] {
            let found = PostgresUrl::parse(url).unwrap_err();
            assert_eq!(found, error, "{url}");
            assert!(!found.to_string().contains("secret"), "{found}");
        }
    }
}

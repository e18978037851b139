//! Why a server did not start.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use ipc_home::{HomeError, PeerNameError, remedy_of_pair, remedy_of_read_only, shell_quoted};
use ipc_inbox::OpenError;
use ipc_store::{DatabaseError, StoreError};

/// Why a server did not start. Nothing is left behind: the port is free again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The home, or a file of it, is missing, open to others, or damaged.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The users' database does not open. What to do about it is the knowledge of whoever manages
    /// the home.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The durable inbox does not open.
    #[error(transparent)]
    Inbox(#[from] OpenError),
    /// The peer name is none.
    #[error("`{}` is no peer name: {source}", name.escape_debug())]
    Name {
        /// The name as it was given.
        name: String,
        /// What is wrong with it.
        source: PeerNameError,
    },
    /// The certificate of the home's authority is not one for TLS.
    #[error("{} cannot be used for TLS: {reason}", path.display())]
    Authority {
        /// Its file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// TLS takes the certificate pair not as it is.
    #[error("the certificate pair `{name}` cannot be used for TLS: {reason}")]
    Certificate {
        /// The peer name.
        name: String,
        /// Its certificate.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The certificate has expired: no client would connect.
    #[error("the certificate `{name}` expired on {end}; this host's clock shows {now}")]
    CertificateEnded {
        /// The peer name.
        name: String,
        /// Its certificate.
        path: PathBuf,
        /// When it ended.
        end: String,
        /// What the clock shows.
        now: String,
    },
    /// The certificate is not good yet: no client would connect.
    #[error("the certificate `{name}` is good from {from} on; this host's clock shows {now}")]
    CertificateNotYetGood {
        /// The peer name.
        name: String,
        /// Its certificate.
        path: PathBuf,
        /// When it begins.
        from: String,
        /// What the clock shows.
        now: String,
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
    /// This host's clock is set beyond the year 9999, which HTTP cannot write.
    #[error("this host's clock, at second {now_secs} since 1970, is beyond the year 9999")]
    Clock {
        /// What it shows, in seconds since the Unix epoch.
        now_secs: u64,
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
            StartError::Name { source: PeerNameError::NotAscii, .. } => {
                Some("write it as web-ipc --certs told the name of the pair: xn--…".into())
            }
            StartError::Name { .. } => Some("give a host name such as server1.example, or an address".into()),
            StartError::Authority { .. } => Some(
                "put back a good copy of it, or run web-ipc --init --run --force for a new home (the old one \
                 is kept aside)"
                    .into(),
            ),
            StartError::Certificate { name, path, .. } => Some(remedy_of_pair(path, name)),
            StartError::CertificateEnded { name, path, .. } => Some(remedy_of_pair(path, name)),
            StartError::CertificateNotYetGood { name, path, .. } => {
                Some(format!("set the clock of this host; if it is right, {}", remedy_of_pair(path, name)))
            }
            StartError::Inbox(OpenError::InUse { .. }) => {
                Some("stop the other server, or give this one another home".into())
            }
            StartError::Inbox(OpenError::Database(error)) => remedy_of_inbox(error),
            StartError::Inbox(OpenError::Lock { path, source }) => ipc_home::remedy_of_io(source, path),
            StartError::Listen { source, .. } if source.kind() == io::ErrorKind::AddrInUse => {
                Some("choose another port, or 0 for the first free one of 3000 to 3999".into())
            }
            StartError::Listen { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                Some("choose a port above 1023".into())
            }
            StartError::Listen { source, .. } if source.kind() == io::ErrorKind::AddrNotAvailable => {
                Some("choose an address of this host, such as 127.0.0.1".into())
            }
            StartError::Clock { .. } => Some("set the clock of this host".into()),
            StartError::NoFreePort { .. } => Some("name a port".into()),
            StartError::RemoteHttp { .. } => {
                Some("use https, or a loopback address such as 127.0.0.1".into())
            }
            _ => None,
        }
    }
}

/// What to do about the file of a durable inbox.
fn remedy_of_inbox(error: &DatabaseError) -> Option<String> {
    Some(match error {
        DatabaseError::NotADatabase { path, .. }
        | DatabaseError::OtherTable { path, .. }
        | DatabaseError::Corrupt { path, .. } => {
            let aside = shell_quoted(path);
            format!(
                "put back a good copy, or move {aside} and what lies beside it under its name away for an empty one"
            )
        }
        DatabaseError::LogMissing { path, log, .. } => format!(
            "put that back beside it (web-ipc --backup makes copies that are whole); where another program has written it into {} already, run touch {}",
            shell_quoted(path),
            shell_quoted(log)
        ),
        DatabaseError::Truncated { path, .. } => {
            let aside = shell_quoted(path);
            format!(
                "put back a good copy, or move {aside} and what lies beside it under its name away for an empty one"
            )
        }
        DatabaseError::Newer { .. } => "use the newer web-ipc with this home".to_owned(),
        DatabaseError::ReadOnly { path, .. } => remedy_of_read_only(path),
        DatabaseError::DiskFull { .. } => "make room on the disk and run it again".to_owned(),
        DatabaseError::Busy { .. } => "run it again when the other process is done".to_owned(),
        DatabaseError::Replaced { .. } => "run it again".to_owned(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use ipc_home::PeerName;

    use super::*;

    #[test]
    fn a_name_that_is_none_says_what_would_be_one() {
        let error = |name: &str| {
            let source = PeerName::parse(name).unwrap_err();
            StartError::Name { name: name.into(), source }
        };
        assert!(error("a\nb").to_string().starts_with("`a\\nb` is no peer name: "));
        assert!(error("a/b").remedy().unwrap().contains("server1.example"));
        assert!(error("bücher.example").remedy().unwrap().contains("xn--"));
    }

    #[test]
    fn an_inbox_on_a_disk_that_only_reads_says_what_to_do() {
        let source = io::ErrorKind::ReadOnlyFilesystem.into();
        let error = StartError::Inbox(OpenError::Lock { path: "/x/inbox.db".into(), source });
        assert!(error.remedy().unwrap().contains("--home DIR"), "{error}");
    }

    #[test]
    fn a_pair_that_cannot_be_used_says_by_which_command_it_is_made_anew() {
        let error = StartError::Certificate {
            name: "peer1".into(),
            path: "/x/peer1.crt".into(),
            reason: "the key is damaged".into(),
        };
        assert_eq!(
            error.to_string(),
            "the certificate pair `peer1` cannot be used for TLS: the key is damaged"
        );
        assert_eq!(error.remedy().unwrap(), "run web-ipc --certs --name peer1 --force");
    }

    #[test]
    fn a_file_that_lacks_its_log_says_how_to_go_on_with_either() {
        let (path, log) = ("/x/inbox.db".into(), "/x/inbox.db-wal".into());
        let error = DatabaseError::LogMissing { what: "durable inbox", path, log };
        let remedy = StartError::Inbox(OpenError::Database(error)).remedy().unwrap();
        assert!(
            remedy.starts_with("put that back") && remedy.ends_with("run touch /x/inbox.db-wal"),
            "{remedy}"
        );
    }

    #[test]
    fn a_file_that_is_no_inbox_says_where_to_put_it() {
        let error =
            DatabaseError::NotADatabase { what: "durable inbox", path: "/a home/inbox.db".into() };
        let remedy = StartError::Inbox(OpenError::Database(error)).remedy().unwrap();
        assert!(remedy.contains("move '/a home/inbox.db'"), "{remedy}");
    }
}

//! Why a server did not start.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use ipc_base::Remedy;
use ipc_home::{HomeError, NameError, remedy_of_pair};
use ipc_inbox::OpenError;
use ipc_store::StoreError;

/// Why a server did not start. A failed start leaves nothing behind: the port is free again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The home, or a file of it, is missing, open to others, or damaged.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The users' database does not open.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The durable inbox does not open.
    #[error(transparent)]
    Inbox(#[from] OpenError),
    /// The given peer name is not valid.
    #[error("`{}` is no peer name", name.escape_debug())]
    Name {
        /// The name as it was given.
        name: String,
        /// What is wrong with it.
        source: NameError,
    },
    /// The certificate of the home's authority is not one for TLS.
    #[error("{} cannot be used for TLS: {reason}", path.display())]
    Authority {
        /// Its file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// TLS cannot use the certificate pair.
    #[error("the certificate pair `{name}` cannot be used for TLS: {reason}")]
    Certificate {
        /// The peer name.
        name: String,
        /// Its certificate.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The certificate has expired, so no client would connect.
    #[error("the certificate `{name}` expired on {end}; this host's clock shows {now}")]
    CertificateEnded {
        /// The peer name.
        name: String,
        /// Its certificate.
        path: PathBuf,
        /// When its validity ended.
        end: String,
        /// What the clock shows.
        now: String,
    },
    /// The certificate is not valid yet, so no client would connect.
    #[error("the certificate `{name}` is not valid before {from}; this host's clock shows {now}")]
    CertificateNotYetGood {
        /// The peer name.
        name: String,
        /// Its certificate.
        path: PathBuf,
        /// When its validity begins.
        from: String,
        /// What the clock shows.
        now: String,
    },
    /// The address has the wrong form, or its host name does not resolve.
    #[error("{address:?} is not an address to listen on")]
    Address {
        /// The address as it was given.
        address: String,
        /// What the system says.
        source: io::Error,
    },
    /// The address cannot be listened on: taken, not this host's, or not permitted.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The given socket is not one that listens.
    #[error("the socket that was passed{} does not listen", at.map(|at| format!(" ({at})")).unwrap_or_default())]
    NotListening {
        /// Its address, if it has one.
        at: Option<SocketAddr>,
    },
    /// Port 0 was asked for, and every port that it stands for is taken.
    #[error("every port from {first} to {last} is taken")]
    NoFreePort {
        /// The first port tried.
        first: u16,
        /// The last port tried.
        last: u16,
    },
    /// Plain http was asked for on an address that other hosts reach.
    #[error(
        "plain http on {address}, which is not loopback, would let other hosts reach the server without a certificate"
    )]
    RemoteHttp {
        /// The address.
        address: SocketAddr,
    },
    /// Peers that run the Python tool were to be accepted over plain http, where no certificate
    /// tells them apart.
    #[error("peers that run the Python tool are accepted over https only")]
    PythonCompatHttp,
    /// This host's clock is set beyond the year 9999, which HTTP cannot write.
    #[error("this host's clock, at second {now_secs} since 1970, is beyond the year 9999")]
    Clock {
        /// What the clock shows, in seconds since the Unix epoch.
        now_secs: u64,
    },
    /// The server's threads could not be started.
    #[error("the server's threads cannot be started")]
    Threads {
        /// What the system says.
        source: io::Error,
    },
}

impl StartError {
    /// What a person can do about the error. `None` if only the cause can tell.
    #[must_use]
    pub fn remedy(&self) -> Option<Remedy> {
        Some(match self {
            StartError::Home(error) => return error.remedy(),
            StartError::Store(error) => return error.remedy(),
            StartError::Inbox(error) => return error.remedy(),
            StartError::Name { source: NameError::NotAscii, .. } => Remedy::WriteALabel,
            StartError::Name { .. } => Remedy::ChoosePeerName,
            StartError::Authority { path, .. } => {
                Remedy::RestoreFile { path: path.clone() }.or(Remedy::ReplaceHome)
            }
            StartError::Certificate { name, path, .. }
            | StartError::CertificateEnded { name, path, .. } => remedy_of_pair(path, name),
            StartError::CertificateNotYetGood { name, path, .. } => {
                Remedy::SetClock.or(remedy_of_pair(path, name))
            }
            StartError::Listen { source, .. } => match source.kind() {
                io::ErrorKind::AddrInUse => {
                    "choose another port, or 0 for the first free one of 3000 to 3999".into()
                }
                io::ErrorKind::PermissionDenied => "choose a port above 1023".into(),
                io::ErrorKind::AddrNotAvailable => {
                    "choose an address of this host, such as 127.0.0.1".into()
                }
                _ => return None,
            },
            StartError::Clock { .. } => Remedy::SetClock,
            StartError::NotListening { .. } => {
                "pass a TCP socket on which listen(2) was called".into()
            }
            StartError::NoFreePort { .. } => "choose a port yourself".into(),
            StartError::RemoteHttp { .. } => {
                "use https, or a loopback address such as 127.0.0.1".into()
            }
            StartError::PythonCompatHttp => {
                "use https: by its certificate such a peer is told from others".into()
            }
            StartError::Address { .. } | StartError::Threads { .. } => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use ipc_base::{Place, chain};
    use ipc_home::PeerName;
    use ipc_store::DatabaseError;

    use super::*;

    #[test]
    fn a_name_that_is_none_says_what_would_be_one() {
        let error = |name: &str| {
            let source = PeerName::parse(name).unwrap_err();
            StartError::Name { name: name.into(), source }
        };
        assert!(chain(&error("a\nb")).to_string().starts_with("`a\\nb` is no peer name: "));
        assert_eq!(error("a/b").remedy(), Some(Remedy::ChoosePeerName));
        assert_eq!(error("bücher.example").remedy(), Some(Remedy::WriteALabel));
    }

    #[test]
    fn an_inbox_on_a_disk_that_only_reads_says_what_to_do() {
        let source = io::ErrorKind::ReadOnlyFilesystem.into();
        let error = StartError::Inbox(OpenError::Lock { path: "/x/inbox.db".into(), source });
        assert_eq!(error.remedy(), Some(Remedy::UseWritableHome));
        let shown = chain(&error).to_string();
        assert!(shown.starts_with("the inbox /x/inbox.db cannot be locked: read-only"), "{shown}");
    }

    #[test]
    fn a_pair_that_cannot_be_used_is_made_anew() {
        let error = StartError::Certificate {
            name: "peer1".into(),
            path: "/x/peer1.crt".into(),
            reason: "the key is damaged".into(),
        };
        assert_eq!(
            error.to_string(),
            "the certificate pair `peer1` cannot be used for TLS: the key is damaged"
        );
        assert_eq!(error.remedy(), Some(Remedy::issue("peer1", true, Place::ThisHome)));
    }

    #[test]
    fn an_error_shows_itself_and_returns_its_cause() {
        let address = "127.0.0.1:1".parse().unwrap();
        let error = StartError::Listen { address, source: io::Error::other("taken") };
        assert_eq!(error.to_string(), "cannot listen on 127.0.0.1:1");
        assert_eq!(chain(&error).to_string(), "cannot listen on 127.0.0.1:1: taken");
    }

    #[test]
    fn a_file_that_lacks_its_log_says_how_to_go_on_with_either() {
        let (path, log) = (PathBuf::from("/x/inbox.db"), PathBuf::from("/x/inbox.db-wal"));
        let what = "durable inbox";
        let error = DatabaseError::LogMissing { what, path: path.clone(), log: log.clone() };
        let remedy = StartError::Inbox(OpenError::Database(error)).remedy();
        let restore = Remedy::RestoreLog { path: log.clone() };
        assert_eq!(remedy, Some(restore.or(Remedy::ReplaceLog { database: path, log })));
    }

    #[test]
    fn a_file_that_is_no_inbox_is_put_back_or_moved_away() {
        let path = PathBuf::from("/a home/inbox.db");
        let error = DatabaseError::NotADatabase { what: "durable inbox", path: path.clone() };
        let remedy = StartError::Inbox(OpenError::Database(error)).remedy();
        let restore = Remedy::RestoreFile { path: path.clone() };
        assert_eq!(remedy, Some(restore.or(Remedy::MoveAside { path })));
    }
}

//! Why a home, a certificate or a user could not be made or changed, and what to do about it.
//!
//! Every other file here makes these. What is wrong with a home as it lies there stays a
//! [`HomeError`] inside.

use std::io;
use std::path::{Path, PathBuf};

use ipc_home::{
    HomeError, PeerName, PeerNameError, remedy_of_io, remedy_of_read_only, shell_quoted,
};
use ipc_pki::{CreateError, IssueError, LoadError, NameError};
use ipc_store::{DatabaseError, PasswordError, StoreError, UsernameError};
use thiserror::Error;

/// Why setting up failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SetupError {
    /// Something about the home itself: missing, open to others, not to be read or written.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// A home that was complete has lost files, which are not made anew by themselves.
    #[error("{} is a web-ipc home, but it lacks {}", path.display(), missing.join(", "))]
    PiecesMissing {
        /// The home.
        path: PathBuf,
        /// The names of the files.
        missing: Vec<&'static str>,
    },
    /// A server runs on the home, which would be moved away under it.
    #[error("a server is running on {}", path.display())]
    InUse {
        /// The home.
        path: PathBuf,
    },
    /// The old home could not be moved aside.
    #[error("cannot move {} aside to {}", path.display(), aside.display())]
    MoveAside {
        /// The old home.
        path: PathBuf,
        /// Where it was to go.
        aside: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The lock that keeps two runs apart could not be taken.
    #[error("cannot lock {}", path.display())]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The certificate authority could not be made.
    #[error("cannot make the certificate authority")]
    Authority {
        /// What was wrong.
        source: CreateError,
    },
    /// The files of the certificate authority are damaged, or are somebody else's.
    #[error("{} cannot be used", path.display())]
    BadAuthority {
        /// Its certificate or its key, whichever is wrong.
        path: PathBuf,
        /// What is wrong with it.
        source: LoadError,
    },
    /// The certificate could not be issued.
    #[error("cannot issue a certificate for `{name}`")]
    Issue {
        /// Whom it was for.
        name: PeerName,
        /// What was wrong.
        source: IssueError,
    },
    /// There is a pair of that name already.
    #[error("there is a certificate for `{name}` already: {}", path.display())]
    CertificateExists {
        /// The name of the pair.
        name: PeerName,
        /// One of its two files.
        path: PathBuf,
    },
    /// The name cannot stand in a certificate.
    #[error("`{}` cannot be the name in a certificate", name.escape_debug())]
    Name {
        /// The name as given.
        name: String,
        /// Which rule it breaks.
        source: NameError,
    },
    /// The name cannot be that of a pair of files.
    #[error("`{}` cannot be the name of a certificate pair", name.escape_debug())]
    PeerName {
        /// The name as given.
        name: String,
        /// Which rule it breaks.
        source: PeerNameError,
    },
    /// The text cannot be a user name.
    #[error(transparent)]
    Username(#[from] UsernameError),
    /// The text cannot be a password.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// The admin has the new password, but `admin.cred` still has the old one.
    #[error("the password of ipc-admin was set, but admin.cred was not")]
    AdminNotKept {
        /// What was wrong.
        source: HomeError,
    },
    /// The database of users said no.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Something is where a backup was to be made.
    #[error("{} is there already", path.display())]
    BackupExists {
        /// What is there.
        path: PathBuf,
    },
    /// A backup was to be made within the home itself.
    #[error("{} is in the home itself", path.display())]
    BackupInside {
        /// Where it was to be made.
        path: PathBuf,
    },
    /// A backup could not be made where it was to be: not on that disk, or not below that
    /// directory.
    #[error(transparent)]
    BackupUnwritable {
        /// What is wrong there.
        source: HomeError,
    },
    /// The durable inbox could not be copied.
    #[error(transparent)]
    Inbox {
        /// What is wrong with its file, or with the copy.
        source: DatabaseError,
    },
    /// The system gave no thread or timer to work with.
    #[error("cannot start the runtime for the database")]
    Runtime {
        /// What the system said.
        source: io::Error,
    },
}

impl SetupError {
    /// What a user can do about it, as a clause that begins with a verb; `None` where only the
    /// cause can tell.
    #[must_use]
    pub fn remedy(&self) -> Option<String> {
        const ANOTHER_HOME: &str = "put back a good copy of the file, or run web-ipc --init --run --force for a new home (the old one is kept aside)";
        Some(match self {
            Self::Home(error) => return error.remedy(),
            Self::PiecesMissing { missing, .. } => match missing.as_slice() {
                ["web-ipc-ca.key"] => ANOTHER_HOME.replace(
                    "put back a good copy of the file",
                    "put it back where certificates are to be made",
                ),
                pieces if pieces.iter().all(|name| name.starts_with("localhost.")) => {
                    "run web-ipc --certs --name localhost --altNames localhost 127.0.0.1 ::1 --force"
                        .to_owned()
                }
                _ => ANOTHER_HOME.replace("a good copy of the file", "a good copy of what is missing"),
            },
            Self::InUse { .. } => "stop it first".to_owned(),
            Self::MoveAside { path, source, .. } => match source.kind() {
                // A mount point, the root of the file system, or a name that leaves no room for the
                // date.
                io::ErrorKind::ResourceBusy
                | io::ErrorKind::CrossesDevices
                | io::ErrorKind::InvalidInput
                | io::ErrorKind::InvalidFilename => format!(
                    "move what is in {} elsewhere yourself, then run web-ipc --init --run",
                    shell_quoted(path)
                ),
                _ => return remedy_of_io(source, path.parent().unwrap_or(path)),
            },
            Self::Lock { path, source } if source.kind() == io::ErrorKind::IsADirectory => {
                format!("remove {} and run it again", shell_quoted(path))
            }
            Self::Lock { path, source } => return remedy_of_io(source, path),
            Self::Authority { source: CreateError::TimeOutOfRange } => {
                "set the clock of this host".to_owned()
            }
            Self::Issue { source: IssueError::AuthorityNotYetValid { .. }, .. } => {
                "set the clock of this host".to_owned()
            }
            Self::Issue { source: IssueError::AuthorityExpired { .. }, .. } => {
                "run web-ipc --init --run --force for a new home (the old one is kept aside)".to_owned()
            }
            Self::Issue { source: IssueError::ValidityDays { .. }, .. } => {
                "give another number of days with --days N".to_owned()
            }
            Self::Issue { source: IssueError::TooManyAltNames { .. }, .. } => {
                "give fewer with --altNames".to_owned()
            }
            Self::BadAuthority { .. } => ANOTHER_HOME.to_owned(),
            Self::CertificateExists { name, .. } => {
                format!("run web-ipc --certs --name {name} --force to replace it")
            }
            Self::Name { .. } | Self::PeerName { .. } => {
                "give a host name such as server1.example, or an address".to_owned()
            }
            Self::BackupExists { .. } | Self::BackupInside { .. } => ELSEWHERE.to_owned(),
            Self::BackupUnwritable { source } => return remedy_of_destination(source),
            Self::Inbox { source } => return remedy_of_inbox(source),
            Self::Username(_) => "give another name with --user NAME".to_owned(),
            Self::Password(_) => "give another one with --password".to_owned(),
            Self::AdminNotKept { .. } => {
                "run web-ipc --users --change --user ipc-admin with the same password".to_owned()
            }
            Self::Store(error) => return remedy_of_store(error, ANOTHER_HOME),
            Self::Authority { .. } | Self::Issue { .. } | Self::Runtime { .. } => return None,
        })
    }
}

/// What to do where a backup cannot be made at its place.
const ELSEWHERE: &str = "name a directory elsewhere that is not there yet with --out DIR";

/// The home is another directory: whatever is wrong with the place of its copy, no other home mends
/// that.
fn remedy_of_destination(error: &HomeError) -> Option<String> {
    match error {
        HomeError::Unwritable { path, source }
            if matches!(
                source.kind(),
                io::ErrorKind::StorageFull
                    | io::ErrorKind::QuotaExceeded
                    | io::ErrorKind::FileTooLarge
            ) =>
        {
            remedy_of_io(source, path)
        }
        HomeError::NoRandomness { .. } => None,
        _ => Some(ELSEWHERE.to_owned()),
    }
}

fn remedy_of_store(error: &StoreError, another_home: &str) -> Option<String> {
    Some(match error {
        StoreError::Taken { username } => {
            format!(
                "choose another name, or run web-ipc --users --change --user {}",
                quoted(username.as_str())
            )
        }
        StoreError::Unknown { .. } => "run web-ipc --users --list to see who is there".to_owned(),
        StoreError::Database(error) => return remedy_of_database(error, another_home),
        _ => return None,
    })
}

fn remedy_of_database(error: &DatabaseError, another_home: &str) -> Option<String> {
    Some(match error {
        DatabaseError::Missing { .. }
        | DatabaseError::NotADatabase { .. }
        | DatabaseError::OtherTable { .. }
        | DatabaseError::Truncated { .. }
        | DatabaseError::Corrupt { .. } => another_home.to_owned(),
        DatabaseError::LogMissing { log, .. } => {
            format!("put {} back beside it, or {another_home}", shell_quoted(log))
        }
        DatabaseError::Newer { .. } => "use the newer web-ipc with this home".to_owned(),
        DatabaseError::Replaced { .. } => "run it again".to_owned(),
        DatabaseError::ReadOnly { path, .. } => remedy_of_read_only(path),
        DatabaseError::PermissionDenied { path, .. } => {
            return remedy_of_io(&io::ErrorKind::PermissionDenied.into(), path);
        }
        DatabaseError::Busy { .. } => "run it again when the other process is done".to_owned(),
        DatabaseError::DiskFull { .. } => "make room on the disk and run it again".to_owned(),
        _ => return None,
    })
}

/// What keeps the file of a durable inbox, or a copy of it, from being made.
fn remedy_of_inbox(error: &DatabaseError) -> Option<String> {
    Some(match error {
        DatabaseError::LogMissing { path, log, .. } => format!(
            "put that back beside it; where another program has written it into {} already, run touch {}",
            shell_quoted(path),
            shell_quoted(log)
        ),
        DatabaseError::Outdated { .. } => {
            "run web-ipc --dead --list, which brings it up to date, and run it again".to_owned()
        }
        DatabaseError::Newer { .. } => "use the newer web-ipc with this home".to_owned(),
        DatabaseError::DiskFull { .. } => "make room on the disk and run it again".to_owned(),
        DatabaseError::Busy { .. } => "run it again when the other process is done".to_owned(),
        DatabaseError::PermissionDenied { path, .. } => {
            return remedy_of_io(&io::ErrorKind::PermissionDenied.into(), path);
        }
        _ => return None,
    })
}

fn quoted(word: &str) -> String {
    shell_quoted(Path::new(word))
}

//! Why a home, a certificate or a user could not be made or changed, and what to do about it.
//!
//! Every other file here makes these errors. An error about an existing home is a [`HomeError`]
//! inside.

use std::io;
use std::path::{Path, PathBuf};

use ipc_base::{Remedy, remedy_of_io};
use ipc_home::{ADMIN_USERNAME, HomeError, PeerName, remedy_of_pair};
use ipc_inbox::remedy_of_file;
use ipc_pki::{
    CreateError, CrossCertifyError, IssueError, LoadError, NameError, RenewalError, RevokeError,
};
use ipc_store::{DatabaseError, PasswordError, StoreError, UsernameError};
use thiserror::Error;

use crate::{BackupFileError, BundleError, KeyId, Ring};

/// Why setting up failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SetupError {
    /// The home is missing, open to other users, or cannot be read or written.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// A complete home has lost files, which are not made anew.
    #[error("{} is a web-ipc home, but it lacks {}", path.display(), missing.join(", "))]
    PiecesMissing {
        /// The home.
        path: PathBuf,
        /// The names of the files.
        missing: Vec<&'static str>,
    },
    /// A server runs on the home that was to be moved aside.
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
        /// The path that it was to get.
        aside: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// The lock that keeps two runs apart could not be taken.
    #[error("cannot lock {}", path.display())]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// The certificate authority could not be made.
    #[error("cannot make the certificate authority")]
    Authority {
        /// Why.
        source: CreateError,
    },
    /// The files of the certificate authority are damaged, or do not belong together.
    #[error("{} cannot be used", path.display())]
    BadAuthority {
        /// Its certificate or its key, whichever is wrong.
        path: PathBuf,
        /// Why.
        source: LoadError,
    },
    /// The certificate could not be issued.
    #[error("cannot issue a certificate for `{name}`")]
    Issue {
        /// The peer that it was for.
        name: PeerName,
        /// Why.
        source: IssueError,
    },
    /// A pair of that name exists already.
    #[error("there is a certificate for `{name}` already: {}", path.display())]
    CertificateExists {
        /// The name of the pair.
        name: PeerName,
        /// One of its two files.
        path: PathBuf,
    },
    /// The name cannot be in a certificate.
    #[error("`{}` cannot be the name in a certificate", name.escape_debug())]
    Name {
        /// The name as given.
        name: String,
        /// Which rule it breaks.
        source: NameError,
    },
    /// No certificate of the home has this name or serial number.
    #[error("no certificate here has the name or serial number `{}`", name.escape_debug())]
    UnknownCertificate {
        /// The name or serial number.
        name: String,
    },
    /// The certificate was issued by an authority whose key is not in this home.
    #[error("the certificate of `{}` was issued by another authority", name.escape_debug())]
    IssuedElsewhere {
        /// Its name.
        name: String,
    },
    /// The certificate has no successor that this home's authority would issue.
    #[error("the certificate of `{name}` cannot be renewed")]
    NotRenewable {
        /// The name of the pair.
        name: PeerName,
        /// What is wrong with it.
        source: RenewalError,
    },
    /// The list of revoked certificates could not be made.
    #[error("cannot make the list of revoked certificates")]
    Revoke {
        /// What was wrong.
        source: RevokeError,
    },
    /// Another entry would make the list of revoked certificates longer than is read.
    #[error("{} is full", path.display())]
    RevocationListFull {
        /// The file.
        path: PathBuf,
    },
    /// A rotation of the authority has not ended: the old authority is still trusted.
    #[error("the authority is being replaced already: the old one is still trusted")]
    RotationUnderWay,
    /// There is no old authority to drop.
    #[error("there is no old authority here")]
    NoOldAuthority,
    /// Clients have no certificate of the new authority yet.
    #[error("{} still {} a certificate of the old authority", names.join(", "),
        if names.len() == 1 { "has" } else { "have" })]
    NotFollowed {
        /// The names of the clients, sorted.
        names: Vec<String>,
    },
    /// The key of the new authority could not be certified by the old one.
    #[error("the old authority cannot certify the new one")]
    CrossCertify {
        /// What was wrong.
        source: CrossCertifyError,
    },
    /// The bundle or its code is not good.
    #[error(transparent)]
    Bundle {
        /// What is wrong with it.
        source: BundleError,
    },
    /// The key of a bundle could not be derived: there is no memory for it.
    #[error("cannot derive the key of the bundle from its code")]
    BundleKey,
    /// The home is that of an enrolled client or server.
    #[error("{} is the home of `{name}` already", path.display())]
    AlreadyEnrolled {
        /// The home.
        path: PathBuf,
        /// The name of the client or server.
        name: PeerName,
    },
    /// The home is that of a further server of an installation, and the change is one for the first
    /// server's home.
    #[error(
        "{} is the home of a further server: the authority's key, and whatever servers share, are in the home of the first, {first} at {}",
        path.display(), addresses.join(", ")
    )]
    ServerNode {
        /// The home.
        path: PathBuf,
        /// The name in the first server's certificate.
        first: String,
        /// Where the first server is reached.
        addresses: Vec<String>,
    },
    /// The database of users is too large for a bundle.
    #[error("users.db has {bytes} bytes, and a bundle carries {bytes_max} at most")]
    TooManyUsers {
        /// How many bytes a copy of it has.
        bytes: u64,
        /// How many it may have.
        bytes_max: usize,
    },
    /// The home is not that of an enrolled client or server.
    #[error("{} is not the home of an enrolled client", path.display())]
    NotEnrolled {
        /// The home.
        path: PathBuf,
    },
    /// The key of the next certificate, or the request for it, could not be made.
    #[error("the request for a certificate could not be made")]
    RenewalKey {
        /// Why not.
        source: ipc_pki::RequestError,
    },
    /// What the server answered to a renewal cannot be used. Nothing was changed.
    #[error("the server's answer to the renewal cannot be used: {reason}")]
    BadRenewal {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The directory is not empty, and no enrolment has begun in it.
    #[error("{} is not empty", path.display())]
    NotForEnrolment {
        /// The directory.
        path: PathBuf,
    },
    /// The client has accepted an earlier bundle.
    #[error("`{name}` is enrolled already")]
    EnrolmentExists {
        /// The name of the client.
        name: String,
    },
    /// The name is that of a certificate pair in this home.
    #[error("`{name}` is the name of a certificate in this home")]
    EnrolmentNameTaken {
        /// The name.
        name: PeerName,
    },
    /// The user of the enrolment is there already.
    #[error("user {user} exists already, and whoever is enrolled gets a user of its own")]
    EnrolmentUserTaken {
        /// The user name.
        user: String,
    },
    /// The name of a new pair is that of an enrolled client or server.
    #[error("`{name}` is the name of an enrolled client or server")]
    CertificateNameTaken {
        /// The name.
        name: PeerName,
    },
    /// The key of the certificate is not in this home: it is that of an enrolled client or server.
    #[error("`{name}` is an enrolled client or server, whose key is in a home of its own")]
    KeyElsewhere {
        /// The name.
        name: PeerName,
        /// Whether it is a server.
        is_server: bool,
    },
    /// Nobody of this name was enrolled.
    #[error("no client `{name}` was enrolled")]
    UnknownEnrolment {
        /// The name.
        name: String,
    },
    /// What was noted of an enrolment cannot be read.
    #[error("{} is damaged, or of a newer version", path.display())]
    BadEnrolment {
        /// The file.
        path: PathBuf,
    },
    /// The client is told no address of its server.
    #[error("an enrolled client needs an address of its server")]
    NoAddress,
    /// The key ring has no room for another key.
    #[error("{ring} has {keys_max} keys already, the most that are read")]
    TooManyKeys {
        /// Which ring.
        ring: Ring,
        /// How many keys a ring has at most.
        keys_max: usize,
    },
    /// No key of the ring has this id.
    #[error("no key in {ring} has the id {id}")]
    UnknownKey {
        /// Which ring.
        ring: Ring,
        /// The id.
        id: KeyId,
    },
    /// The key is the one that seals.
    #[error("{id} is the {} key in {ring}, which seals", if *is_only { "only" } else { "first" })]
    KeyInUse {
        /// Which ring.
        ring: Ring,
        /// The id of the key.
        id: KeyId,
        /// Whether the ring has no other key.
        is_only: bool,
    },
    /// Clients sealed their last login with the key.
    #[error("{id} in envelope.keys is still used by {}", names.join(", "))]
    KeyStillUsed {
        /// The id of the key.
        id: KeyId,
        /// The names of the clients, sorted.
        names: Vec<String>,
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
        /// Why.
        source: HomeError,
    },
    /// The address of the users' database is none.
    #[error("{reason}")]
    UsersUrl {
        /// What is wrong with it. It does not quote the address.
        reason: String,
    },
    /// The database that the home's users are to be in does not know the home's admin, or not with
    /// the password of `admin.cred`.
    #[error("the users of {} are not in that database", path.display())]
    UsersNotThere {
        /// The home.
        path: PathBuf,
    },
    /// The database of users refused the change, or failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Something exists at the path of the backup.
    #[error("{} is there already", path.display())]
    BackupExists {
        /// The path of the backup.
        path: PathBuf,
    },
    /// The path of the backup is within the home itself.
    #[error("{} is in the home itself", path.display())]
    BackupInside {
        /// The path of the backup.
        path: PathBuf,
    },
    /// The backup cannot be written at its path.
    #[error(transparent)]
    BackupUnwritable {
        /// Why.
        source: HomeError,
    },
    /// Something exists at the path of the sealed backup.
    #[error("{} is there already", path.display())]
    BackupFileExists {
        /// The path of the backup.
        path: PathBuf,
    },
    /// The path of the sealed backup is within the home itself.
    #[error("{} is in the home itself", path.display())]
    BackupFileInside {
        /// The path of the backup.
        path: PathBuf,
    },
    /// The sealed backup cannot be written at its path.
    #[error("cannot write {}", path.display())]
    BackupFileUnwritable {
        /// The path of the backup.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// A backup of this home could not be restored, and so none was made.
    #[error("a backup of {} could not be restored: {reason}", path.display())]
    NotRestorable {
        /// The home.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The code of a new backup could not be shown. The backup was removed.
    #[error("cannot show the code of the backup")]
    CodeNotShown {
        /// The error of the system.
        source: io::Error,
    },
    /// The key of a backup could not be derived: there is no memory for it.
    #[error("cannot derive the key of the backup from its code")]
    BackupKey,
    /// The file of a backup cannot be read.
    #[error("cannot read {}", path.display())]
    BackupFileUnreadable {
        /// The file.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// The backup, or its code, is not good.
    #[error("cannot restore {}", path.display())]
    BackupFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: BackupFileError,
    },
    /// A database in the backup cannot be used.
    #[error("a database in the backup {} cannot be used", path.display())]
    RestoredDatabase {
        /// The file of the backup.
        path: PathBuf,
        /// What is wrong with the database.
        source: DatabaseError,
    },
    /// What is in the backup does not fit together.
    #[error("what is in the backup {} cannot be used: {reason}", path.display())]
    RestoredHome {
        /// The file of the backup.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Something is in the directory to which a backup was to be restored.
    #[error("{} is not empty", path.display())]
    RestoreNotEmpty {
        /// The directory.
        path: PathBuf,
    },
    /// The place of the home is the root of a file system, or a directory that was mounted.
    #[error("{} is a mount point, and a home is put in its place by a rename", path.display())]
    RestoreMountPoint {
        /// The place.
        path: PathBuf,
    },
    /// The restored home could not be put in its place.
    #[error("cannot put the restored home at {}{}", path.display(), match aside {
        Some(aside) => format!(", and the old one is {} now", aside.display()),
        None => String::new(),
    })]
    RestorePlace {
        /// The place.
        path: PathBuf,
        /// Where the old home is, if it was moved aside and could not be moved back.
        aside: Option<PathBuf>,
        /// The error of the system.
        source: io::Error,
    },
    /// An [`AbortHandle`](crate::AbortHandle) has ended it.
    #[error("it was aborted")]
    Aborted,
    /// The durable inbox could not be copied.
    #[error(transparent)]
    Inbox {
        /// The error of its file, or of the copy.
        source: DatabaseError,
    },
    /// A home cannot be made of an environment of the Python tool where something is already.
    #[error("{} is not empty, and an environment is taken over into a new home", path.display())]
    HomeExists {
        /// The directory, which was left unchanged.
        path: PathBuf,
    },
    /// There is no directory of which a home could be made.
    #[error("there is no directory {}", path.display())]
    NoEnvironment {
        /// The path that was given.
        path: PathBuf,
    },
    /// The directory is no environment of the Python tool.
    #[error("{} is not an environment of the Python tool: it lacks {}", path.display(), missing.join(", "))]
    NotAnEnvironment {
        /// The directory.
        path: PathBuf,
        /// The names of the files.
        missing: Vec<&'static str>,
        /// A directory within it that is one.
        instead: Option<PathBuf>,
    },
    /// The message key of an environment of the Python tool cannot be read.
    #[error("{} is not a message key of the Python tool, or is damaged", path.display())]
    BadMessageKey {
        /// The file.
        path: PathBuf,
    },
    /// The database of users of an environment of the Python tool cannot be used.
    #[error("{} cannot be used", path.display())]
    BadOldUsers {
        /// The file, of which a copy was opened.
        path: PathBuf,
        /// What was wrong with the copy.
        source: StoreError,
    },
    /// A home cannot be made at the place where a file system is mounted, since it is made beside
    /// its place and renamed.
    #[error("{} is a mount point", path.display())]
    MountPoint {
        /// The directory.
        path: PathBuf,
    },
    /// The certificate authority of an environment of the Python tool cannot be used.
    #[error("{} cannot be used", path.display())]
    BadOldAuthority {
        /// Its certificate or its key, whichever is wrong.
        path: PathBuf,
        /// Why.
        source: LoadError,
    },
    /// The async runtime for the database could not be started.
    #[error("cannot start the runtime for the database")]
    Runtime {
        /// The error of the system.
        source: io::Error,
    },
}

impl SetupError {
    /// What a person can do about it, or `None` if only the cause can tell.
    #[must_use]
    pub fn remedy(&self) -> Option<Remedy> {
        Some(match self {
            Self::Home(error) => return error.remedy(),
            Self::PiecesMissing { path, missing } => remedy_of_missing(path, missing),
            Self::InUse { .. } => Remedy::StopServer,
            Self::MoveAside { path, source, .. } => match source.kind() {
                // A mount point, the root of the file system, or a name that leaves no room for the
                // date.
                io::ErrorKind::ResourceBusy
                | io::ErrorKind::CrossesDevices
                | io::ErrorKind::InvalidInput
                | io::ErrorKind::InvalidFilename => Remedy::EmptyHome { path: path.clone() },
                _ => return remedy_of_io(source, path.parent().unwrap_or(path)),
            },
            Self::Lock { path, source } if source.kind() == io::ErrorKind::IsADirectory => {
                Remedy::RemoveObstacle { path: path.clone() }
            }
            Self::Lock { path, source } => return remedy_of_io(source, path),
            Self::Authority { source: CreateError::TimeOutOfRange } => Remedy::SetClock,
            Self::Issue { source: IssueError::AuthorityNotYetValid { .. }, .. } => Remedy::SetClock,
            Self::Issue { source: IssueError::AuthorityExpired { .. }, .. } => Remedy::ReplaceHome,
            Self::Issue { source: IssueError::ValidityDays { .. }, .. } => Remedy::ChooseDays,
            Self::Issue { source: IssueError::TooManyAltNames { .. }, .. } => {
                Remedy::ChooseFewerNames
            }
            Self::BadAuthority { path, .. } => {
                Remedy::RestoreFile { path: path.clone() }.or(Remedy::ReplaceHome)
            }
            Self::CertificateExists { name, .. } => {
                Remedy::OverwriteCertificate { name: name.to_string() }
            }
            Self::Name { .. } => Remedy::ChoosePeerName,
            Self::BackupExists { .. } | Self::BackupInside { .. } => Remedy::ChooseBackupPlace,
            Self::BackupUnwritable { source } => return remedy_of_destination(source),
            Self::BackupFileExists { .. } | Self::BackupFileInside { .. } => {
                Remedy::ChooseBackupFile
            }
            Self::BackupFileUnwritable { path, source } => match source.kind() {
                io::ErrorKind::StorageFull
                | io::ErrorKind::QuotaExceeded
                | io::ErrorKind::FileTooLarge => return remedy_of_io(source, path),
                _ => Remedy::ChooseBackupFile,
            },
            Self::BackupFileUnreadable { path, source } => match source.kind() {
                io::ErrorKind::NotFound => Remedy::act("name the file of a backup"),
                _ => return remedy_of_io(source, path),
            },
            Self::BackupFile { source, .. } => remedy_of_backup(source),
            Self::RestoredDatabase { source: DatabaseError::Newer { .. }, .. } => {
                Remedy::UseNewerVersion
            }
            Self::RestoredDatabase { .. } | Self::RestoredHome { .. } => {
                Remedy::act("use another backup")
            }
            Self::NotRestorable { .. } => Remedy::Diagnose,
            Self::RestoreNotEmpty { .. } => Remedy::MoveHomeAside,
            Self::RestoreMountPoint { .. } => Remedy::act(
                "restore to a directory within the volume, with --home DIR, and use that",
            ),
            Self::RestorePlace { .. } => Remedy::UseAnotherHome,
            Self::BackupKey | Self::Aborted | Self::CodeNotShown { .. } => return None,
            Self::Inbox { source } => match source {
                // The copy is read-only, not the home: another home would not help.
                DatabaseError::ReadOnly { .. } => return None,
                error => return remedy_of_file(error),
            },
            Self::UnknownCertificate { .. } => Remedy::ListCertificates,
            Self::IssuedElsewhere { .. } => {
                Remedy::act("revoke it in the home of the authority that issued it")
            }
            Self::NotRenewable { name, .. } => {
                Remedy::OverwriteCertificate { name: name.to_string() }
            }
            Self::RevocationListFull { .. } => Remedy::act(
                "replace the authority, with a new home or by a rotation: its certificates are \
                 then no longer trusted at all",
            ),
            Self::Revoke { source: RevokeError::NotAListSigner } => Remedy::ReplaceHome,
            Self::RotationUnderWay => Remedy::DropOldAuthority { force: false },
            Self::NotFollowed { .. } => {
                Remedy::RenewEach.or(Remedy::DropOldAuthority { force: true })
            }
            Self::NoOldAuthority => return None,
            Self::CrossCertify { source: CrossCertifyError::NeverBothValid } => Remedy::ReplaceHome,
            Self::CrossCertify { .. } => return None,
            Self::Bundle { source } => remedy_of_bundle(source),
            Self::BundleKey => return None,
            Self::AlreadyEnrolled { .. } | Self::NotForEnrolment { .. } => Remedy::UseAnotherHome,
            // A pair that was copied by hand belongs to no enrolment.
            Self::NotEnrolled { .. } => Remedy::EnrolAnew.or(Remedy::act(
                "where its pair was copied by hand, renew that in the server's home and copy it \
                 again",
            )),
            Self::ServerNode { .. } => Remedy::UseFirstServersHome,
            Self::TooManyUsers { .. } => Remedy::act(
                "delete users that are not needed any longer, or make the other server by copying a backup of this home",
            ),
            Self::RenewalKey { .. } | Self::BadRenewal { .. } => return None,
            Self::EnrolmentExists { name } => Remedy::CancelEnrolment { name: name.clone() },
            Self::EnrolmentNameTaken { .. } => Remedy::ChoosePeerName,
            Self::CertificateNameTaken { name } => {
                let another = Remedy::act("give the pair another name");
                another.or(Remedy::CancelEnrolment { name: name.to_string() })
            }
            Self::KeyElsewhere { name, is_server } => {
                let name = name.to_string();
                let anew = Remedy::EnrolPeerAnew { name: name.clone(), is_server: *is_server };
                Remedy::RenewElsewhere { name }.or(anew)
            }
            Self::UnknownEnrolment { .. } => Remedy::ListEnrolments,
            Self::BadEnrolment { path } => Remedy::RestoreFile { path: path.clone() },
            Self::NoAddress => Remedy::NameAddress,
            Self::TooManyKeys { .. } => Remedy::DropKey,
            Self::UnknownKey { .. } => Remedy::ListKeys,
            Self::KeyInUse { ring, .. } => Remedy::RotateKeys { session: *ring == Ring::Session },
            Self::KeyStillUsed { id, .. } => Remedy::DropUsedKey { id: id.to_string() },
            Self::Username(_) | Self::EnrolmentUserTaken { .. } => Remedy::ChooseUserName,
            Self::Password(_) => Remedy::ChoosePassword,
            Self::AdminNotKept { .. } => Remedy::RepeatPassword { user: ADMIN_USERNAME.to_owned() },
            Self::UsersUrl { .. } => return None,
            Self::UsersNotThere { .. } => Remedy::CopyUsersToDatabase,
            Self::HomeExists { .. } => Remedy::UseAnotherHome,
            Self::NotAnEnvironment { instead: Some(path), .. } => {
                Remedy::TakeOver { path: path.clone() }
            }
            Self::NoEnvironment { .. } | Self::NotAnEnvironment { .. } => Remedy::act(
                "give the directory web_env of the Python tool, as it is on the server's host",
            ),
            Self::MountPoint { path } => Remedy::act(format!(
                "give a directory below the mount, such as {}",
                path.join("web-ipc").display()
            )),
            Self::BadMessageKey { path }
            | Self::BadOldUsers { path, .. }
            | Self::BadOldAuthority { path, .. } => Remedy::RestoreFile { path: path.clone() },
            Self::Store(error) => return remedy_of_store(error),
            Self::Authority { .. }
            | Self::Issue { .. }
            | Self::Revoke { .. }
            | Self::Runtime { .. } => return None,
        })
    }
}

/// What helps where a store of users cannot be used. Only this crate knows which store it is.
#[cfg(feature = "postgres")]
fn remedy_of_store(error: &StoreError) -> Option<Remedy> {
    match error {
        StoreError::Storage { source } | StoreError::Unavailable { source } => {
            source.downcast_ref::<ipc_store_postgres::PostgresError>()?.remedy()
        }
        error => error.remedy(),
    }
}

#[cfg(not(feature = "postgres"))]
fn remedy_of_store(error: &StoreError) -> Option<Remedy> {
    error.remedy()
}

/// What helps where a backup was not restored.
fn remedy_of_backup(error: &BackupFileError) -> Remedy {
    match error {
        BackupFileError::MalformedCode | BackupFileError::WrongCode => {
            Remedy::act("give the code that was shown when this backup was made")
        }
        BackupFileError::NotABackup => Remedy::act("name the file of a backup"),
        BackupFileError::Directory => {
            Remedy::act("if it is the copy of a home, move it to the place of the home itself")
        }
        BackupFileError::Damaged | BackupFileError::Truncated => {
            Remedy::act("copy the whole file again, unchanged, or use another backup")
        }
        BackupFileError::Unsupported => Remedy::UseNewerVersion,
        BackupFileError::NotWhole { .. } => Remedy::act("use another backup"),
    }
}

/// What helps where a bundle was not accepted.
fn remedy_of_bundle(error: &BundleError) -> Remedy {
    match error {
        BundleError::MalformedCode | BundleError::WrongCode => {
            Remedy::act("give the code that was shown when this bundle was made")
        }
        BundleError::NotABundle | BundleError::Damaged => {
            Remedy::act("copy the whole bundle again, unchanged")
        }
        BundleError::Expired => Remedy::MakeBundle,
        BundleError::FromTheFuture { .. } => Remedy::CheckClocks,
        BundleError::Unsupported => Remedy::UseNewerVersion,
        BundleError::UsersInPostgres => {
            Remedy::act("use a web-ipc that was built with the feature `postgres`")
        }
    }
}

/// The remedy for files that the home at `path` has lost.
fn remedy_of_missing(path: &Path, missing: &[&str]) -> Remedy {
    match missing {
        [name @ "web-ipc-ca.key"] => {
            Remedy::RestoreAuthorityKey { path: path.join(name) }.or(Remedy::ReplaceHome)
        }
        names if names.iter().all(|name| name.starts_with("localhost.")) => {
            remedy_of_pair(&path.join("localhost.crt"), "localhost")
        }
        names => {
            let paths = names.iter().map(|name| path.join(name)).collect();
            Remedy::RestoreFiles { paths }.or(Remedy::ReplaceHome)
        }
    }
}

/// The remedy for the place of a copy. It never proposes another home, which would not help.
fn remedy_of_destination(error: &HomeError) -> Option<Remedy> {
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
        _ => Some(Remedy::ChooseBackupPlace),
    }
}

//! The errors of a home, and their remedies.
//!
//! All files of this crate return them. A program shows the error, its causes, and then
//! [`HomeError::remedy`] in its own words. No variant contains the content of a file.

use std::io;
use std::path::{Path, PathBuf};

use ipc_base::{ModeChange, PeerName, Remedy, remedy_of_io};
use thiserror::Error;

use crate::accounts::user_name;
use crate::contents::is_client_directory;
use crate::permissions::STICKY;
use crate::remedy::{issue_pair, remedy_of_pair};

/// Why a home, or a file in it, cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum HomeError {
    /// There is no `--home`, no `$WEB_IPC_HOME`, and no home directory of the user for a default.
    #[error("no place for a web-ipc home is known: neither $WEB_IPC_HOME nor $HOME is set")]
    NoDefault,
    /// The given path is empty or cannot be made absolute.
    #[error("{} cannot be used as the path of a home", quoted(path))]
    BadPath {
        /// The path as given.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// The directory does not exist.
    #[error("there is no web-ipc home at {}", path.display())]
    Missing {
        /// The path of the missing home.
        path: PathBuf,
    },
    /// The directory exists, but its creation as a home has not finished, or it is no home.
    #[error("{} is not a complete web-ipc home", path.display())]
    Incomplete {
        /// The directory.
        path: PathBuf,
    },
    /// The users of the home are in another database than `users.db`.
    #[error("the users of {} are in a PostgreSQL database, which this program does not open", path.display())]
    UsersElsewhere {
        /// The home.
        path: PathBuf,
    },
    /// The directory has contents, but not those of a home.
    #[error("{} is not a web-ipc home", path.display())]
    NotAHome {
        /// The directory, which was left unchanged.
        path: PathBuf,
    },
    /// The directory is the environment of the Python tool of the same name.
    #[error("{} belongs to the Python tool of the same name and is not a web-ipc home", path.display())]
    PythonTool {
        /// The directory, which was left unchanged.
        path: PathBuf,
    },
    /// The path is a symbolic link whose target does not exist.
    #[error("{} is a symbolic link to {}, which does not exist", path.display(), target.display())]
    BrokenLink {
        /// The link.
        path: PathBuf,
        /// The target of the link.
        target: PathBuf,
    },
    /// The path is not a directory.
    #[error("{} is not a directory", path.display())]
    NotADirectory {
        /// The path.
        path: PathBuf,
    },
    /// Group or others have access to a directory or a secret file.
    #[error("{} is open to other users (mode {mode:04o})", path.display())]
    TooOpen {
        /// The directory or file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// The required permission bits: 0700 or 0600.
        mode_wanted: u32,
    },
    /// Several are open at once: the directory and files in it, or several files.
    #[error("{} is open to other users: {}", path.display(), listed(names))]
    AllTooOpen {
        /// The home.
        path: PathBuf,
        /// What is open, each with its permission bits; the home itself is `.`.
        names: Vec<(String, u32)>,
    },
    /// The path belongs to a user other than root and the current one, who could change it at any
    /// time.
    #[error("{}", foreign_owner(path, target, *owner, *own_uid))]
    ForeignOwner {
        /// The path with the foreign owner: the home, a file in it, or a directory above it.
        path: PathBuf,
        /// The path that was to be used.
        target: PathBuf,
        /// The owner's user id.
        owner: u32,
        /// The user id of this process.
        own_uid: u32,
    },
    /// Others may write to a directory above the home, and could replace the home.
    #[error(
        "other users may write to {} (mode {mode:04o}) and put another directory in the place of {}",
        path.display(),
        target.display()
    )]
    WritableByOthers {
        /// The directory.
        path: PathBuf,
        /// The path that was to be used.
        target: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// The owner's user id.
        owner: u32,
        /// The user id of this process.
        own_uid: u32,
    },
    /// A file of the home is a symbolic link.
    #[error("{} is a symbolic link", path.display())]
    SymbolicLink {
        /// The link.
        path: PathBuf,
    },
    /// The path is the directory of a client, with keys and certificates from another home. The
    /// operation needs a home with its own users and authority.
    #[error("{} is the directory of a client: it has no users and no authority of its own", path.display())]
    ClientDirectory {
        /// The directory, which was left unchanged.
        path: PathBuf,
    },
    /// A client's directory has no `admin.cred` to log in with, and no user was given.
    #[error("no user is given, and {} is the directory of a client, which has no user to log in as", path.display())]
    NoUser {
        /// The directory.
        path: PathBuf,
    },
    /// `session.key` and `envelope.keys` have a key in common: every client could forge a session
    /// of any user.
    #[error("{} holds a key of envelope.keys, which every client has", path.display())]
    SessionKeyShared {
        /// `session.key`.
        path: PathBuf,
    },
    /// The variable that allows others to read the home has a value other than `1`.
    #[error("{variable} is {value:?}")]
    BadVariable {
        /// The name of the variable.
        variable: &'static str,
        /// Its value.
        value: String,
    },
    /// A file of a complete home is missing.
    #[error("{} is missing", path.display())]
    FileMissing {
        /// The file.
        path: PathBuf,
    },
    /// There is no certificate pair of this name.
    #[error("there is no certificate for `{name}`: {} is missing", path.display())]
    CertificateMissing {
        /// The name of the pair.
        name: PeerName,
        /// The missing file.
        path: PathBuf,
    },
    /// The path is not a regular file.
    #[error("{} is not a regular file", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// A file is far larger than any file that belongs there.
    #[error("{} is larger than {bytes_max} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit.
        bytes_max: u64,
    },
    /// The system did not allow a file or directory to be read.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// The file or directory.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// The system did not allow a file or directory to be written.
    #[error("cannot write {}", path.display())]
    Unwritable {
        /// The file or directory.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// A key file contains no valid key ring.
    #[error("{} holds no usable keys", path.display())]
    BadKeys {
        /// The key file.
        path: PathBuf,
        /// Why the key ring is invalid.
        source: ipc_envelope::KeyError,
    },
    /// A key file is not UTF-8 text.
    #[error("{} is {}", path.display(), if *is_utf_16 { "UTF-16" } else { "not UTF-8" })]
    NotUtf8 {
        /// The key file.
        path: PathBuf,
        /// Whether the file begins like UTF-16, as some editors save it.
        is_utf_16: bool,
    },
    /// A certificate file contains no PEM certificate.
    #[error("{} holds no PEM certificate", path.display())]
    BadCertificate {
        /// The certificate file.
        path: PathBuf,
        /// The name of the pair; `None` for the authority.
        name: Option<PeerName>,
    },
    /// The file of revoked certificates holds no list in PEM. Read as an empty one it would revoke
    /// nothing.
    #[error("{} holds no PEM list of revoked certificates", path.display())]
    BadRevocationList {
        /// The file.
        path: PathBuf,
    },
    /// `client.json` is not what enrolment wrote.
    #[error("{} does not say which server this client talks to", path.display())]
    BadClientSettings {
        /// The file.
        path: PathBuf,
    },
    /// A private key file holds no private key in PEM.
    #[error("{} holds no PEM private key", path.display())]
    BadPrivateKey {
        /// The key file.
        path: PathBuf,
        /// The name of the pair.
        name: PeerName,
    },
    /// A private key is encrypted with a passphrase, and nobody can be asked for it.
    #[error("{} is encrypted with a passphrase, which is not supported", path.display())]
    EncryptedPrivateKey {
        /// The key file.
        path: PathBuf,
        /// The name of the pair.
        name: PeerName,
    },
    /// The admin's credentials were not sealed with the envelope keys of this home, or are damaged.
    #[error("{} cannot be opened with the envelope keys of this home", path.display())]
    BadCredentials {
        /// The file.
        path: PathBuf,
    },
    /// The operating system provided no random numbers.
    #[error("the operating system gave no random numbers")]
    NoRandomness {
        /// The error of the system.
        source: io::Error,
    },
}

impl HomeError {
    /// What a person can do about the error; `None` if only the cause tells.
    #[must_use]
    pub fn remedy(&self) -> Option<Remedy> {
        Some(match self {
            Self::NoDefault => Remedy::NameHome,
            Self::BadPath { .. } | Self::NotADirectory { .. } | Self::NotAHome { .. } => {
                Remedy::UseAnotherHome
            }
            Self::UsersElsewhere { .. } => Remedy::act(
                "use a web-ipc that was built with the feature `postgres`; a program opens the \
                 database itself and gives it to its server",
            ),
            Self::PythonTool { path } => Remedy::TakeOver { path: path.clone() },
            Self::BrokenLink { path, .. } => {
                Remedy::MendLink { path: path.clone() }.or(Remedy::UseAnotherHome)
            }
            Self::Missing { .. } | Self::Incomplete { .. } => Remedy::MakeHome,
            // /tmp and similar directories are for everyone, so their mode must not change.
            Self::TooOpen { mode, .. } if mode & STICKY != 0 => Remedy::UseAnotherHome,
            Self::TooOpen { path, mode_wanted, .. } => {
                fix_permissions(path, ModeChange::To(*mode_wanted))
            }
            Self::AllTooOpen { path, .. } => fix_permissions(path, ModeChange::OwnerOnly),
            Self::ForeignOwner { path, target, owner, .. } if path == target => {
                remedy_of_owner(path, *owner)
            }
            Self::ForeignOwner { .. } => Remedy::UseAnotherHome,
            // A directory of another owner may be open on purpose, so only the owner's own is to be
            // closed.
            Self::WritableByOthers { path, owner, own_uid, .. } if owner == own_uid => {
                fix_permissions(path, ModeChange::NotWritableByOthers).or(Remedy::UseAnotherHome)
            }
            Self::WritableByOthers { .. } => Remedy::UseAnotherHome,
            Self::SymbolicLink { path } => Remedy::ReplaceLink { path: path.clone() },
            Self::ClientDirectory { .. } => Remedy::UseServersHome.or(Remedy::UseAnotherHome),
            Self::NoUser { .. } => Remedy::NameUser,
            Self::SessionKeyShared { path } => Remedy::RemakeFile { path: path.clone() },
            Self::BadVariable { variable, .. } => Remedy::act(format!(
                "set {variable} to 1 to use a home that others can read, or unset it"
            )),
            Self::CertificateMissing { name, path } => {
                let is_certificate = path.extension() == Some("crt".as_ref());
                let other = path.with_extension(if is_certificate { "key" } else { "crt" });
                issue_pair(path, name.as_str(), other.symlink_metadata().is_ok())
            }
            Self::EncryptedPrivateKey { name, path } => {
                Remedy::DecryptKey { path: path.clone() }.or(remedy_of_pair(path, name.as_str()))
            }
            Self::BadCertificate { name: Some(name), path }
            | Self::BadPrivateKey { name, path } => remedy_of_pair(path, name.as_str()),
            Self::FileMissing { path } if path.parent().is_some_and(is_client_directory) => {
                Remedy::CopyFromServer { path: path.clone() }
            }
            Self::NotUtf8 { path, is_utf_16: true } => Remedy::SaveAsUtf8 { path: path.clone() },
            Self::FileMissing { path }
            | Self::NotAFile { path }
            | Self::TooLarge { path, .. }
            | Self::BadKeys { path, .. }
            | Self::NotUtf8 { path, is_utf_16: false }
            | Self::BadCertificate { name: None, path }
            | Self::BadRevocationList { path }
            | Self::BadClientSettings { path }
            | Self::BadCredentials { path } => {
                Remedy::RestoreFile { path: path.clone() }.or(Remedy::ReplaceHome)
            }
            Self::Unreadable { path, source } | Self::Unwritable { path, source } => {
                return remedy_of_io(source, path);
            }
            Self::NoRandomness { .. } => return None,
        })
    }
}

fn fix_permissions(path: &Path, change: ModeChange) -> Remedy {
    Remedy::FixPermissions { paths: vec![path.to_owned()], change }
}

/// Says who could change the path.
fn foreign_owner(path: &Path, target: &Path, owner: u32, own_uid: u32) -> String {
    let (path_shown, owner, own) = (path.display(), account(owner), account(own_uid));
    if path == target {
        format!("{path_shown} belongs to {owner}, but this process runs as {own}")
    } else {
        format!(
            "{path_shown} belongs to {owner}, who could put another directory in the place of {}",
            target.display()
        )
    }
}

fn remedy_of_owner(path: &Path, owner: u32) -> Remedy {
    if path.is_dir() {
        let user = user_name(owner).unwrap_or_else(|| format!("#{owner}"));
        Remedy::RunAs { user, home: path.to_owned() }
    } else {
        Remedy::ChangeOwner { path: path.to_owned() }
    }
}

fn account(uid: u32) -> String {
    match user_name(uid) {
        Some(name) => name,
        None => format!("user {uid}"),
    }
}

/// Formats as `envelope.keys (0644), session.key (0644)`.
fn listed(names: &[(String, u32)]) -> String {
    let names: Vec<_> = names.iter().map(|(name, mode)| format!("{name} ({mode:04o})")).collect();
    names.join(", ")
}

fn quoted(path: &Path) -> String {
    format!("`{}`", path.display())
}

#[cfg(test)]
mod tests {
    use ipc_base::Place;

    use super::*;

    #[test]
    fn an_open_directory_is_mended_by_its_mode() {
        let error =
            HomeError::TooOpen { path: "/tmp/my home".into(), mode: 0o755, mode_wanted: 0o700 };
        assert_eq!(error.to_string(), "/tmp/my home is open to other users (mode 0755)");
        let mode = ModeChange::To(0o700);
        assert_eq!(error.remedy(), Some(fix_permissions("/tmp/my home".as_ref(), mode)));
    }

    #[test]
    fn a_missing_home_is_made() {
        let error = HomeError::Missing { path: "/x".into() };
        assert_eq!(error.remedy(), Some(Remedy::MakeHome));
    }

    #[test]
    fn a_missing_certificate_is_issued() {
        let name = PeerName::parse("peer1").unwrap();
        let error = HomeError::CertificateMissing { name, path: "/x/peer1.crt".into() };
        assert_eq!(error.remedy(), Some(Remedy::issue("peer1", false, Place::ThisHome)));
    }

    #[test]
    fn the_certificate_of_localhost_is_made_anew_with_all_its_names() {
        let name = PeerName::parse("localhost").unwrap();
        for error in [
            HomeError::CertificateMissing { name: name.clone(), path: "/x/localhost.crt".into() },
            HomeError::BadPrivateKey { name: name.clone(), path: "/x/localhost.key".into() },
            HomeError::BadCertificate { name: Some(name.clone()), path: "/x/localhost.crt".into() },
        ] {
            let Some(Remedy::IssueCertificate { alt_names, replace: true, .. }) = error.remedy()
            else {
                panic!("{error:?}")
            };
            assert_eq!(alt_names, ["localhost", "127.0.0.1", "::1"], "{error:?}");
        }
    }

    #[test]
    fn half_a_pair_is_made_anew_by_force() {
        let directory = tempfile::tempdir().unwrap();
        let name = PeerName::parse("peer1.example").unwrap();
        for (missing, there) in [("key", "crt"), ("crt", "key")] {
            std::fs::write(directory.path().join(format!("peer1.example.{there}")), "").unwrap();
            let path = directory.path().join(format!("peer1.example.{missing}"));
            let error = HomeError::CertificateMissing { name: name.clone(), path };
            let by_force = Remedy::issue("peer1.example", true, Place::ThisHome);
            assert_eq!(error.remedy(), Some(by_force));
            std::fs::remove_file(directory.path().join(format!("peer1.example.{there}"))).unwrap();
        }
    }

    #[test]
    fn where_the_authoritys_key_is_kept_elsewhere_the_pair_is_made_there() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("web-ipc-ca.crt"), "").unwrap();
        let name = PeerName::parse("peer1").unwrap();
        let error =
            HomeError::CertificateMissing { name, path: directory.path().join("peer1.crt") };
        assert_eq!(error.remedy(), Some(Remedy::issue("peer1", false, Place::AuthoritysHome)));
        std::fs::write(directory.path().join("web-ipc-ca.key"), "").unwrap();
        assert_eq!(error.remedy(), Some(Remedy::issue("peer1", false, Place::ThisHome)));
    }

    #[test]
    fn the_home_of_another_user_is_used_as_that_user() {
        let directory = tempfile::tempdir().unwrap();
        let home = directory.path().to_owned();
        let owned = |path: &Path, owner| HomeError::ForeignOwner {
            path: path.to_owned(),
            target: home.clone(),
            owner,
            own_uid: 0,
        };
        let (shown, unknown) = (home.display(), u32::MAX - 7);
        let error = owned(&home, unknown);
        assert_eq!(
            error.to_string(),
            format!("{shown} belongs to user {unknown}, but this process runs as root")
        );
        let user = format!("#{unknown}");
        assert_eq!(error.remedy(), Some(Remedy::RunAs { user, home: home.clone() }));
        let error = owned(home.parent().unwrap(), unknown);
        assert!(error.to_string().ends_with(&format!("in the place of {shown}")), "{error}");
        assert_eq!(error.remedy(), Some(Remedy::UseAnotherHome));
    }

    #[test]
    fn nobody_is_told_to_close_a_directory_that_is_for_everybody() {
        let error = HomeError::TooOpen { path: "/tmp".into(), mode: 0o1777, mode_wanted: 0o700 };
        assert_eq!(error.remedy(), Some(Remedy::UseAnotherHome));
    }

    #[test]
    fn a_full_disk_has_a_remedy_and_the_odd_error_has_none() {
        let unwritable =
            |kind: io::ErrorKind| HomeError::Unwritable { path: "/x".into(), source: kind.into() };
        assert_eq!(unwritable(io::ErrorKind::StorageFull).remedy(), Some(Remedy::MakeRoom));
        assert_eq!(unwritable(io::ErrorKind::Other).remedy(), None);
    }
}

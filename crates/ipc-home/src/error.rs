//! What can be wrong with a home, and what to do about it.
//!
//! Every other file here makes these; whoever shows an error to a person prints it, its causes, then
//! [`HomeError::remedy`]. No variant ever carries content of a file.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::PeerName;

/// Why a home, or a file of it, could not be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum HomeError {
    /// No `--home`, no `$WEB_IPC_HOME`, and the user has no home directory to put one under.
    #[error("no place for a web-ipc home is known: neither $WEB_IPC_HOME nor $HOME is set")]
    NoDefault,
    /// The given path is empty or cannot be made absolute.
    #[error("{} cannot be used as the path of a home", quoted(path))]
    BadPath {
        /// The path as given.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is no such directory.
    #[error("there is no web-ipc home at {}", path.display())]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The directory is there, but making the home did not come to its end, or it is no home at all.
    #[error("{} is not a complete web-ipc home", path.display())]
    Incomplete {
        /// The directory.
        path: PathBuf,
    },
    /// The directory holds something, but nothing of a home.
    #[error("{} is not a web-ipc home", path.display())]
    NotAHome {
        /// The directory, which was left as it is.
        path: PathBuf,
    },
    /// The directory is the environment of the Python tool of the same name.
    #[error("{} belongs to the Python tool of the same name and is not a web-ipc home", path.display())]
    PythonTool {
        /// The directory, which was left as it is.
        path: PathBuf,
    },
    /// There is a symbolic link, but nothing where it points.
    #[error("{} is a symbolic link to {}, where there is nothing", path.display(), target.display())]
    BrokenLink {
        /// The link.
        path: PathBuf,
        /// What it says.
        target: PathBuf,
    },
    /// Something else than a directory is there.
    #[error("{} is not a directory", path.display())]
    NotADirectory {
        /// What is no directory.
        path: PathBuf,
    },
    /// Group or others have a right on a directory or a secret file.
    #[error("{} is open to other users (mode {mode:04o})", path.display())]
    TooOpen {
        /// The directory or file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
        /// The permission bits it should have: 0700 or 0600.
        mode_wanted: u32,
    },
    /// A file of a complete home is gone.
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
        /// The file that is missing.
        path: PathBuf,
    },
    /// A pair is about to be replaced, or whoever did so was stopped halfway: the new key is there, and the new certificate
    /// does not have its name yet.
    #[error("the certificate of `{name}` is only half replaced")]
    PairUnfinished {
        /// The name of the pair.
        name: PeerName,
    },
    /// Something else than a regular file is in the place of one.
    #[error("{} is not a regular file", path.display())]
    NotAFile {
        /// What is no file.
        path: PathBuf,
    },
    /// A file is far larger than anything that belongs there.
    #[error("{} is larger than {bytes_max} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit.
        bytes_max: u64,
    },
    /// The system did not let a file or directory be read.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The system did not let a file or directory be written.
    #[error("cannot write {}", path.display())]
    Unwritable {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A key file holds no key ring.
    #[error("{} holds no usable keys", path.display())]
    BadKeys {
        /// The key file.
        path: PathBuf,
        /// What is wrong with it.
        source: ipc_envelope::KeyError,
    },
    /// A certificate file holds no certificate in PEM.
    #[error("{} holds no PEM certificate", path.display())]
    BadCertificate {
        /// The certificate file.
        path: PathBuf,
        /// The name of the pair; none for the authority.
        name: Option<PeerName>,
    },
    /// A private key file holds no private key in PEM.
    #[error("{} holds no PEM private key", path.display())]
    BadPrivateKey {
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
    /// The operating system gave no randomness.
    #[error("the operating system gave no random numbers")]
    NoRandomness {
        /// What it said.
        source: io::Error,
    },
}

impl HomeError {
    /// What a user can do about it, as a clause that begins with a verb; `None` where only the cause can tell.
    #[must_use]
    pub fn remedy(&self) -> Option<String> {
        Some(match self {
            Self::NoDefault => "give a directory with --home DIR or set WEB_IPC_HOME".to_owned(),
            Self::BadPath { .. } | Self::NotADirectory { .. } | Self::NotAHome { .. } => {
                ANOTHER_DIRECTORY.to_owned()
            }
            Self::PythonTool { path } => {
                let users = shell_quoted(&path.join("users.db"));
                format!("copy {users} alone into an empty directory, and give that with --home DIR")
            }
            Self::BrokenLink { path, .. } => {
                format!("remove {} or mend it, or {ANOTHER_DIRECTORY}", shell_quoted(path))
            }
            Self::Missing { .. } | Self::Incomplete { .. } => "run web-ipc --init --run".to_owned(),
            // The mode of /tmp and its like: for everybody, whatever someone has put there.
            Self::TooOpen { mode, .. } if mode & STICKY != 0 => ANOTHER_DIRECTORY.to_owned(),
            Self::TooOpen { path, mode_wanted, .. } => {
                format!("run chmod {mode_wanted:o} {}", shell_quoted(path))
            }
            Self::CertificateMissing { name, path } => {
                let other =
                    path.with_extension(if path.extension() == Some("crt".as_ref()) { "key" } else { "crt" });
                format!("run {}", certs_command(name, other.symlink_metadata().is_ok()))
            }
            Self::BadCertificate { name: Some(name), .. } | Self::BadPrivateKey { name, .. } => {
                format!("run {}", certs_command(name, true))
            }
            Self::PairUnfinished { .. } => "run web-ipc --init --run, which finishes it".to_owned(),
            Self::FileMissing { .. }
            | Self::NotAFile { .. }
            | Self::TooLarge { .. }
            | Self::BadKeys { .. }
            | Self::BadCertificate { name: None, .. }
            | Self::BadCredentials { .. } => {
                "put back a good copy of the file, or run web-ipc --init --run --force \
                 for a new home (the old one is kept aside)"
                    .to_owned()
            }
            Self::Unreadable { path, source } | Self::Unwritable { path, source } => {
                return remedy_of_io(source, path);
            }
            Self::NoRandomness { .. } => return None,
        })
    }
}

/// The command that makes the pair of `name` anew, `localhost` with the names that every home gives it.
fn certs_command(name: &PeerName, force: bool) -> String {
    match (name.as_str(), force) {
        ("localhost", _) => {
            "web-ipc --certs --name localhost --altNames localhost 127.0.0.1 ::1 --force".to_owned()
        }
        (name, true) => format!("web-ipc --certs --name {name} --force"),
        (name, false) => format!("web-ipc --certs --name {name}"),
    }
}

/// What a user can do where the system refused to read, write or make `path`, as a clause that begins with a verb; `None`
/// where only the cause can tell. It looks at the modes of the file and its directories as they are now.
#[must_use]
pub fn remedy_of_io(error: &io::Error, path: &Path) -> Option<String> {
    let remedy = match error.kind() {
        io::ErrorKind::PermissionDenied => return Some(remedy_of_denial(path, own_uid())),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "make room on the disk and run it again",
        io::ErrorKind::FileTooLarge => "raise the limit for the size of a file (ulimit -f) and run it again",
        io::ErrorKind::ReadOnlyFilesystem => "give a directory that can be written with --home DIR",
        io::ErrorKind::InvalidFilename => "give a shorter path with --home DIR",
        // What is in the way, or not there to put anything in.
        io::ErrorKind::NotFound
        | io::ErrorKind::NotADirectory
        | io::ErrorKind::AlreadyExists
        | io::ErrorKind::IsADirectory
        | io::ErrorKind::DirectoryNotEmpty
        | io::ErrorKind::Unsupported
        | io::ErrorKind::CrossesDevices => ANOTHER_DIRECTORY,
        // The kind of too many symbolic links in a path is not stable yet.
        _ if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => ANOTHER_DIRECTORY,
        _ => return None,
    };
    Some(remedy.to_owned())
}

const ANOTHER_DIRECTORY: &str = "give another directory with --home DIR";

/// The bit of a directory in which everybody may put something, and remove only their own.
const STICKY: u32 = 0o1000;

pub(crate) fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Who owns a file or directory and has taken the right on it from himself can give it back.
fn remedy_of_denial(path: &Path, own_uid: u32) -> String {
    // The nearest that can be looked at at all, and where that is a file, its directory too.
    for path in path.ancestors() {
        let Ok(metadata) = std::fs::metadata(path) else { continue };
        let own_rights = if metadata.is_dir() { 0o700 } else { 0o600 };
        if metadata.uid() == own_uid && metadata.mode() & own_rights != own_rights {
            let rights = if metadata.is_dir() { "u+rwx" } else { "600" };
            return format!("run chmod {rights} {}", shell_quoted(path));
        }
        if metadata.is_dir() {
            break;
        }
    }
    "run as the user who owns the home, or give another with --home DIR".to_owned()
}

/// A path as one word for a POSIX shell, bare where that is safe.
#[must_use]
pub fn shell_quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain =
        |c: char| c.is_alphanumeric() || matches!(c, '/' | '.' | '_' | '-' | '+' | ':' | '@' | ',');
    if !text.is_empty() && !text.starts_with('-') && text.chars().all(is_plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

fn quoted(path: &Path) -> String {
    format!("`{}`", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_directory_is_mended_with_a_chmod_that_can_be_pasted() {
        let error = HomeError::TooOpen { path: "/tmp/my home".into(), mode: 0o755, mode_wanted: 0o700 };
        assert_eq!(error.to_string(), "/tmp/my home is open to other users (mode 0755)");
        assert_eq!(error.remedy().unwrap(), "run chmod 700 '/tmp/my home'");
    }

    #[test]
    fn a_missing_home_is_made_with_init() {
        let error = HomeError::Missing { path: "/x".into() };
        assert_eq!(error.remedy().unwrap(), "run web-ipc --init --run");
    }

    #[test]
    fn a_missing_certificate_is_made_with_certs() {
        let name = PeerName::parse("peer1").unwrap();
        let error = HomeError::CertificateMissing { name, path: "/x/peer1.crt".into() };
        assert_eq!(error.remedy().unwrap(), "run web-ipc --certs --name peer1");
    }

    #[test]
    fn the_certificate_of_localhost_is_made_anew_with_all_its_names() {
        let name = PeerName::parse("localhost").unwrap();
        let command = "run web-ipc --certs --name localhost --altNames localhost 127.0.0.1 ::1 --force";
        for error in [
            HomeError::CertificateMissing { name: name.clone(), path: "/x/localhost.crt".into() },
            HomeError::BadPrivateKey { name: name.clone(), path: "/x/localhost.key".into() },
            HomeError::BadCertificate { name: Some(name.clone()), path: "/x/localhost.crt".into() },
        ] {
            assert_eq!(error.remedy().unwrap(), command, "{error:?}");
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
            assert_eq!(error.remedy().unwrap(), "run web-ipc --certs --name peer1.example --force");
            std::fs::remove_file(directory.path().join(format!("peer1.example.{there}"))).unwrap();
        }
    }

    #[test]
    fn nobody_is_told_to_close_a_directory_that_is_for_everybody() {
        let error = HomeError::TooOpen { path: "/tmp".into(), mode: 0o1777, mode_wanted: 0o700 };
        assert_eq!(error.remedy().unwrap(), "give another directory with --home DIR");
    }

    #[test]
    fn a_right_that_the_owner_took_from_himself_is_given_back_with_a_chmod() {
        use std::os::unix::fs::PermissionsExt;

        let directory = tempfile::tempdir().unwrap();
        let (inner, file) = (directory.path().join("inner"), directory.path().join("inner/file"));
        std::fs::create_dir(&inner).unwrap();
        std::fs::write(&file, "").unwrap();
        let chmod = |path: &Path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        chmod(&file, 0o000);
        assert_eq!(remedy_of_denial(&file, own_uid()), format!("run chmod 600 {}", file.display()));
        assert!(remedy_of_denial(&file, own_uid() + 1).contains("owns"));
        chmod(&file, 0o600);
        assert!(remedy_of_denial(&file, own_uid()).contains("owns"));
        chmod(&inner, 0o500);
        for path in [&file, &inner.join("new")] {
            assert_eq!(remedy_of_denial(path, own_uid()), format!("run chmod u+rwx {}", inner.display()));
        }
        chmod(&inner, 0o700);
    }

    #[test]
    fn a_full_disk_and_a_missing_right_have_a_remedy_and_the_odd_error_has_none() {
        let unwritable =
            |kind: io::ErrorKind| HomeError::Unwritable { path: "/x".into(), source: kind.into() };
        assert!(unwritable(io::ErrorKind::StorageFull).remedy().unwrap().contains("room"));
        assert!(unwritable(io::ErrorKind::PermissionDenied).remedy().unwrap().contains("owns"));
        assert!(unwritable(io::ErrorKind::Other).remedy().is_none());
    }

    #[test]
    fn a_path_with_a_quote_or_a_leading_hyphen_is_one_shell_word() {
        assert_eq!(shell_quoted(Path::new("/a/it's")), r"'/a/it'\''s'");
        assert_eq!(shell_quoted(Path::new("-rf")), "'-rf'");
        assert_eq!(shell_quoted(Path::new("/plain/path.d")), "/plain/path.d");
    }
}

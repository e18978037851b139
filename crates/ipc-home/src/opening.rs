//! Opens a home if it is complete, and no other user can change or read it.
//!
//! Server, client, setup and command line open a home here. No file is read.

use std::fs::Metadata;
use std::io;
use std::path::Path;

use crate::access::Access;
use crate::file::refuse_mode;
use crate::locate::absolute;
use crate::permissions::{DIRECTORY_MODE, OTHERS, OTHERS_WRITE, is_read_only};
use crate::{Contents, Home, HomeError, locate, modes, trust};

impl Home {
    /// Opens a complete home.
    ///
    /// A home is complete once it has an `admin.cred`, the last file that its creation writes.
    ///
    /// # Errors
    /// The errors of [`check_directory`](Self::check_directory); [`HomeError::Missing`] also for an
    /// empty directory; [`HomeError::Incomplete`]; [`HomeError::ClientDirectory`], which
    /// [`open_client`](Self::open_client) opens; [`HomeError::BadPath`] for a path that is empty or
    /// not UTF-8.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, HomeError> {
        Self::open_with(path.as_ref(), Access::Private)
    }

    /// As [`open`](Self::open), but others may be able to read the home, and its files may be
    /// symbolic links: for example a mounted secret of Kubernetes, with modes of 0755 and 0440.
    ///
    /// This weakens security: every user and process that can read the files has the keys, and can
    /// send as `ipc-admin`, read what others seal, and, with the authority's key, issue
    /// certificates. Still only root and this user may have write access.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn dangerously_open_readable(path: impl AsRef<Path>) -> Result<Self, HomeError> {
        Self::open_with(path.as_ref(), Access::Readable)
    }

    /// As [`open`](Self::open), or as
    /// [`dangerously_open_readable`](Self::dangerously_open_readable) if the environment variable
    /// [`READABLE_HOME_VARIABLE`](crate::READABLE_HOME_VARIABLE) is `1`.
    ///
    /// # Errors
    /// As [`open`](Self::open), and [`HomeError::BadVariable`].
    pub fn open_as_configured(path: impl AsRef<Path>) -> Result<Self, HomeError> {
        Self::open_with(path.as_ref(), Access::from_environment()?)
    }

    fn open_with(path: &Path, access: Access) -> Result<Self, HomeError> {
        let home = Self::at_with(absolute(path)?, access);
        let path = || home.root().to_owned();
        match home.look()? {
            (_, Contents::Nothing) => Err(HomeError::Missing { path: path() }),
            (metadata, contents) => {
                home.check_rights(&metadata, contents)?;
                match contents {
                    Contents::Complete => Ok(home),
                    Contents::Client => Err(HomeError::ClientDirectory { path: path() }),
                    _ => Err(HomeError::Incomplete { path: path() }),
                }
            }
        }
    }

    /// Opens a directory for sending: a complete home, or the directory of a client, which has
    /// `envelope.keys`, the authority's certificate and a certificate pair, and needs a user to be
    /// given. The variable of [`open_as_configured`](Self::open_as_configured) applies here too.
    ///
    /// # Errors
    /// The errors of [`check_directory`](Self::check_directory); [`HomeError::Missing`] also for an
    /// empty directory. A missing file is reported when it is read.
    pub fn open_client(path: impl AsRef<Path>) -> Result<Self, HomeError> {
        let home = Self::at_with(absolute(path.as_ref())?, Access::from_environment()?);
        match home.look()? {
            (_, Contents::Nothing) => Err(HomeError::Missing { path: home.root().to_owned() }),
            (metadata, contents) => {
                home.check_rights(&metadata, contents)?;
                Ok(home)
            }
        }
    }

    /// Opens the home that [`locate`] finds without a flag, as
    /// [`open_as_configured`](Self::open_as_configured) does.
    ///
    /// # Errors
    /// The errors of [`locate`] and [`open_as_configured`](Self::open_as_configured).
    pub fn open_default() -> Result<Self, HomeError> {
        Self::open_as_configured(locate(None)?)
    }

    /// Checks that the path is a directory: a home (complete or unfinished), a client's directory,
    /// or empty. Checks that only root and this user can replace it or write to it, and that nobody
    /// else has access to it or to a secret in it.
    ///
    /// # Errors
    /// - [`HomeError::Missing`] and [`HomeError::BrokenLink`] if it does not exist
    /// - [`HomeError::NotADirectory`], [`HomeError::NotAHome`] and [`HomeError::PythonTool`] if it
    ///   is something else
    /// - [`HomeError::ForeignOwner`] if it, or a directory above it, belongs to another user
    /// - [`HomeError::WritableByOthers`] for a directory above it
    /// - [`HomeError::TooOpen`] and [`HomeError::AllTooOpen`] if group or others have access to it
    ///   or its files
    /// - [`HomeError::Unreadable`] if the system does not let us look
    pub fn check_directory(&self) -> Result<(), HomeError> {
        match self.look() {
            Ok((metadata, contents)) => self.check_rights(&metadata, contents),
            // The directory in which it would be created is checked too.
            Err(error @ HomeError::Missing { .. }) => {
                trust::check_path(self.root())?;
                Err(error)
            }
            Err(error) => Err(error),
        }
    }

    fn check_rights(&self, metadata: &Metadata, contents: Contents) -> Result<(), HomeError> {
        let resolved = trust::check_path(self.root())?;
        match self.access() {
            // The making of a home around these files closes them, so their modes are not checked.
            Access::Private if matches!(contents, Contents::Nothing | Contents::OnlyUsers) => {
                refuse_mode(self.root(), metadata, OTHERS, DIRECTORY_MODE)
            }
            Access::Private => modes::refuse_open(self.root(), metadata),
            // The mount of a secret may grant write access by its mode, and deny it by being
            // read-only.
            Access::Readable if is_read_only(&resolved) => Ok(()),
            Access::Readable => refuse_mode(self.root(), metadata, OTHERS_WRITE, 0o755),
        }
    }

    /// Classifies the directory, and refuses a foreign one. This comes before the check of its
    /// mode: a directory that is not a home may have any mode.
    fn look(&self) -> Result<(Metadata, Contents), HomeError> {
        let path = || self.root().to_owned();
        let metadata = std::fs::metadata(self.root()).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => match std::fs::read_link(self.root()) {
                Ok(target) => HomeError::BrokenLink { path: path(), target },
                Err(_) => HomeError::Missing { path: path() },
            },
            io::ErrorKind::NotADirectory => HomeError::NotADirectory { path: path() },
            _ => HomeError::Unreadable { path: path(), source },
        })?;
        if !metadata.is_dir() {
            return Err(HomeError::NotADirectory { path: path() });
        }
        let contents = self.contents().map_err(|error| match error {
            // It was moved away between the two checks.
            HomeError::Unreadable { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                HomeError::Missing { path: path() }
            }
            // A foreign owner is the more helpful error.
            error => trust::check_path(self.root()).err().unwrap_or(error),
        })?;
        match contents {
            Contents::Foreign => Err(HomeError::NotAHome { path: path() }),
            Contents::PythonTool => Err(HomeError::PythonTool { path: path() }),
            contents => Ok((metadata, contents)),
        }
    }
}

//! Opens a home: only one that is complete, that nobody else can change, and that nobody else can
//! read.
//!
//! Server, client, setup and command line come here first. No file is read.

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
    /// A home is complete once its `admin.cred` is there, the last file that making it writes.
    ///
    /// # Errors
    /// Those of [`check_directory`](Self::check_directory); [`HomeError::Missing`] for an empty
    /// directory too; [`HomeError::Incomplete`]; [`HomeError::ClientDirectory`], which
    /// [`open_client`](Self::open_client) opens; [`HomeError::BadPath`] for a path that is empty or
    /// not UTF-8.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, HomeError> {
        Self::open_with(path.as_ref(), Access::Private)
    }

    /// As [`open`](Self::open), but others may be able to read the home, and its files may be
    /// symbolic links: a mounted secret of Kubernetes, with modes of 0755 and 0440, is one.
    ///
    /// What this weakens: every user and every process that the modes let read the files has the
    /// keys, and can send as `ipc-admin`, read what others seal, and, with the authority's key,
    /// issue certificates. That nobody but root and this user may write to them is asked for as
    /// ever.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn dangerously_open_readable(path: impl AsRef<Path>) -> Result<Self, HomeError> {
        Self::open_with(path.as_ref(), Access::Readable)
    }

    /// As [`open`](Self::open), or as
    /// [`dangerously_open_readable`](Self::dangerously_open_readable) where the environment
    /// variable [`READABLE_HOME_VARIABLE`](crate::READABLE_HOME_VARIABLE) is `1`.
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

    /// Opens a directory to send from: a complete home, or that of a client, which has been given
    /// `envelope.keys`, the authority's certificate and a certificate pair, and needs a user of its
    /// own. The variable that [`open_as_configured`](Self::open_as_configured) names counts here
    /// too.
    ///
    /// # Errors
    /// Those of [`check_directory`](Self::check_directory); [`HomeError::Missing`] for an empty
    /// directory too. What a client lacks is told when it is read.
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
    /// Those of [`locate`] and of [`open_as_configured`](Self::open_as_configured).
    pub fn open_default() -> Result<Self, HomeError> {
        Self::open_as_configured(locate(None)?)
    }

    /// Checks that the home is a directory that is a home, complete or begun, or a client's, or
    /// empty; that nobody but root and this user can put another in its place or write to it; and
    /// that nobody else has a right on it or on a secret in it.
    ///
    /// # Errors
    /// [`HomeError::Missing`] and [`HomeError::BrokenLink`] if it is not there,
    /// [`HomeError::NotADirectory`], [`HomeError::NotAHome`] and [`HomeError::PythonTool`] if it is
    /// somebody else's by its contents, [`HomeError::ForeignOwner`] if it or a directory above it
    /// is by its owner, [`HomeError::WritableByOthers`] for a directory above it,
    /// [`HomeError::TooOpen`] and [`HomeError::AllTooOpen`] if group or others have a right on it
    /// or its files, [`HomeError::Unreadable`] if the system does not let us look.
    pub fn check_directory(&self) -> Result<(), HomeError> {
        match self.look() {
            Ok((metadata, contents)) => self.check_rights(&metadata, contents),
            // Where it would be made counts too.
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
            // What was brought along to make a home around it is closed then.
            Access::Private if matches!(contents, Contents::Nothing | Contents::OnlyUsers) => {
                refuse_mode(self.root(), metadata, OTHERS, DIRECTORY_MODE)
            }
            Access::Private => modes::refuse_open(self.root(), metadata),
            // The mount of a secret may let everybody write by its mode, and nobody by being
            // read-only.
            Access::Readable if is_read_only(&resolved) => Ok(()),
            Access::Readable => refuse_mode(self.root(), metadata, OTHERS_WRITE, 0o755),
        }
    }

    /// What the directory is, which is never somebody else's. Asked before its mode is looked at:
    /// what is not a home may be as open as its owner likes.
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
            // Moved away between the two looks.
            HomeError::Unreadable { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                HomeError::Missing { path: path() }
            }
            // Whose it is says more.
            error => trust::check_path(self.root()).err().unwrap_or(error),
        })?;
        match contents {
            Contents::Foreign => Err(HomeError::NotAHome { path: path() }),
            Contents::PythonTool => Err(HomeError::PythonTool { path: path() }),
            contents => Ok((metadata, contents)),
        }
    }
}

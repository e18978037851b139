//! Copies a whole home, also while servers and other programs use it.
//!
//! The command line comes here with a directory that is not there yet. It comes into being under another name, and gets its own
//! when everything is in it and on the disk. What is in the databases is copied as of one moment by SQLite itself.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use ipc_home::{FILE_MODE, Home, HomeError, locate, make_private_directory, sync_directory};
use ipc_inbox::InboxReader;

use crate::SetupError;
use crate::lock::Lock;
use crate::random::random_bytes;
use crate::users::runtime;

/// A backup that was begun. Dropped before it is done, it removes what it has made.
#[derive(Debug)]
pub struct Backup {
    home: Home,
    out: PathBuf,
    partial: PathBuf,
    is_done: bool,
}

/// A backup that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackedUp {
    /// Where it is: a complete home.
    pub path: PathBuf,
    /// How many messages its durable inbox holds; `None` where there is none.
    pub messages: Option<u64>,
}

impl Backup {
    /// Begins to copy a complete home to `out`, which must not be there, and makes the directory that becomes it, beside it.
    ///
    /// # Errors
    /// [`SetupError::BackupExists`] if something is at `out`, [`SetupError::BackupInside`] if that is in the home itself;
    /// [`HomeError::Unwritable`] if the directory cannot be made, and what is wrong with those above it.
    pub fn begin(home: &Home, out: &Path) -> Result<Self, SetupError> {
        let out = locate(Some(out))?;
        match Home::at(&out).check_directory() {
            Err(HomeError::Missing { .. }) => {}
            _ if out.symlink_metadata().is_ok() => return Err(SetupError::BackupExists { path: out }),
            checked => checked?,
        }
        let parent = out.parent().unwrap_or(Path::new("/"));
        let unwritable = |source| HomeError::Unwritable { path: parent.to_owned(), source };
        let is_inside = parent.canonicalize().map_err(unwritable)?.starts_with(
            home.root().canonicalize().map_err(|_| HomeError::Missing { path: home.root().to_owned() })?,
        );
        if is_inside {
            return Err(SetupError::BackupInside { path: out });
        }
        let random = u64::from_ne_bytes(random_bytes()?);
        let mut name = std::ffi::OsString::from(".");
        name.push(out.file_name().unwrap_or_default());
        name.push(format!(".{random:016x}.tmp"));
        let partial = parent.join(name);
        make_private_directory(&partial)?;
        Ok(Self { home: home.clone(), out, partial, is_done: false })
    }

    /// The directory that becomes the backup. Whoever has to end before it is done removes it.
    #[must_use]
    pub fn partial(&self) -> &Path {
        &self.partial
    }

    /// Copies everything, and gives the directory its name.
    ///
    /// # Errors
    /// [`SetupError`]: what is wrong with the home, what the disk says, and [`SetupError::BackupExists`] if there is something
    /// at its path by now. Nothing is left then.
    pub fn run(mut self) -> Result<BackedUp, SetupError> {
        let runtime = runtime()?;
        let lock = self.lock()?;
        self.copy_files()?;
        let users = self.home.users_db_checked()?;
        runtime.block_on(ipc_store::copy(&users, &self.partial.join("users.db")))?;
        // The rest belongs to the server alone, and may take long.
        drop(lock);
        let messages = runtime.block_on(self.copy_inbox())?;
        make_private_directory(&self.partial.join("sessions"))?;
        sync_directory(&self.partial)?;
        if self.out.symlink_metadata().is_ok() {
            return Err(SetupError::BackupExists { path: self.out.clone() });
        }
        let unwritable = |source| HomeError::Unwritable { path: self.out.clone(), source };
        std::fs::rename(&self.partial, &self.out).map_err(unwritable)?;
        self.is_done = true;
        sync_directory(self.out.parent().unwrap_or(Path::new("/")))?;
        Ok(BackedUp { path: self.out.clone(), messages })
    }

    /// Keeps others from changing the home meanwhile; nobody does where nothing can be written.
    fn lock(&self) -> Result<Option<Lock>, SetupError> {
        match Lock::of_complete(&self.home) {
            Err(SetupError::Lock { source, .. }) if source.kind() == io::ErrorKind::ReadOnlyFilesystem => {
                Ok(None)
            }
            lock => lock.map(Some),
        }
    }

    /// Copies all that are only files: keys, certificates, and whatever else there is.
    fn copy_files(&self) -> Result<(), SetupError> {
        let root = self.home.root();
        let unreadable = |path: &Path, source| HomeError::Unreadable { path: path.to_owned(), source };
        for entry in std::fs::read_dir(root).map_err(|source| unreadable(root, source))? {
            let name = entry.map_err(|source| unreadable(root, source))?.file_name();
            let path = root.join(&name);
            let metadata = path.metadata().map_err(|source| unreadable(&path, source))?;
            if metadata.is_file() && !is_of_use_here_alone(&name) {
                // Others never get a right by it on what is not for everybody.
                let kept = if path.extension() == Some(OsStr::new("crt")) { 0o755 } else { 0o700 };
                let mode = metadata.permissions().mode() & kept | 0o400;
                copy_file(&path, &self.partial.join(&name), mode)?;
            }
        }
        Ok(())
    }

    async fn copy_inbox(&self) -> Result<Option<u64>, SetupError> {
        let inbox = self.home.inbox_db_checked()?;
        if !crate::pieces::exists(&inbox)? {
            return Ok(None);
        }
        let copy = self.partial.join("inbox.db");
        let failed = |source| SetupError::Inbox { source };
        ipc_inbox::copy(&inbox, &copy).await.map_err(failed)?;
        let messages = InboxReader::open(&copy).await.map_err(failed)?.messages().await;
        messages.map(Some).map_err(failed)
    }
}

impl Drop for Backup {
    fn drop(&mut self) {
        if !self.is_done {
            // Best effort: there is nobody left to tell.
            let _ = std::fs::remove_dir_all(&self.partial);
        }
    }
}

/// Whether a file says something of this directory at this moment only, or is one of a database's.
fn is_of_use_here_alone(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    name.ends_with(".lock")
        || (name.starts_with('.') && name.ends_with(".tmp"))
        || ["users.db", "inbox.db"].iter().any(|database| name.starts_with(database))
}

fn copy_file(from: &Path, to: &Path, mode: u32) -> Result<(), HomeError> {
    let mut source =
        File::open(from).map_err(|source| HomeError::Unreadable { path: from.to_owned(), source })?;
    let mut write = || {
        let mut copy = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(to)?;
        io::copy(&mut source, &mut copy)?;
        // The umask can only take bits away, so the mode is set once more.
        copy.set_permissions(Permissions::from_mode(mode))?;
        copy.sync_all()
    };
    write().map_err(|source| HomeError::Unwritable { path: to.to_owned(), source })
}

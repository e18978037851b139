//! Copies a whole home, also while servers and other programs use it.
//!
//! The command line comes here with a directory that is not there yet. It comes into being under
//! another name, and gets its own when everything is in it and on the disk. What is in the
//! databases is copied as of one moment by SQLite itself.

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
    /// Begins to copy a complete home to `out`, which must not be there, and makes the directory
    /// that becomes it, beside it.
    ///
    /// # Errors
    /// [`SetupError::BackupExists`] if something is at `out`, [`SetupError::BackupInside`] if that
    /// is in the home itself; [`SetupError::BackupUnwritable`] if the directory cannot be made, or
    /// another user could put another in its place.
    pub fn begin(home: &Home, out: &Path) -> Result<Self, SetupError> {
        let out = locate(Some(out)).map_err(unwritable)?;
        match Home::at(&out).check_directory() {
            Err(HomeError::Missing { .. }) => {}
            _ if out.symlink_metadata().is_ok() => {
                return Err(SetupError::BackupExists { path: out });
            }
            checked => checked.map_err(unwritable)?,
        }
        let parent = out.parent().unwrap_or(Path::new("/"));
        let cannot_write = |path: &Path, source| {
            unwritable(HomeError::Unwritable { path: path.to_owned(), source })
        };
        let is_inside =
            parent.canonicalize().map_err(|source| cannot_write(parent, source))?.starts_with(
                home.root()
                    .canonicalize()
                    .map_err(|_| HomeError::Missing { path: home.root().to_owned() })?,
            );
        if is_inside {
            return Err(SetupError::BackupInside { path: out });
        }
        let random = u64::from_ne_bytes(random_bytes()?);
        let mut name = std::ffi::OsString::from(".");
        name.push(out.file_name().unwrap_or_default());
        name.push(format!(".{random:016x}.tmp"));
        let partial = parent.join(name);
        make_private_directory(&partial).map_err(|error| match error {
            // Of the other name nobody has heard.
            HomeError::Unwritable { source, .. } => cannot_write(&out, source),
            error => unwritable(error),
        })?;
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
    /// [`SetupError`]: what is wrong with the home, what the disk says, and
    /// [`SetupError::BackupExists`] if there is something at its path by now. Nothing is left then.
    pub fn run(mut self) -> Result<BackedUp, SetupError> {
        let runtime = runtime()?;
        let lock = self.lock()?;
        self.copy_files()?;
        let users = self.home.users_db_checked()?;
        runtime.block_on(ipc_store::copy(&users, &self.partial.join("users.db")))?;
        // The rest belongs to the server alone, and may take long.
        drop(lock);
        let messages = runtime.block_on(self.copy_inbox())?;
        make_private_directory(&self.partial.join("sessions")).map_err(unwritable)?;
        sync_directory(&self.partial).map_err(unwritable)?;
        if self.out.symlink_metadata().is_ok() {
            return Err(SetupError::BackupExists { path: self.out.clone() });
        }
        std::fs::rename(&self.partial, &self.out).map_err(|source| {
            unwritable(HomeError::Unwritable { path: self.out.clone(), source })
        })?;
        self.is_done = true;
        sync_directory(self.out.parent().unwrap_or(Path::new("/"))).map_err(unwritable)?;
        Ok(BackedUp { path: self.out.clone(), messages })
    }

    /// Keeps others from changing the home meanwhile; nobody does where nothing can be written.
    fn lock(&self) -> Result<Option<Lock>, SetupError> {
        match Lock::of_complete(&self.home) {
            Err(SetupError::Lock { source, .. })
                if source.kind() == io::ErrorKind::ReadOnlyFilesystem =>
            {
                Ok(None)
            }
            lock => lock.map(Some),
        }
    }

    /// Copies all that are only files: keys, certificates, and whatever else there is; and what was
    /// issued and who was enrolled, in their directories.
    fn copy_files(&self) -> Result<(), SetupError> {
        self.copy_directory(self.home.root(), &self.partial)?;
        let copy = Home::at(&self.partial);
        for (from, to) in [
            (self.home.issued_dir(), copy.issued_dir()),
            (self.home.enrolments_dir(), copy.enrolments_dir()),
        ] {
            if from.is_dir() {
                make_private_directory(&to).map_err(unwritable)?;
                self.copy_directory(&from, &to)?;
                sync_directory(&to).map_err(unwritable)?;
            }
        }
        Ok(())
    }

    fn copy_directory(&self, root: &Path, to: &Path) -> Result<(), SetupError> {
        let unreadable =
            |path: &Path, source| HomeError::Unreadable { path: path.to_owned(), source };
        for entry in std::fs::read_dir(root).map_err(|source| unreadable(root, source))? {
            let name = entry.map_err(|source| unreadable(root, source))?.file_name();
            let path = root.join(&name);
            let metadata = path.metadata().map_err(|source| unreadable(&path, source))?;
            if metadata.is_file() && !is_of_use_here_alone(&name) {
                // Others never get a right by it on what is not for everybody.
                let kept = if path.extension() == Some(OsStr::new("crt")) { 0o755 } else { 0o700 };
                let mode = metadata.permissions().mode() & kept | 0o400;
                copy_file(&path, &to.join(&name), mode)?;
            }
        }
        Ok(())
    }

    async fn copy_inbox(&self) -> Result<Option<u64>, SetupError> {
        let inbox = self.home.inbox_db_checked()?;
        if !crate::provision::exists(&inbox)? {
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

/// Says that it is the place of the copy that something is wrong with, and not the home.
fn unwritable(source: HomeError) -> SetupError {
    SetupError::BackupUnwritable { source }
}

fn copy_file(from: &Path, to: &Path, mode: u32) -> Result<(), SetupError> {
    let mut source = File::open(from)
        .map_err(|source| HomeError::Unreadable { path: from.to_owned(), source })?;
    let mut write = || {
        let mut copy = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(to)?;
        io::copy(&mut source, &mut copy)?;
        // The umask can only take bits away, so the mode is set once more.
        copy.set_permissions(Permissions::from_mode(mode))?;
        copy.sync_all()
    };
    write().map_err(|source| unwritable(HomeError::Unwritable { path: to.to_owned(), source }))
}

#[cfg(test)]
mod tests {
    use ipc_base::Remedy;

    use super::*;

    #[test]
    fn a_place_where_no_copy_can_be_made_is_told_with_the_option_that_names_another() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::at(directory.path().join("home"));
        make_private_directory(home.root()).unwrap();
        std::fs::write(directory.path().join("file"), "").unwrap();
        let open = directory.path().join("open");
        std::fs::create_dir(&open).unwrap();
        std::fs::set_permissions(&open, Permissions::from_mode(0o777)).unwrap();
        for out in ["no/such/copy", "file/copy", "open/copy"] {
            let error = Backup::begin(&home, &directory.path().join(out)).unwrap_err();
            assert!(matches!(error, SetupError::BackupUnwritable { .. }), "{out}: {error:?}");
            assert_eq!(error.remedy(), Some(Remedy::ChooseBackupPlace), "{out}");
        }
    }

    #[test]
    fn a_full_disk_is_told_as_such_and_a_read_only_one_with_another_place() {
        let remedy = |kind: io::ErrorKind| {
            unwritable(HomeError::Unwritable { path: "/x/copy".into(), source: kind.into() })
                .remedy()
        };
        for kind in [io::ErrorKind::ReadOnlyFilesystem, io::ErrorKind::PermissionDenied] {
            assert_eq!(remedy(kind), Some(Remedy::ChooseBackupPlace), "{kind}");
        }
        assert_eq!(remedy(io::ErrorKind::StorageFull), Some(Remedy::MakeRoom));
    }
}

//! Copies a whole home, also while servers and other programs use it.
//!
//! The command line comes here with the path of the copy, at which nothing exists yet. The copy is
//! made under a temporary name, and renamed when all of it is on the disk. SQLite copies each
//! database as of one moment.

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

/// A backup that was begun. If it is dropped before it is done, it removes what it has written.
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
    /// The path of the copy, which is a complete home.
    pub path: PathBuf,
    /// The number of messages in its durable inbox, or `None` without one.
    pub messages: Option<u64>,
}

impl Backup {
    /// Begins to copy a complete home to `out`, and makes a temporary directory beside `out`.
    ///
    /// # Errors
    /// [`SetupError::BackupExists`] if something exists at `out`; [`SetupError::BackupInside`] if
    /// `out` is in the home itself; [`SetupError::BackupUnwritable`] if the directory cannot be
    /// made, or another user could put another in its place.
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
            // The user knows `out`, not the temporary name.
            HomeError::Unwritable { source, .. } => cannot_write(&out, source),
            error => unwritable(error),
        })?;
        Ok(Self { home: home.clone(), out, partial, is_done: false })
    }

    /// The temporary directory that becomes the backup. A process that must end at once, without
    /// dropping this value, removes it.
    #[must_use]
    pub fn partial(&self) -> &Path {
        &self.partial
    }

    /// Copies everything, and renames the directory.
    ///
    /// # Errors
    /// [`SetupError::BackupExists`] if something exists at the path by now; otherwise the error of
    /// the home, the disk or a database. The partial copy is removed.
    pub fn run(mut self) -> Result<BackedUp, SetupError> {
        let runtime = runtime()?;
        let lock = self.lock()?;
        self.copy_files()?;
        // Users in another database are not part of the home; the copy names the same database.
        if self.home.users_url()?.is_none() {
            let users = self.home.users_db_checked()?;
            runtime.block_on(ipc_store::copy(&users, &self.partial.join("users.db")))?;
        }
        // Only the server writes to the inbox, and its copy may take long.
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

    /// Locks the home against changes. A read-only file system needs no lock.
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

    /// Copies all files except databases: keys, certificates, and others; also those of the
    /// directories with issued certificates and with enrolments.
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
                // Group and others get no right on the copy, except on certificates.
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
            // Best effort: a drop cannot return an error.
            let _ = std::fs::remove_dir_all(&self.partial);
        }
    }
}

/// Whether a file is not copied as a file: a lock or a temporary file, which has a meaning only
/// here, or a file of a database, which SQLite copies.
fn is_of_use_here_alone(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    name.ends_with(".lock")
        || (name.starts_with('.') && name.ends_with(".tmp"))
        || ["users.db", "inbox.db"].iter().any(|database| name.starts_with(database))
}

/// The error of the place of the copy, rather than of the home.
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

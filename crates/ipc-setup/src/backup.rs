//! Copies a whole home, also while servers and other programs use it.
//!
//! The command line comes here with the path of the copy, at which nothing exists yet. The copy is
//! made under a temporary name, and renamed when all of it is on the disk. SQLite copies each
//! database as of one moment.

use std::fs::File;
use std::path::{Path, PathBuf};

use ipc_home::{Home, HomeError, locate, make_private_directory, sync_directory};

use crate::SetupError;
use crate::random::random_bytes;
use crate::snapshot::{self, unwritable};

/// A backup that was begun. If it is dropped before it is done, it removes what it has written.
#[derive(Debug)]
pub struct Backup {
    home: Home,
    out: PathBuf,
    partial: PathBuf,
    /// Holds the lock of `partial`.
    _held: File,
    is_done: bool,
}

/// A backup that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackedUp {
    /// The path of the copy, which is a complete home.
    pub path: PathBuf,
    /// The number of messages in its durable inbox, or `None` without one or with one of an older
    /// version.
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
        // To a restoration, an unlocked directory of such a name was left behind.
        let held = File::open(&partial).and_then(|held| held.lock().map(|()| held));
        let held = held.map_err(|source| cannot_write(&out, source))?;
        Ok(Self { home: home.clone(), out, partial, _held: held, is_done: false })
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
        let messages = snapshot::take(&self.home, &self.partial)?;
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
}

impl Drop for Backup {
    fn drop(&mut self) {
        if !self.is_done {
            // Best effort: a drop cannot return an error.
            let _ = std::fs::remove_dir_all(&self.partial);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::io;
    use std::os::unix::fs::PermissionsExt as _;

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

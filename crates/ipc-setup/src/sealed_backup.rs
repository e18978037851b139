//! Writes a whole home to one file that only a code opens, also while servers use the home.
//!
//! The command line comes here. The home is copied as `snapshot` does it, to a directory within the
//! home, so that its secrets lie unsealed in no other place. A home on a read-only file system is
//! copied to the directory for temporary files. `soundness` checks the copy, `archive` puts its
//! files into a `sealed_stream`, and it is removed. The file gets its name when it is complete, on
//! the disk, and its code was shown.

use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use ipc_home::{FILE_MODE, Home, HomeError};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::archive::{self, PackError};
use crate::backup::BackedUp;
use crate::code::Code;
use crate::leftovers::{AbortHandle, Leftovers, make_locked_directory, remove_abandoned};
use crate::random::random_bytes;
use crate::sealed_stream::{SealedWriter, WriteError};
use crate::soundness::{self, Unsound};
use crate::{SetupError, snapshot};

/// The layout of what is sealed.
pub(crate) const FORMAT: u32 = 1;

/// The beginning of the name of a directory with a copy that is being sealed.
const STAGING: &str = ".backup-";

/// What stands in front of the files of a backup.
#[derive(Serialize, Deserialize)]
pub(crate) struct Header {
    pub(crate) format: u32,
    /// Which version made it.
    pub(crate) made_by: String,
    /// When, in seconds since the Unix epoch.
    pub(crate) made_at: u64,
    /// The path of the home.
    pub(crate) home: String,
}

/// A sealed backup that was begun. If it is dropped before it is done, it removes what it has
/// written.
#[derive(Debug)]
pub struct SealedBackup {
    home: Home,
    out: PathBuf,
    leftovers: Leftovers,
}

impl SealedBackup {
    /// Prepares to write the complete home to a new file at `out`. Nothing is written yet.
    ///
    /// # Errors
    /// [`SetupError::BackupFileExists`] if something exists at `out`;
    /// [`SetupError::BackupFileInside`] if `out` is in the home itself;
    /// [`SetupError::BackupFileUnwritable`] if its directory cannot be reached.
    pub fn begin(home: &Home, out: &Path) -> Result<Self, SetupError> {
        let out = std::path::absolute(out).map_err(|source| unwritable(out, source))?;
        if out.symlink_metadata().is_ok() {
            return Err(SetupError::BackupFileExists { path: out });
        }
        let parent = out.parent().unwrap_or(Path::new("/"));
        let parent = parent.canonicalize().map_err(|source| unwritable(&out, source))?;
        let root = home.root().canonicalize();
        let root = root.map_err(|_| HomeError::Missing { path: home.root().to_owned() })?;
        if parent.starts_with(root) {
            return Err(SetupError::BackupFileInside { path: out });
        }
        Ok(Self { home: home.clone(), out, leftovers: Leftovers::default() })
    }

    /// The handle that ends it while it runs.
    #[must_use]
    pub fn abort_handle(&self) -> AbortHandle {
        self.leftovers.abort_handle()
    }

    /// Copies the home, seals the copy under the code, and gives the file its name. `now_secs` is
    /// in seconds since the Unix epoch.
    ///
    /// # Errors
    /// [`SetupError::BackupFileExists`] if something exists at the path by now;
    /// [`SetupError::BackupFileUnwritable`]; [`SetupError::Aborted`]; otherwise the error of the
    /// home, the disk or a database. What was written is removed.
    pub fn run(self, code: &Code, now_secs: u64) -> Result<BackedUp, SetupError> {
        self.run_and_show(code, now_secs, || Ok(()))
    }

    /// [`run`](Self::run) with a new code. `show` keeps the code, or shows it to a person. The file
    /// is complete then, but gets its name afterwards: no backup is left whose code nobody has.
    ///
    /// # Errors
    /// As those of [`run`](Self::run), and [`SetupError::CodeNotShown`].
    pub fn run_and_show(
        self,
        code: &Code,
        now_secs: u64,
        show: impl FnOnce() -> io::Result<()>,
    ) -> Result<BackedUp, SetupError> {
        let random = u64::from_ne_bytes(random_bytes()?);
        let partial = self.partial(random);
        let file = self.leftovers.make(&partial, |path| {
            let file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(path);
            file.and_then(|file| {
                // The umask can only take bits away, so the mode is set once more.
                file.set_permissions(Permissions::from_mode(FILE_MODE))?;
                Ok(file)
            })
            .map_err(|source| unwritable(&self.out, source))
        })?;
        for directory in [self.home.root(), &std::env::temp_dir()] {
            remove_abandoned(directory, STAGING, "");
        }
        let (staging, _held) = self.make_staging()?;
        snapshot::take(&self.home, &staging).map_err(of_staging)?;
        let messages = self.check(&staging)?;
        let file = self.seal(file, &staging, code, now_secs)?;
        file.sync_all().map_err(|source| unwritable(&self.out, source))?;
        // Not within the last step, which cannot be aborted: whoever reads may let it wait.
        self.leftovers.check()?;
        show().map_err(|source| SetupError::CodeNotShown { source })?;
        self.leftovers.commit(|| {
            rename_to_new(&partial, &self.out).map_err(|source| match source.kind() {
                io::ErrorKind::AlreadyExists => {
                    SetupError::BackupFileExists { path: self.out.clone() }
                }
                _ => unwritable(&self.out, source),
            })
        })?;
        let parent = self.out.parent().unwrap_or(Path::new("/"));
        let synced = File::open(parent).and_then(|directory| directory.sync_all());
        synced.map_err(|source| unwritable(&self.out, source))?;
        Ok(BackedUp { path: self.out.clone(), messages })
    }

    /// Checks that the copy could be restored. Returns how many messages its durable inbox has.
    fn check(&self, staging: &Path) -> Result<Option<u64>, SetupError> {
        let users_url = self.home.users_url()?;
        let copy = Home::at(staging).with_users_url(users_url.as_ref().map(|url| url.as_str()));
        let path = || self.home.root().to_owned();
        soundness::check(&copy).map_err(|unsound| match unsound {
            Unsound::Missing(missing) => SetupError::PiecesMissing { path: path(), missing },
            Unsound::Unusable(reason) => SetupError::NotRestorable { path: path(), reason },
            Unsound::Database(error) => {
                SetupError::NotRestorable { path: path(), reason: error.to_string() }
            }
            Unsound::Unchecked(error) => error,
        })
    }

    /// The path of the file while it is written.
    fn partial(&self, random: u64) -> PathBuf {
        let mut name = std::ffi::OsString::from(".");
        name.push(self.out.file_name().unwrap_or_default());
        name.push(format!(".{random:016x}.tmp"));
        self.out.with_file_name(name)
    }

    /// Makes a directory for the copy, and locks it: a directory without a lock was left behind. On
    /// a read-only file system it is in the directory for temporary files.
    fn make_staging(&self) -> Result<(PathBuf, File), SetupError> {
        loop {
            let made = self.make_one_staging()?;
            // Between its making and its locking another run may have taken it for abandoned.
            if made.0.is_dir() {
                return Ok(made);
            }
        }
    }

    fn make_one_staging(&self) -> Result<(PathBuf, File), SetupError> {
        let name = format!("{STAGING}{:016x}", u64::from_ne_bytes(random_bytes()?));
        let make = |directory: &Path| {
            let path = directory.join(&name);
            let held = self.leftovers.make(&path, |path| {
                make_locked_directory(path).map_err(|source| {
                    HomeError::Unwritable { path: path.to_owned(), source }.into()
                })
            });
            held.map(|held| (path, held))
        };
        match make(self.home.root()) {
            Err(SetupError::Home(HomeError::Unwritable { source, .. }))
                if source.kind() == io::ErrorKind::ReadOnlyFilesystem =>
            {
                make(&std::env::temp_dir())
            }
            made => made,
        }
    }

    fn seal(
        &self,
        file: File,
        staging: &Path,
        code: &Code,
        now_secs: u64,
    ) -> Result<File, SetupError> {
        let of_write = |error| match error {
            WriteError::Io(source) => unwritable(&self.out, source),
            WriteError::Other(error) => error,
        };
        let header = Header {
            format: FORMAT,
            made_by: concat!("web-ipc ", env!("CARGO_PKG_VERSION")).to_owned(),
            made_at: now_secs,
            home: self.home.root().to_string_lossy().into_owned(),
        };
        let header = serde_json::to_vec(&header).expect("strings and numbers always serialise");
        let mut writer = SealedWriter::begin(file, code, &header, now_secs).map_err(of_write)?;
        archive::pack(staging, &mut writer).map_err(|error| match error {
            PackError::Read(path, source) => HomeError::Unreadable { path, source }.into(),
            PackError::Write(error) => of_write(error),
        })?;
        writer.finish().map_err(of_write)
    }
}

impl Drop for SealedBackup {
    fn drop(&mut self) {
        self.leftovers.remove();
    }
}

/// Renames a file to a name that nothing has.
fn rename_to_new(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // Not every file system can.
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {
            std::fs::hard_link(from, to)?;
            std::fs::remove_file(from)
        }
        renamed => renamed.map_err(io::Error::from),
    }
}

fn unwritable(out: &Path, source: io::Error) -> SetupError {
    SetupError::BackupFileUnwritable { path: out.to_owned(), source }
}

/// The directory of the copy is in the home: what is wrong with it is wrong with the home.
fn of_staging(error: SetupError) -> SetupError {
    match error {
        SetupError::BackupUnwritable { source } => SetupError::Home(source),
        error => error,
    }
}

#[cfg(test)]
mod tests;

//! Writes a whole home to one file that only a code opens, also while servers use the home.
//!
//! The command line comes here. The home is copied as `snapshot` does it, to a directory within the
//! home, since nowhere else may its secrets lie unsealed. `archive` then puts the files of the copy
//! into a `sealed_stream`, and the copy is removed. The file gets its name when it is complete and
//! on the disk.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use ipc_home::{DIRECTORY_MODE, FILE_MODE, Home, HomeError};
use serde::{Deserialize, Serialize};

use crate::archive::{self, PackError};
use crate::backup::BackedUp;
use crate::code::Code;
use crate::leftovers::{AbortHandle, Leftovers};
use crate::random::random_bytes;
use crate::sealed_stream::{SealedWriter, WriteError};
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
        let random = u64::from_ne_bytes(random_bytes()?);
        let partial = self.partial(random);
        let file = self.leftovers.make(&partial, |path| {
            let file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(path);
            file.map_err(|source| unwritable(&self.out, source))
        })?;
        remove_abandoned(&self.home);
        let (staging, _held) = self.make_staging()?;
        let messages = snapshot::take(&self.home, &staging).map_err(of_staging)?;
        let file = self.seal(file, &staging, code, now_secs)?;
        file.sync_all().map_err(|source| unwritable(&self.out, source))?;
        self.leftovers.commit(|| {
            if self.out.symlink_metadata().is_ok() {
                return Err(SetupError::BackupFileExists { path: self.out.clone() });
            }
            std::fs::rename(&partial, &self.out).map_err(|source| unwritable(&self.out, source))
        })?;
        let parent = self.out.parent().unwrap_or(Path::new("/"));
        let synced = File::open(parent).and_then(|directory| directory.sync_all());
        synced.map_err(|source| unwritable(&self.out, source))?;
        Ok(BackedUp { path: self.out.clone(), messages })
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
                let made = DirBuilder::new().mode(DIRECTORY_MODE).create(path);
                let held = made.and_then(|()| File::open(path)).and_then(|held| {
                    held.lock()?;
                    Ok(held)
                });
                held.map_err(|source| {
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

/// Removes the copies of runs that were killed: nobody holds their lock. Best effort, since the
/// next run does it again.
fn remove_abandoned(home: &Home) {
    let Ok(entries) = std::fs::read_dir(home.root()) else { return };
    for entry in entries.flatten() {
        let is_staging = entry.file_name().to_str().is_some_and(|name| name.starts_with(STAGING));
        if !is_staging || !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        let Ok(directory) = File::open(entry.path()) else { continue };
        if directory.try_lock().is_ok() {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests;

//! Makes a home of a sealed backup: all of it, or nothing.
//!
//! The command line comes here. The files are unpacked beside the place of the home, checked, and
//! put in their place by a rename. An older home in that place is moved aside by the same step,
//! where the caller allows that and the file system can, and only when all else is done.

use std::fs::File;
use std::io::{self, BufReader};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use ipc_home::sync_directory;
use ipc_home::{Contents, Home, HomeError, InUse, locate, make_private_directory};

use crate::archive::{self, UnpackError};
use crate::backup_error::BackupFileError;
use crate::code::Code;
use crate::init::InitOptions;
use crate::leftovers::{AbortHandle, Leftovers, make_locked_directory, remove_abandoned};
use crate::lock::Lock;
use crate::random::random_bytes;
use crate::sealed_backup::{FORMAT, Header};
use crate::sealed_stream::{ReadError, SealedReader};
use crate::soundness::{self, Unsound};
use crate::{SetupError, directory};

/// The end of the name of a directory with a home that is being put together.
const PARTIAL: &str = ".tmp";

/// A restoration that was begun. If it is dropped before it is done, it removes what it has
/// written.
#[derive(Debug)]
pub struct Restore {
    file: PathBuf,
    opened: File,
    home: Home,
    options: InitOptions,
    leftovers: Leftovers,
}

/// A home that was restored.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Restored {
    /// The home.
    pub home: Home,
    /// When the backup was made, in seconds since the Unix epoch.
    pub made_at_secs: u64,
    /// The path of the home that it was made of, as text.
    pub made_of: String,
    /// The number of messages in the durable inbox, or `None` without one or with one of an older
    /// version.
    pub messages: Option<u64>,
    /// Where the old home is, if [`InitOptions::force`] moved one aside.
    pub kept_aside: Option<PathBuf>,
}

impl Restore {
    /// Opens the file, and checks that a home may be made at `path`: nothing is there, or an empty
    /// directory, or, with [`InitOptions::force`], a home on which no server runs. Nothing is
    /// written yet.
    ///
    /// # Errors
    /// [`SetupError::BackupFileUnreadable`]; [`SetupError::BackupFile`] for a directory;
    /// [`SetupError::RestoreMountPoint`]; [`SetupError::RestoreNotEmpty`]; [`SetupError::InUse`];
    /// and what is wrong with the directory, as for [`init`](crate::init).
    pub fn begin(file: &Path, path: &Path, options: &InitOptions) -> Result<Self, SetupError> {
        let unreadable =
            |source| SetupError::BackupFileUnreadable { path: file.to_owned(), source };
        let opened = File::open(file).and_then(|opened| Ok((opened.metadata()?, opened)));
        let (metadata, opened) = opened.map_err(unreadable)?;
        let file = std::path::absolute(file).map_err(unreadable)?;
        if metadata.is_dir() {
            let source = BackupFileError::Directory;
            return Err(SetupError::BackupFile { path: file, source });
        }
        let home = Home::at(directory::without_link(locate(Some(path))?));
        let leftovers = Leftovers::default();
        let restore = Self { file, opened, home, options: *options, leftovers };
        restore.refuse_mount_point()?;
        restore.check_place()?;
        Ok(restore)
    }

    /// The handle that ends it while it runs.
    #[must_use]
    pub fn abort_handle(&self) -> AbortHandle {
        self.leftovers.abort_handle()
    }

    /// Opens the backup with its code, unpacks and checks all of it, and puts the home in its
    /// place.
    ///
    /// # Errors
    /// [`SetupError::BackupFile`] says what is wrong with the backup or the code,
    /// [`SetupError::RestoredDatabase`] and [`SetupError::RestoredHome`] what is wrong with its
    /// content; [`SetupError::RestoreNotEmpty`], [`SetupError::InUse`] and
    /// [`SetupError::RestorePlace`] for the place; [`SetupError::Aborted`]; or the error of the
    /// disk. What was there before is still there then, and what was written is removed.
    pub fn run(self, code: &Code) -> Result<Restored, SetupError> {
        let opened = SealedReader::open(BufReader::new(&self.opened), code);
        let (mut reader, header) = opened.map_err(|error| self.of_read(error))?;
        let header: Header = serde_json::from_slice(&header)
            .ok()
            .filter(|header: &Header| header.format == FORMAT)
            .ok_or_else(|| self.bad(BackupFileError::Unsupported))?;
        let (partial, _held) = self.make_partial()?;
        archive::unpack(&mut reader, partial.root()).map_err(|error| match error {
            UnpackError::Read(error) => self.of_read(error),
            UnpackError::Write(path, source) => HomeError::Unwritable { path, source }.into(),
        })?;
        make_private_directory(&partial.sessions_dir())?;
        let messages = self.check(&partial)?;
        sync_directory(partial.root())?;
        let old = match self.check_place()? {
            Some(_) => Some(self.hold_old()?),
            None => None,
        };
        let kept_aside = self.leftovers.commit(|| self.put_in_place(&partial, old.is_some()))?;
        drop(old);
        sync_directory(self.home.root().parent().unwrap_or(Path::new("/")))?;
        Ok(Restored {
            home: self.home.clone(),
            made_at_secs: header.made_at,
            made_of: header.home,
            messages,
            kept_aside,
        })
    }

    fn bad(&self, source: BackupFileError) -> SetupError {
        SetupError::BackupFile { path: self.file.clone(), source }
    }

    fn of_read(&self, error: ReadError) -> SetupError {
        match error {
            ReadError::Io(source) => {
                SetupError::BackupFileUnreadable { path: self.file.clone(), source }
            }
            ReadError::Bad(source) => self.bad(source),
        }
    }

    /// What is at the place of the home: `None` for nothing, or an empty directory. Refuses
    /// whatever may not be moved aside.
    fn check_place(&self) -> Result<Option<Contents>, SetupError> {
        let path = || self.home.root().to_owned();
        match self.home.check_directory() {
            Err(HomeError::Missing { .. }) => return Ok(None),
            checked => checked?,
        }
        let unreadable = |source| HomeError::Unreadable { path: path(), source };
        if std::fs::read_dir(self.home.root()).map_err(unreadable)?.next().is_none() {
            return Ok(None);
        }
        if !self.options.force {
            return Err(SetupError::RestoreNotEmpty { path: path() });
        }
        let contents = self.home.contents()?;
        if contents == Contents::Client {
            return Err(HomeError::ClientDirectory { path: path() }.into());
        }
        match self.home.try_hold_alone()? {
            Some(_) => Ok(Some(contents)),
            None => Err(SetupError::InUse { path: path() }),
        }
    }

    /// Makes the directory in which the home is put together, beside the place of the home, and
    /// locks it. Removes those of runs that were killed: whole homes, unsealed.
    fn make_partial(&self) -> Result<(Home, File), SetupError> {
        let root = self.home.root();
        let parent = root.parent().unwrap_or(Path::new("/"));
        directory::make_parents(parent)?;
        let mut before = std::ffi::OsString::from(".");
        before.push(root.file_name().unwrap_or_default());
        before.push(".");
        if let Some(before) = before.to_str() {
            remove_abandoned(parent, before, PARTIAL);
        }
        loop {
            let mut name = before.clone();
            name.push(format!("{:016x}{PARTIAL}", u64::from_ne_bytes(random_bytes()?)));
            let partial = Home::at(parent.join(name));
            let held = self.leftovers.make(partial.root(), |path| {
                make_locked_directory(path).map_err(|source| {
                    // The user knows the home, not the temporary name.
                    HomeError::Unwritable { path: root.to_owned(), source }.into()
                })
            })?;
            if partial.root().is_dir() {
                partial.check_directory()?;
                return Ok((partial, held));
            }
        }
    }

    /// Checks that the home is whole, and that what is in it can be used. Returns how many messages
    /// its durable inbox has.
    fn check(&self, home: &Home) -> Result<Option<u64>, SetupError> {
        let path = || self.file.clone();
        home.check_directory()?;
        soundness::check(home).map_err(|unsound| match unsound {
            Unsound::Missing(missing) => self.bad(BackupFileError::NotWhole { missing }),
            Unsound::Unusable(reason) => SetupError::RestoredHome { path: path(), reason },
            Unsound::Database(source) => SetupError::RestoredDatabase { path: path(), source },
            Unsound::Unchecked(error) => error,
        })
    }

    /// The last step. Returns the path of the old home, if one was moved aside.
    fn put_in_place(&self, partial: &Home, moves_old: bool) -> Result<Option<PathBuf>, SetupError> {
        let root = self.home.root();
        let failed = |source: io::Error, aside: Option<PathBuf>| match source.kind() {
            io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists if aside.is_none() => {
                SetupError::RestoreNotEmpty { path: root.to_owned() }
            }
            // A directory of the same file system may be mounted, too.
            io::ErrorKind::ResourceBusy | io::ErrorKind::CrossesDevices if aside.is_none() => {
                SetupError::RestoreMountPoint { path: root.to_owned() }
            }
            _ => SetupError::RestorePlace { path: root.to_owned(), aside, source },
        };
        let rename = || std::fs::rename(partial.root(), root);
        if !moves_old {
            rename().map_err(|source| failed(source, None))?;
            return Ok(None);
        }
        let now_secs = self.options.now_secs;
        let exchanged = directory::exchange(&self.home, partial.root(), now_secs);
        if let Some(aside) = exchanged.map_err(|source| failed(source, None))? {
            return Ok(Some(aside));
        }
        let aside = directory::move_aside(&self.home, now_secs)?;
        if let Err(source) = rename() {
            // Another process may have filled the directory; then both are kept.
            let back = std::fs::remove_dir(root).and_then(|()| std::fs::rename(&aside, root));
            return Err(failed(source, back.is_err().then_some(aside)));
        }
        Ok(Some(aside))
    }

    /// Locks the old home, so that nobody changes it and no server starts on it.
    fn hold_old(&self) -> Result<(Lock, InUse), SetupError> {
        loop {
            // It may be gone by now.
            self.home.check_directory()?;
            let Some(lock) = Lock::acquire(&self.home)? else { continue };
            let alone = self.home.try_hold_alone()?;
            let alone =
                alone.ok_or_else(|| SetupError::InUse { path: self.home.root().to_owned() })?;
            return Ok((lock, alone));
        }
    }

    /// Refuses a home that is the root of a file system: no rename puts another in its place.
    fn refuse_mount_point(&self) -> Result<(), SetupError> {
        let root = self.home.root();
        let parent = root.parent().unwrap_or(Path::new("/"));
        if let (Ok(there), Ok(beside)) = (root.metadata(), parent.metadata())
            && (there.dev() != beside.dev() || root.parent().is_none())
        {
            return Err(SetupError::RestoreMountPoint { path: root.to_owned() });
        }
        Ok(())
    }
}

impl Drop for Restore {
    fn drop(&mut self) {
        self.leftovers.remove();
    }
}

#[cfg(test)]
mod tests;

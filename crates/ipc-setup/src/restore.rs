//! Makes a home of a sealed backup: all of it, or nothing.
//!
//! The command line comes here. The files are unpacked beside the place of the home, checked, and
//! put in their place by a rename. An older home in that place is moved aside first, where the
//! caller allows that, and only when all else is done.

use std::fs::{DirBuilder, File};
use std::io::{self, BufReader};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use ipc_home::sync_directory;
use ipc_home::{Contents, DIRECTORY_MODE, Home, HomeError, InUse, locate, make_private_directory};
use ipc_inbox::InboxReader;
use ipc_store::{DatabaseError, StoreError};

use crate::archive::{self, UnpackError};
use crate::backup_error::BackupFileError;
use crate::code::Code;
use crate::init::InitOptions;
use crate::leftovers::{AbortHandle, Leftovers};
use crate::lock::Lock;
use crate::random::random_bytes;
use crate::sealed_backup::{FORMAT, Header};
use crate::sealed_stream::{ReadError, SealedReader};
use crate::users::runtime;
use crate::{SetupError, directory, provision};

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
    /// The number of messages in the durable inbox, or `None` without one.
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
    /// [`SetupError::RestoreNotEmpty`]; [`SetupError::InUse`]; and what is wrong with the
    /// directory, as for [`init`](crate::init).
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
        let partial = self.make_partial()?;
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

    /// Makes the directory in which the home is put together, beside the place of the home.
    fn make_partial(&self) -> Result<Home, SetupError> {
        let root = self.home.root();
        let parent = root.parent().unwrap_or(Path::new("/"));
        directory::make_parents(parent)?;
        let mut name = std::ffi::OsString::from(".");
        name.push(root.file_name().unwrap_or_default());
        name.push(format!(".{:016x}.tmp", u64::from_ne_bytes(random_bytes()?)));
        let partial = parent.join(name);
        self.leftovers.make(&partial, |path| {
            // Another user's directory is never filled, nor an older one.
            DirBuilder::new().mode(DIRECTORY_MODE).create(path).map_err(|source| {
                // The user knows the home, not the temporary name.
                HomeError::Unwritable { path: root.to_owned(), source }.into()
            })
        })?;
        let partial = Home::at(partial);
        partial.check_directory()?;
        Ok(partial)
    }

    /// Checks that the home is whole, and that what is in it can be used. Returns how many messages
    /// its durable inbox has.
    fn check(&self, home: &Home) -> Result<Option<u64>, SetupError> {
        let unusable = |source| SetupError::RestoredHome { path: self.file.clone(), source };
        let of_database = |source| SetupError::RestoredDatabase { path: self.file.clone(), source };
        let missing = provision::missing(home)?;
        if !missing.is_empty() {
            return Err(self.bad(BackupFileError::NotWhole { missing }));
        }
        home.check_directory().map_err(unusable)?;
        // Opened with the envelope keys.
        home.admin_credentials().map_err(unusable)?;
        home.session_keys().map_err(unusable)?;
        home.ca_certificates().map_err(unusable)?;
        let runtime = runtime()?;
        if home.users_url()?.is_none() {
            let path = home.users_db_checked().map_err(unusable)?;
            match runtime.block_on(ipc_store::check_integrity(&path)) {
                Err(StoreError::Database(error)) => return Err(of_database(error)),
                checked => checked?,
            }
        }
        let inbox = home.inbox_db_checked().map_err(unusable)?;
        if !provision::exists(&inbox)? {
            return Ok(None);
        }
        let messages: Result<u64, DatabaseError> = runtime.block_on(async {
            ipc_inbox::check_integrity(&inbox).await?;
            InboxReader::open(&inbox).await?.messages().await
        });
        match messages {
            // An older version's file, which the server brings up to date.
            Err(DatabaseError::Outdated { .. }) => Ok(None),
            messages => messages.map(Some).map_err(of_database),
        }
    }

    /// The last step. Returns the path of the old home, if one was moved aside.
    fn put_in_place(&self, partial: &Home, moves_old: bool) -> Result<Option<PathBuf>, SetupError> {
        let root = self.home.root();
        let rename = || {
            std::fs::rename(partial.root(), root).map_err(|source| match source.kind() {
                io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists => {
                    SetupError::RestoreNotEmpty { path: root.to_owned() }
                }
                _ => SetupError::RestorePlace { path: root.to_owned(), source },
            })
        };
        if !moves_old {
            rename()?;
            return Ok(None);
        }
        let aside = directory::move_aside(&self.home, self.options.now_secs)?;
        if let Err(error) = rename() {
            // Another process may have filled the directory; then both are kept.
            let _ = std::fs::remove_dir(root).and_then(|()| std::fs::rename(&aside, root));
            return Err(error);
        }
        Ok(Some(aside))
    }

    /// Locks the old home, so that nobody changes it and no server starts on it.
    fn hold_old(&self) -> Result<(Lock, InUse), SetupError> {
        loop {
            let Some(lock) = Lock::acquire(&self.home)? else { continue };
            let alone = self.home.try_hold_alone()?;
            let alone =
                alone.ok_or_else(|| SetupError::InUse { path: self.home.root().to_owned() })?;
            return Ok((lock, alone));
        }
    }
}

impl Drop for Restore {
    fn drop(&mut self) {
        self.leftovers.remove();
    }
}

#[cfg(test)]
mod tests;

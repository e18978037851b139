//! Copies a home that is in use to a directory: each database as of one moment.
//!
//! `backup` comes here for a copy that stays, `sealed_backup` for one that it seals and removes.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use ipc_home::{FILE_MODE, Home, HomeError, make_private_directory, sync_directory};
use ipc_inbox::InboxReader;
use ipc_store::DatabaseError;

use crate::SetupError;
use crate::lock::Lock;
use crate::users::runtime;

/// Copies a complete home to an empty directory. The copy is on the disk when this returns. Returns
/// how many messages its durable inbox has, or `None` without one or with one of an older version.
///
/// # Errors
/// [`SetupError::BackupUnwritable`] for the directory; otherwise the error of the home or of a
/// database.
pub(crate) fn take(home: &Home, to: &Path) -> Result<Option<u64>, SetupError> {
    let runtime = runtime()?;
    let lock = lock(home)?;
    copy_files(home, to)?;
    // Users in another database are not part of the home; the copy names the same database.
    if home.users_url()?.is_none() {
        let users = home.users_db_checked()?;
        runtime.block_on(ipc_store::copy(&users, &to.join("users.db")))?;
    }
    // Only the server writes to the inbox, and its copy may take long.
    drop(lock);
    let messages = runtime.block_on(copy_inbox(home, to))?;
    make_private_directory(&to.join("sessions")).map_err(unwritable)?;
    sync_directory(to).map_err(unwritable)?;
    Ok(messages)
}

/// Locks the home against changes. A read-only file system needs no lock.
fn lock(home: &Home) -> Result<Option<Lock>, SetupError> {
    match Lock::of_complete(home) {
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
fn copy_files(home: &Home, to: &Path) -> Result<(), SetupError> {
    copy_directory(home.root(), to)?;
    let copy = Home::at(to);
    for (from, to) in
        [(home.issued_dir(), copy.issued_dir()), (home.enrolments_dir(), copy.enrolments_dir())]
    {
        if from.is_dir() {
            make_private_directory(&to).map_err(unwritable)?;
            copy_directory(&from, &to)?;
            sync_directory(&to).map_err(unwritable)?;
        }
    }
    Ok(())
}

fn copy_directory(root: &Path, to: &Path) -> Result<(), SetupError> {
    let unreadable = |path: &Path, source| HomeError::Unreadable { path: path.to_owned(), source };
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

async fn copy_inbox(home: &Home, to: &Path) -> Result<Option<u64>, SetupError> {
    let inbox = home.inbox_db_checked()?;
    if !crate::provision::exists(&inbox)? {
        return Ok(None);
    }
    let copy = to.join("inbox.db");
    let failed = |source| SetupError::Inbox { source };
    ipc_inbox::copy(&inbox, &copy).await.map_err(failed)?;
    match InboxReader::open(&copy).await {
        Ok(reader) => reader.messages().await.map(Some).map_err(failed),
        // An older version's file, which the server brings up to date.
        Err(DatabaseError::Outdated { .. }) => Ok(None),
        Err(error) => Err(failed(error)),
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
pub(crate) fn unwritable(source: HomeError) -> SetupError {
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

//! The lock file beside the database: it says that a process has the inbox open.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;

use super::options::OpenError;

/// Keeps other processes from opening the same inbox: two servers would deliver the same messages.
/// The system releases the lock when the process ends, even in a crash. The lock file stays.
pub(super) fn lock(path: &Path) -> Result<File, OpenError> {
    let failed = |source| OpenError::Lock { path: path.to_owned(), source };
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(name).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse { path: path.to_owned() }),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

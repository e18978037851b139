//! Asks the operating system what SQLite does not report: why a file could not be opened or
//! written.
//!
//! The error conversion calls it with a path. It opens no file: closing it again would release the
//! locks that SQLite has on that file elsewhere in this process.
//! <https://www.sqlite.org/howtocorrupt.html>, section 2.2.

use std::fs::Metadata;
use std::io;
use std::path::{Path, PathBuf};

/// Identifies the file at a path: its device, and its number there. No other file gets the number
/// of an open file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileId {
    device: u64,
    number: u64,
}

/// The identity of the file at a path, and its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileState {
    pub(crate) id: FileId,
    pub(crate) bytes: u64,
}

/// The state of the file at `path`.
pub(crate) fn file_state(path: &Path) -> io::Result<FileState> {
    path.metadata().map(|metadata| FileState { id: file_id(&metadata), bytes: metadata.len() })
}

#[cfg(unix)]
fn file_id(metadata: &Metadata) -> FileId {
    use std::os::unix::fs::MetadataExt as _;

    FileId { device: metadata.dev(), number: metadata.ino() }
}

/// On a system whose files have no numbers, all files have the same id.
#[cfg(not(unix))]
fn file_id(_metadata: &Metadata) -> FileId {
    FileId { device: 0, number: 0 }
}

/// The path of the write-ahead log, which has the changes that are not yet in the database file.
pub(crate) fn log_path(path: &Path) -> PathBuf {
    beside(path, "-wal")
}

/// The path of a file beside `path`: the same name with a suffix.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Why the file may not be read, or its directory, where SQLite creates `-wal` and `-shm`, may not
/// be written.
#[cfg(unix)]
pub(crate) fn access_refused(path: &Path) -> Option<io::Error> {
    use rustix::fs::{Access, access};

    let file = access(path, Access::READ_OK).err();
    let directory =
        || path.parent().and_then(|dir| access(dir, Access::WRITE_OK | Access::EXEC_OK).err());
    file.or_else(directory).map(Into::into)
}

#[cfg(not(unix))]
pub(crate) fn access_refused(_path: &Path) -> Option<io::Error> {
    None
}

/// The most that SQLite writes at once: a page of the largest possible size.
/// <https://www.sqlite.org/limits.html>
#[cfg(unix)]
const WRITE_BYTES_MAX: u64 = 65_536;

/// Whether the file system has no room for one more write, or the write would exceed this process's
/// limit for the size of a file.
#[cfg(unix)]
pub(crate) fn is_out_of_room(path: &Path) -> bool {
    is_file_system_full(path) || is_at_limit(path, file_bytes_max())
}

#[cfg(not(unix))]
pub(crate) fn is_out_of_room(_path: &Path) -> bool {
    false
}

#[cfg(unix)]
fn is_file_system_full(path: &Path) -> bool {
    rustix::fs::statvfs(path)
        .is_ok_and(|room| room.f_bavail.saturating_mul(room.f_frsize) < WRITE_BYTES_MAX)
}

/// `RLIMIT_FSIZE`, in bytes.
#[cfg(unix)]
fn file_bytes_max() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::Fsize).current
}

#[cfg(unix)]
fn is_at_limit(path: &Path, bytes_max: Option<u64>) -> bool {
    let Some(bytes_max) = bytes_max else { return false };
    ["", "-wal", "-shm"].iter().any(|suffix| {
        let bytes = beside(path, suffix).metadata().map_or(0, |metadata| metadata.len());
        bytes.saturating_add(WRITE_BYTES_MAX) > bytes_max
    })
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_file_with_room_above_it_is_not_at_its_limit_and_one_without_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users.db");
        std::fs::write(&path, [0; 1000]).unwrap();
        assert!(!is_at_limit(&path, None));
        assert!(!is_at_limit(&path, Some(1000 + WRITE_BYTES_MAX)));
        assert!(is_at_limit(&path, Some(999 + WRITE_BYTES_MAX)));
    }

    #[test]
    fn what_sqlite_puts_beside_the_file_counts_too() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users.db");
        std::fs::write(&path, "").unwrap();
        std::fs::write(dir.path().join("users.db-wal"), [0; 1000]).unwrap();
        assert!(!is_at_limit(&path, Some(1000 + WRITE_BYTES_MAX)));
        assert!(is_at_limit(&path, Some(999 + WRITE_BYTES_MAX)));
    }

    #[test]
    fn another_file_at_the_same_path_has_another_id() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users.db");
        std::fs::write(&path, "").unwrap();
        let open = std::fs::File::open(&path).unwrap();
        let first = file_state(&path).unwrap();
        std::fs::write(&path, "changed").unwrap();
        assert_eq!(file_state(&path).unwrap(), FileState { bytes: 7, ..first });
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "").unwrap();
        assert_ne!(file_state(&path).unwrap().id, first.id);
        drop(open);
    }

    #[test]
    fn a_file_that_may_be_used_gives_no_reason() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users.db");
        std::fs::write(&path, "").unwrap();
        assert!(access_refused(&path).is_none());
        assert_eq!(
            access_refused(&dir.path().join("no.db")).unwrap().kind(),
            io::ErrorKind::NotFound
        );
    }
}

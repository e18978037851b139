//! The permission bits of a home, and those that are checked; whether a mount is read-only.
//!
//! The code that makes, opens and reads files of a home uses it. What is refused is decided
//! elsewhere.

use std::path::Path;

/// The permission bits of a directory of the home.
pub const DIRECTORY_MODE: u32 = 0o700;
/// The permission bits of a file of the home.
pub const FILE_MODE: u32 = 0o600;
/// Any access of group and others.
pub(crate) const OTHERS: u32 = 0o077;
/// Write access of group and others.
pub(crate) const OTHERS_WRITE: u32 = 0o022;
/// The bit of a directory in which everyone may create entries and remove only their own.
pub(crate) const STICKY: u32 = 0o1000;

/// Whether the file system of this path is read-only.
pub(crate) fn is_read_only(path: &Path) -> bool {
    rustix::fs::statvfs(path)
        .is_ok_and(|mount| mount.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY))
}

//! Permission bits that a home has, and those that are looked at; what a mount takes away from
//! them.
//!
//! Whoever makes, opens or reads a file of a home comes here. What is refused is decided elsewhere.

use std::path::Path;

/// The permission bits of a directory of the home.
pub const DIRECTORY_MODE: u32 = 0o700;
/// The permission bits of a file of the home.
pub const FILE_MODE: u32 = 0o600;
/// Any right of group and others.
pub(crate) const OTHERS: u32 = 0o077;
/// The right of group and others to write.
pub(crate) const OTHERS_WRITE: u32 = 0o022;
/// The bit of a directory in which everybody may make entries and remove only their own.
pub(crate) const STICKY: u32 = 0o1000;

/// Whether the file system that this lies on cannot be written to.
pub(crate) fn is_read_only(path: &Path) -> bool {
    rustix::fs::statvfs(path)
        .is_ok_and(|mount| mount.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY))
}

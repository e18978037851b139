//! Reads secret files, and writes files atomically: after a crash there is either the old file or
//! the new one.
//!
//! All other files of this crate read and write through this one. It knows modes, sizes and
//! renames, but not what a file means.

use std::ffi::OsString;
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use zeroize::Zeroizing;

use crate::access::Access;
use crate::contents::TEMPORARY_SUFFIX;
use crate::permissions::{DIRECTORY_MODE, FILE_MODE, OTHERS, OTHERS_WRITE};
use crate::{HomeError, trust};

/// The largest file that is read. Keys, credentials, sessions and certificate chains are all far
/// smaller.
pub const FILE_BYTES_MAX: u64 = 64 * 1024;

/// Writes `bytes` to `path` with mode 0600, whatever the umask; see [`write_file_atomically`].
///
/// # Errors
/// As [`write_file_atomically`].
pub fn write_secret_atomically(path: &Path, bytes: &[u8]) -> Result<(), HomeError> {
    write_file_atomically(path, bytes, FILE_MODE)
}

/// Writes `bytes` to `path` with the permission bits `mode`, whatever the umask.
///
/// A reader sees either the old file or the complete new one, and so does the next start after a
/// crash. An error leaves nothing behind.
///
/// # Errors
/// [`HomeError::Unwritable`] with the system's error, [`HomeError::NoRandomness`].
pub fn write_file_atomically(path: &Path, bytes: &[u8], mode: u32) -> Result<(), HomeError> {
    StagedFile::write(path, bytes, mode)?.commit()
}

/// A file that is completely on the disk, but not yet under its final name. If it is dropped
/// uncommitted, it is removed.
///
/// For files that belong together: write all of them first, then [`commit`](Self::commit) one after
/// the other.
#[derive(Debug)]
pub struct StagedFile {
    temporary: PathBuf,
    path: PathBuf,
    committed: bool,
}

impl StagedFile {
    /// Writes and flushes a temporary file in the directory of `path`.
    ///
    /// # Errors
    /// [`HomeError::Unwritable`] with the system's error, [`HomeError::NoRandomness`].
    pub fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<Self, HomeError> {
        let temporary = temporary_path(path)?;
        // The file is created with a mode that excludes others. So there is no moment at which
        // another user could open it.
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(FILE_MODE)
            .open(&temporary)
            .map_err(|source| unwritable(path, source))?;
        let staged = Self { temporary, path: path.to_owned(), committed: false };
        file.write_all(bytes)
            // The umask can only remove bits, so the mode is set again.
            .and_then(|()| file.set_permissions(Permissions::from_mode(mode)))
            .and_then(|()| file.sync_all())
            .map_err(|source| unwritable(path, source))?;
        Ok(staged)
    }

    /// Renames the file to its final name, replacing an older file, and flushes the directory.
    ///
    /// # Errors
    /// [`HomeError::Unwritable`] with the system's error.
    pub fn commit(mut self) -> Result<(), HomeError> {
        std::fs::rename(&self.temporary, &self.path)
            .map_err(|source| unwritable(&self.path, source))?;
        self.committed = true;
        sync_directory(parent(&self.path))
    }
}

impl Drop for StagedFile {
    fn drop(&mut self) {
        if !self.committed {
            // Best effort: nobody handles the error here, and the next `init` cleans up.
            let _ = std::fs::remove_file(&self.temporary);
        }
    }
}

/// Creates one directory with mode 0700, whatever the umask; an existing one is left unchanged.
///
/// # Errors
/// [`HomeError::Unwritable`] with the system's error, also if the parent is missing.
pub fn make_private_directory(path: &Path) -> Result<(), HomeError> {
    match DirBuilder::new().mode(DIRECTORY_MODE).create(path) {
        // A umask that removes the owner's own bits would lock us out.
        Ok(()) => std::fs::set_permissions(path, Permissions::from_mode(DIRECTORY_MODE))
            .map_err(|source| unwritable(path, source)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(source) => Err(unwritable(path, source)),
    }
}

/// Flushes a directory, so that renames in it survive a crash.
///
/// # Errors
/// [`HomeError::Unwritable`] with the system's error.
pub fn sync_directory(path: &Path) -> Result<(), HomeError> {
    File::open(path)
        .and_then(|directory| directory.sync_all())
        .map_err(|source| unwritable(path, source))
}

/// Reads a secret: a regular file, not a link, without access for others, of at most
/// [`FILE_BYTES_MAX`].
///
/// # Errors
/// [`HomeError::FileMissing`], [`HomeError::SymbolicLink`], [`HomeError::NotAFile`],
/// [`HomeError::ForeignOwner`] if the file belongs to neither this user nor root,
/// [`HomeError::TooOpen`] if group or others have any access, [`HomeError::TooLarge`],
/// [`HomeError::Unreadable`].
pub fn read_secret(path: &Path) -> Result<Zeroizing<Vec<u8>>, HomeError> {
    read(path, OTHERS, Access::Private)
}

/// Reads a file without secrets, such as a certificate, of at most [`FILE_BYTES_MAX`].
///
/// # Errors
/// As [`read_secret`], except that others may read the file. They may not write it.
pub fn read_public(path: &Path) -> Result<Vec<u8>, HomeError> {
    read_public_as(path, Access::Private)
}

/// Reads a configuration file, of at most [`FILE_BYTES_MAX`]. It may be a link. `path` must be
/// absolute.
///
/// # Errors
/// As [`read_public`]; and [`HomeError::WritableByOthers`] or [`HomeError::ForeignOwner`] for a
/// directory or link on the way to it that another user could replace.
pub fn read_configuration(path: &Path) -> Result<Vec<u8>, HomeError> {
    read_public_as(path, Access::Readable)
}

/// Reads a secret that was put beside the home for this process, as a service manager does with a
/// credential, of at most [`FILE_BYTES_MAX`]. It may be a link, and the group may read it: that is
/// how the mode shows an access control list. Others may read it where
/// [`READABLE_HOME_VARIABLE`](crate::READABLE_HOME_VARIABLE) is `1`. `path` must be absolute.
///
/// # Errors
/// As [`read_configuration`]; [`HomeError::TooOpen`] also if others may read it;
/// [`HomeError::BadVariable`].
pub fn read_credential(path: &Path) -> Result<Zeroizing<Vec<u8>>, HomeError> {
    let refused = match Access::from_environment()? {
        Access::Private => OTHERS_WRITE | 0o007,
        Access::Readable => OTHERS_WRITE,
    };
    read(path, refused, Access::Readable)
}

/// [`read_secret`] in a home that others may be allowed to read.
pub(crate) fn read_secret_as(path: &Path, access: Access) -> Result<Zeroizing<Vec<u8>>, HomeError> {
    match access {
        Access::Private => read(path, OTHERS, access),
        Access::Readable => read(path, OTHERS_WRITE, access),
    }
}

/// [`read_public`] in a home that others may be allowed to read.
pub(crate) fn read_public_as(path: &Path, access: Access) -> Result<Vec<u8>, HomeError> {
    read(path, OTHERS_WRITE, access).map(|mut bytes| std::mem::take(&mut *bytes))
}

fn read(path: &Path, refused: u32, access: Access) -> Result<Zeroizing<Vec<u8>>, HomeError> {
    let unreadable = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => HomeError::FileMissing { path: path.to_owned() },
        _ if source.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error())
            && is_link(path) =>
        {
            HomeError::SymbolicLink { path: path.to_owned() }
        }
        _ => HomeError::Unreadable { path: path.to_owned(), source },
    };
    let file = match access {
        Access::Private => open_file(path),
        // Links are followed if no other user could have created or changed them.
        Access::Readable => open_file(&trust::check_path(path)?),
    };
    let file = file.map_err(unreadable)?;
    // Checks the opened file, not the path: so the checked file is the one that is read.
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(HomeError::NotAFile { path: path.to_owned() });
    }
    trust::refuse_foreign_owner(path, &metadata)?;
    refuse_mode(path, &metadata, refused, FILE_MODE)?;
    let too_large = || HomeError::TooLarge { path: path.to_owned(), bytes_max: FILE_BYTES_MAX };
    if metadata.len() > FILE_BYTES_MAX {
        return Err(too_large());
    }
    // The capacity is large enough for everything: a vector that grows would leave copies of the
    // secret in memory.
    let mut bytes = Zeroizing::new(Vec::with_capacity(FILE_BYTES_MAX as usize + 64));
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(too_large());
    }
    // Windows tools write a byte order mark in front of text. No file of a home begins with one
    // otherwise.
    if bytes.starts_with("\u{feff}".as_bytes()) {
        bytes.drain(.."\u{feff}".len());
    }
    Ok(bytes)
}

/// Opens a file, but not a link. It does not block on a pipe without a writer.
pub(crate) fn open_file(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)
}

pub(crate) fn is_link(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|metadata| metadata.is_symlink())
}

/// Sets the mode of an existing file to 0600. The file must belong to this user and have no second
/// name. A link is refused, and its target keeps its mode.
///
/// # Errors
/// [`HomeError::SymbolicLink`], [`HomeError::NotAFile`], [`HomeError::ForeignOwner`],
/// [`HomeError::Unwritable`].
pub fn close_file(path: &Path) -> Result<(), HomeError> {
    let file = open_file(path).map_err(|source| match is_link(path) {
        true => HomeError::SymbolicLink { path: path.to_owned() },
        false => unwritable(path, source),
    })?;
    let metadata = file.metadata().map_err(|source| unwritable(path, source))?;
    if !metadata.is_file() {
        return Err(HomeError::NotAFile { path: path.to_owned() });
    }
    trust::refuse_foreign_owner(path, &metadata)?;
    if metadata.permissions().mode() & 0o7777 == FILE_MODE {
        return Ok(());
    }
    // Another user's file may be expected under the second name.
    if metadata.nlink() > 1 {
        return refuse_mode(path, &metadata, OTHERS, FILE_MODE);
    }
    file.set_permissions(Permissions::from_mode(FILE_MODE))
        .map_err(|source| unwritable(path, source))
}

pub(crate) fn refuse_open_mode(
    path: &Path,
    metadata: &std::fs::Metadata,
    mode_wanted: u32,
) -> Result<(), HomeError> {
    refuse_mode(path, metadata, OTHERS, mode_wanted)
}

/// Refuses a file or directory whose mode grants any of the `refused` rights.
pub(crate) fn refuse_mode(
    path: &Path,
    metadata: &std::fs::Metadata,
    refused: u32,
    mode_wanted: u32,
) -> Result<(), HomeError> {
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & refused != 0 {
        return Err(HomeError::TooOpen { path: path.to_owned(), mode, mode_wanted });
    }
    Ok(())
}

/// A name in the same directory that no other process uses: hidden, with 64 random bits.
fn temporary_path(path: &Path) -> Result<PathBuf, HomeError> {
    let mut random = [0; 8];
    getrandom::fill(&mut random)
        .map_err(|error| HomeError::NoRandomness { source: io::Error::other(error) })?;
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{:016x}{TEMPORARY_SUFFIX}", u64::from_ne_bytes(random)));
    Ok(path.with_file_name(name))
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn unwritable(path: &Path, source: io::Error) -> HomeError {
    HomeError::Unwritable { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode_of(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    fn names_in(directory: &Path) -> Vec<OsString> {
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name()).collect()
    }

    #[test]
    fn a_secret_is_written_0600_and_read_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        write_secret_atomically(&path, b"bytes").unwrap();
        assert_eq!(mode_of(&path), 0o600);
        assert_eq!(read_secret(&path).unwrap().as_slice(), b"bytes");
        assert_eq!(names_in(directory.path()), ["secret"]);
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_what_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        for (written, read) in
            [("\u{feff}text", "text"), ("te\u{feff}xt", "te\u{feff}xt"), ("\u{feff}", "")]
        {
            write_secret_atomically(&path, written.as_bytes()).unwrap();
            assert_eq!(read_secret(&path).unwrap().as_slice(), read.as_bytes());
            assert_eq!(read_public(&path).unwrap(), read.as_bytes());
        }
    }

    #[test]
    fn writing_again_replaces_the_file_and_mends_its_mode() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        std::fs::write(&path, b"old").unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        write_secret_atomically(&path, b"new").unwrap();
        assert_eq!((mode_of(&path), std::fs::read(&path).unwrap()), (0o600, b"new".to_vec()));
    }

    #[test]
    fn a_failed_write_leaves_no_temporary_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("taken");
        // A directory that is not empty cannot be replaced by a rename, so the write fails at its
        // last step.
        std::fs::create_dir_all(path.join("inner")).unwrap();
        let error = write_secret_atomically(&path, b"x").unwrap_err();
        assert!(matches!(error, HomeError::Unwritable { path: p, .. } if p == path));
        assert_eq!(names_in(directory.path()), ["taken"]);
    }

    #[test]
    fn a_staged_file_that_is_not_committed_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        let staged = StagedFile::write(&path, b"x", 0o600).unwrap();
        assert!(!path.exists());
        drop(staged);
        assert!(names_in(directory.path()).is_empty());
    }

    #[test]
    fn a_missing_directory_is_an_error_that_names_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("none/secret");
        assert!(
            matches!(write_secret_atomically(&path, b"x"), Err(HomeError::Unwritable { path: p, .. }) if p == path)
        );
    }

    #[test]
    fn a_secret_open_to_others_is_refused_with_the_file_and_the_mode() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        write_secret_atomically(&path, b"x").unwrap();
        for mode in [0o640, 0o604, 0o620, 0o610, 0o644] {
            std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            match read_secret(&path).unwrap_err() {
                HomeError::TooOpen { path: p, mode: m, mode_wanted } => {
                    assert_eq!((p, m, mode_wanted), (path.clone(), mode, 0o600));
                }
                other => panic!("{other:?}"),
            }
        }
        std::fs::set_permissions(&path, Permissions::from_mode(0o400)).unwrap();
        assert!(read_secret(&path).is_ok());
    }

    #[test]
    fn a_file_over_the_limit_is_refused_and_one_at_it_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        write_secret_atomically(&path, &vec![b'x'; FILE_BYTES_MAX as usize]).unwrap();
        assert_eq!(read_secret(&path).unwrap().len() as u64, FILE_BYTES_MAX);
        write_secret_atomically(&path, &vec![b'x'; FILE_BYTES_MAX as usize + 1]).unwrap();
        assert!(matches!(read_secret(&path), Err(HomeError::TooLarge { .. })));
    }

    #[test]
    fn a_file_without_an_end_is_refused() {
        assert!(matches!(read_public(Path::new("/dev/zero")), Err(HomeError::NotAFile { .. })));
    }

    #[test]
    fn a_missing_file_and_a_directory_are_told_apart() {
        let directory = tempfile::tempdir().unwrap();
        assert!(matches!(
            read_secret(&directory.path().join("none")),
            Err(HomeError::FileMissing { .. })
        ));
        assert!(matches!(read_secret(directory.path()), Err(HomeError::NotAFile { .. })));
    }

    #[test]
    fn a_link_in_the_place_of_a_file_is_refused_wherever_it_leads() {
        let directory = tempfile::tempdir().unwrap();
        let (path, target) = (directory.path().join("secret"), directory.path().join("target"));
        write_secret_atomically(&target, b"bytes").unwrap();
        std::os::unix::fs::symlink(&target, &path).unwrap();
        for error in [read_secret(&path).unwrap_err(), read_public(&path).unwrap_err()] {
            assert!(
                matches!(&error, HomeError::SymbolicLink { path: link } if *link == path),
                "{error:?}"
            );
        }
        assert_eq!(*read_secret_as(&path, Access::Readable).unwrap(), b"bytes");
    }

    #[test]
    fn a_home_open_to_readers_is_still_closed_to_writers() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        write_secret_atomically(&path, b"bytes").unwrap();
        for (mode, is_read) in [(0o444, true), (0o640, true), (0o660, false), (0o602, false)] {
            std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            assert_eq!(read_secret_as(&path, Access::Readable).is_ok(), is_read, "{mode:o}");
            assert!(read_secret(&path).is_err());
            assert_eq!(read_public(&path).is_ok(), is_read, "{mode:o}");
        }
    }

    #[test]
    fn a_pipe_in_the_place_of_a_file_is_refused_and_not_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        let made =
            std::process::Command::new("mkfifo").args(["-m", "600"]).arg(&path).status().unwrap();
        assert!(made.success());
        assert!(matches!(read_secret(&path), Err(HomeError::NotAFile { .. })));
    }

    #[test]
    fn closing_a_file_leaves_what_a_link_leads_to_as_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let (path, link) = (directory.path().join("users.db"), directory.path().join("link"));
        std::fs::write(&path, "").unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(matches!(close_file(&link), Err(HomeError::SymbolicLink { .. })));
        assert_eq!(mode_of(&path), 0o644);
        let second = directory.path().join("second");
        std::fs::hard_link(&path, &second).unwrap();
        assert!(matches!(close_file(&second), Err(HomeError::TooOpen { .. })));
        assert_eq!(mode_of(&path), 0o644);
        std::fs::remove_file(second).unwrap();
        close_file(&path).unwrap();
        assert_eq!(mode_of(&path), 0o600);
        assert!(matches!(close_file(directory.path()), Err(HomeError::NotAFile { .. })));
    }

    #[test]
    fn a_file_that_somebody_else_owns_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        write_secret_atomically(&path, b"bytes").unwrap();
        if crate::accounts::own_uid() != 0 {
            println!("skipped: only root can give a file away");
            return;
        }
        std::os::unix::fs::chown(&path, Some(54_321), None).unwrap();
        for error in [
            read_secret(&path).unwrap_err(),
            read_public(&path).unwrap_err(),
            close_file(&path).unwrap_err(),
        ] {
            assert!(matches!(error, HomeError::ForeignOwner { owner: 54_321, .. }), "{error:?}");
        }
    }

    #[test]
    fn a_configuration_and_a_credential_may_be_links_and_others_may_not_write_them() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        let (path, link) = (root.join("file"), root.join("link"));
        write_secret_atomically(&path, b"bytes").unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let set_mode =
            |mode| std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        for (mode, configuration, credential) in [
            (0o600, true, true),
            (0o440, true, true),
            (0o444, true, false),
            (0o660, false, false),
            (0o602, false, false),
        ] {
            set_mode(mode);
            for path in [&path, &link] {
                assert_eq!(read_configuration(path).is_ok(), configuration, "{mode:o}");
                assert_eq!(read_credential(path).is_ok(), credential, "{mode:o}");
            }
        }
        set_mode(0o600);
        std::fs::set_permissions(&root, Permissions::from_mode(0o777)).unwrap();
        let error = read_configuration(&path).unwrap_err();
        assert!(matches!(error, HomeError::WritableByOthers { .. }), "{error:?}");
        std::fs::set_permissions(&root, Permissions::from_mode(0o700)).unwrap();
        std::fs::write(&path, vec![b' '; FILE_BYTES_MAX as usize + 1]).unwrap();
        assert!(matches!(read_configuration(&path), Err(HomeError::TooLarge { .. })));
    }

    #[test]
    fn a_private_directory_is_0700_and_an_existing_one_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("private");
        make_private_directory(&path).unwrap();
        assert_eq!(mode_of(&path), 0o700);
        std::fs::set_permissions(&path, Permissions::from_mode(0o750)).unwrap();
        make_private_directory(&path).unwrap();
        assert_eq!(mode_of(&path), 0o750);
        std::fs::write(directory.path().join("file"), b"").unwrap();
        assert!(make_private_directory(&directory.path().join("file")).is_err());
    }
}

//! Finds the remedy for a file that the system refuses.
//!
//! The errors of every crate that uses files call it. It checks the present modes of files, and
//! opens none.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::remedy::{ModeChange, Remedy};

/// What a person can do if the system refused to read, write or make `path`. `None` if only the
/// cause can tell. It checks the present modes of the file and its directories.
#[must_use]
pub fn remedy_of_io(error: &io::Error, path: &Path) -> Option<Remedy> {
    Some(match error.kind() {
        io::ErrorKind::PermissionDenied => of_denial(path, own_uid()),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Remedy::MakeRoom,
        io::ErrorKind::FileTooLarge => Remedy::RaiseFileSizeLimit,
        io::ErrorKind::ReadOnlyFilesystem => Remedy::UseWritableHome,
        io::ErrorKind::InvalidFilename => Remedy::UseShorterHomePath,
        // Something is in the way, or a directory of the path is missing.
        io::ErrorKind::NotFound
        | io::ErrorKind::NotADirectory
        | io::ErrorKind::AlreadyExists
        | io::ErrorKind::IsADirectory
        | io::ErrorKind::DirectoryNotEmpty
        | io::ErrorKind::Unsupported
        | io::ErrorKind::CrossesDevices => Remedy::UseAnotherHome,
        // The `ErrorKind` for too many symbolic links in a path is not stable yet.
        _ if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {
            Remedy::UseAnotherHome
        }
        _ => return None,
    })
}

/// What a person can do about a database that can be read but not written. SQLite also writes
/// beside the file, so the file or its directory may be read-only. If neither is, the disk may be.
#[must_use]
pub fn remedy_of_read_only(database: &Path) -> Remedy {
    let directory = database.parent().unwrap_or(database);
    let is_closed =
        |path: &Path| path.metadata().is_ok_and(|metadata| metadata.mode() & 0o200 == 0);
    let closed: Vec<PathBuf> = [directory, database]
        .into_iter()
        .filter(|path| is_closed(path))
        .map(Path::to_owned)
        .collect();
    if closed.is_empty() || is_read_only(directory) {
        Remedy::UseWritableHome
    } else {
        Remedy::FixPermissions { paths: closed, change: ModeChange::OwnerWrites }
            .or(Remedy::UseAnotherHome)
    }
}

/// The owner of a file or directory who lacks a right to it can restore that right.
fn of_denial(path: &Path, own_uid: u32) -> Remedy {
    // Start at the nearest path that can be examined. If that is a file, go on to its directory.
    for path in path.ancestors() {
        let Ok(metadata) = std::fs::metadata(path) else { continue };
        let (own_rights, change) = match metadata.is_dir() {
            true => (0o700, ModeChange::OwnerEverything),
            false => (0o600, ModeChange::To(0o600)),
        };
        if metadata.uid() == own_uid && metadata.mode() & own_rights != own_rights {
            return Remedy::FixPermissions { paths: vec![path.to_owned()], change };
        }
        if metadata.is_dir() {
            break;
        }
    }
    Remedy::RunAsOwner.or(Remedy::UseAnotherHome)
}

fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn is_read_only(path: &Path) -> bool {
    rustix::fs::statvfs(path)
        .is_ok_and(|mount| mount.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn chmod(path: &Path, mode: u32) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    fn fix(path: &Path, change: ModeChange) -> Remedy {
        Remedy::FixPermissions { paths: vec![path.to_owned()], change }
    }

    #[test]
    fn a_database_that_cannot_be_written_is_opened_by_its_mode_where_that_helps() {
        let directory = tempfile::tempdir().unwrap();
        let database = directory.path().join("users.db");
        // If the modes allow writing, the disk is read-only. A missing file has no mode.
        for make in [false, true] {
            if make {
                std::fs::write(&database, "").unwrap();
            }
            assert_eq!(remedy_of_read_only(&database), Remedy::UseWritableHome);
        }
        chmod(&database, 0o400);
        assert_eq!(
            remedy_of_read_only(&database),
            fix(&database, ModeChange::OwnerWrites).or(Remedy::UseAnotherHome)
        );
    }

    #[test]
    fn a_right_that_the_owner_took_from_himself_is_given_back() {
        let directory = tempfile::tempdir().unwrap();
        let (inner, file) = (directory.path().join("inner"), directory.path().join("inner/file"));
        std::fs::create_dir(&inner).unwrap();
        std::fs::write(&file, "").unwrap();
        let as_owner = Remedy::RunAsOwner.or(Remedy::UseAnotherHome);
        chmod(&file, 0o000);
        assert_eq!(of_denial(&file, own_uid()), fix(&file, ModeChange::To(0o600)));
        assert_eq!(of_denial(&file, own_uid() + 1), as_owner);
        chmod(&file, 0o600);
        assert_eq!(of_denial(&file, own_uid()), as_owner);
        chmod(&inner, 0o500);
        for path in [&file, &inner.join("new")] {
            assert_eq!(of_denial(path, own_uid()), fix(&inner, ModeChange::OwnerEverything));
        }
        chmod(&inner, 0o700);
    }

    #[test]
    fn a_full_disk_has_a_remedy_and_the_odd_error_has_none() {
        let of = |kind: io::ErrorKind| remedy_of_io(&kind.into(), Path::new("/x"));
        assert_eq!(of(io::ErrorKind::StorageFull), Some(Remedy::MakeRoom));
        assert_eq!(of(io::ErrorKind::ReadOnlyFilesystem), Some(Remedy::UseWritableHome));
        assert_eq!(of(io::ErrorKind::Other), None);
    }
}

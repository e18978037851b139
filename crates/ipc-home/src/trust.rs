//! Checks that a path can be trusted: only root and this user can replace what is there.
//!
//! Opening a home checks this before it trusts any content, and making one before it writes
//! anything. Nothing here knows the contents of a home.
//!
//! The check walks the path from the root of the file system, including links. If a directory
//! belongs to root or this user, and nobody else may write to it, its entries cannot change
//! unnoticed. So every checked component stays as it was checked, and opening a file by a path
//! below it opens the intended file.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use crate::HomeError;
use crate::accounts::{is_private_group, own_uid};
use crate::permissions::STICKY;

const GROUP_WRITE: u32 = 0o020;
const OTHERS_WRITE: u32 = 0o002;

/// The number of symbolic links that Linux follows in one path.
const LINKS_MAX: usize = 40;

const ROOT_UID: u32 = 0;

/// Checks every existing component of `path`, which must be absolute, and returns the path with
/// links resolved. Components that do not exist are appended unchanged.
///
/// # Errors
/// [`HomeError::ForeignOwner`] and [`HomeError::WritableByOthers`] with the first component that
/// another user could replace; [`HomeError::Unreadable`] if the system does not let us look.
pub(crate) fn check_path(path: &Path) -> Result<PathBuf, HomeError> {
    walk(path, own_uid())
}

/// Refuses a file or directory that belongs to a user other than root and this one.
///
/// # Errors
/// [`HomeError::ForeignOwner`].
pub(crate) fn refuse_foreign_owner(path: &Path, metadata: &Metadata) -> Result<(), HomeError> {
    refuse_owner(path, path, metadata, own_uid())
}

fn refuse_owner(
    path: &Path,
    target: &Path,
    metadata: &Metadata,
    own_uid: u32,
) -> Result<(), HomeError> {
    let owner = metadata.uid();
    if owner == ROOT_UID || owner == own_uid {
        return Ok(());
    }
    Err(HomeError::ForeignOwner {
        path: path.to_owned(),
        target: target.to_owned(),
        owner,
        own_uid,
    })
}

fn walk(target: &Path, own_uid: u32) -> Result<PathBuf, HomeError> {
    let unreadable = |path: &Path, source| HomeError::Unreadable { path: path.to_owned(), source };
    let mut rest: VecDeque<OsString> = VecDeque::new();
    push_front(&mut rest, target);
    let mut at = PathBuf::from("/");
    let mut links = 0;
    check_component(&at, target, &lstat(&at).map_err(|error| unreadable(&at, error))?, own_uid)?;
    while let Some(name) = rest.pop_front() {
        if name == ".." {
            at.pop();
            continue;
        }
        let next = at.join(&name);
        let metadata = match lstat(&next) {
            Ok(metadata) => metadata,
            // The caller will create what is below, or find and check it then.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(rest.iter().fold(next, |path, name| path.join(name)));
            }
            Err(error) => return Err(unreadable(&next, error)),
        };
        check_component(&next, target, &metadata, own_uid)?;
        if !metadata.is_symlink() {
            at = next;
            continue;
        }
        links += 1;
        if links > LINKS_MAX {
            return Err(unreadable(target, rustix::io::Errno::LOOP.into()));
        }
        let leads_to = std::fs::read_link(&next).map_err(|error| unreadable(&next, error))?;
        if leads_to.is_absolute() {
            at = PathBuf::from("/");
        }
        push_front(&mut rest, &leads_to);
    }
    Ok(at)
}

fn lstat(path: &Path) -> io::Result<Metadata> {
    std::fs::symlink_metadata(path)
}

fn push_front(rest: &mut VecDeque<OsString>, path: &Path) {
    for component in path.components().rev() {
        match component {
            Component::Normal(name) => rest.push_front(name.to_owned()),
            Component::ParentDir => rest.push_front("..".into()),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
}

fn check_component(
    path: &Path,
    target: &Path,
    metadata: &Metadata,
    own_uid: u32,
) -> Result<(), HomeError> {
    refuse_owner(path, target, metadata, own_uid)?;
    // In a sticky directory only its owner can replace an entry, and the owner is checked in turn.
    // The mode of a link has no meaning.
    if !metadata.is_dir() || metadata.mode() & STICKY != 0 {
        return Ok(());
    }
    let mode = metadata.mode() & 0o7777;
    let group_may_write = mode & GROUP_WRITE != 0 && !is_own_group(path, metadata);
    if mode & OTHERS_WRITE != 0 || group_may_write {
        return Err(HomeError::WritableByOthers {
            path: path.to_owned(),
            target: target.to_owned(),
            mode,
            owner: metadata.uid(),
            own_uid,
        });
    }
    Ok(())
}

/// Whether the group of a directory has only the directory's owner as a member, as on systems that
/// give each user a group of its own and a umask of 002. An access control list may give others
/// access; the mode shows it as the group's rights.
fn is_own_group(path: &Path, metadata: &Metadata) -> bool {
    is_private_group(metadata.uid(), metadata.gid()) && !has_access_list(path)
}

#[cfg(target_os = "linux")]
fn has_access_list(path: &Path) -> bool {
    let mut room = [0_u8; 0];
    !matches!(
        rustix::fs::lgetxattr(path, "system.posix_acl_access", &mut room),
        Err(rustix::io::Errno::NODATA | rustix::io::Errno::NOTSUP)
    )
}

/// On other systems access control lists do not show in the mode.
#[cfg(not(target_os = "linux"))]
fn has_access_list(_path: &Path) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    /// A user other than root and the one who runs the tests.
    fn somebody_else() -> u32 {
        own_uid() + 1
    }

    fn directory(mode: u32) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        chmod(directory.path(), mode);
        directory
    }

    fn chmod(path: &Path, mode: u32) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    fn is_writable_by_others(result: &Result<PathBuf, HomeError>, at: &Path) -> bool {
        matches!(result, Err(HomeError::WritableByOthers { path, .. }) if path == at)
    }

    #[test]
    fn a_home_in_the_sticky_directory_for_temporary_files_is_fine() {
        let parent = directory(0o700);
        assert_eq!(check_path(parent.path()).unwrap(), parent.path().canonicalize().unwrap());
        let sticky = directory(0o1777);
        std::fs::create_dir(sticky.path().join("home")).unwrap();
        check_path(&sticky.path().join("home")).unwrap();
    }

    #[test]
    fn a_parent_that_others_may_write_to_is_refused_however_deep_the_home_lies() {
        for mode in [0o707, 0o777, 0o702] {
            let parent = directory(mode);
            std::fs::create_dir_all(parent.path().join("a/home")).unwrap();
            for path in ["a/home", "a/none/below", "."] {
                let checked = check_path(&parent.path().join(path));
                assert!(
                    is_writable_by_others(&checked, parent.path()),
                    "{mode:o} {path}: {checked:?}"
                );
            }
        }
    }

    #[test]
    fn a_link_is_followed_and_what_it_leads_through_is_checked() {
        let (open, closed) = (directory(0o777), directory(0o700));
        std::fs::create_dir(open.path().join("home")).unwrap();
        symlink(open.path().join("home"), closed.path().join("link")).unwrap();
        assert!(is_writable_by_others(&check_path(&closed.path().join("link")), open.path()));
        chmod(open.path(), 0o700);
        let real = open.path().join("home").canonicalize().unwrap();
        assert_eq!(check_path(&closed.path().join("link")).unwrap(), real);
        assert_eq!(check_path(&closed.path().join("link/../home/./")).unwrap(), real);
    }

    #[test]
    fn a_link_that_leads_to_itself_ends() {
        let parent = directory(0o700);
        symlink("link", parent.path().join("link")).unwrap();
        let error = check_path(&parent.path().join("link")).unwrap_err();
        assert!(matches!(error, HomeError::Unreadable { .. }), "{error:?}");
    }

    #[test]
    fn what_belongs_to_neither_root_nor_this_user_is_refused() {
        let parent = directory(0o700);
        let home = parent.path().join("home");
        std::fs::create_dir(&home).unwrap();
        if own_uid() == ROOT_UID {
            // Everyone trusts root's own directories. A test that runs as root can give a directory
            // away instead.
            std::os::unix::fs::chown(parent.path(), Some(somebody_else()), None).unwrap();
            let error = check_path(&home).unwrap_err();
            assert!(
                matches!(&error, HomeError::ForeignOwner { path, owner, .. }
                    if path == parent.path() && *owner == somebody_else()),
                "{error:?}"
            );
            assert!(
                walk(&home, somebody_else()).is_ok(),
                "the owner's own way is trusted by the owner"
            );
        } else {
            let error = walk(&home, somebody_else()).unwrap_err();
            assert!(matches!(error, HomeError::ForeignOwner { .. }), "{error:?}");
        }
    }

    #[test]
    fn a_link_that_somebody_else_put_into_a_sticky_directory_is_refused() {
        if own_uid() != ROOT_UID {
            println!("skipped: only root can give a link away");
            return;
        }
        let (sticky, target) = (directory(0o1777), directory(0o700));
        let link = sticky.path().join("home");
        symlink(target.path(), &link).unwrap();
        check_path(&link).unwrap();
        std::os::unix::fs::lchown(&link, Some(somebody_else()), None).unwrap();
        let error = check_path(&link).unwrap_err();
        assert!(
            matches!(&error, HomeError::ForeignOwner { path, .. } if *path == link),
            "{error:?}"
        );
    }

    #[test]
    fn a_group_that_may_write_is_refused_unless_it_is_the_owners_alone() {
        let parent = directory(0o770);
        let checked = check_path(parent.path());
        let metadata = lstat(parent.path()).unwrap();
        assert_eq!(
            checked.is_ok(),
            is_private_group(metadata.uid(), metadata.gid()),
            "{checked:?} {metadata:?}"
        );
        if own_uid() == ROOT_UID {
            std::os::unix::fs::chown(parent.path(), None, Some(54_321)).unwrap();
            chmod(parent.path(), 0o770);
            assert!(is_writable_by_others(&check_path(parent.path()), parent.path()));
        }
    }
}

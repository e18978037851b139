//! What an unfinished change has written, and the moment from which on it is not undone any more.
//!
//! A sealed backup and a restoration come here. They run on one thread, while another may be told
//! to end them at once: either the change is complete then, or nothing of it is left.

use std::fs::{DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ipc_home::DIRECTORY_MODE;

use crate::SetupError;

/// Ends a backup or a restoration that runs on another thread.
#[derive(Debug, Clone)]
pub struct AbortHandle(Leftovers);

impl AbortHandle {
    /// Ends it, and removes what it has written. `false` if it was complete already: its result is
    /// there in a moment.
    #[must_use]
    pub fn abort(&self) -> bool {
        let mut state = self.0.state();
        if state.is_committed {
            return false;
        }
        state.is_aborted = true;
        remove_all(&state.paths);
        true
    }
}

/// The temporary files and directories of a change.
#[derive(Debug, Clone, Default)]
pub(crate) struct Leftovers(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    paths: Vec<PathBuf>,
    is_aborted: bool,
    is_committed: bool,
}

impl Leftovers {
    /// The handle that ends the change.
    pub(crate) fn abort_handle(&self) -> AbortHandle {
        AbortHandle(self.clone())
    }

    /// Makes a temporary file or directory at `path`, unless the change was aborted.
    pub(crate) fn make<T>(
        &self,
        path: &Path,
        make: impl FnOnce(&Path) -> Result<T, SetupError>,
    ) -> Result<T, SetupError> {
        let mut state = self.state();
        if state.is_aborted {
            return Err(SetupError::Aborted);
        }
        let made = make(path)?;
        state.paths.push(path.to_owned());
        Ok(made)
    }

    /// Refuses to go on with a change that was aborted.
    pub(crate) fn check(&self) -> Result<(), SetupError> {
        if self.state().is_aborted { Err(SetupError::Aborted) } else { Ok(()) }
    }

    /// Completes the change with its last step, unless it was aborted.
    pub(crate) fn commit<T>(
        &self,
        step: impl FnOnce() -> Result<T, SetupError>,
    ) -> Result<T, SetupError> {
        let mut state = self.state();
        if state.is_aborted {
            return Err(SetupError::Aborted);
        }
        let done = step()?;
        state.is_committed = true;
        Ok(done)
    }

    /// Removes what is still there.
    pub(crate) fn remove(&self) {
        remove_all(&self.state().paths);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes a temporary directory, and locks it. The lock ends with the process: a directory without
/// one was left behind by a run that was killed. Between its making and its locking another run may
/// have removed it, so the caller looks whether it is there.
pub(crate) fn make_locked_directory(path: &Path) -> io::Result<File> {
    // Another user's directory is never filled, nor an older one.
    DirBuilder::new().mode(DIRECTORY_MODE).create(path)?;
    let locked = || {
        // The umask can only take bits away, so the mode is set once more.
        std::fs::set_permissions(path, Permissions::from_mode(DIRECTORY_MODE))?;
        let held = File::open(path)?;
        held.lock()?;
        Ok(held)
    };
    locked().inspect_err(|_| drop(std::fs::remove_dir(path)))
}

/// Removes what killed runs of this user have left in `directory`: directories whose names are
/// `before`, 16 hexadecimal digits and `after`, and whose lock nobody holds. Best effort, since the
/// next run does it again.
pub(crate) fn remove_abandoned(directory: &Path, before: &str, after: &str) {
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let name = entry.file_name();
        let digits = name
            .to_str()
            .and_then(|name| name.strip_prefix(before))
            .and_then(|name| name.strip_suffix(after));
        let is_temporary = digits.is_some_and(is_random);
        let is_own = || {
            path.symlink_metadata().is_ok_and(|there| {
                there.is_dir() && there.uid() == rustix::process::geteuid().as_raw()
            })
        };
        if !is_temporary || !is_own() {
            continue;
        }
        let Ok(opened) = File::open(&path) else { continue };
        if opened.try_lock().is_ok() {
            let _ = std::fs::remove_dir_all(&path);
        }
    }
}

/// Whether the text is how a random number is written in the name of a temporary directory.
fn is_random(text: &str) -> bool {
    text.len() == 16 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Removes files and directories, to which another thread may still write. Best effort: there is
/// nobody to tell.
fn remove_all(paths: &[PathBuf]) {
    const ATTEMPTS_MAX: usize = 1000;
    for path in paths {
        for _ in 0..ATTEMPTS_MAX {
            let removed = match path.symlink_metadata() {
                Err(_) => break,
                // When the directory is gone, nothing can be made in it.
                Ok(metadata) if metadata.is_dir() => std::fs::remove_dir_all(path),
                Ok(_) => std::fs::remove_file(path),
            };
            if removed.is_ok() {
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_complete_or_nothing_of_it_is_left() {
        let directory = tempfile::tempdir().unwrap();
        let (file, folder) = (directory.path().join("file"), directory.path().join("folder"));
        let leftovers = Leftovers::default();
        let write = |path: &Path| {
            std::fs::write(path, "x").unwrap();
            Ok(())
        };
        leftovers.make(&file, write).unwrap();
        leftovers
            .make(&folder, |path| {
                std::fs::create_dir(path).unwrap();
                Ok(())
            })
            .unwrap();
        std::fs::write(folder.join("inner"), "x").unwrap();
        let handle = leftovers.abort_handle();
        assert!(handle.abort());
        assert_eq!(directory.path().read_dir().unwrap().count(), 0);
        let refused = leftovers.make(&file, |_| -> Result<(), _> { panic!("it was aborted") });
        assert!(matches!(refused, Err(SetupError::Aborted)));
        let refused = leftovers.commit(|| -> Result<(), _> { panic!("it was aborted") });
        assert!(matches!(refused, Err(SetupError::Aborted)));

        let leftovers = Leftovers::default();
        let handle = leftovers.abort_handle();
        leftovers.make(&file, write).unwrap();
        leftovers
            .commit(|| {
                std::fs::rename(&file, &folder).unwrap();
                Ok(())
            })
            .unwrap();
        assert!(!handle.abort());
        leftovers.remove();
        assert!(folder.exists());
    }

    #[test]
    fn only_what_a_killed_run_has_left_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let names = [
            ".backup-0123456789abcdef",
            ".backup-0123456789abcde",
            ".backup-0123456789abcdef0",
            ".backup-0123456789ABCDEF",
            ".backup-manual",
            "backup-0123456789abcdef",
        ];
        for name in names {
            std::fs::create_dir(directory.path().join(name)).unwrap();
        }
        std::fs::write(directory.path().join(".backup-1111111111111111"), "a file").unwrap();
        let locked = directory.path().join(".backup-2222222222222222");
        let held = make_locked_directory(&locked).unwrap();
        let there = |name: &str| directory.path().join(name).exists();
        remove_abandoned(directory.path(), ".backup-", "");
        assert!(!there(names[0]));
        assert!(names[1..].iter().all(|name| there(name)));
        assert!(there(".backup-1111111111111111") && locked.exists());
        drop(held);
        remove_abandoned(directory.path(), ".backup-", "");
        assert!(!locked.exists());
    }

    #[test]
    fn a_last_step_that_fails_completes_nothing() {
        let leftovers = Leftovers::default();
        let failed: Result<(), _> = leftovers.commit(|| Err(SetupError::BackupKey));
        assert!(matches!(failed, Err(SetupError::BackupKey)));
        assert!(leftovers.abort_handle().abort());
    }
}

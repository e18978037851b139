//! What an unfinished change has written, and the moment from which on it is not undone any more.
//!
//! A sealed backup and a restoration come here. They run on one thread, while another may be told
//! to end them at once: either the change is complete then, or nothing of it is left.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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
    fn a_last_step_that_fails_completes_nothing() {
        let leftovers = Leftovers::default();
        let failed: Result<(), _> = leftovers.commit(|| Err(SetupError::BackupKey));
        assert!(matches!(failed, Err(SetupError::BackupKey)));
        assert!(leftovers.abort_handle().abort());
    }
}

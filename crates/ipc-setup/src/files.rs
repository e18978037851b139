//! Writes and removes single files of a home, one after the other.
//!
//! Every change of a home that has several steps comes here for each of them. A test can end the
//! process before and after any step, as a kill would: what is left must be completed by repeating
//! the change.

use std::path::Path;

use ipc_home::{FILE_MODE, HomeError, StagedFile, make_private_directory, sync_directory};

use zeroize::Zeroizing;

use crate::SetupError;

/// Writes a file with mode 0600, in place of any older one.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), SetupError> {
    step();
    let staged = StagedFile::write(path, bytes, FILE_MODE)?;
    commit(staged)
}

/// Writes a file as [`write`] does, unless it has this content already: whoever watches the file is
/// told of nothing.
pub(crate) fn write_if_changed(path: &Path, bytes: &[u8]) -> Result<(), SetupError> {
    match std::fs::read(path).map(Zeroizing::new) {
        Ok(present) if *present == bytes => Ok(()),
        _ => write(path, bytes),
    }
}

/// Gives a staged file its name.
pub(crate) fn commit(staged: StagedFile) -> Result<(), SetupError> {
    step();
    staged.commit()?;
    step();
    Ok(())
}

/// Makes a directory with mode 0700, unless it is there.
pub(crate) fn make_directory(path: &Path) -> Result<(), SetupError> {
    step();
    make_private_directory(path)?;
    step();
    Ok(())
}

/// Gives a file another name, in place of any older one of that name.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<(), SetupError> {
    step();
    std::fs::rename(from, to)
        .map_err(|source| HomeError::Unwritable { path: to.to_owned(), source })?;
    sync_directory(to.parent().unwrap_or(to))?;
    step();
    Ok(())
}

/// Removes a file, if it is there.
pub(crate) fn remove(path: &Path) -> Result<(), SetupError> {
    step();
    match std::fs::remove_file(path) {
        Err(source) if source.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(source) => {
            return Err(HomeError::Unwritable { path: path.to_owned(), source }.into());
        }
        Ok(()) => sync_directory(path.parent().unwrap_or(path))?,
    }
    step();
    Ok(())
}

/// A point at which a test can end the process.
#[cfg(not(test))]
pub(crate) fn step() {}

#[cfg(test)]
pub(crate) use kills::step;

/// Ends the processes of tests at each step in turn.
#[cfg(test)]
pub(crate) mod kills {
    use std::path::{Path, PathBuf};
    use std::process::{Command, Stdio};
    use std::sync::atomic::{AtomicU32, Ordering};

    const HOME: &str = "IPC_SETUP_TEST_KILLED_HOME";
    const KILL_AT: &str = "IPC_SETUP_TEST_KILL_AT";
    const KILLED: i32 = 99;

    static STEPS: AtomicU32 = AtomicU32::new(0);

    pub(crate) fn step() {
        if let Some(kill_at) = std::env::var(KILL_AT).ok().and_then(|text| text.parse::<u32>().ok())
            && STEPS.fetch_add(1, Ordering::Relaxed) == kill_at
        {
            // No destructor runs, as with a kill.
            std::process::exit(KILLED);
        }
    }

    /// The home of the test's child process; `None` where the test itself runs.
    pub(crate) fn home_of_child() -> Option<PathBuf> {
        std::env::var_os(HOME).map(PathBuf::from)
    }

    /// Runs the test `name` as a child process that ends at each of its steps in turn. `prepare`
    /// makes each child's home, `examine` looks at what a killed child left of it. Says how many
    /// were killed.
    pub(crate) fn at_each_step<D>(
        name: &str,
        prepare: impl Fn() -> (D, PathBuf),
        examine: impl Fn(&Path),
    ) -> u32 {
        for kill_at in 0.. {
            let (_directory, home) = prepare();
            let status = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", name])
                .env(HOME, &home)
                .env(KILL_AT, kill_at.to_string())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .unwrap();
            if status.success() {
                examine(&home);
                return kill_at;
            }
            assert_eq!(status.code(), Some(KILLED), "step {kill_at}");
            examine(&home);
        }
        unreachable!("a run has an end")
    }
}

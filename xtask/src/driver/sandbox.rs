//! A temporary directory for one scenario or run, with a user's home directory and a web-ipc home.
//!
//! Every task comes here to run `web-ipc` and the fixtures, always in the same clean environment,
//! and to inspect the files that they leave.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::build::Built;
use super::captured::Captured;

/// The files of one scenario or run, which are deleted when it is dropped.
pub(crate) struct Sandbox {
    folder: TempDir,
    binary: PathBuf,
    folder_of_fixtures: PathBuf,
}

impl Sandbox {
    /// Makes an empty sandbox, without a home.
    pub(crate) fn new(built: &Built) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("web-ipc-e2e-")
            .tempdir()
            .expect("a temporary directory");
        Self {
            folder,
            binary: built.folder.join("web-ipc"),
            folder_of_fixtures: built.folder.clone(),
        }
    }

    /// Makes a sandbox with a home made by `--init --run`.
    pub(crate) fn initialised(built: &Built) -> Result<Self, String> {
        let sandbox = Self::new(built);
        let finished = Captured::start(sandbox.command(&["--init", "--run"]), "")?.finish()?;
        if finished.status.success() { Ok(sandbox) } else { Err(finished.report()) }
    }

    /// The temporary directory; it is the user's home directory and the working directory.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Keeps the files, so that a person can look at them.
    pub(crate) fn keep(self) -> PathBuf {
        self.folder.keep()
    }

    /// The path in `$WEB_IPC_HOME`.
    pub(crate) fn home(&self) -> PathBuf {
        self.folder().join("home")
    }

    /// A command that runs `web-ipc` with these arguments.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.program(&self.binary);
        command.args(arguments);
        command
    }

    /// A command that runs `sh -c SCRIPT`, in which `"$@"` is `web-ipc` with these arguments.
    pub(crate) fn shell(&self, script: &str, arguments: &[&str]) -> Command {
        let mut command = self.program(Path::new("sh"));
        command.args(["-c", script, "sh"]).arg(&self.binary).args(arguments);
        command
    }

    /// A command that runs a program of `crates/ipc-fixtures`.
    #[track_caller]
    pub(crate) fn fixture(&self, name: &str) -> Command {
        let path = self.folder_of_fixtures.join(format!("fixture-{name}"));
        assert!(path.is_file(), "there is no fixture {name}: {} is missing", path.display());
        self.program(&path)
    }

    /// A command that runs any program in this sandbox.
    pub(crate) fn program(&self, path: &Path) -> Command {
        let mut command = Command::new(path);
        command
            .current_dir(self.folder())
            .env("HOME", self.folder())
            .env("WEB_IPC_HOME", self.home())
            .env("WEB_IPC_CONFIG", "/dev/null")
            // With a backtrace a panic shows the most that it can, which the checks for secrets
            // must see.
            .env("RUST_BACKTRACE", "1")
            .env_remove("RUST_LOG")
            .env_remove("XDG_DATA_HOME")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// The names in the web-ipc home, sorted.
    #[track_caller]
    pub(crate) fn home_listing(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.home())
            .expect("the home can be listed")
            .map(|entry| {
                entry.expect("an entry can be read").file_name().to_string_lossy().into_owned()
            })
            .collect();
        names.sort();
        names
    }

    /// Every file and directory of the web-ipc home, and the home itself, with its permission bits.
    pub(crate) fn home_modes(&self) -> Vec<(PathBuf, u32)> {
        let mut found = Vec::new();
        collect_modes(&self.home(), &mut found);
        found
    }
}

fn collect_modes(path: &Path, found: &mut Vec<(PathBuf, u32)>) {
    let metadata = fs::symlink_metadata(path).expect("a file that was listed is there");
    found.push((path.to_path_buf(), metadata.permissions().mode() & 0o7777));
    if metadata.is_dir() {
        for entry in fs::read_dir(path).expect("a directory of ours can be listed") {
            collect_modes(&entry.expect("an entry can be read").path(), found);
        }
    }
}

/// Sets permission bits.
pub(crate) fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .expect("the owner may change permissions");
}

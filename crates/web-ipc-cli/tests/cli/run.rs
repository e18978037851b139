//! A temporary directory in which commands run. It does not know what is expected of them.

use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{self, Stdio};
use std::sync::LazyLock;
use std::{env, fs, thread};

use tempfile::TempDir;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

use crate::case;
use crate::compare::normalize;

/// Lets the programs under test start with SIGHUP as a terminal would have it.
///
/// They inherit an ignored SIGHUP, under `nohup` for example, and `web-ipc` then goes on ignoring
/// it. A handler, unlike an ignored signal, is not inherited: with one here they start with the
/// default.
static HANGUP_IS_DEFAULT: LazyLock<()> = LazyLock::new(|| {
    let inherited = process::Command::new("sh").args(["-c", "kill -HUP $$"]).status().unwrap();
    if inherited.success() {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let _within = runtime.enter();
        // The handler stays when its listener is dropped.
        drop(signal(SignalKind::hangup()).unwrap());
    }
});

const BINARY: &str = env!("CARGO_BIN_EXE_web-ipc");
/// The names that the binary answers to.
const NAMES: [&str; 11] = [
    "web-ipc",
    "web-ipc-certs",
    "web-ipc-config",
    "web-ipc-dead",
    "web-ipc-doctor",
    "web-ipc-enrol",
    "web-ipc-init",
    "web-ipc-keys",
    "web-ipc-restore",
    "web-ipc-test",
    "web-ipc-users",
];

/// A temporary directory with the place of a home.
pub(crate) struct World {
    folder: TempDir,
    binaries: TempDir,
}

impl World {
    /// A world with a copy of another's home, or without a home.
    pub(crate) fn new(model: Option<&Self>) -> Self {
        LazyLock::force(&HANGUP_IS_DEFAULT);
        let temporary = || tempfile::Builder::new().prefix("web-ipc-case-").tempdir().unwrap();
        let world = Self { folder: temporary(), binaries: temporary() };
        for name in NAMES {
            symlink(BINARY, world.binaries.path().join(name)).unwrap();
        }
        if let Some(model) = model {
            copy(&model.home(), &world.home());
        }
        world
    }

    /// A world with a home that `--init --run` has made: slow, hence made once and copied.
    pub(crate) fn with_fresh_home() -> Self {
        let world = Self::new(None);
        let output = world.program_itself().args(["--init", "--run"]).output().unwrap();
        assert!(
            output.status.success(),
            "--init --run: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        world
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    /// Runs a command and returns it with what it really did.
    pub(crate) fn command(&self, command: &case::Command) -> case::Command {
        let words: Vec<String> = command.words().iter().map(|word| self.filled_in(word)).collect();
        let (name, arguments) = words.split_first().unwrap();
        assert!(NAMES.contains(&name.as_str()), "{name} is no name of the binary");
        let mut running = self.program(&self.binaries.path().join(name));
        running.args(arguments).stdin(if command.stdin.is_empty() {
            Stdio::null()
        } else {
            Stdio::piped()
        });
        let mut child = running.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        if let Some(mut pipe) = child.stdin.take() {
            let text: String = command.stdin.iter().map(|line| format!("{line}\n")).collect();
            // A command that ends without reading breaks the pipe.
            thread::spawn(move || pipe.write_all(text.as_bytes()));
        }
        let output = child.wait_with_output().unwrap();
        case::Command {
            out: self.lines(&output.stdout),
            err: self.lines(&output.stderr),
            status: output.status.code(),
            ..command.clone()
        }
    }

    /// Runs a shell command that must end with 0; the error is what it printed.
    pub(crate) fn shell(&self, command: &str) -> Result<(), String> {
        let output =
            self.program(Path::new("sh")).args(["-c", &self.filled_in(command)]).output().unwrap();
        let printed = || {
            String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat())
                .into_owned()
        };
        if output.status.success() {
            Ok(())
        } else {
            Err(format!("{}\n{}", output.status, printed()))
        }
    }

    /// The binary, to be run in this world.
    pub(crate) fn program_itself(&self) -> process::Command {
        self.program(Path::new(BINARY))
    }

    fn program(&self, path: &Path) -> process::Command {
        let mut command = process::Command::new(path);
        command
            .current_dir(self.folder.path())
            .env("HOME", self.folder.path())
            .env("PATH", self.path_variable())
            .env("WEB_IPC_HOME", self.home())
            .env("WEB_IPC_CONFIG", "/dev/null")
            // So that a panic would show as much as it can.
            .env("RUST_BACKTRACE", "1")
            .env_remove("RUST_LOG")
            .env_remove("COLUMNS")
            .env_remove("XDG_DATA_HOME")
            .stdin(Stdio::null());
        command
    }

    /// The binary comes first under all of its names, for shell commands.
    fn path_variable(&self) -> std::ffi::OsString {
        let others = env::var_os("PATH").unwrap_or_default();
        let places = [self.binaries.path().to_owned()].into_iter().chain(env::split_paths(&others));
        env::join_paths(places).unwrap()
    }

    fn filled_in(&self, text: &str) -> String {
        text.replace("{home}", &self.home().to_string_lossy())
            .replace("{folder}", &self.folder.path().to_string_lossy())
    }

    fn lines(&self, output: &[u8]) -> Vec<String> {
        let text = String::from_utf8_lossy(output)
            .replace(&*self.home().to_string_lossy(), "{home}")
            .replace(&*self.folder.path().to_string_lossy(), "{folder}");
        text.lines().map(normalize).collect()
    }
}

/// Copies a directory with everything in it; `fs::copy` keeps permissions.
fn copy(from: &Path, to: &Path) {
    fs::DirBuilder::new().mode(0o700).create(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

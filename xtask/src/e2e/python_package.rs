//! Runs the test suite of the Python package in `clients/python` against the built program.
//!
//! The suite starts servers of its own in temporary homes. Where Python or a module is missing, the
//! scenario is skipped and says so.

use std::time::Duration;

use super::Outcome;
use super::python_client::python_lacks;
use crate::driver::{Built, Captured, Sandbox};

/// What the package and its tests import. `websockets.proxy` came with the release that it needs.
const MODULES: [&str; 4] = ["pytest", "httpx", "websockets.proxy", "cryptography"];

/// How long the suite may take on a busy machine.
const SUITE_SECS_MAX: Duration = Duration::from_secs(1200);

/// Every test of the suite passes.
pub(super) fn suite(built: &Built) -> Outcome {
    if let Some(why) = python_lacks(&MODULES) {
        return Outcome::Skipped(why);
    }
    let sandbox = Sandbox::new(built);
    let package = built.workspace.join("clients/python");
    let mut command = sandbox.program("python3".as_ref());
    // Python may be installed below the user's real home directory.
    if let Some(home) = std::env::var_os("HOME") {
        command.env("HOME", home);
    }
    command
        .args(["-m", "pytest", "--quiet", "--basetemp"])
        .arg(sandbox.folder().join("pytest"))
        .arg(&package)
        .env("PYTHONPATH", package.join("src"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("WEB_IPC_BIN", built.folder.join("web-ipc"));
    let finished = Captured::start(command, "")
        .and_then(|running| running.finish_within(SUITE_SECS_MAX))
        .unwrap_or_else(|error| panic!("{error}"));
    assert!(finished.status.success(), "{}", finished.report());
    assert!(finished.stdout.contains(" passed"), "no test ran: {}", finished.report());
    Outcome::Passed
}

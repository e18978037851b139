//! The client in another language: what `docs/protocol.md` says is enough to write one.
//!
//! `python3 docs/examples/client.py --home DIR --server NAME --address ADDRESS OBJECT` sends one JSON object as the home's
//! default admin and ends with 0 once it is acknowledged.

use std::path::Path;
use std::process::Command;

use super::processes::receive;
use super::sandbox::Sandbox;
use super::{Built, Outcome, spawn};

/// The message arrives at a real receiver as it was sent.
pub(super) fn client(built: &Built) -> Outcome {
    if let Some(why) = python_lacks(&["requests", "cryptography"]) {
        return Outcome::Skipped(why);
    }
    let script = built.workspace.join("docs/examples/client.py");
    assert!(script.is_file(), "{} is missing", script.display());
    let sandbox = Sandbox::with_home(built);
    let (mut receiver, address) = receive(&sandbox, "127.0.0.1:0", "info");
    let mut command = sandbox.program(Path::new("python3"));
    // Python may be installed below the user's real home directory.
    if let Some(home) = std::env::var_os("HOME") {
        command.env("HOME", home);
    }
    command.arg(&script).arg("--home").arg(sandbox.home());
    command.args(["--server", "localhost", "--address", &address, "{\"from\": \"python\", \"n\": 1}"]);
    spawn::finish(command).succeeded();
    let received = receiver.wait_for_line("{");
    let message: serde_json::Value = serde_json::from_str(&format!("{{{received}"))
        .unwrap_or_else(|error| panic!("{error}: {{{received}"));
    assert_eq!(message["user"], "ipc-admin", "{message}");
    assert_eq!(message["body"], serde_json::json!({"from": "python", "n": 1}), "{message}");
    receiver.terminate();
    receiver.finish().succeeded();
    Outcome::Passed
}

/// Why `python3` cannot be used with these modules; `None` when it can.
fn python_lacks(modules: &[&str]) -> Option<String> {
    let import = Command::new("python3").args(["-c", &format!("import {}", modules.join(", "))]).output();
    match import {
        Err(error) => Some(format!("python3 does not start: {error}")),
        Ok(output) if output.status.success() => None,
        Ok(_) => Some(format!("python3 cannot import {}", modules.join(" and "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_that_nobody_has_is_missed() {
        assert!(python_lacks(&["no_such_module_anywhere"]).is_some());
    }
}

//! A scenario with a client in shell, which has nothing but `curl` and `openssl`.
//!
//! `sh docs/examples/client.sh DIR SERVER HOST:PORT OBJECT` sends one JSON object as the home's
//! default admin and exits with 0 once it is acknowledged.

use std::process::{Command, Stdio};

use serde_json::Value;

use super::Outcome;
use super::client_processes::receive;
use crate::driver::{Built, Captured, Sandbox};

/// Messages arrive at a real receiver as they were sent. What is refused ends with 1.
pub(super) fn client(built: &Built) -> Outcome {
    for needed in ["curl --version", "openssl mac -help"] {
        let mut command = Command::new("sh");
        command.args(["-c", needed]).stdout(Stdio::null()).stderr(Stdio::null());
        if !command.status().is_ok_and(|status| status.success()) {
            return Outcome::Skipped(format!("`{needed}` does not run"));
        }
    }
    let sandbox = Sandbox::with_home(built);
    let (mut receiver, address) = receive(&sandbox, "127.0.0.1:0", "info");
    let send = |server: &str, object: &str| {
        let mut command = sandbox.program("sh".as_ref());
        command.arg(built.workspace.join("docs/examples/client.sh"));
        command.arg(sandbox.home()).args([server, &address, object]);
        Captured::start(command, "")
            .and_then(Captured::finish)
            .unwrap_or_else(|error| panic!("{error}"))
    };
    send("localhost", "{\"from\": \"shell\", \"text\": \"grüße %s \\\\n\"}").succeeded();
    let received = receiver.wait_for_line("{");
    let message: Value = serde_json::from_str(&format!("{{{received}"))
        .unwrap_or_else(|error| panic!("{error}: {{{received}"));
    assert_eq!(message["user"], "ipc-admin", "{message}");
    assert_eq!(
        message["body"],
        serde_json::json!({"from": "shell", "text": "grüße %s \\n"}),
        "{message}"
    );
    send("localhost", "[1]").ended_with(1).says("not_an_object");
    send("another.example", "{}").ended_with(1).says("certificate");
    receiver.terminate();
    receiver.finish().succeeded();
    Outcome::Passed
}

//! A scenario with a client in shell, which has nothing but `curl` and `openssl`.
//!
//! `sh docs/examples/client.sh DIR SERVER HOST:PORT OBJECT` sends one JSON object as the home's
//! default admin and exits with 0 once it is acknowledged. In the home of an enrolled client server
//! and address are left out.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::client_processes::receive;
use super::enrolled::{Enrolled, port_in};
use super::{Outcome, expect};
use crate::driver::{Built, Finished, Sandbox};

/// Messages arrive at a real receiver as they were sent. What is refused ends with 1.
pub(super) fn client(built: &Built) -> Outcome {
    if let Some(why) = lacks() {
        return Outcome::Skipped(why);
    }
    let sandbox = Sandbox::with_home(built);
    let (mut receiver, address) = receive(&sandbox, "127.0.0.1:0", "info");
    let send = |server: &str, object: &str| {
        run(built, &sandbox, &sandbox.home(), &[server, &address, object])
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

/// Server, address, certificate and user are those of an enrolled client's home.
pub(super) fn enrolled(built: &Built) -> Outcome {
    if let Some(why) = lacks() {
        return Outcome::Skipped(why);
    }
    let sandbox = Sandbox::with_home(built);
    let mut server = sandbox.start(&["--serve", "--port", "0"]);
    let address = format!("127.0.0.1:{}", port_in(&server.wait_for_log("Listening on ")));
    let worker = Enrolled::new(&sandbox, "worker1", &address);
    run(built, &sandbox, &worker.home, &["{\"from\": \"shell\"}"]).succeeded();
    server.wait_for_stdout(r#""user":"worker1","peer":"worker1""#);
    run(built, &sandbox, &worker.home, &["another.example", &address, "{}"])
        .ended_with(1)
        .says("certificate");
    server.terminate();
    server.finish().succeeded();
    Outcome::Passed
}

/// Runs the client with these arguments behind the home.
#[track_caller]
fn run(built: &Built, sandbox: &Sandbox, home: &Path, arguments: &[&str]) -> Finished {
    let mut command = sandbox.program("sh".as_ref());
    command.arg(built.workspace.join("docs/examples/client.sh")).arg(home).args(arguments);
    expect::finish(command)
}

/// Why the client does not run here.
fn lacks() -> Option<String> {
    ["curl --version", "openssl mac -help"].into_iter().find_map(|needed| {
        let mut command = Command::new("sh");
        command.args(["-c", needed]).stdout(Stdio::null()).stderr(Stdio::null());
        let runs = command.status().is_ok_and(|status| status.success());
        (!runs).then(|| format!("`{needed}` does not run"))
    })
}

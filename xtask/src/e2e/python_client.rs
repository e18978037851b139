//! Scenarios with clients in Python, which show that `docs/protocol.md` is enough to write a
//! client.
//!
//! `python3 docs/examples/client.py --home DIR --server NAME --address ADDRESS OBJECT` sends one
//! JSON object as the home's default admin and exits with 0 once it is acknowledged. `channel.py`
//! beside it does so over a channel, with any number of objects, and with `--request OBJECT` also
//! prints a reply. In the home of an enrolled client they need no option.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::client_processes::receive;
use super::enrolled::{Enrolled, port_in};
use super::expect::Running;
use super::{Outcome, expect};
use crate::driver::{Built, Sandbox};

/// The modules that `channel.py` imports. Releases of `websockets` before 15, the first with
/// `proxy`, drop received messages when a channel ends.
const CHANNEL_MODULES: [&str; 2] = ["websockets.proxy", "cryptography"];

/// How many messages go over a channel whose server is restarted meanwhile.
const MANY: usize = 6000;

/// A message arrives at a real receiver as it was sent.
pub(super) fn client(built: &Built) -> Outcome {
    if let Some(why) = python_lacks(&["requests", "cryptography"]) {
        return Outcome::Skipped(why);
    }
    let sandbox = Sandbox::with_home(built);
    let (mut receiver, address) = receive(&sandbox, "127.0.0.1:0", "info");
    let mut command = example(built, &sandbox, "client.py", &address);
    command.arg("{\"from\": \"python\", \"n\": 1}");
    expect::finish(command).succeeded();
    let received = receiver.wait_for_line("{");
    let message: Value = serde_json::from_str(&format!("{{{received}"))
        .unwrap_or_else(|error| panic!("{error}: {{{received}"));
    assert_eq!(message["user"], "ipc-admin", "{message}");
    assert_eq!(message["body"], serde_json::json!({"from": "python", "n": 1}), "{message}");
    receiver.terminate();
    receiver.finish().succeeded();
    Outcome::Passed
}

/// Messages and a request go over one channel. They arrive in order, and each gets its answer, the
/// request its reply.
pub(super) fn channel(built: &Built) -> Outcome {
    if let Some(why) = python_lacks(&CHANNEL_MODULES) {
        return Outcome::Skipped(why);
    }
    let sandbox = Sandbox::with_home(built);
    let (receiver, address) = receive(&sandbox, "127.0.0.1:0", "info");
    let mut command = example(built, &sandbox, "channel.py", &address);
    command.args(["--request", "{\"n\": 3}"]).args((0..3).map(|n| format!("{{\"n\": {n}}}")));
    let answers = expect::finish(command).succeeded().stdout;
    assert_eq!(answers, "\"accepted\"\n\"accepted\"\n\"accepted\"\n{\"n\": 3}\n");
    receiver.terminate();
    let finished = receiver.finish().succeeded();
    assert_eq!(numbers(&finished.stdout), [0, 1, 2, 3]);
    let opened = finished.stderr.matches("\"GET /message/channel\" 101").count();
    assert_eq!(opened, 1, "{}", finished.stderr);
    Outcome::Passed
}

/// A stop of the server ends the channel. Entries without an answer go over another channel, once
/// and in order.
pub(super) fn channel_that_ends(built: &Built) -> Outcome {
    if let Some(why) = python_lacks(&CHANNEL_MODULES) {
        return Outcome::Skipped(why);
    }
    let sandbox = Sandbox::with_home(built);
    let (mut first, address) = receive(&sandbox, "127.0.0.1:0", "info");
    let mut command = example(built, &sandbox, "channel.py", &address);
    command.args((0..MANY).map(|n| format!("{{\"n\": {n}}}")));
    let sender = Running::start(command, "");
    first.wait_for_lines(2);
    first.terminate();
    let first = first.finish().succeeded();
    let (second, again) = receive(&sandbox, &address, "info");
    assert_eq!(again, address);
    let answers = sender.finish().succeeded().stdout;
    assert_eq!(answers, "\"accepted\"\n".repeat(MANY), "a message arrived a second time");
    second.terminate();
    let second = second.finish().succeeded();
    let arrived = [numbers(&first.stdout), numbers(&second.stdout)].concat();
    assert!(arrived.iter().copied().eq(0..MANY as u64), "{} arrived", arrived.len());
    Outcome::Passed
}

/// Both clients take server, address, certificate and user from the home of an enrolled client, and
/// seal with its keys.
pub(super) fn enrolled(built: &Built) -> Outcome {
    if let Some(why) = python_lacks(&[&["requests"], &CHANNEL_MODULES[..]].concat()) {
        return Outcome::Skipped(why);
    }
    let sandbox = Sandbox::with_home(built);
    let whoever = r#"echo "{\"user\": \"$WEB_IPC_USER\", \"peer\": \"$WEB_IPC_PEER\"}""#;
    let mut server = sandbox.start(&["--serve", "--port", "0", "--exec", whoever]);
    let address = format!("127.0.0.1:{}", port_in(&server.wait_for_log("Listening on ")));
    let worker = Enrolled::new(&sandbox, "worker1", &address);
    let example = |script: &str, arguments: &[&str]| {
        let mut command = python(&sandbox, &built.workspace.join("docs/examples").join(script));
        worker.at_home(&mut command).args(arguments);
        expect::finish(command)
    };
    let worker1 = r#"{"user": "worker1", "peer": "worker1"}"#;
    example("client.py", &["{}"]).succeeded();
    server.wait_for_stdout(&format!("{worker1}\n"));
    let answers = example("channel.py", &["--request", "{}", "{}"]).succeeded();
    assert_eq!(answers.stdout, format!("\"accepted\"\n{worker1}\n"));
    // An option counts more than the home.
    for script in ["client.py", "channel.py"] {
        let refused = example(script, &["--server", "another.example", "{}"]);
        refused.ended_with(1).says("certificate");
    }
    server.terminate();
    server.finish().succeeded();
    Outcome::Passed
}

/// A command that runs an example program, still without the objects to send.
fn example(built: &Built, sandbox: &Sandbox, script: &str, address: &str) -> Command {
    let mut command = python(sandbox, &built.workspace.join("docs/examples").join(script));
    command.arg("--home").arg(sandbox.home());
    command.args(["--server", "localhost", "--address", address]);
    command
}

/// A command that runs a script in Python.
pub(super) fn python(sandbox: &Sandbox, script: &Path) -> Command {
    assert!(script.is_file(), "{} is missing", script.display());
    let mut command = sandbox.program(Path::new("python3"));
    // Python may be installed below the user's real home directory.
    if let Some(home) = std::env::var_os("HOME") {
        command.env("HOME", home);
    }
    command.arg(script);
    command
}

/// The member `n` of each message that a receiver printed.
fn numbers(stdout: &str) -> Vec<u64> {
    let number = |line: &str| {
        let message: Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        message["body"]["n"].as_u64().unwrap_or_else(|| panic!("no number: {line}"))
    };
    stdout.lines().filter(|line| line.starts_with('{')).map(number).collect()
}

/// The reason why `python3` or these modules cannot be used, or `None` if they can.
pub(super) fn python_lacks(modules: &[&str]) -> Option<String> {
    let import =
        Command::new("python3").args(["-c", &format!("import {}", modules.join(", "))]).output();
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

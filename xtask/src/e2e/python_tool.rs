//! Runs the commands that users of the Python tool type, in the order of its manual.
//!
//! They use one home, one user and one certificate. The words and output of each command are those
//! of the Python tool.

use super::Outcome;
use crate::driver::{Built, Sandbox};

/// Runs the documented commands, one after the other.
pub(super) fn documented_commands(built: &Built) -> Outcome {
    let sandbox = Sandbox::new(built);
    sandbox.run(&["--init", "--run"]).succeeded();
    sandbox
        .run(&["--users", "--add", "--user", "test1", "--password", "pass321"])
        .succeeded()
        .says("]: Successfully created user test1\n");
    tells_the_story(&sandbox, &["--test", "--run", "--qty", "3"], "localhost");
    let listed = sandbox.run(&["--users", "--list"]).succeeded();
    assert_eq!(listed.stdout, "Username: ipc-admin\nUsername: test1\n", "{}", listed.report());
    let mut certs = vec!["--certs", "--name", "testServer1", "--altNames"];
    certs.extend(["testServer1", "testServer1.local", "localhost", "127.0.0.1"]);
    sandbox.run(&certs).succeeded().says("testServer1.crt");
    tells_the_story(&sandbox, &["-t", "-r", "-n", "testServer1", "-q", "3"], "testServer1");
    for verify in [
        ["-u", "-t", "-u", "test1", "-p", "pass321"],
        ["--users", "--test", "--user", "test1", "--pass", "pass321"],
        ["users", "--testCredentials", "--user", "test1", "--password", "pass321"],
    ] {
        let verified = sandbox.run(&verify).succeeded();
        assert_eq!(verified.stdout, "Credentials verified\n", "{}", verified.report());
    }
    let deleted = sandbox.run(&["-u", "-d", "-u", "test1"]).succeeded();
    assert_eq!(deleted.stdout, "User test1 deleted\n", "{}", deleted.report());
    let listed = sandbox.run(&["--us", "--li"]).succeeded();
    assert_eq!(listed.stdout, "Username: ipc-admin\n", "{}", listed.report());
    Outcome::Passed
}

/// Checks the log of a test run: server start, the refused first message, the login, each message,
/// the end.
#[track_caller]
fn tells_the_story(sandbox: &Sandbox, arguments: &[&str], name: &str) {
    let finished = sandbox.run(arguments).succeeded();
    let log = &finished.stderr;
    let mut at = 0;
    for part in [
        // The lines come in this order, since the server's port is known only when it is bound.
        format!(" as {name}"),
        format!("Starting Web-IPC-Test {name}:"),
        format!("Starting web server {name}:"),
        "[419] Authentication timeout, re-authenticating".to_owned(),
        "/client/auth".to_owned(),
        "Received message: {\"test\":1}".to_owned(),
        "Received message: {\"test\":2}".to_owned(),
        "Received message: {\"test\":3}".to_owned(),
    ] {
        let found = log[at..].find(&part);
        assert!(found.is_some(), "the log does not continue with {part:?}:\n{}", finished.report());
        at += found.unwrap_or_default() + part.len();
    }
    assert_eq!(log.matches("Received message:").count(), 3, "{}", finished.report());
    assert_eq!(finished.stdout.lines().count(), 1, "one line sums up:\n{}", finished.report());
    assert!(finished.stdout.starts_with("3 messages"), "{}", finished.report());
}

//! Scenarios of peers that run the unmodified Python tool.
//!
//! `python_peer.py` is such a client: it sends the tool's bytes in the tool's order. It uses an
//! environment that `python_environment.py` made, and the server uses a home that was taken over
//! from it.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::enrolled::port_in;
use super::expect::Running;
use super::python_client::python;
use super::python_environment::{lacks_python, make};
use super::{Outcome, expect};
use crate::driver::{Built, Finished, Sandbox};

/// How many messages the client sends.
const MANY: u64 = 100;

/// A server of a home that was taken over, and the client's environment.
struct Pair {
    sandbox: Sandbox,
    environment: PathBuf,
    server: Running,
    port: String,
}

impl Pair {
    fn new(built: &Built, arguments: &[&str]) -> Self {
        let sandbox = Sandbox::new(built);
        let environment = make(built, &sandbox);
        let from = environment.to_str().expect("the path is text");
        sandbox.run(&["--init", "--run", "--importFrom", from]).succeeded();
        let mut server = sandbox
            .start(&[&["--serve", "--port", "0", "--logLevel", "debug"], arguments].concat());
        let port = port_in(&server.wait_for_log("Listening on "));
        Pair { sandbox, environment, server, port }
    }

    fn peer(&self, built: &Built, command: &str, arguments: &[&str]) -> Finished {
        let script = built.workspace.join("xtask/src/e2e/python_peer.py");
        let mut python = python(&self.sandbox, &script);
        python.arg(command).arg(&self.environment).arg(&self.port).args(arguments);
        expect::finish(python)
    }

    /// Stops the server and returns the messages that it printed.
    fn messages(self) -> Vec<Value> {
        self.server.terminate();
        let finished = self.server.finish().succeeded();
        let parsed = finished.stdout.lines().map(serde_json::from_str);
        parsed.map(|line| line.unwrap_or_else(|error| panic!("{error}"))).collect()
    }
}

/// The statuses of a peer's requests.
fn statuses(finished: &Finished) -> Value {
    serde_json::from_str(&finished.stdout).unwrap_or_else(|error| panic!("{error}"))
}

/// A hundred messages of the tool's client arrive, each once and in order. A process of another
/// user with the same pair is let in as the first one's.
pub(super) fn sends(built: &Built) -> Outcome {
    if let Some(why) = lacks_python() {
        return Outcome::Skipped(why);
    }
    let pair = Pair::new(built, &["--compat", "python"]);
    let sent = pair.peer(built, "send", &[&MANY.to_string()]).succeeded();
    let expected = json!({
        "GET /is/running 200": 1,
        "POST /client/auth 200": 1,
        "POST /message/submit 200": MANY,
        "POST /message/submit 419": 1,
    });
    assert_eq!(statuses(&sent), expected, "{}", sent.report());
    // The same address and certificate: a second process is let in, whoever its user would be.
    let again = pair.peer(built, "send", &["1", "test1", "pass321"]).succeeded();
    assert_eq!(statuses(&again), json!({"POST /message/submit 200": 1}), "{}", again.report());
    // Our own client sends to the same server.
    pair.sandbox.run(&["--send", "--port", &pair.port, r#"{"n":0}"#]).succeeded();

    let messages = pair.messages();
    let numbers: Vec<_> = messages.iter().map(|message| message["body"]["n"].as_u64()).collect();
    let expected: Vec<_> = (1..=MANY).chain([1, 0]).map(Some).collect();
    assert_eq!(numbers, expected);
    let everything = json!({
        "n": 1,
        "text": "ü 😀 \n",
        "list": [1, i64::MIN, u64::MAX, 0.5, 1.0],
        "tuple": [true, null],
    });
    assert_eq!(messages[0]["body"], everything);
    for message in &messages {
        assert_eq!(
            (&message["user"], &message["peer"]),
            (&json!("ipc-admin"), &json!("localhost"))
        );
    }
    Outcome::Passed
}

/// Pickles that would run something, or that hold what JSON does not, are refused with 400, and
/// nothing runs.
pub(super) fn is_refused(built: &Built) -> Outcome {
    if let Some(why) = lacks_python() {
        return Outcome::Skipped(why);
    }
    let pair = Pair::new(built, &["--compat", "python"]);
    let file = pair.sandbox.folder().join("was-made");
    let path = file.to_str().expect("the path is text").to_owned();
    let refused = pair.peer(built, "hostile", &[&path]).succeeded();
    let expected = json!({
        "GET /is/running 200": 1,
        "POST /client/auth 200": 1,
        "POST /client/auth 400": 54,
        "POST /message/submit 400": 62,
    });
    assert_eq!(statuses(&refused), expected, "{}", refused.report());
    assert!(!file.exists(), "a pickle has run something");
    let messages = pair.messages();
    assert!(messages.is_empty(), "{messages:?}");

    // A server that was not told to refuses the tool's client before it has a session.
    let pair = Pair::new(built, &[]);
    let refused = pair.peer(built, "send", &["1"]).ended_with(1);
    refused.says("'POST /message/submit 400': 3");
    assert!(pair.messages().is_empty());
    Outcome::Passed
}

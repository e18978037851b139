//! Scenarios of a server that runs the unmodified Python tool.
//!
//! `python_server.py` is such a server: it has the tool's routes, statuses and bytes. It uses an
//! environment that `python_environment.py` made; our client uses a home that was taken over from
//! it.

use std::path::Path;

use super::Outcome;
use super::expect::Running;
use super::python_client::python;
use super::python_environment::{lacks_python, make};
use crate::driver::{Built, Finished, Sandbox};

/// How many messages go to the server.
const MANY: usize = 100;

/// A server of the Python tool, and a home that was taken over from its environment.
struct Pair {
    sandbox: Sandbox,
    server: Running,
    port: String,
}

impl Pair {
    fn new(built: &Built, name: &str) -> Self {
        let sandbox = Sandbox::new(built);
        let environment = make(built, &sandbox);
        let from = environment.to_str().expect("the path is text");
        sandbox.run(&["--init", "--run", "--importFrom", from]).succeeded();
        let (server, port) = start(built, &sandbox, &environment, name);
        Pair { sandbox, server, port }
    }

    /// `--send --compat python` with these arguments and this stdin.
    fn send(&self, arguments: &[&str], stdin: &str) -> Finished {
        let mut command = self.sandbox.command(&["--send", "--compat", "python"]);
        command.args(["--port", &self.port]).args(arguments);
        Running::start(command, stdin).finish()
    }

    /// Stops the server, and returns the messages that it printed and what it said of requests.
    fn stop(self) -> (Vec<String>, Vec<String>) {
        self.server.terminate();
        let finished = self.server.finish().succeeded();
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        let mut said = lines(&finished.stderr);
        said.retain(|line| line.starts_with("POST ") || line.starts_with("GET "));
        (lines(&finished.stdout), said)
    }
}

fn start(built: &Built, sandbox: &Sandbox, environment: &Path, name: &str) -> (Running, String) {
    let script = built.workspace.join("xtask/src/e2e/python_server.py");
    let mut command = python(sandbox, &script);
    command.arg(environment).arg(name);
    let mut server = Running::start(command, "");
    let port = server.wait_for_log("Listening on ");
    (server, port)
}

/// A hundred messages of our client arrive, each once and in order, with a login for all.
pub(super) fn takes(built: &Built) -> Outcome {
    if let Some(why) = lacks_python() {
        return Outcome::Skipped(why);
    }
    let pair = Pair::new(built, "localhost");
    let everything = r#"{"n": 0, "text": "ü 😀 \n", "list": [1, -9223372036854775808, 18446744073709551615, 0.5, 1.0, true, null]}"#;
    let lines: Vec<_> = (1..MANY).map(|n| format!("{{\"n\": {n}}}")).collect();
    let stdin = format!("{everything}\n{}\n", lines.join("\n"));
    let sent = pair.send(&[], &stdin).succeeded();
    sent.says(&format!("{MANY} sent, 0 duplicates, 0 refused"));
    // Another process has no session to find, and the server knows its address.
    pair.send(&[r#"{"n": 100}"#], "").succeeded().says("1 sent");
    let (messages, said) = pair.stop();
    let mut expected = vec![everything.to_owned()];
    expected.extend(lines);
    expected.push(r#"{"n": 100}"#.to_owned());
    assert_eq!(messages, expected);
    let mut requests = vec!["POST /message/submit 419", "POST /client/auth 200"];
    requests.extend(["POST /message/submit 200"].repeat(MANY + 1));
    assert_eq!(said, requests);
    Outcome::Passed
}

/// A wrong password, another name, another message key, no server; and what is not refused: another
/// user, and a renewed pair.
pub(super) fn refuses(built: &Built) -> Outcome {
    if let Some(why) = lacks_python() {
        return Outcome::Skipped(why);
    }
    let pair = Pair::new(built, "testServer1");
    let to_it = ["--name", "testServer1", "{}"];
    let as_user = |password| [&["--user", "test1", "--password", password], &to_it[..]].concat();
    pair.send(&as_user("wrong"), "").ended_with(77).says("user name or password of `test1`");
    pair.send(&as_user("pass321"), "").succeeded();
    pair.send(&to_it, "").succeeded();
    // New pairs of the same authority are good there too.
    pair.sandbox.run(&["--certs", "--renew"]).succeeded();
    pair.send(&to_it, "").succeeded();
    pair.send(&["--name", "other", "{}"], "").ended_with(77).says("the server `other`");
    let request = ["--request", "--compat", "python", "{}"];
    pair.sandbox.run(&request).ended_with(2).says("gives no replies");

    // A new key is one that the tool cannot follow.
    pair.sandbox.run(&["--keys", "--rotate"]).succeeded();
    let refused = pair.send(&to_it, "").ended_with(77);
    let refused = refused.says("the server of the Python tool could not read the message");
    refused.says("same envelope.keys");
    let lines = pair.send(&to_it[..2], "{\"n\":1}\n{\"n\":2}\n").ended_with(77);
    lines.says("line 1 and all after it were not sent");

    let port = pair.port.clone();
    let (messages, said) = pair.stop();
    assert_eq!(messages, ["{}"; 3]);
    assert_eq!(said.iter().filter(|line| line.ends_with(" 401")).count(), 1, "{said:?}");
    assert_eq!(said.iter().filter(|line| line.ends_with(" 500")).count(), 2, "{said:?}");

    let sandbox = Sandbox::with_home(built);
    let gone = ["--send", "--compat", "python", "--port", &port, "--timeout", "1", "{}"];
    sandbox.run(&gone).ended_with(69);
    Outcome::Passed
}

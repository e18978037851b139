//! Scenarios in which certificates, keys and users change under load, without a restart.
//!
//! Senders write numbered messages until a file `stop` is there. Whatever changes meanwhile, each
//! message arrives once and in order.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use super::Outcome;
use super::expect::{self, Running};
use crate::driver::{Built, Finished, Sandbox};

/// Writes numbered messages of the sender `LOAD_FROM` to a command, a few hundred a second.
const LOAD: &str = r#"n=0; while [ ! -e stop ]; do n=$((n+1)); echo "{\"from\":\"$LOAD_FROM\",\"n\":$n}"; sleep 0.003; done | "$@""#;

/// Every change of trust in turn, while a client of the home and an enrolled one send. Then one
/// certificate is revoked and the users of two others are disabled and deleted: each is refused
/// while the local client goes on.
pub(super) fn changes_under_load(built: &Built) -> Outcome {
    let sandbox = Sandbox::with_home(built);
    let mut server = sandbox.start(&["--serve", "--inbox", "durable", "--port", "0"]);
    let listening = server.wait_for_log("Listening on ");
    let port = port_in(&listening);
    let address = format!("127.0.0.1:{port}");
    let enrolled: Vec<_> = ["worker1", "worker2", "worker3"]
        .into_iter()
        .map(|name| Enrolled::new(&sandbox, name, &address))
        .collect();
    let first = &enrolled[0];

    let mut loads = [
        load(sandbox.shell(LOAD, &["--send", "--port", &port]), "local"),
        load(first.shell(&sandbox, LOAD, &["--send"]), "enrolled"),
    ];
    for from in ["local", "enrolled"] {
        server.wait_for_stdout(&format!(r#""body":{{"from":"{from}","n":50}}"#));
    }

    let run = |arguments: &[&str]| sandbox.run(arguments).succeeded();
    let follows = |loads: &mut [Running; 2]| {
        loads[1].wait_for_log("has changed: the client uses its new files");
    };
    // The certificate of the server.
    run(&["--certs", "--renew", "--name", "localhost"]);
    server.wait_for_log("Files of the home have changed");
    // The certificate of the enrolled client, with a key of its own.
    first.run(&sandbox, &["--certs", "--renew"]).succeeded().says("Renewed: worker1");
    follows(&mut loads);
    // Who was seen, and with which key.
    let old = key_id(&run(&["--keys", "--list"]), "envelope.keys");
    listed_soon(&sandbox, &["--keys", "--list"], "used by localhost, worker1");
    listed_soon(&sandbox, &["--certs", "--list"], "\n  seen    20");
    // The envelope key, and no old one.
    run(&["--keys", "--rotate"]);
    server.wait_for_log("2 envelope keys");
    loads[0].wait_for_log("has changed: the client uses its new files");
    for one in &enrolled {
        one.run(&sandbox, &["--certs", "--renew"]).succeeded();
    }
    follows(&mut loads);
    run(&["--keys", "--drop", &old]);
    server.wait_for_log("1 envelope key,");
    // The authority, and no old one.
    run(&["--certs", "--rotateCa"]);
    server.wait_for_log("2 authorities");
    sandbox.run(&["--certs", "--dropOldCa"]).failed_in_one_sentence().says("worker1");
    for one in &enrolled {
        one.run(&sandbox, &["--certs", "--renew"]).succeeded();
    }
    follows(&mut loads);
    run(&["--certs", "--dropOldCa"]);
    server.wait_for_log("1 authority");
    // A password, and the key of sessions.
    run(&["--users", "--add", "-u", "test1", "-p", "pass321"]);
    run(&["--users", "--change", "-u", "test1", "-p", "pass654"]);
    let old = key_id(&run(&["--keys", "--list"]), "session.key");
    run(&["--keys", "--rotate", "--session"]);
    server.wait_for_log("Files of the home have changed");
    run(&["--keys", "--drop", &old, "--session"]);
    server.wait_for_log("Files of the home have changed");

    // Each of these ends one client, and nothing else.
    run(&["--certs", "--revoke", "worker2"]);
    refused_soon(&sandbox, &enrolled[1], "revoked");
    run(&["--users", "--disable", "-u", "worker3"]);
    refused_soon(&sandbox, &enrolled[2], "worker3");
    run(&["--enrol", "--cancel", "worker1"]);
    let [local, ended] = loads;
    ended.finish().ended_with(1).says("worker1");

    fs::write(sandbox.folder().join("stop"), "").unwrap_or_else(|error| panic!("{error}"));
    local.finish().succeeded();
    sandbox.run(&["--send", r#"{"from":"end"}"#, "--port", &port]).succeeded();
    server.wait_for_stdout(r#""body":{"from":"end"}"#);
    server.terminate();
    let finished = server.finish().succeeded();
    for from in ["local", "enrolled"] {
        let numbers = numbers_of(&finished.stdout, from);
        assert!(numbers.len() > 50, "{from}: {}", numbers.len());
        let expected: Vec<_> = (1..=numbers.len() as u64).collect();
        assert_eq!(numbers, expected, "{from}: lost, twice, or out of order");
    }
    Outcome::Passed
}

/// A further server is enrolled; a client sends to both with one session. What changes in the first
/// server's home reaches the second by its renewal.
pub(super) fn a_further_server(built: &Built) -> Outcome {
    let sandbox = Sandbox::with_home(built);
    let mut first = sandbox.start(&["--serve", "--port", "0"]);
    let port = port_in(&first.wait_for_log("Listening on "));
    let address = format!("127.0.0.1:{port}");
    // Before the further server is enrolled, whose users are a copy.
    let client = Enrolled::new(&sandbox, "worker1", &address);
    let node = Enrolled::as_kind(&sandbox, "node2", &address, "server");
    let run = |arguments: &[&str]| sandbox.run(arguments).succeeded();
    run(&["--enrol", "--list"]).says("node2  accepted  server, user node2");

    let mut serve = sandbox.command(&["--serve", "--port", "0"]);
    node.at_home(&mut serve);
    let mut second = Running::start(serve, "");
    let second_port = port_in(&second.wait_for_log("Listening on "));
    let sends = |n: u32, to: &str| {
        let message = format!(r#"{{"n":{n}}}"#);
        match to {
            "first" => client.run(&sandbox, &["--send", &message]),
            _ => client
                .run(&sandbox, &["--send", &message, "--ip", "127.0.0.1", "--port", &second_port]),
        }
    };
    sends(1, "first").succeeded();
    let session = sessions_of(&client);
    sends(2, "second").succeeded();
    assert_eq!(sessions_of(&client), session, "the session of one server is good at the other");
    first.wait_for_stdout(r#""body":{"n":1}"#);
    second.wait_for_stdout(r#""body":{"n":2}"#);

    // Another envelope key, and no old one.
    let old = key_id(&run(&["--keys", "--list"]), "envelope.keys");
    run(&["--keys", "--rotate"]);
    node.run(&sandbox, &["--certs", "--renew"]).succeeded().says("Renewed: node2");
    second.wait_for_log("2 envelope keys");
    client.run(&sandbox, &["--certs", "--renew"]).succeeded();
    run(&["--keys", "--drop", &old]);
    node.run(&sandbox, &["--certs", "--renew"]).succeeded();
    second.wait_for_log("1 envelope key,");
    sends(3, "first").succeeded();
    sends(4, "second").succeeded();
    second.wait_for_stdout(r#""body":{"n":4}"#);
    // What the authority's home alone does is refused, and a client that is revoked there is
    // refused here.
    node.run(&sandbox, &["--certs", "--rotateCa"]).failed_in_one_sentence().says("first server");
    run(&["--certs", "--revoke", "worker1"]);
    node.run(&sandbox, &["--certs", "--renew"]).succeeded();
    second.wait_for_log("Files of the home have changed");
    let refused = (0..1000).map(|_| sends(5, "second")).find(|sent| !sent.status.success());
    refused.expect("a revoked client goes on").failed_in_one_sentence().says("revoked");
    // A cancelled server learns nothing more.
    run(&["--enrol", "--cancel", "node2"]);
    let refused = (0..1000)
        .map(|_| node.run(&sandbox, &["--certs", "--renew"]))
        .find(|renewed| !renewed.status.success());
    refused.expect("a cancelled server goes on").failed_in_one_sentence().says("revoked");
    for server in [first, second] {
        server.terminate();
        server.finish().succeeded();
    }
    Outcome::Passed
}

/// The sessions that a client keeps, by file.
fn sessions_of(client: &Enrolled) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = fs::read_dir(client.home.join("sessions")).unwrap_or_else(|e| panic!("{e}"));
    let mut sessions: Vec<_> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter_map(|path| fs::read(&path).ok().map(|content| (path, content)))
        .collect();
    sessions.sort();
    assert!(!sessions.is_empty(), "no session is kept");
    sessions
}

/// A client that was enrolled with a bundle, in a home of its own.
struct Enrolled {
    home: PathBuf,
}

impl Enrolled {
    fn new(sandbox: &Sandbox, name: &str, address: &str) -> Self {
        Self::as_kind(sandbox, name, address, "client")
    }

    /// A client, or a further server.
    fn as_kind(sandbox: &Sandbox, name: &str, address: &str, kind: &str) -> Self {
        let home = sandbox.folder().join(name);
        let bundle = sandbox.folder().join(format!("{name}.bundle"));
        let out = bundle.to_string_lossy().into_owned();
        let created = sandbox
            .run(&[
                "--enrol", "--create", "--kind", kind, "--name", name, "--server", address,
                "--out", &out,
            ])
            .succeeded();
        let code = created.stderr.lines().find_map(|line| line.strip_prefix("Code: "));
        let code = code.unwrap_or_else(|| panic!("no code:\n{}", created.report()));
        let enrolled = Enrolled { home };
        let mut accept = sandbox.command(&["--enrol", "--accept", &out]);
        enrolled.at_home(&mut accept).env("WEB_IPC_CODE", code);
        expect::finish(accept).succeeded().says(&format!("Made a {kind}'s home"));
        // What travelled is of no use any more: to nobody who copied it on the way.
        let mut again = sandbox.command(&["--enrol", "--accept", &out]);
        again.env("WEB_IPC_CODE", code).env("WEB_IPC_HOME", sandbox.folder().join("thief"));
        expect::finish(again).failed_in_one_sentence().says("accepted before");
        fs::remove_dir_all(sandbox.folder().join("thief"))
            .unwrap_or_else(|error| panic!("{error}"));
        enrolled
    }

    fn at_home<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        command.env("WEB_IPC_HOME", &self.home)
    }

    fn shell(&self, sandbox: &Sandbox, script: &str, arguments: &[&str]) -> Command {
        let mut command = sandbox.shell(script, arguments);
        self.at_home(&mut command);
        command
    }

    #[track_caller]
    fn run(&self, sandbox: &Sandbox, arguments: &[&str]) -> Finished {
        let mut command = sandbox.command(arguments);
        self.at_home(&mut command);
        expect::finish(command)
    }
}

/// Sends until the server refuses the client.
fn refused_soon(sandbox: &Sandbox, client: &Enrolled, says: &str) {
    for _ in 0..1000 {
        let sent = client.run(sandbox, &["--send", r#"{"from":"ended"}"#]);
        if !sent.status.success() {
            sent.failed_in_one_sentence().says(says);
            return;
        }
    }
    panic!("the client goes on");
}

/// Asks until a list shows what a server notes some seconds after it happened.
fn listed_soon(sandbox: &Sandbox, list: &[&str], part: &str) {
    for _ in 0..1000 {
        if sandbox.run(list).succeeded().stdout.contains(part) {
            return;
        }
    }
    panic!("{list:?} never shows {part:?}");
}

fn load(mut command: Command, from: &str) -> Running {
    command.env("LOAD_FROM", from);
    Running::start(command, "")
}

fn port_in(listening: &str) -> String {
    let digits = |text: &str| text.chars().take_while(char::is_ascii_digit).collect();
    let (_, behind) = listening.rsplit_once("127.0.0.1:").unwrap_or_else(|| panic!("{listening}"));
    digits(behind)
}

/// The id of the last key of a ring.
fn key_id(list: &Finished, ring: &str) -> String {
    let line = list.stdout.lines().rfind(|line| line.starts_with(ring));
    let id = line.and_then(|line| line.split_whitespace().nth(1));
    id.unwrap_or_else(|| panic!("no key of {ring}:\n{}", list.report())).to_owned()
}

fn numbers_of(lines: &str, from: &str) -> Vec<u64> {
    let message = |line: &str| serde_json::from_str::<Value>(line).ok();
    let of =
        |message: Value| (message["body"]["from"] == from).then(|| message["body"]["n"].as_u64());
    lines.lines().filter_map(message).filter_map(of).flatten().collect()
}

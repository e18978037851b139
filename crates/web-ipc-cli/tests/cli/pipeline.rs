//! `--serve`, `--send` and `--request` as a shell script uses them: real processes, pipes between them.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use crate::run::World;

/// A server that has said where it listens; killed when it is dropped.
struct Server {
    child: Child,
    port: String,
    /// Read to the end on a thread, so that the server never waits for a reader of its log.
    log: Option<std::thread::JoinHandle<String>>,
}

impl Server {
    fn start(world: &World, arguments: &[&str]) -> Server {
        let mut command = world.program_itself();
        command.args(["--serve", "--port", "0"]).args(arguments);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut text = String::new();
        let port = loop {
            assert_ne!(log.read_line(&mut text).unwrap(), 0, "{text}");
            if let Some((_, rest)) = text.split_once("Starting web server localhost:") {
                break rest.split(' ').next().unwrap().to_owned();
            }
        };
        let log = std::thread::spawn(move || {
            log.read_to_string(&mut text).unwrap();
            text
        });
        Server { child, port, log: Some(log) }
    }

    fn lines(&mut self) -> BufReader<ChildStdout> {
        BufReader::new(self.child.stdout.take().unwrap())
    }

    /// Tells it to stop, and waits for its end; its log.
    fn stop(&mut self) -> String {
        let status = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
        self.ended()
    }

    /// Waits for its end, which must be a good one; its log.
    fn ended(&mut self) -> String {
        let status = self.child.wait().unwrap();
        let log = self.log.take().unwrap().join().unwrap();
        assert_eq!(status.code(), Some(0), "{log}");
        log
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has ended already where all went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a command against the server, with `input` on its stdin.
fn client(world: &World, server: &Server, arguments: &[&str], input: &str) -> Output {
    let mut command = world.program_itself();
    command.args(arguments).args(["--port", &server.port]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    // A command that ends early does not read it all.
    let feeder = std::thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
    let output = child.wait_with_output().unwrap();
    feeder.join().unwrap();
    output
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn lines_that_go_in_come_out_in_order() {
    let world = World::with_fresh_home();
    for inbox in ["memory", "durable"] {
        let mut server = Server::start(&world, &["--inbox", inbox, "--logLevel", "info"]);
        let mut lines = server.lines();
        let input: String = (0..1000).map(|number| format!("{{\"n\": {number}}}\n")).collect();
        let sent = client(&world, &server, &["--send", "--batch", "64"], &input);
        assert!(sent.status.success(), "{}", text(&sent.stderr));
        assert!(
            text(&sent.stdout).starts_with("1000 sent, 0 duplicates, 0 refused in "),
            "{}",
            text(&sent.stdout)
        );
        for number in 0..1000 {
            let mut line = String::new();
            lines.read_line(&mut line).unwrap();
            let value: serde_json::Value = serde_json::from_str(&line).unwrap();
            assert_eq!(
                (&value["user"], &value["body"]["n"]),
                (&"ipc-admin".into(), &number.into()),
                "{line}"
            );
            assert!(
                value["at"].as_str().unwrap().ends_with('Z') && value["id"].as_str().unwrap().len() == 36
            );
            assert!(line.contains(r#""body":{"n": "#), "the body is as it was sent: {line}");
        }
        assert!(server.stop().contains("Web server stopped"));
        let mut rest = String::new();
        lines.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "");
    }
}

#[test]
fn what_nobody_read_is_kept_by_a_durable_inbox() {
    let world = World::with_fresh_home();
    let mut server = Server::start(&world, &["--inbox", "durable"]);
    drop(server.lines());
    let sent = client(&world, &server, &["--send", r#"{"n":1}"#], "");
    assert!(sent.status.success(), "{}", text(&sent.stderr));
    // It finds that nobody reads, and ends by itself.
    assert!(server.ended().contains("has gone away; what it has not read is kept"));

    let mut server = Server::start(&world, &["--inbox", "durable"]);
    let mut line = String::new();
    server.lines().read_line(&mut line).unwrap();
    assert!(line.contains(r#""body":{"n":1}"#), "{line}");
    server.stop();
}

#[test]
fn a_command_gets_the_message_and_its_output_is_the_reply() {
    let world = World::with_fresh_home();
    let mut server = Server::start(
        &world,
        &[
            "--exec",
            r#"read m; echo "{\"got\": $m, \"user\": \"$WEB_IPC_USER\", \"id\": \"$WEB_IPC_ID\"}""#,
            "--jobs",
            "2",
        ],
    );
    let reply = client(&world, &server, &["--request", r#"{"what":"time"}"#], "");
    let value: serde_json::Value = serde_json::from_slice(&reply.stdout).unwrap();
    assert_eq!(value["got"]["what"], "time", "{}", text(&reply.stderr));
    assert_eq!((&value["user"], value["id"].as_str().unwrap().len()), (&"ipc-admin".into(), 36));
    server.stop();

    let mut failing = Server::start(&world, &["--exec", "exit 3"]);
    let refused = client(&world, &failing, &["--request", "{}"], "");
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        text(&refused.stderr).contains("[ERROR]") && refused.stdout.is_empty(),
        "{}",
        text(&refused.stderr)
    );
    assert!(failing.stop().contains("ended with exit status: 3"));
}

#[test]
fn a_line_that_is_no_object_is_named_and_ends_the_run_unless_told_otherwise() {
    let world = World::with_fresh_home();
    let mut server = Server::start(&world, &[]);
    let input = "{\"n\":1}\n\nnope\n[2]\n{\"n\":3}\n";
    let ended = client(&world, &server, &["--send"], input);
    assert_eq!(ended.status.code(), Some(1));
    assert!(text(&ended.stderr).contains("line 3 is not a JSON object"), "{}", text(&ended.stderr));
    assert!(text(&ended.stdout).starts_with("1 sent, "), "{}", text(&ended.stdout));

    let went_on = client(&world, &server, &["--send", "--keep-going"], input);
    assert_eq!(went_on.status.code(), Some(1), "something was not delivered");
    let log = text(&went_on.stderr);
    assert!(
        log.contains("line 3 is not a JSON object") && log.contains("line 4 is not a JSON object"),
        "{log}"
    );
    assert!(text(&went_on.stdout).starts_with("2 sent, 0 duplicates, 0 refused, 2 bad lines in "));
    server.stop();
}

#[test]
fn a_client_needs_four_files_and_a_user_of_its_own() {
    let world = World::with_fresh_home();
    let run = |arguments: &[&str]| {
        let output = world.program_itself().args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
    };
    run(&["--users", "--add", "--user", "remote", "--password", "pass321"]);
    run(&["--certs", "--name", "remote1"]);
    let server = Server::start(&world, &[]);

    let directory = tempfile::tempdir().unwrap();
    let client_home = directory.path().join("client");
    std::fs::DirBuilder::new().create(&client_home).unwrap();
    std::fs::set_permissions(&client_home, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    for file in ["envelope.keys", "web-ipc-ca.crt", "remote1.crt", "remote1.key"] {
        std::fs::copy(world.home().join(file), client_home.join(file)).unwrap();
    }
    let as_remote = ["--user", "remote", "--password", "pass321", "--identity", "remote1", "{}"];
    let mut arguments = vec!["--home", client_home.to_str().unwrap(), "--send"];
    arguments.extend(as_remote);
    let sent = client(&world, &server, &arguments, "");
    assert!(sent.status.success(), "{}", text(&sent.stderr));
    assert!(text(&sent.stdout).starts_with("1 sent, "));
    assert!(!client_home.join("session.key").exists() && !client_home.join("admin.cred").exists());
}

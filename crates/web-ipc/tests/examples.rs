//! Runs each program of `examples/` as a reader would, with a home of its own.
#![allow(clippy::unwrap_used)]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use tempfile::TempDir;

/// A temporary directory with a new home.
fn home() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    ipc_setup::init(&directory.path().join("home"), &ipc_setup::InitOptions::now()).unwrap();
    directory
}

/// The command for an example, which `cargo test` has built.
fn example(name: &str, directory: &Path) -> Command {
    let deps = std::env::current_exe().unwrap();
    let path: PathBuf = deps.parent().unwrap().parent().unwrap().join("examples").join(name);
    assert!(path.is_file(), "{} is missing: run `cargo test -p web-ipc`", path.display());
    let mut command = Command::new(path);
    command.env("WEB_IPC_HOME", directory.join("home")).stdin(Stdio::null());
    command
}

/// Runs an example to its end, which must be successful, and returns what it prints.
fn output(name: &str, arguments: &[&str], directory: &Path) -> String {
    let output = example(name, directory).args(arguments).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {}\n{stderr}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// An example that runs until it is killed.
struct Running {
    child: Child,
    stdout: BufReader<ChildStdout>,
    address: String,
}

impl Running {
    fn start(name: &str, arguments: &[&str], directory: &Path) -> Self {
        let mut command = example(name, directory);
        let mut child = command.args(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let line = line(&mut stdout);
        let address = line.strip_prefix("listening on ").unwrap().to_owned();
        Running { child, stdout, address }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

fn line(stdout: &mut BufReader<ChildStdout>) -> String {
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}

#[test]
fn receive_prints_what_send_sends() {
    let directory = home();
    let mut receiving = Running::start("receive", &["127.0.0.1:0"], directory.path());
    let said = output("send", &[&receiving.address], directory.path());
    assert!(said.starts_with("the server has message "), "{said}");
    let line = line(&mut receiving.stdout);
    assert_eq!(line, r#"{"job":"nightly","ok":true} from ipc-admin"#);
}

#[test]
fn a_request_has_its_reply() {
    let directory = home();
    let said = output("request_reply", &[], directory.path());
    assert_eq!(said, "the reply is \"noon\"\n");
}

#[test]
fn ten_clients_send_to_one_server() {
    let directory = home();
    let said = output("fan_in", &[], directory.path());
    let mut lines: Vec<_> = said.lines().map(str::to_owned).collect();
    lines.sort();
    let mut expected: Vec<_> = (1..=10).map(|n| format!(r#"{{"client":{n}}}"#)).collect();
    expected.sort();
    assert_eq!(lines, expected);
}

#[test]
fn readings_are_collected_many_at_a_time() {
    let directory = home();
    let said = output("metrics_collector", &[], directory.path());
    let mut lines: Vec<_> = said.lines().collect();
    // The last answer to the sensor may come after the last reading.
    lines.sort_unstable();
    let collected = "10000 readings, 19.5 °C on average";
    assert_eq!(lines, ["10000 readings sent, 0 refused", collected]);
}

#[test]
fn two_services_in_one_process_have_inboxes_of_their_own() {
    let directory = home();
    let said = output("two_services", &[], directory.path());
    let expected =
        "clock: {\"time\":\"noon\"}\nlog: {\"level\":\"info\",\"text\":\"it is noon\"}\n";
    assert_eq!(said, expected);
}

#[test]
fn each_job_goes_to_one_worker() {
    let directory = home();
    let said = output("worker_pool", &[], directory.path());
    let mut jobs: Vec<_> = said.lines().map(|line| line.split_once(": ").unwrap().1).collect();
    jobs.sort_unstable();
    let mut expected: Vec<_> = (1..=20).map(|n| format!(r#"{{"job":{n}}}"#)).collect();
    expected.sort();
    assert_eq!(jobs, expected);
}

#[test]
fn a_rejected_message_is_a_dead_letter_with_its_reason() {
    let directory = home();
    let said = output("dead_letters", &[], directory.path());
    assert_eq!(said, "{\"celsius\":\"warm\"}: `celsius` is no number\n");
    // The first run has discarded its dead letter, so this one lists a single one too.
    assert_eq!(output("dead_letters", &[], directory.path()), said);
}

#[test]
fn an_actix_handler_passes_messages_on() {
    let directory = home();
    let mut receiving = Running::start("receive", &["127.0.0.1:0"], directory.path());
    let handling = Running::start("actix_handler", &[&receiving.address], directory.path());
    let mut stream = TcpStream::connect(&handling.address).unwrap();
    let body = r#"{"n":1}"#;
    write!(
        stream,
        "POST /jobs HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 202 "), "{answer}");
    assert_eq!(line(&mut receiving.stdout), r#"{"n":1} from ipc-admin"#);
}

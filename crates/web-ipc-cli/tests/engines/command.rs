//! Runs the command, of which nothing may show a password.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;

/// A part of each password that no output may have.
pub(crate) const PASSWORD: &str = "pass-x";

pub(crate) fn command(home: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_web-ipc"));
    command.arg("--home").arg(home).args(arguments).env_remove("RUST_LOG");
    command
}

/// Runs a command to its end. Returns what it said.
pub(crate) fn run(home: &Path, arguments: &[&str], status: i32) -> String {
    let Output { status: ended, stdout, stderr } = command(home, arguments).output().unwrap();
    let said = String::from_utf8(stdout).unwrap() + &String::from_utf8(stderr).unwrap();
    assert_eq!(ended.code(), Some(status), "{arguments:?}: {said}");
    assert!(!said.contains(PASSWORD), "{said}");
    said
}

/// Runs a command that must fail because of a server. Returns what it said.
pub(crate) fn fails(home: &Path, arguments: &[&str]) -> String {
    let Output { status, stdout, stderr } = command(home, arguments).output().unwrap();
    let said = String::from_utf8(stdout).unwrap() + &String::from_utf8(stderr).unwrap();
    assert!(is_failure(status.code()), "{status} {arguments:?}: {said}");
    assert!(!said.contains(PASSWORD), "{said}");
    said
}

/// Whether a status is that of a failure, a server that is not reached, or one that refuses.
fn is_failure(status: Option<i32>) -> bool {
    matches!(status, Some(1 | 69 | 77))
}

/// A new home in a directory that is removed with it.
pub(crate) fn home() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    run(&home, &["--init", "--run"], 0);
    (folder, home)
}

/// A running command that is killed when the test ends.
pub(crate) struct Running(pub(crate) Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _status = self.0.wait();
    }
}

/// Starts a server. Returns it with its port, or what it said before it failed.
pub(crate) fn serve(home: &Path, arguments: &[&str]) -> Result<(Running, String), String> {
    let mut command = command(home, &["--serve", "--port", "0"]);
    let child = command.args(arguments).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let mut running = Running(child.unwrap());
    let mut log = BufReader::new(running.0.stderr.take().unwrap());
    let (mut said, mut begun) = (String::new(), 0);
    while log.read_line(&mut said).unwrap() > 0 {
        if let Some((_, address)) = said[begun..].split_once("Listening on https://127.0.0.1:") {
            let port = address.split(' ').next().unwrap().to_owned();
            // Nobody else reads it, and it must not fill up.
            thread::spawn(move || log.read_to_end(&mut Vec::new()));
            return Ok((running, port));
        }
        begun = said.len();
    }
    assert!(is_failure(running.0.wait().unwrap().code()), "{said}");
    assert!(!said.contains(PASSWORD), "{said}");
    Err(said)
}

/// The one sentence of a log: its only line, without `error:`, or time, level and place. A warning
/// of the age of nats-server may come before it.
#[track_caller]
pub(crate) fn sentence(log: &str) -> &str {
    let is_other = |line: &&str| line.contains("][INFO][") || line.contains("of nats-server ");
    let mut told = log.lines().filter(|line| !is_other(line));
    let line = told.next().unwrap_or_else(|| panic!("nothing is told: {log:?}"));
    assert_eq!(told.next(), None, "more than one sentence: {log}");
    if let Some(sentence) = line.strip_prefix("error: ") {
        return sentence;
    }
    let (head, sentence) = line.split_once("]: ").unwrap();
    assert!(head.contains("][ERROR]["), "{line}");
    sentence
}

/// A port at which nobody listens.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A server that sends `greeting` to everybody, answers `PING`, and ends with the test's process.
/// Returns its port.
pub(crate) fn fake(greeting: &'static str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let talk = move |stream: TcpStream| -> std::io::Result<()> {
        use std::io::Write as _;
        let mut writer = stream.try_clone()?;
        writer.write_all(greeting.as_bytes())?;
        for line in BufReader::new(stream).lines() {
            if line? == "PING" {
                writer.write_all(b"PONG\r\n")?;
            }
        }
        Ok(())
    };
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // What becomes of a connection is the client's business.
            thread::spawn(move || talk(stream));
        }
    });
    port
}

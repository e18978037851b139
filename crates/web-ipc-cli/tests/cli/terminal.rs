//! The output of the binary on a terminal.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::os::unix::ffi::OsStrExt as _;
use std::process::Stdio;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::run::World;
use crate::server::{Server, client, text};

/// A pseudo-terminal: the side of the person, and the side of the program.
fn terminal() -> (BufReader<File>, File) {
    let looking = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&looking).unwrap();
    unlockpt(&looking).unwrap();
    let name = ptsname(&looking, Vec::new()).unwrap();
    let path = std::ffi::OsStr::from_bytes(name.to_bytes());
    let writing = File::options().read(true).write(true).open(path).unwrap();
    (BufReader::new(File::from(looking)), writing)
}

/// A text with characters that a terminal obeys, or does not show.
const RAW: &str = "\u{9b}31m\u{7f}\u{202e}";
const ESCAPED: &str = r"\u009b31m\u007f\u202e";

#[test]
fn a_message_is_escaped_on_a_terminal_and_as_it_was_sent_in_a_pipe() {
    let world = World::with_fresh_home();
    let message = format!("{{\"a\":\"{RAW}é\"}}");
    let (mut screen, stdout) = terminal();
    let mut command = world.program_itself();
    command.stdout(stdout);
    let mut server = Server::start_with_stdout(command, &[]);
    let sent = client(&world, &server, &["--send", &message], "");
    assert!(sent.status.success(), "{}", text(&sent.stderr));
    let mut line = String::new();
    screen.read_line(&mut line).unwrap();
    assert!(line.contains(&format!("\"body\":{{\"a\":\"{ESCAPED}é\"}}")), "{line:?}");
    server.stop();

    let mut server = Server::start(&world, &[]);
    let mut lines = server.lines();
    client(&world, &server, &["--send", &message], "");
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    assert!(line.contains(&format!("\"body\":{message}")), "{line:?}");
    server.stop();
}

#[test]
fn a_reply_is_escaped_on_a_terminal_and_as_it_was_given_in_a_pipe() {
    let world = World::with_fresh_home();
    let server = Server::start(&world, &["--exec", "cat"]);
    let message = format!("{{\"a\":\"{RAW}\"}}");
    let (mut screen, stdout) = terminal();
    let mut request = world.program_itself();
    request
        .args(["--request", "--port", &server.port, &message])
        .stdout(stdout)
        .stderr(Stdio::null());
    assert!(request.status().unwrap().success());
    let mut line = String::new();
    screen.read_line(&mut line).unwrap();
    assert_eq!(line.trim_end(), format!("{{\"a\":\"{ESCAPED}\"}}"));
    let reply = client(&world, &server, &["--request", &message], "");
    assert_eq!(text(&reply.stdout).trim_end(), message);
}

#[test]
fn on_a_terminal_nothing_is_waited_for_unless_it_was_asked_for() {
    let world = World::with_fresh_home();
    for (command, told) in [
        (
            "--send",
            "there is nothing to send; give a JSON object as an argument, or lines of JSON on stdin",
        ),
        (
            "--request",
            "there is nothing to send; give a JSON object as an argument, or one on stdin",
        ),
    ] {
        let (_screen, stdin) = terminal();
        let output = world.program_itself().arg(command).stdin(stdin).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output.stderr).contains(told), "{}", text(&output.stderr));
    }
}

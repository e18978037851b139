//! `--inbox --list`, and `--follow` of it and of `--dead --list`, beside a running server.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdout, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::run::World;
use crate::server::{Server, numbered, send, text};

/// What a command prints that follows an inbox. It is killed when the test ends.
struct Following {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Following {
    fn start(world: &World, command: &str) -> Self {
        let mut child = world
            .program_itself()
            .args([command, "--list", "--follow"])
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Following { child, lines }
    }

    /// The number in the body of the next line.
    fn next(&mut self) -> u64 {
        let mut line = String::new();
        assert_ne!(self.lines.read_line(&mut line).unwrap(), 0, "it has ended");
        number(&line)
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The number in the body of a line.
fn number(line: &str) -> u64 {
    let value: serde_json::Value = serde_json::from_str(line).unwrap();
    assert_eq!((&value["user"], &value["peer"]), (&"ipc-admin".into(), &"localhost".into()));
    assert!(value["at"].as_str().unwrap().ends_with('Z'), "{line}");
    value["body"]["n"].as_u64().unwrap()
}

/// The numbers in the bodies of the messages that are listed.
fn listed(world: &World) -> Vec<u64> {
    let output = world.program_itself().args(["--inbox", "--list"]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(!text(&output.stdout).contains("reason"), "{}", text(&output.stdout));
    text(&output.stdout).lines().map(number).collect()
}

/// A server that keeps its messages, since each of them is to be tried again.
const KEEPS: [&str; 4] = ["--inbox", "durable", "--exec", "exit 75"];

#[test]
fn messages_are_listed_beside_the_server_that_has_them_and_without_it() {
    let world = World::with_fresh_home();
    let missing = world.program_itself().args(["--inbox", "--list"]).output().unwrap();
    assert_eq!(missing.status.code(), Some(1));
    let told = text(&missing.stderr);
    assert!(told.contains("there is no durable inbox in this home yet"), "{told}");

    let mut server = Server::start(&world, &KEEPS);
    assert!(listed(&world).is_empty());
    send(&world, &server, &numbered(100));
    assert_eq!(listed(&world), (1..=100).collect::<Vec<_>>());
    server.stop();
    assert_eq!(listed(&world), (1..=100).collect::<Vec<_>>());
}

#[test]
fn new_messages_are_shown_as_they_come_also_those_of_a_server_that_starts_later() {
    let world = World::with_fresh_home();
    let mut server = Server::start(&world, &KEEPS);
    send(&world, &server, &numbered(2));
    server.stop();
    let mut following = Following::start(&world, "--inbox");
    assert_eq!([following.next(), following.next()], [1, 2]);
    for number in [3, 4] {
        let mut server = Server::start(&world, &KEEPS);
        send(&world, &server, &format!("{{\"n\":{number}}}\n"));
        assert_eq!(following.next(), number);
        server.stop();
    }
    // A server of an inbox that is empty counts from the beginning.
    let mut server =
        Server::start(&world, &["--inbox", "durable", "--exec", "true", "--count", "4"]);
    server.ended();
    let mut server = Server::start(&world, &KEEPS);
    send(&world, &server, "{\"n\":5}\n");
    assert_eq!(following.next(), 5);
    server.stop();
}

#[test]
fn messages_that_have_the_numbers_of_others_are_shown_though_nobody_looked_meanwhile() {
    let world = World::with_fresh_home();
    let mut server = Server::start(&world, &KEEPS);
    send(&world, &server, &numbered(4));
    let mut following = Following::start(&world, "--inbox");
    for number in 1..=4 {
        assert_eq!(following.next(), number);
    }
    server.stop();
    let follower = Pid::from_child(&following.child);
    kill_process(follower, Signal::STOP).unwrap();
    let mut server =
        Server::start(&world, &["--inbox", "durable", "--exec", "true", "--count", "4"]);
    server.ended();
    // A server of an inbox that is empty counts from the beginning, and beyond the last one.
    let mut server = Server::start(&world, &KEEPS);
    let lines: String = (5..=10).map(|number| format!("{{\"n\":{number}}}\n")).collect();
    send(&world, &server, &lines);
    kill_process(follower, Signal::CONT).unwrap();
    for number in 5..=10 {
        assert_eq!(following.next(), number);
    }
    server.stop();
}

#[test]
fn new_dead_letters_are_shown_as_they_come() {
    let world = World::with_fresh_home();
    let mut server =
        Server::start(&world, &["--inbox", "durable", "--tries", "1", "--exec", "exit 3"]);
    send(&world, &server, "{\"n\":1}\n");
    server.wait_for_log_times("it is a dead letter now", 1);
    let mut following = Following::start(&world, "--dead");
    for number in 1..=3 {
        assert_eq!(following.next(), number);
        send(&world, &server, &format!("{{\"n\":{}}}\n", number + 1));
    }
    server.stop();
}

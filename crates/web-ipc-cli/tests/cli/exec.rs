//! What `--serve --exec` does with a message, by the exit status of its command.

use std::fs;

use serde_json::Value;

use crate::run::World;
use crate::server::{Server, client, text};

/// A command that exits 75 the first time, and writes the message to a file the second time.
const FAILS_ONCE: &str = r#"
    if [ -e "$WEB_IPC_HOME/tried" ]; then
        printf %s "${WEB_IPC_REDELIVERED-none}" > "$WEB_IPC_HOME/redelivered"
        cat > "$WEB_IPC_HOME/kept"
    else
        printf %s "${WEB_IPC_REDELIVERED-none}" > "$WEB_IPC_HOME/tried"; exit 75
    fi"#;

/// The dead letters.
fn dead(world: &World) -> Vec<Value> {
    let output = world.program_itself().args(["--dead", "--list"]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn send(world: &World, server: &Server) {
    let sent = client(world, server, &["--send", r#"{"n":1}"#], "");
    assert!(sent.status.success(), "{}", text(&sent.stderr));
}

/// The message that the command has written to the file.
fn kept(world: &World) -> String {
    fs::read_to_string(world.home().join("kept")).unwrap()
}

#[test]
fn status_75_puts_a_message_back_into_memory_from_where_it_comes_at_once_when_the_server_stops() {
    let world = World::with_fresh_home();
    let mut server = Server::start(&world, &["--exec", FAILS_ONCE]);
    send(&world, &server);
    server.wait_for_log("ended with status 75, to be tried again; it is delivered again in 10 s");
    let log = server.stop();
    assert!(log.contains("1 message acknowledged and in memory is given to the command"), "{log}");
    assert_eq!(kept(&world), "{\"n\":1}\n");
}

#[test]
fn status_75_puts_a_message_back_into_a_durable_inbox_and_the_next_server_has_it_at_once() {
    let world = World::with_fresh_home();
    let options = ["--inbox", "durable", "--exec", FAILS_ONCE];
    let mut server = Server::start(&world, &options);
    send(&world, &server);
    server.wait_for_log("ended with status 75, to be tried again; it is delivered again in 10 s");
    server.stop();
    let mut server = Server::start(&world, &options);
    while !world.home().join("kept").exists() {
        std::thread::yield_now();
    }
    server.stop();
    assert_eq!(kept(&world), "{\"n\":1}\n");
    let marks = ["tried", "redelivered"].map(|file| fs::read_to_string(world.home().join(file)));
    assert_eq!(marks.map(Result::unwrap), ["none", "1"]);
    assert!(dead(&world).is_empty());
}

#[test]
fn status_75_at_the_last_try_makes_a_dead_letter_and_tells_the_sender_of_a_request() {
    let world = World::with_fresh_home();
    let options = ["--inbox", "durable", "--tries", "1", "--exec", "exit 75"];
    let mut server = Server::start(&world, &options);
    let refused = client(&world, &server, &["--request", "{}"], "");
    assert_eq!(refused.status.code(), Some(1));
    let error = text(&refused.stderr);
    assert!(error.contains("the application gave no reply"), "{error}");
    server.wait_for_log("; that was the last of 1 try: it is a dead letter now");
    let [letter] = dead(&world).try_into().unwrap();
    assert_eq!(
        letter["reason"],
        "`exit 75` ended with status 75, to be tried again; that was the last of 1 try"
    );
    server.stop();
}

#[test]
fn another_status_at_the_last_try_makes_a_dead_letter_with_that_status() {
    let world = World::with_fresh_home();
    for (command, error) in [("exit 3", "exit status: 3"), ("kill -KILL $$", "signal: 9 (SIGKILL)")]
    {
        let world = World::new(Some(&world));
        let options = ["--inbox", "durable", "--tries", "1", "--exec", command];
        let mut server = Server::start(&world, &options);
        send(&world, &server);
        let ended = format!("ended with {error}; that was the last of 1 try");
        server.wait_for_log(&format!("{ended}: it is a dead letter now"));
        let [letter] = dead(&world).try_into().unwrap();
        assert_eq!(letter["reason"], format!("`{command}` {ended}"));
        server.stop();
    }
}

#[test]
fn status_65_makes_a_dead_letter_at_once_with_its_reason() {
    let world = World::with_fresh_home();
    let mut server = Server::start(&world, &["--inbox", "durable", "--exec", "exit 65"]);
    send(&world, &server);
    server.wait_for_log("ended with status 65, bad data: it is a dead letter now");
    let [letter] = dead(&world).try_into().unwrap();
    assert_eq!((letter["deliveries"].as_u64(), &letter["body"]["n"]), (Some(1), &1.into()));
    assert_eq!(letter["reason"], "`exit 65` ended with status 65");

    let refused = client(&world, &server, &["--request", "{}"], "");
    assert_eq!(refused.status.code(), Some(1));
    let error = text(&refused.stderr);
    assert!(error.contains("the application gave no reply"), "{error}");
    assert_eq!(dead(&world).len(), 2);
    server.stop();

    let output = world.program_itself().args(["--dead", "--putBack", "all"]).output().unwrap();
    assert_eq!(text(&output.stdout), "2 dead letters put back\n");
    assert!(dead(&world).is_empty());
}

#[test]
fn status_65_of_a_message_in_memory_is_said_to_lose_it() {
    let world = World::with_fresh_home();
    let mut server = Server::start(&world, &["--exec", "exit 65"]);
    send(&world, &server);
    server.wait_for_log(
        "ended with status 65, bad data: it is lost; --inbox durable would have kept it as a dead letter",
    );
    server.stop();
}

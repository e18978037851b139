//! The ends of `--serve`: a signal, a second one, the time for a stop, a reader that goes away.

use std::fs;
use std::io::{BufRead as _, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::run::World;
use crate::server::{Server, client, numbered, send, text};

/// A command that logs when it has begun, waits for a file `go`, and appends its message to `done`.
const WAITS_FOR_GO: &str =
    "echo has begun >&2; while ! [ -e go ]; do sleep 0.05; done; cat >> done";

/// A command that logs when it has begun, and never ends by itself.
const NEVER_ENDS: &str = "echo has begun >&2; sleep 3600";

#[test]
fn a_terminals_ctrl_c_leaves_the_commands_alone_and_what_is_in_memory_is_run() {
    let world = World::with_fresh_home();
    for (signal, status) in [("-INT", 0), ("-TERM", 0)] {
        let world = World::new(Some(&world));
        let mut command = world.program_itself();
        command.process_group(0);
        let mut server = Server::start_as(command, &["--exec", WAITS_FOR_GO]);
        send(&world, &server, &numbered(3));
        server.wait_for_log("has begun");
        server.signal_group(signal);
        server.wait_for_log(
            "stopping: 3 messages acknowledged and in memory are given to the command first, for 60 s at most",
        );
        let refused = client(&world, &server, &["--send", "--timeout", "1", "{}"], "");
        // It refuses the message, or it does not listen any more. Then the server of another test
        // may have its port, whose certificate this home does not know.
        let refusal = refused.status.code();
        let said = text(&refused.stderr);
        assert!(matches!(refusal, Some(75 | 69 | 77)), "it takes no further message: {said}");
        fs::write(world.folder().join("go"), "").unwrap();
        server.ended_with(status);
        assert_eq!(fs::read_to_string(world.folder().join("done")).unwrap(), numbered(3));
    }
}

#[test]
fn requests_in_hand_are_answered_and_messages_behind_them_are_run() {
    let world = World::with_fresh_home();
    let command = format!("{WAITS_FOR_GO}; echo '{{\"done\":1}}'");
    let mut server = Server::start(&world, &["--exec", &command, "--jobs", "2"]);
    let port = server.port.clone();
    thread::scope(|scope| {
        let ask = || {
            let arguments = ["--request", "--port", &port, "{\"ask\":1}"];
            world.program_itself().args(arguments).output().unwrap()
        };
        let asking = [scope.spawn(ask), scope.spawn(ask)];
        server.wait_for_log_times("has begun", 2);
        send(&world, &server, "{\"n\":1}\n");
        server.signal("-TERM");
        server.wait_for_log("stopping: 3 messages");
        fs::write(world.folder().join("go"), "").unwrap();
        for asking in asking {
            let reply = asking.join().unwrap();
            assert_eq!(text(&reply.stdout), "{\"done\":1}\n", "{}", text(&reply.stderr));
        }
    });
    server.ended();
    let done = fs::read_to_string(world.folder().join("done")).unwrap();
    assert_eq!(done.matches("ask").count(), 2, "{done}");
    assert!(done.contains("{\"n\":1}\n"), "{done}");
}

#[test]
fn a_second_signal_ends_the_commands_at_once_and_what_is_lost_is_counted() {
    let world = World::with_fresh_home();
    for (second, status) in [("-INT", 130), ("-TERM", 143)] {
        let mut server = Server::start(&world, &["--exec", NEVER_ENDS]);
        send(&world, &server, &numbered(3));
        server.wait_for_log("has begun");
        server.signal("-TERM");
        server.wait_for_log("stopping: 3 messages");
        server.signal(second);
        // This also waits for the end of the command, which holds the server's stderr.
        let log = server.ended_with(status);
        let told = "ended by a second signal; 1 command ended with it; 3 messages are lost; --inbox durable keeps them";
        assert!(log.contains(told), "{log}");
    }
}

#[test]
fn a_second_signal_at_a_durable_inbox_loses_nothing() {
    let world = World::with_fresh_home();
    let mut server =
        Server::start(&world, &["--inbox", "durable", "--exec", NEVER_ENDS, "--jobs", "2"]);
    send(&world, &server, &numbered(3));
    server.wait_for_log_times("has begun", 2);
    server.signal("-TERM");
    server.wait_for_log("stopping: 2 messages in hand are given to the command first");
    server.signal("-TERM");
    let log = server.ended_with(143);
    let told = "ended by a second signal; 2 commands ended with it; 2 messages in hand: all but those on their last try are delivered again";
    assert!(log.contains(told), "{log}");

    let mut server = Server::start(&world, &["--inbox", "durable"]);
    let mut lines = server.lines();
    for number in 1..=3 {
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        assert!(line.contains(&format!("\"body\":{{\"n\":{number}}}")), "{line}");
    }
    server.stop();
}

#[test]
fn a_server_that_a_failed_test_drops_ends_with_its_commands() {
    let world = World::with_fresh_home();
    let mut server =
        Server::start(&world, &["--exec", "echo has begun as $$. >&2; exec sleep 3600"]);
    send(&world, &server, &numbered(2));
    server.wait_for_log("has begun as ");
    let (_, rest) = server.log_so_far.split_once("has begun as ").unwrap();
    let group = format!("-{}", rest.split_once('.').unwrap().0);
    let is_there = || {
        let sent = Command::new("kill").args(["-0", "--", &group]).output().unwrap();
        sent.status.success()
    };
    assert!(is_there());
    drop(server);
    assert!(!is_there());
}

#[test]
fn a_stop_takes_no_longer_than_it_may() {
    let world = World::with_fresh_home();
    let mut server = Server::start(&world, &["--exec", NEVER_ENDS, "--stopWithin", "1"]);
    send(&world, &server, &numbered(3));
    server.wait_for_log("has begun");
    server.signal("-TERM");
    let log = server.ended_with(1);
    let told = "ended after 1 s (--stopWithin); 1 command ended with it; 3 messages are lost";
    assert!(log.contains(told), "{log}");

    // Nobody reads the lines.
    let mut server = Server::start(&world, &["--stopWithin", "1"]);
    let unread = server.lines();
    send(&world, &server, &numbered(1000));
    server.signal("-TERM");
    let log = server.ended_with(1);
    assert!(log.contains("ended after 1 s (--stopWithin); ") && log.contains(" are lost"), "{log}");
    drop(unread);
}

/// What a load balancer's check gets, head and body.
fn is_running(server: &Server) -> String {
    let mut stream = TcpStream::connect(format!("127.0.0.1:{}", server.port)).unwrap();
    stream.write_all(b"GET /is/running HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_server_that_drains_says_503_and_works_on_until_another_signal() {
    let world = World::with_fresh_home();
    let options = ["--protocol", "http", "--drain", "3600"];
    for mode in [&[][..], &["--exec", "cat >> done"], &["--inbox", "durable"]] {
        let mut server = Server::start(&world, &[&options[..], mode].concat());
        let answer = is_running(&server);
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");

        server.signal("-TERM");
        server.wait_for_log("stopping in 3600 s (--drain); another signal begins the stop at once");
        let answer = is_running(&server);
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        assert!(answer.contains("\"code\":\"shutting_down\""), "{answer}");
        let sent = client(&world, &server, &["--send", "--protocol", "http", "{\"n\":1}"], "");
        assert!(sent.status.success(), "{}", text(&sent.stderr));

        server.signal("-TERM");
        let log = server.ended();
        let drained = log.find("Draining web server").unwrap();
        assert!(log.find("Shutting down web server").unwrap() > drained, "{log}");
        assert_eq!(log.matches("stopping in ").count(), 1, "{log}");
    }
    assert_eq!(fs::read_to_string(world.folder().join("done")).unwrap(), "{\"n\":1}\n");
}

#[test]
fn when_it_has_drained_a_server_stops_by_itself() {
    let world = World::with_fresh_home();
    let mut server = Server::start(&world, &["--drain", "1"]);
    let log = server.stop();
    assert!(log.contains("stopping in 1 s (--drain)") && log.contains("Shutting down"), "{log}");
}

#[test]
fn a_hangup_that_was_ignored_at_the_start_stays_ignored() {
    let world = World::with_fresh_home();
    let program = world.program_itself();
    let mut shell = Command::new("sh");
    shell.args(["-c", "trap '' HUP; exec \"$0\" \"$@\""]).arg(program.get_program());
    shell.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut server = Server::start_as(shell, &[]);
    server.signal("-HUP");
    let mut lines = server.lines();
    send(&world, &server, "{\"n\":1}\n");
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    assert!(line.contains("\"body\":{\"n\":1}"), "{line}");
    let log = server.stop();
    assert_eq!(log.matches("Shutting down").count(), 1, "{log}");
}

#[test]
fn a_reader_that_goes_away_costs_a_word_and_a_status() {
    let world = World::with_fresh_home();
    let mut server = Server::start(&world, &[]);
    let mut lines = server.lines();
    send(&world, &server, "{\"n\":1}\n");
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    drop(lines);
    send(&world, &server, "{\"n\":2}\n");
    let log = server.ended_with(1);
    let told =
        "the reader of the messages has gone away; 1 message is lost; --inbox durable keeps them";
    assert!(log.contains(told), "{log}");
}

#[test]
fn a_command_has_ended_when_its_process_has_whatever_it_leaves_behind() {
    let world = World::with_fresh_home();
    // The process in the background holds stdin and stdout of the command, but not the log.
    let command = "(exec sleep 3600) 2>/dev/null & echo \"{\\\"left\\\":$!}\"";
    let mut server = Server::start(&world, &["--exec", command]);
    for _ in 0..2 {
        // Twice, to see that another command can run afterwards.
        let long = format!("{{\"long\":\"{}\"}}", "x".repeat(100_000));
        let reply = client(&world, &server, &["--request", &long], "");
        let value: serde_json::Value = serde_json::from_slice(&reply.stdout).unwrap_or_default();
        let left = value["left"].as_u64().unwrap_or_else(|| panic!("{}", text(&reply.stderr)));
        crate::server::tell("-KILL", &left.to_string());
    }
    server.stop();
}

#[test]
fn a_service_manager_hears_that_a_server_listens_is_alive_and_stops_and_its_commands_know_none() {
    let world = World::with_fresh_home();
    let path = world.folder().join("notify");
    let manager = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    // A manager reads at once. A queue of datagrams that nobody reads is soon full.
    let (tell, states) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = [0; 256];
        while let Ok(length) = manager.recv(&mut bytes)
            && tell.send(text(&bytes[..length])).is_ok()
        {}
    });
    let told = |what: &str| loop {
        let state = states.recv_timeout(Duration::from_secs(120)).unwrap();
        if state.starts_with(what) {
            return state;
        }
    };
    let mut command = world.program_itself();
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "200000");
    let seen = world.folder().join("seen");
    let exec = format!("cat > /dev/null; env | grep -c -e NOTIFY -e WATCHDOG > {}", seen.display());
    let mut server = Server::start_as(command, &["--exec", &exec]);
    let ready = told("READY=1\n");
    assert_eq!(
        ready,
        format!("READY=1\nSTATUS=Listening on https://127.0.0.1:{} as localhost", server.port)
    );
    told("WATCHDOG=1");
    assert!(client(&world, &server, &["--send", "{}"], "").status.success());
    server.stop();
    told("STOPPING=1\n");
    assert_eq!(std::fs::read_to_string(seen).unwrap(), "0\n");
}

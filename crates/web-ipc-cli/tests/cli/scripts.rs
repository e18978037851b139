//! What scripts rest on: exit statuses, silence, ids that make a repetition harmless, and servers
//! that end by themselves.

use std::fs::OpenOptions;
use std::io::{BufRead as _, Read as _, Write as _};
use std::process::{Command, Output};

use crate::run::World;
use crate::server::{Server, client, numbered, send, text};

fn status(output: &Output) -> i32 {
    output.status.code().unwrap_or_else(|| panic!("{output:?}"))
}

/// Runs a command that needs no server.
fn run(world: &World, arguments: &[&str]) -> Output {
    world.program_itself().args(arguments).output().unwrap()
}

/// The bodies in lines of a server.
fn bodies(lines: &str) -> Vec<serde_json::Value> {
    let body =
        |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["body"].clone();
    lines.lines().map(body).collect()
}

#[test]
fn each_kind_of_failure_has_its_status_and_one_line_without_time_and_place() {
    let world = World::with_fresh_home();
    let server = Server::start(&world, &["--inbox", "durable"]);
    let nobody = ["--port", "2999", "--timeout", "1", "--logLevel", "error"];
    let told = |output: Output, expected: i32, part: &str| {
        let log = text(&output.stderr);
        assert_eq!(status(&output), expected, "{log}");
        let last = log.lines().last().unwrap();
        assert!(last.starts_with("error: ") && last.contains(part), "{log}");
    };
    for command in ["--send", "--request"] {
        told(client(&world, &server, &[command, "[1]"], ""), 65, "not an object");
        told(run(&world, &[&[command, "{}"][..], &nobody].concat()), 69, "no connection to ");
        let wrong = [command, "--user", "ipc-admin", "--password", "wrong", "{}"];
        told(client(&world, &server, &wrong, ""), 77, "refused the user name or password");
        let other = [command, "--identity", "other", "{}"];
        told(client(&world, &server, &other, ""), 77, "there is no certificate for `other`");
    }
    // The server prints it, and nobody replies.
    told(client(&world, &server, &["--request", "{}"], ""), 1, "the application gave no reply");
    told(run(&world, &["--dead", "--discard", "all"]), 75, "is in use by a running server");
    told(run(&world, &["--keys", "--drop", "00000000"]), 1, "no key in envelope.keys");
    told(run(&world, &["--send", "--home", "/nowhere/x", "{}"]), 1, "there is no web-ipc home");
    assert_eq!(status(&run(&world, &["--send", "--nonsense"])), 2);
    // The commands of the Python tool have its statuses.
    told(run(&world, &["-u", "-t", "-u", "ipc-admin", "-p", "x"]), 1, "Invalid credentials");
    told(run(&world, &["--certs", "--name", "a b"]), 1, "cannot be the name");
    let test = ["--test", "--run", "--user", "ipc-admin", "--password", "x", "--qty", "1"];
    let output = run(&world, &test);
    assert_eq!(status(&output), 1);
    // Its last line is one of the log, with time and place.
    let log = text(&output.stderr);
    assert!(log.lines().last().unwrap().contains("Z][ERROR]["), "{log}");
}

#[test]
fn a_line_that_is_refused_is_bad_data_also_under_an_id_that_another_body_had() {
    let world = World::with_fresh_home();
    let server = Server::start(&world, &[]);
    let id = "0191a2b3-c4d5-76e7-98f9-0a1b2c3d4e5f";
    let sent = client(&world, &server, &["--send", "--id", id, r#"{"n":1}"#], "");
    assert_eq!(status(&sent), 0, "{}", text(&sent.stderr));
    let other = client(&world, &server, &["--send", "--id", id, r#"{"n":2}"#], "");
    assert_eq!(status(&other), 65);
    assert!(text(&other.stderr).contains("id_reused"), "{}", text(&other.stderr));
    let lines = format!("{{\"id\":\"{id}\",\"n\":3}}\n{{\"id\":7}}\n");
    let some = client(&world, &server, &["--send", "--idKey", "id"], &lines);
    assert_eq!(status(&some), 65);
    assert!(text(&some.stdout).starts_with("1 sent, 0 duplicates, 1 refused in "));
}

#[test]
fn quiet_says_nothing_of_what_goes_well_and_the_rest_all_the_same() {
    let world = World::with_fresh_home();
    let server = Server::start(&world, &["--exec", "cat"]);
    // The first one logs in.
    for (arguments, input) in [
        (&["--send", "--quiet", "{}"][..], ""),
        (&["--quiet", "--send"], "{}\n{\"n\":1}\n"),
        (&["-S", "--quiet", "--ids", "-"], ""),
    ] {
        let sent = client(&world, &server, arguments, input);
        assert_eq!((status(&sent), text(&sent.stdout).as_str()), (0, ""), "{arguments:?}");
        let is_empty = text(&sent.stderr).contains("[WARNING]");
        assert_eq!(is_empty, input.is_empty() && arguments.contains(&"-"), "{arguments:?}");
    }
    let reply = client(&world, &server, &["--request", "--quiet", r#"{"n":1}"#], "");
    assert_eq!((text(&reply.stdout).as_str(), text(&reply.stderr).as_str()), ("{\"n\":1}\n", ""));
    let some = client(&world, &server, &["--send", "--quiet", "--keep-going"], "{}\nnope\n");
    assert_eq!(status(&some), 65);
    assert!(text(&some.stdout).starts_with("1 sent, "), "{}", text(&some.stdout));
    assert_eq!(text(&some.stderr).lines().count(), 1, "{}", text(&some.stderr));
    drop(server);

    let copy = world.folder().join("copy").to_string_lossy().into_owned();
    for arguments in [
        &["--init", "--run"][..],
        &["--certs", "--name", "peer1"],
        &["--certs", "--renew", "--due"],
        &["--certs", "--renew", "--all"],
        &["--users", "--add", "--user", "a", "--password", "b"],
        &["--users", "--testCredentials", "--user", "a", "--password", "b"],
        &["--users", "--delete", "--user", "a"],
        &["--keys", "--rotate"],
        &["--backup", "--run", "--out", &copy],
        &["--test", "--run", "--qty", "1"],
    ] {
        let output = run(&world, &[&["--quiet"][..], arguments].concat());
        let said = text(&output.stdout) + &text(&output.stderr);
        assert_eq!((status(&output), said.as_str()), (0, ""), "{arguments:?}");
    }
    let list = run(&world, &["--users", "--list", "--quiet"]);
    assert_eq!(text(&list.stdout), "Username: ipc-admin\n");
    let wrong = run(&world, &["-u", "-t", "-u", "a", "-p", "x", "--quiet"]);
    assert_eq!((status(&wrong), text(&wrong.stderr).as_str()), (1, "error: Invalid credentials\n"));
}

#[test]
fn a_run_that_is_repeated_with_the_ids_of_its_messages_doubles_nothing() {
    let world = World::with_fresh_home();
    for inbox in ["memory", "durable"] {
        let world = World::new(Some(&world));
        let mut server = Server::start(&world, &["--inbox", inbox]);
        let mut lines = server.lines();
        // Read as they come: a pipe does not take all of them.
        let reading = std::thread::spawn(move || {
            let mut all = String::new();
            lines.read_to_string(&mut all).map(|_| all)
        });
        let orders: String = (1..=700).map(|n| format!("{{\"order\":{n}}}\n")).collect();
        for (key, duplicates) in [("--idKey", 0), ("--id-key", 700)] {
            let sent = client(&world, &server, &["--send", key, "order"], &orders);
            let expected = format!("700 sent, {duplicates} duplicates, 0 refused in ");
            assert!(text(&sent.stdout).starts_with(&expected), "{}", text(&sent.stderr));
        }
        // A single message, whose id was printed before.
        let first = client(&world, &server, &["--send", "--ids", r#"{"n":1}"#], "");
        let id = text(&first.stdout);
        for (arguments, said) in [
            (&["--send", "--id", id.trim(), r#"{"n":1}"#][..], "1 sent, 1 duplicates, 0 refused"),
            (&["--send", "--id", id.trim(), "--ids", r#"{"n":1}"#], id.as_str()),
        ] {
            let again = client(&world, &server, arguments, "");
            assert!(text(&again.stdout).starts_with(said), "{}", text(&again.stdout));
        }
        // Ids of lines, in order.
        let printed = client(&world, &server, &["--send", "--ids"], &numbered(3));
        let ids: Vec<String> = text(&printed.stdout).lines().map(str::to_owned).collect();
        assert_eq!(ids.len(), 3, "{}", text(&printed.stdout));
        server.stop();
        let all = reading.join().unwrap().unwrap();
        assert_eq!(bodies(&all).len(), 700 + 1 + 3, "{inbox}");
        let last: Vec<_> = all.lines().skip(701).collect();
        for (line, id) in last.iter().zip(&ids) {
            assert!(line.contains(&format!(r#""id":"{id}""#)), "{line}");
        }
    }
}

#[test]
fn files_are_sent_one_after_the_other_and_an_error_names_the_file() {
    let world = World::with_fresh_home();
    let mut server = Server::start(&world, &[]);
    let mut lines = server.lines();
    let path = |name: &str| world.folder().join(name).to_string_lossy().into_owned();
    let (a, b, bad) = (path("a.jsonl"), path("b.jsonl"), path("bad.jsonl"));
    std::fs::write(&a, "{\"n\":1}\n\n{\"n\":2}").unwrap();
    std::fs::write(&b, "{\"n\":4}\n").unwrap();
    std::fs::write(&bad, "{\"n\":5}\nnope\n").unwrap();
    let sent = client(&world, &server, &["--send", &a, "-", &b], "{\"n\":3}\n");
    assert!(text(&sent.stdout).starts_with("4 sent, "), "{}", text(&sent.stderr));
    let some = client(&world, &server, &["--send", &bad, &b], "");
    assert_eq!(status(&some), 65);
    let told = text(&some.stderr);
    assert!(told.contains(&format!("error: line 2 of {bad} is not JSON, at byte 1")), "{told}");
    assert!(text(&some.stdout).starts_with("1 sent, "), "{}", text(&some.stdout));
    // Nothing is sent if one of the files is not there.
    let none = client(&world, &server, &["--send", &a, &path("nothing")], "");
    assert_eq!((status(&none), text(&none.stdout).as_str()), (1, ""));
    assert!(text(&none.stderr).contains("nothing: No such file"), "{}", text(&none.stderr));
    let told = text(&client(&world, &server, &["--send", "a1"], "").stderr);
    assert!(told.contains("or one object in quotes: '{\"key\": \"value\"}'"), "{told}");
    let half = client(&world, &server, &["--send", "a:1"], "");
    assert_eq!(status(&half), 65);
    let told = text(&half.stderr);
    assert!(told.contains("single quotes around it: '{\"key\": \"value\"}'"), "{told}");
    server.stop();
    let mut all = String::new();
    lines.read_to_string(&mut all).unwrap();
    let numbers: Vec<_> = bodies(&all).iter().map(|body| body["n"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5]);
}

/// A home whose durable inbox has this many messages.
fn with_messages(count: usize) -> World {
    let world = World::with_fresh_home();
    let mut server = Server::start(&world, &["--inbox", "durable", "--exec", "exit 75"]);
    send(&world, &server, &numbered(count));
    server.stop();
    world
}

#[test]
fn a_server_ends_after_so_many_messages_and_a_durable_inbox_keeps_the_others() {
    let world = with_messages(5);
    let mut seen = Vec::new();
    for count in ["2", "1"] {
        let options = ["--inbox", "durable", "--count", count, "--body"];
        let mut server = Server::start(&world, &options);
        let mut all = String::new();
        server.lines().read_to_string(&mut all).unwrap();
        assert_eq!(all.lines().count().to_string(), count, "{all}");
        seen.extend(all.lines().map(str::to_owned));
        server.ended();
    }
    assert_eq!(seen, ["{\"n\":1}", "{\"n\":2}", "{\"n\":3}"]);
    let options = ["--inbox", "durable", "--count", "2", "--exec", "cat >> done"];
    let mut command = world.program_itself();
    command.current_dir(world.folder());
    let mut server = Server::start_as(command, &options);
    server.ended();
    let done = std::fs::read_to_string(world.folder().join("done")).unwrap();
    assert_eq!(done, "{\"n\":4}\n{\"n\":5}\n");
}

#[test]
fn a_server_gives_up_when_nothing_comes_and_says_what_is_missing() {
    let world = World::with_fresh_home();
    let mut server = Server::start(&world, &["--timeout", "1"]);
    assert!(server.ended().contains("stopping: no message has come for 1 s (--timeout)"));
    let world = with_messages(1);
    for exec in [&[][..], &["--exec", "true"]] {
        let world = World::new(Some(&world));
        let limits = ["--inbox", "durable", "--timeout", "1", "--count", "2"];
        let mut server = Server::start(&world, &[&limits[..], exec].concat());
        let log = server.ended_with(75);
        assert!(
            log.contains("1 message came, of 2 (--count), and then none for 1 s (--timeout)"),
            "{log}"
        );
    }
}

#[test]
fn a_server_that_is_stopped_before_all_messages_came_says_what_is_missing() {
    let world = World::with_fresh_home();
    for exec in [&[][..], &["--exec", "true"]] {
        let mut server = Server::start(&world, &[&["--count", "100"][..], exec].concat());
        send(&world, &server, &numbered(3));
        server.signal("-TERM");
        let log = server.ended_with(75);
        assert!(log.contains("3 messages came, of 100 (--count), before it was stopped"), "{log}");
    }
}

#[test]
fn a_pipe_is_a_file_of_lines_and_whoever_writes_to_it_is_heard_to_the_end() {
    let world = World::with_fresh_home();
    let server = Server::start(&world, &["--inbox", "durable"]);
    let pipe = world.folder().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let path = pipe.clone();
    // It waits in its open until somebody reads.
    let writer = std::thread::spawn(move || {
        let mut pipe = OpenOptions::new().write(true).open(path)?;
        numbered(1000).lines().try_for_each(|line| writeln!(pipe, "{line}"))
    });
    let sent = client(&world, &server, &["--send", pipe.to_str().unwrap()], "");
    assert_eq!(status(&sent), 0, "{}", text(&sent.stderr));
    assert!(text(&sent.stdout).starts_with("1000 sent, 0 duplicates, 0 refused"), "{sent:?}");
    writer.join().unwrap().unwrap();
}

#[test]
fn a_command_knows_which_try_it_is_and_whether_somebody_waits_for_its_reply() {
    const SAYS: &str =
        r#"printf '{"try":"%s","request":"%s"}\n' "${WEB_IPC_TRY-none}" "${WEB_IPC_REQUEST-none}""#;
    let world = World::with_fresh_home();
    let mut command = world.program_itself();
    // What the server itself has is not for its commands.
    command.env("WEB_IPC_REQUEST", "x").env("WEB_IPC_TRY", "x");
    let mut server = Server::start_as(command, &["--exec", SAYS]);
    let mut lines = server.lines();
    let reply = client(&world, &server, &["--request", "{}"], "");
    assert_eq!(text(&reply.stdout), "{\"try\":\"1\",\"request\":\"1\"}\n");
    send(&world, &server, "{}\n");
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    assert_eq!(line, "{\"try\":\"1\",\"request\":\"none\"}\n");
    server.stop();
}

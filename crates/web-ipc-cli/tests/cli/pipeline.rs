//! `--serve`, `--send` and `--request` as a shell script uses them: real processes, pipes between
//! them.

use std::io::{BufRead as _, Read as _, Write as _};
use std::process::Stdio;

use crate::run::World;
use crate::server::{Server, client, numbered, send, text};

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
                value["at"].as_str().unwrap().ends_with('Z')
                    && value["id"].as_str().unwrap().len() == 36
            );
            assert!(line.contains(r#""body":{"n": "#), "the body is as it was sent: {line}");
        }
        assert!(server.stop().contains("Web server stopped"));
        let mut rest = String::new();
        lines.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "");
    }
}

/// A home with a second identity.
fn with_worker1() -> World {
    let world = World::with_fresh_home();
    let issued = world.program_itself().args(["--certs", "--name", "worker1"]).output().unwrap();
    assert!(issued.status.success(), "{}", text(&issued.stderr));
    world
}

#[test]
fn a_line_names_the_peer_that_sent_its_message() {
    let world = with_worker1();
    for inbox in ["memory", "durable"] {
        let mut server = Server::start(&world, &["--inbox", inbox]);
        let mut lines = server.lines();
        for (identity, peer) in [("worker1", "worker1"), ("localhost", "localhost")] {
            let sent = client(&world, &server, &["--send", "{}", "--identity", identity], "");
            assert!(sent.status.success(), "{}", text(&sent.stderr));
            let mut line = String::new();
            lines.read_line(&mut line).unwrap();
            let named = format!(r#","user":"ipc-admin","peer":"{peer}","at":""#);
            assert!(line.contains(&named), "{inbox}: {line}");
        }
        server.stop();
    }
    let mut server = Server::start(&world, &["--protocol", "http"]);
    let sent = client(&world, &server, &["--send", "{}", "--protocol", "http"], "");
    assert!(sent.status.success(), "{}", text(&sent.stderr));
    let mut line = String::new();
    server.lines().read_line(&mut line).unwrap();
    assert!(line.contains(r#","user":"ipc-admin","at":""#), "there is no certificate: {line}");
    server.stop();
}

#[test]
fn a_command_knows_the_peer_that_sent_its_message_and_no_other() {
    const REPLY: [&str; 2] = ["--exec", r#"echo "{\"peer\": \"${WEB_IPC_PEER-none}\"}""#];
    let world = with_worker1();
    // One in the server's own environment is not the sender's.
    let start = |options: &[&str]| {
        let mut command = world.program_itself();
        command.env("WEB_IPC_PEER", "mallory");
        Server::start_as(command, &[&REPLY, options].concat())
    };
    let asked = |server: &Server, options: &[&str]| {
        let reply = client(&world, server, &[&["--request", "{}"], options].concat(), "");
        let value: serde_json::Value = serde_json::from_slice(&reply.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", text(&reply.stderr)));
        value["peer"].as_str().unwrap().to_owned()
    };
    let mut server = start(&[]);
    assert_eq!(asked(&server, &["--identity", "worker1"]), "worker1");
    assert_eq!(asked(&server, &[]), "localhost");
    server.stop();
    let mut server = start(&["--protocol", "http"]);
    assert_eq!(asked(&server, &["--protocol", "http"]), "none");
    server.stop();
}

#[test]
fn a_server_is_found_at_the_address_of_several_that_answers() {
    let world = World::with_fresh_home();
    let mut server = Server::start(&world, &["--exec", "cat"]);
    // Nobody listens on port 1 of this host.
    let addresses = format!("127.0.0.1:1,localhost:{}", server.port);
    for arguments in [
        &["--send", "--ip", &addresses, r#"{"n":1}"#][..],
        &["--send", "--ip", "[::1]:1", "--ip", &addresses, r#"{"n":1}"#],
    ] {
        let sent = world.program_itself().args(arguments).output().unwrap();
        assert!(sent.status.success(), "{}", text(&sent.stderr));
        assert!(text(&sent.stdout).starts_with("1 sent, 0 duplicates, "), "{}", text(&sent.stdout));
    }
    let reply = world
        .program_itself()
        .args(["--request", "--ip", &addresses, r#"{"n":2}"#])
        .output()
        .unwrap();
    let (reply, log) = (text(&reply.stdout), text(&reply.stderr));
    assert!(reply.contains(r#""n":2"#), "{reply} {log}");
    server.stop();
}

#[test]
fn what_nobody_read_is_kept_by_a_durable_inbox() {
    let world = World::with_fresh_home();
    let mut server = Server::start(&world, &["--inbox", "durable"]);
    drop(server.lines());
    let sent = client(&world, &server, &["--send", r#"{"n":1}"#], "");
    assert!(sent.status.success(), "{}", text(&sent.stderr));
    // The server finds that nobody reads its lines, and ends.
    assert!(server.ended_with(1).contains("has gone away; the inbox keeps what it has not read"));

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
            r#"read m; echo "{\"got\": $m, \"user\": \"$WEB_IPC_USER\", \"id\": \"$WEB_IPC_ID\", \"home\": \"$WEB_IPC_HOME\"}""#,
            "--jobs",
            "2",
        ],
    );
    let reply = client(&world, &server, &["--request", r#"{"what":"time"}"#], "");
    let value: serde_json::Value = serde_json::from_slice(&reply.stdout).unwrap();
    assert_eq!(value["got"]["what"], "time", "{}", text(&reply.stderr));
    assert_eq!((&value["user"], value["id"].as_str().unwrap().len()), (&"ipc-admin".into(), 36));
    assert_eq!(value["home"].as_str(), world.home().to_str());
    server.stop();

    let mut failing = Server::start(&world, &["--exec", "exit 3"]);
    let refused = client(&world, &failing, &["--request", "{}"], "");
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        text(&refused.stderr).contains("error: ") && refused.stdout.is_empty(),
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
    assert_eq!(ended.status.code(), Some(65));
    assert!(
        text(&ended.stderr).contains("line 3 is not JSON, at byte 1"),
        "{}",
        text(&ended.stderr)
    );
    assert!(text(&ended.stdout).starts_with("1 sent, "), "{}", text(&ended.stdout));

    let went_on = client(&world, &server, &["--send", "--keep-going"], input);
    assert_eq!(went_on.status.code(), Some(65), "something was not delivered");
    let log = text(&went_on.stderr);
    assert!(
        log.contains("line 3 is not JSON, at byte 1")
            && log.contains("line 4 is JSON, but not an object"),
        "{log}"
    );
    assert!(text(&went_on.stdout).starts_with("2 sent, 0 duplicates, 0 refused, 2 bad lines in "));
    server.stop();
}

#[test]
fn a_request_comes_from_stdin_where_it_is_too_long_for_an_argument() {
    let world = World::with_fresh_home();
    let mut server = Server::start(&world, &["--exec", "wc -c | sed 's/.*/{\"bytes\":&}/'"]);
    // More than a system takes as one argument (128 KiB), over several lines.
    let long = format!("{{\n  \"a\": \"{}\"\n}}\n", "x".repeat(300 * 1024));
    let bytes = long.trim_end().len() + 1;
    for arguments in [&["--request"][..], &["--request", "-"]] {
        let reply = client(&world, &server, arguments, &long);
        assert_eq!(
            text(&reply.stdout),
            format!("{{\"bytes\":{bytes}}}\n"),
            "{}",
            text(&reply.stderr)
        );
    }
    // The first line of stdin is the password where both come from there.
    let run = world
        .program_itself()
        .args(["--users", "--add", "--user", "a", "--password", "b"])
        .output()
        .unwrap();
    assert!(run.status.success(), "{}", text(&run.stderr));
    let arguments = ["--request", "--user", "a", "--password", "-"];
    let reply = client(&world, &server, &arguments, &format!("\u{feff}b\r\n{long}"));
    assert_eq!(text(&reply.stdout), format!("{{\"bytes\":{bytes}}}\n"), "{}", text(&reply.stderr));
    server.stop();
}

#[test]
fn a_line_that_never_ends_is_read_no_further_than_the_longest_message() {
    let world = World::with_fresh_home();
    let server = Server::start(&world, &[]);
    for command in ["--send", "--request"] {
        let mut child = world
            .program_itself()
            .args([command, "--port", &server.port])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let (mut written, chunk) = (0, [b'x'; 64 * 1024]);
        // Writes until the command stops reading. One that read without a limit would never end.
        while written < 600_000_000 && stdin.write_all(&chunk).is_ok() {
            written += chunk.len();
        }
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(65));
        assert!(written < 40_000_000, "{written}");
        let told = text(&output.stderr);
        let is_told = told.contains("is longer than 16777216 bytes, as long as a message may be; ");
        assert!(is_told, "{told}");
    }
    // With --keep-going, the lines after it are sent.
    let input = format!("{{\"n\":1}}\n{}\n\u{feff}{{\"n\":2}}\n", "x".repeat(20_000_000));
    let sent = client(&world, &server, &["--send", "--keep-going", "-"], &input);
    assert!(
        text(&sent.stdout).starts_with("2 sent, 0 duplicates, 0 refused, 1 bad line in "),
        "{}",
        text(&sent.stderr)
    );
    assert!(
        text(&sent.stderr).contains("line 2 is longer than 16777216 bytes"),
        "{}",
        text(&sent.stderr)
    );
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
    std::fs::set_permissions(&client_home, std::os::unix::fs::PermissionsExt::from_mode(0o700))
        .unwrap();
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

#[test]
fn a_port_and_an_inbox_that_another_server_has_are_said() {
    let world = World::with_fresh_home();
    let server = Server::start(&world, &["--inbox", "durable"]);
    let refusal = |arguments: &[&str], status| {
        let output = world.program_itself().arg("--serve").args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(status));
        text(&output.stderr)
    };
    let told = refusal(&["--port", &server.port], 1);
    assert!(told.contains(&format!("cannot listen on 127.0.0.1:{}", server.port)), "{told}");
    assert!(told.contains("choose another port, or 0 for the first free one"), "{told}");
    let told = refusal(&["--inbox", "durable"], 75);
    assert!(told.contains("inbox.db is in use by another server; stop the other server"), "{told}");
}

#[test]
fn figures_that_cannot_be_shown_are_said_and_the_inbox_is_left_to_the_next_server() {
    let world = World::with_fresh_home();
    let refusal = |address: &str| {
        let arguments = ["--serve", "--port", "0", "--inbox", "durable", "--metrics", address];
        let output = world.program_itself().args(arguments).output().unwrap();
        assert_eq!((output.status.code(), &*text(&output.stdout)), (Some(1), ""), "{address}");
        text(&output.stderr)
    };
    let told = refusal("0.0.0.0:0");
    assert!(told.contains("can be reached from other hosts; choose a loopback address"), "{told}");
    assert!(told.contains("add --allowRemoteMetrics"), "{told}");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let told = refusal(&taken.local_addr().unwrap().to_string());
    assert!(told.contains("cannot listen on 127.0.0.1:"), "{told}");
    assert!(told.contains("choose another port, or stop the program that has this one"), "{told}");
    let told = refusal("9464");
    assert!(told.contains("give an address as HOST:PORT, such as 127.0.0.1:9464"), "{told}");
    // It would say that the inbox is in use.
    drop(Server::start(&world, &["--inbox", "durable", "--metrics", "127.0.0.1:0"]));
}

#[test]
fn a_wrong_password_and_a_name_of_another_server_are_said_with_what_to_do() {
    let world = World::with_fresh_home();
    let server = Server::start(&world, &[]);
    let refusal = |arguments: &[&str], input: &str| {
        let output = client(&world, &server, arguments, input);
        assert_eq!(
            (output.status.code(), text(&output.stdout).as_str()),
            (Some(77), ""),
            "{arguments:?}"
        );
        text(&output.stderr)
    };
    for command in ["--send", "--request"] {
        let told = refusal(&[command, "--user", "test1", "--password", "wrong-one", "{}"], "");
        assert!(
            told.contains("the server refused the user name or password of `test1`; try them on"),
            "{told}"
        );
        assert!(!told.contains("wrong-one"), "{told}");
        let told = refusal(&[command, "--user", "test1", "--password", "-", "{}"], "wrong-two\n");
        assert!(told.contains("the server refused the user name or password of `test1`"), "{told}");
        assert!(!told.contains("wrong-two"), "{told}");
        let told = refusal(&[command, "--name", "other", "{}"], "");
        assert!(told.contains("the certificate of the server `other` is for localhost"), "{told}");
    }
    // With lines on stdin, the summary is printed too.
    let output = client(
        &world,
        &server,
        &["--send", "--user", "test1", "--password", "-"],
        "wrong-two\n{}\n{}\n",
    );
    assert!(text(&output.stdout).starts_with("0 sent, "), "{}", text(&output.stdout));
    let told = text(&output.stderr);
    assert!(
        told.contains("line 1 and all after it were not sent: the server refused the user name"),
        "{told}"
    );
}

#[test]
fn no_lines_are_nothing_to_send_and_empty_ones_are_passed_over() {
    let world = World::with_fresh_home();
    let server = Server::start(&world, &[]);
    for (input, said) in [("", "0 sent, "), ("\n \n", "0 sent, "), ("\n{}\r\n\n{}", "2 sent, ")] {
        let sent = client(&world, &server, &["send"], input);
        assert!(sent.status.success(), "{}", text(&sent.stderr));
        assert!(text(&sent.stdout).starts_with(said), "{input:?}: {}", text(&sent.stdout));
        let is_told = text(&sent.stderr).contains("nothing was sent: stdin has no message\n");
        assert_eq!(is_told, said == "0 sent, ", "{input:?}: {}", text(&sent.stderr));
    }
    let with_password = ["--send", "--user", "ipc-admin", "--password", "-"];
    let sent = client(&world, &server, &with_password, "pass321\n");
    assert!(sent.status.success() && text(&sent.stdout).starts_with("0 sent, "));
    assert!(
        text(&sent.stderr).contains("[WARNING]")
            && text(&sent.stderr)
                .contains("nothing was sent: stdin has no message behind the password\n"),
        "{}",
        text(&sent.stderr)
    );
    let sent = client(&world, &server, &["--send", "--keep-going"], "[]\n");
    assert!(!text(&sent.stderr).contains("nothing was sent"), "{}", text(&sent.stderr));
    assert_eq!(sent.status.code(), Some(65));
    assert!(text(&sent.stdout).starts_with("0 sent, 0 duplicates, 0 refused, 1 bad line in "));
}

#[test]
fn a_command_that_gives_no_reply_is_told_at_both_ends() {
    let world = World::with_fresh_home();
    const NO_JSON: &str = "the command did not write a JSON object to stdout";
    const RULES: &str = "the reply breaks the protocol's rules for JSON";
    for (command, told, reason) in [
        (
            "exit 3",
            "ended with exit status: 3; there is no reply",
            "the command ended with exit status: 3".to_owned(),
        ),
        (
            "echo nothing",
            "did not write a JSON object to stdout; there is no reply",
            NO_JSON.to_owned(),
        ),
        (
            "echo '[1]'",
            "did not write a JSON object to stdout; there is no reply",
            NO_JSON.to_owned(),
        ),
        ("true", "did not write a JSON object to stdout; there is no reply", NO_JSON.to_owned()),
        (
            "echo '{\"a\":1}{}'",
            "did not write a JSON object to stdout; there is no reply",
            NO_JSON.to_owned(),
        ),
        (
            r#"echo '{"a":123456789012345678901234567890}'"#,
            "rules for JSON: an integer that does not fit 64 bits",
            format!("{RULES}: an integer that does not fit 64 bits"),
        ),
        (
            r#"echo '{"a":1,"a":2}'"#,
            "rules for JSON: a member name that occurs twice in its object",
            format!("{RULES}: a member name that occurs twice in its object"),
        ),
        (
            "yes '{}'",
            "was ended: it wrote more than the 16776192 bytes that a reply may have; there is no reply",
            "the command was ended: it wrote more than the 16776192 bytes that a reply may have"
                .to_owned(),
        ),
    ] {
        let mut server = Server::start(&world, &["--exec", command]);
        let refused = client(&world, &server, &["--request", "{}"], "");
        assert_eq!(
            (refused.status.code(), text(&refused.stdout).as_str()),
            (Some(1), ""),
            "{command}"
        );
        let error = text(&refused.stderr);
        assert!(
            error.contains(&format!(
                "the server accepted the request, but the application gave no reply: {reason}"
            )),
            "{error}"
        );
        // The client does not learn the command; `true` alone may be a word of the log.
        assert!(!command.contains(' ') || !error.contains(command), "{error}");
        let log = server.stop();
        assert!(log.contains(told), "{command}: {log}");
        assert!(log.contains(&format!("the command `{command}` for request ")), "{command}: {log}");
    }
}

#[test]
fn lines_that_a_full_inbox_refuses_are_counted_as_refused() {
    let world = World::with_fresh_home();
    let mut server = Server::start(&world, &["--exec", "echo has begun >&2; exec sleep 3600"]);
    send(&world, &server, "{\"n\":0}\n");
    server.wait_for_log("has begun");
    let sent = client(&world, &server, &["--send", "--timeout", "1"], &numbered(1100));
    assert_eq!(sent.status.code(), Some(75));
    let (summary, error) = (text(&sent.stdout), text(&sent.stderr));
    let counts: Vec<u32> =
        summary.split(' ').filter_map(|word| word.parse().ok()).take(3).collect();
    let [accepted, duplicates, refused] = counts[..] else { panic!("{summary}") };
    assert!(refused > 0 && accepted + refused == 1100, "{summary}");
    assert_eq!(duplicates, 0, "{summary}");
    let first = accepted + 1;
    assert!(error.contains(&format!("line {first} and all after it were not sent: ")), "{error}");
}

#[test]
fn a_message_whose_command_fails_is_said_to_be_lost_or_to_come_again() {
    let world = World::with_fresh_home();
    for (options, told) in [
        (&["--inbox", "memory"][..], "; the message is lost; --inbox durable would have kept it"),
        (
            &["--inbox", "durable"],
            "; the message is delivered again, and becomes a dead letter in the end",
        ),
        (
            &["--inbox", "durable", "--tries", "1"],
            "; that was the last of 1 try: it is a dead letter now",
        ),
    ] {
        // In a home of its own, since this server would have the messages of the one before.
        let world = World::new(Some(&world));
        let mut server = Server::start(&world, &[options, &["--exec", "exit 3"]].concat());
        let sent = client(&world, &server, &["--send", "{}"], "");
        assert!(sent.status.success(), "{}", text(&sent.stderr));
        server.wait_for_log(&format!("ended with exit status: 3{told}"));
        server.stop();
    }
}

/// A home with two dead letters.
fn with_dead_letters() -> World {
    let world = World::with_fresh_home();
    let mut server = Server::start(&world, &WITH_ONE_TRY);
    let sent = client(&world, &server, &["--send"], "{\"n\": 1}\n{\"n\":2}\n");
    assert!(sent.status.success(), "{}", text(&sent.stderr));
    server.wait_for_log_times("that was the last of 1 try: it is a dead letter now", 2);
    server.stop();
    world
}

/// A server whose messages are dead after one try, which fails.
const WITH_ONE_TRY: [&str; 6] = ["--inbox", "durable", "--tries", "1", "--exec", "exit 3"];

#[test]
fn dead_letters_are_listed_beside_a_running_server_as_soon_as_their_last_try_has_failed() {
    let world = World::with_fresh_home();
    let mut server = Server::start(&world, &WITH_ONE_TRY);
    for n in 1..=3 {
        let sent = client(&world, &server, &["--send", &format!(r#"{{"n":{n}}}"#)], "");
        assert!(sent.status.success(), "{}", text(&sent.stderr));
        server.wait_for_log_times("that was the last of 1 try: it is a dead letter now", n);
        assert_eq!(numbers(&world).len(), n);
    }
    for action in ["--putBack", "--discard"] {
        let output = world.program_itself().args(["--dead", action, "all"]).output().unwrap();
        assert_eq!(output.status.code(), Some(75));
        let told = text(&output.stderr);
        assert!(
            told.contains("is in use by a running server; nothing was changed; stop the server, "),
            "{told}"
        );
        assert!(told.contains("--list works beside it"), "{told}");
    }
    assert_eq!(numbers(&world).len(), 3);
    let sent = client(&world, &server, &["--send", "{}"], "");
    assert!(sent.status.success(), "it goes on: {}", text(&sent.stderr));
    server.stop();
    assert_eq!(numbers(&world).len(), 4);
}

/// Runs `--dead` with these options, which must succeed. Returns what it printed.
fn dead(world: &World, arguments: &[&str]) -> String {
    let output = world.program_itself().arg("--dead").args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// The numbers of the dead letters.
fn numbers(world: &World) -> Vec<u64> {
    let value = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap();
    dead(world, &["--list"]).lines().map(|line| value(line)["number"].as_u64().unwrap()).collect()
}

#[test]
fn dead_letters_are_listed_and_what_is_put_back_is_handed_out_by_the_next_server() {
    let world = with_dead_letters();
    let listed = dead(&world, &["--list"]);
    let lines: Vec<serde_json::Value> =
        listed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2, "{listed}");
    for (line, n) in lines.iter().zip([1, 2]) {
        assert_eq!(
            (&line["user"], &line["peer"], &line["body"]["n"]),
            (&"ipc-admin".into(), &"localhost".into(), &n.into()),
            "{listed}"
        );
        assert_eq!(
            (line["deliveries"].as_u64(), line["id"].as_str().unwrap().len()),
            (Some(1), 36)
        );
        assert!(line["at"].as_str().unwrap().ends_with('Z'), "{listed}");
    }
    assert!(listed.contains(r#""body":{"n": 1}"#), "the body is as it was sent: {listed}");

    // An unknown number changes nothing, even with others that exist.
    let first = lines[0]["number"].to_string();
    let output =
        world.program_itself().args(["--dead", "--putBack", &first, "77"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let told = text(&output.stderr);
    assert!(
        told.contains("there is no dead letter 77; nothing was changed; run web-ipc --dead --list"),
        "{told}"
    );
    assert_eq!(dead(&world, &["--list"]), listed);

    assert_eq!(dead(&world, &["--putBack", &first, &first]), "1 dead letter put back\n");
    assert_eq!(numbers(&world).len(), 1);
    assert_eq!(dead(&world, &["-p", "all"]), "1 dead letter put back\n");
    assert_eq!(dead(&world, &["--list"]), "");
    assert_eq!(dead(&world, &["--putBack", "all"]), "0 dead letters put back\n");

    let mut server = Server::start(&world, &["--inbox", "durable"]);
    let mut reader = server.lines();
    for n in ["1", "2"] {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        assert!(
            line.contains(&format!("\"n\":{n}")) || line.contains(&format!("\"n\": {n}")),
            "{line}"
        );
        assert!(!line.contains("redelivered"), "it starts over: {line}");
    }
    server.stop();
}

#[test]
fn dead_letters_that_are_discarded_are_gone() {
    let world = with_dead_letters();
    let number = numbers(&world)[1].to_string();
    assert_eq!(dead(&world, &["--discard", &number]), "1 dead letter discarded\n");
    assert_eq!(numbers(&world).len(), 1);
    assert_eq!(dead(&world, &["-x", "all"]), "1 dead letter discarded\n");
    assert!(numbers(&world).is_empty());

    let mut server = Server::start(&world, &["--inbox", "durable"]);
    let mut reader = server.lines();
    let sent = client(&world, &server, &["--send", r#"{"n":3}"#], "");
    assert!(sent.status.success(), "{}", text(&sent.stderr));
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    assert!(line.contains(r#""body":{"n":3}"#), "{line}");
    server.stop();
}

#[test]
fn dead_letters_of_an_inbox_that_a_server_has_are_left_alone() {
    let world = World::with_fresh_home();
    let mut server = Server::start(&world, &["--inbox", "durable"]);
    // Listing them changes nothing.
    assert_eq!(dead(&world, &["--list"]), "");
    for arguments in [&["--putBack", "all"][..], &["--discard", "1"]] {
        let output = world.program_itself().arg("--dead").args(arguments).output().unwrap();
        assert_eq!(
            (output.status.code(), text(&output.stdout).as_str()),
            (Some(75), ""),
            "{arguments:?}"
        );
        let told = text(&output.stderr);
        assert!(
            told.contains(
                "inbox.db is in use by a running server; nothing was changed; stop the server"
            ),
            "{told}"
        );
        assert_eq!(told.lines().count(), 1, "{told}");
    }
    server.stop();
}

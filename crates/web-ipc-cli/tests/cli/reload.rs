//! SIGHUP of a server: it reads its configuration again, or ends where a terminal was closed.

use std::fs::{self, File};
use std::io::{BufRead as _, Read as _};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::run::World;
use crate::server::{Server, client, numbered, send, text};

/// The program in a session of its own, which has no terminal, or else that of `terminal`.
fn in_a_session(world: &World, terminal: Option<&Path>) -> Command {
    // The shell begins a session, and the first terminal that it opens becomes the session's.
    let take = match terminal {
        Some(_) => "exec 3<>\"$TERMINAL\" 3>&-; exec \"$0\" \"$@\"",
        None => "exec \"$0\" \"$@\"",
    };
    let program = world.program_itself();
    let mut command = Command::new("setsid");
    command.args(["sh", "-c", take]).arg(program.get_program());
    command.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.current_dir(world.folder());
    if let Some(path) = terminal {
        command.env("TERMINAL", path);
    }
    command
}

fn configure(world: &World, text: &str) {
    fs::write(world.home().join("web-ipc.toml"), text).unwrap();
}

#[test]
fn a_hangup_without_a_terminal_reloads_what_can_change_and_names_what_cannot() {
    let world = World::with_fresh_home();
    configure(&world, "[serve]\nexec = \"cat >> first; echo first has it >&2\"\n");
    let path = world.folder().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let next = || {
        let mut bytes = [0; 256];
        let length = manager.recv(&mut bytes).unwrap();
        text(&bytes[..length])
    };
    let mut command = in_a_session(&world, None);
    command.env("NOTIFY_SOCKET", &path);
    let mut server = Server::start_as(command, &[]);
    assert!(next().starts_with("READY=1\nSTATUS=Listening on "));
    send(&world, &server, "{\"n\":1}\n");
    server.wait_for_log("first has it");

    configure(
        &world,
        "[serve]\nexec = \"cat >> second\"\njobs = 2\ninbox = \"durable\"\nstopWithin = 5\n",
    );
    server.signal("-HUP");
    server.wait_for_log(
        "the configuration was reloaded: exec, jobs; needs a restart: inbox, stopWithin",
    );
    assert!(next().starts_with("RELOADING=1\nMONOTONIC_USEC="));
    assert_eq!(next(), "READY=1");
    send(&world, &server, "{\"n\":2}\n");

    // A fault changes nothing.
    configure(&world, "[serve]\nexec = \"cat >> third\"\nprot = 1\n");
    server.signal("-HUP");
    server.wait_for_log("the configuration was not reloaded, and nothing has changed: ");
    server.wait_for_log(
        "web-ipc.toml:3: serve.prot: there is no such key; the nearest is serve.port",
    );
    send(&world, &server, "{\"n\":3}\n");

    configure(&world, "[serve]\nexec = \"cat >> second\"\njobs = 2\nlogFormat = \"json\"\n");
    server.signal("-HUP");
    server.wait_for_log("the configuration was reloaded: logFormat");
    let log = server.stop();
    let last = log.lines().last().unwrap();
    let value: serde_json::Value = serde_json::from_str(last).unwrap_or_else(|_| panic!("{log}"));
    assert!(value["message"].is_string() && value["time"].is_string(), "{log}");
    let read = |name: &str| fs::read_to_string(world.folder().join(name)).unwrap_or_default();
    assert_eq!(read("first"), "{\"n\":1}\n");
    assert_eq!(read("second").lines().count(), 2);
    assert_eq!(read("third"), "");
}

#[test]
fn a_hangup_changes_the_level_of_the_log_but_not_that_of_the_command_line() {
    let world = World::with_fresh_home();
    for (arguments, is_changed) in [(&[][..], true), (&["--logLevel", "info"], false)] {
        configure(&world, "[serve]\nlogLevel = \"info\"\n");
        let mut server = Server::start_as(in_a_session(&world, None), arguments);
        configure(&world, "[serve]\nlogLevel = \"error\"\n");
        server.signal("-HUP");
        let told = if is_changed { "reloaded: logLevel" } else { "reloaded; nothing has changed" };
        server.wait_for_log(told);
        let log = server.stop();
        assert_eq!(log.contains("Shutting down"), !is_changed, "{log}");
    }
}

#[test]
fn a_hangup_during_a_stop_is_no_second_signal() {
    let world = World::with_fresh_home();
    let exec = "echo has begun >&2; while ! [ -e go ]; do sleep 0.05; done; cat >> done";
    let mut server = Server::start_as(in_a_session(&world, None), &["--exec", exec]);
    send(&world, &server, "{\"n\":1}\n");
    server.wait_for_log("has begun");
    server.signal("-TERM");
    server.wait_for_log("stopping: 1 message");
    server.signal("-HUP");
    server.wait_for_log("the configuration was reloaded; nothing has changed");
    fs::write(world.folder().join("go"), "").unwrap();
    server.ended();
    assert_eq!(fs::read_to_string(world.folder().join("done")).unwrap(), "{\"n\":1}\n");
}

#[test]
fn a_terminal_that_closes_ends_the_server_and_loses_nothing_that_is_in_memory() {
    let world = World::with_fresh_home();
    let screen = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&screen).unwrap();
    unlockpt(&screen).unwrap();
    let name = ptsname(&screen, Vec::new()).unwrap();
    let name = name.to_str().unwrap().to_owned();
    let screen = File::from(screen);

    // The streams are pipes: the terminal is that of the session.
    let mut server = Server::start_as(in_a_session(&world, Some(Path::new(&name))), &[]);
    send(&world, &server, &numbered(900));
    // Closes the terminal, as the end of a connection by ssh does.
    drop(screen);
    server.wait_for_log("are printed first");
    let mut lines = String::new();
    server.lines().read_to_string(&mut lines).unwrap();
    assert_eq!(lines.lines().count(), 900);
    server.ended();
}

#[test]
fn a_second_hangup_of_a_terminal_ends_the_commands_at_once() {
    let world = World::with_fresh_home();
    let screen = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&screen).unwrap();
    unlockpt(&screen).unwrap();
    let name = ptsname(&screen, Vec::new()).unwrap();
    let name = name.to_str().unwrap().to_owned();
    let exec = ["--exec", "echo has begun >&2; sleep 3600"];
    let mut server = Server::start_as(in_a_session(&world, Some(Path::new(&name))), &exec);
    send(&world, &server, &numbered(3));
    server.wait_for_log("has begun");
    server.signal("-HUP");
    server.wait_for_log("stopping: 3 messages");
    server.signal("-HUP");
    let log = server.ended_with(129);
    assert!(log.contains("ended by a second signal; 1 command ended with it"), "{log}");
    drop(screen);
}

#[test]
fn a_log_as_json_has_one_object_a_line_and_so_has_the_error_that_ends_a_command() {
    let world = World::with_fresh_home();
    let mut server = Server::start_as(in_a_session(&world, None), &["--log-format", "text"]);
    let mut lines = server.lines();
    let sent = client(&world, &server, &["--send", "--logFormat", "json", "{\"n\":1}"], "");
    assert!(sent.status.success(), "{}", text(&sent.stderr));
    let mut line = String::new();
    lines.read_line(&mut line).unwrap();
    let refused =
        client(&world, &server, &["--send", "--logFormat", "json", "--keep-going"], "hello\n");
    assert_eq!(refused.status.code(), Some(65));
    server.stop();
    let failed =
        client(&world, &server, &["--send", "--logFormat", "json", "--timeout", "1", "{}"], "");
    assert_eq!(failed.status.code(), Some(69));
    for output in [&sent, &refused, &failed] {
        let told = text(&output.stderr);
        assert!(!told.is_empty());
        for line in told.lines() {
            let value: serde_json::Value =
                serde_json::from_str(line).unwrap_or_else(|_| panic!("{told}"));
            for member in ["time", "level", "module", "message"] {
                assert!(value[member].is_string(), "{line}");
            }
            assert!(value["line"].is_u64(), "{line}");
        }
    }
    let last = text(&failed.stderr);
    assert!(last.lines().last().unwrap().contains("\"level\":\"ERROR\""), "{last}");
}

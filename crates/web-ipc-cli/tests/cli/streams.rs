//! Standard streams that are closed, full, do not block, or that nobody reads.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::os::fd::OwnedFd;
use std::process::{Command, Output, Stdio};

use rustix::fs::{OFlags, fcntl_setfl};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::run::World;
use crate::server::{Server, client, listening, numbered, send, tell, text};

/// Runs the binary by a shell, which changes its streams.
fn redirected(world: &World, redirection: &str, arguments: &[&str]) -> Output {
    let program = world.program_itself();
    let mut shell = Command::new("sh");
    shell
        .arg("-c")
        .arg(format!("exec \"$0\" \"$@\" {redirection}"))
        .arg(program.get_program())
        .args(arguments);
    shell.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell.current_dir(world.folder()).stdin(Stdio::null()).output().unwrap()
}

#[test]
fn no_command_starts_without_one_of_its_streams() {
    let world = World::with_fresh_home();
    for arguments in [
        &["--serve", "--port", "0", "--inbox", "durable"][..],
        &["--serve", "--port", "0", "--exec", "true"],
        &["--users", "--list"],
        &["--send", "{}"],
        &["--help"],
    ] {
        for (redirection, told) in [
            (">&-", "stdout is closed; send it to a file, a pipe or /dev/null"),
            ("<&-", "stdin is closed; give it a file, a pipe or /dev/null"),
            ("2>&-", ""),
            ("1</dev/null", "stdout cannot be written to"),
            ("0>/dev/null", "stdin cannot be read from"),
            ("2</dev/null", ""),
        ] {
            let output = redirected(&world, redirection, arguments);
            let log = text(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{arguments:?} {redirection}: {log}");
            assert!(
                log.contains(told) && output.stdout.is_empty(),
                "{arguments:?} {redirection}: {log}"
            );
        }
    }
    // A user who wants no output redirects it.
    for redirection in
        ["> /dev/null", "1<>/dev/null", "2>/dev/null", "2<>/dev/null", "0<>/dev/null"]
    {
        let output = redirected(&world, redirection, &["--users", "--list"]);
        assert_eq!(output.status.code(), Some(0), "{redirection}: {}", text(&output.stderr));
    }
}

#[test]
fn a_result_that_could_not_be_written_is_a_failure_of_every_command() {
    let world = World::with_fresh_home();
    let server = Server::start(&world, &["--exec", "echo '{}'"]);
    let port = ["--port", &server.port];
    let made = World::with_fresh_home();
    let mut durable = Server::start(&made, &["--inbox", "durable"]);
    durable.stop();
    for (world, arguments) in [
        (&world, vec!["--users", "--list"]),
        (&world, vec!["--users", "--list", "--testCredentials", "--user", "x", "--password", "x"]),
        (&world, vec!["--init", "--run"]),
        (&world, vec!["--certs", "--name", "other", "--force"]),
        (&world, vec!["--test", "--run", "--qty", "1"]),
        (&world, [&["--send", "{}"][..], &port].concat()),
        (&world, [&["--request", "{}"][..], &port].concat()),
        (&made, vec!["--dead", "--putBack", "all"]),
        (&world, vec!["--version"]),
    ] {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let gone = (Stdio::from(writer), "cannot write to stdout: its reader has gone away");
        // Where the system has no such file, a full disk cannot be had so easily.
        let full = File::options().write(true).open("/dev/full").ok();
        let full = full.map(|full| (Stdio::from(full), "cannot write to stdout: "));
        for (stdout, told) in [gone].into_iter().chain(full) {
            let output = world.program_itself().args(&arguments).stdout(stdout).output().unwrap();
            let log = text(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{arguments:?}: {log}");
            assert!(log.contains(told), "{arguments:?}: {log}");
        }
    }
}

#[test]
fn a_stdout_that_does_not_block_is_waited_for() {
    let world = World::with_fresh_home();
    let (mut unread, stdout) = io::pipe().unwrap();
    fcntl_setfl(&stdout, OFlags::NONBLOCK).unwrap();
    let mut command = world.program_itself();
    command.stdout(stdout);
    let mut server = Server::start_with_stdout(command, &[]);
    // More than a pipe takes.
    let long: String =
        (0..600).map(|n| format!("{{\"n\":{n},\"long\":\"{}\"}}\n", "x".repeat(300))).collect();
    send(&world, &server, &long);
    server.signal("-TERM");
    server.wait_for_log("stopping: ");
    let mut lines = String::new();
    unread.read_to_string(&mut lines).unwrap();
    assert_eq!(lines.lines().count(), 600);
    server.ended();
}

/// A server whose stdout is appended to a file.
fn appending(world: &World, path: &std::path::Path, mut command: Command) -> Server {
    let file = File::options().append(true).create(true).open(path).unwrap();
    assert!(world.home().is_dir());
    command.stdout(file);
    Server::start_with_stdout(command, &["--inbox", "durable"])
}

#[test]
fn a_message_has_a_line_of_its_own_behind_one_that_a_full_disk_has_cut_off() {
    let world = World::with_fresh_home();
    // Shells count in blocks of 512 bytes, or of 1024.
    let limited = |script: &str| {
        let program = world.program_itself();
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(format!("ulimit -f 1000; {script}")).arg(program.get_program());
        shell.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
        shell.current_dir(world.folder());
        shell
    };
    let filled = limited("trap '' XFSZ; head -c 1200000 /dev/zero > full 2>/dev/null; true")
        .status()
        .unwrap();
    assert!(filled.success());
    let limit = fs::metadata(world.folder().join("full")).unwrap().len();
    let journal = world.folder().join("journal");
    // Room for some lines and a half.
    let before = "x".repeat(usize::try_from(limit).unwrap() - 1000) + "\n";
    fs::write(&journal, &before).unwrap();

    let mut server = appending(&world, &journal, limited("exec \"$0\" \"$@\""));
    // Few enough to go out together: the server ends soon after the first of them are printed.
    let padding = "x".repeat(200);
    let lines: String = (1..=7).map(|n| format!("{{\"n\":{n},\"x\":\"{padding}\"}}\n")).collect();
    send(&world, &server, &lines);
    let log = server.ended_with(1);
    assert!(
        log.contains("cannot write to stdout: ")
            && log.contains("the inbox keeps what it has not read"),
        "{log}"
    );
    let torn = fs::read_to_string(&journal).unwrap();
    assert_eq!(torn.len() as u64, limit);
    assert!(!torn.ends_with('\n'), "the limit is no multiple of a line's length");

    let mut server = appending(&world, &journal, world.program_itself());
    server.stop();
    // The next server has the messages at once that this one gave back.
    let mut server = appending(&world, &journal, world.program_itself());
    while !fs::read_to_string(&journal).unwrap().contains("\"body\":{\"n\":7,") {
        std::thread::yield_now();
    }
    server.stop();
    let lines = fs::read_to_string(&journal).unwrap();
    let mut numbers = Vec::new();
    let mut broken = Vec::new();
    for line in lines[before.len()..].lines() {
        match serde_json::from_str::<serde_json::Value>(line) {
            Ok(value) => numbers.push(value["body"]["n"].as_u64().unwrap()),
            Err(_) => broken.push(line),
        }
    }
    assert_eq!(broken.len(), 1, "the one that was cut off: {broken:?}");
    assert_eq!(numbers, (1..=7).collect::<Vec<u64>>());
}

#[test]
fn results_begin_on_a_line_of_their_own() {
    let world = World::with_fresh_home();
    let journal = world.folder().join("journal");
    fs::write(&journal, "half").unwrap();
    for _ in 0..2 {
        let output = redirected(&world, ">> journal", &["--users", "--list"]);
        assert!(output.status.success());
    }
    let lines = fs::read_to_string(&journal).unwrap();
    assert_eq!(lines, "half\nUsername: ipc-admin\nUsername: ipc-admin\n");

    let log = world.folder().join("log");
    fs::write(&log, "half").unwrap();
    let output = redirected(
        &world,
        "2>> log",
        &["--users", "--testCredentials", "--user", "x", "--password", "x"],
    );
    assert_eq!(output.status.code(), Some(1));
    let log = fs::read_to_string(&log).unwrap();
    assert!(log == "half\nerror: Invalid credentials\n", "{log}");
}

#[test]
fn nobody_waits_for_a_log_that_nobody_reads() {
    let world = World::with_fresh_home();
    let mut command = world.program_itself();
    // At this level a few requests log more than fits into a pipe.
    command.env("RUST_LOG", "trace");
    command.args(["--serve", "--port", "0"]).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let (_, port) = listening(&mut log);
    let arguments = ["--send", "--batch", "1", "--port", &port];
    let lines = world.folder().join("lines");
    fs::write(&lines, numbered(500)).unwrap();
    let sent =
        world.program_itself().args(arguments).stdin(File::open(&lines).unwrap()).output().unwrap();
    assert!(text(&sent.stdout).starts_with("500 sent, "), "{}", text(&sent.stderr));
    tell("-TERM", &child.id().to_string());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let mut rest = String::new();
    log.read_to_string(&mut rest).unwrap();
    assert!(rest.len() > 16 * 1024, "what a pipe takes at least: {} bytes", rest.len());
}

#[test]
fn the_end_of_the_log_is_there_for_whoever_reads_it() {
    let world = World::with_fresh_home();
    let mut server = Server::start(&world, &["--logLevel", "debug"]);
    drop(server.lines());
    server.signal("-TERM");
    assert!(server.ended().ends_with("]: Web server stopped\n"));
}

#[test]
fn a_port_that_was_not_named_is_3000_and_no_other() {
    let world = World::with_fresh_home();
    // An address of this host that no other test has.
    let Ok(_taken) = std::net::TcpListener::bind("127.0.30.77:3000") else { return };
    let output = world.program_itself().args(["--serve", "--ip", "127.0.30.77"]).output().unwrap();
    let log = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{log}");
    assert!(
        log.contains("cannot listen on 127.0.30.77:3000") && log.contains("choose another port"),
        "{log}"
    );
}

/// A terminal: what a process sees, and what a person does.
fn terminal() -> (OwnedFd, File) {
    let seen = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&seen).unwrap();
    unlockpt(&seen).unwrap();
    let name = ptsname(&seen, Vec::new()).unwrap();
    let options = OFlags::RDWR | OFlags::NOCTTY;
    let terminal = rustix::fs::open(name.as_c_str(), options, rustix::fs::Mode::empty()).unwrap();
    (seen, File::from(terminal))
}

#[test]
fn a_test_shows_on_a_terminal_how_far_it_is() {
    let world = World::with_fresh_home();
    let (seen, terminal) = terminal();
    let mut command = world.program_itself();
    command.args(["--test", "--run", "--qty", "50", "--logLevel", "error"]).stdout(Stdio::piped());
    let child = command.stderr(terminal).spawn().unwrap();
    drop(command);
    let output = child.wait_with_output().unwrap();
    assert!(text(&output.stdout).starts_with("50 messages sent"), "{}", text(&output.stdout));
    // Until the other end of the terminal is closed, which Linux reports as an error.
    let mut shown = Vec::new();
    let mut reader = BufReader::new(File::from(seen));
    while let Ok(bytes) = reader.fill_buf()
        && !bytes.is_empty()
    {
        let count = bytes.len();
        shown.extend_from_slice(bytes);
        reader.consume(count);
    }
    let shown = String::from_utf8_lossy(&shown);
    assert!(shown.contains("\r1 of 50 sent") && shown.ends_with("\r\u{1b}[K"), "{shown:?}");
    // Progress is shown on a terminal alone.
    let output = world.program_itself().args(["-trq3", "-l", "error"]).output().unwrap();
    assert_eq!(text(&output.stderr), "");
    let server = Server::start(&world, &[]);
    let sent = client(&world, &server, &["--send"], &numbered(3));
    assert!(!text(&sent.stderr).contains('\r'));
}

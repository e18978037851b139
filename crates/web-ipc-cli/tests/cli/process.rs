//! Signals, limits and a full disk, which cannot be written as a case.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::ops::{Deref, DerefMut};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::run::World;

/// How long a process may take to end, or to say what a test waits for.
const PATIENCE: Duration = Duration::from_secs(60);

/// A process that is killed when it is dropped, as a test that fails does.
struct Killed(Child);

impl Deref for Killed {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.0
    }
}

impl DerefMut for Killed {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The lines of a process's stderr, as they come.
fn lines_of(child: &mut Child) -> Receiver<String> {
    let (sender, receiver) = channel();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    thread::spawn(move || {
        let mut line = String::new();
        while log.read_line(&mut line).is_ok_and(|length| length > 0) {
            if sender.send(std::mem::take(&mut line)).is_err() {
                break;
            }
        }
    });
    receiver
}

/// Adds lines to `text` until it has `part`, or, without one, until there are no more.
fn read_until(lines: &Receiver<String>, text: &mut String, part: Option<&str>) {
    let begun = Instant::now();
    while part.is_none_or(|part| !text.contains(part)) {
        match lines.recv_timeout(PATIENCE.saturating_sub(begun.elapsed())) {
            Ok(line) => text.push_str(&line),
            Err(RecvTimeoutError::Disconnected) if part.is_none() => return,
            Err(error) => panic!("{part:?}: {error}: {}", tail(text)),
        }
    }
}

fn tell(child: &Child, signal: &str) {
    let status = Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

#[test]
fn a_test_that_is_told_to_end_says_how_far_it_came_and_ends_as_shells_expect() {
    let world = World::with_fresh_home();
    for (signal, status) in [("-INT", 130), ("-TERM", 143), ("-HUP", 129)] {
        let mut command = world.program_itself();
        command.args(["--test", "--run", "--qty", "4000000000"]);
        // Without the signal the test would take days.
        let mut child =
            Killed(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
        let log = lines_of(&mut child);
        let mut text = String::new();
        read_until(&log, &mut text, Some("Received message: {\"test\":3}"));
        tell(&child, signal);
        read_until(&log, &mut text, None);
        let ended = child.wait().unwrap();
        assert_eq!((ended.code(), ended.signal()), (Some(status), None), "{ended}");
        assert!(text.contains("Web server stopped"), "it stopped in good order: {}", tail(&text));
        let last = text.lines().last().unwrap();
        let count = last
            .split_once("interrupted after ")
            .and_then(|(_, count)| count.split_once(" messages"));
        let count: usize = count.expect(last).0.parse().unwrap();
        let received = text.matches("Received message: ").count();
        assert!(count >= 2 && (count..=count + 1).contains(&received), "{count}, {received}");
        let mut out = String::new();
        child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
        assert_eq!(out, "");
    }
}

#[test]
fn a_limit_on_the_size_of_files_is_told_and_does_not_kill() {
    let world = World::new(None);
    let mut shell = Command::new("sh");
    let program = world.program_itself();
    shell.args(["-c", "ulimit -f 0; exec \"$0\" --init --run"]).arg(program.get_program());
    shell.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = shell.output().unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), output.status.signal()), (Some(1), None), "{log}");
    assert!(log.starts_with("error: "), "{log}");
}

#[test]
fn help_that_cannot_be_written_is_a_failure_whoever_asked_for_it() {
    let world = World::new(None);
    for arguments in
        [&["-h"][..], &["help"], &["--version"], &["--users", "--help"], &["help", "test"]]
    {
        // Where the system has no such file, a full disk cannot be had so easily.
        let Ok(full) = File::options().write(true).open("/dev/full") else { return };
        let output = world.program_itself().args(arguments).stdout(full).output().unwrap();
        let log = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {log}");
        assert!(log.contains("cannot write to stdout"), "{arguments:?}: {log}");
    }
}

fn tail(text: &str) -> &str {
    text.get(text.len().saturating_sub(1000)..).unwrap_or(text)
}

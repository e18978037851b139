//! A server under test, and commands against it: real processes, pipes between them.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::run::World;

/// The time after which a test fails that waits for a server.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long a server that is dropped has to end by itself.
const END_WAIT: Duration = Duration::from_secs(10);

/// How long a dropped server has between two signals.
const SIGNAL_EVERY: Duration = Duration::from_millis(100);

/// A server that has said where it listens. It is ended with its commands when it is dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) port: String,
    /// The lines of its log. A thread reads them, so that the server never waits for a reader.
    log: Receiver<String>,
    pub(crate) log_so_far: String,
}

impl Server {
    pub(crate) fn start(world: &World, arguments: &[&str]) -> Server {
        Server::start_as(world.program_itself(), arguments)
    }

    /// Starts a server by a command that gets the options as further arguments.
    pub(crate) fn start_as(mut command: Command, arguments: &[&str]) -> Server {
        command.stdout(Stdio::piped());
        Server::start_with_stdout(command, arguments)
    }

    /// Starts a server by a command that has a stdout already.
    pub(crate) fn start_with_stdout(mut command: Command, arguments: &[&str]) -> Server {
        command.args(["--serve", "--port", "0"]).args(arguments);
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        // The command may hold ends of pipes that only the server must have.
        drop(command);
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let (text, port) = listening(&mut log);
        let (sender, receiver) = channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            while log.read_line(&mut line).is_ok_and(|length| length > 0) {
                // The test may have ended.
                let _ = sender.send(std::mem::take(&mut line));
            }
        });
        Server { child, port, log: receiver, log_so_far: text }
    }

    /// Waits until its log has `part` this many times.
    pub(crate) fn wait_for_log_times(&mut self, part: &str, times: usize) {
        while self.log_so_far.matches(part).count() < times {
            self.more_of_the_log();
        }
    }

    /// Waits for another line of its log.
    pub(crate) fn more_of_the_log(&mut self) {
        let line = self.next_line();
        self.log_so_far += &line;
    }

    fn next_line(&self) -> String {
        self.log.recv_timeout(PATIENCE).unwrap_or_else(|error| {
            panic!("no more of the log comes, {error}: {}", self.log_so_far)
        })
    }

    /// Waits until its log has `part`.
    pub(crate) fn wait_for_log(&mut self, part: &str) {
        self.wait_for_log_times(part, 1);
    }

    /// Waits until its log has `part` once more than in what was read of it.
    pub(crate) fn wait_for_log_again(&mut self, part: &str) {
        self.wait_for_log_times(part, self.log_so_far.matches(part).count() + 1);
    }

    pub(crate) fn lines(&mut self) -> BufReader<ChildStdout> {
        BufReader::new(self.child.stdout.take().unwrap())
    }

    /// Sends it a signal, such as `-TERM`.
    pub(crate) fn signal(&self, signal: &str) {
        tell(signal, &self.child.id().to_string());
    }

    /// Sends a signal to its process group, as a terminal does.
    pub(crate) fn signal_group(&self, signal: &str) {
        tell(signal, &format!("-{}", self.child.id()));
    }

    /// Stops it, and waits for its end. Returns its log.
    pub(crate) fn stop(&mut self) -> String {
        self.signal("-TERM");
        self.ended()
    }

    /// Waits for its end with status 0. Returns its log.
    pub(crate) fn ended(&mut self) -> String {
        self.ended_with(0)
    }

    /// Waits for its end and for that of its commands, which hold its stderr too. Returns its log.
    pub(crate) fn ended_with(&mut self, status: i32) -> String {
        let ended = self.child.wait().unwrap();
        loop {
            match self.log.recv_timeout(PATIENCE) {
                Ok(line) => self.log_so_far += &line,
                Err(RecvTimeoutError::Disconnected) => break,
                Err(error) => panic!("it has left something behind, {error}: {}", self.log_so_far),
            }
        }
        assert_eq!(ended.code(), Some(status), "{}", self.log_so_far);
        std::mem::take(&mut self.log_so_far)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A second SIGTERM makes a server end its commands, and then itself, at once. A kill would
        // leave the commands behind, since each is in a process group of its own.
        let begun = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) && begun.elapsed() < END_WAIT {
            let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
            let _ = self.log.recv_timeout(SIGNAL_EVERY);
        }
        // It has ended already where all went well.
        if let Ok(None) = self.child.try_wait() {
            for group in children(&self.child) {
                let _ = kill_process_group(group, Signal::KILL);
            }
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// The processes that a process has started and that still run.
fn children(parent: &Child) -> Vec<Pid> {
    let listed = Command::new("ps").args(["-A", "-o", "ppid=,pid="]).output();
    let listed = listed.map(|output| output.stdout).unwrap_or_default();
    let pids = |line: &str| -> Option<(u32, i32)> {
        let (parent, child) = line.trim().split_once(' ')?;
        Some((parent.parse().ok()?, child.trim().parse().ok()?))
    };
    String::from_utf8_lossy(&listed)
        .lines()
        .filter_map(pids)
        .filter(|(of, _)| *of == parent.id())
        .filter_map(|(_, child)| Pid::from_raw(child))
        .collect()
}

/// Reads a server's log until it says where it listens. Returns the log so far, and the port.
pub(crate) fn listening(log: &mut impl std::io::BufRead) -> (String, String) {
    let mut text = String::new();
    loop {
        assert_ne!(log.read_line(&mut text).unwrap(), 0, "{text}");
        if let Some((_, rest)) = text.split_once("]: Listening on ")
            && let Some((_, rest)) = rest.split_once("://127.0.0.1:")
        {
            let port = rest.split(' ').next().unwrap().to_owned();
            return (text, port);
        }
    }
}

/// Sends a signal to a process, or with `-` before its number to a group.
pub(crate) fn tell(signal: &str, process: &str) {
    let status = Command::new("kill").args([signal, "--", process]).status().unwrap();
    assert!(status.success(), "{signal} {process}");
}

/// Runs a command against the server, with `input` on its stdin.
pub(crate) fn client(world: &World, server: &Server, arguments: &[&str], input: &str) -> Output {
    let mut command = world.program_itself();
    command.args(arguments).args(["--port", &server.port]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    // A command that ends early leaves some of it unread.
    let feeder = std::thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
    let output = child.wait_with_output().unwrap();
    feeder.join().unwrap();
    output
}

/// Sends lines, all of which must be taken.
pub(crate) fn send(world: &World, server: &Server, lines: &str) {
    let sent = client(world, server, &["--send"], lines);
    assert!(sent.status.success(), "{}", text(&sent.stderr));
}

/// This many messages, a line each, numbered from 1.
pub(crate) fn numbered(count: usize) -> String {
    (1..=count).map(|number| format!("{{\"n\":{number}}}\n")).collect()
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

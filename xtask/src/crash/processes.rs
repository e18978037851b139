//! The processes of a run, and what they tell it.
//!
//! `run` comes here. Each process has threads that turn what it prints into events of one channel,
//! so that the run waits in one place. None outlives its handle.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::ops::Range;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

use super::options::{InboxKind, Mode, Reader};
use crate::e2e::sandbox::Sandbox;

/// How long a sender tries to get one message, or one batch, through, in seconds. Far longer than
/// any fault here lasts.
const DEADLINE_SECS: u32 = 120;

/// What happens in a run.
pub(super) enum Event {
    /// The receiver listens, and can be told to stop.
    Listening,
    /// The receiver printed the line of a message.
    Line(String),
    /// The receiver's output ended. A line without an end, which a kill cut off, was not read by
    /// anybody.
    ReceiverClosed,
    /// A sender's output ended; its place and what it printed.
    SenderClosed(usize, String),
    /// The proxy cut a connection.
    Cut(String),
}

/// A process; killed when dropped.
pub(super) struct Process(Child);

impl Process {
    /// Ends it as `kill -9` does.
    pub(super) fn kill(&mut self) -> Result<(), String> {
        self.0.kill().map_err(|error| format!("a process cannot be killed: {error}"))
    }

    /// Asks it to stop in good order.
    pub(super) fn terminate(&self) -> Result<(), String> {
        let status = Command::new("kill").arg("-TERM").arg(self.0.id().to_string()).status();
        match status {
            Ok(status) if status.success() => Ok(()),
            _ => Err("a process could not be told to stop".to_owned()),
        }
    }

    /// Waits for its end, which its closed output has announced.
    pub(super) fn wait(&mut self) -> Result<ExitStatus, String> {
        self.0.wait().map_err(|error| format!("a process cannot be waited for: {error}"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail on a process that has been waited for, which is what is wanted.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Lets what a receiver prints be read, or not.
#[derive(Default)]
pub(super) struct Gate {
    is_closed: Mutex<bool>,
    changed: Condvar,
}

impl Gate {
    /// Nothing is read from now on.
    pub(super) fn close(&self) {
        self.set(true);
    }

    /// Everything is read again.
    pub(super) fn open(&self) {
        self.set(false);
    }

    fn set(&self, is_closed: bool) {
        *self.is_closed.lock().unwrap_or_else(PoisonError::into_inner) = is_closed;
        self.changed.notify_all();
    }

    /// Waits while it is closed.
    fn go_through(&self) {
        let is_closed = self.is_closed.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.changed.wait_while(is_closed, |is_closed| *is_closed));
    }
}

/// A receiver, and the gate to what it prints.
pub(super) struct Receiving {
    pub(super) process: Process,
    pub(super) gate: Arc<Gate>,
}

impl Drop for Receiving {
    fn drop(&mut self) {
        // The thread that reads is to see the end.
        self.gate.open();
    }
}

/// Starts the receiver; its log goes to the end of `log`.
pub(super) fn receive(
    sandbox: &Sandbox,
    port: u16,
    (reader, inbox): (Reader, InboxKind),
    log: &Path,
    events: Sender<Event>,
) -> Result<Receiving, String> {
    let mut command = match reader {
        Reader::Receive => {
            let mut command = sandbox.example("receive");
            command.arg("--home").arg(sandbox.home());
            command.args(["--bind", &format!("127.0.0.1:{port}")]);
            // It says which channels are opened, as the other does unasked.
            command.env("RUST_LOG", "ipc_server=info");
            command
        }
        Reader::Serve => sandbox.command(&["--serve", "--port", &port.to_string()]),
    };
    command.args(["--inbox", inbox.word()]);
    let mut child = match reader {
        Reader::Receive => start(command, log)?,
        // It is its log that says when it listens.
        Reader::Serve => start_with(command, Stdio::piped())?,
    };
    if let Some(stderr) = child.stderr.take() {
        let (mut file, events) = (log_file(log)?, events.clone());
        thread::spawn(move || {
            for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
                let is_ready = String::from_utf8_lossy(&line).contains("]: Listening on ");
                // The log is for people to look at; a run that is over needs no event.
                let _ = file.write_all(&[&line[..], b"\n"].concat());
                if is_ready {
                    let _ = events.send(Event::Listening);
                }
            }
        });
    }
    let stdout = child.stdout.take();
    let gate = Arc::new(Gate::default());
    let reading = Arc::clone(&gate);
    thread::spawn(move || {
        let mut reader = BufReader::new(stdout.expect("start makes it a pipe"));
        let mut line = String::new();
        while reader.read_line(&mut line).is_ok_and(|length| length > 0) {
            let event = match line.strip_suffix('\n') {
                Some(whole) if whole.starts_with("listening on ") => Event::Listening,
                Some(whole) => Event::Line(whole.to_owned()),
                None => break,
            };
            if events.send(event).is_err() {
                return;
            }
            line.clear();
            reading.go_through();
        }
        // The run may be over.
        let _ = events.send(Event::ReceiverClosed);
    });
    Ok(Receiving { process: Process(child), gate })
}

/// Sends one message `{"from":FROM,"n":1}` with `web-ipc --send`, and waits until it is
/// acknowledged.
pub(super) fn send_one(sandbox: &Sandbox, port: u16, from: &str) -> Result<(), String> {
    let (port, message) = (port.to_string(), format!("{{\"from\":\"{from}\",\"n\":1}}"));
    let output = sandbox
        .command(&["--send", "--port", &port, &message])
        .output()
        .map_err(|error| format!("web-ipc --send: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!(
            "web-ipc --send: {}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        )),
    }
}

/// What a sender is to do.
pub(super) struct SenderTask<'a> {
    /// Its place among the senders.
    pub(super) place: usize,
    pub(super) mode: Mode,
    /// One address, or several with commas between them.
    pub(super) address: &'a str,
    /// How many messages, or requests, it has in flight.
    pub(super) in_flight: u64,
    /// The number of its first message.
    pub(super) start: u64,
    pub(super) count: u64,
    /// Where it writes what was acknowledged.
    pub(super) acks: &'a Path,
}

impl SenderTask<'_> {
    /// Whose message this number is: of those in flight each has an order of its own.
    pub(super) fn sequence_name(mode: Mode, in_flight: u64, number: u64) -> String {
        match mode {
            Mode::Send | Mode::Request if in_flight > 1 => {
                format!("{}.{}", mode.word(), number % in_flight)
            }
            _ => mode.word().to_owned(),
        }
    }
}

/// How many channels the servers with this log have opened, and how many POSTs with messages they
/// have answered. Where very many come at once, a log has not all of them.
pub(super) fn channels_and_posts(log: &Path) -> (usize, usize) {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    (text.matches("\"GET /message/channel\" 101").count(), text.matches("\"POST /message/").count())
}

/// The numbers in a file of acknowledgements from the byte `read` on, which is moved on.
pub(super) fn acknowledged(acks: &Path, read: &mut u64) -> Result<Vec<u64>, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", acks.display());
    let mut file = File::open(acks).map_err(failed)?;
    file.seek(SeekFrom::Start(*read)).map_err(failed)?;
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(failed)?;
    *read += text.len() as u64;
    text.lines().map(|line| line.parse().map_err(|_| format!("no number: {line}"))).collect()
}

/// Whether these are the numbers of `expected`, each once, and of those of one order each behind
/// the one before it.
pub(super) fn are_all_in_order(
    numbers: &[u64],
    expected: Range<u64>,
    mode: Mode,
    in_flight: u64,
) -> bool {
    let mut last = HashMap::new();
    let rises = |number: &u64| {
        last.insert(SenderTask::sequence_name(mode, in_flight, *number), *number)
            .is_none_or(|before| before < *number)
    };
    let mut sorted = numbers.to_vec();
    sorted.sort_unstable();
    sorted.into_iter().eq(expected) && numbers.iter().all(rises)
}

/// What a log says last.
pub(super) fn log_tail(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

/// Starts a sender; its log goes to the end of `log`.
pub(super) fn send(
    sandbox: &Sandbox,
    task: &SenderTask<'_>,
    log: &Path,
    events: Sender<Event>,
) -> Result<Process, String> {
    let mut command = sandbox.example("load");
    command.arg("--home").arg(sandbox.home()).arg("--acks").arg(task.acks);
    command.args(["--server", "localhost", "--address", task.address]);
    command.args(["--from", task.mode.word(), "--mode", task.mode.word()]);
    command.args(["--start", &task.start.to_string(), "--count", &task.count.to_string()]);
    command.args([
        "--deadline",
        &DEADLINE_SECS.to_string(),
        "--in-flight",
        &task.in_flight.to_string(),
    ]);
    let mut child = start(command, log)?;
    let (place, stdout) = (task.place, child.stdout.take());
    thread::spawn(move || {
        let mut said = String::new();
        // What cannot be read is not what a good sender prints, and is judged so.
        let _ = stdout.expect("start makes it a pipe").read_to_string(&mut said);
        let _ = events.send(Event::SenderClosed(place, said));
    });
    Ok(Process(child))
}

/// Starts a process with its stdout as a pipe and its stderr at the end of `log`.
fn start(command: Command, log: &Path) -> Result<Child, String> {
    let log = log_file(log)?;
    start_with(command, log.into())
}

fn start_with(mut command: Command, stderr: Stdio) -> Result<Child, String> {
    command.stdout(Stdio::piped()).stderr(stderr);
    command.spawn().map_err(|error| format!("{}: {error}", command.get_program().display()))
}

/// A log to write at the end of.
fn log_file(path: &Path) -> Result<File, String> {
    let opened = OpenOptions::new().create(true).append(true).open(path);
    opened.map_err(|error| format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Process {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Process(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap())
    }

    #[test]
    fn the_end_of_a_log_is_its_last_lines() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        assert_eq!(log_tail(&log), "");
        let lines: Vec<String> = (0..30).map(|number| number.to_string()).collect();
        std::fs::write(&log, lines.join("\n")).unwrap();
        assert_eq!(log_tail(&log), lines[10..].join("\n"));
    }

    #[test]
    fn acknowledged_numbers_are_read_once() {
        let folder = tempfile::tempdir().unwrap();
        let acks = folder.path().join("send.acks");
        let mut read = 0;
        std::fs::write(&acks, "1\n2\n").unwrap();
        assert_eq!(acknowledged(&acks, &mut read).unwrap(), [1, 2]);
        std::fs::write(&acks, "1\n2\n3\n").unwrap();
        assert_eq!(acknowledged(&acks, &mut read).unwrap(), [3]);
        std::fs::write(&acks, "1\n2\n3\nx\n").unwrap();
        assert!(acknowledged(&acks, &mut read).is_err());
    }

    #[test]
    fn of_several_in_flight_each_has_its_order() {
        let are =
            |numbers: &[u64], mode, in_flight| are_all_in_order(numbers, 1..5, mode, in_flight);
        assert!(are(&[1, 2, 3, 4], Mode::SendAll, 2) && are(&[1, 2, 3, 4], Mode::Send, 1));
        assert!(are(&[2, 1, 4, 3], Mode::Send, 2) && are(&[4, 3, 2, 1], Mode::Request, 4));
        // Out of order, missing, twice, too many.
        assert!(!are(&[2, 1, 4, 3], Mode::SendAll, 2) && !are(&[3, 1, 2, 4], Mode::Send, 2));
        assert!(!are(&[1, 2, 3], Mode::Send, 2) && !are(&[1, 2, 3, 3], Mode::Send, 2));
        assert!(!are(&[1, 2, 3, 4, 5], Mode::Send, 2));
    }

    #[test]
    fn channels_and_posts_are_counted_in_the_log() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        assert_eq!(channels_and_posts(&log), (0, 0));
        let [channel, post] = ["GET /message/channel", "POST /message/submit"]
            .map(|request| move |status: u16| format!("1.2.3.4:5 - \"{request}\" {status}\n"));
        let lines =
            [channel(101), channel(426), post(200), "x\n".to_owned(), channel(101), post(503)];
        std::fs::write(&log, lines.concat()).unwrap();
        assert_eq!(channels_and_posts(&log), (2, 2));
    }

    #[test]
    fn a_killed_process_has_no_exit_code() {
        let mut process = shell("exec cat");
        process.kill().unwrap();
        assert_eq!(process.wait().unwrap().code(), None);
    }

    #[test]
    fn a_closed_gate_holds_whoever_comes_until_it_opens() {
        let gate = Arc::new(Gate::default());
        gate.go_through();
        gate.close();
        let (passed, held) = (Arc::new(Mutex::new(false)), Arc::clone(&gate));
        let noted = Arc::clone(&passed);
        let waiting = thread::spawn(move || {
            held.go_through();
            *noted.lock().unwrap() = true;
        });
        assert!(!*passed.lock().unwrap());
        gate.open();
        waiting.join().unwrap();
        assert!(*passed.lock().unwrap());
    }

    #[test]
    fn a_process_can_be_told_to_stop() {
        let mut process = shell("trap 'exit 7' TERM; echo ready; while :; do read x; done");
        let mut line = String::new();
        BufReader::new(process.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
        process.terminate().unwrap();
        assert_eq!(process.wait().unwrap().code(), Some(7));
    }
}

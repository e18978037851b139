//! Child processes that cannot outlive a scenario and whose output is always looked at.
//!
//! Every scenario comes here, mostly through `sandbox`. Nothing here waits for a time to pass: it
//! waits for a line, or for the end of the output, until a deadline that is a failure. It knows
//! nothing of web-ipc but its rule that no user ever sees a panic.

use std::io::{BufRead, BufReader, PipeReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

/// How long anything may take before it counts as hanging. Generous: the slowest machine that
/// builds this is not fast.
const DEADLINE: Duration = Duration::from_secs(120);

/// What a command left behind.
pub(super) struct Finished {
    command: String,
    pub(super) status: ExitStatus,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

impl Finished {
    /// The same command, having ended with 0; fails with all it printed otherwise.
    #[track_caller]
    pub(super) fn succeeded(self) -> Self {
        self.ended_with(0)
    }

    /// The same command, having ended with this exit status.
    #[track_caller]
    pub(super) fn ended_with(self, code: i32) -> Self {
        assert!(
            self.status.code() == Some(code),
            "expected exit status {code}:\n{}",
            self.report()
        );
        self
    }

    /// The same command, having printed `part` on stdout or stderr.
    #[track_caller]
    pub(super) fn says(self, part: &str) -> Self {
        assert!(
            self.stdout.contains(part) || self.stderr.contains(part),
            "expected {part:?}:\n{}",
            self.report()
        );
        self
    }

    /// The same command, having failed with exactly one line on stderr: what went wrong and what to
    /// do.
    #[track_caller]
    pub(super) fn failed_in_one_sentence(self) -> Self {
        let checked = self.ended_with(1);
        let lines = checked.stderr.lines().filter(|line| line.contains("][ERROR][")).count();
        assert!(lines == 1, "expected one line at ERROR, got {lines}:\n{}", checked.report());
        assert!(checked.stdout.is_empty(), "expected nothing on stdout:\n{}", checked.report());
        checked
    }

    /// Everything there is to say when an expectation fails.
    pub(super) fn report(&self) -> String {
        format!(
            "$ {}\n{}\nstdout:\n{}stderr:\n{}",
            self.command, self.status, self.stdout, self.stderr
        )
    }
}

/// Runs a command to its end with nothing on its stdin.
#[track_caller]
pub(super) fn finish(command: Command) -> Finished {
    finish_with(command, "")
}

/// Runs a command to its end with this text on its stdin.
#[track_caller]
pub(super) fn finish_with(command: Command, stdin: &str) -> Finished {
    Running::start(command, stdin).finish()
}

/// Runs a command to its end with stdout and stderr in one pipe, in the order in which a terminal
/// shows them.
#[track_caller]
pub(super) fn finish_merged(command: Command) -> Finished {
    Running::start_merged(command).finish()
}

/// A pipe's writing end whose reader is gone, as after `| head -0`.
pub(super) fn broken_pipe() -> Stdio {
    let (reader, writer) = std::io::pipe().expect("the system makes a pipe");
    drop::<PipeReader>(reader);
    writer.into()
}

#[derive(Clone, Copy, PartialEq)]
enum Stream {
    Out,
    Err,
}

/// A child process at work; killed when dropped.
pub(super) struct Running {
    shown: String,
    child: Child,
    /// Lines with their line feed as they come; `None` when a stream has ended.
    lines: Receiver<(Stream, Option<String>)>,
    stdout: String,
    stderr: String,
    /// Streams that have not ended.
    open: usize,
}

impl Running {
    /// Starts a command with this text on its stdin. A stdout or stderr that the caller has set
    /// stays as it is.
    #[track_caller]
    pub(super) fn start(mut command: Command, stdin: &str) -> Self {
        let shown = show(&command);
        command.stdin(if stdin.is_empty() { Stdio::null() } else { Stdio::piped() });
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{shown}: {error}"));
        if let Some(mut pipe) = child.stdin.take() {
            use std::io::Write as _;
            // A child that ends without reading breaks the pipe; what it says then is for the
            // caller to judge.
            let _ = pipe.write_all(stdin.as_bytes());
        }
        let (sender, lines) = channel();
        let mut open = 0;
        if let Some(pipe) = child.stdout.take() {
            open += 1;
            read_lines(pipe, Stream::Out, sender.clone());
        }
        if let Some(pipe) = child.stderr.take() {
            open += 1;
            read_lines(pipe, Stream::Err, sender);
        }
        Self { shown, child, lines, stdout: String::new(), stderr: String::new(), open }
    }

    /// Starts a command with nothing on its stdin, and stdout and stderr in one pipe. All of it
    /// counts as stdout.
    #[track_caller]
    pub(super) fn start_merged(mut command: Command) -> Self {
        let (reader, writer) = std::io::pipe().expect("the system makes a pipe");
        let second = writer.try_clone().expect("the system copies a handle");
        command.stdin(Stdio::null()).stdout(writer).stderr(second);
        let shown = show(&command);
        let child = command.spawn().unwrap_or_else(|error| panic!("{shown}: {error}"));
        // The command owns the parent's writing ends; while they are open the pipe never ends.
        drop(command);
        let (sender, lines) = channel();
        read_lines(reader, Stream::Out, sender);
        Self { shown, child, lines, stdout: String::new(), stderr: String::new(), open: 1 }
    }

    /// Waits until `is_complete` accepts what stdout holds; `awaited` says what that is.
    #[track_caller]
    pub(super) fn wait_until(&mut self, awaited: &str, is_complete: impl Fn(&str) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        while !is_complete(&self.stdout) {
            self.more(deadline, awaited);
        }
    }

    /// Waits for a line on stdout that begins with `beginning` and returns the rest of it.
    #[track_caller]
    pub(super) fn wait_for_line(&mut self, beginning: &str) -> String {
        let deadline = Instant::now() + DEADLINE;
        let mut seen = 0;
        loop {
            while let Some(end) = self.stdout[seen..].find('\n') {
                let line = &self.stdout[seen..seen + end];
                if let Some(rest) = line.strip_prefix(beginning) {
                    return rest.to_owned();
                }
                seen += end + 1;
            }
            self.more(deadline, &format!("a line that begins with {beginning:?}"));
        }
    }

    /// Waits until stdout holds this many lines in all.
    #[track_caller]
    pub(super) fn wait_for_lines(&mut self, count: usize) {
        let deadline = Instant::now() + DEADLINE;
        while self.stdout.lines().count() < count {
            self.more(deadline, &format!("{count} lines"));
        }
    }

    /// Waits until stdout holds `part`.
    #[track_caller]
    pub(super) fn wait_for_stdout(&mut self, part: &str) {
        let deadline = Instant::now() + DEADLINE;
        while !self.stdout.contains(part) {
            self.more(deadline, &format!("{part:?} on stdout"));
        }
    }

    /// Waits for a line on stderr with `part` in it and returns the rest of the line.
    #[track_caller]
    pub(super) fn wait_for_log(&mut self, part: &str) -> String {
        let deadline = Instant::now() + DEADLINE;
        loop {
            // Lines come whole.
            if let Some((_, rest)) = self.stderr.split_once(part) {
                return rest.lines().next().unwrap_or_default().to_owned();
            }
            self.more(deadline, &format!("{part:?} on stderr"));
        }
    }

    /// The process's number.
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Asks the process to stop in good order.
    #[track_caller]
    pub(super) fn terminate(&self) {
        let status = Command::new("kill").arg("-TERM").arg(self.child.id().to_string()).status();
        assert!(
            status.is_ok_and(|status| status.success()),
            "{} could not be told to stop",
            self.shown
        );
    }

    /// Ends the process as `kill -9` does, and waits until it is gone.
    #[track_caller]
    pub(super) fn kill(mut self) {
        // One that has ended by itself is as good.
        let _ = self.child.kill();
        self.child.wait().expect("a child can be waited for");
    }

    /// Waits until the process has closed its output and ended.
    #[track_caller]
    pub(super) fn finish(mut self) -> Finished {
        let deadline = Instant::now() + DEADLINE;
        while self.open > 0 {
            self.more(deadline, "its end");
        }
        let status = self.child.wait().expect("a child can be waited for");
        let finished = Finished {
            command: self.shown.clone(),
            status,
            stdout: std::mem::take(&mut self.stdout),
            stderr: std::mem::take(&mut self.stderr),
        };
        refuse_panics(&finished);
        finished
    }

    /// Takes in the next line of either stream, or that one has ended.
    #[track_caller]
    fn more(&mut self, deadline: Instant, awaited: &str) {
        let left = deadline.saturating_duration_since(Instant::now());
        match self.lines.recv_timeout(left) {
            Ok((Stream::Out, Some(line))) => self.stdout.push_str(&line),
            Ok((Stream::Err, Some(line))) => self.stderr.push_str(&line),
            Ok((_, None)) => self.open -= 1,
            Err(why) => {
                let why = match why {
                    RecvTimeoutError::Timeout => {
                        format!("did not come within {} s", DEADLINE.as_secs())
                    }
                    RecvTimeoutError::Disconnected => "never came".to_owned(),
                };
                panic!(
                    "$ {}\n{awaited} {why}\nstdout:\n{}stderr:\n{}",
                    self.shown, self.stdout, self.stderr
                );
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail on a process that has been waited for, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read_lines(
    pipe: impl Read + Send + 'static,
    stream: Stream,
    sender: Sender<(Stream, Option<String>)>,
) {
    thread::spawn(move || {
        let mut reader = BufReader::new(pipe);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
            if sender.send((stream, Some(String::from_utf8_lossy(&line).into_owned()))).is_err() {
                return;
            }
            line.clear();
        }
        // The scenario may be over.
        let _ = sender.send((stream, None));
    });
}

/// No run of anything, whatever it was asked to do, may show a user the inside of the program.
#[track_caller]
fn refuse_panics(finished: &Finished) {
    for sign in ["panicked at", "stack backtrace", "internal error", "RUST_BACKTRACE"] {
        let shown = finished.stdout.contains(sign) || finished.stderr.contains(sign);
        assert!(!shown, "the output shows {sign:?}:\n{}", finished.report());
    }
}

fn show(command: &Command) -> String {
    let mut shown = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        shown.push(' ');
        shown.push_str(&argument.to_string_lossy());
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    #[test]
    fn both_streams_and_the_status_are_kept() {
        let finished = finish(shell("echo out; echo err >&2; exit 3"));
        assert_eq!((finished.stdout.as_str(), finished.stderr.as_str()), ("out\n", "err\n"));
        assert_eq!(finished.status.code(), Some(3));
    }

    #[test]
    fn stdin_is_given() {
        assert_eq!(finish_with(shell("cat"), "a\nb").stdout, "a\nb");
    }

    #[test]
    fn merged_output_keeps_its_order() {
        let finished = finish_merged(shell("echo 1; echo 2 >&2; echo 3"));
        assert_eq!(finished.stdout, "1\n2\n3\n");
    }

    #[test]
    fn a_line_is_waited_for_and_what_follows_is_kept() {
        let mut running = Running::start(shell("echo ready; echo 'at 5'; read x; echo $x"), "go\n");
        assert_eq!(running.wait_for_line("at "), "5");
        assert_eq!(running.finish().stdout, "ready\nat 5\ngo\n");
    }

    #[test]
    fn a_part_of_either_stream_is_waited_for() {
        let mut running =
            Running::start(shell("echo 'port 5 up' >&2; echo ready; exec cat"), "go\n");
        assert_eq!(running.wait_for_log("port "), "5 up");
        running.wait_for_stdout("go");
        assert_eq!(running.finish().stdout, "ready\ngo\n");
    }

    #[test]
    #[should_panic(expected = "never came")]
    fn a_line_that_cannot_come_any_more_fails_at_once() {
        Running::start(shell("echo something"), "").wait_for_line("ready");
    }

    #[test]
    #[should_panic(expected = "the output shows \"panicked at\"")]
    fn a_panic_on_any_stream_is_a_failure() {
        finish(shell("echo \"thread 'main' panicked at src/main.rs:1:1:\" >&2"));
    }

    #[test]
    #[should_panic(expected = "expected exit status 0")]
    fn another_exit_status_is_a_failure() {
        finish(shell("exit 1")).succeeded();
    }

    #[test]
    fn a_dropped_child_is_killed() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let mut command = shell("exec cat");
        command.stdout(writer);
        let (stdin_reader, stdin_writer) = std::io::pipe().unwrap();
        let child = command.stdin(stdin_reader).spawn().unwrap();
        drop(command);
        let (_, lines) = channel();
        drop(Running {
            shown: String::new(),
            child,
            lines,
            stdout: String::new(),
            stderr: String::new(),
            open: 0,
        });
        // Only the child held the writing end: it is gone, though its stdin is still open.
        assert_eq!(reader.read(&mut [0]).unwrap(), 0);
        drop(stdin_writer);
    }

    #[test]
    fn a_process_can_be_told_to_stop() {
        let mut running = Running::start(
            shell("trap 'echo stopped; exit 0' TERM; echo ready; while :; do read x; done"),
            "",
        );
        running.wait_for_line("ready");
        running.terminate();
        assert_eq!(running.finish().stdout, "ready\nstopped\n");
    }
}

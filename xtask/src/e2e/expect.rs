//! The expectations of scenarios. Where one is not met, the function panics with a full report.
//!
//! Every scenario comes here for its processes, which `driver` runs. Of web-ipc this file knows
//! only the rule that no user ever sees a panic.

use std::io::{PipeReader, PipeWriter};
use std::process::{Command, Stdio};

use crate::driver::{Built, Captured, Finished, Sandbox};

impl Finished {
    /// Checks that the exit status is 0.
    #[track_caller]
    pub(super) fn succeeded(self) -> Self {
        self.ended_with(0)
    }

    /// Checks the exit status.
    #[track_caller]
    pub(super) fn ended_with(self, code: i32) -> Self {
        assert!(
            self.status.code() == Some(code),
            "expected exit status {code}:\n{}",
            self.report()
        );
        self
    }

    /// Checks that stdout or stderr contains `part`.
    #[track_caller]
    pub(super) fn says(self, part: &str) -> Self {
        assert!(
            self.stdout.contains(part) || self.stderr.contains(part),
            "expected {part:?}:\n{}",
            self.report()
        );
        self
    }

    /// Checks that the command failed with exactly one line on stderr: what went wrong and what to
    /// do.
    #[track_caller]
    pub(super) fn failed_in_one_sentence(self) -> Self {
        self.ended_in_one_sentence(1)
    }

    /// The same with another status than 1.
    #[track_caller]
    pub(super) fn ended_in_one_sentence(self, status: i32) -> Self {
        let checked = self.ended_with(status);
        let is_error = |line: &&str| line.contains("][ERROR][") || line.starts_with("error: ");
        let lines = checked.stderr.lines().filter(is_error).count();
        assert!(lines == 1, "expected one error, got {lines}:\n{}", checked.report());
        assert!(checked.stdout.is_empty(), "expected nothing on stdout:\n{}", checked.report());
        checked
    }
}

impl Sandbox {
    /// Makes a sandbox with a home made by `--init --run`.
    #[track_caller]
    pub(super) fn with_home(built: &Built) -> Self {
        expect(Self::initialised(built))
    }

    /// Runs `web-ipc` with these arguments to its end.
    #[track_caller]
    pub(super) fn run(&self, arguments: &[&str]) -> Finished {
        finish(self.command(arguments))
    }

    /// Starts `web-ipc` with these arguments.
    #[track_caller]
    pub(super) fn start(&self, arguments: &[&str]) -> Running {
        Running::start(self.command(arguments), "")
    }
}

/// Runs a command to its end, with an empty stdin.
#[track_caller]
pub(super) fn finish(command: Command) -> Finished {
    Running::start(command, "").finish()
}

/// Runs a command to its end, with stdout and stderr in one pipe, in the order that a terminal
/// shows.
#[track_caller]
pub(super) fn finish_merged(command: Command) -> Finished {
    Running::start_merged(command).finish()
}

/// The writing end of a pipe without a reader, as after `| head -0`.
pub(super) fn broken_pipe() -> Stdio {
    let (reader, writer) = std::io::pipe().expect("the system makes a pipe");
    drop::<PipeReader>(reader);
    writer.into()
}

/// A running child process. It is killed when dropped.
pub(super) struct Running(Captured);

impl Running {
    /// Starts a command with this text on its stdin. A stdout or stderr that the caller has
    /// redirected is not captured.
    #[track_caller]
    pub(super) fn start(command: Command, stdin: &str) -> Self {
        Running(expect(Captured::start(command, stdin)))
    }

    /// Starts a command with an empty stdin, and with stdout and stderr in one pipe. All output
    /// counts as stdout.
    #[track_caller]
    pub(super) fn start_merged(command: Command) -> Self {
        Running(expect(Captured::start_merged(command, Stdio::null())))
    }

    /// Like [`start_merged`](Self::start_merged), with a stdin that the caller writes to meanwhile.
    #[track_caller]
    pub(super) fn start_typed(command: Command) -> (Self, PipeWriter) {
        let (stdin, typed) = std::io::pipe().expect("the system makes a pipe");
        (Running(expect(Captured::start_merged(command, stdin.into()))), typed)
    }

    /// Waits until `is_complete` accepts the stdout so far. `awaited` describes it for the error.
    #[track_caller]
    pub(super) fn wait_until(&mut self, awaited: &str, is_complete: impl Fn(&str) -> bool) {
        expect(self.0.wait_until(awaited, is_complete));
    }

    /// Waits for a line on stdout that begins with `beginning`, and returns the rest of it.
    #[track_caller]
    pub(super) fn wait_for_line(&mut self, beginning: &str) -> String {
        expect(self.0.wait_for_line(beginning))
    }

    /// Waits until stdout has this many lines in all.
    #[track_caller]
    pub(super) fn wait_for_lines(&mut self, count: usize) {
        expect(self.0.wait_for_lines(count));
    }

    /// Waits until stdout contains `part`.
    #[track_caller]
    pub(super) fn wait_for_stdout(&mut self, part: &str) {
        expect(self.0.wait_for_stdout(part));
    }

    /// Waits for a line on stderr that contains `part`, and returns the rest of the line.
    #[track_caller]
    pub(super) fn wait_for_log(&mut self, part: &str) -> String {
        expect(self.0.wait_for_log(part))
    }

    /// Waits for a line on stderr that contains `part`, after all that earlier calls of this
    /// function found, and returns the rest of the line.
    #[track_caller]
    pub(super) fn wait_for_next_log(&mut self, part: &str) -> String {
        expect(self.0.wait_for_next_log(part))
    }

    /// The process id.
    pub(super) fn id(&self) -> u32 {
        self.0.id()
    }

    /// Asks the process to stop, with SIGTERM.
    #[track_caller]
    pub(super) fn terminate(&self) {
        expect(self.0.terminate());
    }

    /// Kills the process with SIGKILL, and waits for its end.
    #[track_caller]
    pub(super) fn kill(self) {
        expect(self.0.kill());
    }

    /// Waits until the process has closed its output and ended.
    #[track_caller]
    pub(super) fn finish(self) -> Finished {
        let finished = expect(self.0.finish());
        refuse_panics(&finished);
        finished
    }
}

/// Returns the value. An error fails the scenario.
#[track_caller]
fn expect<T>(result: Result<T, String>) -> T {
    result.unwrap_or_else(|error| panic!("{error}"))
}

/// Checks that the output shows no panic or backtrace, which no user may ever see.
#[track_caller]
fn refuse_panics(finished: &Finished) {
    for sign in ["panicked at", "stack backtrace", "internal error", "RUST_BACKTRACE"] {
        let shown = finished.stdout.contains(sign) || finished.stderr.contains(sign);
        assert!(!shown, "the output shows {sign:?}:\n{}", finished.report());
    }
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
    #[should_panic(expected = "never came")]
    fn a_line_that_cannot_come_any_more_is_a_failure() {
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
    #[should_panic(expected = "expected \"ready\"")]
    fn what_was_not_printed_is_a_failure() {
        finish(shell("echo something")).says("ready");
    }
}

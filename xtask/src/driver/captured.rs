//! A process whose output is collected, and can be waited for.
//!
//! The scenarios of `e2e`, mostly through `expect`, and `bench` come here. Nothing sleeps here:
//! each function waits for a line or for the end of the output, and fails at a deadline.

use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use super::process::{Output, Process, Stream};

/// How long a function waits before the process counts as hanging. The value is generous, since
/// some machines that run the tests are slow.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// The output and status of a process that has ended.
pub(crate) struct Finished {
    command: String,
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Finished {
    /// A report of the whole result, for a result that is not as expected.
    pub(crate) fn report(&self) -> String {
        format!(
            "$ {}\n{}\nstdout:\n{}stderr:\n{}",
            self.command, self.status, self.stdout, self.stderr
        )
    }
}

/// A running process with everything that it has printed. It is killed when dropped.
pub(crate) struct Captured {
    process: Process,
    /// Output that was not collected yet. The channel closes when both streams have ended.
    outputs: Receiver<Output>,
    stdout: String,
    stderr: String,
    /// Up to here `wait_for_next_log` has read stderr.
    log_read: usize,
}

impl Captured {
    /// Starts a command with this text on its stdin. A stdout or stderr that the caller has
    /// redirected is not captured.
    pub(crate) fn start(command: Command, stdin: &str) -> Result<Self, String> {
        let (sender, outputs) = channel();
        Ok(Self::of(Process::start(command, stdin, keep(sender))?, outputs))
    }

    /// Starts a command with this stdin, and with stdout and stderr in one pipe, in the order that
    /// a terminal shows.
    pub(crate) fn start_merged(command: Command, stdin: Stdio) -> Result<Self, String> {
        let (sender, outputs) = channel();
        Ok(Self::of(Process::start_merged(command, stdin, keep(sender))?, outputs))
    }

    fn of(process: Process, outputs: Receiver<Output>) -> Self {
        let (stdout, stderr) = (String::new(), String::new());
        Captured { process, outputs, stdout, stderr, log_read: 0 }
    }

    /// The process id.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Waits for a line on stdout that begins with `beginning`, and returns the rest of it.
    pub(crate) fn wait_for_line(&mut self, beginning: &str) -> Result<String, String> {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = 0;
        loop {
            while let Some(end) = self.stdout[seen..].find('\n') {
                let line = &self.stdout[seen..seen + end];
                if let Some(rest) = line.strip_prefix(beginning) {
                    return Ok(rest.to_owned());
                }
                seen += end + 1;
            }
            self.take_in(deadline, &format!("a line that begins with {beginning:?}"))?;
        }
    }

    /// Waits until stdout has this many lines in all.
    pub(crate) fn wait_for_lines(&mut self, count: usize) -> Result<(), String> {
        self.wait_until(&format!("{count} lines"), |stdout| stdout.lines().count() >= count)
    }

    /// Waits until stdout contains `part`.
    pub(crate) fn wait_for_stdout(&mut self, part: &str) -> Result<(), String> {
        self.wait_until(&format!("{part:?} on stdout"), |stdout| stdout.contains(part))
    }

    /// Waits until `is_complete` accepts the stdout so far. `awaited` describes it for the error.
    pub(crate) fn wait_until(
        &mut self,
        awaited: &str,
        is_complete: impl Fn(&str) -> bool,
    ) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        while !is_complete(&self.stdout) {
            self.take_in(deadline, awaited)?;
        }
        Ok(())
    }

    /// Waits for a line on stderr that contains `part`, and returns the rest of the line.
    pub(crate) fn wait_for_log(&mut self, part: &str) -> Result<String, String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            // Only whole lines arrive.
            if let Some((_, rest)) = self.stderr.split_once(part) {
                return Ok(rest.lines().next().unwrap_or_default().to_owned());
            }
            self.take_in(deadline, &format!("{part:?} on stderr"))?;
        }
    }

    /// Like [`wait_for_log`](Self::wait_for_log), for a line after all that earlier calls of this
    /// function found.
    pub(crate) fn wait_for_next_log(&mut self, part: &str) -> Result<String, String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            while let Some(end) = self.stderr[self.log_read..].find('\n') {
                let line = &self.stderr[self.log_read..self.log_read + end];
                self.log_read += end + 1;
                if let Some((_, rest)) = line.split_once(part) {
                    return Ok(rest.to_owned());
                }
            }
            self.take_in(deadline, &format!("{part:?} on stderr"))?;
        }
    }

    /// Asks the process to stop, with SIGTERM.
    pub(crate) fn terminate(&self) -> Result<(), String> {
        self.process.terminate()
    }

    /// Kills the process with SIGKILL, and waits for its end.
    pub(crate) fn kill(mut self) -> Result<(), String> {
        self.process.kill()?;
        self.process.wait().map(|_| ())
    }

    /// Waits until the process has closed its output and ended.
    pub(crate) fn finish(self) -> Result<Finished, String> {
        self.finish_within(PATIENCE)
    }

    /// Like [`finish`](Self::finish), with another deadline.
    pub(crate) fn finish_within(mut self, patience: Duration) -> Result<Finished, String> {
        let deadline = Instant::now() + patience;
        while !self.take_next(deadline, "its end", patience)? {}
        let status = self.process.wait()?;
        let command = self.process.shown().to_owned();
        let (stdout, stderr) = (std::mem::take(&mut self.stdout), std::mem::take(&mut self.stderr));
        Ok(Finished { command, status, stdout, stderr })
    }

    /// Collects the next output. The end of both streams is an error.
    fn take_in(&mut self, deadline: Instant, awaited: &str) -> Result<(), String> {
        match self.take_next(deadline, awaited, PATIENCE)? {
            false => Ok(()),
            true => Err(self.failed(awaited, "never came")),
        }
    }

    /// Collects the next output. Returns true if both streams have ended.
    fn take_next(
        &mut self,
        deadline: Instant,
        awaited: &str,
        patience: Duration,
    ) -> Result<bool, String> {
        let left = deadline.saturating_duration_since(Instant::now());
        match self.outputs.recv_timeout(left) {
            Ok(Output::Line(Stream::Out, line)) => self.stdout.push_str(&line),
            Ok(Output::Line(Stream::Err, line)) => self.stderr.push_str(&line),
            Ok(Output::End(_)) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(true),
            Err(RecvTimeoutError::Timeout) => {
                let why = format!("did not come within {} s", patience.as_secs());
                return Err(self.failed(awaited, &why));
            }
        }
        Ok(false)
    }

    fn failed(&self, awaited: &str, why: &str) -> String {
        format!(
            "$ {}\n{awaited} {why}\nstdout:\n{}stderr:\n{}",
            self.process.shown(),
            self.stdout,
            self.stderr
        )
    }
}

/// A reader that passes all output to the waiting side.
fn keep(sender: Sender<Output>) -> impl FnMut(Output) + Clone + Send + 'static {
    move |output| {
        // The waiting side may have been dropped.
        let _ = sender.send(output);
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

    fn start(script: &str, stdin: &str) -> Captured {
        Captured::start(shell(script), stdin).unwrap()
    }

    #[test]
    fn both_streams_and_the_status_are_kept() {
        let finished = start("echo out; echo err >&2; exit 3", "").finish().unwrap();
        assert_eq!((finished.stdout.as_str(), finished.stderr.as_str()), ("out\n", "err\n"));
        assert_eq!(finished.status.code(), Some(3));
        for part in ["exit 3", "out", "err", "exit status: 3"] {
            assert!(finished.report().contains(part), "{part}: {}", finished.report());
        }
    }

    #[test]
    fn a_line_of_the_log_is_found_once() {
        let mut process = start("echo a 1 >&2; echo b 2 >&2; echo a 3 >&2", "");
        assert_eq!(process.wait_for_log("a ").unwrap(), "1");
        assert_eq!(process.wait_for_next_log("a ").unwrap(), "1");
        assert_eq!(process.wait_for_next_log("a ").unwrap(), "3");
        let error = process.wait_for_next_log("b ").unwrap_err();
        assert!(error.contains("never came"), "{error}");
        assert_eq!(process.wait_for_log("b ").unwrap(), "2");
    }

    #[test]
    fn stdin_is_given_though_it_is_more_than_a_pipe_holds() {
        let text = "a line\n".repeat(100_000);
        assert!(start("cat", &text).finish().unwrap().stdout == text);
    }

    #[test]
    fn merged_output_keeps_its_order() {
        let merged =
            Captured::start_merged(shell("echo 1; echo 2 >&2; echo 3"), Stdio::null()).unwrap();
        assert_eq!(merged.finish().unwrap().stdout, "1\n2\n3\n");
    }

    #[test]
    fn a_line_is_waited_for_and_what_follows_is_kept() {
        let mut running = start("echo ready; echo 'at 5'; read x; echo $x", "go\n");
        assert_eq!(running.wait_for_line("at ").unwrap(), "5");
        assert_eq!(running.finish().unwrap().stdout, "ready\nat 5\ngo\n");
    }

    #[test]
    fn a_part_of_either_stream_is_waited_for() {
        let mut running = start("echo 'port 5 up' >&2; echo ready; exec cat", "go\n");
        assert_eq!(running.wait_for_log("port ").unwrap(), "5 up");
        running.wait_for_stdout("go").unwrap();
        running.wait_for_lines(2).unwrap();
        assert_eq!(running.finish().unwrap().stdout, "ready\ngo\n");
    }

    #[test]
    fn what_cannot_come_any_more_fails_at_once_with_all_that_was_printed() {
        let printed = || start("echo something; echo other >&2", "");
        let errors = [
            printed().wait_for_line("ready").unwrap_err(),
            printed().wait_for_lines(2).unwrap_err(),
            printed().wait_for_stdout("ready").unwrap_err(),
            printed().wait_for_log("ready").unwrap_err(),
        ];
        for error in errors {
            assert!(
                ["never came", "something", "other"].iter().all(|part| error.contains(part)),
                "{error}"
            );
        }
    }

    #[test]
    fn what_does_not_end_in_time_is_told() {
        let hanging = start("echo begun; exec tail -f /dev/null", "");
        let error = hanging.finish_within(Duration::ZERO).err().unwrap();
        assert!(error.contains("its end did not come within 0 s"), "{error}");
    }

    #[test]
    fn a_process_can_be_told_to_stop() {
        let mut running =
            start("trap 'echo stopped; exit 0' TERM; echo ready; while :; do sleep 0.01; done", "");
        running.wait_for_line("ready").unwrap();
        running.terminate().unwrap();
        assert_eq!(running.finish().unwrap().stdout, "ready\nstopped\n");
    }
}

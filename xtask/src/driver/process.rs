//! A child process whose output is read line by line, and which is killed when its handle is
//! dropped.
//!
//! Every program that a task runs is started here. The task gives a reader, a function that gets
//! each line on a thread of its own.

use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;

/// A standard stream of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Out,
    Err,
}

/// Output that was read from a stream.
#[derive(Debug)]
pub(crate) enum Output {
    /// A line with its line feed. The last line of a stream may lack it, if a kill cut the line
    /// off.
    Line(Stream, String),
    /// The stream has ended.
    End(Stream),
}

/// A child process. It is killed when dropped.
pub(crate) struct Process {
    shown: String,
    child: Child,
}

impl Process {
    /// Starts a command with this text on its stdin.
    ///
    /// stdout and stderr each get a thread with a copy of `reader`, if they are pipes. While a
    /// reader does not return, its stream is not read and its pipe fills.
    pub(crate) fn start(
        mut command: Command,
        stdin: &str,
        reader: impl FnMut(Output) + Clone + Send + 'static,
    ) -> Result<Self, String> {
        command.stdin(if stdin.is_empty() { Stdio::null() } else { Stdio::piped() });
        let mut process = Self::spawn(&mut command)?;
        if let Some(pipe) = process.child.stdout.take() {
            read_lines(pipe, Stream::Out, reader.clone());
        }
        if let Some(pipe) = process.child.stderr.take() {
            read_lines(pipe, Stream::Err, reader);
        }
        if let Some(mut pipe) = process.child.stdin.take() {
            // A child that ends without reading breaks the pipe. The caller judges the child's
            // output and status.
            let _ = pipe.write_all(stdin.as_bytes());
        }
        Ok(process)
    }

    /// Starts a command with this stdin, and with stdout and stderr in one pipe, in the order that
    /// a terminal shows. All output is read as [`Stream::Out`].
    pub(crate) fn start_merged(
        mut command: Command,
        stdin: Stdio,
        reader: impl FnMut(Output) + Send + 'static,
    ) -> Result<Self, String> {
        let no_pipe = |error: io::Error| format!("cannot create a pipe: {error}");
        let (pipe, writer) = io::pipe().map_err(no_pipe)?;
        let second = writer.try_clone().map_err(no_pipe)?;
        command.stdin(stdin).stdout(writer).stderr(second);
        let process = Self::spawn(&mut command)?;
        // The command owns the parent's writing ends, and the pipe does not end while they are
        // open.
        drop(command);
        read_lines(pipe, Stream::Out, reader);
        Ok(process)
    }

    fn spawn(command: &mut Command) -> Result<Self, String> {
        let shown = show(command);
        let child = command.spawn().map_err(|error| format!("{shown}: {error}"))?;
        Ok(Process { shown, child })
    }

    /// The command line, for messages.
    pub(crate) fn shown(&self) -> &str {
        &self.shown
    }

    /// The process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Asks the process to stop, with SIGTERM.
    pub(crate) fn terminate(&self) -> Result<(), String> {
        let status = Command::new("kill").arg("-TERM").arg(self.id().to_string()).status();
        match status {
            Ok(status) if status.success() => Ok(()),
            _ => Err(format!("cannot send SIGTERM to {}", self.shown)),
        }
    }

    /// Kills the process with SIGKILL. It is no error if the process has already ended.
    pub(crate) fn kill(&mut self) -> Result<(), String> {
        self.child.kill().map_err(|error| format!("{} cannot be killed: {error}", self.shown))
    }

    /// Waits for the end of the process.
    pub(crate) fn wait(&mut self) -> Result<ExitStatus, String> {
        self.child.wait().map_err(|error| format!("{} cannot be waited for: {error}", self.shown))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail if the process was waited for already, and need do nothing then.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A command for a program that another one starts, as `ip netns exec NAME`.
pub(super) fn run_by(runner: &[String], program: &Path) -> Command {
    match runner {
        [] => Command::new(program),
        [first, rest @ ..] => {
            let mut command = Command::new(first);
            command.args(rest).arg(program);
            command
        }
    }
}

fn read_lines(
    pipe: impl Read + Send + 'static,
    stream: Stream,
    mut reader: impl FnMut(Output) + Send + 'static,
) {
    thread::spawn(move || {
        let mut pipe = BufReader::new(pipe);
        let mut line = Vec::new();
        while pipe.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
            reader(Output::Line(stream, String::from_utf8_lossy(&line).into_owned()));
            line.clear();
        }
        reader(Output::End(stream));
    });
}

/// A command as a line of text.
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
    use std::sync::mpsc::channel;

    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Starts a command. The receiver gets its output.
    fn start(command: Command) -> (Process, std::sync::mpsc::Receiver<Output>) {
        let (sender, outputs) = channel();
        let process = Process::start(command, "", move |output| drop(sender.send(output)));
        (process.unwrap(), outputs)
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let error = Process::start(Command::new("/nowhere/x"), "", drop).err().unwrap();
        assert!(error.starts_with("/nowhere/x: "), "{error}");
    }

    #[test]
    fn a_line_that_was_cut_off_has_no_line_feed_and_the_end_is_told() {
        let (mut process, outputs) = start(shell("printf 'one\\ntw'"));
        let outputs: Vec<Output> =
            outputs.iter().filter(|output| !matches!(output, Output::End(Stream::Err))).collect();
        let [Output::Line(_, one), Output::Line(_, two), Output::End(Stream::Out)] = &outputs[..]
        else {
            panic!("{outputs:?}");
        };
        assert_eq!((one.as_str(), two.as_str()), ("one\n", "tw"));
        assert!(process.wait().unwrap().success());
    }

    #[test]
    fn while_a_reader_waits_its_stream_is_not_read() {
        let (let_go, held) = std::sync::mpsc::channel::<()>();
        let held = std::sync::Arc::new(std::sync::Mutex::new(held));
        let (sender, lines) = channel();
        // The output is longer than a pipe holds, so the process ends only when it is read.
        let mut command = shell("echo first; head -c 1000000 /dev/zero");
        command.stderr(Stdio::null());
        let mut process = Process::start(command, "", move |output| {
            let is_line = matches!(&output, Output::Line(_, line) if line == "first\n");
            drop(sender.send(output));
            if is_line {
                let _ = held.lock().unwrap().recv();
            }
        })
        .unwrap();
        assert!(matches!(lines.recv().unwrap(), Output::Line(_, line) if line == "first\n"));
        assert!(process.child.try_wait().unwrap().is_none());
        drop(let_go);
        assert!(process.wait().unwrap().success());
        assert_eq!(lines.iter().count(), 2);
    }

    #[test]
    fn a_killed_process_has_no_exit_code() {
        let (mut process, _outputs) = start(shell("exec tail -f /dev/null"));
        process.kill().unwrap();
        assert_eq!(process.wait().unwrap().code(), None);
    }

    #[test]
    fn a_process_can_be_told_to_stop() {
        let (mut process, outputs) =
            start(shell("trap 'exit 7' TERM; echo ready; while :; do sleep 0.01; done"));
        assert!(matches!(outputs.recv().unwrap(), Output::Line(Stream::Out, _)));
        process.terminate().unwrap();
        assert_eq!(process.wait().unwrap().code(), Some(7));
    }

    #[test]
    fn a_dropped_process_is_killed() {
        let (mut reader, writer) = io::pipe().unwrap();
        let mut command = shell("exec tail -f /dev/null");
        command.stdout(writer);
        let (process, _outputs) = start(command);
        drop(process);
        // Only the child had the writing end.
        assert_eq!(reader.read(&mut [0]).unwrap(), 0);
    }
}

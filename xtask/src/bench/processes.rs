//! The processes that are measured: started, each on its processor, and asked what they found.
//!
//! The rounds come here. A server has processor 0, clients have processor 1, so that neither takes
//! the other's time; where that is not possible everything runs as the system likes, and the page
//! says so. No process outlives its handle.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::cases::{BATCH, Case, Connection, Inbox, Workload};
use crate::e2e::Built;
use crate::e2e::sandbox::Sandbox;

/// What a process is, and so which processor it has.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum CpuPin {
    /// Processor 0.
    Server,
    /// Processor 1.
    Client,
    /// Any, as when a user starts it.
    None,
}

/// Where Linux keeps the priority of a session's processes against those of other sessions; see
/// sched(7), "The autogroup feature". Where there is one, priorities within a session are nothing
/// to others.
const AUTOGROUP: &str = "/proc/self/autogroup";

/// The highest priority, and the usual one.
const NICE_RAISED: &str = "-20";
const NICE_USUAL: &str = "0";

/// This process, and what it starts from now on, go before others, until this is dropped.
pub(super) struct RaisedPriority;

impl RaisedPriority {
    /// `None` where the system does not allow it.
    pub(super) fn acquire() -> Option<Self> {
        let has_groups = std::fs::exists(AUTOGROUP).unwrap_or_default();
        let has_priority =
            renice(NICE_RAISED) && (!has_groups || std::fs::write(AUTOGROUP, NICE_RAISED).is_ok());
        has_priority.then_some(RaisedPriority)
    }
}

impl Drop for RaisedPriority {
    fn drop(&mut self) {
        // Whoever may go before others may go back.
        let _ = std::fs::write(AUTOGROUP, NICE_USUAL);
        renice(NICE_USUAL);
    }
}

/// Sets the priority of this process.
fn renice(nice: &str) -> bool {
    let mut renice = Command::new("renice");
    renice.args(["-n", nice, "-p", &std::process::id().to_string()]);
    renice.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// A home, the programs, and where they run.
pub(super) struct TestBed {
    sandbox: Sandbox,
    programs: PathBuf,
    is_pinned: bool,
}

impl TestBed {
    /// A new home.
    pub(super) fn new(built: &Built) -> Self {
        let answers = |command: &mut Command| {
            command
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .is_ok_and(|status| status.success())
        };
        // Fails both where there is no taskset and where there is no second processor.
        let is_pinned = answers(Command::new("taskset").args(["-c", "0,1", "true"]))
            && answers(Command::new("taskset").args(["-c", "1", "true"]));
        TestBed {
            sandbox: Sandbox::with_home(built),
            programs: built.folder().to_owned(),
            is_pinned,
        }
    }

    /// Whether processes have processors of their own.
    pub(super) fn is_pinned(&self) -> bool {
        self.is_pinned
    }

    /// A directory for what a case leaves behind.
    pub(super) fn folder(&self) -> &Path {
        self.sandbox.folder()
    }

    /// The home.
    pub(super) fn home(&self) -> PathBuf {
        self.sandbox.home()
    }

    /// A program of the build with these arguments, on its processor.
    pub(super) fn program(&self, pin: CpuPin, name: &str, arguments: &[&str]) -> Command {
        let path = self.programs.join(name);
        let processor = match pin {
            CpuPin::Server => Some("0"),
            CpuPin::Client => Some("1"),
            CpuPin::None => None,
        };
        let mut command = match processor.filter(|_| self.is_pinned) {
            Some(processor) => {
                let mut command = self.sandbox.program(Path::new("taskset"));
                command.args(["-c", processor]).arg(path);
                command
            }
            None => self.sandbox.program(&path),
        };
        command.args(arguments);
        command
    }

    /// Runs one of the measured programs to its end and returns the JSON it printed, a value a
    /// line.
    pub(super) fn measure(&self, pin: CpuPin, arguments: &[&str]) -> Result<Vec<Value>, String> {
        Process::start(self.program(pin, "ipc-bench", arguments))?.finish()
    }

    /// Runs a program to its end, which must be good, and returns how long that took.
    pub(super) fn time(&self, mut command: Command) -> Result<Duration, String> {
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let shown = format!("{command:?}");
        let begun = Instant::now();
        let status = command.status().map_err(|error| format!("{shown}: {error}"))?;
        let took = begun.elapsed();
        if status.success() { Ok(took) } else { Err(format!("{shown}: {status}")) }
    }

    /// Starts the server that a case needs, with an empty inbox.
    pub(super) fn serve(&self, workload: Workload, inbox: Inbox) -> Result<Server, String> {
        for suffix in ["", "-wal", "-shm"] {
            // What is not there is empty.
            let _ = std::fs::remove_file(self.home().join(format!("inbox.db{suffix}")));
        }
        let home = self.home().display().to_string();
        let arguments: &[&str] = match workload {
            Workload::Raw => &["raw-server", "--home", &home],
            _ => &["server", "--home", &home, "--inbox", inbox.word()],
        };
        let mut process = Process::start(self.program(CpuPin::Server, "ipc-bench", arguments))?;
        let address = process.wait_for_line("listening on ")?;
        Ok(Server { process, address })
    }

    /// Starts a client of a server for a case.
    pub(super) fn send(
        &self,
        case: &Case,
        server: &Server,
        secs: f64,
        warm_up_secs: f64,
    ) -> Result<Process, String> {
        let home = self.home().display().to_string();
        let (bytes, in_flight) = (case.bytes.to_string(), case.in_flight.to_string());
        let (batch, pid) = (BATCH.to_string(), server.process.id().to_string());
        let (secs, warm_up) = (secs.to_string(), warm_up_secs.to_string());
        let mut arguments = vec!["client", "--home", &home, "--address", &server.address];
        arguments.extend([
            "--workload",
            case.workload.word(),
            "--bytes",
            &bytes,
            "--in-flight",
            &in_flight,
        ]);
        arguments.extend([
            "--batch",
            &batch,
            "--server-pid",
            &pid,
            "--secs",
            &secs,
            "--warm-up",
            &warm_up,
        ]);
        match case.connection {
            Connection::Kept => {}
            Connection::Full => arguments.extend(["--cold", "full"]),
            Connection::Resumed => arguments.extend(["--cold", "resumed"]),
        }
        Process::start(self.program(CpuPin::Client, "ipc-bench", &arguments))
    }
}

/// A server that listens.
pub(super) struct Server {
    process: Process,
    pub(super) address: String,
}

impl Server {
    /// The number of its process.
    pub(super) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Stops it; what it says of its life.
    pub(super) fn stop(self) -> Result<Value, String> {
        let shown = self.process.shown.clone();
        self.process.stop()?.pop().ok_or_else(|| format!("{shown} said nothing at its end"))
    }
}

/// A process whose stdout is read here; killed when dropped.
pub(super) struct Process {
    shown: String,
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Process {
    /// Starts it. What it says on stderr is read at its end.
    pub(super) fn start(mut command: Command) -> Result<Self, String> {
        let words: Vec<_> =
            command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
        let shown = format!("{} {}", command.get_program().display(), words.join(" "));
        let mut child = command.spawn().map_err(|error| format!("{shown}: {error}"))?;
        let stdout = child.stdout.take().ok_or("the output of a process is no pipe")?;
        Ok(Process { shown, child, stdout: BufReader::new(stdout) })
    }

    /// Its number.
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the next line, which must begin like this, and returns the rest.
    pub(super) fn wait_for_line(&mut self, beginning: &str) -> Result<String, String> {
        let mut line = String::new();
        self.stdout.read_line(&mut line).map_err(|error| format!("{}: {error}", self.shown))?;
        match line.trim_end().strip_prefix(beginning) {
            Some(rest) => Ok(rest.to_owned()),
            None => Err(self.failed(&format!("printed `{}`, not `{beginning}`", line.trim_end()))),
        }
    }

    /// Waits for a line on stderr that holds this, and returns it.
    pub(super) fn wait_for_log(&mut self, part: &str) -> Result<String, String> {
        let stderr = self.child.stderr.take().ok_or("the log of a process is no pipe")?;
        let mut reader = BufReader::new(stderr);
        let mut line = String::new();
        while reader.read_line(&mut line).is_ok_and(|length| length > 0) {
            if line.contains(part) {
                // Read on, so that nobody waits for room in the pipe.
                std::thread::spawn(move || std::io::copy(&mut reader, &mut std::io::sink()));
                return Ok(line);
            }
            line.clear();
        }
        Err(format!("{}: its log never said `{part}`", self.shown))
    }

    /// Asks it to stop in good order, and waits for that.
    pub(super) fn stop(self) -> Result<Vec<Value>, String> {
        let status = Command::new("kill").arg("-TERM").arg(self.id().to_string()).status();
        if !status.is_ok_and(|status| status.success()) {
            return Err(format!("{} could not be told to stop", self.shown));
        }
        self.finish()
    }

    /// Waits for its end, which must be good, and returns the JSON it printed, a value a line.
    pub(super) fn finish(mut self) -> Result<Vec<Value>, String> {
        let mut said = String::new();
        self.stdout
            .read_to_string(&mut said)
            .map_err(|error| format!("{}: {error}", self.shown))?;
        let status = self.child.wait().map_err(|error| format!("{}: {error}", self.shown))?;
        if !status.success() {
            return Err(self.failed(&status.to_string()));
        }
        let values = said.lines().filter(|line| line.starts_with('{')).map(serde_json::from_str);
        values
            .collect::<Result<_, _>>()
            .map_err(|error| format!("{} printed no JSON: {error}", self.shown))
    }

    /// What went wrong, with what the process has to say about it.
    fn failed(&mut self, what: &str) -> String {
        let _ = self.child.kill();
        let mut said = String::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            let _ = stderr.read_to_string(&mut said);
        }
        format!("{}: {what}\n{said}", self.shown)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail on a process that has been waited for, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A number that a program printed.
pub(super) fn number(said: &Value, name: &str) -> Result<f64, String> {
    said[name].as_f64().ok_or_else(|| format!("there is no number `{name}` in {said}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Process {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdout(Stdio::piped()).stderr(Stdio::piped());
        Process::start(command).unwrap()
    }

    #[test]
    fn a_line_is_waited_for_and_the_json_behind_it_read() {
        let mut process =
            shell(r#"echo listening on 5; echo '{"a":1}'; echo text; echo '{"a":2}'"#);
        assert_eq!(process.wait_for_line("listening on ").unwrap(), "5");
        let values = process.finish().unwrap();
        assert_eq!(
            values.iter().map(|value| value["a"].as_u64()).collect::<Vec<_>>(),
            [Some(1), Some(2)]
        );
    }

    #[test]
    fn a_process_that_fails_says_why() {
        let error = shell("echo reason >&2; exit 3").finish().unwrap_err();
        assert!(error.contains("reason") && error.contains('3'), "{error}");
        let error = shell("echo other").wait_for_line("listening").unwrap_err();
        assert!(error.contains("other"), "{error}");
    }

    #[test]
    fn a_log_is_waited_for() {
        assert!(
            shell("echo one >&2; echo ready >&2")
                .wait_for_log("ready")
                .is_ok_and(|line| line == "ready\n")
        );
        assert!(shell("echo one >&2").wait_for_log("ready").is_err());
    }

    #[test]
    fn a_process_stops_in_good_order() {
        let mut process = shell(
            r#"trap 'echo "{\"a\":7}"; exit 0' TERM; echo ready; while :; do sleep 0.01; done"#,
        );
        process.wait_for_line("ready").unwrap();
        assert_eq!(process.stop().unwrap()[0]["a"], 7);
    }
}

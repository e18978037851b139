//! The test bed of the measurements: a home, and processes on processors of their own that report
//! figures.
//!
//! The rounds come here. A server runs on processor 0 and clients on processor 1, so that neither
//! takes the other's time. If that is not possible, the system chooses the processors, and the page
//! says so.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::bench::cases::{BATCH, Case, Connection, Inbox, Workload};
use crate::driver::{Built, Captured, Process, Sandbox, finish, stop};

/// The role of a process, which determines its processor.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum CpuPin {
    /// Processor 0.
    Server,
    /// Processor 1.
    Client,
    /// Any processor, as when a user starts the program.
    None,
}

/// How long a single measurement may take. That of ten million ids takes longest.
const MEASUREMENT_MAX: Duration = Duration::from_secs(1800);

/// A home, the programs, and whether they are pinned to processors.
pub(crate) struct TestBed {
    sandbox: Sandbox,
    programs: PathBuf,
    is_pinned: bool,
}

impl TestBed {
    /// Makes a test bed with a new home.
    pub(crate) fn new(built: &Built) -> Result<Self, String> {
        let answers = |command: &mut Command| {
            command
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .is_ok_and(|status| status.success())
        };
        // Fails if there is no `taskset` or no second processor.
        let is_pinned = answers(Command::new("taskset").args(["-c", "0,1", "true"]))
            && answers(Command::new("taskset").args(["-c", "1", "true"]));
        let sandbox = Sandbox::initialised(built)?;
        Ok(TestBed { sandbox, programs: built.folder.clone(), is_pinned })
    }

    /// Whether processes are pinned to processors.
    pub(crate) fn is_pinned(&self) -> bool {
        self.is_pinned
    }

    /// A directory for the files of a case.
    pub(crate) fn folder(&self) -> &Path {
        self.sandbox.folder()
    }

    /// The home.
    pub(crate) fn home(&self) -> PathBuf {
        self.sandbox.home()
    }

    /// A command that runs a built program with these arguments, on its processor.
    pub(crate) fn program(&self, pin: CpuPin, name: &str, arguments: &[&str]) -> Command {
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

    /// Runs one of the measured programs to its end and returns the JSON values that it printed,
    /// one on each line.
    pub(crate) fn measure(&self, pin: CpuPin, arguments: &[&str]) -> Result<Vec<Value>, String> {
        finish(Captured::start(self.program(pin, "ipc-bench", arguments), "")?, MEASUREMENT_MAX)
    }

    /// Runs a program to its end, and returns how long that took. A failure of the program is an
    /// error.
    pub(crate) fn time(&self, mut command: Command) -> Result<Duration, String> {
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let begun = Instant::now();
        let mut process = Process::start(command, "", drop)?;
        let status = process.wait()?;
        let took = begun.elapsed();
        if status.success() { Ok(took) } else { Err(format!("{}: {status}", process.shown())) }
    }

    /// Starts the server that a case needs, with an empty inbox.
    pub(crate) fn serve(&self, workload: Workload, inbox: Inbox) -> Result<Server, String> {
        for suffix in ["", "-wal", "-shm"] {
            // A missing file counts as an empty inbox.
            let _ = std::fs::remove_file(self.home().join(format!("inbox.db{suffix}")));
        }
        let home = self.home().display().to_string();
        let arguments: &[&str] = match workload {
            Workload::Raw => &["raw-server", "--home", &home],
            _ => &["server", "--home", &home, "--inbox", inbox.word()],
        };
        let mut process =
            Captured::start(self.program(CpuPin::Server, "ipc-bench", arguments), "")?;
        let address = process.wait_for_line("listening on ")?;
        Ok(Server { process, address })
    }

    /// Starts a client of a server for a case.
    pub(crate) fn send(
        &self,
        case: &Case,
        server: &Server,
        secs: f64,
        warm_up_secs: f64,
    ) -> Result<Captured, String> {
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
        let pin = if case.on_one_core { CpuPin::Server } else { CpuPin::Client };
        Captured::start(self.program(pin, "ipc-bench", &arguments), "")
    }
}

/// A listening server.
pub(crate) struct Server {
    process: Captured,
    pub(crate) address: String,
}

impl Server {
    /// The process id.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Stops the server. Returns the figures that it prints at its end.
    pub(crate) fn stop(self) -> Result<Value, String> {
        stop(self.process)?
            .pop()
            .ok_or_else(|| "the server printed no figures at its end".to_owned())
    }
}

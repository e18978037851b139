//! The PostgreSQL of a run.
//!
//! A run comes here to start and kill it. The script of the tests of `ipc-store-postgres` runs it,
//! and removes its files when this process ends, however it ends.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// Where Debian has the programs, a directory for each version.
const VERSIONS: &str = "/usr/lib/postgresql";

/// The script, below the workspace root.
const SCRIPT: &str = "crates/ipc-store-postgres/tests/cluster.sh";

/// How long it may take to start. The processes of a killed one are in the way for a moment.
const START_WITHIN: Duration = Duration::from_secs(60);

/// The programs of the latest version, if it is installed.
pub(super) fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir(VERSIONS).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = versions
        .map(|version| version.path().join("bin"))
        .filter(|bin| ["initdb", "pg_ctl"].iter().all(|name| bin.join(name).is_file()))
        .collect();
    found.sort();
    found.pop()
}

/// A PostgreSQL, which ends when this is dropped.
pub(super) struct Postgres {
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    script: Child,
}

impl Postgres {
    /// Makes one and starts it, on this loopback port.
    pub(super) fn start(workspace: &Path, bin: &Path, port: u16) -> Result<Self, String> {
        let failed = |error: std::io::Error| format!("PostgreSQL: {error}");
        let mut script = Command::new("sh")
            .arg(workspace.join(SCRIPT))
            .arg(bin)
            .arg(port.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let (stdin, stdout) = (script.stdin.take(), script.stdout.take());
        let stdout = stdout.ok_or("PostgreSQL has no output")?;
        let mut postgres = Postgres { stdin, stdout: BufReader::new(stdout), script };
        if !postgres.line()?.starts_with("socket ") {
            return Err("PostgreSQL: initdb failed".to_owned());
        }
        postgres.restart()?;
        Ok(postgres)
    }

    /// Kills it with SIGKILL.
    pub(super) fn kill(&mut self) -> Result<(), String> {
        match self.does("kill")? {
            true => Ok(()),
            false => Err("PostgreSQL cannot be killed".to_owned()),
        }
    }

    /// Starts it again, and waits until it takes connections.
    pub(super) fn restart(&mut self) -> Result<(), String> {
        let begun = Instant::now();
        // Each attempt takes as long as it takes to find out.
        while !self.does("start")? {
            if begun.elapsed() > START_WITHIN {
                return Err(format!("PostgreSQL does not start within {START_WITHIN:?}"));
            }
        }
        Ok(())
    }

    fn does(&mut self, command: &str) -> Result<bool, String> {
        let stdin = self.stdin.as_mut().ok_or("PostgreSQL is over")?;
        writeln!(stdin, "{command}").map_err(|error| format!("PostgreSQL: {error}"))?;
        Ok(self.line()? == "done")
    }

    fn line(&mut self) -> Result<String, String> {
        let mut line = String::new();
        self.stdout.read_line(&mut line).map_err(|error| format!("PostgreSQL: {error}"))?;
        Ok(line.trim_end().to_owned())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // The script ends with its stdin, and removes everything.
        drop(self.stdin.take());
        let _ = self.script.wait();
    }
}

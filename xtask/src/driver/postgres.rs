//! A PostgreSQL of its own, for the tasks that need one.
//!
//! `e2e` comes here. A script makes it in a new directory, starts and stops it, and removes it when
//! this process ends, however it ends: PostgreSQL does not run as root, so it cannot be a child
//! like others.

use std::io::{BufReader, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use super::build::Built;
use super::captured::PATIENCE;
use super::process::run_by;

/// PostgreSQL's own port.
const PORT: &str = "5432";

/// The script, in the workspace.
const SCRIPT: &str = "crates/ipc-store-postgres/tests/cluster.sh";

/// A PostgreSQL. It is stopped and removed when this is dropped.
pub(crate) struct Postgres {
    programs: PathBuf,
    socket_folder: PathBuf,
    address: Option<String>,
    /// `None` once it is dropped, which ends the script.
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    script: Child,
}

impl Postgres {
    /// Why none can be started here; `None` if one can.
    pub(crate) fn lacks() -> Option<String> {
        programs().is_none().then(|| "PostgreSQL is not installed".to_owned())
    }

    /// Starts one that listens on a Unix socket alone, where everybody is trusted.
    pub(crate) fn start(built: &Built) -> Result<Self, String> {
        Self::start_with(built, &[], None, &[])
    }

    /// Starts one that also listens on this port of 127.0.0.1, where everybody is trusted too.
    pub(crate) fn start_trusting(built: &Built, port: u16) -> Result<Self, String> {
        let port = port.to_string();
        Self::start_with(built, &[], Some(format!("127.0.0.1:{port}")), &[&port])
    }

    /// Starts one that also listens on a free port of `host`, with TLS and passwords
    /// (scram-sha-256), with this certificate and its key.
    pub(crate) fn start_on(
        built: &Built,
        host: &str,
        certificate: &Path,
        key: &Path,
    ) -> Result<Self, String> {
        let port = TcpListener::bind((host, 0)).and_then(|listener| listener.local_addr());
        let port = port.map_err(|error| format!("no free port of {host}: {error}"))?.port();
        let port = port.to_string();
        let shown = |path: &Path| path.to_string_lossy().into_owned();
        let arguments = [port.as_str(), &shown(certificate), &shown(key), host];
        Self::start_with(built, &[], Some(format!("{host}:{port}")), &arguments)
    }

    /// The same with another command, as `ip netns exec NAME`, and on PostgreSQL's own port.
    pub(crate) fn start_by(
        built: &Built,
        runner: &[&str],
        host: &str,
        certificate: &Path,
        key: &Path,
    ) -> Result<Self, String> {
        let shown = |path: &Path| path.to_string_lossy().into_owned();
        let arguments = [PORT, &shown(certificate), &shown(key), host];
        Self::start_with(built, runner, Some(format!("{host}:{PORT}")), &arguments)
    }

    fn start_with(
        built: &Built,
        runner: &[&str],
        address: Option<String>,
        arguments: &[&str],
    ) -> Result<Self, String> {
        let programs = programs().ok_or("PostgreSQL is not installed")?;
        let runner: Vec<String> = runner.iter().map(|one| (*one).to_owned()).collect();
        let mut script = run_by(&runner, Path::new("sh"))
            .arg(built.workspace.join(SCRIPT))
            .arg(&programs)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("sh does not start: {error}"))?;
        let stdin = script.stdin.take();
        let mut stdout = BufReader::new(script.stdout.take().ok_or("the script has no stdout")?);
        let socket_folder = read_line(&mut stdout)?;
        let socket_folder = socket_folder.strip_prefix("socket ").ok_or("initdb failed")?.into();
        let mut postgres = Self { programs, socket_folder, address, stdin, stdout, script };
        postgres.run()?;
        Ok(postgres)
    }

    /// `HOST:PORT`, of one that listens on more than a socket.
    pub(crate) fn address(&self) -> Option<&str> {
        self.address.as_deref()
    }

    /// The URL of a database over the Unix socket, as the superuser.
    pub(crate) fn socket_url(&self, database: &str) -> String {
        let socket = self.socket_folder.to_string_lossy().replace('/', "%2F");
        format!("postgres://postgres@{socket}/{database}")
    }

    fn port(&self) -> &str {
        let port = self.address.as_deref().and_then(|address| address.rsplit(':').next());
        port.unwrap_or(PORT)
    }

    /// Runs SQL as the superuser.
    pub(crate) fn sql(&self, database: &str, sql: &str) -> Result<String, String> {
        let output = Command::new(self.programs.join("psql"))
            .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-h"])
            .arg(&self.socket_folder)
            .args(["-p", self.port(), "-d", database, "-c", sql])
            .output()
            .map_err(|error| format!("psql does not start: {error}"))?;
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }

    /// Starts it again.
    pub(crate) fn run(&mut self) -> Result<(), String> {
        self.told("start")
    }

    /// Starts it again after a kill, when what it left running has ended.
    pub(crate) fn run_soon(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.run() {
                Err(_) if Instant::now() < deadline => {}
                result => return result,
            }
        }
    }

    /// Stops it as an operator does, in which connections are closed.
    #[cfg(test)]
    pub(crate) fn stop(&mut self) -> Result<(), String> {
        self.told("stop")
    }

    /// Kills it with SIGKILL.
    pub(crate) fn kill(&mut self) -> Result<(), String> {
        self.told("kill")
    }

    fn told(&mut self, command: &str) -> Result<(), String> {
        let stdin = self.stdin.as_mut().ok_or("it has ended")?;
        writeln!(stdin, "{command}").map_err(|error| format!("the script ended: {error}"))?;
        match read_line(&mut self.stdout)?.as_str() {
            "done" => Ok(()),
            _ => Err(format!("PostgreSQL: {command} failed")),
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stdin = None;
        // Whatever becomes of it, nothing can be done about it here.
        let _ = self.script.wait();
    }
}

fn read_line(from: &mut impl std::io::BufRead) -> Result<String, String> {
    let mut line = String::new();
    from.read_line(&mut line).map_err(|error| format!("the script cannot be read: {error}"))?;
    Ok(line.trim_end().to_owned())
}

/// Where Debian and others put PostgreSQL's programs: those of the latest version.
fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = versions.map(|version| version.path().join("bin")).collect();
    found.sort();
    found.insert(0, "/usr/bin".into());
    let has_all =
        |bin: &&PathBuf| ["initdb", "pg_ctl", "psql"].iter().all(|one| bin.join(one).is_file());
    found.iter().rfind(has_all).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_stopped_and_killed_and_starts_again_with_what_it_had() {
        if let Some(why) = Postgres::lacks() {
            eprintln!("skipped: {why}");
            return;
        }
        let built = Built { folder: PathBuf::new(), workspace: crate::cargo::workspace_root() };
        let mut postgres = Postgres::start(&built).unwrap();
        assert_eq!(postgres.address(), None);
        postgres.sql("postgres", "CREATE TABLE t (n int); INSERT INTO t VALUES (7)").unwrap();
        postgres.stop().unwrap();
        assert!(postgres.sql("postgres", "SELECT n FROM t").is_err());
        postgres.run().unwrap();
        assert_eq!(postgres.sql("postgres", "SELECT n FROM t").unwrap(), "7\n");
        postgres.kill().unwrap();
        postgres.run_soon().unwrap();
        assert_eq!(postgres.sql("postgres", "SELECT n FROM t").unwrap(), "7\n");
        let folder = postgres.socket_folder.clone();
        drop(postgres);
        assert!(!folder.exists());
    }
}

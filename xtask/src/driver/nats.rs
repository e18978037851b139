//! A nats-server with JetStream, for the tasks that need one.
//!
//! `e2e` comes here, and `cluster` for each of its three. The NATS server keeps its files in a
//! directory of its own, so that it can be killed and started again with what it had stored.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use tempfile::TempDir;

use super::captured::PATIENCE;
use super::process::{Output, Process, run_by};

/// What nats-server logs with its address, and when it serves.
const LISTENING: &str = "Listening for client connections on ";
const READY: &str = "Server is ready";

/// A NATS server. It is killed, and its files are removed, when this is dropped.
pub(crate) struct Nats {
    program: PathBuf,
    /// What runs it elsewhere, as `ip netns exec NAME`.
    runner: Vec<String>,
    host: String,
    /// 0 until the first start has chosen one.
    port: u16,
    more: Vec<String>,
    folder: TempDir,
    process: Option<Process>,
}

impl Nats {
    /// Why none can be started here; `None` if one can.
    pub(crate) fn lacks() -> Option<String> {
        nats_program().is_none().then(|| "nats-server is not installed".to_owned())
    }

    /// Starts one on a free port of `host`, with further arguments.
    pub(crate) fn start(host: &str, more: &[&str]) -> Result<Self, String> {
        Self::start_by(&[], host, more)
    }

    /// Starts one with another command, as `ip netns exec NAME`.
    pub(crate) fn start_by(runner: &[&str], host: &str, more: &[&str]) -> Result<Self, String> {
        let program = nats_program().ok_or("nats-server is not installed")?;
        let folder = tempfile::Builder::new().prefix("web-ipc-nats-").tempdir();
        let folder = folder.map_err(|error| format!("no temporary directory: {error}"))?;
        let owned = |all: &[&str]| all.iter().map(|one| (*one).to_owned()).collect();
        let (runner, more) = (owned(runner), owned(more));
        let mut nats =
            Self { program, runner, host: host.to_owned(), port: 0, more, folder, process: None };
        nats.run()?;
        Ok(nats)
    }

    /// `HOST:PORT`
    pub(crate) fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// The process, while it runs.
    pub(crate) fn id(&self) -> Option<u32> {
        self.process.as_ref().map(Process::id)
    }

    /// Starts it again where it was, and returns when it serves.
    pub(crate) fn run(&mut self) -> Result<(), String> {
        let mut command = run_by(&self.runner, &self.program);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let starting = StartingNats::begin(
            command,
            &self.host,
            self.port,
            self.folder.path(),
            &self.more,
            None,
        )?;
        let (process, port) = starting.ready()?;
        (self.process, self.port) = (Some(process), port);
        Ok(())
    }

    /// Kills it with SIGKILL. [`run`](Self::run) starts it again.
    pub(crate) fn kill(&mut self) {
        self.process = None;
    }
}

/// A NATS server that was started and may not serve yet: of several, none does before there are
/// enough to agree on something.
pub(crate) struct StartingNats {
    process: Process,
    lines: Receiver<String>,
}

impl StartingNats {
    /// Starts one on this port, or on any free one if it is 0. `command` is its program, with
    /// stderr piped, `store` the directory of its files. What comes in `more` wins. `log` gets all
    /// lines, also later ones.
    pub(crate) fn begin(
        mut command: Command,
        host: &str,
        port: u16,
        store: &Path,
        more: &[String],
        log: Option<File>,
    ) -> Result<Self, String> {
        // nats-server takes -1 for any free port.
        let port = if port == 0 { "-1".to_owned() } else { port.to_string() };
        command.args(["-a", host, "-p", &port, "-js", "-sd"]).arg(store).args(more);
        let (sender, lines) = channel();
        let log = log.map(Arc::new);
        let process = Process::start(command, "", move |output| {
            if let Output::Line(_, line) = output {
                if let Some(log) = &log {
                    // The log is only for people, so an error here does not matter.
                    let _ = (&**log).write_all(line.as_bytes());
                }
                // Nobody listens once it is ready.
                let _ = sender.send(line);
            }
        })?;
        Ok(Self { process, lines })
    }

    /// Waits until it serves. Returns its process and its port.
    pub(crate) fn ready(self) -> Result<(Process, u16), String> {
        let (mut log, mut port) = (String::new(), None);
        loop {
            let line = self.lines.recv_timeout(PATIENCE);
            let line = line.map_err(|_| format!("nats-server does not get ready:\n{log}"))?;
            if let Some((_, address)) = line.split_once(LISTENING) {
                port = address.trim().rsplit(':').next().and_then(|port| port.parse().ok());
            }
            log.push_str(&line);
            if line.contains(READY) {
                let port = port.ok_or_else(|| format!("nats-server names no port:\n{log}"))?;
                return Ok((self.process, port));
            }
        }
    }
}

/// Where it is. Debian puts it where only root looks for programs.
pub(crate) fn nats_program() -> Option<PathBuf> {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&folders).chain([PathBuf::from("/usr/sbin")]);
    folders.map(|folder| folder.join("nats-server")).find(|path: &PathBuf| Path::is_file(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_killed_and_starts_again_at_its_address() {
        if let Some(why) = Nats::lacks() {
            eprintln!("skipped: {why}");
            return;
        }
        let mut nats = Nats::start("127.0.0.1", &[]).unwrap();
        let address = nats.address();
        let answers = || std::net::TcpStream::connect(&address).is_ok();
        assert!(answers());
        nats.kill();
        assert!(!answers());
        nats.run().unwrap();
        assert!(answers());
    }

    #[test]
    fn one_that_ends_at_once_is_an_error_with_its_log() {
        if let Some(why) = Nats::lacks() {
            eprintln!("skipped: {why}");
            return;
        }
        let error = Nats::start("127.0.0.1", &["--no_such_option"]).err().unwrap();
        assert!(error.contains("no_such_option"), "{error}");
    }
}

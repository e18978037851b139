//! A nats-server with JetStream, for the tasks that need one.
//!
//! `e2e` comes here. The NATS server keeps its files in a directory of its own, so that it can be
//! killed and started again with what it had stored.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::mpsc::channel;

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
        // nats-server takes -1 for any free port.
        let port = if self.port == 0 { "-1".to_owned() } else { self.port.to_string() };
        let mut command = run_by(&self.runner, &self.program);
        command.args(["-a", &self.host, "-p", &port, "-js", "-sd"]).arg(self.folder.path());
        // What comes later wins.
        command.args(&self.more).stdout(Stdio::null()).stderr(Stdio::piped());
        let (sender, lines) = channel();
        let process = Process::start(command, "", move |output| {
            if let Output::Line(_, line) = output {
                // Nobody listens once it is ready.
                let _ = sender.send(line);
            }
        })?;
        let mut log = String::new();
        loop {
            let line = lines.recv_timeout(PATIENCE);
            let line = line.map_err(|_| format!("nats-server does not get ready:\n{log}"))?;
            if let Some((_, address)) = line.split_once(LISTENING) {
                let port = address.trim().rsplit(':').next().and_then(|port| port.parse().ok());
                self.port = port.ok_or_else(|| format!("no port in {line:?}"))?;
            }
            log.push_str(&line);
            if line.contains(READY) {
                break;
            }
        }
        self.process = Some(process);
        Ok(())
    }

    /// Kills it with SIGKILL. [`run`](Self::run) starts it again.
    pub(crate) fn kill(&mut self) {
        self.process = None;
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

//! nats-server processes with a configuration of the test.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A nats-server, which is killed when this is dropped.
pub(crate) struct Nats {
    _directory: tempfile::TempDir,
    process: Child,
    pub(crate) port: u16,
}

impl Nats {
    /// Starts one with JetStream and with this further configuration. `None` if nats-server is not
    /// installed.
    pub(crate) fn start(configuration: &str) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let store = directory.path().join("store");
        // No more room than a test needs, so that a stream can be too large for it.
        let jetstream =
            format!("jetstream {{ store_dir: \"{}\", max_file: 256M }}\n", store.display());
        Nats::start_as(directory, &(jetstream + configuration))
    }

    /// Starts one without JetStream.
    pub(crate) fn start_without_jetstream() -> Option<Self> {
        Nats::start_as(tempfile::tempdir().unwrap(), "")
    }

    fn start_as(directory: tempfile::TempDir, configuration: &str) -> Option<Self> {
        // Debian has it where only root looks for programs.
        let program = match Path::new("/usr/sbin/nats-server").exists() {
            true => "/usr/sbin/nats-server",
            false => "nats-server",
        };
        let file = directory.path().join("nats.conf");
        std::fs::write(&file, format!("listen: \"127.0.0.1:-1\"\n{configuration}\n")).unwrap();
        let mut command = Command::new(program);
        command.arg("-c").arg(&file).stdin(Stdio::null()).stdout(Stdio::null());
        let mut process = match command.stderr(Stdio::piped()).spawn() {
            Ok(process) => process,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                eprintln!("skipped: nats-server is not installed");
                return None;
            }
            Err(error) => panic!("{error}"),
        };
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let (mut log, mut port) = (Vec::new(), None);
        loop {
            let line = lines.next().and_then(Result::ok);
            let line = line.unwrap_or_else(|| panic!("nats-server ended: {log:?}"));
            if let Some((_, address)) = line.split_once("for client connections on 127.0.0.1:") {
                port = Some(address.trim().parse().unwrap());
            }
            if line.contains("Server is ready") {
                break;
            }
            log.push(line);
        }
        // It would wait for a reader of its log.
        std::thread::spawn(move || lines.for_each(drop));
        let port = port.unwrap_or_else(|| panic!("no port: {log:?}"));
        Some(Nats { _directory: directory, process, port })
    }

    /// Asks JetStream for something. Panics unless it agrees.
    pub(crate) fn ask(&self, subject: &str, body: &str) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map(Result::unwrap);
        write!(
            stream,
            "CONNECT {{\"verbose\":false}}\r\nSUB answer 1\r\nPUB {subject} answer {}\r\n{body}\r\n",
            body.len()
        )
        .unwrap();
        let _head = lines.find(|line| line.starts_with("MSG answer ")).unwrap();
        let answer = lines.next().unwrap();
        assert!(!answer.contains("\"error\""), "{answer}");
    }

    pub(crate) fn stop(&mut self) {
        let _ended = self.process.kill();
        let _status = self.process.wait();
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        self.stop();
    }
}

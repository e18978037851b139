//! nats-server processes for the tests: one that the suite shares, and others that a test may kill.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use ipc_inbox_jetstream::JetStreamOptions;

/// A new name for an inbox.
pub(crate) fn name() -> String {
    static LAST: AtomicU32 = AtomicU32::new(0);
    format!("T{}", LAST.fetch_add(1, Ordering::Relaxed))
}

fn program() -> &'static str {
    // Debian has it where only root looks for programs.
    match Path::new("/usr/sbin/nats-server").exists() {
        true => "/usr/sbin/nats-server",
        false => "nats-server",
    }
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The server that all tests of the suite share. It ends with the test's process.
pub(crate) fn shared() -> &'static Nats {
    static SHARED: OnceLock<Nats> = OnceLock::new();
    SHARED.get_or_init(|| Nats::start_for_a_test_run(&[]))
}

/// A nats-server with JetStream, which is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Nats {
    directory: tempfile::TempDir,
    port: u16,
    more: Vec<String>,
    process: Option<Child>,
    has_shell: bool,
    has_jetstream: bool,
}

impl Nats {
    pub(crate) fn start() -> Self {
        Nats::start_with(&[])
    }

    /// Starts one with further arguments.
    pub(crate) fn start_with(more: &[&str]) -> Self {
        let mut nats = Nats::new(more, false);
        nats.run();
        nats
    }

    pub(crate) fn start_without_jetstream() -> Self {
        let mut nats = Nats::new(&[], false);
        nats.has_jetstream = false;
        nats.run();
        nats
    }

    /// One that is still to be started.
    pub(crate) fn prepared(more: &[&str]) -> Self {
        Nats::new(more, false)
    }

    fn start_for_a_test_run(more: &[&str]) -> Self {
        let mut nats = Nats::new(more, true);
        nats.run();
        nats
    }

    fn new(more: &[&str], has_shell: bool) -> Self {
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let more = more.iter().map(|one| (*one).to_owned()).collect();
        Nats { directory, port: free_port(), more, process: None, has_shell, has_jetstream: true }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn options(&self, name: &str) -> JetStreamOptions {
        let options = JetStreamOptions::new([format!("127.0.0.1:{}", self.port)], name).unwrap();
        options.takeover_after(Duration::from_secs(2))
    }

    /// Starts the process, and waits until it is ready.
    pub(crate) fn run(&mut self) {
        let mut command = match self.has_shell {
            // A static is not dropped. This shell kills the server when the test's process is gone.
            true => {
                let mut shell = Command::new("sh");
                let script = r#""$@" & server=$!; read -r _; kill -9 $server"#;
                shell.args(["-c", script, "sh", program()]).stdin(Stdio::piped());
                shell
            }
            false => {
                let mut server = Command::new(program());
                server.stdin(Stdio::null());
                server
            }
        };
        command.args(["-a", "127.0.0.1", "-p", &self.port.to_string()]);
        if self.has_jetstream {
            command.args(["-js", "-sd"]).arg(self.directory.path().join("store"));
        }
        command.args(&self.more).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let mut log = Vec::new();
        loop {
            let line = lines.next().and_then(Result::ok);
            let line = line.unwrap_or_else(|| panic!("nats-server ended: {log:?}"));
            let is_ready = line.contains("Server is ready");
            log.push(line);
            if is_ready {
                break;
            }
        }
        // It would wait for a reader of its log.
        std::thread::spawn(move || lines.for_each(drop));
        self.process = Some(process);
    }

    /// Kills it with SIGKILL.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A file in a directory of its own.
pub(crate) fn file(contents: &str) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = directory.path().join("file");
    std::fs::write(&path, contents).unwrap();
    (directory, path)
}

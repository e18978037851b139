//! A PostgreSQL of a test.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::command::free_port;

/// A PostgreSQL that ends, and is removed, with this process.
pub(crate) struct Cluster {
    bin: PathBuf,
    directory: String,
    /// Where it listens with TLS and passwords.
    pub(crate) port: Option<u16>,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    _script: Child,
}

impl Cluster {
    /// Starts one on a Unix socket, where everybody is trusted; with a certificate and a key also
    /// on 127.0.0.1. `None` if PostgreSQL is not installed.
    pub(crate) fn start(pair: Option<(&Path, &Path)>) -> Option<Self> {
        let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
        let mut found: Vec<PathBuf> = versions.map(|version| version.path().join("bin")).collect();
        found.sort();
        let Some(bin) = found.into_iter().rfind(|bin| bin.join("initdb").is_file()) else {
            eprintln!("skipped: PostgreSQL is not installed");
            return None;
        };
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut script = Command::new("sh");
        script.arg(folder.join("../ipc-store-postgres/tests/cluster.sh")).arg(&bin);
        let port = pair.map(|(certificate, key)| {
            let port = free_port();
            script.arg(port.to_string()).arg(certificate).arg(key);
            port
        });
        let mut script = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let stdin = script.stdin.take().unwrap();
        let mut stdout = BufReader::new(script.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let directory = line.trim().strip_prefix("socket ").unwrap().to_owned();
        let mut cluster = Self { bin, directory, port, stdin, stdout, _script: script };
        assert!(cluster.does("start"));
        Some(cluster)
    }

    /// Its Unix socket, as the host of an address.
    pub(crate) fn socket(&self) -> String {
        self.directory.replace('/', "%2F")
    }

    pub(crate) fn does(&mut self, command: &str) -> bool {
        writeln!(self.stdin, "{command}").unwrap();
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line.trim() == "done"
    }

    /// Runs a statement as the owner of everything.
    pub(crate) fn sql(&self, database: &str, statement: &str) {
        let mut psql = Command::new(self.bin.join("psql"));
        psql.args(["-q", "-h", &self.directory, "-U", "postgres", "-d", database]);
        if let Some(port) = self.port {
            psql.args(["-p", &port.to_string()]);
        }
        assert!(psql.args(["-c", statement]).status().unwrap().success(), "{statement}");
    }
}

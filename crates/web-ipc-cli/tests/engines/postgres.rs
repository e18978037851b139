//! The command with users in a real PostgreSQL. Where none is installed, the test says that it was
//! skipped.

#![cfg(feature = "postgres")]
// A skipped test says so.
#![allow(clippy::print_stderr, clippy::unwrap_used)]

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};

/// A PostgreSQL that ends, and is removed, with this process.
struct Cluster {
    socket: String,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    _script: Child,
}

impl Cluster {
    fn start() -> Option<Self> {
        let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
        let mut found: Vec<PathBuf> = versions.map(|version| version.path().join("bin")).collect();
        found.sort();
        let Some(bin) = found.into_iter().rfind(|bin| bin.join("initdb").is_file()) else {
            eprintln!("skipped: PostgreSQL is not installed");
            return None;
        };
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut script = Command::new("sh")
            .arg(folder.join("../ipc-store-postgres/tests/cluster.sh"))
            .arg(bin)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = script.stdin.take().unwrap();
        let mut stdout = BufReader::new(script.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let socket = line.trim().strip_prefix("socket ").unwrap().replace('/', "%2F");
        let mut cluster = Self { socket, stdin, stdout, _script: script };
        assert!(cluster.does("start"));
        Some(cluster)
    }

    fn does(&mut self, command: &str) -> bool {
        writeln!(self.stdin, "{command}").unwrap();
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line.trim() == "done"
    }
}

fn command(home: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_web-ipc"));
    command.arg("--home").arg(home).args(arguments).env_remove("RUST_LOG");
    command
}

/// Runs a command, of which nothing may show the password of the database. Returns what it said.
fn run(home: &Path, arguments: &[&str], status: i32) -> String {
    let Output { status: ended, stdout, stderr } = command(home, arguments).output().unwrap();
    let said = String::from_utf8(stdout).unwrap() + &String::from_utf8(stderr).unwrap();
    assert_eq!(ended.code(), Some(status), "{arguments:?}: {said}");
    assert!(!said.contains("pass-x"), "{said}");
    said
}

/// A server that is killed when the test ends.
struct Serving(Child);

impl Drop for Serving {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _status = self.0.wait();
    }
}

#[test]
fn users_move_to_postgresql_and_a_server_outlives_its_outage() {
    let Some(mut cluster) = Cluster::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    // The socket trusts everybody; the password is there to be hidden.
    let url = format!("postgres://postgres:pass-x@{}/postgres", cluster.socket);
    let user = |action| ["--users", action, "--user", "bob", "--password", "one"];

    run(&home, &["--init", "--run"], 0);
    run(&home, &user("--add"), 0);
    let early = run(&home, &["--init", "--run", "--usersDb", &url], 1);
    assert!(early.contains("are not in that database; run web-ipc "), "{early}");
    assert!(early.contains(" --users --copyTo URL first"), "{early}");
    let copy = ["--users", "--copyTo", &url];
    let said = run(&home, &copy, 0);
    assert!(said.contains("Copied: 2 users added, 0 overwritten, 0 there already"), "{said}");
    assert!(run(&home, &copy, 0).contains("0 users added, 0 overwritten, 2 there already"));
    run(&home, &["--users", "--change", "--user", "bob", "--password", "two"], 0);
    let differs = run(&home, &copy, 1);
    assert!(differs.contains("Nobody was copied: a user is there already"), "{differs}");
    assert!(differs.contains("rights: bob; see who is right"), "{differs}");
    let said = run(&home, &["--users", "--copyTo", &url, "--force"], 0);
    assert!(said.contains("0 users added, 1 overwritten, 1 there already"), "{said}");

    run(&home, &["--init", "--run", "--usersDb", &url], 0);
    let mode = std::fs::metadata(home.join("users.url")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    std::fs::remove_file(home.join("users.db")).unwrap();
    assert!(run(&home, &["--users", "--list"], 0).contains("Username: bob"));
    run(&home, &["--users", "--testCredentials", "--user", "bob", "--password", "two"], 0);
    run(&home, &["--test", "--run", "--qty", "2", "--port", "0"], 0);
    run(&home, &["--certs", "--list"], 0);
    run(&home, &["--keys", "--list"], 0);
    run(&home, &["--enrol", "--create", "--name", "worker1", "--server", "127.0.0.1"], 0);
    assert!(run(&home, &["--users", "--list"], 0).contains("Username: worker1"));
    let out = folder.path().join("copy");
    run(&home, &["--backup", "--run", "--out", out.to_str().unwrap()], 0);
    assert!(run(&out, &["--users", "--list"], 0).contains("Username: worker1"));
    // An option wins over the file, and a new home of its own has its users there.
    let nobody = "postgres://ipc:pass-x@127.0.0.1:1/ipc";
    let said = run(&home, &["--users", "--list", "--usersDb", nobody], 1);
    assert!(said.contains("postgres://ipc:***@127.0.0.1:1/ipc cannot be reached"), "{said}");
    let said = run(&folder.path().join("none"), &["--init", "--run", "--usersDb", nobody], 1);
    assert!(said.contains("cannot be reached"), "{said}");

    let mut serving = command(&home, &["--serve", "--port", "0"]);
    let serving = serving.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut serving = Serving(serving.spawn().unwrap());
    let mut log = BufReader::new(serving.0.stderr.take().unwrap()).lines();
    let port = log.by_ref().map(Result::unwrap).find_map(|line| {
        let (_, address) = line.split_once("Listening on https://127.0.0.1:")?;
        Some(address.split(' ').next()?.to_owned())
    });
    let port = port.expect("it listens");
    // Nobody else reads it, and it must not fill up.
    std::thread::spawn(move || log.for_each(drop));
    let send = ["--send", "--port", &port, "--timeout", "20", "{\"n\":1}"];
    let as_bob = |timeout| {
        let login = ["--user", "bob", "--password", "two", "--timeout", timeout];
        [&["--send", "--port", &port][..], &login, &["{\"n\":2}"]].concat()
    };
    run(&home, &send, 0);
    for how in ["stop", "kill"] {
        assert!(cluster.does(how), "{how}");
        // The session of the first command is known to the server; bob must log in.
        run(&home, &send, 0);
        if how == "stop" {
            let refused = run(&home, &as_bob("2"), 1);
            assert!(refused.contains("users' database does not answer"), "{refused}");
        }
        while !cluster.does("start") {}
        run(&home, &as_bob("20"), 0);
        run(&home, &send, 0);
    }
    // What is changed beside a running server is effective within a second.
    run(&home, &["--users", "--disable", "--user", "bob"], 0);
    let begun = std::time::Instant::now();
    while command(&home, &as_bob("5")).output().unwrap().status.success() {
        assert!(begun.elapsed().as_secs() < 30, "bob is still let in");
    }
}

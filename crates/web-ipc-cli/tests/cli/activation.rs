//! Servers that get their socket from a service manager, which here is a script in Python or
//! systemd's own `systemd-socket-activate`.
#![allow(clippy::print_stdout)]

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};

use crate::run::World;
use crate::server::{Server, text};

/// Makes a socket of the given kind, and for each line of its stdin starts the command with it, or
/// ends that one again: `start` or `stop`. Says on stderr at which port, and what became of it.
const MANAGER: &str = r#"
import fcntl, os, signal, socket, sys
kind, *command = sys.argv[1:]
sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM)]
if kind == "two":
    sockets.append(socket.socket())
if kind == "unix":
    sockets = [socket.socket(socket.AF_UNIX)]
else:
    for one in sockets:
        one.bind(("127.0.0.1", 0))
        if kind not in ("udp", "bound"):
            one.listen(128)
    print("port", sockets[0].getsockname()[1], file=sys.stderr, flush=True)
# The numbers 3 and up are free for the command: these are put there in it alone.
passed = [os.dup(one.fileno()) for one in sockets]
def start():
    process = os.fork()
    if process == 0:
        high = [fcntl.fcntl(one, fcntl.F_DUPFD_CLOEXEC, 100) for one in passed]
        for at, one in enumerate(high):
            os.dup2(one, 3 + at)
        os.environ.update(LISTEN_FDS=str(len(passed)), LISTEN_PID=str(os.getpid()), LISTEN_FDNAMES="web-ipc.socket")
        os.execv(command[0], command)
    return process
process = None
for line in sys.stdin:
    if line == "start\n":
        process = start()
    else:
        if line == "stop\n":
            os.kill(process, signal.SIGTERM)
        status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        process = None
        print("ended", status, file=sys.stderr, flush=True)
# The test has failed with a server still there.
if process:
    os.kill(process, signal.SIGKILL)
"#;

/// A service manager with one server.
struct Manager {
    child: Child,
    log: BufReader<std::process::ChildStderr>,
    port: String,
}

impl Manager {
    /// `None` without Python.
    fn begin(world: &World, kind: &str, arguments: &[&str]) -> Option<Self> {
        let program = world.program_itself();
        let mut command = Command::new("python3");
        command.args(["-c", MANAGER, kind]).arg(program.get_program()).arg("--serve");
        command.args(arguments).current_dir(world.folder());
        command.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let Ok(mut child) = command.spawn() else {
            println!("skipped: python3 cannot be run");
            return None;
        };
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut port = String::new();
        if kind != "unix" {
            log.read_line(&mut port).unwrap();
            port = port.strip_prefix("port ").unwrap_or_else(|| panic!("{port}")).trim().to_owned();
        }
        Some(Self { child, log, port })
    }

    fn tell(&mut self, line: &str) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    /// What the server and the manager say, up to a line with `part`.
    fn wait_for(&mut self, part: &str) -> String {
        let mut told = String::new();
        while !told.contains(part) {
            let length = self.log.read_line(&mut told).unwrap();
            assert!(length > 0, "{part}: {told}");
        }
        told
    }

    /// How a server ended that does not start.
    fn refused(&mut self) -> (String, String) {
        self.tell("start");
        self.tell("wait");
        let told = self.wait_for("ended ");
        let (log, status) = told.split_once("ended ").unwrap();
        (log.to_owned(), status.trim().to_owned())
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        // Best effort: the test may have failed with a server still there.
        let _ = self.child.wait();
    }
}

fn send(world: &World, port: &str) -> Child {
    let mut command = world.program_itself();
    command.args(["--send", "--logLevel", "debug", "--port", port, r#"{"n":1}"#]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

#[test]
fn a_server_takes_the_socket_of_its_manager_and_connections_wait_while_it_restarts() {
    let world = World::with_fresh_home();
    let Some(mut manager) = Manager::begin(&world, "tcp", &["--inbox", "durable"]) else { return };
    let port = manager.port.clone();
    manager.tell("start");
    manager.wait_for(&format!("Listening on https://127.0.0.1:{port} as localhost"));
    let sent = send(&world, &port).wait_with_output().unwrap();
    assert!(sent.status.success(), "{}", text(&sent.stderr));

    manager.tell("stop");
    assert!(manager.wait_for("ended ").ends_with("ended 0\n"));
    // No server is there, and the connection is made all the same.
    drop(std::net::TcpStream::connect(format!("127.0.0.1:{port}")).unwrap());
    let waiting = send(&world, &port);
    manager.tell("start");
    let sent = waiting.wait_with_output().unwrap();
    let log = text(&sent.stderr);
    assert!(sent.status.success(), "{log}");
    assert!(!log.to_lowercase().contains("refused"), "{log}");
    assert!(text(&sent.stdout).starts_with("1 sent, 0 duplicates"), "{}", text(&sent.stdout));
    manager.tell("stop");
    assert!(manager.wait_for("ended ").ends_with("ended 0\n"));
}

#[test]
fn what_is_not_one_listening_tcp_socket_is_refused_in_a_sentence() {
    let world = World::with_fresh_home();
    let unit = "give the socket unit one ListenStream= with a port, or an IP address and a port";
    for (kind, arguments, what, remedy) in [
        ("udp", &[][..], "what the service manager passes is not a TCP socket: ", unit),
        ("unix", &[], "what the service manager passes is not a TCP socket: ", unit),
        ("two", &[], "the service manager passes 2 sockets, and a server takes one", unit),
        ("bound", &[], "the socket that was passed (127.0.0.1:", "listen(2) was called"),
        ("tcp", &["--port", "0"], "--ip or --port names another", "leave them out"),
        ("tcp", &["--ip", "127.0.0.1"], "--ip or --port names another", "leave them out"),
    ] {
        let Some(mut manager) = Manager::begin(&world, kind, arguments) else { return };
        let (log, status) = manager.refused();
        assert_eq!(status, "1", "{kind}: {log}");
        let last = log.lines().last().unwrap_or_default();
        assert!(last.contains(what) && last.contains(remedy), "{kind}: {log}");
    }
}

#[test]
fn the_command_of_a_server_gets_neither_the_socket_nor_the_variables() {
    let world = World::with_fresh_home();
    let exec = "cat > /dev/null; { env | grep ^LISTEN_; ls -l /proc/self/fd | grep socket:; } > seen; mv seen done";
    let Some(mut manager) = Manager::begin(&world, "tcp", &["--exec", exec]) else { return };
    let port = manager.port.clone();
    manager.tell("start");
    manager.wait_for("Listening on ");
    let mut request = world.program_itself();
    request.args(["--request", "--port", &port, "{}"]);
    // It has no reply: the command prints nothing. By then it has ended.
    let output = request.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    manager.tell("stop");
    manager.wait_for("ended ");
    assert_eq!(std::fs::read_to_string(world.folder().join("done")).unwrap(), "");
}

#[test]
fn sockets_that_are_passed_to_another_process_are_let_alone() {
    let world = World::with_fresh_home();
    let mut command = world.program_itself();
    command.env("LISTEN_FDS", "1").env("LISTEN_PID", "1");
    let mut server = Server::start_as(command, &[]);
    let sent = crate::server::client(&world, &server, &["--send", "{}"], "");
    assert!(sent.status.success(), "{}", text(&sent.stderr));
    server.stop();
}

#[test]
fn systemds_own_activation_starts_a_server_at_the_first_connection() {
    let world = World::with_fresh_home();
    let port = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port().to_string()
    };
    let program = world.program_itself();
    let mut command = Command::new("systemd-socket-activate");
    command.args(["--listen", &format!("127.0.0.1:{port}"), "--setenv=WEB_IPC_HOME"]);
    command.arg(program.get_program()).args(["--serve", "--count", "1"]);
    command.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.current_dir(world.folder()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let Ok(mut child) = command.spawn() else {
        println!("skipped: systemd-socket-activate is not installed");
        return;
    };
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let mut told = String::new();
    while !told.contains("Listening on ") {
        assert!(log.read_line(&mut told).unwrap() > 0, "{told}");
    }
    let sent = send(&world, &port).wait_with_output().unwrap();
    assert!(sent.status.success(), "{}", text(&sent.stderr));
    // It has become the server, which ends after its one message.
    std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stdout).contains(r#""body":{"n":1}"#), "{}", text(&output.stdout));
}

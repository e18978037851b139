//! What the log of `--serve` has of peers that are no clients: few lines of each kind, and then how many more.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use crate::run::World;

/// A server whose log is read to its end.
struct Server {
    child: Child,
    address: SocketAddr,
    /// The rest of its log, line by line as it comes.
    lines: Receiver<String>,
    log_so_far: String,
}

impl Server {
    fn start(world: &World, arguments: &[&str]) -> Server {
        let mut command = world.program_itself();
        command.args(["--serve", "--port", "0"]).args(arguments);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut text = String::new();
        let address = loop {
            assert_ne!(log.read_line(&mut text).unwrap(), 0, "{text}");
            if let Some((_, address)) = text.split_once("://127.0.0.1:") {
                let port: String = address.chars().take_while(char::is_ascii_digit).collect();
                break SocketAddr::from(([127, 0, 0, 1], port.parse().unwrap()));
            }
        };
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            while log.read_line(&mut line).is_ok_and(|length| length > 0) {
                // Nobody listens any more once the test has what it wants.
                let _ = sender.send(std::mem::take(&mut line));
            }
        });
        Server { child, address, lines, log_so_far: text }
    }

    /// Waits until its log has `part`.
    fn wait_for_log(&mut self, part: &str) {
        while !self.log_so_far.contains(part) {
            match self.lines.recv_timeout(Duration::from_secs(60)) {
                Ok(line) => self.log_so_far += &line,
                Err(error) => panic!("{part:?} does not come, {error}: {}", self.log_so_far),
            }
        }
    }

    /// A connection on which `request` was sent; what was answered until its end.
    fn answer(&self, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.write_all(request).unwrap();
        let mut answer = Vec::new();
        // Its end may be a reset, where something was left unread.
        let _end = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// Tells it to stop, and waits for its end; its log.
    fn stop(mut self) -> String {
        let status = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
        drop(self.child.stdout.take());
        self.child.wait().unwrap();
        self.lines.iter().fold(self.log_so_far, |log, line| log + &line)
    }
}

fn count(log: &str, part: &str) -> usize {
    log.lines().filter(|line| line.contains(part)).count()
}

#[test]
fn a_peer_that_asks_for_nothing_good_without_end_gets_a_hundred_lines_and_a_number() {
    let world = World::with_fresh_home();
    let server = Server::start(&world, &["--protocol", "http"]);
    let get = |path: &str, close: &str| format!("GET {path} HTTP/1.1\r\nhost: x\r\n{close}\r\n");
    for _ in 0..20 {
        // Fewer at a time than a connection takes.
        let requests = get("/nowhere", "").repeat(9) + &get("/nowhere", "connection: close\r\n");
        server.answer(requests.as_bytes());
    }
    assert!(server.answer(get("/is/running", "connection: close\r\n").as_bytes()).contains("200 OK"));
    let log = server.stop();
    assert_eq!(count(&log, "\"GET /nowhere\" 404 not_found"), 100, "{log}");
    assert_eq!(count(&log, "127.0.0.1 - … and 100 more in the last "), 1, "{log}");
    assert_eq!(count(&log, "s: 404 not_found"), 1, "{log}");
    assert_eq!(count(&log, "\"GET /is/running\" 200"), 1, "another kind of line has its own room: {log}");
}

#[test]
fn what_is_not_http_is_a_warning_that_names_the_peer_and_has_a_limit() {
    let world = World::with_fresh_home();
    let server = Server::start(&world, &["--protocol", "http"]);
    for (request, status) in [
        (&b"\x16\x03\x01 nonsense\r\n\r\n"[..], "400"),
        (b"GET /is/running HTTP/1.1\r\n\r\n", "400"),
        (&[b"GET / HTTP/1.1\r\nhost: x\r\n", &b"a: b\r\n".repeat(100)[..], b"\r\n"].concat(), "431"),
    ] {
        let answer = server.answer(request);
        assert!(answer.contains(status), "{answer}");
    }
    for _ in 0..150 {
        server.answer(b"nonsense\r\n\r\n");
    }
    let log = server.stop();
    assert_eq!(count(&log, "][ERROR]["), 0, "{log}");
    assert_eq!(count(&log, "stream error"), 0, "{log}");
    let named = |text: &str| {
        let is_it = |line: &str| line.contains("][WARNING][http,") && line.contains("]: 127.0.0.1:");
        log.lines().any(|line| is_it(line) && line.contains(text))
    };
    assert!(named("is not HTTP/1.1") && named("answered with 431"), "{log}");
    assert_eq!(count(&log, "answered with 400"), 100, "{log}");
    assert_eq!(count(&log, "more in the last"), 1, "{log}");
}

#[test]
fn a_probe_that_says_nothing_is_no_line_and_what_is_no_tls_is_told_in_words() {
    let world = World::with_fresh_home();
    let server = Server::start(&world, &[]);
    for _ in 0..5 {
        drop(TcpStream::connect(server.address).unwrap());
    }
    server.answer(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n");
    // The beginning of a handshake is no probe.
    drop(TcpStream::connect(server.address).unwrap().write_all(b"\x16\x03\x01"));
    server.answer(b"nonsense");
    let log = server.stop();
    assert_eq!(count(&log, "this peer does not speak TLS, but perhaps plain http"), 2, "{log}");
    assert!(!log.contains("eof") && !log.contains("corrupt") && !log.contains("without a byte"), "{log}");

    let mut server = Server::start(&world, &["--logLevel", "debug"]);
    drop(TcpStream::connect(server.address).unwrap());
    server.wait_for_log("without a byte");
    let log = server.stop();
    assert_eq!(count(&log, "][DEBUG]["), count(&log, "connected and closed without a byte"), "{log}");
    assert_eq!(count(&log, "connected and closed without a byte"), 1, "{log}");
}

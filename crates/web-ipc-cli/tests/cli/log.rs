//! The log of `--serve` about peers that are not clients: a few lines of each kind, and then a
//! count.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use crate::run::World;
use crate::server::Server;

fn connect(server: &Server) -> TcpStream {
    TcpStream::connect(("127.0.0.1", server.port.parse().unwrap())).unwrap()
}

/// Sends `request` on a new connection. Returns the answer until the end of the connection.
fn answer(server: &Server, request: &[u8]) -> String {
    let mut stream = connect(server);
    stream.write_all(request).unwrap();
    let mut answer = Vec::new();
    // The connection may end by a reset, if the server has left something unread.
    let _end = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

fn count(log: &str, part: &str) -> usize {
    log.lines().filter(|line| line.contains(part)).count()
}

#[test]
fn a_peer_that_asks_for_nothing_good_without_end_gets_a_hundred_lines_and_a_number() {
    let world = World::with_fresh_home();
    let mut server = Server::start(&world, &["--protocol", "http"]);
    let get = |path: &str, close: &str| format!("GET {path} HTTP/1.1\r\nhost: x\r\n{close}\r\n");
    for _ in 0..20 {
        // Fewer at a time than the server answers on one connection.
        let requests = get("/nowhere", "").repeat(9) + &get("/nowhere", "connection: close\r\n");
        answer(&server, requests.as_bytes());
    }
    assert!(
        answer(&server, get("/is/running", "connection: close\r\n").as_bytes()).contains("200 OK")
    );
    let log = server.stop();
    assert_eq!(count(&log, "\"GET /nowhere\" 404 not_found"), 100, "{log}");
    assert_eq!(count(&log, "127.0.0.1 - … and 100 more in the last "), 1, "{log}");
    assert_eq!(count(&log, "s: 404 not_found"), 1, "{log}");
    assert_eq!(
        count(&log, "\"GET /is/running\" 200"),
        1,
        "another kind of line has its own room: {log}"
    );
}

#[test]
fn what_is_not_http_is_a_warning_that_names_the_peer_and_has_a_limit() {
    let world = World::with_fresh_home();
    let mut server = Server::start(&world, &["--protocol", "http"]);
    for (request, status) in [
        (&b"\x16\x03\x01 nonsense\r\n\r\n"[..], "400"),
        (b"GET /is/running HTTP/1.1\r\n\r\n", "400"),
        (
            &[b"GET / HTTP/1.1\r\nhost: x\r\n", &b"a: b\r\n".repeat(100)[..], b"\r\n"].concat(),
            "431",
        ),
    ] {
        let said = answer(&server, request);
        assert!(said.contains(status), "{said}");
    }
    for _ in 0..150 {
        answer(&server, b"nonsense\r\n\r\n");
    }
    let log = server.stop();
    assert_eq!(count(&log, "][ERROR]["), 0, "{log}");
    assert_eq!(count(&log, "stream error"), 0, "{log}");
    let named = |text: &str| {
        let is_it =
            |line: &str| line.contains("][WARNING][http,") && line.contains("]: 127.0.0.1:");
        log.lines().any(|line| is_it(line) && line.contains(text))
    };
    assert!(named("is not HTTP/1.1") && named("answered with 431"), "{log}");
    assert_eq!(count(&log, "answered with 400"), 100, "{log}");
    assert_eq!(count(&log, "more in the last"), 1, "{log}");
}

#[test]
fn a_probe_that_says_nothing_is_no_line_and_what_is_no_tls_is_told_in_words() {
    let world = World::with_fresh_home();
    let mut server = Server::start(&world, &[]);
    for _ in 0..5 {
        drop(connect(&server));
    }
    answer(&server, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n");
    // The beginning of a handshake does not count as a probe.
    drop(connect(&server).write_all(b"\x16\x03\x01"));
    answer(&server, b"nonsense");
    let log = server.stop();
    assert_eq!(count(&log, "this peer does not speak TLS; it may speak plain http"), 2, "{log}");
    assert!(
        !log.contains("eof") && !log.contains("corrupt") && !log.contains("without a byte"),
        "{log}"
    );

    let mut server = Server::start(&world, &["--logLevel", "debug"]);
    drop(connect(&server));
    server.wait_for_log("without a byte");
    let log = server.stop();
    assert_eq!(
        count(&log, "][DEBUG]["),
        count(&log, "connected and closed without a byte"),
        "{log}"
    );
    assert_eq!(count(&log, "connected and closed without a byte"), 1, "{log}");
}

#[test]
fn connections_fit_into_the_files_that_may_be_open_and_idle_ones_make_room() {
    let world = World::with_fresh_home();
    let limited = |how: &str| {
        let mut shell = world.program_itself();
        let program = shell.get_program().to_owned();
        let mut command = std::process::Command::new("sh");
        for (name, value) in shell.env("LC_ALL", "C").get_envs() {
            command.env(name, value.unwrap_or_default());
        }
        let script = format!("ulimit {how}; exec \"$0\" \"$@\"");
        command.args(["-c", &script]).arg(program);
        Server::start_as(command, &["--protocol", "http"])
    };
    let get = b"GET /is/running HTTP/1.1\r\nhost: x\r\n\r\n";
    let ask = |stream: &mut TcpStream| {
        stream.write_all(get).unwrap();
        stream.read(&mut [0; 1000]).is_ok_and(|length| length > 0)
    };

    let mut server = limited("-n 256");
    let mut idle = Vec::new();
    for number in 0..400 {
        let mut stream = connect(&server);
        assert!(ask(&mut stream), "the newcomer {number} is served");
        idle.push(stream);
    }
    assert!(ask(idle.last_mut().unwrap()), "who came last has stayed");
    let mut first = Vec::new();
    assert!(
        idle[0].read_to_end(&mut first).is_err() || first.is_empty(),
        "who was idle longest has gone"
    );
    let log = server.stop();
    assert_eq!(count(&log, "this process may open 256 files: "), 1, "{log}");
    assert_eq!(count(&log, "rror accepting"), 0, "{log}");

    // The hard limit is left as it is.
    let mut server = limited("-S -n 256");
    let mut idle: Vec<_> = (0..400).map(|_| connect(&server)).collect();
    assert!(idle.iter_mut().all(ask), "each is served");
    assert!(idle.iter_mut().all(ask), "and has stayed");
    let log = server.stop();
    assert_eq!(count(&log, "this process may open"), 0, "{log}");
}

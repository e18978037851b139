//! Scenarios with an inbox without room: on a full disk, and with a stdout that nobody reads.
//!
//! The delivered messages are judged as in a run of `crash`. Nothing sleeps here.

use std::fs;
use std::io::{BufRead as _, BufReader, PipeReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use super::Outcome;
use super::expect::Running;
use crate::crash::{Ledger, Reader};
use crate::driver::{Built, Sandbox};

/// The script of a command that reads the file `lines` on its stdin. A pipe does not hold so many
/// lines.
const WITH_LINES: &str = r#"exec "$@" < lines"#;

/// The receiver's files have a size limit, which it sees as a full disk. It refuses messages, says
/// why, and keeps every message that it acknowledged.
pub(super) fn full_disk(built: &Built) -> Outcome {
    const COUNT: u64 = 300;
    // The messages are long, so that few reach the limit, and most stay in the file because the
    // pipe holds only few.
    let padding = "x".repeat(2000);
    let sandbox = Sandbox::with_home(built);
    write_lines(&sandbox, COUNT, |n| format!(r#"{{"from":"disk","n":{n},"padding":"{padding}"}}"#));

    // The limit is in blocks of 512 bytes, or 1024 in some shells. It is more than an empty inbox
    // needs and less than the messages need. Without the trap the first write beyond it would kill
    // the process with a signal.
    let script = r#"trap '' XFSZ; ulimit -f 512; exec "$@""#;
    let (mut full, port, unread) =
        serve_unread(sandbox.shell(script, &["--serve", "--inbox", "durable", "--port", "0"]));
    // The first message goes alone, since its login may take longer than the other messages should.
    send_lines(&sandbox, r#"head -n 1 lines | "$@""#, &["--port", &port])
        .finish()
        .succeeded()
        .says("1 sent, ");
    let rest = r#"tail -n +2 lines | "$@""#;
    let refused = send_lines(&sandbox, rest, &["--port", &port, "--batch", "1", "--timeout", "3"]);
    let refused = refused
        .finish()
        .ended_with(75)
        .says("503 (unavailable)")
        .says("look into the server's log");
    let stored = refused
        .stdout
        .split_once(" sent, 0 duplicates, ")
        .and_then(|(count, _)| count.parse::<u64>().ok())
        .unwrap_or_else(|| panic!("no count:\n{}", refused.report()));
    let stored = stored + 1;
    assert!((2..COUNT).contains(&stored), "{}", refused.report());
    full.wait_for_log("there is no room left for the durable inbox");
    full.wait_for_log("the inbox continues once there is room");
    full.kill();

    let mut ledger = Ledger::new(Reader::Serve);
    (1..=COUNT).for_each(|n| ledger.acknowledge("disk", n));
    for line in whole_lines(unread) {
        ledger.arrive(&line).unwrap_or_else(|error| panic!("{error}"));
    }
    ledger.receiver_ended();

    let mut roomy = sandbox.start(&["--serve", "--inbox", "durable", "--port", "0"]);
    let port = port_of(&mut roomy);
    let rest = format!(r#"tail -n +{} lines | "$@""#, stored + 1);
    send_lines(&sandbox, &rest, &["--port", &port])
        .finish()
        .succeeded()
        .says(&format!("{} sent, 0 duplicates, 0 refused", COUNT - stored));
    roomy.wait_for_stdout(&format!(r#""body":{{"from":"disk","n":{COUNT},"#));
    roomy.terminate();
    let roomy = roomy.finish().succeeded();
    for line in roomy.stdout.lines() {
        ledger.arrive(line).unwrap_or_else(|error| panic!("{error}"));
    }
    let verdict = ledger.verdict();
    assert!(verdict.is_good(), "{stored} were stored: {verdict}\n{}", verdict.details());
    Outcome::Passed
}

/// Nobody reads the receiver's stdout. Its inbox fills and it refuses messages with 503, but it
/// still answers. When its stdout is read, all sent messages arrive, once and in order.
///
/// The scenario uses plain http, so that it can read the responses on the wire.
pub(super) fn nobody_reads(built: &Built) -> Outcome {
    const COUNT: u64 = 3000;
    let sandbox = Sandbox::with_home(built);
    let (receiver, port_text, unread) =
        serve_unread(sandbox.command(&["--serve", "--protocol", "http", "--port", "0"]));
    let port: u16 = port_text.parse().unwrap_or_else(|error| panic!("{port_text}: {error}"));
    let wire = Wire::before(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    let wire_port = wire.port.to_string();

    write_lines(&sandbox, COUNT, |n| format!(r#"{{"from":"one by one","n":{n}}}"#));
    let options = ["--protocol", "http", "--timeout", "60"];
    let one_by_one = [&options[..], &["--port", &port_text, "--batch", "1"]].concat();
    let mut one_by_one = send_lines(&sandbox, WITH_LINES, &one_by_one);
    one_by_one.wait_for_log("503 (inbox_full)");
    // A single message goes by POST, whose response is not sealed, unlike an answer on a channel.
    let alone = [
        "--send",
        r#"{"from":"alone"}"#,
        "--protocol",
        "http",
        "--port",
        &wire_port,
        "--timeout",
        "1",
    ];
    sandbox.run(&alone).ended_with(75).says("inbox_full");
    let heads = wire.answers();
    let refusal = heads
        .split("HTTP/1.1 ")
        .find(|answer| answer.starts_with("503 "))
        .unwrap_or_else(|| panic!("no response is a 503:\n{heads}"));
    assert!(refusal.to_lowercase().contains("\r\nretry-after: 1\r\n"), "{refusal}");
    assert!(refusal.contains(r#""code":"inbox_full""#), "{refusal}");
    assert!(is_running(port).contains("Web-Server is running"));

    // A second sender, which sends batches, finds no room either.
    let lines = r#"sed 's/one by one/in batches/' lines | "$@""#;
    let in_batches = [&options[..], &["--port", &port_text]].concat();
    let mut in_batches = send_lines(&sandbox, lines, &in_batches);
    in_batches.wait_for_log("503 (inbox_full)");

    let reading = thread::spawn(move || whole_lines(unread));
    for sender in [one_by_one, in_batches] {
        sender.finish().succeeded().says(&format!("{COUNT} sent, 0 duplicates, 0 refused"));
    }
    // The receiver prints the remaining messages before it ends.
    receiver.terminate();
    receiver.finish().succeeded();
    let mut ledger = Ledger::new(Reader::Serve);
    for from in ["one by one", "in batches"] {
        (1..=COUNT).for_each(|n| ledger.acknowledge(from, n));
    }
    for line in reading.join().unwrap_or_default() {
        ledger.arrive(&line).unwrap_or_else(|error| panic!("{error}"));
    }
    let verdict = ledger.verdict();
    assert!(verdict.is_good(), "{verdict}\n{}", verdict.details());
    Outcome::Passed
}

/// Starts `--serve` with a pipe as stdout. Returns the pipe's reading end and the server's port
/// too.
#[track_caller]
fn serve_unread(mut command: Command) -> (Running, String, PipeReader) {
    let (unread, stdout) = std::io::pipe().expect("the system makes a pipe");
    command.stdout(stdout);
    let mut running = Running::start(command, "");
    let port = port_of(&mut running);
    (running, port, unread)
}

/// The port in a server's log.
#[track_caller]
fn port_of(server: &mut Running) -> String {
    server.wait_for_log("]: Listening on http");
    let rest = server.wait_for_log("://127.0.0.1:");
    rest.split(' ').next().unwrap_or_default().to_owned()
}

/// Writes a file `lines` with a message on each line, numbered from 1.
fn write_lines(sandbox: &Sandbox, count: u64, message: impl Fn(u64) -> String) {
    let lines: String = (1..=count).map(|n| message(n) + "\n").collect();
    fs::write(sandbox.folder().join("lines"), lines).expect("a temporary directory can be written");
}

/// Starts `web-ipc --send` with these options, from a script that gives it its lines.
#[track_caller]
fn send_lines(sandbox: &Sandbox, script: &str, options: &[&str]) -> Running {
    Running::start(sandbox.shell(script, &[&["--send"], options].concat()), "")
}

/// The whole lines in a pipe until its end. An incomplete last line does not count.
fn whole_lines(pipe: PipeReader) -> Vec<String> {
    let mut text = String::new();
    let mut reader = BufReader::new(pipe);
    while reader.read_line(&mut text).is_ok_and(|length| length > 0) {}
    let end = text.rfind('\n').map_or(0, |end| end + 1);
    text[..end].lines().map(str::to_owned).collect()
}

/// The response of the server on this port to `GET /is/running`.
#[track_caller]
pub(super) fn is_running(port: u16) -> String {
    let mut connection =
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("the server listens");
    let request = "GET /is/running HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    connection.write_all(request.as_bytes()).expect("the server reads");
    let mut answer = String::new();
    connection.read_to_string(&mut answer).expect("the server answers");
    answer
}

/// A proxy that passes connections on to a server, and records the server's responses.
struct Wire {
    port: u16,
    answers: Arc<Mutex<Vec<u8>>>,
}

impl Wire {
    /// Starts the proxy. Its threads end with the connections. Only the thread that accepts
    /// connections outlives the scenario's processes.
    fn before(server: SocketAddr) -> Wire {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        let port = listener.local_addr().expect("it is bound").port();
        let answers = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&answers);
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(server) else { continue };
                let (Ok(client_too), Ok(server_too)) = (client.try_clone(), server.try_clone())
                else {
                    continue;
                };
                let kept = Arc::clone(&kept);
                thread::spawn(move || pass(client, server, |_| ()));
                thread::spawn(move || {
                    pass(server_too, client_too, |bytes| {
                        kept.lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .extend_from_slice(bytes);
                    });
                });
            }
        });
        Wire { port, answers }
    }

    /// All responses so far.
    fn answers(&self) -> String {
        String::from_utf8_lossy(&self.answers.lock().unwrap_or_else(PoisonError::into_inner))
            .into_owned()
    }
}

/// Passes bytes on until the end of the stream, and shows them first.
fn pass(mut from: TcpStream, mut to: TcpStream, mut show: impl FnMut(&[u8])) {
    let mut bytes = [0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        show(&bytes[..count]);
        if to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    // A connection that is closed already is no error.
    let _ = to.shutdown(std::net::Shutdown::Write);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_line_is_not_read() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        writer.write_all(b"one\ntwo\nthr").unwrap();
        drop(writer);
        assert_eq!(whole_lines(reader), ["one", "two"]);
    }

    #[test]
    fn what_a_server_answers_is_passed_on_and_kept() {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let wire = Wire::before(server.local_addr().unwrap());
        let answering = thread::spawn(move || {
            let (mut connection, _) = server.accept().unwrap();
            let mut asked = [0; 4];
            connection.read_exact(&mut asked).unwrap();
            connection.write_all(b"pong").unwrap();
            asked
        });
        let mut client = TcpStream::connect((Ipv4Addr::LOCALHOST, wire.port)).unwrap();
        client.write_all(b"ping").unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert_eq!((answer.as_str(), wire.answers().as_str()), ("pong", "pong"));
        assert_eq!(&answering.join().unwrap(), b"ping");
    }
}

//! Scenarios in which certificates, keys and users change under load, without a restart.
//!
//! Clients of four kinds send numbered messages. Whatever changes meanwhile, each message arrives
//! once and in order.

use std::cell::Cell;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::Outcome;
use super::enrolled::{Enrolled, port_in};
use super::expect::Running;
use super::python_client::{python, python_lacks};
use crate::driver::{Built, Finished, PATIENCE, Sandbox};

/// Writes numbered messages of the sender `LOAD_FROM` to a command, a few hundred a second, until a
/// file `stop` is there. Then it says how many there were.
const LOAD: &str = r#"{ n=0; while [ ! -e stop ]; do n=$((n+1)); echo "{\"from\":\"$LOAD_FROM\",\"n\":$n}"; sleep 0.003; done
echo "made $n" >&2; } | "$@""#;

/// The senders: of the home, enrolled, in Python, and by POST alone.
const SENDERS: [&str; 4] = ["local", "worker1", "worker2", "worker3"];

/// How many messages of each must have arrived before the first change.
const AT_FIRST: u64 = 50;

/// How long after the end of a command the server may still accept messages of the one that it
/// concerns. It is a second on a machine that is not busy, which docs/performance.md measures; this
/// only finds a server that goes on.
const WITHIN_MS: i64 = 30_000;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// Every change of trust in turn, while a client of the home, an enrolled one, one in Python and
/// one by POST alone send. Then a certificate is revoked, a user deleted and one disabled: each
/// client is refused soon, and it is printed how soon, while the one of the home goes on.
///
/// How soon is seen from what the server accepted, by its own clock, and not from
/// when a sender says that it was refused: a host with much to do delays senders, and what a server
/// that looks every two seconds accepts meanwhile comes all the same.
pub(super) fn changes_under_load(built: &Built) -> Outcome {
    if let Some(why) = python_lacks(&["requests", "cryptography"]) {
        return Outcome::Skipped(why);
    }
    let sandbox = Sandbox::with_home(built);
    let mut server = sandbox.start(&["--serve", "--inbox", "durable", "--port", "0"]);
    let listening = server.wait_for_log("Listening on ");
    let port = port_in(&listening);
    let address = format!("127.0.0.1:{port}");
    let enrolled =
        ["worker1", "worker2", "worker3"].map(|name| Enrolled::new(&sandbox, name, &address));

    let mut local = start(sandbox.shell(LOAD, &["--send", "--port", &port]), "local");
    let mut by_channel = start(enrolled[0].shell(&sandbox, LOAD, &["--send"]), "worker1");
    let mut in_python = {
        let mut command = python(&sandbox, &built.workspace.join("xtask/src/e2e/load.py"));
        command.arg("--home").arg(&enrolled[1].home).args(["--from", "worker2"]);
        Running::start(command, "")
    };
    let acknowledged = sandbox.folder().join("acknowledged");
    let mut by_post = {
        let mut command = sandbox.fixture("load");
        command.arg("--home").arg(&enrolled[2].home).args(["--from", "worker3"]);
        command.args(["--mode", "send", "--transport", "post", "--pause", "3"]);
        command.args(["--start", "1", "--count", "10000000", "--acks"]).arg(&acknowledged);
        command.env("RUST_LOG", "info");
        Running::start(command, "")
    };
    for from in SENDERS {
        server.wait_for_stdout(&format!(r#""body":{{"from":"{from}","n":{AT_FIRST}}}"#));
    }

    let run = |arguments: &[&str]| sandbox.run(arguments).succeeded();
    let renew = |one: &Enrolled| {
        one.run(&sandbox, &["--certs", "--renew"]).succeeded().says("Renewed: worker");
    };
    let follows = |loads: [&mut Running; 2]| {
        for load in loads {
            load.wait_for_next_log("has changed: the client uses its new files");
        }
    };
    // The certificate of the server.
    run(&["--certs", "--renew", "--name", "localhost"]);
    server.wait_for_next_log("Files of the home have changed");
    // The certificate of each enrolled client, with a key of its own.
    enrolled.iter().for_each(renew);
    follows([&mut by_channel, &mut by_post]);
    // Who was seen, and with which key.
    let old = key_id(&run(&["--keys", "--list"]), "envelope.keys");
    listed_soon(&sandbox, &["--keys", "--list"], |list| {
        list.contains("used by localhost, worker1, worker2, worker3")
    });
    listed_soon(&sandbox, &["--certs", "--list"], |list| list.contains("\n  seen    20"));
    // The envelope key, and no old one.
    run(&["--keys", "--rotate"]);
    server.wait_for_next_log("2 envelope keys");
    local.wait_for_next_log("has changed: the client uses its new files");
    enrolled.iter().for_each(renew);
    follows([&mut by_channel, &mut by_post]);
    listed_soon(&sandbox, &["--keys", "--list"], |list| {
        list.lines().next().is_some_and(|first| first.contains("worker1, worker2, worker3"))
    });
    run(&["--keys", "--drop", &old]);
    server.wait_for_next_log("1 envelope key,");
    // The authority, and no old one.
    run(&["--certs", "--rotateCa"]);
    server.wait_for_next_log("2 authorities");
    sandbox.run(&["--certs", "--dropOldCa"]).failed_in_one_sentence().says("worker1");
    enrolled.iter().for_each(renew);
    follows([&mut by_channel, &mut by_post]);
    run(&["--certs", "--dropOldCa"]);
    server.wait_for_next_log("1 authority");
    // The password of the user that the local client is, and the key of sessions.
    run(&["--users", "--change", "-u", "ipc-admin", "-p", "pass654"]);
    let old = key_id(&run(&["--keys", "--list"]), "session.key");
    run(&["--keys", "--rotate", "--session"]);
    server.wait_for_next_log("Files of the home have changed");
    run(&["--keys", "--drop", &old, "--session"]);
    server.wait_for_next_log("Files of the home have changed");

    // Each of these ends one client, and nothing else.
    let ends = [
        Ended::by(&sandbox, &["--certs", "--revoke", "worker1"], &mut by_channel, "error: "),
        Ended::by(&sandbox, &["--users", "--delete", "-u", "worker2"], &mut in_python, "refused "),
        Ended::by(&sandbox, &["--users", "--disable", "-u", "worker3"], &mut by_post, "error: "),
    ];
    goes_on(&mut server);
    // A line that was under way is not known, 75; else it is refused, 77.
    let by_channel = by_channel.finish().says("revoked");
    assert!(matches!(by_channel.status.code(), Some(75 | 77)), "{}", by_channel.report());
    let refused = in_python.finish().ended_with(1).says(" 401 ");
    by_post.finish().ended_with(1).says("worker3");
    fs::write(sandbox.folder().join("stop"), "").unwrap_or_else(|error| panic!("{error}"));
    let made = local.finish().succeeded();

    sandbox.run(&["--send", r#"{"from":"end"}"#, "--port", &port]).succeeded();
    server.wait_for_stdout(r#""body":{"from":"end"}"#);
    server.terminate();
    let finished = server.finish().succeeded();
    let arrived = SENDERS.map(|from| Arrived::of(&finished.stdout, from));
    assert_eq!(arrived[0].count, number_behind(&made.stderr, "made "), "lost at the end");
    assert_eq!(arrived[2].count + 1, number_behind(&refused.stderr, "refused "), "in Python");
    let acknowledged = fs::read_to_string(&acknowledged).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(arrived[3].count, acknowledged.lines().count() as u64, "by POST alone");
    for (ended, arrived) in ends.iter().zip(&arrived[1..]) {
        let accepted = since(ended.at_ms, arrived.last_at_ms);
        println!(
            "    {}: took {} ms; from its end to the last message accepted {accepted} ms, to the \
             client's refusal {} ms",
            ended.command, ended.took_ms, ended.told_ms
        );
        assert!(
            accepted < WITHIN_MS,
            "{}: the server accepted messages for another {accepted} ms",
            ended.command
        );
    }
    Outcome::Passed
}

/// A further server is enrolled; a client sends to both with one session. What changes in the first
/// server's home reaches the second by its renewal.
pub(super) fn a_further_server(built: &Built) -> Outcome {
    let sandbox = Sandbox::with_home(built);
    let mut first = sandbox.start(&["--serve", "--port", "0"]);
    let port = port_in(&first.wait_for_log("Listening on "));
    let address = format!("127.0.0.1:{port}");
    // Before the further server is enrolled, whose users are a copy.
    let client = Enrolled::new(&sandbox, "worker1", &address);
    let node = Enrolled::as_kind(&sandbox, "node2", &address, "server");
    let run = |arguments: &[&str]| sandbox.run(arguments).succeeded();
    run(&["--enrol", "--list"]).says("node2  accepted  server, user node2");

    let mut serve = sandbox.command(&["--serve", "--port", "0"]);
    node.at_home(&mut serve);
    let mut second = Running::start(serve, "");
    let second_port = port_in(&second.wait_for_log("Listening on "));
    let sends = |n: u32, to: &str| {
        let message = format!(r#"{{"n":{n}}}"#);
        match to {
            "first" => client.run(&sandbox, &["--send", &message]),
            _ => client
                .run(&sandbox, &["--send", &message, "--ip", "127.0.0.1", "--port", &second_port]),
        }
    };
    sends(1, "first").succeeded();
    let session = sessions_of(&client);
    sends(2, "second").succeeded();
    assert_eq!(sessions_of(&client), session, "the session of one server is good at the other");
    first.wait_for_stdout(r#""body":{"n":1}"#);
    second.wait_for_stdout(r#""body":{"n":2}"#);

    // Another envelope key, and no old one.
    let old = key_id(&run(&["--keys", "--list"]), "envelope.keys");
    run(&["--keys", "--rotate"]);
    node.run(&sandbox, &["--certs", "--renew"]).succeeded().says("Renewed: node2");
    second.wait_for_log("2 envelope keys");
    // Its session is of the certificate before: it logs in, with the new key.
    node.run(&sandbox, &["--certs", "--renew"]).succeeded();
    client.run(&sandbox, &["--certs", "--renew"]).succeeded();
    // Both have logged in with the new key.
    listed_soon(&sandbox, &["--keys", "--list"], |list| {
        list.lines().nth(1).is_some_and(|of_old| !of_old.contains("used by"))
    });
    run(&["--keys", "--drop", &old]);
    node.run(&sandbox, &["--certs", "--renew"]).succeeded();
    second.wait_for_log("1 envelope key,");
    sends(3, "first").succeeded();
    sends(4, "second").succeeded();
    second.wait_for_stdout(r#""body":{"n":4}"#);
    // What the authority's home alone does is refused, and a client that is revoked there is
    // refused here.
    node.run(&sandbox, &["--certs", "--rotateCa"]).failed_in_one_sentence().says("first server");
    run(&["--certs", "--revoke", "worker1"]);
    node.run(&sandbox, &["--certs", "--renew"]).succeeded();
    second.wait_for_log("Files of the home have changed");
    let refused = (0..1000).map(|_| sends(5, "second")).find(|sent| !sent.status.success());
    refused.expect("a revoked client goes on").ended_in_one_sentence(77).says("revoked");
    // A cancelled server learns nothing more.
    run(&["--enrol", "--cancel", "node2"]);
    let refused = (0..1000)
        .map(|_| node.run(&sandbox, &["--certs", "--renew"]))
        .find(|renewed| !renewed.status.success());
    refused.expect("a cancelled server goes on").failed_in_one_sentence().says("revoked");
    for server in [first, second] {
        server.terminate();
        server.finish().succeeded();
    }
    Outcome::Passed
}

/// The sessions that a client keeps, by file.
fn sessions_of(client: &Enrolled) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = fs::read_dir(client.home.join("sessions")).unwrap_or_else(|e| panic!("{e}"));
    let mut sessions: Vec<_> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter_map(|path| fs::read(&path).ok().map(|content| (path, content)))
        .collect();
    sessions.sort();
    assert!(!sessions.is_empty(), "no session is kept");
    sessions
}

/// How a client came to its end.
struct Ended {
    command: String,
    took_ms: u128,
    /// When the command ended, as milliseconds of the day.
    at_ms: i64,
    /// How long after that the client said that it was refused.
    told_ms: u128,
}

impl Ended {
    /// Runs a command, and waits until a client says `part`.
    #[track_caller]
    fn by(sandbox: &Sandbox, command: &[&str], client: &mut Running, part: &str) -> Self {
        let begun = Instant::now();
        sandbox.run(command).succeeded();
        let (took_ms, at, at_ms) = (begun.elapsed().as_millis(), Instant::now(), now_ms());
        client.wait_for_log(part);
        let told_ms = at.elapsed().as_millis();
        Ended { command: command.join(" "), took_ms, at_ms, told_ms }
    }
}

/// What arrived of one sender.
struct Arrived {
    count: u64,
    /// When the server accepted the last one, as milliseconds of the day.
    last_at_ms: i64,
}

impl Arrived {
    /// Checks that each message arrived once and in order.
    #[track_caller]
    fn of(lines: &str, from: &str) -> Self {
        let message = |line: &str| serde_json::from_str::<Value>(line).ok();
        let messages: Vec<_> =
            lines.lines().filter_map(message).filter(|one| one["body"]["from"] == from).collect();
        let numbers: Vec<_> = messages.iter().filter_map(|one| one["body"]["n"].as_u64()).collect();
        let count = numbers.len() as u64;
        assert!(count > AT_FIRST, "{from}: {count}");
        let wrong = numbers.iter().zip(1..).find(|(number, expected)| **number != *expected);
        assert_eq!(wrong, None, "{from}: lost, twice, or out of order (what came, what should)");
        let at = messages.last().and_then(|last| last["at"].as_str()).unwrap_or_default();
        let last_at_ms = of_day_ms(at).unwrap_or_else(|| panic!("no time: {at:?}"));
        Arrived { count, last_at_ms }
    }
}

/// Waits until the client of the home has sent as many messages again as at first.
#[track_caller]
fn goes_on(server: &mut Running) {
    let from = Cell::new(None);
    server.wait_until("more messages of the local client", |stdout| {
        let begin = r#""body":{"from":"local","n":"#;
        let Some(at) = stdout.rfind(begin) else { return false };
        let rest = &stdout[at + begin.len()..];
        let Some(number) = rest.split('}').next().and_then(|n| n.parse::<u64>().ok()) else {
            return false;
        };
        let first = from.get().unwrap_or(number);
        from.set(Some(first));
        number >= first + AT_FIRST
    });
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or_default() % DAY_MS
}

/// The milliseconds of the day in a time such as `2026-11-23T02:33:41.053Z`.
fn of_day_ms(at: &str) -> Option<i64> {
    let (_, time) = at.strip_suffix('Z')?.split_once('T')?;
    let mut parts = time.split([':', '.']).map(str::parse::<i64>);
    let mut next = || parts.next()?.ok();
    Some(((next()? * 60 + next()?) * 60 + next()?) * 1000 + next()?)
}

/// The time from one moment to another, which may be before it, across midnight too.
fn since(from_ms: i64, to_ms: i64) -> i64 {
    (to_ms - from_ms + DAY_MS / 2).rem_euclid(DAY_MS) - DAY_MS / 2
}

/// The number behind a word.
#[track_caller]
fn number_behind(text: &str, word: &str) -> u64 {
    let (_, rest) = text.split_once(word).unwrap_or_else(|| panic!("no {word:?}: {text}"));
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or_else(|_| panic!("no number behind {word:?}: {text}"))
}

/// Asks until a list shows what a server notes some seconds after it happened.
#[track_caller]
fn listed_soon(sandbox: &Sandbox, list: &[&str], shows: impl Fn(&str) -> bool) {
    let begun = Instant::now();
    loop {
        let last = sandbox.run(list).succeeded().stdout;
        if shows(&last) {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{list:?} never shows it:\n{last}");
    }
}

fn start(mut command: Command, from: &str) -> Running {
    command.env("LOAD_FROM", from);
    Running::start(command, "")
}

/// The id of the last key of a ring.
fn key_id(list: &Finished, ring: &str) -> String {
    let line = list.stdout.lines().rfind(|line| line.starts_with(ring));
    let id = line.and_then(|line| line.split_whitespace().nth(1));
    id.unwrap_or_else(|| panic!("no key of {ring}:\n{}", list.report())).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(numbers: &[u64]) -> String {
        let line = |n: &u64| {
            format!(r#"{{"at":"2026-11-23T00:00:01.053Z","body":{{"from":"a","n":{n}}}}}"#) + "\n"
        };
        numbers.iter().map(line).collect()
    }

    #[test]
    fn what_arrived_is_counted_up_to_the_last() {
        let all: Vec<u64> = (1..=60).collect();
        let arrived = Arrived::of(&lines(&all), "a");
        assert_eq!((arrived.count, arrived.last_at_ms), (60, 1053));
    }

    #[test]
    #[should_panic(expected = "a: lost, twice")]
    fn a_message_that_came_twice_is_found() {
        let mut numbers: Vec<u64> = (1..=60).collect();
        numbers.insert(30, 30);
        Arrived::of(&lines(&numbers), "a");
    }

    #[test]
    #[should_panic(expected = "a: lost, twice")]
    fn a_message_that_is_missing_is_found() {
        let mut numbers: Vec<u64> = (1..=60).collect();
        numbers.remove(30);
        Arrived::of(&lines(&numbers), "a");
    }

    #[test]
    fn times_of_the_day_are_compared_across_midnight() {
        assert_eq!(of_day_ms("2026-11-23T02:33:41.053Z"), Some(9_221_053));
        assert_eq!(of_day_ms("02:33"), None);
        assert_eq!(since(1000, 3500), 2500);
        assert_eq!(since(3500, 1000), -2500);
        assert_eq!(since(DAY_MS - 100, 200), 300);
    }
}

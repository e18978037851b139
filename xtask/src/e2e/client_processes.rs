//! Scenarios with server and clients in separate processes, the libraries' example programs
//! `receive` and `send`.
//!
//! `receive --home DIR --name NAME --bind ADDRESS` prints `listening on ADDRESS`, then a JSON line
//! for each message, until SIGTERM.
//! `send --home DIR --server NAME --address ADDRESS --count N --from TAG` sends
//! `{"from":TAG,"n":0}`, `1`, … in order and prints `sent N` once all are acknowledged.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Outcome;
use super::expect::Running;
use crate::driver::{Built, Sandbox};

/// How many client processes run at once.
const CLIENTS: usize = 4;
/// How many messages each client sends.
const EACH: usize = 250;

/// Starts a receiver in `sandbox`. Returns its address too.
#[track_caller]
pub(super) fn receive(sandbox: &Sandbox, bind: &str, log: &str) -> (Running, String) {
    let mut command = sandbox.fixture("receive");
    command
        .arg("--home")
        .arg(sandbox.home())
        .args(["--name", "localhost", "--bind", bind])
        .env("RUST_LOG", log);
    let mut running = Running::start(command, "");
    let address = running.wait_for_line("listening on ").trim().to_owned();
    (running, address)
}

/// Starts a sender in `sandbox`.
#[track_caller]
pub(super) fn send(
    sandbox: &Sandbox,
    address: &str,
    from: &str,
    count: usize,
    log: &str,
) -> Running {
    let mut command = sandbox.fixture("send");
    command.arg("--home").arg(sandbox.home()).args(["--server", "localhost", "--address", address]);
    command.args(["--count", &count.to_string(), "--from", from]).env("RUST_LOG", log);
    Running::start(command, "")
}

/// How many processes send one message each.
const LONE_SENDERS: usize = 32;

/// Every sent message arrives, once, and each sender's messages arrive in order.
pub(super) fn four_clients(built: &Built) -> Outcome {
    let sandbox = Sandbox::with_home(built);
    let (mut receiver, address) = receive(&sandbox, "127.0.0.1:0", "info");
    let senders = start_senders(&sandbox, &address);
    finish_senders(senders);
    // One more line is `listening on`.
    receiver.wait_for_lines(CLIENTS * EACH + 1);
    receiver.terminate();
    let finished = receiver.finish().succeeded();
    let messages = messages(&finished.stdout);
    assert_eq!(messages.len(), CLIENTS * EACH, "{}", finished.stderr);
    check_complete_and_in_order(&messages);
    Outcome::Passed
}

/// Many processes start at the same moment without a session, and only one logs in.
pub(super) fn one_login(built: &Built) -> Outcome {
    let sandbox = Sandbox::with_home(built);
    let (mut receiver, address) = receive(&sandbox, "127.0.0.1:0", "error");
    let senders: Vec<_> =
        (0..LONE_SENDERS).map(|n| send(&sandbox, &address, &format!("p{n}"), 1, "info")).collect();
    let logs: Vec<_> =
        senders.into_iter().map(|sender| sender.finish().succeeded().stderr).collect();
    let logins = logs.iter().filter(|log| log.contains("re-authenticating")).count();
    // If a login takes ten seconds, as it can on a loaded host, another process logs in too.
    assert!((1..=3).contains(&logins), "{logins} of {LONE_SENDERS} logged in");
    receiver.wait_for_lines(LONE_SENDERS + 1);
    receiver.terminate();
    receiver.finish().succeeded();
    Outcome::Passed
}

/// The server is stopped under load and started on the same port. The senders must not notice.
pub(super) fn restart(built: &Built) -> Outcome {
    let sandbox = Sandbox::with_home(built);
    let (mut first, address) = receive(&sandbox, "127.0.0.1:0", "info");
    let senders = start_senders(&sandbox, &address);
    first.wait_for_lines(CLIENTS * EACH / 5);
    first.terminate();
    let first = first.finish().succeeded();
    let (mut second, again) = receive(&sandbox, &address, "info");
    assert_eq!(again, address);
    finish_senders(senders);
    let before = messages(&first.stdout);
    assert!(
        before.len() < CLIENTS * EACH,
        "the first receiver was stopped too late: it had all messages"
    );

    // A message whose response was lost in the stop is sent again under its id. So there may be
    // more lines than are missing, and the test reads the second receiver's output to its end.
    second.wait_for_lines(CLIENTS * EACH - before.len() + 1);
    second.terminate();
    let second = second.finish().succeeded();
    let mut all = before;
    for message in messages(&second.stdout) {
        if !all.iter().any(|known| known.id == message.id) {
            all.push(message);
        }
    }
    assert_eq!(all.len(), CLIENTS * EACH, "{}", second.stderr);
    check_complete_and_in_order(&all);

    let logins = |log: &str| log.lines().filter(|line| line.contains("/client/auth")).count();
    assert!(
        logins(&first.stderr) > 0,
        "the first receiver's log shows no login:\n{}",
        first.stderr
    );
    assert_eq!(logins(&second.stderr), 0, "clients logged in again:\n{}", second.stderr);
    Outcome::Passed
}

#[track_caller]
fn start_senders(sandbox: &Sandbox, address: &str) -> Vec<Running> {
    (0..CLIENTS)
        .map(|number| send(sandbox, address, &format!("client{number}"), EACH, "info"))
        .collect()
}

#[track_caller]
fn finish_senders(senders: Vec<Running>) {
    for sender in senders {
        sender.finish().succeeded().says(&format!("sent {EACH}"));
    }
}

/// A message as printed by `receive`.
struct Message {
    id: String,
    from: String,
    number: u64,
}

/// The messages that `receive` printed.
#[track_caller]
fn messages(stdout: &str) -> Vec<Message> {
    stdout
        .lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| {
            let value: Value =
                serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            let text = |value: &Value| {
                value.as_str().unwrap_or_else(|| panic!("not a text: {line}")).to_owned()
            };
            assert_eq!(text(&value["user"]), "ipc-admin", "{line}");
            Message {
                id: text(&value["id"]),
                from: text(&value["body"]["from"]),
                number: value["body"]["n"].as_u64().unwrap_or_else(|| panic!("no number: {line}")),
            }
        })
        .collect()
}

/// Checks that each client's numbers arrived consecutively, from the first on.
#[track_caller]
fn check_complete_and_in_order(messages: &[Message]) {
    let mut numbers: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for message in messages {
        numbers.entry(&message.from).or_default().push(message.number);
    }
    assert_eq!(numbers.len(), CLIENTS, "messages came from {:?}", numbers.keys());
    for (from, numbers) in numbers {
        let first = numbers.first().copied().unwrap_or_default();
        let expected: Vec<u64> = (first..).take(EACH).collect();
        assert!(first <= 1 && numbers == expected, "{from}'s messages came as {numbers:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(from: usize, number: usize) -> String {
        let body = format!("{{\"from\":\"client{from}\",\"n\":{number}}}");
        format!("{{\"id\":\"{from}-{number}\",\"user\":\"ipc-admin\",\"body\":{body}}}\n")
    }

    fn all() -> Vec<String> {
        (0..EACH).flat_map(|number| (0..CLIENTS).map(move |from| line(from, number))).collect()
    }

    #[test]
    fn all_messages_in_order_are_good() {
        check_complete_and_in_order(&messages(&format!(
            "listening on 127.0.0.1:3000\n{}",
            all().concat()
        )));
    }

    #[test]
    #[should_panic(expected = "client1's messages came as")]
    fn two_that_changed_places_are_found() {
        let mut lines = all();
        lines.swap(1, CLIENTS + 1);
        check_complete_and_in_order(&messages(&lines.concat()));
    }

    #[test]
    #[should_panic(expected = "client2's messages came as")]
    fn one_that_is_missing_is_found() {
        let mut lines = all();
        lines.remove(CLIENTS * 7 + 2);
        check_complete_and_in_order(&messages(&lines.concat()));
    }

    #[test]
    #[should_panic(expected = "ipc-admin")]
    fn another_sender_is_found() {
        messages("{\"id\":\"1\",\"user\":\"mallory\",\"body\":{\"from\":\"client0\",\"n\":0}}\n");
    }
}

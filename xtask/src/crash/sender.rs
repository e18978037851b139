//! The senders of a run: their tasks, and the numbers that they report as acknowledged.
//!
//! A run comes here. This file checks the order of one sender's numbers, not what became of its
//! messages.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::mem;
use std::ops::Range;
use std::path::Path;
use std::sync::mpsc::Sender;

use super::event::Event;
use super::options::Mode;
use crate::driver::{Captured, Output, Process, Sandbox};
use crate::faults;

/// A sender's timeout for one message or batch, in seconds. It is far longer than any fault here.
const DEADLINE_SECS: u32 = 120;

/// The task of a sender.
pub(super) struct Task<'a> {
    /// The sender's index.
    pub(super) place: usize,
    pub(super) mode: Mode,
    /// One address, or several separated by commas.
    pub(super) address: &'a str,
    /// How many messages, or requests, the sender has in flight.
    pub(super) in_flight: u64,
    /// The number of the first message.
    pub(super) start: u64,
    pub(super) count: u64,
    /// The file to which the sender writes acknowledged numbers.
    pub(super) acks: &'a Path,
}

/// The `from` of the message with this number. Each of the tasks in flight has its own, since order
/// is kept only within a task.
pub(super) fn from_word(mode: Mode, in_flight: u64, number: u64) -> String {
    match mode {
        Mode::Send | Mode::Request if in_flight > 1 => {
            format!("{}.{}", mode.word(), number % in_flight)
        }
        _ => mode.word().to_owned(),
    }
}

/// Starts a sender, which appends its log to `log`.
pub(super) fn start(
    sandbox: &Sandbox,
    task: &Task<'_>,
    log: &Path,
    events: Sender<Event>,
) -> Result<Process, String> {
    let mut command = sandbox.fixture("load");
    command.arg("--home").arg(sandbox.home()).arg("--acks").arg(task.acks);
    command.args(["--server", "localhost", "--address", task.address]);
    command.args(["--from", task.mode.word(), "--mode", task.mode.word()]);
    command.args(["--start", &task.start.to_string(), "--count", &task.count.to_string()]);
    command.args(["--deadline", &DEADLINE_SECS.to_string()]);
    command.args(["--in-flight", &task.in_flight.to_string()]);
    command.stderr(faults::open_log(log)?);
    let (place, mut said) = (task.place, String::new());
    Process::start(command, "", move |output| match output {
        Output::Line(_, line) => said.push_str(&line),
        Output::End(_) => {
            // The run may have ended.
            let _ = events.send(Event::SenderClosed(place, mem::take(&mut said)));
        }
    })
}

/// Sends one message `{"from":FROM,"n":1}` with `web-ipc --send`, and waits until it is
/// acknowledged.
pub(super) fn send_one(sandbox: &Sandbox, port: u16, from: &str) -> Result<(), String> {
    let (port, message) = (port.to_string(), format!("{{\"from\":\"{from}\",\"n\":1}}"));
    let command = sandbox.command(&["--send", "--port", &port, &message]);
    let finished = Captured::start(command, "")?.finish()?;
    if finished.status.success() { Ok(()) } else { Err(finished.report()) }
}

/// Reads the numbers in a file of acknowledgements from the byte `read` on, and advances `read`.
pub(super) fn acknowledged(acks: &Path, read: &mut u64) -> Result<Vec<u64>, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", acks.display());
    let mut file = File::open(acks).map_err(failed)?;
    file.seek(SeekFrom::Start(*read)).map_err(failed)?;
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(failed)?;
    *read += text.len() as u64;
    text.lines().map(|line| line.parse().map_err(|_| format!("not a number: {line}"))).collect()
}

/// Whether these are the numbers of `expected`, each once, and ascending among those with the same
/// `from`.
pub(super) fn are_all_in_order(
    numbers: &[u64],
    expected: Range<u64>,
    mode: Mode,
    in_flight: u64,
) -> bool {
    let mut last = HashMap::new();
    let rises = |number: &u64| {
        last.insert(from_word(mode, in_flight, *number), *number)
            .is_none_or(|before| before < *number)
    };
    let mut sorted = numbers.to_vec();
    sorted.sort_unstable();
    sorted.into_iter().eq(expected) && numbers.iter().all(rises)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acknowledged_numbers_are_read_once() {
        let folder = tempfile::tempdir().unwrap();
        let acks = folder.path().join("send.acks");
        let mut read = 0;
        std::fs::write(&acks, "1\n2\n").unwrap();
        assert_eq!(acknowledged(&acks, &mut read).unwrap(), [1, 2]);
        std::fs::write(&acks, "1\n2\n3\n").unwrap();
        assert_eq!(acknowledged(&acks, &mut read).unwrap(), [3]);
        std::fs::write(&acks, "1\n2\n3\nx\n").unwrap();
        assert!(acknowledged(&acks, &mut read).is_err());
    }

    #[test]
    fn of_several_in_flight_each_has_its_order() {
        let are =
            |numbers: &[u64], mode, in_flight| are_all_in_order(numbers, 1..5, mode, in_flight);
        assert!(are(&[1, 2, 3, 4], Mode::SendAll, 2) && are(&[1, 2, 3, 4], Mode::Send, 1));
        assert!(are(&[2, 1, 4, 3], Mode::Send, 2) && are(&[4, 3, 2, 1], Mode::Request, 4));
        // Out of order, missing, duplicate, and too many.
        assert!(!are(&[2, 1, 4, 3], Mode::SendAll, 2) && !are(&[3, 1, 2, 4], Mode::Send, 2));
        assert!(!are(&[1, 2, 3], Mode::Send, 2) && !are(&[1, 2, 3, 3], Mode::Send, 2));
        assert!(!are(&[1, 2, 3, 4, 5], Mode::Send, 2));
    }
}

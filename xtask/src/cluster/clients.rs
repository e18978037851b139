//! The clients of a run: what each of them sends and how, and what they say of each answer.
//!
//! A run comes here. A client is one process from the beginning of the run to its end.

use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;

use super::event::Event;
use crate::driver::{Output, Process, Sandbox, Stream};
use crate::faults;

/// The timeout of a call, in seconds. It is far longer than any fault here.
const DEADLINE_SECS: u32 = 120;

/// What a client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kind {
    /// What its messages have in `from`, before the number of the task.
    pub(super) name: &'static str,
    mode: &'static str,
    transport: &'static str,
    /// How many tasks send at once.
    tasks: u64,
    /// How many messages a call has.
    pub(super) each: u64,
    pause_ms: u32,
}

/// The clients. Their pauses keep the load below what the commands of the servers can take.
pub(super) const KINDS: [Kind; 4] = [
    Kind { name: "send", mode: "send", transport: "any", tasks: 4, each: 1, pause_ms: 100 },
    Kind {
        name: "send_all",
        mode: "send_all",
        transport: "any",
        tasks: 1,
        each: 40,
        pause_ms: 1000,
    },
    Kind { name: "request", mode: "request", transport: "any", tasks: 4, each: 1, pause_ms: 100 },
    Kind { name: "post", mode: "send", transport: "post", tasks: 2, each: 1, pause_ms: 100 },
];

impl Kind {
    /// After how many further answers each of its tasks has had one for a call that it began
    /// meanwhile.
    pub(super) fn answers_of_progress(self) -> u64 {
        2 * self.tasks * self.each
    }

    /// The `from` of the message with this number.
    pub(super) fn sender(self, number: u64) -> String {
        match self.tasks {
            1 => self.name.to_owned(),
            tasks => format!("{}.{}", self.name, number % tasks),
        }
    }

    /// The kind of the client with this `from`.
    pub(super) fn of(from: &str) -> Option<Kind> {
        let name = from.split('.').next().unwrap_or_default();
        KINDS.into_iter().find(|kind| kind.name == name)
    }
}

/// What a client says of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) number: u64,
    /// From the beginning of the call.
    pub(super) millis: u64,
    /// Whether a request has its reply.
    pub(super) has_reply: bool,
}

impl Answer {
    /// Reads a line. `None` for the last line, and for anything else.
    pub(super) fn read(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.split(' ').collect();
        let (number, millis, has_reply) = match words[..] {
            [number, millis] => (number, millis, true),
            [number, millis, "none"] => (number, millis, false),
            _ => return None,
        };
        Some(Answer { number: number.parse().ok()?, millis: millis.parse().ok()?, has_reply })
    }
}

/// The file whose presence ends the clients.
pub(super) fn end_file(sandbox: &Sandbox) -> PathBuf {
    sandbox.folder().join("end")
}

/// The log of a client.
pub(super) fn log(sandbox: &Sandbox, kind: Kind) -> PathBuf {
    sandbox.folder().join(format!("client-{}.log", kind.name))
}

/// Starts a client, which knows these addresses.
pub(super) fn start(
    sandbox: &Sandbox,
    place: usize,
    home: &Path,
    addresses: &[String],
    events: Sender<Event>,
) -> Result<Process, String> {
    let kind = KINDS[place];
    let mut command = sandbox.fixture("load");
    command.arg("--home").arg(home).args(["--acks", "/dev/stdout", "--times", "yes"]);
    command.args(["--server", "localhost", "--address", &addresses.join(",")]);
    command.args(["--from", kind.name, "--mode", kind.mode, "--transport", kind.transport]);
    command.args(["--start", "1", "--count", &u32::MAX.to_string()]);
    command.args(["--in-flight", &kind.tasks.to_string(), "--each", &kind.each.to_string()]);
    command.args(["--pause", &kind.pause_ms.to_string()]);
    command.args(["--deadline", &DEADLINE_SECS.to_string()]);
    command.arg("--until").arg(end_file(sandbox));
    command.env("RUST_LOG", "info");
    command.stderr(faults::open_log(&log(sandbox, kind))?);
    Process::start(command, "", move |output| {
        let event = match output {
            Output::Line(_, line) => Event::Answered(place, line.trim_end().to_owned()),
            Output::End(Stream::Out) => Event::ClientEnded(place),
            Output::End(Stream::Err) => return,
        };
        // The run may have ended.
        let _ = events.send(event);
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_says_of_an_answer_is_read() {
        let answer = |number, millis, has_reply| Some(Answer { number, millis, has_reply });
        assert_eq!(Answer::read("7 12"), answer(7, 12, true));
        assert_eq!(Answer::read("7 12 none"), answer(7, 12, false));
        for line in ["", "7", "7 12 some", "acknowledged 7", "7 12 none x"] {
            assert_eq!(Answer::read(line), None, "{line}");
        }
    }

    #[test]
    fn a_client_is_found_by_what_its_messages_have_in_from() {
        for kind in KINDS {
            assert_eq!(Kind::of(&kind.sender(7)), Some(kind));
        }
        assert_eq!(Kind::of("nobody.1"), None);
    }
}

//! The web-ipc servers of a run.
//!
//! A run comes here. Each server has a home of its own, a copy of the first, and runs a command for
//! each message. The command writes down what it was given, and gives a request its number as the
//! reply. What it has written is in a pipe that outlives the server, so that nothing is lost of
//! what was delivered when a server is killed.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Sender;

use super::event::Event;
use crate::driver::{Output, Process, Sandbox, Stream};
use crate::faults;

/// What the lines of the command begin with, among those of the log.
const DELIVERED: &str = "delivered ";

/// What a line of the log has before the sequence and the id of a message that NATS has stored.
const STORED: &str = "]: stored as ";

/// What the servers log: with the lines of [`STORED`], and without those that `--serve` leaves out
/// when it is not told what to log.
const LOGGED: &str = "info,ipc_inbox_jetstream=debug,async_nats=off,rustls=error,\
                      actix_http::h1::dispatcher=off";

/// The command of `--exec`: one `write` to the log for each message. A server that is killed cuts
/// the body that it is writing, so a command has to look whether it has all of it.
const COMMAND: &str = r#"IFS= read -r body
case $body in *'}') ;; *) exit 1 ;; esac
printf 'delivered %s %s %s\n' "$WEB_IPC_ID" "${WEB_IPC_REDELIVERED:-0}" "$body" >&2
case $body in *'"from":"request'*) printf '{"n":%s\n' "${body##*\"n\":}" ;; esac"#;

/// How a server is started.
pub(super) struct Setup {
    pub(super) home: PathBuf,
    pub(super) port: u16,
    /// The value of `--inbox`.
    pub(super) inbox: String,
    /// The value of `--usersDb`.
    pub(super) users: String,
}

/// The log of a server.
pub(super) fn log(sandbox: &Sandbox, place: usize) -> PathBuf {
    sandbox.folder().join(format!("server-{place}.log"))
}

/// Starts a server. `run` is the number of this start among all.
pub(super) fn start(
    sandbox: &Sandbox,
    setup: &Setup,
    place: usize,
    run: u32,
    events: Sender<Event>,
) -> Result<Process, String> {
    let port = setup.port.to_string();
    let mut command = sandbox.command(&["--serve", "--port", &port]);
    command.args(["--inbox", &setup.inbox, "--usersDb", &setup.users, "--exec", COMMAND]);
    command.env("WEB_IPC_HOME", &setup.home).env("RUST_LOG", LOGGED);
    command.stdout(std::process::Stdio::null());
    let log = Arc::new(faults::open_log(&log(sandbox, place))?);
    Process::start(command, "", move |output| {
        let event = match output {
            Output::Line(_, line) => match line.strip_prefix(DELIVERED) {
                Some(delivered) => Event::Delivered(run, delivered.trim_end().to_owned()),
                None => {
                    // The log is only for people, so an error here does not matter.
                    let _ = (&*log).write_all(line.as_bytes());
                    match stored(&line) {
                        Some((sequence, id)) => Event::Stored(sequence, id),
                        None if line.contains("]: Listening on ") => Event::Listening(place),
                        None => return,
                    }
                }
            },
            Output::End(Stream::Err) => Event::ServerEnded(place, run),
            Output::End(Stream::Out) => return,
        };
        // The run may have ended.
        let _ = events.send(event);
    })
}

/// Reads what a line of the log says of a message that NATS has stored.
fn stored(line: &str) -> Option<(u64, String)> {
    let (_, stored) = line.split_once(STORED)?;
    let (sequence, id) = stored.trim_end().split_once(": ")?;
    Some((sequence.parse().ok()?, id.to_owned()))
}

/// Copies a home, as its documented backup does.
pub(super) fn copy_home(sandbox: &Sandbox, to: &Path) -> Result<(), String> {
    let mut command = sandbox.command(&["--backup", "--run", "--out"]);
    command.arg(to);
    let finished = crate::driver::Captured::start(command, "")?.finish()?;
    if finished.status.success() { Ok(()) } else { Err(finished.report()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nats_has_stored_is_read_in_the_log() {
        let line = "[2026-11-28 08:33:40,740][DEBUG][put,213]: stored as 17: 01a2 \"ada\"\n";
        assert_eq!(stored(line), Some((17, "01a2 \"ada\"".to_owned())));
        for other in ["]: stored as x: 01a2\n", "]: stored as 17\n", "stored as 17: 01a2\n"] {
            assert_eq!(stored(other), None, "{other}");
        }
    }
}

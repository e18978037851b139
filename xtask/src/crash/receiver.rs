//! The receiver of a run: the process that reads the inbox, prints each message and is killed.
//!
//! A run comes here. The receiver's output becomes events. A gate can stop the reading of this
//! output, so that the receiver blocks and its inbox fills.

use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use super::event::Event;
use super::options::{InboxKind, Reader};
use crate::driver::{Output, Process, Sandbox, Stream};
use crate::faults;

/// Lets the receiver's output be read, or stops it.
#[derive(Default)]
pub(super) struct Gate {
    is_closed: Mutex<bool>,
    changed: Condvar,
}

impl Gate {
    /// Stops the reading.
    pub(super) fn close(&self) {
        self.set(true);
    }

    /// Lets the output be read again.
    pub(super) fn open(&self) {
        self.set(false);
    }

    fn set(&self, is_closed: bool) {
        *self.is_closed.lock().unwrap_or_else(PoisonError::into_inner) = is_closed;
        self.changed.notify_all();
    }

    /// Waits while the gate is closed.
    fn go_through(&self) {
        let is_closed = self.is_closed.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.changed.wait_while(is_closed, |is_closed| *is_closed));
    }
}

/// A running receiver, and the gate of its output. It is killed when dropped.
pub(super) struct ReceiverProcess {
    pub(super) process: Process,
    pub(super) gate: Arc<Gate>,
}

impl Drop for ReceiverProcess {
    fn drop(&mut self) {
        // The reading thread must reach the end of the output.
        self.gate.open();
    }
}

/// Starts the receiver, which appends its log to `log`.
pub(super) fn start(
    sandbox: &Sandbox,
    port: u16,
    (reader, inbox): (Reader, InboxKind),
    log: &Path,
    events: Sender<Event>,
) -> Result<ReceiverProcess, String> {
    let mut command = match reader {
        Reader::Receive => {
            let mut command = sandbox.fixture("receive");
            command.arg("--home").arg(sandbox.home());
            command.args(["--bind", &format!("127.0.0.1:{port}")]);
            // This makes it log opened channels, as `--serve` does by default.
            command.env("RUST_LOG", "ipc_server=info");
            command
        }
        Reader::Serve => sandbox.command(&["--serve", "--port", &port.to_string()]),
    };
    command.args(["--inbox", inbox.word()]);
    let log = faults::open_log(log)?;
    if reader == Reader::Receive {
        let log = log.try_clone().map_err(|error| format!("a log cannot be shared: {error}"))?;
        command.stderr(Stdio::from(log));
    }
    let (log, gate) = (Arc::new(log), Arc::new(Gate::default()));
    let reading = Arc::clone(&gate);
    let process = Process::start(command, "", move |output| {
        let event = match output {
            Output::Line(Stream::Out, line) => match line.strip_suffix('\n') {
                Some(whole) if whole.starts_with("listening on ") => Event::Listening,
                Some(whole) => Event::Line(whole.to_owned()),
                // A kill cut the line off, so it does not count as printed.
                None => return,
            },
            Output::End(Stream::Out) => Event::ReceiverClosed,
            Output::Line(Stream::Err, line) => {
                // The log is only for people, so an error here does not matter.
                let _ = (&*log).write_all(line.as_bytes());
                // `web-ipc --serve` logs when it listens.
                if !line.contains("]: Listening on ") {
                    return;
                }
                Event::Listening
            }
            Output::End(Stream::Err) => return,
        };
        let is_line = matches!(event, Event::Line(_));
        // The run may have ended.
        if events.send(event).is_ok() && is_line {
            reading.go_through();
        }
    })?;
    Ok(ReceiverProcess { process, gate })
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn a_closed_gate_holds_whoever_comes_until_it_opens() {
        let gate = Arc::new(Gate::default());
        gate.go_through();
        gate.close();
        let (passed, held) = (Arc::new(Mutex::new(false)), Arc::clone(&gate));
        let noted = Arc::clone(&passed);
        let waiting = thread::spawn(move || {
            held.go_through();
            *noted.lock().unwrap() = true;
        });
        assert!(!*passed.lock().unwrap());
        gate.open();
        waiting.join().unwrap();
        assert!(*passed.lock().unwrap());
    }
}

//! Signals: those that ask the process to end, and SIGXFSZ.
//!
//! `main` comes here once. So does every command that must clean up before it ends; a signal ends
//! the others at once, as the system does by default.

use std::io;

use rustix::process::Signal as Number;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// A signal that asks the process to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EndSignal {
    /// SIGINT: Ctrl-C.
    Interrupt,
    /// SIGTERM.
    Terminate,
    /// SIGHUP: the terminal was closed.
    Hangup,
}

/// What a signal asks of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    End(EndSignal),
    /// To read its configuration again: SIGHUP, where there is no terminal that could be closed.
    Reload,
}

impl EndSignal {
    /// The exit status that shells report for a process that a signal ended: 128 plus its number.
    pub(crate) fn status(self) -> u8 {
        match self {
            Self::Hangup => 129,
            Self::Interrupt => 130,
            Self::Terminate => 143,
        }
    }
}

/// Receives these signals. From its making on, they no longer end the process by themselves.
pub(crate) struct EndSignals {
    interrupt: Signal,
    terminate: Signal,
    /// `None` if the process was started with SIGHUP ignored, as by `nohup`. It stays ignored.
    hangup: Option<Signal>,
    /// Whether the process was started from a terminal, in whichever way its streams go.
    has_terminal: bool,
}

impl EndSignals {
    /// Begins to listen. Must be called within a [`runtime`].
    pub(crate) fn watch() -> io::Result<Self> {
        let hangup = if ignores_hangup() { None } else { Some(signal(SignalKind::hangup())?) };
        let interrupt = signal(SignalKind::interrupt())?;
        // Asked for now: of a terminal that was closed there is nothing left to see.
        let has_terminal = std::fs::File::open("/dev/tty").is_ok();
        let terminate = signal(SignalKind::terminate())?;
        Ok(Self { interrupt, terminate, hangup, has_terminal })
    }

    /// Waits for the next signal to a server.
    pub(crate) async fn next_told(&mut self) -> Told {
        match self.next().await {
            EndSignal::Hangup if !self.has_terminal => Told::Reload,
            signal => Told::End(signal),
        }
    }

    /// Waits for the next signal that ends a server.
    pub(crate) async fn next_end(&mut self) {
        while self.next_told().await == Told::Reload {}
    }

    /// Waits for the next signal.
    pub(crate) async fn next(&mut self) -> EndSignal {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => EndSignal::Interrupt,
            _ = self.terminate.recv() => EndSignal::Terminate,
            _ = hangup => EndSignal::Hangup,
        }
    }
}

/// Whether the process was started with SIGHUP ignored.
fn ignores_hangup() -> bool {
    match std::fs::read_to_string("/proc/self/status") {
        Ok(status) => {
            ignored_signals(&status).is_some_and(|set| set & 1 << (Number::HUP.as_raw() - 1) != 0)
        }
        // Without /proc: a child inherits an ignored signal, and so survives it.
        Err(_) => std::process::Command::new("sh")
            .args(["-c", "kill -HUP $$"])
            .status()
            .is_ok_and(|status| status.success()),
    }
}

/// The set of ignored signals in `/proc/PID/status`: bit 0 is signal 1.
fn ignored_signals(status: &str) -> Option<u64> {
    let set = status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
    u64::from_str_radix(set.trim(), 16).ok()
}

/// An async runtime on the calling thread, with signals.
pub(crate) fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

/// Makes a write beyond the limit on the size of a file (`ulimit -f`) fail with an error, instead
/// of ending the process with SIGXFSZ without a word.
pub(crate) fn survive_file_size_limit() -> io::Result<()> {
    let runtime = runtime()?;
    let _within = runtime.enter();
    // The handler stays when its listener is dropped.
    signal(SignalKind::from_raw(Number::XFSZ.as_raw())).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_that_are_ignored_are_read_as_a_set() {
        let status =
            "Name:\tweb-ipc\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000001001\nSigCgt:\t0\n";
        assert_eq!(ignored_signals(status), Some(0x1001));
        assert_eq!(ignored_signals("Name:\tweb-ipc\n"), None);
    }
}

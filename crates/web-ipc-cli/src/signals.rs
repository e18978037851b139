//! Signals: those that ask the process to end, and the one that would end it for a full file.
//!
//! `main` comes here once, and a command that has something to put in order before it ends. Whoever does not come is ended
//! by the system.

use std::io;
use std::pin::pin;

use futures_util::future::{Either, select};
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
}

impl EndSignal {
    /// The exit status by which shells know a process that a signal ended: 128 and its number.
    pub(crate) fn status(self) -> u8 {
        match self {
            Self::Interrupt => 130,
            Self::Terminate => 143,
        }
    }
}

/// Hears both, from the moment it is made. The system does not end the process for them any more.
pub(crate) struct EndSignals {
    interrupt: Signal,
    terminate: Signal,
}

impl EndSignals {
    /// Begins to listen. Must be called within a [`runtime`].
    pub(crate) fn watch() -> io::Result<Self> {
        let interrupt = signal(SignalKind::interrupt())?;
        Ok(Self { interrupt, terminate: signal(SignalKind::terminate())? })
    }

    /// Waits for the next one.
    pub(crate) async fn next(&mut self) -> EndSignal {
        match select(pin!(self.interrupt.recv()), pin!(self.terminate.recv())).await {
            Either::Left(_) => EndSignal::Interrupt,
            Either::Right(_) => EndSignal::Terminate,
        }
    }
}

/// A runtime on the calling thread that hears signals.
pub(crate) fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

/// Lets a write beyond the limit on the size of a file (`ulimit -f`) fail with an error, which can be told, rather than
/// end the process with SIGXFSZ.
pub(crate) fn survive_file_size_limit() -> io::Result<()> {
    let runtime = runtime()?;
    let _within = runtime.enter();
    // Once listened for, it is never again left to the system.
    signal(SignalKind::from_raw(Number::XFSZ.as_raw())).map(drop)
}

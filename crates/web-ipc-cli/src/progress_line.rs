//! How far a command is that takes a while: one line on a terminal, which is written over.
//!
//! `--send` and `--test` come here as often as they like. It is shown between the lines of the log,
//! and nobody waits for it.

use std::io::{self, IsTerminal as _};
use std::time::{Duration, Instant};

/// Between two times that it is shown.
const EVERY: Duration = Duration::from_millis(200);

/// A line of progress, which is shown where stderr is a terminal.
#[derive(Debug, Default)]
pub(crate) struct ProgressLine {
    shown_at: Option<Instant>,
}

impl ProgressLine {
    /// Shows how far it is, if the last time is long enough ago.
    pub(crate) fn show(&mut self, text: impl FnOnce() -> String) {
        let now = Instant::now();
        let is_due = self.shown_at.is_none_or(|at| now >= at + EVERY);
        if is_due && io::stderr().is_terminal() {
            self.shown_at = Some(now);
            crate::log::put(format!("\r{}", text()).as_bytes());
        }
    }

    /// Takes it away again.
    pub(crate) fn end(&self) {
        if self.shown_at.is_some() {
            crate::log::put(b"\r\x1b[K");
        }
    }
}

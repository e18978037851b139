//! Shows the progress of a command in one line of a terminal, which is overwritten.
//!
//! `--send` and `--test` come here after every step. The line goes through the log's queue, so that
//! a slow terminal does not slow the command.

use std::io::{self, IsTerminal as _};
use std::time::{Duration, Instant};

/// The time between two updates.
const EVERY: Duration = Duration::from_millis(200);

/// A line of progress. It is shown only if stderr is a terminal.
#[derive(Debug, Default)]
pub(crate) struct ProgressLine {
    shown_at: Option<Instant>,
}

impl ProgressLine {
    /// Shows `text`, if the last update is long enough ago.
    pub(crate) fn show(&mut self, text: impl FnOnce() -> String) {
        let now = Instant::now();
        let is_due = self.shown_at.is_none_or(|at| now >= at + EVERY);
        if is_due && !crate::out::is_quiet() && io::stderr().is_terminal() {
            self.shown_at = Some(now);
            crate::log::put(format!("\r{}", text()).as_bytes());
        }
    }

    /// Removes the line.
    pub(crate) fn end(&self) {
        if self.shown_at.is_some() {
            crate::log::put(b"\r\x1b[K");
        }
    }
}

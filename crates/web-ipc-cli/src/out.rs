//! Results on stdout.
//!
//! Every command comes here to tell its result. A result that could not be written is a failure,
//! whyever that was: the reader may have gone away, the disk be full.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, IsTerminal as _};
use std::sync::{Mutex, PoisonError};

use rustix::stdio::stdout;

use crate::error::Failure;
use crate::escape;
pub(crate) use crate::escape::printable;
pub(crate) use crate::plural::counted;
use crate::stdio::{Lines, WriteError};

static LINES: Mutex<Lines> = Mutex::new(Lines::new());

/// Prints one line.
///
/// # Errors
/// If it could not be written.
pub(crate) fn print_line(line: fmt::Arguments<'_>) -> Result<(), Failure> {
    print(&format!("{line}\n"))
}

/// Prints a line of JSON; on a terminal with what it would take as a command, or not show, escaped.
///
/// # Errors
/// As [`print_line`].
pub(crate) fn print_json_line(line: &str) -> Result<(), Failure> {
    print_line(format_args!("{}", json_as_shown(line, is_terminal())))
}

/// Whether somebody looks at what is printed.
pub(crate) fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Lines of JSON as they are shown on a terminal, or anywhere else.
pub(crate) fn json_as_shown(lines: &str, on_terminal: bool) -> Cow<'_, str> {
    if on_terminal { escape::json_line(lines) } else { Cow::Borrowed(lines) }
}

/// Prints a text that ends its own lines.
///
/// # Errors
/// As [`print_line`].
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    crate::log::flush_before_a_result();
    write_lines(text.as_bytes()).map_err(|WriteError { error, .. }| unwritten(&error))
}

/// Writes lines to stdout, and waits for room there. They begin on a line of their own.
///
/// # Errors
/// What the system says, and how much of it was written.
pub(crate) fn write_lines(lines: &[u8]) -> Result<(), WriteError> {
    LINES.lock().unwrap_or_else(PoisonError::into_inner).write(stdout(), lines)
}

/// Why something could not be written to stdout.
pub(crate) fn unwritten(error: &io::Error) -> Failure {
    let failure = match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::new("its reader has gone away", None),
        _ => Failure::of(error, None),
    };
    failure.while_doing("cannot write to stdout")
}

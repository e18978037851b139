//! Prints results to stdout.
//!
//! Every command comes here with its result. If the result cannot be written, the command fails,
//! whether the reader has gone away or the disk is full. With `--quiet`, a result that only says
//! that all went well is not printed.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, IsTerminal as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::stdio::stdout;

use crate::error::Failure;
use crate::escape;
pub(crate) use crate::escape::printable;
pub(crate) use crate::plural::counted;
use crate::stdio::{Lines, WriteError};

static LINES: Mutex<Lines> = Mutex::new(Lines::new());

/// Whether nothing is said of what goes well.
static IS_QUIET: AtomicBool = AtomicBool::new(false);

/// Makes [`report_line`] print nothing.
pub(crate) fn be_quiet() {
    IS_QUIET.store(true, Ordering::Relaxed);
}

/// Whether nothing is to be said of what goes well.
pub(crate) fn is_quiet() -> bool {
    IS_QUIET.load(Ordering::Relaxed)
}

/// Prints a line that says that something went well, unless nothing is to be said of that.
///
/// # Errors
/// As [`print_line`].
pub(crate) fn report_line(line: fmt::Arguments<'_>) -> Result<(), Failure> {
    if is_quiet() { Ok(()) } else { print_line(line) }
}

/// Prints one line.
///
/// # Errors
/// If it could not be written.
pub(crate) fn print_line(line: fmt::Arguments<'_>) -> Result<(), Failure> {
    print(&format!("{line}\n"))
}

/// Prints a line of JSON. On a terminal, control and invisible characters are escaped.
///
/// # Errors
/// As [`print_line`].
pub(crate) fn print_json_line(line: &str) -> Result<(), Failure> {
    print_line(format_args!("{}", json_as_shown(line, is_terminal())))
}

/// Whether stdout is a terminal.
pub(crate) fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Lines of JSON, escaped for a terminal.
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

/// Writes lines to stdout, and waits for room there. They begin on a new line.
///
/// # Errors
/// The error of the system, and how many bytes were written before it.
pub(crate) fn write_lines(lines: &[u8]) -> Result<(), WriteError> {
    LINES.lock().unwrap_or_else(PoisonError::into_inner).write(stdout(), lines)
}

/// The failure for an error of writing to stdout.
pub(crate) fn unwritten(error: &io::Error) -> Failure {
    let failure = match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::new("its reader has gone away", None),
        _ => Failure::of(error, None),
    };
    failure.while_doing("cannot write to stdout")
}

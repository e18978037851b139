//! Results on stdout.
//!
//! Every command comes here to tell its result. A result that could not be written is a failure, whyever that was: the
//! reader may have gone away, the disk be full.

use std::fmt;
use std::io;
use std::sync::{Mutex, PoisonError};

use rustix::stdio::stdout;

use crate::error::Failure;
use crate::stdio::{Lines, WriteError};

static LINES: Mutex<Lines> = Mutex::new(Lines::new());

/// Prints one line.
///
/// # Errors
/// If it could not be written.
pub(crate) fn say(line: fmt::Arguments<'_>) -> Result<(), Failure> {
    print(&format!("{line}\n"))
}

/// Prints a text that ends its own lines.
///
/// # Errors
/// As [`say`].
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

/// A text with its control characters escaped: it stays on its line, and no terminal takes it as a command.
pub(crate) fn printable(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut shown, character| {
        if character.is_control() {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
        shown
    })
}

/// `1 message`, `2 messages`.
pub(crate) fn counted(count: impl fmt::Display + PartialEq + From<u8>, what: &str) -> String {
    if count == 1.into() { format!("{count} {what}") } else { format!("{count} {what}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped_and_nothing_else() {
        assert_eq!(printable("' é\\ 李\n\u{1b}[31m"), "' é\\ 李\\n\\u{1b}[31m");
    }

    #[test]
    fn one_is_singular() {
        assert_eq!(counted(1_u32, "message"), "1 message");
        assert_eq!(counted(0_usize, "message"), "0 messages");
    }
}

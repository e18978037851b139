//! Results on stdout.
//!
//! Every command comes here to tell its result. A reader that has gone away (`| head -1`) is no failure: the command
//! goes on and ends as it would have.

use std::fmt;
use std::io::{self, IsTerminal as _, Write};

use crate::error::Failure;
use crate::escape;
pub(crate) use crate::escape::printable;

/// Prints one line.
///
/// # Errors
/// If stdout takes it not, for any other reason than that its reader has gone away.
pub(crate) fn say(line: fmt::Arguments<'_>) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    accept(writeln!(stdout, "{line}").and_then(|()| stdout.flush()))
}

/// Prints a line of JSON; on a terminal with what it would take as a command, or not show, escaped.
///
/// # Errors
/// As [`say`].
pub(crate) fn say_json(line: &str) -> Result<(), Failure> {
    match io::stdout().is_terminal() {
        true => say(format_args!("{}", escape::json_line(line))),
        false => say(format_args!("{line}")),
    }
}

/// Prints a text that ends its own lines.
///
/// # Errors
/// As [`say`].
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    accept(stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()))
}

fn accept(written: io::Result<()>) -> Result<(), Failure> {
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::of(&error, None).while_doing("cannot write to stdout"))
        }
        _ => Ok(()),
    }
}

/// `1 message`, `2 messages`.
pub(crate) fn counted(count: u32, what: &str) -> String {
    if count == 1 { format!("{count} {what}") } else { format!("{count} {what}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_has_gone_away_is_no_failure_and_a_full_disk_is() {
        assert!(accept(Err(io::ErrorKind::BrokenPipe.into())).is_ok());
        assert!(accept(Err(io::ErrorKind::StorageFull.into())).is_err());
    }

    #[test]
    fn one_is_singular() {
        assert_eq!(counted(1, "message"), "1 message");
        assert_eq!(counted(0, "message"), "0 messages");
    }
}

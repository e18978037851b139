//! The code that opens a bundle or a backup: where it is read from, and how it is shown.
//!
//! `--enrol`, `--backup` and `--restore` come here. A code is never an argument of the command
//! line, where other processes would see it.

use std::io::{self, IsTerminal as _};
use std::path::Path;

use ipc_base::Remedy;
use ipc_home::{HomeError, read_secret};
use ipc_setup::{BackupFileError, Code, SetupError};
use rustix::stdio::stderr;
use zeroize::Zeroizing;

use crate::error::Failure;
use crate::password;
use crate::status::Status;
use crate::stdio::{Lines, WriteError};

/// The environment variable with the code of a bundle or backup, for scripts.
const CODE_VARIABLE: &str = "WEB_IPC_CODE";

/// Shows a code on stderr, and waits until it is written. It is part of the result, not of the log:
/// no level silences it.
///
/// # Errors
/// If it could not be written.
pub(crate) fn show(code: &Code) -> io::Result<()> {
    crate::log::flush_before_a_result();
    let line = Zeroizing::new(format!("Code: {code}\n"));
    Lines::new().write(stderr(), line.as_bytes()).map_err(|WriteError { error, .. }| error)
}

/// The code for a new backup, in this file, or on the first line of stdin for `-`.
pub(crate) fn for_backup(file: &Path) -> Result<Code, Failure> {
    in_file(file)?.parse::<Code>().map_err(|_| {
        let remedy =
            "give one that web-ipc --backup has made: without --codeFile it makes a new one";
        Failure::of(&BackupFileError::MalformedCode, Some(Remedy::act(remedy)))
            .while_doing("cannot seal the backup")
            .with_status(Status::NotPermitted)
    })
}

/// The code that opens the backup.
pub(crate) fn of_backup(file: Option<&Path>, backup: &Path) -> Result<Code, Failure> {
    let text = match file {
        Some(file) => in_file(file)?,
        None => text(true, "")?,
    };
    text.parse().map_err(|_| {
        let source = BackupFileError::MalformedCode;
        SetupError::BackupFile { path: backup.to_owned(), source }.into()
    })
}

/// The code in this file, or on the first line of stdin for `-`, as text.
fn in_file(file: &Path) -> Result<Zeroizing<String>, Failure> {
    if file.as_os_str() == "-" {
        return password::first_line(io::stdin().lock(), "code");
    }
    let bytes = read_secret(file).map_err(|error| {
        let remedy = match &error {
            HomeError::TooOpen { .. } => error.remedy(),
            _ => Some(Remedy::act(
                "name a file of yours with the code, or give it on stdin with --codeFile -",
            )),
        };
        Failure::of(&error, remedy).with_status(Status::NotPermitted)
    })?;
    password::first_line(&bytes[..], "code")
}

/// The code: from the environment; else, where stdin is no terminal and not the bundle, its first
/// line; else what stands behind the bundle on stdin, since over ssh there may be no terminal; else
/// from whoever sits at the controlling terminal.
pub(crate) fn text(is_stdin_free: bool, behind: &str) -> Result<Zeroizing<String>, Failure> {
    if let Ok(code) = std::env::var(CODE_VARIABLE).map(Zeroizing::new)
        && !code.trim().is_empty()
    {
        return Ok(code);
    }
    if !is_stdin_free && !behind.is_empty() {
        return Ok(Zeroizing::new(behind.to_owned()));
    }
    if is_stdin_free && !io::stdin().is_terminal() {
        return password::first_line(io::stdin().lock(), "code");
    }
    rpassword::prompt_password("Code: ").map(Zeroizing::new).map_err(|error| {
        let remedy = if is_stdin_free {
            format!("set {CODE_VARIABLE}, or give the code on stdin")
        } else {
            format!(
                "send the code behind the bundle, `{{ web-ipc --enrol --create --name NAME; head -1 < /dev/tty; }} | ssh HOST web-ipc --enrol --accept -`, or set {CODE_VARIABLE}"
            )
        };
        Failure::of(&error, Some(Remedy::act(remedy))).while_doing("cannot ask for the code")
    })
}

//! `web-ipc --restore FILE`: makes a home of a sealed backup, and prints what is in it.

use std::path::Path;

use ipc_home::{Timestamp, locate};
use ipc_setup::{InitOptions, Restore, Restored};

use crate::backup::{self, until_signal};
use crate::code;
use crate::error::{Failure, Verdict};
use crate::out::report_line;
use crate::shell::shell_quoted;

/// Restores the home from `file`.
pub(crate) fn run(
    explicit_home: Option<&Path>,
    file: &Path,
    code_file: Option<&Path>,
    force: bool,
) -> Result<Verdict, Failure> {
    let options = InitOptions { force, ..InitOptions::now() };
    let restore = Restore::begin(file, &locate(explicit_home)?, &options)?;
    let code = code::of_backup(code_file, file)?;
    let abort = restore.abort_handle();
    until_signal(
        abort,
        "nothing was restored",
        move || restore.run(&code),
        |restored| tell(file, &restored),
    )
}

fn tell(file: &Path, restored: &Restored) -> Result<(), Failure> {
    if let Some(aside) = &restored.kept_aside {
        report_line(format_args!("Kept the old home as {}", shell_quoted(aside)))?;
    }
    let made_at = Timestamp::from_unix_secs(restored.made_at_secs);
    report_line(format_args!(
        "Restored {} from {}, as it was at {made_at}",
        shell_quoted(restored.home.root()),
        shell_quoted(file)
    ))?;
    backup::tell_contents(&restored.home, restored.messages)?;
    // Users in PostgreSQL are not in a backup.
    let users = if restored.home.users_url()?.is_some() { "" } else { "users, " };
    report_line(format_args!(
        "  not restored: later changes of {users}keys, enrolments and revoked certificates"
    ))
}

//! The `web-ipc` command: parses, calls the libraries, prints.
//!
//! Only this file ends the process. Its exit status is one of `status.rs`, or 129, 130 or 143 when
//! SIGHUP, SIGINT or SIGTERM ended the command early.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod addresses;
mod args;
mod backup;
mod certs;
mod code;
mod config;
mod dead;
mod doctor;
mod enrol;
mod error;
mod escape;
mod follow;
mod home;
mod import;
mod inbox;
mod init;
mod input;
mod keys;
mod log;
mod message_line;
mod out;
mod password;
mod plural;
mod progress_line;
mod remedy;
mod renewal;
mod restore;
mod selftest;
mod send;
mod serve;
mod shell;
mod signals;
mod status;
mod stdio;
mod testuser;
mod users;

use std::path::Path;
use std::process::ExitCode;

use args::{Action, Invocation, LogLevel, Settings, Surroundings};
use error::{Failure, Verdict};
use status::{Status, Statuses};

/// musl's own is slow with several threads.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    report_panics();
    let status = command();
    log::flush_at_the_end();
    status
}

fn command() -> ExitCode {
    // Best effort: without it, SIGXFSZ ends the process.
    let _ = signals::survive_file_size_limit();
    let invocation = match args::parse(std::env::args_os(), &Surroundings::of_process()) {
        Ok(invocation) => invocation,
        Err(wrong) => {
            log::put(wrong.to_string().as_bytes());
            return ExitCode::from(status::WRONG_USAGE);
        }
    };
    let Invocation { home, quiet, users_db, log_format, settings, action } = invocation;
    let level = match &action {
        Action::Test(test) => test.log_level,
        Action::Serve(serve) => serve.log_level,
        Action::Send(send) => send.target.log_level,
        Action::Request(request) => request.target.log_level,
        _ => None,
    };
    let last_line = match &action {
        Action::Test(_) | Action::Serve(_) => log::LastLine::InTheLog,
        _ => log::LastLine::Plain,
    };
    let level = level.or(quiet.then_some(LogLevel::Warning));
    log::start(log::Shape { level, format: log_format, last: last_line });
    if quiet {
        out::be_quiet();
    }
    let statuses = Statuses::of(&action);
    status::note(statuses);
    let users_db = users_db.as_ref().map(|url| url.as_str());
    match run(home.as_deref(), users_db, settings, action) {
        Ok(Verdict::Done) => ExitCode::SUCCESS,
        Ok(Verdict::Refused) => ExitCode::from(statuses.number(Status::Failed)),
        Ok(Verdict::Partly(status)) => ExitCode::from(statuses.number(status)),
        Ok(Verdict::Interrupted(signal)) => ExitCode::from(signal.status()),
        Err(failure) => {
            // First, so that there is room for this line in the queue of the log.
            log::flush_before_a_result();
            failure.log(home.as_deref());
            ExitCode::from(statuses.number(failure.status()))
        }
    }
}

fn run(
    home: Option<&Path>,
    users_db: Option<&str>,
    settings: Settings,
    action: Action,
) -> Result<Verdict, Failure> {
    stdio::check()?;
    match action {
        Action::Help(help) => out::print(&help).map(|()| Verdict::Done),
        Action::Init { force } => init::run(home, users_db, force),
        Action::Import { from } => import::run(home, &from),
        Action::Certs(certs) => certs::run(home, &certs),
        Action::ListCertificates => certs::list(home, users_db),
        Action::Revoke(which) => certs::revoke(home, &which),
        Action::Renew(which) => certs::renew(home, &which),
        Action::RotateAuthority => certs::rotate(home),
        Action::DropOldAuthority { force } => certs::drop_old(home, force),
        Action::Users(users) => users::run(home, users_db, users),
        Action::Test(test) => selftest::run(home, users_db, test),
        Action::Serve(serve) => serve::run(home, users_db, &serve, settings),
        Action::Send(sending) => send::run(home, &sending),
        Action::Request(asking) => send::request(home, &asking),
        Action::Enrol(enrol) => enrol::run(home, users_db, &enrol),
        Action::Keys(keys) => keys::run(home, users_db, keys),
        Action::Backup { out } => backup::run(home, &out),
        Action::SealedBackup { file, code_file } => backup::seal(home, &file, code_file.as_deref()),
        Action::Restore { file, code_file, force } => {
            restore::run(home, &file, code_file.as_deref(), force)
        }
        Action::Doctor(doctor) => doctor::run(home, &doctor),
        Action::Config { view, json } => config::run(view, json),
        Action::Dead(letters) => dead::run(home, &letters),
        Action::Inbox { follow } => inbox::run(home, follow),
    }
}

/// Makes a panic on any thread, which is a bug, end the process with one line that can be reported,
/// without a backtrace. Those of `--doctor`'s checks become findings instead.
fn report_panics() {
    std::panic::set_hook(Box::new(|panic| {
        if doctor::takes_panics() {
            return;
        }
        let place = panic.location().map(|place| format!(" ({}:{})", place.file(), place.line()));
        let line = format!(
            "internal error{}: {}; please report this line",
            place.unwrap_or_default(),
            panic.payload_as_str().unwrap_or("no reason given").escape_debug()
        );
        log::put_bug(&line);
        log::flush_at_the_end();
        std::process::exit(status::of_a_bug().into());
    }));
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// Set for the process that has the bug.
    const BUGGY: &str = "WEB_IPC_TEST_OF_A_BUG";

    #[test]
    fn a_bug_ends_the_process_with_a_line_to_report_and_status_70_or_that_of_the_python_tool() {
        match std::env::var(BUGGY).as_deref() {
            Ok("new") => status::note(Statuses::Sysexits),
            Ok(_) => status::note(Statuses::PythonTool),
            Err(_) => {
                for (command, status) in [("new", 70), ("old", 1)] {
                    let mut process = Command::new(std::env::current_exe().unwrap());
                    let this = std::thread::current().name().unwrap().to_owned();
                    process.args(["--exact", &this, "--nocapture"]).env(BUGGY, command);
                    let output = process.output().unwrap();
                    let told = String::from_utf8_lossy(&output.stderr);
                    assert_eq!(output.status.code(), Some(status), "{told}");
                    assert!(
                        told.contains("internal error (crates/web-ipc-cli/src/main.rs:")
                            && told.contains("): on purpose; please report this line\n"),
                        "{told}"
                    );
                }
                return;
            }
        }
        report_panics();
        panic!("on purpose");
    }
}

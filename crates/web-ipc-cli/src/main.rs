//! The `web-ipc` command: parses, calls the libraries, prints.
//!
//! Only this file ends the process and decides its exit status: 0 done, 1 failed or refused, 2
//! wrong usage, 129, 130 or 143 ended early by SIGHUP, SIGINT or SIGTERM.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod addresses;
mod args;
mod backup;
mod certs;
mod dead;
mod doctor;
mod enrol;
mod error;
mod escape;
mod home;
mod init;
mod input;
mod keys;
mod log;
mod out;
mod password;
mod plural;
mod progress_line;
mod remedy;
mod renewal;
mod selftest;
mod send;
mod serve;
mod shell;
mod signals;
mod stdio;
mod testuser;
mod users;

use std::path::Path;
use std::process::ExitCode;

use args::{Action, Invocation};
use error::{Failure, Verdict};

fn main() -> ExitCode {
    report_panics();
    let status = command();
    log::flush_at_the_end();
    status
}

fn command() -> ExitCode {
    // Best effort: without it, SIGXFSZ ends the process.
    let _ = signals::survive_file_size_limit();
    let invocation = match args::parse(std::env::args_os()) {
        Ok(invocation) => invocation,
        Err(wrong) => {
            log::put(wrong.to_string().as_bytes());
            return ExitCode::from(2);
        }
    };
    log::start(match &invocation.action {
        Action::Test(test) => test.log_level,
        Action::Serve(serve) => serve.log_level,
        Action::Send(send) => send.target.log_level,
        Action::Request(request) => request.target.log_level,
        _ => None,
    });
    let Invocation { home, users_db, action } = invocation;
    let users_db = users_db.as_ref().map(|url| url.as_str());
    match run(home.as_deref(), users_db, action) {
        Ok(Verdict::Done) => ExitCode::SUCCESS,
        Ok(Verdict::Refused) => ExitCode::FAILURE,
        Ok(Verdict::Interrupted(signal)) => ExitCode::from(signal.status()),
        Err(failure) => {
            // First, so that there is room for this line in the queue of the log.
            log::flush_before_a_result();
            failure.log(home.as_deref());
            ExitCode::FAILURE
        }
    }
}

fn run(home: Option<&Path>, users_db: Option<&str>, action: Action) -> Result<Verdict, Failure> {
    stdio::check()?;
    match action {
        Action::Help(help) => out::print(&help).map(|()| Verdict::Done),
        Action::Init { force } => init::run(home, users_db, force),
        Action::Certs(certs) => certs::run(home, &certs),
        Action::ListCertificates => certs::list(home, users_db),
        Action::Revoke(which) => certs::revoke(home, &which),
        Action::Renew(which) => certs::renew(home, &which),
        Action::RotateAuthority => certs::rotate(home),
        Action::DropOldAuthority { force } => certs::drop_old(home, force),
        Action::Users(users) => users::run(home, users_db, users),
        Action::Test(test) => selftest::run(home, users_db, test),
        Action::Serve(serve) => serve::run(home, users_db, &serve),
        Action::Send(sending) => send::run(home, &sending),
        Action::Request(asking) => send::request(home, &asking),
        Action::Enrol(enrol) => enrol::run(home, users_db, &enrol),
        Action::Keys(keys) => keys::run(home, users_db, keys),
        Action::Backup { out } => backup::run(home, &out),
        Action::Doctor(doctor) => doctor::run(home, &doctor),
        Action::Dead(letters) => dead::run(home, &letters),
    }
}

/// Makes a panic on any thread, which is a bug, end the process with status 1 and one line that can
/// be reported, without a backtrace. Those of `--doctor`'s checks become findings instead.
fn report_panics() {
    std::panic::set_hook(Box::new(|panic| {
        if doctor::takes_panics() {
            return;
        }
        let place = panic.location().map(|place| format!(" ({}:{})", place.file(), place.line()));
        let line = format!(
            "internal error{}: {}; please report this line\n",
            place.unwrap_or_default(),
            panic.payload_as_str().unwrap_or("no reason given").escape_debug()
        );
        log::put(line.as_bytes());
        log::flush_at_the_end();
        std::process::exit(1);
    }));
}

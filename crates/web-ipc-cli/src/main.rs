//! The `web-ipc` command: parses, calls the libraries, prints.
//!
//! Here is the only place that ends the process and decides its status: 0 done, 1 failed or refused, 2 wrong usage, 130 or
//! 143 ended early by SIGINT or SIGTERM.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod args;
mod backup;
mod certs;
mod dead;
mod error;
mod home;
mod init;
mod log;
mod out;
mod password;
mod selftest;
mod send;
mod serve;
mod signals;
mod users;

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use args::{Action, Invocation, LogLevel};
use error::{Failure, Verdict};

fn main() -> ExitCode {
    report_panics();
    // Where that cannot be had, the system ends the process in its own way.
    let _ = signals::survive_file_size_limit();
    let invocation = match args::parse(std::env::args_os()) {
        Ok(invocation) => invocation,
        Err(wrong) => {
            // Where nobody reads, nothing is lost.
            let _ = write!(std::io::stderr(), "{wrong}");
            return ExitCode::from(2);
        }
    };
    log::start(match &invocation.action {
        Action::Test(test) => test.log_level,
        Action::Serve(serve) => serve.log_level,
        Action::Send(send) => send.target.log_level,
        Action::Request(request) => request.target.log_level,
        _ => LogLevel::Info,
    });
    let Invocation { home, action } = invocation;
    match run(home.as_deref(), action) {
        Ok(Verdict::Done) => ExitCode::SUCCESS,
        Ok(Verdict::Refused) => ExitCode::FAILURE,
        Ok(Verdict::Interrupted(signal)) => ExitCode::from(signal.status()),
        Err(failure) => {
            failure.log(home.as_deref());
            ExitCode::FAILURE
        }
    }
}

fn run(home: Option<&Path>, action: Action) -> Result<Verdict, Failure> {
    match action {
        Action::Help(help) => out::print(&help).map(|()| Verdict::Done),
        Action::Init { force } => init::run(home, force),
        Action::Certs(certs) => certs::run(home, &certs),
        Action::Users(users) => users::run(home, users),
        Action::Test(test) => selftest::run(home, &test),
        Action::Serve(serve) => serve::run(home, &serve),
        Action::Send(sending) => send::run(home, &sending),
        Action::Request(asking) => send::request(home, &asking),
        Action::Backup { out } => backup::run(home, &out),
        Action::Dead(letters) => dead::run(home, &letters),
    }
}

/// A panic is a mistake of ours, on whichever thread: one line that can be reported, no backtrace, status 1.
fn report_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(|place| format!(" ({}:{})", place.file(), place.line()));
        let _ = writeln!(
            std::io::stderr(),
            "internal error{}: {}; please report this line",
            place.unwrap_or_default(),
            panic.payload_as_str().unwrap_or("no reason given").escape_debug()
        );
        std::process::exit(1);
    }));
}

//! `cargo xtask crash`: under load it kills the receiver, cuts its connections, or kills one of two
//! servers for good, and then checks what became of each message.
//!
//! People come here for long runs, the end-to-end scenarios for short ones. Processes, TLS, SIGKILL
//! and the file of the durable inbox are real. The test must be able to fail, and it does with the
//! inbox in memory, whose acknowledged messages die with the process.

mod event;
mod failover;
mod ledger;
mod options;
mod receiver;
mod sender;
mod single_server;

pub(crate) use ledger::{Ledger, Verdict};
pub(crate) use options::{Fault, InboxKind, Options, Reader};

use crate::driver::{Built, Sandbox, build_release};

/// Builds for release, makes a home, runs the rounds and prints the verdict. Returns true if every
/// promise was kept.
pub(crate) fn run_alone(options: &Options) -> bool {
    let sandbox = match build_release().and_then(|built| Sandbox::initialised(&built)) {
        Ok(sandbox) => sandbox,
        Err(error) => {
            eprintln!("crash: {error}");
            return false;
        }
    };
    let word = options.fault.word();
    let modes: Vec<&str> = options.modes.iter().map(|mode| mode.word()).collect();
    println!(
        "{word}: seed {}, inbox {}, reader {}, {}",
        options.seed,
        options.inbox.word(),
        options.reader.word(),
        modes.join(", ")
    );
    let mut say = |line: &str| println!("{word}: {line}");
    let judged = match options.fault {
        Fault::Failover => failover::run(&sandbox, options, &mut say)
            .map(|verdict| (verdict.is_good(), verdict.to_string(), verdict.details())),
        Fault::Kill | Fault::Cut => single_server::run(&sandbox, options, &mut say)
            .map(|verdict| (verdict.is_good(), verdict.to_string(), verdict.details())),
    };
    let said = match judged {
        Ok((is_good, verdict, details)) => {
            println!("{word}: {} rounds, {verdict}", options.rounds);
            if is_good {
                return true;
            }
            details
        }
        Err(error) => format!("{error}\n"),
    };
    eprint!("{said}");
    eprintln!(
        "{word}: failed with --seed {}; all files are kept in {}",
        options.seed,
        sandbox.keep().display()
    );
    false
}

/// Runs the rounds in a new home with the programs that a scenario has built. The error says why
/// there is no verdict.
pub(crate) fn run_with(built: &Built, options: &Options) -> Result<Verdict, String> {
    single_server::run(&Sandbox::initialised(built)?, options, &mut |_| ())
}

/// Like [`run_with`], for rounds in which one of two servers is killed for good.
pub(crate) fn fail_over_with(
    built: &Built,
    options: &Options,
) -> Result<failover::Verdict, String> {
    failover::run(&Sandbox::initialised(built)?, options, &mut |_| ())
}

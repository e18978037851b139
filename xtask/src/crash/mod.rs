//! `cargo xtask crash`: kills the receiver, cuts its connections, or kills one of two servers for
//! good, under load, and judges what came of each message.
//!
//! People come here for long runs, the end-to-end scenarios for short ones. Everything is real:
//! processes, TLS, SIGKILL, the file of the durable inbox. It must be able to fail: with the inbox
//! in memory, which acknowledges what it has not stored, it does.

mod event;
mod failover;
mod ledger;
mod logs;
mod options;
mod proxy;
mod random;
mod receiver;
mod sender;
mod single_server;

pub(crate) use ledger::{Ledger, Verdict};
pub(crate) use options::{Fault, InboxKind, Options, Reader};

use crate::driver::{Built, Sandbox, build_release};

/// Builds for release, makes a home, does the rounds, prints the verdict; true when every promise
/// was kept.
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
        "{word}: failed with --seed {}; everything is kept in {}",
        options.seed,
        sandbox.keep().display()
    );
    false
}

/// Does the rounds with what a scenario has built, in a home of its own. The error says why there
/// is no verdict.
pub(crate) fn run_with(built: &Built, options: &Options) -> Result<Verdict, String> {
    single_server::run(&Sandbox::initialised(built)?, options, &mut |_| ())
}

/// The same for rounds in which one of two servers is killed for good.
pub(crate) fn fail_over_with(
    built: &Built,
    options: &Options,
) -> Result<failover::Verdict, String> {
    failover::run(&Sandbox::initialised(built)?, options, &mut |_| ())
}

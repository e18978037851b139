//! `cargo xtask cluster`: three web-ipc servers with an inbox on three NATS servers and users in
//! PostgreSQL. Under load it kills processes and cuts links, and then checks what became of each
//! message.
//!
//! People come here for long runs, the end-to-end scenarios for short ones. All processes, links
//! and kills are real. The test must be able to fail, and it does with inboxes in memory, whose
//! acknowledged messages die with their server.

mod clients;
mod event;
mod fault;
mod links;
mod nats;
mod nats_client;
mod options;
mod rounds;
mod servers;
mod verdict;

pub(crate) use options::{FaultSet, InboxKind, Options};
pub(crate) use verdict::Verdict;

use crate::driver::{Nats, Postgres, Sandbox, build_with_engines};

/// What a run needs and is not installed.
fn lacks() -> Option<String> {
    Nats::lacks().or_else(Postgres::lacks)
}

/// Builds, makes homes, runs the rounds and prints the verdict. Returns true if every promise was
/// kept, or if a program is missing, which is said.
pub(crate) fn run_alone(options: &Options) -> bool {
    if let Some(missing) = lacks() {
        println!("cluster: skipped: {missing}");
        return true;
    }
    let built = build_with_engines(!options.is_debug)
        .and_then(|built| Ok((Sandbox::initialised(&built)?, built)));
    let (sandbox, built) = match built {
        Ok(both) => both,
        Err(error) => {
            eprintln!("cluster: {error}");
            return false;
        }
    };
    println!("cluster: seed {}, inbox {}", options.seed, options.inbox.word());
    let mut say = |line: &str| println!("cluster: {line}");
    let said = match rounds::run(&built, &sandbox, options, &mut say) {
        Ok(verdict) => {
            println!("cluster: {} rounds, {verdict}", options.rounds);
            if verdict.is_good() {
                return true;
            }
            verdict.details()
        }
        Err(error) => format!("{error}\n"),
    };
    eprint!("{said}");
    eprintln!(
        "cluster: failed with --seed {}; all files are kept in {}",
        options.seed,
        sandbox.keep().display()
    );
    false
}

/// A seed whose first fault kills the server with which the client begins that sends most.
pub(crate) fn seed_that_kills_a_server() -> u64 {
    let first = |seed| fault::Faults::new(seed, FaultSet::All).draw(clients::KINDS.len(), 3, 3);
    let is_it = |seed: &u64| first(*seed) == fault::Fault::Kill(fault::Victim::Server(1));
    (1..).find(is_it).unwrap_or_default()
}

/// What a scenario learns.
pub(crate) enum Judged {
    Verdict(Box<Verdict>),
    /// A program is missing: which one.
    Skipped(String),
}

/// Runs the rounds with a debug build, for a scenario. The error says why there is no verdict.
pub(crate) fn run_with(options: &Options) -> Result<Judged, String> {
    if let Some(missing) = lacks() {
        return Ok(Judged::Skipped(missing));
    }
    let built = build_with_engines(false)?;
    let sandbox = Sandbox::initialised(&built)?;
    rounds::run(&built, &sandbox, options, &mut |_| ())
        .map(|verdict| Judged::Verdict(Box::new(verdict)))
}

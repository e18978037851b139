//! Checks, end-to-end tests and other chores of the workspace.
//!
//! People and the automatic build come here, as `cargo xtask TASK`; one file is one task. It drives
//! the other members from outside, by their commands and their binaries, and links none of them.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod api;
mod bench;
mod cargo;
mod counts;
mod crash;
mod driver;
mod e2e;
mod fuzz;
mod test;
mod tidy;

use std::process::ExitCode;

const HELP: &str = "\
Chores of the web-ipc workspace

Usage: cargo xtask TASK

Tasks:
  test           everything: format, clippy, tidy, unit, integration and doc tests, then e2e; with codespell,
                 cargo-deny and cargo-public-api where they are installed
  e2e [FILTER]   drives the built binary in temporary homes; FILTER picks scenarios by a part of their name
  e2e --list     names the scenarios
  crash [OPTION...]
                 kills the receiver under load, and looks for lost and doubled messages:
                 --rounds N (20), --inbox durable|memory (durable), --reader receive|serve (receive),
                 --mode send|send_all|request|all (all), --in-flight N (8), --seed S (by chance, and printed);
                 --cut: cuts its connections instead; --failover: kills of two servers the one in use, for good
  bench [OPTION...]
                 how fast it is, beside the same HTTP and TLS libraries doing nothing else, from a release build:
                 --rounds N (5), --secs S for a case in a round (1), --write docs/performance.md and its charts,
                 --only PART,... of a name, such as durable, send_all, request, local, cold, flood, commands, sealing,
                 --size BYTES,... and --in-flight N,... pick what is measured, always with its raw case beside it;
                 --quick: each kind of case for a moment, from a debug build, only to show that it runs
  fuzz [--secs N] [--target NAME]
                 each fuzz target of crates/ipc-fuzz, or one, under cargo-fuzz for N seconds (60)
  tidy           dependency directions, circles of files, lock file, manifests, module docs, width of lines,
                 docs/protocol.md
  tidy --bless   takes over the hash of the protocol source into docs/protocol.md, once the page is true again
  api            compares the public items of each library with docs/api; needs cargo-public-api
  api --bless    writes docs/api

Exit status: 0 all is well, 1 something failed, 2 wrong usage.
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let all_is_well = match arguments.as_slice() {
        [] | ["help" | "-h" | "--help"] => {
            print!("{HELP}");
            true
        }
        ["test"] => test::run(),
        ["e2e"] => e2e::run_alone(None),
        ["e2e", "--list"] => {
            e2e::list();
            true
        }
        ["e2e", filter] if !filter.starts_with('-') => e2e::run_alone(Some(filter)),
        ["crash", options @ ..] => match crash::Options::parse(options) {
            Ok(options) => crash::run_alone(&options),
            Err(error) => {
                eprintln!("cargo xtask crash: {error}\n\n{HELP}");
                return ExitCode::from(2);
            }
        },
        ["bench", options @ ..] => match bench::Options::parse(options) {
            Ok(options) => bench::run_alone(&options),
            Err(error) => {
                eprintln!("cargo xtask bench: {error}\n\n{HELP}");
                return ExitCode::from(2);
            }
        },
        ["api"] => api::run_alone(false),
        ["api", "--bless"] => api::run_alone(true),
        ["fuzz", options @ ..] => match fuzz::Options::parse(options) {
            Ok(options) => fuzz::run(&options),
            Err(error) => {
                eprintln!("cargo xtask fuzz: {error}\n\n{HELP}");
                return ExitCode::from(2);
            }
        },
        ["tidy"] => tidy::run_alone(),
        ["tidy", "--bless"] => tidy::bless(),
        other => {
            eprintln!("cargo xtask: `{}` is no task\n\n{HELP}", other.join(" "));
            return ExitCode::from(2);
        }
    };
    if all_is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

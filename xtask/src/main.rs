//! Checks, end-to-end tests and other tasks of the workspace.
//!
//! People and the automatic build call it as `cargo xtask TASK`. Each task has a file of its own.
//! The tasks run the commands and binaries of the other members, and link none of them.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod api;
mod bench;
mod cargo;
mod cluster;
mod counts;
mod crash;
mod dist;
mod docs;
mod driver;
mod e2e;
mod faults;
mod fuzz;
mod markdown;
mod scaling;
mod statistics;
mod test;
mod tidy;

use std::process::ExitCode;

const HELP: &str = "\
Tasks of the web-ipc workspace

Usage: cargo xtask TASK

Tasks:
  test           runs all checks: format, clippy, tidy, unit, integration and doc tests, then e2e; also codespell,
                 cargo-deny and cargo-public-api, if they are installed
  e2e [FILTER]   runs the built binary in temporary homes; FILTER selects scenarios by a part of their name
  e2e --list     lists the scenarios
  crash [OPTION...]
                 kills the receiver under load, and looks for lost and duplicated messages:
                 --rounds N (20), --inbox durable|memory (durable), --reader receive|serve (receive),
                 --mode send|send_all|request|all (all), --in-flight N (8), --seed S (random, and printed);
                 --cut: cuts its connections instead; --failover: kills the server in use, of two, for good
  cluster [OPTION...]
                 kills processes and cuts links of three web-ipc servers, three NATS servers and PostgreSQL under load,
                 and looks for lost, doubled and late messages; needs nats-server and postgresql:
                 --rounds N (20), --seed S (random, and printed), --inbox jetstream|memory (jetstream),
                 --faults all|without-nats (all),
                 --debug: with a debug build, which is quicker to build
  bench [OPTION...]
                 measures a release build, and compares it with the same HTTP and TLS libraries alone:
                 --rounds N (5), --secs S for a case in a round (1), --write: updates docs/performance.md and its charts,
                 --only PART,... selects by a part of the name: durable, send_all, request, local, cold, flood, siege, …
                 --size BYTES,... and --in-flight N,... select cases; the raw case for comparison is always included;
                 --quick: runs each kind of case for a moment, from a debug build, only to show that it works
  scaling [--rounds N] [--secs S] [--in-flight N] [--rate N]
                 measures what a message costs with one, two and three servers on one inbox on NATS JetStream, with
                 users in PostgreSQL; needs nats-server and PostgreSQL
  dist [--target TRIPLE]
                 builds the command for operators, static if that can be built here, and packs it with its manual,
                 completions, units and licences: archive, .deb, .rpm and checksums, in target/packed;
                 --debug: packs a debug build, which is quicker to build, to try the packages with;
                 --binary FILE: packs a binary that was built elsewhere, for the given target
  docs           builds the pages as a site in target/site, and checks its links; needs mdbook
  fuzz [--secs N] [--target NAME]
                 runs each fuzz target of crates/ipc-fuzz, or one, under cargo-fuzz for N seconds (60)
  tidy           checks dependency directions, circles of files, lock file, manifests, module docs, width of lines,
                 docs/protocol.md
  tidy --bless   writes the hash of the protocol source into docs/protocol.md, once the page is up to date again
  api            compares the public items of each library with docs/api; needs cargo-public-api
  api --bless    writes docs/api

Exit status: 0 success, 1 failure, 2 wrong usage.
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
        ["cluster", options @ ..] => match cluster::Options::parse(options) {
            Ok(options) => cluster::run_alone(&options),
            Err(error) => {
                eprintln!("cargo xtask cluster: {error}\n\n{HELP}");
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
        ["dist", options @ ..] => match dist::Options::parse(options) {
            Ok(options) => dist::run(&options),
            Err(error) => {
                eprintln!("cargo xtask dist: {error}\n\n{HELP}");
                return ExitCode::from(2);
            }
        },
        ["docs"] => docs::run_alone(),
        ["fuzz", options @ ..] => match fuzz::Options::parse(options) {
            Ok(options) => fuzz::run(&options),
            Err(error) => {
                eprintln!("cargo xtask fuzz: {error}\n\n{HELP}");
                return ExitCode::from(2);
            }
        },
        ["scaling", options @ ..] => match scaling::Options::parse(options) {
            Ok(options) => scaling::run_alone(&options),
            Err(error) => {
                eprintln!("cargo xtask scaling: {error}\n\n{HELP}");
                return ExitCode::from(2);
            }
        },
        ["tidy"] => tidy::run_alone(),
        ["tidy", "--bless"] => tidy::bless(),
        other => {
            eprintln!("cargo xtask: unknown task `{}`\n\n{HELP}", other.join(" "));
            return ExitCode::from(2);
        }
    };
    if all_is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

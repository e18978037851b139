//! `cargo xtask e2e`: runs the built programs from outside, as their users do.
//!
//! People and `cargo xtask test` come here. Each scenario is a function with a sentence as its name
//! and its own temporary home. A panic fails the scenario, and the others continue. Nothing here
//! links the tested crates.

mod backpressure;
mod bench_runs;
mod client_processes;
mod cluster_runs;
mod console_blocks;
mod crash_runs;
mod engine_pages;
mod engines;
mod enrolled;
mod examples;
mod expect;
mod flood;
mod init;
mod joining;
mod misuse;
mod normalize;
mod packages;
mod pages;
mod python_client;
mod python_environment;
mod python_package;
mod python_peer;
mod python_server;
mod python_tool;
mod scaling;
mod scenario;
mod secrets;
mod shell_client;
mod status_page;
mod trust;
mod two_hosts;
mod units;

use std::cell::RefCell;
use std::panic;
use std::time::Instant;

use scenario::{Outcome, Scenario};

use crate::counts::Counts;
use crate::driver::{self, Built};

const SCENARIOS: &[(&str, Scenario)] = &[
    ("every command of README.md prints what the page says", pages::readme),
    ("every command of docs/*.md prints what its page says", pages::docs),
    (
        "the commands of the Python tool's users work, in their order",
        python_tool::documented_commands,
    ),
    ("before init every command says run web-ipc --init --run", misuse::before_init),
    ("test makes a home that does not exist yet", misuse::test_makes_a_home),
    ("a wrong password and an unknown user are refused alike", misuse::wrong_password),
    ("a home that others can read is refused with the chmod that mends it", misuse::home_too_open),
    ("a parent directory that cannot be written is said", misuse::unwritable_parent),
    ("a home that cannot be a directory is said", misuse::impossible_home),
    ("with umask 000 files are 0600 and directories 0700", misuse::umask),
    ("a reader that goes away, or was never there, is told", misuse::closed_pipes),
    ("four inits at once end with one good home", init::at_once),
    ("an init killed at any point is completed by the next", init::killed),
    ("init --force keeps the old home aside", init::force),
    ("a full disk ends in one clear sentence and no half-made home", init::full_disk),
    (
        "messages from four client processes arrive complete and in order",
        client_processes::four_clients,
    ),
    (
        "of many processes that need a session at the same time one logs in",
        client_processes::one_login,
    ),
    (
        "a receiver stopped and started again loses nothing and nobody logs in again",
        client_processes::restart,
    ),
    (
        "a client in Python, written from docs/protocol.md, delivers a message",
        python_client::client,
    ),
    (
        "a channel in Python, written from docs/protocol.md, delivers messages and brings a reply",
        python_client::channel,
    ),
    (
        "a channel in Python outlives its server and repeats nothing",
        python_client::channel_that_ends,
    ),
    (
        "the clients in Python find all they need in the home of an enrolled client",
        python_client::enrolled,
    ),
    ("an environment of the Python tool is taken over and goes on", python_environment::taken_over),
    (
        "an unmodified client of the Python tool sends 100 messages, and each arrives once",
        python_peer::sends,
    ),
    ("a pickle that would run something is refused, and nothing runs", python_peer::is_refused),
    ("a server of the Python tool takes a hundred messages of ours", python_server::takes),
    (
        "what a server of the Python tool refuses is said, with a status of its own",
        python_server::refuses,
    ),
    ("the tests of the Python package pass against this server", python_package::suite),
    ("a client in shell, with curl and openssl alone, delivers a message", shell_client::client),
    ("the units for systemd leave a service little that it could do", units::are_closed),
    ("the archive installs, runs and goes away in a bare Debian without Rust", packages::archive),
    (
        "Debian's package starts its service under systemd, upgrades it, and leaves the home alone",
        packages::service,
    ),
    (
        "the status page moves under load, and shows a revoked certificate and a full inbox",
        status_page::in_a_browser,
    ),
    (
        "the client in shell finds all it needs in the home of an enrolled client",
        shell_client::enrolled,
    ),
    ("the example of a deploy hook deploys, and refuses what it cannot", examples::deploy_hook),
    ("the example of a cron job keeps its reports, and delivers each once", examples::cron_job),
    ("ten enrolled clients send to one server at the same time", examples::fan_in),
    (
        "certificates, keys and users change under load, and no message is lost or repeated",
        trust::changes_under_load,
    ),
    (
        "a further server is enrolled, takes the sessions of the first, and follows it",
        trust::a_further_server,
    ),
    (
        "a client on another host is enrolled in one line, and sends with nothing else copied",
        two_hosts::enrolled_in_one_line,
    ),
    (
        "with the other host's clock an hour off, enrolling and sending name the clock",
        two_hosts::clock_off,
    ),
    (
        "every command of docs/scaling.md prints what the page says, from one server to three",
        scaling::page,
    ),
    (
        "the commands of docs/jetstream.md serve, and bring a dead letter back",
        engine_pages::jetstream,
    ),
    (
        "the commands of docs/postgresql.md move users, and make a home without a users.db",
        engine_pages::postgresql,
    ),
    (
        "of servers on hosts of their own one is killed and another joins, by the page's commands",
        joining::killed_and_joined,
    ),
    ("kills under load lose no acknowledged message and repeat none", crash_runs::kills),
    (
        "kills of web-ipc --serve under load lose no acknowledged message and repeat none unmarked",
        crash_runs::kills_of_serve,
    ),
    ("cut, slow and silent connections lose no message and repeat none", crash_runs::cuts),
    (
        "of two servers one is killed for good, and clients go on with the other",
        crash_runs::failover,
    ),
    (
        "the inbox in memory is caught losing messages when it is killed",
        crash_runs::memory_is_caught,
    ),
    (
        "three servers with NATS and PostgreSQL lose no message while servers die and links break",
        cluster_runs::faults,
    ),
    (
        "servers with inboxes of their own are caught losing messages",
        cluster_runs::memory_is_caught,
    ),
    (
        "on a full disk senders are refused and what was acknowledged is kept",
        backpressure::full_disk,
    ),
    (
        "with nobody reading a full inbox sends senders away until somebody reads",
        backpressure::nobody_reads,
    ),
    (
        "requests whose answers nobody reads take little memory, and others are served",
        flood::requests_without_readers,
    ),
    ("every kind of case of the bench runs and brings messages", bench_runs::quick),
    ("no key, session or password is in any log at trace", secrets::no_secret_is_logged),
    ("the admin's password is in no log at trace", secrets::no_admin_password_is_logged),
    ("no message and no reply is in any log at trace", secrets::no_message_is_logged),
];

/// Lists the scenarios.
pub(crate) fn list() {
    for (name, _) in SCENARIOS {
        println!("{name}");
    }
}

/// Runs the scenarios whose name contains `filter`. Returns true if none failed.
pub(crate) fn run_alone(filter: Option<&str>) -> bool {
    let counts = run(filter);
    if counts == Counts::default() {
        eprintln!(
            "no scenario's name contains `{}`; to list them: cargo xtask e2e --list",
            filter.unwrap_or_default()
        );
        return false;
    }
    counts.failed == 0
}

/// Builds, runs the scenarios whose name contains `filter`, and prints a line for each and the
/// count.
pub(crate) fn run(filter: Option<&str>) -> Counts {
    let mut counts = Counts::default();
    let mut failures = Vec::new();
    match driver::build() {
        Err(error) => {
            println!("e2e: {error}");
            counts += Counts::one(false);
        }
        Ok(built) => {
            collect_panics();
            for (name, scenario) in SCENARIOS {
                if filter.is_none_or(|filter| name.contains(filter)) {
                    counts += run_one(name, *scenario, &built, &mut failures);
                }
            }
            // Removes the hook that collects panic messages, so that later panics are printed as
            // usual.
            let _ = panic::take_hook();
        }
    }
    // Once more at the end, since a build that keeps only the last lines must still say why.
    for failure in &failures {
        println!("e2e: failed: {failure}");
    }
    println!("e2e: {counts}");
    counts
}

/// Runs one scenario and prints its line. A failure is also added to `failures`, cut to its ends.
fn run_one(name: &str, scenario: Scenario, built: &Built, failures: &mut Vec<String>) -> Counts {
    let start = Instant::now();
    let outcome = panic::catch_unwind(|| scenario(built));
    let seconds = start.elapsed().as_secs_f64();
    match outcome {
        Ok(Outcome::Passed) => {
            println!("e2e: {name} ... ok ({seconds:.1} s)");
            Counts::one(true)
        }
        Ok(Outcome::Skipped(why)) => {
            println!("e2e: {name} ... skipped ({why})");
            Counts { skipped: 1, ..Counts::default() }
        }
        Err(_) => {
            println!("e2e: {name} ... FAILED ({seconds:.1} s)");
            let message = LAST_PANIC.take();
            println!("    {}", message.trim_end().replace('\n', "\n    "));
            failures.push(format!("{name}\n{}", ends_of(&message)));
            Counts::one(false)
        }
    }
}

/// The first and the last lines of `message`, indented, with a line of dots for what is left out.
fn ends_of(message: &str) -> String {
    const FIRST: usize = 4;
    const LAST: usize = 8;
    const COLUMNS: usize = 300;
    let lines: Vec<String> =
        message.trim_end().lines().map(|line| line.chars().take(COLUMNS).collect()).collect();
    let kept: Vec<&str> = if lines.len() <= FIRST + LAST {
        lines.iter().map(String::as_str).collect()
    } else {
        let first = lines[..FIRST].iter().map(String::as_str);
        let last = lines[lines.len() - LAST..].iter().map(String::as_str);
        first.chain(["..."]).chain(last).collect()
    };
    kept.iter().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
}

thread_local! {
    static LAST_PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Collects the panic message of a failed scenario, to print it after the scenario's line.
fn collect_panics() {
    panic::set_hook(Box::new(|info| {
        let place =
            info.location().map(|at| format!("{}:{}: ", at.file(), at.line())).unwrap_or_default();
        let said = info.payload_as_str().unwrap_or("panicked without a message");
        LAST_PANIC.set(format!("{place}{said}"));
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scenario_is_counted_as_it_ends() {
        let mut failures = Vec::new();
        let mut run =
            |name: &str, scenario| run_one(name, scenario, &Built::nothing(), &mut failures);
        assert_eq!(run("good", |_| Outcome::Passed).passed, 1);
        assert_eq!(run("not here", |_| Outcome::Skipped("no disk".into())).skipped, 1);
        assert_eq!(run("bad", |_| panic!("as it must")).failed, 1);
        assert_eq!(failures.len(), 1);
        assert!(failures[0].starts_with("bad\n"), "{failures:?}");
    }

    #[test]
    fn a_long_failure_is_repeated_by_its_ends() {
        assert_eq!(ends_of("one\ntwo\n"), "    one\n    two");
        let long: Vec<String> = (1..=40).map(|line| line.to_string()).collect();
        let ends = ends_of(&long.join("\n"));
        assert!(ends.starts_with("    1\n"), "{ends}");
        assert!(ends.contains("    4\n    ...\n    33\n"), "{ends}");
        assert!(ends.ends_with("    40"), "{ends}");
        assert_eq!(ends_of(&"x".repeat(1000)).len(), 304);
    }

    #[test]
    fn no_two_scenarios_have_one_name() {
        for (index, (name, _)) in SCENARIOS.iter().enumerate() {
            assert!(!SCENARIOS[..index].iter().any(|(other, _)| other == name), "{name}");
        }
    }
}

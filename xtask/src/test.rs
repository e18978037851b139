//! `cargo xtask test`: everything that must hold before a change is good, in one command.
//!
//! People and the automatic build come here. It runs stage after stage, stops at the first that
//! fails, says how to run that one again, and closes with one count over all of them. What a stage
//! checks is that stage's own business.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crate::counts::Counts;
use crate::{cargo, e2e, tidy};

/// What becomes of a stage: its count, and whether it failed.
struct Stage {
    counts: Counts,
    passed: bool,
}

/// A stage by the command that runs it alone.
type NamedStage = (&'static str, fn() -> Stage);

/// Runs all stages; true when all passed.
pub(crate) fn run() -> bool {
    let stages: [NamedStage; 8] = [
        ("cargo fmt --all --check", || plain(&["fmt", "--all", "--check"])),
        ("cargo clippy --workspace --all-targets -- -D warnings", || {
            plain(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])
        }),
        ("cargo xtask tidy", || {
            let counts = tidy::run();
            Stage { counts, passed: counts.failed == 0 && counts.passed > 0 }
        }),
        // Alone, because features that other members switch on would hide one that is missing here.
        ("cargo check -p ipc-client", || plain(&["check", "-p", "ipc-client"])),
        ("cargo check -p web-ipc --no-default-features --features server", || {
            plain(&["check", "-p", "web-ipc", "--no-default-features", "--features", "server"])
        }),
        ("cargo test --workspace --no-fail-fast", || {
            counted(&["test", "--workspace", "--no-fail-fast"])
        }),
        ("cargo test -p ipc-server --features tracing --test spans", || {
            counted(&["test", "-p", "ipc-server", "--features", "tracing", "--test", "spans"])
        }),
        ("cargo xtask e2e", || {
            let counts = e2e::run(None);
            Stage { counts, passed: counts.failed == 0 && counts.passed > 0 }
        }),
    ];
    let mut total = Counts::default();
    let mut all_passed = true;
    for (command, stage) in stages {
        println!("==> {command}");
        let Stage { counts, passed } = stage();
        total += counts;
        if !passed {
            println!("\nFAILED: `{command}`; to run only this stage again: {command}");
            all_passed = false;
            break;
        }
    }
    println!("\ntotal: {total}");
    all_passed
}

/// A cargo command that passes or fails as a whole.
fn plain(arguments: &[&str]) -> Stage {
    let passed = match cargo::command(arguments).status() {
        Ok(status) => status.success(),
        Err(error) => {
            println!("cargo does not start: {error}");
            false
        }
    };
    Stage { counts: Counts::one(passed), passed }
}

/// A cargo command whose output closes with Rust's test counts; shown as it comes.
fn counted(arguments: &[&str]) -> Stage {
    let mut counts = Counts::default();
    let failed = |counts| Stage { counts, passed: false };
    let mut child = match cargo::command(arguments).stdout(Stdio::piped()).spawn() {
        Ok(child) => child,
        Err(error) => {
            println!("cargo does not start: {error}");
            return failed(Counts::one(false));
        }
    };
    if let Some(output) = child.stdout.take() {
        for line in BufReader::new(output).split(b'\n') {
            let Ok(line) = line else { break };
            let line = String::from_utf8_lossy(&line);
            println!("{line}");
            if let Some(of_one_binary) = Counts::from_test_result(&line) {
                counts += of_one_binary;
            }
        }
    }
    let exit_is_zero = child.wait().is_ok_and(|status| status.success());
    if !exit_is_zero && counts.failed == 0 {
        // It did not build, or a test binary died: no count says so.
        counts.failed = 1;
    }
    Stage { counts, passed: exit_is_zero && counts.failed == 0 && counts.passed > 0 }
}

//! `cargo xtask test`: runs all checks that a change must pass, in one command.
//!
//! People and the automatic build come here. It runs the stages in order and stops at the first
//! that fails. It then prints the command that runs this stage again, and a count over all stages.
//! A stage whose tool is not installed is skipped, with a message.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use crate::counts::Counts;
use crate::{api, cargo, docs, e2e, tidy};

/// The result of a stage.
struct Stage {
    counts: Counts,
    passed: bool,
}

/// A stage, with the command that runs it alone.
type NamedStage = (&'static str, fn() -> Stage);

/// Looks for misspelt words. `.codespellrc` lists the exceptions.
const SPELLING: &str = "codespell";

/// Checks licences, banned crates and sources of all dependencies. `deny.toml` has the rules.
const DEPENDENCIES: &str = "cargo deny check bans licenses sources";

/// Packs each crate that is published, without building it, and from what is there.
const PACKAGES: &str = "cargo package --workspace --no-verify --offline --allow-dirty --quiet \
    --exclude ipc-bench --exclude ipc-fixtures --exclude ipc-fuzz --exclude xtask";

/// Runs all stages. Returns true if all passed.
pub(crate) fn run() -> bool {
    let stages: [NamedStage; 16] = [
        ("cargo fmt --all --check", || plain(&["fmt", "--all", "--check"])),
        ("cargo clippy --workspace --all-targets -- -D warnings", || {
            plain(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])
        }),
        ("cargo xtask tidy", || {
            let counts = tidy::run();
            Stage { counts, passed: counts.failed == 0 && counts.passed > 0 }
        }),
        (PACKAGES, || plain(&PACKAGES.split(' ').skip(1).collect::<Vec<_>>())),
        ("cargo xtask docs", || {
            let counts = docs::run();
            Stage { counts, passed: counts.failed == 0 }
        }),
        (SPELLING, || if_installed(tool("codespell"), tool("codespell"))),
        (DEPENDENCIES, || {
            // Advisories are left out, since they need the network.
            let check = ["deny", "check", "bans", "licenses", "sources"];
            if_installed(cargo::command(&["deny"]), cargo::command(&check))
        }),
        ("cargo xtask api", || {
            let counts = api::run();
            Stage { counts, passed: counts.failed == 0 }
        }),
        // Checked alone, since features that other members enable could hide a missing one.
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
        // What is behind these features is built here and in the next stages alone: the command
        // without them must not wait for it.
        ("cargo test -p web-ipc-cli --features jetstream,postgres --test engines", || {
            let engines = ["--features", "jetstream,postgres", "--test", "engines"];
            counted(&[&["test", "-p", "web-ipc-cli"][..], &engines].concat())
        }),
        ("cargo test -p ipc-setup --features postgres --lib enrol", || {
            counted(&["test", "-p", "ipc-setup", "--features", "postgres", "--lib", "enrol"])
        }),
        ("cargo test -p web-ipc --features jetstream,postgres --doc", || {
            counted(&["test", "-p", "web-ipc", "--features", "jetstream,postgres", "--doc"])
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
    whole(cargo::command(arguments))
}

/// A command that passes or fails as a whole.
fn whole(mut command: Command) -> Stage {
    let passed = match command.status() {
        Ok(status) => status.success(),
        Err(error) => {
            println!("{} does not start: {error}", command.get_program().display());
            false
        }
    };
    Stage { counts: Counts::one(passed), passed }
}

/// Runs a command of an optional tool. If `tool --version` fails, the stage is skipped.
fn if_installed(mut tool: Command, command: Command) -> Stage {
    let version = tool.arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if version.is_ok_and(|status| status.success()) {
        return whole(command);
    }
    println!("skipped: it is not installed; see CONTRIBUTING.md");
    Stage { counts: Counts { skipped: 1, ..Counts::default() }, passed: true }
}

/// A command of another tool than cargo, run in the workspace's root folder.
fn tool(name: &str) -> Command {
    let mut command = Command::new(name);
    command.current_dir(cargo::workspace_root());
    command
}

/// Runs a cargo command whose output has Rust's test counts, and prints the output as it comes.
fn counted(arguments: &[&str]) -> Stage {
    let mut counts = Counts::default();
    let mut failures = Vec::new();
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
            if line.starts_with("test ") && line.ends_with(" ... FAILED") {
                failures.push(line.to_string());
            }
            if let Some(of_one_binary) = Counts::from_test_result(&line) {
                counts += of_one_binary;
            }
        }
    }
    // Once more at the end, since the output of a whole workspace is long.
    for failure in &failures {
        println!("{failure}");
    }
    let exit_is_zero = child.wait().is_ok_and(|status| status.success());
    if !exit_is_zero && counts.failed == 0 {
        // The build failed or a test binary crashed, which no count shows.
        counts.failed = 1;
    }
    Stage { counts, passed: exit_is_zero && counts.failed == 0 && counts.passed > 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(tool_script: &str, script: &str) -> (Counts, bool) {
        let shell = |script: &str| {
            let mut command = tool("sh");
            command.args(["-c", script, "sh"]);
            command
        };
        let Stage { counts, passed } = if_installed(shell(tool_script), shell(script));
        (counts, passed)
    }

    #[test]
    fn a_tool_that_is_there_passes_or_fails() {
        let is_asked = r#"test "$1" = --version"#;
        assert_eq!(outcome(is_asked, "exit 0"), (Counts::one(true), true));
        assert_eq!(outcome(is_asked, "exit 1"), (Counts::one(false), false));
    }

    #[test]
    fn a_tool_that_is_not_there_is_skipped_and_counted_so() {
        let skipped = Counts { skipped: 1, ..Counts::default() };
        assert_eq!(outcome("exit 101", "exit 1"), (skipped, true));
        let Stage { counts, passed } = if_installed(tool("/nowhere/x"), tool("/nowhere/x"));
        assert_eq!((counts, passed), (skipped, true));
    }
}

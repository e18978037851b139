//! Runs what README.md and the manual show, and holds the output against the pages.
//!
//! Each page has a user's home directory of its own, and its commands are run in order, as a reader
//! would.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Outcome, console_blocks, expect, normalize};
use crate::driver::{Built, Sandbox};

/// How README.md starts the binary in a checkout.
const IN_A_CHECKOUT: &str = "cargo run -p web-ipc-cli --";

/// What a page's command is to this run.
#[derive(Debug, PartialEq)]
enum Kind {
    /// It is run here.
    Run,
    /// Something else makes sure of it; what.
    Elsewhere(&'static str),
    /// Nobody makes sure of it.
    Unknown,
}

/// Commands that are run here, by their beginning.
const RUN: &[&str] = &["web-ipc", IN_A_CHECKOUT, "ls", "cat", "chmod", "printf", "echo", "mkdir"];

/// Commands that are not, with what makes sure of them.
const ELSEWHERE: &[(&str, &str)] = &[
    ("cargo xtask", "this very run"),
    (
        "web-ipc --serve",
        "the tests of the pipeline commands, crates/web-ipc-cli/tests/cli/pipeline.rs",
    ),
    (
        "web-ipc --send",
        "the tests of the pipeline commands, crates/web-ipc-cli/tests/cli/pipeline.rs",
    ),
    (
        "web-ipc --request",
        "the tests of the pipeline commands, crates/web-ipc-cli/tests/cli/pipeline.rs",
    ),
    (
        "web-ipc --dead",
        "the tests of the pipeline commands, crates/web-ipc-cli/tests/cli/pipeline.rs",
    ),
    ("cargo run -p ipc-server --example", "the scenarios with separate processes"),
    ("cargo run -p ipc-client --example", "the scenarios with separate processes"),
    ("cargo build", "the build before the scenarios"),
    ("cargo install", "the build before the scenarios"),
    ("cargo add", "the reader's own project"),
    ("git clone", "whoever has this checkout"),
    ("python3 docs/examples/client.py", "the scenario with the client in Python"),
    ("pip install", "the scenario with the client in Python"),
    ("sh scripts/prerequisites.sh", "the automatic build"),
    ("scripts/prerequisites.sh", "the automatic build"),
];

/// README.md, which must be there and show something.
pub(super) fn readme(built: &Built) -> Outcome {
    let ran = run_page(built, &built.workspace.join("README.md"));
    assert!(ran > 0, "README.md shows no command that can be run");
    Outcome::Passed
}

/// The pages of the manual.
pub(super) fn docs(built: &Built) -> Outcome {
    let folder = built.workspace.join("docs");
    let mut pages: Vec<PathBuf> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("an entry can be read").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect();
    pages.sort();
    for page in pages {
        run_page(built, &page);
    }
    Outcome::Passed
}

/// Runs a page's commands and returns how many.
fn run_page(built: &Built, path: &Path) -> usize {
    let name = path.display();
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{name}: {error}"));
    let commands =
        console_blocks::commands(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
    let sandbox = Sandbox::new(built);
    let mut ran = 0;
    for shown in commands {
        match kind(&shown.command) {
            Kind::Elsewhere(_) => {}
            Kind::Unknown => {
                panic!("{name}:{}: nobody makes sure of `{}`", shown.line, shown.command)
            }
            Kind::Run => {
                let finished = expect::finish_merged(shell(&sandbox, built, &shown.command));
                if let Err(error) = normalize::compare(&shown.output, &finished.stdout) {
                    panic!("{name}:{}: $ {}\n{error}", shown.line, shown.command);
                }
                ran += 1;
            }
        }
    }
    ran
}

/// The command as a reader's shell runs it: `web-ipc` on the path, no variable of web-ipc's set.
fn shell(sandbox: &Sandbox, built: &Built, command: &str) -> Command {
    let mut shell = sandbox.program(Path::new("sh"));
    let mut path = built.folder.clone().into_os_string();
    if let Some(rest) = std::env::var_os("PATH") {
        path.push(":");
        path.push(rest);
    }
    shell
        .arg("-c")
        .arg(command.replace(IN_A_CHECKOUT, "web-ipc"))
        .env("PATH", path)
        .env_remove("WEB_IPC_HOME");
    shell
}

fn kind(command: &str) -> Kind {
    if let Some((_, what)) =
        ELSEWHERE.iter().find(|(beginning, _)| begins_with_words(command, beginning))
    {
        return Kind::Elsewhere(what);
    }
    if RUN.iter().any(|beginning| begins_with_words(command, beginning)) {
        Kind::Run
    } else {
        Kind::Unknown
    }
}

fn begins_with_words(command: &str, words: &str) -> bool {
    command.strip_prefix(words).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_binary_is_run_under_both_its_names() {
        assert_eq!(kind("web-ipc"), Kind::Run);
        assert_eq!(kind("web-ipc --users --list"), Kind::Run);
        assert_eq!(kind("cargo run -p web-ipc-cli -- --test --run --qty 3"), Kind::Run);
    }

    #[test]
    fn what_is_made_sure_of_elsewhere_is_known() {
        assert_eq!(kind("cargo xtask test"), Kind::Elsewhere("this very run"));
        assert!(matches!(kind("cargo run -p ipc-server --example receive"), Kind::Elsewhere(_)));
        assert!(matches!(kind("web-ipc --serve --port 3000 | jq ."), Kind::Elsewhere(_)));
    }

    #[test]
    fn a_command_nobody_knows_is_not_let_pass() {
        for command in
            ["curl http://localhost", "cargo run -p other", "web-ipcs", "cargo xtasks", ""]
        {
            assert_eq!(kind(command), Kind::Unknown, "{command}");
        }
    }
}

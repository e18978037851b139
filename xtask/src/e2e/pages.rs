//! Runs the commands that README.md and the manual show, and compares the output with the pages.
//!
//! Each page gets its own user's home directory, and its commands run in order, as a reader would
//! run them. A server of a page runs beside the clients after it, as in a second terminal, until
//! the page shows another command of web-ipc. By then it must have printed the page's output, and
//! it is stopped.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::expect::Running;
use super::{Outcome, console_blocks, expect, normalize};
use crate::driver::{Built, Sandbox};

/// The command with which README.md starts the binary in a checkout.
const IN_A_CHECKOUT: &str = "cargo run -p web-ipc-cli --";

/// The home directory that the pages show.
const HOME_SHOWN: &str = "/home/ada";

/// The port that the pages show. It is replaced by a free port.
const PORT_SHOWN: &str = "3000";

/// The port of the monitor that the pages show. It is replaced by another free port.
const MONITOR_PORT_SHOWN: &str = "9464";

/// The option of the command that asks for the code of a bundle.
pub(super) const ACCEPT: &str = "--accept";

/// The command that asks for the code of a backup.
const RESTORE: &str = "--restore";

/// The line in which a page shows that it asks.
pub(super) const CODE_PROMPT: &str = "Code:\n";

/// Where a script puts the code.
pub(super) const CODE_VARIABLE: &str = "WEB_IPC_CODE";

/// What a page's command is to this run.
#[derive(Debug, PartialEq)]
enum Kind {
    /// It runs here, to its end.
    Run,
    /// It runs here, beside the commands after it.
    Serve,
    /// Another check, named here, covers it.
    Elsewhere(&'static str),
    /// No check covers it.
    Unknown,
}

/// The beginnings of commands that are run here.
const RUN: &[&str] = &[
    "web-ipc",
    "WEB_IPC_SERVE_LOG_LEVEL=error web-ipc",
    IN_A_CHECKOUT,
    "ls",
    "cat",
    "chmod",
    "cp",
    "printf",
    "echo",
    "mkdir",
    "(umask 077;",
    "tar",
    "curl",
];

/// The beginnings of commands that are not run here, with the check that covers them.
const ELSEWHERE: &[(&str, &str)] = &[
    ("cargo xtask", "this very run"),
    (
        "cargo run -p web-ipc --example",
        "the tests of the examples, crates/web-ipc/tests/examples.rs",
    ),
    ("cargo build", "the build before the scenarios"),
    ("cargo install", "the build before the scenarios"),
    ("cargo add", "the reader's own project"),
    ("git clone", "whoever has this checkout"),
    ("scp", "the reader's own hosts"),
    ("ssh", "the reader's own hosts"),
    ("python3 docs/examples/client.py", "the scenario with the client in Python"),
    ("pip install", "the scenario with the client in Python"),
    ("sh scripts/prerequisites.sh", "the automatic build"),
    ("scripts/prerequisites.sh", "the automatic build"),
];

/// Pages whose commands need engines, and are run by a scenario of their own.
const WITH_ENGINES: &[&str] = &["scaling.md"];

/// Runs README.md, which must exist and show a command.
pub(super) fn readme(built: &Built) -> Outcome {
    let ran = run_page(built, &built.workspace.join("README.md"));
    assert!(ran > 0, "README.md shows no command that can be run");
    Outcome::Passed
}

/// Runs the pages of the manual.
pub(super) fn docs(built: &Built) -> Outcome {
    let folder = built.workspace.join("docs");
    let mut pages: Vec<PathBuf> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("an entry can be read").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .filter(|path| !WITH_ENGINES.iter().any(|name| path.ends_with(name)))
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
    let (port, monitor_port) = (free_port(), free_port().to_string());
    let mut server: Option<ShownServer> = None;
    let mut code: Option<String> = None;
    let mut key_ids = Vec::new();
    let mut ran = 0;
    for shown in commands {
        let place = format!("{name}:{}: $ {}", shown.line, shown.command);
        let kind = kind(&shown.command);
        let ends_server = match kind {
            Kind::Elsewhere(_) | Kind::Unknown => false,
            Kind::Serve => true,
            Kind::Run => !runs_beside_a_server(&shown.command),
        };
        if ends_server && let Some(server) = server.take() {
            server.stop();
        }
        let command = at_port(&shown.command, port).replace(MONITOR_PORT_SHOWN, &monitor_port);
        let command = with_key_ids(&command, &key_ids);
        match kind {
            Kind::Elsewhere(_) => continue,
            Kind::Unknown => panic!("{place}\nno check covers this command"),
            Kind::Serve => {
                let shell = shell(&sandbox, built, &format!("exec {command}"));
                server = Some(ShownServer::start(&sandbox, shell, shown.output, place));
            }
            Kind::Run => {
                let mut shell = shell(&sandbox, built, &command);
                let mut output = with_key_ids(&shown.output, &key_ids);
                if has_word(&command, ACCEPT) || has_word(&command, RESTORE) {
                    // What the page shows is asked for on a terminal, and here there is none.
                    shell.envs(code.iter().map(|code| (CODE_VARIABLE, code)));
                    output = output.replacen(CODE_PROMPT, "", 1);
                }
                let finished = expect::finish_merged(shell);
                code = shown_code(&finished.stdout).or(code);
                let real = in_adas_home(&finished.stdout, sandbox.folder());
                key_ids.extend(shown_key_ids(&output, &real));
                let output = with_key_ids(&output, &key_ids);
                if let Err(error) = normalize::compare(&output, &real) {
                    panic!("{place}\n{error}");
                }
            }
        }
        ran += 1;
    }
    if let Some(server) = server {
        server.stop();
    }
    ran
}

/// A running server that a page shows.
struct ShownServer {
    running: Running,
    /// The output that the page shows. More may follow.
    output: String,
    /// The page and line that show it.
    place: String,
    /// The user's home directory.
    folder: PathBuf,
}

impl ShownServer {
    /// Starts the server, and returns when it listens.
    #[track_caller]
    fn start(sandbox: &Sandbox, shell: Command, output: String, place: String) -> Self {
        let mut running = Running::start_merged(shell);
        running.wait_for_stdout("Listening on ");
        let folder = sandbox.folder().to_owned();
        Self { running, output: format!("{output}...\n"), place, folder }
    }

    /// Waits until the server has printed the page's output, and stops it as Ctrl-C does.
    #[track_caller]
    fn stop(mut self) {
        let awaited = format!("the output on the page ({}):\n{}", self.place, self.output);
        self.running.wait_until(&awaited, |real| {
            normalize::compare(&self.output, &in_adas_home(real, &self.folder)).is_ok()
        });
        self.running.terminate();
        self.running.finish().succeeded();
    }
}

/// Replaces this run's home directory in a text by that of the user on the pages.
pub(super) fn in_adas_home(text: &str, folder: &Path) -> String {
    text.replace(&*folder.to_string_lossy(), HOME_SHOWN)
}

/// A port on which no process listens.
pub(super) fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("the system has a free port");
    listener.local_addr().expect("a listener has an address").port()
}

/// The command with `port` in place of the port that the pages show or, since it is the default,
/// omit.
fn at_port(command: &str, port: u16) -> String {
    let command = command.replace(PORT_SHOWN, &port.to_string());
    let words = command.split(' ').map(|word| match word {
        "--serve" | "--send" | "--request" => format!("{word} --port {port}"),
        _ => word.to_owned(),
    });
    words.collect::<Vec<_>>().join(" ")
}

/// Whether a server keeps running while this command runs: it is a client, or not `web-ipc`.
fn runs_beside_a_server(command: &str) -> bool {
    let is_client =
        ["--send", "--request", "--doctor", ACCEPT].iter().any(|word| has_word(command, word));
    is_client || !has_word(command, "web-ipc")
}

pub(super) fn has_word(command: &str, word: &str) -> bool {
    command.split(' ').any(|other| other == word)
}

/// The ids of keys that a page shows, each with the one that this run has in its place: words of
/// eight hexadecimal digits in the same place of both.
fn shown_key_ids(page: &str, real: &str) -> Vec<(String, String)> {
    let is_id = |word: &str| {
        word.len() == 8 && word.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    let lines = page.lines().zip(real.lines());
    lines
        .flat_map(|(page, real)| page.split_whitespace().zip(real.split_whitespace()))
        .filter(|(page, real)| page != real && is_id(page) && is_id(real))
        .map(|(page, real)| (page.to_owned(), real.to_owned()))
        .collect()
}

/// The text with this run's ids of keys in place of the page's.
fn with_key_ids(text: &str, key_ids: &[(String, String)]) -> String {
    key_ids.iter().fold(text.to_owned(), |text, (page, real)| text.replace(page, real))
}

/// The code of a bundle, which the reader of a page types in for a later command.
pub(super) fn shown_code(output: &str) -> Option<String> {
    output.lines().find_map(|line| line.strip_prefix("Code: ")).map(str::to_owned)
}

/// The command as a reader's shell runs it: `web-ipc` is on the path, and no variable of web-ipc is
/// set.
pub(super) fn shell(sandbox: &Sandbox, built: &Built, command: &str) -> Command {
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
    if !RUN.iter().any(|beginning| begins_with_words(command, beginning)) {
        return Kind::Unknown;
    }
    // Not `web-ipc --serve --help`.
    let is_serve = has_word(command, "--serve") && !has_word(command, "--help");
    if command.starts_with("web-ipc ") && is_serve { Kind::Serve } else { Kind::Run }
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
        assert!(matches!(kind("cargo run -p web-ipc --example receive"), Kind::Elsewhere(_)));
    }

    #[test]
    fn a_server_runs_beside_its_clients() {
        for command in ["web-ipc --serve", "web-ipc --home x --serve --exec 'cat > /dev/null'"] {
            assert_eq!(kind(command), Kind::Serve, "{command}");
            assert!(!runs_beside_a_server(command), "{command}");
        }
        for command in ["web-ipc --send '{}'", "printf '{}' | web-ipc --home x --request"] {
            assert_eq!(kind(command), Kind::Run, "{command}");
            assert!(runs_beside_a_server(command), "{command}");
        }
        assert_eq!(kind("web-ipc --serve --help"), Kind::Run);
        assert!(!runs_beside_a_server("web-ipc --dead --list"));
        assert!(runs_beside_a_server("mkdir -m 700 sensor1"));
        assert!(runs_beside_a_server("web-ipc --home x --enrol --accept y"));
        assert!(!runs_beside_a_server("web-ipc --enrol --create --name y"));
    }

    #[test]
    fn a_key_has_the_same_id_in_all_commands_of_a_page() {
        let ids = shown_key_ids("x.keys  5b8f02d1  opens\nd 1\n", "x.keys  1b800d72  opens\nd 2\n");
        assert_eq!(ids, [("5b8f02d1".to_owned(), "1b800d72".to_owned())]);
        assert_eq!(with_key_ids("web-ipc --drop 5b8f02d1", &ids), "web-ipc --drop 1b800d72");
        assert_eq!(shown_key_ids("id 1b800d72 kept-one", "id kept-one 1b800d72"), []);
    }

    #[test]
    fn the_code_of_a_bundle_is_kept_for_the_command_that_asks_for_it() {
        let output = "[2026-11-23 02:33:43,120Z][INFO][enrol,76]: y\nCode: 7K3QF-0T9XW\n";
        assert_eq!(shown_code(output).as_deref(), Some("7K3QF-0T9XW"));
        assert_eq!(shown_code("Made a client's home: /x\n"), None);
    }

    #[test]
    fn a_page_has_a_port_of_its_own() {
        assert_eq!(at_port("web-ipc --serve", 4711), "web-ipc --serve --port 4711");
        assert_eq!(
            at_port("web-ipc --send --ip [::1]:3000,10.0.0.2 '{}'", 4711),
            "web-ipc --send --port 4711 --ip [::1]:4711,10.0.0.2 '{}'"
        );
        assert_eq!(at_port("web-ipc --test --run", 4711), "web-ipc --test --run");
        assert_eq!(
            at_port("web-ipc --enrol --server a:3000", 4711),
            "web-ipc --enrol --server a:4711"
        );
    }

    #[test]
    fn a_command_nobody_knows_is_not_let_pass() {
        for command in
            ["wget http://localhost", "cargo run -p other", "web-ipcs", "cargo xtasks", ""]
        {
            assert_eq!(kind(command), Kind::Unknown, "{command}");
        }
    }
}

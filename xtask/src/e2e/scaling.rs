//! Runs the commands of docs/scaling.md, from one server to three, and compares the output with the
//! page. It is skipped where one of the engines is not installed.
//!
//! The hosts of the page are addresses of loopback here.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use super::engines::{Engines, HOSTS, HOSTS_SHOWN};
use super::expect::{self, Running};
use super::{Outcome, console_blocks, engines, normalize, pages};
use crate::driver::{self, Built, Sandbox};

/// The page.
pub(super) const PAGE: &str = "docs/scaling.md";

/// The port of the servers on the page.
const PORT_SHOWN: &str = ":3000";

/// How many lines the page sends to three servers.
const LINES: usize = 1000;

/// A server of the page that runs beside all other commands.
struct Server {
    running: Running,
    /// The output that the page shows. More may follow.
    output: String,
    /// The page and line that show it.
    place: String,
}

impl Server {
    /// Waits until it has printed the page's output, and stops it as Ctrl-C does. Returns all that
    /// it printed.
    #[track_caller]
    fn stop(mut self, sandbox: &Sandbox) -> String {
        let awaited = format!("the output on the page ({}):\n{}", self.place, self.output);
        self.running.wait_until(&awaited, |real| {
            normalize::compare(&self.output, &as_on_the_page(real, sandbox)).is_ok()
        });
        self.running.terminate();
        self.running.finish().succeeded().stdout
    }
}

/// What is warned of because the database is on loopback here, and on another host on the page.
const ON_LOOPBACK: &str = "that address is good on this host alone";

fn as_on_the_page(real: &str, sandbox: &Sandbox) -> String {
    let real = pages::in_adas_home(real, sandbox.folder()).replace(HOSTS, HOSTS_SHOWN);
    real.split_inclusive('\n').filter(|line| !line.contains(ON_LOOPBACK)).collect()
}

/// The home that a command names.
pub(super) fn home_of(command: &str) -> Option<&str> {
    command.split_once("--home ")?.1.split(' ').next()
}

/// The numbers of the lines that are in the output of servers.
fn line_numbers(output: &str) -> BTreeSet<usize> {
    let numbers = output.lines().filter_map(|line| {
        let (_, rest) = line.split_once(r#""body":{"line":"#)?;
        rest.trim_end_matches('}').parse().ok()
    });
    numbers.collect()
}

/// The commands of the page, in order: a server with its users in a file becomes three with both
/// engines, and every line that is sent at the end is there. A server is stopped where the page
/// starts another one in its home. A web-ipc without PostgreSQL refuses the last bundle.
pub(super) fn page(built: &Built) -> Outcome {
    if let Some(why) = engines::lacks() {
        return Outcome::Skipped(why);
    }
    let with_engines = driver::build_with_engines(false).unwrap_or_else(|error| panic!("{error}"));
    let sandbox = Sandbox::new(&with_engines);
    let mut engines = Engines::on_loopback(built, &sandbox);
    let text = fs::read_to_string(built.workspace.join(PAGE)).expect("the page can be read");
    let commands = console_blocks::commands(&text).unwrap_or_else(|error| panic!("{error}"));
    let port = pages::free_port();
    let mut servers: BTreeMap<String, Server> = BTreeMap::new();
    let mut code = None;
    for shown in commands {
        let place = format!("{PAGE}:{}: $ {}", shown.line, shown.command);
        let at_port = shown.command.replace(PORT_SHOWN, &format!(":{port}"));
        let command = engines.command(&at_port);
        let home = home_of(&command).unwrap_or_else(|| panic!("{place}\nnames no home"));
        if pages::has_word(&command, "--serve") {
            if let Some(before) = servers.remove(home) {
                before.stop(&sandbox);
            }
            let shell = pages::shell(&sandbox, &with_engines, &format!("exec {command}"));
            let mut running = Running::start_merged(shell);
            running.wait_for_stdout("Listening on ");
            let output = format!("{}...\n", shown.output);
            servers.insert(home.to_owned(), Server { running, output, place });
            continue;
        }
        let mut shell = pages::shell(&sandbox, &with_engines, &command);
        let mut output = shown.output;
        if pages::has_word(&command, pages::ACCEPT) {
            shell.envs(code.iter().map(|code| (pages::CODE_VARIABLE, code)));
            output = output.replacen(pages::CODE_PROMPT, "", 1);
        }
        let finished = expect::finish_merged(shell);
        code = pages::shown_code(&finished.stdout).or(code);
        let real = as_on_the_page(&finished.stdout, &sandbox);
        if let Err(error) = normalize::compare(&output, &real) {
            panic!("{place}\n{error}");
        }
        if command.ends_with("server3.bundle") && code.is_some() {
            refused_without_the_feature(built, &sandbox, code.as_deref().unwrap_or_default());
        }
    }
    assert_eq!(servers.len(), 3, "the page ends with three servers");
    engines.die_and_come_back();
    let last_line = format!(r#"{{"line":{}}}"#, LINES + 1);
    let send = ["--home", "worker1", "--send", "--timeout", "60", &last_line];
    expect::finish(sandbox.command(&send)).succeeded();
    // What a server had in hand when it stopped comes to another one.
    let mut printed = BTreeSet::new();
    let mut last = servers.remove("server3").expect("the page has a third server");
    for (_, server) in servers {
        printed.extend(line_numbers(&server.stop(&sandbox)));
    }
    let all = format!("all {LINES} lines");
    last.running.wait_until(&all, |output| {
        let numbers = line_numbers(output);
        numbers.union(&printed).count() == LINES + 1
    });
    last.stop(&sandbox);
    Outcome::Passed
}

#[track_caller]
fn refused_without_the_feature(built: &Built, sandbox: &Sandbox, code: &str) {
    let accept = "web-ipc --home plain --enrol --accept server3.bundle";
    let mut shell = pages::shell(sandbox, built, accept);
    shell.env(pages::CODE_VARIABLE, code);
    expect::finish(shell)
        .failed_in_one_sentence()
        .says("whose users are in PostgreSQL, which this web-ipc was built without");
    assert!(!sandbox.folder().join("plain").exists(), "the refusal left a directory");
}

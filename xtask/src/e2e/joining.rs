//! A scenario with three servers, each on a host of its own: one is killed under load, and another
//! one is enrolled, starts and takes its place. No line is lost.
//!
//! The commands are those of docs/scaling.md alone, as they stand there, and the hosts have the
//! page's addresses: they are network namespaces. Without root, or without one of the engines, it
//! is skipped.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};

use super::engines::{self, Engines};
use super::expect::{self, Running};
use super::scaling::{PAGE, home_of};
use super::{Outcome, console_blocks, pages};
use crate::driver::{self, Built, HUB, Namespaces, Output, PATIENCE, Process, Sandbox, Stream};

/// How many lines are sent, unless the variable says otherwise. A long run takes programs that are
/// built for release.
const LINES: usize = 20_000;
const LINES_VARIABLE: &str = "E2E_LINES";
const LINES_OF_A_LONG_RUN: usize = 200_000;

/// How many lines the page's last command sends.
const LINES_SHOWN: &str = "seq 1 1000 ";

/// The host of both engines.
const ENGINES: u8 = 9;

/// What a server does.
enum Event {
    Listens,
    /// It printed a line.
    Line {
        server: String,
        number: usize,
        is_marked: bool,
    },
    Logs(String),
}

/// What was printed of each number: how often, and how often without a mark.
#[derive(Default, Clone, Copy)]
struct Printed {
    times: u32,
    unmarked: u32,
}

/// The hosts with what runs on them.
struct Stage<'a> {
    sandbox: &'a Sandbox,
    built: &'a Built,
    engines: Engines,
    hosts: Namespaces,
    servers: BTreeMap<String, Process>,
    sender: Sender<Event>,
    events: Receiver<Event>,
    code: Option<String>,
    lines: Vec<Printed>,
    distinct: usize,
    by_server: BTreeMap<String, usize>,
    log: String,
}

impl Stage<'_> {
    /// A shell on the host of a home, which runs one command of the page.
    fn shell(&self, command: &str) -> Command {
        let home = home_of(command).unwrap_or_default();
        let host = home.strip_prefix("server").and_then(|number| number.parse().ok());
        let shell = pages::shell(self.sandbox, self.built, &self.engines.command(command));
        let [ip, arguments @ ..] = self.hosts.runner(host.unwrap_or(HUB));
        let mut on_host = self.sandbox.program(ip.as_ref());
        on_host.args(arguments).arg(shell.get_program()).args(shell.get_args());
        for (name, value) in shell.get_envs() {
            match value {
                Some(value) => on_host.env(name, value),
                None => on_host.env_remove(name),
            };
        }
        on_host.envs(self.code.iter().map(|code| (pages::CODE_VARIABLE, code)));
        on_host
    }

    /// Runs a command of the page to its end, or starts a server.
    #[track_caller]
    fn run(&mut self, command: &str) {
        if !pages::has_word(command, "--serve") {
            let finished = expect::finish_merged(self.shell(command)).succeeded();
            self.code = pages::shown_code(&finished.stdout).or(self.code.take());
            return;
        }
        let home = home_of(command).unwrap_or_default().to_owned();
        if let Some(mut before) = self.servers.remove(&home) {
            before.terminate().and_then(|()| before.wait()).unwrap_or_else(|why| panic!("{why}"));
        }
        let mut shell = self.shell(&format!("exec {command}"));
        shell.stdin(Stdio::null());
        let (sender, name) = (self.sender.clone(), home.clone());
        let read = move |output| {
            let event = match output {
                Output::Line(Stream::Out, line) => line_of(&name, &line),
                Output::Line(Stream::Err, line) if line.contains("Listening on ") => {
                    Some(Event::Listens)
                }
                Output::Line(Stream::Err, line) => Some(Event::Logs(format!("{name}: {line}"))),
                Output::End(_) => None,
            };
            // Nobody listens once the scenario has ended.
            event.map(|event| sender.send(event));
        };
        let process = Process::start(shell, "", read).unwrap_or_else(|error| panic!("{error}"));
        self.servers.insert(home.clone(), process);
        while !matches!(self.next(&format!("{home} listens")), Event::Listens) {}
    }

    /// The next event, which is counted.
    #[track_caller]
    fn next(&mut self, awaited: &str) -> Event {
        let event = match self.events.recv_timeout(PATIENCE) {
            Ok(event) => event,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => panic!(
                "{awaited} did not come within {} s; {} lines are there\n{}",
                PATIENCE.as_secs(),
                self.distinct,
                self.log
            ),
        };
        match &event {
            Event::Line { server, number, is_marked } => {
                *self.by_server.entry(server.clone()).or_default() += 1;
                let printed = self.lines.get_mut(*number).expect("only lines that were sent");
                self.distinct += usize::from(printed.times == 0);
                printed.times += 1;
                printed.unmarked += u32::from(!is_marked);
            }
            Event::Logs(line) => self.log.push_str(line),
            Event::Listens => {}
        }
        event
    }

    /// Waits until so many different lines were printed.
    #[track_caller]
    fn wait_for_lines(&mut self, count: usize) {
        while self.distinct < count {
            self.next(&format!("line {count}"));
        }
    }
}

/// The number in a line that a server printed, if it is one of those that are counted. The line
/// that a kill cut off has no end.
fn line_of(server: &str, line: &str) -> Option<Event> {
    let line = line.strip_suffix('\n')?;
    let (before, number) = line.split_once(r#""body":{"line":"#)?;
    let number = number.trim_end_matches('}').parse().ok()?;
    let is_marked = before.contains(r#""redelivered":"#);
    Some(Event::Line { server: server.to_owned(), number, is_marked })
}

/// Two servers by the commands of the page; the second is killed while the page's last command
/// sends many lines, and a third one joins, by the page's commands again. Every line is there, and
/// what came twice is marked.
pub(super) fn killed_and_joined(built: &Built) -> Outcome {
    if let Some(why) = engines::lacks().or_else(Namespaces::lacks) {
        return Outcome::Skipped(why);
    }
    let count = std::env::var(LINES_VARIABLE).ok();
    let count = count.map_or(LINES, |text| text.parse().expect("E2E_LINES is a number"));
    let with_engines = driver::build_with_engines(count >= LINES_OF_A_LONG_RUN);
    let with_engines = with_engines.unwrap_or_else(|error| panic!("{error}"));
    let sandbox = Sandbox::new(&with_engines);
    let hosts = Namespaces::new(&[1, 2, 3, ENGINES]).unwrap_or_else(|error| panic!("{error}"));
    let runner = hosts.runner(ENGINES);
    let runner: Vec<&str> = runner.iter().map(String::as_str).collect();
    let engines = Engines::on_their_host(built, &sandbox, &runner);
    let (sender, events) = channel();
    let mut stage = Stage {
        sandbox: &sandbox,
        built: &with_engines,
        engines,
        hosts,
        servers: BTreeMap::new(),
        sender,
        events,
        code: None,
        lines: vec![Printed::default(); count + 1],
        distinct: 0,
        by_server: BTreeMap::new(),
        log: String::new(),
    };
    let text = fs::read_to_string(built.workspace.join(PAGE)).expect("the page can be read");
    let commands = console_blocks::commands(&text).unwrap_or_else(|error| panic!("{error}"));
    let commands: Vec<&str> = commands.iter().map(|shown| shown.command.as_str()).collect();
    let third = commands.iter().position(|command| command.contains("server3.bundle"));
    let (first_two, rest) = commands.split_at(third.expect("the page has a third server"));
    let (load, third) = rest.split_last().expect("the page sends lines at its end");
    for command in first_two {
        stage.run(command);
    }

    assert!(load.starts_with(LINES_SHOWN), "the page ends with another command: {load}");
    let load = load.replacen(LINES_SHOWN, &format!("seq 1 {count} "), 1);
    let sending = Running::start_merged(stage.shell(&load));
    stage.wait_for_lines(count * 3 / 10);
    drop(stage.servers.remove("server2"));
    for command in third {
        stage.run(command);
    }
    // The servers' lines are not read while this waits; their pipes have threads of their own.
    let sent = sending.finish().succeeded();
    assert!(sent.stdout.contains(&format!("{count} sent, ")), "{}", sent.report());
    stage.wait_for_lines(count);
    let unmarked = stage.lines.iter().filter(|printed| printed.unmarked > 1).count();
    assert_eq!(unmarked, 0, "lines came twice without a mark");
    for server in ["server1", "server2"] {
        assert!(stage.by_server.contains_key(server), "{server} printed nothing");
    }
    let again: u32 = stage.lines.iter().map(|printed| printed.times.saturating_sub(1)).sum();
    println!("    {}", sent.stdout.lines().last().unwrap_or_default());
    println!("    lines of each: {:?}, {again} of them again and marked", stage.by_server);
    Outcome::Passed
}

//! Scenarios with two hosts: on the first a client is enrolled for the second, in one line over
//! `ssh`, and nothing else is copied.
//!
//! The hosts are network namespaces. `ssh HOST COMMAND` is a script that runs a command on the
//! second host, in an empty home directory named `HOST`, and where the first host's home cannot be
//! seen. Like the real one it gives the command no terminal. Without root the scenarios are
//! skipped.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Outcome;
use super::expect::{self, Running};
use crate::driver::{Built, Finished, Namespaces, Sandbox, chmod};

/// The one line where the other end can ask for the code on a terminal.
const LINE: &str = "web-ipc --enrol --create --name worker1 | ssh host2 web-ipc --enrol --accept -";

/// The page with the line for hosts where the other end has no terminal, and how it is found there.
const PAGE: &str = "docs/commands.md";
const LINE_OF_THE_PAGE: &str = "head -1 < /dev/tty; } | ssh host2";

const FIRST: u8 = 1;
const SECOND: u8 = 2;

/// Both hosts, with a server that runs on the first.
struct Stage<'a> {
    sandbox: &'a Sandbox,
    hosts: Namespaces,
    path: OsString,
    server: Running,
}

impl<'a> Stage<'a> {
    fn new(built: &Built, sandbox: &'a Sandbox) -> Self {
        let programs = sandbox.folder().join("bin");
        fs::create_dir(&programs).expect("a directory can be made");
        symlink(built.folder.join("web-ipc"), programs.join("web-ipc")).expect("a link is made");
        let hosts = Namespaces::new(&[FIRST, SECOND]).unwrap_or_else(|error| panic!("{error}"));
        let ssh = programs.join("ssh");
        fs::write(&ssh, ssh_script(sandbox, &hosts.runner(SECOND))).expect("a script is written");
        chmod(&ssh, 0o700);
        let mut path = programs.into_os_string();
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        let mut serve = on_host(sandbox, &hosts, &path, "web-ipc");
        serve.args(["--serve", "--ip", "0.0.0.0"]);
        let mut server = Running::start(serve, "");
        server.wait_for_log("Listening on ");
        Self { sandbox, hosts, path, server }
    }

    /// Runs a line on the first host, on a terminal of its own, and types the code once it is
    /// shown.
    #[track_caller]
    fn types_the_code(&self, line: &str, variables: &[(&str, &str)]) -> Finished {
        let mut terminal = on_host(self.sandbox, &self.hosts, &self.path, "script");
        terminal.args(["--quiet", "--return", "--command", line, "/dev/null"]);
        terminal.envs(variables.iter().copied());
        let (mut running, mut typed) = Running::start_typed(terminal);
        let code = running.wait_for_line("Code: ");
        // Where nobody asks for it, the terminal may be gone.
        let _ = writeln!(typed, "{}", code.trim());
        // The end of what is typed would end the terminal.
        let finished = running.finish();
        drop(typed);
        finished
    }

    /// Runs a command on the second host, as the user with this home directory.
    #[track_caller]
    fn ssh(&self, host: &str, command: &str, variables: &[(&str, &str)]) -> Finished {
        let mut ssh = on_host(self.sandbox, &self.hosts, &self.path, "ssh");
        ssh.args([host, command]).envs(variables.iter().copied());
        expect::finish(ssh)
    }

    /// What is in the home directory of the second host.
    fn entries(&self, host: &str) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.sandbox.folder().join(host));
        entries.map(|all| all.flatten().map(|entry| entry.path()).collect()).unwrap_or_default()
    }

    fn stop(self) {
        self.server.terminate();
        self.server.finish().succeeded();
    }
}

/// A program on the first host.
fn on_host(sandbox: &Sandbox, hosts: &Namespaces, path: &OsStr, program: &str) -> Command {
    let [ip, arguments @ ..] = hosts.runner(FIRST);
    let mut command = sandbox.program(Path::new(&ip));
    command.args(arguments).arg(program).env("PATH", path).env_remove("WEB_IPC_CODE");
    command
}

/// The script `ssh`. `WITH_TERMINAL` leaves the command the terminal, `PRELOADED` and `CLOCK` give
/// it another clock.
fn ssh_script(sandbox: &Sandbox, runner: &[String]) -> String {
    let (folder, home) = (sandbox.folder().display(), sandbox.home());
    format!(
        r#"#!/bin/sh
set -eu
host=$1
shift
mkdir -p "{folder}/$host"
exec env --unset WEB_IPC_HOME HOME="{folder}/$host" {runner} sh -euc '
    mount -t tmpfs none "$0"
    [ -n "${{WITH_TERMINAL-}}" ] || alone="setsid --wait"
    export LD_PRELOAD="${{PRELOADED-}}" FAKETIME="${{CLOCK-}}"
    export FAKETIME_DONT_FAKE_MONOTONIC=1 DONT_FAKE_MONOTONIC=1
    exec ${{alone-}} sh -c "$*"' {home} "$@"
"#,
        runner = runner.join(" "),
        home = home.display(),
    )
}

/// Why the scenarios cannot be run here; `None` if they can.
fn lacks() -> Option<String> {
    let script = Command::new("script").arg("--version").output();
    match script {
        Ok(_) => Namespaces::lacks(),
        Err(error) => Some(format!("script does not start: {error}")),
    }
}

/// The page's line, and the one without the page's detour where the other end has a terminal, each
/// make a client's home from which `--send` needs no option.
pub(super) fn enrolled_in_one_line(built: &Built) -> Outcome {
    if let Some(why) = lacks() {
        return Outcome::Skipped(why);
    }
    let sandbox = Sandbox::with_home(built);
    let mut stage = Stage::new(built, &sandbox);
    let sends = |stage: &Stage<'_>, n: u32| {
        let send = format!("web-ipc --send '{{\"n\":{n}}}'");
        stage.ssh("host2", &send, &[]).succeeded().says("1 sent, 0 duplicates, 0 refused");
    };

    // Without a terminal there nobody can be asked. It says what to do, and leaves nothing.
    stage.types_the_code(LINE, &[]).ended_with(1).says("/dev/tty; }");
    assert_eq!(stage.entries("host2"), [] as [PathBuf; 0]);
    let page = fs::read_to_string(built.workspace.join(PAGE)).expect("the page can be read");
    let line = page.lines().find(|line| line.contains(LINE_OF_THE_PAGE));
    let line = line.unwrap_or_else(|| panic!("{PAGE} has no line with {LINE_OF_THE_PAGE:?}"));
    let made = "Made a client's home";
    stage.types_the_code(line.trim(), &[]).succeeded().says(made);
    sends(&stage, 1);
    stage.server.wait_for_stdout(r#""user":"worker1","peer":"worker1""#);

    // Another client, where the other end has the terminal.
    fs::remove_dir_all(sandbox.folder().join("host2")).expect("a directory can be removed");
    let line = LINE.replace("worker1", "worker2");
    stage.types_the_code(&line, &[("WITH_TERMINAL", "1")]).succeeded().says(made);
    sends(&stage, 2);
    stage.server.wait_for_stdout(r#""user":"worker2","peer":"worker2""#);
    stage.stop();
    Outcome::Passed
}

/// Where the second host's clock is an hour ahead or behind, `--accept` and `--send` name the
/// clock.
pub(super) fn clock_off(built: &Built) -> Outcome {
    if let Some(why) = lacks() {
        return Outcome::Skipped(why);
    }
    let Some(preloaded) = faketime() else {
        return Outcome::Skipped("there is no libfaketime".to_owned());
    };
    let sandbox = Sandbox::with_home(built);
    let stage = Stage::new(built, &sandbox);
    let shifted = |hour| [("PRELOADED", preloaded.as_str()), ("CLOCK", hour)];
    let line = |name: &str, host: &str| {
        format!(
            "{{ web-ipc --enrol --create --name {name}; head -1 < /dev/tty; }} | \
             ssh {host} web-ipc --enrol --accept -"
        )
    };
    let send = "web-ipc --send '{\"n\":1}'";
    // The clock is another one there, or nothing below shows anything.
    let date = |variables: &[_]| -> i64 {
        let shown = stage.ssh("host2", "date +%s", variables).succeeded().stdout;
        shown.trim().parse().unwrap_or_else(|error| panic!("{error}: {shown}"))
    };
    assert!(date(&shifted("+3600")) - date(&[]) > 3000, "libfaketime changes no clock");

    // An hour ahead: the bundle is good, and the server hears the client too late.
    stage.types_the_code(&line("worker1", "host2"), &shifted("+3600")).says("clock");
    stage.ssh("host2", send, &shifted("+3600")).ended_in_one_sentence(75).says("clock");
    // An hour behind the bundle is of the future, and no home is made.
    let refused = stage.types_the_code(&line("worker2", "host3"), &shifted("-3600"));
    refused.ended_with(1).says("clock");
    assert_eq!(stage.entries("host3"), [] as [PathBuf; 0]);
    // A client with the right clock, which is put back afterwards.
    stage.types_the_code(&line("worker3", "host4"), &[]).succeeded();
    stage.ssh("host4", send, &[]).succeeded();
    // An hour behind, the server's certificate is not valid yet; an hour ahead, the envelope is of
    // the future.
    for (hour, status) in [("-3600", 77), ("+3600", 75)] {
        stage.ssh("host4", send, &shifted(hour)).ended_in_one_sentence(status).says("clock");
    }
    stage.ssh("host4", send, &[]).succeeded();
    stage.stop();
    Outcome::Passed
}

/// The library that gives a program another clock, where it is installed (Debian: `libfaketime`).
fn faketime() -> Option<String> {
    let folders = fs::read_dir("/usr/lib").ok()?.flatten().map(|entry| entry.path());
    let folders = folders.chain(["/usr/lib64", "/usr/lib", "/usr/local/lib"].map(PathBuf::from));
    let library = folders
        .map(|folder| folder.join("faketime/libfaketimeMT.so.1"))
        .find(|library| library.is_file())?;
    library.into_os_string().into_string().ok()
}

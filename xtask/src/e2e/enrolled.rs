//! Clients and further servers that were enrolled with a bundle, for scenarios.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::expect;
use crate::driver::{Finished, Sandbox};

/// A client that was enrolled with a bundle, in a home of its own.
pub(super) struct Enrolled {
    pub(super) home: PathBuf,
}

impl Enrolled {
    pub(super) fn new(sandbox: &Sandbox, name: &str, address: &str) -> Self {
        Self::as_kind(sandbox, name, address, "client")
    }

    /// A client, or a further server.
    pub(super) fn as_kind(sandbox: &Sandbox, name: &str, address: &str, kind: &str) -> Self {
        let home = sandbox.folder().join(name);
        let bundle = sandbox.folder().join(format!("{name}.bundle"));
        let out = bundle.to_string_lossy().into_owned();
        let created = sandbox
            .run(&[
                "--enrol", "--create", "--kind", kind, "--name", name, "--server", address,
                "--out", &out,
            ])
            .succeeded();
        let code = created.stderr.lines().find_map(|line| line.strip_prefix("Code: "));
        let code = code.unwrap_or_else(|| panic!("no code:\n{}", created.report()));
        let enrolled = Enrolled { home };
        let mut accept = sandbox.command(&["--enrol", "--accept", &out]);
        enrolled.at_home(&mut accept).env("WEB_IPC_CODE", code);
        expect::finish(accept).succeeded().says(&format!("Made a {kind}'s home"));
        // What travelled is of no use any more: to nobody who copied it on the way.
        let mut again = sandbox.command(&["--enrol", "--accept", &out]);
        again.env("WEB_IPC_CODE", code).env("WEB_IPC_HOME", sandbox.folder().join("thief"));
        expect::finish(again).ended_in_one_sentence(77).says("accepted before");
        fs::remove_dir_all(sandbox.folder().join("thief"))
            .unwrap_or_else(|error| panic!("{error}"));
        enrolled
    }

    pub(super) fn at_home<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        command.env("WEB_IPC_HOME", &self.home)
    }

    pub(super) fn shell(&self, sandbox: &Sandbox, script: &str, arguments: &[&str]) -> Command {
        let mut command = sandbox.shell(script, arguments);
        self.at_home(&mut command);
        command
    }

    #[track_caller]
    pub(super) fn run(&self, sandbox: &Sandbox, arguments: &[&str]) -> Finished {
        let mut command = sandbox.command(arguments);
        self.at_home(&mut command);
        expect::finish(command)
    }
}

/// The port in the line of a server that listens.
#[track_caller]
pub(super) fn port_in(listening: &str) -> String {
    let digits = |text: &str| text.chars().take_while(char::is_ascii_digit).collect();
    let (_, behind) = listening.rsplit_once("127.0.0.1:").unwrap_or_else(|| panic!("{listening}"));
    digits(behind)
}

//! Runs the commands of docs/jetstream.md and docs/postgresql.md. It is skipped where one of the
//! engines is not installed.
//!
//! These pages show commands without their output, among those of the engines themselves.

use std::fs;
use std::process::Command;

use super::engines::{self, AUTHORITY_SHOWN, Engines, HOSTS_SHOWN};
use super::expect::{self, Running};
use super::{Outcome, pages};
use crate::driver::{self, Built, Finished, Sandbox};

/// The addresses on the pages.
const NATS_SHOWN: &str = "nats://127.0.0.1:4222/";
const DATABASE_SHOWN: &str = "postgres://ipc@db.example/ipc";

/// What the address of three NATS servers has. `cargo xtask cluster` runs servers with it.
const ON_THREE: &str = "replicas=3";

/// The commands of web-ipc in the page's blocks of plain text, below the heading with this text.
fn commands(page: &str, heading: &str) -> Vec<String> {
    let section = page.split("\n## ").find(|section| section.starts_with(heading));
    let lines = section.unwrap_or_else(|| panic!("no section `{heading}`")).lines();
    lines.filter(|line| line.starts_with("web-ipc ")).map(str::to_owned).collect()
}

/// Both engines, and a command that knows them.
struct Bed {
    built: Built,
    sandbox: Sandbox,
    engines: Engines,
    /// The port of the server.
    port: u16,
}

impl Bed {
    #[track_caller]
    fn prepare(built: &Built) -> Self {
        let with_engines =
            driver::build_with_engines(false).unwrap_or_else(|error| panic!("{error}"));
        let sandbox = Sandbox::new(&with_engines);
        let engines = Engines::on_loopback(built, &sandbox);
        Bed { built: with_engines, sandbox, engines, port: pages::free_port() }
    }

    /// The shell that runs a command of a page in this home.
    fn shell(&self, home: &str, command: &str) -> Command {
        let database =
            format!("'postgres://ipc:pass321@{HOSTS_SHOWN}9/ipc?sslrootcert={AUTHORITY_SHOWN}'");
        let command = command
            .replace(NATS_SHOWN, &format!("nats://{HOSTS_SHOWN}9/"))
            .replace(DATABASE_SHOWN, &database)
            .replace("--serve", &format!("--serve --port {}", self.port))
            .replacen("web-ipc", &format!("exec web-ipc --home {home}"), 1);
        pages::shell(&self.sandbox, &self.built, &self.engines.command(&command))
    }

    #[track_caller]
    fn run(&self, home: &str, command: &str) -> Finished {
        expect::finish(self.shell(home, command)).succeeded()
    }
}

fn page(built: &Built, name: &str) -> String {
    let path = built.workspace.join("docs").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The commands of docs/jetstream.md: a server, and what lists and requeues its dead letters.
pub(super) fn jetstream(built: &Built) -> Outcome {
    if let Some(why) = engines::lacks() {
        return Outcome::Skipped(why);
    }
    let (bed, page) = (Bed::prepare(built), page(built, "jetstream.md"));
    let start = commands(&page, "Start");
    let [serve, on_three] = &start[..] else { panic!("the page starts servers by {start:?}") };
    assert!(on_three.contains(ON_THREE), "{on_three}");
    let dead = commands(&page, "Dead letters");
    let [list, put_back] = &dead[..] else { panic!("the page has {dead:?}") };
    bed.run("served", "web-ipc --init --run");
    // Its command refuses each message for good, which makes dead letters.
    let serving = bed.shell("served", &format!("{serve} --exec 'exit 65'"));
    let mut running = Running::start(serving, "");
    running.wait_for_next_log("Listening on ");
    let send = format!("web-ipc --send --port {} '{{\"n\":7}}'", bed.port);
    bed.run("served", &send).says("1 sent");
    running.wait_for_next_log("it is a dead letter now");
    bed.run("served", list).says(r#"{"n":7}"#);
    bed.run("served", put_back);
    running.wait_for_next_log("it is a dead letter now");
    running.terminate();
    running.finish().succeeded();
    Outcome::Passed
}

/// The commands of docs/postgresql.md: a home that had users, and a new one.
pub(super) fn postgresql(built: &Built) -> Outcome {
    if let Some(why) = engines::lacks() {
        return Outcome::Skipped(why);
    }
    let page = page(built, "postgresql.md");
    let has_its_users = |bed: &Bed, home: &str, names: &[&str]| {
        let listed = bed.run(home, "web-ipc --users --list");
        names.iter().fold(listed, |listed, name| listed.says(&format!("Username: {name}")));
        let folder = bed.sandbox.folder().join(home);
        assert!(folder.join("users.url").exists(), "{home} does not name the database");
    };
    let bed = Bed::prepare(built);
    bed.run("had", "web-ipc --init --run");
    bed.run("had", "web-ipc --users --add --user ada --password pass321");
    let moving = commands(&page, "A home that has users");
    let [copy, switch] = &moving[..] else { panic!("the page moves users by {moving:?}") };
    bed.run("had", copy).says("2 users added");
    bed.run("had", copy).says("2 there already");
    bed.run("had", switch);
    has_its_users(&bed, "had", &["ipc-admin", "ada"]);
    // The database has the users of the other home.
    let new = commands(&page, "A new home");
    let [make] = &new[..] else { panic!("the page makes a home by {new:?}") };
    let bed = Bed::prepare(built);
    bed.run("new", make);
    has_its_users(&bed, "new", &["ipc-admin"]);
    assert!(!bed.sandbox.folder().join("new/users.db").exists(), "it has users of its own");
    Outcome::Passed
}

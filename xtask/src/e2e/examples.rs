//! Runs the examples of docs/examples that solve a problem with the command: a deploy hook and a
//! cron job. `crates/web-ipc/tests/examples.rs` runs those in Rust.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use super::enrolled::{Enrolled, port_in};
use super::expect::{self, Running};
use super::{Outcome, pages};
use crate::driver::{Built, Sandbox};

/// Whether this program runs here.
fn is_there(program: &str, argument: &str) -> bool {
    let mut run = Command::new(program);
    run.arg(argument).stdout(Stdio::null()).stderr(Stdio::null());
    run.status().is_ok_and(|status| status.success())
}

fn path(built: &Built, name: &str) -> String {
    built.workspace.join("docs/examples").join(name).display().to_string()
}

/// A message deploys, one that cannot be is a dead letter, and one that comes during another
/// deployment is done afterwards.
pub(super) fn deploy_hook(built: &Built) -> Outcome {
    if !is_there("python3", "--version") {
        return Outcome::Skipped("python3 is not installed".to_owned());
    }
    let sandbox = Sandbox::with_home(built);
    let root = sandbox.folder().join("srv");
    for version in ["1.4.1", "1.4.2"] {
        fs::create_dir_all(root.join("shop/releases").join(version)).expect("it can be made");
    }
    let current = || fs::read_link(root.join("shop/current")).ok();
    let exec = format!("python3 {}", path(built, "deploy_hook.py"));
    let mut serve =
        sandbox.command(&["--serve", "--port", "0", "--inbox", "durable", "--exec", &exec]);
    serve.env("DEPLOY_ROOT", &root);
    let mut server = Running::start(serve, "");
    let address = format!("127.0.0.1:{}", port_in(&server.wait_for_log("Listening on ")));
    let send = |message: &str| {
        sandbox.run(&["--send", "--ip", &address, message]).succeeded();
    };
    send(r#"{"app":"shop","version":"1.4.2"}"#);
    server.wait_for_next_log("deploy: shop is at 1.4.2, for ipc-admin");
    assert_eq!(current().as_deref(), Some(Path::new("releases/1.4.2")));
    for (message, said) in [
        (r#"{"app":"shop","version":"9"}"#, "deploy: there is no release 9 of shop"),
        (r#"{"app":"../etc","version":"1.4.1"}"#, "deploy: it names no app and version"),
    ] {
        send(message);
        server.wait_for_next_log(said);
        server.wait_for_next_log("it is a dead letter now");
    }
    assert_eq!(current().as_deref(), Some(Path::new("releases/1.4.2")), "it was changed");
    server.terminate();
    server.finish().succeeded();
    let letters = sandbox.run(&["--dead", "--list"]).succeeded();
    letters.says("../etc").says("ended with status 65");
    Outcome::Passed
}

/// A run without a server keeps its report, the next one delivers both, and a third one delivers
/// nothing twice although the spool was put back.
pub(super) fn cron_job(built: &Built) -> Outcome {
    if !is_there("flock", "--version") || !Path::new("/proc/sys/kernel/random/uuid").exists() {
        return Outcome::Skipped("flock or /proc is not there".to_owned());
    }
    let sandbox = Sandbox::with_home(built);
    let port = pages::free_port();
    let spool = sandbox.folder().join("spool");
    let run = |home: &Path, arguments: &str| {
        let script = path(built, "cron_job.sh");
        let line = format!("sh {script} {arguments}");
        let mut shell = pages::shell(&sandbox, built, &line);
        shell.env("SPOOL", &spool).env("WEB_IPC_HOME", home);
        expect::finish(shell)
    };
    let lines = || fs::read_to_string(&spool).unwrap_or_default().lines().count();
    let home = sandbox.home();
    let address = format!("--ip 127.0.0.1:{port} --timeout 1");
    let finished = run(&home, &address).succeeded();
    assert!(finished.stdout.is_empty(), "{}", finished.stdout);
    assert_eq!(lines(), 1, "the report is lost");
    let mut server = sandbox.start(&["--serve", "--port", &port.to_string()]);
    server.wait_for_log("Listening on ");
    // As an enrolled client, which needs no options.
    let client = Enrolled::new(&sandbox, "reporter", &format!("127.0.0.1:{port}"));
    let kept = fs::read(&spool).expect("the spool is there");
    let finished = run(&client.home, "").succeeded();
    assert!(finished.stdout.is_empty() && finished.stderr.is_empty(), "{}", finished.report());
    assert!(!spool.exists(), "the reports were sent");
    server.wait_for_lines(2);
    // As if it were not known what became of the first.
    fs::write(&spool, kept).expect("the spool can be written");
    run(&client.home, "").succeeded();
    server.wait_for_lines(3);
    server.terminate();
    let printed = server.finish().succeeded().stdout;
    assert_eq!(printed.matches("free_kib").count(), 3, "{printed}");
    assert_eq!(printed.matches(r#""user":"reporter""#).count(), 3, "{printed}");
    Outcome::Passed
}

/// Ten clients, each enrolled with a key and a certificate of its own, send to one server.
pub(super) fn fan_in(built: &Built) -> Outcome {
    const CLIENTS: usize = 10;
    let sandbox = Sandbox::with_home(built);
    let mut server = sandbox.start(&["--serve", "--port", "0"]);
    let address = format!("127.0.0.1:{}", port_in(&server.wait_for_log("Listening on ")));
    let clients: Vec<Enrolled> = (0..CLIENTS)
        .map(|number| Enrolled::new(&sandbox, &format!("worker{number}"), &address))
        .collect();
    let sending: Vec<Running> = clients
        .iter()
        .map(|client| {
            let home = client.home.display().to_string();
            let lines: String = (0..100).map(|n| format!("{{\"n\":{n}}}\n")).collect();
            Running::start(sandbox.command(&["--home", &home, "--send"]), &lines)
        })
        .collect();
    for client in sending {
        client.finish().succeeded().says("100 sent, 0 duplicates, 0 refused");
    }
    server.wait_for_lines(CLIENTS * 100);
    server.terminate();
    let printed = server.finish().succeeded().stdout;
    for number in 0..CLIENTS {
        let from = format!(r#""user":"worker{number}","peer":"worker{number}""#);
        assert_eq!(printed.matches(&from).count(), 100, "{from}");
    }
    Outcome::Passed
}

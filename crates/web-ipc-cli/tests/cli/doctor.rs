//! `--doctor` beside a running server: what is fine, and each cause for which TLS fails.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::run::World;
use crate::server::{Server, client, text};

/// Checks that `--send` and `--request` name the same cause, in the line that ends them.
fn senders_say(world: &World, server: &Server, home: &Path, options: &[&str], cause: &str) {
    for command in ["--send", "--request"] {
        let home = home.to_str().unwrap();
        let arguments = [&["--home", home, command, "{}"], options].concat();
        let output = client(world, server, &arguments, "");
        assert_eq!(output.status.code(), Some(1), "{command}");
        let log = text(&output.stderr);
        assert!(log.contains(cause), "{command}: no {cause:?} in {log}");
    }
}

/// The exit status and the output of `--doctor`.
fn doctor(world: &World, home: &Path, arguments: &[&str]) -> (i32, String) {
    let mut command = world.program_itself();
    command.arg("--home").arg(home).arg("--doctor").args(arguments);
    let output = command.output().unwrap();
    assert_eq!(text(&output.stderr), "");
    (output.status.code().unwrap(), text(&output.stdout))
}

fn run(world: &World, arguments: &[&str]) {
    let output = world.program_itself().args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
}

fn has(said: &(i32, String), status: i32, parts: &[&str]) {
    assert_eq!(said.0, status, "{}", said.1);
    for part in parts {
        assert!(said.1.contains(part), "no {part:?} in {}", said.1);
    }
}

#[test]
fn beside_its_server_a_home_is_fine_and_is_left_as_it_was() {
    let world = World::with_fresh_home();
    let server = Server::start_as(world.program_itself(), &["--inbox", "durable"]);
    let names = || {
        let mut names: Vec<_> =
            fs::read_dir(world.home()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let before = names();
    let address = format!("127.0.0.1:{}", server.port);
    let said = doctor(&world, &world.home(), &["--server", &address]);
    let fine = [
        &*format!("ok       server        {address} answers as localhost"),
        &*format!("ok       clock         this host's clock agrees with that of {address}"),
        "ok       databases     inbox.db is sound, with 0 messages",
        "nothing is wrong",
    ];
    has(&said, 0, &fine);
    assert_eq!(names(), before);
    let said = doctor(&world, &world.home(), &["--json", "--server", &address]);
    has(&said, 0, &["\"kind\":\"server\",\"errors\":0"]);
}

#[test]
fn each_cause_for_which_tls_fails_is_named() {
    let world = World::with_fresh_home();
    let (home, other) = (world.home(), World::with_fresh_home());
    run(&world, &["--certs", "--name", "peer1"]);
    let mut server = Server::start_as(world.program_itself(), &[]);
    let address = format!("127.0.0.1:{}", server.port);
    let at = ["--server", &*address];

    let said = doctor(&world, &home, &[&at[..], &["--name", "elsewhere.example"]].concat());
    let named =
        ["the certificate of the server `elsewhere.example` is for localhost, 127.0.0.1, ::1"];
    has(&said, 1, &named);
    has(&said, 1, &["use a name that the certificate is for"]);
    senders_say(&world, &server, &home, &["--name", "elsewhere.example"], named[0]);

    let said = doctor(&world, &other.home(), &at);
    has(
        &said,
        1,
        &["was not issued by this home's authority", "use the web-ipc-ca.crt of the home"],
    );

    let other_home = other.home();
    senders_say(&world, &server, &other_home, &[], "was not issued by this home's authority");

    // The server sees the client's certificate, of an authority that it does not trust.
    let stranger = world.folder().join("stranger");
    fs::create_dir(&stranger).unwrap();
    for file in fs::read_dir(other.home()).unwrap() {
        let file = file.unwrap().path();
        if file.is_file() {
            fs::copy(&file, stranger.join(file.file_name().unwrap())).unwrap();
        }
    }
    fs::copy(home.join("web-ipc-ca.crt"), stranger.join("web-ipc-ca.crt")).unwrap();
    assert!(Command::new("chmod").arg("700").arg(&stranger).status().unwrap().success());
    let said = doctor(&world, &stranger, &at);
    let named = "it was not issued by the authority that the server trusts";
    has(&said, 1, &["localhost.crt was not issued by the authority in web-ipc-ca.crt", named]);
    senders_say(&world, &server, &stranger, &[], named);
    server.wait_for_log("was not issued by this home's authority");

    run(&world, &["--certs", "--revoke", "peer1"]);
    server.wait_for_log("1 revoked");
    let said = doctor(&world, &home, &[&at[..], &["--identity", "peer1"]].concat());
    has(&said, 1, &["the certificate of peer1 was revoked", "it has been revoked"]);
    senders_say(&world, &server, &home, &["--identity", "peer1"], "it has been revoked");
    server.wait_for_log("the client's certificate was revoked");

    let said = doctor(&world, &home, &[&at[..], &["--protocol", "http"]].concat());
    has(&said, 1, &["give --protocol https"]);
    server.stop();
    let said = doctor(&world, &home, &at);
    has(&said, 1, &["no connection to"]);
}

#[test]
fn an_enrolled_client_needs_no_option() {
    let world = World::with_fresh_home();
    let server = Server::start_as(world.program_itself(), &[]);
    let address = format!("127.0.0.1:{}", server.port);
    let (bundle, client) = (world.folder().join("bundle"), world.folder().join("client"));
    let create = world
        .program_itself()
        .args(["--enrol", "--create", "--name", "worker1", "--server", &address, "--out"])
        .arg(&bundle)
        .output()
        .unwrap();
    let log = text(&create.stderr);
    let code = log.lines().find_map(|line| line.strip_prefix("Code: ")).unwrap();
    let mut accept = world.program_itself();
    accept.arg("--home").arg(&client).args(["--enrol", "--accept"]).arg(&bundle);
    let accepted = accept.env("WEB_IPC_CODE", code).output().unwrap();
    assert!(accepted.status.success(), "{}", text(&accepted.stderr));
    let said = doctor(&world, &client, &[]);
    has(&said, 0, &["is the home of a client of localhost", "accepts the certificate worker1"]);
    fs::remove_file(client.join("worker1.key")).unwrap();
    let said = doctor(&world, &client, &[]);
    has(&said, 1, &["error    certificates", "error    server"]);
    assert!(!said.1.contains(code));
}

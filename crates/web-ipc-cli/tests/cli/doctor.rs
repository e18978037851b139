//! `--doctor` beside a running server: what is fine, and each cause for which TLS fails.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use ipc_home::Home;
use ipc_setup::{InitOptions, Ring, list_keys};

use crate::run::World;
use crate::server::{Server, client, text};

/// Checks that `--send` and `--request` name the same cause, in the line that ends them.
fn senders_say(world: &World, server: &Server, home: &Path, options: &[&str], cause: &str) {
    for command in ["--send", "--request"] {
        let home = home.to_str().unwrap();
        let arguments = [&["--home", home, command, "{}"], options].concat();
        let output = client(world, server, &arguments, "");
        assert_eq!(output.status.code(), Some(77), "{command}");
        let log = text(&output.stderr);
        assert!(log.contains(cause), "{command}: no {cause:?} in {log}");
    }
}

/// The exit status and the output of `--doctor`.
fn doctor(world: &World, home: &Path, arguments: &[&str]) -> (i32, String) {
    let mut command = world.program_itself();
    command.arg("--home").arg(home).arg("--doctor").args(arguments);
    let output = command.output().unwrap();
    // Where all processors are busy, a login takes long and says so.
    let is_quiet = |line: &str| line.contains("waiting for the login");
    assert!(text(&output.stderr).lines().all(is_quiet), "{}", text(&output.stderr));
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
    let renew = format!("run web-ipc --home {} --certs --renew --name peer1", home.display());
    has(&said, 1, &[&format!("{renew}, or remove peer1.crt and peer1.key where nobody uses them")]);
    let cause = format!("it has been revoked; {renew}");
    senders_say(&world, &server, &home, &["--identity", "peer1"], &cause);
    server.wait_for_log("the client's certificate was revoked");

    let said = doctor(&world, &home, &[&at[..], &["--protocol", "http"]].concat());
    has(&said, 1, &["give --protocol https"]);
    server.stop();
    let said = doctor(&world, &home, &at);
    has(&said, 1, &["no connection to"]);
}

/// How often an enrolment logs in: with the key that travelled, and with that of its own.
const LOGINS_OF_ENROLMENT: usize = 2;

/// How many logins a server's log has.
fn logins(log: &str) -> usize {
    log.matches("\"POST /client/auth\"").count()
}

/// Enrols `worker1` at the server, and returns its home.
fn enrolled(world: &World, server: &Server) -> PathBuf {
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
    let log = text(&accepted.stderr);
    assert!(accepted.status.success() && !log.contains("re-authenticating"), "{log}");
    client
}

#[test]
fn an_enrolled_client_needs_no_option() {
    let world = World::with_fresh_home();
    let server = Server::start_as(world.program_itself(), &[]);
    let client = enrolled(&world, &server);
    let said = doctor(&world, &client, &[]);
    has(&said, 0, &["is the home of a client of localhost", "accepts the certificate worker1"]);
    let login = format!("ok       login         127.0.0.1:{} lets worker1 in", server.port);
    has(&said, 0, &[&login]);
    fs::remove_file(client.join("worker1.key")).unwrap();
    let said = doctor(&world, &client, &[]);
    has(&said, 1, &["error    certificates", "error    server"]);
    has(&said, 1, &["login         not checked: no server answers at the addresses above"]);
}

#[test]
fn a_login_that_is_refused_comes_with_the_command_that_mends_it() {
    let world = World::with_fresh_home();
    let mut server = Server::start_as(world.program_itself(), &[]);
    let client = enrolled(&world, &server);
    let (port, users) = (server.port.clone(), |arguments: &[&str]| {
        run(&world, &[&["--users"][..], arguments].concat());
    });
    run(&world, &["--certs", "--name", "other"]);

    users(&["--bind", "worker1", "--cert", "other"]);
    let said = doctor(&world, &client, &[]);
    let bound = format!(
        "error    login         127.0.0.1:{port} does not let worker1 in with the certificate \
         worker1: the user is bound to another one"
    );
    has(&said, 1, &[&bound, "run web-ipc --users --bind worker1 --cert worker1"]);
    users(&["--bind", "worker1", "--cert", "worker1"]);

    users(&["--disable", "--user", "worker1"]);
    let said = doctor(&world, &client, &[]);
    let refused = format!(
        "error    login         127.0.0.1:{port} does not let worker1 in: the user is unknown or \
         disabled, or has another password than client.cred"
    );
    has(&said, 1, &[&refused, "web-ipc --users --enable --user worker1 if it is disabled"]);
    users(&["--enable", "--user", "worker1"]);
    has(&doctor(&world, &client, &[]), 0, &["lets worker1 in"]);

    users(&["--change", "--user", "worker1", "--password", "another"]);
    has(&doctor(&world, &client, &["--json"]), 1, &["\"code\":\"credentials_refused\""]);

    fs::remove_file(client.join("client.cred")).unwrap();
    let said = doctor(&world, &client, &[]);
    has(&said, 1, &["login         not checked: the home has no client.cred"]);

    // One login of each of the four doctors that had credentials.
    assert_eq!(logins(&server.stop()), LOGINS_OF_ENROLMENT + 4);
}

#[test]
fn an_enrolled_client_that_is_refused_is_told_how_it_is_enrolled_anew() {
    let world = World::with_fresh_home();
    let mut server = Server::start_as(world.program_itself(), &[]);
    let client = enrolled(&world, &server);
    let anew = format!(
        "have whoever runs the server run web-ipc --enrol --cancel worker1 and web-ipc --enrol \
         --create --name worker1, then move this home aside and run web-ipc --home {} --enrol \
         --accept BUNDLE",
        client.display()
    );
    let told = |cause: &str| {
        for (arguments, status) in [(&["--send", "{}"][..], 77), (&["--certs", "--renew"], 1)] {
            let mut command = world.program_itself();
            let output = command.arg("--home").arg(&client).args(arguments).output().unwrap();
            let log = text(&output.stderr);
            assert_eq!(output.status.code(), Some(status), "{log}");
            assert!(log.contains(cause) && log.contains(&anew), "{cause}: {arguments:?}: {log}");
        }
        has(&doctor(&world, &client, &[]), 1, &[&anew]);
    };
    // Its key is dropped.
    let listed = list_keys(&Home::at(world.home()), Ring::Envelope).unwrap();
    run(&world, &["--keys", "--rotate"]);
    server.wait_for_log("the server uses 2 envelope keys");
    run(&world, &["--keys", "--drop", &listed[0].id.to_string(), "--force"]);
    // It had one before, and may have said so.
    server.wait_for_log_again("the server uses 1 envelope key,");
    told("malformed_envelope");
    // Its certificate is revoked.
    run(&world, &["--certs", "--revoke", "worker1"]);
    server.wait_for_log("1 envelope key, 1 authority, 2 revoked");
    told("it has been revoked");
}

#[test]
fn of_several_addresses_one_has_a_login() {
    let world = World::with_fresh_home();
    let mut server = Server::start_as(world.program_itself(), &[]);
    let client = enrolled(&world, &server);
    let port = &server.port;
    let addresses = format!("127.0.0.1:1,127.0.0.1:{port},localhost:{port}");
    let said = doctor(&world, &client, &["--server", &addresses]);
    let login = format!("ok       login         127.0.0.1:{port} lets worker1 in");
    has(&said, 1, &["127.0.0.1:1: no connection to", &login]);
    assert_eq!(said.1.matches("answers as localhost").count(), 2, "{}", said.1);
    assert_eq!(logins(&server.stop()), LOGINS_OF_ENROLMENT + 1);
}

#[test]
fn a_certificate_that_has_expired_is_told_and_so_is_that_the_server_refuses_it() {
    const DAY: u64 = 24 * 60 * 60;
    let world = World::new(None);
    let now = InitOptions::now().now_secs;
    // Made so long ago that its certificate has expired, and its authority has not.
    let options = InitOptions { now_secs: now - 400 * DAY, ..InitOptions::now() };
    let old = ipc_setup::init(&world.folder().join("old"), &options).unwrap().home;
    let old = old.root();
    let (servers, shown) = (world.folder().join("servers"), old.display().to_string());
    assert!(Command::new("cp").arg("-a").args([old, &servers]).status().unwrap().success());
    let said = doctor(&world, old, &[]);
    let renew = format!("run web-ipc --home {shown} --certs --renew --name localhost");
    has(&said, 1, &["error    certificates  the certificate of localhost expired 3", &renew]);
    assert!(doctor(&world, old, &["--json"]).1.contains("\"code\":\"expired\""));

    // A server renews its own before it starts.
    let mut program = world.program_itself();
    program.arg("--home").arg(&servers);
    let server = Server::start_as(program, &[]);
    let address = format!("127.0.0.1:{}", server.port);
    let said = doctor(&world, old, &["--server", &address]);
    let refused = format!("by the server's clock it has expired or is not valid yet; {renew}");
    senders_say(&world, &server, old, &[], &refused);
    let refused = "by the server's clock it has expired or is not valid yet";
    has(&said, 1, &["error    server", refused, "warning  clock         this host's clock says "]);
}

#[test]
fn a_clock_that_is_off_is_told_with_the_direction() {
    let world = World::with_fresh_home();
    for (server_has, said_of_this_host) in [("+1 hour", "behind"), ("-1 hour", "ahead of")] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let form = "+%a, %d %b %Y %H:%M:%S GMT";
        let mut date = Command::new("date");
        let date = date.env("LC_ALL", "C").args(["-u", "-d", server_has, form]).output().unwrap();
        let answer = format!(
            "HTTP/1.1 200 OK\r\nDate: {}\r\nContent-Type: text/plain; charset=utf-8\r\n\
             Content-Length: 21\r\n\r\nWeb-Server is running",
            text(&date.stdout).trim()
        );
        // A server of another host, whose clock is not this one's.
        let serving = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let _head = lines.find(|line| line.as_ref().unwrap().is_empty());
            stream.write_all(answer.as_bytes()).unwrap();
        });
        let said =
            doctor(&world, &world.home(), &["--protocol", "http", "--server", &address, "--json"]);
        serving.join().unwrap();
        let direction = format!("seconds {said_of_this_host} that of {address}, and messages are");
        has(&said, 1, &["\"code\":\"clock_wrong\"", &direction, "timedatectl set-ntp true"]);
        let seconds = said.1.split("this host's clock is ").nth(1).unwrap();
        let seconds: u64 = seconds.split(' ').next().unwrap().parse().unwrap();
        assert!((3590..=3610).contains(&seconds), "{}", said.1);
    }
}

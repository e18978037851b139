//! Certificates that a running command renews by itself: those of a server's home, and that of an
//! enrolled client over the line.
//!
//! The homes were made 20 days ago. What is due was issued then for 25 days.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::channel;

use ipc_home::Home;
use ipc_setup::{
    CertificateRequest, EnrolRequest, InitOptions, accept_enrolment, create_enrolment, init,
    issue_certificate, list_certificates,
};

use crate::run::World;
use crate::server::{Server, client, text};

const DAY_SECS: u64 = 86_400;

/// The begin of the line that says that a renewal failed.
const FAILED: &str = "a certificate that has less than a third of its life left was not renewed: ";

fn now_secs() -> u64 {
    InitOptions::now().now_secs
}

fn then_secs() -> u64 {
    now_secs() - 20 * DAY_SECS
}

/// A world with the home of a server.
fn world() -> (World, Home) {
    let world = World::new(None);
    let options = InitOptions { now_secs: then_secs(), ..InitOptions::now() };
    let home = init(&world.home(), &options).unwrap().home;
    (world, home)
}

/// Replaces the pair `localhost` by one that was issued 20 days ago.
fn issue(home: &Home, validity_days: u32) {
    let request = CertificateRequest {
        validity_days,
        force: true,
        ..CertificateRequest::new("localhost", then_secs())
    };
    issue_certificate(home, &request).unwrap();
}

/// The home of a client of the server whose certificate is due.
fn enrol(world: &World, server: &Server, name: &str) -> PathBuf {
    let addresses = [format!("127.0.0.1:{}", server.port)];
    let request =
        EnrolRequest { validity_days: 25, ..EnrolRequest::new(name, &addresses, then_secs()) };
    let bundle = create_enrolment(&Home::at(world.home()), &request).unwrap();
    let path = world.folder().join(name);
    accept_enrolment(&path, &bundle.text, &bundle.code, then_secs()).unwrap();
    path
}

/// A command in the home of a client.
fn command(world: &World, home: &Path, arguments: &[&str]) -> Command {
    let mut command = world.program_itself();
    command.env("WEB_IPC_HOME", home).args(arguments);
    command
}

fn send_one(world: &World, home: &Path) -> Output {
    let sent = command(world, home, &["--send", r#"{"one":1}"#]).output().unwrap();
    assert!(sent.status.success(), "{}", text(&sent.stderr));
    assert!(text(&sent.stdout).starts_with("1 sent, 0 duplicates, 0 refused"), "{sent:?}");
    sent
}

/// Whether the certificate of a pair is due.
fn is_due(home: &Home) -> bool {
    list_certificates(home).unwrap().due(now_secs()).count() > 0
}

#[test]
fn a_server_renews_its_certificate_before_it_listens_also_one_that_has_expired() {
    for validity_days in [25, 10] {
        let (world, home) = world();
        issue(&home, validity_days);
        assert!(is_due(&home));
        let mut server = Server::start(&world, &[]);
        let log = &server.log_so_far;
        let (renewed, listens) =
            (log.find("renewed the certificate of localhost"), log.find("Listening"));
        assert!(renewed.is_some() && renewed < listens, "{log}");
        assert!(!is_due(&home));
        let sent = client(&world, &server, &["--send", "{}"], "");
        assert!(sent.status.success(), "{}", text(&sent.stderr));
        let log = server.stop();
        assert_eq!(log.matches("renewed the certificate").count(), 1, "{log}");
    }
}

#[test]
fn a_server_without_the_key_of_the_authority_names_what_to_do_when_something_is_due() {
    let (world, home) = world();
    std::fs::rename(home.ca_key_file(), world.folder().join("kept-elsewhere.key")).unwrap();
    let mut server = Server::start(&world, &[]);
    assert!(!server.stop().contains("renew"));
    std::fs::rename(world.folder().join("kept-elsewhere.key"), home.ca_key_file()).unwrap();
    issue(&home, 25);
    std::fs::remove_file(home.ca_key_file()).unwrap();
    let mut server = Server::start(&world, &[]);
    let sent = client(&world, &server, &["--send", "{}"], "");
    assert!(sent.status.success(), "{}", text(&sent.stderr));
    let log = server.stop();
    assert!(log.contains("the certificate of localhost expires in "), "{log}");
    assert!(log.contains(" days and cannot be renewed here"), "{log}");
    assert!(log.contains("run web-ipc --certs --renew --name localhost in the home"), "{log}");
}

#[test]
fn a_server_that_cannot_renew_serves_on_and_says_what_to_do() {
    let (world, home) = world();
    issue(&home, 25);
    // Not even root can write a file where a directory is.
    std::fs::remove_file(home.lock_file()).unwrap();
    std::fs::create_dir(home.lock_file()).unwrap();
    let mut server = Server::start(&world, &[]);
    let sent = client(&world, &server, &["--send", "{}"], "");
    assert!(sent.status.success(), "{}", text(&sent.stderr));
    let log = server.stop();
    assert!(log.contains(FAILED) && log.contains(".lock"), "{log}");
    assert!(log.contains("or run web-ipc --certs --renew --due"), "{log}");
}

#[test]
fn a_short_send_and_a_request_renew_at_their_end_and_only_what_is_due() {
    let (world, _home) = world();
    let mut server = Server::start(&world, &["--exec", "echo '{}'"]);
    let home = enrol(&world, &server, "worker1");
    let sent = send_one(&world, &home);
    assert!(text(&sent.stderr).contains("renewed the certificate of worker1, until "), "{sent:?}");
    assert!(!is_due(&Home::at(&home)));
    assert!(!text(&send_one(&world, &home).stderr).contains("renew"));

    let home = enrol(&world, &server, "worker2");
    let asked = command(&world, &home, &["--request", "{}"]).output().unwrap();
    assert_eq!((text(&asked.stdout).as_str(), asked.status.code()), ("{}\n", Some(0)), "{asked:?}");
    assert!(text(&asked.stderr).contains("renewed the certificate of worker2"), "{asked:?}");
    server.stop();
}

#[test]
fn a_long_send_renews_while_it_sends_and_loses_and_doubles_nothing() {
    let (world, _home) = world();
    let mut server = Server::start(&world, &[]);
    let mut arriving = server.lines();
    let home = enrol(&world, &server, "worker1");
    let mut sender = command(&world, &home, &["--send"]);
    sender.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut sender = sender.spawn().unwrap();
    let (telling, told) = channel();
    let log = BufReader::new(sender.stderr.take().unwrap());
    std::thread::spawn(move || {
        for line in log.lines() {
            // The test may have ended.
            let _ = telling.send(line.unwrap());
        }
    });
    let mut input = sender.stdin.take().unwrap();
    let (mut sent, mut log) = (0, String::new());
    let mut left = 100;
    while left > 0 {
        sent += 1;
        writeln!(input, "{{\"n\":{sent}}}").unwrap();
        let mut line = String::new();
        arriving.read_line(&mut line).unwrap();
        assert!(line.contains(&format!("{{\"n\":{sent}}}")), "{line}\n{log}");
        log.extend(told.try_iter().flat_map(|line| [line, "\n".to_owned()]));
        left -= i32::from(log.contains("renewed the certificate of worker1"));
    }
    drop(input);
    let ended = sender.wait_with_output().unwrap();
    // A message whose answer was lost with the old connection counts as a duplicate here, and has
    // arrived once.
    let tally = text(&ended.stdout);
    let is_whole = tally.starts_with(&format!("{sent} sent, ")) && tally.contains(", 0 refused");
    assert!(is_whole, "{tally}\n{log}");
    assert!(ended.status.success() && !is_due(&Home::at(&home)), "{log}");
    server.stop();
    let mut rest = String::new();
    assert_eq!(arriving.read_line(&mut rest).unwrap(), 0, "twice: {rest}");
}

#[test]
fn a_send_goes_on_where_the_renewal_is_refused_and_says_what_to_do() {
    let (world, server_home) = world();
    let mut server = Server::start(&world, &[]);
    let said = |home: &Path, part: &str| {
        let sent = send_one(&world, home);
        let log = text(&sent.stderr);
        assert!(log.contains(FAILED) && log.contains(part), "{part}: {log}");
        assert!(log.contains("or run web-ipc --certs --renew --due"), "{log}");
        assert!(is_due(&Home::at(home)));
    };
    let home = enrol(&world, &server, "worker1");
    // Somebody else has accepted the bundle.
    let enrolment = server_home.enrolments_dir().join("worker1.json");
    let mut noted: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&enrolment).unwrap()).unwrap();
    noted["accepted_key"] = "0".repeat(64).into();
    std::fs::write(&enrolment, noted.to_string()).unwrap();
    said(&home, "renewal_refused");

    // The disk cannot be written: not even root can write a file where a directory is.
    let home = enrol(&world, &server, "worker2");
    std::fs::create_dir(home.join(".renewal.lock")).unwrap();
    said(&home, "remove ");

    // The server has no key of the authority.
    let home = enrol(&world, &server, "worker3");
    std::fs::remove_file(server_home.ca_key_file()).unwrap();
    said(&home, "web-ipc-ca.key");
    server.stop();
}

#[test]
fn who_was_revoked_is_refused_once_and_not_told_twice() {
    let (world, _home) = world();
    let mut server = Server::start(&world, &[]);
    let home = enrol(&world, &server, "worker1");
    let revoked = world.program_itself().args(["--certs", "--revoke", "worker1"]).output().unwrap();
    assert!(revoked.status.success(), "{revoked:?}");
    server.wait_for_log("1 revoked");
    let sent = command(&world, &home, &["--send", "{}"]).output().unwrap();
    let log = text(&sent.stderr);
    assert_eq!(sent.status.code(), Some(77), "{log}");
    assert!(log.contains("revoked") && !log.contains(FAILED), "{log}");
    server.stop();
}

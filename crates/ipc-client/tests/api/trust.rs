//! Certificates: who trusts whom, and that the client does not retry where that cannot help.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use ipc_client::{CertificateProblem, Client, Outcome, SendError, Speaks};
use ipc_pki::{LeafRequest, Usages};
use rustls::version::{TLS12, TLS13};
use serde_json::json;

use crate::fake::{Fake, Plan, success, with_session};
use crate::fixture::{DAY_SECS, Place, issue, now_secs, server_config};

fn distrusted(error: SendError) -> CertificateProblem {
    assert_eq!(error.outcome(), Outcome::NeverArrived);
    assert!(error.remedy().is_some());
    match error {
        SendError::ServerNotTrusted { name, reason, .. } if name == "localhost" => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_server_of_another_authority_is_not_trusted_and_not_tried_again() {
    let place = Place::new();
    let stranger = Place::new();
    let fake = Fake::tls(stranger.tls(), with_session(|_| success()));
    let before = Instant::now();
    let error = place.client(&fake).send(&json!({})).wait().unwrap_err();
    assert_eq!(distrusted(error), CertificateProblem::UnknownAuthority);
    assert_eq!((fake.connections(), fake.seen().len()), (1, 0));
    assert!(before.elapsed() < Duration::from_secs(5));

    let error = place.client(&fake).is_running().unwrap_err();
    assert_eq!(distrusted(error), CertificateProblem::UnknownAuthority);
}

#[test]
fn what_is_wrong_with_a_servers_certificate_is_told() {
    let place = Place::new();
    let other_name = issue(&place.authority, "elsewhere", now_secs());
    let expired = issue(&place.authority, "localhost", now_secs() - 400 * DAY_SECS);
    let tomorrow_secs = now_secs() + DAY_SECS;
    let not_yet = issue(&place.authority, "localhost", tomorrow_secs);
    let mut for_clients = LeafRequest::new("localhost".parse().unwrap());
    for_clients.usages = Usages::Client;
    let for_clients = place.authority.issue(&for_clients, now_secs()).unwrap();
    // Every certificate is backdated by five minutes.
    let (expired_at, valid_from) = (expired.not_after_secs, tomorrow_secs - 300);
    for (pair, wanted) in [
        (other_name, CertificateProblem::WrongName { presented: vec!["elsewhere".into()] }),
        (expired, CertificateProblem::Expired { not_after_secs: Some(expired_at) }),
        (not_yet, CertificateProblem::NotValidYet { not_before_secs: Some(valid_from) }),
        (for_clients, CertificateProblem::NotForServers),
    ] {
        let fake = Fake::tls(place.tls_as(&pair), with_session(|_| success()));
        let reason = distrusted(place.client(&fake).send(&json!({})).wait().unwrap_err());
        assert_eq!(reason, wanted);
        assert_eq!((fake.connections(), fake.seen().len()), (1, 0), "{wanted:?}");
    }
}

#[test]
fn a_client_whose_certificate_is_refused_learns_it_at_once() {
    for version in [&TLS13, &TLS12] {
        let place = Place::new();
        let stranger = Place::new();
        let good = issue(&place.authority, "localhost", now_secs());
        let config = server_config(&good, Some(&place.authority), &[version]);
        for pair in [
            issue(&stranger.authority, "localhost", now_secs()),
            issue(&place.authority, "localhost", now_secs() - 400 * DAY_SECS),
        ] {
            place.present(&pair);
            // A small message, and one that is still being written when the refusal comes.
            for text in ["", &"x".repeat(4 << 20)] {
                let fake = Fake::tls(config.clone(), with_session(|_| success()));
                let before = Instant::now();
                let error = place.client(&fake).send(&json!({"text": text})).wait().unwrap_err();
                assert!(matches!(error, SendError::CertificateRefused { .. }), "{error:?}");
                assert_eq!(error.outcome(), Outcome::Refused);
                assert!(fake.seen().is_empty());
                assert!(fake.connections() <= 2, "{} connections", fake.connections());
                assert!(before.elapsed() < Duration::from_secs(5));
            }
        }
    }
}

#[test]
fn a_refusal_lost_in_a_reset_is_found_by_listening() {
    let place = Place::new();
    let stranger = Place::new();
    let good = issue(&place.authority, "localhost", now_secs());
    let strict = server_config(&good, Some(&stranger.authority), &[&TLS13]);
    let careless = server_config(&good, None, &[&TLS13]);
    let fake = Fake::start(
        0,
        move |connection| match connection {
            0 => Plan::ResetAfter(careless.clone()),
            _ => Plan::Tls(strict.clone()),
        },
        with_session(|_| success()),
    );
    let error = place.client(&fake).send(&json!({})).wait().unwrap_err();
    assert!(matches!(error, SendError::CertificateRefused { .. }), "{error:?}");
    assert_eq!((fake.connections(), fake.seen().len()), (2, 0));
}

#[test]
fn a_reset_that_was_no_refusal_is_tried_again() {
    let place = Place::new();
    let config = place.tls();
    let fake = Fake::start(
        0,
        move |connection| match connection {
            0 => Plan::ResetAfter(config.clone()),
            _ => Plan::Tls(config.clone()),
        },
        with_session(|_| success()),
    );
    place.client(&fake).send(&json!({})).wait().unwrap();
}

#[test]
fn both_tls_versions_carry_messages_and_only_http_1_is_spoken() {
    for version in [&TLS13, &TLS12] {
        let place = Place::new();
        let pair = issue(&place.authority, "localhost", now_secs());
        let config = server_config(&pair, Some(&place.authority), &[version]);
        let fake = Fake::tls(config, with_session(|_| success()));
        place.client(&fake).send(&json!({})).wait().unwrap();
        assert!(fake.seen().iter().all(|seen| seen.head.contains(" http/1.1\r\n")));
    }
}

#[test]
fn a_server_that_speaks_no_tls_is_given_up_at_once() {
    let place = Place::new();
    // The server answers a TLS handshake as an HTTP server does.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        use std::io::{Read, Write};
        let (mut tcp, _) = listener.accept().unwrap();
        let mut greeting = [0; 5];
        tcp.read_exact(&mut greeting).unwrap();
        tcp.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").unwrap();
        // Wait until the client has closed.
        let _ = std::io::copy(&mut tcp, &mut std::io::sink());
    });
    let client =
        Client::builder(&place.home).server("localhost", address).build().unwrap().blocking();
    let error = client.send(&json!({})).wait().unwrap_err();
    assert!(matches!(error, SendError::WrongProtocol { speaks: Speaks::NoTls, .. }), "{error:?}");
    assert!(error.to_string().ends_with(" does not speak TLS"), "{error}");
    assert_eq!(error.outcome(), Outcome::NeverArrived);
    assert_eq!(error.remedy(), Some(ipc_client::Remedy::CheckAddressOrUseHttp));
    server.join().unwrap();
}

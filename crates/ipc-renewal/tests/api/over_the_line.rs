//! Homes of enrolled clients, which their server renews.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use ipc_base::{CertificateIssuer as _, RenewalQuery};
use ipc_client::ProblemCode;
use ipc_client::blocking::Client;
use ipc_home::{Home, PeerName};
use ipc_renewal::{DueRenewals, RenewError, renew_due, renew_enrolled};
use ipc_setup::{
    HomeIssuer, RenewalTurn, RevocationReason, Ring, SetupError, begin_renewal,
    revoke_certificates, rotate_keys,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::{Value, json};

use crate::fixture::{Place, certificate, issued, now_secs};

fn client(home: &Home) -> Client {
    Client::builder(home).build().unwrap().blocking()
}

/// That a client of the home is served.
fn assert_served(home: &Home) {
    client(home).send(&json!({"still": "served"})).wait().unwrap();
}

fn assert_unavailable(error: &RenewError) {
    let RenewError::Send(refused) = error else { panic!("{error:?}") };
    assert_eq!(refused.code(), Some(ProblemCode::RenewalUnavailable));
    assert!(!error.is_refused() && error.remedy().is_some());
}

#[test]
fn a_due_certificate_is_renewed_while_messages_go_on_and_none_is_lost_or_doubled() {
    let place = Place::new();
    let server = place.serve();
    let home = place.enrol("worker1", &server);
    let before = certificate(&home, "worker1");
    let client = client(&home);
    let is_renewed = AtomicBool::new(false);
    let send = || {
        let mut sent = 0_u64;
        // Some go out after the renewal, by when the certificate of the bundle is revoked.
        let mut left = 50;
        while left > 0 {
            let numbers = sent..sent + 20;
            client.send_all(numbers.clone().map(|n| json!({"n": n}))).wait().unwrap();
            sent = numbers.end;
            left -= i32::from(is_renewed.load(Ordering::SeqCst));
        }
        client.send(&json!({"end": true})).wait().unwrap();
        sent
    };
    let receive = || {
        let mut arrived = HashMap::<u64, u32>::new();
        while let Some(delivery) = server.inbox().recv_blocking() {
            let body: Value = serde_json::from_str(delivery.body()).unwrap();
            delivery.ack_blocking().unwrap();
            match body["n"].as_u64() {
                Some(n) => *arrived.entry(n).or_default() += 1,
                None => break,
            }
        }
        arrived
    };
    let (sent, done, arrived) = thread::scope(|scope| {
        let (sending, receiving) = (scope.spawn(send), scope.spawn(receive));
        let done = renew_due(&home, now_secs());
        is_renewed.store(true, Ordering::SeqCst);
        (sending.join().unwrap(), done.unwrap(), receiving.join().unwrap())
    });
    let after = certificate(&home, "worker1");
    assert_eq!(done.renewed, std::slice::from_ref(&after));
    assert!(done.left.is_empty());
    assert_ne!(after.serial, before.serial);
    assert!(!after.is_due(now_secs()));
    assert_eq!(arrived.len() as u64, sent, "lost");
    assert!(arrived.values().all(|times| *times == 1), "twice");
    // The next look finds nothing due, and asks nobody.
    server.stop();
    assert_eq!(renew_due(&home, now_secs()).unwrap(), DueRenewals::default());
}

#[test]
fn of_many_at_once_one_renews_and_the_others_go_on() {
    let place = Place::new();
    let server = place.serve();
    let home = place.enrol("worker1", &server);
    let before = issued(&place.home);
    let turn = RenewalTurn::try_take(&home).unwrap().unwrap();
    assert_eq!(renew_due(&home, now_secs()).unwrap(), DueRenewals::default());
    assert_eq!(issued(&place.home), before, "another has the turn");
    drop(turn);
    let renewed: usize = thread::scope(|scope| {
        let all: Vec<_> =
            (0..8).map(|_| scope.spawn(|| renew_due(&home, now_secs()).unwrap())).collect();
        all.into_iter().map(|one| one.join().unwrap().renewed.len()).sum()
    });
    assert_eq!((renewed, issued(&place.home)), (1, before + 1));
    // Those that renew whether it is due or not take turns.
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| renew_enrolled(&home).unwrap());
        }
    });
    assert_eq!(issued(&place.home), before + 5);
    assert_served(&home);
}

#[test]
fn a_client_that_was_revoked_is_refused_for_good() {
    let place = Place::new();
    let server = place.serve();
    let home = place.enrol("worker1", &server);
    let before = certificate(&home, "worker1");
    revoke_certificates(&place.home, "worker1", RevocationReason::Unspecified, now_secs()).unwrap();
    // Until the server has taken up the list, its issuer refuses: it reads the files.
    let error = renew_due(&home, now_secs()).unwrap_err();
    assert!(error.is_refused() && error.remedy().is_some(), "{error:?}");
    assert_eq!(certificate(&home, "worker1"), before);
}

#[test]
fn beyond_fifty_certificates_a_day_a_client_follows_what_has_changed_all_the_same() {
    let place = Place::new();
    let server = place.serve();
    let home = place.enrol("worker1", &server);
    // As many more as fit into a day, of the certificate that the home has.
    let name = PeerName::parse("worker1").unwrap();
    let pem = std::fs::read(home.certificate_file(&name)).unwrap();
    let present = CertificateDer::from_pem_slice(&pem).unwrap();
    let csr = begin_renewal(&home).unwrap().csr_pem;
    let issuer = HomeIssuer::new(place.home.clone(), PeerName::parse("localhost").unwrap());
    let query = RenewalQuery::new(&present, "worker1", Some(&csr), now_secs());
    while issuer.renew(&query).unwrap().certificate_pem.is_some() {
        assert!(issued(&place.home) < 100, "it issues without end");
    }
    let before = (certificate(&home, "worker1"), issued(&place.home));

    rotate_keys(&place.home, Ring::Envelope, now_secs()).unwrap();
    let error = renew_due(&home, now_secs()).unwrap_err();
    assert!(matches!(&error, RenewError::TooOften { name } if name.as_str() == "worker1"));
    assert!(!error.is_refused() && error.remedy().is_some(), "{error:?}");
    // The server takes the new key up within a second, so that it may not have had it yet.
    loop {
        let renewed = renew_enrolled(&home).unwrap();
        assert!(!renewed.has_new_certificate);
        assert_eq!(renewed.settings.identity, name);
        if home.envelope_keys_one_by_one().unwrap().len() == 2 {
            break;
        }
    }
    assert_eq!((certificate(&home, "worker1"), issued(&place.home)), before);
    assert_served(&home);
}

#[test]
fn a_server_that_issues_nothing_leaves_the_certificate_in_use() {
    let place = Place::new();
    let without = place.serve_without_issuer();
    let home = place.enrol("worker1", &without);
    let before = certificate(&home, "worker1");
    assert_unavailable(&renew_due(&home, now_secs()).unwrap_err());
    // The same of a server from whose home the authority's key was taken away.
    let server = place.serve();
    std::fs::remove_file(place.home.ca_key_file()).unwrap();
    let copy = place.copy_for(&home, &server);
    assert_unavailable(&renew_due(&copy, now_secs()).unwrap_err());
    for home in [home, copy] {
        assert_eq!(certificate(&home, "worker1").serial, before.serial);
        assert_served(&home);
    }
}

#[test]
fn a_home_that_cannot_be_written_asks_for_no_certificate_and_is_served_on() {
    let place = Place::new();
    let server = place.serve();
    let home = place.enrol("worker1", &server);
    let before = (certificate(&home, "worker1"), issued(&place.home));
    // Not even root can write a file where a directory is.
    for obstacle in [".worker1.key.next", ".renewal.lock"] {
        let path = home.root().join(obstacle);
        // The lock is there since the first round.
        let _ = std::fs::remove_file(&path);
        std::fs::create_dir(&path).unwrap();
        let error = renew_due(&home, now_secs()).unwrap_err();
        assert!(matches!(error, RenewError::Setup(_)) && error.remedy().is_some(), "{error:?}");
        std::fs::remove_dir(&path).unwrap();
    }
    assert_eq!((certificate(&home, "worker1"), issued(&place.home)), before);
    assert_served(&home);
    assert_eq!(renew_due(&home, now_secs()).unwrap().renewed.len(), 1, "now it can be written");
}

#[test]
fn a_home_that_was_not_enrolled_has_nobody_to_ask() {
    let place = Place::new();
    let error = renew_enrolled(&place.home).unwrap_err();
    let is_not_enrolled = matches!(error, RenewError::Setup(SetupError::NotEnrolled { .. }));
    assert!(is_not_enrolled, "{error:?}");
}

//! The options of a client, and those that are refused before anything is sent.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use ipc_client::{BuildError, Client, Protocol, TIMEOUT_SECS_MAX};
use ipc_home::HomeError;
use serde_json::json;

use crate::fake::{Fake, Plan, success, with_session};
use crate::fixture::{Place, issue, now_secs};

#[test]
fn a_client_without_a_server_or_with_a_malformed_one_is_not_built() {
    let place = Place::new();
    assert!(matches!(Client::builder(&place.home).build(), Err(BuildError::NoServer)));
    for name in ["", "a b", "-", "a/b", "ü.example"] {
        let error =
            Client::builder(&place.home).server(name, "127.0.0.1:3000").build().unwrap_err();
        assert!(
            matches!(&error, BuildError::ServerName { name: told } if told == name),
            "{error:?}"
        );
    }
    for address in ["", "localhost", "localhost:0", "http://localhost:3000", "127.0.0.1"] {
        let error = Client::builder(&place.home).server("localhost", address).build().unwrap_err();
        assert!(matches!(&error, BuildError::Address { .. }), "{error:?}");
        assert!(error.remedy().unwrap().to_string().contains("127.0.0.1:3000"));
    }
}

#[test]
fn options_out_of_bounds_are_refused() {
    let place = Place::new();
    let builder = || Client::builder(&place.home).server("localhost", "127.0.0.1:3000");
    for deadline in [Duration::ZERO, Duration::from_secs(TIMEOUT_SECS_MAX + 1), Duration::MAX] {
        let error = builder().timeout(deadline).build().unwrap_err();
        assert!(matches!(error, BuildError::Timeout { .. }), "{error:?}");
    }
    assert!(builder().timeout(Duration::from_secs(TIMEOUT_SECS_MAX)).build().is_ok());
    for connections in [0, 1025, usize::MAX] {
        let error = builder().connections_max(connections).build().unwrap_err();
        assert!(matches!(error, BuildError::Connections { .. }), "{error:?}");
    }
}

#[test]
fn a_home_without_the_pair_says_how_to_make_it() {
    let place = Place::new();
    let builder = || Client::builder(&place.home).server("localhost", "127.0.0.1:3000");
    let error = builder().identity("testServer1").build().unwrap_err();
    assert!(matches!(error, BuildError::Home(HomeError::CertificateMissing { .. })), "{error:?}");
    assert!(error.remedy().unwrap().to_string().contains("new certificate for `testServer1`"));
    let error = builder().identity("../localhost").build().unwrap_err();
    assert!(matches!(error, BuildError::Identity { .. }), "{error:?}");
}

#[test]
fn a_pair_whose_halves_do_not_fit_is_refused() {
    let place = Place::new();
    let mut pair = issue(&place.authority, "localhost", now_secs());
    pair.key_pem = issue(&place.authority, "localhost", now_secs()).key_pem;
    place.present(&pair);
    let error =
        Client::builder(&place.home).server("localhost", "127.0.0.1:3000").build().unwrap_err();
    assert!(matches!(error, BuildError::Tls { .. }), "{error:?}");
}

#[test]
fn a_home_without_credentials_serves_a_client_that_brings_its_own() {
    let place = Place::new();
    std::fs::remove_file(place.home.admin_cred_file()).unwrap();
    let builder = || Client::builder(&place.home).server("localhost", "127.0.0.1:3000");
    assert!(matches!(builder().build(), Err(BuildError::Home(HomeError::FileMissing { .. }))));
    assert!(builder().credentials("test1", "pass321").build().is_ok());
}

#[test]
fn plain_http_stays_on_this_host_unless_told_otherwise() {
    let place = Place::new();
    let builder = |address: &str| {
        Client::builder(&place.home).server("localhost", address).protocol(Protocol::Http)
    };
    for address in ["192.0.2.1:3000", "0.0.0.0:3000", "[2001:db8::1]:3000", "example.com:3000"] {
        let error = builder(address).build().unwrap_err();
        assert!(matches!(error, BuildError::RemoteHttp { .. }), "{error:?}");
        assert!(builder(address).dangerously_allow_remote_http().build().is_ok());
    }
}

#[test]
fn plain_http_carries_the_same_sealed_frames_and_needs_no_certificate() {
    let place = Place::new();
    std::fs::remove_file(place.home.root().join("localhost.key")).unwrap();
    std::fs::remove_file(place.home.ca_certificate_file()).unwrap();
    let fake = Fake::start(0, |_| Plan::Plain, with_session(|_| success()));
    for address in [fake.address().to_string(), format!("localhost:{}", fake.address().port())] {
        let client = Client::builder(&place.home)
            .server("localhost", address)
            .protocol(Protocol::Http)
            .build()
            .unwrap()
            .blocking();
        client.send(&json!({"plain": true})).wait().unwrap();
        assert!(client.is_running().unwrap());
    }
    let last = fake.submits().pop().unwrap();
    assert_eq!(last.body, r#"{"plain":true}"#);
    assert_eq!(last.envelope[0], 0x80);
    assert_eq!(fake.logins().len(), 1, "the session is kept over http too");
}

#[test]
fn debug_shows_no_secret() {
    let place = Place::new();
    let builder = Client::builder(&place.home)
        .server("localhost", "127.0.0.1:3000")
        .credentials("test1", "hunter2");
    let shown = format!("{builder:?}{:?}", builder.clone().build().unwrap());
    assert!(shown.contains("127.0.0.1:3000") && !shown.contains("hunter2"), "{shown}");
}

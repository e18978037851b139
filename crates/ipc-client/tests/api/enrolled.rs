//! A client in the home of an enrolled one: what it need not be told.
#![allow(clippy::unwrap_used)]

use ipc_client::{BuildError, Client, CredentialsOrigin, Remedy, SendError};
use ipc_home::{ClientSettings, Credentials, HomeError};
use ipc_protocol::ProblemCode;
use serde_json::json;

use crate::fake::{Fake, problem, success, with_session};
use crate::fixture::{Place, issue, now_secs, ring};

const PASSWORD: &str = "the-password-of-worker1";

/// Makes the home of `place` that of the enrolled client `worker1` of the server at `address`.
fn enrol(place: &Place, address: &str) {
    std::fs::remove_file(place.home.admin_cred_file()).unwrap();
    for file in ["localhost.crt", "localhost.key"] {
        std::fs::remove_file(place.home.root().join(file)).unwrap();
    }
    place.present_as("worker1", &issue(&place.authority, "worker1", now_secs()));
    write_credentials(place, PASSWORD);
    place
        .home
        .write_client_settings(&ClientSettings {
            server: "localhost".parse().unwrap(),
            addresses: vec![address.to_owned()],
            identity: "worker1".parse().unwrap(),
            username: "worker1".to_owned(),
        })
        .unwrap();
}

fn write_credentials(place: &Place, password: &str) {
    let credentials = Credentials::new("worker1", password);
    let staged =
        place.home.stage_client_credentials(&ring(), &credentials, now_secs(), [7; 16]).unwrap();
    staged.commit().unwrap();
}

#[test]
fn an_enrolled_client_is_told_nothing_but_its_home() {
    let place = Place::new();
    let fake = Fake::tls(place.tls(), with_session(|_| success()));
    enrol(&place, &fake.address().to_string());
    Client::builder(&place.home).build().unwrap().blocking().send(&json!({})).wait().unwrap();
    let login = &fake.logins()[0];
    assert_eq!(login.body, format!(r#"{{"username":"worker1","password":"{PASSWORD}"}}"#));
}

#[test]
fn what_is_told_goes_before_what_the_home_says() {
    let place = Place::new();
    let fake = Fake::tls(place.tls(), with_session(|_| success()));
    enrol(&place, "127.0.0.1:1");
    let builder = || Client::builder(&place.home).server("localhost", fake.address());
    let client = builder().credentials("test1", "pass321").build().unwrap().blocking();
    client.send(&json!({})).wait().unwrap();
    assert_eq!(fake.logins()[0].body, r#"{"username":"test1","password":"pass321"}"#);
    let error = builder().identity("other").build().unwrap_err();
    assert!(matches!(error, BuildError::Home(HomeError::CertificateMissing { .. })), "{error:?}");
}

#[test]
fn a_home_that_says_something_odd_of_the_server_is_refused() {
    let place = Place::new();
    enrol(&place, "localhost");
    let error = Client::builder(&place.home).build().unwrap_err();
    assert!(matches!(error, BuildError::Address { .. }), "{error:?}");
    std::fs::write(place.home.client_settings_file(), "{").unwrap();
    let error = Client::builder(&place.home).build().unwrap_err();
    assert!(matches!(error, BuildError::Home(HomeError::BadClientSettings { .. })), "{error:?}");
    assert!(error.remedy().is_some());
}

#[test]
fn an_enrolled_client_whose_credentials_are_gone_is_not_taken_for_the_admin() {
    let place = Place::new();
    enrol(&place, "127.0.0.1:1");
    let admin = Credentials::new("ipc-admin", "secret");
    place.home.write_admin_credentials(&admin, now_secs(), [8; 16]).unwrap();
    std::fs::remove_file(place.home.client_cred_file()).unwrap();
    let error = Client::builder(&place.home).build().unwrap_err();
    assert!(
        matches!(&error, BuildError::Home(HomeError::FileMissing { path }) if *path == place.home.client_cred_file()),
        "{error:?}"
    );
}

#[test]
fn an_enrolled_client_that_is_not_known_any_more_is_told_to_enrol_anew() {
    let place = Place::new();
    let refuse = |code| move |_: &crate::fake::Seen| problem(code, "");
    let fake = Fake::tls(place.tls(), move |seen| match seen.is_login() {
        true => refuse(ProblemCode::BadCredentials)(seen),
        false => refuse(ProblemCode::SessionExpired)(seen),
    });
    enrol(&place, &fake.address().to_string());
    let client = Client::builder(&place.home).build().unwrap().blocking();
    // What the server refuses is looked up again first.
    write_credentials(&place, "another");
    let error = client.send(&json!({})).wait().unwrap_err();
    assert!(
        matches!(&error, SendError::BadCredentials { username, origin: CredentialsOrigin::ClientCred } if username == "worker1"),
        "{error:?}"
    );
    assert_eq!(error.remedy(), Some(Remedy::EnrolAnew));
    assert_eq!(fake.logins().len(), 2);
    assert!(fake.logins()[1].body.contains("another"));
}

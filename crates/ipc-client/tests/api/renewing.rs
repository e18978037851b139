//! Renewals: what is asked for, what comes back, and what a client does when it does not come.
#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ipc_client::{Outcome, ProblemCode, Remedy, SendError};
use ipc_protocol::CSR_PEM_BYTES_MAX;

use crate::fake::{Answer, Fake, TOKEN, problem, replied, with_session};
use crate::fixture::Place;
use crate::logged;

/// A secret that no log may show.
const RENEWED_KEY: &str = "the-text-of-a-renewed-key";

const CSR: &str = "-----BEGIN CERTIFICATE REQUEST-----\nMA==\n-----END CERTIFICATE REQUEST-----\n";

fn reply(certificate: &str) -> String {
    format!(
        r#"{{{certificate}"authorities":"A","envelope_keys":["{RENEWED_KEY}","old"],"server":"localhost","addresses":["192.0.2.1:3000"],"later":1}}"#
    )
}

fn renewed(seen: &crate::fake::Seen) -> Answer {
    match seen.body.contains("BEGIN") {
        true => replied(seen, "", &reply(r#""certificate":"C","#)),
        false => replied(seen, "", &reply("")),
    }
}

fn renewals(fake: &Fake) -> Vec<crate::fake::Seen> {
    fake.seen().into_iter().filter(|seen| seen.path == "/client/renew").collect()
}

#[test]
fn a_renewal_goes_sealed_with_a_session_and_brings_what_the_server_has() {
    let place = Place::new();
    let fake = Fake::tls(place.tls(), with_session(renewed));
    let client = place.client(&fake);
    let renewal = client.renew(Some(CSR)).wait().unwrap();
    assert_eq!(renewal.certificate_pem.as_deref(), Some("C"));
    assert_eq!(renewal.authorities_pem, "A");
    let keys: Vec<_> = renewal.envelope_keys.iter().map(|key| key.as_str()).collect();
    assert_eq!(keys, [RENEWED_KEY, "old"]);
    assert_eq!(
        (renewal.server.as_str(), renewal.addresses),
        ("localhost", vec!["192.0.2.1:3000".to_owned()])
    );
    let asked = renewals(&fake).pop().unwrap();
    assert_eq!((asked.to.as_str(), asked.session.as_deref()), ("/client/renew", Some(TOKEN)));
    assert!(asked.body.contains("BEGIN CERTIFICATE REQUEST"), "{}", asked.body);

    let renewal = client.renew(None).wait().unwrap();
    assert_eq!(renewal.certificate_pem, None);
    assert_eq!(renewals(&fake).pop().unwrap().body, r#"{"csr":null}"#);
    assert_eq!(fake.logins().len(), 1);
}

#[test]
fn a_renewal_is_asked_for_again_until_the_server_answers() {
    let place = Place::new();
    let turn = AtomicUsize::new(0);
    let fake = Fake::tls(
        place.tls(),
        with_session(move |seen| match turn.fetch_add(1, Ordering::SeqCst) {
            0 => Answer::Close,
            1 => problem(ProblemCode::Unavailable, "retry-after: 0\r\n"),
            2 => problem(ProblemCode::SessionExpired, ""),
            _ => renewed(seen),
        }),
    );
    place.client(&fake).renew(Some(CSR)).wait().unwrap();
    assert_eq!(fake.logins().len(), 2, "at first, and after 419");
}

#[test]
fn a_session_that_is_refused_right_after_its_login_ends_it() {
    let place = Place::new();
    let fake = Fake::tls(place.tls(), with_session(|_| problem(ProblemCode::SessionExpired, "")));
    let error = place.client(&fake).renew(None).wait().unwrap_err();
    assert_eq!(error.code(), Some(ProblemCode::SessionExpired), "{error:?}");
    assert_eq!(fake.logins().len(), 1);
}

#[test]
fn a_refusal_is_told_with_its_code_and_not_asked_for_again() {
    let place = Place::new();
    for (code, remedy) in [
        (ProblemCode::RenewalRefused, Some(Remedy::EnrolAnew)),
        (ProblemCode::CertificateRevoked, Some(Remedy::ReplaceOwnCertificate { name: None })),
        (
            ProblemCode::RenewalUnavailable,
            Some("ask the server whose home has the key of the authority, web-ipc-ca.key".into()),
        ),
    ] {
        let fake = Fake::tls(place.tls(), with_session(move |_| problem(code, "")));
        let error = place.client(&fake).renew(Some(CSR)).wait().unwrap_err();
        assert!(
            matches!(error, SendError::Refused { code: Some(told), .. } if told == code),
            "{error:?}"
        );
        assert_eq!((error.outcome(), error.remedy()), (Outcome::Refused, remedy));
        assert_eq!(renewals(&fake).iter().filter(|seen| seen.session.is_some()).count(), 1);
    }
}

#[test]
fn an_answer_without_the_certificate_has_what_changed_and_one_without_keys_is_none() {
    let place = Place::new();
    let fake = Fake::tls(place.tls(), with_session(|seen| replied(seen, "", &reply(""))));
    let renewal = place.client(&fake).renew(Some(CSR)).wait().unwrap();
    assert_eq!((renewal.certificate_pem, renewal.envelope_keys.len()), (None, 2));

    let without =
        r#"{"authorities":"A","envelope_keys":[],"server":"localhost","addresses":["a"]}"#;
    let fake = Fake::tls(place.tls(), with_session(move |seen| replied(seen, "", without)));
    let error = place.client(&fake).renew(Some(CSR)).wait().unwrap_err();
    assert!(matches!(error, SendError::Unexpected { status: 200, .. }), "{error:?}");
}

#[test]
fn a_request_that_no_server_reads_is_not_sent() {
    let place = Place::new();
    let fake = Fake::tls(place.tls(), with_session(renewed));
    let long = "x".repeat(CSR_PEM_BYTES_MAX + 1);
    let error = place.client(&fake).renew(Some(&long)).wait().unwrap_err();
    assert!(matches!(error, SendError::TooLarge { bytes_max: CSR_PEM_BYTES_MAX, .. }), "{error:?}");
    assert!(fake.seen().is_empty());
}

#[test]
fn a_server_that_never_answers_is_given_up_in_time() {
    let place = Place::new();
    let fake = Fake::tls(place.tls(), with_session(|_| Answer::Hang));
    let call = place.client(&fake).renew(None).timeout(Duration::from_secs(2));
    let error = call.wait().unwrap_err();
    assert!(error.is_timeout() && error.outcome() == Outcome::NotKnown, "{error:?}");
}

#[test]
fn no_log_shows_a_renewed_key() {
    let place = Place::new();
    let fake = Fake::tls(place.tls(), with_session(renewed));
    logged::watch();
    let renewal = place.client(&fake).renew(Some(CSR)).wait().unwrap();
    let shown = format!("{renewal:?}{}", logged::so_far());
    assert!(shown.contains("logging in for the renewal"), "{shown}");
    assert!(!shown.contains(RENEWED_KEY), "a key is in the log");
}

//! Homes that have the key of their authority, or should.

use ipc_home::HomeError;
use ipc_renewal::{RenewError, renew_due};
use ipc_setup::{RevocationReason, SetupError, revoke_certificates};

use crate::fixture::{Place, certificate, now_secs};

#[test]
fn what_is_due_is_renewed_and_nothing_else_is_touched() {
    let place = Place::new();
    for name in ["due", "revoked"] {
        place.issue_due(name);
    }
    revoke_certificates(&place.home, "revoked", RevocationReason::Unspecified, now_secs()).unwrap();
    let before = ["due", "revoked", "localhost"].map(|name| certificate(&place.home, name));
    let done = renew_due(&place.home, now_secs()).unwrap();
    let after = ["due", "revoked", "localhost"].map(|name| certificate(&place.home, name));
    assert_eq!(done.renewed, after[..1]);
    assert!(done.left.is_empty());
    assert_ne!(after[0].serial, before[0].serial);
    assert!(after[0].days_left(now_secs()) >= 360);
    assert_eq!(after[1..], before[1..]);
    assert_eq!(renew_due(&place.home, now_secs()).unwrap(), Default::default());
}

#[test]
fn without_the_key_of_the_authority_what_is_due_is_named_and_left() {
    let place = Place::new();
    place.issue_due("due");
    std::fs::remove_file(place.home.ca_key_file()).unwrap();
    let done = renew_due(&place.home, now_secs()).unwrap();
    assert!(done.renewed.is_empty());
    assert_eq!(done.left, [certificate(&place.home, "due")], "and not what is not due");
}

#[test]
fn a_pair_of_another_authority_is_left_and_the_others_are_renewed() {
    let (place, other) = (Place::new(), Place::new());
    place.issue_due("own");
    other.issue_due("foreign");
    for file in ["foreign.crt", "foreign.key"] {
        std::fs::copy(other.home.root().join(file), place.home.root().join(file)).unwrap();
    }
    let foreign = certificate(&place.home, "foreign");
    let done = renew_due(&place.home, now_secs()).unwrap();
    assert_eq!(done.renewed, [certificate(&place.home, "own")]);
    assert_eq!(done.left, [foreign]);
}

#[test]
fn a_fault_of_the_home_changes_nothing_and_says_what_to_do() {
    let place = Place::new();
    place.issue_due("localhost");
    let before = certificate(&place.home, "localhost");
    let lock = place.home.lock_file();
    std::fs::remove_file(&lock).unwrap();
    std::fs::create_dir(&lock).unwrap();
    let error = renew_due(&place.home, now_secs()).unwrap_err();
    assert!(matches!(error, RenewError::Setup(SetupError::Lock { .. })), "{error:?}");
    assert!(error.remedy().is_some() && !error.is_refused());
    std::fs::remove_dir(&lock).unwrap();
    ipc_home::write_secret_atomically(&place.home.ca_key_file(), b"damaged").unwrap();
    let error = renew_due(&place.home, now_secs()).unwrap_err();
    assert!(matches!(error, RenewError::Setup(_)) && error.remedy().is_some(), "{error:?}");
    assert_eq!(certificate(&place.home, "localhost"), before);
    std::fs::write(place.home.ca_certificate_file(), "damaged").unwrap();
    let error = renew_due(&place.home, now_secs()).unwrap_err();
    let is_bad =
        matches!(error, RenewError::Setup(SetupError::Home(HomeError::BadCertificate { .. })));
    assert!(is_bad, "{error:?}");
}

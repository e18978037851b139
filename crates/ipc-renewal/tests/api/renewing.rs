//! The thread that keeps a home renewed.

use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use ipc_home::Home;
use ipc_renewal::Renewing;

use crate::fixture::{Place, certificate, now_secs};

/// Longer than a test runs.
const LATER: Duration = Duration::from_secs(60 * 60);

/// Longer than a renewal takes.
const LIMIT: Duration = Duration::from_secs(60);

/// What is told: the names of what was renewed and of what is left, or that it failed.
fn begin(home: &Home, first_after: Duration) -> (Renewing, Receiver<String>) {
    let (telling, told) = channel();
    let names = |all: &[ipc_renewal::ListedCertificate]| {
        all.iter().map(|one| one.name.clone()).collect::<Vec<_>>().join(",")
    };
    let renewing = Renewing::begin(home, first_after, move |looked| {
        let text = match looked {
            Ok(done) => format!("renewed {}, left {}", names(&done.renewed), names(&done.left)),
            Err(error) => format!("failed: {error}"),
        };
        telling.send(text).unwrap();
    });
    (renewing.unwrap(), told)
}

#[test]
fn the_first_look_renews_and_can_be_waited_for() {
    let place = Place::new();
    place.issue_due("localhost");
    let (renewing, told) = begin(&place.home, Duration::ZERO);
    assert!(renewing.wait_for_first(LIMIT));
    assert!(!certificate(&place.home, "localhost").is_due(now_secs()));
    renewing.finish();
    assert_eq!(told.iter().collect::<Vec<_>>(), ["renewed localhost, left "]);
}

#[test]
fn a_look_that_was_not_made_yet_is_made_at_the_end() {
    let place = Place::new();
    place.issue_due("localhost");
    let (renewing, told) = begin(&place.home, LATER);
    renewing.finish();
    assert_eq!(told.iter().collect::<Vec<_>>(), ["renewed localhost, left "]);
    assert!(!certificate(&place.home, "localhost").is_due(now_secs()));
}

#[test]
fn of_a_look_at_which_nothing_is_due_nothing_is_told() {
    let place = Place::new();
    let (renewing, told) = begin(&place.home, Duration::ZERO);
    assert!(renewing.wait_for_first(LIMIT));
    renewing.finish();
    assert_eq!(told.iter().count(), 0);
}

#[test]
fn one_that_is_dropped_looks_no_more() {
    let place = Place::new();
    place.issue_due("localhost");
    let (renewing, told) = begin(&place.home, LATER);
    drop(renewing);
    // The thread has ended once nobody can tell any more.
    assert_eq!(told.iter().count(), 0);
    assert!(certificate(&place.home, "localhost").is_due(now_secs()));
}

#[test]
fn faults_and_what_is_left_are_told() {
    let place = Place::new();
    place.issue_due("localhost");
    std::fs::remove_file(place.home.ca_key_file()).unwrap();
    let (renewing, told) = begin(&place.home, Duration::ZERO);
    renewing.finish();
    assert_eq!(told.iter().collect::<Vec<_>>(), ["renewed , left localhost"]);
    std::fs::write(place.home.ca_certificate_file(), "damaged").unwrap();
    let (renewing, told) = begin(&place.home, Duration::ZERO);
    renewing.finish();
    let told: Vec<_> = told.iter().collect();
    assert!(matches!(&told[..], [one] if one.starts_with("failed: ")), "{told:?}");
}

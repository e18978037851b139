//! A home that changes while a client lives: what the client takes up, when, and that nothing on
//! its way is lost.
#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ipc_client::{CertificateProblem, Outcome, ProblemCode, SendError};
use ipc_envelope::KeyRing;
use ipc_home::Credentials;
use serde_json::json;

use crate::channel;
use crate::fake::{
    Answer, Fake, Plan, TOKEN, grant, http, problem, replied, success, took, with_session,
};
use crate::fixture::{Place, issue, now_secs, server_config};
use crate::gate::teller;
use crate::keys::{KEY, NEXT_KEY};
use crate::logged;
use crate::ways::{Way, both_ways};

/// Puts a new certificate of the same authority into the home.
fn renew(place: &Place) {
    place.present(&issue(&place.authority, "localhost", now_secs()));
}

/// Puts a new first key into the home.
fn rotate_key(place: &Place) {
    place.write("envelope.keys", format!("{NEXT_KEY}\n{KEY}\n").as_bytes());
}

fn is_sealed_with(key: &str, envelope: &[u8]) -> bool {
    KeyRing::from_text(key).unwrap().open(envelope, None).is_ok()
}

fn a_certificate_that_is_refused_is_replaced_by_the_one_that_the_home_has_by_then(way: Way) {
    let (place, stranger) = (Place::new(), Place::new());
    place.present(&issue(&stranger.authority, "localhost", now_secs()));
    let fake = Fake::tls(place.tls(), with_session(took));
    let client = place.builder(&fake).channel(way == Way::Channel).build().unwrap().blocking();
    renew(&place);
    let report = client.send_all((0..20).map(|n| json!({"n": n}))).wait().unwrap();
    assert_eq!((report.sent, report.refused), (20, 0));
}

#[test]
fn a_certificate_that_is_refused_and_the_same_in_the_home_is_told_after_one_attempt() {
    let (place, stranger) = (Place::new(), Place::new());
    place.present(&issue(&stranger.authority, "localhost", now_secs()));
    let fake = Fake::tls(place.tls(), with_session(took));
    let error = place.client(&fake).send(&json!({})).wait().unwrap_err();
    assert!(matches!(error, SendError::CertificateRefused { .. }), "{error:?}");
    // The second may be the one that listens for an alert.
    assert!(fake.connections() <= 2, "{} connections", fake.connections());
}

/// While an authority is replaced, the client may take the new files before the server does.
fn a_certificate_that_the_server_comes_to_trust_soon_after_the_home_has_it_gets_in(way: Way) {
    let (place, stranger) = (Place::new(), Place::new());
    let later = place.tls();
    let pair = issue(&place.authority, "localhost", now_secs());
    let trusts_another = server_config(&pair, Some(&stranger.authority), rustls::ALL_VERSIONS);
    let plan = move |connection| {
        Plan::Tls(if connection < 8 { trusts_another.clone() } else { later.clone() })
    };
    let fake = Fake::start(0, plan, with_session(took));
    let client = place.builder(&fake).channel(way == Way::Channel).build().unwrap().blocking();
    renew(&place);
    let report = client.send_all((0..20).map(|n| json!({"n": n}))).wait().unwrap();
    assert_eq!((report.sent, report.refused), (20, 0));
    assert!(fake.connections() > 8, "{} connections", fake.connections());
}

#[test]
fn a_server_of_an_authority_that_the_home_has_come_to_trust_is_sent_to() {
    let (place, new) = (Place::new(), Place::new());
    let fake = Fake::tls(new.tls(), with_session(took));
    let client = place.client(&fake);
    let error = client.send(&json!({})).wait().unwrap_err();
    assert!(
        matches!(
            error,
            SendError::ServerNotTrusted { reason: CertificateProblem::UnknownAuthority, .. }
        ),
        "{error:?}"
    );
    let both = [new.authority.certificate_pem(), place.authority.certificate_pem()].concat();
    place.write("web-ipc-ca.crt", &both);
    place.present(&issue(&new.authority, "localhost", now_secs()));
    client.send(&json!({})).wait().unwrap();
    assert!(client.is_running().unwrap());
}

#[test]
fn asking_whether_a_server_runs_follows_too() {
    let (place, new) = (Place::new(), Place::new());
    let fake = Fake::tls(new.tls(), with_session(took));
    let client = place.client(&fake);
    place.write("web-ipc-ca.crt", new.authority.certificate_pem());
    place.present(&issue(&new.authority, "localhost", now_secs()));
    assert!(client.is_running().unwrap());
    let client = place.client(&fake);
    renew(&place);
    let error = client.is_running().and_then(|_| client.is_running());
    assert!(error.is_ok(), "a certificate that nobody refused goes on: {error:?}");
}

/// The script of a server that has dropped [`KEY`], and still replies with it.
fn takes_next_key_alone(seen: &crate::fake::Seen) -> Answer {
    match is_sealed_with(NEXT_KEY, &seen.envelope) {
        true => with_session(took)(seen),
        false => problem(ProblemCode::MalformedEnvelope, ""),
    }
}

fn a_key_that_the_server_has_dropped_is_replaced_by_the_next_one(way: Way) {
    let place = Place::new();
    let is_dropped = Arc::new(AtomicBool::new(false));
    let dropped = Arc::clone(&is_dropped);
    let fake = Fake::tls(place.tls(), move |seen| match dropped.load(Ordering::SeqCst) {
        true => takes_next_key_alone(seen),
        false => with_session(took)(seen),
    });
    let client = place.client_by(way, &fake);
    client.send(&json!({"n": 0})).wait().unwrap();
    rotate_key(&place);
    is_dropped.store(true, Ordering::SeqCst);
    // What is too long for a channel goes by POST, whose refusal is told.
    let long = "x".repeat(100_000);
    client.send(&json!({"long": long})).wait().unwrap();
    let last = fake.submits().pop().unwrap();
    assert!(is_sealed_with(NEXT_KEY, &last.envelope));
    assert_eq!(last.session.as_deref(), Some(TOKEN));
    assert_eq!(fake.logins().len(), 1, "the certificate is the same, and so is the session");
}

#[test]
fn a_refusal_that_stays_is_told_after_one_further_attempt() {
    let place = Place::new();
    for code in [ProblemCode::WrongCertificate, ProblemCode::CertificateRevoked] {
        let fake = Fake::tls(place.tls(), with_session(move |_| problem(code, "")));
        let client = place.client(&fake);
        renew(&place);
        let error = client.send(&json!({})).wait().unwrap_err();
        assert_eq!((error.code(), error.outcome()), (Some(code), Outcome::Refused));
        assert_eq!(fake.admitted("/message/submit").len(), 2);
        let error = client.send(&json!({})).wait().unwrap_err();
        assert_eq!(error.code(), Some(code));
        assert_eq!(fake.admitted("/message/submit").len(), 3, "nothing has changed since");
    }
}

#[test]
fn a_session_that_no_login_mends_is_looked_into_once_more() {
    let place = Place::new();
    let fake = Fake::tls(place.tls(), |seen| match seen.is_login() {
        true if seen.body.contains("another") => grant(seen, TOKEN),
        true => grant(seen, "of-no-use"),
        false if seen.session.as_deref() == Some(TOKEN) => success(),
        false => problem(ProblemCode::SessionExpired, ""),
    });
    let client = place.client(&fake);
    let admin = Credentials::new("other-admin", "another");
    place.home.write_admin_credentials(&admin, now_secs(), [8; 16]).unwrap();
    client.send(&json!({})).wait().unwrap();
    assert_eq!(fake.logins().len(), 2);
}

#[test]
fn a_home_that_cannot_be_used_is_told_once_and_what_was_read_before_goes_on() {
    logged::watch();
    let place = Place::new();
    let refusals = AtomicUsize::new(0);
    let fake = Fake::tls(
        place.tls(),
        with_session(move |_| match refusals.fetch_add(1, Ordering::SeqCst) {
            0 | 1 => problem(ProblemCode::WrongCertificate, ""),
            _ => success(),
        }),
    );
    let client = place.client(&fake);
    let mut pair = issue(&place.authority, "localhost", now_secs());
    pair.key_pem = issue(&place.authority, "localhost", now_secs()).key_pem;
    place.present(&pair);
    for _ in 0..2 {
        let error = client.send(&json!({})).wait().unwrap_err();
        assert_eq!(error.code(), Some(ProblemCode::WrongCertificate));
    }
    client.send(&json!({})).wait().unwrap();
    assert_eq!(fake.admitted("/message/submit").len(), 3);
    let told = format!("WARN ipc_client::source {} has changed", place.home.root().display());
    let log = logged::so_far();
    assert_eq!(log.matches(&told).count(), 1);
    assert!(log.contains("the key does not belong to the certificate"));
}

#[test]
fn a_client_that_lives_for_some_seconds_notices_by_itself() {
    let place = Place::new();
    let fake = Fake::tls(place.tls(), with_session(took));
    let client = place.client(&fake);
    client.send(&json!({"n": 1})).wait().unwrap();
    renew(&place);
    assert!(fake.wait_for_goodbye(), "the kept connection is of the old certificate");
    client.send(&json!({"n": 2})).wait().unwrap();
    assert_eq!((fake.logins().len(), fake.connections()), (2, 2));
    rotate_key(&place);
    place.write("localhost.crt", b"-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n");
    client.send(&json!({"n": 3})).wait().unwrap();
    renew(&place);
    assert!(fake.wait_for_goodbye());
    client.send(&json!({"n": 4})).wait().unwrap();
    assert!(is_sealed_with(NEXT_KEY, &fake.submits().pop().unwrap().envelope));
    let bodies: Vec<_> = fake.messages().into_iter().map(|(_, body)| body).collect();
    assert_eq!(bodies, [1, 2, 3, 4].map(|n| format!(r#"{{"n":{n}}}"#)));
}

/// A server that says once that the certificate is wrong when it is asked whether it runs: so a
/// test has a client look at its home when it wants.
fn refuses_the_first_look(
    accept: fn(&crate::fake::Seen) -> Answer,
) -> impl Fn(&crate::fake::Seen) -> Answer + Send + Sync {
    let looks = AtomicUsize::new(0);
    let rest = with_session(accept);
    move |seen| match seen.path.as_str() {
        "/is/running" if looks.fetch_add(1, Ordering::SeqCst) == 0 => {
            problem(ProblemCode::WrongCertificate, "")
        }
        "/is/running" => Answer::Send(http(200, "", b"Web-Server is running")),
        _ => rest(seen),
    }
}

#[test]
fn what_has_no_answer_on_a_channel_of_before_goes_again_over_the_next_under_its_id() {
    let place = Place::new();
    let (tell, told) = teller();
    let tell = Mutex::new(tell);
    let fake = Fake::with_channels(place.tls(), refuses_the_first_look(took), {
        let tell = Arc::new(tell);
        move |_| {
            let tell = Arc::clone(&tell);
            crate::fake::Opening::Channel(
                crate::wire::LIMITS,
                Box::new(move |said, speaker| {
                    for entry in &said.entries {
                        tell.lock().unwrap()(&entry.body);
                        match (said.channel, entry.reply_wait_ms) {
                            // A message that is never answered, and a request.
                            (0, _) => (),
                            (_, None) => speaker.settle(entry.number, entry.number, "duplicate"),
                            (_, Some(_)) => speaker.reply(entry.number, r#"{"late":1}"#),
                        }
                    }
                }),
            )
        }
    });
    let client = channel::client(&place, &fake).blocking();
    let request = std::thread::spawn({
        let client = client.clone();
        move || client.request(&json!({"ask": 1})).wait()
    });
    let message = std::thread::spawn({
        let client = client.clone();
        move || client.send(&json!({"say": 1})).wait()
    });
    for _ in 0..2 {
        told.recv_timeout(Duration::from_secs(20)).unwrap();
    }
    renew(&place);
    assert!(client.is_running().unwrap());
    assert_eq!(request.join().unwrap().unwrap().body(), r#"{"late":1}"#);
    let sent = message.join().unwrap().unwrap();
    assert!(sent.duplicate, "the server said that it has it");
    let mut ids = [Vec::new(), Vec::new()];
    for said in fake.frames() {
        ids[said.channel].extend(said.entries.into_iter().map(|entry| entry.id));
    }
    ids.iter_mut().for_each(|ids| ids.sort());
    assert_eq!(ids[0], ids[1]);
    assert_eq!(ids[0].len(), 2);
    assert_eq!(fake.closes(), [(1000, "the client's home has changed".to_owned())]);
}

/// How the line begins that says that a changed home is in use.
fn taken_up(place: &Place) -> String {
    format!("INFO ipc_client::engine::following {} has changed", place.home.root().display())
}

#[test]
fn a_reply_sealed_with_the_key_of_its_request_is_opened_although_the_home_has_another_by_then() {
    let place = Place::new();
    let keys_file = place.home.envelope_keys_file();
    let told = Mutex::new(logged::when(taken_up(&place)));
    let rest = refuses_the_first_look(took);
    let fake = Fake::tls(place.tls(), move |seen| {
        if seen.path != "/message/request" || seen.session.is_none() {
            return rest(seen);
        }
        ipc_home::write_secret_atomically(&keys_file, NEXT_KEY.as_bytes()).unwrap();
        told.lock().unwrap().recv_timeout(Duration::from_secs(20)).unwrap();
        replied(seen, "", r#"{"old":1}"#)
    });
    // The admin's would have to be sealed anew.
    let client = place.builder(&fake).credentials("test1", "pass321").build().unwrap().blocking();
    // From then on it watches.
    let error = client.is_running().unwrap_err();
    assert_eq!(error.code(), Some(ProblemCode::WrongCertificate));
    client.send(&json!({})).wait().unwrap();
    assert_eq!(client.request(&json!({})).wait().unwrap().body(), r#"{"old":1}"#);
    client.send(&json!({})).wait().unwrap();
    assert!(is_sealed_with(NEXT_KEY, &fake.submits().pop().unwrap().envelope));
}

#[test]
fn a_session_granted_to_the_certificate_of_before_is_no_reason_to_give_up() {
    let place = Place::new();
    let home = place.home.clone();
    let pair = issue(&place.authority, "localhost", now_secs());
    let told = Mutex::new(logged::when(taken_up(&place)));
    let rest = refuses_the_first_look(took);
    let fake = Fake::tls(place.tls(), move |seen| {
        if !seen.is_login() || seen.turn > 0 {
            return rest(seen);
        }
        let write = |name: &str, content: &[u8]| {
            ipc_home::write_secret_atomically(&home.root().join(name), content).unwrap();
        };
        write("localhost.key", pair.key_pem.as_bytes());
        write("localhost.crt", pair.certificate_pem.as_ref());
        told.lock().unwrap().recv_timeout(Duration::from_secs(20)).unwrap();
        grant(seen, "of-the-certificate-of-before")
    });
    let client = place.client(&fake);
    // From then on it watches.
    client.is_running().unwrap_err();
    client.send(&json!({})).wait().unwrap();
    assert_eq!(fake.logins().len(), 2);
}

#[test]
fn a_stream_of_messages_goes_on_in_order_while_the_home_changes() {
    let place = Place::new();
    let fake = Fake::tls(place.tls(), refuses_the_first_look(took));
    let client = place.client_by(Way::Channel, &fake);
    let looker = client.clone();
    let report = client
        .send_all((0..4000).map(|n| {
            if n == 2000 {
                renew(&place);
                rotate_key(&place);
                // It waits too, which it cannot within another that does.
                let looker = looker.clone();
                let looked = std::thread::spawn(move || looker.is_running());
                assert!(looked.join().unwrap().unwrap());
            }
            json!({"n": n})
        }))
        .wait()
        .unwrap();
    assert_eq!((report.sent, report.refused), (4000, 0));
    let bodies: Vec<_> = fake.messages().into_iter().map(|(_, body)| body).collect();
    let wanted: Vec<_> = (0..4000).map(|n| format!(r#"{{"n":{n}}}"#)).collect();
    assert_eq!(bodies, wanted);
    assert_eq!(fake.openings(), 2);
}

fn a_server_that_seals_with_the_next_key_already_is_understood_once_the_home_has_it(way: Way) {
    let place = Place::new();
    let seals_next = Arc::new(AtomicBool::new(false));
    let seals = Arc::clone(&seals_next);
    let next = || KeyRing::from_text(NEXT_KEY).unwrap();
    let reply = move |seen: &crate::fake::Seen| {
        let mut frame = Vec::new();
        let id = seen.id.parse().unwrap();
        let body = format!(r#"{{"accepted":{}}}"#, seen.entries.len());
        ipc_protocol::write_frame(&mut frame, ipc_protocol::REPLY_ADDRESS, id, None, &body);
        Answer::Send(http(200, crate::fake::RAW, &next().seal(&frame, now_secs(), [4; 16])))
    };
    let script = with_session(move |seen| match seals.load(Ordering::SeqCst) {
        true if seen.path == "/message/batch" => reply(seen),
        _ => took(seen),
    });
    let seals = Arc::clone(&seals_next);
    let peer = move |said: &crate::wire::Said, speaker: &crate::wire::Speaker| {
        if !seals.load(Ordering::SeqCst) {
            return speaker.accept(said);
        }
        let body = format!(r#"{{"settled":[[{},{},"accepted"]]}}"#, said.first, said.last());
        let frame = crate::wire::answer_frame(speaker.id(), &body);
        let envelope = next().seal(&frame, now_secs(), [4; 16]);
        speaker.say(actix_http::ws::Message::Binary(envelope.into()));
    };
    let each = channel::each(crate::wire::LIMITS, peer);
    let fake = Fake::with_channels(place.tls(), script, each);
    let client = place.client_by(way, &fake);
    client.send(&json!({"n": 0})).wait().unwrap();
    rotate_key(&place);
    seals_next.store(true, Ordering::SeqCst);
    let report = client.send_all((1..10).map(|n| json!({"n": n}))).wait().unwrap();
    assert_eq!((report.sent, report.refused), (9, 0));
}

fn a_home_that_is_half_changed_is_waited_for_after_a_refusal(way: Way) {
    let (place, stranger) = (Place::new(), Place::new());
    place.present(&issue(&stranger.authority, "localhost", now_secs()));
    let fake = Fake::tls(place.tls(), with_session(took));
    let client = place.builder(&fake).channel(way == Way::Channel).build().unwrap();
    let pair = issue(&place.authority, "localhost", now_secs());
    // The key of the next pair beside the certificate of the last.
    place.write("localhost.key", pair.key_pem.as_bytes());
    let told = format!("WARN ipc_client::source {} has changed", place.home.root().display());
    let told = logged::when(told);
    let send = client.blocking().send(&json!({}));
    let sending = std::thread::spawn(move || send.wait());
    told.recv_timeout(Duration::from_secs(20)).unwrap();
    place.present(&pair);
    sending.join().unwrap().unwrap();
}

both_ways!(
    a_server_that_seals_with_the_next_key_already_is_understood_once_the_home_has_it,
    a_home_that_is_half_changed_is_waited_for_after_a_refusal,
    a_certificate_that_is_refused_is_replaced_by_the_one_that_the_home_has_by_then,
    a_certificate_that_the_server_comes_to_trust_soon_after_the_home_has_it_gets_in,
    a_key_that_the_server_has_dropped_is_replaced_by_the_next_one,
);

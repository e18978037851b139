//! Requests: the reply, how long the client waits for it, and what the caller learns if there is
//! none.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ipc_client::{NoReply, Outcome, ProblemCode, SendError};
use ipc_protocol::REASON_BYTES_MAX;
use serde_json::json;

use crate::fake::{
    Answer, Fake, counted, http, problem, problem_with, replied, success, with_session,
};
use crate::fixture::{Place, built};
use crate::ways::{Way, both_ways};

const REQUEST: &str = "/message/request";

fn the_reply_is_opened_and_read(way: Way) {
    let place = Place::new();
    let fake =
        Fake::tls(place.tls(), with_session(|seen| replied(seen, "", r#"{"time": "noon"}"#)));
    let reply = place.client_by(way, &fake).request(&json!({"what": "time"})).wait().unwrap();
    assert_eq!((reply.body(), reply.duplicate), (r#"{"time": "noon"}"#, false));
    assert_eq!(reply.parse::<BTreeMap<&str, &str>>().unwrap()["time"], "noon");
    let seen = fake.admitted(REQUEST).pop().unwrap();
    assert_eq!((seen.id, seen.to.as_str()), (reply.id.to_string(), REQUEST));
    assert_eq!(seen.body, r#"{"what":"time"}"#);
    // A POST counts in whole seconds, and leaves time for the response.
    let wait = if way == Way::Post { 29 } else { 30 };
    assert!(seen.head.contains(&format!("prefer: wait={wait}\r\n")), "{}", seen.head);
    assert!(!fake.logins()[0].head.contains("prefer:"));
}

#[test]
fn the_server_is_told_how_long_to_wait_in_whole_seconds() {
    let place = Place::new();
    let fake = Fake::tls(place.tls(), with_session(|seen| replied(seen, "", "{}")));
    let client = place.builder(&fake).timeout(Duration::from_secs(10)).build().unwrap().blocking();
    for (wait, told) in [
        (Duration::ZERO, "wait=0"),
        (Duration::from_millis(1500), "wait=2"),
        // A retry must not come so late that the server has forgotten the id.
        (Duration::MAX, "wait=479"),
    ] {
        client.request(&json!({})).timeout(wait).wait().unwrap();
        let head = fake.admitted(REQUEST).pop().unwrap().head;
        assert!(head.contains(&format!("prefer: {told}\r\n")), "{head}");
    }
}

fn a_request_is_sent_again_under_its_id_until_there_is_a_reply(way: Way) {
    let place = Place::new();
    let fake = Fake::tls(
        place.tls(),
        counted(|seen, turn| match turn {
            0 => Answer::Close,
            1 => problem(ProblemCode::InboxFull, ""),
            2 => Answer::Send(http(504, "", b"a proxy")),
            _ => replied(seen, "Web-IPC-Duplicate: true\r\n", r#"{"n":1}"#),
        }),
    );
    let reply = place.client_by(way, &fake).request(&json!({})).wait().unwrap();
    assert!(reply.duplicate);
    let ids: Vec<_> = fake.admitted(REQUEST).into_iter().map(|seen| seen.id).collect();
    assert_eq!(ids, vec![reply.id.to_string(); 4]);
}

fn a_request_without_a_reply_says_so_and_that_it_was_accepted(way: Way) {
    for (code, reason) in [
        (ProblemCode::NotAnswered, NoReply::NotGiven),
        (ProblemCode::ReplyForgotten, NoReply::Forgotten),
        (ProblemCode::NoReplyInTime, NoReply::NotInTime { wait: Duration::ZERO }),
    ] {
        let place = Place::new();
        let fake = Fake::tls(place.tls(), with_session(move |_| problem(code, "")));
        let error = place
            .client_by(way, &fake)
            .request(&json!({}))
            .timeout(Duration::ZERO)
            .wait()
            .unwrap_err();
        assert!(
            matches!(&error, SendError::NoReply { reason: got } if *got == reason),
            "{error:?}"
        );
        assert_eq!(error.outcome(), Outcome::Accepted);
        assert_eq!(fake.admitted(REQUEST).len(), 1, "{code}");
    }
}

fn a_request_that_was_declined_says_why(way: Way) {
    let long = format!("é\u{7f}\u{9b}\"{}", "x".repeat(300));
    for (said, begins) in [("ended with exit status: 3", "ended with exit status: 3"), (&long, "é")]
    {
        let place = Place::new();
        let detail = format!("the application gave no reply: {said}");
        let fake = Fake::tls(
            place.tls(),
            with_session(move |_| problem_with(ProblemCode::NotAnswered, &detail, "")),
        );
        let error = place.client_by(way, &fake).request(&json!({})).wait().unwrap_err();
        let got = error.reason().unwrap();
        assert!(
            got.starts_with(begins)
                && got.len() <= REASON_BYTES_MAX
                && !got.contains(char::is_control),
            "{got}"
        );
        assert!(matches!(&error, SendError::NoReply { reason: NoReply::Declined { .. } }));
        assert!(error.to_string().ends_with(&format!("gave no reply: {got}")), "{error}");
        assert_eq!((error.outcome(), fake.admitted(REQUEST).len()), (Outcome::Accepted, 1));
    }
}

fn a_server_that_waits_less_than_the_caller_is_asked_again(way: Way) {
    let place = Place::new();
    let fake = Fake::tls(
        place.tls(),
        counted(|seen, turn| match turn {
            0 | 1 => problem(ProblemCode::NoReplyInTime, ""),
            _ => replied(seen, "", "{}"),
        }),
    );
    let reply = place
        .client_by(way, &fake)
        .request(&json!({}))
        .timeout(Duration::from_secs(20))
        .wait()
        .unwrap();
    let ids: Vec<_> = fake.admitted(REQUEST).into_iter().map(|seen| seen.id).collect();
    assert_eq!(ids, vec![reply.id.to_string(); 3]);
}

fn what_is_known_to_be_accepted_stays_so_when_the_server_goes_away(way: Way) {
    let place = Place::new();
    let fake = Fake::tls(
        place.tls(),
        counted(|_, turn| match turn {
            0 => problem(ProblemCode::NoReplyInTime, ""),
            _ => problem(ProblemCode::ShuttingDown, ""),
        }),
    );
    let client = built(way, place.builder(&fake).timeout(Duration::from_secs(3))).blocking();
    let error = client.request(&json!({})).timeout(Duration::from_secs(3)).wait().unwrap_err();
    assert_eq!(error.outcome(), Outcome::Accepted, "{error:?}");
    // If an attempt is in flight at the deadline, the error is that the reply is late.
    if !matches!(error, SendError::NoReply { reason: NoReply::NotInTime { .. } }) {
        assert_eq!(error.to_string(), "the message could not be sent within 3 s");
    }
}

#[test]
fn with_less_time_than_the_server_counts_it_is_asked_to_take_the_request_first() {
    let place = Place::new();
    let fake = Fake::tls(
        place.tls(),
        with_session(|seen| match seen.head.contains("prefer: wait=0\r\n") {
            true => problem(ProblemCode::NoReplyInTime, ""),
            false => Answer::Hang,
        }),
    );
    let short = Duration::from_millis(900);
    let client = place.builder(&fake).timeout(short).build().unwrap().blocking();
    let error = client.request(&json!({})).timeout(short).wait().unwrap_err();
    assert!(
        matches!(&error, SendError::NoReply { reason: NoReply::NotInTime { wait } } if *wait == short),
        "{error:?}"
    );
    assert_eq!(error.outcome(), Outcome::Accepted);
    let heads: Vec<_> = fake.admitted(REQUEST).into_iter().map(|seen| seen.head).collect();
    assert!(heads.len() == 2 && heads[1].contains("prefer: wait=1\r\n"), "{heads:?}");
}

fn a_server_that_lets_nobody_wait_is_asked_until_the_time_is_over_and_that_is_told(way: Way) {
    let place = Place::new();
    let fake = Fake::tls(place.tls(), with_session(|_| problem(ProblemCode::NoReplyInTime, "")));
    let short = Duration::from_secs(2);
    let client = built(way, place.builder(&fake).timeout(short)).blocking();
    let error = client.request(&json!({})).timeout(short).wait().unwrap_err();
    assert!(
        matches!(&error, SendError::NoReply { reason: NoReply::NotInTime { wait } } if *wait == short),
        "{error:?}"
    );
    assert!(fake.admitted(REQUEST).len() > 1, "the client asks again");
}

fn a_request_that_cannot_have_arrived_is_given_up_at_the_deadline_however_long_its_reply_may_take(
    way: Way,
) {
    let place = Place::new();
    let fake = Fake::tls(
        place.tls(),
        counted(|_, turn| match turn {
            0 => success(),
            1..=3 => problem(ProblemCode::InboxFull, ""),
            // No attempt is under way at the deadline, however slow the machine is.
            _ => problem(ProblemCode::InboxFull, "Retry-After: 3600\r\n"),
        }),
    );
    let (deadline, shown) = match way {
        Way::Post => (Duration::from_secs(20), "20"),
        // Less than the pause that a channel has after a full inbox.
        Way::Channel => (Duration::from_millis(900), "0.9"),
    };
    let client = built(way, place.builder(&fake).timeout(deadline)).blocking();
    client.send(&json!({})).timeout(Duration::from_secs(20)).wait().unwrap();
    let error = client.request(&json!({})).timeout(Duration::from_secs(400)).wait().unwrap_err();
    assert!(matches!(&error, SendError::Timeout { outcome: Outcome::Refused, .. }), "{error:?}");
    assert_eq!(error.to_string(), format!("the message could not be sent within {shown} s"));
}

#[test]
fn a_reply_to_another_request_is_none() {
    let place = Place::new();
    let fake = Fake::tls(
        place.tls(),
        with_session(|seen| {
            let mut other = seen.clone();
            other.id = "00112233-4455-4677-8899-aabbccddeeff".into();
            replied(&other, "", "{}")
        }),
    );
    let error = place.client(&fake).request(&json!({})).wait().unwrap_err();
    assert!(matches!(&error, SendError::Unexpected { status: 200, .. }), "{error:?}");
    assert_eq!(error.outcome(), Outcome::NotKnown);
}

#[test]
fn a_reply_is_read_up_to_the_limit_of_the_client() {
    let place = Place::new();
    let text = "x".repeat(3 << 20);
    let body = json!({"text": text}).to_string();
    let fake = Fake::tls(place.tls(), with_session(move |seen| replied(seen, "", &body)));
    assert!(place.client(&fake).request(&json!({})).wait().unwrap().body().len() > 3 << 20);
    let small = place.builder(&fake).plaintext_bytes_max(1 << 20).build().unwrap().blocking();
    let error = small.request(&json!({})).wait().unwrap_err();
    assert!(error.to_string().contains("longer than this client accepts"), "{error}");
}

#[test]
fn what_is_no_object_or_too_large_is_refused_before_it_is_sent() {
    let place = Place::new();
    let fake = Fake::tls(place.tls(), with_session(|_| success()));
    let client = place.builder(&fake).plaintext_bytes_max(1000).build().unwrap().blocking();
    assert!(matches!(client.request(&json!([])).wait(), Err(SendError::Body(_))));
    assert!(matches!(
        client.request(&json!({"t": "x".repeat(980)})).wait(),
        Err(SendError::TooLarge { .. })
    ));
    assert_eq!(fake.connections(), 0);
}

#[test]
fn requests_that_wait_leave_a_connection_to_sends() {
    let place = Place::new();
    let fake = Fake::tls(
        place.tls(),
        with_session(|seen| if seen.path == REQUEST { Answer::Hang } else { success() }),
    );
    let client = place.builder(&fake).connections_max(2).build().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    client.clone().blocking().send(&json!({"n": 0})).wait().unwrap();
    let requests: Vec<_> =
        (0..8).map(|n| runtime.spawn(client.request(&json!({"n": n})))).collect();
    let before = Instant::now();
    client.clone().blocking().send(&json!({"n": 1})).wait().unwrap();
    assert!(before.elapsed() < Duration::from_secs(10));
    for request in requests {
        request.abort();
    }
}

both_ways!(
    the_reply_is_opened_and_read,
    a_request_is_sent_again_under_its_id_until_there_is_a_reply,
    a_request_without_a_reply_says_so_and_that_it_was_accepted,
    a_request_that_was_declined_says_why,
    a_server_that_waits_less_than_the_caller_is_asked_again,
    what_is_known_to_be_accepted_stays_so_when_the_server_goes_away,
    a_server_that_lets_nobody_wait_is_asked_until_the_time_is_over_and_that_is_told,
    a_request_that_cannot_have_arrived_is_given_up_at_the_deadline_however_long_its_reply_may_take,
);

//! Many messages at once: how they are cut into batches, what is sent again, and what is reported
//! for each.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, HashSet};
use std::pin::Pin;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use ipc_client::{MessageId, Outcome, ProblemCode, REFUSALS_KEPT_MAX, Report, SendError};
use serde_json::{Value, json};

use crate::fake::{
    Answer, Fake, Seen, counted, http, problem, replied, success, took_all, with_session,
};
use crate::fixture::{Place, built, now_secs};
use crate::ways::{Way, both_ways};

const BATCH: &str = "/message/batch";

fn numbers(range: std::ops::Range<u64>) -> impl Iterator<Item = Value> + Send {
    range.map(|n| json!({ "n": n }))
}

/// The numbers in a request with one message or many.
fn numbers_in(seen: &Seen) -> Vec<u64> {
    let bodies = seen
        .entries
        .iter()
        .map(|(_, body)| body)
        .chain(Some(&seen.body).filter(|body| !body.is_empty()));
    bodies.map(|body| serde_json::from_str::<BTreeMap<String, u64>>(body).unwrap()["n"]).collect()
}

/// Accepts batches and single messages.
fn take(seen: &Seen) -> Answer {
    if seen.path == BATCH { took_all(seen) } else { success() }
}

/// The numbers in each request that had a session.
fn requests(fake: &Fake) -> Vec<Vec<u64>> {
    let all = fake.seen().into_iter();
    all.filter(|seen| seen.session.is_some()).map(|seen| numbers_in(&seen)).collect()
}

#[test]
fn a_thousand_messages_go_out_in_batches_in_order_each_under_an_id_of_its_own() {
    let place = Place::new();
    let fake = Fake::tls(place.tls(), with_session(take));
    let report = place.client(&fake).send_all(numbers(0..1200)).wait().unwrap();
    assert_eq!((report.sent, report.duplicates, report.refused), (1200, 0, 0));
    let batches = fake.admitted(BATCH);
    assert_eq!(batches.iter().map(|seen| seen.entries.len()).collect::<Vec<_>>(), [500, 500, 200]);
    assert_eq!(requests(&fake).concat(), (0..1200).collect::<Vec<_>>());
    let ids: HashSet<_> =
        batches.iter().flat_map(|seen| seen.entries.iter().map(|(id, _)| id)).collect();
    assert_eq!(ids.len(), 1200);
    assert_eq!(batches[0].to, BATCH);
    assert_eq!(fake.open_max(), 1, "a later batch must not overtake an earlier one");
}

#[test]
fn messages_go_out_under_the_ids_that_the_caller_gives_and_others_under_new_ones() {
    let place = Place::new();
    let fake = Fake::tls(place.tls(), with_session(take));
    let given = |index: u64| MessageId::from_bytes([u8::try_from(index).unwrap(); 16]);
    let messages = (0..6).map(|n| if n == 2 { json!([n]) } else { json!({ "n": n }) });
    let sending = place.client(&fake).send_all(messages).batch_messages(3);
    let report = sending.ids(|index| (index != 4).then(|| given(index))).wait().unwrap();
    assert_eq!((report.sent, report.refused), (5, 1));
    let batches = fake.admitted(BATCH);
    let ids: Vec<_> =
        batches.iter().flat_map(|seen| seen.entries.iter().map(|(id, _)| id.to_string())).collect();
    let expected = [0, 1, 3, 4, 5].map(|index| given(index).to_string());
    assert_eq!(ids.len(), 5);
    for (at, (id, expected)) in ids.iter().zip(expected).enumerate() {
        assert_eq!(*id == expected, at != 3, "{ids:?}");
    }
}

#[test]
fn batches_are_cut_by_count_and_by_bytes() {
    let place = Place::new();
    let fake = Fake::tls(place.tls(), with_session(take));
    let client = place.client(&fake);
    client.send_all(numbers(0..7)).batch_messages(3).wait().unwrap();
    assert_eq!(requests(&fake), [vec![0, 1, 2], vec![3, 4, 5], vec![6]]);
    let text = "x".repeat(1000);
    client.send_all((0..6).map(|n| json!({"n": n, "t": text}))).batch_bytes(2500).wait().unwrap();
    let batches = fake.admitted(BATCH);
    assert_eq!(batches[2..].iter().map(|seen| seen.entries.len()).collect::<Vec<_>>(), [2, 2, 2]);
    // A message that is longer than a batch goes alone.
    client
        .send_all([json!({"n": 1}), json!({"t": text}), json!({"n": 2})])
        .batch_bytes(500)
        .wait()
        .unwrap();
    assert_eq!(fake.admitted("/message/submit").len(), 4);
}

#[test]
fn nothing_to_send_is_sent_at_once() {
    let place = Place::new();
    let fake = Fake::tls(place.tls(), with_session(take));
    let report = place.client(&fake).send_all(numbers(0..0)).wait().unwrap();
    assert_eq!((report.sent, fake.connections()), (0, 0));
}

#[test]
fn a_lost_answer_brings_the_same_batch_and_duplicates_are_counted() {
    let place = Place::new();
    let fake = Fake::tls(
        place.tls(),
        counted(|seen, turn| match turn {
            0 => Answer::Close,
            1 => replied(seen, "", r#"{"accepted":2,"others":[{"index":0,"code":"duplicate"}]}"#),
            _ => took_all(seen),
        }),
    );
    let client = place.client(&fake);
    let report = client.send_all(numbers(0..6)).batch_messages(3).wait().unwrap();
    assert_eq!((report.sent, report.duplicates, report.refused), (6, 1, 0));
    assert_eq!(requests(&fake), [vec![0, 1, 2], vec![0, 1, 2], vec![3, 4, 5]]);
    let batches = fake.admitted(BATCH);
    assert_eq!(batches[0].entries, batches[1].entries, "the same ids");
    assert_ne!(batches[0].envelope, batches[1].envelope);
}

#[test]
fn what_found_no_room_goes_out_again_first_and_nothing_else_twice() {
    let place = Place::new();
    let fake = Fake::tls(
        place.tls(),
        counted(|seen, turn| match turn {
            0 => replied(seen, "", r#"{"accepted":1,"full_from":1}"#),
            1 => replied(seen, "", r#"{"accepted":0,"full_from":0}"#),
            2 => problem(ProblemCode::InboxFull, ""),
            _ => take(seen),
        }),
    );
    let told = Mutex::new(Vec::new());
    let client = place.client(&fake);
    let all = client.send_all(numbers(0..8)).batch_messages(4);
    let report = all
        .on_progress(|answered| told.lock().unwrap().push(answered.first..answered.end))
        .wait()
        .unwrap();
    assert_eq!(report.sent, 8);
    let rest = vec![1, 2, 3];
    assert_eq!(
        requests(&fake),
        [vec![0, 1, 2, 3], rest.clone(), rest.clone(), rest, vec![4, 5, 6, 7]]
    );
    assert_eq!(*told.lock().unwrap(), [0..1, 1..4, 4..8]);
}

#[test]
fn a_session_that_ends_in_between_is_renewed() {
    let place = Place::new();
    let expired = AtomicUsize::new(0);
    let fake = Fake::tls(
        place.tls(),
        with_session(move |seen| match expired.fetch_add(1, Ordering::SeqCst) {
            1 => problem(ProblemCode::SessionExpired, ""),
            _ => take(seen),
        }),
    );
    let report = place.client(&fake).send_all(numbers(0..9)).batch_messages(3).wait().unwrap();
    assert_eq!((report.sent, fake.logins().len()), (9, 2));
    assert_eq!(requests(&fake), [vec![0, 1, 2], vec![3, 4, 5], vec![3, 4, 5], vec![6, 7, 8]]);
}

#[test]
fn a_batch_that_waited_long_for_its_turn_carries_the_time_at_which_it_goes() {
    let place = Place::new();
    let fake = Fake::tls(
        place.tls(),
        counted(|seen, turn| {
            let begun = now_secs();
            // Wait until a seal made ahead would be some seconds old.
            while turn == 1 && now_secs() < begun + 3 {
                std::thread::yield_now();
            }
            match seen.entries.len() {
                0 => success(),
                _ => take(seen),
            }
        }),
    );
    let client = place.client(&fake);
    // The session of this message is then in use: a batch sealed without one would be sealed again
    // anyway.
    client.send(&json!({})).wait().unwrap();
    let begun = now_secs();
    client.send_all(numbers(0..6)).batch_messages(3).wait().unwrap();
    let sealed_at = |seen: &Seen| u64::from_be_bytes(seen.envelope[1..9].try_into().unwrap());
    let times: Vec<_> = fake.admitted(BATCH).iter().map(sealed_at).collect();
    assert!(times.len() == 2 && times[1] >= begun + 2, "{times:?}, begun at {begun}");
}

/// Messages for a client whose limit is 5000 bytes, and a server that refuses number 3.
fn one_good_and_four_bad() -> [Value; 5] {
    [json!([1]), json!({"n": 1}), json!({"t": "x".repeat(6000)}), json!({"n": 3}), json!("x")]
}

fn each_is_refused_for_its_reason(report: &Report) {
    let refusals: Vec<_> =
        report.refusals.iter().map(|refusal| (refusal.index, &refusal.error)).collect();
    assert!(
        matches!(
            refusals[..],
            [
                (0, SendError::Body(_)),
                (2, SendError::TooLarge { bytes_max: 5000, .. }),
                (3, SendError::Refused { status: 422, code: Some(ProblemCode::IdReused), .. }),
                (4, SendError::Body(_)),
            ]
        ),
        "{refusals:?}"
    );
}

#[test]
fn a_message_that_is_none_or_too_large_is_told_by_its_index_and_the_rest_goes_on() {
    let place = Place::new();
    let fake = Fake::tls(
        place.tls(),
        with_session(|seen| {
            replied(seen, "", r#"{"accepted":1,"others":[{"index":1,"code":"id_reused"}]}"#)
        }),
    );
    let client = place.builder(&fake).plaintext_bytes_max(5000).build().unwrap().blocking();
    let messages = one_good_and_four_bad();
    let told = Mutex::new(Vec::new());
    let all = client.send_all(messages).on_progress(|answered| {
        let refused: Vec<_> = answered.refusals.iter().map(|refusal| refusal.index).collect();
        told.lock().unwrap().push((answered.first, answered.end, refused));
    });
    let report = all.wait().unwrap();
    assert_eq!((report.sent, report.refused), (1, 4));
    each_is_refused_for_its_reason(&report);
    assert_eq!(*told.lock().unwrap(), [(0, 1, vec![0]), (1, 5, vec![2, 3, 4])]);
    assert_eq!(requests(&fake), [vec![1, 3]]);
}

#[test]
fn refusals_are_counted_all_and_kept_up_to_a_limit() {
    let place = Place::new();
    let fake = Fake::tls(place.tls(), with_session(take));
    let report = place.client(&fake).send_all((0..3000).map(Value::from)).wait().unwrap();
    assert_eq!((report.sent, report.refused, report.refusals.len()), (0, 3000, REFUSALS_KEPT_MAX));
    assert_eq!(report.refusals.last().unwrap().index, REFUSALS_KEPT_MAX as u64 - 1);
    assert_eq!(fake.connections(), 0);
}

#[test]
fn a_server_that_takes_fewer_at_once_gets_fewer_at_once() {
    let place = Place::new();
    let fake = Fake::tls(
        place.tls(),
        with_session(|seen| match seen.entries.len() {
            0..=100 => take(seen),
            _ => problem(ProblemCode::TooLarge, ""),
        }),
    );
    let report = place.client(&fake).send_all(numbers(0..1500)).wait().unwrap();
    assert_eq!((report.sent, report.refused), (1500, 0));
    let sizes: Vec<_> = fake.admitted(BATCH).into_iter().map(|seen| seen.entries.len()).collect();
    assert_eq!(sizes[..3], [500, 250, 125]);
    assert!(
        sizes[3..].iter().all(|size| *size <= 62),
        "the client learns the limit once: {sizes:?}"
    );
}

#[test]
fn the_one_message_that_a_server_cannot_take_is_found_and_told() {
    let place = Place::new();
    let fake = Fake::tls(
        place.tls(),
        with_session(|seen| match numbers_in(seen).contains(&13) {
            true => problem(ProblemCode::MalformedFrame, ""),
            false => take(seen),
        }),
    );
    let report = place.client(&fake).send_all(numbers(0..100)).batch_messages(50).wait().unwrap();
    assert_eq!((report.sent, report.refused), (99, 1));
    assert_eq!(report.refusals[0].index, 13);
    let error = &report.refusals[0].error;
    assert!(
        matches!(error, SendError::Refused { code: Some(ProblemCode::MalformedFrame), .. }),
        "{error:?}"
    );
    assert_eq!(requests(&fake).last().unwrap().len(), 50, "the other batch goes as a whole");
    let taken: Vec<_> =
        requests(&fake).into_iter().filter(|request| !request.contains(&13)).collect();
    assert_eq!(taken.concat(), (0..100).filter(|n| *n != 13).collect::<Vec<_>>(), "in order");
}

#[test]
fn a_deadline_without_progress_ends_it_and_says_from_where_on() {
    let place = Place::new();
    for (last, outcome) in [
        (problem as fn(ProblemCode, &str) -> Answer, Outcome::Refused),
        (|_, _| Answer::Close, Outcome::NotKnown),
    ] {
        let fake = Fake::tls(
            place.tls(),
            counted(move |seen, turn| match turn {
                0 => took_all(seen),
                1 => replied(seen, "", r#"{"accepted":1,"full_from":1}"#),
                2..=4 => last(ProblemCode::InboxFull, ""),
                // No attempt is under way at the deadline, however slow the machine is.
                _ => last(ProblemCode::InboxFull, "Retry-After: 3600\r\n"),
            }),
        );
        let client =
            place.builder(&fake).timeout(Duration::from_secs(2)).build().unwrap().blocking();
        let pulled = AtomicUsize::new(0);
        let messages = numbers(0..1000).inspect(|_| {
            pulled.fetch_add(1, Ordering::SeqCst);
        });
        let error = client.send_all(messages).batch_messages(3).wait().unwrap_err();
        assert!(matches!(*error.source, SendError::Timeout { .. }), "{error:?}");
        assert_eq!(
            (error.report.sent, error.from, error.until, error.outcome()),
            (4, 4, 6, outcome)
        );
        assert_eq!(
            error.to_string(),
            "not all messages were sent: those before number 4 (counted from 0) have an answer"
        );
        assert!(error.remedy().is_some());
        assert!(
            pulled.load(Ordering::SeqCst) <= 4 * 3 + 1,
            "the client takes only a few batches ahead"
        );
    }
}

#[test]
fn progress_however_slow_is_no_end() {
    let place = Place::new();
    let fake = Fake::tls(
        place.tls(),
        with_session(|seen| match seen.entries.len() {
            0 => success(),
            _ => replied(seen, "", r#"{"accepted":1,"full_from":1}"#),
        }),
    );
    // Each message takes at least 25 ms. Together they take longer than the timeout.
    let client = place.builder(&fake).timeout(Duration::from_secs(2)).build().unwrap().blocking();
    assert_eq!(client.send_all(numbers(0..120)).wait().unwrap().sent, 120);
    assert_eq!(requests(&fake).len(), 120);
}

#[test]
fn what_is_refused_as_a_whole_ends_it() {
    let place = Place::new();
    for code in
        [ProblemCode::WrongCertificate, ProblemCode::NotFound, ProblemCode::MalformedEnvelope]
    {
        let fake = Fake::tls(place.tls(), with_session(move |_| problem(code, "")));
        let error = place.client(&fake).send_all(numbers(0..10)).wait().unwrap_err();
        assert_eq!((error.from, error.until, error.outcome()), (0, 10, Outcome::Refused), "{code}");
        assert_eq!(fake.admitted(BATCH).len(), 1);
    }
}

#[test]
fn a_reply_that_does_not_add_up_ends_it_in_doubt() {
    let place = Place::new();
    for reply in
        [r#"{"accepted":9}"#, r#"{"accepted":10,"others":[{"index":10,"code":"x"}]}"#, "{}"]
    {
        let fake = Fake::tls(place.tls(), with_session(move |seen| replied(seen, "", reply)));
        let error = place.client(&fake).send_all(numbers(0..10)).wait().unwrap_err();
        assert!(matches!(*error.source, SendError::Unexpected { status: 200, .. }), "{error:?}");
        assert_eq!(error.outcome(), Outcome::NotKnown);
    }
}

/// A stream that is pending before each of its items.
struct Dripping(std::ops::Range<u64>, bool);

impl futures_core::Stream for Dripping {
    type Item = Value;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Value>> {
        self.1 = !self.1;
        if self.1 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(self.0.next().map(|n| json!({ "n": n })))
    }
}

#[tokio::test]
async fn what_a_stream_has_ready_goes_out_without_waiting_for_more() {
    let place = Place::new();
    let fake = Fake::tls(place.tls(), with_session(take));
    let client = place.builder(&fake).build().unwrap();
    let report = client.send_all_stream(Dripping(0..50, false)).await.unwrap();
    assert_eq!(report.sent, 50);
    assert_eq!(requests(&fake)[0], [0], "the first message did not wait for the second");
    assert_eq!(requests(&fake).concat(), (0..50).collect::<Vec<_>>());
}

#[tokio::test]
async fn it_can_be_awaited_on_a_task_of_its_own() {
    let place = Place::new();
    let fake = Fake::tls(place.tls(), with_session(take));
    let client = place.builder(&fake).build().unwrap();
    let task = tokio::spawn(async move { client.send_all(numbers(0..10)).await });
    assert_eq!(task.await.unwrap().unwrap().sent, 10);
}

/// Answers a single message, or each message of a batch, with the code for its number.
fn each(seen: &Seen, code_of: impl Fn(u64) -> &'static str) -> Answer {
    let codes: Vec<_> = numbers_in(seen).into_iter().map(code_of).collect();
    if seen.path != BATCH {
        return match codes[0] {
            "accepted" => success(),
            "duplicate" => Answer::Send(http(200, "web-ipc-duplicate: true\r\n", b"success")),
            code => problem(ProblemCode::from_code(code).unwrap(), ""),
        };
    }
    let room = codes.iter().position(|code| *code == "inbox_full");
    let told = &codes[..room.unwrap_or(codes.len())];
    let others: Vec<_> = (0..)
        .zip(told)
        .filter(|(_, code)| **code != "accepted")
        .map(|(index, code)| json!({ "index": index, "code": code }))
        .collect();
    let mut reply = json!({ "accepted": told.len() - others.len(), "others": others });
    if let Some(room) = room {
        reply["full_from"] = room.into();
    }
    replied(seen, "", &reply.to_string())
}

fn all_arrive_in_order_each_under_an_id_of_its_own(way: Way) {
    let place = Place::new();
    let fake = Fake::tls(place.tls(), with_session(take));
    let report = place.client_by(way, &fake).send_all(numbers(0..1200)).wait().unwrap();
    assert_eq!((report.sent, report.duplicates, report.refused), (1200, 0, 0));
    let messages = fake.messages();
    let bodies: Vec<_> = messages.iter().map(|(_, body)| body.clone()).collect();
    assert_eq!(bodies, (0..1200).map(|n| format!(r#"{{"n":{n}}}"#)).collect::<Vec<_>>());
    assert_eq!(messages.iter().map(|(id, _)| id).collect::<HashSet<_>>().len(), 1200);
}

fn what_lost_its_answer_goes_again_under_its_id_and_counts_as_a_duplicate(way: Way) {
    let place = Place::new();
    let stored = Mutex::new(HashSet::new());
    let cut = AtomicUsize::new(0);
    let fake = Fake::tls(
        place.tls(),
        with_session(move |seen| {
            let mut stored = stored.lock().unwrap();
            let known: HashSet<u64> =
                numbers_in(seen).into_iter().filter(|number| !stored.insert(*number)).collect();
            match numbers_in(seen).contains(&4) && cut.fetch_add(1, Ordering::SeqCst) == 0 {
                true => Answer::Close,
                false => each(seen, |n| if known.contains(&n) { "duplicate" } else { "accepted" }),
            }
        }),
    );
    let client = place.client_by(way, &fake);
    let report = client.send_all(numbers(0..10)).batch_messages(5).wait().unwrap();
    assert_eq!((report.sent, report.refused), (10, 0));
    assert!((1..=5).contains(&report.duplicates), "{}", report.duplicates);
    let messages = fake.messages();
    assert!(messages.len() > 10, "some arrived twice");
    let ids: HashSet<_> = messages.iter().map(|(id, body)| (id, body)).collect();
    assert_eq!(ids.len(), 10, "each number has one id");
}

fn a_session_that_ends_between_messages_is_renewed_once(way: Way) {
    let place = Place::new();
    let expired = AtomicUsize::new(0);
    let fake = Fake::tls(
        place.tls(),
        with_session(move |seen| {
            match numbers_in(seen).contains(&5) && expired.fetch_add(1, Ordering::SeqCst) == 0 {
                true => problem(ProblemCode::SessionExpired, ""),
                false => take(seen),
            }
        }),
    );
    let client = place.client_by(way, &fake);
    let report = client.send_all(numbers(0..9)).batch_messages(3).wait().unwrap();
    assert_eq!((report.sent, report.refused, fake.logins().len()), (9, 0, 2));
}

fn each_refusal_is_told_by_its_index_and_the_rest_goes_on(way: Way) {
    let place = Place::new();
    let fake = Fake::tls(
        place.tls(),
        with_session(|seen| each(seen, |n| if n == 3 { "id_reused" } else { "accepted" })),
    );
    let client = built(way, place.builder(&fake).plaintext_bytes_max(5000)).blocking();
    let messages = one_good_and_four_bad();
    let report = client.send_all(messages).wait().unwrap();
    assert_eq!((report.sent, report.refused), (1, 4));
    each_is_refused_for_its_reason(&report);
}

fn an_inbox_that_stays_full_ends_it_at_the_deadline_and_says_from_where_on(way: Way) {
    let place = Place::new();
    let fake = Fake::tls(
        place.tls(),
        counted(|seen, turn| match turn {
            0..=6 => each(seen, |n| if n < 4 { "accepted" } else { "inbox_full" }),
            // No attempt is under way at the deadline, however slow the machine is.
            _ => problem(ProblemCode::InboxFull, "Retry-After: 3600\r\n"),
        }),
    );
    let deadline = match way {
        Way::Post => Duration::from_secs(20),
        // Less than the pause that a channel has after a full inbox.
        Way::Channel => Duration::from_millis(900),
    };
    let client = built(way, place.builder(&fake).timeout(deadline)).blocking();
    client.send(&json!({"n": 0})).timeout(Duration::from_secs(20)).wait().unwrap();
    let error = client.send_all(numbers(0..100)).batch_messages(3).wait().unwrap_err();
    assert!(matches!(*error.source, SendError::Timeout { .. }), "{error:?}");
    assert_eq!((error.report.sent, error.from, error.outcome()), (4, 4, Outcome::Refused));
    assert!(fake.messages().len() < 60, "the client pauses before it sends refused messages again");
}

fn a_refusal_of_the_client_itself_ends_it(way: Way) {
    let place = Place::new();
    let fake = Fake::tls(place.tls(), with_session(|_| problem(ProblemCode::WrongCertificate, "")));
    let error = place.client_by(way, &fake).send_all(numbers(0..10)).wait().unwrap_err();
    assert_eq!((error.from, error.report.sent), (0, 0));
    // The close frame may come while the server stores messages of an earlier frame.
    let refusal = match &*error.source {
        SendError::InDoubt { last } if way == Way::Channel => last,
        error => error,
    };
    assert!(
        matches!(refusal, SendError::Refused { code: Some(ProblemCode::WrongCertificate), .. }),
        "{refusal:?}"
    );
}

both_ways!(
    all_arrive_in_order_each_under_an_id_of_its_own,
    what_lost_its_answer_goes_again_under_its_id_and_counts_as_a_duplicate,
    a_session_that_ends_between_messages_is_renewed_once,
    each_refusal_is_told_by_its_index_and_the_rest_goes_on,
    an_inbox_that_stays_full_ends_it_at_the_deadline_and_says_from_where_on,
    a_refusal_of_the_client_itself_ends_it,
);

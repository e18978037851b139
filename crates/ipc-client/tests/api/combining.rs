//! Messages that many tasks send at the same moment: they go together, each with its own answer,
//! and none holds up another.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use ipc_client::{Client, Outcome, ProblemCode, SendError, Sent};
use serde_json::json;
use tokio::task::JoinHandle;

use crate::fake::{
    Answer, Fake, Seen, TOKEN, counted, problem, replied, success, took, took_all, with_session,
};
use crate::fixture::{Place, built};
use crate::gate::{Gate, teller};
use crate::ways::{Way, both_ways_async};

type Sending = JoinHandle<Result<Sent, SendError>>;

/// Sends `{"n": n}` from a task each. When it returns, the client has all of them.
async fn send(client: &Client, numbers: std::ops::Range<u32>) -> Vec<Sending> {
    let mut sending = Vec::new();
    for n in numbers {
        let mut send = Box::pin(client.send(&json!({"n": n})));
        // The first poll passes the message to the client.
        let first = poll_fn(|cx| Poll::Ready(send.as_mut().poll(cx))).await;
        sending.push(tokio::spawn(async move {
            match first {
                Poll::Ready(result) => result,
                Poll::Pending => send.await,
            }
        }));
    }
    sending
}

async fn results(sending: Vec<Sending>) -> Vec<Result<Sent, SendError>> {
    let mut results = Vec::new();
    for task in sending {
        results.push(task.await.unwrap());
    }
    results
}

/// A server that holds the first message until the gate opens, and reports its arrival. `then`
/// answers all others.
fn held_up(
    place: &Place,
    then: impl Fn(&Seen) -> Answer + Send + Sync + 'static,
) -> (Fake, Arc<Gate>, std::sync::mpsc::Receiver<String>) {
    let gate = Arc::new(Gate::default());
    let (tell, arrival) = teller();
    let kept = Arc::clone(&gate);
    let script = with_session(move |seen| {
        if seen.body == r#"{"n":0}"# && seen.path == "/message/submit" {
            tell(&seen.body);
            kept.pass();
            return success();
        }
        then(seen)
    });
    (Fake::tls(place.tls(), script), gate, arrival)
}

/// Sends one message, which the server holds until all others wait behind it.
async fn behind_the_first(
    client: &Client,
    (gate, arrival): (&Gate, &std::sync::mpsc::Receiver<String>),
    numbers: std::ops::Range<u32>,
) -> Vec<Result<Sent, SendError>> {
    let mut sending = send(client, 0..1).await;
    tokio::task::block_in_place(|| arrival.recv().unwrap());
    sending.extend(send(client, numbers).await);
    gate.open();
    results(sending).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_while_a_message_is_on_its_way_goes_together_each_under_an_id_of_its_own() {
    let place = Place::new();
    let (fake, gate, arrival) = held_up(&place, took);
    let client = place.builder(&fake).connections_max(1).build().unwrap();
    let results = behind_the_first(&client, (&gate, &arrival), 1..50).await;
    let sent: BTreeSet<String> =
        results.into_iter().map(|sent| sent.unwrap().id.to_string()).collect();
    let messages = fake.messages();
    let arrived: BTreeSet<String> = messages.iter().map(|(id, _)| id.clone()).collect();
    assert_eq!((sent.len(), arrived), (50, sent.clone()));
    let bodies: BTreeSet<String> = messages.into_iter().map(|(_, body)| body).collect();
    assert_eq!(bodies, (0..50).map(|n| format!(r#"{{"n":{n}}}"#)).collect());
    let requests = fake.seen().iter().filter(|seen| seen.session.is_some()).count();
    assert!(requests < 25, "{requests} requests for 50 messages");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_message_of_a_group_has_its_own_answer() {
    let place = Place::new();
    let (fake, gate, arrival) = held_up(&place, |seen| {
        if seen.entries.is_empty() {
            return success();
        }
        let others: Vec<_> = (0..)
            .zip(&seen.entries)
            .filter_map(|(index, (_, body))| match body.as_str() {
                r#"{"n":7}"# => Some(json!({"index": index, "code": "id_reused"})),
                r#"{"n":8}"# => Some(json!({"index": index, "code": "duplicate"})),
                _ => None,
            })
            .collect();
        let accepted = seen.entries.len() - others.len();
        replied(seen, "", &json!({"accepted": accepted, "others": others}).to_string())
    });
    let client = place.builder(&fake).connections_max(1).build().unwrap();
    let results = behind_the_first(&client, (&gate, &arrival), 5..20).await;
    for (n, result) in std::iter::once(0).chain(5..20).zip(results) {
        match n {
            7 => {
                let error = result.unwrap_err();
                assert!(
                    matches!(error, SendError::Refused { code: Some(ProblemCode::IdReused), .. }),
                    "{error}"
                );
            }
            _ => assert_eq!(result.unwrap().duplicate, n == 8, "{n}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_finds_no_room_goes_again_and_the_rest_is_not_repeated() {
    let place = Place::new();
    let (fake, gate, arrival) = held_up(
        &place,
        counted(|seen, turn| match seen.entries.len() {
            0 => success(),
            _ if turn > 0 => took_all(seen),
            _ => replied(seen, "", r#"{"accepted":2,"full_from":2}"#),
        }),
    );
    let client = place.builder(&fake).connections_max(1).build().unwrap();
    let results = behind_the_first(&client, (&gate, &arrival), 1..10).await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    let messages = fake.messages();
    let first = &fake.admitted("/message/batch")[0].entries;
    for (index, (id, _)) in first.iter().enumerate() {
        let times = messages.iter().filter(|(other, _)| other == id).count();
        assert_eq!(times, if index < 2 { 1 } else { 2 }, "message {index}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_brings_each_message_again_under_its_id() {
    let place = Place::new();
    let (fake, gate, arrival) = held_up(
        &place,
        counted(|seen, turn| match seen.entries.len() {
            0 => success(),
            _ if turn == 0 => Answer::Close,
            _ => took_all(seen),
        }),
    );
    let client = place.builder(&fake).connections_max(1).build().unwrap();
    let results = behind_the_first(&client, (&gate, &arrival), 1..10).await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    let ids: BTreeSet<String> = fake.messages().into_iter().map(|(id, _)| id).collect();
    assert_eq!(ids.len(), 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_takes_fewer_at_once_gets_fewer_at_once() {
    let place = Place::new();
    let (fake, gate, arrival) = held_up(&place, |seen| match seen.entries.len() {
        4.. => problem(ProblemCode::TooLarge, ""),
        _ => took(seen),
    });
    let client = place.builder(&fake).connections_max(1).build().unwrap();
    let results = behind_the_first(&client, (&gate, &arrival), 1..30).await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    let before = fake.admitted("/message/batch").len();
    let again = results_of(&client, 30..60).await;
    assert!(again.iter().all(Result::is_ok), "{again:?}");
    let later = fake.admitted("/message/batch").split_off(before);
    assert!(later.iter().all(|seen| seen.entries.len() < 4), "the client has learnt the limit");
}

async fn results_of(
    client: &Client,
    numbers: std::ops::Range<u32>,
) -> Vec<Result<Sent, SendError>> {
    results(send(client, numbers).await).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_is_over_is_renewed_once_for_all() {
    let place = Place::new();
    let is_over = std::sync::atomic::AtomicBool::new(false);
    let (fake, gate, arrival) = held_up(&place, move |seen| {
        if seen.path == "/message/batch" && !is_over.swap(true, std::sync::atomic::Ordering::SeqCst)
        {
            return problem(ProblemCode::SessionExpired, "");
        }
        took(seen)
    });
    let client = place.builder(&fake).build().unwrap();
    let results = behind_the_first(&client, (&gate, &arrival), 1..20).await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    assert_eq!(fake.logins().len(), 2, "the first login, and one for all");
    assert!(
        fake.admitted("/message/batch").iter().all(|seen| seen.session.as_deref() == Some(TOKEN))
    );
}

async fn a_message_that_gets_no_answer_holds_up_no_other(way: Way) {
    let place = Place::new();
    let fake = Fake::tls(
        place.tls(),
        with_session(|seen| if seen.body == r#"{"n":0}"# { Answer::Hang } else { took(seen) }),
    );
    let client = built(way, place.builder(&fake).connections_max(2));
    client.send(&json!({"n": 100})).await.unwrap();
    let hanging = send(&client, 0..1).await;
    let results = results_of(&client, 1..20).await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    hanging[0].abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_whose_time_is_over_hear_whether_they_were_on_their_way() {
    let place = Place::new();
    let (tell, arrival) = teller();
    let fake = Fake::tls(
        place.tls(),
        with_session(move |seen| match seen.path.as_str() {
            "/message/request" => {
                tell("request");
                Answer::Hang
            }
            _ if seen.body == r#"{"n":0}"# => Answer::Hang,
            _ => took(seen),
        }),
    );
    let builder = place.builder(&fake).connections_max(1).timeout(Duration::from_secs(2));
    let client = builder.build().unwrap();
    client.send(&json!({"n": 100})).await.unwrap();
    let error = results_of(&client, 0..1).await.remove(0).unwrap_err();
    let SendError::Timeout { outcome, last, .. } = &error else { panic!("{error}") };
    assert_eq!((last.outcome(), *outcome), (Outcome::NotKnown, Outcome::NotKnown), "{last}");

    // A request occupies the only connection for longer than the timeout of the others.
    let request = tokio::spawn(client.request(&json!({})));
    tokio::task::block_in_place(|| arrival.recv().unwrap());
    for numbers in [1..2, 2..4] {
        for error in results_of(&client, numbers).await.into_iter().map(Result::unwrap_err) {
            let SendError::Timeout { outcome, last, .. } = &error else { panic!("{error}") };
            assert!(matches!(**last, SendError::Busy { connections_max: 1 }), "{last}");
            assert_eq!(*outcome, Outcome::NeverArrived);
        }
    }
    request.abort();
}

both_ways_async!(a_message_that_gets_no_answer_holds_up_no_other,);

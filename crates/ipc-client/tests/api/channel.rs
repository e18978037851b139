//! Channels: what goes over them, how entries are cut into frames and numbered, and how answers are
//! processed.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ipc_client::{Client, LocalClient, MessageId, Outcome, ProblemCode, SendError};
use serde_json::json;

use crate::fake::{Answer, Fake, Opening, Seen, TOKEN, problem, took, with_session};
use crate::fixture::{Place, built};
use crate::gate::teller;
use crate::ways::Way;
use crate::wire::{LIMITS, Said, Speaker};

pub(crate) type Frames = dyn Fn(&Said, &Speaker) + Send + Sync;

/// The same peer for each channel.
pub(crate) fn each(
    limits: &'static str,
    peer: impl Fn(&Said, &Speaker) + Send + Sync + 'static,
) -> impl Fn(usize) -> Opening + Send + Sync + 'static {
    let peer: Arc<Frames> = Arc::new(peer);
    move |_| {
        let peer = Arc::clone(&peer);
        Opening::Channel(limits, Box::new(move |said, speaker| peer(said, speaker)))
    }
}

/// A server that accepts everything by POST, and handles frames with `peer`.
pub(crate) fn fake(place: &Place, peer: impl Fn(&Said, &Speaker) + Send + Sync + 'static) -> Fake {
    Fake::with_channels(place.tls(), with_session(took), each(LIMITS, peer))
}

/// A client that has sent its first message by POST.
pub(crate) fn client(place: &Place, fake: &Fake) -> Client {
    built(Way::Channel, place.builder(fake))
}

fn numbered(n: u32) -> String {
    format!(r#"{{"n":{n}}}"#)
}

fn bodies_of(fake: &Fake) -> Vec<String> {
    fake.frames()
        .iter()
        .flat_map(|said| said.entries.iter().map(|entry| entry.body.clone()))
        .collect()
}

#[test]
fn the_first_message_goes_by_post_and_what_follows_over_a_channel() {
    let place = Place::new();
    let fake = fake(&place, |said, speaker| speaker.accept(said));
    let client = place.builder(&fake).channel(true).build().unwrap();
    let ids: Vec<_> =
        (0..4).map(|n| client.send(&json!({"n": n})).wait().unwrap().id.to_string()).collect();
    let posted: Vec<_> = fake.admitted("/message/submit").into_iter().map(|seen| seen.id).collect();
    assert_eq!(posted, ids[..1]);
    let frames = fake.frames();
    let entries: Vec<_> = frames.iter().flat_map(|said| said.entries.iter()).collect();
    assert_eq!(entries.iter().map(|entry| entry.id.clone()).collect::<Vec<_>>(), ids[1..]);
    assert_eq!(bodies_of(&fake), (1..4).map(numbered).collect::<Vec<_>>());
    assert_eq!(frames.iter().map(|said| said.first).collect::<Vec<_>>(), [0, 1, 2]);
    assert!(frames.iter().all(|said| said.id == frames[0].id && said.resume.is_none()));
    let sessions: Vec<_> = frames.iter().map(|said| said.session.as_deref()).collect();
    assert_eq!(sessions, [Some(TOKEN), None, None]);
    assert_eq!((fake.openings(), fake.logins().len()), (1, 1));
    assert_ne!(frames[0].id.to_string(), ids[1]);
}

#[tokio::test]
async fn two_that_are_first_at_the_same_time_go_over_a_channel() {
    let place = Place::new();
    let fake = fake(&place, |said, speaker| speaker.accept(said));
    let client = place.builder(&fake).channel(true).build().unwrap();
    let report = client.send_all([json!({"n": 0}), json!({"n": 1})]).await.unwrap();
    assert_eq!((report.sent, bodies_of(&fake)), (2, vec![numbered(0), numbered(1)]));
    assert!(fake.messages().is_empty(), "nothing goes by POST");
}

#[test]
fn the_first_message_stays_with_post_until_it_has_its_answer() {
    let place = Place::new();
    let script = with_session(|seen: &Seen| match seen.turn {
        0..3 => problem(ProblemCode::InboxFull, ""),
        _ => took(seen),
    });
    let fake =
        Fake::with_channels(place.tls(), script, each(LIMITS, |_, _| panic!("no frame arrives")));
    let client = place.builder(&fake).channel(true).build().unwrap();
    client.send(&json!({})).wait().unwrap();
    assert_eq!((fake.openings(), fake.logins().len()), (0, 1));
}

#[test]
fn what_is_there_at_the_same_time_goes_in_two_halves_so_that_both_ends_have_work() {
    let place = Place::new();
    let fake = fake(&place, |said, speaker| speaker.accept(said));
    actix_rt::System::new().block_on(async {
        let client = local(&place, &fake).await;
        let sends: Vec<_> =
            (0..50).map(|n| tokio::task::spawn_local(client.send(&json!({"n": n})))).collect();
        for send in sends {
            send.await.unwrap().unwrap();
        }
    });
    let counts: Vec<_> = fake.frames().iter().map(|frame| frame.entries.len()).collect();
    assert_eq!(counts, [25, 25]);
    assert_eq!(bodies_of(&fake), (0..50).map(numbered).collect::<Vec<_>>());
}

/// A `LocalClient` that has sent its first message.
pub(crate) async fn local(place: &Place, fake: &Fake) -> LocalClient {
    let builder = place.builder(fake).channel(true).keep_session(false);
    let client = builder.build_local().unwrap();
    client.send(&json!({"warming": "up"})).await.unwrap();
    client
}

#[test]
fn the_limits_that_the_server_tells_are_kept_to() {
    const TIGHT: &str = "message-bytes=4000, later=7, entries=3, requests=2";
    let place = Place::new();
    let waiting: Mutex<Vec<u64>> = Mutex::default();
    let fake = Fake::with_channels(
        place.tls(),
        with_session(took),
        each(TIGHT, move |said, speaker| {
            assert!(said.entries.len() <= 3 && said.envelope.len() <= 4000, "{said:?}");
            let mut waiting = waiting.lock().unwrap();
            for entry in &said.entries {
                match entry.reply_wait_ms {
                    None => speaker.settle(entry.number, entry.number, "accepted"),
                    Some(_) => waiting.push(entry.number),
                }
            }
            assert!(waiting.len() <= 2, "{} requests wait", waiting.len());
            // The last request gets its reply first, once the limit of waiting requests is reached.
            if waiting.len() == 2 {
                speaker.reply(waiting.pop().unwrap(), "{}");
            }
        }),
    );
    let client = client(&place, &fake);
    let text = "x".repeat(1200);
    let report = client.send_all((0..20).map(|n| json!({"n": n, "t": text}))).wait().unwrap();
    assert_eq!(
        (report.sent, fake.frames().iter().map(|said| said.entries.len()).max()),
        (20, Some(2))
    );
    assert_eq!(client.send_all((0..20).map(|n| json!({"n": n}))).wait().unwrap().sent, 20);
    assert!(fake.frames().iter().any(|said| said.entries.len() == 3));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let requests: Vec<_> =
        (0..21).map(|n| runtime.spawn(client.request(&json!({"n": n})))).collect();
    // The one request whose reply never comes.
    let answered = requests.into_iter().filter(|request| {
        let begun = Instant::now();
        while !request.is_finished() && begun.elapsed() < Duration::from_secs(1) {
            std::thread::yield_now();
        }
        request.is_finished()
    });
    assert_eq!(answered.count(), 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_requests_wait_on_one_channel_and_get_their_replies_in_any_order() {
    let place = Place::new();
    let all: Mutex<Vec<(u64, String)>> = Mutex::default();
    let fake = fake(&place, move |said, speaker| {
        assert!(said.envelope.len() <= 73_728, "a frame of {} bytes", said.envelope.len());
        let mut all = all.lock().unwrap();
        all.extend(said.entries.iter().map(|entry| (entry.number, entry.body.clone())));
        if all.len() == 1000 {
            for (number, body) in all.iter().rev() {
                speaker.reply(*number, body);
            }
        }
    });
    let client = tokio::task::block_in_place(|| client(&place, &fake));
    let requests: Vec<_> = (0..1000)
        .map(|n| tokio::spawn(client.request(&json!({"n": n, "text": "x".repeat(40)}))))
        .collect();
    for (n, request) in requests.into_iter().enumerate() {
        let reply = request.await.unwrap().unwrap();
        assert_eq!(reply.parse::<HashMap<String, serde_json::Value>>().unwrap()["n"], n);
    }
    assert!(fake.connections() <= 2, "{} connections", fake.connections());
    assert!(
        fake.frames()
            .iter()
            .flat_map(|said| &said.entries)
            .all(|entry| entry.reply_wait_ms.is_some())
    );
}

#[tokio::test]
async fn requests_in_one_frame_leave_room_for_how_long_they_wait() {
    let place = Place::new();
    let fake = fake(&place, |said, speaker| {
        assert!(said.envelope.len() <= 73_728, "a frame of {} bytes", said.envelope.len());
        said.entries.iter().for_each(|entry| speaker.reply(entry.number, "{}"));
    });
    tokio::task::LocalSet::new()
        .run_until(async {
            let client = local(&place, &fake).await;
            let body = json!({"text": "x".repeat(40)});
            let requests: Vec<_> =
                (0..900).map(|_| tokio::task::spawn_local(client.request(&body))).collect();
            for request in requests {
                request.await.unwrap().unwrap();
            }
        })
        .await;
    assert!(fake.frames().iter().any(|said| said.entries.len() > 300));
}

#[test]
fn what_no_frame_can_hold_goes_by_post_in_its_place() {
    let place = Place::new();
    let order: Arc<Mutex<Vec<String>>> = Arc::default();
    let note = |order: &Arc<Mutex<Vec<String>>>| {
        let order = Arc::clone(order);
        move |way: &str, body: &str| order.lock().unwrap().push(format!("{way} {}", &body[..6]))
    };
    let (posted, framed) = (note(&order), note(&order));
    let script = with_session(move |seen| {
        posted("post", &seen.body);
        took(seen)
    });
    let fake = Fake::with_channels(
        place.tls(),
        script,
        each(LIMITS, move |said, speaker| {
            said.bodies().iter().for_each(|body| framed("channel", body));
            speaker.accept(said);
        }),
    );
    let client = client(&place, &fake);
    let deep = (0..125).fold(json!(1), |inner, _| json!([inner]));
    let messages = [
        json!({"a": 0}),
        json!({"b": "x".repeat(100_000)}),
        json!({"c": 0}),
        json!({"d": deep}),
        json!({"e": "x".repeat(80_000)}),
        json!({"f": 0}),
    ];
    assert_eq!(client.send_all(&messages).wait().unwrap().sent, 6);
    let wanted = ["channel a", "post b", "channel c", "post d", "post e", "channel f"]
        .map(|arrived| arrived.replacen(' ', r#" {""#, 1) + r#"":"#);
    let order = order.lock().unwrap();
    let begins: Vec<_> =
        order.iter().map(|arrived| arrived.trim_end_matches(['0', '"', '[', 'x'])).collect();
    assert_eq!(
        begins,
        wanted.iter().map(|arrived| arrived.trim_end_matches('"')).collect::<Vec<_>>()
    );
}

#[test]
fn an_id_that_is_given_is_the_one_that_goes_out() {
    let place = Place::new();
    let fake = fake(&place, |said, speaker| {
        for entry in &said.entries {
            match entry.reply_wait_ms {
                None => speaker.settle(entry.number, entry.number, "duplicate"),
                Some(_) => speaker.answer(&format!(
                    r#"{{"replies":[{{"entry":{},"body":{{}},"duplicate":true}}]}}"#,
                    entry.number
                )),
            }
        }
    });
    let client = client(&place, &fake);
    let ids: [MessageId; 2] =
        ["01890a5d-ac96-774b-bcce-b302099a8057", "01890a5d-ac96-774b-bcce-b302099a8058"]
            .map(|id| id.parse().unwrap());
    let sent = client.send(&json!({})).id(ids[0]).wait().unwrap();
    assert_eq!((sent.id, sent.duplicate), (ids[0], true));
    let reply =
        client.request(&json!({})).id(ids[1]).timeout(Duration::from_secs(7)).wait().unwrap();
    assert_eq!((reply.id, reply.duplicate), (ids[1], true));
    let entries: Vec<_> = fake.frames().into_iter().flat_map(|said| said.entries).collect();
    assert_eq!(
        entries.iter().map(|entry| entry.id.parse().unwrap()).collect::<Vec<MessageId>>(),
        ids
    );
    assert_eq!((entries[0].reply_wait_ms, entries[1].reply_wait_ms), (None, Some(7000)));
}

#[test]
fn a_time_that_is_given_ends_a_call_that_gets_no_answer() {
    let place = Place::new();
    let fake = fake(&place, |_, _| ());
    let client = client(&place, &fake);
    let begun = Instant::now();
    let error = client.send(&json!({})).timeout(Duration::from_secs(2)).wait().unwrap_err();
    assert!(matches!(&error, SendError::Timeout { outcome: Outcome::NotKnown, .. }), "{error:?}");
    assert!(begun.elapsed() >= Duration::from_secs(2) && begun.elapsed() < Duration::from_secs(20));
}

#[test]
fn what_found_no_room_goes_again_in_order_after_a_second_and_says_that_this_is_known() {
    let place = Place::new();
    // When the server refused, and from which number on.
    let refusal: Mutex<Option<(Instant, u64)>> = Mutex::default();
    let turns = AtomicU64::new(0);
    let taken: Arc<Mutex<Vec<String>>> = Arc::default();
    let kept = Arc::clone(&taken);
    let fake = fake(&place, move |said, speaker| {
        let mut refusal = refusal.lock().unwrap();
        if let Some((at, from)) = *refusal
            && said.resume.is_some()
        {
            assert_eq!(said.resume, Some(from));
            assert!(at.elapsed() >= Duration::from_secs(1), "{:?}", at.elapsed());
            *refusal = None;
        }
        if refusal.is_some() {
            return;
        }
        assert!(said.resume.is_none() || turns.load(Ordering::SeqCst) > 0);
        let take = |entries: &[crate::wire::Entry]| {
            kept.lock().unwrap().extend(entries.iter().map(|entry| entry.body.clone()));
        };
        if turns.fetch_add(1, Ordering::SeqCst) < 2 && said.entries.len() > 1 {
            take(&said.entries[..1]);
            speaker.settle(said.first, said.first, "accepted");
            speaker.refuse(said.first + 1, "inbox_full");
            *refusal = Some((Instant::now(), said.first + 1));
        } else {
            take(&said.entries);
            speaker.accept(said);
        }
    });
    let client = client(&place, &fake);
    let report =
        client.send_all((0..30).map(|n| json!({"n": n}))).batch_messages(7).wait().unwrap();
    assert_eq!((report.sent, report.duplicates), (30, 0));
    assert_eq!(*taken.lock().unwrap(), (0..30).map(numbered).collect::<Vec<_>>());
    assert_eq!(fake.openings(), 1);
    assert_eq!(fake.frames().iter().filter(|said| said.resume.is_some()).count(), 2);
}

#[test]
fn at_the_deadline_whoever_waits_for_room_hears_that_there_is_none() {
    let place = Place::new();
    let (tell, arrival) = teller();
    let fake = fake(&place, move |said, speaker| {
        if said.first == 0 {
            speaker.refuse(0, "inbox_full");
        }
        tell("frame");
    });
    let client = client(&place, &fake);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let first =
        runtime.spawn(client.send(&json!({"n": 0})).timeout(Duration::from_secs(10)).into_future());
    arrival.recv().unwrap();
    // The second send is refused itself. Both together end within the server's pause of a second.
    let short = Duration::from_millis(450);
    for error in [
        client.send(&json!({"n": 1})).timeout(short).wait().unwrap_err(),
        client.send(&json!({"n": 2})).timeout(short).wait().unwrap_err(),
    ] {
        assert!(
            matches!(&error, SendError::Timeout { outcome: Outcome::Refused, .. }),
            "{error:?}"
        );
        assert_eq!(error.code(), Some(ProblemCode::InboxFull));
    }
    first.abort();
}

#[test]
fn a_request_that_found_no_room_has_all_its_time_for_the_reply_once_it_is_taken() {
    let place = Place::new();
    let fake = fake(&place, |said, speaker| {
        let wait = said.entries[0].reply_wait_ms.unwrap();
        match said.resume {
            None => speaker.refuse(said.first, "inbox_full"),
            Some(_) if wait == 2000 => speaker.reply(said.first, "{}"),
            Some(_) => panic!("the reply's wait is only {wait} ms"),
        }
    });
    client(&place, &fake).request(&json!({})).timeout(Duration::from_secs(2)).wait().unwrap();
}

#[test]
fn a_reply_that_comes_when_nobody_waits_is_passed_over_and_a_second_one_ends_the_channel() {
    let place = Place::new();
    let (tell, arrival) = teller();
    let fake = fake(&place, move |said, speaker| {
        let entry = &said.entries[0];
        match (said.channel, entry.body.as_str()) {
            (0, r#"{"n":0}"#) => tell("request"),
            (0, r#"{"n":1}"#) => {
                // The reply to the dropped request, then the answer to this message.
                speaker.reply(0, "{}");
                speaker.settle(1, 1, "accepted");
            }
            (0, _) => speaker.reply(0, "{}"),
            _ => speaker.accept(said),
        }
    });
    let client = client(&place, &fake);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let request = runtime.spawn(client.request(&json!({"n": 0})));
    arrival.recv().unwrap();
    request.abort();
    let _ = runtime.block_on(request);
    client.send(&json!({"n": 1})).wait().unwrap();
    assert_eq!(fake.openings(), 1);
    client.send(&json!({"n": 2})).wait().unwrap();
    assert_eq!(fake.openings(), 2, "a second answer to an entry is invalid");
}

#[test]
fn a_server_that_answers_something_else_than_101_gets_all_by_post_and_that_is_said_once() {
    crate::logged::watch();
    for status in [404, 426, 501, 200, 302] {
        let place = Place::new();
        let answer = move |_| Opening::Answer(Answer::Send(crate::fake::http(status, "", b"no")));
        let fake = Fake::with_channels(place.tls(), with_session(took), answer);
        let client = client(&place, &fake);
        for n in 0..5 {
            client.send(&json!({"n": n})).wait().unwrap();
        }
        assert_eq!(client.send_all((5..9).map(|n| json!({"n": n}))).wait().unwrap().sent, 4);
        let arrived: BTreeSet<_> = fake.messages().into_iter().map(|(_, body)| body).collect();
        assert_eq!(arrived, (0..9).map(numbered).collect());
        assert_eq!(fake.openings(), 1, "{status}");
        let line =
            format!("{} opens no channel (status {status}): messages go by POST", fake.address());
        assert_eq!(crate::logged::so_far().matches(&line).count(), 1, "{line}");
    }
}

#[test]
fn a_101_that_is_none_opens_no_channel() {
    let head = "HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n";
    for rest in [
        "\r\n",
        "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: web-ipc.1\r\n\r\n",
    ] {
        let place = Place::new();
        let opening = move |_| Opening::Answer(Answer::Send(format!("{head}{rest}").into_bytes()));
        let fake = Fake::with_channels(place.tls(), with_session(took), opening);
        client(&place, &fake).send(&json!({"n": 0})).wait().unwrap();
        assert_eq!((fake.openings(), fake.messages().len()), (1, 1));
    }
}

#[test]
fn an_opening_without_an_answer_is_followed_by_a_post_and_after_three_no_other_is_made() {
    let place = Place::new();
    let fake =
        Fake::with_channels(place.tls(), with_session(took), |_| Opening::Answer(Answer::Close));
    let client = client(&place, &fake);
    for n in 0..9 {
        client.send(&json!({"n": n})).wait().unwrap();
    }
    assert_eq!((fake.openings(), fake.messages().len()), (3, 9));
}

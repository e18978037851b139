//! Channels that end: the client sends the entries without an answer again, and no others, whoever
//! ended the channel and why.
#![allow(clippy::unwrap_used)]

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use actix_http::ws::Message;
use ipc_client::{Client, Outcome, ProblemCode, SendError};
use ipc_envelope::{Key, KeyRing};
use serde_json::json;

use crate::channel::{client, each, fake, local};
use crate::fake::{
    Answer, Fake, Opening, TOKEN, counted, grant, problem, replied, success, took, with_session,
};
use crate::fixture::{Place, built, now_secs, ring};
use crate::gate::teller;
use crate::ways::Way;
use crate::wire::{LIMITS, Said, Speaker, answer_frame};

/// The ids that arrived over this channel.
fn ids(fake: &Fake, channel: usize) -> Vec<String> {
    let frames = fake.frames().into_iter().filter(|said| said.channel == channel);
    frames.flat_map(|said| said.entries).map(|entry| entry.id).collect()
}

#[test]
fn what_has_no_answer_when_a_channel_breaks_goes_again_over_another_and_the_rest_does_not() {
    let place = Place::new();
    let fake = fake(&place, |said, speaker| match said.channel {
        0 if said.first == 0 => {
            speaker.settle(1, 2, "accepted");
            speaker.cut();
        }
        0 => (),
        _ => speaker.accept(said),
    });
    let report = client(&place, &fake).send_all((0..6).map(|n| json!({"n": n}))).wait().unwrap();
    assert_eq!((report.sent, report.refused), (6, 0));
    let (before, after) = (ids(&fake, 0), ids(&fake, 1));
    assert_eq!(after, [&before[..1], &before[3..]].concat());
    let frames = fake.frames();
    let begin = frames.iter().find(|said| said.channel == 1).unwrap();
    assert_eq!((begin.first, begin.session.as_deref()), (0, Some(TOKEN)));
    assert_ne!(begin.id, frames[0].id);
    assert_eq!(fake.logins().len(), 1);
}

/// An answer that no server gives.
type Lie = fn(&Said, &Speaker);

#[test]
fn an_answer_that_is_none_ends_the_channel_and_loses_nothing() {
    let lies: [(&str, u16, Lie); 14] = [
        ("an entry that was not sent", 1008, |_, speaker| speaker.settle(1, 1, "accepted")),
        ("the largest number", 1008, |_, speaker| speaker.settle(u64::MAX, u64::MAX, "accepted")),
        ("every number", 1008, |_, speaker| speaker.settle(0, u64::MAX, "unavailable")),
        ("one that waits and one that was not sent", 1008, |_, speaker| {
            speaker.settle(0, 1, "unavailable");
        }),
        ("a good one and a bad one", 1008, |_, speaker| {
            speaker.answer(r#"{"settled":[[0,0,"unavailable"],[7,7,"accepted"]]}"#);
        }),
        ("a refusal of what was not sent", 1008, |_, speaker| speaker.refuse(1, "inbox_full")),
        ("a reply to a message", 1008, |_, speaker| speaker.reply(0, "{}")),
        ("a number that is none", 1008, |_, speaker| {
            speaker.answer(r#"{"settled":[[-1,0,"accepted"]]}"#)
        }),
        ("an array", 1008, |_, speaker| speaker.answer("[]")),
        ("other keys", 1008, |_, speaker| {
            let frame = answer_frame(speaker.id(), r#"{"settled":[[0,0,"accepted"]]}"#);
            let other = KeyRing::new(Key::from_bytes([1; 32]));
            speaker.say(Message::Binary(other.seal(&frame, now_secs(), [5; 16]).into()));
        }),
        ("an old seal", 1008, |_, speaker| {
            let frame = answer_frame(speaker.id(), r#"{"settled":[[0,0,"accepted"]]}"#);
            speaker.say(Message::Binary(ring().seal(&frame, now_secs() - 600, [5; 16]).into()));
        }),
        ("another channel", 1008, |_, speaker| {
            let other = "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap();
            let frame = answer_frame(other, r#"{"settled":[[0,0,"accepted"]]}"#);
            speaker.say(Message::Binary(ring().seal(&frame, now_secs(), [5; 16]).into()));
        }),
        ("what the client sent", 1008, |said, speaker| {
            speaker.say(Message::Binary(said.envelope.clone().into()));
        }),
        ("text", 1002, |_, speaker| speaker.say(Message::Text("accepted".into()))),
    ];
    for (what, code, lie) in lies {
        let place = Place::new();
        let fake = fake(&place, move |said, speaker| match said.channel {
            0 => lie(said, speaker),
            _ => speaker.accept(said),
        });
        let sent = client(&place, &fake).send(&json!({"n": 1})).wait().unwrap();
        assert!(!sent.duplicate, "{what}");
        assert_eq!(ids(&fake, 0), [sent.id.to_string()], "{what}");
        assert_eq!(ids(&fake, 1), [sent.id.to_string()], "{what}");
        let codes: Vec<_> = fake.closes().into_iter().map(|(code, _)| code).collect();
        assert_eq!(codes[0], code, "{what}");
    }
}

#[test]
fn what_an_answer_names_twice_ends_the_channel() {
    let place = Place::new();
    let fake = fake(&place, |said, speaker| match said.channel {
        0 => {
            speaker.settle(0, 0, "accepted");
            speaker.answer(r#"{"settled":[[0,0,"accepted"],[1,1,"accepted"]]}"#);
        }
        _ => speaker.accept(said),
    });
    let report = client(&place, &fake).send_all((0..3).map(|n| json!({"n": n}))).wait().unwrap();
    assert_eq!(report.sent, 3);
    assert_eq!(ids(&fake, 1), ids(&fake, 0)[1..]);
}

#[test]
fn a_request_whose_answer_is_among_lies_is_asked_for_again() {
    let place = Place::new();
    let fake = fake(&place, |said, speaker| match said.channel {
        0 => speaker.answer(r#"{"settled":[[0,0,"no_reply_in_time"],[9,9,"accepted"]]}"#),
        _ => speaker.reply(said.first, r#"{"n":7}"#),
    });
    let reply = client(&place, &fake).request(&json!({})).wait().unwrap();
    assert_eq!(reply.body(), r#"{"n":7}"#);
    assert_eq!(ids(&fake, 1), [reply.id.to_string()]);
}

#[test]
fn each_close_code_leads_to_another_attempt_under_the_same_id() {
    let by_post = |code: u16| ![1000, 1001].contains(&code);
    for (code, reason) in [
        (1000, ""),
        (1001, "the server is stopping"),
        (1002, "why"),
        (1003, "why"),
        (1008, "the peer was silent too long"),
        (1009, "too long"),
        (1011, ""),
        (4400, "stale_envelope"),
        (4413, "too_large"),
        (4500, "internal_error"),
        (4503, "unavailable"),
        (4999, "of a later version"),
    ] {
        let place = Place::new();
        let fake = fake(&place, move |said, speaker| match said.channel {
            0 => speaker.close(code, reason),
            _ => speaker.accept(said),
        });
        let sent = client(&place, &fake).send(&json!({"n": 1})).wait().unwrap();
        let again: Vec<_> = if by_post(code) {
            fake.messages().into_iter().map(|(id, _)| id).collect()
        } else {
            ids(&fake, 1)
        };
        assert_eq!(again, [sent.id.to_string()], "{code}");
    }
}

#[test]
fn a_session_that_ends_is_renewed_once_and_all_goes_again_over_a_new_channel() {
    let place = Place::new();
    let logins = AtomicUsize::new(0);
    let good = with_session(took);
    let script = move |seen: &crate::fake::Seen| match seen.is_login() {
        true if logins.fetch_add(1, Ordering::SeqCst) > 0 => grant(seen, "another"),
        _ => good(seen),
    };
    let peer = |said: &Said, speaker: &Speaker| match said.channel {
        0 => speaker.close(4419, "session_expired"),
        _ => speaker.accept(said),
    };
    let fake = Fake::with_channels(place.tls(), script, each(LIMITS, peer));
    let report = client(&place, &fake).send_all((0..5).map(|n| json!({"n": n}))).wait().unwrap();
    assert_eq!((report.sent, fake.logins().len()), (5, 2));
    let (before, after) = (ids(&fake, 0), ids(&fake, 1));
    assert!(before.len() == 5 && before == after, "{before:?} {after:?}");
    let sessions: Vec<_> = fake.frames().into_iter().filter_map(|said| said.session).collect();
    assert_eq!(sessions, [TOKEN, "another"]);
}

#[test]
fn a_server_that_takes_no_session_is_not_asked_for_good() {
    let place = Place::new();
    let fake = fake(&place, |_, speaker| speaker.close(4419, "session_expired"));
    let error = client(&place, &fake).send(&json!({})).wait().unwrap_err();
    assert_eq!(
        (error.code(), error.outcome()),
        (Some(ProblemCode::SessionExpired), Outcome::NotKnown)
    );
    assert_eq!(fake.logins().len(), 2);
}

#[test]
fn a_login_that_fails_after_a_channel_ended_leaves_it_open_what_was_taken() {
    let place = Place::new();
    let logins = AtomicUsize::new(0);
    let good = with_session(took);
    let script = move |seen: &crate::fake::Seen| match seen.is_login() {
        true if logins.fetch_add(1, Ordering::SeqCst) > 0 => {
            problem(ProblemCode::BadCredentials, "")
        }
        _ => good(seen),
    };
    let fake = Fake::with_channels(
        place.tls(),
        script,
        each(LIMITS, |_, speaker| speaker.close(4419, "session_expired")),
    );
    let error = client(&place, &fake).send(&json!({})).wait().unwrap_err();
    assert_eq!(
        (error.code(), error.outcome()),
        (Some(ProblemCode::BadCredentials), Outcome::NotKnown)
    );
}

#[test]
fn a_stopping_server_that_has_no_reply_leaves_it_open_whether_the_request_is_there() {
    let place = Place::new();
    let script = with_session(|_| problem(ProblemCode::ShuttingDown, ""));
    let peer =
        |said: &Said, speaker: &Speaker| speaker.settle(said.first, said.last(), "shutting_down");
    let fake = Fake::with_channels(place.tls(), script, each(LIMITS, peer));
    let client = built(Way::Channel, place.builder(&fake).timeout(Duration::from_secs(2)));
    let error = client.request(&json!({})).timeout(Duration::from_secs(2)).wait().unwrap_err();
    assert_eq!(error.outcome(), Outcome::NotKnown, "{error:?}");
}

#[test]
fn a_ping_is_answered_and_of_many_the_last() {
    let place = Place::new();
    let fake = fake(&place, |said, speaker| {
        for n in 0..200 {
            speaker.say(Message::Ping(format!("{n}").into()));
        }
        speaker.accept(said);
    });
    let client = client(&place, &fake);
    client.send(&json!({})).wait().unwrap();
    client.send(&json!({})).wait().unwrap();
    let (_, pongs) = fake.pings_and_pongs();
    assert!(pongs.contains(&b"199".to_vec()), "{pongs:?}");
}

#[test]
fn a_server_that_closes_every_channel_at_once_is_not_asked_without_pauses() {
    let place = Place::new();
    let fake = Fake::with_channels(place.tls(), with_session(took), |_| {
        Opening::Greeting(LIMITS, |speaker| speaker.close(1001, "the channel was idle too long"))
    });
    let client = built(Way::Channel, place.builder(&fake).timeout(Duration::from_secs(2)));
    let _ = client.send(&json!({})).wait();
    assert!((1..20).contains(&fake.openings()), "{} openings", fake.openings());
}

#[test]
fn a_reply_that_is_longer_than_the_client_takes_is_told_and_holds_up_no_other() {
    let place = Place::new();
    let long = format!(r#"{{"text":"{}"}}"#, "x".repeat(2 << 20));
    let posted = long.clone();
    let script = with_session(move |seen| match seen.path.as_str() {
        "/message/request" => replied(seen, "", &posted),
        _ => took(seen),
    });
    let peer = move |said: &Said, speaker: &Speaker| {
        for entry in &said.entries {
            match entry.reply_wait_ms {
                Some(_) => speaker.reply(entry.number, &long),
                None => speaker.settle(entry.number, entry.number, "accepted"),
            }
        }
    };
    let fake = Fake::with_channels(place.tls(), script, each(LIMITS, peer));
    let client = built(Way::Channel, place.builder(&fake).plaintext_bytes_max(1 << 20));
    let error = client.request(&json!({})).wait().unwrap_err();
    assert!(error.to_string().contains("longer than this client accepts"), "{error}");
    // By POST, until a POST has succeeded.
    client.send(&json!({"n": 1})).wait().unwrap();
    client.send(&json!({"n": 2})).wait().unwrap();
    assert_eq!(fake.frames().last().unwrap().channel, 1);
}

#[test]
fn what_a_server_says_when_it_closes_is_fit_for_a_log() {
    crate::logged::watch();
    let place = Place::new();
    let fake = fake(&place, |said, speaker| match said.channel {
        0 => speaker.close(1008, "red \u{1b}[31m and\nanother line of 7143"),
        _ => speaker.accept(said),
    });
    client(&place, &fake).send(&json!({})).wait().unwrap();
    let line =
        format!("{} closed the channel: 1008 red [31m andanother line of 7143\n", fake.address());
    assert!(crate::logged::so_far().contains(&line));
}

#[test]
fn a_client_that_is_dropped_does_not_wait_for_a_channel_to_open() {
    let place = Place::new();
    let (tell, arrival) = teller();
    let fake = Fake::with_channels(place.tls(), with_session(took), move |_| {
        tell("opening");
        Opening::Answer(Answer::Hang)
    });
    let client = client(&place, &fake);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let send = runtime.spawn(client.send(&json!({})));
    drop(client);
    arrival.recv().unwrap();
    let begun = std::time::Instant::now();
    send.abort();
    let _ = runtime.block_on(send);
    // The connection of the first message is closed too.
    fake.wait_for_goodbye();
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
}

/// Runs a test on a paused clock, which advances only when all tasks wait for it.
fn paused(test: impl Future<Output = ()>) {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().start_paused(true).build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, test);
}

#[test]
fn a_server_that_is_silent_is_pinged_and_then_given_up() {
    paused(async {
        let place = Place::new();
        let fake = Fake::with_channels_here(
            place.tls(),
            with_session(took),
            each(LIMITS, |said, speaker| match said.channel {
                0 => (),
                _ => speaker.reply(said.first, "{}"),
            }),
        );
        let client = local(&place, &fake).await;
        let begun = tokio::time::Instant::now();
        let reply = client.request(&json!({})).timeout(Duration::from_secs(100)).await.unwrap();
        assert_eq!(begun.elapsed().as_secs(), 30);
        assert_eq!(fake.pings_and_pongs().0, 1);
        assert_eq!(
            (ids(&fake, 0), ids(&fake, 1)),
            (vec![reply.id.to_string()], vec![reply.id.to_string()])
        );
    });
}

#[test]
fn a_message_without_an_answer_goes_again_over_another_channel() {
    paused(async {
        let place = Place::new();
        let fake = Fake::with_channels_here(
            place.tls(),
            with_session(took),
            each(LIMITS, |said, speaker| match said.channel {
                0 => (),
                _ => speaker.accept(said),
            }),
        );
        let client = local(&place, &fake).await;
        let sent = client.send(&json!({})).await.unwrap();
        assert_eq!(
            (ids(&fake, 0), ids(&fake, 1)),
            (vec![sent.id.to_string()], vec![sent.id.to_string()])
        );
        assert_eq!(fake.closes()[0], (1001, "no answer in time".to_owned()));
    });
}

#[test]
fn a_channel_that_was_not_opened_is_asked_for_again_a_minute_later() {
    paused(async {
        let place = Place::new();
        let accept = |said: &Said, speaker: &Speaker| speaker.accept(said);
        let fake =
            Fake::with_channels_here(place.tls(), with_session(took), move |number| match number {
                0 => Opening::Answer(Answer::Send(crate::fake::http(404, "", b""))),
                _ => Opening::Channel(LIMITS, Box::new(accept)),
            });
        let client = local(&place, &fake).await;
        client.send(&json!({"n": 0})).await.unwrap();
        tokio::time::sleep(Duration::from_secs(55)).await;
        client.send(&json!({"n": 1})).await.unwrap();
        assert_eq!((fake.openings(), fake.frames().len()), (1, 0));
        tokio::time::sleep(Duration::from_secs(10)).await;
        client.send(&json!({"n": 2})).await.unwrap();
        assert_eq!((fake.openings(), fake.frames().len()), (2, 1));
    });
}

fn two_addresses(place: &Place, fakes: [&Fake; 2]) -> Client {
    let builder = Client::builder(&place.home)
        .server("localhost", fakes.map(|fake| fake.address().to_string()));
    built(Way::Channel, builder.timeout(Duration::from_secs(20)))
}

#[test]
fn what_had_no_answer_at_one_address_goes_to_the_next_under_the_same_ids() {
    let broken: [Lie; 3] = [
        |_, speaker| speaker.cut(),
        |_, speaker| speaker.close(1001, "the server is stopping"),
        |said, speaker| {
            speaker.settle(said.first, said.first, "accepted");
            speaker.cut();
        },
    ];
    for (case, ends) in broken.into_iter().enumerate() {
        let place = Place::new();
        let first = fake(&place, ends);
        let second = fake(&place, |said, speaker| speaker.accept(said));
        let client = two_addresses(&place, [&first, &second]);
        let report = client.send_all((0..5).map(|n| json!({"n": n}))).wait().unwrap();
        assert_eq!((report.sent, report.refused), (5, 0), "{case}");
        let (at_first, at_second) = (ids(&first, 0), ids(&second, 0));
        assert_eq!(at_second, at_first[usize::from(case == 2)..], "{case}");
        assert_eq!(first.openings(), 1, "{case}");
    }
}

#[test]
fn a_server_that_cannot_store_messages_is_left_for_the_next_address() {
    let place = Place::new();
    let first = fake(&place, |said, speaker| {
        speaker.settle(said.first, said.first, "accepted");
        speaker.refuse(said.first + 1, "unavailable");
    });
    let second = fake(&place, |said, speaker| speaker.accept(said));
    let client = two_addresses(&place, [&first, &second]);
    let report = client.send_all((0..5).map(|n| json!({"n": n}))).wait().unwrap();
    assert_eq!((report.sent, report.refused), (5, 0));
    assert_eq!(first.openings(), 1);
    assert_eq!(ids(&second, 0), ids(&first, 0)[1..]);
    assert_eq!((ids(&second, 0).len(), second.messages().len()), (4, 0));
}

#[test]
fn a_server_that_cannot_store_messages_is_asked_again_where_it_is_the_only_one() {
    let place = Place::new();
    let fake = fake(&place, |said, speaker| match said.resume {
        None => speaker.refuse(said.first, "unavailable"),
        Some(_) => speaker.accept(said),
    });
    let client = client(&place, &fake);
    client.send(&json!({})).wait().unwrap();
    assert_eq!((fake.openings(), fake.frames().len()), (1, 2));
}

#[test]
fn a_server_that_cannot_store_messages_is_left_by_post_although_it_keeps_the_connection() {
    let place = Place::new();
    let unavailable = with_session(|_| problem(ProblemCode::Unavailable, ""));
    let first = Fake::tls(place.tls(), unavailable);
    let second = Fake::tls(place.tls(), with_session(took));
    let addresses = [&first, &second].map(|fake| fake.address().to_string());
    let builder = Client::builder(&place.home).server("localhost", addresses).channel(false);
    let client = builder.timeout(Duration::from_secs(20)).build().unwrap();
    for n in 0..3 {
        client.send(&json!({"n": n})).wait().unwrap();
    }
    assert_eq!((first.messages().len(), second.messages().len()), (1, 3));
}

#[test]
fn a_request_that_a_server_has_accepted_is_waited_for_there() {
    let place = Place::new();
    let (tell, asked) = teller();
    let waiting = Mutex::new(None);
    let first = fake(&place, move |said, speaker| {
        let mut waiting = waiting.lock().unwrap();
        match (*waiting, said.entries[0].reply_wait_ms) {
            (None, Some(_)) => {
                *waiting = Some(said.first);
                tell("request");
            }
            (Some(request), _) if said.resume.is_some() => {
                speaker.accept(said);
                speaker.reply(request, r#"{"n":7}"#);
            }
            _ => speaker.refuse(said.first, "unavailable"),
        }
    });
    let second = fake(&place, |said, speaker| speaker.accept(said));
    let client = two_addresses(&place, [&first, &second]);
    let request = client.request(&json!({}));
    let asker = std::thread::spawn(move || request.wait().unwrap());
    asked.recv().unwrap();
    client.send(&json!({"n": 1})).wait().unwrap();
    assert_eq!(asker.join().unwrap().body(), r#"{"n":7}"#);
    assert_eq!((second.openings(), second.messages().len()), (0, 0));
}

#[test]
fn a_server_that_is_gone_for_good_is_left_for_the_next_address() {
    let place = Place::new();
    let first = fake(&place, |said, speaker| speaker.accept(said));
    let second = fake(&place, |said, speaker| speaker.accept(said));
    let client = two_addresses(&place, [&first, &second]);
    client.send(&json!({"n": 0})).wait().unwrap();
    drop(first);
    for n in 1..4 {
        client.send(&json!({"n": n})).wait().unwrap();
    }
    let arrived = ids(&second, 0).len() + second.messages().len();
    assert_eq!(arrived, 3);
}

#[test]
fn an_address_that_answers_no_opening_is_left_for_the_next() {
    paused(async {
        let place = Place::new();
        let hang = |_| Opening::Answer(Answer::Hang);
        let first = Fake::with_channels_here(place.tls(), with_session(took), hang);
        let accept = |said: &Said, speaker: &Speaker| speaker.accept(said);
        let second =
            Fake::with_channels_here(place.tls(), with_session(took), each(LIMITS, accept));
        let addresses = [first.address().to_string(), second.address().to_string()];
        let builder = Client::builder(&place.home).server("localhost", addresses);
        let client =
            builder.timeout(Duration::from_secs(60)).keep_session(false).build_local().unwrap();
        for n in 0..3 {
            client.send(&json!({"n": n})).await.unwrap();
        }
        assert_eq!((first.openings(), first.messages().len()), (1, 1));
        assert_eq!(second.messages().len() + second.frames().len(), 2);
        assert!(!second.frames().is_empty());
    });
}

#[test]
fn one_of_two_servers_that_is_silent_while_it_owes_an_answer_is_left_within_seconds() {
    paused(async {
        let place = Place::new();
        let silent = each(LIMITS, |_: &Said, _: &Speaker| ());
        let first = Fake::with_channels_here(place.tls(), with_session(took), silent);
        let replies =
            each(LIMITS, |said: &Said, speaker: &Speaker| speaker.reply(said.first, "{}"));
        let second = Fake::with_channels_here(place.tls(), with_session(took), replies);
        let addresses = [first.address().to_string(), second.address().to_string()];
        let builder = Client::builder(&place.home).server("localhost", addresses);
        let client = builder.channel(true).keep_session(false).build_local().unwrap();
        client.send(&json!({"warming": "up"})).await.unwrap();
        let begun = tokio::time::Instant::now();
        let reply = client.request(&json!({})).timeout(Duration::from_secs(100)).await.unwrap();
        assert_eq!(begun.elapsed().as_secs(), 5);
        assert_eq!(first.pings_and_pongs().0, 1);
        let id = vec![reply.id.to_string()];
        assert_eq!((ids(&first, 0), ids(&second, 0)), (id.clone(), id));
    });
}

#[test]
fn one_of_two_servers_that_does_not_answer_a_post_is_left_within_seconds() {
    paused(async {
        let place = Place::new();
        let opens = |_| Opening::Answer(Answer::Hang);
        let hangs = with_session(|_| Answer::Hang);
        let first = Fake::with_channels_here(place.tls(), hangs, opens);
        let second = Fake::with_channels_here(place.tls(), with_session(took), opens);
        let addresses = [first.address().to_string(), second.address().to_string()];
        let builder = Client::builder(&place.home).server("localhost", addresses);
        let client = builder.channel(false).keep_session(false).build_local().unwrap();
        let begun = tokio::time::Instant::now();
        client.send(&json!({"n": 1})).await.unwrap();
        assert_eq!(begun.elapsed().as_secs(), 5);
        assert_eq!(first.messages(), second.messages());
    });
}

#[test]
fn each_of_two_servers_that_cannot_store_messages_is_asked_as_rarely_as_it_says() {
    paused(async {
        let place = Place::new();
        let opens = |_| Opening::Answer(Answer::Hang);
        let refuses_twice = || {
            counted(|seen, number| match number {
                0 | 1 => problem(ProblemCode::Unavailable, "Retry-After: 1\r\n"),
                _ => took(seen),
            })
        };
        let first = Fake::with_channels_here(place.tls(), refuses_twice(), opens);
        let second = Fake::with_channels_here(place.tls(), refuses_twice(), opens);
        let addresses = [first.address().to_string(), second.address().to_string()];
        let builder = Client::builder(&place.home).server("localhost", addresses);
        let client = builder.channel(false).keep_session(false).build_local().unwrap();
        let begun = tokio::time::Instant::now();
        client.send(&json!({"n": 1})).await.unwrap();
        assert_eq!(begun.elapsed().as_secs(), 2, "four pauses of half a second");
        assert_eq!((first.messages().len(), second.messages().len()), (3, 2));
    });
}

#[test]
fn a_client_that_is_dropped_ends_its_channel_with_a_goodbye_whatever_it_waits_for() {
    // The client waits for an answer, for room, or for nothing.
    let waits: [Lie; 3] = [
        |_, _| (),
        |said, speaker| speaker.refuse(said.first, "inbox_full"),
        |said, speaker| speaker.accept(said),
    ];
    for peer in waits {
        let place = Place::new();
        let (tell, arrival) = teller();
        let fake = fake(&place, move |said, speaker| {
            peer(said, speaker);
            tell("frame");
        });
        let client = client(&place, &fake);
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let send = runtime.spawn(client.send(&json!({})));
        drop(client);
        arrival.recv().unwrap();
        send.abort();
        let _ = runtime.block_on(send);
        fake.wait_for_goodbye();
    }
}

#[test]
fn a_client_of_a_thread_does_the_same_and_ends_with_its_last_handle() {
    let place = Place::new();
    let turns = Mutex::new(0);
    let fake = fake(&place, move |said, speaker| {
        let mut turns = turns.lock().unwrap();
        *turns += 1;
        match *turns {
            1 => speaker.cut(),
            _ => said.entries.iter().for_each(|entry| match entry.reply_wait_ms {
                None => speaker.settle(entry.number, entry.number, "accepted"),
                Some(_) => speaker.reply(entry.number, r#"{"n":7}"#),
            }),
        }
    });
    actix_rt::System::new().block_on(async {
        let client = local(&place, &fake).await;
        let sent = client.send(&json!({"n": 0})).await.unwrap();
        assert_eq!(
            (ids(&fake, 0), ids(&fake, 1)),
            (vec![sent.id.to_string()], vec![sent.id.to_string()])
        );
        assert_eq!(client.send_all((1..20).map(|n| json!({"n": n}))).await.unwrap().sent, 19);
        assert_eq!(client.request(&json!({})).await.unwrap().body(), r#"{"n":7}"#);
        drop(client);
        // Let the client's task run.
        while fake.closes().is_empty() {
            tokio::task::yield_now().await;
        }
    });
    assert_eq!(fake.closes(), [(1000, "the client ends".to_owned())]);
}

#[test]
fn a_duplicate_that_a_post_beside_brought_is_told() {
    let place = Place::new();
    let fake = Fake::with_channels(
        place.tls(),
        with_session(|_| success()),
        each(LIMITS, |said, speaker| match said.channel {
            0 => speaker.cut(),
            _ => speaker.settle(said.first, said.last(), "duplicate"),
        }),
    );
    let sent = client(&place, &fake).send(&json!({})).wait().unwrap();
    assert!(sent.duplicate);
    let error = |code: &'static str| {
        let place = Place::new();
        let fake = fake_that_settles(&place, code);
        client(&place, &fake).send(&json!({})).wait().unwrap_err()
    };
    assert!(matches!(error("id_reused"), SendError::Refused { status: 422, .. }));
    assert!(matches!(error("of_a_later_version"), SendError::Unexpected { .. }));
}

fn fake_that_settles(place: &Place, code: &'static str) -> Fake {
    fake(place, move |said, speaker| speaker.settle(said.first, said.last(), code))
}

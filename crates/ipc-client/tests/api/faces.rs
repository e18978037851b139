//! The async and the blocking client, on one runtime, on another and on none, and the end of the
//! thread behind them.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use ipc_client::{Client, SendError, Sent, blocking};
use serde_json::json;

use crate::fake::{Answer, Fake, counted, replied, success, took, with_session};
use crate::fixture::{Place, built};
use crate::ways::{Way, both_ways};

fn is_shared<T: Send + Sync + Clone + 'static>() {}

fn is_movable<T: Future<Output = Result<Sent, SendError>> + Send + 'static>(future: T) -> T {
    future
}

#[test]
fn handles_and_futures_go_to_any_thread() {
    is_shared::<Client>();
    is_shared::<blocking::Client>();
}

fn the_async_client_needs_no_runtime_of_its_callers(way: Way) {
    let place = Place::new();
    let fake = Fake::tls(place.tls(), with_session(|_| success()));
    let client = built(way, place.builder(&fake));
    futures_executor::block_on(is_movable(client.send(&json!({"on": "no runtime"})))).unwrap();
    assert!(futures_executor::block_on(client.is_running()).unwrap());
}

#[tokio::test]
async fn the_async_client_runs_on_tokio_and_its_futures_outlive_message_and_handle() {
    let place = Place::new();
    let fake = Fake::tls(place.tls(), with_session(took));
    let tasks: Vec<_> = {
        let client = place.builder(&fake).build().unwrap();
        (0..8).map(|n| tokio::spawn(client.send(&json!({"n": n})))).collect()
    };
    for task in tasks {
        task.await.unwrap().unwrap();
    }
}

fn the_blocking_client_works_on_a_tokio_thread(way: Way) {
    let place = Place::new();
    let fake = Fake::tls(place.tls(), with_session(|_| success()));
    let client = place.client_by(way, &fake);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    runtime
        .block_on(runtime.spawn(async move { client.send(&json!({})).wait().unwrap() }))
        .unwrap();
}

#[test]
fn a_client_can_be_built_and_dropped_on_an_async_thread() {
    let place = Place::new();
    let fake = Fake::tls(place.tls(), with_session(|_| success()));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        place.builder(&fake).build().unwrap().send(&json!({})).await.unwrap();
    });
}

#[test]
fn nothing_is_sent_before_a_future_is_polled() {
    let place = Place::new();
    let fake = Fake::tls(place.tls(), with_session(|_| success()));
    let client = place.builder(&fake).build().unwrap();
    drop(client.send(&json!({"never": "polled"})));
    client.blocking().send(&json!({})).wait().unwrap();
    assert!(fake.submits().iter().all(|seen| seen.body == "{}"));
}

fn when_the_last_handle_is_gone_the_connections_are_closed_with_a_goodbye(way: Way) {
    let place = Place::new();
    let fake = Fake::tls(place.tls(), with_session(|_| success()));
    let client = place.client_by(way, &fake);
    let clone = client.clone();
    client.send(&json!({})).wait().unwrap();
    drop(client);
    clone.send(&json!({})).wait().unwrap();
    drop(clone);
    assert!(fake.wait_for_goodbye());
}

fn what_was_begun_is_finished_after_the_last_handle_is_gone(way: Way) {
    let place = Place::new();
    let fake =
        Fake::tls(place.tls(), counted(|_, turn| if turn < 2 { Answer::Close } else { success() }));
    let send = {
        let client = built(way, place.builder(&fake).timeout(Duration::from_secs(20)));
        client.send(&json!({}))
    };
    futures_executor::block_on(send).unwrap();
}

#[test]
fn a_client_without_a_thread_of_its_own_sends_from_where_it_is() {
    let place = Place::new();
    let fake = Fake::tls(
        place.tls(),
        with_session(|seen| match seen.path.as_str() {
            "/message/request" => replied(seen, "", r#"{"n":7}"#),
            _ => took(seen),
        }),
    );
    actix_rt::System::new().block_on(async {
        let client = place.builder(&fake).build_local().unwrap();
        let others: Vec<_> = (0..20)
            .map(|n| {
                let client = client.clone();
                tokio::task::spawn_local(async move { client.send(&json!({"n": n})).await })
            })
            .collect();
        for other in others {
            other.await.unwrap().unwrap();
        }
        assert_eq!(client.send_all((20..40).map(|n| json!({"n": n}))).await.unwrap().sent, 20);
        assert_eq!(client.request(&json!({})).await.unwrap().body(), r#"{"n":7}"#);
        assert!(client.is_running().await.unwrap());
    });
    let messages: std::collections::BTreeSet<_> =
        fake.messages().into_iter().map(|(_, body)| body).collect();
    assert_eq!(messages.len(), 41, "40 messages and a request");
}

#[test]
fn a_local_client_works_in_a_local_set_of_tokio_and_ends_with_its_last_handle() {
    let place = Place::new();
    let fake = Fake::tls(place.tls(), with_session(took));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let client = place.builder(&fake).build_local().unwrap();
        client.clone().send(&json!({"n": 1})).await.unwrap();
        drop(client);
        tokio::task::spawn_blocking(move || fake.wait_for_goodbye()).await.unwrap();
    });
}

both_ways!(
    the_async_client_needs_no_runtime_of_its_callers,
    the_blocking_client_works_on_a_tokio_thread,
    when_the_last_handle_is_gone_the_connections_are_closed_with_a_goodbye,
    what_was_begun_is_finished_after_the_last_handle_is_gone,
);

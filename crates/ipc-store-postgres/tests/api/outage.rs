//! A PostgreSQL that stops, is killed, and comes back.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use ipc_store::{StoreError, UserStore};
use ipc_store_postgres::PostgresUrl;

use crate::suite::place::{name, password};
use crate::support::{Cluster, open, options};

fn is_unavailable<T: std::fmt::Debug>(result: Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::Unavailable { .. }))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_says_that_it_cannot_be_reached_and_recovers_by_itself() {
    let Some(cluster) = Cluster::started() else { return };
    let database = cluster.database().await;
    let store = open(&cluster.url("postgres", &database)).await.unwrap();
    let bob = name("bob");
    store.add(&bob, &password("x")).await.unwrap();
    for how in ["stop", "kill"] {
        assert!(cluster.does(how), "{how}");
        // The server processes outlive a killed postmaster for a moment.
        let begun = Instant::now();
        while !is_unavailable(store.current(&bob).await) {
            assert!(begun.elapsed() < Duration::from_secs(30), "{how}: it still answers");
        }
        assert!(is_unavailable(store.verify("bob", "x").await));
        assert!(is_unavailable(store.disable(&bob).await));
        assert!(is_unavailable(store.list().await));
        let begun = Instant::now();
        while !cluster.does("start") {
            assert!(begun.elapsed() < Duration::from_secs(60), "{how}: it does not start");
        }
        let begun = Instant::now();
        let current = loop {
            match store.current(&bob).await {
                Ok(current) => break current,
                Err(error) => {
                    assert!(matches!(error, StoreError::Unavailable { .. }), "{error:?}");
                    assert!(begun.elapsed() < Duration::from_secs(30), "{how}: {error:?}");
                }
            }
        };
        assert!(current.is_some());
        assert!(store.verify("bob", "x").await.unwrap().is_some());
    }
}

#[tokio::test]
async fn one_that_takes_connections_and_never_answers_is_given_up_after_the_timeout() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("postgres://ipc:pass-x@{}/ipc", listener.local_addr().unwrap());
    let timeout = Duration::from_millis(100);
    // Opening may take the time of migrations; the test needs no more than one of them.
    let error = options().timeout(timeout).open(PostgresUrl::parse(&url).unwrap()).await;
    let StoreError::Unavailable { source } = error.unwrap_err() else { panic!() };
    let said = source.to_string();
    assert!(said.contains("no answer within") && said.contains("ipc:***@"), "{said}");
    assert!(!said.contains("pass-x"), "{said}");
}

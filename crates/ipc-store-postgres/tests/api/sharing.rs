//! Several servers on one database.

use std::time::{Duration, Instant};

use ipc_store::UserStore;
use ipc_store_postgres::PostgresUrl;

use crate::suite::place::{Place, name, password};
use crate::support::{DatabasePlace, open, options};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_that_start_at_once_on_an_empty_database_all_find_the_tables() {
    let Some(place) = DatabasePlace::new().await else { return };
    let starting: Vec<_> = (0..8)
        .map(|number| {
            let url = place.url();
            tokio::spawn(async move {
                let store = open(&url).await.unwrap();
                store.add(&name(&format!("user{number}")), &password("x")).await.unwrap();
            })
        })
        .collect();
    for one in starting {
        one.await.unwrap();
    }
    assert_eq!(place.open().await.list().await.unwrap().len(), 8);
}

#[tokio::test]
async fn what_one_changes_ends_what_another_knows_within_its_time_and_other_notes_do_not() {
    let Some(place) = DatabasePlace::new().await else { return };
    let fresh_for = Duration::from_millis(250);
    let server =
        options().fresh_for(fresh_for).open(PostgresUrl::parse(&place.url()).unwrap()).await;
    let (admin, server) = (place.open().await, server.unwrap());
    for user in ["bob", "eve", "zoe"] {
        admin.add(&name(user), &password("x")).await.unwrap();
        assert!(server.current(&name(user)).await.unwrap().is_some());
    }
    let changed = Instant::now();
    admin.disable(&name("bob")).await.unwrap();
    admin.delete("eve").await.unwrap();
    for user in ["bob", "eve"] {
        while server.current(&name(user)).await.unwrap().is_some() {
            assert!(changed.elapsed() < Duration::from_secs(30), "{user} is still known");
            tokio::task::yield_now().await;
        }
    }
    assert!(server.current(&name("zoe")).await.unwrap().is_some());
    // What is changed here is seen at once.
    server.disable(&name("zoe")).await.unwrap();
    assert_eq!(server.current(&name("zoe")).await.unwrap(), None);
}

#[test]
fn a_store_outlives_the_runtime_that_opened_it() {
    let runtime = || tokio::runtime::Builder::new_current_thread().build().unwrap();
    // The other runtimes need not even have time or sockets.
    let with_all = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let Some(place) = with_all.block_on(DatabasePlace::new()) else { return };
    let store = runtime().block_on(place.open());
    runtime().block_on(async { store.add(&name("bob"), &password("x")).await.unwrap() });
    assert!(runtime().block_on(async { store.verify("bob", "x").await.unwrap() }).is_some());
}

//! Databases that cannot be used: one clear sentence each, without the password.

use std::net::TcpListener;

use ipc_store::{StoreError, UserStore};

use crate::suite::place::Place;
use crate::support::{DatabasePlace, open, shared};

/// The sentence of an error, and whether it may pass by itself.
async fn refused(url: &str) -> (String, bool) {
    let error = open(url).await.unwrap_err();
    let said = error.to_string();
    assert!(!said.contains("pass-x"), "{said}");
    (said, matches!(error, StoreError::Unavailable { .. }))
}

#[tokio::test]
async fn an_address_at_which_nobody_listens_is_unreachable() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (said, may_pass) = refused(&format!("postgres://ipc:pass-x@127.0.0.1:{port}/ipc")).await;
    let expected = format!("postgres://ipc:***@127.0.0.1:{port}/ipc cannot be reached: ");
    assert!(said.contains(&expected) && said.contains("refused") && may_pass, "{said}");
}

#[tokio::test]
async fn a_user_or_database_that_is_not_there_is_refused() {
    let Some(cluster) = shared() else { return };
    for (url, begin, wrong) in [
        (
            cluster.url("nobody", "postgres"),
            "PostgreSQL does not let ",
            "role \"nobody\" does not exist",
        ),
        (
            cluster.url("postgres", "nowhere"),
            "PostgreSQL does not have ",
            "database \"nowhere\" does not exist",
        ),
    ] {
        let (said, may_pass) = refused(&url).await;
        assert!(said.starts_with(begin) && said.contains(wrong), "{said}");
        assert!(!may_pass);
    }
}

#[tokio::test]
async fn a_user_without_rights_is_told_so_and_one_with_the_documented_rights_works() {
    let Some(place) = DatabasePlace::new().await else { return };
    let cluster = place.cluster;
    cluster.sql(&place.name, "CREATE ROLE limited LOGIN").await;
    let url = cluster.url("limited", &place.name);
    let (said, may_pass) = refused(&url).await;
    assert!(said.contains("lacks a right") && said.contains("permission denied"), "{said}");
    assert!(!may_pass);
    // Somebody else makes the tables.
    place.open().await.close().await;
    let (said, _) = refused(&url).await;
    assert!(said.contains("permission denied for table web_ipc_migrations"), "{said}");
    let grant = "GRANT SELECT ON web_ipc_migrations TO limited;
        GRANT SELECT, INSERT, UPDATE, DELETE ON web_ipc_users, web_ipc_peers TO limited;
        GRANT SELECT, UPDATE ON web_ipc_users_state TO limited";
    cluster.sql(&place.name, grant).await;
    let store = open(&url).await.unwrap();
    let bob = crate::suite::place::name("bob");
    store.add(&bob, &crate::suite::place::password("x")).await.unwrap();
    assert!(store.current(&bob).await.unwrap().is_some());
    store.delete("bob").await.unwrap();
}

#[tokio::test]
async fn a_database_of_a_later_version_or_with_another_encoding_is_left_alone() {
    let Some(place) = DatabasePlace::new().await else { return };
    place.open().await.close().await;
    place.cluster.sql(&place.name, "INSERT INTO web_ipc_migrations (number) VALUES (99)").await;
    assert!(refused(&place.url()).await.0.contains("of a later version of web-ipc"));
    let create = "CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0 LOCALE 'C'";
    place.cluster.sql("postgres", create).await;
    let (said, _) = refused(&place.cluster.url("postgres", "latin")).await;
    assert!(said.contains("is LATIN1, and UTF8 is needed"), "{said}");
}

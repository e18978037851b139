//! A database on the network: TLS with a certificate that is verified, and a password by SCRAM.

use std::net::TcpListener;
use std::time::{SystemTime, UNIX_EPOCH};

use ipc_pki::{Authority, AuthorityOptions, LeafRequest, SubjectAltName, SubjectName};
use ipc_store::UserStore;

use crate::suite::place::{name, password};
use crate::support::{Cluster, open};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_tls_and_scram_users_are_there_and_a_wrong_authority_or_password_is_refused() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let directory = tempfile::tempdir().unwrap();
    let write = |file: &str, bytes: &[u8]| {
        let path = directory.path().join(file);
        std::fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let authority = || Authority::create(&AuthorityOptions::default(), now).unwrap();
    let (authority, other) = (authority(), authority());
    let mut request = LeafRequest::new(SubjectName::parse("localhost").unwrap());
    request.alt_names = vec![SubjectAltName::parse("127.0.0.1").unwrap()];
    let issued = authority.issue(&request, now).unwrap();
    let root = write("root.crt", authority.certificate_pem());
    let other = write("other.crt", other.certificate_pem());
    let certificate = write("server.crt", &issued.certificate_pem);
    let key = write("server.key", issued.key_pem.as_bytes());
    // Between the choice of a port and the start somebody else may take it.
    let started = (0..10).find_map(|_| {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let cluster = Cluster::new(&[&port.to_string(), &certificate, &key]);
        match cluster {
            None => Some(None),
            Some(cluster) => cluster.does("start").then_some(Some((cluster, port))),
        }
    });
    let Some((cluster, port)) = started.expect("one of ten ports is free") else { return };
    let socket = format!("{}?port={port}", cluster.url("postgres", "postgres"));
    let mut admin = <sqlx::PgConnection as sqlx::Connection>::connect(&socket).await.unwrap();
    for sql in ["CREATE ROLE ipc LOGIN PASSWORD 'pass-x'", "CREATE DATABASE ipc OWNER ipc"] {
        sqlx::raw_sql(sql).execute(&mut admin).await.unwrap();
    }
    let url = |password: &str, root: &str| {
        format!(
            "postgres://ipc:{password}@127.0.0.1:{port}/ipc?sslmode=verify-full&sslrootcert={root}"
        )
    };
    let store = open(&url("pass-x", &root)).await.unwrap();
    store.add(&name("bob"), &password("x")).await.unwrap();
    assert!(store.verify("bob", "x").await.unwrap().is_some());
    for (url, wrong) in [
        (url("pass-y", &root), "password authentication failed for user \"ipc\""),
        (url("pass-x", &other), "was not issued by an authority in"),
        (format!("postgres://ipc:pass-x@127.0.0.1:{port}/ipc?sslmode=disable"), "no encryption"),
    ] {
        let error = open(&url).await.unwrap_err();
        let said = error.to_string();
        assert!(said.contains(wrong) && !said.contains("pass-"), "{said}");
    }
}

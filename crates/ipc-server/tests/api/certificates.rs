//! Tests which certificates the server accepts: on a new connection, a resumed one, and one that
//! stays open.

use std::io;
use std::time::{Duration, Instant};

use ipc_home::Identity;
use ipc_protocol::{ProblemCode, Protocol, Route};
use ipc_setup::CertificateRequest;
use rustls::{AlertDescription, Error as TlsError, HandshakeKind};

use crate::fixture::*;
use crate::ways::*;

/// The alert that ends the handshake. Under TLS 1.3 it arrives after the client's handshake is
/// done.
async fn alert(identity: Option<Identity>) -> AlertDescription {
    let server = builder().start().await.unwrap();
    let attempt = async {
        let mut connection = connect_tls(server.address(), &tls(identity)).await?;
        connection.read_response().await
    };
    let error: io::Error = attempt.await.map(|response| panic!("{response:?}")).unwrap_err();
    match error.get_ref().and_then(|error| error.downcast_ref::<TlsError>()) {
        Some(TlsError::AlertReceived(alert)) => *alert,
        _ => panic!("{error:?}"),
    }
}

#[tokio::test]
async fn no_certificate_is_refused_in_the_handshake() {
    assert_eq!(alert(None).await, AlertDescription::CertificateRequired);
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused_in_the_handshake() {
    let alert = alert(Some(issue_elsewhere("localhost"))).await;
    // The other authority has the same name, so the signature may be what fails to verify.
    assert!(
        matches!(
            alert,
            AlertDescription::UnknownCA
                | AlertDescription::DecryptError
                | AlertDescription::BadCertificate
        ),
        "{alert:?}"
    );
}

#[tokio::test]
async fn an_expired_certificate_is_refused_in_the_handshake() {
    assert_eq!(
        alert(Some(issue("old", now_secs() - 5 * DAY))).await,
        AlertDescription::CertificateExpired
    );
}

#[tokio::test]
async fn a_certificate_of_the_future_is_refused_in_the_handshake() {
    let alert = alert(Some(issue("future", now_secs() + DAY))).await;
    assert!(
        matches!(alert, AlertDescription::CertificateExpired | AlertDescription::BadCertificate),
        "{alert:?}"
    );
}

#[tokio::test]
async fn a_session_of_another_certificate_is_refused() {
    let server = builder().start().await.unwrap();
    let session = connect(&server).await.admin_session().await;
    for way in Way::BOTH {
        let other = || async {
            connect_tls(server.address(), &tls(Some(identity("client2")))).await.unwrap()
        };
        let refused = way.open_on(other().await, &session).await.send(new_id(), "{}").await;
        assert_eq!(refused, Outcome::Refused(ProblemCode::WrongCertificate));
        let own = other().await.admin_session().await;
        assert_eq!(
            way.open_on(other().await, &own).await.send(new_id(), "{}").await,
            Outcome::Accepted
        );
    }
}

#[tokio::test]
async fn a_resumed_tls_session_shows_its_certificate_too() {
    let server = builder().start().await.unwrap();
    let config = tls(Some(identity("localhost")));
    let mut first = connect_tls(server.address(), &config).await.unwrap();
    let session = first.admin_session().await;
    let mut second = connect_tls(server.address(), &config).await.unwrap();
    assert_eq!(second.stream.get_ref().get_ref().1.handshake_kind(), Some(HandshakeKind::Resumed));
    second.submit(new_id(), &session, "{}").await.is_success();
    assert!(server.inbox().recv().await.unwrap().certificate().is_some());
}

#[tokio::test]
async fn a_certificate_that_expires_while_its_connection_is_open_is_refused_on_every_route() {
    let server = builder().start().await.unwrap();
    let short_lived = issue("short-lived", now_secs() - DAY + 6);
    let config = tls(Some(short_lived));
    let mut connection = connect_tls(server.address(), &config).await.unwrap();
    let session = connection.admin_session().await;
    connection.submit(new_id(), &session, "{}").await.is_success();
    let start = Instant::now();
    loop {
        let answer = connection.submit(new_id(), "none", "{}").await;
        if answer.status == 403 {
            answer.is_refusal(ProblemCode::WrongCertificate);
            break;
        }
        answer.is_refusal(ProblemCode::SessionExpired);
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "the expired certificate is still accepted"
        );
    }
    // A refusal that has not read the body ends the connection, so each request needs a connection
    // of its own. Each connection is resumed, so no verifier has checked its certificate in the
    // handshake.
    for (method, path) in [
        ("GET", "/is/running"),
        ("GET", "/nowhere"),
        ("PUT", "/is/running"),
        ("POST", "/message/submit"),
    ] {
        let mut again = connect_tls(server.address(), &config).await.unwrap();
        assert_eq!(
            again.stream.get_ref().get_ref().1.handshake_kind(),
            Some(HandshakeKind::Resumed)
        );
        for _ in 0..2 {
            again.request(method, path, "", b"").await.is_refusal(ProblemCode::WrongCertificate);
        }
    }
}

#[tokio::test]
async fn tls_1_2_is_spoken_and_its_refusal_comes_with_the_handshake() {
    let server = builder().start().await.unwrap();
    let older = |identity: Option<Identity>| {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(HOME.home.ca_certificates().unwrap().remove(0)).unwrap();
        let config = rustls::ClientConfig::builder_with_provider(
            rustls::crypto::ring::default_provider().into(),
        )
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_root_certificates(roots);
        std::sync::Arc::new(match identity {
            Some(identity) => config.with_client_auth_cert(identity.chain, identity.key).unwrap(),
            None => config.with_no_client_auth(),
        })
    };
    let mut connection =
        connect_tls(server.address(), &older(Some(identity("localhost")))).await.unwrap();
    let session = connection.admin_session().await;
    connection.submit(new_id(), &session, "{}").await.is_success();
    assert!(connect_tls(server.address(), &older(None)).await.is_err());
}

#[tokio::test]
async fn http_1_1_is_chosen_by_alpn_whatever_else_is_offered() {
    let server = builder().start().await.unwrap();
    let offering = |protocols: &[&[u8]]| {
        let mut config = (*tls(Some(identity("localhost")))).clone();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        std::sync::Arc::new(config)
    };
    let mut connection =
        connect_tls(server.address(), &offering(&[b"h2", b"http/1.1"])).await.unwrap();
    assert_eq!(connection.stream.get_ref().get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    assert_eq!(connection.request("GET", "/is/running", "", b"").await.status, 200);
    assert!(connect_tls(server.address(), &offering(&[b"h2"])).await.is_err());
}

#[tokio::test]
async fn a_stranger_on_an_https_port_gets_nothing_and_the_server_goes_on() {
    let server = builder().start().await.unwrap();
    let mut plain = connect_plain(&server).await;
    plain.write(b"GET /is/running HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    // The answer may be a TLS alert or nothing, but not HTTP.
    if let Ok(response) = plain.read_response().await {
        panic!("{response:?}");
    }
    let mut next = connect(&server).await;
    assert_eq!(next.request("GET", Route::IsRunning.path(), "", b"").await.status, 200);
}

#[tokio::test]
async fn a_server_whose_certificate_no_client_takes_does_not_start() {
    for (name, issued_at, sentence, remedy) in [
        ("ended", now_secs() - 5 * DAY, "`ended` expired on ", "new certificate for `ended`"),
        ("to-come", now_secs() + DAY, "`to-come` is not valid before ", "clock"),
    ] {
        let request =
            CertificateRequest { validity_days: 1, ..CertificateRequest::new(name, issued_at) };
        tokio::task::spawn_blocking(move || {
            ipc_setup::issue_certificate(&HOME.home, &request).map(drop)
        })
        .await
        .unwrap()
        .unwrap();
        let error = builder().name(name).start().await.unwrap_err();
        assert!(error.to_string().contains(sentence), "{error}");
        assert!(error.remedy().unwrap().to_string().contains(remedy), "{error}");
        // Over plain http the certificate is not used, so it may be invalid.
        builder().protocol(Protocol::Http).name(name).start().await.unwrap();
    }
    // A certificate that expires today is valid today.
    let request = CertificateRequest {
        validity_days: 1,
        ..CertificateRequest::new("ends-today", now_secs())
    };
    tokio::task::spawn_blocking(move || {
        ipc_setup::issue_certificate(&HOME.home, &request).map(drop)
    })
    .await
    .unwrap()
    .unwrap();
    builder().name("ends-today").start().await.unwrap();
}

//! `POST /client/renew`: who gets a certificate, and what comes with it.

use std::sync::{Arc, Mutex};

use ipc_envelope::{Key, KeyRing};
use ipc_protocol::{CSR_PEM_BYTES_MAX, ProblemCode, RenewalReply, Route};
use ipc_server::{CertificateIssuer, RenewalError, RenewalQuery, Renewed, Server};

use crate::fixture::*;
use crate::trust::{OwnHome, own_home};

/// An issuer that notes what it was asked, and answers by the request's text.
#[derive(Default)]
struct Issuer(Mutex<Vec<Asked>>);

/// Certificate, user and request.
type Asked = (Vec<u8>, String, Option<String>);

impl CertificateIssuer for Issuer {
    fn renew(&self, query: &RenewalQuery<'_>) -> Result<Renewed, RenewalError> {
        let asked = (query.certificate.to_vec(), query.user.into(), query.csr_pem.map(Into::into));
        self.0.lock().unwrap().push(asked);
        let addresses = vec!["192.0.2.1:3000".to_owned()];
        match query.csr_pem {
            Some("refuse") => Err(RenewalError::Refused { reason: "another name".into() }),
            Some("malformed") => Err(RenewalError::Malformed { reason: "no request".into() }),
            Some("unavailable") => Err(RenewalError::Unavailable),
            Some("fail") => Err(RenewalError::Failed { source: "disk of /secret".into() }),
            Some("server") => {
                Ok(Renewed::new(Some("CERTIFICATE".into()), "localhost", addresses).for_server())
            }
            csr => Ok(Renewed::new(csr.map(|_| "CERTIFICATE".into()), "localhost", addresses)),
        }
    }
}

struct Place {
    home: OwnHome,
    server: Server,
    issuer: Arc<Issuer>,
    ring: KeyRing,
}

async fn place() -> Place {
    let (home, issuer) = (own_home(), Arc::<Issuer>::default());
    let server = Server::builder(&home.home)
        .bind("127.0.0.1:0")
        .workers(1)
        .certificate_issuer(issuer.clone())
        .start()
        .await
        .unwrap();
    let ring = ring_of(&home, "worker1");
    Place { home, server, issuer, ring }
}

fn ring_of(home: &OwnHome, name: &str) -> KeyRing {
    let keys = home.home.envelope_keys_one_by_one().unwrap();
    KeyRing::from_keys(keys.iter().map(|key: &Key| key.derive_for(name)).collect()).unwrap()
}

async fn post(
    connection: &mut Connection,
    ring: &KeyRing,
    route: Route,
    session: Option<&str>,
    body: &str,
) -> Response {
    let envelope = ring.seal(&frame(route, new_id(), session, body), now_secs(), [7; 16]);
    connection.post(route, &envelope).await
}

fn body_of(response: &Response, ring: &KeyRing) -> serde_json::Value {
    let plaintext = ring.open(&response.body, None).unwrap();
    serde_json::from_slice::<serde_json::Value>(&plaintext).unwrap()["body"].take()
}

impl Place {
    async fn connect(&self) -> Connection {
        let config = tls(Some(self.home.enrolled("worker1")));
        connect_tls(self.server.address(), &config).await.unwrap()
    }

    async fn session(&self, connection: &mut Connection, ring: &KeyRing) -> String {
        let credentials = HOME.home.admin_credentials().unwrap();
        let body = serde_json::json!({
            "username": credentials.username,
            "password": credentials.password.as_str(),
        });
        let answer = post(connection, ring, Route::ClientAuth, None, &body.to_string()).await;
        body_of(&answer, ring)["session"].as_str().unwrap().to_owned()
    }

    /// What an enrolled client gets for a frame's body.
    async fn renew(&self, body: &str) -> Response {
        let mut connection = self.connect().await;
        let session = self.session(&mut connection, &self.ring).await;
        post(&mut connection, &self.ring, Route::ClientRenew, Some(&session), body).await
    }
}

impl Place {
    /// The same with a pair of the home, which is one of a server too.
    async fn renew_as_a_pair_of_the_home(&self, body: &str) -> Response {
        let mut connection = connect(&self.server).await;
        let session = connection.admin_session().await;
        let envelope = sealed(Route::ClientRenew, new_id(), Some(&session), body);
        connection.post(Route::ClientRenew, &envelope).await
    }
}

#[tokio::test]
async fn a_client_gets_its_certificate_with_its_own_keys_and_the_authorities() {
    let place = place().await;
    let answer = place.renew(r#"{"csr":"CSR"}"#).await;
    let reply: RenewalReply = serde_json::from_value(body_of(&answer, &place.ring)).unwrap();
    assert_eq!(reply.certificate.as_deref(), Some("CERTIFICATE"));
    let authorities = std::fs::read_to_string(place.home.home.ca_certificate_file()).unwrap();
    assert_eq!(reply.authorities.trim(), authorities.trim());
    let keys = place.home.home.envelope_keys_one_by_one().unwrap();
    let own: Vec<_> = keys.iter().map(|key| key.derive_for("worker1").to_base64url()).collect();
    assert_eq!(reply.envelope_keys, own);
    assert_eq!(
        (reply.server.as_str(), reply.addresses),
        ("localhost", vec!["192.0.2.1:3000".into()])
    );

    let asked = place.issuer.0.lock().unwrap();
    let (certificate, user, csr) = &asked[0];
    let facts = ipc_pki::CertificateInfo::from_der(certificate).unwrap();
    assert_eq!(facts.subject.as_deref(), Some("worker1"));
    assert_eq!((user.as_str(), csr.as_deref()), ("ipc-admin", Some("CSR")));
}

#[tokio::test]
async fn without_a_request_a_client_gets_what_has_changed_alone() {
    let place = place().await;
    for body in [r#"{"csr":null}"#, "{}"] {
        let answer = place.renew(body).await;
        let reply: RenewalReply = serde_json::from_value(body_of(&answer, &place.ring)).unwrap();
        assert_eq!((reply.certificate, reply.envelope_keys.len()), (None, 1), "{body}");
    }
}

#[tokio::test]
async fn what_the_issuer_refuses_is_refused_and_what_fails_is_told_to_the_log_alone() {
    let place = place().await;
    for (csr, code) in [
        ("refuse", ProblemCode::RenewalRefused),
        ("malformed", ProblemCode::MalformedFrame),
        ("unavailable", ProblemCode::RenewalUnavailable),
        ("fail", ProblemCode::InternalError),
    ] {
        let problem = place.renew(&format!(r#"{{"csr":"{csr}"}}"#)).await.is_refusal(code);
        assert!(!problem.detail.contains("secret"), "{problem:?}");
    }
}

#[tokio::test]
async fn a_body_of_another_form_or_a_request_that_is_too_long_reaches_no_issuer() {
    let place = place().await;
    let long = format!(r#"{{"csr":"{}"}}"#, "x".repeat(CSR_PEM_BYTES_MAX + 1));
    for body in [r#"{"csr":1}"#, r#"{"csr":"x","name":"admin"}"#, &long] {
        place.renew(body).await.is_refusal(ProblemCode::MalformedFrame);
    }
    place.renew("[]").await.is_refusal(ProblemCode::NotAnObject);
    assert!(place.issuer.0.lock().unwrap().is_empty());
}

#[tokio::test]
async fn only_an_enrolled_client_with_a_session_is_heard() {
    let place = place().await;
    let mut connection = place.connect().await;
    post(&mut connection, &place.ring, Route::ClientRenew, None, "{}")
        .await
        .is_refusal(ProblemCode::SessionExpired);
    assert!(place.issuer.0.lock().unwrap().is_empty());
    // A pair of the home is renewed in the home: as a client, it gets nothing.
    for body in [r#"{"csr":"CSR"}"#, r#"{"csr":null}"#] {
        place.renew_as_a_pair_of_the_home(body).await.is_refusal(ProblemCode::RenewalRefused);
    }
}

#[tokio::test]
async fn an_enrolled_server_gets_every_key_that_servers_share() {
    let place = place().await;
    let answer = place.renew_as_a_pair_of_the_home(r#"{"csr":"server"}"#).await;
    assert_eq!(answer.status, 200);
    let home = &place.home.home;
    let ring = home.envelope_keys().unwrap();
    let reply: RenewalReply = serde_json::from_value(body_of(&answer, &ring)).unwrap();
    let texts = |keys: Vec<Key>| keys.iter().map(Key::to_base64url).collect::<Vec<_>>();
    assert_eq!(reply.envelope_keys, texts(home.envelope_keys_one_by_one().unwrap()));
    let node = reply.node.unwrap();
    assert_eq!(node.session_keys, texts(home.session_keys_one_by_one().unwrap()));
    assert_eq!((node.revocation_lists, node.cross_certificates), (None, None));
}

#[tokio::test]
async fn a_client_gets_no_key_of_servers_whatever_the_issuer_says() {
    let place = place().await;
    // An issuer that is wrong about a certificate for clients alone.
    place.renew(r#"{"csr":"server"}"#).await.is_refusal(ProblemCode::RenewalRefused);
    for body in ["{}", r#"{"csr":"CSR"}"#] {
        let answer = place.renew(body).await;
        let reply: RenewalReply = serde_json::from_value(body_of(&answer, &place.ring)).unwrap();
        assert_eq!(reply.node, None, "{body}");
        let shared = place.home.home.envelope_keys_one_by_one().unwrap();
        assert!(!reply.envelope_keys.contains(&shared[0].to_base64url()), "{body}");
    }
}

#[tokio::test]
async fn a_server_without_an_issuer_says_so() {
    let home = own_home();
    let server = home.server().await;
    let place = Place { ring: ring_of(&home, "worker1"), home, server, issuer: Arc::default() };
    place.renew(r#"{"csr":"CSR"}"#).await.is_refusal(ProblemCode::RenewalUnavailable);
}

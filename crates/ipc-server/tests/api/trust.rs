//! A server follows the files of its home: certificates, revocations and keys that change while it
//! runs, and the keys of enrolled clients.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ipc_envelope::{Key, KeyRing};
use ipc_home::{Home, Identity};
use ipc_pki::{
    Authority, CertificateInfo, LeafRequest, RevocationReason, RevokedCertificate, SubjectName,
    Usages,
};
use ipc_protocol::{ProblemCode, Route};
use ipc_server::Server;
use ipc_setup::CertificateRequest;
use rustls::HandshakeKind;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::Barrier;

use crate::fixture::*;
use crate::ways::*;

/// Longer than any change takes to hold.
const LIMIT: Duration = Duration::from_secs(30);

/// A copy of the tests' home, to be changed.
pub(crate) struct OwnHome {
    _directory: tempfile::TempDir,
    pub(crate) home: Home,
}

pub(crate) fn own_home() -> OwnHome {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("home");
    HOME.copy_to(&root);
    OwnHome { _directory: directory, home: Home::at(root) }
}

impl OwnHome {
    pub(crate) async fn server(&self) -> Server {
        Server::builder(&self.home).bind("127.0.0.1:0").workers(1).start().await.unwrap()
    }

    pub(crate) fn authority(&self) -> Authority {
        let read = |path| std::fs::read::<std::path::PathBuf>(path).unwrap();
        let (certificate, key) = (self.home.ca_certificate_file(), self.home.ca_key_file());
        Authority::load(&read(certificate), &read(key)).unwrap()
    }

    /// A certificate for clients alone, as an enrolled client has.
    pub(crate) fn enrolled(&self, name: &str) -> Identity {
        let mut request = LeafRequest::new(SubjectName::parse(name).unwrap());
        request.usages = Usages::Client;
        let pair = self.authority().issue(&request, now_secs()).unwrap();
        Identity {
            chain: vec![CertificateDer::from_pem_slice(&pair.certificate_pem).unwrap()],
            key: PrivateKeyDer::from_pem_slice(pair.key_pem.as_bytes()).unwrap(),
        }
    }

    pub(crate) fn revoke(&self, identity: &Identity) {
        let serial = CertificateInfo::from_der(&identity.chain[0]).unwrap().serial;
        let entry = RevokedCertificate {
            serial,
            revoked_at_secs: now_secs(),
            reason: RevocationReason::Unspecified,
        };
        let list =
            self.authority().revocation_list(&[entry], 1, now_secs(), now_secs() + DAY).unwrap();
        ipc_home::write_secret_atomically(&self.home.revocation_list_file(), list.as_ref())
            .unwrap();
    }

    fn write_keys(&self, keys: &[&str]) {
        let path = self.home.envelope_keys_file();
        ipc_home::write_secret_atomically(&path, keys.join("\n").as_bytes()).unwrap();
    }

    fn keys(&self) -> String {
        std::fs::read_to_string(self.home.envelope_keys_file()).unwrap().trim().to_owned()
    }
}

/// Asks until the answer is the one that is wanted.
async fn until<T, F: Future<Output = T>>(
    mut ask: impl FnMut() -> F,
    wanted: impl Fn(&T) -> bool,
) -> T {
    let start = Instant::now();
    loop {
        let answer = ask().await;
        if wanted(&answer) {
            return answer;
        }
        assert!(start.elapsed() < LIMIT, "the change does not hold");
    }
}

/// The certificate that a server shows on a new connection.
async fn shown(server: &Server) -> Vec<u8> {
    let connection =
        connect_tls(server.address(), &tls(Some(identity("localhost")))).await.unwrap();
    let (_, session) = connection.stream.get_ref().get_ref();
    session.peer_certificates().unwrap()[0].to_vec()
}

/// Submits a message that is sealed with a ring of the caller's.
async fn submit_with(
    connection: &mut Connection,
    keys: &KeyRing,
    session: Option<&str>,
) -> Response {
    let plaintext = frame(Route::MessageSubmit, new_id(), session, "{}");
    let envelope = keys.seal(&plaintext, now_secs(), [7; 16]);
    connection.post(Route::MessageSubmit, &envelope).await
}

async fn log_in_with(connection: &mut Connection, keys: &KeyRing) -> Response {
    let credentials = HOME.home.admin_credentials().unwrap();
    let body = serde_json::json!({
        "username": credentials.username,
        "password": credentials.password.as_str(),
    });
    let plaintext = frame(Route::ClientAuth, new_id(), None, &body.to_string());
    connection.post(Route::ClientAuth, &keys.seal(&plaintext, now_secs(), [7; 16])).await
}

fn session_of(response: &Response, keys: &KeyRing) -> String {
    let plaintext = keys.open(&response.body, None).unwrap();
    let frame: serde_json::Value = serde_json::from_slice(&plaintext).unwrap();
    frame["body"]["session"].as_str().unwrap().to_owned()
}

fn derived(keys: &str, name: &str) -> KeyRing {
    KeyRing::from_keys(
        keys.lines().map(|key| Key::from_base64url(key).unwrap().derive_for(name)).collect(),
    )
    .unwrap()
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_without_a_restart_and_open_connections_go_on() {
    let place = own_home();
    let server = place.server().await;
    let mut kept = connect(&server).await;
    let session = kept.admin_session().await;
    let before = shown(&server).await;
    let renewed = std::thread::spawn({
        let home = place.home.clone();
        move || {
            let request = CertificateRequest {
                force: true,
                ..CertificateRequest::new("localhost", now_secs())
            };
            ipc_setup::issue_certificate(&home, &request).unwrap();
        }
    });
    let after = until(|| shown(&server), |now| *now != before).await;
    renewed.join().unwrap();
    let pem = std::fs::read(place.home.root().join("localhost.crt")).unwrap();
    assert_eq!(after, CertificateDer::from_pem_slice(&pem).unwrap().to_vec());
    kept.submit(new_id(), &session, "{}").await.is_success();
}

#[tokio::test]
async fn a_pair_that_does_not_fit_is_not_taken_and_the_last_good_one_stays() {
    let place = own_home();
    let server = place.server().await;
    let before = shown(&server).await;
    std::fs::write(place.home.root().join("localhost.crt"), "damaged").unwrap();
    // What is written after it is noticed after it.
    let old = place.keys();
    let other = Key::from_bytes([9; 32]).to_base64url();
    place.write_keys(&[&other, &old]);
    let mut connection = connect(&server).await;
    let session = connection.admin_session().await;
    for _ in 0..20 {
        connection.submit(new_id(), &session, "{}").await.is_success();
        assert_eq!(shown(&server).await, before);
    }
    // Mended, all that has changed holds.
    std::fs::copy(HOME.home.root().join("localhost.crt"), place.home.root().join("localhost.crt"))
        .unwrap();
    let keys = KeyRing::from_text(&other).unwrap();
    let answer = until(
        || async { log_in_with(&mut connect(&server).await, &keys).await },
        |answer| answer.status == 200,
    )
    .await;
    assert!(!session_of(&answer, &keys).is_empty());
}

#[tokio::test]
async fn a_revoked_certificate_is_refused_on_a_kept_a_resumed_a_channel_and_a_new_connection() {
    let place = own_home();
    let server = place.server().await;
    let config = tls(Some(identity("client2")));
    let mut kept = connect_tls(server.address(), &config).await.unwrap();
    assert_eq!(kind(&kept), Some(HandshakeKind::Full));
    let session = kept.admin_session().await;
    kept.submit(new_id(), &session, "{}").await.is_success();
    // On these no certificate was shown: the server has it from the first connection.
    let mut resumed = connect_tls(server.address(), &config).await.unwrap();
    assert_eq!(kind(&resumed), Some(HandshakeKind::Resumed));
    resumed.submit(new_id(), &session, "{}").await.is_success();
    let under_channel = connect_tls(server.address(), &config).await.unwrap();
    assert_eq!(kind(&under_channel), Some(HandshakeKind::Resumed));
    let mut channel = Way::Channel.open_on(under_channel, &session).await;
    assert_eq!(channel.send(new_id(), "{}").await, Outcome::Accepted);
    let other_session = admin_session(&server).await;
    let mut other = connect(&server).await;

    place.revoke(&identity("client2"));
    let start = Instant::now();
    loop {
        let answer = kept.submit(new_id(), "none", "{}").await;
        if answer.status == 403 {
            answer.is_refusal(ProblemCode::CertificateRevoked);
            break;
        }
        answer.is_refusal(ProblemCode::SessionExpired);
        assert!(start.elapsed() < LIMIT, "the revoked certificate is still taken");
    }
    let answer = resumed.submit(new_id(), &session, "{}").await;
    answer.is_refusal(ProblemCode::CertificateRevoked);
    let answer = channel.send(new_id(), "{}").await;
    assert_eq!(answer, Outcome::Refused(ProblemCode::CertificateRevoked));
    // A ticket from before is of no use: the certificate has to be shown again, and is refused.
    // `config` has such tickets, the other none.
    for config in [config, tls(Some(identity("client2")))] {
        let refused = async {
            let mut again = connect_tls(server.address(), &config).await?;
            assert_eq!(kind(&again), Some(HandshakeKind::Full));
            again.write(b"GET /is/running HTTP/1.1\r\nhost: x\r\n\r\n").await?;
            again.read_response().await
        };
        let error = refused.await.map(|response| response.status).unwrap_err();
        assert_eq!(alert(&error), Some(rustls::AlertDescription::CertificateRevoked));
    }
    other.submit(new_id(), &other_session, "{}").await.is_success();
}

/// Over what kind of connection a client submits its messages.
enum Reach {
    /// One that is kept, or a channel.
    Open(&'static str, Box<Line>),
    /// Another one for each message, for which the client showed its certificate or did not.
    Again(&'static str, Arc<rustls::ClientConfig>, HandshakeKind),
}

impl Reach {
    fn name(&self) -> &'static str {
        let (Reach::Open(name, _) | Reach::Again(name, ..)) = self;
        name
    }

    async fn submit(&mut self, server: &Server, session: &str) -> Outcome {
        let (config, wanted) = match self {
            Reach::Open(_, line) => return line.send(new_id(), "{}").await,
            Reach::Again(_, config, kind) => (config, *kind),
        };
        let answered = async {
            let mut connection = connect_tls(server.address(), config).await?;
            // The alert of a refused handshake comes with the first answer.
            connection.write(b"GET /is/running HTTP/1.1\r\nhost: x\r\n\r\n").await?;
            Ok((connection.read_response().await?, connection))
        };
        match answered.await {
            Ok((answer, connection)) if answer.status == 200 => {
                let shown = kind(&connection);
                let outcome =
                    Way::Post.open_on(connection, session).await.send(new_id(), "{}").await;
                let is_refused = matches!(outcome, Outcome::Refused(_));
                assert!(is_refused || shown == Some(wanted), "{}: {shown:?}", self.name());
                outcome
            }
            Ok((answer, _)) => {
                answer.is_refusal(ProblemCode::CertificateRevoked);
                Outcome::Refused(ProblemCode::CertificateRevoked)
            }
            Err(error) => {
                assert_eq!(alert(&error), Some(rustls::AlertDescription::CertificateRevoked));
                Outcome::Refused(ProblemCode::CertificateRevoked)
            }
        }
    }
}

fn alert(error: &std::io::Error) -> Option<rustls::AlertDescription> {
    match error.get_ref()?.downcast_ref()? {
        rustls::Error::AlertReceived(alert) => Some(*alert),
        _ => None,
    }
}

/// Submits without a pause until it is refused, and returns when that was. After the first message
/// it waits for `ready`.
async fn refused_at(
    mut reach: Reach,
    server: &Server,
    session: &str,
    ready: &Barrier,
    code: ProblemCode,
) -> (&'static str, Instant) {
    assert_eq!(reach.submit(server, session).await, Outcome::Accepted, "{}", reach.name());
    ready.wait().await;
    let start = Instant::now();
    loop {
        let outcome = reach.submit(server, session).await;
        if outcome != Outcome::Accepted {
            assert_eq!(outcome, Outcome::Refused(code), "{}", reach.name());
            return (reach.name(), Instant::now());
        }
        assert!(start.elapsed() < LIMIT, "{}: the change does not hold", reach.name());
    }
}

/// What is changed of a home.
type Change = fn(&OwnHome);

/// How long each kind of connection goes on after a change is printed: see docs/performance.md. It
/// is less than a second, which a machine with much to do cannot be held to.
#[tokio::test]
async fn whoever_is_deleted_disabled_or_revoked_is_refused_on_every_kind_of_connection() {
    let place = Arc::new(own_home());
    let add = |place: &OwnHome| {
        let users = ipc_setup::users(&place.home).unwrap();
        for user in ["leaver", "sleeper"] {
            users.add(user, "pass".to_owned().into()).unwrap();
        }
    };
    let off_thread = async |change: Change| {
        let place = Arc::clone(&place);
        tokio::task::spawn_blocking(move || change(&place)).await.unwrap();
    };
    off_thread(add).await;
    let server = Server::builder(&place.home)
        .bind("127.0.0.1:0")
        .workers(1)
        .inbox(ipc_server::MemoryOptions::default().messages_max(1_000_000).build())
        .start()
        .await
        .unwrap();
    // The certificate that all of them have is revoked at last.
    let changes: [(&str, Option<&str>, Change, ProblemCode); 3] = [
        (
            "user deleted",
            Some("leaver"),
            |place| ipc_setup::users(&place.home).unwrap().delete("leaver").unwrap(),
            ProblemCode::SessionExpired,
        ),
        (
            "user disabled",
            Some("sleeper"),
            |place| ipc_setup::users(&place.home).unwrap().disable("sleeper").unwrap(),
            ProblemCode::SessionExpired,
        ),
        (
            "certificate revoked",
            None,
            |place| place.revoke(&identity("client2")),
            ProblemCode::CertificateRevoked,
        ),
    ];
    for (what, user, change, code) in changes {
        let config = tls(Some(identity("client2")));
        let mut first = connect_tls(server.address(), &config).await.unwrap();
        let session = match user {
            Some(user) => session_in(&first.log_in(user, "pass").await),
            None => first.admin_session().await,
        };
        let mut without_tickets = (*config).clone();
        without_tickets.resumption = rustls::client::Resumption::disabled();
        let under_channel = connect_tls(server.address(), &config).await.unwrap();
        let open = async |name, way: Way, connection| {
            Reach::Open(name, Box::new(way.open_on(connection, &session).await))
        };
        let reaches = [
            open("kept", Way::Post, first).await,
            Reach::Again("resumed", config, HandshakeKind::Resumed),
            Reach::Again("new", Arc::new(without_tickets), HandshakeKind::Full),
            open("channel", Way::Channel, under_channel).await,
        ];
        let ready = Barrier::new(reaches.len() + 1);
        let refused = futures_util::future::join_all(
            reaches.map(|reach| refused_at(reach, &server, &session, &ready, code)),
        );
        let changed = async {
            ready.wait().await;
            off_thread(change).await;
            Instant::now()
        };
        let (refused, changed) = tokio::join!(refused, changed);
        let times: Vec<_> = refused
            .into_iter()
            .map(|(name, at)| {
                let millis = at.saturating_duration_since(changed).as_millis();
                format!("{name} {millis} ms")
            })
            .collect();
        println!("{what}, and refused after: {}", times.join(", "));
    }
}

/// Whether the client of a connection showed its certificate.
fn kind(connection: &Connection) -> Option<HandshakeKind> {
    connection.stream.get_ref().get_ref().1.handshake_kind()
}

#[tokio::test]
async fn a_revoked_client_loses_its_channel() {
    let place = own_home();
    let server = place.server().await;
    let connect =
        || async { connect_tls(server.address(), &tls(Some(identity("client2")))).await.unwrap() };
    let session = connect().await.admin_session().await;
    let mut channel = Way::Channel.open_on(connect().await, &session).await;
    assert_eq!(channel.send(new_id(), "{}").await, Outcome::Accepted);
    place.revoke(&identity("client2"));
    let start = Instant::now();
    loop {
        match channel.send(new_id(), "{}").await {
            Outcome::Accepted => assert!(start.elapsed() < LIMIT, "the channel stays open"),
            refused => {
                assert_eq!(refused, Outcome::Refused(ProblemCode::CertificateRevoked));
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_list_that_cannot_be_read_keeps_a_server_from_starting_and_revokes_nothing_less() {
    let place = own_home();
    for content in ["", "nonsense", "-----BEGIN X509 CRL-----\nAAEC\n-----END X509 CRL-----\n"] {
        ipc_home::write_secret_atomically(&place.home.revocation_list_file(), content.as_bytes())
            .unwrap();
        let builder = Server::builder(&place.home).bind("127.0.0.1:0").workers(1);
        let error = builder.start().await.unwrap_err();
        assert!(error.to_string().contains("web-ipc-ca.crl"), "{content}: {error}");
    }
}

#[tokio::test]
async fn an_enrolled_client_has_keys_of_its_own_and_no_others_open_for_it() {
    let place = own_home();
    let server = place.server().await;
    let keys = place.keys();
    let own = derived(&keys, "worker1");
    let connect = |name| {
        let config = tls(Some(place.enrolled(name)));
        let address = server.address();
        async move { connect_tls(address, &config).await.unwrap() }
    };
    let mut connection = connect("worker1").await;
    let login = log_in_with(&mut connection, &own).await;
    // The answer is sealed for this client alone.
    assert!(derived(&keys, "worker2").open(&login.body, None).is_err());
    assert!(KeyRing::from_text(&keys).unwrap().open(&login.body, None).is_err());
    let session = session_of(&login, &own);
    submit_with(&mut connection, &own, Some(&session)).await.is_success();
    let delivery = server.inbox().recv().await.unwrap();
    assert_eq!((delivery.peer(), delivery.user()), (Some("worker1"), "ipc-admin"));
    delivery.ack().await.unwrap();
    for others in [derived(&keys, "worker2"), KeyRing::from_text(&keys).unwrap()] {
        let mut connection = connect("worker1").await;
        submit_with(&mut connection, &others, Some(&session))
            .await
            .is_refusal(ProblemCode::MalformedEnvelope);
    }
    // What the client sealed is nothing on another's connection, and nothing beside the home.
    let mut other = connect("worker2").await;
    submit_with(&mut other, &own, Some(&session)).await.is_refusal(ProblemCode::MalformedEnvelope);
    let mut home = connect_tls(server.address(), &tls(Some(identity("client2")))).await.unwrap();
    submit_with(&mut home, &own, Some(&session)).await.is_refusal(ProblemCode::MalformedEnvelope);
}

#[tokio::test]
async fn a_rotated_key_holds_at_once_and_the_old_one_until_it_is_dropped() {
    let place = own_home();
    let server = place.server().await;
    let old = place.keys();
    let new = Key::from_bytes([9; 32]).to_base64url();
    let rings = [derived(&old, "worker1"), derived(&new, "worker1")];
    let config = tls(Some(place.enrolled("worker1")));
    let mut connection = connect_tls(server.address(), &config).await.unwrap();
    let session = session_of(&log_in_with(&mut connection, &rings[0]).await, &rings[0]);
    place.write_keys(&[&new, &old]);
    // The kept connection follows too: what is sealed with the new key is opened, and each answer
    // is sealed with the key of its question.
    let start = Instant::now();
    loop {
        let answer = log_in_with(&mut connection, &rings[0]).await;
        assert!(!session_of(&answer, &rings[0]).is_empty(), "the old key is good all the time");
        let answer = log_in_with(&mut connection, &rings[1]).await;
        if answer.status == 200 {
            assert!(!session_of(&answer, &rings[1]).is_empty());
            break;
        }
        answer.is_refusal(ProblemCode::MalformedEnvelope);
        connection = connect_tls(server.address(), &config).await.unwrap();
        assert!(start.elapsed() < LIMIT, "the new key is not taken");
    }
    for ring in &rings {
        submit_with(&mut connection, ring, Some(&session)).await.is_success();
    }
    place.write_keys(&[&new]);
    until(
        || async {
            let mut connection = connect_tls(server.address(), &config).await.unwrap();
            submit_with(&mut connection, &rings[0], Some(&session)).await
        },
        |answer| answer.status == 400,
    )
    .await
    .is_refusal(ProblemCode::MalformedEnvelope);
    let mut connection = connect_tls(server.address(), &config).await.unwrap();
    submit_with(&mut connection, &rings[1], Some(&session)).await.is_success();
}

#[tokio::test]
async fn sessions_end_with_the_key_that_sealed_them_and_not_before() {
    for way in Way::BOTH {
        let place = own_home();
        let server = place.server().await;
        let session = admin_session(&server).await;
        let mut line = way.open(&server, &session).await;
        assert_eq!(line.send(new_id(), "{}").await, Outcome::Accepted);
        let old = std::fs::read_to_string(place.home.session_key_file()).unwrap();
        let new = Key::from_bytes([9; 32]).to_base64url();
        let write = |text: &str| {
            let path = place.home.session_key_file();
            ipc_home::write_secret_atomically(&path, text.as_bytes()).unwrap();
        };
        write(&format!("{}\n{old}", *new));
        // A session of after: the new key holds once the server gives another's.
        let ring = KeyRing::from_text(&new).unwrap();
        until(
            || async { connect(&server).await.admin_session().await },
            |token| ring.open_base64url(token.as_bytes(), None).is_ok(),
        )
        .await;
        assert_eq!(line.send(new_id(), "{}").await, Outcome::Accepted);
        write(&new);
        let start = Instant::now();
        loop {
            match line.send(new_id(), "{}").await {
                Outcome::Accepted => assert!(start.elapsed() < LIMIT, "the session goes on"),
                refused => {
                    assert_eq!(refused, Outcome::Refused(ProblemCode::SessionExpired));
                    break;
                }
            }
        }
    }
}

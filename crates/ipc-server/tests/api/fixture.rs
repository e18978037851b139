//! A home for all tests, servers on free ports, and a client that writes its own HTTP/1.1.

use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::{SystemTime, UNIX_EPOCH};

use ipc_envelope::{Freshness, KeyRing};
use ipc_home::{Home, Identity, PeerName};
use ipc_pki::{Authority, AuthorityOptions, KeyType, LeafRequest, SubjectName};
use ipc_protocol::{AuthReply, Frame, MessageId, Problem, ProblemCode, Route, write_frame};
use ipc_server::{Server, ServerBuilder};
use ipc_setup::{CertificateRequest, InitOptions};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use zeroize::Zeroizing;

pub(crate) const DAY: u64 = 24 * 60 * 60;

pub(crate) fn now_secs() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// One home for all tests, since making one costs a bcrypt hash. Its authority is ten days old, so
/// that it can issue certificates that have expired.
pub(crate) struct TestHome {
    directory: tempfile::TempDir,
    pub(crate) home: Home,
    pub(crate) keys: KeyRing,
}

impl TestHome {
    /// Copies the home as it was before any server used it. While servers do, SQLite makes and
    /// removes files beside its own.
    pub(crate) fn copy_to(&self, root: &std::path::Path) {
        copy_files(&self.directory.path().join("unused"), root);
    }
}

fn copy_files(from: &std::path::Path, to: &std::path::Path) {
    ipc_home::make_private_directory(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

pub(crate) static HOME: LazyLock<TestHome> =
    // Making a home blocks, and the thread of an async test must not block.
    LazyLock::new(|| std::thread::spawn(make_home).join().unwrap());

fn make_home() -> TestHome {
    let directory = tempfile::tempdir().unwrap();
    let options = InitOptions { now_secs: now_secs() - 10 * DAY, ..InitOptions::now() };
    let home = ipc_setup::init(&directory.path().join("home"), &options).unwrap().home;
    let keys = home.envelope_keys().unwrap();
    for name in ["second", "client2"] {
        ipc_setup::issue_certificate(&home, &CertificateRequest::new(name, now_secs())).unwrap();
    }
    copy_files(home.root(), &directory.path().join("unused"));
    TestHome { directory, home, keys }
}

/// Issues a certificate of the home's authority, valid for a day from `issued_at_secs`.
pub(crate) fn issue(name: &str, issued_at_secs: u64) -> Identity {
    let home = &HOME.home;
    let read = |path: std::path::PathBuf| std::fs::read(path).unwrap();
    let authority =
        Authority::load(&read(home.ca_certificate_file()), &read(home.ca_key_file())).unwrap();
    issued_by(&authority, name, issued_at_secs)
}

/// Issues a certificate of another authority than the home's.
pub(crate) fn issue_elsewhere(name: &str) -> Identity {
    issued_by(
        &Authority::create(&AuthorityOptions::default(), now_secs()).unwrap(),
        name,
        now_secs(),
    )
}

fn issued_by(authority: &Authority, name: &str, issued_at_secs: u64) -> Identity {
    let mut request = LeafRequest::new(SubjectName::parse(name).unwrap());
    request.validity_days = 1;
    request.key_type = KeyType::P256;
    let pair = authority.issue(&request, issued_at_secs).unwrap();
    Identity {
        chain: vec![CertificateDer::from_pem_slice(&pair.certificate_pem).unwrap()],
        key: PrivateKeyDer::from_pem_slice(pair.key_pem.as_bytes()).unwrap(),
    }
}

pub(crate) fn builder() -> ServerBuilder {
    Server::builder(&HOME.home).bind("127.0.0.1:0").workers(1)
}

/// A TLS configuration of a client that trusts the home's authority and presents `identity`.
pub(crate) fn tls(identity: Option<Identity>) -> Arc<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in HOME.home.ca_certificates().unwrap() {
        roots.add(certificate).unwrap();
    }
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(
        rustls::crypto::ring::default_provider(),
    ))
    .with_safe_default_protocol_versions()
    .unwrap()
    .with_root_certificates(roots);
    Arc::new(match identity {
        Some(identity) => config.with_client_auth_cert(identity.chain, identity.key).unwrap(),
        None => config.with_no_client_auth(),
    })
}

pub(crate) fn identity(name: &str) -> Identity {
    HOME.home.identity(&PeerName::parse(name).unwrap()).unwrap()
}

/// A connection for many requests.
pub(crate) struct Connection<S = TlsStream<TcpStream>> {
    pub(crate) stream: BufReader<S>,
}

#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Checks that the response is the refusal `code` in the documented form.
    #[track_caller]
    pub(crate) fn is_refusal(&self, code: ProblemCode) -> Problem {
        let text = String::from_utf8_lossy(&self.body);
        let problem: Problem = serde_json::from_slice(&self.body)
            .unwrap_or_else(|_| panic!("{} is not a problem document: {text}", self.status));
        assert_eq!((problem.code.as_str(), self.status), (code.as_str(), code.status()), "{text}");
        assert_eq!(problem.status, self.status);
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        problem
    }

    #[track_caller]
    pub(crate) fn is_success(&self) {
        assert_eq!((self.status, self.body.as_slice()), (200, &b"success"[..]), "{self:?}");
    }
}

pub(crate) async fn connect_tls(
    address: SocketAddr,
    config: &Arc<rustls::ClientConfig>,
) -> std::io::Result<Connection> {
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from("localhost").unwrap();
    let stream = TlsConnector::from(Arc::clone(config)).connect(name, stream).await?;
    Ok(Connection { stream: BufReader::new(stream) })
}

pub(crate) async fn connect(server: &Server) -> Connection {
    connect_tls(server.address(), &tls(Some(identity("localhost")))).await.unwrap()
}

pub(crate) async fn connect_plain(server: &Server) -> Connection<TcpStream> {
    Connection { stream: BufReader::new(TcpStream::connect(server.address()).await.unwrap()) }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    pub(crate) async fn read_response(&mut self) -> std::io::Result<Response> {
        let mut response = self.read_head().await?;
        let length = response.header("content-length").map_or(0, |length| length.parse().unwrap());
        response.body.resize(length, 0);
        self.stream.read_exact(&mut response.body).await?;
        Ok(response)
    }

    /// Reads a response without a body, whatever its `Content-Length` is.
    pub(crate) async fn read_head(&mut self) -> std::io::Result<Response> {
        let mut status = 0;
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            if self.stream.read_line(&mut line).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            match line.trim_end() {
                "" => break,
                line if status == 0 => {
                    let rest =
                        line.strip_prefix("HTTP/1.1 ").or_else(|| line.strip_prefix("HTTP/1.0 "));
                    let code = rest.and_then(|rest| rest.get(..3)?.parse().ok());
                    status = code.ok_or(std::io::ErrorKind::InvalidData)?;
                }
                line => {
                    let (name, value) = line.split_once(": ").unwrap();
                    headers.push((name.to_ascii_lowercase(), value.to_owned()));
                }
            }
        }
        Ok(Response { status, headers, body: Vec::new() })
    }

    pub(crate) async fn request(
        &mut self,
        method: &str,
        path: &str,
        headers: &str,
        body: &[u8],
    ) -> Response {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n{headers}\r\n",
            body.len()
        );
        self.write(&[head.as_bytes(), body].concat()).await.unwrap();
        let response = self.read_response().await.unwrap();
        let Response { status, headers, body } = &response;
        crate::openapi::is_on_the_page((method, path), *status, headers, body);
        response
    }

    /// Posts a raw envelope.
    pub(crate) async fn post(&mut self, route: Route, envelope: &[u8]) -> Response {
        self.request("POST", route.path(), "content-type: application/octet-stream\r\n", envelope)
            .await
    }

    pub(crate) async fn log_in(&mut self, username: &str, password: &str) -> Response {
        let body = serde_json::json!({"username": username, "password": password}).to_string();
        self.post(Route::ClientAuth, &sealed(Route::ClientAuth, new_id(), None, &body)).await
    }

    /// Logs in as the default admin and returns the session.
    pub(crate) async fn admin_session(&mut self) -> Zeroizing<String> {
        let admin = HOME.home.admin_credentials().unwrap();
        session_in(&self.log_in(&admin.username, &admin.password).await)
    }

    pub(crate) async fn submit(&mut self, id: MessageId, session: &str, body: &str) -> Response {
        self.post(Route::MessageSubmit, &sealed(Route::MessageSubmit, id, Some(session), body))
            .await
    }
}

/// The default admin's session with the certificate of `localhost`. One login serves all tests,
/// since it is valid at all servers of a home.
pub(crate) async fn admin_session(server: &Server) -> Zeroizing<String> {
    static SESSION: OnceCell<Zeroizing<String>> = OnceCell::const_new();
    SESSION.get_or_init(async || connect(server).await.admin_session().await).await.clone()
}

/// Opens a reply and returns its body.
pub(crate) fn reply_in(response: &Response) -> String {
    assert_eq!(response.status, 200, "{response:?}");
    let freshness = Some(Freshness::at(now_secs()));
    let opened = match response.header("content-type") {
        Some("application/octet-stream") => HOME.keys.open(&response.body, freshness),
        _ => HOME.keys.open_base64url(&response.body, freshness),
    };
    let plaintext = opened.unwrap();
    Frame::parse(&plaintext).unwrap().object().unwrap().to_owned()
}

/// The session in the response to a login.
pub(crate) fn session_in(response: &Response) -> Zeroizing<String> {
    serde_json::from_str::<AuthReply>(&reply_in(response)).unwrap().session
}

pub(crate) fn new_id() -> MessageId {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).unwrap();
    MessageId::from_random(bytes)
}

pub(crate) fn frame(route: Route, id: MessageId, session: Option<&str>, body: &str) -> Vec<u8> {
    let mut plaintext = Vec::new();
    write_frame(&mut plaintext, route.path(), id, session, body);
    plaintext
}

/// Makes a raw envelope, sealed at the present time.
pub(crate) fn sealed(route: Route, id: MessageId, session: Option<&str>, body: &str) -> Vec<u8> {
    HOME.keys.seal(&frame(route, id, session, body), now_secs(), [7; 16])
}

//! A server whose answers are scripted. It opens envelopes and records requests. It enforces no
//! rules.
#![allow(clippy::unwrap_used)]

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use ipc_protocol::{Frame, MessageId, Problem, ProblemCode, REPLY_ADDRESS, write_frame};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

use crate::keys::{now_secs, ring};
pub(crate) use crate::script::{Answer, Log, Script, Seen};
use crate::translated::translated;
use crate::wire::{LIMITS, Peer, Said, Speaker, switching, talk};

/// How the server handles a connection.
pub(crate) enum Plan {
    Plain,
    Tls(Arc<ServerConfig>),
    /// Completes the handshake, then resets the TCP connection.
    ResetAfter(Arc<ServerConfig>),
    /// Reads only the first byte of a request, sends this and closes.
    AnswerEarly(Arc<ServerConfig>, Vec<u8>),
}

/// How the server handles a request for a channel.
pub(crate) enum Opening {
    /// Opens a channel with these limits.
    Channel(&'static str, Peer),
    /// Opens a channel and sends something before any frame arrives.
    Greeting(&'static str, fn(&Speaker)),
    /// Sends another answer.
    Answer(Answer),
}

/// How to handle each request for a channel, counted from 0.
type Openings = dyn Fn(usize) -> Opening + Send + Sync;

/// The first message of a client that shall use a channel for all others. No script and no log sees
/// it.
pub(crate) const WARMING_UP: &str = r#"{"warming":"up"}"#;

pub(crate) struct Fake {
    address: SocketAddr,
    log: Arc<Log>,
    /// The end of each connection: `true` if the client has sent a TLS closure alert.
    goodbyes: mpsc::Receiver<bool>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Fake {
    /// A server with mutual TLS.
    pub(crate) fn tls(
        config: Arc<ServerConfig>,
        script: impl Fn(&Seen) -> Answer + Send + Sync + 'static,
    ) -> Self {
        Self::start(0, move |_| Plan::Tls(config.clone()), script)
    }

    /// A server on this port, or on any free one for 0. `plan` decides how to handle each
    /// connection, counted from 0.
    pub(crate) fn start(
        port: u16,
        plan: impl Fn(usize) -> Plan + Send + Sync + 'static,
        script: impl Fn(&Seen) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let script: Arc<Script> = Arc::new(script);
        let log = Arc::new(Log::default());
        let (entries, served) = (Arc::clone(&script), Arc::clone(&log));
        let openings =
            move |_| Opening::Channel(LIMITS, translated(entries.clone(), served.clone()));
        Self::run(port, plan, script, openings, log, Runs::OnItsThread)
    }

    /// A server with mutual TLS that handles requests for channels as `openings` says.
    pub(crate) fn with_channels(
        config: Arc<ServerConfig>,
        script: impl Fn(&Seen) -> Answer + Send + Sync + 'static,
        openings: impl Fn(usize) -> Opening + Send + Sync + 'static,
    ) -> Self {
        let plan = move |_| Plan::Tls(config.clone());
        Self::run(0, plan, Arc::new(script), openings, Arc::default(), Runs::OnItsThread)
    }

    /// The same server on the caller's runtime, whose clock may be paused.
    pub(crate) fn with_channels_here(
        config: Arc<ServerConfig>,
        script: impl Fn(&Seen) -> Answer + Send + Sync + 'static,
        openings: impl Fn(usize) -> Opening + Send + Sync + 'static,
    ) -> Self {
        let plan = move |_| Plan::Tls(config.clone());
        Self::run(0, plan, Arc::new(script), openings, Arc::default(), Runs::Here)
    }

    fn run(
        port: u16,
        plan: impl Fn(usize) -> Plan + Send + Sync + 'static,
        script: Arc<Script>,
        openings: impl Fn(usize) -> Opening + Send + Sync + 'static,
        log: Arc<Log>,
        place: Runs,
    ) -> Self {
        let listener = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (told, goodbyes) = mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let service = Arc::new(Service { script, openings: Box::new(openings), log: log.clone() });
        let accept = async move {
            let listener = TcpListener::from_std(listener).unwrap();
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                tcp.set_nodelay(true).unwrap();
                let number = service.log.connections.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(tcp, plan(number), service.clone(), told.clone()));
            }
        };
        let until_stopped = async move {
            tokio::select! {
                () = accept => {}
                _ = stopped => {}
            }
        };
        let thread = match place {
            Runs::OnItsThread => Some(std::thread::spawn(move || {
                let runtime =
                    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(until_stopped);
            })),
            Runs::Here => {
                tokio::spawn(until_stopped);
                None
            }
        };
        Fake { address, log, goodbyes, stop: Some(stop), thread }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.log.seen.lock().unwrap().clone()
    }

    pub(crate) fn logins(&self) -> Vec<Seen> {
        self.seen().into_iter().filter(Seen::is_login).collect()
    }

    pub(crate) fn submits(&self) -> Vec<Seen> {
        self.seen().into_iter().filter(|seen| seen.path == "/message/submit").collect()
    }

    /// The messages that arrived with a session, alone or in batches, in order: id and body.
    pub(crate) fn messages(&self) -> Vec<(String, String)> {
        let all = self.seen().into_iter().filter(|seen| seen.session.as_deref() == Some(TOKEN));
        let messages = all.filter(|seen| seen.path.starts_with("/message/"));
        messages
            .flat_map(|seen| {
                if seen.entries.is_empty() { vec![(seen.id, seen.body)] } else { seen.entries }
            })
            .collect()
    }

    /// The requests to `path` with a session.
    pub(crate) fn admitted(&self, path: &str) -> Vec<Seen> {
        let all = self.seen().into_iter();
        all.filter(|seen| seen.path == path && seen.session.as_deref() == Some(TOKEN)).collect()
    }

    /// The frames that arrived over channels.
    pub(crate) fn frames(&self) -> Vec<Said> {
        self.log.channels.frames.lock().unwrap().clone()
    }

    /// The close frames that arrived: code and reason.
    pub(crate) fn closes(&self) -> Vec<(u16, String)> {
        self.log.channels.closes.lock().unwrap().clone()
    }

    /// The number of pings that arrived, and the pongs.
    pub(crate) fn pings_and_pongs(&self) -> (usize, Vec<Vec<u8>>) {
        let channels = &self.log.channels;
        (*channels.pings.lock().unwrap(), channels.pongs.lock().unwrap().clone())
    }

    /// How often a client asked for a channel.
    pub(crate) fn openings(&self) -> usize {
        self.log.openings.load(Ordering::SeqCst)
    }

    pub(crate) fn connections(&self) -> usize {
        self.log.connections.load(Ordering::SeqCst)
    }

    pub(crate) fn open_max(&self) -> usize {
        self.log.open_max.load(Ordering::SeqCst)
    }

    /// Waits until a connection has ended. Returns whether the client has sent a TLS closure alert.
    pub(crate) fn wait_for_goodbye(&self) -> bool {
        self.goodbyes
            .recv_timeout(Duration::from_secs(20))
            .expect("a client that closes its connections")
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        let _ = self.stop.take().unwrap().send(());
        let ended = self.thread.take().map(JoinHandle::join);
        if let Some(Err(panic)) = ended
            && !std::thread::panicking()
        {
            std::panic::resume_unwind(panic);
        }
    }
}

/// Where a server runs.
enum Runs {
    OnItsThread,
    Here,
}

/// What all connections share.
struct Service {
    script: Arc<Script>,
    openings: Box<Openings>,
    log: Arc<Log>,
}

async fn serve(tcp: TcpStream, plan: Plan, service: Arc<Service>, goodbyes: mpsc::Sender<bool>) {
    let ended = match plan {
        Plan::Plain => converse(tcp, &service).await,
        Plan::Tls(config) => match TlsAcceptor::from(config).accept(tcp).await {
            Ok(tls) => converse(tls, &service).await,
            Err(_) => return,
        },
        Plan::ResetAfter(config) => {
            let tls = TlsAcceptor::from(config).accept(tcp).await.unwrap();
            tls.get_ref().0.set_zero_linger().unwrap();
            return;
        }
        Plan::AnswerEarly(config, answer) => {
            let mut tls = TlsAcceptor::from(config).accept(tcp).await.unwrap();
            let mut head = [0; 1];
            tls.read_exact(&mut head).await.unwrap();
            tls.write_all(&answer).await.unwrap();
            tls.flush().await.unwrap();
            return;
        }
    };
    // A test that does not wait for the end may be over.
    let _ = goodbyes.send(ended.is_ok());
}

/// Answers requests until the client closes. The error says that it closed without a TLS closure
/// alert.
async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    service: &Service,
) -> io::Result<()> {
    let log = &service.log;
    let open = log.open.fetch_add(1, Ordering::SeqCst) + 1;
    log.open_max.fetch_max(open, Ordering::SeqCst);
    let result = async {
        while let Some(seen) = read_request(&mut stream, log).await? {
            let answer = if seen.path == "/message/channel" {
                let number = log.openings.fetch_add(1, Ordering::SeqCst);
                let (limits, greeting, peer): (_, fn(&Speaker), Peer) =
                    match (service.openings)(number) {
                        Opening::Channel(limits, peer) => (limits, |_| (), peer),
                        Opening::Greeting(limits, greeting) => {
                            (limits, greeting, Box::new(|_, _| ()))
                        }
                        Opening::Answer(answer) => {
                            if !say(&mut stream, answer).await? {
                                return Ok(());
                            }
                            continue;
                        }
                    };
                stream.write_all(switching(&seen.websocket_key, limits).as_bytes()).await?;
                stream.flush().await?;
                return talk(&mut stream, number, greeting, peer, &log.channels).await;
            } else if seen.body != WARMING_UP {
                (service.script)(&seen)
            } else if seen.session.is_some() {
                success()
            } else {
                problem(ProblemCode::SessionExpired, "")
            };
            if !say(&mut stream, answer).await? {
                break;
            }
        }
        Ok(())
    }
    .await;
    log.open.fetch_sub(1, Ordering::SeqCst);
    result
}

/// Sends an answer. Returns `false` if it is the last one.
async fn say<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    answer: Answer,
) -> io::Result<bool> {
    match answer {
        Answer::Send(bytes) => stream.write_all(&bytes).await?,
        Answer::SendAndClose(bytes) => {
            stream.write_all(&bytes).await?;
            stream.shutdown().await?;
            return Ok(false);
        }
        Answer::Close => return Ok(false),
        Answer::Hang => {
            while stream.read(&mut [0; 1024]).await? > 0 {}
            return Ok(false);
        }
    }
    stream.flush().await?;
    Ok(true)
}

async fn read_request<S: AsyncRead + Unpin>(stream: &mut S, log: &Log) -> io::Result<Option<Seen>> {
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Ok(None);
        }
    };
    let head = String::from_utf8(bytes[..head_end].to_vec()).unwrap();
    let path = head.split(' ').nth(1).unwrap().to_owned();
    let websocket_key = head
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-key"))
        .map(|(_, key)| key.trim().to_owned());
    let head = head.to_ascii_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length:"))
        .map_or(0, |length| length.trim().parse().unwrap());
    let mut envelope = bytes.split_off(head_end);
    while envelope.len() < length {
        if stream.read_buf(&mut envelope).await? == 0 {
            return Ok(None);
        }
    }
    let mut seen = Seen {
        head,
        envelope,
        to: String::new(),
        id: String::new(),
        session: None,
        body: String::new(),
        entries: Vec::new(),
        turn: 0,
        websocket_key: websocket_key.unwrap_or_default(),
        path,
    };
    if length > 0 && !seen.head.contains("\r\ncontent-type:") {
        seen.body = pickled(&seen.envelope);
    } else if length > 0 {
        let plaintext = ring().open(&seen.envelope, None).unwrap();
        let frame = Frame::parse(&plaintext).unwrap();
        seen.id = frame.id().to_string();
        seen.session = frame.session().map(str::to_owned);
        match frame.batch(1000) {
            Ok(entries) => {
                let entries = entries.into_iter().map(Result::unwrap);
                seen.entries =
                    entries.map(|(id, body)| (id.to_string(), body.to_owned())).collect();
            }
            Err(_) => seen.body = frame.object().unwrap().to_owned(),
        }
        seen.to = String::from_utf8(plaintext.to_vec())
            .unwrap()
            .split("\"to\":\"")
            .nth(1)
            .and_then(|rest| rest.split('"').next())
            .unwrap()
            .to_owned();
    }
    let is_for_the_log = seen.body != WARMING_UP && seen.path != "/message/channel";
    Ok(Some(if is_for_the_log { log.note(seen) } else { seen }))
}

/// The pickled dict in a text envelope, as JSON.
#[cfg(feature = "python-compat")]
fn pickled(envelope: &[u8]) -> String {
    let pickle = ring().open_base64url(envelope, None).unwrap();
    ipc_pickle::to_json(&pickle, &ipc_pickle::Limits::default()).unwrap()
}

#[cfg(not(feature = "python-compat"))]
fn pickled(_: &[u8]) -> String {
    panic!("a client that sends no pickles has sent a body without a type")
}

/// A response with more header lines, each ended by CRLF.
pub(crate) fn http(status: u16, headers: &str, body: &[u8]) -> Vec<u8> {
    let mut answer =
        format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n{headers}\r\n", body.len())
            .into_bytes();
    answer.extend_from_slice(body);
    answer
}

pub(crate) fn success() -> Answer {
    Answer::Send(http(200, "", b"success"))
}

pub(crate) fn problem(code: ProblemCode, headers: &str) -> Answer {
    problem_with(code, "because of the script", headers)
}

pub(crate) fn problem_with(code: ProblemCode, detail: &str, headers: &str) -> Answer {
    let body = Problem::new(code, detail).to_json();
    let headers = format!("content-type: application/problem+json\r\n{headers}");
    Answer::Send(http(code.status(), &headers, body.as_bytes()))
}

/// A response that grants a session.
pub(crate) fn grant(seen: &Seen, token: &str) -> Answer {
    Answer::Send(http(200, RAW, &ring().seal(&reply(seen, token), now_secs(), [5; 16])))
}

/// The header of a raw envelope.
pub(crate) const RAW: &str = "content-type: application/octet-stream\r\n";

/// The frame of a reply that grants a session.
pub(crate) fn reply(seen: &Seen, token: &str) -> Vec<u8> {
    reply_frame(seen, &format!(r#"{{"session":"{token}","expires_in":3600}}"#))
}

fn reply_frame(seen: &Seen, body: &str) -> Vec<u8> {
    let id: MessageId = seen.id.parse().unwrap();
    let mut frame = Vec::new();
    write_frame(&mut frame, REPLY_ADDRESS, id, None, body);
    frame
}

/// A response 200 with a reply.
pub(crate) fn replied(seen: &Seen, headers: &str, body: &str) -> Answer {
    let envelope = ring().seal(&reply_frame(seen, body), now_secs(), [6; 16]);
    Answer::Send(http(200, &format!("{RAW}{headers}"), &envelope))
}

/// The response to a batch whose messages were all accepted.
pub(crate) fn took_all(seen: &Seen) -> Answer {
    replied(seen, "", &format!(r#"{{"accepted":{}}}"#, seen.entries.len()))
}

/// The response to a message or a batch that was accepted completely.
pub(crate) fn took(seen: &Seen) -> Answer {
    if seen.path == "/message/batch" { took_all(seen) } else { success() }
}

/// The script of a correct server, which answers requests with a valid session by `accept`.
pub(crate) fn with_session(
    accept: impl Fn(&Seen) -> Answer + Send + Sync + 'static,
) -> impl Fn(&Seen) -> Answer + Send + Sync + 'static {
    move |seen| match seen.path.as_str() {
        "/is/running" => Answer::Send(http(200, "", b"Web-Server is running")),
        "/client/auth" => grant(seen, TOKEN),
        _ if seen.session.as_deref() == Some(TOKEN) => accept(seen),
        _ => problem(ProblemCode::SessionExpired, ""),
    }
}

/// The session that [`with_session`] grants.
pub(crate) const TOKEN: &str = "the-session-token";

/// Like [`with_session`]. It passes `accept` the number of the request, counting only those with a
/// session.
pub(crate) fn counted(
    accept: impl Fn(&Seen, usize) -> Answer + Send + Sync + 'static,
) -> impl Fn(&Seen) -> Answer + Send + Sync + 'static {
    let count = AtomicUsize::new(0);
    with_session(move |seen| accept(seen, count.fetch_add(1, Ordering::SeqCst)))
}

//! Connects to the NATS servers, and makes or checks the streams and the consumer of an inbox.
//!
//! `backend` comes here when an inbox is opened. What exists is used as it is, if it keeps what an
//! inbox promises, and refused if not; nothing that exists is changed.

use std::error::Error as _;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::context::{
    ConsumerInfoErrorKind, ContextBuilder, CreateStreamError, CreateStreamErrorKind,
    GetStreamErrorKind,
};
use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType};
use async_nats::jetstream::{Context, ErrorCode};
use async_nats::{
    Client, ConnectError, ConnectErrorKind, ConnectOptions, Event, ReconnectToServer,
    RequestErrorKind, Server as PoolServer, ServerAddr, ServerError,
};
use ipc_base::TlsFault;
use ipc_protocol::REMEMBERED_SECS;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;
use zeroize::Zeroizing;

use crate::error::JetStreamError;
use crate::leaders::next_server;
use crate::options::JetStreamOptions;
use crate::shared::ANSWER_WITHIN;
use crate::wire::{CONSUMER, Names};

/// The oldest version with everything that is used.
const VERSION_MIN: (i64, i64, i64) = (2, 9, 0);

/// Replicas of older versions come to differ, as 2.9.10 has shown: `docs/jetstream.md`, "Which
/// nats-server".
const REPLICAS_VERSION_MIN: (i64, i64, i64) = (2, 10, 0);

/// The longest pause before the next attempt to connect.
const RECONNECT_PAUSE_MAX: Duration = Duration::from_secs(1);

/// How long a server may take to accept a connection, before the next one is tried.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);

/// How soon a server that is silent counts as gone, three times over.
const PING_INTERVAL: Duration = Duration::from_secs(1);

/// How many publishes may be without an answer.
const IN_FLIGHT_MAX: usize = 16 * 1024;

/// How long what listens at an address may take to accept a connection.
const LOOK_WITHIN: Duration = Duration::from_secs(1);

pub(crate) struct Connected {
    pub(crate) client: Client,
    pub(crate) jetstream: Context,
    pub(crate) is_connected: watch::Receiver<bool>,
    pub(crate) denied: Denied,
}

/// What the NATS server has last denied to the user while the inbox is opened. It tells so beside
/// the request, which then gets no answer. `None` once the inbox is open.
#[derive(Clone)]
pub(crate) struct Denied(Arc<Mutex<Option<String>>>);

impl Denied {
    fn new() -> Self {
        Denied(Arc::new(Mutex::new(Some(String::new()))))
    }

    /// Keeps what the server reports, if it explains why an inbox cannot be opened.
    fn keeps(&self, error: &ServerError) -> bool {
        match (error, &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner)) {
            (ServerError::Other(text), Some(kept)) if is_denial(text) => {
                kept.clone_from(text);
                true
            }
            _ => false,
        }
    }

    /// Reports that the inbox is open. What is denied from now on is logged.
    pub(crate) fn is_open(&self) {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(kept) = kept.filter(|kept| !kept.is_empty()) {
            log::warn!("the NATS server reports: {kept}");
        }
    }

    /// The error that explains this one, if something was denied.
    pub(crate) fn explains(
        &self,
        error: JetStreamError,
        options: &JetStreamOptions,
    ) -> JetStreamError {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        match (error, kept.filter(|kept| !kept.is_empty())) {
            (JetStreamError::Stream { .. }, Some(reason)) => {
                JetStreamError::NoRight { servers: options.to_string(), reason }
            }
            (error, _) => error,
        }
    }
}

/// Whether a server's error is about a right of the user.
fn is_denial(text: &str) -> bool {
    text.to_lowercase().contains("permissions violation")
}

/// Connects to the first server that answers. From then on the client reconnects by itself, also to
/// servers of the cluster that the first one names.
pub(crate) async fn connect(options: &JetStreamOptions) -> Result<Connected, JetStreamError> {
    let servers = || options.to_string();
    let (state, is_connected) = watch::channel(true);
    let denied = Denied::new();
    let noted = denied.clone();
    let tried = Mutex::new(None);
    let connect = with_login(options)?
        .name("web-ipc")
        .require_tls(options.tls)
        .connection_timeout(CONNECT_WITHIN)
        .ping_interval(PING_INTERVAL)
        .request_timeout(Some(ANSWER_WITHIN))
        .reconnect_delay_callback(|attempts| {
            let pause = 50_u64.saturating_mul(u64::try_from(attempts).unwrap_or(u64::MAX));
            Duration::from_millis(pause).min(RECONNECT_PAUSE_MAX)
        })
        .reconnect_to_server_callback(move |pool, _| {
            let server = other_server(&pool, &tried);
            async move { server }
        })
        .event_callback(move |event| {
            let (state, denied) = (state.clone(), noted.clone());
            async move { note(&event, &state, &denied) }
        });
    let addresses: Vec<ServerAddr> = options
        .servers
        .iter()
        .map(|server| {
            format!("{}://{server}", if options.tls { "tls" } else { "nats" }).parse::<ServerAddr>()
        })
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error: std::io::Error| JetStreamError::Unreachable {
            servers: servers(),
            reason: error.to_string(),
        })?;
    let client = match connect.connect(addresses).await {
        Ok(client) => client,
        Err(error) => return Err(not_connected(&error, options).await),
    };
    let (major, minor, patch) = VERSION_MIN;
    if !client.is_server_compatible(major, minor, patch) {
        return Err(JetStreamError::TooOld { version: client.server_info().version });
    }
    let (major, minor, patch) = REPLICAS_VERSION_MIN;
    if options.replicas > 1 && !client.is_server_compatible(major, minor, patch) {
        log::warn!(
            "replicas of nats-server {} come to differ when NATS servers die or lose each other, \
             so that messages are lost; use a newer one, such as 2.15",
            client.server_info().version
        );
    }
    let jetstream = ContextBuilder::new()
        .timeout(ANSWER_WITHIN)
        .max_ack_inflight(IN_FLIGHT_MAX)
        .build(client.clone());
    let checked = check_jetstream(&client, options).await;
    checked.map_err(|error| denied.explains(error, options))?;
    Ok(Connected { client, jetstream, is_connected, denied })
}

/// The server to connect to when the connection to another one has ended. `tried` is the one that
/// was tried last, and is set. `None` at the beginning, when the client tries all.
fn other_server(
    pool: &[PoolServer],
    tried: &Mutex<Option<ServerAddr>>,
) -> Option<ReconnectToServer> {
    if !pool.iter().any(|server| server.did_connect) {
        return None;
    }
    let mut tried = tried.lock().unwrap_or_else(PoisonError::into_inner);
    let last = pool.iter().position(|server| match &*tried {
        Some(address) => server.addr == *address,
        None => server.did_connect,
    });
    let failed: Vec<usize> = pool.iter().map(|server| server.failed_attempts).collect();
    let addr = pool.get(next_server(&failed, last)?)?.addr.clone();
    *tried = Some(addr.clone());
    Some(ReconnectToServer { addr, delay: None })
}

/// Why there is no connection.
async fn not_connected(error: &ConnectError, options: &JetStreamOptions) -> JetStreamError {
    let servers = options.to_string();
    if let Some(fault) = TlsFault::among_causes(error) {
        return no_tls(fault, options);
    }
    let source = error.source();
    let reason = source.map_or_else(|| error.kind().to_string(), ToString::to_string);
    let io = source.and_then(|source| source.downcast_ref::<io::Error>()).map(io::Error::kind);
    match error.kind() {
        ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => {
            login_refused(options)
        }
        // nats-server says otherwise that a login has expired, or comes too late.
        ConnectErrorKind::Io if reason.to_lowercase().contains("authentication") => {
            login_refused(options)
        }
        ConnectErrorKind::Dns => JetStreamError::UnknownHost { servers, reason },
        ConnectErrorKind::Tls => match &options.identity_files {
            // Each of the files was found to have what it should.
            Some((certificate, key)) => {
                JetStreamError::Identity { certificate: certificate.clone(), key: key.clone() }
            }
            None => JetStreamError::Tls { servers, reason },
        },
        // What came is no operation of NATS, or another than the first one.
        ConnectErrorKind::Io if matches!(io, Some(io::ErrorKind::InvalidInput)) => {
            JetStreamError::NotNats { servers }
        }
        // A NATS server speaks first, and at once.
        ConnectErrorKind::TimedOut if listens(options).await => JetStreamError::NotNats { servers },
        ConnectErrorKind::TimedOut => {
            let reason = format!("no answer within {} s", ANSWER_WITHIN.as_secs());
            JetStreamError::Unreachable { servers, reason }
        }
        _ => JetStreamError::Unreachable { servers, reason },
    }
}

/// Whether anything accepts connections at one of the addresses.
async fn listens(options: &JetStreamOptions) -> bool {
    for server in &options.servers {
        if let Ok(Ok(_)) = timeout(LOOK_WITHIN, TcpStream::connect(server)).await {
            return true;
        }
    }
    false
}

fn login_refused(options: &JetStreamOptions) -> JetStreamError {
    let servers = options.to_string();
    let login = match (&options.user, &options.credentials_file) {
        (_, Some(file)) => format!("the credentials in {}", file.display()),
        (Some(user), None) => format!("the user {user} with this password"),
        (None, None) => return JetStreamError::LoginMissing { servers },
    };
    JetStreamError::Login { servers, login }
}

fn no_tls(fault: TlsFault, options: &JetStreamOptions) -> JetStreamError {
    let servers = options.to_string();
    match fault {
        TlsFault::ServerCertificate(problem) => {
            let authority = options.authority_file.clone();
            JetStreamError::ServerCertificate { servers, problem, authority }
        }
        TlsFault::ClientCertificate { .. } if options.identity_files.is_none() => {
            JetStreamError::ClientCertificateMissing { servers }
        }
        TlsFault::ClientCertificate { alert } => {
            JetStreamError::ClientCertificate { servers, alert }
        }
        TlsFault::NotTls => JetStreamError::NoTls { servers },
        TlsFault::Other(reason) => JetStreamError::Tls { servers, reason },
        other => JetStreamError::Tls { servers, reason: format!("{other:?}") },
    }
}

/// Refuses a server without JetStream. The NATS client's own question does not understand the
/// answer of nats-server 2.9.
async fn check_jetstream(
    client: &Client,
    options: &JetStreamOptions,
) -> Result<(), JetStreamError> {
    #[derive(serde::Deserialize)]
    struct Answer {
        error: Option<Refusal>,
    }
    #[derive(serde::Deserialize)]
    struct Refusal {
        description: String,
    }
    let none = || JetStreamError::NoJetStream { servers: options.to_string() };
    let answer = match client.request("$JS.API.INFO", Default::default()).await {
        Ok(answer) => answer,
        Err(error) if error.kind() == RequestErrorKind::NoResponders => return Err(none()),
        Err(error) => return Err(not_given("the account's JetStream", error)),
    };
    match serde_json::from_slice::<Answer>(&answer.payload) {
        Ok(Answer { error: None }) => Ok(()),
        Ok(Answer { error: Some(refusal) }) => {
            log::debug!("JetStream cannot be used: {}", refusal.description);
            Err(none())
        }
        Err(error) => Err(not_given("the account's JetStream", error)),
    }
}

/// Passes on whether there is a connection, and logs it.
fn note(event: &Event, state: &watch::Sender<bool>, denied: &Denied) {
    match event {
        Event::Connected => {
            if !state.send_replace(true) {
                log::info!("the connection to the NATS server is there again");
            }
        }
        Event::Disconnected | Event::Closed => {
            if state.send_replace(false) {
                log::warn!("the connection to the NATS server is interrupted");
            }
        }
        Event::ServerError(error) if denied.keeps(error) => {}
        Event::ServerError(error) => log::warn!("the NATS server reports: {error}"),
        other => log::debug!("the NATS client reports: {other}"),
    }
}

fn with_login(options: &JetStreamOptions) -> Result<ConnectOptions, JetStreamError> {
    let mut connect = ConnectOptions::new();
    if let Some(path) = &options.credentials_file {
        let credentials = read("credentials", path)?;
        let bad = |_| bad_file("credentials", path, "credentials");
        connect = connect.credentials(&credentials).map_err(bad)?;
    }
    if let Some(user) = &options.user {
        let password = match (&options.password_file, &options.password) {
            (Some(path), _) => {
                let text = read("passwordFile", path)?;
                text.strip_suffix('\n').unwrap_or(&text).trim_end_matches('\r').to_owned()
            }
            (None, Some(password)) => String::clone(password),
            (None, None) => String::new(),
        };
        connect = connect.user_and_password(user.clone(), password);
    }
    if let Some(path) = &options.authority_file {
        read_pem("ca", path, "certificate")?;
        connect = connect.add_root_certificates(path.clone());
    }
    if let Some((certificate, key)) = &options.identity_files {
        read_pem("cert", certificate, "certificate")?;
        read_pem("key", key, "private key")?;
        connect = connect.add_client_certificate(certificate.clone(), key.clone());
    }
    Ok(connect)
}

fn read(parameter: &'static str, path: &Path) -> Result<Zeroizing<String>, JetStreamError> {
    match std::fs::read(path) {
        Ok(bytes) => match String::from_utf8(bytes) {
            Ok(text) => Ok(Zeroizing::new(text)),
            Err(error) => {
                drop(Zeroizing::new(error.into_bytes()));
                Err(bad_file(parameter, path, "text"))
            }
        },
        Err(source) => Err(JetStreamError::File { parameter, path: path.to_owned(), source }),
    }
}

/// Looks whether a file has what it should: the NATS client takes an authority's file without one
/// for a file that trusts nobody.
fn read_pem(
    parameter: &'static str,
    path: &Path,
    expected: &'static str,
) -> Result<(), JetStreamError> {
    // Of keys there are several kinds, such as `EC PRIVATE KEY`.
    let end = format!("{}-----", expected.to_uppercase());
    let is_begin = |line: &str| line.starts_with("-----BEGIN ") && line.trim_end().ends_with(&end);
    match read(parameter, path)?.lines().any(is_begin) {
        true => Ok(()),
        false => Err(bad_file(parameter, path, expected)),
    }
}

fn bad_file(parameter: &'static str, path: &Path, expected: &'static str) -> JetStreamError {
    JetStreamError::BadFile { parameter, path: path.to_owned(), expected }
}

/// The error for something that the server does not give, with its reason.
fn not_given(
    what: impl Into<String>,
    error: impl std::error::Error + Send + Sync + 'static,
) -> JetStreamError {
    JetStreamError::Stream { what: what.into(), source: error.into() }
}

/// Makes or checks the three streams and the consumer. Returns the consumer's `ack_wait`.
pub(crate) async fn ensure(
    jetstream: &Context,
    options: &JetStreamOptions,
    names: &Names,
) -> Result<Duration, JetStreamError> {
    let base = |name: &str, subject: String| Config {
        name: name.to_owned(),
        subjects: vec![subject],
        retention: RetentionPolicy::Limits,
        storage: StorageType::File,
        num_replicas: options.replicas,
        max_messages: -1,
        max_bytes: -1,
        max_messages_per_subject: -1,
        ..Config::default()
    };
    let messages = Config {
        description: Some("web-ipc: the messages of an inbox".into()),
        discard: DiscardPolicy::New,
        max_messages: limit(options.stored_messages_max),
        max_bytes: options.stored_bytes_max.map_or(-1, limit),
        duplicate_window: options.remembered_for,
        ..base(&names.stream, names.messages.clone())
    };
    let dead = Config {
        description: Some("web-ipc: the dead letters of an inbox".into()),
        discard: DiscardPolicy::Old,
        max_messages_per_subject: 1,
        ..base(&names.dead_stream, names.dead("*"))
    };
    let replies = Config {
        description: Some("web-ipc: the replies of an inbox".into()),
        discard: DiscardPolicy::Old,
        max_messages_per_subject: 1,
        max_bytes: limit(options.replies_bytes_max),
        max_age: options.remembered_for,
        // It must not be longer than what is kept.
        duplicate_window: Duration::from_secs(120).min(options.remembered_for),
        ..base(&names.reply_stream, names.reply("*"))
    };
    for wanted in [messages, dead, replies] {
        let found = get_or_create(jetstream, &wanted).await?;
        check(&wanted, &found, wanted.name == names.stream)?;
        if found.num_replicas != wanted.num_replicas {
            log::warn!(
                "the stream {} exists with {} replicas, and keeps them",
                found.name,
                found.num_replicas
            );
        } else if found.num_replicas < 3 && found.name == names.stream {
            log::warn!(
                "the inbox {} is on one NATS server alone (replicas=1): nothing is accepted while \
                 that is down, and a loss of power there may lose the last seconds",
                names.stream
            );
        }
    }
    consumer(jetstream, options, names).await
}

fn limit(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

async fn get_or_create(jetstream: &Context, wanted: &Config) -> Result<Config, JetStreamError> {
    let what = || format!("the stream {}", wanted.name);
    for is_last in [false, true] {
        match jetstream.get_stream(&wanted.name).await {
            Ok(stream) => return Ok(stream.cached_info().config.clone()),
            Err(error) => match error.kind() {
                GetStreamErrorKind::JetStream(reason)
                    if reason.error_code() == ErrorCode::STREAM_NOT_FOUND => {}
                _ => return Err(not_given(what(), error)),
            },
        }
        match jetstream.create_stream(wanted).await {
            Ok(stream) => return Ok(stream.cached_info().config.clone()),
            Err(error) if is_last => return Err(not_made(wanted, error)),
            // Another server may have made it meanwhile.
            Err(error) => log::debug!("the stream {} was not made: {error}", wanted.name),
        }
    }
    unreachable!("the second attempt returns")
}

/// Why a stream was not made.
fn not_made(wanted: &Config, error: CreateStreamError) -> JetStreamError {
    let what = format!("the stream {}", wanted.name);
    let CreateStreamErrorKind::JetStream(reason) = error.kind() else {
        return not_given(what, error);
    };
    match reason.error_code() {
        // A lone server; a cluster with fewer servers, or whose servers are down.
        ErrorCode::STREAM_REPLICAS_NOT_SUPPORTED | ErrorCode::CLUSTER_NO_PEERS
            if wanted.num_replicas > 1 =>
        {
            JetStreamError::TooFewServers { what, replicas: wanted.num_replicas }
        }
        ErrorCode::ACCOUNT_RESOURCES_EXCEEDED
        | ErrorCode::INSUFFICIENT_RESOURCES
        | ErrorCode::STORAGE_RESOURCES_EXCEEDED
        | ErrorCode::CLUSTER_NO_PEERS => {
            JetStreamError::NoRoom { what, reason: reason.to_string() }
        }
        _ => not_given(what, error),
    }
}

/// Refuses a stream that does not keep what an inbox promises.
fn check(wanted: &Config, found: &Config, is_of_messages: bool) -> Result<(), JetStreamError> {
    let remembered = Duration::from_secs(REMEMBERED_SECS);
    let difference = if found.subjects != wanted.subjects {
        format!("it takes the subjects {:?}, not {:?}", found.subjects, wanted.subjects)
    } else if found.retention != RetentionPolicy::Limits {
        "its retention is not limits".to_owned()
    } else if found.storage != StorageType::File {
        "it is not stored in files".to_owned()
    } else if found.discard != wanted.discard {
        format!("when it is full, it discards {:?} messages", found.discard).to_lowercase()
    } else if found.no_ack {
        "it does not acknowledge".to_owned()
    } else if is_of_messages && found.duplicate_window < remembered {
        format!(
            "its duplicate window is {:?}, and clients retry for {remembered:?}",
            found.duplicate_window
        )
    } else if is_of_messages && !found.max_age.is_zero() {
        format!("messages that wait for {:?} are deleted (max_age)", found.max_age)
    } else if is_of_messages && found.max_messages_per_subject > 0 {
        "it limits the messages of a subject".to_owned()
    } else if !is_of_messages && found.max_messages_per_subject != 1 {
        "it keeps not one message of each subject".to_owned()
    } else {
        return Ok(());
    };
    let what = format!("the stream {}", found.name);
    Err(JetStreamError::OtherConfiguration { what, difference })
}

async fn consumer(
    jetstream: &Context,
    options: &JetStreamOptions,
    names: &Names,
) -> Result<Duration, JetStreamError> {
    let what = || format!("the consumer {CONSUMER} of the stream {}", names.stream);
    let stream = jetstream
        .get_stream_no_info(&names.stream)
        .await
        .map_err(|error| not_given(what(), error))?;
    let wanted = pull::Config {
        durable_name: Some(CONSUMER.to_owned()),
        description: Some("web-ipc: delivers to the servers of an inbox".into()),
        deliver_policy: DeliverPolicy::All,
        ack_policy: AckPolicy::Explicit,
        ack_wait: options.takeover_after,
        max_deliver: -1,
        max_ack_pending: i64::from(options.max_unacknowledged),
        ..pull::Config::default()
    };
    let found = match stream.consumer_info(CONSUMER).await {
        Ok(info) => info.config,
        Err(error) if error.kind() == ConsumerInfoErrorKind::NotFound => {
            let made = stream.create_consumer(wanted.clone()).await;
            made.map_err(|error| not_given(what(), error))?.cached_info().config.clone()
        }
        Err(error) => return Err(not_given(what(), error)),
    };
    let difference = if found.deliver_subject.is_some() {
        "it pushes, and is not pulled from"
    } else if found.ack_policy != AckPolicy::Explicit {
        "messages are not acknowledged one by one"
    } else if found.deliver_policy != DeliverPolicy::All || !found.filter_subject.is_empty() {
        "it does not deliver all messages"
    } else if found.max_deliver > 0 {
        "it limits the deliveries of a message, without dead letters"
    } else if found.headers_only {
        "it delivers no bodies"
    } else {
        if found.ack_wait != wanted.ack_wait || found.max_ack_pending != wanted.max_ack_pending {
            log::info!(
                "{} exists, and keeps its ack_wait of {:?} and max_ack_pending of {}",
                what(),
                found.ack_wait,
                found.max_ack_pending
            );
        }
        return Ok(found.ack_wait);
    };
    Err(JetStreamError::OtherConfiguration { what: what(), difference: difference.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(servers: &[(&str, bool, usize)]) -> Vec<PoolServer> {
        let server = |(address, did_connect, failed_attempts): &(&str, bool, usize)| PoolServer {
            addr: address.parse().unwrap(),
            failed_attempts: *failed_attempts,
            did_connect: *did_connect,
            is_discovered: false,
            last_error: None,
        };
        servers.iter().map(server).collect()
    }

    #[test]
    fn after_a_connection_another_server_comes_next_and_not_at_the_beginning() {
        let tried = Mutex::new(None);
        let next = |servers: &[(&str, bool, usize)]| {
            let other = other_server(&pool(servers), &tried);
            other.map(|other| other.addr.host().to_owned())
        };
        assert_eq!(next(&[("a", false, 0), ("b", false, 0), ("c", false, 0)]), None);
        let connected = [("a", false, 0), ("b", true, 0), ("c", false, 0)];
        assert_eq!(next(&connected).as_deref(), Some("c"));
        assert_eq!(next(&connected).as_deref(), Some("a"));
        // It could not be reached.
        let failed = [("a", false, 1), ("b", true, 0), ("c", false, 0)];
        assert_eq!(next(&failed).as_deref(), Some("b"));
        assert_eq!(next(&failed).as_deref(), Some("c"));
        assert_eq!(next(&[("a", true, 0)]).as_deref(), Some("a"), "there is no other");
    }
}

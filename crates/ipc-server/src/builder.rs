//! What a server can be told before it starts.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ipc_envelope::OVERHEAD_BYTES_MAX;
use ipc_home::Home;
use ipc_inbox::InboxChoice;
use ipc_protocol::{
    BATCH_MESSAGES_MAX_DEFAULT, PLAINTEXT_BYTES_MAX_DEFAULT, Protocol, SESSION_SECS,
};
use ipc_store::UserStore;

use crate::channel::settings::ChannelSettings;

/// Sets up a server; [`start`](ServerBuilder::start) starts it.
///
/// # Log
/// What peers can cause is logged under `ipc_server`, 100 lines of one peer and one kind in 10 s
/// and then the number of the others. The HTTP library underneath has an error for each connection
/// on which something else than HTTP came, without the peer and without a limit, and the TLS
/// library warnings: a program that writes a log leaves out the target `actix_http::h1::dispatcher`
/// and warnings of `rustls`.
///
/// # Defaults
/// | setting | default |
/// |---|---|
/// | [`name`](Self::name) | `localhost` |
/// | [`bind`](Self::bind) | `127.0.0.1:0` |
/// | [`protocol`](Self::protocol) | https |
/// | [`inbox`](Self::inbox) | in memory, 1024 messages, 256 MiB |
/// | [`plaintext_bytes_max`](Self::plaintext_bytes_max) | 16 MiB |
/// | [`body_timeout`](Self::body_timeout) | 30 s |
/// | [`head_timeout`](Self::head_timeout) | 5 s |
/// | [`handshake_timeout`](Self::handshake_timeout) | 5 s |
/// | [`idle_timeout`](Self::idle_timeout) | 75 s |
/// | [`inbox_wait`](Self::inbox_wait) | 100 ms |
/// | [`reply_wait_max`](Self::reply_wait_max) | 5 min |
/// | [`batch_messages_max`](Self::batch_messages_max) | 1000 |
/// | [`channel_message_bytes_max`](Self::channel_message_bytes_max) | 72 KiB |
/// | [`channel_entries_max`](Self::channel_entries_max) | 1000 |
/// | [`channel_requests_max`](Self::channel_requests_max) | 4096 |
/// | [`channel_fragments_max`](Self::channel_fragments_max) | 128 |
/// | [`channel_control_frames_max`](Self::channel_control_frames_max) | 32 |
/// | [`channel_answers_bytes_max`](Self::channel_answers_bytes_max) | 64 KiB |
/// | [`channel_silence_max`](Self::channel_silence_max) | 30 s |
/// | [`channel_idle_timeout`](Self::channel_idle_timeout) | 10 min |
/// | [`bodies_bytes_max`](Self::bodies_bytes_max) | 256 MiB |
/// | [`connections_max`](Self::connections_max) | 768 |
/// | [`handshakes_max`](Self::handshakes_max) | 128 |
/// | [`logins_waiting_max`](Self::logins_waiting_max) | 32 |
/// | [`peer_logins_waiting_max`](Self::peer_logins_waiting_max) | 4 |
/// | [`failed_logins_max`](Self::failed_logins_max) | 10 a minute |
/// | [`peer_failed_logins_max`](Self::peer_failed_logins_max) | 30 a minute |
/// | [`session_lifetime`](Self::session_lifetime) | 1 h |
/// | [`stop_timeout`](Self::stop_timeout) | 10 s |
/// | [`workers`](Self::workers) | one a core |
#[derive(Clone)]
#[must_use = "a server runs once it is started"]
pub struct ServerBuilder {
    pub(crate) home: Home,
    pub(crate) name: String,
    pub(crate) address: String,
    pub(crate) protocol: Protocol,
    pub(crate) allows_remote_http: bool,
    pub(crate) inbox: Option<InboxChoice>,
    pub(crate) users: Option<Arc<dyn UserStore>>,
    pub(crate) plaintext_bytes_max: usize,
    pub(crate) body_timeout: Duration,
    pub(crate) head_timeout: Duration,
    pub(crate) handshake_timeout: Duration,
    pub(crate) idle_timeout: Duration,
    pub(crate) inbox_wait: Duration,
    pub(crate) reply_wait_max: Duration,
    pub(crate) batch_messages_max: usize,
    channel: ChannelSettings,
    pub(crate) bodies_bytes_max: usize,
    pub(crate) connections_max: usize,
    pub(crate) handshakes_max: usize,
    pub(crate) logins_waiting_max: usize,
    pub(crate) peer_logins_waiting_max: usize,
    pub(crate) failed_logins_max: u32,
    pub(crate) peer_failed_logins_max: u32,
    pub(crate) raises_open_files_limit: bool,
    pub(crate) session_lifetime: Duration,
    pub(crate) stop_timeout: Duration,
    pub(crate) workers: usize,
}

impl ServerBuilder {
    pub(crate) fn new(home: &Home) -> Self {
        ServerBuilder {
            home: home.clone(),
            name: "localhost".into(),
            address: "127.0.0.1:0".into(),
            protocol: Protocol::Https,
            allows_remote_http: false,
            inbox: None,
            users: None,
            plaintext_bytes_max: PLAINTEXT_BYTES_MAX_DEFAULT,
            body_timeout: Duration::from_secs(30),
            head_timeout: Duration::from_secs(5),
            handshake_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(75),
            inbox_wait: Duration::from_millis(100),
            reply_wait_max: Duration::from_secs(300),
            batch_messages_max: BATCH_MESSAGES_MAX_DEFAULT,
            channel: ChannelSettings::default(),
            bodies_bytes_max: 256 * 1024 * 1024,
            connections_max: 768,
            handshakes_max: 128,
            logins_waiting_max: 32,
            peer_logins_waiting_max: 4,
            failed_logins_max: 10,
            peer_failed_logins_max: 30,
            raises_open_files_limit: false,
            session_lifetime: Duration::from_secs(SESSION_SECS),
            stop_timeout: Duration::from_secs(10),
            workers: std::thread::available_parallelism().map_or(1, usize::from),
        }
    }

    /// The peer name whose certificate the server shows: `NAME.crt` and `NAME.key` of the home.
    pub fn name(mut self, name: impl AsRef<str>) -> Self {
        self.name = name.as_ref().to_owned();
        self
    }

    /// The address to listen on, `host:port`. Port 0 is the first free one of 3000 to 3999.
    pub fn bind(mut self, address: impl fmt::Display) -> Self {
        self.address = address.to_string();
        self
    }

    /// https, or plain http on loopback.
    pub fn protocol(mut self, protocol: Protocol) -> Self {
        self.protocol = protocol;
        self
    }

    /// Lets a plain http server listen where others reach it. No certificate is looked at then: who
    /// has the envelope key and a password gets in.
    pub fn dangerously_allow_remote_http(mut self) -> Self {
        self.allows_remote_http = true;
        self
    }

    /// Where messages go: [`Inbox::memory()`](crate::Inbox::memory) with its options,
    /// [`Inbox::durable()`](crate::Inbox::durable), which the server opens in its home as
    /// `inbox.db`, or both sides of an inbox that is there, as
    /// [`Inbox::with_backend`](crate::Inbox::with_backend) makes them. An inbox belongs to one
    /// server, which closes it when it stops.
    ///
    /// What holds across a restart of the process is for the inbox to keep: messages that were
    /// acknowledged and not yet taken, and the ids by which a message that is sent again is known.
    /// A durable inbox keeps both. The inbox in memory, which is the default, keeps neither: what
    /// was acknowledged and not taken is lost with the process, and a message that is sent again
    /// after a restart is delivered again. Sessions and failed logins need no inbox: the former
    /// hold across a restart, the latter do not.
    pub fn inbox(mut self, inbox: impl Into<InboxChoice>) -> Self {
        self.inbox = Some(inbox.into());
        self
    }

    /// Where users are looked up, if not in the home's `users.db`.
    pub fn users(mut self, users: Arc<dyn UserStore>) -> Self {
        self.users = Some(users);
        self
    }

    /// The longest plaintext (the frame as JSON text) taken, in bytes. Longer ones are refused
    /// with 413.
    pub fn plaintext_bytes_max(mut self, bytes: usize) -> Self {
        self.plaintext_bytes_max = bytes;
        self
    }

    /// How long a request's body may take to arrive; then 408. So long, too, an answer may take to
    /// be taken by the peer; then the connection is closed.
    pub fn body_timeout(mut self, time: Duration) -> Self {
        self.body_timeout = time;
        self
    }

    /// How long a request's head may take to arrive, from its first byte. Then the connection is
    /// closed; the first request on a connection is answered with 408 before, and has its time from
    /// the connection's beginning.
    pub fn head_timeout(mut self, time: Duration) -> Self {
        self.head_timeout = time;
        self
    }

    /// How long a TLS handshake may take; then the connection is closed.
    pub fn handshake_timeout(mut self, time: Duration) -> Self {
        self.handshake_timeout = time;
        self
    }

    /// How long a connection may stay open without a request.
    pub fn idle_timeout(mut self, time: Duration) -> Self {
        self.idle_timeout = time;
        self
    }

    /// How long a message waits for room in a full inbox before it is refused with 503 and
    /// `Retry-After`.
    pub fn inbox_wait(mut self, time: Duration) -> Self {
        self.inbox_wait = time;
        self
    }

    /// How long a request may wait for its reply, whatever its sender asks for; then 504.
    pub fn reply_wait_max(mut self, time: Duration) -> Self {
        self.reply_wait_max = time;
        self
    }

    /// How many messages a batch may have; one with more is refused with 413.
    pub fn batch_messages_max(mut self, messages: usize) -> Self {
        self.batch_messages_max = messages;
        self
    }

    /// How long a message of a channel may be, in bytes of its envelope; a longer one closes the
    /// channel with 1009. Clients are told, and send what is longer by POST. It is never more than
    /// a frame of [`plaintext_bytes_max`](Self::plaintext_bytes_max) makes. Beyond 64 KiB a message
    /// takes of [`bodies_bytes_max`](Self::bodies_bytes_max).
    pub fn channel_message_bytes_max(mut self, bytes: usize) -> Self {
        self.channel.announced.message_bytes = bytes.max(1);
        self
    }

    /// How many entries a frame of a channel may have; one with more closes the channel with 4413.
    /// Clients are told.
    pub fn channel_entries_max(mut self, entries: usize) -> Self {
        self.channel.announced.entries = entries.max(1);
        self
    }

    /// How many requests of a channel may wait for their reply; a further one closes the channel
    /// with 1008. Clients are told.
    pub fn channel_requests_max(mut self, requests: usize) -> Self {
        self.channel.announced.requests = requests.max(1);
        self
    }

    /// How many fragments a message of a channel may come in; one more closes the channel
    /// with 1008.
    pub fn channel_fragments_max(mut self, fragments: u32) -> Self {
        self.channel.fragments_max = fragments.max(1);
        self
    }

    /// How many control frames, pings above all, may come on a channel at once. A third of them may
    /// come again each second; one more closes the channel with 1008.
    pub fn channel_control_frames_max(mut self, frames: u32) -> Self {
        self.channel.control_frames_max = frames.max(1);
        self
    }

    /// How many bytes of answers may wait for the peer of a channel to take them: with more,
    /// nothing is read of it. Where it takes nothing for [`body_timeout`](Self::body_timeout) the
    /// channel is closed with 1008.
    pub fn channel_answers_bytes_max(mut self, bytes: usize) -> Self {
        self.channel.answers_bytes_max = bytes.max(1);
        self
    }

    /// How long nothing may be heard of the peer of a channel, which is then closed with 1008.
    /// After half of it the peer gets a ping, which it has to answer.
    pub fn channel_silence_max(mut self, time: Duration) -> Self {
        self.channel.silence_max = time;
        self
    }

    /// How long a channel may be without an entry and without a request that waits; then it is
    /// closed with 1001. Before, it is among the first to make room for further connections, as one
    /// without a request is.
    pub fn channel_idle_timeout(mut self, time: Duration) -> Self {
        self.channel.idle = time;
        self
    }

    /// The limits of a channel, with those that hold for requests too.
    pub(crate) fn channel_settings(&self) -> ChannelSettings {
        // What is left is for the answers to go out.
        let stop = self.stop_timeout * 9 / 10;
        let mut settings = ChannelSettings { answer: self.body_timeout, stop, ..self.channel };
        // No longer a message by this way than by POST.
        let bytes_max = self.plaintext_bytes_max.saturating_add(OVERHEAD_BYTES_MAX);
        settings.announced.message_bytes = settings.announced.message_bytes.min(bytes_max);
        settings
    }

    /// How many bytes all bodies that are being read or opened may take together, beyond the first
    /// 64 KiB of each. Bytes count as they come, whatever a head announces. A body that finds no
    /// room is refused with 503 `unavailable` and `Retry-After`. A budget below the longest body
    /// ([`plaintext_bytes_max`](Self::plaintext_bytes_max), a third more as text) lets no such body
    /// in.
    ///
    /// With this, what peers can make the server hold is bounded by this many bytes, some 256 KiB
    /// for each of [`connections_max`](Self::connections_max) connections, and what the inbox
    /// holds.
    pub fn bodies_bytes_max(mut self, bytes: usize) -> Self {
        self.bodies_bytes_max = bytes;
        self
    }

    /// How many connections are served at the same time. For a further one the connection that has
    /// been idle longest is closed; where none is idle, the new one is. The number is shared out
    /// among the [`workers`](Self::workers), rounded up for each: 10 connections and 4 workers make
    /// 3 for each worker.
    ///
    /// Each connection and each handshake is an open file. Where the process may not open as many
    /// and 128 more, fewer are taken, and the log says so: see
    /// [`raise_open_files_limit`](Self::raise_open_files_limit).
    pub fn connections_max(mut self, connections: usize) -> Self {
        self.connections_max = connections.max(1);
        self
    }

    /// How many TLS handshakes are made at the same time, shared out among the workers like
    /// connections. For a further one the oldest is given up.
    pub fn handshakes_max(mut self, handshakes: usize) -> Self {
        self.handshakes_max = handshakes.max(1);
        self
    }

    /// Raises the soft limit of the process's open files (`RLIMIT_NOFILE`), when the server starts,
    /// as far as it needs and the hard limit allows. The limit belongs to the whole process and is
    /// inherited by its children, so that only the program itself can say whether it may be raised:
    /// without this call it is not.
    pub fn raise_open_files_limit(mut self) -> Self {
        self.raises_open_files_limit = true;
        self
    }

    /// How many logins run or wait at the same time, each of them a bcrypt; further ones are
    /// refused with 429.
    pub fn logins_waiting_max(mut self, logins: usize) -> Self {
        self.logins_waiting_max = logins;
        self
    }

    /// How many of these may be of one peer (its certificate; its address over plain http), so that
    /// it leaves places to others; further ones are refused with 429.
    pub fn peer_logins_waiting_max(mut self, logins: usize) -> Self {
        self.peer_logins_waiting_max = logins;
        self
    }

    /// How many logins of one peer for one user may fail within a minute; further ones are refused
    /// with 429. All names that no user can have count as one user.
    pub fn failed_logins_max(mut self, logins: u32) -> Self {
        self.failed_logins_max = logins;
        self
    }

    /// How many logins of one peer may fail within a minute, whatever users it tries; further ones
    /// are refused with 429. A login that succeeds does not clear them. Over plain http all
    /// programs of a host are one peer.
    pub fn peer_failed_logins_max(mut self, logins: u32) -> Self {
        self.peer_failed_logins_max = logins;
        self
    }

    /// How long a login lasts, in whole seconds.
    pub fn session_lifetime(mut self, time: Duration) -> Self {
        self.session_lifetime = time;
        self
    }

    /// How long [`Server::stop`](crate::Server::stop) waits for requests that are under way,
    /// rounded up to whole seconds.
    pub fn stop_timeout(mut self, time: Duration) -> Self {
        self.stop_timeout = time;
        self
    }

    /// How many threads serve connections, 512 at most.
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers.max(1);
        self
    }
}

impl fmt::Debug for ServerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerBuilder")
            .field("name", &self.name)
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

//! The settings of a server, given before it starts.

use std::fmt;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use ipc_base::CertificateIssuer;
use ipc_envelope::OVERHEAD_BYTES_MAX;
use ipc_home::Home;
use ipc_inbox::InboxChoice;
use ipc_protocol::{
    BATCH_MESSAGES_MAX_DEFAULT, PLAINTEXT_BYTES_MAX_DEFAULT, Protocol, SESSION_SECS,
};
use ipc_store::UserStore;

use crate::channel::settings::ChannelSettings;
use crate::open_files::{CONNECTIONS_MAX_DEFAULT, HANDSHAKES_MAX_DEFAULT};
#[cfg(feature = "python-compat")]
use crate::python_sessions::SESSIONS_MAX_DEFAULT;
use crate::users::OUTAGE_MAX;

/// Sets up a server; [`start`](ServerBuilder::start) starts it.
///
/// # Log
/// Events that peers can cause are logged under the target `ipc_server`: up to 100 lines of one
/// peer and one kind in 10 s, then the number of the suppressed ones. The libraries underneath log
/// without a limit. actix-http logs an error, without the peer, for each connection that sent
/// something other than HTTP, and rustls logs warnings. A program that writes a log should
/// therefore leave out the target `actix_http::h1::dispatcher` and warnings of `rustls`.
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
/// | [`peer_connections_max`](Self::peer_connections_max) | three quarters of `connections_max`: 576 |
/// | [`handshakes_max`](Self::handshakes_max) | 128 |
/// | [`logins_waiting_max`](Self::logins_waiting_max) | 32 |
/// | [`peer_logins_waiting_max`](Self::peer_logins_waiting_max) | 4 |
/// | [`failed_logins_max`](Self::failed_logins_max) | 10 a minute |
/// | [`peer_failed_logins_max`](Self::peer_failed_logins_max) | 30 a minute |
/// | [`session_lifetime`](Self::session_lifetime) | 1 h |
#[cfg_attr(
    feature = "python-compat",
    doc = "| [`python_sessions_max`](Self::python_sessions_max) | 10,000 |"
)]
/// | [`users_outage_max`](Self::users_outage_max) | 120 s |
/// | [`stop_timeout`](Self::stop_timeout) | 10 s |
/// | [`workers`](Self::workers) | one a core |
#[derive(Clone)]
#[must_use = "a server runs once it is started"]
pub struct ServerBuilder {
    pub(crate) home: Home,
    pub(crate) name: String,
    pub(crate) address: String,
    pub(crate) listener: Option<Arc<TcpListener>>,
    pub(crate) protocol: Protocol,
    pub(crate) allows_remote_http: bool,
    pub(crate) inbox: Option<InboxChoice>,
    pub(crate) users: Option<Arc<dyn UserStore>>,
    pub(crate) users_outage_max: Duration,
    pub(crate) certificate_issuer: Option<Arc<dyn CertificateIssuer>>,
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
    pub(crate) peer_connections_max: Option<usize>,
    pub(crate) handshakes_max: usize,
    pub(crate) logins_waiting_max: usize,
    pub(crate) peer_logins_waiting_max: usize,
    pub(crate) failed_logins_max: u32,
    pub(crate) peer_failed_logins_max: u32,
    pub(crate) raises_open_files_limit: bool,
    pub(crate) session_lifetime: Duration,
    pub(crate) stop_timeout: Duration,
    pub(crate) workers: usize,
    #[cfg(feature = "python-compat")]
    pub(crate) python_compat: bool,
    #[cfg(feature = "python-compat")]
    pub(crate) python_sessions_max: usize,
}

impl ServerBuilder {
    pub(crate) fn new(home: &Home) -> Self {
        ServerBuilder {
            home: home.clone(),
            name: "localhost".into(),
            address: "127.0.0.1:0".into(),
            listener: None,
            protocol: Protocol::Https,
            allows_remote_http: false,
            inbox: None,
            users: None,
            certificate_issuer: None,
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
            connections_max: CONNECTIONS_MAX_DEFAULT,
            peer_connections_max: None,
            handshakes_max: HANDSHAKES_MAX_DEFAULT,
            logins_waiting_max: 32,
            peer_logins_waiting_max: 4,
            failed_logins_max: 10,
            peer_failed_logins_max: 30,
            raises_open_files_limit: false,
            session_lifetime: Duration::from_secs(SESSION_SECS),
            users_outage_max: OUTAGE_MAX,
            stop_timeout: Duration::from_secs(10),
            workers: std::thread::available_parallelism().map_or(1, usize::from),
            #[cfg(feature = "python-compat")]
            python_compat: false,
            #[cfg(feature = "python-compat")]
            python_sessions_max: SESSIONS_MAX_DEFAULT,
        }
    }

    /// The peer name whose certificate the server shows: `NAME.crt` and `NAME.key` of the home.
    pub fn name(mut self, name: impl AsRef<str>) -> Self {
        self.name = name.as_ref().to_owned();
        self
    }

    /// The address to listen on, `host:port`. Port 0 stands for the first free port from 3000 to
    /// 3999.
    pub fn bind(mut self, address: impl fmt::Display) -> Self {
        self.address = address.to_string();
        self
    }

    /// A socket that listens already, instead of an address to [`bind`](Self::bind): one that a
    /// service manager or another process holds, so that connections wait while servers take turns.
    ///
    /// The server closes its descriptor when it stops, and never the socket of somebody else. A
    /// builder that is cloned shares the socket.
    pub fn listener(mut self, listener: TcpListener) -> Self {
        self.listener = Some(Arc::new(listener));
        self
    }

    /// The protocol: https, or plain http on loopback.
    pub fn protocol(mut self, protocol: Protocol) -> Self {
        self.protocol = protocol;
        self
    }

    /// Lets a plain http server listen on an address that other hosts reach. It then verifies no
    /// certificates: the envelope key and a password are enough to get in.
    pub fn dangerously_allow_remote_http(mut self) -> Self {
        self.allows_remote_http = true;
        self
    }

    /// The inbox that stores the messages. It is one of:
    ///
    /// * [`Inbox::memory()`](crate::Inbox::memory) with its options
    /// * [`Inbox::durable()`](crate::Inbox::durable), which the server opens as `inbox.db` in its
    ///   home
    /// * both sides of an existing inbox, as [`Inbox::with_backend`](crate::Inbox::with_backend)
    ///   makes them
    ///
    /// An inbox belongs to one server, which closes it when it stops.
    ///
    /// The inbox decides what survives a restart of the process. A durable inbox keeps accepted
    /// messages that were not yet acknowledged, and the ids by which it recognises a message that
    /// is sent again. The inbox in memory, which is the default, keeps neither: accepted messages
    /// that the application has not taken are lost with the process, and a message that is sent
    /// again after a restart is delivered again. Two things do not depend on the inbox: sessions
    /// survive a restart, and the counts of failed logins do not.
    pub fn inbox(mut self, inbox: impl Into<InboxChoice>) -> Self {
        self.inbox = Some(inbox.into());
        self
    }

    /// Who issues certificates for enrolled clients that renew theirs (`POST /client/renew`). None
    /// unless set: then such a client is told that this server issues none, and follows everything
    /// else.
    pub fn certificate_issuer(mut self, issuer: Arc<dyn CertificateIssuer>) -> Self {
        self.certificate_issuer = Some(issuer);
        self
    }

    /// The user store. Default: the home's `users.db`.
    pub fn users(mut self, users: Arc<dyn UserStore>) -> Self {
        self.users = Some(users);
        self
    }

    /// For how long a session goes on while the user store cannot be reached
    /// ([`StoreError::Unavailable`](crate::StoreError::Unavailable)): so long after the store last
    /// said that its user is still there. Logins are refused meanwhile, and so is every change that
    /// would end the session: a user who was deleted stays in for this time at most.
    pub fn users_outage_max(mut self, time: Duration) -> Self {
        self.users_outage_max = time;
        self
    }

    /// The maximum size of a plaintext (the frame as JSON text) in bytes. A longer one is refused
    /// with 413.
    pub fn plaintext_bytes_max(mut self, bytes: usize) -> Self {
        self.plaintext_bytes_max = bytes;
        self
    }

    /// How long a request's body may take to arrive; then the request is refused with 408. The peer
    /// has the same time to take a response; then the connection is closed.
    pub fn body_timeout(mut self, time: Duration) -> Self {
        self.body_timeout = time;
        self
    }

    /// How long a request's head may take to arrive, from its first byte; then the connection is
    /// closed. For the first request of a connection the time starts when the connection is made,
    /// and a 408 is sent before the connection is closed.
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

    /// How long a request may wait for its reply, even if its sender asks for more; then 504.
    pub fn reply_wait_max(mut self, time: Duration) -> Self {
        self.reply_wait_max = time;
        self
    }

    /// How many messages a batch may have. A batch with more is refused with 413.
    pub fn batch_messages_max(mut self, messages: usize) -> Self {
        self.batch_messages_max = messages;
        self
    }

    /// How long a message on a channel may be, in bytes of its envelope. A longer one closes the
    /// channel with 1009. Clients are told this limit and send longer messages by POST. The limit
    /// is never above the length of an envelope of
    /// [`plaintext_bytes_max`](Self::plaintext_bytes_max). A message's bytes beyond 64 KiB count
    /// towards [`bodies_bytes_max`](Self::bodies_bytes_max).
    ///
    /// A message beyond 72 KiB is opened, and its JSON checked, on a thread that may block, as a
    /// `POST` body of that length is. The channel waits for that; other connections do not.
    pub fn channel_message_bytes_max(mut self, bytes: usize) -> Self {
        self.channel.announced.message_bytes = bytes.max(1);
        self
    }

    /// How many entries a frame of a channel may have. A frame with more closes the channel with
    /// 4413. Clients are told this limit.
    pub fn channel_entries_max(mut self, entries: usize) -> Self {
        self.channel.announced.entries = entries.max(1);
        self
    }

    /// How many requests of a channel may wait for their reply. One more closes the channel with
    /// 1008. Clients are told this limit.
    pub fn channel_requests_max(mut self, requests: usize) -> Self {
        self.channel.announced.requests = requests.max(1);
        self
    }

    /// How many WebSocket fragments a message on a channel may consist of. One more closes the
    /// channel with 1008.
    pub fn channel_fragments_max(mut self, fragments: u32) -> Self {
        self.channel.fragments_max = fragments.max(1);
        self
    }

    /// How many control frames (mostly pings) a channel accepts in a burst. A third of that number
    /// is allowed per second after it. One more closes the channel with 1008.
    pub fn channel_control_frames_max(mut self, frames: u32) -> Self {
        self.channel.control_frames_max = frames.max(1);
        self
    }

    /// How many bytes of answers may wait until the peer of a channel takes them. Above that the
    /// server stops reading from the channel. If the peer takes nothing for
    /// [`body_timeout`](Self::body_timeout), the channel is closed with 1008.
    pub fn channel_answers_bytes_max(mut self, bytes: usize) -> Self {
        self.channel.answers_bytes_max = bytes.max(1);
        self
    }

    /// How long the peer of a channel may be silent; then the channel is closed with 1008. After
    /// half of that time the peer gets a ping, which it has to answer.
    pub fn channel_silence_max(mut self, time: Duration) -> Self {
        self.channel.silence_max = time;
        self
    }

    /// How long a channel may be without an entry and without a waiting request; then it is closed
    /// with
    /// 1001. Until then it may be closed to make room for a new connection, like any idle
    ///       connection.
    pub fn channel_idle_timeout(mut self, time: Duration) -> Self {
        self.channel.idle = time;
        self
    }

    /// The limits of a channel, including those that also apply to requests.
    pub(crate) fn channel_settings(&self) -> ChannelSettings {
        // The last tenth of the time is left for sending the answers.
        let stop = self.stop_timeout * 9 / 10;
        let mut settings = ChannelSettings { answer: self.body_timeout, stop, ..self.channel };
        // A channel accepts no longer messages than a POST does.
        let bytes_max = self.plaintext_bytes_max.saturating_add(OVERHEAD_BYTES_MAX);
        settings.announced.message_bytes = settings.announced.message_bytes.min(bytes_max);
        settings
    }

    /// How many bytes all bodies that are being read or opened may take together, not counting the
    /// first 64 KiB of each. Bytes count when they arrive; an announced length counts nothing. A
    /// body that does not fit is refused with 503 `unavailable` and `Retry-After`. If this limit is
    /// below the longest possible body ([`plaintext_bytes_max`](Self::plaintext_bytes_max), a third
    /// more as text), bodies of that length are always refused.
    ///
    /// The memory that peers can make the server use is therefore bounded by this limit, plus some
    /// 256 KiB for each of [`connections_max`](Self::connections_max) connections, plus the content
    /// of the inbox.
    pub fn bodies_bytes_max(mut self, bytes: usize) -> Self {
        self.bodies_bytes_max = bytes;
        self
    }

    /// How many connections are served at the same time. At the limit a new connection replaces the
    /// one that has been idle longest; if none is idle, the new one is closed. The number is
    /// divided among the [`workers`](Self::workers) and rounded up for each: 10 connections and 4
    /// workers make 3 for each worker.
    ///
    /// Each connection and each handshake is an open file. If the process may not open that many
    /// files and 128 more, the server lowers both limits and logs it: see
    /// [`raise_open_files_limit`](Self::raise_open_files_limit).
    pub fn connections_max(mut self, connections: usize) -> Self {
        self.connections_max = connections.max(1);
        self
    }

    /// How many of the [`connections_max`](Self::connections_max) connections one peer may have,
    /// channels included, so that others can connect too. At its limit, a new connection of the
    /// peer replaces the one of its own that has been idle longest, or whose head takes longest; if
    /// all are busy, the new one is closed. Connections of other peers are left alone. At least 1.
    /// Default: three quarters of the connections that there are.
    ///
    /// A peer is the peer name in a certificate, so that a renewed certificate counts with the one
    /// before it. Over plain http connections are not counted for each peer: behind a proxy all
    /// have one address.
    ///
    /// The number is divided among the [`workers`](Self::workers) and rounded up for each, like
    /// `connections_max`. Where that leaves a worker no more connections than the peer may have
    /// there, as with fewer than 4 connections for each worker, one peer can take all of them.
    pub fn peer_connections_max(mut self, connections: usize) -> Self {
        self.peer_connections_max = Some(connections.max(1));
        self
    }

    /// How many TLS handshakes run at the same time, divided among the workers like connections. At
    /// the limit a new handshake replaces the oldest.
    pub fn handshakes_max(mut self, handshakes: usize) -> Self {
        self.handshakes_max = handshakes.max(1);
        self
    }

    /// Lets the server raise the soft limit of the process's open files (`RLIMIT_NOFILE`) at its
    /// start, as far as it needs and the hard limit allows. Default: it does not. The limit belongs
    /// to the whole process and is inherited by its children, so the program has to decide.
    pub fn raise_open_files_limit(mut self) -> Self {
        self.raises_open_files_limit = true;
        self
    }

    /// How many logins run or wait at the same time. Each of them computes a bcrypt. Further ones
    /// are refused with 429.
    pub fn logins_waiting_max(mut self, logins: usize) -> Self {
        self.logins_waiting_max = logins;
        self
    }

    /// How many of the [`logins_waiting_max`](Self::logins_waiting_max) logins one peer may have,
    /// so that others can log in too. A peer is the name in a certificate, or an address over plain
    /// http. Further ones are refused with 429.
    pub fn peer_logins_waiting_max(mut self, logins: usize) -> Self {
        self.peer_logins_waiting_max = logins;
        self
    }

    /// How many logins of one peer for one user may fail within a minute. Further ones are refused
    /// with 429: for the rest of the minute, and each time after that for twice as long, 15 minutes
    /// at most. A time as long as the last block without another one resets that. All invalid user
    /// names count as one user.
    ///
    /// Failures of one user from all peers together refuse nobody. From the fifth on they
    /// make each login of that user pause, 125 ms and twice as long after each further one, 2 s at
    /// most, except from a peer from which that user has logged in before. A minute without a
    /// failure resets that.
    pub fn failed_logins_max(mut self, logins: u32) -> Self {
        self.failed_logins_max = logins;
        self
    }

    /// How many logins of one peer may fail within a minute, for all users together. Further ones
    /// are refused with 429, for as long as with [`failed_logins_max`](Self::failed_logins_max):
    /// each block lasts twice as long as the last, 15 minutes at most. A successful login does not
    /// reset the count. Over plain http all programs of a host are one peer.
    pub fn peer_failed_logins_max(mut self, logins: u32) -> Self {
        self.peer_failed_logins_max = logins;
        self
    }

    /// How long a session lasts after its login, in whole seconds.
    pub fn session_lifetime(mut self, time: Duration) -> Self {
        self.session_lifetime = time;
        self
    }

    /// How long [`Server::stop`](crate::Server::stop) waits for requests that are being served,
    /// rounded up to whole seconds.
    pub fn stop_timeout(mut self, time: Duration) -> Self {
        self.stop_timeout = time;
        self
    }

    /// Accepts messages of peers that run the unmodified Python tool too: envelopes of a pickled
    /// dict, at the routes of a login and of a message. Off unless called. Frames of protocol
    /// version 1 are handled as before.
    ///
    /// A pickle is read as data. One that would import, call or build anything is refused with 400.
    /// Such a peer has no session token. It is recognised by its address and its certificate
    /// together, so whoever shares both is the user who logged in last: see `docs/threat-model.md`.
    /// Its failed logins count for its address too, since the tool gives all clients one pair.
    ///
    /// To read a pickle takes up to 176 bytes for each of its bytes, 46 MB at most, and the text as
    /// many as it may have. Both come from [`bodies_bytes_max`](Self::bodies_bytes_max) meanwhile.
    /// The text of a message is at most 64 KiB and 32 times as long as its pickle.
    /// Only over https: [`start`](Self::start) refuses plain http.
    #[cfg(feature = "python-compat")]
    pub fn python_compat(mut self) -> Self {
        self.python_compat = true;
        self
    }

    /// How many sessions of peers that run the Python tool the server keeps, at least 1. Beyond
    /// that it forgets the oldest tenth, and these peers log in again.
    #[cfg(feature = "python-compat")]
    pub fn python_sessions_max(mut self, sessions: usize) -> Self {
        self.python_sessions_max = sessions.max(1);
        self
    }

    /// How many threads serve connections: at least 1, at most 512.
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

//! One POST: seals a frame, posts it, and reads the response. Also logins.
//!
//! `engine` calls it with what to send, and decides about retries. Nothing here waits in a queue,
//! and only one thing is tried twice: a login whose credentials have changed.

mod envelope;
mod following;
pub(crate) mod login;
pub(crate) mod password_check;
#[cfg(feature = "python-compat")]
mod python;
pub(crate) mod refusal;
mod renewal;
pub(crate) mod session;

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::ops::Deref;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use ipc_envelope::{HEADER_BYTES, KeyRing, OVERHEAD_BYTES_MAX};
use ipc_home::Credentials;
use ipc_protocol::{
    BatchReply, Frame, IS_RUNNING_TEXT, MessageId, Route, SUBMIT_TEXT, write_frame_around,
};
use tokio::time::{Instant, timeout_at};
use zeroize::{Zeroize, Zeroizing};

use crate::config::Config;
#[cfg(feature = "python-compat")]
use crate::config::ServerKind;
use crate::error::{CredentialsOrigin, SendError};
use crate::log_throttle::{LogThrottle, SAY_EVERY, seconds};
use crate::receipt::Probe;
use crate::sealer::{Sealer, unix_now_secs};
use crate::source::{Epoch, Material, Seen, Source};
use crate::transport::attempt::Attempt;
use crate::transport::http::{Http, Request, Response};
use envelope::{Envelope, ReclaimableBuffer};
use refusal::{AttemptError, give_up};
use session::{Generation, Session, SessionCache, Token};

/// The longest response that is read, except for an application's reply. The longest legitimate one
/// has the statuses of a thousand messages, of about 40 bytes each.
const RESPONSE_BYTES_MAX: usize = 128 * 1024;

/// An upper bound for the bytes of a frame beside body and session: `v`, `to`, `id`.
pub(crate) const FRAME_BYTES: usize = 256;

/// The parts of an exchange.
pub(crate) struct Setup {
    pub(crate) config: Config,
    pub(crate) source: Source,
    /// What was read from it.
    pub(crate) material: Material,
    /// A session that was kept in the home.
    pub(crate) kept: Option<Zeroizing<String>>,
}

/// Posts frames to one server. It stays on one thread.
pub(crate) struct Exchange {
    config: Config,
    http: RefCell<Rc<Http>>,
    sealer: Rc<Sealer>,
    credentials: RefCell<Credentials>,
    credentials_origin: Cell<CredentialsOrigin>,
    source: Source,
    /// What was read of it.
    seen: RefCell<Seen>,
    /// How often what was read was another.
    epoch: Cell<Epoch>,
    session: Session,
    cache: RefCell<Option<SessionCache>>,
    /// When it was said last that something is waited for.
    waits: LogThrottle,
    /// Memory in which to seal, at most one buffer for each connection. Fresh megabytes are costly.
    buffers: RefCell<Vec<Vec<u8>>>,
    /// Whether the client has probed, since the last response, why the server hangs up. A probe
    /// makes a connection and only listens.
    has_probed: Cell<bool>,
}

/// The deadlines of an attempt.
#[derive(Clone, Copy)]
pub(crate) struct AttemptLimits {
    /// The deadline for writing the request, and for the response to a request that is not written.
    pub(crate) ends_at: Instant,
    /// The deadline for the response once the request is written.
    pub(crate) ends_at_once_written: Instant,
}

impl AttemptLimits {
    /// One deadline for both.
    pub(crate) fn until(at: Instant) -> Self {
        AttemptLimits { ends_at: at, ends_at_once_written: at }
    }
}

/// An answer, and the keys with which the request was sealed.
struct Answer {
    response: Response,
    sealed_with: Rc<KeyRing>,
}

impl Deref for Answer {
    type Target = Response;

    fn deref(&self) -> &Response {
        &self.response
    }
}

/// A request's envelope that has yet to go out.
struct Sealed {
    sealed_with: Rc<KeyRing>,
    envelope: Envelope,
    /// How its buffer is reclaimed, and the buffer's capacity.
    memory: ReclaimableBuffer,
    room: usize,
}

impl Exchange {
    /// Must be called on the thread, and within the runtime, that sends.
    pub(crate) fn new(setup: Setup) -> Self {
        let Setup { config, source, material, kept } = setup;
        let Material { name, connector, ring, credentials, credentials_origin, cache, seen } =
            material;
        let http = Http::new(&name, connector, config.pool(), None);
        Exchange {
            http: RefCell::new(Rc::new(http)),
            sealer: Rc::new(Sealer::new(ring)),
            credentials: RefCell::new(credentials),
            credentials_origin: Cell::new(credentials_origin),
            source,
            seen: RefCell::new(seen),
            epoch: Cell::new(0),
            session: Session::new(kept),
            cache: RefCell::new(cache),
            waits: LogThrottle::default(),
            buffers: RefCell::new(Vec::new()),
            has_probed: Cell::new(false),
            config,
        }
    }

    pub(crate) fn http(&self) -> Rc<Http> {
        Rc::clone(&self.http.borrow())
    }

    /// The session token, if there is one, and its generation.
    pub(crate) fn current_session(&self) -> (Option<Token>, Generation) {
        self.session.current()
    }

    /// The keys with which to seal and open.
    pub(crate) fn sealer(&self) -> &Rc<Sealer> {
        &self.sealer
    }

    /// Posts one message. Returns whether the server had it before. Sets `used` to the generation
    /// of the session in the frame.
    pub(crate) async fn submit(
        &self,
        id: MessageId,
        body: &str,
        limits: AttemptLimits,
        used: &mut Generation,
        attempt: &Rc<Attempt>,
    ) -> Result<bool, AttemptError> {
        #[cfg(feature = "python-compat")]
        if self.config.server == ServerKind::PythonTool {
            return self.submit_pickled(body, limits, used, attempt).await.map(|()| false);
        }
        let route = Route::MessageSubmit;
        let sealed = self.seal_with_session(route, id, text(body), used)?;
        let response = self.post(route, sealed, None, limits, attempt).await?;
        match response.status {
            200 if response.body == SUBMIT_TEXT.as_bytes() => Ok(response.duplicate),
            _ => Err(self.refusal(&response)),
        }
    }

    /// Posts several messages. `entries` has an upper bound for the bytes of their text, and the
    /// function that writes it, with commas between messages.
    pub(crate) async fn submit_batch(
        &self,
        (bytes, write_entries): (usize, impl FnOnce(&mut Vec<u8>)),
        limits: AttemptLimits,
        used: &mut Generation,
        attempt: &Rc<Attempt>,
    ) -> Result<BatchReply, AttemptError> {
        let route = Route::MessageBatch;
        let id = self.sealer.draw_id().map_err(give_up)?;
        let write = |buffer: &mut Vec<u8>| {
            buffer.push(b'[');
            write_entries(buffer);
            buffer.push(b']');
        };
        let sealed = self.seal_with_session(route, id, (bytes + 2, write), used)?;
        let response = self.post(route, sealed, None, limits, attempt).await?;
        if response.status != 200 {
            return Err(self.refusal(&response));
        }
        self.read_reply(id, &response, |body| serde_json::from_str(body).ok())
    }

    /// Posts a request and waits for the reply. Returns whether the server had the request before,
    /// and the reply.
    pub(crate) async fn request(
        &self,
        id: MessageId,
        body: &str,
        reply_wait_secs: u64,
        limits: AttemptLimits,
        used: &mut Generation,
        attempt: &Rc<Attempt>,
    ) -> Result<(bool, String), AttemptError> {
        let route = Route::MessageRequest;
        let sealed = self.seal_with_session(route, id, text(body), used)?;
        let response = self.post(route, sealed, Some(reply_wait_secs), limits, attempt).await?;
        if response.status != 200 {
            return Err(self.refusal(&response));
        }
        let body = self.read_reply(id, &response, |body| Some(body.to_owned()))?;
        Ok((response.duplicate, body))
    }

    /// Asks a server that runs for its time, with one attempt and without a login.
    pub(crate) async fn probe(&self, until: Instant) -> Result<Probe, SendError> {
        let attempt = Rc::default();
        let limits = AttemptLimits::until(until);
        let response =
            self.send(Route::IsRunning, Envelope::none(), None, limits, &attempt).await?;
        match response.status {
            200 if response.body == IS_RUNNING_TEXT.as_bytes() => {
                Ok(Probe { server_time_secs: response.server_time_secs })
            }
            _ => Err(self.refusal(&response).error),
        }
    }

    /// Opens the reply in a response 200 and reads its body.
    fn read_reply<T>(
        &self,
        id: MessageId,
        answer: &Answer,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, AttemptError> {
        self.open_reply(id, answer, read)
            .map_err(|detail| give_up(SendError::Unexpected { status: 200, detail }))
    }

    fn open_reply<T>(
        &self,
        id: MessageId,
        Answer { response, sealed_with }: &Answer,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, String> {
        if response.too_long {
            return Err("the reply is longer than this client accepts".to_owned());
        }
        let read = |frame: &Frame<'_>| frame.object().ok().and_then(read);
        if response.raw {
            return self.sealer.open(&response.body, sealed_with, id, read);
        }
        self.sealer.open_text(&response.body, sealed_with, id, read)
    }

    /// Seals a frame with the current session, and sets `used` to its generation. The body is given
    /// as an upper bound for its bytes and the function that writes them.
    fn seal_with_session(
        &self,
        route: Route,
        id: MessageId,
        (body_bytes, write_body): (usize, impl FnOnce(&mut Vec<u8>)),
        used: &mut Generation,
    ) -> Result<Sealed, AttemptError> {
        self.seal(|buffer: &mut Vec<u8>| {
            let (token, generation) = self.session.current();
            *used = generation;
            let session = token.as_ref().map(|token| token.as_str());
            buffer.reserve(
                body_bytes + session.map_or(0, str::len) + FRAME_BYTES + OVERHEAD_BYTES_MAX,
            );
            write_frame_around(buffer, route.path(), id, session, write_body);
        })
    }

    /// Begins to seal what `write` writes. The rest is sealed while it is sent.
    fn seal(&self, write: impl FnOnce(&mut Vec<u8>)) -> Result<Sealed, AttemptError> {
        // First the step that may fail: the buffer holds nothing yet that would have to be wiped.
        let iv = self.sealer.draw_iv().map_err(give_up)?;
        let mut buffer = self.buffers.borrow_mut().pop().unwrap_or_default();
        buffer.resize(HEADER_BYTES, 0);
        write(&mut buffer);
        let bytes = buffer.len() - HEADER_BYTES;
        let bytes_max = self.config.plaintext_bytes_max;
        if bytes > bytes_max {
            buffer.zeroize();
            return Err(give_up(SendError::TooLarge { bytes, bytes_max }));
        }
        let room = buffer.capacity();
        let sealed_with = self.sealer.ring();
        let (envelope, memory) = Envelope::seal(&sealed_with, buffer, unix_now_secs(), iv);
        Ok(Sealed { sealed_with, envelope, memory, room })
    }

    /// Posts an envelope and reclaims its memory.
    async fn post(
        &self,
        route: Route,
        Sealed { sealed_with, envelope, memory, room }: Sealed,
        reply_wait_secs: Option<u64>,
        limits: AttemptLimits,
        attempt: &Rc<Attempt>,
    ) -> Result<Answer, AttemptError> {
        let result = self.send(route, envelope, reply_wait_secs, limits, attempt).await;
        // If awc still holds a part of the envelope after an error, its memory is not reclaimed.
        if let Some(buffer) = memory.reclaim(room) {
            let mut buffers = self.buffers.borrow_mut();
            if buffers.len() < self.config.connections_max {
                buffers.push(buffer);
            }
        }
        result
            .map(|response| Answer { response, sealed_with })
            .map_err(AttemptError::without_answer)
    }

    /// Sends one request. If a new connection breaks before any response, finds out whether the
    /// server refused this client.
    async fn send(
        &self,
        route: Route,
        body: Envelope,
        reply_wait_secs: Option<u64>,
        limits: AttemptLimits,
        attempt: &Rc<Attempt>,
    ) -> Result<Response, SendError> {
        let response_bytes_max = match route {
            // The text form of the envelope of the longest frame.
            Route::MessageRequest => {
                self.config.plaintext_bytes_max.saturating_add(OVERHEAD_BYTES_MAX).saturating_mul(4)
                    / 3
                    + 4
            }
            _ => RESPONSE_BYTES_MAX,
        };
        let reply_wait = Duration::from_secs(reply_wait_secs.unwrap_or_default());
        let attempt_max = self.attempt_max(route, body.len()) + reply_wait;
        let content_type = body.content_type();
        let request = Request { route, body, content_type, reply_wait_secs, response_bytes_max };
        let http = self.http();
        let response = http.exchange(request, attempt);
        let result = self.in_time(response, route, attempt_max, limits, attempt).await;
        match result {
            Err(error) => Err(self.explain(error, attempt, limits.ends_at).await),
            Ok(response) => {
                self.has_probed.set(false);
                Ok(response)
            }
        }
    }

    /// Finds out, for a new connection that broke without a response, whether the server refused
    /// this client. The TLS alert with the reason may have been lost.
    pub(crate) async fn explain(
        &self,
        error: SendError,
        attempt: &Attempt,
        until: Instant,
    ) -> SendError {
        if let SendError::NoAnswer { source, .. } = &error
            && attempt.connected.get()
            && source.kind() != io::ErrorKind::TimedOut
            && !self.has_probed.replace(true)
            && let Ok(Some(refusal)) =
                timeout_at(until, self.http().connector().probe_alert()).await
        {
            return refusal;
        }
        error
    }

    /// How long an attempt with a body of this length waits, without the wait for a reply.
    pub(crate) fn attempt_max(&self, route: Route, body_bytes: usize) -> Duration {
        // A login and an application may take their time.
        let is_quick =
            matches!(route, Route::MessageSubmit | Route::MessageBatch | Route::MessageChannel);
        match is_quick && self.http().connector().has_others() {
            true => self.config.attempt_max_of_several(body_bytes),
            false => self.config.attempt_max(),
        }
    }

    /// Waits for a response for as long as an attempt may take, and logs every few seconds that it
    /// does.
    pub(crate) async fn in_time<T>(
        &self,
        exchange: impl Future<Output = Result<T, SendError>>,
        route: Route,
        attempt_max: Duration,
        limits: AttemptLimits,
        attempt: &Attempt,
    ) -> Result<T, SendError> {
        let begun_at = Instant::now();
        let attempt_ends_at = begun_at + attempt_max;
        let ends_at =
            || if attempt.writing.get() { limits.ends_at_once_written } else { limits.ends_at };
        let mut exchange = pin!(exchange);
        let mut now = begun_at;
        loop {
            let wake_at = ends_at().min(attempt_ends_at).min(now + SAY_EVERY);
            if let Ok(result) = timeout_at(wake_at, exchange.as_mut()).await {
                return result;
            }
            now = Instant::now();
            let ends_at = ends_at();
            if now >= ends_at.min(attempt_ends_at) {
                return Err(self.http().timed_out(attempt));
            }
            let what = match (attempt.writing.get(), route) {
                (false, _) => "a connection to",
                (true, Route::ClientAuth) => "the login at",
                (true, Route::MessageRequest) => "the reply from",
                (true, _) => "an answer from",
            };
            self.say_waiting(what, begun_at, now, ends_at);
        }
    }

    /// Logs from time to time what the client waits for, since when, and for how long at most.
    pub(crate) fn say_waiting(&self, what: &str, since: Instant, now: Instant, until: Instant) {
        log::log!(
            self.waits.level_after(since, now),
            "waiting for {what} {} for {} so far and {} more at most",
            self.http().connector().address(),
            seconds(now - since),
            seconds(until.saturating_duration_since(now))
        );
    }

    fn bad_credentials(&self) -> AttemptError {
        give_up(SendError::BadCredentials {
            username: self.username(),
            origin: self.credentials_origin.get(),
        })
    }

    fn username(&self) -> String {
        self.credentials.borrow().username.clone()
    }

    /// The error of a response that is not a success.
    fn refusal(&self, response: &Response) -> AttemptError {
        match refusal::of_response(response, unix_now_secs()) {
            AttemptError { error: SendError::Refused { status: 401, .. }, recovery } => {
                AttemptError { recovery, ..self.bad_credentials() }
            }
            refusal => refusal,
        }
    }
}

/// A complete body, as [`Exchange::seal_with_session`] takes it.
fn text(body: &str) -> (usize, impl FnOnce(&mut Vec<u8>)) {
    (body.len(), |buffer| buffer.extend_from_slice(body.as_bytes()))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::transport::address::Address;
    use crate::transport::connector::Connector;

    /// An exchange with an address where nothing listens.
    pub(crate) fn exchange(timeout: Duration, cache: Option<SessionCache>) -> Exchange {
        let address = Address::parse("127.0.0.1:1").unwrap_or_else(|_| unreachable!());
        let config = Config {
            timeout,
            connections_max: 1,
            plaintext_bytes_max: 1000,
            uses_channel: false,
            server: crate::config::ServerKind::WebIpc,
        };
        let credentials = Credentials::new("test1", "pass321");
        let source = Source {
            home: ipc_home::Home::at("/nowhere"),
            server: Some(("localhost".to_owned(), vec![address.to_string()])),
            identity: None,
            credentials: Some(credentials.clone()),
            protocol: ipc_protocol::Protocol::Http,
            allow_remote_http: false,
            keep_session: false,
            told: Default::default(),
        };
        let seen =
            Seen { files: Vec::new(), stamps: Default::default(), link: [0; 32], keys: [0; 32] };
        let material = Material {
            name: "localhost".to_owned(),
            connector: Connector {
                addresses: vec![address],
                tls: None,
                identity: String::new(),
                loopback_only: true,
            },
            ring: KeyRing::new(ipc_envelope::Key::from_bytes([1; 32])),
            credentials,
            credentials_origin: CredentialsOrigin::Given,
            cache,
            seen,
        };
        Exchange::new(Setup { config, source, material, kept: None })
    }

    /// Waits for a response that does not come. Returns the seconds it took and the lines that were
    /// logged meanwhile.
    async fn wait_for_nothing(
        exchange: &Exchange,
        route: Route,
        reply_wait: Duration,
        limits: AttemptLimits,
        is_written: bool,
    ) -> (u64, Vec<String>) {
        let attempt = Attempt::default();
        attempt.writing.set(is_written);
        let (begun_at, lines_before) = (Instant::now(), crate::logged::info_lines().len());
        let nothing = std::future::pending::<Result<(), _>>();
        let attempt_max = exchange.attempt_max(route, 0) + reply_wait;
        let result = exchange.in_time(nothing, route, attempt_max, limits, &attempt).await;
        assert!(result.is_err_and(|error| matches!(
            error,
            SendError::Unreachable { .. } | SendError::NoAnswer { .. }
        )));
        (begun_at.elapsed().as_secs(), crate::logged::info_lines().split_off(lines_before))
    }

    #[test]
    fn whoever_waits_learns_for_what_every_five_seconds_and_waits_no_longer_than_the_deadline() {
        crate::logged::watch_this_thread();
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().start_paused(true).build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, async {
            let secs = Duration::from_secs;
            let exchange = exchange(secs(12), None);
            let until = |after| AttemptLimits::until(Instant::now() + secs(after));
            let (waited, said) =
                wait_for_nothing(&exchange, Route::MessageSubmit, secs(0), until(12), false).await;
            assert_eq!(waited, 10, "another attempt may do better");
            assert_eq!(
                said,
                ["waiting for a connection to 127.0.0.1:1 for 5 s so far and 7 s more at most"]
            );
            let (waited, said) =
                wait_for_nothing(&exchange, Route::ClientAuth, secs(0), until(7), true).await;
            assert_eq!(waited, 7);
            assert_eq!(
                said,
                ["waiting for the login at 127.0.0.1:1 for 5 s so far and 2 s more at most"]
            );

            // The client waits for a reply only after the request may have arrived.
            let now = Instant::now();
            let limits =
                AttemptLimits { ends_at: now + secs(12), ends_at_once_written: now + secs(40) };
            let (waited, said) =
                wait_for_nothing(&exchange, Route::MessageRequest, secs(39), limits, true).await;
            assert_eq!((waited, said.len()), (40, 7));
            assert_eq!(
                said[0],
                "waiting for the reply from 127.0.0.1:1 for 5 s so far and 35 s more at most"
            );
            let after =
                wait_for_nothing(&exchange, Route::MessageRequest, secs(39), limits, false).await;
            assert_eq!(after.0, 0);
        });
    }
}

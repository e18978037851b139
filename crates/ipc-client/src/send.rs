//! How a message is sent: sealed and posted, and what the answer means.
//!
//! The worker's thread comes here. How often a message is sent is decided in `errand`, who logs in in `login`; what is
//! known of TLS and HTTP lies below.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ipc_envelope::{Freshness, HEADER_BYTES, KeyRing, OVERHEAD_BYTES_MAX, OpenError};
use ipc_home::{Credentials, Home};
use ipc_protocol::{
    Frame, IS_RUNNING_TEXT, MessageId, Problem, ProblemCode, Remedy, Route, SUBMIT_TEXT, write_frame_around,
};
use tokio::sync::{Semaphore, SemaphorePermit, mpsc};
use tokio::time::{Instant, timeout_at};
use zeroize::{Zeroize, Zeroizing};

use crate::client::Sent;
use crate::clock;
use crate::combine::Outgoing;
use crate::connect::{Attempt, Dialer};
use crate::envelope::{Envelope, Memory};
use crate::errand::{Errand, Fault, Next, give_up};
use crate::error::SendError;
use crate::http::{Answer, Http, Question};
use crate::progress::{Progress, SAY_EVERY, seconds};
use crate::random::Pool;
use crate::session::{Generation, Keeper, Session};

/// One attempt gets this long, or half of the deadline where that is more: a connection that died unnoticed must not
/// eat all the time there is.
const ATTEMPT_MIN: Duration = Duration::from_secs(10);

/// The longest answer that is read, but for an application's reply. The longest there is says what became of each of
/// a thousand messages, in some 40 bytes each.
const ANSWER_BYTES_MAX: usize = 128 * 1024;

/// The longest sentence of a server that is handed on, in characters.
const DETAIL_CHARS_MAX: usize = 300;

/// What a frame has beside body and session, and more: `v`, `to`, `id`.
pub(crate) const FRAME_BYTES: usize = 256;

/// Everything that was settled when the client was built.
pub(crate) struct Config {
    pub(crate) name: String,
    pub(crate) dialer: Dialer,
    pub(crate) ring: KeyRing,
    pub(crate) credentials: Credentials,
    /// The home, where the credentials are those of its `admin.cred`.
    pub(crate) admin_home: Option<Home>,
    pub(crate) kept: Option<Zeroizing<String>>,
    /// `None` if sessions are not to be kept.
    pub(crate) keeper: Option<Keeper>,
    pub(crate) deadline: Duration,
    pub(crate) connections_max: usize,
    pub(crate) plaintext_bytes_max: usize,
}

/// Sends messages. Lives on one thread.
pub(crate) struct Sender {
    http: Http,
    ring: KeyRing,
    pub(crate) credentials: RefCell<Credentials>,
    pub(crate) admin_home: Option<Home>,
    pub(crate) session: Session,
    pub(crate) keeper: Option<Keeper>,
    /// When it was said last that something is waited for, and that something is sent again.
    pub(crate) waits: Progress,
    pub(crate) retries: Progress,
    /// One for each connection, so that an envelope is sealed when it can go out and not before, but for a batch that will go out
    /// soon: its time counts.
    pub(crate) permits: Semaphore,
    /// One fewer, where there are several: requests that wait for a reply leave a connection to everything else.
    pub(crate) reply_permits: Semaphore,
    /// Buffers to seal in, as many as connections at most. Fresh megabytes are costly.
    buffers: RefCell<Vec<Vec<u8>>>,
    pub(crate) deadline: Duration,
    pub(crate) connections_max: usize,
    plaintext_bytes_max: usize,
    /// What many send at the same moment.
    pub(crate) outgoing: Rc<Outgoing>,
    randomness: RefCell<Pool>,
    _working: Option<mpsc::Sender<Infallible>>,
}

/// A request's envelope that has yet to go out.
pub(crate) struct Sealed {
    envelope: Envelope,
    /// Where its buffer comes back, and how much fits into it.
    memory: Memory,
    room: usize,
    sealed_at_secs: u64,
}

impl Sealed {
    /// Seals all of it now. It may then wait a little: its time counts, see [`is_fresh`](Sealed::is_fresh).
    pub(crate) fn finish(&mut self) {
        self.envelope.finish();
    }

    /// Whether it was sealed in this second or the one before.
    pub(crate) fn is_fresh(&self) -> bool {
        unix_now_secs().abs_diff(self.sealed_at_secs) <= 1
    }
}

impl Sender {
    /// `working` lives as long as the sender does.
    pub(crate) fn new(config: Config, working: Option<mpsc::Sender<Infallible>>) -> Self {
        Sender {
            http: Http::new(&config.name, config.dialer, config.connections_max),
            ring: config.ring,
            credentials: RefCell::new(config.credentials),
            admin_home: config.admin_home,
            session: Session::new(config.kept),
            keeper: config.keeper,
            waits: Progress::default(),
            retries: Progress::default(),
            permits: Semaphore::new(config.connections_max),
            reply_permits: Semaphore::new((config.connections_max - 1).max(1)),
            buffers: RefCell::new(Vec::new()),
            deadline: config.deadline,
            connections_max: config.connections_max,
            plaintext_bytes_max: config.plaintext_bytes_max,
            outgoing: Rc::default(),
            randomness: RefCell::new(Pool::new()),
            _working: working,
        }
    }

    /// An id for a message, a batch or a login.
    pub(crate) fn draw_id(&self) -> Result<MessageId, SendError> {
        self.randomness.borrow_mut().draw_id()
    }

    /// Makes one attempt at one message.
    pub(crate) async fn submit_once(
        &self,
        id: MessageId,
        body: &str,
        errand: &Errand<'_>,
        used: &mut Generation,
        permit: &SemaphorePermit<'_>,
    ) -> Result<Sent, Fault> {
        let answer =
            self.post_with_session(Route::MessageSubmit, id, text(body), errand, used, permit).await?;
        match answer.status {
            200 if answer.body == SUBMIT_TEXT.as_bytes() => Ok(Sent { id, duplicate: answer.duplicate }),
            _ => Err(self.refusal(&answer)),
        }
    }

    /// Posts a frame with the session in use, and notes in `used` which that is. The body is how many bytes it has at most, and
    /// what writes them.
    pub(crate) async fn post_with_session(
        &self,
        route: Route,
        id: MessageId,
        (body_bytes, write_body): (usize, impl FnOnce(&mut Vec<u8>)),
        errand: &Errand<'_>,
        used: &mut Generation,
        permit: &SemaphorePermit<'_>,
    ) -> Result<Answer, Fault> {
        let sealed = self.seal_with_session(route, id, (body_bytes, write_body), used)?;
        self.post(route, sealed, errand, permit).await
    }

    /// Seals a frame with the session in use, for [`post`](Sender::post), as [`post_with_session`](Sender::post_with_session)
    /// does.
    pub(crate) fn seal_with_session(
        &self,
        route: Route,
        id: MessageId,
        (body_bytes, write_body): (usize, impl FnOnce(&mut Vec<u8>)),
        used: &mut Generation,
    ) -> Result<Sealed, Fault> {
        self.seal(|buffer: &mut Vec<u8>| {
            let (token, generation) = self.session.current();
            *used = generation;
            let session = token.as_ref().map(|token| token.as_str());
            buffer.reserve(body_bytes + session.map_or(0, str::len) + FRAME_BYTES + OVERHEAD_BYTES_MAX);
            write_frame_around(buffer, route.path(), id, session, write_body);
        })
    }

    /// Opens the reply in an answer 200 and reads its body.
    pub(crate) fn read_reply<T>(
        &self,
        id: MessageId,
        answer: &Answer,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, Fault> {
        self.open_reply(id, answer, read)
            .map_err(|detail| give_up(SendError::Unexpected { status: 200, detail }))
    }

    fn open_reply<T>(
        &self,
        id: MessageId,
        answer: &Answer,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, String> {
        if answer.too_long {
            return Err("the reply is longer than this client takes".to_owned());
        }
        let mut token = Zeroizing::new(answer.body.to_vec());
        let freshness = Freshness::at(unix_now_secs());
        let opened = if answer.raw {
            self.ring.open_in_place(&mut token, Some(freshness))
        } else {
            self.ring.open_base64url_in_place(&mut token, Some(freshness))
        };
        let opened = opened.map_err(|error| match error {
            OpenError::Stale { sealed_at_secs, now_secs } => {
                clock::of_reply(sealed_at_secs, now_secs, freshness)
            }
            _ => "the reply was not sealed with the keys of this home".to_owned(),
        })?;
        Frame::parse(opened.plaintext())
            .and_then(|frame| frame.reply_to(id))
            .and_then(|frame| frame.object())
            .ok()
            .and_then(read)
            .ok_or_else(|| "the reply is none, or not to what was sent".to_owned())
    }

    /// Asks whether the server runs: one attempt, without a login.
    pub(crate) async fn is_running(&self, errand: &Errand<'_>) -> Result<bool, SendError> {
        let _permit = self.permit(&self.permits, errand).await.map_err(|fault| fault.error)?;
        let answer = match self.request(Route::IsRunning, Envelope::none(), errand).await {
            Ok(answer) => answer,
            Err(SendError::Unreachable { .. } | SendError::NoAnswer { .. }) => {
                return Ok(false);
            }
            Err(error) => return Err(error),
        };
        match answer.status {
            200 if answer.body == IS_RUNNING_TEXT.as_bytes() => Ok(true),
            _ => Err(self.refusal(&answer).error),
        }
    }

    /// Seals what `write` writes, as far as it is not sealed while it is sent.
    pub(crate) fn seal(&self, write: impl FnOnce(&mut Vec<u8>)) -> Result<Sealed, Fault> {
        // Before there is anything that would have to be wiped.
        let iv = self.randomness.borrow_mut().take().map_err(give_up)?;
        let mut buffer = self.buffers.borrow_mut().pop().unwrap_or_default();
        buffer.resize(HEADER_BYTES, 0);
        write(&mut buffer);
        let bytes = buffer.len() - HEADER_BYTES;
        if bytes > self.plaintext_bytes_max {
            buffer.zeroize();
            return Err(give_up(SendError::TooLarge { bytes, bytes_max: self.plaintext_bytes_max }));
        }
        let room = buffer.capacity();
        let sealed_at_secs = unix_now_secs();
        let (envelope, memory) = Envelope::seal(&self.ring, buffer, sealed_at_secs, iv);
        Ok(Sealed { envelope, memory, room, sealed_at_secs })
    }

    /// Posts an envelope over the connection that `_permit` stands for.
    pub(crate) async fn post(
        &self,
        route: Route,
        Sealed { envelope, memory, room, .. }: Sealed,
        errand: &Errand<'_>,
        _permit: &SemaphorePermit<'_>,
    ) -> Result<Answer, Fault> {
        let result = self.request(route, envelope, errand).await;
        // Whatever awc still holds of it after an error keeps its memory.
        if let Some(buffer) = memory.reclaim(room) {
            let mut buffers = self.buffers.borrow_mut();
            if buffers.len() < self.connections_max {
                buffers.push(buffer);
            }
        }
        result.map_err(|error| {
            let next = match error {
                SendError::Unreachable { .. } | SendError::NoAnswer { .. } => Next::Wait(None),
                _ => Next::GiveUp,
            };
            Fault { error, next }
        })
    }

    /// Waits, however long, for a connection to be free. Each is in use for a bounded time.
    pub(crate) async fn any_permit(&self) -> SemaphorePermit<'_> {
        self.permits.acquire().await.expect("the semaphore is never closed")
    }

    /// Waits for one of `permits` to be free.
    pub(crate) async fn permit<'a>(
        &self,
        permits: &'a Semaphore,
        errand: &Errand<'_>,
    ) -> Result<SemaphorePermit<'a>, Fault> {
        if let Ok(permit) = permits.try_acquire() {
            return Ok(permit);
        }
        match timeout_at(errand.ends_at(), errand.unless_given_up(permits.acquire())).await {
            Ok(permit) => Ok(permit?.expect("the semaphore is never closed")),
            Err(_) => Err(self.busy()),
        }
    }

    /// Sends one request; where a new connection breaks before any answer, finds out whether that was a refusal.
    async fn request(&self, route: Route, body: Envelope, errand: &Errand<'_>) -> Result<Answer, SendError> {
        let attempt = Rc::new(Attempt::default());
        errand.attempts(&attempt);
        let reply_wait_secs = errand.reply_wait_secs.get();
        let answer_bytes_max = match route {
            // An envelope of the longest frame, as text.
            Route::MessageRequest => {
                self.plaintext_bytes_max.saturating_add(OVERHEAD_BYTES_MAX).saturating_mul(4) / 3 + 4
            }
            _ => ANSWER_BYTES_MAX,
        };
        let exchange =
            self.http.exchange(Question { route, body, reply_wait_secs, answer_bytes_max }, &attempt);
        let exchange = self.in_time(exchange, route, errand, &attempt);
        let result = match route {
            // It may take long, and its connection is of use to others: nobody to hear the reply, no request.
            Route::MessageRequest => errand.unless_given_up(exchange).await.map_err(|fault| fault.error)?,
            // It is over soon, and a connection is worth keeping.
            _ => exchange.await,
        };
        if let Err(SendError::NoAnswer { source, .. }) = &result
            && attempt.connected.get()
            && source.kind() != io::ErrorKind::TimedOut
            && !errand.listened.replace(true)
            && let Ok(Some(refusal)) = timeout_at(errand.ends_at(), self.http.dialer().hear_refusal()).await
        {
            return Err(refusal);
        }
        result
    }

    /// Waits for an answer for as long as an attempt may take, and says now and then that it does.
    async fn in_time(
        &self,
        exchange: impl Future<Output = Result<Answer, SendError>>,
        route: Route,
        errand: &Errand<'_>,
        attempt: &Attempt,
    ) -> Result<Answer, SendError> {
        let begun_at = Instant::now();
        let reply_wait = Duration::from_secs(errand.reply_wait_secs.get().unwrap_or_default());
        let attempt_ends_at = begun_at + ATTEMPT_MIN.max(self.deadline / 2) + reply_wait;
        let ends_at = || match (route, attempt.writing.get()) {
            (Route::MessageRequest, true) => errand.ends_at_once_there(),
            _ => errand.ends_at(),
        };
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
                return Err(self.http.timed_out(attempt));
            }
            let what = match (attempt.writing.get(), route) {
                (false, _) => "a connection to",
                (true, Route::ClientAuth) => "the login at",
                (true, Route::MessageRequest) => "the reply from",
                (true, _) => "an answer from",
            };
            log::log!(
                self.waits.level_after(begun_at, now),
                "waiting for {what} {} for {} so far, and for {} more at most",
                self.http.dialer().address,
                seconds(now - begun_at),
                seconds(ends_at.saturating_duration_since(now))
            );
        }
    }

    /// What a status other than 200, or a 200 that says something else than it should, means.
    pub(crate) fn refusal(&self, answer: &Answer) -> Fault {
        let status = answer.status;
        if status < 200 {
            let detail = "it is another protocol, which nobody asked for".to_owned();
            return give_up(SendError::Unexpected { status, detail });
        }
        if (200..300).contains(&status) {
            let detail = "it does not say what it should".to_owned();
            return give_up(SendError::Unexpected { status, detail });
        }
        let problem: Option<Problem> = serde_json::from_slice(&answer.body).ok();
        let code = problem
            .as_ref()
            .and_then(|problem| ProblemCode::from_code(&problem.code))
            .filter(|code| code.status() == status);
        let remedy = code.map_or_else(|| remedy_of_status(status), ProblemCode::remedy);
        let next = match remedy {
            Remedy::LogIn => Next::LogIn,
            Remedy::Wait => Next::Wait(answer.retry_after),
            Remedy::None => Next::GiveUp,
        };
        if status == ProblemCode::BadCredentials.status() {
            return Fault { next, ..self.bad_credentials() };
        }
        let detail = problem.map(|problem| printable(&problem.detail)).unwrap_or_default();
        if code == Some(ProblemCode::StaleEnvelope)
            && let Some(server_secs) = answer.server_time_secs
            && let Some(clocks) = clock::of_refusal(server_secs, unix_now_secs(), &detail)
        {
            let next = if clocks.explain { Next::GiveUp } else { next };
            return Fault { error: SendError::Refused { status, code, detail: clocks.detail }, next };
        }
        Fault { error: SendError::Refused { status, code, detail }, next }
    }

    pub(crate) fn bad_credentials(&self) -> Fault {
        give_up(SendError::BadCredentials { username: self.username(), from_home: self.admin_home.is_some() })
    }

    pub(crate) fn username(&self) -> String {
        self.credentials.borrow().username.clone()
    }

    /// The time of a message is over while an attempt at it is on its way.
    pub(crate) fn out_of_time(&self, may_have_arrived: bool) -> Fault {
        let address = self.http.dialer().address.to_string();
        let source = io::Error::new(io::ErrorKind::TimedOut, "the time ran out");
        let error = match may_have_arrived {
            true => SendError::NoAnswer { address, source },
            false => SendError::Unreachable { address, source },
        };
        Fault { error, next: Next::Wait(None) }
    }

    pub(crate) fn busy(&self) -> Fault {
        let error = SendError::Busy { connections_max: self.connections_max };
        Fault { error, next: Next::Wait(None) }
    }
}

/// A body that is there, for [`Sender::post_with_session`].
pub(crate) fn text(body: &str) -> (usize, impl FnOnce(&mut Vec<u8>)) {
    (body.len(), |buffer| buffer.extend_from_slice(body.as_bytes()))
}

/// What may be done about a status whose code is not known. A proxy in between gives 502 and 504.
fn remedy_of_status(status: u16) -> Remedy {
    match status {
        419 => Remedy::LogIn,
        408 | 429 | 500 | 502 | 503 | 504 => Remedy::Wait,
        _ => Remedy::None,
    }
}

/// A server's sentence, fit for a terminal and a log: bounded, without control characters.
pub(crate) fn printable(text: &str) -> String {
    text.chars().filter(|char| !char.is_control()).take(DETAIL_CHARS_MAX).collect()
}

pub(crate) fn unix_now_secs() -> u64 {
    // A clock before 1970 is wrong, and the server will say so.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::address::Address;

    #[test]
    fn a_status_without_a_known_code_is_judged_by_itself() {
        assert_eq!(remedy_of_status(419), Remedy::LogIn);
        for status in [408, 429, 500, 502, 503, 504] {
            assert_eq!(remedy_of_status(status), Remedy::Wait, "{status}");
        }
        for status in [301, 302, 400, 401, 403, 404, 405, 413, 422, 501] {
            assert_eq!(remedy_of_status(status), Remedy::None, "{status}");
        }
    }

    #[test]
    fn status_and_code_agree_on_what_may_be_done() {
        for code in ProblemCode::ALL {
            // A stale envelope shares its status with refusals that last, an application without a reply its statuses
            // with a proxy that lost the server.
            let shared = [ProblemCode::StaleEnvelope, ProblemCode::NotAnswered, ProblemCode::NoReplyInTime];
            if !shared.contains(&code) {
                assert_eq!(remedy_of_status(code.status()), code.remedy(), "{code}");
            }
        }
    }

    /// A sender to an address where nobody answers.
    pub(crate) fn sender(deadline: Duration, keeper: Option<Keeper>) -> Sender {
        let address = Address::parse("127.0.0.1:1").unwrap_or_else(|_| unreachable!());
        let dialer = Dialer { address, tls: None, identity: String::new(), loopback_only: true };
        let config = Config {
            name: "localhost".to_owned(),
            dialer,
            ring: KeyRing::new(ipc_envelope::Key::from_bytes([1; 32])),
            credentials: Credentials::new("test1", "pass321"),
            admin_home: None,
            kept: None,
            keeper,
            deadline,
            connections_max: 1,
            plaintext_bytes_max: 1000,
        };
        Sender::new(config, None)
    }

    /// Waits for an answer that does not come, and says for how long and what was said meanwhile.
    async fn wait_for_nothing(
        sender: &Sender,
        route: Route,
        errand: &Errand<'_>,
        is_written: bool,
    ) -> (u64, Vec<String>) {
        let attempt = Attempt::default();
        attempt.writing.set(is_written);
        let (begun_at, lines_before) = (Instant::now(), crate::logged::info_lines().len());
        let result = sender.in_time(std::future::pending(), route, errand, &attempt).await;
        assert!(
            result.is_err_and(|error| matches!(
                error,
                SendError::Unreachable { .. } | SendError::NoAnswer { .. }
            ))
        );
        (begun_at.elapsed().as_secs(), crate::logged::info_lines().split_off(lines_before))
    }

    #[test]
    fn whoever_waits_learns_for_what_every_five_seconds_and_waits_no_longer_than_the_deadline() {
        crate::logged::watch_this_thread();
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().start_paused(true).build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, async {
            let secs = Duration::from_secs;
            let sender = sender(secs(12), None);
            let errand = || Errand::unattended(Instant::now() + secs(12), secs(12));
            let (waited, said) = wait_for_nothing(&sender, Route::MessageSubmit, &errand(), false).await;
            assert_eq!(waited, 10, "another attempt may do better");
            assert_eq!(
                said,
                ["waiting for a connection to 127.0.0.1:1 for 5 s so far, and for 7 s more at most"]
            );
            let near = Errand::unattended(Instant::now() + secs(7), secs(7));
            let (waited, said) = wait_for_nothing(&sender, Route::ClientAuth, &near, true).await;
            assert_eq!(waited, 7);
            assert_eq!(
                said,
                ["waiting for the login at 127.0.0.1:1 for 5 s so far, and for 2 s more at most"]
            );

            // A reply is waited for as long as it may take, once the request may be there, and not before.
            let errand = errand().with_reply_deadline(Instant::now() + secs(40), secs(40));
            errand.reply_wait_secs.set(Some(39));
            let (waited, said) = wait_for_nothing(&sender, Route::MessageRequest, &errand, true).await;
            assert_eq!((waited, said.len()), (40, 7));
            assert_eq!(
                said[0],
                "waiting for the reply from 127.0.0.1:1 for 5 s so far, and for 35 s more at most"
            );
            assert_eq!(wait_for_nothing(&sender, Route::MessageRequest, &errand, false).await.0, 0);
        });
    }

    #[test]
    fn a_servers_sentence_is_bounded_and_has_no_control_characters() {
        assert_eq!(printable("a\u{1b}[31mb\nc"), "a[31mbc");
        assert_eq!(printable(&"é".repeat(1000)).chars().count(), DETAIL_CHARS_MAX);
    }
}

//! How a message is sent: sealed and posted, with a login where the server asks for one.
//!
//! The worker's thread comes here. How often a message is sent is decided in `errand`; what is known of TLS and HTTP
//! lies below.

use std::cell::RefCell;
use std::convert::Infallible;
use std::io;
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ipc_envelope::{Freshness, HEADER_BYTES, KeyRing, OVERHEAD_BYTES_MAX, OpenError};
use ipc_home::{Credentials, Home};
use ipc_protocol::{
    AuthReply, AuthRequest, Frame, IS_RUNNING_TEXT, MessageId, Problem, ProblemCode, Remedy, Route,
    SUBMIT_TEXT, write_frame, write_frame_around,
};
use tokio::sync::{Semaphore, SemaphorePermit, mpsc};
use tokio::time::{Instant, timeout_at};
use zeroize::{Zeroize, Zeroizing};

use crate::client::Sent;
use crate::combine::Outgoing;
use crate::connect::{Attempt, Dialer};
use crate::envelope::{Envelope, Memory};
use crate::errand::{Errand, Fault, Next, give_up};
use crate::error::SendError;
use crate::http::{Answer, Http, Question};
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
const FRAME_BYTES: usize = 256;

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
    credentials: RefCell<Credentials>,
    admin_home: Option<Home>,
    pub(crate) session: Session,
    keeper: Option<Keeper>,
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

    /// Sees to it that the session is not the one of generation `used` any more. However many sends find that theirs
    /// is over, one logs in and the others wait for it.
    pub(crate) async fn renew(&self, used: Generation, errand: &Errand<'_>) -> Result<(), Fault> {
        let refused_before = self.session.refused_logins.get();
        let turn = errand.unless_given_up(self.session.turn.lock());
        let Ok(turn) = timeout_at(errand.deadline_at, turn).await else {
            return Err(self.busy());
        };
        let turn = turn?;
        if self.session.generation() != used {
            return Ok(());
        }
        if self.session.refused_logins.get() != refused_before {
            return Err(self.bad_credentials());
        }
        log::info!("[419] Authentication timeout, re-authenticating");
        let mut result = self.log_in(errand).await;
        if is_bad_credentials(&result) && self.take_changed_credentials() {
            result = self.log_in(errand).await;
        }
        if is_bad_credentials(&result) {
            self.session.refused_logins.set(self.session.refused_logins.get() + 1);
            let username = self.username();
            self.with_keeper(move |keeper| keeper.forget(&username)).await;
        }
        let reply = result?;
        let expires_at_secs = unix_now_secs().saturating_add(reply.expires_in);
        self.session.set(reply.session.clone());
        drop(turn);
        // This send alone waits for the disk, so that a process that ends with it leaves the session behind.
        let username = self.username();
        self.with_keeper(move |keeper| keeper.keep(&username, &reply.session, expires_at_secs)).await;
        Ok(())
    }

    /// Does something with the kept session, if sessions are kept, on a thread that may wait for the disk.
    async fn with_keeper(&self, act: impl FnOnce(&Keeper) + Send + 'static) {
        if let Some(keeper) = self.keeper.clone() {
            off_this_thread(move || act(&keeper)).await;
        }
    }

    /// Reads the admin's credentials again, where they are those of the home, and says whether they have changed:
    /// whoever changes the admin's password writes `admin.cred` too.
    ///
    /// Blocks the thread for a read of two files of a few hundred bytes. That happens after a refused login only, so
    /// at most as often as the server answers with a bcrypt.
    fn take_changed_credentials(&self) -> bool {
        let Some(home) = &self.admin_home else { return false };
        let found = match home.admin_credentials() {
            Ok(found) => found,
            Err(error) => {
                log::warn!("the admin's credentials could not be read again: {error}");
                return false;
            }
        };
        let mut credentials = self.credentials.borrow_mut();
        let changed = found.username != credentials.username || found.password != credentials.password;
        *credentials = found;
        changed
    }

    async fn log_in(&self, errand: &Errand<'_>) -> Result<AuthReply, Fault> {
        let route = Route::ClientAuth;
        let id = self.draw_id().map_err(give_up)?;
        let Credentials { username, password } = self.credentials.borrow().clone();
        let request = AuthRequest { username, password };
        // Large enough never to grow: growing would leave the password behind in freed memory.
        let room = 64 + 6 * (request.username.len() + request.password.len());
        let mut body = Zeroizing::new(Vec::with_capacity(room));
        serde_json::to_writer(&mut *body, &request).expect("two strings always serialise into memory");
        let body = std::str::from_utf8(&body).expect("serde_json writes UTF-8");
        let write = |buffer: &mut Vec<u8>| {
            buffer.reserve(body.len() + FRAME_BYTES + OVERHEAD_BYTES_MAX);
            write_frame(buffer, route.path(), id, None, body);
        };
        let permit = self.permit(&self.permits, errand).await?;
        let answer = self.post(route, self.seal(write)?, errand, &permit).await?;
        drop(permit);
        if answer.status != 200 {
            return Err(self.refusal(&answer));
        }
        self.read_reply(id, &answer, |body| serde_json::from_str(body).ok())
    }

    /// Opens the reply in an answer 200 and reads its body.
    pub(crate) fn read_reply<T>(
        &self,
        id: MessageId,
        answer: &Answer,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, Fault> {
        self.open_reply(id, answer, read)
            .map_err(|detail| give_up(SendError::Unexpected { status: 200, detail: detail.to_owned() }))
    }

    fn open_reply<T>(
        &self,
        id: MessageId,
        answer: &Answer,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, &'static str> {
        if answer.too_long {
            return Err("the reply is longer than this client takes");
        }
        let mut token = Zeroizing::new(answer.body.to_vec());
        let freshness = Some(Freshness::at(unix_now_secs()));
        let opened = if answer.raw {
            self.ring.open_in_place(&mut token, freshness)
        } else {
            self.ring.open_base64url_in_place(&mut token, freshness)
        };
        let opened = opened.map_err(|error| match error {
            OpenError::Stale { .. } => "the reply is stale: a clock is wrong",
            _ => "the reply was not sealed with the keys of this home",
        })?;
        Frame::parse(opened.plaintext())
            .and_then(|frame| frame.reply_to(id))
            .and_then(|frame| frame.object())
            .ok()
            .and_then(read)
            .ok_or("the reply is none, or not to what was sent")
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
    fn seal(&self, write: impl FnOnce(&mut Vec<u8>)) -> Result<Sealed, Fault> {
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
        match timeout_at(errand.deadline_at, errand.unless_given_up(permits.acquire())).await {
            Ok(permit) => Ok(permit?.expect("the semaphore is never closed")),
            Err(_) => Err(self.busy()),
        }
    }

    /// Sends one request; where a new connection breaks before any answer, finds out whether that was a refusal.
    async fn request(&self, route: Route, body: Envelope, errand: &Errand<'_>) -> Result<Answer, SendError> {
        let attempt = Rc::new(Attempt::default());
        errand.attempts(&attempt);
        let reply_wait = errand.reply_wait.get();
        let attempt_max = ATTEMPT_MIN.max(self.deadline / 2) + reply_wait.unwrap_or_default();
        let limit = errand.deadline_at.min(Instant::now() + attempt_max);
        let answer_bytes_max = match route {
            // An envelope of the longest frame, as text.
            Route::MessageRequest => {
                self.plaintext_bytes_max.saturating_add(OVERHEAD_BYTES_MAX).saturating_mul(4) / 3 + 4
            }
            _ => ANSWER_BYTES_MAX,
        };
        let exchange =
            self.http.exchange(Question { route, body, reply_wait, answer_bytes_max }, limit, &attempt);
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
            && let Ok(Some(refusal)) = timeout_at(limit, self.http.dialer().hear_refusal()).await
        {
            return Err(refusal);
        }
        result
    }

    /// What a status other than 200, or a 200 that says something else than it should, means.
    pub(crate) fn refusal(&self, answer: &Answer) -> Fault {
        let status = answer.status;
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
        Fault { error: SendError::Refused { status, code, detail }, next }
    }

    fn bad_credentials(&self) -> Fault {
        give_up(SendError::BadCredentials { username: self.username(), from_home: self.admin_home.is_some() })
    }

    fn username(&self) -> String {
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

fn is_bad_credentials<T>(result: &Result<T, Fault>) -> bool {
    matches!(result, Err(Fault { error: SendError::BadCredentials { .. }, .. }))
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

/// Waits for something that may wait for the disk, while this thread goes on with other sends.
async fn off_this_thread(act: impl FnOnce() + Send + 'static) {
    // It fails if `act` panics, which has then been told.
    let _ = tokio::task::spawn_blocking(act).await;
}

fn unix_now_secs() -> u64 {
    // A clock before 1970 is wrong, and the server will say so.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn the_thread_goes_on_while_another_waits_for_the_disk() {
        actix_rt::System::new().block_on(async {
            let (go_on, wait) = std::sync::mpsc::channel();
            // Were it this thread that waits, nobody would tell it to go on.
            let disk = off_this_thread(move || wait.recv().unwrap());
            tokio::join!(disk, async { go_on.send(()).unwrap() });
        });
    }

    #[test]
    fn a_servers_sentence_is_bounded_and_has_no_control_characters() {
        assert_eq!(printable("a\u{1b}[31mb\nc"), "a[31mbc");
        assert_eq!(printable(&"é".repeat(1000)).chars().count(), DETAIL_CHARS_MAX);
    }
}

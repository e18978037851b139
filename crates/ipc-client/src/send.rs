//! How a message is sent: sealed, posted, and sent again, with the same id, for as long as that can help.
//!
//! The worker's thread comes here. What is known of TLS and HTTP lies below.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use ipc_envelope::{Freshness, HEADER_BYTES, KeyRing, OVERHEAD_BYTES_MAX, OpenError};
use ipc_home::{Credentials, Home};
use ipc_protocol::{
    AuthReply, AuthRequest, Frame, IS_RUNNING_TEXT, MessageId, Problem, ProblemCode, Remedy, Route,
    SUBMIT_TEXT, write_frame,
};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep, timeout_at};
use zeroize::{Zeroize, Zeroizing};

use crate::client::Sent;
use crate::connect::{Attempt, Dialer};
use crate::error::{Outcome, SendError};
use crate::http::{Answer, Http};
use crate::retry::Pauses;
use crate::session::{Generation, Keeper, Session};

/// One attempt gets this long, or half of the deadline where that is more: a connection that died unnoticed must not
/// eat all the time there is.
const ATTEMPT_MIN: Duration = Duration::from_secs(10);

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
    session: Session,
    keeper: Option<Keeper>,
    /// One for each connection, so that an envelope is sealed when it can go out and not before: its time counts.
    permits: Semaphore,
    /// Buffers to seal in, as many as connections at most. Fresh megabytes are costly.
    buffers: RefCell<Vec<Vec<u8>>>,
    deadline: Duration,
    connections_max: usize,
    plaintext_bytes_max: usize,
}

/// Why an attempt failed, and what might help.
struct Fault {
    error: SendError,
    next: Next,
}

/// What to do after a failed attempt.
#[derive(Clone, Copy, PartialEq)]
enum Next {
    GiveUp,
    LogIn,
    /// Try again after a pause, where told, of at least this long.
    Wait(Option<Duration>),
}

/// One send or question from beginning to end.
struct Errand {
    deadline_at: Instant,
    /// Whether the server was already asked, by silent listening, why it hangs up.
    listened: Cell<bool>,
}

impl Sender {
    pub(crate) fn new(config: Config) -> Self {
        Sender {
            http: Http::new(&config.name, config.dialer, config.connections_max),
            ring: config.ring,
            credentials: RefCell::new(config.credentials),
            admin_home: config.admin_home,
            session: Session::new(config.kept),
            keeper: config.keeper,
            permits: Semaphore::new(config.connections_max),
            buffers: RefCell::new(Vec::new()),
            deadline: config.deadline,
            connections_max: config.connections_max,
            plaintext_bytes_max: config.plaintext_bytes_max,
        }
    }

    /// Sends a message until it is accepted, refused, given up or out of time.
    pub(crate) async fn submit(
        &self,
        id: MessageId,
        body: &str,
        deadline_at: Instant,
        given_up: impl Fn() -> bool,
    ) -> Result<Sent, SendError> {
        let errand = Errand { deadline_at, listened: Cell::new(false) };
        let mut pauses = Pauses::new();
        // Whether the session of the next attempt comes after a 419 of the one before.
        let mut renewed = false;
        // Whether some attempt may have arrived.
        let mut in_doubt = false;
        let mut told_why = false;
        loop {
            if given_up() {
                return Err(SendError::Stopped);
            }
            let mut used = self.session.generation();
            let mut fault = match self.submit_once(id, body, &errand, &mut used).await {
                Ok(sent) => return Ok(sent),
                Err(fault) => fault,
            };
            in_doubt |= fault.error.outcome() == Outcome::NotKnown;
            if fault.next == Next::LogIn && !renewed {
                match self.renew(used, &errand).await {
                    Ok(()) => {
                        renewed = true;
                        continue;
                    }
                    Err(reason) => fault = reason,
                }
            }
            renewed = false;
            let Next::Wait(told) = fault.next else {
                return Err(match fault.error {
                    error if in_doubt && error.outcome() != Outcome::NotKnown => {
                        SendError::InDoubt { last: Box::new(error) }
                    }
                    error => error,
                });
            };
            let left = deadline_at.saturating_duration_since(Instant::now());
            let random = u32::from_be_bytes(random()?);
            let Some(pause) = pauses.next(told, left, random) else {
                let outcome = if in_doubt { Outcome::NotKnown } else { fault.error.outcome() };
                return Err(SendError::Deadline {
                    deadline: self.deadline,
                    outcome,
                    last: Box::new(fault.error),
                });
            };
            // Somebody who waits should learn once why.
            let level = if told_why { log::Level::Debug } else { log::Level::Info };
            told_why = true;
            log::log!(level, "sending again in {} ms: {}", pause.as_millis(), fault.error);

            sleep(pause).await;
        }
    }

    async fn submit_once(
        &self,
        id: MessageId,
        body: &str,
        errand: &Errand,
        used: &mut Generation,
    ) -> Result<Sent, Fault> {
        let route = Route::MessageSubmit;
        let write = |buffer: &mut Vec<u8>| {
            let (token, generation) = self.session.current();
            *used = generation;
            let session = token.as_ref().map(|token| token.as_str());
            buffer.reserve(body.len() + session.map_or(0, str::len) + FRAME_BYTES + OVERHEAD_BYTES_MAX);
            write_frame(buffer, route.path(), id, session, body);
        };
        let answer = self.post(route, write, errand).await?;
        match answer.status {
            200 if answer.body == SUBMIT_TEXT.as_bytes() => Ok(Sent { id, duplicate: answer.duplicate }),
            _ => Err(self.refusal(&answer)),
        }
    }

    /// Sees to it that the session is not the one of generation `used` any more. However many sends find that theirs
    /// is over, one logs in and the others wait for it.
    async fn renew(&self, used: Generation, errand: &Errand) -> Result<(), Fault> {
        let refused_before = self.session.refused_logins.get();
        let Ok(_turn) = timeout_at(errand.deadline_at, self.session.turn.lock()).await else {
            return Err(self.busy());
        };
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
            if let Some(keeper) = &self.keeper {
                keeper.forget(&self.username());
            }
        }
        let reply = result?;
        let expires_at_secs = unix_now_secs().saturating_add(reply.expires_in);
        if let Some(keeper) = &self.keeper {
            keeper.keep(&self.username(), &reply.session, expires_at_secs);
        }
        self.session.set(reply.session);
        Ok(())
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

    async fn log_in(&self, errand: &Errand) -> Result<AuthReply, Fault> {
        let route = Route::ClientAuth;
        let id = MessageId::from_random(random().map_err(give_up)?);
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
        let answer = self.post(route, write, errand).await?;
        if answer.status != 200 {
            return Err(self.refusal(&answer));
        }
        self.read_login(id, &answer)
            .map_err(|detail| give_up(SendError::Unexpected { status: 200, detail: detail.to_owned() }))
    }

    /// Opens the reply to a login.
    fn read_login(&self, id: MessageId, answer: &Answer) -> Result<AuthReply, &'static str> {
        let mut token = Zeroizing::new(answer.body.to_vec());
        let freshness = Some(Freshness::at(unix_now_secs()));
        let opened = if answer.raw {
            self.ring.open_in_place(&mut token, freshness)
        } else {
            self.ring.open_base64url_in_place(&mut token, freshness)
        };
        let opened = opened.map_err(|error| match error {
            OpenError::Stale { .. } => "the reply to the login is stale: a clock is wrong",
            _ => "the reply to the login was not sealed with the keys of this home",
        })?;
        Frame::parse(opened.plaintext())
            .and_then(|frame| frame.reply_to(id))
            .and_then(|frame| frame.object())
            .ok()
            .and_then(|body| serde_json::from_str(body).ok())
            .ok_or("the reply to the login is none")
    }

    /// Asks whether the server runs: one attempt, without a login.
    pub(crate) async fn is_running(&self, deadline_at: Instant) -> Result<bool, SendError> {
        let errand = Errand { deadline_at, listened: Cell::new(false) };
        let _permit = self.permit(&errand).await.map_err(|fault| fault.error)?;
        let answer = match self.request(Route::IsRunning, Bytes::new(), &errand).await {
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

    /// Seals what `write` writes and posts it. `write` is called when a connection is free.
    async fn post(
        &self,
        route: Route,
        write: impl FnOnce(&mut Vec<u8>),
        errand: &Errand,
    ) -> Result<Answer, Fault> {
        let _permit = self.permit(errand).await?;
        let mut buffer = self.buffers.borrow_mut().pop().unwrap_or_default();
        buffer.resize(HEADER_BYTES, 0);
        write(&mut buffer);
        let bytes = buffer.len() - HEADER_BYTES;
        if bytes > self.plaintext_bytes_max {
            buffer.zeroize();
            return Err(give_up(SendError::TooLarge { bytes, bytes_max: self.plaintext_bytes_max }));
        }
        self.ring.seal_in_place(&mut buffer, unix_now_secs(), random().map_err(give_up)?);
        let mut envelope = Bytes::from(buffer);
        let result = self.request(route, envelope.clone(), errand).await;
        if envelope.is_unique() {
            envelope.truncate(0);
            self.buffers.borrow_mut().push(envelope.into());
        }
        result.map_err(|error| {
            let next = match error {
                SendError::Unreachable { .. } | SendError::NoAnswer { .. } => Next::Wait(None),
                _ => Next::GiveUp,
            };
            Fault { error, next }
        })
    }

    /// Waits for a connection to be free.
    async fn permit(&self, errand: &Errand) -> Result<SemaphorePermit<'_>, Fault> {
        match timeout_at(errand.deadline_at, self.permits.acquire()).await {
            Ok(permit) => Ok(permit.expect("the semaphore is never closed")),
            Err(_) => Err(self.busy()),
        }
    }

    /// Sends one request; where a new connection breaks before any answer, finds out whether that was a refusal.
    async fn request(&self, route: Route, body: Bytes, errand: &Errand) -> Result<Answer, SendError> {
        let attempt = Rc::new(Attempt::default());
        let limit = errand.deadline_at.min(Instant::now() + ATTEMPT_MIN.max(self.deadline / 2));
        let result = self.http.exchange(route, body, limit, &attempt).await;
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
    fn refusal(&self, answer: &Answer) -> Fault {
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

    fn busy(&self) -> Fault {
        let error = SendError::Busy { connections_max: self.connections_max };
        Fault { error, next: Next::Wait(None) }
    }
}

fn is_bad_credentials<T>(result: &Result<T, Fault>) -> bool {
    matches!(result, Err(Fault { error: SendError::BadCredentials { .. }, .. }))
}

fn give_up(error: SendError) -> Fault {
    Fault { error, next: Next::GiveUp }
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
fn printable(text: &str) -> String {
    text.chars().filter(|char| !char.is_control()).take(DETAIL_CHARS_MAX).collect()
}

fn unix_now_secs() -> u64 {
    // A clock before 1970 is wrong, and the server will say so.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

pub(crate) fn random<const N: usize>() -> Result<[u8; N], SendError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| SendError::NoRandomness { source: Box::new(error) })?;
    Ok(bytes)
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
            // A stale envelope shares its status with refusals that last.
            if code != ProblemCode::StaleEnvelope {
                assert_eq!(remedy_of_status(code.status()), code.remedy(), "{code}");
            }
        }
    }

    #[test]
    fn a_servers_sentence_is_bounded_and_has_no_control_characters() {
        assert_eq!(printable("a\u{1b}[31mb\nc"), "a[31mbc");
        assert_eq!(printable(&"é".repeat(1000)).chars().count(), DETAIL_CHARS_MAX);
    }
}

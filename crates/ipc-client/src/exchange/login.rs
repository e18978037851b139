//! Logging in: decides which client does, of all that need a session at the same time, and performs
//! the login.
//!
//! `engine` calls it when the server says that a session has expired. A client logs in once for all
//! its waiting entries. Of the clients that share a home, in whatever process, one logs in and
//! keeps the session, and the others take it.

use std::rc::Rc;
use std::time::Duration;

use ipc_envelope::OVERHEAD_BYTES_MAX;
use ipc_home::{Credentials, LoginHolder, LoginLock, LoginTurn};
use ipc_protocol::{AuthReply, AuthRequest, Route, write_frame};
use tokio::sync::MutexGuard;
use tokio::time::{Instant, sleep, timeout_at};
use zeroize::Zeroizing;

#[cfg(feature = "python-compat")]
use crate::config::ServerKind;
use crate::error::SendError;
use crate::exchange::refusal::{AttemptError, give_up};
use crate::exchange::session::{Generation, Origin, SessionCache};
use crate::exchange::{AttemptLimits, Exchange, FRAME_BYTES};
use crate::log_throttle::seconds;
use crate::random::random;
use crate::sealer::unix_now_secs;
use crate::transport::attempt::Attempt;

/// How long another process may take for a login before it counts as hung. A login takes one bcrypt
/// of the server, a quarter of a second. When hundreds of processes start at the same moment, it
/// takes some seconds.
const LOGIN_MAX: Duration = Duration::from_secs(10);

/// The first and the longest pause before this client looks again whether another process has
/// logged in. When hundreds wait, looking takes the processors that the login needs.
const LOOK_FIRST: Duration = Duration::from_millis(5);
const LOOK_LAST: Duration = Duration::from_millis(200);

/// The longest session token that is accepted. It goes into every frame and into a file. A server's
/// own tokens have about 250 bytes.
const SESSION_BYTES_MAX: usize = 16 * 1024;

/// What a session is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Message,
    Renewal,
}

/// How the client gets a session.
enum Claim {
    /// It takes the session with which another process has logged in.
    Kept(Zeroizing<String>),
    /// It logs in. While it holds the lock no other client does.
    LogIn(Option<LoginLock>),
}

/// What a look into the home found.
enum Found {
    Kept(Zeroizing<String>),
    Ours(LoginLock),
    Theirs(LoginHolder),
    /// The lock is not available, so the clients cannot agree on one of them.
    NoLock,
}

/// The holder of the lock that this client waits for, and since when.
#[derive(Default)]
struct Patience(Option<(LoginHolder, Instant)>);

impl Patience {
    /// Whether the holder has had the time that a login takes.
    fn is_over(&mut self, holder: &LoginHolder, now: Instant) -> bool {
        match &self.0 {
            Some((known, since)) if known == holder => {
                now.saturating_duration_since(*since) >= LOGIN_MAX
            }
            _ => {
                self.0 = Some((holder.clone(), now));
                false
            }
        }
    }
}

impl Exchange {
    /// Replaces the session if it is still that of generation `used`, and returns the origin of the
    /// new one. Of several clients on one home, one logs in and the others wait for its session
    /// while `may_take_kept` is set. No attempt begins after `ends_at`. `purpose` is what the
    /// session is for.
    pub(crate) async fn renew(
        &self,
        used: Generation,
        may_take_kept: bool,
        ends_at: Instant,
        purpose: Purpose,
    ) -> Result<Origin, AttemptError> {
        let refused_before = self.session.refused_logins.get();
        let Ok(turn) = timeout_at(ends_at, self.session.turn.lock()).await else {
            return Err(AttemptError::without_answer(self.http().timed_out(&Attempt::default())));
        };
        let turn: MutexGuard<'_, ()> = turn;
        if self.session.generation() != used {
            return Ok(self.session.origin());
        }
        if self.session.refused_logins.get() != refused_before {
            return Err(self.bad_credentials());
        }
        let mut epoch = self.epoch();
        let lock = match self.claim_login(may_take_kept, ends_at).await? {
            // Another certificate has come meanwhile, and the session is that of the one before.
            Claim::Kept(_) if self.epoch() != epoch => None,
            Claim::Kept(token) => {
                log::debug!("using the session of another process, which has logged in");
                self.session.set(token, Origin::Kept);
                return Ok(Origin::Kept);
            }
            Claim::LogIn(lock) => lock,
        };
        match (purpose, self.session.current().0) {
            // The line of the Python tool, which has it of the first login too.
            (Purpose::Message, _) | (_, Some(_)) => {
                log::info!("[419] Authentication timeout, re-authenticating");
            }
            (Purpose::Renewal, None) => log::debug!("logging in for the renewal"),
        }
        let reply = loop {
            epoch = self.epoch();
            let mut result = self.log_in(ends_at).await;
            if is_bad_credentials(&result) && self.take_changed_credentials() {
                result = self.log_in(ends_at).await;
            }
            if is_bad_credentials(&result) {
                self.session.refused_logins.set(self.session.refused_logins.get() + 1);
                let username = self.username();
                self.with_cache(ends_at, move |cache| cache.forget(&username)).await;
            }
            let reply = result?;
            // A session is that of the certificate on its connection. Nothing is sent with the one
            // of before any more, so that its session would be refused.
            if self.epoch() == epoch {
                break reply;
            }
        };
        let expires_at_secs = unix_now_secs().saturating_add(reply.expires_in);
        self.session.set(reply.session.clone(), Origin::Login);
        drop(turn);
        // Only this login waits for the disk, so that the session is in the home even if the
        // process ends now.
        let username = self.username();
        let keep = move |cache: &SessionCache| {
            cache.keep(&username, &reply.session, expires_at_secs);
            // The others must not get the lock before the session is in the home.
            drop(lock);
        };
        self.with_cache(ends_at, keep).await;
        Ok(Origin::Login)
    }

    /// Waits until another process has logged in, or this client has the lock. Passes over a holder
    /// of the lock that takes too long. Returns without the lock after half of the remaining time,
    /// or if there is no lock.
    async fn claim_login(
        &self,
        may_take_kept: bool,
        ends_at: Instant,
    ) -> Result<Claim, AttemptError> {
        let Some(cache) = self.cache.borrow().clone() else { return Ok(Claim::LogIn(None)) };
        let begun_at = Instant::now();
        let until = begun_at + ends_at.saturating_duration_since(begun_at) / 2;
        let (stale, _) = self.session.current();
        let stale = stale.map(|token| Zeroizing::new(token.as_str().to_owned()));
        let mut patience = Patience::default();
        let mut pause = LOOK_FIRST;
        loop {
            let (cache, username, stale) = (cache.clone(), self.username(), stale.clone());
            let look =
                off_this_thread(move || look(&cache, &username, stale.as_deref(), may_take_kept));
            let found = match timeout_at(until, look).await {
                Ok(found) => found.unwrap_or(Found::NoLock),
                Err(_) => Found::NoLock,
            };
            let now = Instant::now();
            let holder = match found {
                Found::Kept(token) => return Ok(Claim::Kept(token)),
                Found::Ours(lock) => return Ok(Claim::LogIn(Some(lock))),
                Found::Theirs(_) if now >= until => return Ok(Claim::LogIn(None)),
                Found::NoLock => return Ok(Claim::LogIn(None)),
                Found::Theirs(holder) => holder,
            };
            if patience.is_over(&holder, now) {
                let username = self.username();
                self.with_cache(ends_at, move |cache| cache.pass_over(&username, &holder)).await;
                continue;
            }
            log::log!(
                self.waits.level_after(begun_at, now),
                "waiting for the session of another process, which is logging in, for {} so far and {} more at most",
                seconds(now - begun_at),
                seconds(until - now)
            );
            // The jitter keeps many waiting clients from looking at the same moment.
            let random = random().map_or(0, |bytes| u32::from_be_bytes(bytes) % 1000);
            let jittered = pause.mul_f64(0.5 + f64::from(random) / 1000.0);
            sleep(jittered).await;
            pause = (pause * 2).min(LOOK_LAST);
        }
    }

    /// Runs `act` with the kept sessions, if there are any, on a thread that may wait for the disk.
    /// `act` runs to its end in any case. This function waits for it until `ends_at`.
    async fn with_cache(&self, ends_at: Instant, act: impl FnOnce(&SessionCache) + Send + 'static) {
        let cache = self.cache.borrow().clone();
        if let Some(cache) = cache {
            let acting = off_this_thread(move || act(&cache));
            let _ = timeout_at(ends_at, acting).await;
        }
    }

    /// Reads the credentials of the home's own admin again, if the client uses them, and returns
    /// whether they have changed. A change of the admin's password also writes `admin.cred`.
    ///
    /// Blocks the thread while it reads two files of a few hundred bytes. That happens only after a
    /// refused login, so at most once per bcrypt of the server.
    fn take_changed_credentials(&self) -> bool {
        let found = match self.source.credentials_in_home(self.credentials_origin.get()) {
            None => return false,
            Some(Ok(found)) => found,
            Some(Err(error)) => {
                log::warn!(
                    "could not read the home's credentials again: {}",
                    ipc_base::chain(&error)
                );
                return false;
            }
        };
        let mut credentials = self.credentials.borrow_mut();
        let changed =
            found.username != credentials.username || found.password != credentials.password;
        *credentials = found;
        changed
    }

    /// Logs in once, to see whether the server takes the credentials. The session is neither used
    /// nor kept.
    pub(crate) async fn check_login(&self, ends_at: Instant) -> Result<(), SendError> {
        match self.log_in(ends_at).await {
            Ok(_session) => Ok(()),
            Err(refused) => Err(refused.error),
        }
    }

    /// The JSON of a login.
    pub(super) fn login_body(&self) -> Zeroizing<Vec<u8>> {
        let Credentials { username, password } = self.credentials.borrow().clone();
        let request = AuthRequest { username, password };
        // The buffer is large enough never to grow. Growing would leave the password in freed
        // memory.
        let room = 64 + 6 * (request.username.len() + request.password.len());
        let mut body = Zeroizing::new(Vec::with_capacity(room));
        serde_json::to_writer(&mut *body, &request)
            .expect("two strings always serialise into memory");
        body
    }

    async fn log_in(&self, ends_at: Instant) -> Result<AuthReply, AttemptError> {
        #[cfg(feature = "python-compat")]
        if self.config.server == ServerKind::PythonTool {
            return self.log_in_pickled(ends_at).await;
        }
        let route = Route::ClientAuth;
        let id = self.sealer.draw_id().map_err(give_up)?;
        let body = self.login_body();
        let body = std::str::from_utf8(&body).expect("serde_json writes UTF-8");
        let write = |buffer: &mut Vec<u8>| {
            buffer.reserve(body.len() + FRAME_BYTES + OVERHEAD_BYTES_MAX);
            write_frame(buffer, route.path(), id, None, body);
        };
        let limits = AttemptLimits::until(ends_at);
        let answer = self.post(route, self.seal(write)?, None, limits, &Rc::default()).await?;
        if answer.status != 200 {
            return Err(self.refusal(&answer));
        }
        let reply: AuthReply =
            self.read_reply(id, &answer, |body| serde_json::from_str(body).ok())?;
        if reply.session.len() > SESSION_BYTES_MAX {
            let detail = "the session token is longer than this client accepts".to_owned();
            return Err(give_up(SendError::Unexpected { status: 200, detail }));
        }
        Ok(reply)
    }
}

/// Looks into the home for a session of `username` other than the expired one, then for the lock.
fn look(
    cache: &SessionCache,
    username: &str,
    stale: Option<&String>,
    may_take_kept: bool,
) -> Found {
    let kept = || {
        let stale = stale.map(String::as_str);
        may_take_kept.then(|| cache.load(username, unix_now_secs(), stale)).flatten()
    };
    if let Some(token) = kept() {
        return Found::Kept(token);
    }
    match cache.login_turn(username) {
        None => Found::NoLock,
        Some(LoginTurn::Theirs(holder)) => Found::Theirs(holder),
        // The last holder of the lock may have kept a session since the first look.
        Some(LoginTurn::Ours(lock)) => kept().map_or(Found::Ours(lock), Found::Kept),
    }
}

fn is_bad_credentials<T>(result: &Result<T, AttemptError>) -> bool {
    matches!(result, Err(AttemptError { error: SendError::BadCredentials { .. }, .. }))
}

/// Runs `act`, which may wait for the disk, on another thread, so that this one continues with
/// other calls. `None` if `act` panics, which the panic hook has reported.
async fn off_this_thread<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(act).await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::tests::exchange;
    use ipc_home::Home;

    #[test]
    fn the_thread_goes_on_while_another_waits_for_the_disk() {
        actix_rt::System::new().block_on(async {
            let (go_on, wait) = std::sync::mpsc::channel();
            // If this thread waited, it would never send what `act` waits for.
            let disk = off_this_thread(move || wait.recv().unwrap());
            tokio::join!(disk, async { go_on.send(()).unwrap() });
        });
    }

    #[test]
    fn a_login_of_another_that_hangs_is_waited_for_as_long_as_one_takes_or_half_of_the_time_there_is()
     {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().start_paused(true).build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, async {
            let directory = tempfile::tempdir().unwrap();
            let home = Home::at(directory.path());
            let LoginTurn::Ours(_hangs) = home.try_login_lock("localhost", "test1").unwrap() else {
                panic!("the lock should be free");
            };
            let cache = SessionCache::new(home, "localhost".into(), None, None);
            for (secs, has_lock, waited_secs) in [(4, false, 2), (60, true, 10)] {
                let deadline = Duration::from_secs(secs);
                let exchange = exchange(deadline, Some(cache.clone()));
                let begun_at = Instant::now();
                let claim = exchange.claim_login(true, begun_at + deadline).await;
                let Ok(Claim::LogIn(lock)) = claim else { panic!("there is no session") };
                assert_eq!(lock.is_some(), has_lock);
                assert_eq!(begun_at.elapsed().as_secs(), waited_secs);
            }
        });
    }

    #[test]
    fn a_holder_has_the_time_of_a_login_and_the_next_one_has_it_too() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::at(directory.path());
        let turn = || home.try_login_lock("localhost", "test1").unwrap();
        let LoginTurn::Ours(first) = turn() else { panic!("the lock should be free") };
        let LoginTurn::Theirs(one) = turn() else { panic!("the lock should be held") };
        drop(first);
        let LoginTurn::Ours(_second) = turn() else { panic!("the lock should be free") };
        let LoginTurn::Theirs(other) = turn() else { panic!("the lock should be held") };

        let (start, mut patience) = (Instant::now(), Patience::default());
        assert!(!patience.is_over(&one, start));
        assert!(!patience.is_over(&one, start + LOGIN_MAX - Duration::from_millis(1)));
        assert!(!patience.is_over(&other, start + LOGIN_MAX));
        assert!(!patience.is_over(&other, start + LOGIN_MAX + Duration::from_secs(1)));
        assert!(patience.is_over(&other, start + 2 * LOGIN_MAX));
    }
}

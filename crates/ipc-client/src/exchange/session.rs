//! The session that goes into every frame: the current one, the one kept in the home, and the lock
//! for logins.
//!
//! `exchange` uses it, and logs in itself. Nothing here makes a connection.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ipc_base::chain;
use ipc_home::{Home, HomeError, KeptSession, LoginHolder, LoginTurn};
use zeroize::Zeroizing;

use crate::exchange::password_check::GivenPassword;

/// A kept session this close to its end is not used: it might expire on the way.
pub(crate) const EXPIRY_MARGIN_SECS: u64 = 30;

/// The number of a session. Each new session has a larger one.
pub(crate) type Generation = u64;

/// A session token.
pub(crate) type Token = Rc<Zeroizing<String>>;

/// The origin of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A login of this client. If the server refuses it, another login will not help.
    Login,
    /// The home. The session may have expired.
    Kept,
}

/// The current session.
pub(crate) struct Session {
    token: RefCell<Option<Token>>,
    generation: Cell<Generation>,
    origin: Cell<Origin>,
    /// How many logins were refused. A task that waited for a login need not try the same
    /// credentials.
    pub(crate) refused_logins: Cell<u64>,
    /// Held by the task that logs in.
    pub(crate) turn: tokio::sync::Mutex<()>,
}

impl Session {
    pub(crate) fn new(kept: Option<Zeroizing<String>>) -> Self {
        Session {
            token: RefCell::new(kept.map(Rc::new)),
            generation: Cell::new(0),
            origin: Cell::new(Origin::Kept),
            refused_logins: Cell::new(0),
            turn: tokio::sync::Mutex::new(()),
        }
    }

    /// The token, if there is one, and its generation.
    pub(crate) fn current(&self) -> (Option<Token>, Generation) {
        (self.token.borrow().clone(), self.generation.get())
    }

    pub(crate) fn generation(&self) -> Generation {
        self.generation.get()
    }

    pub(crate) fn origin(&self) -> Origin {
        self.origin.get()
    }

    /// There is none any more that is good.
    pub(crate) fn forget(&self) {
        *self.token.borrow_mut() = None;
        self.origin.set(Origin::Kept);
        self.generation.set(self.generation.get() + 1);
    }

    pub(crate) fn set(&self, token: Zeroizing<String>, origin: Origin) {
        *self.token.borrow_mut() = Some(Rc::new(token));
        self.origin.set(origin);
        self.generation.set(self.generation.get() + 1);
    }
}

/// Keeps sessions in the home, for the next process.
#[derive(Clone)]
pub(crate) struct SessionCache {
    home: Home,
    /// The peer name. Several servers with one name share a home, and so their sessions.
    server: String,
    /// SHA-256 of the certificate that this client presents. `None` over plain HTTP.
    certificate: Option<[u8; 32]>,
    /// The password that was given to the client. `None` if it uses the home's own.
    password: Option<GivenPassword>,
    /// Whether a warning about an unusable kept session was logged.
    has_told: Arc<AtomicBool>,
}

impl SessionCache {
    pub(crate) fn new(
        home: Home,
        server: String,
        certificate: Option<[u8; 32]>,
        password: Option<GivenPassword>,
    ) -> Self {
        SessionCache { home, server, certificate, password, has_told: Arc::default() }
    }

    /// The kept session, if it belongs to this certificate and this password, is valid for a while,
    /// and is not `stale`.
    pub(crate) fn load(
        &self,
        username: &str,
        now_secs: u64,
        stale: Option<&str>,
    ) -> Option<Zeroizing<String>> {
        let kept = match self.home.load_session(&self.server, username) {
            Ok(kept) => kept?,
            Err(error) => {
                // A client that waits for the login of another process looks often.
                if !self.has_told.swap(true, Ordering::Relaxed) {
                    log::warn!(
                        "logging in, since the kept session cannot be used: {}",
                        chain(&error)
                    );
                }
                return None;
            }
        };
        let lasts = kept.expires_at_secs > now_secs.saturating_add(EXPIRY_MARGIN_SECS);
        let is_other = stale.is_none_or(|stale| stale != *kept.token);
        (is_other
            && lasts
            && kept.certificate == self.certificate
            && self.is_of_this_password(&kept))
        .then_some(kept.token)
    }

    /// Whether a session may be used with the client's password. A given password must be the one
    /// that got the session. The home's own needs no proof: who can read the session can read that
    /// password too.
    fn is_of_this_password(&self, kept: &KeptSession) -> bool {
        match (&self.password, &kept.password_check) {
            (None, _) => true,
            (Some(password), Some(check)) => password.passes(check),
            (Some(_), None) => false,
        }
    }

    /// Keeps a session. If that fails, the next process logs in.
    pub(crate) fn keep(&self, username: &str, token: &Zeroizing<String>, expires_at_secs: u64) {
        let password_check = match &self.password {
            None => None,
            Some(password) => match password.check() {
                Some(check) => Some(check),
                None => {
                    return log::warn!(
                        "could not keep the session: the system gave no random numbers"
                    );
                }
            },
        };
        let certificate = self.certificate;
        let session =
            KeptSession { token: token.clone(), expires_at_secs, certificate, password_check };
        if let Err(error) = self.home.keep_session(&self.server, username, &session) {
            // A client may run on a read-only directory. Then this happens at every login, and is
            // no reason for a warning.
            let level = if is_read_only(&error) { log::Level::Info } else { log::Level::Warn };
            log::log!(
                level,
                "could not keep the session for the next process: {}",
                with_remedy(&error)
            );
        }
    }

    /// Removes the session of a user whose login the server refuses, unless it belongs to another
    /// password.
    pub(crate) fn forget(&self, username: &str) {
        match self.home.load_session(&self.server, username) {
            Ok(None) => return,
            Ok(Some(kept)) if !self.is_of_this_password(&kept) => return,
            Ok(Some(_)) | Err(_) => (),
        }
        if let Err(error) = self.home.forget_session(&self.server, username) {
            log::warn!(
                "could not remove a session that is not valid any more: {}",
                with_remedy(&error)
            );
        }
    }

    /// Tries to take the lock for a login. `None` if the clients of the home cannot share one.
    pub(crate) fn login_turn(&self, username: &str) -> Option<LoginTurn> {
        match self.home.try_login_lock(&self.server, username) {
            Ok(turn) => Some(turn),
            Err(error) => {
                log::debug!("logging in without a lock: {}", with_remedy(&error));
                None
            }
        }
    }

    /// Breaks the lock of a process whose login takes too long.
    pub(crate) fn pass_over(&self, username: &str, holder: &LoginHolder) {
        log::info!(
            "the login of another process takes too long, logging in without waiting for it"
        );
        if let Err(error) = self.home.break_login_lock(&self.server, username, holder) {
            log::debug!("could not remove its lock: {}", with_remedy(&error));
        }
    }
}

fn is_read_only(error: &HomeError) -> bool {
    use std::io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem};
    matches!(error, HomeError::Unwritable { source, .. }
        if matches!(source.kind(), ReadOnlyFilesystem | PermissionDenied))
}

/// An error with its causes and its remedy, in one line.
fn with_remedy(error: &HomeError) -> String {
    let causes = chain(error);
    match error.remedy() {
        Some(remedy) => format!("{causes}; {remedy}"),
        None => causes.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USER: &str = "ipc-admin";

    fn cache(certificate: Option<[u8; 32]>) -> (tempfile::TempDir, SessionCache) {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("home");
        ipc_home::make_private_directory(&root).unwrap();
        let cache = SessionCache::new(Home::at(&root), "localhost".into(), certificate, None);
        (directory, cache)
    }

    #[test]
    fn a_kept_session_is_used_until_half_a_minute_before_its_end() {
        let (_directory, cache) = cache(Some([1; 32]));
        assert!(cache.load(USER, 0, None).is_none());
        cache.keep(USER, &Zeroizing::new("token".to_owned()), 1000);
        assert_eq!(cache.load(USER, 969, None).unwrap().as_str(), "token");
        assert!(cache.load(USER, 970, None).is_none());
        assert!(cache.load(USER, u64::MAX, None).is_none());
    }

    #[test]
    fn a_session_of_another_certificate_is_not_used() {
        let (_directory, mut cache) = cache(Some([1; 32]));
        cache.keep(USER, &Zeroizing::new("token".to_owned()), 1000);
        for other in [Some([2; 32]), None] {
            cache.certificate = other;
            assert!(cache.load(USER, 0, None).is_none());
        }
    }

    #[test]
    fn a_session_that_is_over_is_not_taken_again() {
        let (_directory, cache) = cache(None);
        cache.keep(USER, &Zeroizing::new("token".to_owned()), 1000);
        assert!(cache.load(USER, 0, Some("token")).is_none());
        assert!(cache.load(USER, 0, Some("other")).is_some());
    }

    #[test]
    fn a_session_is_kept_for_the_password_that_got_it_and_for_the_homes_own() {
        let (_directory, mut cache) = cache(None);
        let given = |password: &str| Some(GivenPassword::of(password));
        cache.password = given("right");
        cache.keep(USER, &Zeroizing::new("token".to_owned()), 1000);
        for (password, passes) in [(given("right"), true), (given("wrong"), false), (None, true)] {
            cache.password = password;
            assert_eq!(cache.load(USER, 0, None).is_some(), passes);
        }
        cache.password = given("wrong");
        cache.forget(USER);
        cache.password = None;
        assert!(
            cache.load(USER, 0, None).is_some(),
            "a wrong password does not end another one's session"
        );
        cache.keep(USER, &Zeroizing::new("token".to_owned()), 1000);
        cache.password = given("right");
        assert!(
            cache.load(USER, 0, None).is_none(),
            "a session without a check does not pass for a given password"
        );
    }

    #[test]
    fn a_forgotten_session_is_gone() {
        let (_directory, cache) = cache(None);
        cache.keep(USER, &Zeroizing::new("token".to_owned()), 1000);
        assert!(cache.load(USER, 0, None).is_some());
        cache.forget(USER);
        assert!(cache.load(USER, 0, None).is_none());
    }

    #[test]
    fn every_new_session_has_a_number_of_its_own() {
        let session = Session::new(None);
        let (token, first) = session.current();
        assert!(token.is_none());
        session.set(Zeroizing::new("token".to_owned()), Origin::Login);
        let (token, second) = session.current();
        assert_eq!(token.unwrap().as_str(), "token");
        assert_ne!(first, second);
    }
}

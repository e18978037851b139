//! The session that goes into every frame: the one in use, the one kept in the home, and whose turn
//! it is to log in.
//!
//! The worker comes here; logging in itself is its business. Nothing here makes a connection.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ipc_base::chain;
use ipc_home::{Home, HomeError, KeptSession, LoginHolder, LoginTurn};
use zeroize::Zeroizing;

use crate::exchange::password_check::GivenPassword;

/// A kept session this close to its end is not used: it might end on the way.
pub(crate) const EXPIRY_MARGIN_SECS: u64 = 30;

/// Which session it was: every other one makes the number one larger.
pub(crate) type Generation = u64;

/// A session token.
pub(crate) type Token = Rc<Zeroizing<String>>;

/// Where a session is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// From a login of this client: if it is not good, another login will not help.
    Login,
    /// From the home: it may be over.
    Kept,
}

/// The session in use.
pub(crate) struct Session {
    token: RefCell<Option<Token>>,
    generation: Cell<Generation>,
    origin: Cell<Origin>,
    /// How many logins were refused: those who waited for one need not try the same.
    pub(crate) refused_logins: Cell<u64>,
    /// Held by whoever logs in.
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

    /// The token, if there is one, and which it is.
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

/// Where a session waits for the next process.
#[derive(Clone)]
pub(crate) struct SessionCache {
    home: Home,
    /// The peer name: several servers behind one name share a home, and so their sessions.
    server: String,
    /// SHA-256 of the certificate that this client presents; `None` over plain HTTP.
    certificate: Option<[u8; 32]>,
    /// The password that the client was given; `None` where it uses the home's own.
    password: Option<GivenPassword>,
    /// It was said why a kept session is of no use.
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

    /// The kept session, if it is this certificate's and this password's, will still be good for a
    /// while, and is another one than `stale`.
    pub(crate) fn load(
        &self,
        username: &str,
        now_secs: u64,
        stale: Option<&str>,
    ) -> Option<Zeroizing<String>> {
        let kept = match self.home.load_session(&self.server, username) {
            Ok(kept) => kept?,
            Err(error) => {
                // Whoever waits for another process' login looks often.
                if !self.has_told.swap(true, Ordering::Relaxed) {
                    log::warn!(
                        "the kept session is not used, and a login follows: {}",
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

    /// A password that was given must be the one that got the session. The home's own needs no such
    /// proof: whoever can read the session can read that too.
    fn is_of_this_password(&self, kept: &KeptSession) -> bool {
        match (&self.password, &kept.password_check) {
            (None, _) => true,
            (Some(password), Some(check)) => password.passes(check),
            (Some(_), None) => false,
        }
    }

    /// Keeps a session. That it could not be kept costs the next process a login, and no more.
    pub(crate) fn keep(&self, username: &str, token: &Zeroizing<String>, expires_at_secs: u64) {
        let password_check = match &self.password {
            None => None,
            Some(password) => match password.check() {
                Some(check) => Some(check),
                None => {
                    return log::warn!(
                        "the session is not kept: the system gave no random numbers"
                    );
                }
            },
        };
        let certificate = self.certificate;
        let session =
            KeptSession { token: token.clone(), expires_at_secs, certificate, password_check };
        if let Err(error) = self.home.keep_session(&self.server, username, &session) {
            // A client may run on a directory that is read-only: then this is how it is, at every
            // login.
            let level = if is_read_only(&error) { log::Level::Info } else { log::Level::Warn };
            log::log!(
                level,
                "the session could not be kept for the next process: {}",
                with_remedy(&error)
            );
        }
    }

    /// Forgets the session of a user whom the server refuses, unless it is another password's.
    pub(crate) fn forget(&self, username: &str) {
        match self.home.load_session(&self.server, username) {
            Ok(None) => return,
            Ok(Some(kept)) if !self.is_of_this_password(&kept) => return,
            Ok(Some(_)) | Err(_) => (),
        }
        if let Err(error) = self.home.forget_session(&self.server, username) {
            log::warn!(
                "a session that is no longer good could not be removed: {}",
                with_remedy(&error)
            );
        }
    }

    /// Whose turn it is to log in, of all that share the home; `None` where they cannot agree on
    /// it.
    pub(crate) fn login_turn(&self, username: &str) -> Option<LoginTurn> {
        match self.home.try_login_lock(&self.server, username) {
            Ok(turn) => Some(turn),
            Err(error) => {
                log::debug!("no lock for the login: {}", with_remedy(&error));
                None
            }
        }
    }

    /// Passes over a process that logs in and does not come to an end.
    pub(crate) fn pass_over(&self, username: &str, holder: &LoginHolder) {
        log::info!("another process has been logging in for long: it is not waited for any longer");
        if let Err(error) = self.home.break_login_lock(&self.server, username, holder) {
            log::debug!("its lock stays: {}", with_remedy(&error));
        }
    }
}

fn is_read_only(error: &HomeError) -> bool {
    use std::io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem};
    matches!(error, HomeError::Unwritable { source, .. }
        if matches!(source.kind(), ReadOnlyFilesystem | PermissionDenied))
}

/// An error with its causes and what to do about it, in one line.
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
        assert!(cache.load(USER, 0, None).is_none(), "nothing says that it is this password's");
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

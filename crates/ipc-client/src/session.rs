//! The session that goes into every frame: the one in use, the one kept in the home, and whose turn it is to log in.
//!
//! The worker comes here; logging in itself is its business. Nothing here makes a connection.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use ipc_home::{Home, KeptSession};
use zeroize::Zeroizing;

/// A kept session this close to its end is not used: it might end on the way.
pub(crate) const EXPIRY_MARGIN_SECS: u64 = 30;

/// Which session it was: every login makes the number one larger.
pub(crate) type Generation = u64;

/// A session token.
pub(crate) type Token = Rc<Zeroizing<String>>;

/// The session in use.
pub(crate) struct Session {
    token: RefCell<Option<Token>>,
    generation: Cell<Generation>,
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

    pub(crate) fn set(&self, token: Zeroizing<String>) {
        *self.token.borrow_mut() = Some(Rc::new(token));
        self.generation.set(self.generation.get() + 1);
    }
}

/// Where a session waits for the next process.
#[derive(Clone)]
pub(crate) struct Keeper {
    pub(crate) home: Home,
    /// The peer name: several servers behind one name share a home, and so their sessions.
    pub(crate) server: String,
    /// SHA-256 of the certificate that this client presents; `None` over plain HTTP.
    pub(crate) certificate: Option<[u8; 32]>,
}

impl Keeper {
    /// The kept session, if it is this certificate's and will still be good for a while.
    pub(crate) fn load(&self, username: &str, now_secs: u64) -> Option<Zeroizing<String>> {
        let kept = self.home.load_session(&self.server, username)?;
        let lasts = kept.expires_at_secs > now_secs.saturating_add(EXPIRY_MARGIN_SECS);
        (lasts && kept.certificate == self.certificate).then_some(kept.token)
    }

    /// Keeps a session. That it could not be kept costs the next process a login, and no more.
    pub(crate) fn keep(&self, username: &str, token: &Zeroizing<String>, expires_at_secs: u64) {
        let session = KeptSession { token: token.clone(), expires_at_secs, certificate: self.certificate };
        if let Err(error) = self.home.keep_session(&self.server, username, &session) {
            log::warn!("the session could not be kept for the next process: {error}");
        }
    }

    /// Forgets the session of a user whom the server refuses.
    pub(crate) fn forget(&self, username: &str) {
        if let Err(error) = self.home.forget_session(&self.server, username) {
            log::warn!("a session that is no longer good could not be removed: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USER: &str = "ipc-admin";

    fn keeper(certificate: Option<[u8; 32]>) -> (tempfile::TempDir, Keeper) {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("home");
        ipc_home::make_private_directory(&root).unwrap();
        let keeper = Keeper { home: Home::at(&root), server: "localhost".into(), certificate };
        (directory, keeper)
    }

    #[test]
    fn a_kept_session_is_used_until_half_a_minute_before_its_end() {
        let (_directory, keeper) = keeper(Some([1; 32]));
        assert!(keeper.load(USER, 0).is_none());
        keeper.keep(USER, &Zeroizing::new("token".to_owned()), 1000);
        assert_eq!(keeper.load(USER, 969).unwrap().as_str(), "token");
        assert!(keeper.load(USER, 970).is_none());
        assert!(keeper.load(USER, u64::MAX).is_none());
    }

    #[test]
    fn a_session_of_another_certificate_is_not_used() {
        let (_directory, mut keeper) = keeper(Some([1; 32]));
        keeper.keep(USER, &Zeroizing::new("token".to_owned()), 1000);
        for other in [Some([2; 32]), None] {
            keeper.certificate = other;
            assert!(keeper.load(USER, 0).is_none());
        }
    }

    #[test]
    fn a_forgotten_session_is_gone() {
        let (_directory, keeper) = keeper(None);
        keeper.keep(USER, &Zeroizing::new("token".to_owned()), 1000);
        assert!(keeper.load(USER, 0).is_some());
        keeper.forget(USER);
        assert!(keeper.load(USER, 0).is_none());
    }

    #[test]
    fn every_new_session_has_a_number_of_its_own() {
        let session = Session::new(None);
        let (token, first) = session.current();
        assert!(token.is_none());
        session.set(Zeroizing::new("token".to_owned()));
        let (token, second) = session.current();
        assert_eq!(token.unwrap().as_str(), "token");
        assert_ne!(first, second);
    }
}

//! Checks that a session's user still has the credentials of its login. Asks the store at most
//! twice a second for each user.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ipc_store::{CredentialVersion, CurrentUser, PeerName, StoreError, UserStore, Username};

/// For how long an answer of the store is used: a removed user or a changed password ends its
/// sessions within a second.
const FRESH_FOR: Duration = Duration::from_millis(500);

/// How many answers are cached. At the limit all are dropped and asked for again.
const KEPT_MAX: usize = 10_000;

/// The user store with a cache of its last answers.
pub(crate) struct Users {
    store: Arc<dyn UserStore>,
    answers: Mutex<HashMap<String, Answer>>,
}

#[derive(Clone)]
struct Answer {
    /// The user name, shared by all messages that carry it.
    name: Arc<str>,
    user: Option<CurrentUser>,
    asked_at: Instant,
}

impl Answer {
    fn of(self, version: CredentialVersion, peer: Option<&PeerName>) -> Standing {
        match self.user.filter(|user| user.credential_version == version) {
            None => Standing::Ended,
            Some(user) if !user.may_use(peer) => Standing::OtherPeer,
            Some(_) => Standing::Good(self.name),
        }
    }
}

/// Whether a user may still be here, with credentials of some time ago and a certificate.
#[derive(Debug)]
pub(crate) enum Standing {
    /// The user, whose credentials are still those.
    Good(Arc<str>),
    /// The user was deleted or disabled, or has another password.
    Ended,
    /// The user is bound to another peer.
    OtherPeer,
}

impl Users {
    pub(crate) fn new(store: Arc<dyn UserStore>) -> Self {
        Users { store, answers: Mutex::default() }
    }

    /// See [`UserStore::verify`].
    pub(crate) async fn verify(
        &self,
        name: &str,
        password: &str,
    ) -> Result<Option<CredentialVersion>, StoreError> {
        self.store.verify(name, password).await
    }

    /// Where the notes of logins are written.
    pub(crate) fn store(&self) -> &dyn UserStore {
        self.store.as_ref()
    }

    /// Whether the user may (within [`FRESH_FOR`]) be here with `version` and `peer`.
    pub(crate) async fn current(
        &self,
        name: &str,
        with: (CredentialVersion, Option<&PeerName>),
        now: Instant,
    ) -> Result<Standing, StoreError> {
        self.current_within(FRESH_FOR, name, with, now).await
    }

    /// Like [`current`](Self::current), from the cache only. `None` if it has no fresh answer.
    pub(crate) fn known(
        &self,
        name: &str,
        (version, peer): (CredentialVersion, Option<&PeerName>),
        now: Instant,
    ) -> Option<Standing> {
        Some(self.answer_within(FRESH_FOR, name, now)?.of(version, peer))
    }

    /// Like [`current`](Self::current), with an answer that is at most `fresh_for` old.
    pub(crate) async fn current_within(
        &self,
        fresh_for: Duration,
        name: &str,
        (version, peer): (CredentialVersion, Option<&PeerName>),
        now: Instant,
    ) -> Result<Standing, StoreError> {
        let answer = match self.answer_within(fresh_for, name, now) {
            Some(answer) => answer,
            None => self.ask(name, now).await?,
        };
        Ok(answer.of(version, peer))
    }

    fn answer_within(&self, fresh_for: Duration, name: &str, now: Instant) -> Option<Answer> {
        self.answers().get(name).filter(|answer| now < answer.asked_at + fresh_for).cloned()
    }

    async fn ask(&self, name: &str, now: Instant) -> Result<Answer, StoreError> {
        let user = match Username::parse_existing(name) {
            Ok(username) => self.store.current(&username).await?,
            Err(_) => None,
        };
        let answer = Answer { name: name.into(), user, asked_at: now };
        let mut answers = self.answers();
        if answers.len() >= KEPT_MAX {
            answers.clear();
        }
        answers.insert(name.to_owned(), answer.clone());
        Ok(answer)
    }

    fn answers(&self) -> MutexGuard<'_, HashMap<String, Answer>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

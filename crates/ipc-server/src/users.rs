//! Checks that a session's user still has the credentials of its login. Asks the store at most
//! twice a second for each user.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ipc_store::{CredentialVersion, CurrentUser, PeerName, StoreError, UserStore, Username};

/// For how long an answer of the store is used: a removed user or a changed password ends its
/// sessions within a second.
const FRESH_FOR: Duration = Duration::from_millis(500);

/// How many answers are cached. At the limit those that are no use in an outage are dropped, and if
/// there are none, all.
const KEPT_MAX: usize = 10_000;

/// The default of [`ServerBuilder::users_outage_max`](crate::ServerBuilder::users_outage_max).
pub(crate) const OUTAGE_MAX: Duration = Duration::from_secs(120);

/// The user store with a cache of its last answers.
pub(crate) struct Users {
    store: Arc<dyn UserStore>,
    /// For how long an answer is used while the store cannot be reached.
    outage_max: Duration,
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
    pub(crate) fn new(store: Arc<dyn UserStore>, outage_max: Duration) -> Self {
        Users { store, outage_max, answers: Mutex::default() }
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

    /// Like [`current`](Self::current), with an answer that is at most `fresh_for` old. While the
    /// store cannot be reached, what it said last of a user counts for `outage_max`, except for
    /// `fresh_for` zero, which asks for a login.
    pub(crate) async fn current_within(
        &self,
        fresh_for: Duration,
        name: &str,
        (version, peer): (CredentialVersion, Option<&PeerName>),
        now: Instant,
    ) -> Result<Standing, StoreError> {
        let answer = match self.answer_within(fresh_for, name, now) {
            Some(answer) => answer,
            None => match self.ask(name, now).await {
                Err(StoreError::Unavailable { source }) => {
                    let known = (!fresh_for.is_zero())
                        .then(|| self.answer_within(self.outage_max, name, now))
                        .flatten();
                    known.ok_or(StoreError::Unavailable { source })?
                }
                answer => answer?,
            },
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
            answers.retain(|_, answer| now < answer.asked_at + self.outage_max);
            if answers.len() >= KEPT_MAX {
                answers.clear();
            }
        }
        answers.insert(name.to_owned(), answer.clone());
        Ok(answer)
    }

    fn answers(&self) -> MutexGuard<'_, HashMap<String, Answer>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use ipc_store::BoxFuture;

    use super::*;

    /// One user, and a switch that makes the store unreachable.
    #[derive(Default)]
    struct Switched {
        is_down: AtomicBool,
        is_deleted: AtomicBool,
    }

    const VERSION: CredentialVersion = CredentialVersion::from_bytes([7; 8]);

    impl UserStore for Switched {
        fn verify<'a>(
            &'a self,
            _: &'a str,
            _: &'a str,
        ) -> BoxFuture<'a, Result<Option<CredentialVersion>, StoreError>> {
            unreachable!("nobody logs in here")
        }

        fn current<'a>(
            &'a self,
            _: &'a Username,
        ) -> BoxFuture<'a, Result<Option<CurrentUser>, StoreError>> {
            Box::pin(async {
                match self.is_down.load(Ordering::Relaxed) {
                    true => Err(StoreError::Unavailable { source: "down".into() }),
                    false if self.is_deleted.load(Ordering::Relaxed) => Ok(None),
                    false => Ok(Some(CurrentUser::new(VERSION))),
                }
            })
        }
    }

    #[tokio::test]
    async fn while_the_store_cannot_be_reached_a_known_user_stays_for_the_documented_time_only() {
        let store = Arc::new(Switched::default());
        let users = Users::new(store.clone(), OUTAGE_MAX);
        let start = Instant::now();
        let at = |after| users.current("ada", (VERSION, None), start + after);
        assert!(matches!(at(Duration::ZERO).await, Ok(Standing::Good(_))));
        store.is_down.store(true, Ordering::Relaxed);
        store.is_deleted.store(true, Ordering::Relaxed);
        let last = OUTAGE_MAX - Duration::from_millis(1);
        assert!(matches!(at(last).await, Ok(Standing::Good(_))));
        // Neither another password, nor somebody who was never asked for, nor a login.
        let other = (CredentialVersion::from_bytes([8; 8]), None);
        assert!(matches!(users.current("ada", other, start + last).await, Ok(Standing::Ended)));
        let unavailable = |standing| matches!(standing, Err(StoreError::Unavailable { .. }));
        assert!(unavailable(users.current("bob", (VERSION, None), start).await));
        let login = users.current_within(Duration::ZERO, "ada", (VERSION, None), start + last);
        assert!(unavailable(login.await));
        assert!(unavailable(at(OUTAGE_MAX).await));
        // It is back, and the user was deleted meanwhile.
        store.is_down.store(false, Ordering::Relaxed);
        assert!(matches!(at(OUTAGE_MAX).await, Ok(Standing::Ended)));
    }
}

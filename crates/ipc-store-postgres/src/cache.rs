//! What is known of users, and how long ago the database said that it still holds.
//!
//! The database has a token that is another one after each change of what any user may do. One
//! answer with the known token confirms what is known of all users, so that a server with thousands
//! of them asks a few times a second.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use ipc_store::CurrentUser;

/// How many users are kept. At the limit all are forgotten and asked for again.
const KEPT_MAX: usize = 20_000;

/// The users of one token.
#[derive(Default)]
pub(crate) struct Cache {
    token: String,
    /// Before it was asked for the last time: its answer is of later.
    confirmed_at: Option<Instant>,
    users: HashMap<String, Option<CurrentUser>>,
}

impl Cache {
    /// Whether all that is known was confirmed within `fresh_for`.
    pub(crate) fn is_fresh(&self, fresh_for: Duration, now: Instant) -> bool {
        self.confirmed_at.is_some_and(|at| now.saturating_duration_since(at) < fresh_for)
    }

    /// The user, if known.
    pub(crate) fn user(&self, name: &str) -> Option<&Option<CurrentUser>> {
        self.users.get(name)
    }

    /// Takes an answer to a question that was asked at `asked_at`.
    pub(crate) fn take(
        &mut self,
        token: String,
        asked_at: Instant,
        name: String,
        user: Option<CurrentUser>,
    ) {
        if token == self.token {
            self.confirmed_at = self.confirmed_at.max(Some(asked_at));
        } else {
            // Answers may come in another order than they were asked for: an older token is right
            // as of then.
            *self = Self { token, confirmed_at: Some(asked_at), users: HashMap::new() };
        }
        if self.users.len() >= KEPT_MAX {
            self.users.clear();
        }
        self.users.insert(name, user);
    }

    /// Makes the next question go to the database: something was changed here.
    pub(crate) fn doubt(&mut self) {
        self.confirmed_at = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_with_the_same_token_confirms_all_users_and_another_token_forgets_them() {
        let (start, fresh) = (Instant::now(), Duration::from_millis(250));
        let mut cache = Cache::default();
        assert!(!cache.is_fresh(fresh, start));
        cache.take("t1".into(), start, "ada".into(), None);
        let later = start + fresh;
        assert!(cache.is_fresh(fresh, start) && !cache.is_fresh(fresh, later));
        cache.take("t1".into(), later, "bob".into(), None);
        assert!(cache.is_fresh(fresh, later));
        assert!(cache.user("ada").is_some() && cache.user("bob").is_some());
        cache.take("t2".into(), later, "bob".into(), None);
        assert!(cache.user("ada").is_none() && cache.user("bob").is_some());
        cache.doubt();
        assert!(!cache.is_fresh(fresh, later));
    }

    #[test]
    fn an_answer_that_was_asked_for_long_ago_does_not_make_anything_fresh() {
        let (start, fresh) = (Instant::now(), Duration::from_millis(250));
        let late = start + fresh * 2;
        let mut cache = Cache::default();
        cache.take("t2".into(), late, "ada".into(), None);
        cache.take("t1".into(), start, "bob".into(), None);
        assert!(!cache.is_fresh(fresh, late), "what it knows is of the older token");
    }
}

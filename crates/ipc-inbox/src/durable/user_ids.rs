//! Counts the ids of each user that the file remembers, so that one user leaves room to others.
//!
//! The writer keeps the counts beside the file; `admission.rs` asks whether a user may have one
//! more. Nothing here touches the file.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::quality::RandomState;

/// A number of ids for each user.
pub(super) type IdsOfEach = HashMap<Arc<str>, u64, RandomState>;

/// The ids in the file.
#[derive(Debug)]
pub(super) struct UserIds {
    of_each: IdsOfEach,
    /// How many a user may have.
    max: u64,
}

impl UserIds {
    pub(super) fn new(of_each: IdsOfEach, max: u64) -> Self {
        UserIds { of_each, max }
    }

    /// The ids of all users.
    pub(super) fn total(&self) -> u64 {
        self.of_each.values().sum()
    }

    pub(super) fn add(&mut self, user: &Arc<str>) {
        *self.of_each.entry(Arc::clone(user)).or_default() += 1;
    }

    /// Takes away ids that were forgotten.
    pub(super) fn forget(&mut self, forgotten: &IdsOfEach) {
        for (user, ids) in forgotten {
            if let Some(left) = self.of_each.get_mut(user) {
                *left = left.saturating_sub(*ids);
                if *left == 0 {
                    self.of_each.remove(user);
                }
            }
        }
    }

    /// Whether a user has as many as one may have.
    pub(super) fn is_full(&self, user: &str) -> bool {
        self.left(user) == 0
    }

    /// Whether any user has as many as one may have.
    pub(super) fn is_any_full(&self) -> bool {
        self.of_each.values().any(|ids| *ids >= self.max)
    }

    /// How many more ids of a user may be remembered.
    pub(super) fn left(&self, user: &str) -> u64 {
        self.max.saturating_sub(self.of_each.get(user).copied().unwrap_or(0))
    }
}

/// What users may still have, with what was given away since.
#[derive(Debug)]
pub(super) struct UserRoom<'a> {
    stored: &'a UserIds,
    taken: IdsOfEach,
}

impl<'a> UserRoom<'a> {
    pub(super) fn new(stored: &'a UserIds) -> Self {
        UserRoom { stored, taken: IdsOfEach::default() }
    }

    pub(super) fn is_full(&self, user: &str) -> bool {
        self.taken.get(user).copied().unwrap_or(0) >= self.stored.left(user)
    }

    pub(super) fn take(&mut self, user: &Arc<str>) {
        *self.taken.entry(Arc::clone(user)).or_default() += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_has_room_until_its_own_limit_and_gets_it_back() {
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        let mut ids = UserIds::new(IdsOfEach::from_iter([(Arc::clone(&a), 2)]), 3);
        let mut room = UserRoom::new(&ids);
        assert!(!room.is_full("a"));
        room.take(&a);
        assert!(room.is_full("a") && !room.is_full("b"));
        ids.add(&a);
        ids.add(&b);
        assert!(ids.is_full("a") && !ids.is_full("b") && ids.is_any_full());
        assert_eq!(ids.total(), 4);
        ids.forget(&IdsOfEach::from_iter([(a, 1), (b, 9), ("c".into(), 1)]));
        assert!(!ids.is_full("a") && !ids.is_any_full());
        assert_eq!((ids.total(), ids.of_each.len()), (2, 1), "a user without ids is not kept");
    }
}

//! Remembers whose each message of the Python tool was, so that the same bytes do not become a
//! message of a second user. The time is an argument.
//!
//! The inbox tells duplicates of one user. But a peer that runs the tool is whoever logged in last
//! from its address, and may send bytes again that it sent for the user before. `python` comes here
//! with each message.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use ipc_protocol::MessageId;

use crate::recent_ids::{Full, RecentIds};

/// How many ids are kept at most for one [`REMEMBERED`](crate::recent_ids::REMEMBERED), and as many
/// of the one before: 3,300 messages a second. Each takes some 50 bytes.
const KEPT_MAX: usize = 400_000;

/// The ids of the last minutes, with their users.
#[derive(Debug, Default)]
pub(crate) struct PythonIds {
    /// Of a user the hash is kept, under a key that nobody knows.
    hasher: RandomState,
    ids: Mutex<RecentIds<u64>>,
}

/// Why a message is refused before it is put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotOwn {
    /// Another user sent the same bytes before.
    OfAnother,
    /// The limit of remembered ids is reached.
    Full,
}

impl PythonIds {
    /// Remembers a message of this user. The same user may send it again.
    ///
    /// # Errors
    /// If another user sent it before, or the limit is reached.
    pub(crate) fn remember(&self, id: MessageId, user: &str, now: Instant) -> Result<(), NotOwn> {
        let user = self.hasher.hash_one(user);
        let mut ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
        match ids.remember(id, user, KEPT_MAX, now) {
            Ok(Some(sender)) if sender != user => Err(NotOwn::OfAnother),
            Ok(_) => Ok(()),
            Err(Full) => Err(NotOwn::Full),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::recent_ids::REMEMBERED;

    fn id(number: u32) -> MessageId {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        MessageId::from_random(bytes)
    }

    #[test]
    fn a_message_is_its_first_users_for_as_long_as_its_envelope_may_be_opened() {
        let (ids, start) = (PythonIds::default(), Instant::now());
        for wait in [0, 60, 119, 121] {
            let (first, second) =
                (start + Duration::from_secs(wait), start + Duration::from_secs(wait + 120));
            let id = id(u32::try_from(wait).unwrap());
            assert_eq!(ids.remember(id, "a", first), Ok(()));
            assert_eq!(ids.remember(id, "b", second), Err(NotOwn::OfAnother), "{wait}");
            assert_eq!(ids.remember(id, "a", second), Ok(()), "{wait}");
        }
    }

    #[test]
    fn what_is_long_ago_is_forgotten_and_no_more_are_kept_than_may_be() {
        let (ids, start) = (PythonIds::default(), Instant::now());
        for number in 0..u32::try_from(KEPT_MAX).unwrap() {
            assert_eq!(ids.remember(id(number), "a", start), Ok(()));
        }
        assert_eq!(ids.remember(id(u32::MAX), "a", start), Err(NotOwn::Full));
        assert_eq!(ids.remember(id(7), "a", start), Ok(()), "it is known");
        assert_eq!(ids.remember(id(u32::MAX), "a", start + REMEMBERED), Ok(()));
        assert_eq!(ids.remember(id(7), "b", start + 3 * REMEMBERED), Ok(()));
        assert_eq!(ids.ids.lock().unwrap().kept(), 1);
    }
}

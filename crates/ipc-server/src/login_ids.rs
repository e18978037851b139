//! Remembers the ids of logins that were tried, so that a captured login cannot be replayed. The
//! time is an argument.
//!
//! `routes` comes here with each login before the password is checked.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use ipc_protocol::MessageId;

use crate::recent_ids::{Full, RecentIds};

/// How many ids are kept at most for one [`REMEMBERED`](crate::recent_ids::REMEMBERED). Each of
/// them costs a bcrypt, and a core computes some four a second.
const KEPT_MAX: usize = 100_000;

/// The ids of the last minutes.
#[derive(Debug, Default)]
pub(crate) struct LoginIds(Mutex<RecentIds<()>>);

/// Why a login is refused before its password is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotNew {
    /// Its id was used before.
    Known,
    /// The limit of remembered ids is reached.
    Full,
}

impl LoginIds {
    /// Remembers the id of a login that is about to be tried.
    ///
    /// # Errors
    /// If the id was used before, or the limit is reached.
    pub(crate) fn remember(&self, id: MessageId, now: Instant) -> Result<(), NotNew> {
        let mut ids = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match ids.remember(id, (), KEPT_MAX, now) {
            Ok(None) => Ok(()),
            Ok(Some(())) => Err(NotNew::Known),
            Err(Full) => Err(NotNew::Full),
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
    fn an_id_is_known_for_as_long_as_its_envelope_may_be_opened() {
        let (ids, start) = (LoginIds::default(), Instant::now());
        assert_eq!(ids.remember(id(0), start), Ok(()));
        for wait in [0, 60, 119, 121] {
            // This must hold wherever the time falls within the periods.
            let (first, second) =
                (start + Duration::from_secs(wait), start + Duration::from_secs(wait + 120));
            let id = id(u32::try_from(wait).unwrap() + 1);
            assert_eq!(ids.remember(id, first), Ok(()));
            assert_eq!(ids.remember(id, second), Err(NotNew::Known), "{wait}");
        }
    }

    #[test]
    fn what_is_long_ago_is_forgotten_and_no_more_are_kept_than_may_be() {
        let (ids, start) = (LoginIds::default(), Instant::now());
        for number in 0..u32::try_from(KEPT_MAX).unwrap() {
            assert_eq!(ids.remember(id(number), start), Ok(()));
        }
        assert_eq!(ids.remember(id(u32::MAX), start), Err(NotNew::Full));
        assert_eq!(ids.remember(id(7), start), Err(NotNew::Known));
        assert_eq!(ids.remember(id(u32::MAX), start + REMEMBERED), Ok(()));
        assert_eq!(ids.remember(id(7), start + 3 * REMEMBERED), Ok(()));
        assert_eq!(ids.0.lock().unwrap().kept(), 1);
    }
}

//! Remembers ids for as long as an envelope can be opened, with a value for each. The time is an
//! argument.
//!
//! `login_ids` and `python_ids` come here. Ids are kept in two periods of the same length, so that
//! forgetting costs no search.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use ipc_envelope::{AGE_SECS_MAX_DEFAULT, AHEAD_SECS_MAX_DEFAULT};
use ipc_protocol::MessageId;

/// For how long an envelope can be opened again after it was opened once. It may have been sealed
/// ahead of this host's clock.
pub(crate) const REMEMBERED: Duration =
    Duration::from_secs(AGE_SECS_MAX_DEFAULT + AHEAD_SECS_MAX_DEFAULT + 1);

/// The ids of the last minutes.
#[derive(Debug)]
pub(crate) struct RecentIds<V> {
    /// When `recent` began to be filled.
    began: Option<Instant>,
    recent: HashMap<MessageId, V>,
    /// The ids of the period before, which was as long.
    earlier: HashMap<MessageId, V>,
}

impl<V> Default for RecentIds<V> {
    fn default() -> Self {
        RecentIds { began: None, recent: HashMap::new(), earlier: HashMap::new() }
    }
}

/// As many ids are remembered as may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full;

impl<V: Copy> RecentIds<V> {
    /// The value under which an id is known. An id that is not known gets this one, and the answer
    /// is `None`. No more than `kept_max` ids come in one [`REMEMBERED`].
    ///
    /// # Errors
    /// [`Full`] for a further id beyond that.
    pub(crate) fn remember(
        &mut self,
        id: MessageId,
        value: V,
        kept_max: usize,
        now: Instant,
    ) -> Result<Option<V>, Full> {
        let age = now.saturating_duration_since(*self.began.get_or_insert(now));
        if age >= REMEMBERED {
            let recent = std::mem::take(&mut self.recent);
            self.earlier = if age >= 2 * REMEMBERED { HashMap::new() } else { recent };
            self.began = Some(now);
        }
        if let Some(known) = self.recent.get(&id).or_else(|| self.earlier.get(&id)) {
            return Ok(Some(*known));
        }
        if self.recent.len() >= kept_max {
            return Err(Full);
        }
        self.recent.insert(id, value);
        Ok(None)
    }

    /// How many ids take memory.
    #[cfg(test)]
    pub(crate) fn kept(&self) -> usize {
        self.recent.len() + self.earlier.len()
    }
}

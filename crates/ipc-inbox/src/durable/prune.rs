//! Forgets old ids and replies.
//!
//! The writer calls this code once a minute, and when there are too many.

use std::time::{Duration, SystemTime};

use ipc_sqlite::DatabaseError;
use tokio::time::Instant;

use super::options::REMEMBERED_MIN;
use super::statements;
use super::user_ids::IdsOfEach;
use super::writer::Writer;

/// How many ids, and how many replies, one commit forgets at most.
const PRUNED_MAX: u64 = 10_000;

impl Writer {
    /// Forgets what is old, a part at a time, so that no other command waits long for the file.
    pub(super) fn prune(&mut self) -> Result<(), DatabaseError> {
        let now = SystemTime::now();
        let due = before(now, self.options.remembered_for);
        // Goes below the limit by a quarter, so that the next messages do not each search for the
        // oldest id again.
        let left_over = self.options.remembered_ids_max / 4 * 3;
        let too_many = match self.user_ids.is_any_full() {
            true => PRUNED_MAX,
            false => PRUNED_MAX.min(self.remembered.saturating_sub(left_over)),
        };
        let reply_bytes_max = self.options.replies_bytes_max;
        let too_long = match self.reply_bytes > reply_bytes_max {
            true => self.reply_bytes - reply_bytes_max / 4 * 3,
            false => 0,
        };
        let (ids, replies) = self.database.write(|file| {
            let mut ids = statements::forget_ids(file, due, PRUNED_MAX)?;
            if ids.is_empty() && too_many > 0 {
                ids = statements::forget_ids(file, before(now, REMEMBERED_MIN), too_many)?;
            }
            Ok((ids, statements::forget_replies(file, due, too_long, PRUNED_MAX)?))
        })?;
        self.reply_bytes = self.reply_bytes.saturating_sub(replies.bytes);
        self.user_ids.forget(&ids);
        let ids = count(&ids);
        self.remembered = self.remembered.saturating_sub(ids);
        if ids >= PRUNED_MAX || replies.count >= PRUNED_MAX {
            self.prune_at = Instant::now();
        }
        Ok(())
    }
}

fn count(ids: &IdsOfEach) -> u64 {
    ids.values().sum()
}

/// The earliest time of acceptance that is still remembered for `time`.
fn before(now: SystemTime, time: Duration) -> SystemTime {
    now.checked_sub(time).unwrap_or(SystemTime::UNIX_EPOCH)
}

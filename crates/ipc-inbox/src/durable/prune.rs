//! Forgets ids and replies that are old.
//!
//! The writer comes here once in a while, and when there are too many of them.

use std::time::{Duration, SystemTime};

use ipc_sqlite::DatabaseError;
use tokio::time::Instant;

use super::options::REMEMBERED_MIN;
use super::statements;
use super::writer::Writer;

/// Ids, and replies, that are forgotten in one commit at most.
const PRUNED_MAX: u64 = 10_000;

impl Writer {
    /// Forgets what is old, a part at a time, so that nobody waits long for the file meanwhile.
    pub(super) fn prune(&mut self) -> Result<(), DatabaseError> {
        let now = SystemTime::now();
        let due = before(now, self.options.remembered_for);
        // Further than need be, so that not every message from here on makes one more look at the
        // oldest.
        let left_over = self.options.remembered_ids_max / 4 * 3;
        let too_many = PRUNED_MAX.min(self.remembered.saturating_sub(left_over));
        let reply_bytes_max = self.options.replies_bytes_max;
        let too_long = match self.reply_bytes > reply_bytes_max {
            true => self.reply_bytes - reply_bytes_max / 4 * 3,
            false => 0,
        };
        let (ids, replies) = self.database.write(|file| {
            let mut ids = statements::forget_ids(file, due, PRUNED_MAX)?;
            if ids == 0 && too_many > 0 {
                ids = statements::forget_ids(file, before(now, REMEMBERED_MIN), too_many)?;
            }
            Ok((ids, statements::forget_replies(file, due, too_long, PRUNED_MAX)?))
        })?;
        self.reply_bytes = self.reply_bytes.saturating_sub(replies.bytes);
        self.remembered = self.remembered.saturating_sub(ids);
        if ids >= PRUNED_MAX || replies.count >= PRUNED_MAX {
            self.prune_at = Instant::now();
        }
        Ok(())
    }
}

/// When an id was accepted at the earliest that is still remembered after such a time.
fn before(now: SystemTime, time: Duration) -> SystemTime {
    now.checked_sub(time).unwrap_or(SystemTime::UNIX_EPOCH)
}

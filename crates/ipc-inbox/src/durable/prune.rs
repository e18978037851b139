//! Forgets ids and replies that are old.
//!
//! The writer comes here once in a while, and when there are too many of them.

use std::time::SystemTime;

use ipc_sqlite::DatabaseError;
use tokio::time::Instant;

use super::writer::Writer;
use super::{REMEMBERED_MIN, remembered_since, tables};

/// Ids that are forgotten in one commit at most.
const PRUNED_MAX: u64 = 10_000;

impl Writer {
    /// Forgets what is old, a part at a time, so that nobody waits long for the file meanwhile.
    pub(super) async fn prune(&mut self) -> Result<(), DatabaseError> {
        let now = SystemTime::now();
        let failed = |error| self.database.error(error);
        let mut transaction = self.begin().await?;
        let due = remembered_since(now, self.options.remembered_for);
        // Further than need be, so that not every message from here on makes one more look at the oldest.
        let left_over = self.options.remembered_ids_max / 4 * 3;
        let retried = remembered_since(now, REMEMBERED_MIN);
        let mut forgotten = tables::forget_ids(&mut transaction, due, PRUNED_MAX).await.map_err(failed)?;
        if forgotten == 0 && self.remembered > left_over {
            let count = PRUNED_MAX.min(self.remembered - left_over);
            forgotten = tables::forget_ids(&mut transaction, retried, count).await.map_err(failed)?;
        }
        let bytes_max = self.options.replies_bytes_max / 4 * 3;
        let left = tables::forget_replies(&mut transaction, due, bytes_max).await.map_err(failed)?;
        self.commit(transaction).await?;
        self.reply_bytes = left;
        self.remembered = self.remembered.saturating_sub(forgotten);
        if forgotten >= PRUNED_MAX {
            self.prune_at = Instant::now();
        }
        Ok(())
    }
}

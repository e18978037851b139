//! Moves messages from the file to takers: the file marks each message as delivered before a taker
//! gets it, and some messages ahead of that.
//!
//! The writer calls this code after each commit. `queue.rs` decides which messages are next.

use ipc_sqlite::DatabaseError;
use tokio::time::Instant;

use super::queue::Next;
use super::statements::{self, Marked};
use super::writer::Writer;

impl Writer {
    /// Gives messages to takers as long as there are both. The file marks a message first, a few
    /// ahead, so that a message that was delivered before a crash is delivered again as a
    /// redelivery.
    pub(super) fn hand_out(&mut self) -> Result<(), DatabaseError> {
        loop {
            self.queue.give(Instant::now());
            if !self.queue.has_takers() || !self.queue.has_waiting() {
                break;
            }
            if !self.mark_wanted()? {
                // The last taker has just gone.
                break;
            }
        }
        if !self.queue.has_waiting() {
            self.end_takers_if_closed();
        }
        if self.options.max_deliveries == 1 {
            // These were marked for a taker that has gone. A crash would use up their only attempt,
            // though no taker has seen them.
            self.unmark_prefetched()?;
        }
        Ok(())
    }

    /// Tells takers that no more messages come. If the file cannot be written, the messages stay in
    /// it.
    pub(super) fn end_takers_if_closed(&mut self) {
        if !self.is_open {
            self.queue.end_takers();
        }
    }

    /// Marks and reads the next messages that takers wait for. `false` if no taker waits.
    fn mark_wanted(&mut self) -> Result<bool, DatabaseError> {
        let Some(next) = self.queue.next_wanted() else { return Ok(false) };
        let marked = self.database.write(|file| next.mark(file, self.options.max_deliveries))?;
        self.take_up(Some((next, marked)));
        Ok(true)
    }

    /// Takes note of messages that were marked.
    pub(super) fn take_up(&mut self, marked: Option<(Next, Marked)>) {
        let Some((next, Marked { seqs, ready, dead })) = marked else { return };
        self.tell_of_dead(&dead);
        match next {
            Next::Redelivery { seqs } => self.queue.marked_redelivery(&seqs, ready.into_iter()),
            Next::Backlog { after, .. } => {
                let last = seqs.last().copied().unwrap_or(after);
                self.queue.marked(seqs.len(), last, ready.into_iter());
            }
        }
    }

    /// Unmarks messages that no taker got: they were not delivered.
    pub(super) fn unmark_prefetched(&mut self) -> Result<(), DatabaseError> {
        let seqs = self.queue.unused();
        if seqs.is_empty() {
            return Ok(());
        }
        self.database.write(|file| statements::unmark(file, &seqs))?;
        self.queue.requeue_unused();
        Ok(())
    }
}

impl Next {
    /// Marks the messages as delivered and reads them.
    pub(super) fn mark(
        &self,
        file: &rusqlite::Connection,
        max_deliveries: u32,
    ) -> rusqlite::Result<Marked> {
        match self {
            Next::Redelivery { seqs } => statements::mark_redelivered(file, seqs, max_deliveries),
            Next::Backlog { after, count, bytes } => {
                statements::mark_next(file, *after, *count, *bytes, max_deliveries)
            }
        }
    }
}

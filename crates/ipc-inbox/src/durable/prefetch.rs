//! Messages on their way from the file to whoever takes them: marked as handed out first, some of
//! them ahead.
//!
//! The writer comes here behind each commit. Which are next, `queue.rs` decides.

use ipc_sqlite::DatabaseError;
use tokio::time::Instant;

use super::queue::Next;
use super::statements::{self, Marked};
use super::writer::Writer;

impl Writer {
    /// Gives those who wait for a message one, as long as there are both. What is given is marked
    /// in the file first, a few ahead, so that a message which was handed out before a crash comes
    /// again as one that was.
    pub(super) fn hand_out(&mut self) -> Result<(), DatabaseError> {
        loop {
            self.queue.give(Instant::now());
            if !self.queue.has_takers() || !self.queue.has_waiting() {
                break;
            }
            if !self.mark_wanted()? {
                // Whoever waited has just gone.
                break;
            }
        }
        if !self.queue.has_waiting() {
            self.end_takers_if_closed();
        }
        if self.options.max_deliveries == 1 {
            // What was marked for somebody who has gone: a crash would be the end of it, and nobody
            // has seen it.
            self.unmark_prefetched()?;
        }
        Ok(())
    }

    /// Tells those who wait that nothing comes any more. What is left, if the file cannot be
    /// written, stays in it.
    pub(super) fn end_takers_if_closed(&mut self) {
        if !self.is_open {
            self.queue.end_takers();
        }
    }

    /// Marks and reads the next messages that are wanted. `false` if none are.
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

    /// Marked, but never taken: that was no try.
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
    /// Marks them as handed out and reads them.
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

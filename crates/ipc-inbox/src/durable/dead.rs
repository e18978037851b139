//! Dead letters: which messages become one, how they are listed, requeued and discarded, and who is
//! told.
//!
//! The writer calls this code after a message's last delivery, and for the application's commands
//! about dead letters.

use ipc_sqlite::DatabaseError;
use tokio::time::Instant;

use super::dead_letter_rows::{self, seq_of};
use super::statements::{self, Key};
use super::writer::Writer;
use crate::backend::{AckError, NoReply};
use crate::dead_letter::{DeadLetter, DeadLetterId};

impl Writer {
    /// Marks messages as dead whose last delivery ended without an acknowledgement.
    pub(super) fn bury_exhausted(&mut self) -> Result<(), DatabaseError> {
        if self.queue.exhausted().is_empty() {
            return Ok(());
        }
        self.bury(Some(self.queue.exhausted()))?;
        self.queue.exhausted_are_dead();
        Ok(())
    }

    /// Marks messages as dead that were delivered as often as allowed: those with these numbers, or
    /// all in the file. Returns how many it marked.
    pub(super) fn bury(&self, seqs: Option<&[i64]>) -> Result<u64, DatabaseError> {
        let max_deliveries = self.options.max_deliveries;
        let buried = self.database.write(|file| statements::bury(file, seqs, max_deliveries))?;
        self.tell_of_dead(&buried);
        Ok(buried.len() as u64)
    }

    /// Logs that messages have become dead letters, and tells senders that wait for a reply.
    pub(super) fn tell_of_dead(&self, dead: &[Key]) {
        let (messages, are) = match dead.len() {
            0 => return,
            1 => ("1 message".to_owned(), "is a dead letter"),
            count => (format!("{count} messages"), "are dead letters"),
        };
        let times = match self.options.max_deliveries {
            1 => "once".to_owned(),
            tries => format!("{tries} times"),
        };
        log::warn!("{messages} delivered {times} without an acknowledgement {are} now");
        for (user, id) in dead {
            self.replies.end_wait(user, *id, NoReply::NotGiven);
        }
    }

    /// Makes a message a dead letter because the application rejects it.
    pub(super) fn reject(&mut self, lease: u64, reason: &str) -> Result<(), AckError> {
        let live = self.queue.live(lease, Instant::now()).ok_or(AckError::TooLate)?;
        let rejected = self.database.write(|file| statements::reject(file, live.seq, reason));
        let rejected = rejected.map_err(|error| {
            self.report(&error);
            AckError::Storage { source: error.into() }
        })?;
        self.queue.ack(lease);
        log::warn!("a message was rejected and is a dead letter now: {reason:?}");
        if let Some((user, id)) = rejected {
            self.replies.end_wait(&user, id, NoReply::NotGiven);
        }
        Ok(())
    }

    pub(super) async fn dead_letters(
        &self,
        after: Option<DeadLetterId>,
        count_max: usize,
    ) -> Result<Vec<DeadLetter>, DatabaseError> {
        self.database.check_file()?;
        let failed = |error| self.database.error(error);
        let mut reader = self.database.readers().acquire().await.map_err(failed)?;
        dead_letter_rows::read(&mut reader, after, count_max).await.map_err(failed)
    }

    pub(super) fn requeue(&mut self, ids: &[DeadLetterId]) -> Result<usize, DatabaseError> {
        let seqs: Vec<i64> = ids.iter().copied().map(seq_of).collect();
        let requeued = self.database.write(|file| statements::requeue(file, &seqs))?;
        for one in &requeued {
            self.queue.requeue(one.seq, one.bytes);
            if let Some((user, id)) = &one.request {
                self.replies.expect(user, *id);
            }
        }
        Ok(requeued.len())
    }

    pub(super) fn discard(&mut self, ids: &[DeadLetterId]) -> Result<usize, DatabaseError> {
        let seqs: Vec<i64> = ids.iter().copied().map(seq_of).collect();
        let lengths = self.database.write(|file| statements::discard(file, &seqs))?;
        self.messages = self.messages.saturating_sub(lengths.len() as u64);
        self.bytes = self.bytes.saturating_sub(lengths.iter().sum());
        Ok(lengths.len())
    }
}

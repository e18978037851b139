//! Dead letters: which messages become some, what is done with them, and who is told.
//!
//! The writer comes here at the end of a message's last try, and with what the application asks of
//! dead letters.

use ipc_sqlite::DatabaseError;

use super::dead_letter::{self, DeadLetter, seq_of};
use super::statements::{self, Key};
use super::writer::Writer;
use crate::backend::NoReply;

impl Writer {
    /// Marks those as dead that had their last try in vain.
    pub(super) fn bury_spent(&mut self) -> Result<(), DatabaseError> {
        if self.queue.spent().is_empty() {
            return Ok(());
        }
        self.bury(Some(self.queue.spent()))?;
        self.queue.spent_are_dead();
        Ok(())
    }

    /// Marks messages as dead that were handed out as often as they may be: those of these numbers,
    /// or all in the file. Returns how many there were.
    pub(super) fn bury(&self, seqs: Option<&[i64]>) -> Result<u64, DatabaseError> {
        let tries_max = self.options.tries_max;
        let buried = self.database.write(|file| statements::bury(file, seqs, tries_max))?;
        self.tell_of_dead(&buried);
        Ok(buried.len() as u64)
    }

    /// Tells the log, and whoever waits for a reply to one: there will be none.
    pub(super) fn tell_of_dead(&self, dead: &[Key]) {
        let (messages, are) = match dead.len() {
            0 => return,
            1 => ("1 message".to_owned(), "is a dead letter"),
            count => (format!("{count} messages"), "are dead letters"),
        };
        let times = match self.options.tries_max {
            1 => "once".to_owned(),
            tries => format!("{tries} times"),
        };
        log::warn!("{messages} handed out {times} without an acknowledgement {are} now");
        for (user, id) in dead {
            self.replies.end_wait(user, *id, NoReply::NotGiven);
        }
    }

    pub(super) async fn dead_letters(
        &self,
        after: u64,
        count: u32,
    ) -> Result<Vec<DeadLetter>, DatabaseError> {
        self.database.check_file()?;
        let failed = |error| self.database.error(error);
        let mut reader = self.database.readers().acquire().await.map_err(failed)?;
        dead_letter::read(&mut reader, after, count).await.map_err(failed)
    }

    pub(super) fn put_back(&mut self, numbers: &[u64]) -> Result<usize, DatabaseError> {
        let seqs: Vec<i64> = numbers.iter().copied().map(seq_of).collect();
        let revived = self.database.write(|file| statements::revive(file, &seqs))?;
        for one in &revived {
            self.queue.revive(one.seq, one.bytes);
            if let Some((user, id)) = &one.request {
                self.replies.expect(user, *id);
            }
        }
        Ok(revived.len())
    }

    pub(super) fn discard(&mut self, numbers: &[u64]) -> Result<usize, DatabaseError> {
        let seqs: Vec<i64> = numbers.iter().copied().map(seq_of).collect();
        let lengths = self.database.write(|file| statements::discard(file, &seqs))?;
        self.messages = self.messages.saturating_sub(lengths.len() as u64);
        self.bytes = self.bytes.saturating_sub(lengths.iter().sum());
        Ok(lengths.len())
    }
}

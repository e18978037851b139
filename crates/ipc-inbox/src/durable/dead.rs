//! Dead letters: which messages become some, what is done with them, and who is told.
//!
//! The writer comes here at the end of a message's last try, and with what the application asks of dead letters.

use ipc_sqlite::DatabaseError;

use super::DeadLetter;
use super::tables::{self, Key, Stored};
use super::writer::Writer;
use crate::NoReply;

impl Writer {
    /// Marks those as dead that had their last try in vain.
    pub(super) async fn bury_spent(&mut self) -> Result<(), DatabaseError> {
        if self.queue.spent().is_empty() {
            return Ok(());
        }
        self.bury(Some(self.queue.spent())).await?;
        self.queue.spent_are_dead();
        Ok(())
    }

    /// Marks messages as dead that were handed out as often as they may be: those of these numbers, or all in the file.
    /// Returns how many there were.
    pub(super) async fn bury(&self, seqs: Option<&[i64]>) -> Result<u64, DatabaseError> {
        let mut transaction = self.begin().await?;
        let buried = tables::bury(&mut transaction, seqs, self.options.tries_max).await;
        let buried = buried.map_err(|error| self.database.error(error))?;
        self.commit(transaction).await?;
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
        log::warn!(
            "{messages} handed out {times} without an acknowledgement {are} now; see web-ipc --dead --list"
        );
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
        read(&mut reader, after, count).await.map_err(failed)
    }

    pub(super) async fn put_back(&mut self, numbers: Vec<u64>) -> Result<usize, DatabaseError> {
        let seqs: Vec<i64> = numbers.into_iter().map(seq_of).collect();
        let mut transaction = self.begin().await?;
        let revived = tables::revive(&mut transaction, &seqs).await;
        let revived = revived.map_err(|error| self.database.error(error))?;
        self.commit(transaction).await?;
        let count = revived.len();
        for (seq, bytes) in revived {
            self.queue.revive(seq, bytes);
        }
        Ok(count)
    }

    pub(super) async fn discard(&mut self, numbers: Vec<u64>) -> Result<usize, DatabaseError> {
        let seqs: Vec<i64> = numbers.into_iter().map(seq_of).collect();
        let mut transaction = self.begin().await?;
        let lengths = tables::discard(&mut transaction, &seqs).await;
        let lengths = lengths.map_err(|error| self.database.error(error))?;
        self.commit(transaction).await?;
        self.messages = self.messages.saturating_sub(lengths.len() as u64);
        self.bytes = self.bytes.saturating_sub(lengths.iter().sum());
        Ok(lengths.len())
    }
}

/// The dead letters behind the one with that number, oldest first, no more than `count`.
pub(super) async fn read(
    connection: &mut sqlx::SqliteConnection,
    after: u64,
    count: u32,
) -> Result<Vec<DeadLetter>, sqlx::Error> {
    let letter = |Stored { seq, message, deliveries }| {
        let number = u64::try_from(seq).unwrap_or(0);
        DeadLetter { number, message, deliveries }
    };
    let dead = tables::dead(connection, seq_of(after), count).await?;
    Ok(dead.into_iter().map(letter).collect())
}

fn seq_of(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

//! One commit for everything that waits: new messages for which there is room, acknowledgements,
//! replies, and the marks of the messages that are delivered next.
//!
//! The writer calls this code once a round. `admission.rs` decides which messages are stored. Every
//! answer comes after the commit.

use std::cell::Cell;
use std::time::SystemTime;

use ipc_sqlite::DatabaseError;
use tokio::time::Instant;

use super::admission::{Admission, Available, Waiting, admit};
use super::commands::Acked;
use super::queue::Next;
use super::statements::{self, Accepted, KnownIds, Marked};
use super::user_ids::UserRoom;
use super::writer::{WaitingPut, Writer};
use crate::backend::{Put, PutError};

/// Why a commit failed. With `Failed` it may still be in a file that has been removed.
enum Uncommitted {
    /// An id is remembered already.
    IdsKnown(DatabaseError),
    Failed(DatabaseError),
}

impl Writer {
    /// Stores the messages for which there is room and notes the acknowledgements, in one commit,
    /// and answers the puts.
    pub(super) fn write(&mut self, acked: &[&Acked]) -> Result<(), DatabaseError> {
        self.puts.retain(|put| !put.done.is_closed());
        if !self.is_open {
            self.refuse_all_puts(PutError::Closed);
        }
        if self.puts.is_empty() {
            return self.write_acked_alone(acked);
        }
        let count: usize = self.puts.iter().map(|put| put.messages.len()).sum();
        // Most ids are new, and the insert fails if one is not. In that case, or if there is no
        // room for all messages, the file is asked first: a known message needs neither room nor a
        // write.
        let (mut known, mut is_asked) = (KnownIds::default(), false);
        if self.puts.iter().any(|put| put.has_waited) {
            (known, is_asked) = (self.known_ids()?, true);
        }
        let (accepted, answers, marked) = loop {
            let Admission { accepted, answers } = admit(
                self.puts.iter().map(|put| Waiting { messages: &put.messages, until: put.until }),
                std::mem::take(&mut known),
                self.room(acked),
                self.last_seq + 1,
                self.queue.prefetch(),
                Instant::now(),
            );
            if is_asked || accepted.len() == count {
                match self.commit(acked, &accepted) {
                    Ok(marked) => {
                        break (
                            accepted.iter().map(|one| (one.seq, one.deliveries)).collect(),
                            answers,
                            marked,
                        );
                    }
                    Err(Uncommitted::IdsKnown(_)) if !is_asked => (),
                    Err(Uncommitted::IdsKnown(error) | Uncommitted::Failed(error)) => {
                        return Err(error);
                    }
                }
            }
            (known, is_asked) = (self.known_ids()?, true);
        };
        self.take_in(accepted, answers);
        self.take_up(marked);
        Ok(())
    }

    /// Notes the acknowledgements in one commit.
    pub(super) fn write_acked_alone(&mut self, acked: &[&Acked]) -> Result<(), DatabaseError> {
        if acked.is_empty() {
            return Ok(());
        }
        self.stored_at = None;
        match self.commit(acked, &[]) {
            Ok(marked) => self.take_up(marked),
            Err(Uncommitted::IdsKnown(error) | Uncommitted::Failed(error)) => return Err(error),
        }
        Ok(())
    }

    /// Asks the file which ids of the waiting messages it knows.
    fn known_ids(&self) -> Result<KnownIds, DatabaseError> {
        let keys = self.puts.iter().flat_map(|put| &put.messages).map(statements::key_of);
        self.database.read(|file| statements::remembered(file, keys))
    }

    /// Makes all changes in one commit, or none: for example, if an id is remembered already.
    /// Without a change there is no commit. If messages will be needed soon that are only in the
    /// file, the commit also marks and reads them.
    fn commit(
        &self,
        acked: &[&Acked],
        accepted: &[Accepted<'_>],
    ) -> Result<Option<(Next, Marked)>, Uncommitted> {
        if accepted.is_empty() && acked.is_empty() {
            return Ok(None);
        }
        let now = SystemTime::now();
        let mut seqs: Vec<i64> =
            acked.iter().filter_map(|one| Some(self.queue.leased(one.lease)?.seq)).collect();
        seqs.sort_unstable();
        let (are_ids_known, is_marking) = (Cell::new(false), Cell::new(false));
        let change = |file: &rusqlite::Connection| {
            statements::remove(file, &seqs)?;
            for one in acked {
                if let Some(key) = &one.key {
                    statements::keep_reply(file, key, &one.reply, now)?;
                }
            }
            let remembered = statements::remember(file, accepted, now);
            are_ids_known.set(remembered.as_ref().is_err_and(statements::is_known));
            remembered?;
            statements::store(file, accepted)
        };
        let failed = |error| match are_ids_known.get() {
            true => Uncommitted::IdsKnown(error),
            false => Uncommitted::Failed(error),
        };
        let write_alone = || self.database.write(change).map(|()| None).map_err(failed);
        let Some(next) = self.queue.next_to_mark() else { return write_alone() };
        let marked = self.database.write(|file| {
            change(file)?;
            is_marking.set(true);
            let marked = next.mark(file, self.options.max_deliveries)?;
            is_marking.set(false);
            Ok(marked)
        });
        match marked {
            Ok(marked) => Ok(Some((next, marked))),
            // Unreadable messages must not keep the other changes from being made.
            Err(_) if is_marking.get() => write_alone(),
            Err(error) => Err(failed(error)),
        }
    }

    /// The room there is once these messages are removed.
    fn room(&self, acked: &[&Acked]) -> Available<'_> {
        let held = acked.iter().filter_map(|one| self.queue.leased(one.lease));
        let messages = self.messages.saturating_sub(acked.len() as u64);
        let bytes = self.bytes.saturating_sub(held.map(|held| held.bytes).sum());
        Available {
            messages: self.options.messages_max.saturating_sub(messages),
            bytes: self.options.bytes_max.saturating_sub(bytes),
            ids: self.options.remembered_ids_max.saturating_sub(self.remembered),
            users: UserRoom::new(&self.user_ids),
            is_empty: messages == 0,
        }
    }

    /// Updates the counts after a commit, with the numbers and deliveries of the stored messages,
    /// and answers the puts.
    fn take_in(
        &mut self,
        accepted: Vec<(i64, u32)>,
        answers: Vec<Option<Vec<Result<Put, PutError>>>>,
    ) {
        self.stored_at = (!accepted.is_empty()).then(Instant::now);
        let mut accepted = accepted.into_iter();
        let mut waiting = Vec::new();
        for (put, answers) in std::mem::take(&mut self.puts).into_iter().zip(answers) {
            let Some(answers) = answers else {
                waiting.push(WaitingPut { has_waited: true, ..put });
                continue;
            };
            for (message, _) in
                put.messages.into_iter().zip(&answers).filter(|(_, one)| **one == Ok(Put::Accepted))
            {
                let (seq, deliveries) = accepted.next().expect("one for each that was accepted");
                self.messages += 1;
                self.remembered += 1;
                self.user_ids.add(&message.user);
                if self.user_ids.is_full(&message.user) {
                    self.prune_at = Instant::now();
                }
                self.bytes += message.body.len() as u64;
                self.last_seq = seq;
                if message.wants_reply {
                    self.replies.expect(&message.user, message.id);
                }
                self.queue.stored(seq, message, deliveries);
            }
            let _gone = put.done.send(answers);
        }
        self.puts = waiting;
        if self.remembered >= self.options.remembered_ids_max {
            // There are too many ids, so some are forgotten before their time.
            self.prune_at = Instant::now();
        }
    }

    /// Answers all puts with one error.
    pub(super) fn refuse_all_puts(&mut self, error: PutError) {
        for put in self.puts.drain(..) {
            let _gone = put.done.send(vec![Err(error); put.messages.len()]);
        }
    }
}

//! Counts what goes through an inbox, whatever its kind.
//!
//! Both sides of an inbox and every delivery hold the backend in here, and nobody calls it past
//! this file.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use ipc_protocol::MessageId;

use crate::backend::{AckError, InboxBackend, NoReply, NotifyGuard, Pending, Put, PutError, Taken};
use crate::dead_letter::{DeadLetter, DeadLetterId, StorageError};
use crate::message::Message;
use crate::statistics::{Counters, Ending, InboxStatistics};
use crate::status::InboxStatus;

/// A backend whose calls are counted.
pub(crate) struct Counted {
    backend: Arc<dyn InboxBackend>,
    counters: Counters,
}

impl Counted {
    pub(crate) fn new(backend: Arc<dyn InboxBackend>) -> Arc<Self> {
        Arc::new(Counted { backend, counters: Counters::new() })
    }

    pub(crate) fn statistics(&self) -> InboxStatistics {
        self.counters.read()
    }

    pub(crate) fn put(
        &self,
        message: Message,
        wait: Duration,
    ) -> Pending<'_, (Result<Put, PutError>, NotifyGuard)> {
        let begun = Instant::now();
        self.backend.put(message, wait).map(move |(put, notify)| {
            self.counters.put(&[put], begun.elapsed());
            (put, notify)
        })
    }

    pub(crate) fn put_all(
        &self,
        messages: Vec<Message>,
        wait: Duration,
    ) -> Pending<'_, (Vec<Result<Put, PutError>>, NotifyGuard)> {
        let begun = Instant::now();
        self.backend.put_all(messages, wait).map(move |(puts, notify)| {
            self.counters.put(&puts, begun.elapsed());
            (puts, notify)
        })
    }

    pub(crate) async fn take(&self, count_max: usize) -> Vec<Taken> {
        let taken = self.backend.take(count_max).await;
        let now = SystemTime::now();
        for one in &taken {
            self.counters.delivered(one.message.received_at, one.redeliveries == 0, now);
        }
        taken
    }

    pub(crate) fn acknowledge(&self, taken: &Taken) -> Pending<'_, Result<(), AckError>> {
        self.counters.ended(Ending::Acknowledged, 1);
        self.backend.acknowledge(taken)
    }

    pub(crate) fn acknowledge_all(
        &self,
        taken: &[&Taken],
    ) -> Pending<'_, Vec<Result<(), AckError>>> {
        self.counters.ended(Ending::Acknowledged, taken.len() as u64);
        self.backend.acknowledge_all(taken)
    }

    pub(crate) fn dropped(&self, taken: &Taken) {
        self.counters.ended(Ending::Dropped, 1);
        self.backend.dropped(taken);
    }

    /// Counts an end at once, since the caller may drop the future of `answer`, and the delivery
    /// has ended all the same. An answer of [`AckError::Unsupported`] ends nothing: the delivery is
    /// dropped afterwards.
    fn count_unless_unsupported<'a>(
        &'a self,
        ending: Ending,
        answer: Pending<'a, Result<(), AckError>>,
    ) -> Pending<'a, Result<(), AckError>> {
        self.counters.ended(ending, 1);
        answer.map(move |answer| {
            if matches!(answer, Err(AckError::Unsupported)) {
                self.counters.not_ended(ending);
            }
            answer
        })
    }

    pub(crate) fn nack(&self, taken: &Taken, delay: Duration) -> Pending<'_, Result<(), AckError>> {
        self.count_unless_unsupported(Ending::GivenBack, self.backend.nack(taken, delay))
    }

    pub(crate) fn reject(
        &self,
        taken: &Taken,
        reason: Box<str>,
    ) -> Pending<'_, Result<(), AckError>> {
        self.count_unless_unsupported(Ending::Rejected, self.backend.reject(taken, reason))
    }

    pub(crate) fn reply(&self, taken: &Taken, body: Arc<str>) -> Pending<'_, Result<(), AckError>> {
        self.count_unless_unsupported(Ending::Replied, self.backend.reply(taken, body))
    }

    pub(crate) fn decline(
        &self,
        taken: &Taken,
        reason: Arc<str>,
    ) -> Pending<'_, Result<(), AckError>> {
        self.count_unless_unsupported(Ending::Declined, self.backend.decline(taken, reason))
    }

    pub(crate) fn extend(
        &self,
        taken: &Taken,
        time: Duration,
    ) -> Pending<'_, Result<(), AckError>> {
        self.backend.extend(taken, time)
    }

    pub(crate) fn reply_to(
        &self,
        user: &str,
        id: MessageId,
    ) -> Pending<'_, Result<Arc<str>, NoReply>> {
        self.backend.reply_to(user, id)
    }

    pub(crate) fn is_awaited(&self, taken: &Taken) -> bool {
        self.backend.is_awaited(taken)
    }

    pub(crate) fn reply_bytes_max(&self) -> usize {
        self.backend.reply_bytes_max()
    }

    pub(crate) fn dead_letters(
        &self,
        after: Option<DeadLetterId>,
        count_max: usize,
    ) -> Pending<'_, Result<Vec<DeadLetter>, StorageError>> {
        self.backend.dead_letters(after, count_max)
    }

    pub(crate) fn requeue(&self, ids: &[DeadLetterId]) -> Pending<'_, Result<usize, StorageError>> {
        self.backend.requeue(ids)
    }

    pub(crate) fn discard(&self, ids: &[DeadLetterId]) -> Pending<'_, Result<usize, StorageError>> {
        self.backend.discard(ids)
    }

    pub(crate) fn close(&self) -> Pending<'_, ()> {
        self.backend.close()
    }

    pub(crate) fn waiting(&self) -> Pending<'_, u64> {
        self.backend.waiting()
    }

    pub(crate) fn status(&self) -> Pending<'_, InboxStatus> {
        self.backend.status()
    }

    pub(crate) fn finish(&self) -> Pending<'_, u64> {
        self.backend.finish()
    }
}

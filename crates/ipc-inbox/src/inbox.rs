//! The two sides of an inbox: [`InboxSender`], into which a server puts messages, and [`Inbox`],
//! from which an application takes them.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_core::Stream;
use ipc_protocol::MessageId;

use crate::backend::{InboxBackend, NoReply, NotifyGuard, Pending, Put, PutError};
use crate::counted::Counted;
use crate::dead_letter::{DeadLetter, DeadLetterId, StorageError};
use crate::delivery::Delivery;
use crate::durable::options::DurableOptions;
use crate::memory::{Memory, MemoryOptions};
use crate::message::Message;
use crate::statistics::InboxStatistics;
use crate::status::InboxStatus;

/// The application's side of an inbox: it takes messages, and manages dead letters. It can neither
/// put a message nor close the inbox; only the server can, with its [`InboxSender`].
///
/// A clone is cheap and is the same inbox: each message goes to one of the receivers that wait. No
/// particular async runtime is needed.
///
/// The inbox is also a [`Stream`] of [`Delivery`]s, for the combinators of `futures` and
/// `tokio-stream`. The stream takes one message at a time, as [`recv`](Inbox::recv) does, and ends
/// when the inbox is closed and empty.
///
/// ```
/// use futures_util::StreamExt as _;
/// use ipc_inbox::Inbox;
///
/// # futures_executor::block_on(async {
/// let (sender, inbox) = Inbox::memory().build();
/// sender.close();
/// inbox
///     .for_each_concurrent(8, |delivery| async move {
///         println!("{}", delivery.body());
///         let _again_if_it_fails = delivery.ack().await;
///     })
///     .await;
/// # });
/// ```
pub struct Inbox {
    backend: Arc<Counted>,
    /// The stream's next delivery, once the stream was polled. Nobody ever locks the mutex: it only
    /// makes the handle `Sync`, which the future alone is not.
    next: Mutex<Option<NextDelivery>>,
}

type NextDelivery = Pin<Box<dyn Future<Output = Option<Delivery>> + Send>>;

/// The server's side of an inbox: it puts messages, waits for replies, and closes the inbox.
///
/// A clone is cheap. [`MemoryOptions::build`], [`DurableOptions::open`] and [`Inbox::with_backend`]
/// make it together with the application's side.
#[derive(Clone)]
pub struct InboxSender {
    backend: Arc<Counted>,
}

impl Inbox {
    /// An inbox in memory: its messages are lost when the process ends. The options begin with the
    /// defaults of [`MemoryOptions`].
    pub fn memory() -> MemoryOptions {
        MemoryOptions::default()
    }

    /// A durable inbox: an accepted message stays in a file until it is acknowledged, even if the
    /// process crashes. The options begin with the defaults of [`DurableOptions`].
    pub fn durable() -> DurableOptions {
        DurableOptions::default()
    }

    /// The two sides of an inbox with this backend.
    pub fn with_backend(backend: impl InboxBackend) -> (InboxSender, Inbox) {
        both_sides(Arc::new(backend))
    }

    fn of(backend: Arc<Counted>) -> Self {
        Inbox { backend, next: Mutex::new(None) }
    }

    /// Takes the next message, and waits until there is one. Returns `None` once the inbox is
    /// closed and empty.
    ///
    /// Dropping the future loses no message.
    pub async fn recv(&self) -> Option<Delivery> {
        self.recv_many(1).await.pop()
    }

    /// Takes the messages that are available, no more than `count_max` (at least 1), and waits
    /// until there is at least one. Returns an empty vector once the inbox is closed and empty.
    ///
    /// Messages that are acknowledged together, with [`Delivery::ack_all`], cost a durable inbox
    /// little more than one. Dropping the future loses no message.
    pub async fn recv_many(&self, count_max: usize) -> Vec<Delivery> {
        let taken = self.backend.take(count_max).await;
        taken.into_iter().map(|taken| Delivery::new(taken, Arc::clone(&self.backend))).collect()
    }

    /// [`recv`](Inbox::recv) for code that is not async: it blocks the thread.
    pub fn recv_blocking(&self) -> Option<Delivery> {
        futures_executor::block_on(self.recv())
    }

    /// How many messages wait to be taken: an inbox in memory would lose these if the process ended
    /// now. A message that was taken and not yet acknowledged does not count; a durable inbox
    /// delivers it again after a restart.
    pub async fn waiting(&self) -> u64 {
        self.backend.waiting().await
    }

    /// What the inbox has done since it was opened by this process. Reading it disturbs nobody.
    pub fn statistics(&self) -> InboxStatistics {
        self.backend.statistics()
    }

    /// What the inbox holds now. It costs a durable inbox about as much as taking a message, one on
    /// a network a question to its engine.
    pub async fn status(&self) -> InboxStatus {
        self.backend.status().await
    }

    /// The dead letters with ids greater than `after` (`None`: all), oldest first, no more than
    /// `count_max`.
    ///
    /// An inbox in memory keeps the newest 1000, or as many as its options say, until the process
    /// ends. A durable inbox keeps all until they are discarded.
    ///
    /// # Errors
    /// [`StorageError`] if a durable inbox cannot read its file. The inbox in memory returns no
    /// error.
    pub async fn dead_letters(
        &self,
        after: Option<DeadLetterId>,
        count_max: usize,
    ) -> Result<Vec<DeadLetter>, StorageError> {
        self.backend.dead_letters(after, count_max).await
    }

    /// Makes dead letters ordinary messages again, as if they had never been delivered. Returns how
    /// many it requeued; unknown ids are ignored.
    ///
    /// # Errors
    /// [`StorageError`] if a durable inbox cannot write its file. The inbox in memory returns no
    /// error.
    pub async fn requeue(&self, ids: &[DeadLetterId]) -> Result<usize, StorageError> {
        self.backend.requeue(ids).await
    }

    /// Removes dead letters for good. Returns how many it removed. The ids of their messages stay
    /// remembered: a message sent again is a duplicate.
    ///
    /// # Errors
    /// [`StorageError`] if a durable inbox cannot write its file. The inbox in memory returns no
    /// error.
    pub async fn discard(&self, ids: &[DeadLetterId]) -> Result<usize, StorageError> {
        self.backend.discard(ids).await
    }
}

impl Clone for Inbox {
    fn clone(&self) -> Self {
        Inbox::of(Arc::clone(&self.backend))
    }
}

impl Stream for Inbox {
    type Item = Delivery;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Delivery>> {
        let this = self.get_mut();
        let slot = this.next.get_mut().unwrap_or_else(PoisonError::into_inner);
        let next = slot.get_or_insert_with(|| {
            let inbox = Inbox::of(Arc::clone(&this.backend));
            Box::pin(async move { inbox.recv().await })
        });
        let delivery = ready!(next.as_mut().poll(context));
        *slot = None;
        Poll::Ready(delivery)
    }
}

impl InboxSender {
    /// Puts a message, and wakes a receiver. See [`InboxBackend::put`].
    ///
    /// # Errors
    /// [`PutError`].
    pub fn put(&self, message: Message, wait: Duration) -> Pending<'_, Result<Put, PutError>> {
        self.put_deferred(message, wait).map(|(put, _wakes)| put)
    }

    /// Puts many messages in one step, and wakes receivers. See [`InboxBackend::put_all`].
    pub fn put_all(
        &self,
        messages: Vec<Message>,
        wait: Duration,
    ) -> Pending<'_, Vec<Result<Put, PutError>>> {
        self.put_all_deferred(messages, wait).map(|(puts, _wakes)| puts)
    }

    /// [`put`](InboxSender::put), except that it wakes a receiver only when the [`NotifyGuard`] is
    /// dropped.
    pub fn put_deferred(
        &self,
        message: Message,
        wait: Duration,
    ) -> Pending<'_, (Result<Put, PutError>, NotifyGuard)> {
        self.backend.put(message, wait)
    }

    /// [`put_all`](InboxSender::put_all), except that it wakes receivers only when the
    /// [`NotifyGuard`] is dropped.
    pub fn put_all_deferred(
        &self,
        messages: Vec<Message>,
        wait: Duration,
    ) -> Pending<'_, (Vec<Result<Put, PutError>>, NotifyGuard)> {
        self.backend.put_all(messages, wait)
    }

    /// Waits for the reply to a request. See [`InboxBackend::reply_to`].
    ///
    /// # Errors
    /// [`NoReply`].
    pub fn reply_to(&self, user: &str, id: MessageId) -> Pending<'_, Result<Arc<str>, NoReply>> {
        self.backend.reply_to(user, id)
    }

    /// Refuses every put from now on. Stored messages can still be taken. The inbox is closed when
    /// this method returns, even if the future is dropped.
    ///
    /// The future ends when a durable inbox has written everything into its database file. A copy
    /// of that file alone is then complete, until a message is taken or acknowledged.
    pub fn close(&self) -> Pending<'_, ()> {
        self.backend.close()
    }

    /// Ends the inbox, for a program that is about to end: it accepts and delivers nothing more.
    ///
    /// Returns when every acknowledgement that was begun before is done. A durable inbox has then
    /// written and closed its file, and another process may open it. The result is how many
    /// messages were still [`waiting`](Inbox::waiting): a durable inbox keeps them, an inbox in
    /// memory has lost them.
    ///
    /// Unfinished deliveries can then be neither acknowledged nor replied to; a durable inbox
    /// delivers their messages again when it is opened the next time. A second call does nothing
    /// and returns 0.
    pub async fn finish(&self) -> u64 {
        self.backend.finish().await
    }
}

/// The two sides of an inbox.
pub(crate) fn both_sides(backend: Arc<dyn InboxBackend>) -> (InboxSender, Inbox) {
    let backend = Counted::new(backend);
    (InboxSender { backend: Arc::clone(&backend) }, Inbox::of(backend))
}

impl MemoryOptions {
    /// Makes the inbox: the server's side and the application's side.
    pub fn build(self) -> (InboxSender, Inbox) {
        both_sides(Memory::new(&self))
    }
}

/// Which inbox a server uses: one that the server makes, or the two sides of an existing one.
///
/// Options, and the two sides of an inbox, convert into it: `.inbox(Inbox::durable())`.
#[derive(Clone, Debug)]
pub enum InboxChoice {
    /// An inbox in memory, which the server makes.
    Memory(MemoryOptions),
    /// A durable inbox, which the server opens in its home.
    Durable(DurableOptions),
    /// An existing inbox.
    Open(InboxSender, Inbox),
}

impl Default for InboxChoice {
    /// An inbox in memory, with the default options.
    fn default() -> Self {
        InboxChoice::Memory(MemoryOptions::default())
    }
}

impl From<MemoryOptions> for InboxChoice {
    fn from(options: MemoryOptions) -> Self {
        InboxChoice::Memory(options)
    }
}

impl From<DurableOptions> for InboxChoice {
    fn from(options: DurableOptions) -> Self {
        InboxChoice::Durable(options)
    }
}

impl From<(InboxSender, Inbox)> for InboxChoice {
    fn from((sender, inbox): (InboxSender, Inbox)) -> Self {
        InboxChoice::Open(sender, inbox)
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox").finish_non_exhaustive()
    }
}

impl fmt::Debug for InboxSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InboxSender").finish_non_exhaustive()
    }
}

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
use crate::dead_letter::{DeadLetter, DeadLetterId, StorageError};
use crate::delivery::Delivery;
use crate::durable::options::DurableOptions;
use crate::memory::{Memory, MemoryOptions};
use crate::message::Message;

/// The application's side of an inbox: it takes messages, and looks after dead letters. It can
/// neither put a message nor close the inbox; the server does, with its [`InboxSender`].
///
/// It is cheap to clone. All clones are the same inbox, and each message goes to one of those that
/// wait. No particular async runtime is needed.
///
/// It is also a [`Stream`] of [`Delivery`]s, for the combinators of `futures` and `tokio-stream`.
/// The stream takes one message at a time, as [`recv`](Inbox::recv) does, and ends when the inbox
/// is closed and empty.
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
    backend: Arc<dyn InboxBackend>,
    /// The stream's next delivery, once it was asked for. The lock is never taken: it makes the
    /// handle `Sync`, as the future alone is not.
    next: Mutex<Option<NextDelivery>>,
}

type NextDelivery = Pin<Box<dyn Future<Output = Option<Delivery>> + Send>>;

/// The server's side of an inbox: it puts messages, waits for replies, and closes the inbox.
///
/// It is cheap to clone. [`MemoryOptions::build`], [`DurableOptions::open`] and
/// [`Inbox::with_backend`] make it together with the application's side.
#[derive(Clone)]
pub struct InboxSender {
    backend: Arc<dyn InboxBackend>,
}

impl Inbox {
    /// An inbox in memory: what it holds ends with the process. The options are the defaults of
    /// [`MemoryOptions`] until they are changed.
    pub fn memory() -> MemoryOptions {
        MemoryOptions::default()
    }

    /// A durable inbox: what was accepted stays in a file until it is acknowledged, whatever
    /// becomes of the process. The options are the defaults of [`DurableOptions`] until they are
    /// changed.
    pub fn durable() -> DurableOptions {
        DurableOptions::default()
    }

    /// The two sides of an inbox of another kind.
    pub fn with_backend(backend: impl InboxBackend) -> (InboxSender, Inbox) {
        both_sides(Arc::new(backend))
    }

    fn of(backend: Arc<dyn InboxBackend>) -> Self {
        Inbox { backend, next: Mutex::new(None) }
    }

    /// Takes the next message, and waits until there is one. Returns `None` once the inbox is
    /// closed and empty.
    ///
    /// Dropping the future loses no message.
    pub async fn recv(&self) -> Option<Delivery> {
        self.recv_many(1).await.pop()
    }

    /// Takes the next messages that are there, no more than `count_max` (at least 1), and waits
    /// until there is one. Returns none once the inbox is closed and empty.
    ///
    /// Messages that are acknowledged together, with [`Delivery::ack_all`], cost a durable inbox
    /// little more than one. Dropping the future loses no message.
    pub async fn recv_many(&self, count_max: usize) -> Vec<Delivery> {
        let taken = self.backend.take(count_max).await;
        taken.into_iter().map(|taken| Delivery::new(taken, Arc::clone(&self.backend))).collect()
    }

    /// [`recv`](Inbox::recv) for code that is not async: the thread waits.
    pub fn recv_blocking(&self) -> Option<Delivery> {
        futures_executor::block_on(self.recv())
    }

    /// How many messages wait to be taken: what an inbox in memory would lose if the process ended
    /// now. Those that were taken and not yet acknowledged are not among them; a durable inbox
    /// delivers those again after a restart.
    pub async fn waiting(&self) -> u64 {
        self.backend.waiting().await
    }

    /// The dead letters after the one with that id (`None`: from the first), oldest first, no more
    /// than `count_max`.
    ///
    /// An inbox in memory keeps the newest 1000 of them, or as many as its options say, until the
    /// process ends. A durable one keeps all until they are discarded.
    ///
    /// # Errors
    /// [`StorageError`] if a durable inbox cannot read its file. None from the inbox in memory.
    pub async fn dead_letters(
        &self,
        after: Option<DeadLetterId>,
        count_max: usize,
    ) -> Result<Vec<DeadLetter>, StorageError> {
        self.backend.dead_letters(after, count_max).await
    }

    /// Lets dead letters be delivered again, as if they never had been. Returns how many there
    /// were; an id that is not there changes nothing.
    ///
    /// # Errors
    /// [`StorageError`] if a durable inbox cannot write its file. None from the inbox in memory.
    pub async fn requeue(&self, ids: &[DeadLetterId]) -> Result<usize, StorageError> {
        self.backend.requeue(ids).await
    }

    /// Removes dead letters for good. Returns how many there were. The ids of their messages stay
    /// remembered: sent again, they are duplicates.
    ///
    /// # Errors
    /// [`StorageError`] if a durable inbox cannot write its file. None from the inbox in memory.
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

    /// [`put`](InboxSender::put), which wakes a receiver only when the [`NotifyGuard`] is dropped.
    pub fn put_deferred(
        &self,
        message: Message,
        wait: Duration,
    ) -> Pending<'_, (Result<Put, PutError>, NotifyGuard)> {
        self.backend.put(message, wait)
    }

    /// [`put_all`](InboxSender::put_all), which wakes receivers only when the [`NotifyGuard`] is
    /// dropped.
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

    /// Refuses every put from now on; what is in stays there to be taken. The inbox is closed when
    /// this returns, whether or not the answer is awaited.
    ///
    /// The answer comes when a durable inbox has written everything into its file: a copy of that
    /// file alone has it all, until something more is taken or acknowledged.
    pub fn close(&self) -> Pending<'_, ()> {
        self.backend.close()
    }

    /// Ends the inbox, for a program that is about to end: nothing is accepted or delivered any
    /// more.
    ///
    /// Returns when every acknowledgement that was begun before is done and, if the inbox is
    /// durable, its file is written and closed; then another process may open it. Returns how many
    /// messages were still [`waiting`](Inbox::waiting): a durable inbox keeps them, one in memory
    /// has lost them.
    ///
    /// Deliveries that are still out can be neither acknowledged nor replied to after it; a durable
    /// inbox delivers them again when it is opened the next time. A second call has nothing to do
    /// and returns 0.
    pub async fn finish(&self) -> u64 {
        self.backend.finish().await
    }
}

/// The two sides of an inbox.
pub(crate) fn both_sides(backend: Arc<dyn InboxBackend>) -> (InboxSender, Inbox) {
    (InboxSender { backend: Arc::clone(&backend) }, Inbox::of(backend))
}

impl MemoryOptions {
    /// Makes the inbox: the server's side and the application's.
    pub fn build(self) -> (InboxSender, Inbox) {
        both_sides(Memory::new(&self))
    }
}

/// Which inbox a server uses: one that it makes, or both sides of one that is there.
///
/// Options, and both sides as they are made, convert into it: `.inbox(Inbox::durable())`.
#[derive(Clone, Debug)]
pub enum InboxChoice {
    /// One in memory, made by the server.
    Memory(MemoryOptions),
    /// A durable one, opened by the server in its home.
    Durable(DurableOptions),
    /// One that is there.
    Open(InboxSender, Inbox),
}

impl Default for InboxChoice {
    /// One in memory, with the defaults.
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

//! The handle that both the server and the application hold.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ipc_protocol::MessageId;

use crate::backend::{InboxBackend, Message, NoReply, NotifyGuard, Pending, Put, PutError};
use crate::delivery::Delivery;
use crate::durable::options::DurableOptions;
use crate::memory::{Memory, MemoryOptions};

/// An inbox of either kind. Cheap to clone; all clones are the same inbox, and each message is
/// taken by one of those who wait.
#[derive(Clone)]
pub struct Inbox {
    backend: Arc<dyn InboxBackend>,
}

impl Inbox {
    /// An inbox in memory with the default [`MemoryOptions`]: what it holds ends with the process.
    pub fn memory() -> Self {
        MemoryOptions::default().build()
    }

    /// A durable inbox with the default [`DurableOptions`], for a server to open in its home: what
    /// was accepted stays until it is acknowledged, whatever becomes of the process.
    pub fn durable() -> DurableOptions {
        DurableOptions::default()
    }

    /// An inbox of a kind made elsewhere.
    pub fn new(backend: impl InboxBackend) -> Self {
        Inbox::shared(Arc::new(backend))
    }

    /// An inbox whose backend somebody else holds too.
    pub(crate) fn shared(backend: Arc<dyn InboxBackend>) -> Self {
        Inbox { backend }
    }

    /// Takes the next message, and waits until there is one. `None` once the inbox is closed and
    /// empty.
    ///
    /// Needs no particular async runtime. Dropping the future loses no message.
    pub async fn recv(&self) -> Option<Delivery> {
        self.recv_many(1).await.pop()
    }

    /// Takes the next messages that are there, no more than `count_max`, and waits until there is
    /// one. None once the inbox is closed and empty. Acknowledged together, with all
    /// acknowledgements begun before the first is waited for, they cost a durable inbox little more
    /// than one.
    ///
    /// Needs no particular async runtime. Dropping the future loses no message.
    pub async fn recv_many(&self, count_max: usize) -> Vec<Delivery> {
        let taken = self.backend.take(count_max).await;
        taken.into_iter().map(|taken| Delivery::new(taken, Arc::clone(&self.backend))).collect()
    }

    /// [`recv`](Inbox::recv) for code that is not async: the thread waits.
    pub fn recv_blocking(&self) -> Option<Delivery> {
        futures_executor::block_on(self.recv())
    }

    /// Puts a message, and tells whoever waits for one. See [`InboxBackend::put`].
    ///
    /// # Errors
    /// [`PutError`].
    pub fn put(&self, message: Message, wait: Duration) -> Pending<'_, Result<Put, PutError>> {
        self.put_deferred(message, wait).map(|(put, _notify)| put)
    }

    /// Puts many messages in one step, and tells whoever waits for some. See
    /// [`InboxBackend::put_all`].
    pub fn put_all(
        &self,
        messages: Vec<Message>,
        wait: Duration,
    ) -> Pending<'_, Vec<Result<Put, PutError>>> {
        self.put_all_deferred(messages, wait).map(|(puts, _notify)| puts)
    }

    /// [`put`](Inbox::put) for a server, which tells of it later: when it drops the [`NotifyGuard`].
    pub fn put_deferred(
        &self,
        message: Message,
        wait: Duration,
    ) -> Pending<'_, (Result<Put, PutError>, NotifyGuard)> {
        self.backend.put(message, wait)
    }

    /// [`put_all`](Inbox::put_all) for a server, which tells of it later: when it drops the
    /// [`NotifyGuard`].
    pub fn put_all_deferred(
        &self,
        messages: Vec<Message>,
        wait: Duration,
    ) -> Pending<'_, (Vec<Result<Put, PutError>>, NotifyGuard)> {
        self.backend.put_all(messages, wait)
    }

    /// Waits for the reply to a request; the server does. See [`InboxBackend::reply_to`].
    ///
    /// # Errors
    /// [`NoReply`].
    pub fn reply_to(&self, user: &str, id: MessageId) -> Pending<'_, Result<Arc<str>, NoReply>> {
        self.backend.reply_to(user, id)
    }

    /// Refuses everything from now on; what is in stays there to be taken. It is closed when this
    /// returns. Whoever waits for the answer also knows that a durable inbox has written everything
    /// into its file: a copy of that alone has it all, until something more is taken or
    /// acknowledged.
    pub fn close(&self) -> Pending<'_, ()> {
        self.backend.close()
    }

    /// How many messages wait to be taken: what an inbox in memory would lose if the process ended
    /// now. Those that were taken and not yet acknowledged are not among them; a durable inbox
    /// hands those out again after a restart.
    pub async fn waiting(&self) -> u64 {
        self.backend.waiting().await
    }

    /// Ends the inbox, for a program that is about to end: nothing is taken in or handed out any
    /// more. Returns when every acknowledgement that was begun before is done and, if the inbox is
    /// durable, its file is written up and closed; then another may open it. Returns how many
    /// messages were still [`waiting`](Inbox::waiting): a durable inbox keeps them, one in memory
    /// has lost them. Deliveries that are still out can be neither acknowledged nor replied to
    /// after it; a durable inbox hands them out again when it is opened the next time. A second
    /// call has nothing to do and returns 0.
    pub async fn finish(&self) -> u64 {
        self.backend.finish().await
    }
}

impl MemoryOptions {
    /// Makes the inbox.
    pub fn build(self) -> Inbox {
        Inbox::new(Memory::new(&self))
    }
}

/// Which inbox a server uses: one that is there, or a durable one that it opens in its home.
#[derive(Clone, Debug)]
pub enum InboxChoice {
    /// One that is there.
    Open(Inbox),
    /// A durable one, to be opened.
    Durable(DurableOptions),
}

impl Default for InboxChoice {
    fn default() -> Self {
        InboxChoice::Open(Inbox::memory())
    }
}

impl From<Inbox> for InboxChoice {
    fn from(inbox: Inbox) -> Self {
        InboxChoice::Open(inbox)
    }
}

impl From<DurableOptions> for InboxChoice {
    fn from(options: DurableOptions) -> Self {
        InboxChoice::Durable(options)
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Inbox")
    }
}

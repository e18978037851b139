//! The trait that every kind of inbox implements, and the types of its methods.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use ipc_protocol::{MessageId, PLAINTEXT_BYTES_MAX_DEFAULT};
use tokio::sync::Semaphore;

use crate::dead_letter::{DeadLetter, DeadLetterId, StorageError};
use crate::message::Message;
use crate::status::InboxStatus;

/// Room for the frame around the body of a reply, in bytes, with a margin.
const FRAME_BYTES: usize = 1024;

/// How many bytes of JSON text a reply may have by default.
pub(crate) const REPLY_BYTES_MAX_DEFAULT: usize = PLAINTEXT_BYTES_MAX_DEFAULT - FRAME_BYTES;

/// What became of a message that was put into an inbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// The message is in the inbox.
    Accepted,
    /// The inbox accepted this id with the same body before. The message is not stored again.
    Duplicate,
}

/// Why a message was not put into the inbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PutError {
    /// The user sent this id before, with another body.
    #[error("the id was used before, with another body")]
    IdReused,
    /// The inbox stayed full until the wait was over.
    #[error("the inbox is full")]
    Full,
    /// The inbox remembers as many ids as it may, of this user or in all, and cannot forget one
    /// before its time.
    #[error("the inbox remembers as many ids as it may")]
    RememberedFull,
    /// The inbox cannot store messages at the moment. Its log says why.
    #[error("the inbox cannot store messages at the moment")]
    Unavailable,
    /// The inbox lost its engine while it stored the message, and does not know whether it is
    /// there. If it is sent again under its id, it is there once.
    #[error("the inbox does not know whether it stored the message")]
    Unknown,
    /// The inbox cannot store a message of this length.
    #[error("the message is longer than the inbox can store")]
    TooLarge,
    /// The inbox was closed.
    #[error("the inbox is closed")]
    Closed,
}

/// Why there is no reply to a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoReply {
    /// The application let the request go without a reply.
    #[error("the application gave no reply")]
    NotGiven,
    /// The application [declined](crate::Delivery::decline) the request, and says why: at most
    /// [`REASON_BYTES_MAX`](ipc_protocol::REASON_BYTES_MAX) bytes.
    #[error("the application gave no reply: {0}")]
    Declined(Arc<str>),
    /// The inbox does not have the reply any more, or does not know the request.
    #[error("the inbox does not have the reply any more")]
    Forgotten,
    /// The inbox cannot look for the reply at the moment. Its log says why.
    #[error("the inbox cannot read its replies at the moment")]
    Unavailable,
}

/// Why an acknowledgement, a reply, a nack, an extension or a rejection was not noted. The message
/// may be delivered again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AckError {
    /// The inbox could not store it.
    #[error("the inbox cannot store the acknowledgement")]
    Storage {
        /// The cause, from the storage.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The delivery has expired and the message was or will be delivered again, or the inbox has
    /// ended.
    #[error("delivery expired: the message was redelivered or the inbox closed")]
    TooLate,
    /// This kind of inbox does not support the operation. The message is unchanged.
    #[error("this kind of inbox cannot do that")]
    Unsupported,
}

/// A message that the backend hands out.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Taken {
    /// The message.
    pub message: Message,
    /// Identifies this handing-out of the message. Only the backend interprets it. A backend
    /// without leases may use 0 throughout.
    pub lease: u64,
    /// How often the message was delivered before, as far as the backend knows.
    pub redeliveries: u32,
    /// Whether this is the last delivery: if it is not acknowledged, the message becomes a dead
    /// letter.
    pub is_last_delivery: bool,
}

impl Taken {
    /// A message on its first delivery, which is not its last.
    pub fn new(message: Message, lease: u64) -> Self {
        Taken { message, lease, redeliveries: 0, is_last_delivery: false }
    }

    /// Sets how often the message was delivered before.
    pub fn with_redeliveries(mut self, redeliveries: u32) -> Self {
        self.redeliveries = redeliveries;
        self
    }

    /// Sets whether this is the last delivery.
    pub fn with_last_delivery(mut self, is_last: bool) -> Self {
        self.is_last_delivery = is_last;
        self
    }
}

/// Wakes the receivers of messages that were put, when the guard is dropped.
///
/// The server drops the guard after it has written its response. A receiver that wakes up earlier
/// may take the processor from the thread that woke it, and the sender would wait for both.
#[must_use = "receivers are woken when it is dropped"]
pub struct NotifyGuard(Notification);

enum Notification {
    Nothing,
    /// This many permits, one for each message.
    Permits(Arc<Semaphore>, usize),
    Call(Box<dyn FnOnce() + Send + Sync>),
}

impl NotifyGuard {
    /// Wakes no receiver: no message was put, or the receivers were notified already.
    pub fn none() -> Self {
        NotifyGuard(Notification::Nothing)
    }

    /// Calls `wake` when it is dropped.
    pub fn on_drop(wake: impl FnOnce() + Send + Sync + 'static) -> Self {
        NotifyGuard(Notification::Call(Box::new(wake)))
    }

    /// Adds `messages` permits to `arrived` when it is dropped.
    pub(crate) fn new(arrived: &Arc<Semaphore>, messages: usize) -> Self {
        NotifyGuard(match messages {
            0 => Notification::Nothing,
            _ => Notification::Permits(Arc::clone(arrived), messages),
        })
    }

    /// Whether the guard wakes no receiver.
    pub fn is_none(&self) -> bool {
        matches!(self.0, Notification::Nothing)
    }
}

impl Drop for NotifyGuard {
    fn drop(&mut self) {
        match std::mem::replace(&mut self.0, Notification::Nothing) {
            Notification::Nothing => (),
            Notification::Permits(arrived, messages) => arrived.add_permits(messages),
            Notification::Call(wake) => wake(),
        }
    }
}

impl fmt::Debug for NotifyGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NotifyGuard").field("is_none", &self.is_none()).finish()
    }
}

/// A kind of inbox: the trait that an engine implements to hold accepted messages.
///
/// [`Inbox::with_backend`](crate::Inbox::with_backend) makes the two sides of an inbox from it.
///
/// Messages are delivered in the order in which their [`put`](InboxBackend::put) was accepted. A
/// message that is delivered again comes before every undelivered message that was accepted after
/// it.
///
/// A backend implements the seven methods that have no default. Methods that are added later will
/// have a default. The defaults refuse what a simple backend need not support; the documentation of
/// each says how.
///
/// # Example
/// A complete inbox on a `VecDeque` (`examples/vec_deque.rs`):
///
/// ```
#[doc = include_str!("../examples/vec_deque.rs")]
/// ```
pub trait InboxBackend: Send + Sync + 'static {
    /// Puts a message: looks for its id, remembers the id and stores the message, in one step.
    ///
    /// Without room it waits, no longer than `wait`. A duplicate needs no room. A caller that drops
    /// the future while it waits for room has put nothing. Once the result is [`Put::Accepted`] the
    /// message stays. The caller runs within a tokio runtime that has time enabled.
    ///
    /// The backend may wake receivers when the [`NotifyGuard`] is dropped, and not before.
    ///
    /// # Errors
    /// [`PutError`].
    fn put(
        &self,
        message: Message,
        wait: Duration,
    ) -> Pending<'_, (Result<Put, PutError>, NotifyGuard)>;

    /// Puts many messages of one user in one step. The result has an answer for each message at the
    /// same index.
    ///
    /// The messages take the room in order. From the first that finds none, every later message is
    /// [`PutError::Full`] unless it needs no room. The call waits, no longer than `wait`, only if
    /// there is no room for the first. Otherwise it is like [`put`](InboxBackend::put).
    ///
    /// The default puts one message after the other, and refuses all after the first that finds no
    /// room.
    fn put_all(
        &self,
        messages: Vec<Message>,
        wait: Duration,
    ) -> Pending<'_, (Vec<Result<Put, PutError>>, NotifyGuard)> {
        Pending::later(async move {
            let (mut puts, mut guards) = (Vec::with_capacity(messages.len()), Vec::new());
            for message in messages {
                let put = match puts.contains(&Err(PutError::Full)) {
                    true => Err(PutError::Full),
                    false => {
                        let wait = if puts.is_empty() { wait } else { Duration::ZERO };
                        let (put, guard) = self.put(message, wait).await;
                        guards.push(guard);
                        put
                    }
                };
                puts.push(put);
            }
            (puts, NotifyGuard::on_drop(move || drop(guards)))
        })
    }

    /// Takes the next messages, in order, and waits until there is at least one. It takes no more
    /// than `count_max` (at least 1), and does not wait for a second one. The result is empty once
    /// the inbox is closed and empty. A caller that drops the future has taken nothing.
    fn take(&self, count_max: usize) -> Pending<'_, Vec<Taken>>;

    /// Notes that the application is done with a message. The sender of a request that is
    /// acknowledged without a reply gets [`NoReply::NotGiven`].
    ///
    /// # Errors
    /// [`AckError`].
    fn acknowledge(&self, taken: &Taken) -> Pending<'_, Result<(), AckError>>;

    /// [`acknowledge`](InboxBackend::acknowledge) for many messages, with an answer for each at the
    /// same index. The default starts all of them before it waits for the first.
    fn acknowledge_all(&self, taken: &[&Taken]) -> Pending<'_, Vec<Result<(), AckError>>> {
        let answers: Vec<_> = taken.iter().map(|taken| self.acknowledge(taken)).collect();
        Pending::later(async {
            let mut results = Vec::with_capacity(answers.len());
            for answer in answers {
                results.push(answer.await);
            }
            results
        })
    }

    /// Called when a delivery was dropped: the application neither acknowledged the message nor
    /// replied to it nor gave it back. The backend tells the sender of a request at once that there
    /// is no reply.
    fn dropped(&self, taken: &Taken);

    /// Takes back a message that the application could not process, and delivers it again once
    /// `delay` is over. After its last delivery the message becomes a dead letter instead. The
    /// sender of a request keeps waiting.
    ///
    /// The default is [`AckError::Unsupported`], after which the delivery is
    /// [`dropped`](InboxBackend::dropped).
    ///
    /// # Errors
    /// [`AckError`].
    fn nack(&self, taken: &Taken, delay: Duration) -> Pending<'_, Result<(), AckError>> {
        let _ = (taken, delay);
        Pending::ready(Err(AckError::Unsupported))
    }

    /// Gives the application `time` from now on to acknowledge a message, before the message is
    /// delivered again.
    ///
    /// The default does nothing, which is right for a backend whose deliveries do not expire.
    ///
    /// # Errors
    /// [`AckError`].
    fn extend(&self, taken: &Taken, time: Duration) -> Pending<'_, Result<(), AckError>> {
        let _ = (taken, time);
        Pending::ready(Ok(()))
    }

    /// Makes a message a dead letter at once, because the application can never process it. The
    /// backend tells the sender of a request that there is no reply.
    ///
    /// The default is [`AckError::Unsupported`], after which the delivery is
    /// [`dropped`](InboxBackend::dropped).
    ///
    /// # Errors
    /// [`AckError`].
    fn reject(&self, taken: &Taken, reason: Box<str>) -> Pending<'_, Result<(), AckError>> {
        let _ = (taken, reason);
        Pending::ready(Err(AckError::Unsupported))
    }

    /// Notes the reply to a request, and acknowledges the request. `body` is a JSON object as text.
    /// The default is [`AckError::Unsupported`]. [`Replies`](crate::Replies) does the bookkeeping.
    ///
    /// # Errors
    /// [`AckError`].
    fn reply(&self, taken: &Taken, body: Arc<str>) -> Pending<'_, Result<(), AckError>> {
        let _ = (taken, body);
        Pending::ready(Err(AckError::Unsupported))
    }

    /// Acknowledges a request to which the application gives no reply, and notes why: its sender
    /// gets [`NoReply::Declined`] with `reason`, also if it sends the request again. The default
    /// acknowledges the request, and the reason is lost.
    ///
    /// # Errors
    /// [`AckError`].
    fn decline(&self, taken: &Taken, reason: Arc<str>) -> Pending<'_, Result<(), AckError>> {
        let _ = reason;
        self.acknowledge(taken)
    }

    /// Waits for the reply to a request that was put. Several callers may wait for one reply, and a
    /// request may be put several times. The default is [`NoReply::NotGiven`].
    ///
    /// # Errors
    /// [`NoReply`].
    fn reply_to(&self, user: &str, id: MessageId) -> Pending<'_, Result<Arc<str>, NoReply>> {
        let _ = (user, id);
        Pending::ready(Err(NoReply::NotGiven))
    }

    /// Whether a sender waits for the reply to this request at the moment. The default is `true`,
    /// for a backend that does not know.
    fn is_awaited(&self, taken: &Taken) -> bool {
        let _ = taken;
        true
    }

    /// How many bytes of JSON text a reply may have. The default is 16 MiB less 1 KiB: the largest
    /// plaintext that a client accepts by default, less the frame around the body.
    fn reply_bytes_max(&self) -> usize {
        REPLY_BYTES_MAX_DEFAULT
    }

    /// The dead letters with ids greater than `after`, oldest first, no more than `count_max`. The
    /// default returns none.
    ///
    /// # Errors
    /// [`StorageError`].
    fn dead_letters(
        &self,
        after: Option<DeadLetterId>,
        count_max: usize,
    ) -> Pending<'_, Result<Vec<DeadLetter>, StorageError>> {
        let _ = (after, count_max);
        Pending::ready(Ok(Vec::new()))
    }

    /// Makes dead letters ordinary messages again, as if they had never been delivered. Returns how
    /// many dead letters it requeued. The default returns 0.
    ///
    /// # Errors
    /// [`StorageError`].
    fn requeue(&self, ids: &[DeadLetterId]) -> Pending<'_, Result<usize, StorageError>> {
        let _ = ids;
        Pending::ready(Ok(0))
    }

    /// Removes dead letters for good. Returns how many it removed. The default returns 0.
    ///
    /// # Errors
    /// [`StorageError`].
    fn discard(&self, ids: &[DeadLetterId]) -> Pending<'_, Result<usize, StorageError>> {
        let _ = ids;
        Pending::ready(Ok(0))
    }

    /// Refuses every put from now on. Stored messages can still be taken. The inbox is closed when
    /// this method returns. The future ends when everything is in the inbox's file, if it has one.
    fn close(&self) -> Pending<'_, ()>;

    /// How many messages wait to be taken, including those that were given back. A message that was
    /// taken and not yet acknowledged does not count.
    fn waiting(&self) -> Pending<'_, u64>;

    /// What the inbox holds now. The default knows the number of [`waiting`](InboxBackend::waiting)
    /// messages alone.
    fn status(&self) -> Pending<'_, InboxStatus> {
        self.waiting().map(InboxStatus::of_waiting)
    }

    /// Ends the inbox: closes it, delivers nothing more, finishes every earlier call, and writes
    /// what the inbox keeps. Returns how many messages were still
    /// [`waiting`](InboxBackend::waiting); those in memory are lost. Receivers get `None`, and
    /// senders that wait for a reply get an error.
    fn finish(&self) -> Pending<'_, u64>;
}

/// A result that is there already, or a future. A result that is there is the usual case, and costs
/// no allocation.
pub enum Pending<'a, T> {
    /// The result; `None` after it was polled.
    Ready(Option<T>),
    /// A future with the result.
    Later(Pin<Box<dyn Future<Output = T> + Send + 'a>>),
}

impl<'a, T> Pending<'a, T> {
    /// A result that is there already.
    pub fn ready(answer: T) -> Self {
        Pending::Ready(Some(answer))
    }

    /// Applies `f` to the result.
    pub fn map<U>(self, f: impl FnOnce(T) -> U + Send + 'a) -> Pending<'a, U>
    where
        T: Send + 'a,
    {
        match self {
            Pending::Ready(answer) => Pending::Ready(answer.map(f)),
            Pending::Later(answer) => Pending::later(async { f(answer.await) }),
        }
    }

    /// A result that is still to come.
    pub fn later(answer: impl Future<Output = T> + Send + 'a) -> Self {
        Pending::Later(Box::pin(answer))
    }
}

impl<T: Unpin> Future for Pending<'_, T> {
    type Output = T;

    /// # Panics
    /// If it is polled again after it was ready, as any future may.
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        match self.get_mut() {
            Pending::Ready(answer) => {
                Poll::Ready(answer.take().expect("polled after it was ready"))
            }
            Pending::Later(answer) => answer.as_mut().poll(context),
        }
    }
}

impl<T> fmt::Debug for Pending<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Pending::Ready(_) => "Ready",
            Pending::Later(_) => "Later",
        })
    }
}

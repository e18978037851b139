//! The small trait behind which the kinds of inbox stand, and what goes through it.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use ipc_protocol::{MessageId, PLAINTEXT_BYTES_MAX_DEFAULT};
use tokio::sync::Semaphore;

use crate::dead_letter::{DeadLetter, DeadLetterId, StorageError};
use crate::message::Message;

/// Bytes that a frame has around the body of a reply, and some more.
const FRAME_BYTES: usize = 1024;

/// How many bytes of JSON text a reply may have by default.
pub(crate) const REPLY_BYTES_MAX_DEFAULT: usize = PLAINTEXT_BYTES_MAX_DEFAULT - FRAME_BYTES;

/// What became of a message that was put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// It is in the inbox.
    Accepted,
    /// It was in the inbox before, with the same body; it is not put there again.
    Duplicate,
}

/// Why a message was not put.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PutError {
    /// The user sent another body under this id before.
    #[error("the id was used before, with another body")]
    IdReused,
    /// No room came free in time.
    #[error("the inbox is full")]
    Full,
    /// As many ids are remembered as may be; none can be forgotten before its time.
    #[error("the inbox can remember no further id")]
    RememberedFull,
    /// The inbox cannot store anything at the moment; its log says why.
    #[error("the inbox cannot store messages at the moment")]
    Unavailable,
    /// The inbox was closed.
    #[error("the inbox is closed")]
    Closed,
}

/// Why there is no reply to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoReply {
    /// The application let the request go without one.
    #[error("the application gave no reply")]
    NotGiven,
    /// There was one, or there was going to be, but it is not known any more.
    #[error("the reply is not kept any more")]
    Forgotten,
    /// The inbox cannot look for it at the moment; its log says why.
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
        /// What its storage says.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The delivery's time is over, and the message was or will be delivered again; or the inbox
    /// has ended.
    #[error("delivery expired: the message was redelivered or the inbox closed")]
    TooLate,
    /// This kind of inbox has no such thing. The message is as it was.
    #[error("this kind of inbox cannot do that")]
    Unsupported,
}

/// A message as it leaves the inbox.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Taken {
    /// The message.
    pub message: Message,
    /// The number under which the inbox has lent the message to this delivery. It means nothing to
    /// anybody but the backend, which may use 0 for all.
    pub lease: u64,
    /// How often the message was delivered before, as far as the backend knows.
    pub redeliveries: u32,
    /// Whether this is the last delivery: unacknowledged, the message becomes a dead letter.
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

/// Wakes the receivers of messages that were put, when it is dropped.
///
/// The server drops it after it has written its answer: a receiver that wakes up may take the
/// processor from the thread that woke it, and the sender would wait for both.
#[must_use = "receivers are woken when it is dropped"]
pub struct NotifyGuard(Notification);

enum Notification {
    Nothing,
    /// So many messages, each of which is a permit.
    Permits(Arc<Semaphore>, usize),
    Call(Box<dyn FnOnce() + Send + Sync>),
}

impl NotifyGuard {
    /// Wakes nobody: no message was put, or receivers know of it already.
    pub fn none() -> Self {
        NotifyGuard(Notification::Nothing)
    }

    /// Calls `wake` when it is dropped.
    pub fn on_drop(wake: impl FnOnce() + Send + Sync + 'static) -> Self {
        NotifyGuard(Notification::Call(Box::new(wake)))
    }

    /// Adds so many permits to `arrived` when it is dropped.
    pub(crate) fn new(arrived: &Arc<Semaphore>, messages: usize) -> Self {
        NotifyGuard(match messages {
            0 => Notification::Nothing,
            _ => Notification::Permits(Arc::clone(arrived), messages),
        })
    }

    /// Whether it wakes nobody.
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

/// A kind of inbox: what an engine implements to hold accepted messages.
///
/// [`Inbox::with_backend`](crate::Inbox::with_backend) makes the two sides of an inbox from one.
///
/// Messages come out in the order in which their [`put`](InboxBackend::put) was accepted. One that
/// is delivered again comes before all that were accepted after it and are still to be delivered.
///
/// A backend implements the seven methods that have no default. Methods that are added later have a
/// default. The defaults refuse what a simple backend need not have, each as its documentation
/// says.
///
/// # Example
/// An inbox on a `VecDeque`, whole (`examples/vec_deque.rs`):
///
/// ```
#[doc = include_str!("../examples/vec_deque.rs")]
/// ```
pub trait InboxBackend: Send + Sync + 'static {
    /// Puts a message: looks for its id, remembers the id and keeps the message, in one step.
    ///
    /// While there is no room it waits, no longer than `wait`. A duplicate needs no room. A caller
    /// that drops the answer while there is no room has put nothing; once the answer is
    /// [`Put::Accepted`] the message stays. It is called within a tokio runtime that has time
    /// enabled.
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

    /// Puts many messages of one user in one step, with an answer for each at the same index.
    ///
    /// The first ones, in order, take what room there is. From the first that finds none, all later
    /// ones are [`PutError::Full`], except those that need no room. It waits, no longer than
    /// `wait`, only while there is room for none. Otherwise it is like [`put`](InboxBackend::put).
    ///
    /// The default puts one after the other, and refuses all after the first that finds no room.
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

    /// Takes the next messages, in order, and waits until there is one. It takes no more than
    /// `count_max` (at least 1), and does not wait for more than one. It returns none once the
    /// inbox is closed and empty. A caller that drops the answer unfinished has taken nothing.
    fn take(&self, count_max: usize) -> Pending<'_, Vec<Taken>>;

    /// Notes that the application is done with a message. A request that is acknowledged without a
    /// reply is [`NoReply::NotGiven`].
    ///
    /// # Errors
    /// [`AckError`].
    fn acknowledge(&self, taken: &Taken) -> Pending<'_, Result<(), AckError>>;

    /// [`acknowledge`](InboxBackend::acknowledge) for many messages, with an answer for each at the
    /// same index. The default begins all of them before it waits for the first.
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

    /// Hears that a delivery was dropped: the application neither acknowledged the message nor
    /// replied to it nor gave it back. A request's sender is told at once that there is no reply.
    fn dropped(&self, taken: &Taken);

    /// Puts a message back that the application could not deal with: it is delivered again once
    /// `delay` is over. After its last delivery it becomes a dead letter instead. The sender of a
    /// request goes on waiting.
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
    /// The default does nothing, which is right where no time runs out.
    ///
    /// # Errors
    /// [`AckError`].
    fn extend(&self, taken: &Taken, time: Duration) -> Pending<'_, Result<(), AckError>> {
        let _ = (taken, time);
        Pending::ready(Ok(()))
    }

    /// Makes a message a dead letter at once: the application says that it can never be dealt
    /// with. A request's sender is told that there is no reply.
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

    /// Notes the reply to a request, which also acknowledges it. `body` is a JSON object as text.
    /// The default is [`AckError::Unsupported`]. [`Replies`](crate::Replies) does the bookkeeping.
    ///
    /// # Errors
    /// [`AckError`].
    fn reply(&self, taken: &Taken, body: Arc<str>) -> Pending<'_, Result<(), AckError>> {
        let _ = (taken, body);
        Pending::ready(Err(AckError::Unsupported))
    }

    /// Waits for the reply to a request that was put, however often it was put and however many
    /// wait. The default is [`NoReply::NotGiven`].
    ///
    /// # Errors
    /// [`NoReply`].
    fn reply_to(&self, user: &str, id: MessageId) -> Pending<'_, Result<Arc<str>, NoReply>> {
        let _ = (user, id);
        Pending::ready(Err(NoReply::NotGiven))
    }

    /// Whether somebody waits for the reply to this request at the moment. The default, for a
    /// backend that does not know, is `true`.
    fn is_awaited(&self, taken: &Taken) -> bool {
        let _ = taken;
        true
    }

    /// How many bytes of JSON text a reply may have. The default is 16 MiB less 1 KiB: what a
    /// client takes by default, less what a frame has around it.
    fn reply_bytes_max(&self) -> usize {
        REPLY_BYTES_MAX_DEFAULT
    }

    /// The dead letters after the one with that id, oldest first, no more than `count_max`. The
    /// default has none.
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

    /// Lets dead letters be delivered again, as if they never had been. Returns how many there
    /// were. The default has none.
    ///
    /// # Errors
    /// [`StorageError`].
    fn requeue(&self, ids: &[DeadLetterId]) -> Pending<'_, Result<usize, StorageError>> {
        let _ = ids;
        Pending::ready(Ok(0))
    }

    /// Removes dead letters for good. Returns how many there were. The default has none.
    ///
    /// # Errors
    /// [`StorageError`].
    fn discard(&self, ids: &[DeadLetterId]) -> Pending<'_, Result<usize, StorageError>> {
        let _ = ids;
        Pending::ready(Ok(0))
    }

    /// Refuses every put from now on; what is in stays there to be taken. It is closed when this
    /// returns. The answer comes when everything is in the inbox's file, if it has one.
    fn close(&self) -> Pending<'_, ()>;

    /// How many messages wait to be taken, those that were put back included. Those that were taken
    /// and not yet acknowledged are not among them.
    fn waiting(&self) -> Pending<'_, u64>;

    /// Ends the inbox: closes it, delivers nothing any more, and answers when all that was asked
    /// for before is done and what it keeps is written. The answer is how many messages were still
    /// [`waiting`](InboxBackend::waiting): what is only in memory ends with it. Receivers get
    /// none, and whoever waits for a reply hears that there is none now.
    fn finish(&self) -> Pending<'_, u64>;
}

/// An answer that is there, or one to be waited for. An answer that is there costs no allocation,
/// and is the usual case.
pub enum Pending<'a, T> {
    /// The answer; `None` after it was given.
    Ready(Option<T>),
    /// Still to come.
    Later(Pin<Box<dyn Future<Output = T> + Send + 'a>>),
}

impl<'a, T> Pending<'a, T> {
    /// An answer that is there.
    pub fn ready(answer: T) -> Self {
        Pending::Ready(Some(answer))
    }

    /// What `f` makes of the answer.
    pub fn map<U>(self, f: impl FnOnce(T) -> U + Send + 'a) -> Pending<'a, U>
    where
        T: Send + 'a,
    {
        match self {
            Pending::Ready(answer) => Pending::Ready(answer.map(f)),
            Pending::Later(answer) => Pending::later(async { f(answer.await) }),
        }
    }

    /// An answer to be waited for.
    pub fn later(answer: impl Future<Output = T> + Send + 'a) -> Self {
        Pending::Later(Box::pin(answer))
    }
}

impl<T: Unpin> Future for Pending<'_, T> {
    type Output = T;

    /// # Panics
    /// When polled again after it was ready, as any future may.
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

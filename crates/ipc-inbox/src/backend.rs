//! The small trait behind which the kinds of inbox stand, and what goes through it.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use ipc_protocol::{Fingerprint, MessageId};
use tokio::sync::Semaphore;

/// A message that the server has admitted.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    /// The id its sender gave it.
    pub id: MessageId,
    /// The user who sent it.
    pub user: Arc<str>,
    /// The certificate it came with; `None` over plain http.
    pub certificate: Option<Fingerprint>,
    /// When the server had it.
    pub received_at: SystemTime,
    /// The JSON object as text, as it was sent.
    pub body: Box<str>,
    /// Whether its sender waits for a reply.
    pub wants_reply: bool,
}

impl fmt::Debug for Message {
    /// Leaves the body out: it may be long, and it is not ours to show.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("id", &self.id)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

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

/// An acknowledgement or a reply that was not taken down: the message may be delivered again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AckError {
    /// The inbox could not store it.
    #[error("the inbox cannot store the acknowledgement")]
    Storage {
        /// What its storage says.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The inbox has handed the message out again in the meantime, or has ended.
    #[error("the message is not this delivery's any more")]
    TooLate,
}

/// A message as it leaves the inbox.
#[derive(Clone, Debug)]
pub struct Taken {
    /// The message.
    pub message: Message,
    /// What the inbox knows it by; of no meaning to anybody else.
    pub ticket: u64,
    /// How often it was handed out before, as far as that is known.
    pub redeliveries: u32,
    /// Not acknowledged, it is not handed out again, and is put aside as a dead letter.
    pub is_last_try: bool,
}

/// Messages that were put, and of which those who wait for messages are told when this is dropped.
///
/// The server drops it behind its answer: a thread that wakes up may take the processor from the
/// one that woke it, and the sender would wait for both.
#[must_use = "whoever waits for messages is told when it is dropped"]
pub struct Arrivals(Option<(Arc<Semaphore>, usize)>);

impl Arrivals {
    /// None that anybody is still to be told of.
    pub fn none() -> Self {
        Arrivals(None)
    }

    /// So many, each of which is a permit of `arrived`.
    pub(crate) fn new(arrived: &Arc<Semaphore>, messages: usize) -> Self {
        Arrivals((messages > 0).then(|| (Arc::clone(arrived), messages)))
    }

    /// Whether nobody is still to be told of anything.
    pub fn is_none(&self) -> bool {
        self.0.is_none()
    }
}

impl Drop for Arrivals {
    fn drop(&mut self) {
        if let Some((arrived, messages)) = self.0.take() {
            arrived.add_permits(messages);
        }
    }
}

impl fmt::Debug for Arrivals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Arrivals")
            .field(&self.0.as_ref().map_or(0, |(_, messages)| *messages))
            .finish()
    }
}

/// A kind of inbox.
///
/// Messages come out in the order in which their [`put`](InboxBackend::put) was accepted; one that
/// is handed out again comes before those that were accepted after it.
pub trait InboxBackend: Send + Sync + 'static {
    /// Puts a message, and waits for room no longer than `wait`. A duplicate is known as such even
    /// when there is no room. Whoever drops the answer while there is no room has put nothing; once
    /// it is `Accepted` the message stays. To be called within a tokio runtime that has time
    /// enabled.
    ///
    /// Whoever waits for messages may be told of it only when the [`Arrivals`] are dropped.
    fn put(
        &self,
        message: Message,
        wait: Duration,
    ) -> Pending<'_, (Result<Put, PutError>, Arrivals)>;

    /// Puts many messages of one user in one step, each with an answer of its own at the same
    /// index. The first ones, in order, take what room there is; from the first that finds none all
    /// later ones are [`PutError::Full`], but for those that need none. Waits, no longer than
    /// `wait`, only while there is room for none. Otherwise like [`put`](InboxBackend::put).
    fn put_all(
        &self,
        messages: Vec<Message>,
        wait: Duration,
    ) -> Pending<'_, (Vec<Result<Put, PutError>>, Arrivals)>;

    /// Takes the next messages, in order, and waits until there is one. Takes no more than
    /// `count_max` (at least 1), and does not wait for more than one. None once the inbox is closed
    /// and empty. Whoever drops the answer unfinished has taken nothing.
    fn take(&self, count_max: usize) -> Pending<'_, Vec<Taken>>;

    /// Notes that a message has been dealt with. A request acknowledged without a reply is
    /// [`NoReply::NotGiven`].
    fn acknowledge(&self, taken: &Taken) -> Pending<'_, Result<(), AckError>>;

    /// Notes that many messages have been dealt with, each with an answer of its own at the same
    /// index. Otherwise like [`acknowledge`](InboxBackend::acknowledge).
    fn acknowledge_all(&self, taken: &[&Taken]) -> Pending<'_, Vec<Result<(), AckError>>> {
        let answers: Vec<_> = taken.iter().map(|taken| self.acknowledge(taken)).collect();
        Pending::later(async {
            let mut results = Vec::with_capacity(answers.len());
            // All are begun before the first is waited for.
            for answer in answers {
                results.push(answer.await);
            }
            results
        })
    }

    /// Notes the reply to a request, which also acknowledges it. `body` is a JSON object as text.
    fn reply(&self, taken: &Taken, body: Arc<str>) -> Pending<'_, Result<(), AckError>>;

    /// Hears that a delivery was dropped, neither acknowledged nor replied to. A request's sender
    /// is told at once.
    fn abandon(&self, taken: &Taken);

    /// Waits for the reply to a request that was put, however often it was put and however many
    /// wait.
    fn reply_to(&self, user: &str, id: MessageId) -> Pending<'_, Result<Arc<str>, NoReply>>;

    /// Whether somebody waits for the reply to this request at the moment.
    fn is_awaited(&self, taken: &Taken) -> bool;

    /// How long the text of a reply may be, in bytes.
    fn reply_bytes_max(&self) -> usize;

    /// Refuses everything from now on; what is in stays there to be taken. It is closed when this
    /// returns; whoever waits for the answer also knows that everything is in its file, as far as
    /// it has one.
    fn close(&self) -> Pending<'_, ()>;

    /// How many messages wait to be taken. Those that were taken and not yet acknowledged are not
    /// among them.
    fn waiting(&self) -> Pending<'_, u64>;

    /// Ends the inbox: closes it, hands nothing out any more, and returns when all that was asked
    /// for before is done and what it keeps is written. Returns how many messages were still
    /// [`waiting`](InboxBackend::waiting): what is only in memory ends with it. Whoever waits for
    /// messages gets none, whoever waits for a reply hears that there is none now.
    fn finish(&self) -> Pending<'_, u64>;
}

/// An answer that is there, or one to be waited for. The first costs no allocation, which is the
/// usual case.
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
    pub(crate) fn map<U>(self, f: impl FnOnce(T) -> U + Send + 'a) -> Pending<'a, U>
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

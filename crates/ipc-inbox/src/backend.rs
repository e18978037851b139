//! The small trait behind which the kinds of inbox stand, and what goes through it.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::SystemTime;

use ipc_protocol::{Fingerprint, MessageId};

use crate::Delivery;

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
}

impl fmt::Debug for Message {
    /// Leaves the body out: it may be long, and it is not ours to show.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message").field("id", &self.id).field("user", &self.user).finish_non_exhaustive()
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
    /// As many ids are remembered as may be; none can be forgotten before its time.
    #[error("the inbox can remember no further id")]
    RememberedFull,
    /// The inbox was closed.
    #[error("the inbox is closed")]
    Closed,
}

/// A kind of inbox.
///
/// Messages come out in the order in which their [`put`](InboxBackend::put) was accepted.
pub trait InboxBackend: Send + Sync + 'static {
    /// Puts a message, and waits while there is no room. Whoever drops the answer unfinished has put nothing;
    /// once it is `Accepted` the message stays. A duplicate is known as such even when there is no room.
    fn put(&self, message: Message) -> Pending<'_, Result<Put, PutError>>;

    /// Takes the next message, and waits until there is one. `None` once the inbox is closed and empty. Whoever
    /// drops the answer unfinished has taken nothing.
    fn take(&self) -> Pending<'_, Option<Delivery>>;

    /// Refuses everything from now on; what is in stays there to be taken.
    fn close(&self);
}

/// An answer that is there, or one to be waited for. The first costs no allocation, which is the usual case.
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
            Pending::Ready(answer) => Poll::Ready(answer.take().expect("polled after it was ready")),
            Pending::Later(answer) => answer.as_mut().poll(context),
        }
    }
}

//! A message in the application's hands.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ipc_protocol::{Fingerprint, JsonError, MessageId, check_body, to_body};
use serde::{Deserialize, Serialize};

use crate::backend::{AckError, InboxBackend, Taken};
use crate::dead_letter::kept_reason;

/// A message in the application's hands, with its sender. The application ends it in one of these
/// ways:
///
/// | call | the message | the sender of a request |
/// |---|---|---|
/// | [`ack`](Delivery::ack) | is done with | hears that there is no reply |
/// | [`reply`](Delivery::reply) | is done with | gets the reply |
/// | [`nack`](Delivery::nack) | is delivered again after a time, a dead letter after its last delivery | goes on waiting |
/// | [`reject`](Delivery::reject) | is a dead letter at once | hears that there is no reply |
/// | dropped | is lost from memory; a durable inbox delivers it again | hears at once that there is no reply; the request is done with |
///
/// A durable inbox lends a message for a time, 5 minutes by default, and delivers it again when
/// that is over. [`extend`](Delivery::extend) asks for more. A delivery whose time is over, or
/// whose inbox has ended, can do nothing any more: each call is [`AckError::TooLate`], and reaches
/// nobody who has the message by then. An inbox in memory sets no time.
#[must_use = "a delivery that is dropped is not acknowledged"]
pub struct Delivery {
    taken: Taken,
    backend: Arc<dyn InboxBackend>,
    /// Acknowledged, replied to, put back or rejected, or on the way there.
    is_settled: bool,
}

/// The body is not of the type it was asked for as.
#[derive(Debug, thiserror::Error)]
#[error("the message is not of the expected form")]
pub struct ParseError(#[source] serde_json::Error);

/// A reply that was not given.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplyError {
    /// The message was sent by somebody who waits for no reply. It has not been acknowledged.
    #[error("the message is no request")]
    NotARequest,
    /// The reply is not a JSON object. The sender is told that there is none.
    #[error(transparent)]
    Body(#[from] ipc_protocol::BodyError),
    /// The reply breaks the protocol's rules for JSON, which only its whole text shows: a member
    /// name given twice, more than 127 levels; of raw JSON also numbers and escapes. The sender is
    /// told that there is none.
    #[error("the reply breaks the protocol's rules for JSON")]
    Rules(#[source] JsonError),
    /// The reply is too long. The sender is told that there is none.
    #[error("the reply has {bytes} bytes of JSON, {bytes_max} may be sent")]
    TooLarge {
        /// Bytes of the reply.
        bytes: usize,
        /// Bytes it may have.
        bytes_max: usize,
    },
    /// The inbox did not take it.
    #[error(transparent)]
    Ack(#[from] AckError),
}

impl Delivery {
    pub(crate) fn new(taken: Taken, backend: Arc<dyn InboxBackend>) -> Self {
        Delivery { taken, backend, is_settled: false }
    }

    /// The JSON object as text, exactly as it was sent.
    pub fn body(&self) -> &str {
        &self.taken.message.body
    }

    /// The JSON object as a value: `serde_json::Value`, or a type of the application's own.
    ///
    /// # Errors
    /// [`ParseError`] if the object is not of the form that `T` asks for. A `serde_json::Value`
    /// takes any.
    pub fn parse<'a, T: Deserialize<'a>>(&'a self) -> Result<T, ParseError> {
        serde_json::from_str(self.body()).map_err(ParseError)
    }

    /// The user who sent it.
    pub fn user(&self) -> &str {
        &self.taken.message.user
    }

    /// The certificate it came with; `None` over plain http.
    pub fn certificate(&self) -> Option<Fingerprint> {
        self.taken.message.certificate
    }

    /// The id its sender gave it, the same however often it was sent.
    pub fn id(&self) -> MessageId {
        self.taken.message.id
    }

    /// When the server had it.
    pub fn received_at(&self) -> SystemTime {
        self.taken.message.received_at
    }

    /// Whether its sender waits for a [`reply`](Delivery::reply).
    pub fn wants_reply(&self) -> bool {
        self.taken.message.wants_reply
    }

    /// Whether somebody waits for the reply at this moment. Whoever stopped may come again under
    /// the same id, so that a request nobody has waited for is given up only after a while. `false`
    /// for a message that is no request.
    pub fn is_awaited(&self) -> bool {
        self.wants_reply() && self.backend.is_awaited(&self.taken)
    }

    /// How long the text of a reply may be, in bytes.
    pub fn reply_bytes_max(&self) -> usize {
        self.backend.reply_bytes_max()
    }

    /// How often it was handed out before, as far as that is known. Anything but 0 means that
    /// somebody may have dealt with it already, in part or in full.
    pub fn redeliveries(&self) -> u32 {
        self.taken.redeliveries
    }

    /// Whether this is its last delivery: put back, or in a durable inbox dropped or out of time,
    /// it becomes a dead letter.
    pub fn is_last_delivery(&self) -> bool {
        self.taken.is_last_delivery
    }

    /// Says that the message has been dealt with. From a durable inbox it returns when that is on
    /// the disk.
    ///
    /// # Errors
    /// [`AckError`] if that could not be noted; the message may then be delivered again. None from
    /// the inbox in memory.
    pub async fn ack(mut self) -> Result<(), AckError> {
        self.is_settled = true;
        self.backend.acknowledge(&self.taken).await
    }

    /// [`ack`](Delivery::ack) for code that is not async.
    ///
    /// # Errors
    /// As `ack`.
    pub fn ack_blocking(self) -> Result<(), AckError> {
        futures_executor::block_on(self.ack())
    }

    /// [`ack`](Delivery::ack) for many at once, each with an answer of its own at the same index.
    /// Those of a durable inbox share one commit and one way to its thread, and cost little more
    /// than one.
    pub async fn ack_all(mut deliveries: Vec<Delivery>) -> Vec<Result<(), AckError>> {
        for delivery in &mut deliveries {
            delivery.is_settled = true;
        }
        // Mostly they are of one inbox.
        let groups: Vec<_> = deliveries
            .chunk_by(|one, next| Arc::ptr_eq(&one.backend, &next.backend))
            .filter_map(|group| {
                let taken: Vec<_> = group.iter().map(|delivery| &delivery.taken).collect();
                Some(group.first()?.backend.acknowledge_all(&taken))
            })
            .collect();
        let mut results = Vec::with_capacity(deliveries.len());
        for answers in groups {
            results.append(&mut answers.await);
        }
        results
    }

    /// Puts the message back: it cannot be dealt with now, and is delivered again once `delay` is
    /// over, before all that was accepted after it. After its
    /// [last delivery](Delivery::is_last_delivery), the tenth by default, it becomes a dead letter
    /// instead. The sender of a request goes on waiting.
    ///
    /// The delay is kept in memory: after a restart a durable inbox delivers the message at once.
    /// An inbox that is closed delivers it at once too.
    ///
    /// # Errors
    /// [`AckError::TooLate`] if the message is not this delivery's any more.
    /// [`AckError::Unsupported`] if the kind of inbox puts nothing back: the delivery is dropped.
    pub async fn nack(mut self, delay: Duration) -> Result<(), AckError> {
        // The backend has it from here on, whether or not the answer is awaited.
        self.is_settled = true;
        let noted = self.backend.nack(&self.taken, delay).await;
        self.is_settled = !matches!(noted, Err(AckError::Unsupported));
        // The last delivery makes a dead letter, which has a line of its own.
        if noted.is_ok() && !self.is_last_delivery() {
            let what = if self.wants_reply() { "request" } else { "message" };
            log::info!("{what} {} was given back and comes again in {delay:?}", self.id());
        }
        noted
    }

    /// [`nack`](Delivery::nack) for code that is not async.
    ///
    /// # Errors
    /// As `nack`.
    pub fn nack_blocking(self, delay: Duration) -> Result<(), AckError> {
        futures_executor::block_on(self.nack(delay))
    }

    /// Makes the message a dead letter at once: it can never be dealt with. `reason` says why, and
    /// is kept with it, up to 4096 bytes. The sender of a request hears that there is no reply.
    ///
    /// [`Inbox::dead_letters`](crate::Inbox::dead_letters) lists it. A durable inbox keeps it until
    /// it is discarded. An inbox in memory keeps the newest of them until the process ends.
    ///
    /// # Errors
    /// [`AckError`] if that could not be noted; the message may then be delivered again.
    /// [`AckError::Unsupported`] if the kind of inbox has no dead letters: the delivery is dropped.
    pub async fn reject(mut self, reason: impl AsRef<str>) -> Result<(), AckError> {
        let reason = kept_reason(reason.as_ref());
        self.is_settled = true;
        let noted = self.backend.reject(&self.taken, reason).await;
        self.is_settled = !matches!(noted, Err(AckError::Unsupported));
        noted
    }

    /// [`reject`](Delivery::reject) for code that is not async.
    ///
    /// # Errors
    /// As `reject`.
    pub fn reject_blocking(self, reason: impl AsRef<str>) -> Result<(), AckError> {
        futures_executor::block_on(self.reject(reason))
    }

    /// Asks for `time` from now on, in place of what is left, before the message is delivered
    /// again. A handler that takes long calls it now and then. An inbox in memory sets no time, and
    /// has nothing to do.
    ///
    /// # Errors
    /// [`AckError::TooLate`] if the time is over already.
    pub async fn extend(&self, time: Duration) -> Result<(), AckError> {
        self.backend.extend(&self.taken, time).await
    }

    /// [`extend`](Delivery::extend) for code that is not async.
    ///
    /// # Errors
    /// As `extend`.
    pub fn extend_blocking(&self, time: Duration) -> Result<(), AckError> {
        futures_executor::block_on(self.extend(time))
    }

    /// Answers a request, and acknowledges it. `reply` must serialise to a JSON object.
    ///
    /// # Errors
    /// [`ReplyError`].
    pub async fn reply<T: Serialize + ?Sized>(mut self, reply: &T) -> Result<(), ReplyError> {
        if !self.wants_reply() {
            return Err(ReplyError::NotARequest);
        }
        let body = to_body(reply)?;
        let (bytes, bytes_max) = (body.len(), self.backend.reply_bytes_max());
        if bytes > bytes_max {
            return Err(ReplyError::TooLarge { bytes, bytes_max });
        }
        // What only a whole text shows the client would refuse, and take for the fault of a server
        // that is none of ours.
        check_body(&body).map_err(ReplyError::Rules)?;
        self.is_settled = true;
        let noted = self.backend.reply(&self.taken, body.into()).await;
        self.is_settled = !matches!(noted, Err(AckError::Unsupported));
        Ok(noted?)
    }

    /// [`reply`](Delivery::reply) for code that is not async.
    ///
    /// # Errors
    /// As `reply`.
    pub fn reply_blocking<T: Serialize + ?Sized>(self, reply: &T) -> Result<(), ReplyError> {
        futures_executor::block_on(self.reply(reply))
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if !self.is_settled {
            self.backend.dropped(&self.taken);
        }
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery").field("message", &self.taken.message).finish_non_exhaustive()
    }
}

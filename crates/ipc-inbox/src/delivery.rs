//! A message that the application has received.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ipc_base::chain;
use ipc_protocol::{Fingerprint, JsonError, MessageId, check_body, to_body, to_reason};
use serde::{Deserialize, Serialize};

use crate::backend::{AckError, Taken};
use crate::counted::Counted;
use crate::dead_letter::kept_reason;

/// A message that the application has received, with its sender. The application ends the delivery
/// in one of these ways:
///
/// | call | the message | the sender of a request |
/// |---|---|---|
/// | [`ack`](Delivery::ack) | is done with | hears that there is no reply |
/// | [`reply`](Delivery::reply) | is done with | gets the reply |
/// | [`decline`](Delivery::decline) | is done with | hears that there is no reply, and why |
/// | [`nack`](Delivery::nack) | is delivered again after a time, a dead letter after its last delivery | goes on waiting |
/// | [`reject`](Delivery::reject) | is a dead letter at once | hears that there is no reply |
/// | dropped | is lost from memory; a durable inbox delivers it again | hears at once that there is no reply; the request is done with |
///
/// A durable inbox leases a message for a time, 5 minutes by default, and delivers it again when
/// that time is over. [`extend`](Delivery::extend) asks for more. A delivery that has expired, or
/// whose inbox has ended, can do nothing: every call returns [`AckError::TooLate`], and does not
/// affect a later delivery of the message. In an inbox in memory deliveries do not expire.
#[must_use = "a delivery that is dropped is not acknowledged"]
pub struct Delivery {
    taken: Taken,
    backend: Arc<Counted>,
    /// The message was acknowledged, replied to, declined, given back or rejected, or the call that
    /// does so has begun.
    is_settled: bool,
}

/// The body does not have the form of the requested type.
#[derive(Debug, thiserror::Error)]
#[error("the message is not of the expected form")]
pub struct ParseError(#[source] serde_json::Error);

/// Why a reply was not given, or a request not declined.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplyError {
    /// The sender waits for no reply. The message has not been acknowledged.
    #[error("the message is no request")]
    NotARequest,
    /// The reply is not a JSON object. The sender hears so: the request is
    /// [declined](Delivery::decline).
    #[error(transparent)]
    Body(#[from] ipc_protocol::BodyError),
    /// The reply breaks a rule of the protocol for JSON that only the whole text can show: a
    /// repeated member name, or more than 127 levels; in raw JSON also numbers and escapes. The
    /// sender hears so: the request is [declined](Delivery::decline).
    #[error("the reply breaks the protocol's rules for JSON")]
    Rules(#[source] JsonError),
    /// The reply is too long. The sender hears so: the request is [declined](Delivery::decline).
    #[error("the reply has {bytes} bytes of JSON, {bytes_max} may be sent")]
    TooLarge {
        /// Bytes of the reply.
        bytes: usize,
        /// How many bytes are allowed.
        bytes_max: usize,
    },
    /// The inbox did not accept the reply.
    #[error(transparent)]
    Ack(#[from] AckError),
}

impl Delivery {
    pub(crate) fn new(taken: Taken, backend: Arc<Counted>) -> Self {
        Delivery { taken, backend, is_settled: false }
    }

    /// The JSON object as text, exactly as it was sent.
    pub fn body(&self) -> &str {
        &self.taken.message.body
    }

    /// The JSON object as a value: a `serde_json::Value`, or a type of the application.
    ///
    /// # Errors
    /// [`ParseError`] if the object does not have the form of `T`. A `serde_json::Value` accepts
    /// every object.
    pub fn parse<'a, T: Deserialize<'a>>(&'a self) -> Result<T, ParseError> {
        serde_json::from_str(self.body()).map_err(ParseError)
    }

    /// The user who sent the message.
    pub fn user(&self) -> &str {
        &self.taken.message.user
    }

    /// The certificate of the sender's connection; `None` over plain HTTP.
    pub fn certificate(&self) -> Option<Fingerprint> {
        self.taken.message.certificate
    }

    /// The peer name in the [certificate](Delivery::certificate) of the sender's connection; `None`
    /// over plain HTTP, if the certificate has none, or if an older version stored the message.
    pub fn peer(&self) -> Option<&str> {
        self.taken.message.peer.as_deref()
    }

    /// The id that the sender gave the message. It is the same in every attempt.
    pub fn id(&self) -> MessageId {
        self.taken.message.id
    }

    /// When the server received the message.
    pub fn received_at(&self) -> SystemTime {
        self.taken.message.received_at
    }

    /// Whether the sender waits for a [`reply`](Delivery::reply).
    pub fn wants_reply(&self) -> bool {
        self.taken.message.wants_reply
    }

    /// Whether the sender waits for the reply at this moment. A sender that stopped waiting may ask
    /// again with the same id, so give up a request only after nobody has waited for a while.
    /// `false` for a message that is no request.
    pub fn is_awaited(&self) -> bool {
        self.wants_reply() && self.backend.is_awaited(&self.taken)
    }

    /// How many bytes the text of a reply may have.
    pub fn reply_bytes_max(&self) -> usize {
        self.backend.reply_bytes_max()
    }

    /// How often the message was delivered before, as far as the inbox knows. If it is not 0, an
    /// earlier delivery may have processed the message, in part or in full.
    pub fn redeliveries(&self) -> u32 {
        self.taken.redeliveries
    }

    /// Whether this is the last delivery. If the application gives the message back, it becomes a
    /// dead letter; in a durable inbox also if the delivery is dropped or expires.
    pub fn is_last_delivery(&self) -> bool {
        self.taken.is_last_delivery
    }

    /// Acknowledges the message: the application has processed it. A durable inbox returns when
    /// that is on the disk.
    ///
    /// # Errors
    /// [`AckError`] if the acknowledgement could not be noted; the message may then be delivered
    /// again. The inbox in memory returns no error.
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

    /// [`ack`](Delivery::ack) for many deliveries, with a result for each at the same index. Those
    /// of a durable inbox share one commit and one command to its thread, and cost little more than
    /// one.
    pub async fn ack_all(mut deliveries: Vec<Delivery>) -> Vec<Result<(), AckError>> {
        for delivery in &mut deliveries {
            delivery.is_settled = true;
        }
        // Usually all deliveries are of one inbox.
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

    /// Gives the message back, since the application cannot process it now. The inbox delivers it
    /// again once `delay` is over, before every message that was accepted after it. After its [last
    /// delivery](Delivery::is_last_delivery), the tenth by default, the message becomes a dead
    /// letter instead. The sender of a request keeps waiting.
    ///
    /// The delay is kept in memory only: after a restart a durable inbox delivers the message at
    /// once. A closed inbox delivers it at once too.
    ///
    /// # Errors
    /// [`AckError::TooLate`] if the delivery has expired. [`AckError::Unsupported`] if this kind of
    /// inbox takes no messages back: the delivery is dropped.
    pub async fn nack(mut self, delay: Duration) -> Result<(), AckError> {
        // From here on the backend has the message, even if the future is dropped.
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

    /// Makes the message a dead letter at once, since the application can never process it. The
    /// inbox keeps `reason` with it, up to 4096 bytes. The sender of a request is told that there
    /// is no reply.
    ///
    /// [`Inbox::dead_letters`](crate::Inbox::dead_letters) lists the message. A durable inbox keeps
    /// it until it is discarded. An inbox in memory keeps only the newest dead letters, until the
    /// process ends.
    ///
    /// # Errors
    /// [`AckError`] if the rejection could not be noted; the message may then be delivered again.
    /// [`AckError::Unsupported`] if this kind of inbox has no dead letters: the delivery is
    /// dropped.
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

    /// Extends the lease: the message is delivered again only when `time` from now is over. `time`
    /// replaces what is left of the lease. A handler that takes long calls this method now and
    /// then. In an inbox in memory, where deliveries do not expire, it does nothing.
    ///
    /// # Errors
    /// [`AckError::TooLate`] if the delivery has expired already.
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

    /// Replies to a request, and acknowledges it. `reply` must serialise to a JSON object.
    ///
    /// # Errors
    /// [`ReplyError`].
    pub async fn reply<T: Serialize + ?Sized>(mut self, reply: &T) -> Result<(), ReplyError> {
        if !self.wants_reply() {
            return Err(ReplyError::NotARequest);
        }
        let body = match checked(reply, self.backend.reply_bytes_max()) {
            Ok(body) => body,
            Err(error) => {
                let reason = chain(&error).to_string();
                // If that fails, the request is delivered again, or nobody is there to be told.
                let _noted = self.decline(reason).await;
                return Err(error);
            }
        };
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

    /// Acknowledges a request without a reply, and tells its sender why. The sender gets one line:
    /// control characters of `reason` become spaces, and it is cut at
    /// [`REASON_BYTES_MAX`](ipc_protocol::REASON_BYTES_MAX) bytes. So say in it what the sender may
    /// know. Without a word in it this is [`ack`](Delivery::ack).
    ///
    /// # Errors
    /// [`ReplyError::NotARequest`]; [`ReplyError::Ack`] if it could not be noted: the request may
    /// then be delivered again.
    pub async fn decline(mut self, reason: impl AsRef<str>) -> Result<(), ReplyError> {
        if !self.wants_reply() {
            return Err(ReplyError::NotARequest);
        }
        let reason = to_reason(reason.as_ref());
        if reason.is_empty() {
            return Ok(self.ack().await?);
        }
        self.is_settled = true;
        let noted = self.backend.decline(&self.taken, reason.into()).await;
        self.is_settled = !matches!(noted, Err(AckError::Unsupported));
        Ok(noted?)
    }

    /// [`decline`](Delivery::decline) for code that is not async.
    ///
    /// # Errors
    /// As `decline`.
    pub fn decline_blocking(self, reason: impl AsRef<str>) -> Result<(), ReplyError> {
        futures_executor::block_on(self.decline(reason))
    }
}

/// The text of a reply, if it may be sent.
fn checked<T: Serialize + ?Sized>(reply: &T, bytes_max: usize) -> Result<String, ReplyError> {
    let body = to_body(reply)?;
    let bytes = body.len();
    if bytes > bytes_max {
        return Err(ReplyError::TooLarge { bytes, bytes_max });
    }
    // The client checks these rules on the whole text. It would refuse the reply, and report a
    // server that breaks the protocol.
    check_body(&body).map_err(ReplyError::Rules)?;
    Ok(body)
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

//! The handle that applications hold, and the calls that it begins.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use ipc_protocol::{DEADLINE_SECS_MAX, MessageId, REPLY_WAIT_SECS_DEFAULT, fits_an_entry, to_body};
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::call::{Call, Kind, Messages};
use crate::config::Config;
use crate::error::SendError;
use crate::receipt::{Reply, Sent};
use crate::worker::Job;

/// How long a reply is waited for, unless said otherwise.
pub const REPLY_TIMEOUT_DEFAULT: Duration = Duration::from_secs(REPLY_WAIT_SECS_DEFAULT);

/// Sends messages to one server.
///
/// A handle: cloning it is cheap, and all clones share connections, session and thread. It is
/// `Send + Sync`, and its futures can be awaited on any async runtime, or on none. When the last
/// clone is gone and what was begun is done, the thread ends.
///
/// Built with [`Client::builder`]; for code that is not async there is
/// [`blocking::Client`](crate::blocking::Client).
#[derive(Clone)]
pub struct Client {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) jobs: mpsc::UnboundedSender<Job>,
    pub(crate) config: Config,
    server: String,
    address: String,
}

impl Client {
    /// The handle to a client that takes its jobs there.
    pub(crate) fn new(
        jobs: mpsc::UnboundedSender<Job>,
        config: Config,
        server: String,
        address: String,
    ) -> Self {
        Client { shared: Arc::new(Shared { jobs, config, server, address }) }
    }

    /// Sends a message: anything that serialises to a JSON object.
    ///
    /// Returns once the message is in the server's inbox. It is sealed with an id of its own; where
    /// the connection breaks, the server is not up or asks to wait, it is sent again under that id
    /// with growing pauses until the [timeout](SendCall::timeout), and is in the inbox once,
    /// however often it was sent. A session that is over is renewed in passing.
    ///
    /// The message is serialised at the call; nothing is sent before the future is first polled.
    /// Messages sent one after the other arrive in that order; of those under way at the same time
    /// any may be first.
    ///
    /// Dropping the future gives up waiting, and no further attempt is begun: a message that still
    /// waits for a connection is not sent. One that is on its way may still arrive.
    ///
    /// # Errors
    /// [`SendError`], whose [`outcome`](SendError::outcome) tells what became of the message.
    pub fn send<T: Serialize + ?Sized>(&self, message: &T) -> SendCall {
        SendCall(self.shared.begin(message, self.shared.config.timeout))
    }

    /// Sends a message, as [`send`](Client::send) does, and waits for the application's reply to
    /// it, for 30 s unless told [otherwise](RequestCall::timeout).
    ///
    /// Where the connection breaks, the request is sent again under its id: the application sees it
    /// once, and its first reply is the answer, also where it was given while nobody was connected.
    /// One that takes longer than the server lets anybody wait is asked for again in the same way.
    ///
    /// Thousands of requests may wait at the same time: over a channel they share one connection.
    /// Where the server opens none, each holds a connection until its reply is there, and they
    /// leave one to everything else.
    ///
    /// Dropping the future gives up waiting. The request may still arrive, and be worked on.
    ///
    /// # Errors
    /// [`SendError::NoReply`], with [`Outcome::Accepted`](crate::Outcome::Accepted), if the server
    /// took the request and there is no reply to it; else as for a message that is sent.
    pub fn request<T: Serialize + ?Sized>(&self, message: &T) -> RequestCall {
        let begun = self.shared.begin(message, self.shared.config.timeout);
        RequestCall { begun, reply_wait: REPLY_TIMEOUT_DEFAULT }
    }

    /// Asks the server whether it runs, in one attempt, without a login.
    ///
    /// `false` means that nobody answered: no connection could be made, or it broke. The
    /// certificates of both ends are verified as for a message.
    ///
    /// # Errors
    /// [`SendError`] if something answered that is not a server to send to: a certificate that is
    /// not trusted, a refusal of this client's own, an answer of another kind.
    pub fn is_running(&self) -> impl Future<Output = Result<bool, SendError>> + Send + use<> {
        let shared = self.shared.clone();
        async move {
            let deadline = Instant::now() + shared.config.timeout;
            let (done, result) = oneshot::channel();
            shared.jobs.send(Job::IsRunning { deadline, done }).map_err(|_| SendError::Stopped)?;
            result.await.map_err(|_| SendError::Stopped)?
        }
    }
}

impl Shared {
    /// The JSON text of a message, if it is one and not too long.
    pub(crate) fn body<T: Serialize + ?Sized>(&self, message: &T) -> Result<String, SendError> {
        let body = to_body(message)?;
        let bytes_max = self.config.plaintext_bytes_max;
        if body.len() > bytes_max {
            return Err(SendError::TooLarge { bytes: body.len(), bytes_max });
        }
        Ok(body)
    }

    fn begin<T: Serialize + ?Sized, R>(
        self: &Arc<Self>,
        message: &T,
        timeout: Duration,
    ) -> Begun<R> {
        let message =
            Unsent { shared: Arc::clone(self), body: self.body(message), id: None, timeout };
        Begun::Unsent(Some(message))
    }
}

/// A message that is about to be sent, and how.
pub(crate) struct Unsent {
    shared: Arc<Shared>,
    body: Result<String, SendError>,
    id: Option<MessageId>,
    timeout: Duration,
}

impl Unsent {
    /// The call of a message, and who waits for it.
    pub(crate) fn call<R>(
        self,
        kind: impl FnOnce(oneshot::Sender<R>) -> Kind,
    ) -> Result<(Call, oneshot::Receiver<R>), SendError> {
        let body = self.body?;
        let (done, result) = oneshot::channel();
        let call = Call {
            messages: Messages::one(self.id, &body),
            begun_at: Instant::now(),
            timeout: self.timeout,
            is_deep: !fits_an_entry(&body),
            kind: kind(done),
        };
        Ok((call, result))
    }
}

/// A call before and after it was handed to the client's thread.
pub(crate) enum Begun<R> {
    /// `None` once it ended.
    Unsent(Option<Unsent>),
    Sent(oneshot::Receiver<Result<R, SendError>>),
}

impl<R> Begun<R> {
    fn unsent(&mut self, change: impl FnOnce(&mut Unsent)) {
        if let Begun::Unsent(Some(unsent)) = self {
            change(unsent);
        }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        kind: impl FnOnce(oneshot::Sender<Result<R, SendError>>) -> Kind,
    ) -> Poll<Result<R, SendError>> {
        if let Begun::Unsent(unsent) = self {
            let unsent = unsent.take().expect("a future is not polled after its end");
            let jobs = unsent.shared.jobs.clone();
            match unsent.call(kind) {
                Ok((call, result)) => {
                    if jobs.send(Job::Call(call)).is_err() {
                        return Poll::Ready(Err(SendError::Stopped));
                    }
                    *self = Begun::Sent(result);
                }
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        match self {
            Begun::Sent(result) => {
                Pin::new(result).poll(cx).map(|result| result.unwrap_or(Err(SendError::Stopped)))
            }
            Begun::Unsent(_) => Poll::Pending,
        }
    }
}

/// A message on its way, made by [`Client::send`]: sent when it is awaited, or by
/// [`wait`](SendCall::wait) where there is no async.
#[must_use = "nothing is sent before it is awaited or waited for"]
pub struct SendCall(Begun<Sent>);

impl SendCall {
    /// Sends the message under this id, instead of one of its own: for a program that heard
    /// [`Outcome::NotKnown`](crate::Outcome::NotKnown) and repeats the message, also after its own
    /// restart. The server remembers an id for ten minutes, with a durable inbox for a day; under
    /// it the same body is accepted once, and another body is refused.
    pub fn id(mut self, id: MessageId) -> Self {
        self.0.unsent(|message| message.id = Some(id));
        self
    }

    /// How long it may take in all, attempts, pauses and logins included; at most
    /// [`TIMEOUT_SECS_MAX`](crate::TIMEOUT_SECS_MAX) seconds, and more is taken as that. Default:
    /// [that of the client](crate::ClientBuilder::timeout).
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.0.unsent(|message| message.timeout = bounded(timeout));
        self
    }

    /// Sends the message and waits for the end, in code that is not async.
    ///
    /// # Errors
    /// As [`Client::send`].
    ///
    /// # Panics
    /// If called from within `futures_executor::block_on`, which cannot be nested.
    pub fn wait(self) -> Result<Sent, SendError> {
        futures_executor::block_on(self)
    }
}

impl Future for SendCall {
    type Output = Result<Sent, SendError>;

    /// # Panics
    /// When polled again after it was ready, as any future may.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.poll(cx, Kind::Send)
    }
}

/// A request on its way, made by [`Client::request`]: sent when it is awaited, or by
/// [`wait`](RequestCall::wait) where there is no async.
#[must_use = "nothing is sent before it is awaited or waited for"]
pub struct RequestCall {
    begun: Begun<Reply>,
    reply_wait: Duration,
}

impl RequestCall {
    /// Sends the request under this id, as [`SendCall::id`] does a message. The reply to it is the
    /// first that the application gave.
    pub fn id(mut self, id: MessageId) -> Self {
        self.begun.unsent(|message| message.id = Some(id));
        self
    }

    /// How long the reply is waited for, from when the server has the request; at most
    /// [`TIMEOUT_SECS_MAX`](crate::TIMEOUT_SECS_MAX) seconds, and more is taken as that. Default 30
    /// s. To get the request there may take up to
    /// [the timeout of the client](crate::ClientBuilder::timeout), and the whole call takes no
    /// longer than the longer of the two.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.reply_wait = bounded(timeout);
        self
    }

    /// Sends the request and waits for the reply, in code that is not async.
    ///
    /// # Errors
    /// As [`Client::request`].
    ///
    /// # Panics
    /// If called from within `futures_executor::block_on`, which cannot be nested.
    pub fn wait(self) -> Result<Reply, SendError> {
        futures_executor::block_on(self)
    }
}

impl Future for RequestCall {
    type Output = Result<Reply, SendError>;

    /// # Panics
    /// When polled again after it was ready, as any future may.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let reply_wait = self.reply_wait;
        self.begun.poll(cx, |done| Kind::Request { reply_wait, done })
    }
}

pub(crate) fn bounded(timeout: Duration) -> Duration {
    timeout.min(Duration::from_secs(DEADLINE_SECS_MAX))
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("server", &self.shared.server)
            .field("address", &self.shared.address)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for SendCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendCall").finish_non_exhaustive()
    }
}

impl fmt::Debug for RequestCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestCall").field("timeout", &self.reply_wait).finish_non_exhaustive()
    }
}

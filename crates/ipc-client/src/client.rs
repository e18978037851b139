//! The handle that applications hold, and the calls that it makes.

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
use crate::receipt::{Probe, Reply, Sent};
use crate::worker::Job;

/// The default time to wait for a reply.
pub const REPLY_TIMEOUT_DEFAULT: Duration = Duration::from_secs(REPLY_WAIT_SECS_DEFAULT);

/// Sends messages to one server.
///
/// Cloning this handle is cheap. All clones share connections, session and thread. The handle is
/// `Send + Sync`, and its futures can be awaited on any async runtime, or on none. The thread ends
/// when the last clone is dropped and all calls have ended.
///
/// [`Client::builder`] builds it. For code that is not async there is
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
    /// Returns when the message is in the server's inbox. The client seals it with an id of its
    /// own. If the connection breaks, the server is down or asks to wait, the client sends it again
    /// under that id, with growing pauses, until the [timeout](SendCall::timeout). The message is
    /// in the inbox once, however often it was sent. The client renews an expired session by
    /// itself.
    ///
    /// The message is serialised by this call, and sent when the future is first polled. Messages
    /// sent one after another arrive in that order. Messages in flight at the same time may arrive
    /// in any order.
    ///
    /// Dropping the future gives up: no further attempt begins, and a message that still waits for
    /// a connection is not sent. A message in flight may still arrive.
    ///
    /// # Errors
    /// [`SendError`], whose [`outcome`](SendError::outcome) says what became of the message.
    pub fn send<T: Serialize + ?Sized>(&self, message: &T) -> SendCall {
        SendCall(self.shared.begin(message, self.shared.config.timeout))
    }

    /// Sends a message, as [`send`](Client::send) does, and waits for the application's reply to
    /// it, for 30 s unless [set otherwise](RequestCall::timeout).
    ///
    /// If the connection breaks, the client sends the request again under its id. The application
    /// sees the request once. Its first reply is the result, even if it replied while the client
    /// was not connected. The client also sends the request again if the reply takes longer than
    /// the server lets a client wait.
    ///
    /// Thousands of requests may wait at the same time, since they share the one connection of a
    /// channel. If the server opens no channel, each request holds a connection until its reply
    /// arrives. They leave one connection to other messages.
    ///
    /// Dropping the future gives up. The request may still arrive, and be processed.
    ///
    /// # Errors
    /// [`SendError::NoReply`], with [`Outcome::Accepted`](crate::Outcome::Accepted), if the server
    /// accepted the request and there is no reply. Otherwise the errors of `send`.
    pub fn request<T: Serialize + ?Sized>(&self, message: &T) -> RequestCall {
        let mut begun = self.shared.begin(message, self.shared.config.timeout);
        if let Err(error) = self.shared.config.refuse_beyond_messages("replies") {
            begun.unsent(|message| message.body = Err(error));
        }
        RequestCall { begun, reply_wait: REPLY_TIMEOUT_DEFAULT }
    }

    /// Asks whether the server runs, with one attempt and without a login.
    ///
    /// `false` means that nothing answered: the connection failed or broke. The certificates of
    /// both ends are verified, as for a message.
    ///
    /// # Errors
    /// [`SendError`] if the answer is not that of a usable server: a certificate that is not
    /// trusted, a refusal of this client, or an unexpected response.
    pub fn is_running(&self) -> impl Future<Output = Result<bool, SendError>> + Send + use<> {
        let asked = self.probe();
        async move {
            match asked.await {
                Ok(_) => Ok(true),
                Err(SendError::Unreachable { .. } | SendError::NoAnswer { .. }) => Ok(false),
                Err(error) => Err(error),
            }
        }
    }

    /// Asks the server whether it runs and what time it has, with one attempt and without a login,
    /// as [`is_running`](Self::is_running) does. Says why nothing answered where nothing did.
    ///
    /// # Errors
    /// [`SendError`], with [`SendError::Unreachable`] or [`SendError::NoAnswer`] if the connection
    /// failed or broke.
    pub fn probe(&self) -> impl Future<Output = Result<Probe, SendError>> + Send + use<> {
        let shared = self.shared.clone();
        async move {
            let deadline = Instant::now() + shared.config.timeout;
            let (done, result) = oneshot::channel();
            shared.jobs.send(Job::Probe { deadline, done }).map_err(|_| SendError::Stopped)?;
            result.await.map_err(|_| SendError::Stopped)?
        }
    }

    /// Logs in with the client's credentials, with one attempt, to see whether the server takes
    /// them. The session is neither used nor kept; one that was kept before plays no part.
    ///
    /// # Errors
    /// [`SendError::BadCredentials`] for a user who is unknown or disabled, or has another
    /// password; [`SendError::Refused`] with
    /// [`WrongCertificate`](crate::ProblemCode::WrongCertificate) for one who is bound to another
    /// certificate. Others as of a message.
    pub fn check_login(&self) -> impl Future<Output = Result<(), SendError>> + Send + use<> {
        let shared = self.shared.clone();
        async move {
            let deadline = Instant::now() + shared.config.timeout;
            let (done, result) = oneshot::channel();
            shared.jobs.send(Job::CheckLogin { deadline, done }).map_err(|_| SendError::Stopped)?;
            result.await.map_err(|_| SendError::Stopped)?
        }
    }
}

impl Shared {
    /// The JSON text of a message, if it is an object and not too long.
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

/// A message that is not sent yet, with its options.
pub(crate) struct Unsent {
    shared: Arc<Shared>,
    body: Result<String, SendError>,
    id: Option<MessageId>,
    timeout: Duration,
}

impl Unsent {
    /// Makes the call, and the receiver of its result.
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

/// A call, before and after it is passed to the client's thread.
pub(crate) enum Begun<R> {
    /// `None` after it has ended.
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

/// A message that is about to be sent. [`Client::send`] makes it, `.await` sends it, and so does
/// [`wait`](SendCall::wait) in code that is not async.
#[must_use = "nothing is sent until it is awaited, or `wait` is called"]
pub struct SendCall(Begun<Sent>);

impl SendCall {
    /// Sends the message under this id instead of a new one. A program that got
    /// [`Outcome::NotKnown`](crate::Outcome::NotKnown) can so repeat the message, even after its
    /// own restart. The server remembers an id for ten minutes, and with a durable inbox for a day.
    /// During that time it accepts the same body once, and refuses another body.
    pub fn id(mut self, id: MessageId) -> Self {
        self.0.unsent(|message| message.id = Some(id));
        self
    }

    /// How long the call may take in all, including attempts, pauses and logins. Larger values than
    /// [`TIMEOUT_SECS_MAX`](crate::TIMEOUT_SECS_MAX) seconds are clamped. Default: [the client's
    /// timeout](crate::ClientBuilder::timeout).
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.0.unsent(|message| message.timeout = bounded(timeout));
        self
    }

    /// Sends the message and waits for the result, in code that is not async.
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
    /// If polled again after it was ready.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.poll(cx, Kind::Send)
    }
}

/// A request that is about to be sent. [`Client::request`] makes it, `.await` sends it, and so does
/// [`wait`](RequestCall::wait) in code that is not async.
#[must_use = "nothing is sent until it is awaited, or `wait` is called"]
pub struct RequestCall {
    begun: Begun<Reply>,
    reply_wait: Duration,
}

impl RequestCall {
    /// Sends the request under this id, as [`SendCall::id`] does a message. Its reply is the first
    /// one that the application gave to this id.
    pub fn id(mut self, id: MessageId) -> Self {
        self.begun.unsent(|message| message.id = Some(id));
        self
    }

    /// How long to wait for the reply after the server has the request. Larger values than
    /// [`TIMEOUT_SECS_MAX`](crate::TIMEOUT_SECS_MAX) seconds are clamped. Default 30 s. Until the
    /// server has the request, [the client's timeout](crate::ClientBuilder::timeout) applies. The
    /// whole call takes at most the longer of the two.
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
    /// If polled again after it was ready.
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

//! The handle that applications hold.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use ipc_home::Home;
use ipc_protocol::{MessageId, to_body};
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::blocking;
use crate::builder::ClientBuilder;
use crate::error::SendError;
use crate::send::Config;
use crate::worker::Job;

/// A message that the server has put into its inbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sent {
    /// The id it was sent under, as the receiving application sees it.
    pub id: MessageId,
    /// The server had it already from an earlier attempt of this same send, whose answer was lost. It is in the
    /// inbox once.
    pub duplicate: bool,
}

/// Sends messages to one server.
///
/// A handle: cloning it is cheap, and all clones share connections, session and thread. It is `Send + Sync`, and its
/// futures can be awaited on any async runtime, or on none. When the last clone is gone and what was begun is done,
/// the thread ends.
///
/// Built with [`Client::builder`]; for code that is not async there is [`blocking::Client`].
#[derive(Clone)]
pub struct Client {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) jobs: mpsc::UnboundedSender<Job>,
    pub(crate) facts: Facts,
}

/// What a handle knows of its client.
#[derive(Debug)]
pub(crate) struct Facts {
    name: String,
    address: String,
    pub(crate) deadline: Duration,
    pub(crate) plaintext_bytes_max: usize,
}

impl Facts {
    pub(crate) fn of(config: &Config) -> Self {
        Facts {
            name: config.name.clone(),
            address: config.dialer.address.to_string(),
            deadline: config.deadline,
            plaintext_bytes_max: config.plaintext_bytes_max,
        }
    }

    /// The handle to a client that takes its jobs there.
    pub(crate) fn client(self, jobs: mpsc::UnboundedSender<Job>) -> Client {
        Client { shared: Arc::new(Shared { jobs, facts: self }) }
    }
}

impl Client {
    /// Begins a client that takes keys, certificates and, unless it is given others, credentials from `home`.
    #[must_use]
    pub fn builder(home: &Home) -> ClientBuilder {
        ClientBuilder::new(home)
    }

    /// Sends a message: anything that serialises to a JSON object.
    ///
    /// Returns once the message is in the server's inbox. It is sealed with an id of its own; where the connection
    /// breaks, the server is not up or asks to wait, it is sent again under that id with growing pauses until the
    /// [deadline](ClientBuilder::deadline), and is in the inbox once, however often it was sent. A session that is
    /// over is renewed in passing.
    ///
    /// The message is serialised at the call; nothing is sent before the future is first polled. Messages sent one
    /// after the other arrive in that order; of those under way at the same time any may be first.
    ///
    /// Dropping the future gives up waiting, and no further attempt is begun: a message that still waits for a
    /// connection is not sent. One that is on its way may still arrive.
    ///
    /// # Errors
    /// [`SendError`], whose [`outcome`](SendError::outcome) tells what became of the message.
    pub fn send<T: Serialize + ?Sized>(
        &self,
        message: &T,
    ) -> impl Future<Output = Result<Sent, SendError>> + Send + use<T> {
        let shared = self.shared.clone();
        let body = shared.body(message);
        async move {
            let body = body?;
            let deadline_at = Instant::now() + shared.facts.deadline;
            shared.ask(|done| Job::Submit { body, deadline_at, done }).await
        }
    }

    /// Asks the server whether it runs, in one attempt, without a login.
    ///
    /// `false` means that nobody answered: no connection could be made, or it broke. The certificates of both ends
    /// are verified as for a message.
    ///
    /// # Errors
    /// [`SendError`] if something answered that is not a server to send to: a certificate that is not trusted, a
    /// refusal of this client's own, an answer of another kind.
    pub fn is_running(&self) -> impl Future<Output = Result<bool, SendError>> + Send + use<> {
        let shared = self.shared.clone();
        async move {
            let deadline_at = Instant::now() + shared.facts.deadline;
            shared.ask(|done| Job::IsRunning { deadline_at, done }).await
        }
    }

    /// The same client for code that is not async.
    #[must_use]
    pub fn blocking(self) -> blocking::Client {
        self.into()
    }
}

impl Shared {
    /// The JSON text of a message, if it is one and not too long.
    pub(crate) fn body<T: Serialize + ?Sized>(&self, message: &T) -> Result<String, SendError> {
        let body = to_body(message)?;
        let bytes_max = self.facts.plaintext_bytes_max;
        if body.len() > bytes_max {
            return Err(SendError::TooLarge { bytes: body.len(), bytes_max });
        }
        Ok(body)
    }

    /// Hands the thread a job and waits for what comes of it.
    pub(crate) async fn ask<T>(
        &self,
        job: impl FnOnce(oneshot::Sender<Result<T, SendError>>) -> Job,
    ) -> Result<T, SendError> {
        let (done, result) = oneshot::channel();
        self.jobs.send(job(done)).map_err(|_| SendError::Stopped)?;
        result.await.map_err(|_| SendError::Stopped)?
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("server", &self.shared.facts.name)
            .field("address", &self.shared.facts.address)
            .finish_non_exhaustive()
    }
}

//! The client for code that already runs where awc does: on an actix runtime, or in a tokio `LocalSet`.
//!
//! It is the same sender as on the client's own thread, without the way there and back. Nothing here decides how a message is
//! sent.

use std::fmt;
use std::marker::PhantomData;
use std::rc::Rc;
use std::time::Duration;

use ipc_home::Home;
use serde::Serialize;
use tokio::sync::oneshot;
use tokio::time::Instant;

use futures_core::Stream;

use crate::builder::ClientBuilder;
use crate::client::{Client, Sent};
use crate::error::SendError;
use crate::request::Reply;
use crate::send::Sender;
use crate::send_all::{Items, SendAll};

/// Sends messages to one server, from the thread it was built on.
///
/// For programs that run on actix already, such as an actix-web handler, or within a tokio `LocalSet`: it has no thread of its
/// own, so that a message crosses none. Everything else is as with [`Client`], which is the right choice anywhere else; a
/// `LocalClient` can be neither sent to nor used from another thread.
///
/// A handle: cloning it is cheap, and all clones share connections and session.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let home = ipc_home::Home::open_default()?;
/// # actix_rt::System::new().block_on(async {
/// let client = ipc_client::Client::builder(&home).server("localhost", "127.0.0.1:3000").build_local()?;
/// client.send(&serde_json::json!({"test": 1})).await?;
/// # Ok(())
/// # })
/// # }
/// ```
#[derive(Clone)]
pub struct LocalClient {
    sender: Rc<Sender>,
    /// Reaches the same sender, by a channel, for whatever takes longer than a message.
    client: Client,
    /// Nothing of it may leave the thread.
    _on_this_thread: PhantomData<*const ()>,
}

impl LocalClient {
    /// Begins a client, as [`Client::builder`] does; finish with [`build_local`](ClientBuilder::build_local).
    #[must_use]
    pub fn builder(home: &Home) -> ClientBuilder {
        Client::builder(home)
    }

    pub(crate) fn new(sender: Rc<Sender>, client: Client) -> Self {
        LocalClient { sender, client, _on_this_thread: PhantomData }
    }

    /// Sends a message, as [`Client::send`] does.
    ///
    /// # Errors
    /// [`SendError`], whose [`outcome`](SendError::outcome) tells what became of the message.
    pub fn send<T: Serialize + ?Sized>(
        &self,
        message: &T,
    ) -> impl Future<Output = Result<Sent, SendError>> + use<T> {
        let sender = Rc::clone(&self.sender);
        let body = self.client.shared.body(message);
        async move {
            let body = body?;
            let deadline_at = Instant::now() + sender.deadline;
            let (done, sent) = oneshot::channel();
            sender.send(body, deadline_at, done);
            // Only the answer is waited for: with the runtime goes the sender, and that is an answer too.
            drop(sender);
            sent.await.unwrap_or(Err(SendError::Stopped))
        }
    }

    /// Sends a message and waits for the application's reply to it, as [`Client::request`] does.
    ///
    /// # Errors
    /// As [`Client::request_within`].
    pub async fn request<T: Serialize + ?Sized>(&self, message: &T) -> Result<Reply, SendError> {
        self.client.request(message).await
    }

    /// Sends a message and waits so long for the application's reply to it, as [`Client::request_within`] does.
    ///
    /// # Errors
    /// As [`Client::request_within`].
    pub async fn request_within<T: Serialize + ?Sized>(
        &self,
        message: &T,
        wait: Duration,
    ) -> Result<Reply, SendError> {
        self.client.request_within(message, wait).await
    }

    /// Sends all messages of an iterator, in its order, many at a time, as [`Client::send_all`] does.
    pub fn send_all<'a, I>(&self, messages: I) -> SendAll<'a, Items<I::IntoIter>>
    where
        I: IntoIterator,
        I::Item: Serialize,
    {
        self.client.send_all(messages)
    }

    /// Sends all messages of a stream, as [`Client::send_all_stream`] does.
    pub fn send_all_stream<'a, S>(&self, messages: S) -> SendAll<'a, S>
    where
        S: Stream,
        S::Item: Serialize,
    {
        self.client.send_all_stream(messages)
    }

    /// Asks the server whether it runs, as [`Client::is_running`] does.
    ///
    /// # Errors
    /// As [`Client::is_running`].
    pub async fn is_running(&self) -> Result<bool, SendError> {
        self.client.is_running().await
    }
}

impl fmt::Debug for LocalClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalClient").field("client", &self.client).finish_non_exhaustive()
    }
}

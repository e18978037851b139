//! The client for code that already runs where awc can: on an actix runtime, or in a tokio
//! `LocalSet`.
//!
//! A task on the thread of the caller drives it, so that no message crosses a thread. Nothing here
//! decides how a message is sent.

use std::fmt;
use std::marker::PhantomData;

use futures_core::Stream;
use serde::Serialize;

use crate::client::{Client, RequestCall, SendCall};
use crate::error::SendError;
use crate::renew_call::RenewCall;
use crate::send_all::{Items, SendAll};

/// Sends messages to one server, on the thread that built it.
///
/// It is for programs that run on actix, such as an actix-web handler, or within a tokio
/// `LocalSet`. It has no thread of its own, so that no message crosses a thread. Use [`Client`]
/// everywhere else, which does the same otherwise. A `LocalClient` cannot be sent to another
/// thread, nor used from one.
///
/// Cloning this handle is cheap. All clones share connections and session.
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
    client: Client,
    /// The client ends with the runtime of its thread, so the handle stays on that thread.
    _on_this_thread: PhantomData<*const ()>,
}

impl LocalClient {
    pub(crate) fn new(client: Client) -> Self {
        LocalClient { client, _on_this_thread: PhantomData }
    }

    /// Sends a message, as [`Client::send`] does.
    pub fn send<T: Serialize + ?Sized>(&self, message: &T) -> SendCall {
        self.client.send(message)
    }

    /// Sends a message and waits for the application's reply to it, as [`Client::request`] does.
    pub fn request<T: Serialize + ?Sized>(&self, message: &T) -> RequestCall {
        self.client.request(message)
    }

    /// Sends all messages of an iterator, in order, many at a time, as [`Client::send_all`] does.
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

    /// Asks the server for a new certificate and for what has changed, as [`Client::renew`] does.
    pub fn renew(&self, csr_pem: Option<&str>) -> RenewCall {
        self.client.renew(csr_pem)
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

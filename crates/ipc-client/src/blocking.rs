//! The client for code that is not async: the same client, with calls that end in `wait`.

use ipc_home::Home;
use serde::Serialize;

use crate::client::{RequestCall, SendCall};
use crate::{ClientBuilder, Items, Probe, RenewCall, SendAll, SendError};

/// Sends messages to one server, in code that is not async.
///
/// Made from an async [`Client`](crate::Client) with [`Client::blocking`](crate::Client::blocking).
/// A handle like that one: `Send + Sync + Clone`. Any number of threads may send through clones of
/// it at the same time.
///
/// A call on a thread that runs async tasks, such as a tokio worker, works, but blocks the thread's
/// other tasks until it returns. Use the async client there.
#[derive(Clone, Debug)]
pub struct Client {
    inner: crate::Client,
}

impl Client {
    /// Begins a client, as [`crate::Client::builder`] does. Finish with `.build()?.blocking()`.
    #[must_use]
    pub fn builder(home: &Home) -> ClientBuilder {
        crate::Client::builder(home)
    }

    /// Sends a message, as [`crate::Client::send`] does. Finish with [`SendCall::wait`].
    pub fn send<T: Serialize + ?Sized>(&self, message: &T) -> SendCall {
        self.inner.send(message)
    }

    /// Sends a message and waits for the application's reply, as [`crate::Client::request`] does.
    /// Finish with [`RequestCall::wait`].
    pub fn request<T: Serialize + ?Sized>(&self, message: &T) -> RequestCall {
        self.inner.request(message)
    }

    /// Sends many messages, in order, as [`crate::Client::send_all`] does. Finish with
    /// [`SendAll::wait`].
    pub fn send_all<'a, I>(&self, messages: I) -> SendAll<'a, Items<I::IntoIter>>
    where
        I: IntoIterator,
        I::Item: Serialize,
    {
        self.inner.send_all(messages)
    }

    /// Asks the server for a new certificate and for what has changed, as [`crate::Client::renew`]
    /// does: finish with [`RenewCall::wait`].
    pub fn renew(&self, csr_pem: Option<&str>) -> RenewCall {
        self.inner.renew(csr_pem)
    }

    /// Asks the server whether it runs and what time it has, as [`crate::Client::probe`] does.
    ///
    /// # Errors
    /// As [`crate::Client::probe`].
    ///
    /// # Panics
    /// If called from within `futures_executor::block_on`, which cannot be nested.
    pub fn probe(&self) -> Result<Probe, SendError> {
        futures_executor::block_on(self.inner.probe())
    }

    /// Logs in to see whether the server takes the credentials, as [`crate::Client::check_login`]
    /// does.
    ///
    /// # Errors
    /// As [`crate::Client::check_login`].
    ///
    /// # Panics
    /// If called from within `futures_executor::block_on`, which cannot be nested.
    pub fn check_login(&self) -> Result<(), SendError> {
        futures_executor::block_on(self.inner.check_login())
    }

    /// Asks the server whether it runs, as [`crate::Client::is_running`] does.
    ///
    /// # Errors
    /// [`SendError`] if the server is not trusted, refuses this client, or is not a web-ipc server.
    ///
    /// # Panics
    /// If called from within `futures_executor::block_on`, which cannot be nested.
    pub fn is_running(&self) -> Result<bool, SendError> {
        futures_executor::block_on(self.inner.is_running())
    }
}

impl crate::Client {
    /// Turns this client into one for code that is not async.
    #[must_use]
    pub fn blocking(self) -> Client {
        self.into()
    }
}

impl From<crate::Client> for Client {
    fn from(inner: crate::Client) -> Self {
        Client { inner }
    }
}

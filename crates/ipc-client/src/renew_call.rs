//! The call that renews: begun by a handle, carried by the client's thread.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use ipc_protocol::CSR_PEM_BYTES_MAX;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::client::{Client, Shared, bounded};
use crate::error::SendError;
use crate::renewal::Renewal;
use crate::worker::{Job, RenewalJob};

impl Client {
    /// Asks the server for a new certificate, and for all that may have changed: authorities,
    /// envelope keys, the server's name and addresses. Enrolled clients follow every change so.
    ///
    /// `csr_pem` is a certificate signing request (PKCS#10) in PEM, of at most 16 KiB, for the
    /// client's new key. Without one there is no new certificate in the [`Renewal`], and neither is
    /// there beyond the number that the server gives a client in 24 hours. The request goes in a
    /// sealed frame of a session. It is sent again where the connection breaks or the server asks
    /// to wait, until the [timeout](RenewCall::timeout): the server gives the same key a
    /// certificate again.
    ///
    /// Nothing is sent before the future is first polled. Dropping it gives up.
    ///
    /// # Errors
    /// [`SendError::Refused`] with [`RenewalRefused`](crate::ProblemCode::RenewalRefused) if this
    /// client gets no certificate, and with
    /// [`RenewalUnavailable`](crate::ProblemCode::RenewalUnavailable) from a server that issues
    /// none; [`SendError::TooLarge`] for a longer request; else as for a message that is sent.
    pub fn renew(&self, csr_pem: Option<&str>) -> RenewCall {
        let unsent = Unsent {
            shared: Arc::clone(&self.shared),
            csr_pem: csr_pem.map(str::to_owned),
            timeout: self.shared.config.timeout,
        };
        RenewCall(State::Unsent(Some(unsent)))
    }
}

/// A renewal on its way, made by [`Client::renew`]: sent when it is awaited, or by
/// [`wait`](RenewCall::wait) where there is no async.
#[must_use = "nothing is sent before it is awaited or waited for"]
pub struct RenewCall(State);

enum State {
    /// `None` once it ended.
    Unsent(Option<Unsent>),
    Sent(oneshot::Receiver<Result<Renewal, SendError>>),
}

struct Unsent {
    shared: Arc<Shared>,
    csr_pem: Option<String>,
    timeout: Duration,
}

impl Unsent {
    fn send(self) -> Result<oneshot::Receiver<Result<Renewal, SendError>>, SendError> {
        if let Some(csr_pem) = &self.csr_pem
            && csr_pem.len() > CSR_PEM_BYTES_MAX
        {
            return Err(SendError::TooLarge { bytes: csr_pem.len(), bytes_max: CSR_PEM_BYTES_MAX });
        }
        let (done, result) = oneshot::channel();
        let job = RenewalJob {
            csr_pem: self.csr_pem,
            begun_at: Instant::now(),
            timeout: self.timeout,
            done,
        };
        self.shared.jobs.send(Job::Renew(job)).map_err(|_| SendError::Stopped)?;
        Ok(result)
    }
}

impl RenewCall {
    /// How long it may take in all, attempts, pauses and logins included; at most
    /// [`TIMEOUT_SECS_MAX`](crate::TIMEOUT_SECS_MAX) seconds, and more is taken as that. Default:
    /// [that of the client](crate::ClientBuilder::timeout).
    pub fn timeout(mut self, timeout: Duration) -> Self {
        if let State::Unsent(Some(unsent)) = &mut self.0 {
            unsent.timeout = bounded(timeout);
        }
        self
    }

    /// Sends the request and waits for the end, in code that is not async.
    ///
    /// # Errors
    /// As [`Client::renew`].
    ///
    /// # Panics
    /// If called from within `futures_executor::block_on`, which cannot be nested.
    pub fn wait(self) -> Result<Renewal, SendError> {
        futures_executor::block_on(self)
    }
}

impl Future for RenewCall {
    type Output = Result<Renewal, SendError>;

    /// # Panics
    /// When polled again after it was ready, as any future may.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let State::Unsent(unsent) = &mut self.0 {
            let unsent = unsent.take().expect("a future is not polled after its end");
            match unsent.send() {
                Ok(result) => self.0 = State::Sent(result),
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        match &mut self.0 {
            State::Sent(result) => {
                Pin::new(result).poll(cx).map(|result| result.unwrap_or(Err(SendError::Stopped)))
            }
            State::Unsent(_) => Poll::Pending,
        }
    }
}

impl fmt::Debug for RenewCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RenewCall").finish_non_exhaustive()
    }
}

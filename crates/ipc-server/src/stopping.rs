//! Signals that a server drains or stops, and counts its connections.
//!
//! `server` begins both and waits for the end. Each connection is counted here and waits here for
//! the signal of the stop. Nothing here knows what a connection is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

/// The signal and the count, shared by all workers of a server.
#[derive(Debug)]
pub(crate) struct Stopping {
    /// New connections should go elsewhere. Nothing else has changed yet.
    is_draining: AtomicBool,
    /// The same as `begun`, cheap to read at each step.
    has_begun: AtomicBool,
    begun: watch::Sender<bool>,
    connections: watch::Sender<usize>,
}

/// Counts as a connection until it is dropped.
#[derive(Debug)]
pub(crate) struct Counted(Arc<Stopping>);

impl Stopping {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Stopping {
            is_draining: AtomicBool::new(false),
            has_begun: AtomicBool::new(false),
            begun: watch::Sender::new(false),
            connections: watch::Sender::new(0),
        })
    }

    /// Begins to drain. Returns `false` if it, or the stop, had begun before.
    pub(crate) fn drain(&self) -> bool {
        !self.is_draining.swap(true, Ordering::Relaxed)
    }

    /// Whether the server drains or stops.
    pub(crate) fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Relaxed)
    }

    /// Begins the stop. Returns `false` if it had begun before.
    pub(crate) fn begin(&self) -> bool {
        self.is_draining.store(true, Ordering::Relaxed);
        self.has_begun.store(true, Ordering::Relaxed);
        !self.begun.send_replace(true)
    }

    pub(crate) fn has_begun(&self) -> bool {
        self.has_begun.load(Ordering::Relaxed)
    }

    /// Waits until the stop begins.
    pub(crate) async fn begun(&self) {
        // This value owns the sender, so the wait cannot fail.
        let mut begun = self.begun.subscribe();
        let _always = begun.wait_for(|begun| *begun).await;
    }

    /// Counts a connection.
    pub(crate) fn count(self: &Arc<Self>) -> Counted {
        self.connections.send_modify(|connections| *connections += 1);
        Counted(Arc::clone(self))
    }

    /// How many connections there are.
    pub(crate) fn connections(&self) -> usize {
        *self.connections.borrow()
    }

    /// Waits until there is no connection.
    pub(crate) async fn no_connection(&self) {
        let mut connections = self.connections.subscribe();
        let _always = connections.wait_for(|connections| *connections == 0).await;
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.connections.send_modify(|connections| *connections -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    #[test]
    fn it_begins_once_and_those_who_come_later_know_it() {
        let stopping = Stopping::new();
        assert!(stopping.begun().now_or_never().is_none() && !stopping.has_begun());
        assert!(stopping.begin());
        assert!(!stopping.begin());
        assert!(stopping.begun().now_or_never().is_some() && stopping.has_begun());
    }

    #[test]
    fn a_server_that_drains_does_not_stop_and_one_that_stops_has_drained() {
        let stopping = Stopping::new();
        assert!(!stopping.is_draining());
        assert!(stopping.drain() && !stopping.drain());
        assert!(stopping.is_draining() && !stopping.has_begun());
        assert!(stopping.begun().now_or_never().is_none());

        let stopping = Stopping::new();
        assert!(stopping.begin() && !stopping.drain() && stopping.is_draining());
    }

    #[tokio::test]
    async fn the_last_connection_ends_the_wait() {
        let stopping = Stopping::new();
        stopping.no_connection().await;
        let (first, second) = (stopping.count(), stopping.count());
        let waiting = tokio::spawn({
            let stopping = Arc::clone(&stopping);
            async move { stopping.no_connection().await }
        });
        drop(first);
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(second);
        waiting.await.unwrap();
    }
}

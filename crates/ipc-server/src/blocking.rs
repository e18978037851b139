//! The server for programs that are not async. Its calls block the calling thread.
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let home = ipc_home::Home::open_default()?;
//! let server = ipc_server::Server::builder(&home).bind("127.0.0.1:3000").start_blocking()?;
//! while let Some(delivery) = server.inbox().recv_blocking() {
//!     println!("{} from {}", delivery.body(), delivery.user());
//!     delivery.ack_blocking()?;
//! }
//! # Ok(())
//! # }
//! ```

use std::net::SocketAddr;

use ipc_inbox::Inbox;

use crate::builder::ServerBuilder;
use crate::error::StartError;
use crate::server;

/// A running server whose calls block.
/// [`ServerBuilder::start_blocking`](crate::ServerBuilder::start_blocking) starts one. Do not call
/// it on a thread of an async runtime: that thread would be blocked.
#[derive(Debug)]
pub struct Server {
    server: server::Server,
}

impl Server {
    pub(crate) fn new(server: server::Server) -> Self {
        Server { server }
    }

    /// See [`Server::address`](crate::Server::address).
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// See [`Server::name`](crate::Server::name).
    pub fn name(&self) -> &str {
        self.server.name()
    }

    /// See [`Server::inbox`](crate::Server::inbox). Its `recv_blocking` waits for a delivery.
    pub fn inbox(&self) -> &Inbox {
        self.server.inbox()
    }

    /// See [`Server::finish_inbox`](crate::Server::finish_inbox).
    pub fn finish_inbox(&self) -> u64 {
        futures_executor::block_on(self.server.finish_inbox())
    }

    /// See [`Server::begin_drain`](crate::Server::begin_drain).
    pub fn begin_drain(&self) {
        self.server.begin_drain();
    }

    /// See [`Server::begin_stop`](crate::Server::begin_stop).
    pub fn begin_stop(&self) {
        self.server.begin_stop();
    }

    /// See [`Server::stop`](crate::Server::stop).
    pub fn stop(&self) {
        futures_executor::block_on(self.server.stop());
    }
}

impl ServerBuilder {
    /// Like [`start`](Self::start), for code that is not async. Blocks until the server listens.
    ///
    /// # Errors
    /// Those of [`start`](Self::start).
    pub fn start_blocking(self) -> Result<Server, StartError> {
        futures_executor::block_on(self.start()).map(Server::new)
    }
}

//! Reads the figures of a running server, for those who watch it.

use std::fmt;
use std::net::SocketAddr;
use std::time::SystemTime;

use actix_web::web;
use ipc_inbox::{DeadLetter, Inbox, InboxStatistics, InboxStatus, StorageError};

use crate::state::State;
use crate::statistics::ServerStatistics;

/// Reads the figures of a running server.
///
/// A clone is cheap and reads the same server. Reading disturbs no client. An observer does not
/// keep the server running; after its end the figures stay what they were.
#[derive(Clone)]
pub struct Observer {
    name: String,
    address: SocketAddr,
    state: web::Data<State>,
    inbox: Inbox,
}

/// Why a server should get no new clients at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotReady {
    /// It is stopping, or soon will.
    Draining,
    /// Its inbox can store nothing, for this reason.
    Inbox(String),
    /// Its certificate is not valid now, for this reason.
    Certificate(String),
}

impl fmt::Display for NotReady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotReady::Draining => f.write_str("the server is stopping, or soon will"),
            NotReady::Inbox(why) => write!(f, "the inbox stores nothing: {why}"),
            NotReady::Certificate(why) => write!(f, "the certificate is not valid: {why}"),
        }
    }
}

impl Observer {
    pub(crate) fn new(
        name: String,
        address: SocketAddr,
        state: web::Data<State>,
        inbox: Inbox,
    ) -> Self {
        Observer { name, address, state, inbox }
    }

    /// The peer name in the server's certificate.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The address that the server listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What the server has done since it was started.
    pub fn statistics(&self) -> ServerStatistics {
        let connections = self.state.stopping.connections() as u64;
        self.state.statistics.read(connections)
    }

    /// What went through the inbox since it was opened.
    pub fn inbox_statistics(&self) -> InboxStatistics {
        self.inbox.statistics()
    }

    /// What the inbox holds now. See [`Inbox::status`].
    pub async fn inbox_status(&self) -> InboxStatus {
        self.inbox.status().await
    }

    /// The oldest dead letters, no more than `count_max`.
    ///
    /// # Errors
    /// [`StorageError`] if they cannot be read.
    pub async fn dead_letters(&self, count_max: usize) -> Result<Vec<DeadLetter>, StorageError> {
        self.inbox.dead_letters(None, count_max).await
    }

    /// Why the server should get no new clients at the moment; empty if it should. `inbox` is what
    /// [`inbox_status`](Self::inbox_status) has just said.
    ///
    /// Users in a database that does not answer are no reason: sessions go on meanwhile, and every
    /// other server of an installation has the same database.
    pub fn readiness(&self, inbox: &InboxStatus) -> Vec<NotReady> {
        let draining = self.state.is_draining().then_some(NotReady::Draining);
        let inbox = inbox.problem.clone().map(NotReady::Inbox);
        let certificate = self.state.trust().check(SystemTime::now()).err();
        let certificate =
            certificate.map(|error| NotReady::Certificate(ipc_base::chain(&error).to_string()));
        draining.into_iter().chain(inbox).chain(certificate).collect()
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observer")
            .field("name", &self.name)
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

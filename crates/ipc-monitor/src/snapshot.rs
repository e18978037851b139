//! Everything that is shown of a server, at one moment.
//!
//! `http` takes a snapshot for each answer; `metrics` and `wire` write it.

use std::time::SystemTime;

use ipc_server::{DeadLetter, InboxStatistics, InboxStatus, NotReady, Observer, ServerStatistics};

use crate::certificates::{Certificates, MonitoredCertificate};

/// How many dead letters are shown, the oldest first.
const DEAD_SHOWN: usize = 20;

/// What is shown of a server.
pub(crate) struct Snapshot {
    pub(crate) at: SystemTime,
    pub(crate) name: String,
    pub(crate) address: String,
    pub(crate) server: ServerStatistics,
    pub(crate) inbox: InboxStatistics,
    pub(crate) status: InboxStatus,
    pub(crate) not_ready: Vec<NotReady>,
    pub(crate) certificates: Vec<MonitoredCertificate>,
    /// Only of a snapshot for people.
    pub(crate) dead_letters: Vec<DeadLetter>,
}

impl Snapshot {
    /// Looks at the server and its certificates.
    pub(crate) async fn take(observer: &Observer, certificates: &Certificates) -> Self {
        let certificates = certificates.clone();
        let certificates = actix_web::web::block(move || certificates.read()).await;
        let status = observer.inbox_status().await;
        Snapshot {
            at: SystemTime::now(),
            name: observer.name().to_owned(),
            address: observer.address().to_string(),
            server: observer.statistics(),
            inbox: observer.inbox_statistics(),
            not_ready: observer.readiness(&status),
            status,
            // Fails only if the source panicked, which its own message tells.
            certificates: certificates.unwrap_or_default(),
            dead_letters: Vec::new(),
        }
    }

    /// [`take`](Self::take), with dead letters. What cannot be read of them is left out: the inbox
    /// has logged why.
    pub(crate) async fn take_with_dead_letters(
        observer: &Observer,
        certificates: &Certificates,
    ) -> Self {
        let mut snapshot = Self::take(observer, certificates).await;
        snapshot.dead_letters = observer.dead_letters(DEAD_SHOWN).await.unwrap_or_default();
        snapshot
    }
}

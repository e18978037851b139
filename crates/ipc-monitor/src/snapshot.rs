//! Everything that is shown of a server, at one moment.
//!
//! `http` takes a snapshot for each answer; `metrics` and `wire` write it.

use std::time::{Duration, Instant, SystemTime};

use ipc_server::{DeadLetter, InboxStatistics, InboxStatus, NotReady, Observer, ServerStatistics};
use tokio::sync::Mutex;

use crate::certificates::{Certificates, MonitoredCertificate};

/// How many dead letters are shown, the oldest first.
const DEAD_SHOWN: usize = 20;

/// For how long dead letters that were read are shown, on all pages. Reading them takes their
/// bodies with them, and the inbox's time.
const DEAD_FRESH_FOR: Duration = Duration::from_secs(5);

/// How long an inbox may take to say what it holds.
pub(crate) const STATUS_WITHIN: Duration = Duration::from_secs(2);

/// What the inbox holds. One that does not answer in time has a problem.
pub(crate) async fn inbox_status(observer: &Observer) -> InboxStatus {
    let silent = |_| {
        let secs = STATUS_WITHIN.as_secs();
        InboxStatus::of_problem(format!("the inbox has not answered for {secs} s"))
    };
    tokio::time::timeout(STATUS_WITHIN, observer.inbox_status()).await.unwrap_or_else(silent)
}

/// The dead letters that were read last, for all pages.
#[derive(Default)]
pub(crate) struct DeadLetters {
    last: Mutex<Option<(Instant, Vec<DeadLetter>)>>,
}

impl DeadLetters {
    /// The oldest dead letters. What cannot be read is left out.
    async fn read(&self, observer: &Observer) -> Vec<DeadLetter> {
        let mut last = self.last.lock().await;
        match &*last {
            Some((at, letters)) if at.elapsed() < DEAD_FRESH_FOR => letters.clone(),
            _ => {
                let read = tokio::time::timeout(STATUS_WITHIN, observer.dead_letters(DEAD_SHOWN));
                let mut letters = read.await.ok().and_then(Result::ok).unwrap_or_default();
                for letter in &mut letters {
                    // Nobody sees a body here.
                    letter.message.body = Default::default();
                }
                *last = Some((Instant::now(), letters.clone()));
                letters
            }
        }
    }
}

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
        let status = inbox_status(observer).await;
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

    /// [`take`](Self::take), with dead letters.
    pub(crate) async fn take_with_dead_letters(
        observer: &Observer,
        certificates: &Certificates,
        dead_letters: &DeadLetters,
    ) -> Self {
        let mut snapshot = Self::take(observer, certificates).await;
        if snapshot.status.problem.is_none() {
            snapshot.dead_letters = dead_letters.read(observer).await;
        }
        snapshot
    }
}

//! The state that all workers of a server share. It is made once, outside the factory that
//! actix-web runs in each worker, so that there is one inbox and one of each counter.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::Guard;
use ipc_base::CertificateIssuer;
use ipc_inbox::InboxSender;
use tokio::sync::Semaphore;

use crate::channel::settings::ChannelSettings;
use crate::login_ids::LoginIds;
use crate::login_notes::LoginNotes;
use crate::login_permits::LoginPermits;
use crate::login_slowdown::LoginSlowdown;
use crate::login_throttle::LoginThrottle;
use crate::memory_budget::MemoryBudget;
#[cfg(feature = "python-compat")]
use crate::python_sessions::PythonSessions;
use crate::rate_limited_log::RateLimitedLog;
use crate::sealed_body::Limits;
use crate::statistics::Counters;
use crate::stopping::Stopping;
use crate::trust::{CurrentTrust, Trust};
use crate::users::Users;

/// The state that all workers share.
pub(crate) struct State {
    /// What was read from files of the home, as it holds now.
    pub(crate) trust: CurrentTrust,
    /// Issues certificates for clients that renew theirs; `None` where nobody does.
    pub(crate) issuer: Option<Arc<dyn CertificateIssuer>>,
    pub(crate) users: Users,
    pub(crate) inbox: InboxSender,
    pub(crate) log: Arc<RateLimitedLog>,
    pub(crate) statistics: Arc<Counters>,
    pub(crate) attempts: LoginThrottle,
    pub(crate) login_slowdown: LoginSlowdown,
    pub(crate) login_ids: LoginIds,
    pub(crate) login_notes: LoginNotes,
    pub(crate) logins: LoginPermits,
    pub(crate) limits: Limits,
    pub(crate) channel: ChannelSettings,
    /// The memory for bodies and replies.
    pub(crate) budget: Arc<MemoryBudget>,
    /// How many long envelopes may be opened and checked at the same time.
    pub(crate) long_envelopes: Arc<Semaphore>,
    pub(crate) inbox_wait: Duration,
    pub(crate) reply_wait_max: Duration,
    pub(crate) batch_messages_max: usize,
    pub(crate) session_secs: u64,
    pub(crate) stopping: Arc<Stopping>,
    /// The sessions of peers that run the Python tool. `None` where they are not accepted.
    #[cfg(feature = "python-compat")]
    pub(crate) python: Option<PythonSessions>,
}

impl State {
    /// The snapshot of the home's files that holds now. Do not keep it across an `await`.
    pub(crate) fn trust(&self) -> Guard<Arc<Trust>> {
        self.trust.load()
    }

    /// Whether new connections should go elsewhere, because the server stops or soon will.
    pub(crate) fn is_draining(&self) -> bool {
        self.stopping.is_draining()
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.has_begun()
    }
}

/// Returns an initialisation vector from the operating system.
///
/// # Errors
/// If the system has no random bytes. No supported system does that once it has started.
pub(crate) fn random_iv() -> Result<[u8; 16], getrandom::Error> {
    let mut iv = [0; 16];
    getrandom::fill(&mut iv)?;
    Ok(iv)
}

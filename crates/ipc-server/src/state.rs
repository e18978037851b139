//! What all workers of a server share. It is made once, outside the factory that actix-web runs in
//! each worker, so that there is one inbox and one count of everything.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ipc_envelope::KeyRing;
use ipc_inbox::InboxSender;
use tokio::sync::Semaphore;

use crate::channel::settings::ChannelSettings;
use crate::login_ids::LoginIds;
use crate::login_notes::LoginNotes;
use crate::login_permits::LoginPermits;
use crate::login_throttle::LoginThrottle;
use crate::memory_budget::MemoryBudget;
use crate::peer::Transport;
use crate::rate_limited_log::RateLimitedLog;
use crate::sealed_body::Limits;
use crate::stopping::Stopping;
use crate::users::Users;

/// What all workers share.
pub(crate) struct State {
    pub(crate) transport: Transport,
    pub(crate) envelope_keys: Arc<KeyRing>,
    pub(crate) session_keys: KeyRing,
    pub(crate) users: Users,
    pub(crate) inbox: InboxSender,
    pub(crate) log: Arc<RateLimitedLog>,
    pub(crate) attempts: LoginThrottle,
    pub(crate) login_ids: LoginIds,
    pub(crate) login_notes: LoginNotes,
    pub(crate) logins: LoginPermits,
    pub(crate) limits: Limits,
    pub(crate) channel: ChannelSettings,
    /// For bodies.
    pub(crate) budget: Arc<MemoryBudget>,
    /// How many long envelopes may be opened and checked at the same time.
    pub(crate) long_envelopes: Arc<Semaphore>,
    pub(crate) inbox_wait: Duration,
    pub(crate) reply_wait_max: Duration,
    pub(crate) batch_messages_max: usize,
    pub(crate) session_secs: u64,
    pub(crate) stopping: Arc<Stopping>,
}

impl State {
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.has_begun()
    }
}

/// Seconds since the Unix epoch; 0 for a clock before it, which makes every envelope stale.
pub(crate) fn unix_secs(now: SystemTime) -> u64 {
    now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// An initialisation vector from the operating system.
///
/// # Errors
/// If the system gives no random bytes, which no supported one does once it has started.
pub(crate) fn random_iv() -> Result<[u8; 16], getrandom::Error> {
    let mut iv = [0; 16];
    getrandom::fill(&mut iv)?;
    Ok(iv)
}

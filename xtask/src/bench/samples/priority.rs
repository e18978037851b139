//! Raises the priority of the measured processes.
//!
//! The task uses it before its rounds. It knows nothing of what is run.

use std::process::{Command, Stdio};

/// Where Linux keeps the priority of a session's processes compared with other sessions; see
/// sched(7), "The autogroup feature". If the file exists, priorities within a session do not affect
/// other sessions.
const AUTOGROUP: &str = "/proc/self/autogroup";

/// The highest priority, and the usual one.
const NICE_RAISED: &str = "-20";
const NICE_USUAL: &str = "0";

/// Gives this process, and those it starts from now on, priority over others until it is dropped.
pub(crate) struct RaisedPriority;

impl RaisedPriority {
    /// `None` where the system does not allow it.
    pub(crate) fn acquire() -> Option<Self> {
        let has_groups = std::fs::exists(AUTOGROUP).unwrap_or_default();
        let has_priority =
            renice(NICE_RAISED) && (!has_groups || std::fs::write(AUTOGROUP, NICE_RAISED).is_ok());
        has_priority.then_some(RaisedPriority)
    }
}

impl Drop for RaisedPriority {
    fn drop(&mut self) {
        // A process that could raise its priority can lower it again.
        let _ = std::fs::write(AUTOGROUP, NICE_USUAL);
        renice(NICE_USUAL);
    }
}

/// Sets the priority of this process.
fn renice(nice: &str) -> bool {
    let mut renice = Command::new("renice");
    renice.args(["-n", nice, "-p", &std::process::id().to_string()]);
    renice.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

//! `web-ipc --backup --run --out DIR`: copies a home and prints where the copy is.
//!
//! `ipc-setup` makes the copy, on a thread of its own. Meanwhile this thread waits for signals, so
//! that an interrupted backup leaves nothing behind.

use std::path::Path;

use ipc_home::{Home, locate};
use ipc_setup::{BackedUp, Backup};

use crate::error::{Failure, Verdict};
use crate::out::{counted, report_line};
use crate::shell::shell_quoted;
use crate::signals::{self, EndSignals};

/// Copies the home to `out`.
pub(crate) fn run(explicit_home: Option<&Path>, out: &Path) -> Result<Verdict, Failure> {
    let home = Home::open_as_configured(locate(explicit_home)?)?;
    let unready = |error| Failure::of(&error, None).while_doing("cannot listen for signals");
    let runtime = signals::runtime().map_err(unready)?;
    let result = runtime.block_on(async {
        let mut signals = EndSignals::watch().map_err(unready)?;
        let backup = Backup::begin(&home, out)?;
        let partial = backup.partial().to_owned();
        let copying = tokio::task::spawn_blocking(move || backup.run());
        tokio::select! {
            made = copying => {
                let made = made.map_err(|error| Failure::of(&error, None))??;
                tell(&home, &made)?;
                Ok(Verdict::Done)
            }
            signal = signals.next() => {
                remove(&partial);
                log::warn!("ended by a signal; nothing of the copy is left");
                Ok(Verdict::Interrupted(signal))
            }
        }
    });
    // After a signal the thread may still copy; its directory is gone.
    runtime.shutdown_background();
    result
}

/// Removes the partial copy, to which another thread still writes.
fn remove(partial: &Path) {
    const ATTEMPTS_MAX: usize = 1000;
    for _ in 0..ATTEMPTS_MAX {
        // When the directory is gone, nothing can be made in it.
        if std::fs::remove_dir_all(partial).is_ok() || !partial.exists() {
            return;
        }
    }
}

fn tell(home: &Home, made: &BackedUp) -> Result<(), Failure> {
    report_line(format_args!(
        "Copied {} to {}",
        shell_quoted(home.root()),
        shell_quoted(&made.path)
    ))?;
    let Some(messages) = made.messages else { return Ok(()) };
    let messages = counted(u32::try_from(messages).unwrap_or(u32::MAX), "message");
    report_line(format_args!("  inbox.db  {messages}"))
}

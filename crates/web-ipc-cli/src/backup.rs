//! `web-ipc --backup FILE`, `web-ipc --backup --run --out DIR`: backs up or copies a home, and
//! prints where.
//!
//! `ipc-setup` does it, on a thread of its own. Meanwhile this thread waits for signals, so that an
//! interrupted backup leaves nothing behind. `restore.rs` waits in the same way.

use std::path::Path;

use ipc_home::{Home, locate};
use ipc_setup::{
    AbortHandle, BackedUp, Backup, Code, InitOptions, SealedBackup, SetupError, users_database,
};

use crate::code;
use crate::error::{Failure, Verdict};
use crate::out::{counted, printable, report_line};
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

/// Seals the home into the new file `file`.
pub(crate) fn seal(
    explicit_home: Option<&Path>,
    file: &Path,
    code_file: Option<&Path>,
) -> Result<Verdict, Failure> {
    let home = Home::open_as_configured(locate(explicit_home)?)?;
    let backup = SealedBackup::begin(&home, file)?;
    let (code, is_new) = match code_file {
        Some(code_file) => (code::for_backup(code_file)?, false),
        None => (Code::generate()?, true),
    };
    until_signal(
        backup.abort_handle(),
        "nothing of the backup is left",
        move || {
            // Shown before the file has its name: nothing that fails later can lose the code.
            let show = || if is_new { code::show(&code) } else { Ok(()) };
            backup.run_and_show(&code, InitOptions::now().now_secs, show)
        },
        |made| {
            report_line(format_args!(
                "Backed up {} to {}",
                shell_quoted(home.root()),
                shell_quoted(&made.path)
            ))?;
            tell_contents(&home, made.messages)
        },
    )
}

/// Runs `work` on a thread of its own until it is done, and then `tell`; or until a signal ends it,
/// which logs what is `left`.
pub(crate) fn until_signal<T: Send + 'static>(
    abort: AbortHandle,
    left: &str,
    work: impl FnOnce() -> Result<T, SetupError> + Send + 'static,
    tell: impl FnOnce(T) -> Result<(), Failure>,
) -> Result<Verdict, Failure> {
    let unready = |error| Failure::of(&error, None).while_doing("cannot listen for signals");
    let runtime = signals::runtime().map_err(unready)?;
    let result = runtime.block_on(async {
        let mut signals = EndSignals::watch().map_err(unready)?;
        let mut working = tokio::task::spawn_blocking(work);
        let done = tokio::select! {
            done = &mut working => done,
            signal = signals.next() => {
                if abort.abort() {
                    log::warn!("ended by a signal; {left}");
                    return Ok(Verdict::Interrupted(signal));
                }
                // It was complete already.
                working.await
            }
        };
        tell(done.map_err(|error| Failure::of(&error, None))??)?;
        Ok(Verdict::Done)
    });
    // After a signal the thread may still write; what it had made is gone.
    runtime.shutdown_background();
    result
}

/// Says what of an installation is in a backup of this home, and what is elsewhere.
pub(crate) fn tell_contents(home: &Home, messages: Option<u64>) -> Result<(), Failure> {
    if home.users_url()?.is_some() {
        // Without the engine its address is not known.
        let place = users_database(home).ok().flatten();
        let place = place.map_or_else(|| "another database".to_owned(), |place| place.shown);
        report_line(format_args!("  users     in {place}, which is not in it"))?;
    }
    if let Some(first) = home.node_settings()? {
        report_line(format_args!(
            "  node.json a further server, which follows {} at {}",
            first.server,
            printable(&first.addresses.join(", "))
        ))?;
    }
    match messages {
        Some(messages) => {
            let messages = counted(u32::try_from(messages).unwrap_or(u32::MAX), "message");
            report_line(format_args!("  inbox.db  {messages}"))
        }
        None if home.inbox_db().exists() => report_line(format_args!(
            "  inbox.db  of an older version: its messages are not counted"
        )),
        None => report_line(format_args!(
            "  inbox.db  none: messages in memory, or on NATS JetStream, are not in it"
        )),
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

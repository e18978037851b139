//! Runs one command for one message: starts it, writes the message to its stdin, reads its stdout,
//! and ends it if it must not go on.
//!
//! `jobs.rs` comes here, and decides what the end of a command means for its message.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use ipc_server::Delivery;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::manager;

/// How long the command of a request may run while no client waits for the reply. A client that
/// asks again under the same id, after a broken connection, is back sooner.
const UNAWAITED_MAX: Duration = Duration::from_secs(10);

/// How often to check whether a client waits.
const AWAITED_EVERY: Duration = Duration::from_secs(1);

/// How long a command has to end after SIGTERM.
const END_WAIT: Duration = Duration::from_secs(1);

/// How often to check whether it has ended.
const ENDED_EVERY: Duration = Duration::from_millis(20);

/// The bytes that an output may have besides the JSON of a reply: CR and LF.
const AROUND_REPLY_BYTES: usize = 2;

/// How the variables begin that configure `--serve`.
const SERVE_VARIABLES: &[u8] = b"WEB_IPC_SERVE_";

/// The most bytes that are read at once.
const READ_BYTES: usize = 64 * 1024;

/// How a command ended.
pub(super) enum Ended {
    /// With exit status 0. For a request, with what it wrote to stdout.
    Finished(Vec<u8>),
    /// The server ended it, since it stops.
    Stopped,
}

/// Why a command failed.
#[derive(Debug)]
pub(super) enum CommandError {
    /// It could not be started, or its status could not be read.
    Run(io::Error),
    /// Its exit status is not 0.
    Status(ExitStatus),
    /// It wrote more bytes than a reply may have.
    TooLong { bytes_max: usize },
    /// No client waits for the reply.
    NobodyWaits,
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Run(error) => write!(f, "cannot be run: {error}"),
            Self::Status(status) => write!(f, "ended with {status}"),
            Self::TooLong { bytes_max } => {
                write!(
                    f,
                    "was ended: it wrote more than the {bytes_max} bytes that a reply may have"
                )
            }
            Self::NobodyWaits => {
                write!(
                    f,
                    "was ended: nobody has waited for its reply for {} s",
                    UNAWAITED_MAX.as_secs()
                )
            }
        }
    }
}

/// Runs a command with a message on its stdin. For a request it returns the stdout of the command;
/// otherwise the command inherits the stdout of this process.
///
/// The command has ended when its process has ended, even if that has left others in the
/// background. The command is a process group of its own, so that Ctrl-C on a terminal does not
/// reach it.
pub(super) async fn output(
    command: &str,
    delivery: &Delivery,
    home: &Path,
    mut stopped: watch::Receiver<bool>,
) -> Result<Ended, CommandError> {
    let mut shell = Command::new("sh");
    for variable in manager::VARIABLES {
        shell.env_remove(variable);
    }
    // The options of this server, among them addresses with passwords, are not the command's.
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(SERVE_VARIABLES) {
            shell.env_remove(name);
        }
    }
    // The command may change its directory.
    if let Some(path) = std::env::var_os("WEB_IPC_CONFIG").filter(|path| !path.is_empty())
        && let Ok(path) = std::path::absolute(path)
    {
        shell.env("WEB_IPC_CONFIG", path);
    }
    match delivery.peer() {
        Some(peer) => shell.env("WEB_IPC_PEER", peer),
        // One that the server itself was started with is not the sender's.
        None => shell.env_remove("WEB_IPC_PEER"),
    };
    match delivery.redeliveries() {
        0 => shell.env_remove("WEB_IPC_REDELIVERED"),
        times => shell.env("WEB_IPC_REDELIVERED", times.to_string()),
    };
    match delivery.wants_reply() {
        true => shell.env("WEB_IPC_REQUEST", "1"),
        false => shell.env_remove("WEB_IPC_REQUEST"),
    };
    let this_try = u64::from(delivery.redeliveries()) + 1;
    let mut child = shell
        .arg("-c")
        .arg(command)
        .env("WEB_IPC_USER", delivery.user())
        .env("WEB_IPC_ID", delivery.id().to_string())
        .env("WEB_IPC_TRY", this_try.to_string())
        .env("WEB_IPC_HOME", home)
        .stdin(Stdio::piped())
        .stdout(if delivery.wants_reply() { Stdio::piped() } else { Stdio::inherit() })
        .process_group(0)
        .spawn()
        .map_err(CommandError::Run)?;
    let (stdin, mut stdout) = (child.stdin.take(), child.stdout.take());
    let bytes_max = delivery.reply_bytes_max();
    let length_max = bytes_max.saturating_add(AROUND_REPLY_BYTES);
    let mut output = Vec::new();
    let ended = tokio::select! {
        biased;
        status = child.wait() => Ok(status.map_err(CommandError::Run)?),
        () = more_than(length_max, stdout.as_mut(), &mut output) => {
            Err(Err(CommandError::TooLong { bytes_max }))
        }
        never = feed(stdin, delivery) => match never {},
        () = nobody_waits(delivery) => Err(Err(CommandError::NobodyWaits)),
        // If the other end of the channel was dropped, the server has ended too.
        _ = stopped.wait_for(|is_stopped| *is_stopped) => Err(Ok(Ended::Stopped)),
    };
    let status = match ended {
        Ok(status) => status,
        Err(ended) => {
            end(&mut child).await;
            return ended;
        }
    };
    if !status.success() {
        return Err(CommandError::Status(status));
    }
    if let Some(stdout) = stdout {
        read_what_is_there(&stdout, &mut output).map_err(CommandError::Run)?;
    }
    if output.len() > length_max {
        return Err(CommandError::TooLong { bytes_max });
    }
    Ok(Ended::Finished(output))
}

/// Writes a message to the stdin of a command. A command need not read it.
async fn feed(stdin: Option<ChildStdin>, delivery: &Delivery) -> Infallible {
    if let Some(mut stdin) = stdin {
        let body = format!("{}\n", delivery.body());
        if let Err(error) = stdin.write_all(body.as_bytes()).await
            && error.kind() != io::ErrorKind::BrokenPipe
        {
            log::warn!(
                "the message {} could not be written to its command: {error}",
                delivery.id()
            );
        }
    }
    std::future::pending().await
}

/// Reads the stdout of a command. Returns only if that is longer than a limit.
async fn more_than(length_max: usize, stdout: Option<&mut ChildStdout>, output: &mut Vec<u8>) {
    if let Some(stdout) = stdout {
        output.reserve(READ_BYTES.min(length_max));
        // After the end of the output, or an error, the exit status decides.
        while stdout.read_buf(output).await.is_ok_and(|length| length > 0) {
            if output.len() > length_max {
                return;
            }
        }
    }
    std::future::pending().await
}

/// Reads what a command that has ended has left in its pipe. It does not wait for the end of the
/// pipe, which a process in the background may hold open.
fn read_what_is_there(stdout: &ChildStdout, output: &mut Vec<u8>) -> io::Result<()> {
    let mut left = usize::try_from(rustix::io::ioctl_fionread(stdout)?).unwrap_or(usize::MAX);
    let mut bytes = vec![0; left.min(READ_BYTES)];
    while left > 0 {
        let wanted = left.min(bytes.len());
        match rustix::io::read(stdout, &mut bytes[..wanted]) {
            Ok(0) | Err(Errno::AGAIN) => break,
            Ok(count) => {
                output.extend_from_slice(&bytes[..count]);
                left -= count;
            }
            Err(Errno::INTR) => (),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Waits until no client has waited for the reply to a request for [`UNAWAITED_MAX`]. For a message
/// it waits for ever.
async fn nobody_waits(delivery: &Delivery) {
    if !delivery.wants_reply() {
        return std::future::pending().await;
    }
    let mut awaited_at = Instant::now();
    while awaited_at.elapsed() < UNAWAITED_MAX {
        sleep(AWAITED_EVERY).await;
        if delivery.is_awaited() {
            awaited_at = Instant::now();
        }
    }
}

/// Ends the process group of a command: by SIGTERM, and by SIGKILL after [`END_WAIT`].
async fn end(child: &mut Child) {
    let Some(group) = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw)
    else {
        return;
    };
    let begun = Instant::now();
    // An error means that the group has just ended.
    let _gone = kill_process_group(group, Signal::TERM);
    while begun.elapsed() < END_WAIT {
        // Until its status is read, a process that has ended still counts as there.
        let has_ended = child.try_wait().is_ok_and(|status| status.is_some());
        if has_ended && test_kill_process_group(group).is_err() {
            return;
        }
        sleep(ENDED_EVERY).await;
    }
    let _gone = kill_process_group(group, Signal::KILL);
    // The status does not matter any more.
    let _unknown = child.wait().await;
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use ipc_inbox::Message;
    use ipc_protocol::MessageId;
    use ipc_server::{Inbox, InboxSender};
    use tokio::time::timeout;

    use super::*;

    async fn delivery(sender: &InboxSender, inbox: &Inbox, wants_reply: bool) -> Delivery {
        let message = Message {
            id: MessageId::from_random([u8::from(wants_reply); 16]),
            user: "a".into(),
            certificate: None,
            peer: None,
            received_at: SystemTime::UNIX_EPOCH,
            body: "{}".into(),
            wants_reply,
        };
        sender.put(message, Duration::ZERO).await.unwrap();
        inbox.recv().await.unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_is_given_up_when_nobody_has_waited_for_a_while() {
        const LONG: Duration = Duration::from_secs(3600);
        let (sender, inbox) = Inbox::memory().build();
        let request = delivery(&sender, &inbox, true).await;
        let waiting = sender.reply_to("a", request.id());
        assert!(timeout(LONG, nobody_waits(&request)).await.is_err(), "somebody waits");
        drop(waiting);
        tokio::select! {
            () = nobody_waits(&request) => panic!("too early"),
            () = sleep(UNAWAITED_MAX / 2) => {}
        }
        let waiting = sender.reply_to("a", request.id());
        assert!(timeout(LONG, nobody_waits(&request)).await.is_err(), "somebody waits again");
        drop(waiting);
        let gone_at = Instant::now();
        nobody_waits(&request).await;
        assert!(gone_at.elapsed() >= UNAWAITED_MAX);
        let message = delivery(&sender, &inbox, false).await;
        assert!(
            timeout(LONG, nobody_waits(&message)).await.is_err(),
            "nobody waits for a message's"
        );
    }
}

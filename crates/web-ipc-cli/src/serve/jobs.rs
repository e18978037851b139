//! Runs a command for each message, several at once.
//!
//! `command.rs` runs one command. This file decides what the end of a command means for its
//! message.

use std::convert::Infallible;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ipc_base::chain;
use ipc_server::{Delivery, ReplyError};
use serde_json::value::RawValue;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::command::{CommandError, Ended, output};
use super::ending::{Cause, Serving, until};
use super::limits::Limits;
use crate::error::{Failure, Verdict};
use crate::plural::counted;

/// How much of a command the log shows, in characters.
const COMMAND_SHOWN_MAX: usize = 80;

/// The visibility timeout of a message whose command runs. It is extended while the command runs,
/// so that the message is delivered a second time only if this process was suspended for as long.
pub(super) const VISIBILITY_TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// How often the visibility timeout is extended.
const EXTEND_EVERY: Duration = Duration::from_secs(60);

/// How long after the failure of its command a message is delivered again.
pub(super) const RETRY_DELAY: Duration = Duration::from_secs(10);

/// The exit status of a command that cannot process its message now (`EX_TEMPFAIL` of
/// `sysexits.h`).
const TEMPORARY_FAILURE: i32 = 75;

/// The exit status of a command that can never process its message (`EX_DATAERR` of `sysexits.h`).
const BAD_DATA: i32 = 65;

/// The command for each message.
pub(super) struct Job {
    command: String,
    /// `WEB_IPC_HOME` of the command, for its own calls of `web-ipc`.
    home: PathBuf,
    /// The most deliveries of a message.
    tries: u16,
    is_durable: bool,
}

impl Job {
    pub(super) fn new(command: &str, home: &Path, tries: u16, is_durable: bool) -> Self {
        // Absolute, since the command may change its directory.
        let home = std::path::absolute(home).unwrap_or_else(|_| home.to_owned());
        Job { command: command.to_owned(), home, tries, is_durable }
    }

    /// The same with another command.
    fn with_command(&self, command: String) -> Self {
        Job { command, home: self.home.clone(), tries: self.tries, is_durable: self.is_durable }
    }

    /// Runs the command for one message, with the message on its stdin and the sender in its
    /// environment. Exit status 0 acknowledges the message, and the stdout of the command is the
    /// reply to a request. Status 75 puts the message back, and 65 rejects it. After any other end
    /// the sender of a request hears why there is no reply.
    async fn run(&self, delivery: Delivery, stopped: watch::Receiver<bool>) {
        let id = delivery.id();
        let is_request = delivery.wants_reply();
        let kind = if is_request { "request" } else { "message" };
        let command = format!("the command `{}` for {kind} {id}", shortened(&self.command));
        let next = self.what_comes_next(&delivery);
        let ended = tokio::select! {
            biased;
            ended = output(&self.command, &delivery, &self.home, stopped) => ended,
            never = keep_alive(&delivery) => match never {},
        };
        let output = match ended {
            Ok(Ended::Finished(output)) => output,
            // The end of the server logs how many were stopped.
            Ok(Ended::Stopped) => return,
            Err(error @ CommandError::NobodyWaits) => return log::warn!("{command} {error}"),
            Err(CommandError::Status(status)) if status.code() == Some(TEMPORARY_FAILURE) => {
                return self.put_back(delivery, &command).await;
            }
            Err(CommandError::Status(status)) if status.code() == Some(BAD_DATA) => {
                return self.reject(delivery, &command).await;
            }
            Err(error) if self.is_durable && !is_request && delivery.is_last_delivery() => {
                return self.reject_after_last_try(delivery, &command, &error).await;
            }
            Err(error) if is_request => return decline(delivery, &command, &error).await,
            Err(error) => return log::error!("{command} {error}; {next}"),
        };
        if !is_request {
            if let Err(error) = delivery.ack().await {
                log::error!(
                    "message {id} was processed, but not acknowledged, and may be delivered again: {}",
                    chain(&error)
                );
            }
            return;
        }
        let reply =
            String::from_utf8(output).ok().and_then(|text| RawValue::from_string(text).ok());
        let Some(reply) = reply.filter(|reply| reply.get().starts_with('{')) else {
            return decline(delivery, &command, &"did not write a JSON object to stdout").await;
        };
        match delivery.reply(&reply).await {
            Ok(()) => (),
            // Their sender hears why.
            Err(
                error @ (ReplyError::Body(_) | ReplyError::Rules(_) | ReplyError::TooLarge { .. }),
            ) => {
                let error = chain(&error);
                log::error!("{command} wrote an invalid reply: {error}; {next}");
            }
            Err(error) => {
                let error = chain(&error);
                log::error!("the reply to request {id} was not given: {error}");
            }
        }
    }

    /// Puts a message back, after exit status 75.
    async fn put_back(&self, delivery: Delivery, command: &str) {
        if delivery.is_last_delivery() {
            let error = format!("ended with status {TEMPORARY_FAILURE}, to be tried again");
            return self.reject_after_last_try(delivery, command, &error).await;
        }
        let ended = format!("{command} ended with status {TEMPORARY_FAILURE}, to be tried again");
        match delivery.nack(RETRY_DELAY).await {
            Ok(()) => log::warn!("{ended}; it is delivered again in {} s", RETRY_DELAY.as_secs()),
            Err(error) => log::error!("{ended}, but was not put back: {}", chain(&error)),
        }
    }

    /// Rejects a message, after exit status 65.
    async fn reject(&self, delivery: Delivery, command: &str) {
        let reason = format!("`{}` ended with status {BAD_DATA}", shortened(&self.command));
        match delivery.reject(reason).await {
            Ok(()) => log::error!(
                "{command} ended with status {BAD_DATA}, bad data: {}",
                self.becomes_of_dead()
            ),
            Err(error) => log::error!(
                "{command} ended with status {BAD_DATA}, but was not made a dead letter: {}",
                chain(&error)
            ),
        }
    }

    /// Rejects a message whose command failed in its last delivery. The inbox would make it a dead
    /// letter anyway, but without the exit status as the reason.
    async fn reject_after_last_try(
        &self,
        delivery: Delivery,
        command: &str,
        error: &impl fmt::Display,
    ) {
        let tries = counted_tries(self.tries);
        let reason =
            format!("`{}` {error}; that was the last of {tries}", shortened(&self.command));
        match delivery.reject(reason).await {
            Ok(()) => log::error!(
                "{command} {error}; that was the last of {tries}: {}",
                self.becomes_of_dead()
            ),
            Err(not_noted) => log::error!(
                "{command} {error}; that was the last of {tries}, but the reason was not noted: {}",
                chain(&not_noted)
            ),
        }
    }

    /// What the log says of a dead letter.
    fn becomes_of_dead(&self) -> &'static str {
        match self.is_durable {
            true => "it is a dead letter now",
            false => "it is lost; --inbox durable would have kept it as a dead letter",
        }
    }

    /// What the log says of a message whose command failed.
    fn what_comes_next(&self, delivery: &Delivery) -> String {
        if delivery.wants_reply() {
            // A request is not delivered again: its sender is told.
            "there is no reply".to_owned()
        } else if !self.is_durable {
            "the message is lost; --inbox durable would have kept it".to_owned()
        } else {
            "the message is delivered again, and becomes a dead letter in the end".to_owned()
        }
    }
}

/// Tells the sender of a request why there is no reply, without the words of the command.
async fn decline(delivery: Delivery, command: &str, error: &impl fmt::Display) {
    log::error!("{command} {error}; there is no reply");
    let id = delivery.id();
    if let Err(not_noted) = delivery.decline(format!("the command {error}")).await {
        log::error!("the reason was not noted for request {id}: {}", chain(&not_noted));
    }
}

/// Extends the visibility timeout of a message until this future is dropped.
async fn keep_alive(delivery: &Delivery) -> Infallible {
    loop {
        sleep(EXTEND_EVERY).await;
        if let Err(error) = delivery.extend(VISIBILITY_TIMEOUT).await {
            let id = delivery.id();
            log::warn!("message {id} may be delivered again while its command runs: {error}");
            std::future::pending::<()>().await;
        }
    }
}

fn counted_tries(tries: u16) -> String {
    if tries == 1 { "1 try".to_owned() } else { format!("{tries} tries") }
}

/// The first characters of a command.
fn shortened(command: &str) -> String {
    match command.char_indices().nth(COMMAND_SHOWN_MAX) {
        None => command.to_owned(),
        Some((end, _)) => format!("{}…", &command[..end]),
    }
}

/// Runs a command for each message, at most `jobs_max` at once.
pub(super) async fn run_all(
    mut serving: Serving,
    job: Job,
    mut jobs_max: u16,
    mut limits: Limits,
) -> Result<Verdict, Failure> {
    let (inbox, mut job) = (serving.server.inbox().clone(), Arc::new(job));
    let (stop, stopped) = watch::channel(false);
    let mut running = JoinSet::new();
    let mut stops_at = None;
    let mut is_open = true;
    let cause = loop {
        let is_stopping = stops_at.is_some();
        if limits.is_reached() && running.is_empty() {
            return Ok(serving.end_counted().await);
        }
        // While stopping, a durable inbox keeps its messages. One in memory is emptied first.
        let takes = is_open && !(is_stopping && serving.is_durable) && !limits.is_reached();
        if !takes && running.is_empty() {
            break Cause::Stopped;
        }
        let idle_at = limits.idle_at().filter(|_| !is_stopping && running.is_empty());
        // No message is taken before its command can be run.
        let has_place = running.len() < usize::from(jobs_max.max(1));
        tokio::select! {
            biased;
            signal = serving.next_signal() => {
                let Some(signal) = signal else {
                    // Commands that run already go on as they are.
                    if let Some((command, jobs)) = serving.command.clone() {
                        jobs_max = jobs;
                        job = Arc::new(job.with_command(command));
                    }
                    continue;
                };
                if is_stopping {
                    break Cause::SecondSignal(signal);
                }
                // A job that has just ended has acknowledged its message or put it back into the
                // inbox, which counts it.
                while running.try_join_next().is_some() {}
                stops_at = Some(serving.begin_stop(running.len(), "given to the command").await);
            }
            () = until(stops_at) => break Cause::TimeOver,
            Some(ended) = running.join_next() => {
                if let Err(error) = ended {
                    log::error!("a job failed: {}", chain(&error));
                }
                // The job may have put its message back into an inbox that was closed and empty.
                is_open = true;
                limits.begin_anew();
            }
            next = inbox.recv(), if takes && has_place => match next {
                None => is_open = false,
                Some(delivery) => {
                    limits.take(1);
                    if limits.is_reached() {
                        // Nothing more is accepted that nobody would take.
                        serving.server.begin_stop();
                    }
                    let (job, stopped) = (Arc::clone(&job), stopped.clone());
                    running.spawn(async move { job.run(delivery, stopped).await });
                }
            },
            () = until(idle_at) => {
                limits.end_wait();
                stops_at = Some(serving.begin_stop(running.len(), "given to the command").await);
            }
        }
    };
    let in_hand = running.len();
    stop.send_replace(true);
    let ended = (in_hand > 0).then(|| counted(in_hand, "command"));
    let ending = async { while running.join_next().await.is_some() {} };
    let (verdict, ()) = tokio::join!(serving.end_because(cause, in_hand, ended), ending);
    Ok(limits.verdict(verdict))
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::SystemTime;

    use ipc_inbox::{AckError, InboxBackend, Message, NotifyGuard, Pending, Put, PutError, Taken};
    use ipc_protocol::MessageId;
    use ipc_server::Inbox;
    use tokio::time::{Instant, timeout};

    use super::*;

    /// An inbox that always has a message, and notes each extension of its visibility timeout.
    struct Lending(Arc<Mutex<Vec<(Instant, Duration)>>>);

    impl InboxBackend for Lending {
        fn put(
            &self,
            _: Message,
            _: Duration,
        ) -> Pending<'_, (Result<Put, PutError>, NotifyGuard)> {
            Pending::ready((Err(PutError::Closed), NotifyGuard::none()))
        }

        fn take(&self, _: usize) -> Pending<'_, Vec<Taken>> {
            let message = Message {
                id: MessageId::from_random([1; 16]),
                user: "a".into(),
                certificate: None,
                peer: None,
                received_at: SystemTime::UNIX_EPOCH,
                body: "{}".into(),
                wants_reply: false,
            };
            Pending::ready(vec![Taken::new(message, 1)])
        }

        fn acknowledge(&self, _: &Taken) -> Pending<'_, Result<(), AckError>> {
            Pending::ready(Ok(()))
        }

        fn extend(&self, _: &Taken, time: Duration) -> Pending<'_, Result<(), AckError>> {
            let mut extended = self.0.lock().unwrap();
            extended.push((Instant::now(), time));
            // The third time is too late.
            Pending::ready(if extended.len() < 3 { Ok(()) } else { Err(AckError::TooLate) })
        }

        fn dropped(&self, _: &Taken) {}

        fn close(&self) -> Pending<'_, ()> {
            Pending::ready(())
        }

        fn waiting(&self) -> Pending<'_, u64> {
            Pending::ready(0)
        }

        fn finish(&self) -> Pending<'_, u64> {
            Pending::ready(0)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_is_lent_anew_long_before_its_time_is_over_until_it_is_too_late() {
        let extended = Arc::default();
        let (_sender, inbox) = Inbox::with_backend(Lending(Arc::clone(&extended)));
        let delivery = inbox.recv().await.unwrap();
        let begun = Instant::now();
        assert!(timeout(VISIBILITY_TIMEOUT * 10, keep_alive(&delivery)).await.is_err());
        let extended = extended.lock().unwrap();
        let mut last = begun;
        for (at, time) in extended.iter() {
            assert!(*at - last <= VISIBILITY_TIMEOUT / 4, "{:?}", *at - last);
            assert_eq!(*time, VISIBILITY_TIMEOUT);
            last = *at;
        }
        assert_eq!(extended.len(), 3, "then it is left alone");
    }

    #[test]
    fn a_long_command_is_shown_by_its_beginning() {
        assert_eq!(shortened("exit 3"), "exit 3");
        let long = "ä".repeat(COMMAND_SHOWN_MAX);
        assert_eq!(shortened(&long), long);
        assert_eq!(shortened(&format!("{long}b")), format!("{long}…"));
    }
}

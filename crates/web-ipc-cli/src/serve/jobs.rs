//! Each message as the input of a command, so many at once.
//!
//! What a command is and how it ends, `command.rs` knows; what its end means for the message is
//! decided here.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ipc_base::chain;
use ipc_server::{Delivery, ReplyError};
use serde_json::value::RawValue;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::command::{CommandError, Ended, output};
use super::ending::{Cause, Serving, until};
use crate::error::{Failure, Verdict};
use crate::plural::counted;

/// How much of a command the log shows, in characters.
const COMMAND_SHOWN_MAX: usize = 80;

/// How long a durable inbox lends a message to a command. It is asked for as much again and again
/// while the command runs, so that a message is run a second time only after this process stood
/// still for as long.
pub(super) const VISIBILITY_TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// How often it is asked.
const EXTEND_EVERY: Duration = Duration::from_secs(60);

/// After which time a message comes again whose command failed.
pub(super) const RETRY_DELAY: Duration = Duration::from_secs(10);

/// The status of a command that could not deal with its message now (EX_TEMPFAIL of sysexits).
const TEMPORARY_FAILURE: i32 = 75;

/// The status of a command that can never deal with its message (EX_DATAERR of sysexits).
const BAD_DATA: i32 = 65;

/// What is run for each message.
pub(super) struct Job {
    command: String,
    /// For the command's own calls of `web-ipc`.
    home: PathBuf,
    /// How often a message is delivered at most.
    tries: u16,
    is_durable: bool,
}

impl Job {
    pub(super) fn new(command: &str, home: &Path, tries: u16, is_durable: bool) -> Self {
        // A command may change its directory before it looks.
        let home = std::path::absolute(home).unwrap_or_else(|_| home.to_owned());
        Job { command: command.to_owned(), home, tries, is_durable }
    }

    /// One message's command: the message on its stdin, who sent it in its environment. If it ends
    /// well the message is acknowledged, and the sender of a request gets what it wrote to stdout.
    /// With one status of its own it puts the message back, with another it rejects it.
    async fn run(&self, delivery: Delivery, stopped: watch::Receiver<bool>) {
        let id = delivery.id();
        let kind = if delivery.wants_reply() { "request" } else { "message" };
        let command = format!("the command `{}` for {kind} {id}", shortened(&self.command));
        let next = self.what_comes_next(&delivery);
        let ended = tokio::select! {
            biased;
            ended = output(&self.command, &delivery, &self.home, stopped) => ended,
            never = keep_alive(&delivery) => match never {},
        };
        let output = match ended {
            Ok(Ended::Finished(output)) => output,
            // How many, the end of the server tells.
            Ok(Ended::Stopped) => return,
            Err(error @ CommandError::NobodyWaits) => return log::warn!("{command} {error}"),
            Err(CommandError::Status(status)) if status.code() == Some(TEMPORARY_FAILURE) => {
                return self.put_back(delivery, &command).await;
            }
            Err(CommandError::Status(status)) if status.code() == Some(BAD_DATA) => {
                return self.reject(delivery, &command).await;
            }
            Err(error) => return log::error!("{command} {error}; {next}"),
        };
        if !delivery.wants_reply() {
            if let Err(error) = delivery.ack().await {
                log::error!("message {id} was dealt with and may come again: {}", chain(&error));
            }
            return;
        }
        let Some(reply) =
            String::from_utf8(output).ok().and_then(|text| RawValue::from_string(text).ok())
        else {
            return log::error!("{command} wrote no JSON object to stdout; {next}");
        };
        match delivery.reply(&reply).await {
            Ok(()) => (),
            Err(ReplyError::Body(_)) => {
                log::error!("{command} wrote no JSON object to stdout; {next}")
            }
            Err(error @ (ReplyError::Rules(_) | ReplyError::TooLarge { .. })) => {
                let error = chain(&error);
                log::error!("{command} wrote what cannot be a reply: {error}; {next}");
            }
            Err(error) => {
                let error = chain(&error);
                log::error!("the reply to request {id} was not given: {error}");
            }
        }
    }

    /// The command could not deal with its message now.
    async fn put_back(&self, delivery: Delivery, command: &str) {
        let is_last = delivery.is_last_delivery();
        let ended = format!("{command} ended with status {TEMPORARY_FAILURE}, to be tried again");
        match delivery.nack(RETRY_DELAY).await {
            Ok(()) if is_last => {
                let tries = counted_tries(self.tries);
                log::error!("{ended}; that was the last of {tries}: {}", self.becomes_of_dead());
            }
            Ok(()) => log::warn!("{ended}; it comes again in {} s", RETRY_DELAY.as_secs()),
            Err(error) => log::error!("{ended}, but was not put back: {}", chain(&error)),
        }
    }

    /// The command can never deal with its message.
    async fn reject(&self, delivery: Delivery, command: &str) {
        let reason = format!("`{}` ended with status {BAD_DATA}", shortened(&self.command));
        match delivery.reject(reason).await {
            Ok(()) => log::error!(
                "{command} ended with status {BAD_DATA}, bad data: {}",
                self.becomes_of_dead()
            ),
            Err(error) => log::error!(
                "{command} ended with status {BAD_DATA}, but was not put aside: {}",
                chain(&error)
            ),
        }
    }

    /// What becomes of a dead letter.
    fn becomes_of_dead(&self) -> &'static str {
        match self.is_durable {
            true => "it is a dead letter now",
            false => "it is lost; --inbox durable would have kept it as a dead letter",
        }
    }

    /// What becomes of a message whose command does not end well.
    fn what_comes_next(&self, delivery: &Delivery) -> String {
        if delivery.wants_reply() {
            // A request is done with in any case: its sender is told.
            "there is no reply".to_owned()
        } else if !self.is_durable {
            "the message is lost; --inbox durable would have kept it".to_owned()
        } else if delivery.is_last_delivery() {
            let tries = counted_tries(self.tries);
            format!("that was the last of {tries}: it is a dead letter now")
        } else {
            "the message comes again, until it is a dead letter".to_owned()
        }
    }
}

/// Keeps a message from being delivered to anybody else while its command runs.
async fn keep_alive(delivery: &Delivery) -> Infallible {
    loop {
        sleep(EXTEND_EVERY).await;
        if let Err(error) = delivery.extend(VISIBILITY_TIMEOUT).await {
            let id = delivery.id();
            log::warn!("message {id} may be run again beside its command: {error}");
            std::future::pending::<()>().await;
        }
    }
}

fn counted_tries(tries: u16) -> String {
    if tries == 1 { "1 try".to_owned() } else { format!("{tries} tries") }
}

/// The beginning of a command, on one line.
fn shortened(command: &str) -> String {
    match command.char_indices().nth(COMMAND_SHOWN_MAX) {
        None => command.to_owned(),
        Some((end, _)) => format!("{}…", &command[..end]),
    }
}

/// Runs a command for each message, no more than `jobs_max` at once.
pub(super) async fn run_all(
    mut serving: Serving,
    job: Job,
    jobs_max: u16,
) -> Result<Verdict, Failure> {
    let (inbox, job) = (serving.server.inbox().clone(), Arc::new(job));
    let places = Arc::new(Semaphore::new(usize::from(jobs_max.max(1))));
    let (stop, stopped) = watch::channel(false);
    let mut running = JoinSet::new();
    let mut stops_at = None;
    let mut is_open = true;
    let cause = loop {
        let is_stopping = stops_at.is_some();
        // A durable inbox keeps what is not in hand. One in memory is emptied: it is closed once
        // nothing can come any more.
        let takes = is_open && !(is_stopping && serving.is_durable);
        if !takes && running.is_empty() {
            break Cause::Stopped;
        }
        // A place first: a message is taken only when there is somebody to deal with it.
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await.ok()?;
            inbox.recv().await.map(|delivery| (place, delivery))
        };
        tokio::select! {
            biased;
            signal = serving.signals.next() => {
                if is_stopping {
                    break Cause::SecondSignal(signal);
                }
                stops_at = Some(serving.begin_stop(running.len(), "given to the command").await);
            }
            () = until(stops_at) => break Cause::TimeOver,
            Some(ended) = running.join_next() => {
                if let Err(error) = ended {
                    log::error!("a job failed: {}", chain(&error));
                }
                // It may have put its message back, into an inbox that was closed and empty.
                is_open = true;
            }
            next = next, if takes => match next {
                None => is_open = false,
                Some((place, delivery)) => {
                    let (job, stopped) = (Arc::clone(&job), stopped.clone());
                    running.spawn(async move {
                        let _place = place;
                        job.run(delivery, stopped).await;
                    });
                }
            },
        }
    };
    let in_hand = running.len();
    stop.send_replace(true);
    let ended = (in_hand > 0).then(|| counted(in_hand, "command"));
    let ending = async { while running.join_next().await.is_some() {} };
    let (verdict, ()) = tokio::join!(serving.end_because(cause, in_hand, ended), ending);
    Ok(verdict)
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

    /// An inbox with a message for whoever asks, which notes for how long it is lent.
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

//! Each message as the input of a command, so many at once.
//!
//! What a command is and how it ends, `command.rs` knows; what its end means for the message is
//! decided here.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ipc_base::chain;
use ipc_server::{Delivery, ReplyError};
use serde_json::value::RawValue;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::command::{CommandError, Ended, output};
use super::ending::{Cause, Serving, until};
use crate::error::{Failure, Verdict};
use crate::plural::counted;

/// How much of a command the log shows, in characters.
const COMMAND_SHOWN_MAX: usize = 80;

/// What is run for each message.
pub(super) struct Job {
    command: String,
    /// For the command's own calls of `web-ipc`.
    home: PathBuf,
    /// How often a message is handed out; `None` if it is once, from memory.
    tries: Option<u16>,
}

impl Job {
    pub(super) fn new(command: &str, home: &Path, tries: Option<u16>) -> Self {
        // A command may change its directory before it looks.
        let home = std::path::absolute(home).unwrap_or_else(|_| home.to_owned());
        Job { command: command.to_owned(), home, tries }
    }

    /// One message's command: the message on its stdin, who sent it in its environment. If it ends
    /// well the message is acknowledged, and the sender of a request gets what it wrote to stdout.
    async fn run(&self, delivery: Delivery, stopped: watch::Receiver<bool>) {
        let id = delivery.id();
        let kind = if delivery.wants_reply() { "request" } else { "message" };
        let command = format!("the command `{}` for {kind} {id}", shortened(&self.command));
        let next = self.what_comes_next(&delivery);
        let output = match output(&self.command, &delivery, &self.home, stopped).await {
            Ok(Ended::Finished(output)) => output,
            // How many, the end of the server tells.
            Ok(Ended::Stopped) => return,
            Err(error @ CommandError::NobodyWaits) => return log::warn!("{command} {error}"),
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
                log::error!("{command} wrote what cannot be a reply: {}; {next}", chain(&error));
            }
            Err(error) => log::error!("the reply to request {id} was not given: {}", chain(&error)),
        }
    }

    /// What becomes of a message whose command does not end well.
    fn what_comes_next(&self, delivery: &Delivery) -> String {
        match self.tries {
            // A request is done with in any case: its sender is told.
            _ if delivery.wants_reply() => "there is no reply".to_owned(),
            None => "the message is lost; --inbox durable would have kept it".to_owned(),
            Some(tries) if delivery.is_last_try() => {
                format!("that was the last of {}: it is a dead letter now", counted_tries(tries))
            }
            Some(_) => "the message comes again, until it is a dead letter".to_owned(),
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
    use super::*;

    #[test]
    fn a_long_command_is_shown_by_its_beginning() {
        assert_eq!(shortened("exit 3"), "exit 3");
        let long = "ä".repeat(COMMAND_SHOWN_MAX);
        assert_eq!(shortened(&long), long);
        assert_eq!(shortened(&format!("{long}b")), format!("{long}…"));
    }
}

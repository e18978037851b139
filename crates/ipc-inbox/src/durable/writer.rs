//! The writer: it carries out the waiting commands in one transaction, and answers after the
//! commit.

use std::cell::RefCell;
use std::collections::HashSet;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use foldhash::quality::RandomState;
use ipc_base::chain;
use ipc_sqlite::BlockingDatabase;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::commands::{Acked, Command, Commands, Patience};
use super::lock::lock;
use super::options::{DurableOptions, OpenError};
use super::queue::{Queue, Taker};
use super::statements::{self, Key, Oldest};
use super::user_ids::UserIds;
use crate::backend::{AckError, NoReply, Put, PutError};
use crate::dead_letter::StorageError;
use crate::message::Message;
use crate::replies::{self, Replies, Reply};
use crate::status::InboxStatus;

/// How often old ids and replies are forgotten.
const PRUNE_EVERY: Duration = Duration::from_secs(60);

/// For how long a failed commit counts as a problem.
const FAILED_FOR: Duration = Duration::from_secs(10);

/// The pause after a failed write to the file, before the next attempt.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// How many commands go into one transaction at most, and after how many messages, put or
/// acknowledged, it takes no further command. So the first of many senders does not wait for all.
const COMMANDS_MAX: usize = 1024;
const MESSAGES_MAX: usize = 4096;

/// How long after a commit with new messages the writer holds back acknowledgements that nobody
/// else waits for. They then share a commit with the next messages, from the senders that have just
/// been answered. tokio's timer may add a millisecond.
const HELD_FOR: Duration = Duration::from_millis(1);

/// A put that waits to be written, or for room.
pub(super) struct WaitingPut {
    pub(super) messages: Vec<Message>,
    pub(super) until: Instant,
    /// The put found no room before.
    pub(super) has_waited: bool,
    pub(super) done: oneshot::Sender<Vec<Result<Put, PutError>>>,
}

/// Messages that were acknowledged together.
struct AckedGroup {
    acked: Vec<Acked>,
    done: oneshot::Sender<Vec<Result<(), AckError>>>,
}

pub(super) struct Writer {
    pub(super) database: BlockingDatabase,
    pub(super) options: DurableOptions,
    pub(super) replies: Arc<Replies>,
    commands: Arc<Commands>,
    pub(super) is_open: bool,
    /// The counts of what is in the file.
    pub(super) messages: u64,
    pub(super) bytes: u64,
    pub(super) remembered: u64,
    pub(super) user_ids: UserIds,
    pub(super) reply_bytes: u64,
    pub(super) last_seq: i64,
    /// When to retry a failed write.
    retry_at: Option<Instant>,
    pub(super) queue: Queue,
    pub(super) puts: Vec<WaitingPut>,
    acked: Vec<AckedGroup>,
    /// When messages were stored, if the last commit stored any.
    pub(super) stored_at: Option<Instant>,
    pub(super) prune_at: Instant,
    /// Why the last commit of messages failed, if it did, and when.
    failed: Option<(String, Instant)>,
    /// What was logged last, and when.
    pub(super) reported: RefCell<Option<(String, Instant)>>,
    /// The callers of `close`, who wait until everything is in the database file.
    pub(super) closing: Vec<oneshot::Sender<()>>,
    /// The callers of `finish`. After the first of them no command is carried out.
    finishing: Vec<oneshot::Sender<u64>>,
    /// Keeps other processes out.
    lock: File,
}

impl Writer {
    pub(super) async fn open(
        path: PathBuf,
        options: DurableOptions,
        commands: Arc<Commands>,
        replies: Arc<Replies>,
    ) -> Result<Self, OpenError> {
        // Checks the directory first: without it the lock would report a less helpful error.
        ipc_sqlite::make_file(&path, statements::SCHEMA.what)?;
        let lock = lock(&path)?;
        let alone = ipc_sqlite::Options::new().alone();
        let database =
            ipc_sqlite::create(&path, &statements::SCHEMA, &alone).await?.into_blocking()?;
        if database.lacks_log() {
            log::warn!(
                "the durable inbox {} lacks its latest changes: its -wal was empty; messages may be lost, or accepted twice",
                path.display()
            );
        }
        let contents = database.read(|file| statements::contents(file, options.max_deliveries))?;
        let user_ids =
            UserIds::new(database.read(statements::ids_of_each)?, options.user_ids_max());
        let mut writer = Writer {
            queue: Queue::new(contents.waiting, &options, Arc::clone(&commands)),
            options,
            replies,
            commands,
            is_open: true,
            messages: contents.messages,
            bytes: contents.bytes,
            remembered: user_ids.total(),
            user_ids,
            reply_bytes: contents.reply_bytes,
            last_seq: contents.last_seq,
            retry_at: None,
            puts: Vec::new(),
            acked: Vec::new(),
            stored_at: None,
            prune_at: Instant::now(),
            failed: None,
            reported: RefCell::new(None),
            closing: Vec::new(),
            finishing: Vec::new(),
            database,
            lock,
        };
        if contents.exhausted > 0 {
            // The process ended during the last delivery of these messages.
            let buried = writer.bury(None)?;
            writer.queue.never_comes(buried);
        }
        // Their senders will ask again, and the waiters are told from memory.
        for (user, id) in writer.database.read(statements::open_requests)? {
            writer.replies.expect(&user, id);
        }
        Ok(writer)
    }

    pub(super) async fn work(&mut self) {
        loop {
            let now = Instant::now();
            let patience = Patience {
                for_acknowledgements: self.may_hold_back(now),
                for_takers: self.is_open && !self.queue.has_waiting(),
            };
            let wake_at = self.wake_at(patience);
            tokio::select! {
                biased;
                comes = self.commands.wait(patience) => if !comes { break },
                () = tokio::time::sleep_until(wake_at) => self.commands.be_awake(),
            }
            let (mut taken, mut messages) = (0, 0);
            while taken < COMMANDS_MAX && messages < MESSAGES_MAX && self.finishing.is_empty() {
                let Some(command) = self.commands.next() else { break };
                taken += 1;
                messages += command.messages();
                self.note(command).await;
            }
            if !self.finishing.is_empty() {
                break;
            }
            if !self.holds_back(Instant::now()) {
                self.round();
            }
            if !self.closing.is_empty() {
                self.write_back();
            }
        }
        // The last handle is gone, or `finish` was called. Earlier commands are still carried out.
        self.is_open = false;
        self.queue.end_takers();
        self.round();
        if let Err(error) = self.unmark_prefetched() {
            self.report(&error);
        }
    }

    /// Closes the file, releases the lock, and answers those who called `finish`.
    pub(super) async fn finish(mut self) {
        let waiting = self.queue.waiting();
        self.replies.end_all_waits(NoReply::Unavailable);
        if let Err(error) = self.database.close().await {
            self.report_not_written_back(&error);
        }
        drop(self.lock);
        for done in self.finishing {
            let _gone = done.send(waiting);
        }
    }

    /// When the writer has something to do without a command.
    fn wake_at(&self, patience: Patience) -> Instant {
        // Between two rounds there are acknowledgements only if they are held back. More may come
        // without waking the thread.
        let held =
            self.held_until().filter(|_| !self.acked.is_empty() || patience.for_acknowledgements);
        held.into_iter().chain(self.due_at()).fold(self.prune_at, Instant::min)
    }

    /// When anything other than an acknowledgement is due.
    fn due_at(&self) -> impl Iterator<Item = Instant> {
        let puts = self.puts.iter().map(|put| put.until).min();
        self.queue.next_expiry().into_iter().chain(puts).chain(self.retry_at)
    }

    /// Until when acknowledgements may be held back.
    fn held_until(&self) -> Option<Instant> {
        self.stored_at.map(|at| at + HELD_FOR)
    }

    /// Whether acknowledgements should wait for the next messages and share their commit: a commit
    /// of their own would delay those messages. Only the application waits for these answers, and
    /// it has taken every message there is.
    fn may_hold_back(&self, now: Instant) -> bool {
        // Nothing else may be due earlier, above all not the leases of the acknowledged messages.
        let is_in_time =
            |until| now < until && self.due_at().fold(self.prune_at, Instant::min) >= until;
        self.held_until().is_some_and(is_in_time)
            && self.is_open
            && self.puts.is_empty()
            && self.acked.iter().flat_map(|group| &group.acked).all(|one| one.key.is_none())
            && !self.queue.has_waiting()
    }

    /// Whether the only work is acknowledgements that are held back.
    fn holds_back(&self, now: Instant) -> bool {
        !self.acked.is_empty() && self.may_hold_back(now)
    }

    async fn note(&mut self, command: Command) {
        // Sending an answer fails only if the caller is gone, and then nobody misses it.
        match command {
            Command::Put { messages, wait, done } => {
                let until = Instant::now()
                    .checked_add(wait)
                    .unwrap_or_else(|| Instant::now() + PRUNE_EVERY);
                self.puts.push(WaitingPut { messages, until, has_waited: false, done });
            }
            Command::Take { count_max, done } => self.queue.ask(Taker { count_max, done }),
            Command::Ack { acked, done } => self.acked.push(AckedGroup { acked, done }),
            Command::Return(returned) => self.queue.give_back(returned),
            Command::Nack { lease, delay, done } => {
                let is_live = self.queue.nack(lease, delay, Instant::now());
                if let Some(done) = done {
                    // After the last delivery the message becomes a dead letter before the answer.
                    self.requeue_expired();
                    let _gone = done.send(if is_live { Ok(()) } else { Err(AckError::TooLate) });
                }
            }
            Command::Extend { lease, time, done } => {
                let is_live = self.queue.extend(lease, time, Instant::now());
                let _gone = done.send(if is_live { Ok(()) } else { Err(AckError::TooLate) });
            }
            Command::Reject { lease, reason, done } => {
                let _gone = done.send(self.reject(lease, &reason));
            }
            Command::FindReply { key, done } => {
                let _gone = done.send(self.find_reply(&key));
            }
            Command::DeadLetters { after, count_max, done } => {
                // Includes the messages that become dead letters at this moment.
                self.requeue_expired();
                let letters = self.dead_letters(after, count_max).await;
                let _gone = done.send(letters.map_err(StorageError::new));
            }
            Command::Requeue { ids, done } => {
                let requeued = self.requeue(&ids).map_err(StorageError::new);
                let _gone = done.send(requeued);
            }
            Command::Discard { ids, done } => {
                let discarded = self.discard(&ids).map_err(StorageError::new);
                let _gone = done.send(discarded);
            }
            Command::Close { done } => {
                self.is_open = false;
                self.closing.push(done);
            }
            Command::Waiting { done } => {
                let _gone = done.send(self.queue.waiting());
            }
            Command::Status { done } => {
                let _gone = done.send(self.status());
            }
            Command::Finish { done } => self.finishing.push(done),
        }
    }

    fn status(&self) -> InboxStatus {
        let (waiting, in_hand) = (self.queue.waiting(), self.queue.in_hand());
        let dying = self.queue.exhausted().len() as u64;
        let oldest = match self.queue.oldest() {
            Oldest::None => None,
            oldest => self
                .database
                .read(|file| statements::received_at(file, oldest))
                .unwrap_or_else(|error| {
                    self.report(&error);
                    None
                }),
        };
        InboxStatus::of_waiting(waiting)
            .with_oldest(oldest)
            .with_remembered_ids(self.remembered)
            .with_dead_letters(self.messages.saturating_sub(waiting + in_hand + dying))
            .with_problem(self.problem())
    }

    /// Why nothing can be stored. A failure counts for a time only: whoever sends nothing while
    /// there is one would never see its end.
    fn problem(&self) -> Option<String> {
        let failed = self.failed.as_ref().filter(|(_, at)| at.elapsed() < FAILED_FOR);
        let room = || self.database.check_room().err().map(|error| chain(&error).to_string());
        failed.map(|(why, _)| why.clone()).or_else(room)
    }

    /// Ends the leases and delays that are over, and marks messages as dead whose last delivery
    /// failed.
    fn requeue_expired(&mut self) {
        self.queue.requeue_expired(Instant::now());
        self.retry_at = None;
        if let Err(error) = self.bury_exhausted() {
            self.report(&error);
            self.retry_at = Some(Instant::now() + RETRY_AFTER);
        }
    }

    /// Writes everything that waits in one transaction, and answers.
    fn round(&mut self) {
        self.requeue_expired();
        let groups = std::mem::take(&mut self.acked);
        // Each lease counts once: a second acknowledgement of it is too late.
        let mut known = HashSet::with_hasher(RandomState::default());
        let is_live = groups.iter().flat_map(|group| &group.acked);
        let is_live: Vec<bool> = is_live
            .map(|one| self.queue.leased(one.lease).is_some() && known.insert(one.lease))
            .collect();
        let all = groups.iter().flat_map(|group| &group.acked).zip(&is_live);
        let acked: Vec<&Acked> = all.filter_map(|(one, is_live)| is_live.then_some(one)).collect();
        let has_work = !self.puts.is_empty() || !acked.is_empty();
        let mut written = self.write(&acked);
        if has_work {
            let failure = written.as_ref().err();
            self.failed = failure.map(|error| (chain(error).to_string(), Instant::now()));
        }
        if let Err(error) = &written {
            self.report(error);
            self.rescue(error);
            self.refuse_all_puts(PutError::Unavailable);
            // Acknowledgements free room, and may succeed where messages did not.
            written = self.write_acked_alone(&acked);
        }
        if written.is_ok() {
            acked.iter().for_each(|one| self.forget(one));
        }
        let written = written.map_err(|error| error.to_string());
        let mut is_live = is_live.into_iter();
        for AckedGroup { acked, done } in groups {
            let answers = is_live.by_ref().take(acked.len()).map(|is_live| match &written {
                _ if !is_live => Err(AckError::TooLate),
                Ok(()) => Ok(()),
                Err(text) => Err(AckError::Storage { source: text.clone().into() }),
            });
            let _gone = done.send(answers.collect());
        }
        if let Err(error) = self.hand_out() {
            self.report(&error);
            self.retry_at = Some(Instant::now() + RETRY_AFTER);
            self.end_takers_if_closed();
        }
        if Instant::now() >= self.prune_at {
            self.prune_at = Instant::now() + PRUNE_EVERY;
            if let Err(error) = self.prune() {
                self.report(&error);
            }
        }
    }

    /// Updates the counts for a message that was removed from the file.
    fn forget(&mut self, acked: &Acked) {
        if let Some(held) = self.queue.ack(acked.lease) {
            self.messages = self.messages.saturating_sub(1);
            self.bytes = self.bytes.saturating_sub(held.bytes);
        }
        if let Some((user, id)) = &acked.key {
            let reply = acked.reply.clone();
            self.reply_bytes += replies::length(&reply) as u64;
            if self.reply_bytes > self.options.replies_bytes_max {
                self.prune_at = Instant::now();
            }
            self.replies.settle(user, *id, reply, std::time::Instant::now());
        }
    }

    /// Looks in the file for a reply that is not in memory.
    fn find_reply(&self, key: &Key) -> Option<Reply> {
        // The request may have become known meanwhile: every request that waits for its reply is.
        if self.replies.is_known(&key.0, key.1) {
            return None;
        }
        Some(match self.database.read(|file| statements::reply(file, key)) {
            Ok(Some(reply)) => reply,
            Ok(None) => Err(NoReply::Forgotten),
            Err(error) => {
                self.report(&error);
                Err(NoReply::Unavailable)
            }
        })
    }
}

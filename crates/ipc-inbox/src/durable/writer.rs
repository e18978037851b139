//! The thread that has the file: it takes what waits, does it in one transaction, and answers when that is committed.

use std::cell::RefCell;
use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ipc_sqlite::{Database, DatabaseError};
use sqlx::{Sqlite, Transaction};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::commands::{Command, Settled};
use super::plan::{Plan, Room, Waiting, plan};
use super::queue::{AHEAD_BYTES_MAX, Queue, Taker};
use super::tables::{self, Answered, Change, Key, KnownIds};
use super::{DurableOptions, OpenError, StorageError, lock};
use crate::replies::{Replies, Reply};
use crate::{AckError, Message, NoReply, Put, PutError};

/// How often old ids and replies are forgotten.
const PRUNE_EVERY: Duration = Duration::from_secs(60);

/// Between two attempts at what the file does not take.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Commands that go into one transaction at most, and messages before the last of them, so that the first of many does not wait
/// for all.
const COMMANDS_MAX: usize = 1024;
const MESSAGES_MAX: usize = 4096;

/// How long after a commit with messages acknowledgements that nobody else waits for are kept back, so that they share a commit
/// with the next messages: those of senders who have their answers now. tokio's timer may make a millisecond more of it.
const HELD_FOR: Duration = Duration::from_millis(1);

/// What the thread is started with.
pub(super) struct Start {
    pub(super) path: PathBuf,
    pub(super) options: DurableOptions,
    pub(super) commands: mpsc::UnboundedReceiver<Command>,
    pub(super) returns: mpsc::WeakUnboundedSender<Command>,
    pub(super) replies: Arc<Replies>,
    pub(super) opened: oneshot::Sender<Result<(), OpenError>>,
}

/// The thread. It ends when the last handle has gone.
pub(super) fn run(start: Start) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_time().build() {
        Ok(runtime) => runtime,
        Err(source) => {
            // Whoever asked may have gone.
            let _gone = start.opened.send(Err(OpenError::Thread { source }));
            return;
        }
    };
    runtime.block_on(async move {
        let Start { path, options, mut commands, returns, replies, opened } = start;
        let mut writer = match Writer::open(path, options, returns, replies).await {
            Ok(writer) => writer,
            Err(error) => {
                let _gone = opened.send(Err(error));
                return;
            }
        };
        if opened.send(Ok(())).is_ok() {
            writer.work(&mut commands).await;
        }
        // Whoever asked for something in this moment is told that nobody is there.
        drop(commands);
        writer.finish().await;
    });
}

/// A put that waits for room.
struct WaitingPut {
    messages: Vec<Message>,
    until: Instant,
    /// It found no room before.
    has_waited: bool,
    done: oneshot::Sender<Vec<Result<Put, PutError>>>,
}

pub(super) struct Writer {
    pub(super) database: Database,
    pub(super) options: DurableOptions,
    pub(super) replies: Arc<Replies>,
    is_open: bool,
    /// What is in the file.
    pub(super) messages: u64,
    pub(super) bytes: u64,
    pub(super) remembered: u64,
    pub(super) reply_bytes: u64,
    last_seq: i64,
    /// When to try again what failed.
    retry_at: Option<Instant>,
    pub(super) queue: Queue,
    puts: Vec<WaitingPut>,
    settled: Vec<Settled>,
    /// When messages were stored, if that was the last commit.
    stored_at: Option<Instant>,
    pub(super) prune_at: Instant,
    /// What the log was told last, and when.
    pub(super) reported: RefCell<Option<(String, Instant)>>,
    /// Those who closed it, and wait until everything is in the file.
    pub(super) closing: Vec<oneshot::Sender<()>>,
    /// Those who wait for the end. The first is the end of all commands.
    finishing: Vec<oneshot::Sender<u64>>,
    /// Keeps other processes out.
    lock: std::fs::File,
}

impl Writer {
    async fn open(
        path: PathBuf,
        options: DurableOptions,
        returns: mpsc::WeakUnboundedSender<Command>,
        replies: Arc<Replies>,
    ) -> Result<Self, OpenError> {
        // The directory first: without it the lock's error would hide the better one.
        ipc_sqlite::make_file(&path, tables::SCHEMA.what)?;
        let lock = lock(&path)?;
        let alone = ipc_sqlite::Options::new().alone();
        let database = ipc_sqlite::create(&path, &tables::SCHEMA, &alone).await?;
        if database.lacks_log() {
            log::warn!(
                "the durable inbox {} lacks what came last: its -wal was empty; messages may be lost, or accepted twice",
                path.display()
            );
        }
        let failed = |error| OpenError::Database(database.error(error));
        let mut reader = database.readers().acquire().await.map_err(failed)?;
        let contents = tables::contents(&mut reader, options.tries_max).await.map_err(failed)?;
        drop(reader);
        let mut writer = Writer {
            queue: Queue::new(contents.waiting, &options, returns),
            options,
            replies,
            is_open: true,
            messages: contents.messages,
            bytes: contents.bytes,
            remembered: contents.remembered,
            reply_bytes: contents.reply_bytes,
            last_seq: contents.last_seq,
            retry_at: None,
            puts: Vec::new(),
            settled: Vec::new(),
            stored_at: None,
            prune_at: Instant::now(),
            reported: RefCell::new(None),
            closing: Vec::new(),
            finishing: Vec::new(),
            database,
            lock,
        };
        if contents.spent > 0 {
            // Their last try ended with the process that had them.
            let buried = writer.bury(None).await.map_err(OpenError::Database)?;
            writer.queue.never_comes(buried);
        }
        Ok(writer)
    }

    async fn work(&mut self, commands: &mut mpsc::UnboundedReceiver<Command>) {
        loop {
            let wake_at = self.wake_at();
            let first = tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => Some(command),
                    None => break,
                },
                () = tokio::time::sleep_until(wake_at) => None,
            };
            let (mut next, mut taken, mut messages) = (first, 0, 0);
            while let Some(command) = next {
                taken += 1;
                messages += command.messages();
                self.note(command).await;
                let is_enough =
                    taken == COMMANDS_MAX || messages >= MESSAGES_MAX || !self.finishing.is_empty();
                next = if is_enough { None } else { commands.try_recv().ok() };
            }
            if !self.finishing.is_empty() {
                break;
            }
            if !self.holds_back(Instant::now()) {
                self.round().await;
            }
            if !self.closing.is_empty() {
                self.write_back().await;
            }
        }
        // The last handle has gone, or somebody asked for the end; what was asked for before is still done.
        self.is_open = false;
        self.queue.end_takers();
        self.round().await;
        if let Err(error) = self.take_back_what_was_marked_ahead().await {
            self.report(&error);
        }
    }

    /// Closes the file, lets others at it, and tells those who wait for that.
    async fn finish(self) {
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

    /// When there is something to do without a command.
    fn wake_at(&self) -> Instant {
        let puts = self.puts.iter().map(|put| put.until).min();
        // Between two rounds there are acknowledgements only if they are kept back.
        let held = self.held_until().filter(|_| !self.settled.is_empty());
        let others = puts.into_iter().chain(self.retry_at).chain(held);
        self.queue.next_due().into_iter().chain(others).fold(self.prune_at, Instant::min)
    }

    /// Until when acknowledgements may be kept back.
    fn held_until(&self) -> Option<Instant> {
        self.stored_at.map(|at| at + HELD_FOR)
    }

    /// Whether all there is to do are acknowledgements which better go with the next messages, once these come: a commit of their
    /// own would hold up those. Nothing waits for them but the application, which has had all messages there are.
    fn holds_back(&self, now: Instant) -> bool {
        // Nothing else may be due before, the time of what was acknowledged above all.
        let is_in_time = |until| now < until && until <= self.wake_at();
        self.held_until().is_some_and(is_in_time)
            && self.is_open
            && self.puts.is_empty()
            && !self.settled.is_empty()
            && self.settled.iter().all(|one| one.key.is_none())
            && !self.queue.has_waiting()
    }

    async fn note(&mut self, command: Command) {
        // Where nobody waits for an answer any more, nobody misses it.
        match command {
            Command::Put { messages, wait, done } => {
                let until = Instant::now().checked_add(wait).unwrap_or_else(|| Instant::now() + PRUNE_EVERY);
                self.puts.push(WaitingPut { messages, until, has_waited: false, done });
            }
            Command::Take { count_max, done } => self.queue.ask(Taker { count_max, done }),
            Command::Settle(settled) => self.settled.push(settled),
            Command::Return(returned) => self.queue.give_back(returned),
            Command::Drop { ticket } => self.queue.let_go(ticket, Instant::now()),
            Command::FindReply { key, done } => {
                let found = self.find_reply(&key).await;
                let _gone = done.send(found);
            }
            Command::DeadLetters { after, count, done } => {
                // Those that have just become some are among them.
                self.let_due_come_again().await;
                let letters =
                    self.dead_letters(after, count).await.map_err(|error| StorageError(error.into()));
                let _gone = done.send(letters);
            }
            Command::PutBack { numbers, done } => {
                let revived = self.put_back(numbers).await.map_err(|error| StorageError(error.into()));
                let _gone = done.send(revived);
            }
            Command::Discard { numbers, done } => {
                let discarded = self.discard(numbers).await.map_err(|error| StorageError(error.into()));
                let _gone = done.send(discarded);
            }
            Command::Close { done } => {
                self.is_open = false;
                self.closing.push(done);
            }
            Command::Waiting { done } => {
                let _gone = done.send(self.queue.waiting());
            }
            Command::Finish { done } => self.finishing.push(done),
        }
    }

    /// Lets those wait again whose time is over, and puts aside those that had their last try.
    async fn let_due_come_again(&mut self) {
        self.queue.let_due_come_again(Instant::now());
        self.retry_at = None;
        if let Err(error) = self.bury_spent().await {
            self.report(&error);
            self.retry_at = Some(Instant::now() + RETRY_AFTER);
        }
    }

    /// One transaction with all that waits, and the answers.
    async fn round(&mut self) {
        self.let_due_come_again().await;
        let settled = std::mem::take(&mut self.settled);
        // Once each: whoever says it twice has dealt with it once.
        let mut known = HashSet::new();
        let (settled, late): (Vec<_>, Vec<_>) = settled
            .into_iter()
            .partition(|one| self.queue.held(one.ticket).is_some() && known.insert(one.ticket));
        for one in late {
            let _gone = one.done.send(Err(AckError::TooLate));
        }
        let mut written = self.write(&settled).await;
        if let Err(error) = &written {
            self.report(error);
            self.rescue(error).await;
            self.refuse_all_puts(PutError::Unavailable);
            // Acknowledgements make room, and may succeed where messages did not.
            written = self.write_settled_alone(&settled).await;
        }
        let written = written.map_err(|error| error.to_string());
        for one in settled {
            let answer = match &written {
                Ok(()) => {
                    self.forget(&one);
                    Ok(())
                }
                Err(text) => Err(AckError::Storage { source: text.clone().into() }),
            };
            let _gone = one.done.send(answer);
        }
        if let Err(error) = self.hand_out().await {
            self.report(&error);
            self.retry_at = Some(Instant::now() + RETRY_AFTER);
            self.end_takers_if_closed();
        }
        if Instant::now() >= self.prune_at {
            self.prune_at = Instant::now() + PRUNE_EVERY;
            if let Err(error) = self.prune().await {
                self.report(&error);
            }
        }
    }

    /// Stores what there is room for and notes what was settled, in one commit, and answers the puts.
    async fn write(&mut self, settled: &[Settled]) -> Result<(), DatabaseError> {
        self.puts.retain(|put| !put.done.is_closed());
        if !self.is_open {
            self.refuse_all_puts(PutError::Closed);
        }
        if self.puts.is_empty() {
            return self.write_settled_alone(settled).await;
        }
        let count: usize = self.puts.iter().map(|put| put.messages.len()).sum();
        // Most ids are new, and the file says so when they are stored. Where that fails, or there is no room for all, it is asked
        // before: what it knows needs neither room nor writing.
        let (mut known, mut is_asked) = (KnownIds::default(), false);
        if self.puts.iter().any(|put| put.has_waited) {
            (known, is_asked) = (self.known_ids().await?, true);
        }
        let (accepted, answers) = loop {
            let Plan { accepted, answers } = plan(
                self.puts.iter().map(|put| Waiting { messages: &put.messages, until: put.until }),
                std::mem::take(&mut known),
                self.room(settled),
                self.last_seq + 1,
                self.queue.ahead(),
                Instant::now(),
            );
            if is_asked || accepted.len() == count {
                let change = Change { accepted: &accepted, ..self.change(settled) };
                // What is written to a file that is no longer there is in no inbox.
                self.database.check_file()?;
                match self.apply(&change).await {
                    Ok(()) => {
                        self.database.check_file()?;
                        break (accepted.iter().map(|one| (one.seq, one.deliveries)).collect(), answers);
                    }
                    Err(error) if is_asked => return Err(self.database.error(error)),
                    Err(_) => (),
                }
            }
            (known, is_asked) = (self.known_ids().await?, true);
        };
        self.take_in(accepted, answers);
        Ok(())
    }

    /// What the file knows of the ids of all who wait.
    async fn known_ids(&self) -> Result<KnownIds, DatabaseError> {
        let keys: Vec<Key> = self.puts.iter().flat_map(|put| &put.messages).map(tables::key_of).collect();
        tables::remembered(&self.database, &keys).await.map_err(|error| self.database.error(error))
    }

    /// Nothing to change is no commit.
    async fn apply(&self, change: &Change<'_>) -> Result<(), sqlx::Error> {
        if change.accepted.is_empty() && change.settled.is_empty() {
            return Ok(());
        }
        tables::apply(&self.database, change, SystemTime::now()).await
    }

    /// The room there is once these have gone.
    fn room(&self, settled: &[Settled]) -> Room {
        let held = settled.iter().filter_map(|one| self.queue.held(one.ticket));
        let messages = self.messages.saturating_sub(settled.len() as u64);
        let bytes = self.bytes.saturating_sub(held.map(|held| held.bytes).sum());
        Room {
            messages: self.options.messages_max.saturating_sub(messages),
            bytes: self.options.bytes_max.saturating_sub(bytes),
            ids: self.options.remembered_ids_max.saturating_sub(self.remembered),
            is_empty: messages == 0,
        }
    }

    /// Takes note of what was committed, the numbers and deliveries of messages that were accepted, and answers the puts.
    fn take_in(&mut self, accepted: Vec<(i64, u32)>, answers: Vec<Option<Vec<Result<Put, PutError>>>>) {
        self.stored_at = (!accepted.is_empty()).then(Instant::now);
        let mut accepted = accepted.into_iter();
        let mut waiting = Vec::new();
        for (put, answers) in std::mem::take(&mut self.puts).into_iter().zip(answers) {
            let Some(answers) = answers else {
                waiting.push(WaitingPut { has_waited: true, ..put });
                continue;
            };
            for (message, _) in
                put.messages.into_iter().zip(&answers).filter(|(_, one)| **one == Ok(Put::Accepted))
            {
                let (seq, deliveries) = accepted.next().expect("one for each that was accepted");
                self.messages += 1;
                self.remembered += 1;
                self.bytes += message.body.len() as u64;
                self.last_seq = seq;
                if message.wants_reply {
                    self.replies.expect(&message.user, message.id);
                }
                self.queue.stored(seq, message, deliveries);
            }
            let _gone = put.done.send(answers);
        }
        self.puts = waiting;
        if self.remembered >= self.options.remembered_ids_max {
            // Before their time, where there are too many of them.
            self.prune_at = Instant::now();
        }
    }

    /// Answers all puts with one error.
    fn refuse_all_puts(&mut self, error: PutError) {
        for put in self.puts.drain(..) {
            let _gone = put.done.send(vec![Err(error); put.messages.len()]);
        }
    }

    async fn write_settled_alone(&mut self, settled: &[Settled]) -> Result<(), DatabaseError> {
        if settled.is_empty() {
            return Ok(());
        }
        self.stored_at = None;
        self.database.check_file()?;
        self.apply(&self.change(settled)).await.map_err(|error| self.database.error(error))?;
        self.database.check_file()
    }

    /// What of the file goes with messages that were dealt with.
    fn change(&self, settled: &[Settled]) -> Change<'static> {
        let held = settled.iter().filter_map(|one| self.queue.held(one.ticket));
        Change {
            settled: held.map(|held| held.seq).collect(),
            replies: settled.iter().filter_map(|one| Some((one.key.clone()?, one.reply.clone()))).collect(),
            accepted: &[],
        }
    }

    /// Takes note of a message that is gone from the file.
    fn forget(&mut self, settled: &Settled) {
        if let Some(held) = self.queue.settle(settled.ticket) {
            self.messages = self.messages.saturating_sub(1);
            self.bytes = self.bytes.saturating_sub(held.bytes);
        }
        if let Some((user, id)) = &settled.key {
            let reply = settled.reply.clone().ok_or(NoReply::NotGiven);
            self.reply_bytes += reply.as_ref().map_or(0, |reply| reply.len() as u64);
            if self.reply_bytes > self.options.replies_bytes_max {
                self.prune_at = Instant::now();
            }
            self.replies.settle(user, *id, reply, std::time::Instant::now());
        }
    }

    /// Gives those who wait for a message one, as long as there are both. What is given is marked in the file first, a few
    /// ahead, so that a message which was handed out before a crash comes again as one that was.
    async fn hand_out(&mut self) -> Result<(), DatabaseError> {
        loop {
            self.queue.give(Instant::now());
            if !self.queue.has_takers() || !self.queue.has_waiting() {
                break;
            }
            self.mark_ahead().await?;
        }
        if !self.queue.has_waiting() {
            self.end_takers_if_closed();
        }
        if self.options.tries_max == 1 {
            // What was marked for somebody who has gone: a crash would be the end of it, and nobody has seen it.
            self.take_back_what_was_marked_ahead().await?;
        }
        Ok(())
    }

    /// Tells those who wait that nothing comes any more. What is left, if the file cannot be written, stays in it.
    fn end_takers_if_closed(&mut self) {
        if !self.is_open {
            self.queue.end_takers();
        }
    }

    async fn mark_ahead(&mut self) -> Result<(), DatabaseError> {
        let failed = |error| self.database.error(error);
        let count = self.queue.wanted_soon();
        if count == 0 {
            // Whoever waited has just gone.
            return Ok(());
        }
        let again = self.queue.again(count, AHEAD_BYTES_MAX);
        let first_time = match again.is_empty() {
            true => {
                let after = self.queue.handed_up_to();
                tables::next(&self.database, after, count).await.map(up_to_the_limits).map_err(failed)?
            }
            false => Vec::new(),
        };
        let seqs = if again.is_empty() { &first_time } else { &again };
        self.database.check_file()?;
        let marked = tables::hand_out(&self.database, seqs, self.options.tries_max).await.map_err(failed)?;
        self.database.check_file()?;
        self.tell_of_dead(&marked.dead);
        match (first_time.last(), again.is_empty()) {
            (_, false) => self.queue.marked_again(&again, marked.ready.into_iter()),
            (Some(last), true) => self.queue.marked(first_time.len(), *last, marked.ready.into_iter()),
            // Nothing is there after all.
            (None, true) => self.queue.marked(0, self.queue.handed_up_to(), marked.ready.into_iter()),
        }
        Ok(())
    }

    /// Marked, but never taken: that was no try.
    async fn take_back_what_was_marked_ahead(&mut self) -> Result<(), DatabaseError> {
        let seqs = self.queue.unused();
        if seqs.is_empty() {
            return Ok(());
        }
        let mut transaction = self.begin().await?;
        tables::take_back(&mut transaction, &seqs).await.map_err(|error| self.database.error(error))?;
        self.commit(transaction).await?;
        self.queue.unused_waits_again();
        Ok(())
    }

    async fn find_reply(&self, key: &Key) -> Option<Reply> {
        let find = async {
            let mut reader = self.database.readers().acquire().await?;
            tables::answered(&mut reader, key).await
        };
        match find.await {
            Ok(Answered::Yes(body)) => Some(body.ok_or(NoReply::NotGiven)),
            Ok(Answered::NotYet) => {
                self.replies.expect(&key.0, key.1);
                None
            }
            Ok(Answered::Unknown) => Some(Err(NoReply::Forgotten)),
            Err(error) => {
                self.report(&self.database.error(error));
                Some(Err(NoReply::Unavailable))
            }
        }
    }

    /// Begins a write of several steps.
    pub(super) async fn begin(&self) -> Result<Transaction<'static, Sqlite>, DatabaseError> {
        self.database.check_file()?;
        self.database.begin_write().await.map_err(|error| self.database.error(error))
    }

    /// Commits it, and makes sure that it is in the file.
    pub(super) async fn commit(
        &self,
        transaction: Transaction<'static, Sqlite>,
    ) -> Result<(), DatabaseError> {
        transaction.commit().await.map_err(|error| self.database.error(error))?;
        self.database.check_file()
    }
}

/// The numbers of those that are marked at once, of messages that were not handed out by this process.
fn up_to_the_limits(waiting: Vec<tables::Waiting>) -> Vec<i64> {
    let (mut seqs, mut bytes) = (Vec::new(), 0);
    for waiting in waiting {
        bytes += waiting.bytes;
        // One that was handed out before may be what killed the process that had it: it goes alone, so that the next time no
        // other counts a try with it.
        let goes_alone = waiting.deliveries > 0;
        if !seqs.is_empty() && (goes_alone || bytes > AHEAD_BYTES_MAX) {
            break;
        }
        seqs.push(waiting.seq);
        if goes_alone {
            break;
        }
    }
    seqs
}

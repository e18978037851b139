//! The thread that has the file: it takes what waits, does it in one transaction, and answers when that is committed.

use std::cell::RefCell;
use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ipc_sqlite::{Database, DatabaseError};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::commands::{Command, Settled};
use super::plan::{Plan, Room, Waiting, plan};
use super::queue::{AHEAD_BYTES_MAX, Queue, Taker};
use super::tables::{self, Answered, Change, Key, KnownIds, Stored};
use super::{DeadLetter, DurableOptions, OpenError, StorageError, lock, remembered_since};
use crate::replies::{Replies, Reply};
use crate::{AckError, Message, NoReply, Put, PutError};

/// How often old ids and replies are forgotten.
const PRUNE_EVERY: Duration = Duration::from_secs(60);

/// Between two attempts at what the file does not take.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// How often the log is told of a trouble that lasts.
const REPORT_EVERY: Duration = Duration::from_secs(60);

/// Commands that go into one transaction at most, and messages before the last of them, so that the first of many does not wait
/// for all.
const COMMANDS_MAX: usize = 1024;
const MESSAGES_MAX: usize = 4096;

/// How long after a commit with messages acknowledgements that nobody else waits for are kept back, so that they share a commit
/// with the next messages: those of senders who have their answers now. tokio's timer may make a millisecond more of it.
const HELD_FOR: Duration = Duration::from_millis(1);

/// Ids that are forgotten in one commit at most.
const PRUNED_MAX: u64 = 10_000;

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

struct Writer {
    database: Database,
    options: DurableOptions,
    replies: Arc<Replies>,
    is_open: bool,
    /// What is in the file.
    messages: u64,
    bytes: u64,
    remembered: u64,
    reply_bytes: u64,
    last_seq: i64,
    /// When to try again what failed.
    retry_at: Option<Instant>,
    queue: Queue,
    puts: Vec<WaitingPut>,
    settled: Vec<Settled>,
    /// When messages were stored, if that was the last commit.
    stored_at: Option<Instant>,
    prune_at: Instant,
    /// What the log was told last, and when.
    reported: RefCell<Option<(String, Instant)>>,
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
        let database = ipc_sqlite::create(&path, &tables::SCHEMA, &ipc_sqlite::Options::new()).await?;
        let failed = |error| OpenError::Database(database.error(error));
        let mut transaction = database.begin_write().await.map_err(failed)?;
        let contents = tables::contents(&mut transaction).await.map_err(failed)?;
        transaction.commit().await.map_err(failed)?;
        Ok(Writer {
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
            finishing: Vec::new(),
            database,
            lock,
        })
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
        self.database.close().await;
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
            Command::Close => self.is_open = false,
            Command::Waiting { done } => {
                let _gone = done.send(self.queue.waiting());
            }
            Command::Finish { done } => self.finishing.push(done),
        }
    }

    /// One transaction with all that waits, and the answers.
    async fn round(&mut self) {
        self.queue.let_due_come_again(Instant::now());
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
        self.retry_at = None;
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
        // What is written to a file that was removed or replaced is in no inbox.
        self.database.check_file()?;
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
                match self.apply(&change).await {
                    Ok(()) => {
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
        self.apply(&self.change(settled)).await.map_err(|error| self.database.error(error))
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
        let marked = tables::hand_out(&self.database, seqs, self.options.tries_max).await.map_err(failed)?;
        if !marked.dead.is_empty() {
            let (count, s, are) = match marked.dead.len() {
                1 => (1, "", "is a dead letter"),
                count => (count, "s", "are dead letters"),
            };
            log::warn!(
                "{count} message{s} handed out {} times without an acknowledgement {are} now; see web-ipc --dead --list",
                self.options.tries_max
            );
        }
        for (user, id) in marked.dead {
            // Whoever waits for a reply to one will get none.
            self.replies.end_wait(&user, id, NoReply::NotGiven);
        }
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
        let failed = |error| self.database.error(error);
        let mut transaction = self.database.begin_write().await.map_err(failed)?;
        tables::take_back(&mut transaction, &seqs).await.map_err(failed)?;
        transaction.commit().await.map_err(failed)?;
        self.queue.unused_waits_again();
        Ok(())
    }

    async fn find_reply(&self, key: &Key) -> Option<Reply> {
        let find = async {
            let mut transaction = self.database.begin_write().await?;
            tables::answered(&mut transaction, key).await
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

    async fn dead_letters(&self, after: u64, count: u32) -> Result<Vec<DeadLetter>, DatabaseError> {
        let failed = |error| self.database.error(error);
        let mut transaction = self.database.begin_write().await.map_err(failed)?;
        let dead = tables::dead(&mut transaction, seq_of(after), count).await.map_err(failed)?;
        let letter =
            |Stored { seq, message, deliveries }| DeadLetter { number: number_of(seq), message, deliveries };
        Ok(dead.into_iter().map(letter).collect())
    }

    async fn put_back(&mut self, numbers: Vec<u64>) -> Result<usize, DatabaseError> {
        let seqs: Vec<i64> = numbers.into_iter().map(seq_of).collect();
        let failed = |error| self.database.error(error);
        let mut transaction = self.database.begin_write().await.map_err(failed)?;
        let revived = tables::revive(&mut transaction, &seqs).await.map_err(failed)?;
        transaction.commit().await.map_err(failed)?;
        let count = revived.len();
        for (seq, bytes) in revived {
            self.queue.revive(seq, bytes);
        }
        Ok(count)
    }

    async fn discard(&mut self, numbers: Vec<u64>) -> Result<usize, DatabaseError> {
        let seqs: Vec<i64> = numbers.into_iter().map(seq_of).collect();
        let failed = |error| self.database.error(error);
        let mut transaction = self.database.begin_write().await.map_err(failed)?;
        let lengths = tables::discard(&mut transaction, &seqs).await.map_err(failed)?;
        transaction.commit().await.map_err(failed)?;
        self.messages = self.messages.saturating_sub(lengths.len() as u64);
        self.bytes = self.bytes.saturating_sub(lengths.iter().sum());
        Ok(lengths.len())
    }

    /// Forgets what is old, a part at a time, so that nobody waits long for the file meanwhile.
    async fn prune(&mut self) -> Result<(), DatabaseError> {
        let now = SystemTime::now();
        let failed = |error| self.database.error(error);
        let mut transaction = self.database.begin_write().await.map_err(failed)?;
        let due = remembered_since(now, self.options.remembered_for);
        // Further than need be, so that not every message from here on makes one more look at the oldest.
        let left_over = self.options.remembered_ids_max / 4 * 3;
        let retried = remembered_since(now, super::REMEMBERED_MIN);
        let mut forgotten = tables::forget_ids(&mut transaction, due, PRUNED_MAX).await.map_err(failed)?;
        if forgotten == 0 && self.remembered > left_over {
            let count = PRUNED_MAX.min(self.remembered - left_over);
            forgotten = tables::forget_ids(&mut transaction, retried, count).await.map_err(failed)?;
        }
        let bytes_max = self.options.replies_bytes_max / 4 * 3;
        let left = tables::forget_replies(&mut transaction, due, bytes_max).await.map_err(failed)?;
        transaction.commit().await.map_err(failed)?;
        self.reply_bytes = left;
        self.remembered = self.remembered.saturating_sub(forgotten);
        if forgotten >= PRUNED_MAX {
            self.prune_at = Instant::now();
        }
        Ok(())
    }

    /// Tells the log why the file cannot be used: at once, and then once in a while for as long as it lasts.
    fn report(&self, error: &DatabaseError) {
        let now = Instant::now();
        let mut text = error.to_string();
        if let Some(cause) = std::error::Error::source(error) {
            text += &format!(": {cause}");
        }
        if matches!(error, DatabaseError::DiskFull { .. }) {
            text += "; make some room, and it goes on by itself";
        }
        let mut reported = self.reported.borrow_mut();
        let is_new =
            reported.as_ref().is_none_or(|(before, at)| *before != text || now >= *at + REPORT_EVERY);
        if is_new {
            log::error!("{text}");
            *reported = Some((text, now));
        }
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

fn number_of(seq: i64) -> u64 {
    u64::try_from(seq).unwrap_or(0)
}

fn seq_of(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

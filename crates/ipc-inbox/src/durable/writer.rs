//! The thread that has the file: it takes what waits, does it in one transaction, and answers when that is committed.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ipc_sqlite::{Database, DatabaseError};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::tables::{self, Answered, BodyHash, Key, Stored};
use super::{DeadLetter, DurableOptions, OpenError, StorageError, lock, remembered_since};
use crate::replies::{Replies, Reply};
use crate::{AckError, Message, NoReply, Put, PutError, Taken};

/// How often old ids and replies are forgotten.
const PRUNE_EVERY: Duration = Duration::from_secs(60);

/// Between two attempts at what the file does not take.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Commands that go into one transaction at most, so that the first of many does not wait for all.
const COMMANDS_MAX: usize = 1024;

/// Messages that are marked as handed out at once, some of them ahead of whoever will take them: so many are looked for even
/// if fewer are wanted, no more even if they are, and no more bytes of bodies.
const AHEAD_MIN: u32 = 64;
const AHEAD_MAX: u32 = 1024;
const AHEAD_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// What the thread is asked to do.
pub(super) enum Command {
    Put {
        messages: Vec<Message>,
        wait: Duration,
        done: oneshot::Sender<Vec<Result<Put, PutError>>>,
    },
    Take {
        count_max: usize,
        done: oneshot::Sender<Handed>,
    },
    /// Acknowledged, or with `key` also replied to or let go.
    Settle {
        ticket: u64,
        key: Option<Key>,
        reply: Option<Arc<str>>,
        done: oneshot::Sender<Result<(), AckError>>,
    },
    /// Let go without an acknowledgement.
    Drop {
        ticket: u64,
    },
    /// Messages that were on their way to a taker who had gone.
    Return(Vec<Taken>),
    /// `None`: the reply is still to be given, and is waited for from now on.
    FindReply {
        key: Key,
        done: oneshot::Sender<Option<Reply>>,
    },
    DeadLetters {
        count: u32,
        done: oneshot::Sender<Result<Vec<DeadLetter>, StorageError>>,
    },
    PutBack {
        numbers: Vec<u64>,
        done: oneshot::Sender<Result<usize, StorageError>>,
    },
    Close,
}

/// Messages on their way to whoever takes them. Dropped on the way, they go back.
pub(super) struct Handed {
    taken: Vec<Taken>,
    returns: mpsc::WeakUnboundedSender<Command>,
}

impl Handed {
    /// They have arrived.
    pub(super) fn accept(mut self) -> Vec<Taken> {
        std::mem::take(&mut self.taken)
    }
}

impl Drop for Handed {
    fn drop(&mut self) {
        let taken = std::mem::take(&mut self.taken);
        if !taken.is_empty()
            && let Some(returns) = self.returns.upgrade()
        {
            // Without the thread they come again with the next opening.
            let _gone = returns.send(Command::Return(taken));
        }
    }
}

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
        writer.database.close().await;
    });
}

/// A put that waits for room.
struct WaitingPut {
    messages: Vec<Message>,
    until: Instant,
    done: oneshot::Sender<Vec<Result<Put, PutError>>>,
}

/// A message that somebody has.
struct Held {
    /// Of its body.
    bytes: u64,
    /// When it comes again.
    due_at: Instant,
}

/// Somebody who waits for messages.
struct Taker {
    count_max: usize,
    done: oneshot::Sender<Handed>,
}

/// A message that has been dealt with.
struct Settled {
    ticket: u64,
    key: Option<Key>,
    reply: Option<Arc<str>>,
    done: oneshot::Sender<Result<(), AckError>>,
}

struct Writer {
    database: Database,
    options: DurableOptions,
    returns: mpsc::WeakUnboundedSender<Command>,
    replies: Arc<Replies>,
    is_open: bool,
    /// What is in the file.
    messages: u64,
    bytes: u64,
    reply_bytes: u64,
    last_seq: i64,
    /// All up to this one have been handed out, or are in `again`, or are dead.
    handed_up_to: i64,
    /// How many wait behind it.
    behind: u64,
    /// Those before it that are to be handed out again.
    again: BTreeSet<i64>,
    /// Marked as handed out, and not yet taken.
    ready: VecDeque<Taken>,
    /// Handed out, and not yet acknowledged.
    handed: HashMap<i64, Held>,
    /// When those handed out come again, soonest first; those of which `handed` says otherwise are passed over.
    due: BTreeSet<(Instant, i64)>,
    /// When to try again what failed.
    retry_at: Option<Instant>,
    takers: VecDeque<Taker>,
    puts: VecDeque<WaitingPut>,
    settled: Vec<Settled>,
    prune_at: Instant,
    /// Keeps other processes out.
    _lock: std::fs::File,
}

/// What one put comes to, before it is committed.
struct Plan {
    /// Whose put it is: the index in `puts`.
    put: usize,
    answers: Vec<Result<Put, PutError>>,
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
            options,
            returns,
            replies,
            is_open: true,
            messages: contents.messages,
            bytes: contents.bytes,
            reply_bytes: contents.reply_bytes,
            last_seq: contents.last_seq,
            handed_up_to: 0,
            behind: contents.waiting,
            again: BTreeSet::new(),
            ready: VecDeque::new(),
            handed: HashMap::new(),
            due: BTreeSet::new(),
            retry_at: None,
            takers: VecDeque::new(),
            puts: VecDeque::new(),
            settled: Vec::new(),
            prune_at: Instant::now(),
            database,
            _lock: lock,
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
            let more = std::iter::from_fn(|| commands.try_recv().ok()).take(COMMANDS_MAX);
            let batch: Vec<Command> = first.into_iter().chain(more).collect();
            for command in batch {
                self.note(command).await;
            }
            self.round().await;
        }
        // The last handle has gone; what it asked for last is still done.
        self.round().await;
        if let Err(error) = self.take_back_what_was_marked_ahead().await {
            self.report(&error);
        }
    }

    /// When there is something to do without a command.
    fn wake_at(&self) -> Instant {
        let due = self.due.first().map(|(at, _)| *at);
        let puts = self.puts.iter().map(|put| put.until).min();
        due.into_iter().chain(puts).chain(self.retry_at).fold(self.prune_at, Instant::min)
    }

    async fn note(&mut self, command: Command) {
        match command {
            Command::Put { messages, wait, done } => {
                let until = Instant::now().checked_add(wait).unwrap_or_else(|| Instant::now() + PRUNE_EVERY);
                self.puts.push_back(WaitingPut { messages, until, done });
            }
            Command::Take { count_max, done } => self.takers.push_back(Taker { count_max, done }),
            Command::Settle { ticket, key, reply, done } => {
                self.settled.push(Settled { ticket, key, reply, done });
            }
            Command::Return(returned) => {
                for taken in returned {
                    self.handed.remove(&seq_of(taken.ticket));
                    // Back to its place in the order.
                    let place = self.ready.partition_point(|ready| ready.ticket < taken.ticket);
                    self.ready.insert(place, taken);
                }
            }
            Command::Drop { ticket } => {
                let (seq, soon) = (seq_of(ticket), Instant::now() + self.options.dropped_again_after);
                if let Some(held) = self.handed.get_mut(&seq).filter(|held| held.due_at > soon) {
                    held.due_at = soon;
                    self.due.insert((soon, seq));
                }
            }
            Command::FindReply { key, done } => {
                let found = self.find_reply(&key).await;
                let _gone = done.send(found);
            }
            Command::DeadLetters { count, done } => {
                let letters = self.dead_letters(count).await.map_err(|error| StorageError(error.into()));
                let _gone = done.send(letters);
            }
            Command::PutBack { numbers, done } => {
                let revived = self.put_back(numbers).await.map_err(|error| StorageError(error.into()));
                let _gone = done.send(revived);
            }
            Command::Close => self.is_open = false,
        }
    }

    /// One transaction with all that waits, and the answers.
    async fn round(&mut self) {
        self.let_due_come_again();
        let settled = std::mem::take(&mut self.settled);
        // Once each: of two who had the same message one after the other, the first to say so has dealt with it.
        let mut known = HashSet::new();
        let (settled, late): (Vec<_>, Vec<_>) = settled.into_iter().partition(|one| {
            let seq = seq_of(one.ticket);
            self.handed.contains_key(&seq) && known.insert(seq)
        });
        for one in late {
            let _gone = one.done.send(Err(AckError::TooLate));
        }
        if let Err(error) = self.write(&settled).await {
            self.report(&error);
            self.refuse_puts_that_are_due(PutError::Unavailable);
            // Acknowledgements make room, and may succeed where messages did not.
            if let Err(error) = self.write_settled_alone(&settled).await {
                let text = error.to_string();
                for one in settled {
                    let _gone = one.done.send(Err(AckError::Storage { source: text.clone().into() }));
                }
                return;
            }
        }
        for one in settled {
            self.forget(&one);
            let _gone = one.done.send(Ok(()));
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
            self.refuse_puts_that_are_due(PutError::Closed);
        }
        if self.puts.is_empty() {
            return self.write_settled_alone(settled).await;
        }
        // What is written to a file that was removed or replaced is in no inbox.
        self.database.check_file()?;
        let mut transaction =
            self.database.begin_write().await.map_err(|error| self.database.error(error))?;
        note_settled(&mut transaction, settled).await.map_err(|error| self.database.error(error))?;
        let keys: Vec<Key> = self.puts.iter().flat_map(|put| &put.messages).map(key_of).collect();
        let known = tables::remembered(&mut transaction, keys.iter())
            .await
            .map_err(|error| self.database.error(error))?;
        let room = Room {
            messages: self.options.messages_max.saturating_sub(self.messages - settled.len() as u64),
            bytes: self.options.bytes_max.saturating_sub(self.bytes - self.bytes_of(settled)),
            is_empty: self.messages == settled.len() as u64,
        };
        let (plans, accepted) = self.plan(known, room);
        if !accepted.is_empty() {
            tables::insert(&mut transaction, &accepted, SystemTime::now())
                .await
                .map_err(|error| self.database.error(error))?;
        }
        transaction.commit().await.map_err(|error| self.database.error(error))?;
        self.take_in(accepted);
        self.answer(plans);
        Ok(())
    }

    /// Decides about every put, in order: none overtakes one that waits.
    fn plan(
        &self,
        mut known: HashMap<Key, BodyHash>,
        mut room: Room,
    ) -> (Vec<Plan>, Vec<(Stored, BodyHash)>) {
        let now = Instant::now();
        let (mut plans, mut accepted) = (Vec::new(), Vec::new());
        let mut is_blocked = false;
        let mut next_seq = self.last_seq + 1;
        // Whoever waits for a message gets it straight from here, marked as handed out in the same commit.
        let mut takers = match self.has_waiting() {
            true => 0,
            false => self.wanted(),
        };
        for (index, put) in self.puts.iter().enumerate() {
            let accepted_before = accepted.len();
            let mut found_no_room = false;
            let mut answers = Vec::with_capacity(put.messages.len());
            for message in &put.messages {
                let (key, hash) = (key_of(message), tables::body_hash(&message.body));
                answers.push(match known.get(&key) {
                    Some(first) if *first == hash => Ok(Put::Duplicate),
                    Some(_) => Err(PutError::IdReused),
                    None if is_blocked || found_no_room || !room.take(message.body.len() as u64) => {
                        found_no_room = true;
                        Err(PutError::Full)
                    }
                    None => {
                        known.insert(key, hash);
                        let deliveries = u32::from(takers > 0);
                        takers = takers.saturating_sub(1);
                        accepted.push((Stored { seq: next_seq, message: message.clone(), deliveries }, hash));
                        next_seq += 1;
                        Ok(Put::Accepted)
                    }
                });
            }
            is_blocked |= found_no_room;
            if found_no_room && accepted.len() == accepted_before && now < put.until {
                continue;
            }
            plans.push(Plan { put: index, answers });
        }
        (plans, accepted)
    }

    /// Takes note of what was committed.
    fn take_in(&mut self, accepted: Vec<(Stored, BodyHash)>) {
        for (stored, _) in accepted {
            self.messages += 1;
            self.bytes += stored.message.body.len() as u64;
            self.last_seq = stored.seq;
            if stored.message.wants_reply {
                self.replies.expect(&stored.message.user, stored.message.id);
            }
            if stored.deliveries > 0 {
                self.handed_up_to = stored.seq;
                self.ready.push_back(taken(stored));
            } else {
                self.behind += 1;
            }
        }
        self.give();
    }

    fn answer(&mut self, plans: Vec<Plan>) {
        let mut plans = plans.into_iter().peekable();
        let puts = std::mem::take(&mut self.puts);
        for (index, put) in puts.into_iter().enumerate() {
            match plans.next_if(|plan| plan.put == index) {
                Some(plan) => {
                    let _gone = put.done.send(plan.answers);
                }
                None => self.puts.push_back(put),
            }
        }
    }

    /// Answers all puts with one error.
    fn refuse_puts_that_are_due(&mut self, error: PutError) {
        for put in self.puts.drain(..) {
            let _gone = put.done.send(vec![Err(error); put.messages.len()]);
        }
    }

    async fn write_settled_alone(&self, settled: &[Settled]) -> Result<(), DatabaseError> {
        if settled.is_empty() {
            return Ok(());
        }
        let failed = |error| self.database.error(error);
        let mut transaction = self.database.begin_write().await.map_err(failed)?;
        note_settled(&mut transaction, settled).await.map_err(failed)?;
        transaction.commit().await.map_err(failed)
    }

    /// Takes note of a message that is gone from the file.
    fn forget(&mut self, settled: &Settled) {
        if let Some(held) = self.handed.remove(&seq_of(settled.ticket)) {
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

    /// Lets messages whose time to be acknowledged is over wait again.
    fn let_due_come_again(&mut self) {
        let now = Instant::now();
        while let Some((at, seq)) = self.due.first().copied() {
            if at > now {
                break;
            }
            self.due.pop_first();
            if self.handed.get(&seq).is_some_and(|held| held.due_at == at) {
                self.handed.remove(&seq);
                self.again.insert(seq);
            }
        }
    }

    /// Whether a message waits to be handed out.
    fn has_waiting(&self) -> bool {
        !self.ready.is_empty() || !self.again.is_empty() || self.behind > 0
    }

    /// Gives those who wait for a message one, as long as there are both. What is given is marked in the file first, a few
    /// ahead, so that a message which was handed out before a crash comes again as one that was.
    async fn hand_out(&mut self) -> Result<(), DatabaseError> {
        loop {
            self.give();
            self.takers.retain(|taker| !taker.done.is_closed());
            if self.takers.is_empty() || !self.has_waiting() {
                break;
            }
            self.mark_ahead().await?;
        }
        if !self.has_waiting() {
            self.end_takers_if_closed();
        }
        Ok(())
    }

    /// Tells those who wait that nothing comes any more. What is left, if the file cannot be written, stays in it.
    fn end_takers_if_closed(&mut self) {
        if self.is_open {
            return;
        }
        for taker in self.takers.drain(..) {
            let nothing = Handed { taken: Vec::new(), returns: self.returns.clone() };
            let _gone = taker.done.send(nothing);
        }
    }

    /// How many messages those who wait would take.
    fn wanted(&self) -> usize {
        let counts = self.takers.iter().filter(|taker| !taker.done.is_closed()).map(|taker| taker.count_max);
        counts.fold(0, usize::saturating_add)
    }

    /// Gives what is ready to whoever waits.
    fn give(&mut self) {
        while !self.ready.is_empty()
            && let Some(taker) = self.takers.pop_front()
        {
            if taker.done.is_closed() {
                continue;
            }
            let count = taker.count_max.min(self.ready.len());
            let taken: Vec<Taken> = self.ready.drain(..count).collect();
            let due_at = Instant::now() + self.options.visibility_timeout;
            for one in &taken {
                let seq = seq_of(one.ticket);
                self.handed.insert(seq, Held { bytes: one.message.body.len() as u64, due_at });
                self.due.insert((due_at, seq));
            }
            // Whoever has gone in this moment drops it, which sends it back.
            let _gone = taker.done.send(Handed { taken, returns: self.returns.clone() });
        }
    }

    async fn mark_ahead(&mut self) -> Result<(), DatabaseError> {
        let failed = |error| self.database.error(error);
        let mut transaction = self.database.begin_write().await.map_err(failed)?;
        let count = u32::try_from(self.wanted()).unwrap_or(u32::MAX).clamp(AHEAD_MIN, AHEAD_MAX);
        let mut seqs: Vec<i64> = self.again.iter().copied().take(count as usize).collect();
        let mut handed_up_to = self.handed_up_to;
        if seqs.is_empty() {
            let mut bytes = 0;
            for waiting in tables::next(&mut transaction, handed_up_to, count).await.map_err(failed)? {
                bytes += waiting.bytes;
                // One that was handed out before may be what killed the process that had it: it goes alone, so that the
                // next time no other counts a try with it.
                let goes_alone = waiting.deliveries > 0;
                if !seqs.is_empty() && (goes_alone || bytes > AHEAD_BYTES_MAX) {
                    break;
                }
                seqs.push(waiting.seq);
                handed_up_to = waiting.seq;
                if goes_alone {
                    break;
                }
            }
        }
        let stored =
            tables::hand_out(&mut transaction, &seqs, self.options.tries_max).await.map_err(failed)?;
        transaction.commit().await.map_err(failed)?;
        if stored.len() < seqs.len() {
            let count = seqs.len() - stored.len();
            log::warn!("{count} messages were handed out too often and are dead letters now");
        }
        if handed_up_to == self.handed_up_to {
            self.again.retain(|seq| !seqs.contains(seq));
            if seqs.is_empty() {
                // Nothing is there after all.
                self.behind = 0;
            }
        } else {
            self.handed_up_to = handed_up_to;
            self.behind = self.behind.saturating_sub(seqs.len() as u64);
        }
        self.ready.extend(stored.into_iter().map(taken));
        Ok(())
    }

    /// Marked, but never taken: that was no try.
    async fn take_back_what_was_marked_ahead(&mut self) -> Result<(), DatabaseError> {
        let seqs: Vec<i64> = self.ready.drain(..).map(|taken| seq_of(taken.ticket)).collect();
        if seqs.is_empty() {
            return Ok(());
        }
        let failed = |error| self.database.error(error);
        let mut transaction = self.database.begin_write().await.map_err(failed)?;
        tables::take_back(&mut transaction, &seqs).await.map_err(failed)?;
        transaction.commit().await.map_err(failed)
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
                Some(Err(NoReply::Forgotten))
            }
        }
    }

    async fn dead_letters(&self, count: u32) -> Result<Vec<DeadLetter>, DatabaseError> {
        let failed = |error| self.database.error(error);
        let mut transaction = self.database.begin_write().await.map_err(failed)?;
        let dead = tables::dead(&mut transaction, count).await.map_err(failed)?;
        let letter =
            |Stored { seq, message, deliveries }| DeadLetter { number: ticket_of(seq), message, deliveries };
        Ok(dead.into_iter().map(letter).collect())
    }

    async fn put_back(&mut self, numbers: Vec<u64>) -> Result<usize, DatabaseError> {
        let seqs: Vec<i64> = numbers.into_iter().map(seq_of).collect();
        let failed = |error| self.database.error(error);
        let mut transaction = self.database.begin_write().await.map_err(failed)?;
        let revived = tables::revive(&mut transaction, &seqs).await.map_err(failed)?;
        transaction.commit().await.map_err(failed)?;
        let count = revived.len();
        for seq in revived {
            if seq > self.handed_up_to {
                self.behind += 1;
            } else {
                self.again.insert(seq);
            }
        }
        Ok(count)
    }

    async fn prune(&mut self) -> Result<(), DatabaseError> {
        let before = remembered_since(SystemTime::now(), &self.options);
        let failed = |error| self.database.error(error);
        let mut transaction = self.database.begin_write().await.map_err(failed)?;
        // Further than need be, so that not every reply from here on makes one more look at all of them.
        let bytes_max = self.options.replies_bytes_max / 4 * 3;
        let left = tables::prune(&mut transaction, before, bytes_max).await.map_err(failed)?;
        transaction.commit().await.map_err(failed)?;
        self.reply_bytes = left;
        Ok(())
    }

    fn bytes_of(&self, settled: &[Settled]) -> u64 {
        settled.iter().filter_map(|one| self.handed.get(&seq_of(one.ticket))).map(|held| held.bytes).sum()
    }

    fn report(&self, error: &DatabaseError) {
        match std::error::Error::source(error) {
            Some(cause) => log::error!("{error}: {cause}"),
            None => log::error!("{error}"),
        }
    }
}

/// What may still be stored.
struct Room {
    messages: u64,
    bytes: u64,
    is_empty: bool,
}

impl Room {
    /// Takes the room for a message, if there is some. One message always fits into an empty inbox.
    fn take(&mut self, bytes: u64) -> bool {
        let fits = self.messages > 0 && (bytes <= self.bytes || self.is_empty);
        if fits {
            self.messages -= 1;
            self.bytes = self.bytes.saturating_sub(bytes);
            self.is_empty = false;
        }
        fits
    }
}

async fn note_settled(
    connection: &mut sqlx::SqliteConnection,
    settled: &[Settled],
) -> Result<(), sqlx::Error> {
    if settled.is_empty() {
        return Ok(());
    }
    let seqs: Vec<i64> = settled.iter().map(|one| seq_of(one.ticket)).collect();
    tables::remove(connection, &seqs).await?;
    let replies: Vec<_> =
        settled.iter().filter_map(|one| Some((one.key.clone()?, one.reply.clone()))).collect();
    if replies.is_empty() {
        return Ok(());
    }
    tables::keep_replies(connection, &replies, SystemTime::now()).await
}

fn key_of(message: &Message) -> Key {
    (Arc::clone(&message.user), message.id)
}

fn taken(stored: Stored) -> Taken {
    let Stored { seq, message, deliveries } = stored;
    Taken { message, ticket: ticket_of(seq), redeliveries: deliveries.saturating_sub(1) }
}

fn ticket_of(seq: i64) -> u64 {
    u64::try_from(seq).unwrap_or(0)
}

fn seq_of(ticket: u64) -> i64 {
    i64::try_from(ticket).unwrap_or(i64::MAX)
}

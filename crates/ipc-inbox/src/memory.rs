//! The inbox in memory: bounded, first in first out, with any number of senders and takers.

mod delayed;
mod options;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::hash::BuildHasher;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use foldhash::quality::RandomState;
use ipc_protocol::MessageId;
use tokio::sync::Semaphore;

use crate::backend::{AckError, InboxBackend, NoReply, NotifyGuard, Pending, Put, PutError, Taken};
use crate::capacity::Capacity;
use crate::dead_letter::{DeadLetter, DeadLetterId, DeadReason, StorageError};
use crate::dedup::{BodyHash, Clocks, Dedup, Known};
use crate::message::Message;
use crate::replies::Replies;
use crate::status::InboxStatus;
use delayed::{Delayed, NeedsThread};

pub use options::MemoryOptions;

/// How many bytes of bodies and reasons the dead letters may have; the newest one is always kept.
const DEAD_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Each permit of `arrived` is a message that waits. The semaphore grants permits in the order of
/// the calls, so that no taker starves.
pub(crate) struct Memory {
    capacity: Capacity,
    arrived: Arc<Semaphore>,
    replies: Replies,
    reply_bytes_max: usize,
    /// Bodies are compared by a 64-bit hash (foldhash) with a random key in each process. The hash
    /// need not resist an attacker who knows the key: two colliding bodies would only make the
    /// attacker's own second message a duplicate.
    body_hasher: RandomState,
    max_deliveries: u32,
    dead_letters_max: usize,
    state: Mutex<State>,
    /// Lock order: `state` before this one.
    delayed: Arc<Delayed<PutBack>>,
    /// For the thread that waits for delayed messages.
    this: Weak<Memory>,
}

/// A message that was taken and given back. It takes no capacity: an application may hold any
/// number of messages.
#[derive(Debug)]
struct PutBack {
    message: Message,
    /// How often the message was delivered.
    deliveries: u32,
}

impl Memory {
    /// An empty inbox.
    pub(crate) fn new(options: &MemoryOptions) -> Arc<Self> {
        Arc::new_cyclic(|this| Memory {
            capacity: Capacity::new(options.messages_max, options.bytes_max),
            arrived: Arc::new(Semaphore::new(0)),
            replies: Replies::new(options.remembered_for, options.replies_bytes_max),
            reply_bytes_max: options.reply_bytes_max,
            body_hasher: RandomState::default(),
            state: Mutex::new(State {
                waiting: VecDeque::new(),
                dedup: Dedup::new(
                    options.remembered_for,
                    options.remembered_ids_max,
                    options.user_ids_max(),
                    Instant::now(),
                ),
                redelivery: BTreeMap::new(),
                next_lease: 1,
                dead: BTreeMap::new(),
                dead_bytes: 0,
                is_open: true,
                has_ended: false,
            }),
            max_deliveries: options.max_deliveries,
            dead_letters_max: options.dead_letters_max,
            delayed: Arc::new(Delayed::new()),
            this: Weak::clone(this),
        })
    }
}

struct State {
    waiting: VecDeque<Message>,
    /// Messages that were given back and are due, by their leases. All of them were accepted before
    /// those in `waiting`.
    redelivery: BTreeMap<u64, PutBack>,
    /// Leases are in the order in which messages were taken for the first time.
    next_lease: u64,
    dead: BTreeMap<DeadLetterId, DeadLetter>,
    dead_bytes: usize,
    dedup: Dedup,
    is_open: bool,
    has_ended: bool,
}

impl State {
    /// `Ok(None)` if the message may be put.
    fn already(
        &mut self,
        message: &Message,
        hash: BodyHash,
        at: Clocks,
    ) -> Result<Option<Put>, PutError> {
        if !self.is_open {
            return Err(PutError::Closed);
        }
        match self.dedup.look_up(&message.user, message.id, hash, at) {
            Known::SameBody => Ok(Some(Put::Duplicate)),
            Known::OtherBody => Err(PutError::IdReused),
            Known::New if !self.dedup.has_room(&message.user) => Err(PutError::RememberedFull),
            Known::New => Ok(None),
        }
    }
}

impl Memory {
    fn state(&self) -> MutexGuard<'_, State> {
        // No code that runs under the lock leaves the state half changed. So the panic of another
        // thread is no reason to stop.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Accepts a message in one step: under one lock it looks for the id, takes capacity, remembers
    /// the id and stores the message. Returns the message if there is no capacity.
    fn put_now(&self, message: Message) -> Result<(Result<Put, PutError>, NotifyGuard), Message> {
        let (hash, at) = (self.hash(&message), Clocks::now());
        let put = self.put_locked(&mut self.state(), message, hash, at)?;
        let notify = self.notify(usize::from(put == Ok(Put::Accepted)));
        Ok((put, notify))
    }

    fn put_locked(
        &self,
        state: &mut State,
        message: Message,
        hash: BodyHash,
        at: Clocks,
    ) -> Result<Result<Put, PutError>, Message> {
        match state.already(&message, hash, at) {
            Ok(Some(put)) => return Ok(Ok(put)),
            Err(error) => return Ok(Err(error)),
            Ok(None) => (),
        }
        // The capacity is closed under the lock, together with `is_open`.
        if self.capacity.try_take(message.body.len()).is_err() {
            return Err(message);
        }
        Ok(Ok(self.keep(state, message, hash, at)))
    }

    /// The guard must not be dropped under the lock, which a notified taker needs first.
    fn notify(&self, messages: usize) -> NotifyGuard {
        NotifyGuard::new(&self.arrived, messages)
    }

    /// To be called without the lock, since a body may be long.
    fn hash(&self, message: &Message) -> BodyHash {
        self.body_hasher.hash_one(&*message.body).to_ne_bytes()
    }

    /// Stores a message that has capacity. The caller still has to notify the takers.
    fn keep(&self, state: &mut State, message: Message, hash: BodyHash, at: Clocks) -> Put {
        state.dedup.insert(&message.user, message.id, hash, at);
        if message.wants_reply {
            self.replies.expect(&message.user, message.id);
        }
        state.waiting.push_back(message);
        Put::Accepted
    }

    async fn put_when_there_is_room(
        &self,
        message: Message,
        wait: Duration,
    ) -> (Result<Put, PutError>, NotifyGuard) {
        let bytes = message.body.len();
        match tokio::time::timeout(wait, self.capacity.take(bytes)).await {
            Ok(Ok(())) => {}
            Ok(Err(_closed)) => return (Err(PutError::Closed), NotifyGuard::none()),
            Err(_elapsed) => return (Err(PutError::Full), NotifyGuard::none()),
        }
        let (hash, at) = (self.hash(&message), Clocks::now());
        let mut state = self.state();
        // The same message may have been put again while this call waited.
        match state.already(&message, hash, at) {
            Ok(None) => (Ok(self.keep(&mut state, message, hash, at)), self.notify(1)),
            known => {
                self.capacity.give_back(bytes);
                (known.map(|put| put.unwrap_or(Put::Duplicate)), NotifyGuard::none())
            }
        }
    }

    /// Puts the messages for which there is capacity, in order, under one lock. Returns the
    /// messages from the first on that finds none. `messages` belong to the last of `answers`; the
    /// answers for returned messages stay unchanged.
    fn put_all_now(
        &self,
        messages: Vec<Message>,
        answers: &mut [Result<Put, PutError>],
    ) -> (Vec<Message>, NotifyGuard) {
        let at = Clocks::now();
        let hashes: Vec<_> = messages.iter().map(|message| self.hash(message)).collect();
        let answers = last(answers, messages.len());
        let mut messages = messages.into_iter();
        let (mut left, mut arrived) = (Vec::new(), 0);
        let mut state = self.state();
        for (answer, hash) in answers.iter_mut().zip(hashes) {
            let Some(message) = messages.next() else { break };
            match self.put_locked(&mut state, message, hash, at) {
                Ok(put) => {
                    arrived += usize::from(put == Ok(Put::Accepted));
                    *answer = put;
                }
                Err(message) => {
                    // Keeps the order: no message overtakes one that found no capacity. Messages
                    // that need none are answered later.
                    left = std::iter::once(message).chain(messages).collect();
                    break;
                }
            }
        }
        drop(state);
        (left, self.notify(arrived))
    }

    /// Takes up to `count` messages from the queue.
    fn pop(&self, count: usize) -> Vec<Taken> {
        let mut state = self.state();
        let mut taken = Vec::with_capacity(count.min(state.redelivery.len() + state.waiting.len()));
        while taken.len() < count
            && let Some((lease, PutBack { message, deliveries })) = state.redelivery.pop_first()
        {
            let is_last_delivery = deliveries.saturating_add(1) >= self.max_deliveries;
            taken.push(Taken { message, lease, redeliveries: deliveries, is_last_delivery });
        }
        let put_back = taken.len();
        let count = (count - put_back).min(state.waiting.len());
        let first = state.next_lease;
        state.next_lease += count as u64;
        let is_last_delivery = self.max_deliveries == 1;
        let waiting = (first..).zip(state.waiting.drain(..count));
        taken.extend(waiting.map(|(lease, message)| Taken {
            message,
            lease,
            redeliveries: 0,
            is_last_delivery,
        }));
        drop(state);
        self.capacity.give_back_all(taken[put_back..].iter().map(|taken| taken.message.body.len()));
        taken
    }

    /// Lets messages that were given back be delivered again.
    fn requeue_locked(&self, state: &mut State, put_back: Vec<(u64, PutBack)>) {
        let count = put_back.len();
        state.redelivery.extend(put_back);
        self.arrived.add_permits(count);
    }

    /// Lets messages be delivered again whose delay is over.
    fn requeue_due(&self, now: Instant) {
        let mut state = self.state();
        let due = self.delayed.take_due(now);
        self.requeue_locked(&mut state, due);
    }

    /// Starts the thread that waits for delayed messages.
    fn start_timer(&self) {
        let (delayed, this) = (Arc::clone(&self.delayed), Weak::clone(&self.this));
        let timer = std::thread::Builder::new().name("web-ipc-nack".into()).spawn(move || {
            while delayed.wait() {
                let Some(memory) = this.upgrade() else { break };
                memory.requeue_due(Instant::now());
            }
        });
        if let Err(error) = timer {
            log::warn!(
                "messages that were given back are delivered without their delay: cannot start a thread: {error}"
            );
            let mut state = self.state();
            let all = self.delayed.take_all();
            // The next delayed message tries to start a thread again.
            self.delayed.wait();
            self.requeue_locked(&mut state, all);
        }
    }

    /// Makes a message a dead letter, and tells senders that wait for its reply.
    fn bury(&self, taken: &Taken, reason: DeadReason) {
        log::warn!("a message is a dead letter now: {:?}", reason.to_string());
        let letter = DeadLetter {
            id: DeadLetterId::new(taken.lease),
            message: taken.message.clone(),
            deliveries: taken.redeliveries.saturating_add(1),
            reason,
        };
        let mut state = self.state();
        state.dead_bytes += dead_bytes(&letter);
        state.dead.insert(letter.id, letter);
        while state.dead.len() > self.dead_letters_max
            || (state.dead_bytes > DEAD_BYTES_MAX && state.dead.len() > 1)
        {
            let Some((_, oldest)) = state.dead.pop_first() else { break };
            state.dead_bytes -= dead_bytes(&oldest);
        }
        drop(state);
        if taken.message.wants_reply {
            self.replies.end_wait(&taken.message.user, taken.message.id, NoReply::NotGiven);
        }
    }

    /// Removes the dead letters with these ids.
    fn exhume(state: &mut State, ids: &[DeadLetterId]) -> Vec<DeadLetter> {
        let letters: Vec<_> = ids.iter().filter_map(|id| state.dead.remove(id)).collect();
        state.dead_bytes -= letters.iter().map(dead_bytes).sum::<usize>();
        letters
    }

    /// Takes the permits of further messages that are there, no more than `count_max`.
    fn more_arrived(&self, count_max: usize) -> usize {
        let there = self.arrived.available_permits().min(count_max);
        // Other takers may be faster; this call does not wait for them.
        match u32::try_from(there).map(|count| self.arrived.try_acquire_many(count)) {
            Ok(Ok(permits)) => {
                permits.forget();
                there
            }
            _ => self.arrived.try_acquire().map_or(0, |permit| {
                permit.forget();
                1
            }),
        }
    }
}

impl InboxBackend for Memory {
    fn put(
        &self,
        message: Message,
        wait: Duration,
    ) -> Pending<'_, (Result<Put, PutError>, NotifyGuard)> {
        match self.put_now(message) {
            Ok(answer) => Pending::ready(answer),
            Err(message) => Pending::later(self.put_when_there_is_room(message, wait)),
        }
    }

    fn put_all(
        &self,
        messages: Vec<Message>,
        wait: Duration,
    ) -> Pending<'_, (Vec<Result<Put, PutError>>, NotifyGuard)> {
        let mut answers = vec![Err(PutError::Full); messages.len()];
        let (left, notify) = self.put_all_now(messages, &mut answers);
        if left.is_empty() || answers.contains(&Ok(Put::Accepted)) {
            self.mark_those_that_need_no_room(&left, &mut answers);
            return Pending::ready((answers, notify));
        }
        Pending::later(async move {
            let place = answers.len() - left.len();
            let mut left = left.into_iter();
            let Some(message) = left.next() else { return (answers, notify) };
            let (put, first) = self.put_when_there_is_room(message, wait).await;
            // Notified takers may make room for more.
            drop(first);
            answers[place] = put;
            let (left, notify) = match put {
                Err(PutError::Full) => (left.collect(), NotifyGuard::none()),
                _ => self.put_all_now(left.collect(), &mut answers),
            };
            self.mark_those_that_need_no_room(&left, &mut answers);
            (answers, notify)
        })
    }

    fn take(&self, count_max: usize) -> Pending<'_, Vec<Taken>> {
        let count_max = count_max.max(1);
        let count = self.more_arrived(count_max);
        if count > 0 {
            return Pending::ready(self.pop(count));
        }
        Pending::later(async move {
            match self.arrived.acquire().await {
                Ok(arrival) => {
                    arrival.forget();
                    self.pop(1 + self.more_arrived(count_max - 1))
                }
                // Once closed, nothing arrives, and the remaining messages need no permit.
                Err(_) => self.pop(count_max),
            }
        })
    }

    fn acknowledge(&self, taken: &Taken) -> Pending<'_, Result<(), AckError>> {
        self.dropped(taken);
        Pending::ready(Ok(()))
    }

    fn nack(&self, taken: &Taken, delay: Duration) -> Pending<'_, Result<(), AckError>> {
        if taken.is_last_delivery {
            self.bury(taken, DeadReason::MaxDeliveries);
            return Pending::ready(Ok(()));
        }
        let message = taken.message.clone();
        let put_back = PutBack { message, deliveries: taken.redeliveries.saturating_add(1) };
        let mut state = self.state();
        if state.has_ended {
            return Pending::ready(Err(AckError::TooLate));
        }
        if delay.is_zero() || !state.is_open {
            self.requeue_locked(&mut state, vec![(taken.lease, put_back)]);
        } else {
            let needs = self.delayed.add(Instant::now(), delay, taken.lease, put_back);
            drop(state);
            if let NeedsThread(true) = needs {
                self.start_timer();
            }
        }
        Pending::ready(Ok(()))
    }

    fn reject(&self, taken: &Taken, reason: Box<str>) -> Pending<'_, Result<(), AckError>> {
        self.bury(taken, DeadReason::Rejected(reason));
        Pending::ready(Ok(()))
    }

    fn dead_letters(
        &self,
        after: Option<DeadLetterId>,
        count_max: usize,
    ) -> Pending<'_, Result<Vec<DeadLetter>, StorageError>> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let state = self.state();
        let letters = state.dead.range((from, Bound::Unbounded)).take(count_max);
        Pending::ready(Ok(letters.map(|(_, letter)| letter.clone()).collect()))
    }

    fn requeue(&self, ids: &[DeadLetterId]) -> Pending<'_, Result<usize, StorageError>> {
        let mut state = self.state();
        if state.has_ended {
            return Pending::ready(Ok(0));
        }
        let letters = Memory::exhume(&mut state, ids);
        let count = letters.len();
        for DeadLetter { message, .. } in letters.iter().filter(|one| one.message.wants_reply) {
            self.replies.expect(&message.user, message.id);
        }
        let put_back = letters
            .into_iter()
            .map(|DeadLetter { id, message, .. }| (id.get(), PutBack { message, deliveries: 0 }));
        self.requeue_locked(&mut state, put_back.collect());
        Pending::ready(Ok(count))
    }

    fn discard(&self, ids: &[DeadLetterId]) -> Pending<'_, Result<usize, StorageError>> {
        Pending::ready(Ok(Memory::exhume(&mut self.state(), ids).len()))
    }

    fn reply(&self, taken: &Taken, body: Arc<str>) -> Pending<'_, Result<(), AckError>> {
        self.replies.settle(&taken.message.user, taken.message.id, Ok(body), Instant::now());
        Pending::ready(Ok(()))
    }

    fn decline(&self, taken: &Taken, reason: Arc<str>) -> Pending<'_, Result<(), AckError>> {
        let declined = Err(NoReply::Declined(reason));
        self.replies.settle(&taken.message.user, taken.message.id, declined, Instant::now());
        Pending::ready(Ok(()))
    }

    fn dropped(&self, taken: &Taken) {
        // A message that was taken belongs to the application. The inbox only tells senders that
        // wait for a reply.
        if taken.message.wants_reply {
            let no_reply = Err(NoReply::NotGiven);
            self.replies.settle(&taken.message.user, taken.message.id, no_reply, Instant::now());
        }
    }

    fn reply_to(&self, user: &str, id: MessageId) -> Pending<'_, Result<Arc<str>, NoReply>> {
        self.replies.wait(user, id)
    }

    fn is_awaited(&self, taken: &Taken) -> bool {
        self.replies.is_awaited(&taken.message.user, taken.message.id)
    }

    fn reply_bytes_max(&self) -> usize {
        self.reply_bytes_max
    }

    fn close(&self) -> Pending<'_, ()> {
        let mut state = self.state();
        state.is_open = false;
        self.capacity.close();
        self.arrived.close();
        // A closed inbox delivers delayed messages at once.
        let all = self.delayed.take_all();
        self.requeue_locked(&mut state, all);
        Pending::ready(())
    }

    fn waiting(&self) -> Pending<'_, u64> {
        let state = self.state();
        let count = state.waiting.len() + state.redelivery.len() + self.delayed.len();
        Pending::ready(count as u64)
    }

    fn status(&self) -> Pending<'_, InboxStatus> {
        let state = self.state();
        let mut put_back: Vec<_> = self.delayed.map(|one| one.message.received_at);
        put_back.extend(state.redelivery.values().map(|one| one.message.received_at));
        let waiting = state.waiting.len() + put_back.len();
        let oldest = state.waiting.front().map(|message| message.received_at);
        let status = InboxStatus::of_waiting(waiting as u64)
            .with_oldest(oldest.into_iter().chain(put_back).min())
            .with_remembered_ids(state.dedup.ids() as u64)
            .with_dead_letters(state.dead.len() as u64);
        Pending::ready(status)
    }

    fn finish(&self) -> Pending<'_, u64> {
        self.close();
        let mut state = self.state();
        state.has_ended = true;
        let lost = (std::mem::take(&mut state.waiting), std::mem::take(&mut state.redelivery));
        drop(state);
        self.replies.end_all_waits(NoReply::NotGiven);
        Pending::ready((lost.0.len() + lost.1.len()) as u64)
    }
}

impl Memory {
    /// Answers messages that found no capacity but need none.
    fn mark_those_that_need_no_room(
        &self,
        left: &[Message],
        answers: &mut [Result<Put, PutError>],
    ) {
        let at = Clocks::now();
        for (message, answer) in left.iter().zip(last(answers, left.len())) {
            let hash = self.hash(message);
            match self.state().already(message, hash, at) {
                Ok(None) => (),
                Ok(Some(put)) => *answer = Ok(put),
                Err(error) => *answer = Err(error),
            }
        }
    }
}

/// The timer's thread ends with the inbox.
impl Drop for Memory {
    fn drop(&mut self) {
        self.delayed.end();
    }
}

/// How many bytes a dead letter takes of their limit.
fn dead_bytes(letter: &DeadLetter) -> usize {
    let reason = match &letter.reason {
        DeadReason::Rejected(reason) => reason.len(),
        DeadReason::MaxDeliveries => 0,
    };
    letter.message.body.len() + reason
}

/// The last `count` elements.
fn last<T>(all: &mut [T], count: usize) -> &mut [T] {
    let first = all.len() - count;
    &mut all[first..]
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inbox::Inbox;
    use std::time::SystemTime;

    const NO_WAIT: Duration = Duration::ZERO;

    fn message(number: u8, body: &str) -> Message {
        Message {
            id: MessageId::from_random([number; 16]),
            user: "u".into(),
            certificate: None,
            peer: None,
            received_at: SystemTime::UNIX_EPOCH,
            body: body.into(),
            wants_reply: false,
        }
    }

    // What holds for every kind of inbox is tested in `tests/api/suite.rs`.

    #[test]
    fn a_message_for_which_there_is_room_costs_no_future() {
        let (sender, _inbox) = Inbox::memory().build();
        assert!(matches!(sender.put(message(1, "{}"), NO_WAIT), Pending::Ready(_)));
        assert!(matches!(sender.put_all(vec![message(2, "{}")], NO_WAIT), Pending::Ready(_)));
    }

    #[tokio::test]
    async fn whoever_waits_is_told_of_a_message_when_its_guards_are_dropped_and_loses_none() {
        let (sender, inbox) = Inbox::memory().build();
        let mut taking = std::pin::pin!(inbox.recv());
        let context = &mut std::task::Context::from_waker(std::task::Waker::noop());
        assert!(taking.as_mut().poll(context).is_pending());
        let (put, one) = sender.put_deferred(message(1, "{}"), NO_WAIT).await;
        let (puts, more) =
            sender.put_all_deferred(vec![message(2, "{}"), message(1, "{}")], NO_WAIT).await;
        assert_eq!((put, puts), (Ok(Put::Accepted), vec![Ok(Put::Accepted), Ok(Put::Duplicate)]));
        assert!(taking.as_mut().poll(context).is_pending(), "nobody was told");
        // The takers get messages in order, whichever guard is dropped first.
        drop(more);
        assert_eq!(taking.await.unwrap().id(), message(1, "{}").id);
        drop(one);
        assert_eq!(inbox.recv().await.unwrap().id(), message(2, "{}").id);
        let (_, none) = sender.put_deferred(message(2, "{}"), NO_WAIT).await;
        assert!(none.is_none(), "a duplicate does not arrive");
    }

    #[tokio::test]
    async fn no_more_ids_are_remembered_than_may_be_and_none_is_forgotten_early() {
        let (sender, _inbox) = Inbox::memory().remembered_ids_max(1).build();
        sender.put(message(1, "{}"), NO_WAIT).await.unwrap();
        assert_eq!(sender.put(message(2, "{}"), NO_WAIT).await, Err(PutError::RememberedFull));
        assert_eq!(sender.put(message(1, "{}"), NO_WAIT).await, Ok(Put::Duplicate));
    }

    #[tokio::test]
    async fn a_user_with_as_many_ids_as_one_may_have_is_refused_and_others_are_not() {
        let (sender, _inbox) = Inbox::memory().remembered_ids_max(4).build();
        for id in 1..=3 {
            sender.put(message(id, "{}"), NO_WAIT).await.unwrap();
        }
        assert_eq!(sender.put(message(4, "{}"), NO_WAIT).await, Err(PutError::RememberedFull));
        assert_eq!(sender.put(message(1, "{}"), NO_WAIT).await, Ok(Put::Duplicate));
        let other = Message { user: "another".into(), ..message(4, "{}") };
        assert_eq!(sender.put(other, NO_WAIT).await, Ok(Put::Accepted));

        let (sender, _inbox) = Inbox::memory().remembered_user_ids_max(1).build();
        sender.put(message(1, "{}"), NO_WAIT).await.unwrap();
        assert_eq!(sender.put(message(2, "{}"), NO_WAIT).await, Err(PutError::RememberedFull));
    }

    #[tokio::test]
    async fn a_delivery_that_is_dropped_is_gone() {
        let (sender, inbox) = Inbox::memory().build();
        sender.put(message(1, "{}"), NO_WAIT).await.unwrap();
        drop(inbox.recv().await);
        sender.close();
        assert!(inbox.recv().await.is_none());
        assert!(inbox.dead_letters(None, 9).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_message_that_was_put_back_takes_no_room() {
        let (sender, inbox) = Inbox::memory().messages_max(1).build();
        sender.put(message(1, "{}"), NO_WAIT).await.unwrap();
        inbox.recv().await.unwrap().nack(Duration::ZERO).await.unwrap();
        assert_eq!(sender.put(message(2, "{}"), NO_WAIT).await, Ok(Put::Accepted));
        assert_eq!(sender.put(message(3, "{}"), NO_WAIT).await, Err(PutError::Full));
        assert_eq!(inbox.recv_many(9).await.len(), 2);
        assert_eq!(sender.put(message(3, "{}"), NO_WAIT).await, Ok(Put::Accepted));
        assert_eq!(sender.put(message(4, "{}"), NO_WAIT).await, Err(PutError::Full), "one place");
    }

    #[tokio::test]
    async fn what_is_delayed_is_delivered_by_an_inbox_that_closes_and_lost_with_one_that_ends() {
        const HOUR: Duration = Duration::from_secs(3600);
        let (sender, inbox) = Inbox::memory().build();
        for number in [1, 2] {
            sender.put(message(number, "{}"), NO_WAIT).await.unwrap();
        }
        let [first, second] = inbox.recv_many(2).await.try_into().unwrap();
        first.nack(HOUR).await.unwrap();
        assert_eq!(inbox.waiting().await, 1);
        sender.close();
        let first = inbox.recv().await.unwrap();
        assert_eq!((first.id(), first.redeliveries()), (message(1, "{}").id, 1));
        second.nack(HOUR).await.unwrap();
        assert_eq!(sender.finish().await, 1, "it was put back at once, as the inbox is closed");
        assert!(matches!(first.nack(HOUR).await, Err(AckError::TooLate)));
    }

    #[tokio::test]
    async fn the_dead_letters_of_the_oldest_messages_go_first() {
        let (sender, inbox) = Inbox::memory().dead_letters_max(2).build();
        for number in 1..=3 {
            sender.put(message(number, "{}"), NO_WAIT).await.unwrap();
            inbox.recv().await.unwrap().reject(format!("reason {number}")).await.unwrap();
        }
        let dead = inbox.dead_letters(None, 9).await.unwrap();
        let reasons: Vec<_> = dead.iter().map(|letter| letter.reason.to_string()).collect();
        assert_eq!(reasons, ["reason 2", "reason 3"]);
        let long = "a".repeat(DEAD_BYTES_MAX);
        sender.put(message(4, &long), NO_WAIT).await.unwrap();
        inbox.recv().await.unwrap().reject("too long").await.unwrap();
        let dead = inbox.dead_letters(None, 9).await.unwrap();
        assert_eq!((dead.len(), dead[0].message.id), (1, message(4, "").id), "by their bytes");
    }
}

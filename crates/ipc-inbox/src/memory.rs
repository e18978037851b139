//! The inbox in memory: bounded, first in first out, as many senders and takers as one likes.

use std::collections::VecDeque;
use std::fmt;
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use foldhash::quality::RandomState;
use ipc_protocol::{MessageId, PLAINTEXT_BYTES_MAX_DEFAULT, REMEMBERED_SECS};
use tokio::sync::Semaphore;

use crate::backend::{
    AckError, InboxBackend, Message, NoReply, NotifyGuard, Pending, Put, PutError, Taken,
};
use crate::capacity::Capacity;
use crate::dedup::{BodyHash, Clocks, Dedup, Known};
use crate::replies::Replies;

/// What a frame has around the body of a reply, and more.
const FRAME_BYTES: usize = 1024;

/// What an inbox in memory may grow to.
///
/// # Defaults
/// 1024 messages and 256 MiB of bodies waiting; ids remembered for 10 minutes, 10 million of them;
/// replies kept as long, 64 MiB of them, each 16 MiB at most (less a kibibyte for the frame).
#[derive(Clone, Debug)]
pub struct MemoryOptions {
    messages_max: usize,
    bytes_max: usize,
    remembered_for: Duration,
    remembered_ids_max: usize,
    replies_bytes_max: usize,
    reply_bytes_max: usize,
}

impl Default for MemoryOptions {
    fn default() -> Self {
        MemoryOptions {
            messages_max: 1024,
            bytes_max: 256 * 1024 * 1024,
            remembered_for: Duration::from_secs(REMEMBERED_SECS),
            remembered_ids_max: 10_000_000,
            replies_bytes_max: 64 * 1024 * 1024,
            reply_bytes_max: PLAINTEXT_BYTES_MAX_DEFAULT - FRAME_BYTES,
        }
    }
}

impl MemoryOptions {
    /// How many messages wait at most; at least 1. A further one waits outside, and its sender is
    /// told to come again.
    pub fn messages_max(mut self, messages: usize) -> Self {
        self.messages_max = messages;
        self
    }

    /// How many bytes of bodies wait at most, counted in kibibytes, of which each message takes at
    /// least one. A longer message fits when it is the only one.
    pub fn bytes_max(mut self, bytes: usize) -> Self {
        self.bytes_max = bytes;
        self
    }

    /// How many accepted ids are remembered at most. One more message than that within the time is
    /// refused, since an id forgotten early could be accepted twice.
    pub fn remembered_ids_max(mut self, ids: usize) -> Self {
        self.remembered_ids_max = ids;
        self
    }

    /// How long an accepted id is remembered, at least; never shorter than clients may retry (10
    /// minutes).
    pub fn remembered_for(mut self, time: Duration) -> Self {
        self.remembered_for = time.max(Duration::from_secs(REMEMBERED_SECS));
        self
    }

    /// How many bytes of replies are kept, for requests that are sent again; the oldest go first.
    pub fn replies_bytes_max(mut self, bytes: usize) -> Self {
        self.replies_bytes_max = bytes;
        self
    }

    /// How long one reply may be, in bytes of JSON text.
    pub fn reply_bytes_max(mut self, bytes: usize) -> Self {
        self.reply_bytes_max = bytes;
        self
    }
}

/// A permit of `arrived` is a message that waits. They are handed out in the order in which they
/// are asked for, so that nobody starves.
pub(crate) struct Memory {
    capacity: Capacity,
    arrived: Arc<Semaphore>,
    replies: Replies,
    reply_bytes_max: usize,
    /// Bodies are told apart by a 64-bit hash (foldhash) keyed afresh in each process. It need not
    /// withstand somebody who knows the key: whoever made two bodies collide would only keep his
    /// own second one out.
    body_hasher: RandomState,
    state: Mutex<State>,
}

impl Memory {
    /// An empty one.
    pub(crate) fn new(options: &MemoryOptions) -> Self {
        Memory {
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
                    Instant::now(),
                ),
                is_open: true,
            }),
        }
    }
}

struct State {
    waiting: VecDeque<Message>,
    dedup: Dedup,
    is_open: bool,
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
            Known::New if !self.dedup.has_room() => Err(PutError::RememberedFull),
            Known::New => Ok(None),
        }
    }
}

impl Memory {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that runs under the lock leaves it half changed, so that a panic of another
        // thread is no reason to stop.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The step that accepts: under one lock it looks for the id, takes a place, remembers the id
    /// and keeps the message. Gives the message back if there is no place.
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
        // The room is closed under the lock together with `is_open`.
        if self.capacity.try_take(message.body.len()).is_err() {
            return Err(message);
        }
        Ok(Ok(self.keep(state, message, hash, at)))
    }

    /// Not to be dropped under the lock, which is the first thing that whoever is told asks for.
    fn notify(&self, messages: usize) -> NotifyGuard {
        NotifyGuard::new(&self.arrived, messages)
    }

    /// To be called without the lock: a body may be long.
    fn hash(&self, message: &Message) -> BodyHash {
        self.body_hasher.hash_one(&*message.body).to_ne_bytes()
    }

    /// Keeps a message for which there is a place. Whoever waits for one is still to be told.
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
        // The same message may have come in a second time while this one waited.
        match state.already(&message, hash, at) {
            Ok(None) => (Ok(self.keep(&mut state, message, hash, at)), self.notify(1)),
            known => {
                self.capacity.give_back(bytes);
                (known.map(|put| put.unwrap_or(Put::Duplicate)), NotifyGuard::none())
            }
        }
    }

    /// Puts the first ones for which there are places, under one lock. Gives back those from the
    /// first on that finds none. `messages` are the last ones of those that are answered; the
    /// answers of those given back stay as they are.
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
                    // Order: none overtakes one that found no place. Those that need none are told
                    // so later.
                    left = std::iter::once(message).chain(messages).collect();
                    break;
                }
            }
        }
        drop(state);
        (left, self.notify(arrived))
    }

    /// Pops so many messages, or as many as there are.
    fn pop(&self, count: usize) -> Vec<Taken> {
        let mut state = self.state();
        let count = count.min(state.waiting.len());
        let taken = |message| Taken { message, lease: 0, redeliveries: 0, is_last_delivery: false };
        let taken: Vec<_> = state.waiting.drain(..count).map(taken).collect();
        drop(state);
        self.capacity.give_back_all(taken.iter().map(|taken| taken.message.body.len()));
        taken
    }

    /// Takes the permits of further messages that are there, no more than so many.
    fn more_arrived(&self, count_max: usize) -> usize {
        let there = self.arrived.available_permits().min(count_max);
        // Others may have been faster, and are not to be waited for.
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
            // Those that were told of may make room for more.
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
                // Once closed, nothing arrives any more, and what is there needs no permit.
                Err(_) => self.pop(count_max),
            }
        })
    }

    fn acknowledge(&self, taken: &Taken) -> Pending<'_, Result<(), AckError>> {
        self.abandon(taken);
        Pending::ready(Ok(()))
    }

    fn reply(&self, taken: &Taken, body: Arc<str>) -> Pending<'_, Result<(), AckError>> {
        self.replies.settle(&taken.message.user, taken.message.id, Ok(body), Instant::now());
        Pending::ready(Ok(()))
    }

    fn abandon(&self, taken: &Taken) {
        // A message that was taken is the application's: all that is left to do is to tell whoever
        // waits for a reply.
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
        Pending::ready(())
    }

    fn waiting(&self) -> Pending<'_, u64> {
        Pending::ready(self.state().waiting.len() as u64)
    }

    fn finish(&self) -> Pending<'_, u64> {
        self.close();
        let lost = std::mem::take(&mut self.state().waiting);
        self.replies.end_all_waits(NoReply::NotGiven);
        Pending::ready(lost.len() as u64)
    }
}

impl Memory {
    /// Gives those that found no room, but need none, their answer.
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

/// The last so many.
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
            received_at: SystemTime::UNIX_EPOCH,
            body: body.into(),
            wants_reply: false,
        }
    }

    // What holds for every kind of inbox is tested in `tests/api/suite.rs`.

    #[test]
    fn a_message_for_which_there_is_room_costs_no_future() {
        let inbox = Inbox::new(Memory::new(&MemoryOptions::default()));
        assert!(matches!(inbox.put(message(1, "{}"), NO_WAIT), Pending::Ready(_)));
        assert!(matches!(inbox.put_all(vec![message(2, "{}")], NO_WAIT), Pending::Ready(_)));
    }

    #[tokio::test]
    async fn whoever_waits_is_told_of_a_message_when_its_guards_are_dropped_and_loses_none() {
        let inbox = Inbox::new(Memory::new(&MemoryOptions::default()));
        let mut taking = std::pin::pin!(inbox.recv());
        let context = &mut std::task::Context::from_waker(std::task::Waker::noop());
        assert!(taking.as_mut().poll(context).is_pending());
        let (put, one) = inbox.put_deferred(message(1, "{}"), NO_WAIT).await;
        let (puts, more) =
            inbox.put_all_deferred(vec![message(2, "{}"), message(1, "{}")], NO_WAIT).await;
        assert_eq!((put, puts), (Ok(Put::Accepted), vec![Ok(Put::Accepted), Ok(Put::Duplicate)]));
        assert!(taking.as_mut().poll(context).is_pending(), "nobody was told");
        // Whichever is told of first, messages come in order.
        drop(more);
        assert_eq!(taking.await.unwrap().id(), message(1, "{}").id);
        drop(one);
        assert_eq!(inbox.recv().await.unwrap().id(), message(2, "{}").id);
        let (_, none) = inbox.put_deferred(message(2, "{}"), NO_WAIT).await;
        assert!(none.is_none(), "a duplicate does not arrive");
    }

    #[tokio::test]
    async fn no_more_ids_are_remembered_than_may_be_and_none_is_forgotten_early() {
        let inbox = MemoryOptions::default().remembered_ids_max(1).build();
        inbox.put(message(1, "{}"), NO_WAIT).await.unwrap();
        assert_eq!(inbox.put(message(2, "{}"), NO_WAIT).await, Err(PutError::RememberedFull));
        assert_eq!(inbox.put(message(1, "{}"), NO_WAIT).await, Ok(Put::Duplicate));
    }

    #[tokio::test]
    async fn a_delivery_that_is_dropped_is_gone() {
        let inbox = Inbox::new(Memory::new(&MemoryOptions::default()));
        inbox.put(message(1, "{}"), NO_WAIT).await.unwrap();
        drop(inbox.recv().await);
        inbox.close();
        assert!(inbox.recv().await.is_none());
    }
}

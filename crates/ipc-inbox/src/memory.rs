//! The inbox in memory: bounded, first in first out, as many senders and takers as one likes.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ipc_protocol::REMEMBERED_SECS;
use tokio::sync::{Semaphore, TryAcquireError};

use crate::remembered::{Known, Remembered};
use crate::{Delivery, Inbox, InboxBackend, Message, Pending, Put, PutError};

/// What an inbox in memory may grow to.
///
/// # Defaults
/// 1024 messages waiting, ids remembered for 10 minutes, 10 million of them.
#[derive(Clone, Debug)]
pub struct MemoryOptions {
    messages_max: usize,
    remembered_for: Duration,
    remembered_ids_max: usize,
}

impl Default for MemoryOptions {
    fn default() -> Self {
        MemoryOptions {
            messages_max: 1024,
            remembered_for: Duration::from_secs(REMEMBERED_SECS),
            remembered_ids_max: 10_000_000,
        }
    }
}

impl MemoryOptions {
    /// How many messages wait at most; at least 1. A further one waits outside, and its sender is told to come
    /// again.
    pub fn messages_max(mut self, messages: usize) -> Self {
        self.messages_max = messages.clamp(1, Semaphore::MAX_PERMITS);
        self
    }

    /// How many accepted ids are remembered at most. One more message than that within the time is refused, since
    /// an id forgotten early could be accepted twice.
    pub fn remembered_ids_max(mut self, ids: usize) -> Self {
        self.remembered_ids_max = ids;
        self
    }

    /// How long an accepted id is remembered, at least; never shorter than clients may retry (10 minutes).
    pub fn remembered_for(mut self, time: Duration) -> Self {
        self.remembered_for = time.max(Duration::from_secs(REMEMBERED_SECS));
        self
    }

    /// Makes the inbox.
    pub fn build(self) -> Inbox {
        Inbox::new(Memory {
            room: Semaphore::new(self.messages_max),
            arrived: Semaphore::new(0),
            state: Mutex::new(State {
                waiting: VecDeque::new(),
                remembered: Remembered::new(self.remembered_for, self.remembered_ids_max, Instant::now()),
                is_open: true,
            }),
        })
    }
}

/// A permit of `room` is a free place, one of `arrived` a message that waits. Both are handed out in the order in
/// which they are asked for, so that nobody starves.
struct Memory {
    room: Semaphore,
    arrived: Semaphore,
    state: Mutex<State>,
}

struct State {
    waiting: VecDeque<Message>,
    remembered: Remembered,
    is_open: bool,
}

impl State {
    /// `Ok(None)` if the message may be put.
    fn already(&mut self, message: &Message, now: Instant) -> Result<Option<Put>, PutError> {
        if !self.is_open {
            return Err(PutError::Closed);
        }
        match self.remembered.look_up(&message.user, message.id, &message.body, now) {
            Known::SameBody => Ok(Some(Put::Duplicate)),
            Known::OtherBody => Err(PutError::IdReused),
            Known::New if !self.remembered.has_room() => Err(PutError::RememberedFull),
            Known::New => Ok(None),
        }
    }
}

impl Memory {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that runs under the lock leaves it half changed, so that a panic of another thread is no reason
        // to stop.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The step that accepts: under one lock it looks for the id, remembers it and keeps the message. The caller
    /// has a free place and gives it up if the answer is `Accepted`.
    fn keep(&self, state: &mut State, message: Message, now: Instant) -> Put {
        state.remembered.insert(&message.user, message.id, &message.body, now);
        state.waiting.push_back(message);
        self.arrived.add_permits(1);
        Put::Accepted
    }

    async fn put_when_there_is_room(&self, message: Message) -> Result<Put, PutError> {
        let place = self.room.acquire().await.map_err(|_| PutError::Closed)?;
        let now = Instant::now();
        let mut state = self.state();
        // The same message may have come in a second time while this one waited.
        if let Some(put) = state.already(&message, now)? {
            return Ok(put);
        }
        place.forget();
        Ok(self.keep(&mut state, message, now))
    }

    fn pop(&self) -> Option<Delivery> {
        let message = self.state().waiting.pop_front()?;
        self.room.add_permits(1);
        Some(Delivery::new(message))
    }
}

impl InboxBackend for Memory {
    fn put(&self, message: Message) -> Pending<'_, Result<Put, PutError>> {
        let now = Instant::now();
        let mut state = self.state();
        match state.already(&message, now) {
            Ok(Some(put)) => return Pending::ready(Ok(put)),
            Err(error) => return Pending::ready(Err(error)),
            Ok(None) => (),
        }
        match self.room.try_acquire() {
            Ok(place) => {
                place.forget();
                Pending::ready(Ok(self.keep(&mut state, message, now)))
            }
            Err(TryAcquireError::Closed) => Pending::ready(Err(PutError::Closed)),
            Err(TryAcquireError::NoPermits) => {
                drop(state);
                Pending::later(self.put_when_there_is_room(message))
            }
        }
    }

    fn take(&self) -> Pending<'_, Option<Delivery>> {
        if let Ok(arrival) = self.arrived.try_acquire() {
            arrival.forget();
            return Pending::ready(self.pop());
        }
        Pending::later(async {
            // Once closed, nothing arrives any more, and what is there needs no permit.
            if let Ok(arrival) = self.arrived.acquire().await {
                arrival.forget();
            }
            self.pop()
        })
    }

    fn close(&self) {
        let mut state = self.state();
        state.is_open = false;
        self.room.close();
        self.arrived.close();
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::time::SystemTime;

    use futures_executor::block_on;
    use ipc_protocol::MessageId;

    fn message(number: u8, body: &str) -> Message {
        Message {
            id: MessageId::from_random([number; 16]),
            user: "u".into(),
            certificate: None,
            received_at: SystemTime::UNIX_EPOCH,
            body: body.into(),
        }
    }

    fn small(messages_max: usize) -> Inbox {
        MemoryOptions::default().messages_max(messages_max).build()
    }

    /// The answer if it is there at once.
    fn now<T: Unpin>(mut pending: Pending<'_, T>) -> Result<T, Pending<'_, T>> {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match std::pin::Pin::new(&mut pending).poll(&mut context) {
            std::task::Poll::Ready(answer) => Ok(answer),
            std::task::Poll::Pending => Err(pending),
        }
    }

    #[test]
    fn messages_come_out_in_the_order_in_which_they_went_in() {
        let inbox = small(10);
        for number in 0..10 {
            assert_eq!(
                now(inbox.put(message(number, &format!("{{\"n\":{number}}}")))).ok(),
                Some(Ok(Put::Accepted))
            );
        }
        for number in 0..10 {
            assert_eq!(inbox.recv_blocking().unwrap().body(), format!("{{\"n\":{number}}}"));
        }
    }

    #[test]
    fn a_message_put_twice_is_taken_once() {
        let inbox = small(10);
        assert_eq!(block_on(inbox.put(message(1, "{}"))), Ok(Put::Accepted));
        assert_eq!(block_on(inbox.put(message(1, "{}"))), Ok(Put::Duplicate));
        inbox.recv_blocking().unwrap();
        assert_eq!(block_on(inbox.put(message(1, "{}"))), Ok(Put::Duplicate), "also after it was taken");
        assert_eq!(block_on(inbox.put(message(1, "{ }"))), Err(PutError::IdReused));
        inbox.close();
        assert!(inbox.recv_blocking().is_none());
    }

    #[test]
    fn a_full_inbox_makes_one_wait_and_a_taken_message_lets_one_in() {
        let inbox = small(1);
        block_on(inbox.put(message(1, "{}"))).unwrap();
        let waiting = now(inbox.put(message(2, "{}"))).expect_err("there is no room");
        assert_eq!(
            now(inbox.put(message(1, "{}"))).ok(),
            Some(Ok(Put::Duplicate)),
            "a duplicate needs no room"
        );
        inbox.recv_blocking().unwrap();
        assert_eq!(now(waiting).ok(), Some(Ok(Put::Accepted)));
        assert_eq!(inbox.recv_blocking().unwrap().id(), message(2, "").id);
    }

    #[test]
    fn whoever_stops_waiting_for_room_has_put_nothing_and_holds_no_place() {
        let inbox = small(1);
        block_on(inbox.put(message(1, "{}"))).unwrap();
        drop(now(inbox.put(message(2, "{}"))).expect_err("there is no room"));
        inbox.recv_blocking().unwrap();
        assert_eq!(
            now(inbox.put(message(2, "{}"))).ok(),
            Some(Ok(Put::Accepted)),
            "not remembered, and there is room"
        );
    }

    #[test]
    fn the_same_message_waiting_twice_goes_in_once() {
        let inbox = small(1);
        block_on(inbox.put(message(1, "{}"))).unwrap();
        let first = now(inbox.put(message(2, "{}"))).err().unwrap();
        let second = now(inbox.put(message(2, "{}"))).err().unwrap();
        inbox.recv_blocking().unwrap();
        assert_eq!(now(first).ok(), Some(Ok(Put::Accepted)));
        inbox.recv_blocking().unwrap();
        assert_eq!(now(second).ok(), Some(Ok(Put::Duplicate)));
        assert_eq!(
            now(inbox.put(message(3, "{}"))).ok(),
            Some(Ok(Put::Accepted)),
            "the duplicate gave its place back"
        );
    }

    #[test]
    fn those_who_wait_for_room_come_before_those_who_come_later() {
        let inbox = small(1);
        block_on(inbox.put(message(1, "{}"))).unwrap();
        let first = now(inbox.put(message(2, "{}"))).err().unwrap();
        inbox.recv_blocking().unwrap();
        let late = now(inbox.put(message(3, "{}")));
        assert!(late.is_err(), "the free place belongs to the one who waited");
        assert_eq!(now(first).ok(), Some(Ok(Put::Accepted)));
    }

    #[test]
    fn a_closed_inbox_refuses_and_gives_out_what_it_has() {
        let inbox = small(1);
        block_on(inbox.put(message(1, "{}"))).unwrap();
        let waiting = now(inbox.put(message(2, "{}"))).err().unwrap();
        inbox.close();
        assert_eq!(now(waiting).ok(), Some(Err(PutError::Closed)));
        assert_eq!(block_on(inbox.put(message(3, "{}"))), Err(PutError::Closed));
        assert_eq!(inbox.recv_blocking().unwrap().id(), message(1, "").id);
        assert!(inbox.recv_blocking().is_none());
        assert!(inbox.recv_blocking().is_none());
    }

    #[test]
    fn closing_wakes_those_who_wait_for_a_message() {
        let inbox = small(1);
        let taker = std::thread::spawn({
            let inbox = inbox.clone();
            move || inbox.recv_blocking().is_none()
        });
        inbox.close();
        assert!(taker.join().unwrap());
    }

    #[test]
    fn no_more_ids_are_remembered_than_may_be_and_none_is_forgotten_early() {
        let inbox = MemoryOptions::default().remembered_ids_max(1).build();
        block_on(inbox.put(message(1, "{}"))).unwrap();
        assert_eq!(block_on(inbox.put(message(2, "{}"))), Err(PutError::RememberedFull));
        assert_eq!(block_on(inbox.put(message(1, "{}"))), Ok(Put::Duplicate));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn many_putters_and_takers_lose_nothing_and_double_nothing() {
        let inbox = small(3);
        let putters = (0..8_u8).map(|user| {
            let inbox = inbox.clone();
            tokio::spawn(async move {
                for number in 0..100_u8 {
                    let mut one = message(number, "{}");
                    one.user = Arc::from(user.to_string());
                    assert_eq!(inbox.put(one).await, Ok(Put::Accepted));
                }
            })
        });
        let takers = (0..3).map(|_| {
            let inbox = inbox.clone();
            tokio::spawn(async move {
                let mut taken = Vec::new();
                while let Some(delivery) = inbox.recv().await {
                    taken.push((delivery.user().to_owned(), delivery.id()));
                }
                taken
            })
        });
        let (putters, takers): (Vec<_>, Vec<_>) = (putters.collect(), takers.collect());
        for putter in putters {
            putter.await.unwrap();
        }
        inbox.close();
        let mut taken = Vec::new();
        for taker in takers {
            taken.extend(taker.await.unwrap());
        }
        assert_eq!(taken.len(), 800);
        taken.sort();
        taken.dedup();
        assert_eq!(taken.len(), 800);
    }
}

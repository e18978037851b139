//! The room of the inbox: how many messages may still be put, and who waits for a place.
//!
//! This process counts its own puts and acknowledgements at once. What other servers do it learns
//! from the consumer, about every second. Nothing here connects.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

#[derive(Debug)]
pub(crate) struct Room {
    messages_max: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// How many messages are in the inbox, as far as this process knows, with those being put.
    used: u64,
    waiting: VecDeque<oneshot::Sender<()>>,
    is_closed: bool,
    /// How many of `used` are being put.
    being_put: u64,
    /// How many messages are being acknowledged.
    being_settled: u64,
    /// Changes with each change of `used`.
    changes: u64,
    /// How often a count of the consumer came while something changed.
    unquiet: u32,
}

/// What was true when the consumer was asked for its count.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Snapshot {
    changes: u64,
    is_quiet: bool,
}

/// The room was closed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Closed;

/// How many unquiet counts are ignored before one is believed.
const UNQUIET_MAX: u32 = 3;

impl State {
    /// Gives free places to those who wait.
    fn serve(&mut self, messages_max: u64) {
        while self.used < messages_max {
            let Some(waiting) = self.waiting.pop_front() else { return };
            if waiting.send(()).is_ok() {
                self.take(1);
            }
        }
    }

    fn take(&mut self, count: u64) {
        self.used += count;
        self.being_put += count;
        self.changes += 1;
    }
}

impl Room {
    pub(crate) fn new(messages_max: u64) -> Self {
        Room { messages_max, state: Mutex::default() }
    }

    /// Takes as many free places as there are, no more than `count`. Those who wait come first.
    pub(crate) fn take_now(&self, count: usize) -> Result<usize, Closed> {
        let mut state = self.state();
        if state.is_closed {
            return Err(Closed);
        }
        state.waiting.retain(|waiting| !waiting.is_closed());
        if !state.waiting.is_empty() {
            return Ok(0);
        }
        let free = self.messages_max.saturating_sub(state.used);
        let taken = free.min(count as u64);
        state.take(taken);
        Ok(usize::try_from(taken).unwrap_or(count))
    }

    /// Waits for one place. Whoever drops the future has none.
    pub(crate) async fn take_one(self: &Arc<Self>) -> Result<(), Closed> {
        let place = {
            let mut state = self.state();
            if state.is_closed {
                return Err(Closed);
            }
            let (sender, place) = oneshot::channel();
            state.waiting.push_back(sender);
            state.serve(self.messages_max);
            place
        };
        let mut wait = Wait { place, room: self, is_over: false };
        let taken = (&mut wait.place).await.map_err(|_| Closed);
        wait.is_over = true;
        taken
    }

    /// Of `count` places that were taken, `stored` have a message now. The others are free.
    pub(crate) fn put_is_done(&self, count: usize, stored: usize) {
        let mut state = self.state();
        state.being_put = state.being_put.saturating_sub(count as u64);
        state.used = state.used.saturating_sub((count - stored.min(count)) as u64);
        state.changes += 1;
        state.serve(self.messages_max);
    }

    /// A message is there that took no place.
    pub(crate) fn add(&self) {
        let mut state = self.state();
        state.used += 1;
        state.changes += 1;
    }

    /// The inbox is told that it is done with `count` messages.
    pub(crate) fn settling(&self, count: usize) {
        self.state().being_settled += count as u64;
    }

    /// Of `count` messages, `settled` have left the inbox.
    pub(crate) fn settling_is_done(&self, count: usize, settled: usize) {
        let mut state = self.state();
        state.being_settled = state.being_settled.saturating_sub(count as u64);
        state.used = state.used.saturating_sub(settled as u64);
        state.changes += 1;
        state.serve(self.messages_max);
    }

    #[cfg(test)]
    fn is_full(&self) -> bool {
        let state = self.state();
        state.used >= self.messages_max
    }

    /// To be taken before the consumer is asked for its count.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let state = self.state();
        Snapshot {
            changes: state.changes,
            is_quiet: state.being_put == 0 && state.being_settled == 0,
        }
    }

    /// Takes over the consumer's count. If this process changed something meanwhile, the count may
    /// have it or not; then it is believed only if that goes on for a while.
    pub(crate) fn correct(&self, messages: u64, since: Snapshot) {
        let mut state = self.state();
        if since.is_quiet && since.changes == state.changes {
            state.used = messages;
            state.unquiet = 0;
        } else {
            state.unquiet += 1;
            if state.unquiet <= UNQUIET_MAX {
                return;
            }
            state.unquiet = 0;
            state.used = messages + state.being_put;
        }
        state.changes += 1;
        state.serve(self.messages_max);
    }

    /// Refuses every later call, and ends all waits.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        state.is_closed = true;
        state.waiting.clear();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives a place back that nobody waits for any more.
struct Wait<'a> {
    place: oneshot::Receiver<()>,
    room: &'a Room,
    is_over: bool,
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        self.place.close();
        if !self.is_over && self.place.try_recv().is_ok() {
            self.room.put_is_done(1, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::{Context, Waker};

    type Waiting<'a> = std::pin::Pin<Box<dyn Future<Output = Result<(), Closed>> + 'a>>;

    fn poll(future: &mut Waiting<'_>) -> Option<Result<(), Closed>> {
        match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            std::task::Poll::Ready(done) => Some(done),
            std::task::Poll::Pending => None,
        }
    }

    #[test]
    fn there_are_so_many_places_and_those_who_wait_get_the_next() {
        let room = Arc::new(Room::new(2));
        assert_eq!(room.take_now(3), Ok(2));
        room.put_is_done(2, 2);
        assert_eq!(room.take_now(1), Ok(0));
        assert!(room.is_full());
        let mut first: Waiting<'_> = Box::pin(room.take_one());
        let mut second: Waiting<'_> = Box::pin(room.take_one());
        assert_eq!((poll(&mut first), poll(&mut second)), (None, None));
        room.settling(1);
        room.settling_is_done(1, 1);
        assert_eq!(room.take_now(1), Ok(0), "it belongs to the one who waits");
        assert_eq!(poll(&mut first), Some(Ok(())));
        assert_eq!(poll(&mut second), None);
        room.close();
        assert_eq!(poll(&mut second), Some(Err(Closed)));
        assert_eq!(room.take_now(1), Err(Closed));
    }

    #[test]
    fn whoever_stops_waiting_holds_no_place() {
        let room = Arc::new(Room::new(1));
        assert_eq!(room.take_now(1), Ok(1));
        room.put_is_done(1, 1);
        for is_given in [false, true] {
            let mut wait: Waiting<'_> = Box::pin(room.take_one());
            assert_eq!(poll(&mut wait), None);
            if is_given {
                room.settling_is_done(0, 1);
            }
            drop(wait);
        }
        assert_eq!(room.take_now(1), Ok(1));
    }

    #[test]
    fn the_consumer_is_believed_when_nothing_changed_meanwhile() {
        let room = Room::new(10);
        let quiet = room.snapshot();
        room.correct(10, quiet);
        assert!(room.is_full(), "others have put them");
        room.correct(8, room.snapshot());
        assert_eq!(room.take_now(9), Ok(2));
        let unquiet = room.snapshot();
        room.put_is_done(2, 2);
        for _ in 0..UNQUIET_MAX {
            room.correct(0, unquiet);
            assert!(room.is_full());
        }
        room.correct(0, unquiet);
        assert!(!room.is_full(), "something changes all the time");
    }
}

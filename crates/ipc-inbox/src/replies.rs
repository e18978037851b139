//! Passes replies from the application to the senders that wait, and keeps them for a while: a
//! request that is sent again gets the first reply again. The time is an argument.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use foldhash::quality::RandomState;
use ipc_protocol::MessageId;
use tokio::sync::oneshot;

use crate::backend::{NoReply, Pending};

/// The result of a request.
pub(crate) type Reply = Result<Arc<str>, NoReply>;

/// A user and a message's id.
type Request = (Arc<str>, MessageId);

/// The requests of an [`InboxBackend`](crate::InboxBackend) that wait for a reply, and the replies
/// that were given. A backend that keeps replies in memory implements `reply`, `reply_to` and
/// `is_awaited` with it.
///
/// A request is known from [`expect`](Replies::expect) on. Its reply is kept from
/// [`settle`](Replies::settle) on, for a time, so that a request that is sent again gets the first
/// reply again. Each user has separate requests.
#[derive(Debug)]
pub struct Replies {
    kept_for: Duration,
    bytes_max: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// By user, then by id, so that a lookup needs no allocated key.
    requests: HashMap<Arc<str>, HashMap<MessageId, Slot, RandomState>, RandomState>,
    /// The settled requests, oldest first, each with the time it was settled.
    settled: VecDeque<(Instant, Request)>,
    /// The total bytes of the replies and reasons that are kept.
    bytes: usize,
}

#[derive(Debug)]
enum Slot {
    Waiting(Vec<oneshot::Sender<Reply>>),
    Settled(Reply),
}

impl State {
    fn slot(&self, user: &str, id: MessageId) -> Option<&Slot> {
        self.requests.get(user)?.get(&id)
    }

    fn slot_mut(&mut self, user: &str, id: MessageId) -> Option<&mut Slot> {
        self.requests.get_mut(user)?.get_mut(&id)
    }

    /// The requests of one user.
    fn of(&mut self, user: &Arc<str>) -> &mut HashMap<MessageId, Slot, RandomState> {
        if !self.requests.contains_key(user) {
            self.requests.insert(Arc::clone(user), HashMap::default());
        }
        self.requests.get_mut(user).expect("it was just put there")
    }

    fn remove(&mut self, user: &str, id: MessageId) -> Option<Slot> {
        let of_user = self.requests.get_mut(user)?;
        let slot = of_user.remove(&id);
        if of_user.is_empty() {
            self.requests.remove(user);
        }
        slot
    }
}

impl Replies {
    /// Keeps replies for `kept_for`, and no more than `bytes_max` bytes of them; the oldest are
    /// dropped first.
    pub fn new(kept_for: Duration, bytes_max: usize) -> Self {
        Replies { kept_for, bytes_max, state: Mutex::default() }
    }

    /// Notes that a request was accepted. A request that is known already stays unchanged.
    pub fn expect(&self, user: &Arc<str>, id: MessageId) {
        self.state().of(user).entry(id).or_insert_with(|| Slot::Waiting(Vec::new()));
    }

    /// Whether a request was accepted and either waits for its reply or still has its result kept.
    pub(crate) fn is_known(&self, user: &str, id: MessageId) -> bool {
        self.state().slot(user, id).is_some()
    }

    /// Waits for the reply to a request.
    ///
    /// # Errors
    /// The [`NoReply`] that the request was settled with; [`NoReply::Forgotten`] if the request is
    /// not known.
    pub fn wait(&self, user: &str, id: MessageId) -> Pending<'static, Result<Arc<str>, NoReply>> {
        self.wait_if_known(user, id).unwrap_or_else(|| Pending::ready(Err(NoReply::Forgotten)))
    }

    /// Waits for the reply to a request, if the request is known.
    pub(crate) fn wait_if_known(
        &self,
        user: &str,
        id: MessageId,
    ) -> Option<Pending<'static, Reply>> {
        let mut state = self.state();
        Some(match state.slot_mut(user, id)? {
            Slot::Settled(reply) => Pending::ready(reply.clone()),
            Slot::Waiting(waiting) => {
                // One request usually has one waiter.
                waiting.retain(|sender| !sender.is_closed());
                let (sender, receiver) = oneshot::channel();
                waiting.push(sender);
                // The sender is dropped unused only when the inbox is dropped.
                Pending::later(async { receiver.await.unwrap_or(Err(NoReply::Forgotten)) })
            }
        })
    }

    /// Whether a sender waits for the reply to a request.
    pub fn is_awaited(&self, user: &str, id: MessageId) -> bool {
        match self.state().slot(user, id) {
            Some(Slot::Waiting(waiting)) => waiting.iter().any(|sender| !sender.is_closed()),
            _ => false,
        }
    }

    /// Gives the reply, or the reason why there is none, to every waiter, and keeps it. Later calls
    /// for the same request are ignored.
    pub fn settle(
        &self,
        user: &Arc<str>,
        id: MessageId,
        reply: Result<Arc<str>, NoReply>,
        now: Instant,
    ) {
        let mut state = self.state();
        if matches!(state.slot(user, id), Some(Slot::Settled(_))) {
            return;
        }
        state.bytes += length(&reply);
        state.settled.push_back((now, (Arc::clone(user), id)));
        let slot = state.of(user).insert(id, Slot::Settled(reply.clone()));
        self.forget(&mut state, now);
        drop(state);
        if let Some(Slot::Waiting(waiting)) = slot {
            for sender in waiting {
                // A waiter that is gone misses nothing.
                let _gone = sender.send(reply.clone());
            }
        }
    }

    /// Tells every waiter of a request that there is no reply now. This result is not kept, because
    /// a reply may follow.
    pub fn end_wait(&self, user: &str, id: MessageId, reason: NoReply) {
        let mut state = self.state();
        if !matches!(state.slot(user, id), Some(Slot::Waiting(_))) {
            return;
        }
        let slot = state.remove(user, id);
        drop(state);
        if let Some(Slot::Waiting(waiting)) = slot {
            for sender in waiting {
                let _gone = sender.send(Err(reason.clone()));
            }
        }
    }

    /// Tells every waiter of every request that there is no reply now.
    pub fn end_all_waits(&self, reason: NoReply) {
        let mut ended = Vec::new();
        self.state().requests.retain(|_, of_user| {
            of_user.retain(|_, slot| match slot {
                Slot::Waiting(waiting) => {
                    ended.append(waiting);
                    false
                }
                Slot::Settled(_) => true,
            });
            !of_user.is_empty()
        });
        for sender in ended {
            let _gone = sender.send(Err(reason.clone()));
        }
    }

    fn forget(&self, state: &mut State, now: Instant) {
        while let Some((settled_at, _)) = state.settled.front() {
            let is_due = now.saturating_duration_since(*settled_at) >= self.kept_for;
            if !is_due && state.bytes <= self.bytes_max {
                return;
            }
            if let Some((_, (user, id))) = state.settled.pop_front()
                && let Some(Slot::Settled(reply)) = state.remove(&user, id)
            {
                state.bytes -= length(&reply);
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many bytes are kept of the result of a request.
pub(crate) fn length(reply: &Reply) -> usize {
    match reply {
        Ok(text) | Err(NoReply::Declined(text)) => text.len(),
        Err(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_executor::block_on;

    const KEPT: Duration = Duration::from_secs(600);

    fn id(number: u8) -> MessageId {
        MessageId::from_random([number; 16])
    }

    fn reply(text: &str) -> Reply {
        Ok(text.into())
    }

    #[test]
    fn all_who_wait_and_all_who_come_later_get_the_first_reply() {
        let (replies, now) = (Replies::new(KEPT, 100), Instant::now());
        let user: Arc<str> = "a".into();
        replies.expect(&user, id(1));
        let (first, second) = (replies.wait("a", id(1)), replies.wait("a", id(1)));
        replies.settle(&user, id(1), reply("{}"), now);
        replies.settle(&user, id(1), reply("[]"), now);
        for waiting in [first, second, replies.wait("a", id(1))] {
            assert_eq!(block_on(waiting), reply("{}"));
        }
        assert_eq!(block_on(replies.wait("b", id(1))), Err(NoReply::Forgotten), "of another user");
    }

    #[test]
    fn replies_are_kept_for_their_time() {
        let (replies, now) = (Replies::new(KEPT, 100), Instant::now());
        let user: Arc<str> = "a".into();
        replies.settle(&user, id(1), reply("{}"), now);
        replies.settle(&user, id(2), reply("{}"), now + KEPT - Duration::from_secs(1));
        assert_eq!(block_on(replies.wait("a", id(1))), reply("{}"));
        replies.settle(&user, id(3), Err(NoReply::NotGiven), now + KEPT);
        assert_eq!(block_on(replies.wait("a", id(1))), Err(NoReply::Forgotten));
        assert_eq!(block_on(replies.wait("a", id(2))), reply("{}"));
        assert_eq!(block_on(replies.wait("a", id(3))), Err(NoReply::NotGiven));
    }

    #[test]
    fn the_oldest_replies_make_room_for_the_newest() {
        let (replies, now) = (Replies::new(KEPT, 10), Instant::now());
        let user: Arc<str> = "a".into();
        for number in 1..=3 {
            replies.settle(&user, id(number), reply("12345"), now);
        }
        assert_eq!(block_on(replies.wait("a", id(1))), Err(NoReply::Forgotten));
        assert_eq!(block_on(replies.wait("a", id(2))), reply("12345"));
        assert_eq!(replies.state().bytes, 10);
    }

    #[test]
    fn a_wait_that_is_ended_leaves_room_for_a_reply_to_come() {
        let (replies, now) = (Replies::new(KEPT, 10), Instant::now());
        let user: Arc<str> = "a".into();
        replies.expect(&user, id(1));
        let waiting = replies.wait("a", id(1));
        replies.end_wait(&user, id(1), NoReply::NotGiven);
        assert_eq!(block_on(waiting), Err(NoReply::NotGiven));
        assert!(replies.wait_if_known("a", id(1)).is_none());
        replies.settle(&user, id(1), reply("{}"), now);
        replies.end_wait(&user, id(1), NoReply::NotGiven);
        assert_eq!(block_on(replies.wait("a", id(1))), reply("{}"));
    }

    #[test]
    fn a_request_is_awaited_as_long_as_somebody_waits() {
        let (replies, user) = (Replies::new(KEPT, 10), Arc::from("a"));
        replies.expect(&user, id(1));
        assert!(!replies.is_awaited(&user, id(1)));
        let (first, second) = (replies.wait("a", id(1)), replies.wait("a", id(1)));
        drop(first);
        assert!(replies.is_awaited(&user, id(1)));
        drop(second);
        assert!(!replies.is_awaited(&user, id(1)));
        let third = replies.wait("a", id(1));
        assert!(replies.is_awaited(&user, id(1)), "one who comes again");
        replies.settle(&user, id(1), reply("{}"), Instant::now());
        assert!(!replies.is_awaited(&user, id(1)));
        drop(third);
    }

    #[test]
    fn those_who_stopped_waiting_are_not_kept() {
        let replies = Replies::new(KEPT, 10);
        replies.expect(&"a".into(), id(1));
        for _ in 0..100 {
            drop(replies.wait("a", id(1)));
        }
        let state = replies.state();
        assert!(
            matches!(state.slot("a", id(1)), Some(Slot::Waiting(waiting)) if waiting.len() <= 1)
        );
    }
}

//! Which messages wait, which are leased, and which takers wait. Numbers and times only: the writer
//! knows the file.
//!
//! A message is identified by its number in the file, a delivery by its lease. Each lease number is
//! used once. So a delivery that has expired can neither acknowledge the message nor give it back,
//! even while another delivery has it.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use foldhash::quality::RandomState;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::admission::Prefetch;
use super::commands::{Commands, Handed};
use super::options::DurableOptions;
use super::statements::{Oldest, Stored};
use crate::backend::Taken;
use crate::message::Message;

/// How many messages are prefetched at most: in memory, marked in the file as delivered, before a
/// taker asks for them. A longer single message is prefetched alone. After a crash each of them is
/// delivered in a commit of its own. A receiver that is as fast as the senders gets every message
/// from memory. For a slower one the rest is read from the file, this many at a time.
const PREFETCH_MAX: usize = 2048;
const PREFETCH_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// Messages are read once there is room for this many, rather than a few at a time.
const ROOM_MIN: usize = PREFETCH_MAX / 2;

/// A call that waits for messages.
pub(super) struct Taker {
    pub(super) count_max: usize,
    pub(super) done: oneshot::Sender<Handed>,
}

/// A message that a delivery has, or that waits for the end of its delay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lease {
    pub(super) seq: i64,
    /// The length of its body.
    pub(super) bytes: u64,
    /// How often the message has been delivered, this delivery included.
    deliveries: u32,
    /// When the message is delivered again.
    expires_at: Instant,
    /// No delivery has the message: it was given back, and waits until its delay ends.
    is_delayed: bool,
}

/// The messages in the file to mark as delivered next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// The messages with these numbers, in order, which were delivered before.
    Redelivery { seqs: Vec<i64> },
    /// The messages after a number: no more than `count`, and no more than `bytes` bytes of bodies,
    /// except that the first may be longer.
    Backlog { after: i64, count: usize, bytes: u64 },
}

pub(super) struct Queue {
    visibility_timeout: Duration,
    nack_delay: Duration,
    max_deliveries: u32,
    returns: Arc<Commands>,
    /// Every message up to this number has been delivered, or is in `redelivery` or in
    /// `prefetched`, or is dead.
    handed_up_to: i64,
    /// How many messages wait after `handed_up_to`.
    backlog: u64,
    /// Earlier messages that are to be delivered again, with the lengths of their bodies.
    redelivery: BTreeMap<i64, u64>,
    /// Marked in the file as delivered, and not yet taken; in order.
    prefetched: VecDeque<Stored>,
    /// The total length of their bodies.
    prefetched_bytes: u64,
    /// The last delivery of these messages has failed: they are to be marked as dead.
    exhausted: Vec<i64>,
    /// Delivered and not yet acknowledged, by their leases.
    leases: HashMap<u64, Lease, RandomState>,
    /// When leases and delays end, soonest first.
    expiries: BTreeSet<(Instant, u64)>,
    next_lease: u64,
    /// How many of the leases are of messages that were given back.
    delayed: u64,
    takers: VecDeque<Taker>,
    /// A taker has asked for messages before.
    was_asked: bool,
}

impl Queue {
    /// A queue of which nothing was delivered yet, with `waiting` messages in the file.
    pub(super) fn new(waiting: u64, options: &DurableOptions, returns: Arc<Commands>) -> Self {
        Queue {
            visibility_timeout: options.visibility_timeout,
            nack_delay: options.nack_delay,
            max_deliveries: options.max_deliveries,
            returns,
            handed_up_to: 0,
            backlog: waiting,
            redelivery: BTreeMap::new(),
            prefetched: VecDeque::new(),
            prefetched_bytes: 0,
            exhausted: Vec::new(),
            leases: HashMap::default(),
            expiries: BTreeSet::new(),
            next_lease: 1,
            delayed: 0,
            takers: VecDeque::new(),
            was_asked: false,
        }
    }

    /// Whether a message waits to be delivered.
    pub(super) fn has_waiting(&self) -> bool {
        !self.prefetched.is_empty() || !self.redelivery.is_empty() || self.backlog > 0
    }

    /// How many messages wait to be delivered, including those whose delay is not over.
    pub(super) fn waiting(&self) -> u64 {
        let in_memory = (self.redelivery.len() + self.prefetched.len()) as u64;
        self.backlog.saturating_add(in_memory + self.delayed)
    }

    /// Which of the waiting messages is the oldest.
    pub(super) fn oldest(&self) -> Oldest {
        let put_back = self.leases.values().filter(|lease| lease.is_delayed).map(|lease| lease.seq);
        let redelivery = self.redelivery.keys().next().copied();
        let prefetched = self.prefetched.front().map(|stored| stored.seq);
        match put_back.chain(redelivery).chain(prefetched).min() {
            Some(seq) => Oldest::Is(seq),
            None if self.backlog > 0 => Oldest::ComesAfter(self.handed_up_to),
            None => Oldest::None,
        }
    }

    /// How many messages the application has, or will have in a moment.
    pub(super) fn in_hand(&self) -> u64 {
        (self.leases.len() as u64).saturating_sub(self.delayed)
    }

    /// Whether a taker waits for a message.
    pub(super) fn has_takers(&mut self) -> bool {
        self.takers.retain(|taker| !taker.done.is_closed());
        !self.takers.is_empty()
    }

    /// How many messages the waiting takers would take.
    fn wanted(&self) -> usize {
        let counts =
            self.takers.iter().filter(|taker| !taker.done.is_closed()).map(|taker| taker.count_max);
        counts.fold(0, usize::saturating_add)
    }

    /// Adds a taker.
    pub(super) fn ask(&mut self, taker: Taker) {
        self.was_asked = true;
        self.takers.push_back(taker);
    }

    /// How many more messages may be prefetched.
    fn room(&self) -> usize {
        let places = PREFETCH_MAX.saturating_sub(self.prefetched.len());
        match self.max_deliveries {
            // A crash would use up the only attempt of a message that was marked and not taken.
            1 => places.min(self.wanted().saturating_sub(self.prefetched.len())),
            // No taker has asked yet, and perhaps none ever will.
            _ if !self.was_asked => 0,
            _ => places,
        }
    }

    /// How many of the messages that are stored next may be marked as delivered: none while earlier
    /// messages wait in the file, or before a taker has asked.
    pub(super) fn prefetch(&self) -> Prefetch {
        if !self.redelivery.is_empty() || self.backlog > 0 {
            return Prefetch::default();
        }
        Prefetch {
            messages: self.room(),
            bytes: PREFETCH_BYTES_MAX.saturating_sub(self.prefetched_bytes),
            any_first: self.prefetched.is_empty(),
        }
    }

    /// The messages in the file to mark and read next: those that takers wait for, and more if
    /// there is room in memory. `None` if no taker waits.
    pub(super) fn next_wanted(&self) -> Option<Next> {
        if self.wanted() == 0 {
            return None;
        }
        // Prefetched messages may have to wait for an earlier message that is delivered again.
        Some(self.next(self.room().max(1)))
    }

    /// [`next_wanted`](Self::next_wanted) for future takers, if there is much room in memory.
    pub(super) fn next_to_mark(&self) -> Option<Next> {
        let is_any = self.backlog > 0 || !self.redelivery.is_empty();
        let room = self.room();
        let is_much = room >= ROOM_MIN && self.prefetched_bytes <= PREFETCH_BYTES_MAX / 2;
        (is_any && is_much && self.max_deliveries > 1).then(|| self.next(room))
    }

    fn next(&self, count: usize) -> Next {
        let bytes = PREFETCH_BYTES_MAX.saturating_sub(self.prefetched_bytes);
        let seqs = self.next_redeliveries(count, bytes);
        match seqs.is_empty() {
            true => Next::Backlog { after: self.handed_up_to, count, bytes },
            false => Next::Redelivery { seqs },
        }
    }

    /// Notes that a message was stored, after all others.
    pub(super) fn stored(&mut self, seq: i64, message: Message, deliveries: u32) {
        if deliveries > 0 {
            self.handed_up_to = seq;
            self.prefetched_bytes += message.body.len() as u64;
            self.prefetched.push_back(Stored { seq, message, deliveries });
        } else {
            self.backlog += 1;
        }
    }

    /// Gives prefetched messages to the takers, up to the first message that is to be delivered
    /// again: that one must be marked first.
    pub(super) fn give(&mut self, now: Instant) {
        let mut ready = match self.redelivery.first_key_value() {
            Some((again, _)) => self.prefetched.partition_point(|ready| ready.seq < *again),
            None => self.prefetched.len(),
        };
        while ready > 0
            && let Some(taker) = self.takers.pop_front()
        {
            if taker.done.is_closed() {
                continue;
            }
            let count = taker.count_max.min(ready);
            ready -= count;
            let expires_at = later(now, self.visibility_timeout);
            let mut taken = Vec::with_capacity(count);
            for Stored { seq, message, deliveries } in self.prefetched.drain(..count) {
                let lease = self.next_lease;
                self.next_lease += 1;
                let bytes = message.body.len() as u64;
                self.prefetched_bytes -= bytes;
                self.leases
                    .insert(lease, Lease { seq, bytes, deliveries, expires_at, is_delayed: false });
                self.expiries.insert((expires_at, lease));
                let redeliveries = deliveries.saturating_sub(1);
                let is_last_delivery = deliveries >= self.max_deliveries;
                taken.push(Taken { message, lease, redeliveries, is_last_delivery });
            }
            // A taker that has just gone drops the messages, which sends them back.
            let _gone = taker.done.send(Handed::new(taken, Arc::clone(&self.returns)));
        }
    }

    /// Tells all takers that no more messages come.
    pub(super) fn end_takers(&mut self) {
        for taker in self.takers.drain(..) {
            let _gone = taker.done.send(Handed::new(Vec::new(), Arc::clone(&self.returns)));
        }
    }

    /// The message that was delivered with this lease, if the lease is valid.
    pub(super) fn leased(&self, lease: u64) -> Option<Lease> {
        self.leases.get(&lease).copied()
    }

    /// Removes the lease of a message that was acknowledged.
    pub(super) fn ack(&mut self, lease: u64) -> Option<Lease> {
        let held = self.leases.remove(&lease)?;
        self.expiries.remove(&(held.expires_at, lease));
        Some(held)
    }

    /// The message that was delivered with this lease, if the lease has not expired.
    pub(super) fn live(&self, lease: u64, now: Instant) -> Option<Lease> {
        self.leased(lease).filter(|leased| leased.expires_at > now)
    }

    /// Notes that a message was given back: it is delivered again after `delay`. A dropped delivery
    /// has no delay: its message is delivered again after the time of the options, or when its
    /// lease would have ended, if that is sooner. After the last delivery there is no delay, since
    /// the message dies. `false` if the lease has expired.
    pub(super) fn nack(&mut self, lease: u64, delay: Option<Duration>, now: Instant) -> bool {
        let Some(leased) = self.live(lease, now) else { return false };
        self.ack(lease);
        let expires_at = match delay {
            _ if leased.deliveries >= self.max_deliveries => now,
            Some(delay) => later(now, delay),
            None => later(now, self.nack_delay).min(leased.expires_at),
        };
        // Under a new lease, which no delivery has: the old delivery can do nothing more with the
        // message.
        self.leases.insert(self.next_lease, Lease { expires_at, is_delayed: true, ..leased });
        self.expiries.insert((expires_at, self.next_lease));
        self.next_lease += 1;
        self.delayed += 1;
        true
    }

    /// Extends a lease to `time` from now. `false` if the lease has expired.
    pub(super) fn extend(&mut self, lease: u64, time: Duration, now: Instant) -> bool {
        if self.live(lease, now).is_none() {
            return false;
        }
        if let Some(leased) = self.leases.get_mut(&lease) {
            self.expiries.remove(&(leased.expires_at, lease));
            leased.expires_at = later(now, time);
            self.expiries.insert((leased.expires_at, lease));
        }
        true
    }

    /// Puts messages that never reached their taker back into their places.
    pub(super) fn give_back(&mut self, returned: Vec<Taken>) {
        for Taken { message, lease, redeliveries, .. } in returned {
            if let Some(Lease { seq, .. }) = self.ack(lease) {
                self.insert_prefetched(Stored { seq, message, deliveries: redeliveries + 1 });
            }
        }
    }

    /// Inserts a message at its place in the order.
    fn insert_prefetched(&mut self, stored: Stored) {
        let place = self.prefetched.partition_point(|ready| ready.seq < stored.seq);
        self.prefetched_bytes += stored.message.body.len() as u64;
        self.prefetched.insert(place, stored);
    }

    /// When the next lease or delay ends.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.expiries.first().map(|(at, _)| *at)
    }

    /// Ends the leases and delays that are over: their messages wait again, or die if it was their
    /// last delivery.
    pub(super) fn requeue_expired(&mut self, now: Instant) {
        while let Some((at, lease)) = self.expiries.first().copied().filter(|(at, _)| *at <= now) {
            self.expiries.remove(&(at, lease));
            let Some(leased) = self.leases.remove(&lease) else { continue };
            self.delayed -= u64::from(leased.is_delayed);
            if leased.deliveries >= self.max_deliveries {
                self.exhausted.push(leased.seq);
            } else {
                self.redelivery.insert(leased.seq, leased.bytes);
            }
        }
    }

    /// Notes that `count` messages of the backlog are dead.
    pub(super) fn never_comes(&mut self, count: u64) {
        self.backlog = self.backlog.saturating_sub(count);
    }

    /// The messages whose last delivery has failed.
    pub(super) fn exhausted(&self) -> &[i64] {
        &self.exhausted
    }

    /// Notes that those messages are marked as dead in the file.
    pub(super) fn exhausted_are_dead(&mut self) {
        self.exhausted.clear();
    }

    /// The next messages to deliver again, in order: no more than `count`, and no more than
    /// `bytes_max` bytes, except that the first may be longer.
    fn next_redeliveries(&self, count: usize, bytes_max: u64) -> Vec<i64> {
        let mut bytes = 0_u64;
        let fitting = self.redelivery.iter().enumerate().take_while(|(index, (_, length))| {
            bytes = bytes.saturating_add(**length);
            *index == 0 || bytes <= bytes_max
        });
        fitting.map(|(_, (seq, _))| *seq).take(count).collect()
    }

    /// Notes that these redeliveries were marked once more. `ready` are those that may still be
    /// delivered.
    pub(super) fn marked_redelivery(&mut self, seqs: &[i64], ready: impl Iterator<Item = Stored>) {
        for seq in seqs {
            self.redelivery.remove(seq);
        }
        ready.for_each(|stored| self.insert_prefetched(stored));
    }

    /// Notes that `count` messages up to `handed_up_to` were marked as delivered. `ready` are those
    /// that may still be delivered. A count of 0 means that the backlog is empty.
    pub(super) fn marked(
        &mut self,
        count: usize,
        handed_up_to: i64,
        ready: impl Iterator<Item = Stored>,
    ) {
        self.handed_up_to = handed_up_to;
        self.backlog = if count == 0 { 0 } else { self.backlog.saturating_sub(count as u64) };
        let bytes = &mut self.prefetched_bytes;
        self.prefetched.extend(ready.inspect(|stored| *bytes += stored.message.body.len() as u64));
    }

    /// Notes that a dead letter waits again; its body has `bytes` bytes.
    pub(super) fn requeue(&mut self, seq: i64, bytes: u64) {
        if seq > self.handed_up_to {
            self.backlog += 1;
        } else {
            self.redelivery.insert(seq, bytes);
        }
    }

    /// The messages that are marked as delivered and were not taken.
    pub(super) fn unused(&self) -> Vec<i64> {
        self.prefetched.iter().map(|stored| stored.seq).collect()
    }

    /// Notes that those messages are no longer marked, and wait to be delivered.
    pub(super) fn requeue_unused(&mut self) {
        let waiting =
            self.prefetched.drain(..).map(|stored| (stored.seq, stored.message.body.len() as u64));
        self.redelivery.extend(waiting);
        self.prefetched_bytes = 0;
    }
}

/// The time after `time`, or a far future if the clock cannot represent it.
fn later(now: Instant, time: Duration) -> Instant {
    const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);
    now.checked_add(time).unwrap_or_else(|| now + FAR)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::durable::commands::Command;
    use ipc_protocol::MessageId;
    use std::time::SystemTime;

    const VISIBLE_AFTER: Duration = Duration::from_secs(300);
    const DROPPED_AFTER: Duration = Duration::from_secs(10);

    fn queue() -> (Queue, Arc<Commands>) {
        let options =
            DurableOptions::default().visibility_timeout(VISIBLE_AFTER).nack_delay(DROPPED_AFTER);
        let commands = Arc::new(Commands::default());
        (Queue::new(0, &options, Arc::clone(&commands)), commands)
    }

    fn message() -> Message {
        Message {
            id: MessageId::from_random([1; 16]),
            user: "u".into(),
            certificate: None,
            peer: None,
            received_at: SystemTime::UNIX_EPOCH,
            body: "{}".into(),
            wants_reply: false,
        }
    }

    /// Asks for `count_max` messages and takes them.
    fn take(queue: &mut Queue, count_max: usize, now: Instant) -> Vec<Taken> {
        let (done, mut answer) = oneshot::channel();
        queue.ask(Taker { count_max, done });
        queue.give(now);
        answer.try_recv().map(Handed::accept).unwrap_or_default()
    }

    #[test]
    fn a_lease_whose_time_is_over_is_good_for_nothing() {
        let (mut queue, _commands) = queue();
        let start = Instant::now();
        queue.stored(1, message(), 1);
        let first = take(&mut queue, 1, start).remove(0);
        queue.requeue_expired(start + VISIBLE_AFTER);
        assert_eq!(queue.next_redeliveries(9, 99), [1]);
        queue.marked_redelivery(
            &[1],
            std::iter::once(Stored { seq: 1, message: message(), deliveries: 2 }),
        );
        let second = take(&mut queue, 1, start + VISIBLE_AFTER).remove(0);

        // The first delivery has expired, and tries everything.
        assert_eq!(queue.ack(first.lease), None);
        assert!(!queue.nack(first.lease, None, start + VISIBLE_AFTER));
        assert!(!queue.extend(first.lease, VISIBLE_AFTER, start + VISIBLE_AFTER));
        queue.give_back(vec![first]);
        assert!(!queue.has_waiting(), "a late return would hand it out twice at once");
        let held = queue.ack(second.lease).unwrap();
        assert_eq!((held.seq, held.bytes), (1, 2));
    }

    #[test]
    fn what_had_its_last_try_in_vain_does_not_come_again() {
        for is_dropped in [true, false] {
            let (mut queue, _commands) = queue();
            queue.max_deliveries = 2;
            let start = Instant::now();
            for (seq, deliveries) in [(1, 1), (2, 2)] {
                queue.stored(seq, message(), deliveries);
            }
            let taken = take(&mut queue, 2, start);
            assert_eq!(
                taken.iter().map(|taken| taken.is_last_delivery).collect::<Vec<_>>(),
                [false, true]
            );
            let over = if is_dropped {
                assert!(taken.iter().all(|taken| queue.nack(taken.lease, None, start)));
                // The lease of the last delivery ends at once; the other one does not.
                assert_eq!(queue.next_expiry(), Some(start));
                start
            } else {
                start + VISIBLE_AFTER
            };
            queue.requeue_expired(over);
            assert_eq!(queue.exhausted(), [2]);
            assert_eq!(queue.ack(taken[1].lease), None, "too late");
            queue.requeue_expired(start + VISIBLE_AFTER);
            assert_eq!(queue.next_redeliveries(9, 99), [1]);
            queue.exhausted_are_dead();
            assert_eq!(queue.waiting(), 1);
        }
    }

    #[test]
    fn what_was_dealt_with_leaves_nothing_behind() {
        let (mut queue, _commands) = queue();
        for seq in 1..=100 {
            queue.stored(seq, message(), 1);
        }
        let now = Instant::now();
        for (index, taken) in take(&mut queue, 100, now).into_iter().enumerate() {
            if index % 2 == 0 {
                assert!(queue.ack(taken.lease).is_some());
            } else {
                assert!(queue.nack(taken.lease, Some(Duration::ZERO), now));
                assert!(queue.ack(taken.lease).is_none(), "it is nobody's any more");
            }
        }
        assert_eq!((queue.delayed, queue.waiting()), (50, 50));
        queue.requeue_expired(now);
        assert_eq!((queue.delayed, queue.waiting()), (0, 50));
        assert!(
            queue.expiries.is_empty() && queue.leases.is_empty() && queue.next_expiry().is_none()
        );
    }

    #[test]
    fn what_did_not_reach_its_taker_goes_back_to_its_place() {
        let (mut queue, commands) = queue();
        for seq in 1..=3 {
            queue.stored(seq, message(), 1);
        }
        let (done, answer) = oneshot::channel();
        queue.ask(Taker { count_max: 2, done });
        queue.give(Instant::now());
        drop(answer);
        let Some(Command::Return(returned)) = commands.next() else {
            panic!("nothing was sent back")
        };
        queue.give_back(returned);
        assert_eq!(queue.unused(), [1, 2, 3]);
        assert!(queue.leases.is_empty() && queue.expiries.is_empty());
    }

    #[test]
    fn a_time_that_no_clock_counts_is_far_away() {
        let (mut queue, _commands) = queue();
        (queue.visibility_timeout, queue.nack_delay) = (Duration::MAX, Duration::MAX);
        queue.stored(1, message(), 1);
        let now = Instant::now();
        let taken = take(&mut queue, 1, now).remove(0);
        assert!(queue.extend(taken.lease, Duration::MAX, now));
        assert!(queue.nack(taken.lease, Some(Duration::MAX), now));
        assert!(queue.next_expiry().unwrap() > now + Duration::from_secs(24 * 60 * 60));
    }

    #[test]
    fn what_is_let_go_comes_again_soon_and_no_later_than_it_would_have() {
        let (mut queue, _commands) = queue();
        let start = Instant::now();
        queue.stored(1, message(), 1);
        let taken = take(&mut queue, 1, start).remove(0);
        assert!(queue.nack(taken.lease, None, start));
        assert_eq!(queue.next_expiry(), Some(start + DROPPED_AFTER));
        assert!(!queue.nack(taken.lease, None, start + DROPPED_AFTER / 2), "once");
        assert_eq!(queue.next_expiry(), Some(start + DROPPED_AFTER));

        queue.stored(2, message(), 1);
        let taken = take(&mut queue, 1, start).remove(0);
        let end = start + VISIBLE_AFTER;
        assert!(queue.nack(taken.lease, None, end - DROPPED_AFTER / 2));
        queue.requeue_expired(end);
        assert_eq!(queue.waiting(), 2, "no later than it would have");
    }

    #[test]
    fn what_is_put_back_comes_again_after_the_delay_it_was_given() {
        let (mut queue, _commands) = queue();
        let start = Instant::now();
        queue.stored(1, message(), 1);
        let taken = take(&mut queue, 1, start).remove(0);
        let delay = VISIBLE_AFTER * 2;
        assert!(queue.nack(taken.lease, Some(delay), start));
        queue.requeue_expired(start + delay - Duration::from_secs(1));
        assert_eq!((queue.next_redeliveries(9, 99), queue.waiting()), (vec![], 1));
        queue.requeue_expired(start + delay);
        assert_eq!((queue.next_redeliveries(9, 99), queue.waiting()), (vec![1], 1));
    }

    #[test]
    fn a_lease_that_is_extended_lasts_from_then_on_and_may_be_cut_short() {
        let (mut queue, _commands) = queue();
        let start = Instant::now();
        queue.stored(1, message(), 1);
        let taken = take(&mut queue, 1, start).remove(0);
        let middle = start + VISIBLE_AFTER / 2;
        assert!(queue.extend(taken.lease, VISIBLE_AFTER, middle));
        queue.requeue_expired(start + VISIBLE_AFTER);
        assert!(queue.live(taken.lease, start + VISIBLE_AFTER).is_some());
        assert!(queue.extend(taken.lease, Duration::from_secs(1), middle));
        assert_eq!(queue.next_expiry(), Some(middle + Duration::from_secs(1)));
        assert!(queue.live(taken.lease, middle + Duration::from_secs(1)).is_none());
        assert!(!queue.extend(taken.lease, VISIBLE_AFTER, middle + Duration::from_secs(1)));
        assert_eq!((queue.leases.len(), queue.expiries.len()), (1, 1));
    }

    #[test]
    fn a_message_put_back_waits_wherever_it_is() {
        let (mut queue, _commands) = queue();
        queue.marked(1, 5, std::iter::empty());
        queue.requeue(3, 50);
        assert_eq!(queue.next_redeliveries(9, 99), [3]);
        queue.requeue(8, 50);
        assert_eq!(queue.backlog, 1);
    }

    #[test]
    fn what_comes_again_comes_in_parts_that_fit_into_memory() {
        let (mut queue, _commands) = queue();
        queue.marked(1, 9, std::iter::empty());
        for (seq, bytes) in [(1, 60), (2, 30), (3, 20), (4, 1000)] {
            queue.requeue(seq, bytes);
        }
        assert_eq!(queue.next_redeliveries(9, 100), [1, 2]);
        assert_eq!(queue.next_redeliveries(1, 100), [1]);
        assert_eq!(queue.next_redeliveries(9, 10), [1], "one always, however long");
    }

    #[test]
    fn what_is_stored_is_ready_at_once_for_who_reads_and_only_then() {
        let (mut queue, _commands) = queue();
        assert_eq!(queue.prefetch().messages, 0, "nobody has asked");
        assert!(take(&mut queue, 200, Instant::now()).is_empty());
        assert_eq!((queue.prefetch().messages, queue.prefetch().any_first), (PREFETCH_MAX, true));
        queue.stored(1, message(), 1);
        assert_eq!(
            (queue.prefetch().messages, queue.prefetch().any_first),
            (PREFETCH_MAX - 1, false)
        );
        assert_eq!(queue.prefetch().bytes, PREFETCH_BYTES_MAX - 2);
        queue.stored(2, message(), 0);
        assert_eq!(queue.prefetch().messages, 0, "one waits in the file before the next");
    }

    #[test]
    fn what_is_ready_is_counted_in_bytes_wherever_it_comes_from_and_goes() {
        let (mut queue, _commands) = queue();
        let stored = |seq| Stored { seq, message: message(), deliveries: 1 };
        queue.stored(1, message(), 1);
        queue.marked(2, 3, [2, 3].into_iter().map(stored));
        queue.requeue(0, 2);
        queue.marked_redelivery(&[0], std::iter::once(stored(0)));
        assert_eq!(queue.prefetched_bytes, 8);
        let taken = take(&mut queue, 3, Instant::now());
        assert_eq!(queue.prefetched_bytes, 2);
        queue.give_back(taken);
        assert_eq!(queue.prefetched_bytes, 8);
        queue.requeue_unused();
        assert_eq!(queue.prefetched_bytes, 0);
    }

    #[test]
    fn messages_are_read_ahead_for_who_reads_once_there_is_much_room() {
        let (mut queue, _commands) = queue();
        queue.stored(1, message(), 0);
        assert_eq!((queue.next_to_mark(), queue.next_wanted()), (None, None), "nobody has asked");
        let (done, _answer) = oneshot::channel();
        queue.ask(Taker { count_max: 1, done });
        let all = Next::Backlog { after: 0, count: PREFETCH_MAX, bytes: PREFETCH_BYTES_MAX };
        assert_eq!((queue.next_to_mark(), queue.next_wanted()), (Some(all), queue.next_to_mark()));
        queue.marked(1, 1, std::iter::once(Stored { seq: 1, message: message(), deliveries: 1 }));
        assert_eq!(queue.next_to_mark(), None, "there is none");
        for seq in 2..=5000 {
            queue.stored(seq, message(), u32::from(seq <= 2000));
        }
        assert_eq!(queue.next_to_mark(), None, "there is little room");
        let taken = take(&mut queue, 1000, Instant::now());
        assert_eq!(taken.len(), 1000, "behind the one who had asked for one");
        let next = Next::Backlog {
            after: 2000,
            count: PREFETCH_MAX - 999,
            bytes: PREFETCH_BYTES_MAX - 2 * 999,
        };
        assert_eq!(queue.next_to_mark(), Some(next));
        queue.max_deliveries = 1;
        assert_eq!(queue.next_to_mark(), None, "a crash would be the end of them");
    }

    #[test]
    fn what_comes_again_goes_before_what_is_ready_and_was_accepted_after_it() {
        let (mut queue, _commands) = queue();
        for seq in [1, 2, 4] {
            queue.stored(seq, message(), 1);
        }
        queue.requeue(3, 2);
        let taken = |taken: Vec<Taken>| taken.len();
        assert_eq!(taken(take(&mut queue, 9, Instant::now())), 2);
        assert_eq!(
            taken(take(&mut queue, 9, Instant::now())),
            0,
            "the third is to be marked first"
        );
        assert!(queue.has_waiting());
        queue.marked_redelivery(
            &[3],
            std::iter::once(Stored { seq: 3, message: message(), deliveries: 1 }),
        );
        let ready: Vec<_> = queue.prefetched.iter().map(|ready| ready.seq).collect();
        assert_eq!(ready, [3, 4]);
    }

    #[test]
    fn nothing_is_marked_ahead_that_a_crash_would_end() {
        let (mut queue, _commands) = queue();
        queue.max_deliveries = 1;
        let (done, _answer) = oneshot::channel();
        queue.ask(Taker { count_max: 3, done });
        assert_eq!((queue.prefetch().messages, queue.next_to_mark()), (3, None));
        queue.end_takers();
        assert_eq!((queue.prefetch().messages, queue.next_wanted()), (0, None));
    }
}

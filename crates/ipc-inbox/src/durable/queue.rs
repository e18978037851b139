//! Which messages wait, which somebody has, and who waits for one. Numbers and times only: what is
//! stored, the writer knows.
//!
//! A message is known by its number in the file, a handing out by its lease. A lease is used
//! once: whoever had a message and let its time pass can neither acknowledge it nor give it back
//! any more, though it is in other hands by then.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use foldhash::quality::RandomState;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::admission::Prefetch;
use super::commands::{Commands, Handed};
use super::options::DurableOptions;
use super::statements::Stored;
use crate::backend::Taken;
use crate::message::Message;

/// Messages that are ready in memory, marked in the file as handed out, ahead of whoever will take
/// them: so many at most, and no more bytes of bodies but for a single one that has more. After a
/// crash each of them comes alone, in a commit of its own. Whoever reads at a time as fast as
/// messages come gets all of them from here, and none has to be read from the file; whoever reads
/// more slowly gets the rest from there, as many at a time.
const PREFETCH_MAX: usize = 2048;
const PREFETCH_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// Further messages are read once there is room for so many: not a few at a time.
const ROOM_MIN: usize = PREFETCH_MAX / 2;

/// Somebody who waits for messages.
pub(super) struct Taker {
    pub(super) count_max: usize,
    pub(super) done: oneshot::Sender<Handed>,
}

/// A message that somebody has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lease {
    pub(super) seq: i64,
    /// Of its body.
    pub(super) bytes: u64,
    /// How often it has been handed out, this time included.
    deliveries: u32,
    /// When it comes again.
    expires_at: Instant,
    /// Nobody has it: it was put back, and waits for its delay to end.
    is_delayed: bool,
}

/// Messages in the file that are to be marked as handed out next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Those of these numbers, in order, which were handed out before.
    Redelivery { seqs: Vec<i64> },
    /// Those behind a number; no more than `count`, and no more bytes of bodies, but for a first
    /// one that has more.
    Backlog { after: i64, count: usize, bytes: u64 },
}

pub(super) struct Queue {
    visibility_timeout: Duration,
    nack_delay: Duration,
    max_deliveries: u32,
    returns: Arc<Commands>,
    /// All up to this one have been handed out, or are in `redelivery` or in `prefetched`, or are
    /// dead.
    handed_up_to: i64,
    /// How many wait behind it.
    backlog: u64,
    /// Those before it that are to be handed out again, with the bytes of their bodies.
    redelivery: BTreeMap<i64, u64>,
    /// Marked in the file as handed out, and not yet taken; in order.
    prefetched: VecDeque<Stored>,
    /// Bytes of their bodies.
    prefetched_bytes: u64,
    /// Handed out for the last time, in vain: they are to be marked as dead.
    exhausted: Vec<i64>,
    /// Handed out, and not yet acknowledged, by their leases.
    leases: HashMap<u64, Lease, RandomState>,
    /// When those come again, soonest first.
    expiries: BTreeSet<(Instant, u64)>,
    next_lease: u64,
    /// How many of the leases are of messages that were put back.
    delayed: u64,
    takers: VecDeque<Taker>,
    /// Somebody has asked for messages.
    was_asked: bool,
}

impl Queue {
    /// One before which nothing was handed out, with so many messages waiting in the file.
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

    /// Whether a message waits to be handed out.
    pub(super) fn has_waiting(&self) -> bool {
        !self.prefetched.is_empty() || !self.redelivery.is_empty() || self.backlog > 0
    }

    /// How many messages wait to be handed out, those whose delay is not over included.
    pub(super) fn waiting(&self) -> u64 {
        let in_memory = (self.redelivery.len() + self.prefetched.len()) as u64;
        self.backlog.saturating_add(in_memory + self.delayed)
    }

    /// Whether somebody waits for a message.
    pub(super) fn has_takers(&mut self) -> bool {
        self.takers.retain(|taker| !taker.done.is_closed());
        !self.takers.is_empty()
    }

    /// How many messages those who wait would take.
    fn wanted(&self) -> usize {
        let counts =
            self.takers.iter().filter(|taker| !taker.done.is_closed()).map(|taker| taker.count_max);
        counts.fold(0, usize::saturating_add)
    }

    /// Somebody waits for messages.
    pub(super) fn ask(&mut self, taker: Taker) {
        self.was_asked = true;
        self.takers.push_back(taker);
    }

    /// For how many more messages there is room in memory.
    fn room(&self) -> usize {
        let places = PREFETCH_MAX.saturating_sub(self.prefetched.len());
        match self.max_deliveries {
            // A crash would be the end of one that was marked and not handed out.
            1 => places.min(self.wanted().saturating_sub(self.prefetched.len())),
            // Nobody has asked yet, and may never.
            _ if !self.was_asked => 0,
            _ => places,
        }
    }

    /// How many of the messages that are stored next may be marked as handed out: none while others
    /// wait in the file before them, or before anybody has asked for one.
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

    /// The messages in the file that are to be marked and read next: those that somebody waits for,
    /// and more, as far as there is room in memory. `None` if nobody waits for any.
    pub(super) fn next_wanted(&self) -> Option<Next> {
        if self.wanted() == 0 {
            return None;
        }
        // What is ready may have to wait for one that comes again before it.
        Some(self.next(self.room().max(1)))
    }

    /// [`next_wanted`](Self::next_wanted) for whoever will ask, if there is much room in memory.
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

    /// A message was stored, behind all others.
    pub(super) fn stored(&mut self, seq: i64, message: Message, deliveries: u32) {
        if deliveries > 0 {
            self.handed_up_to = seq;
            self.prefetched_bytes += message.body.len() as u64;
            self.prefetched.push_back(Stored { seq, message, deliveries });
        } else {
            self.backlog += 1;
        }
    }

    /// Gives what is ready to whoever waits, up to the first that comes again, which is to be
    /// marked before.
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
            // Whoever has gone in this moment drops it, which sends it back.
            let _gone = taker.done.send(Handed::new(taken, Arc::clone(&self.returns)));
        }
    }

    /// Tells all who wait that nothing comes any more.
    pub(super) fn end_takers(&mut self) {
        for taker in self.takers.drain(..) {
            let _gone = taker.done.send(Handed::new(Vec::new(), Arc::clone(&self.returns)));
        }
    }

    /// What was handed out with this lease, if it is still good.
    pub(super) fn leased(&self, lease: u64) -> Option<Lease> {
        self.leases.get(&lease).copied()
    }

    /// A message has been dealt with.
    pub(super) fn ack(&mut self, lease: u64) -> Option<Lease> {
        let held = self.leases.remove(&lease)?;
        self.expiries.remove(&(held.expires_at, lease));
        Some(held)
    }

    /// What was handed out with this lease, if its time is not over.
    pub(super) fn live(&self, lease: u64, now: Instant) -> Option<Lease> {
        self.leased(lease).filter(|leased| leased.expires_at > now)
    }

    /// A message was put back: it comes again after `delay`. One whose delivery was dropped, which
    /// has none, comes again after the time of the options, and no later than it would have. What
    /// does not come again has no time to wait for. `false` if the lease is over.
    pub(super) fn nack(&mut self, lease: u64, delay: Option<Duration>, now: Instant) -> bool {
        let Some(leased) = self.live(lease, now) else { return false };
        self.ack(lease);
        let expires_at = match delay {
            _ if leased.deliveries >= self.max_deliveries => now,
            Some(delay) => later(now, delay),
            None => later(now, self.nack_delay).min(leased.expires_at),
        };
        // Under a lease that nobody has: whoever had the message can do nothing more with it.
        self.leases.insert(self.next_lease, Lease { expires_at, is_delayed: true, ..leased });
        self.expiries.insert((expires_at, self.next_lease));
        self.next_lease += 1;
        self.delayed += 1;
        true
    }

    /// A message comes again only after `time` from now. `false` if the lease is over.
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

    /// Messages never reached whoever asked for them: back to their places in the order.
    pub(super) fn give_back(&mut self, returned: Vec<Taken>) {
        for Taken { message, lease, redeliveries, .. } in returned {
            if let Some(Lease { seq, .. }) = self.ack(lease) {
                self.insert_prefetched(Stored { seq, message, deliveries: redeliveries + 1 });
            }
        }
    }

    /// A message goes to its place in the order.
    fn insert_prefetched(&mut self, stored: Stored) {
        let place = self.prefetched.partition_point(|ready| ready.seq < stored.seq);
        self.prefetched_bytes += stored.message.body.len() as u64;
        self.prefetched.insert(place, stored);
    }

    /// When the next message comes again.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.expiries.first().map(|(at, _)| *at)
    }

    /// Lets messages whose time to be acknowledged is over wait again, but for those that had their
    /// last try.
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

    /// So many of those that wait behind are dead.
    pub(super) fn never_comes(&mut self, count: u64) {
        self.backlog = self.backlog.saturating_sub(count);
    }

    /// Those that had their last try in vain.
    pub(super) fn exhausted(&self) -> &[i64] {
        &self.exhausted
    }

    /// They are marked as dead in the file.
    pub(super) fn exhausted_are_dead(&mut self) {
        self.exhausted.clear();
    }

    /// The next that come again, in order, no more than `count`, and no more bytes, but for a first
    /// one that has more.
    fn next_redeliveries(&self, count: usize, bytes_max: u64) -> Vec<i64> {
        let mut bytes = 0_u64;
        let fitting = self.redelivery.iter().enumerate().take_while(|(index, (_, length))| {
            bytes = bytes.saturating_add(**length);
            *index == 0 || bytes <= bytes_max
        });
        fitting.map(|(_, (seq, _))| *seq).take(count).collect()
    }

    /// Messages that came again were marked as handed out once more; `prefetched` are those of them
    /// that may be.
    pub(super) fn marked_redelivery(&mut self, seqs: &[i64], ready: impl Iterator<Item = Stored>) {
        for seq in seqs {
            self.redelivery.remove(seq);
        }
        ready.for_each(|stored| self.insert_prefetched(stored));
    }

    /// All up to `handed_up_to`, which are `count`, were marked as handed out; `prefetched` are
    /// those of them that may be. None at all means that nothing is behind.
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

    /// A dead message, whose body has so many bytes, waits again.
    pub(super) fn requeue(&mut self, seq: i64, bytes: u64) {
        if seq > self.handed_up_to {
            self.backlog += 1;
        } else {
            self.redelivery.insert(seq, bytes);
        }
    }

    /// Those that are marked as handed out and were not taken.
    pub(super) fn unused(&self) -> Vec<i64> {
        self.prefetched.iter().map(|stored| stored.seq).collect()
    }

    /// They are marked no more, and wait to be handed out again.
    pub(super) fn requeue_unused(&mut self) {
        let waiting =
            self.prefetched.drain(..).map(|stored| (stored.seq, stored.message.body.len() as u64));
        self.redelivery.extend(waiting);
        self.prefetched_bytes = 0;
    }
}

/// When so much time has gone by; far away where it is more than the clock can count.
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
            received_at: SystemTime::UNIX_EPOCH,
            body: "{}".into(),
            wants_reply: false,
        }
    }

    /// Asks for so many and is given them.
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

        // The first holder wakes up.
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
                // Its time is over at once; the other one's is not.
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

//! Which messages wait, which somebody has, and who waits for one. Numbers and times only: what is
//! stored, the writer knows.
//!
//! A message is known by its number in the file, a handing out by its ticket. A ticket is used
//! once: whoever had a message and let its time pass can neither acknowledge it nor give it back
//! any more, though it is in other hands by then.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use foldhash::quality::RandomState;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::admission::Ahead;
use super::commands::{Commands, Handed};
use super::options::DurableOptions;
use super::statements::Stored;
use crate::backend::{Message, Taken};

/// Messages that are ready in memory, marked in the file as handed out, ahead of whoever will take
/// them: so many at most, and no more bytes of bodies but for a single one that has more. After a
/// crash each of them comes alone, in a commit of its own. Whoever reads at a time as fast as
/// messages come gets all of them from here, and none has to be read from the file; whoever reads
/// more slowly gets the rest from there, as many at a time.
const AHEAD_MAX: usize = 2048;
const AHEAD_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// Further messages are read once there is room for so many: not a few at a time.
const ROOM_MIN: usize = AHEAD_MAX / 2;

/// Somebody who waits for messages.
pub(super) struct Taker {
    pub(super) count_max: usize,
    pub(super) done: oneshot::Sender<Handed>,
}

/// A message that somebody has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) seq: i64,
    /// Of its body.
    pub(super) bytes: u64,
    /// How often it has been handed out, this time included.
    deliveries: u32,
    /// When it comes again.
    due_at: Instant,
}

/// Messages in the file that are to be marked as handed out next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Those of these numbers, in order, which were handed out before.
    Again { seqs: Vec<i64> },
    /// Those behind a number; no more than `count`, and no more bytes of bodies, but for a first
    /// one that has more.
    FirstTime { after: i64, count: usize, bytes: u64 },
}

pub(super) struct Queue {
    visibility_timeout: Duration,
    dropped_again_after: Duration,
    tries_max: u32,
    returns: Arc<Commands>,
    /// All up to this one have been handed out, or are in `again` or in `ready`, or are dead.
    handed_up_to: i64,
    /// How many wait behind it.
    behind: u64,
    /// Those before it that are to be handed out again, with the bytes of their bodies.
    again: BTreeMap<i64, u64>,
    /// Marked in the file as handed out, and not yet taken; in order.
    ready: VecDeque<Stored>,
    /// Bytes of their bodies.
    ready_bytes: u64,
    /// Handed out for the last time, in vain: they are to be marked as dead.
    spent: Vec<i64>,
    /// Handed out, and not yet acknowledged, by their tickets.
    handed: HashMap<u64, Held, RandomState>,
    /// When those come again, soonest first.
    due: BTreeSet<(Instant, u64)>,
    next_ticket: u64,
    takers: VecDeque<Taker>,
    /// Somebody has asked for messages.
    was_asked: bool,
}

impl Queue {
    /// One before which nothing was handed out, with so many messages waiting in the file.
    pub(super) fn new(waiting: u64, options: &DurableOptions, returns: Arc<Commands>) -> Self {
        Queue {
            visibility_timeout: options.visibility_timeout,
            dropped_again_after: options.dropped_again_after,
            tries_max: options.tries_max,
            returns,
            handed_up_to: 0,
            behind: waiting,
            again: BTreeMap::new(),
            ready: VecDeque::new(),
            ready_bytes: 0,
            spent: Vec::new(),
            handed: HashMap::default(),
            due: BTreeSet::new(),
            next_ticket: 1,
            takers: VecDeque::new(),
            was_asked: false,
        }
    }

    /// Whether a message waits to be handed out.
    pub(super) fn has_waiting(&self) -> bool {
        !self.ready.is_empty() || !self.again.is_empty() || self.behind > 0
    }

    /// How many messages wait to be handed out.
    pub(super) fn waiting(&self) -> u64 {
        self.behind.saturating_add((self.again.len() + self.ready.len()) as u64)
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
        let places = AHEAD_MAX.saturating_sub(self.ready.len());
        match self.tries_max {
            // A crash would be the end of one that was marked and not handed out.
            1 => places.min(self.wanted().saturating_sub(self.ready.len())),
            // Nobody has asked yet, and may never.
            _ if !self.was_asked => 0,
            _ => places,
        }
    }

    /// How many of the messages that are stored next may be marked as handed out: none while others
    /// wait in the file before them, or before anybody has asked for one.
    pub(super) fn ahead(&self) -> Ahead {
        if !self.again.is_empty() || self.behind > 0 {
            return Ahead::default();
        }
        Ahead {
            messages: self.room(),
            bytes: AHEAD_BYTES_MAX.saturating_sub(self.ready_bytes),
            any_first: self.ready.is_empty(),
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
        let is_any = self.behind > 0 || !self.again.is_empty();
        let room = self.room();
        let is_much = room >= ROOM_MIN && self.ready_bytes <= AHEAD_BYTES_MAX / 2;
        (is_any && is_much && self.tries_max > 1).then(|| self.next(room))
    }

    fn next(&self, count: usize) -> Next {
        let bytes = AHEAD_BYTES_MAX.saturating_sub(self.ready_bytes);
        let seqs = self.again(count, bytes);
        match seqs.is_empty() {
            true => Next::FirstTime { after: self.handed_up_to, count, bytes },
            false => Next::Again { seqs },
        }
    }

    /// A message was stored, behind all others.
    pub(super) fn stored(&mut self, seq: i64, message: Message, deliveries: u32) {
        if deliveries > 0 {
            self.handed_up_to = seq;
            self.ready_bytes += message.body.len() as u64;
            self.ready.push_back(Stored { seq, message, deliveries });
        } else {
            self.behind += 1;
        }
    }

    /// Gives what is ready to whoever waits, up to the first that comes again, which is to be
    /// marked before.
    pub(super) fn give(&mut self, now: Instant) {
        let mut ready = match self.again.first_key_value() {
            Some((again, _)) => self.ready.partition_point(|ready| ready.seq < *again),
            None => self.ready.len(),
        };
        while ready > 0
            && let Some(taker) = self.takers.pop_front()
        {
            if taker.done.is_closed() {
                continue;
            }
            let count = taker.count_max.min(ready);
            ready -= count;
            let due_at = later(now, self.visibility_timeout);
            let mut taken = Vec::with_capacity(count);
            for Stored { seq, message, deliveries } in self.ready.drain(..count) {
                let ticket = self.next_ticket;
                self.next_ticket += 1;
                let bytes = message.body.len() as u64;
                self.ready_bytes -= bytes;
                self.handed.insert(ticket, Held { seq, bytes, deliveries, due_at });
                self.due.insert((due_at, ticket));
                let redeliveries = deliveries.saturating_sub(1);
                let is_last_try = deliveries >= self.tries_max;
                taken.push(Taken { message, ticket, redeliveries, is_last_try });
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

    /// What was handed out with this ticket, if it is still good.
    pub(super) fn held(&self, ticket: u64) -> Option<Held> {
        self.handed.get(&ticket).copied()
    }

    /// A message has been dealt with.
    pub(super) fn settle(&mut self, ticket: u64) -> Option<Held> {
        let held = self.handed.remove(&ticket)?;
        self.due.remove(&(held.due_at, ticket));
        Some(held)
    }

    /// A message was let go unacknowledged: it comes again, but not at once. What does not come
    /// again has no time to wait for.
    pub(super) fn let_go(&mut self, ticket: u64, now: Instant) {
        let is_last = self.held(ticket).is_some_and(|held| held.deliveries >= self.tries_max);
        let soon = if is_last { now } else { later(now, self.dropped_again_after) };
        if let Some(held) = self.handed.get_mut(&ticket).filter(|held| held.due_at > soon) {
            self.due.remove(&(held.due_at, ticket));
            held.due_at = soon;
            self.due.insert((soon, ticket));
        }
    }

    /// Messages never reached whoever asked for them: back to their places in the order.
    pub(super) fn give_back(&mut self, returned: Vec<Taken>) {
        for Taken { message, ticket, redeliveries, .. } in returned {
            if let Some(Held { seq, .. }) = self.settle(ticket) {
                self.is_ready(Stored { seq, message, deliveries: redeliveries + 1 });
            }
        }
    }

    /// A message goes to its place in the order.
    fn is_ready(&mut self, stored: Stored) {
        let place = self.ready.partition_point(|ready| ready.seq < stored.seq);
        self.ready_bytes += stored.message.body.len() as u64;
        self.ready.insert(place, stored);
    }

    /// When the next message comes again.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Lets messages whose time to be acknowledged is over wait again, but for those that had their
    /// last try.
    pub(super) fn let_due_come_again(&mut self, now: Instant) {
        while let Some((at, ticket)) = self.due.first().copied().filter(|(at, _)| *at <= now) {
            self.due.remove(&(at, ticket));
            match self.handed.remove(&ticket) {
                Some(held) if held.deliveries >= self.tries_max => self.spent.push(held.seq),
                Some(held) => drop(self.again.insert(held.seq, held.bytes)),
                None => (),
            }
        }
    }

    /// So many of those that wait behind are dead.
    pub(super) fn never_comes(&mut self, count: u64) {
        self.behind = self.behind.saturating_sub(count);
    }

    /// Those that had their last try in vain.
    pub(super) fn spent(&self) -> &[i64] {
        &self.spent
    }

    /// They are marked as dead in the file.
    pub(super) fn spent_are_dead(&mut self) {
        self.spent.clear();
    }

    /// The next that come again, in order, no more than `count`, and no more bytes, but for a first
    /// one that has more.
    fn again(&self, count: usize, bytes_max: u64) -> Vec<i64> {
        let mut bytes = 0_u64;
        let fitting = self.again.iter().enumerate().take_while(|(index, (_, length))| {
            bytes = bytes.saturating_add(**length);
            *index == 0 || bytes <= bytes_max
        });
        fitting.map(|(_, (seq, _))| *seq).take(count).collect()
    }

    /// Messages that came again were marked as handed out once more; `ready` are those of them that
    /// may be.
    pub(super) fn marked_again(&mut self, seqs: &[i64], ready: impl Iterator<Item = Stored>) {
        for seq in seqs {
            self.again.remove(seq);
        }
        ready.for_each(|stored| self.is_ready(stored));
    }

    /// All up to `handed_up_to`, which are `count`, were marked as handed out; `ready` are those of
    /// them that may be. None at all means that nothing is behind.
    pub(super) fn marked(
        &mut self,
        count: usize,
        handed_up_to: i64,
        ready: impl Iterator<Item = Stored>,
    ) {
        self.handed_up_to = handed_up_to;
        self.behind = if count == 0 { 0 } else { self.behind.saturating_sub(count as u64) };
        let bytes = &mut self.ready_bytes;
        self.ready.extend(ready.inspect(|stored| *bytes += stored.message.body.len() as u64));
    }

    /// A dead message, whose body has so many bytes, waits again.
    pub(super) fn revive(&mut self, seq: i64, bytes: u64) {
        if seq > self.handed_up_to {
            self.behind += 1;
        } else {
            self.again.insert(seq, bytes);
        }
    }

    /// Those that are marked as handed out and were not taken.
    pub(super) fn unused(&self) -> Vec<i64> {
        self.ready.iter().map(|stored| stored.seq).collect()
    }

    /// They are marked no more, and wait to be handed out again.
    pub(super) fn unused_waits_again(&mut self) {
        let waiting =
            self.ready.drain(..).map(|stored| (stored.seq, stored.message.body.len() as u64));
        self.again.extend(waiting);
        self.ready_bytes = 0;
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
        let options = DurableOptions::default()
            .visibility_timeout(VISIBLE_AFTER)
            .dropped_again_after(DROPPED_AFTER);
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
    fn a_ticket_whose_time_is_over_is_good_for_nothing() {
        let (mut queue, _commands) = queue();
        let start = Instant::now();
        queue.stored(1, message(), 1);
        let first = take(&mut queue, 1, start).remove(0);
        queue.let_due_come_again(start + VISIBLE_AFTER);
        assert_eq!(queue.again(9, 99), [1]);
        queue.marked_again(
            &[1],
            std::iter::once(Stored { seq: 1, message: message(), deliveries: 2 }),
        );
        let second = take(&mut queue, 1, start + VISIBLE_AFTER).remove(0);

        // The first holder wakes up.
        assert_eq!(queue.settle(first.ticket), None);
        queue.let_go(first.ticket, start);
        queue.give_back(vec![first]);
        assert!(!queue.has_waiting(), "a late return would hand it out twice at once");
        let held = queue.settle(second.ticket).unwrap();
        assert_eq!((held.seq, held.bytes), (1, 2));
    }

    #[test]
    fn what_had_its_last_try_in_vain_does_not_come_again() {
        for is_dropped in [true, false] {
            let (mut queue, _commands) = queue();
            queue.tries_max = 2;
            let start = Instant::now();
            for (seq, deliveries) in [(1, 1), (2, 2)] {
                queue.stored(seq, message(), deliveries);
            }
            let taken = take(&mut queue, 2, start);
            assert_eq!(
                taken.iter().map(|taken| taken.is_last_try).collect::<Vec<_>>(),
                [false, true]
            );
            let over = if is_dropped {
                taken.iter().for_each(|taken| queue.let_go(taken.ticket, start));
                // Its time is over at once; the other one's is not.
                assert_eq!(queue.next_due(), Some(start));
                start
            } else {
                start + VISIBLE_AFTER
            };
            queue.let_due_come_again(over);
            assert_eq!(queue.spent(), [2]);
            assert_eq!(queue.settle(taken[1].ticket), None, "too late");
            queue.let_due_come_again(start + VISIBLE_AFTER);
            assert_eq!(queue.again(9, 99), [1]);
            queue.spent_are_dead();
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
        for taken in take(&mut queue, 100, now) {
            queue.let_go(taken.ticket, now);
            assert!(queue.settle(taken.ticket).is_some());
        }
        assert!(queue.due.is_empty() && queue.handed.is_empty() && queue.next_due().is_none());
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
        assert!(queue.handed.is_empty() && queue.due.is_empty());
    }

    #[test]
    fn a_time_that_no_clock_counts_is_far_away() {
        let (mut queue, _commands) = queue();
        (queue.visibility_timeout, queue.dropped_again_after) = (Duration::MAX, Duration::MAX);
        queue.stored(1, message(), 1);
        let now = Instant::now();
        let taken = take(&mut queue, 1, now).remove(0);
        queue.let_go(taken.ticket, now);
        assert!(queue.next_due().unwrap() > now + Duration::from_secs(24 * 60 * 60));
    }

    #[test]
    fn what_is_let_go_comes_again_soon_and_no_later_than_it_would_have() {
        let (mut queue, _commands) = queue();
        let start = Instant::now();
        queue.stored(1, message(), 1);
        let taken = take(&mut queue, 1, start).remove(0);
        queue.let_go(taken.ticket, start);
        assert_eq!(queue.next_due(), Some(start + DROPPED_AFTER));
        queue.let_go(taken.ticket, start + DROPPED_AFTER / 2);
        assert_eq!(queue.next_due(), Some(start + DROPPED_AFTER));
    }

    #[test]
    fn a_message_put_back_waits_wherever_it_is() {
        let (mut queue, _commands) = queue();
        queue.marked(1, 5, std::iter::empty());
        queue.revive(3, 50);
        assert_eq!(queue.again(9, 99), [3]);
        queue.revive(8, 50);
        assert_eq!(queue.behind, 1);
    }

    #[test]
    fn what_comes_again_comes_in_parts_that_fit_into_memory() {
        let (mut queue, _commands) = queue();
        queue.marked(1, 9, std::iter::empty());
        for (seq, bytes) in [(1, 60), (2, 30), (3, 20), (4, 1000)] {
            queue.revive(seq, bytes);
        }
        assert_eq!(queue.again(9, 100), [1, 2]);
        assert_eq!(queue.again(1, 100), [1]);
        assert_eq!(queue.again(9, 10), [1], "one always, however long");
    }

    #[test]
    fn what_is_stored_is_ready_at_once_for_who_reads_and_only_then() {
        let (mut queue, _commands) = queue();
        assert_eq!(queue.ahead().messages, 0, "nobody has asked");
        assert!(take(&mut queue, 200, Instant::now()).is_empty());
        assert_eq!((queue.ahead().messages, queue.ahead().any_first), (AHEAD_MAX, true));
        queue.stored(1, message(), 1);
        assert_eq!((queue.ahead().messages, queue.ahead().any_first), (AHEAD_MAX - 1, false));
        assert_eq!(queue.ahead().bytes, AHEAD_BYTES_MAX - 2);
        queue.stored(2, message(), 0);
        assert_eq!(queue.ahead().messages, 0, "one waits in the file before the next");
    }

    #[test]
    fn what_is_ready_is_counted_in_bytes_wherever_it_comes_from_and_goes() {
        let (mut queue, _commands) = queue();
        let stored = |seq| Stored { seq, message: message(), deliveries: 1 };
        queue.stored(1, message(), 1);
        queue.marked(2, 3, [2, 3].into_iter().map(stored));
        queue.revive(0, 2);
        queue.marked_again(&[0], std::iter::once(stored(0)));
        assert_eq!(queue.ready_bytes, 8);
        let taken = take(&mut queue, 3, Instant::now());
        assert_eq!(queue.ready_bytes, 2);
        queue.give_back(taken);
        assert_eq!(queue.ready_bytes, 8);
        queue.unused_waits_again();
        assert_eq!(queue.ready_bytes, 0);
    }

    #[test]
    fn messages_are_read_ahead_for_who_reads_once_there_is_much_room() {
        let (mut queue, _commands) = queue();
        queue.stored(1, message(), 0);
        assert_eq!((queue.next_to_mark(), queue.next_wanted()), (None, None), "nobody has asked");
        let (done, _answer) = oneshot::channel();
        queue.ask(Taker { count_max: 1, done });
        let all = Next::FirstTime { after: 0, count: AHEAD_MAX, bytes: AHEAD_BYTES_MAX };
        assert_eq!((queue.next_to_mark(), queue.next_wanted()), (Some(all), queue.next_to_mark()));
        queue.marked(1, 1, std::iter::once(Stored { seq: 1, message: message(), deliveries: 1 }));
        assert_eq!(queue.next_to_mark(), None, "there is none");
        for seq in 2..=5000 {
            queue.stored(seq, message(), u32::from(seq <= 2000));
        }
        assert_eq!(queue.next_to_mark(), None, "there is little room");
        let taken = take(&mut queue, 1000, Instant::now());
        assert_eq!(taken.len(), 1000, "behind the one who had asked for one");
        let next = Next::FirstTime {
            after: 2000,
            count: AHEAD_MAX - 999,
            bytes: AHEAD_BYTES_MAX - 2 * 999,
        };
        assert_eq!(queue.next_to_mark(), Some(next));
        queue.tries_max = 1;
        assert_eq!(queue.next_to_mark(), None, "a crash would be the end of them");
    }

    #[test]
    fn what_comes_again_goes_before_what_is_ready_and_was_accepted_after_it() {
        let (mut queue, _commands) = queue();
        for seq in [1, 2, 4] {
            queue.stored(seq, message(), 1);
        }
        queue.revive(3, 2);
        let taken = |taken: Vec<Taken>| taken.len();
        assert_eq!(taken(take(&mut queue, 9, Instant::now())), 2);
        assert_eq!(
            taken(take(&mut queue, 9, Instant::now())),
            0,
            "the third is to be marked first"
        );
        assert!(queue.has_waiting());
        queue.marked_again(
            &[3],
            std::iter::once(Stored { seq: 3, message: message(), deliveries: 1 }),
        );
        let ready: Vec<_> = queue.ready.iter().map(|ready| ready.seq).collect();
        assert_eq!(ready, [3, 4]);
    }

    #[test]
    fn nothing_is_marked_ahead_that_a_crash_would_end() {
        let (mut queue, _commands) = queue();
        queue.tries_max = 1;
        let (done, _answer) = oneshot::channel();
        queue.ask(Taker { count_max: 3, done });
        assert_eq!((queue.ahead().messages, queue.next_to_mark()), (3, None));
        queue.end_takers();
        assert_eq!((queue.ahead().messages, queue.next_wanted()), (0, None));
    }
}

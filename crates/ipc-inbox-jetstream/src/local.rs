//! The messages that this process has of the inbox: those that are ready for the application, and
//! those that the application holds.
//!
//! `pulling` puts them here, `backend` takes them out, `settling` ends and renews leases. The time
//! is an argument. Nothing here connects.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ipc_inbox::{Message, Taken};
use ipc_protocol::MessageId;

use crate::wire::Meta;

/// How long the next messages wait for one that comes before them and was given back without a
/// delay. Another server may have got it.
const COMES_BACK_WITHIN: Duration = Duration::from_secs(1);

/// A message that the NATS server has delivered to this process.
#[derive(Clone, Debug)]
pub(crate) struct Arrived {
    pub(crate) message: Message,
    pub(crate) meta: Meta,
    /// Its number in the stream.
    pub(crate) sequence: u64,
    /// How often it was delivered, this time included.
    pub(crate) deliveries: u32,
    /// The subject on which it is acknowledged.
    pub(crate) ack_subject: String,
    /// When the NATS server delivers it again, unless it hears of it before.
    pub(crate) leased_until: Instant,
}

impl Arrived {
    /// The number under which it was accepted the first time.
    pub(crate) fn first(&self) -> u64 {
        self.meta.first.unwrap_or(self.sequence)
    }
}

#[derive(Debug)]
struct Held {
    arrived: Arrived,
    /// When the application's time is over; `None`: never.
    ends_at: Option<Instant>,
}

impl Held {
    fn is_live(&self, now: Instant) -> bool {
        self.arrived.leased_until > now && self.ends_at.is_none_or(|end| end > now)
    }
}

/// What this process did with a message before. A lone NATS server that is killed may forget the
/// last deliveries and acknowledgements, and then delivers as new what it has delivered before.
#[derive(Clone, Copy, Debug)]
enum Past {
    /// It was handed out so many times.
    HandedOut(u32),
    Settled,
}

/// Of how many messages the past is known.
const PAST_MAX: usize = 64 * 1024;

/// What a receiver gets.
#[derive(Debug)]
pub(crate) enum Handed {
    Messages(Vec<Taken>),
    /// Nothing comes any more.
    End,
    /// Nothing yet. Look again after a change, and at this time at the latest.
    Wait(Option<Instant>),
}

#[derive(Debug)]
pub(crate) struct Local {
    visibility_timeout: Duration,
    max_deliveries: u32,
    prefetch: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// By their numbers: the order in which they were accepted.
    ready: BTreeMap<u64, Arrived>,
    held: HashMap<u64, Held>,
    lease_of: HashMap<u64, u64>,
    last_lease: u64,
    /// Messages that were given back without a delay, and until when they are waited for.
    coming_back: BTreeMap<u64, Instant>,
    /// The greatest numbers that have arrived here, and that were accepted here.
    arrived_last: u64,
    accepted_last: u64,
    /// How many messages were asked for and have not arrived.
    requested: usize,
    /// How many the receivers that wait would take.
    wanted: usize,
    /// Whether more may be asked for than is wanted at once: the last one that arrived had not been
    /// delivered before. One that crashes its process so takes few others along.
    may_prefetch: bool,
    /// The past of the last messages, by their numbers. Their ids tell them from those of a stream
    /// that somebody has made anew.
    past: BTreeMap<u64, (MessageId, Past)>,
    is_drained: bool,
    has_ended: bool,
    /// Changes when a message arrives or is given back.
    changes: u64,
}

impl State {
    fn note(&mut self, arrived: &Arrived, past: Past) {
        self.past.insert(arrived.sequence, (arrived.message.id, past));
        if self.past.len() > PAST_MAX {
            self.past.pop_first();
        }
    }
}

impl Local {
    pub(crate) fn new(visibility_timeout: Duration, max_deliveries: u32, prefetch: usize) -> Self {
        // Of a message that may be delivered once, a crash would use up the only delivery.
        let prefetch = if max_deliveries == 1 { 0 } else { prefetch };
        Local { visibility_timeout, max_deliveries, prefetch, state: Mutex::default() }
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.state().has_ended
    }

    /// Whether messages were asked for that may still come.
    pub(crate) fn is_asking(&self) -> bool {
        self.state().requested > 0
    }

    /// How many messages to ask the NATS server for now.
    pub(crate) fn to_request(&self) -> usize {
        let mut state = self.state();
        if state.has_ended {
            return 0;
        }
        let target = match state.may_prefetch {
            true => self.prefetch.max(state.wanted),
            false if self.prefetch == 0 => state.wanted,
            false => state.wanted.min(1),
        };
        let there = state.ready.len() + state.requested;
        let missing = target.saturating_sub(there);
        // Few at a time would cost a request each.
        if missing == 0 || (missing * 2 < target && there > 0) {
            return 0;
        }
        state.requested += missing;
        missing
    }

    /// Of the messages that were asked for, this many will not come; `None`: none of them.
    pub(crate) fn not_coming(&self, count: Option<usize>) {
        let mut state = self.state();
        state.requested = count.map_or(0, |count| state.requested.saturating_sub(count));
    }

    /// Takes in a message, unless this process is done with it. Then it gives it back.
    pub(crate) fn arrives(&self, mut arrived: Arrived) -> Result<(), Box<Arrived>> {
        let mut state = self.state();
        state.requested = state.requested.saturating_sub(1);
        let past = state.past.get(&arrived.sequence);
        match past.filter(|(id, _)| *id == arrived.message.id).map(|(_, past)| past) {
            Some(Past::Settled) => return Err(Box::new(arrived)),
            Some(Past::HandedOut(times)) => {
                arrived.deliveries = arrived.deliveries.max(times.saturating_add(1));
            }
            None => (),
        }
        state.may_prefetch = arrived.deliveries <= 1;
        state.arrived_last = state.arrived_last.max(arrived.sequence);
        state.coming_back.remove(&arrived.sequence);
        state.changes += 1;
        // It was delivered again, so an earlier lease is over.
        if let Some(lease) = state.lease_of.remove(&arrived.sequence) {
            state.held.remove(&lease);
        }
        state.ready.insert(arrived.sequence, arrived);
        Ok(())
    }

    /// The NATS server has taken up that this process is done with a message.
    pub(crate) fn is_settled(&self, arrived: &Arrived) {
        self.state().note(arrived, Past::Settled);
    }

    /// This process put a message that has this number.
    pub(crate) fn accepted(&self, sequence: u64) {
        let mut state = self.state();
        state.accepted_last = state.accepted_last.max(sequence);
    }

    /// Hands out messages. Until `catch_up_until` it waits for those that were accepted here and
    /// are still on their way, rather than hand out fewer than `count_max`.
    pub(crate) fn take(&self, count_max: usize, catch_up_until: Instant, now: Instant) -> Handed {
        let mut state = self.state();
        if state.has_ended {
            return Handed::End;
        }
        // The NATS server delivers these again.
        state.ready.retain(|_, arrived| arrived.leased_until > now);
        state.coming_back.retain(|_, until| *until > now);
        let Some(first) = state.ready.keys().next().copied() else {
            return match state.is_drained && state.coming_back.is_empty() {
                true => Handed::End,
                false => Handed::Wait(None),
            };
        };
        let gap = state.coming_back.iter().next().map(|(sequence, until)| (*sequence, *until));
        if let Some((before, until)) = gap
            && before < first
        {
            return Handed::Wait(Some(until));
        }
        let is_behind = state.arrived_last < state.accepted_last && state.may_prefetch;
        if state.ready.len() < count_max && is_behind && catch_up_until > now {
            return Handed::Wait(Some(catch_up_until));
        }
        let end = gap.map_or(u64::MAX, |(sequence, _)| sequence);
        let numbers: Vec<u64> =
            state.ready.range(..end).take(count_max).map(|(number, _)| *number).collect();
        let mut taken = Vec::with_capacity(numbers.len());
        for number in numbers {
            let Some(arrived) = state.ready.remove(&number) else { continue };
            state.last_lease += 1;
            let lease = state.last_lease;
            taken.push(
                Taken::new(arrived.message.clone(), lease)
                    .with_redeliveries(arrived.deliveries.saturating_sub(1))
                    .with_last_delivery(arrived.deliveries >= self.max_deliveries),
            );
            state.note(&arrived, Past::HandedOut(arrived.deliveries));
            let ends_at = now.checked_add(self.visibility_timeout);
            state.lease_of.insert(number, lease);
            state.held.insert(lease, Held { arrived, ends_at });
        }
        Handed::Messages(taken)
    }

    /// Whether receivers wait, so that a request for messages is due.
    pub(crate) fn want(&self, count: usize) {
        let mut state = self.state();
        state.wanted = state.wanted.saturating_add(count);
    }

    /// A receiver waits no longer.
    pub(crate) fn no_longer_want(&self, count: usize) {
        let mut state = self.state();
        state.wanted = state.wanted.saturating_sub(count);
    }

    /// Ends a lease, and returns its message. `None` if the lease is over.
    pub(crate) fn end_lease(&self, lease: u64, now: Instant) -> Option<Arrived> {
        let mut state = self.state();
        if !state.held.get(&lease)?.is_live(now) {
            return None;
        }
        let held = state.held.remove(&lease)?;
        state.lease_of.remove(&held.arrived.sequence);
        Some(held.arrived)
    }

    /// A message is given back without a delay.
    pub(crate) fn comes_back(&self, sequence: u64, now: Instant) {
        let mut state = self.state();
        state.coming_back.insert(sequence, now + COMES_BACK_WITHIN);
        state.is_drained = false;
        state.changes += 1;
    }

    /// Sets when a lease ends. Returns `false` if it is over.
    pub(crate) fn extend(&self, lease: u64, time: Duration, now: Instant) -> bool {
        match self.state().held.get_mut(&lease).filter(|held| held.is_live(now)) {
            Some(held) => {
                held.ends_at = now.checked_add(time);
                true
            }
            None => false,
        }
    }

    /// The acknowledgement subjects of all messages here, whose leases are to be renewed now, and
    /// the messages whose application took too long.
    pub(crate) fn to_renew(&self, now: Instant) -> (Vec<String>, Vec<Arrived>) {
        let mut state = self.state();
        let is_over = |held: &Held| held.ends_at.is_some_and(|end| end <= now);
        let over: Vec<u64> =
            state.held.iter().filter(|(_, held)| is_over(held)).map(|(lease, _)| *lease).collect();
        let mut late = Vec::new();
        for lease in over {
            if let Some(held) = state.held.remove(&lease) {
                state.lease_of.remove(&held.arrived.sequence);
                late.push(held.arrived);
            }
        }
        let held = state.held.values().map(|held| &held.arrived);
        let all = held.chain(state.ready.values()).filter(|arrived| arrived.leased_until > now);
        (all.map(|arrived| arrived.ack_subject.clone()).collect(), late)
    }

    /// The leases that hold at `asked_at` were renewed then.
    pub(crate) fn renewed(&self, asked_at: Instant, until: Instant) {
        let state = &mut *self.state();
        let held = state.held.values_mut().map(|held| &mut held.arrived);
        for arrived in held.chain(state.ready.values_mut()) {
            if arrived.leased_until > asked_at {
                arrived.leased_until = arrived.leased_until.max(until);
            }
        }
    }

    /// How many messages the application holds.
    pub(crate) fn held(&self) -> usize {
        self.state().held.len()
    }

    /// How many messages are here, ready or held; and a number that changes when one comes.
    pub(crate) fn here(&self) -> (usize, u64) {
        let state = self.state();
        (state.ready.len() + state.held.len(), state.changes)
    }

    pub(crate) fn has_ready(&self) -> bool {
        !self.state().ready.is_empty()
    }

    /// Nothing comes any more, unless something has come since `changes`.
    pub(crate) fn is_drained(&self, changes: u64) {
        let mut state = self.state();
        if state.changes == changes && state.ready.is_empty() {
            state.is_drained = true;
        }
    }

    /// Ends all leases. Returns the messages that were here, in order.
    pub(crate) fn end(&self) -> Vec<Arrived> {
        let mut state = self.state();
        state.has_ended = true;
        state.lease_of.clear();
        let held = std::mem::take(&mut state.held).into_values().map(|held| held.arrived);
        let held: Vec<_> = held.collect();
        let mut all: Vec<_> = std::mem::take(&mut state.ready).into_values().chain(held).collect();
        all.sort_by_key(|arrived| arrived.sequence);
        all
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::BodyHash;
    use std::time::SystemTime;

    const MINUTE: Duration = Duration::from_secs(60);

    fn arrived(sequence: u64, deliveries: u32, now: Instant) -> Arrived {
        let message = Message {
            id: MessageId::from_random([1; 16]),
            user: "u".into(),
            certificate: None,
            peer: None,
            received_at: SystemTime::UNIX_EPOCH,
            body: "{}".into(),
            wants_reply: false,
        };
        let meta = Meta::of(&message, BodyHash::of("{}"), "me");
        let ack_subject = format!("ack.{sequence}");
        Arrived { message, meta, sequence, deliveries, ack_subject, leased_until: now + MINUTE }
    }

    fn leases(handed: Handed) -> Vec<u64> {
        match handed {
            Handed::Messages(taken) => taken.iter().map(|one| one.lease).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn messages_are_handed_out_by_their_numbers() {
        let (local, now) = (Local::new(MINUTE, 10, 8), Instant::now());
        for sequence in [5, 3, 4] {
            local.arrives(arrived(sequence, 1, now)).unwrap();
        }
        let first = leases(local.take(2, now, now));
        let sequences: Vec<_> =
            first.iter().map(|lease| local.end_lease(*lease, now).unwrap().sequence).collect();
        assert_eq!(sequences, [3, 4]);
        assert_eq!(local.end_lease(first[0], now).map(|one| one.sequence), None, "only once");
    }

    #[test]
    fn what_was_given_back_is_waited_for_and_not_for_ever() {
        let (local, now) = (Local::new(MINUTE, 10, 8), Instant::now());
        local.arrives(arrived(2, 1, now)).unwrap();
        local.comes_back(1, now);
        assert!(matches!(local.take(1, now, now), Handed::Wait(Some(_))));
        local.arrives(arrived(1, 2, now)).unwrap();
        let lease = leases(local.take(1, now, now))[0];
        assert_eq!(local.end_lease(lease, now).unwrap().sequence, 1);
        local.comes_back(1, now);
        let later = now + COMES_BACK_WITHIN;
        let lease = leases(local.take(1, later, later))[0];
        assert_eq!(local.end_lease(lease, later).unwrap().sequence, 2);
    }

    #[test]
    fn a_lease_ends_with_its_time_and_with_that_of_the_nats_server() {
        let (local, now) = (Local::new(MINUTE / 2, 10, 8), Instant::now());
        local.arrives(arrived(1, 1, now)).unwrap();
        local.arrives(arrived(2, 1, now)).unwrap();
        let both = leases(local.take(2, now, now));
        assert!(local.extend(both[1], MINUTE * 2, now));
        let later = now + MINUTE / 2;
        assert!(local.end_lease(both[0], later).is_none());
        let (renewed, late) = local.to_renew(later);
        assert_eq!(renewed, ["ack.2"]);
        assert_eq!(late.iter().map(|one| one.sequence).collect::<Vec<_>>(), [1]);
        // The renewal did not reach the NATS server.
        assert!(!local.extend(both[1], MINUTE, now + MINUTE));
        local.renewed(later, later + MINUTE);
        assert!(local.extend(both[1], MINUTE * 9, now + MINUTE));
        assert!(local.end_lease(both[1], later + MINUTE).is_none());
    }

    #[test]
    fn a_message_that_is_delivered_again_ends_its_earlier_lease() {
        let (local, now) = (Local::new(MINUTE, 2, 8), Instant::now());
        local.arrives(arrived(1, 1, now)).unwrap();
        let first = leases(local.take(1, now, now))[0];
        local.arrives(arrived(1, 2, now)).unwrap();
        assert!(local.end_lease(first, now).is_none());
        let Handed::Messages(again) = local.take(1, now, now) else { panic!("it is there") };
        assert_eq!((again[0].redeliveries, again[0].is_last_delivery), (1, true));
    }

    #[test]
    fn what_the_nats_server_forgot_is_known_here() {
        let (local, now) = (Local::new(MINUTE, 10, 8), Instant::now());
        local.arrives(arrived(1, 3, now)).unwrap();
        drop(local.take(1, now, now));
        local.arrives(arrived(1, 1, now)).unwrap();
        let Handed::Messages(again) = local.take(1, now, now) else { panic!("it is there") };
        assert_eq!(again[0].redeliveries, 3, "the fourth delivery");
        local.is_settled(&arrived(1, 1, now));
        assert_eq!(local.arrives(arrived(1, 1, now)).unwrap_err().sequence, 1);
        assert!(!local.has_ready());
        let mut other = arrived(1, 1, now);
        other.message.id = MessageId::from_random([2; 16]);
        local.arrives(other).unwrap();
        assert!(local.has_ready(), "it is of another stream");
    }

    #[test]
    fn little_is_asked_for_until_a_new_message_comes() {
        let (local, now) = (Local::new(MINUTE, 10, 8), Instant::now());
        assert_eq!(local.to_request(), 0, "nobody waits");
        local.want(3);
        assert_eq!((local.to_request(), local.to_request()), (1, 0));
        local.arrives(arrived(1, 2, now)).unwrap();
        assert_eq!(local.to_request(), 0, "there is one, delivered before");
        drop(local.take(1, now, now));
        assert_eq!(local.to_request(), 1);
        local.arrives(arrived(2, 1, now)).unwrap();
        assert_eq!(local.to_request(), 7, "that one is new");
        local.not_coming(Some(2));
        assert_eq!(local.to_request(), 0, "few are not worth a request");
        local.not_coming(None);
        assert_eq!(local.to_request(), 7);

        let careful = Local::new(MINUTE, 1, 8);
        careful.arrives(arrived(1, 1, now)).unwrap();
        drop(careful.take(1, now, now));
        assert_eq!(careful.to_request(), 0, "it is the only delivery");
        careful.want(2);
        assert_eq!(careful.to_request(), 2);
    }
}

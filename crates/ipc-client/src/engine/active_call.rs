//! A call on its way: what of it has an answer, what is known of the rest, how much time it has,
//! and who waits for it.
//!
//! `queue` and `mod` hold calls by their chunks. Nothing here sends.

use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;

use crate::call::{BatchEvent, Call, EntryStatus, Kind, Messages, Stream};
use crate::channel::in_flight::Item;
use crate::engine::backoff::Backoff;
use crate::error::{NoReply, Outcome, SendError};
use crate::receipt::{Reply, Sent};

/// What is kept back of the time there is, so that the server's word that there is no reply still
/// arrives.
const RETURN_MARGIN: Duration = Duration::from_millis(500);

/// A call on its way.
#[derive(Debug)]
pub(crate) struct ActiveCall {
    pub(crate) messages: Messages,
    pub(crate) timeout: Duration,
    pub(crate) is_deep: bool,
    begun_at: Instant,
    /// For a request.
    reply: Option<ReplyClock>,
    state: RefCell<State>,
}

#[derive(Debug)]
struct State {
    /// What became of the messages of a batch; empty for a single one.
    statuses: Vec<Option<EntryStatus>>,
    /// How many of a batch were told.
    told: usize,
    /// The position behind the last message that some attempt without an answer may have brought
    /// there.
    unacknowledged_end: usize,
    /// The server has said that it has the request.
    is_there: bool,
    /// Why the last attempt failed.
    last_error: Option<SendError>,
    /// For a request that is asked for again.
    backoff: Backoff,
    /// `None` once there is an end.
    kind: Option<Kind>,
}

impl State {
    /// Since when the time of the call runs: a batch gets more with each answer to its stream.
    fn since(&self, begun_at: Instant) -> Instant {
        match &self.kind {
            Some(Kind::Batch(batch)) => batch.stream.progress_at(begun_at),
            _ => begun_at,
        }
    }
}

/// Since when the server may have a request, and so how much longer its reply is waited for.
#[derive(Debug)]
struct ReplyClock {
    wait: Duration,
    /// When the call ends if the server has the request.
    deadline: Instant,
    began_at: Cell<Option<Instant>>,
}

impl ActiveCall {
    pub(crate) fn new(call: Call) -> Rc<Self> {
        let Call { messages, begun_at, timeout, is_deep, kind } = call;
        let deadline = begun_at + timeout;
        let reply = match kind {
            Kind::Request { reply_wait, .. } => Some(ReplyClock {
                wait: reply_wait,
                deadline: deadline.max(begun_at + reply_wait),
                began_at: Cell::new(None),
            }),
            _ => None,
        };
        let count = if let Kind::Batch(_) = kind { messages.len() } else { 0 };
        let state = State {
            statuses: vec![None; count],
            told: 0,
            unacknowledged_end: 0,
            is_there: false,
            last_error: None,
            backoff: Backoff::new(),
            kind: Some(kind),
        };
        let state = RefCell::new(state);
        Rc::new(ActiveCall { messages, timeout, is_deep, begun_at, reply, state })
    }

    pub(crate) fn is_request(&self) -> bool {
        self.reply.is_some()
    }

    /// The stream that a batch is of.
    pub(crate) fn stream(&self) -> Option<Arc<Stream>> {
        match &self.state.borrow().kind {
            Some(Kind::Batch(batch)) => Some(Arc::clone(&batch.stream)),
            _ => None,
        }
    }

    /// Whether there is an end, or nobody waits for one any more.
    pub(crate) fn is_over(&self) -> bool {
        match &self.state.borrow().kind {
            None => true,
            Some(Kind::Send(done)) => done.is_closed(),
            Some(Kind::Request { done, .. }) => done.is_closed(),
            Some(Kind::Batch(batch)) => batch.events.is_closed() || batch.stream.has_failed(),
        }
    }

    /// Ready once there is an end, or nobody waits for one any more.
    pub(crate) fn poll_over(&self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.state.borrow_mut().kind {
            Some(Kind::Send(done)) => done.poll_closed(cx),
            Some(Kind::Request { done, .. }) => done.poll_closed(cx),
            Some(Kind::Batch(batch)) if batch.stream.has_failed() => Poll::Ready(()),
            Some(Kind::Batch(batch)) => batch.is_wanted.poll_closed(cx),
            None => Poll::Ready(()),
        }
    }

    /// When it ends by what is known now, and how long that is from its beginning.
    pub(crate) fn end(&self) -> (Instant, Duration) {
        let state = self.state.borrow();
        match &self.reply {
            Some(clock) if state.unacknowledged_end > 0 || state.is_there => {
                (clock.deadline, self.timeout.max(clock.wait))
            }
            _ => (state.since(self.begun_at) + self.timeout, self.timeout),
        }
    }

    /// When it ends if the server has what is on its way.
    pub(crate) fn end_once_there(&self) -> Instant {
        match &self.reply {
            Some(clock) => clock.deadline,
            None => self.state.borrow().since(self.begun_at) + self.timeout,
        }
    }

    /// An attempt begins.
    pub(crate) fn note_sent(&self) {
        if let Some(Kind::Batch(batch)) = &self.state.borrow().kind {
            batch.stream.note_sent(batch.number);
        }
    }

    /// An attempt at these failed. `may_be_there` says whether it may have brought them to the
    /// server.
    pub(crate) fn note_failure(&self, range: &Range<usize>, error: &SendError, may_be_there: bool) {
        let mut state = self.state.borrow_mut();
        state.last_error = Some(error.clone());
        if may_be_there {
            state.unacknowledged_end = state.unacknowledged_end.max(range.end);
        }
    }

    /// Which of these have no answer, as runs.
    pub(crate) fn open_runs(&self, range: Range<usize>) -> Vec<Range<usize>> {
        let state = self.state.borrow();
        if state.kind.is_none() {
            return Vec::new();
        }
        if state.statuses.is_empty() {
            return vec![range];
        }
        let mut runs: Vec<Range<usize>> = Vec::new();
        for at in range.filter(|at| state.statuses[*at].is_none()) {
            match runs.last_mut() {
                Some(run) if run.end == at => run.end += 1,
                _ => runs.push(at..at + 1),
            }
        }
        runs
    }

    /// Whether some of these have no answer.
    pub(crate) fn is_open(&self, mut range: Range<usize>) -> bool {
        let state = self.state.borrow();
        match state.statuses.is_empty() {
            true => state.kind.is_some(),
            false => range.any(|at| state.statuses[at].is_none()),
        }
    }

    /// Tells what became of these, which all have no answer yet; `false` if one has.
    pub(crate) fn settle(&self, range: Range<usize>, status: &EntryStatus, now: Instant) -> bool {
        let mut state = self.state.borrow_mut();
        if !state.statuses.is_empty() {
            let slots = &mut state.statuses[range.clone()];
            if slots.iter().any(Option::is_some) {
                return false;
            }
            slots.fill(Some(status.clone()));
            if let EntryStatus::Refused(error) = status
                && range.start < state.unacknowledged_end
            {
                let error = error.clone().in_doubt();
                state.statuses[range].fill(Some(EntryStatus::Refused(error)));
            }
            drop(state);
            self.tell_progress(now);
            return true;
        }
        let may_be_there = state.unacknowledged_end > 0;
        match (state.kind.take(), status) {
            (Some(Kind::Send(done)), status) => {
                drop(state);
                let id = self.messages.id(0);
                let result = match status {
                    EntryStatus::Accepted => Ok(Sent { id, duplicate: false }),
                    EntryStatus::Duplicate => Ok(Sent { id, duplicate: true }),
                    EntryStatus::Refused(error) if may_be_there => Err(error.clone().in_doubt()),
                    EntryStatus::Refused(error) => Err(error.clone()),
                };
                // Where nobody waits for the answer any more, nobody misses it.
                let _ = done.send(result);
            }
            (Some(Kind::Request { done, .. }), EntryStatus::Refused(error)) => {
                let is_there = state.is_there;
                drop(state);
                let error = self.of_a_request(error.clone());
                let error = match may_be_there || is_there {
                    true => error.in_doubt(),
                    false => error,
                };
                let _ = done.send(Err(error));
            }
            // A request that is accepted and has no reply is no answer that a server gives.
            (kind, _) => {
                state.kind = kind;
                return false;
            }
        }
        true
    }

    /// Tells what became of each of these, where that is known.
    fn settle_each(&self, range: Range<usize>, statuses: Vec<Option<EntryStatus>>, now: Instant) {
        if self.state.borrow().statuses.is_empty() {
            if let Some(status) = statuses.into_iter().flatten().next() {
                self.settle(range, &status, now);
            }
            return;
        }
        let mut state = self.state.borrow_mut();
        let is_known = statuses.iter().any(Option::is_some);
        // What was in doubt is so no more: the server has told what it has of these.
        let unacknowledged_end = if state.unacknowledged_end <= range.end {
            std::mem::take(&mut state.unacknowledged_end)
        } else {
            0
        };
        let mut last_settled = None;
        for (at, status) in range.clone().zip(statuses) {
            let Some(status) = status else { continue };
            last_settled = Some(at);
            state.statuses[at] = Some(match status {
                EntryStatus::Refused(error) if at < unacknowledged_end => {
                    EntryStatus::Refused(error.in_doubt())
                }
                status => status,
            });
        }
        if let Some(last) = last_settled
            && range.clone().take_while(|at| *at < last).any(|at| state.statuses[at].is_none())
        {
            // A later one is there and an earlier one is not: an attempt without an answer is still
            // at work.
            state.unacknowledged_end = state.unacknowledged_end.max(last + 1);
        }
        drop(state);
        if is_known {
            self.tell_progress(now);
        }
    }

    /// An answer came that nobody waits for.
    fn forget(&self, range: Range<usize>) {
        let mut state = self.state.borrow_mut();
        match state.statuses.is_empty() {
            true => state.kind = None,
            false => state.statuses[range].fill(Some(EntryStatus::Accepted)),
        }
    }

    /// Gives a request its reply; `false` if it is none, or has its end.
    pub(crate) fn reply(&self, duplicate: bool, body: &str) -> bool {
        let mut state = self.state.borrow_mut();
        match state.kind.take() {
            Some(Kind::Request { done, .. }) => {
                let _ = done.send(Ok(Reply {
                    id: self.messages.id(0),
                    duplicate,
                    body: body.to_owned(),
                }));
                true
            }
            kind => {
                state.kind = kind;
                false
            }
        }
    }

    /// Ends it with an error, as far as it has no end. `may_be_there` says whether what is open may
    /// be with the server.
    pub(crate) fn fail(&self, error: SendError, may_be_there: bool) {
        let mut state = self.state.borrow_mut();
        let is_there = state.is_there;
        let open = state.statuses.iter().position(Option::is_none).unwrap_or(0);
        let may_be_there = may_be_there || state.unacknowledged_end > open;
        let kind = state.kind.take();
        drop(state);
        let error = if may_be_there || is_there { error.in_doubt() } else { error };
        match kind {
            None => (),
            Some(Kind::Send(done)) => drop(done.send(Err(error))),
            Some(Kind::Request { done, .. }) => drop(done.send(Err(self.of_a_request(error)))),
            Some(Kind::Batch(batch)) => {
                batch.stream.fail();
                let _ = batch.events.send(BatchEvent::Failed(error));
            }
        }
    }

    /// Ends it since its time is over. `last` is why, where no attempt has failed.
    pub(crate) fn time_out(&self, may_be_there: bool, last: impl FnOnce() -> SendError) {
        let (_, timeout) = self.end();
        let state = self.state.borrow();
        let last = state.last_error.clone().filter(|_| !may_be_there).unwrap_or_else(last);
        let open = state.statuses.iter().position(Option::is_none).unwrap_or(0);
        let outcome = match (state.is_there, may_be_there || state.unacknowledged_end > open) {
            (true, _) => Outcome::Accepted,
            (false, true) => Outcome::NotKnown,
            (false, false) => last.outcome(),
        };
        drop(state);
        self.fail(SendError::Timeout { timeout, outcome, last: Box::new(last) }, false);
    }

    /// Tells what became of the next messages of a batch, as far as that is known in order.
    fn tell_progress(&self, now: Instant) {
        let mut state = self.state.borrow_mut();
        if let Some(Kind::Batch(batch)) = &state.kind {
            batch.stream.note_progress(now);
        }
        let from = state.told;
        let known = state.statuses[from..].iter().take_while(|status| status.is_some()).count();
        if known == 0 {
            return;
        }
        state.told += known;
        let is_all = state.told == state.statuses.len();
        let statuses = state.statuses[from..from + known].iter().flatten().cloned().collect();
        if let Some(Kind::Batch(batch)) = &state.kind {
            let _ = batch.events.send(BatchEvent::Settled { batch: batch.number, statuses });
        }
        if is_all {
            state.kind = None;
        }
    }

    /// What an error is of a request that the server may have.
    fn of_a_request(&self, error: SendError) -> SendError {
        let Some(clock) = &self.reply else { return error };
        match &error {
            // The server has it, and it was only the time that ran out.
            SendError::Timeout { outcome: Outcome::Accepted, last, .. } if is_only_late(last) => {
                SendError::NoReply { reason: NoReply::NotInTime { wait: clock.wait } }
            }
            _ => error,
        }
    }

    /// The server may have the request since `at`, if not before.
    pub(crate) fn reply_wait_begins(&self, at: Instant) {
        if let Some(clock) = &self.reply {
            clock.began_at.set(clock.began_at.get().or(Some(at)));
        }
    }

    /// The server has said that it did not take what was sent last.
    pub(crate) fn was_not_taken(&self) {
        let state = self.state.borrow();
        if let Some(clock) = &self.reply
            && state.unacknowledged_end == 0
            && !state.is_there
        {
            clock.began_at.set(None);
        }
    }

    /// The server has said that it has the request. Returns whether that is news.
    pub(crate) fn is_there_now(&self) -> bool {
        !std::mem::replace(&mut self.state.borrow_mut().is_there, true)
    }

    /// How much longer the reply is waited for.
    pub(crate) fn reply_wait_left(&self, now: Instant) -> Duration {
        let Some(clock) = &self.reply else { return Duration::ZERO };
        let gone =
            clock.began_at.get().map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        clock.wait.saturating_sub(gone)
    }

    /// How long a server on a channel is asked to wait for the reply: what it says after that
    /// should still arrive.
    pub(crate) fn reply_wait(&self, now: Instant) -> Option<Duration> {
        let clock = self.reply.as_ref()?;
        let left = clock.deadline.saturating_duration_since(now);
        Some(self.reply_wait_left(now).min(left.saturating_sub(RETURN_MARGIN.min(left / 4))))
    }

    /// The same by POST, which counts whole seconds. With less than one it is asked to take the
    /// request and say so at once; then it is asked again, for as long as there is time.
    pub(crate) fn reply_wait_secs(&self, now: Instant) -> u64 {
        let left = self.end_once_there().saturating_duration_since(now);
        let wanted = self.reply_wait_left(now);
        let wanted_secs = wanted.as_secs() + u64::from(wanted.subsec_nanos() > 0);
        let possible_secs = left.saturating_sub(RETURN_MARGIN).as_secs();
        wanted_secs.min(possible_secs.max(u64::from(self.state.borrow().is_there)))
    }

    /// The error of a request for which the server has no reply; `None` if it is none of these.
    pub(crate) fn no_reply(&self, error: &SendError) -> Option<SendError> {
        let wait = self.reply.as_ref()?.wait;
        error.no_reply(wait)
    }

    /// The pause before a request is asked for again; `None` if there is no time left.
    pub(crate) fn pause(&self, now: Instant, random: u32) -> Option<Duration> {
        let left = self.end().0.saturating_duration_since(now);
        self.state.borrow_mut().backoff.next(None, left, random)
    }
}

/// Whether an attempt failed at the time alone.
fn is_only_late(error: &SendError) -> bool {
    match error {
        SendError::NoReply { reason: NoReply::NotInTime { .. } } => true,
        SendError::NoAnswer { source, .. } => source.kind() == std::io::ErrorKind::TimedOut,
        _ => false,
    }
}

/// Messages of a call that follow each other.
#[derive(Clone, Debug)]
pub(crate) struct Chunk {
    pub(crate) call: Rc<ActiveCall>,
    pub(crate) range: Range<usize>,
    /// Before those with a larger number, whenever it is sent.
    pub(crate) order: u64,
    /// When it was last sent.
    pub(crate) sent_at: Instant,
}

impl Chunk {
    pub(crate) fn len(&self) -> usize {
        self.range.len()
    }

    /// Bytes of the entries.
    pub(crate) fn bytes(&self) -> usize {
        self.call.messages.text_bytes(self.range.clone())
    }

    /// What of it has no answer.
    pub(crate) fn open(&self) -> impl Iterator<Item = Chunk> {
        let runs = self.call.open_runs(self.range.clone());
        runs.into_iter().map(|range| Chunk { range, ..self.clone() })
    }

    fn at(&self, positions: Range<u64>) -> Range<usize> {
        // Positions lie within the chunk.
        let at = |position: u64| self.range.start + usize::try_from(position).unwrap_or(usize::MAX);
        at(positions.start)..at(positions.end)
    }

    /// Tells what became of these positions of it, which all have no answer yet; `false` if one
    /// has.
    pub(crate) fn settle(&self, positions: Range<u64>, status: &EntryStatus, now: Instant) -> bool {
        let range = self.at(positions);
        if self.call.is_over() {
            // It has no use for an answer that comes late.
            self.call.forget(range);
            return true;
        }
        self.call.settle(range, status, now)
    }
}

impl Chunk {
    /// Gives a request its reply; `false` if it is none.
    pub(crate) fn reply(&self, duplicate: bool, body: &str) -> bool {
        if self.call.is_over() {
            // It has no use for a reply that comes late.
            self.call.forget(self.range.clone());
            return true;
        }
        self.call.reply(duplicate, body)
    }

    /// Tells what became of each of its messages, where that is known.
    pub(crate) fn settle_each(&self, statuses: Vec<Option<EntryStatus>>, now: Instant) {
        match self.call.is_over() {
            true => self.call.forget(self.range.clone()),
            false => self.call.settle_each(self.range.clone(), statuses, now),
        }
    }
}

impl Item for Chunk {
    fn count(&self) -> u64 {
        self.range.len() as u64
    }

    fn is_open(&self, positions: Range<u64>) -> bool {
        self.call.is_open(self.at(positions))
    }

    fn split_at(self, position: u64) -> (Self, Self) {
        let at = self.at(position..position).start;
        let behind = Chunk { range: at..self.range.end, ..self.clone() };
        (Chunk { range: self.range.start..at, ..self }, behind)
    }
}

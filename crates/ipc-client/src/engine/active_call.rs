//! The state of one active call: which of its messages have an answer, what is known about the
//! others, when the call ends, and who waits for its result.
//!
//! The queue, the frames in flight and the POSTs hold calls as [`Chunk`]s. Nothing here sends.

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

/// A client ends its own wait this long after the wait that it asks of the server. The margin lets
/// the server's answer "no reply" arrive before the client's deadline.
const RETURN_MARGIN: Duration = Duration::from_millis(500);

/// A call without a result yet.
#[derive(Debug)]
pub(crate) struct ActiveCall {
    pub(crate) messages: Messages,
    pub(crate) timeout: Duration,
    pub(crate) is_deep: bool,
    begun_at: Instant,
    /// Only for a request.
    reply: Option<ReplyClock>,
    state: RefCell<State>,
}

#[derive(Debug)]
struct State {
    /// The status of each message of a batch, `None` without an answer. Empty for a single message.
    statuses: Vec<Option<EntryStatus>>,
    /// How many messages at the beginning of a batch have been reported to the caller.
    told: usize,
    /// The index after the last message that an unanswered attempt may have delivered.
    unacknowledged_end: usize,
    /// Whether the server has said that it has the request.
    is_there: bool,
    /// Why the last attempt failed.
    last_error: Option<SendError>,
    /// For a request that is sent again to wait for its reply.
    backoff: Backoff,
    /// `None` after the call has ended.
    kind: Option<Kind>,
}

impl State {
    /// When the timeout of the call started. Each answer to the stream of a batch starts it anew.
    fn since(&self, begun_at: Instant) -> Instant {
        match &self.kind {
            Some(Kind::Batch(batch)) => batch.stream.progress_at(begun_at),
            _ => begun_at,
        }
    }
}

/// How long a request waits for its reply, counted from the moment since which the server may have
/// the request.
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

    /// The stream to which a batch belongs.
    pub(crate) fn stream(&self) -> Option<Arc<Stream>> {
        match &self.state.borrow().kind {
            Some(Kind::Batch(batch)) => Some(Arc::clone(&batch.stream)),
            _ => None,
        }
    }

    /// Whether the call has ended, or its caller has stopped waiting.
    pub(crate) fn is_over(&self) -> bool {
        match &self.state.borrow().kind {
            None => true,
            Some(Kind::Send(done)) => done.is_closed(),
            Some(Kind::Request { done, .. }) => done.is_closed(),
            Some(Kind::Batch(batch)) => batch.events.is_closed() || batch.stream.has_failed(),
        }
    }

    /// Ready when the call has ended, or its caller has stopped waiting.
    pub(crate) fn poll_over(&self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.state.borrow_mut().kind {
            Some(Kind::Send(done)) => done.poll_closed(cx),
            Some(Kind::Request { done, .. }) => done.poll_closed(cx),
            Some(Kind::Batch(batch)) if batch.stream.has_failed() => Poll::Ready(()),
            Some(Kind::Batch(batch)) => batch.is_wanted.poll_closed(cx),
            None => Poll::Ready(()),
        }
    }

    /// When the call ends as far as is known now, and how long that is after its beginning.
    pub(crate) fn end(&self) -> (Instant, Duration) {
        let state = self.state.borrow();
        match &self.reply {
            Some(clock) if state.unacknowledged_end > 0 || state.is_there => {
                (clock.deadline, self.timeout.max(clock.wait))
            }
            _ => (state.since(self.begun_at) + self.timeout, self.timeout),
        }
    }

    /// When the call ends if the server has the messages that are in flight.
    pub(crate) fn end_once_there(&self) -> Instant {
        match &self.reply {
            Some(clock) => clock.deadline,
            None => self.state.borrow().since(self.begun_at) + self.timeout,
        }
    }

    /// Notes that an attempt begins.
    pub(crate) fn note_sent(&self) {
        if let Some(Kind::Batch(batch)) = &self.state.borrow().kind {
            batch.stream.note_sent(batch.number);
        }
    }

    /// Notes that an attempt with the messages in `range` failed. `may_be_there` says whether the
    /// attempt may have delivered them.
    pub(crate) fn note_failure(&self, range: &Range<usize>, error: &SendError, may_be_there: bool) {
        let mut state = self.state.borrow_mut();
        state.last_error = Some(error.clone());
        if may_be_there {
            state.unacknowledged_end = state.unacknowledged_end.max(range.end);
        }
    }

    /// The parts of `range` that have no answer, as contiguous runs.
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

    /// Whether some messages in `range` have no answer.
    pub(crate) fn is_open(&self, mut range: Range<usize>) -> bool {
        let state = self.state.borrow();
        match state.statuses.is_empty() {
            true => state.kind.is_some(),
            false => range.any(|at| state.statuses[at].is_none()),
        }
    }

    /// Sets the status of all messages in `range`. Returns `false`, and changes nothing, if one of
    /// them has an answer already.
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
                // A failed send means that the caller has stopped waiting for the answer.
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
            // "Accepted" without a reply is not a valid answer to a request.
            (kind, _) => {
                state.kind = kind;
                return false;
            }
        }
        true
    }

    /// Sets the status of each message in `range` for which `statuses` has one.
    fn settle_each(&self, range: Range<usize>, statuses: Vec<Option<EntryStatus>>, now: Instant) {
        if self.state.borrow().statuses.is_empty() {
            if let Some(status) = statuses.into_iter().flatten().next() {
                self.settle(range, &status, now);
            }
            return;
        }
        let mut state = self.state.borrow_mut();
        let is_known = statuses.iter().any(Option::is_some);
        // This answer covers every message that an earlier attempt may have delivered, so nothing
        // is in doubt any more.
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
            // A later message was accepted before and an earlier one was not. So an attempt without
            // an answer is still being processed.
            state.unacknowledged_end = state.unacknowledged_end.max(last + 1);
        }
        drop(state);
        if is_known {
            self.tell_progress(now);
        }
    }

    /// Marks messages as answered whose caller has stopped waiting.
    fn forget(&self, range: Range<usize>) {
        let mut state = self.state.borrow_mut();
        match state.statuses.is_empty() {
            true => state.kind = None,
            false => state.statuses[range].fill(Some(EntryStatus::Accepted)),
        }
    }

    /// Completes a request with its reply. Returns `false` if the call is not a request or has
    /// ended.
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

    /// Ends the call with an error, if it has not ended. `may_be_there` says whether the server may
    /// have the messages without an answer.
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

    /// Ends the call because its timeout has passed. `last` makes the reason if no attempt has
    /// failed before.
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

    /// Reports the statuses of the next messages of a batch to the caller, in order and without
    /// gaps.
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

    /// Replaces a timeout by "no reply in time" if the server has the request.
    fn of_a_request(&self, error: SendError) -> SendError {
        let Some(clock) = &self.reply else { return error };
        match &error {
            // The server has the request. Only the reply is late.
            SendError::Timeout { outcome: Outcome::Accepted, last, .. } if is_only_late(last) => {
                SendError::NoReply { reason: NoReply::NotInTime { wait: clock.wait } }
            }
            _ => error,
        }
    }

    /// Starts the wait for the reply at `at`, unless it has started before. The server may have the
    /// request from then on.
    pub(crate) fn reply_wait_begins(&self, at: Instant) {
        if let Some(clock) = &self.reply {
            clock.began_at.set(clock.began_at.get().or(Some(at)));
        }
    }

    /// The server did not accept the last attempt, so the wait for the reply starts with the next
    /// one.
    pub(crate) fn was_not_taken(&self) {
        let state = self.state.borrow();
        if let Some(clock) = &self.reply
            && state.unacknowledged_end == 0
            && !state.is_there
        {
            clock.began_at.set(None);
        }
    }

    /// Notes that the server has the request. Returns whether that was unknown before.
    pub(crate) fn is_there_now(&self) -> bool {
        !std::mem::replace(&mut self.state.borrow_mut().is_there, true)
    }

    /// How much longer the client waits for the reply.
    pub(crate) fn reply_wait_left(&self, now: Instant) -> Duration {
        let Some(clock) = &self.reply else { return Duration::ZERO };
        let gone =
            clock.began_at.get().map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        clock.wait.saturating_sub(gone)
    }

    /// How long the server of a channel shall wait for the reply. It ends before the client's
    /// deadline, so that an answer "no reply" still arrives.
    pub(crate) fn reply_wait(&self, now: Instant) -> Option<Duration> {
        let clock = self.reply.as_ref()?;
        let left = clock.deadline.saturating_duration_since(now);
        Some(self.reply_wait_left(now).min(left.saturating_sub(RETURN_MARGIN.min(left / 4))))
    }

    /// Like [`ActiveCall::reply_wait`] for a POST, in whole seconds. 0 asks the server to accept
    /// the request and to answer at once. The client then sends the request again while it has
    /// time.
    pub(crate) fn reply_wait_secs(&self, now: Instant) -> u64 {
        let left = self.end_once_there().saturating_duration_since(now);
        let wanted = self.reply_wait_left(now);
        let wanted_secs = wanted.as_secs() + u64::from(wanted.subsec_nanos() > 0);
        let possible_secs = left.saturating_sub(RETURN_MARGIN).as_secs();
        wanted_secs.min(possible_secs.max(u64::from(self.state.borrow().is_there)))
    }

    /// The error of a request that the server accepted and has no reply for. `None` for any other
    /// error.
    pub(crate) fn no_reply(&self, error: &SendError) -> Option<SendError> {
        let wait = self.reply.as_ref()?.wait;
        error.no_reply(wait)
    }

    /// The pause before a request is sent again. `None` if no time is left.
    pub(crate) fn pause(&self, now: Instant, random: u32) -> Option<Duration> {
        let left = self.end().0.saturating_duration_since(now);
        self.state.borrow_mut().backoff.next(None, left, random)
    }
}

/// Whether an attempt failed only because its time ran out.
fn is_only_late(error: &SendError) -> bool {
    match error {
        SendError::NoReply { reason: NoReply::NotInTime { .. } } => true,
        SendError::NoAnswer { source, .. } => source.kind() == std::io::ErrorKind::TimedOut,
        _ => false,
    }
}

/// Contiguous messages of one call.
#[derive(Clone, Debug)]
pub(crate) struct Chunk {
    pub(crate) call: Rc<ActiveCall>,
    pub(crate) range: Range<usize>,
    /// The place in the queue, whenever the chunk is sent: smaller numbers go first.
    pub(crate) order: u64,
    /// When it was last sent.
    pub(crate) sent_at: Instant,
}

impl Chunk {
    pub(crate) fn len(&self) -> usize {
        self.range.len()
    }

    /// Bytes of the chunk's entries.
    pub(crate) fn bytes(&self) -> usize {
        self.call.messages.text_bytes(self.range.clone())
    }

    /// The parts of the chunk that have no answer.
    pub(crate) fn open(&self) -> impl Iterator<Item = Chunk> {
        let runs = self.call.open_runs(self.range.clone());
        runs.into_iter().map(|range| Chunk { range, ..self.clone() })
    }

    fn at(&self, positions: Range<u64>) -> Range<usize> {
        // Positions are within the chunk.
        let at = |position: u64| self.range.start + usize::try_from(position).unwrap_or(usize::MAX);
        at(positions.start)..at(positions.end)
    }

    /// Sets the status of all messages at these positions of the chunk. Returns `false` if one of
    /// them has an answer already.
    pub(crate) fn settle(&self, positions: Range<u64>, status: &EntryStatus, now: Instant) -> bool {
        let range = self.at(positions);
        if self.call.is_over() {
            // The caller has stopped waiting: the late answer is dropped.
            self.call.forget(range);
            return true;
        }
        self.call.settle(range, status, now)
    }
}

impl Chunk {
    /// Completes a request with its reply. Returns `false` if the call is not a request.
    pub(crate) fn reply(&self, duplicate: bool, body: &str) -> bool {
        if self.call.is_over() {
            // The caller has stopped waiting: the late reply is dropped.
            self.call.forget(self.range.clone());
            return true;
        }
        self.call.reply(duplicate, body)
    }

    /// Sets the status of each of the chunk's messages for which `statuses` has one.
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

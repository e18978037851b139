//! The way by POST: for a lone first message, for entries too large for a channel's frame, and for
//! all entries while there is no channel.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use ipc_protocol::ProblemCode;
use tokio::time::Instant;

use crate::call::{EntryStatus, Stream};
use crate::engine::active_call::Chunk;
use crate::engine::dispatch::Engine;
use crate::engine::post::{LATE_AFTER, Post, statuses};
use crate::engine::state::State;
use crate::error::{Outcome, SendError};
use crate::exchange::AttemptLimits;
use crate::exchange::refusal::{AttemptError, Recovery, give_up, is_for_the_content, of_code};
use crate::exchange::session::Generation;
use crate::source::Epoch;
use crate::transport::attempt::Attempt;

/// The largest number of bytes in one POST. A longer message goes alone.
const BYTES_MAX: usize = 1024 * 1024;

/// When this many messages wait, another connection is worth its cost although no POST is late.
const WAITING_MESSAGES: usize = 8;

/// The result of a POST.
enum Posted {
    Statuses {
        /// The statuses of its messages, in order. `None` for a message that found no room.
        statuses: Vec<Option<EntryStatus>>,
        /// Why they found none.
        full: ProblemCode,
    },
    Reply {
        duplicate: bool,
        body: String,
    },
}

impl Engine {
    /// Sends by POST the entries that are too large for a channel's frame.
    pub(super) fn post_misfits(self: &Rc<Self>, state: &mut State, now: Instant) {
        while state.posts.len() < self.config.connections_max {
            let bytes_max = state.entries_bytes_max(self.session_bytes());
            let may_request = state.may_request(self.config.connections_max);
            let (queue, in_flight) = (&mut state.queue, &state.in_flight);
            let is_in_flight = |stream: &Arc<Stream>| {
                in_flight.iter().any(|chunk| {
                    chunk.call.stream().is_some_and(|other| Arc::ptr_eq(&other, stream))
                })
            };
            let group = queue.take_post(Some(bytes_max), 1, BYTES_MAX, may_request, is_in_flight);
            let Some(group) = group else { return };
            self.post(state, group, now);
        }
    }

    /// Sends the waiting entries by POST, one POST at a time unless one is late or many messages
    /// wait.
    pub(super) fn post_all(self: &Rc<Self>, state: &mut State, now: Instant) {
        while state.posts.len() < self.config.connections_max {
            let sends = state.posts.iter().filter(|post| !post.is_request);
            let in_time = sends.filter(|post| now < post.begun_at + LATE_AFTER).count();
            let many_wait =
                || state.queue.iter().take(WAITING_MESSAGES).count() == WAITING_MESSAGES;
            let may_request = state.may_request(self.config.connections_max);
            if in_time > 0 && !many_wait() {
                // A request does not wait for earlier POSTs.
                if !may_request || !state.queue.iter().any(|chunk| chunk.call.is_request()) {
                    return;
                }
            }
            let messages_max = state.post_messages_max.unwrap_or(self.config.post_messages_max());
            let group =
                state.queue.take_post(None, messages_max, BYTES_MAX, may_request, |_| false);
            let Some(group) = group else { return };
            self.post(state, group, now);
            if state.post_next {
                // The next entry may go over a channel.
                return;
            }
        }
    }

    fn post(self: &Rc<Self>, state: &mut State, group: Vec<Chunk>, now: Instant) {
        let attempt = Rc::new(Attempt::default());
        let number = state.next_post;
        state.next_post += 1;
        for chunk in &group {
            chunk.call.note_sent();
        }
        state.posts.push(Post {
            number,
            is_request: group[0].call.is_request(),
            chunks: group.clone(),
            attempt: Rc::clone(&attempt),
            begun_at: now,
        });
        let engine = Rc::clone(self);
        let epoch = self.exchange.epoch();
        actix_rt::spawn(async move {
            let posting = Posting { engine, number };
            let mut used = 0;
            let result = posting.engine.post_once(&group, &attempt, &mut used, now).await;
            posting.engine.posted(group, result, &attempt, (used, epoch, now), number);
        });
    }

    /// Makes one attempt.
    async fn post_once(
        &self,
        group: &[Chunk],
        attempt: &Rc<Attempt>,
        used: &mut Generation,
        now: Instant,
    ) -> Result<Posted, AttemptError> {
        let first = &group[0];
        let (call, at) = (&first.call, first.range.start);
        if call.is_request() {
            let limits = AttemptLimits {
                ends_at: call.end().0,
                ends_at_once_written: call.end_once_there(),
            };
            let (id, body) = (call.messages.id(at), call.messages.body(at));
            let secs = call.reply_wait_secs(now);
            let mut request = pin!(self.exchange.request(id, body, secs, limits, used, attempt));
            // If the caller stops waiting for the reply, the request ends and leaves its connection
            // to others.
            let result = poll_fn(|cx| match call.poll_over(cx) {
                Poll::Ready(()) => Poll::Ready(Err(give_up(SendError::Stopped))),
                Poll::Pending => request.as_mut().poll(cx),
            });
            return result.await.map(|(duplicate, body)| Posted::Reply { duplicate, body });
        }
        let ends_at = group.iter().map(|chunk| chunk.call.end().0).max().unwrap_or(now);
        let limits = AttemptLimits::until(ends_at);
        if let ([_], 1) = (group, first.len()) {
            let (id, body) = (call.messages.id(at), call.messages.body(at));
            let is_duplicate = self.exchange.submit(id, body, limits, used, attempt).await?;
            let status = if is_duplicate { EntryStatus::Duplicate } else { EntryStatus::Accepted };
            let statuses = vec![Some(status)];
            return Ok(Posted::Statuses { statuses, full: ProblemCode::InboxFull });
        }
        let bytes: usize = group.iter().map(|chunk| chunk.bytes() + 1).sum();
        let write = |buffer: &mut Vec<u8>| {
            for (index, chunk) in group.iter().enumerate() {
                if index > 0 {
                    buffer.push(b',');
                }
                buffer.extend_from_slice(chunk.call.messages.text(chunk.range.clone()));
            }
        };
        let reply = self.exchange.submit_batch((bytes, write), limits, used, attempt).await?;
        let count = group.iter().map(Chunk::len).sum();
        // A code of a later version is about room too.
        let full = reply.full_code.as_deref().and_then(ProblemCode::from_code);
        let full = full.unwrap_or(ProblemCode::InboxFull);
        match statuses(&reply, count) {
            Ok(statuses) => Ok(Posted::Statuses { statuses, full }),
            Err(detail) => {
                Err(give_up(SendError::Unexpected { status: 200, detail: detail.to_owned() }))
            }
        }
    }

    /// Processes the result of a POST.
    fn posted(
        self: &Rc<Self>,
        group: Vec<Chunk>,
        result: Result<Posted, AttemptError>,
        attempt: &Attempt,
        (used, epoch, begun_at): (Generation, Epoch, Instant),
        number: u64,
    ) {
        let now = Instant::now();
        let state = &mut *self.state.borrow_mut();
        state.end_post(number);
        // A failed first message is still a lone first message when it is sent again.
        state.has_begun |= match &result {
            Ok(_) => true,
            Err(error) => error.recovery == Recovery::GiveUp,
        };
        match result {
            Ok(posted) => {
                state.has_answer();
                state.post_next = false;
                self.take_posted(state, group, posted, now);
            }
            Err(error) => {
                self.post_failed(state, group, error, (attempt, used, epoch, begun_at), now)
            }
        }
        self.wake();
    }

    fn take_posted(
        self: &Rc<Self>,
        state: &mut State,
        group: Vec<Chunk>,
        posted: Posted,
        now: Instant,
    ) {
        let (statuses, full) = match posted {
            Posted::Reply { duplicate, body } => {
                group[0].call.reply(duplicate, &body);
                return;
            }
            Posted::Statuses { statuses, full } => (statuses, full),
        };
        let mut statuses = statuses.into_iter();
        let mut no_room = Vec::new();
        for chunk in group {
            let statuses: Vec<_> = statuses.by_ref().take(chunk.len()).collect();
            let has_no_room = statuses.iter().any(Option::is_none);
            chunk.settle_each(statuses, now);
            if has_no_room {
                no_room.push(chunk);
            }
        }
        if !no_room.is_empty() {
            let error = of_code(full.as_str(), None);
            self.requeue(state, no_room, &error, false, now);
        }
    }

    fn post_failed(
        self: &Rc<Self>,
        state: &mut State,
        group: Vec<Chunk>,
        error: AttemptError,
        (attempt, used, epoch, begun_at): (&Attempt, Generation, Epoch, Instant),
        now: Instant,
    ) {
        let outcome = error.error.outcome();
        let may_be_there = attempt.writing.get() && outcome == Outcome::NotKnown;
        let call = Rc::clone(&group[0].call);
        if call.is_request() {
            if may_be_there {
                call.reply_wait_begins(begun_at);
            }
            if let Some(late) = call.no_reply(&error.error) {
                let had_no_wait = call.reply_wait_secs(begun_at) == 0;
                let chunk = Chunk { sent_at: begun_at, ..group[0].clone() };
                state.ask_again(chunk, late, had_no_wait, now);
                return;
            }
        }
        self.leave_address(&error.error);
        match error.recovery {
            Recovery::Wait(_) => self.requeue(state, group, &error, may_be_there, now),
            Recovery::LogIn => {
                for chunk in &group {
                    chunk.call.note_failure(&chunk.range, &error.error, false);
                    state.queue.requeue(chunk);
                }
                self.log_in(state, used, error);
            }
            Recovery::GiveUp => {
                let messages: usize = group.iter().map(Chunk::len).sum();
                let is_content = is_for_the_content(&error.error);
                if is_content && messages > 1 {
                    // Halving the group finds the message at fault, or the accepted group size.
                    log::debug!(
                        "the server refused a POST of {messages} messages, sending smaller ones: {}",
                        ipc_base::chain(&error.error)
                    );
                    state.post_messages_max = Some((messages / 2).max(1));
                    state.post_next = true;
                    group.iter().for_each(|chunk| state.queue.requeue(chunk));
                    return;
                }
                if is_content && messages == 1 {
                    // This message was at fault, so the others may go in large groups again.
                    state.post_messages_max = None;
                    state.post_next = false;
                }
                if !is_content {
                    self.refuse(state, group, &error.error, may_be_there, epoch);
                    return;
                }
                for chunk in group {
                    chunk.settle(0..1, &EntryStatus::Refused(error.error.clone()), now);
                }
            }
        }
    }
}

/// A task that posts. Its `Drop` removes the POST from the list even if the runtime stops the task.
struct Posting {
    engine: Rc<Engine>,
    number: u64,
}

impl Drop for Posting {
    fn drop(&mut self) {
        if let Ok(mut state) = self.engine.state.try_borrow_mut() {
            state.end_post(self.number);
        }
        self.engine.wake();
    }
}

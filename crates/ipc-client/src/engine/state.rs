//! The state of an engine: what waits, what is in flight, and until when nothing is sent.
//!
//! The other files of the engine use it. Nothing here sends.

use std::collections::VecDeque;
use std::task::Context;
use std::time::Duration;

use actix_http::ws::CloseCode;
use ipc_protocol::CHANNEL_MESSAGE_BYTES_MAX_DEFAULT;
use tokio::time::Instant;

use crate::call::EntryStatus;
use crate::channel::Channel;
use crate::channel::in_flight::InFlight;
use crate::engine::active_call::Chunk;
use crate::engine::backoff::{Backoff, LAST_CHANCE};
use crate::engine::post::Post;
use crate::engine::queue::Queue;
use crate::error::{NoReply, Outcome, SendError};
use crate::exchange::session::Generation;
use crate::log_throttle::{LogThrottle, seconds};
use crate::random::random;

/// The shortest time between two log lines about the same wait.
pub(super) const SAY_EVERY: Duration = Duration::from_secs(5);

/// How long a client lives before it watches its home: one that sends a message and ends starts no
/// thread for that.
const WATCH_AFTER: Duration = Duration::from_secs(3);

/// With so many frames of messages unanswered no further one is written. What gathers meanwhile
/// goes together, into one seal and one commit. Frames of requests alone, whose replies may take
/// long, do not count.
const FRAMES_UNANSWERED_MAX: usize = 8;

/// The same limit when the first of these frames is not answered [soon](ANSWERED_SOON), as by an
/// inbox that commits each frame. Then one end handles a frame while the other end gathers the
/// next.
const LATE_FRAMES_UNANSWERED_MAX: usize = 2;

/// A server that only keeps messages in memory answers within this time.
const ANSWERED_SOON: Duration = Duration::from_micros(250);

/// An upper bound for the bytes that a session usually adds to a frame.
const SESSION_BYTES: usize = 2048;

pub(super) struct State {
    pub(super) queue: Queue,
    pub(super) link: Link,
    /// Entries sent over the channel that have no answer.
    pub(super) in_flight: InFlight<Chunk>,
    /// How many of them are requests.
    pub(super) requests: usize,
    /// The number of the last message in each frame without an answer, and when the frame was sent.
    /// Frames of requests alone are left out.
    pub(super) unanswered: VecDeque<(u64, Instant)>,
    /// The session that was sent over the channel.
    pub(super) session_sent: Option<Generation>,
    /// The server refuses all entries from this number on until the client begins again with it.
    pub(super) resume: Option<u64>,
    /// The server cannot store messages. Another one is asked once nothing is in flight: a request
    /// that this server has accepted is not asked of another while its reply may come.
    pub(super) leaves_address: bool,
    /// Whether there was another address when the channel was opened.
    pub(super) has_other_address: bool,
    /// Requests that are sent again later, and when.
    pub(super) delayed: Vec<(Instant, Chunk)>,
    pub(super) posts: Vec<Post>,
    /// The number of the next POST.
    pub(super) next_post: u64,
    /// Whether a first message has ended, or a channel was opened.
    pub(super) has_begun: bool,
    /// Whether the next entry goes by POST, because the response says more about a fault.
    pub(super) post_next: bool,
    /// Until then the client does not ask for a channel.
    pub(super) no_channel_until: Option<Instant>,
    pub(super) has_told_no_channel: bool,
    /// How many upgrade requests in a row had no response.
    pub(super) openings_without_answer: u32,
    /// The most messages in a POST, after the server has refused a larger one.
    pub(super) post_messages_max: Option<usize>,
    pub(super) is_logging_in: bool,
    /// The home is read again: nothing is sent before it is known whether it has changed.
    pub(super) is_rereading: bool,
    /// What was refused and ends if it has not.
    pub(super) refused: Vec<Refused>,
    /// The channel is one of before a change: nothing more goes over it, and then it ends.
    pub(super) drain_until: Option<Instant>,
    /// When the client has lived for so long that it watches its home.
    pub(super) watch_at: Option<Instant>,
    pub(super) kept_tries: u32,
    /// Whether the session is from a login, and the server has accepted nothing with it yet.
    pub(super) is_session_unproved: bool,
    pub(super) backoff: Backoff,
    pub(super) retries: LogThrottle,
    /// Until then nothing is sent.
    pub(super) paused_until: Option<Instant>,
    /// The refusal of a server that has no room. It applies to all entries that wait until
    /// `paused_until`.
    pub(super) no_room: Option<SendError>,
    /// When to look through the calls, for passed deadlines and for log lines about waits.
    pub(super) look_at: Option<Instant>,
}

/// Messages that were refused, and have their end if no file of the home has changed.
pub(super) struct Refused {
    pub(super) chunk: Chunk,
    pub(super) error: SendError,
    pub(super) may_be_there: bool,
}

/// What there is of a channel.
pub(super) enum Link {
    Closed,
    Opening,
    Open(Box<Channel>),
}

impl State {
    pub(super) fn new() -> Self {
        State {
            queue: Queue::default(),
            link: Link::Closed,
            in_flight: InFlight::default(),
            requests: 0,
            unanswered: VecDeque::new(),
            session_sent: None,
            resume: None,
            leaves_address: false,
            has_other_address: false,
            delayed: Vec::new(),
            posts: Vec::new(),
            next_post: 0,
            has_begun: false,
            post_next: false,
            no_channel_until: None,
            has_told_no_channel: false,
            openings_without_answer: 0,
            post_messages_max: None,
            is_logging_in: false,
            is_rereading: false,
            refused: Vec::new(),
            drain_until: None,
            watch_at: Some(Instant::now() + WATCH_AFTER),
            kept_tries: 0,
            is_session_unproved: false,
            backoff: Backoff::new(),
            retries: LogThrottle::default(),
            paused_until: None,
            no_room: None,
            look_at: None,
        }
    }

    pub(super) fn look_no_later_than(&mut self, at: Instant) {
        self.look_at = Some(self.look_at.map_or(at, |look_at| look_at.min(at)));
    }

    /// When the next call ends, or the next log line about a wait is due.
    pub(super) fn next_look(&self, now: Instant) -> Option<Instant> {
        let waiting = self.queue.iter().chain(self.delayed.iter().map(|(_, chunk)| chunk));
        let ends = waiting.map(|chunk| chunk.call.end().0);
        let sent = self.in_flight.iter().filter(|chunk| !chunk.call.is_over());
        let answers = sent.map(|chunk| chunk.call.end_once_there().min(now + SAY_EVERY));
        ends.chain(answers).chain(self.posts.iter().flat_map(Post::ends)).min()
    }

    /// The latest deadline of all waiting calls.
    pub(super) fn last_end(&self, otherwise: Instant) -> Instant {
        self.queue.iter().map(|chunk| chunk.call.end().0).max().unwrap_or(otherwise)
    }

    /// Notes an answer of the server, which ends the series of failures.
    pub(super) fn has_answer(&mut self) {
        self.backoff = Backoff::new();
        self.kept_tries = 0;
        self.is_session_unproved = false;
    }

    pub(super) fn wake_delayed(&mut self, now: Instant) {
        if self.delayed.is_empty() {
            return;
        }
        for (at, chunk) in std::mem::take(&mut self.delayed) {
            match at <= now {
                true => self.queue.requeue(&chunk),
                false => self.delayed.push((at, chunk)),
            }
        }
    }

    /// Whether another frame may be written. It may not while several are unanswered and the oldest
    /// of them is late.
    pub(super) fn may_write(&self, now: Instant) -> bool {
        self.unanswered.front().is_none_or(|(_, sent_at)| {
            let is_soon = now.saturating_duration_since(*sent_at) < ANSWERED_SOON;
            self.unanswered.len()
                < if is_soon { FRAMES_UNANSWERED_MAX } else { LATE_FRAMES_UNANSWERED_MAX }
        })
    }

    pub(super) fn count_requests(&mut self) {
        self.requests = self.in_flight.iter().filter(|chunk| chunk.call.is_request()).count();
    }

    /// Starts a pause before the next attempt, which goes to one of so many servers.
    pub(super) fn pause(
        &mut self,
        error: &SendError,
        retry_after: Option<Duration>,
        left: Duration,
        servers: u32,
        now: Instant,
    ) {
        // Without random numbers the pause has no jitter. The next seal reports the error.
        let random = random().map_or(u32::MAX / 2, u32::from_be_bytes);
        // A call without time left ends by itself. The others continue.
        let pause = self.backoff.next(None, left.max(LAST_CHANCE), random).unwrap_or_default();
        let pause = pause.max(retry_after.unwrap_or_default()) / servers.max(1);
        log::log!(
            self.retries.level(now),
            "sending again in {} ms, giving up in {}: {}",
            pause.as_millis(),
            seconds(left),
            ipc_base::chain(error)
        );
        let until = now + pause;
        self.paused_until = Some(self.paused_until.map_or(until, |paused| paused.max(until)));
        self.no_room = Some(error).filter(|error| error.outcome() == Outcome::Refused).cloned();
    }

    /// Handles a request that the server has, and whose reply did not come within the server's
    /// wait.
    pub(super) fn ask_again(
        &mut self,
        chunk: Chunk,
        late: SendError,
        had_no_wait: bool,
        now: Instant,
    ) {
        let is_late = matches!(late, SendError::NoReply { reason: NoReply::NotInTime { .. } });
        let is_news = chunk.call.is_there_now();
        chunk.call.reply_wait_begins(chunk.sent_at);
        if !is_late || chunk.call.reply_wait_left(now).is_zero() {
            chunk.call.settle(chunk.range.clone(), &EntryStatus::Refused(late), now);
            return;
        }
        chunk.call.note_failure(&chunk.range, &late, false);
        // The first attempt may only have delivered the request, with a wait of 0.
        if is_news && had_no_wait {
            self.queue.requeue(&chunk);
            return;
        }
        let random = random().map_or(u32::MAX / 2, u32::from_be_bytes);
        match chunk.call.pause(now, random) {
            Some(pause) => self.delayed.push((now + pause, chunk)),
            None => chunk.call.time_out(false, || late.clone()),
        }
    }

    /// Whether all waiting entries must go by POST.
    pub(super) fn only_misfits_wait(&self, session_bytes: usize) -> bool {
        let bytes_max = self.entries_bytes_max(session_bytes);
        self.queue.iter().all(|chunk| Queue::is_misfit(chunk, bytes_max))
    }

    pub(super) fn close_channel(&mut self, why: &str, cx: &mut Context<'_>) {
        if let Link::Open(channel) = &mut self.link {
            channel.close(CloseCode::Normal, why);
            // The client does not wait for the close frame to be sent: nothing depends on it.
            let _ = channel.poll_flush(cx);
        }
        self.link = Link::Closed;
        self.drain_until = None;
        self.session_sent = None;
        self.resume = None;
        self.leaves_address = false;
        self.in_flight = InFlight::default();
        self.unanswered.clear();
        self.requests = 0;
    }

    /// Since when the server of the channel owes an answer, if another one could give it.
    pub(super) fn owed_since(&self) -> Option<Instant> {
        let oldest = self.in_flight.iter().next().filter(|_| self.has_other_address)?;
        Some(oldest.sent_at)
    }

    /// When there is work to do even if nothing arrives.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        let channel = match &self.link {
            Link::Open(channel) => Some(channel.wake_at(self.owed_since())),
            _ => None,
        };
        let delayed = self.delayed.iter().map(|(at, _)| *at).min();
        let waits = !self.queue.is_empty();
        let late = self.posts.iter().filter(|_| waits).filter_map(Post::late_at).min();
        let again = self.no_channel_until.filter(|_| waits && self.posts.is_empty());
        let paused = self.paused_until.filter(|_| waits);
        let (drained, watch) = (self.drain_until, self.watch_at);
        let all = [channel, delayed, late, again, paused, self.look_at, drained, watch];
        all.into_iter().flatten().min()
    }

    /// Whether a request may take a connection. If there are several, requests leave one to all
    /// other entries.
    pub(super) fn may_request(&self, connections_max: usize) -> bool {
        self.posts.iter().filter(|post| post.is_request).count() < (connections_max - 1).max(1)
    }

    /// How many bytes of entries a frame holds at least, with a session of this length. While there
    /// is no channel, the default limit of a server counts.
    pub(super) fn entries_bytes_max(&self, session_bytes: usize) -> usize {
        let session_bytes = session_bytes.max(SESSION_BYTES);
        match &self.link {
            Link::Open(channel) => channel.entries_bytes_max(session_bytes),
            _ => CHANNEL_MESSAGE_BYTES_MAX_DEFAULT.saturating_sub(session_bytes),
        }
    }

    pub(super) fn end_post(&mut self, number: u64) {
        let Some(at) = self.posts.iter().position(|post| post.number == number) else { return };
        let post = self.posts.swap_remove(at);
        let streams: Vec<_> = post.chunks.iter().filter_map(|chunk| chunk.call.stream()).collect();
        self.queue.release(&streams);
    }

    /// Ends the calls of POSTs whose time has passed. The POSTs themselves continue.
    pub(super) fn time_out_posts(&self, now: Instant, no_answer: &dyn Fn() -> SendError) {
        for post in &self.posts {
            let is_written = post.attempt.writing.get();
            for chunk in post.chunks.iter().filter(|chunk| !chunk.call.is_over()) {
                let end = if is_written { chunk.call.end_once_there() } else { chunk.call.end().0 };
                if end <= now {
                    chunk.call.time_out(is_written, || match no_answer() {
                        SendError::NoAnswer { address, source } if !is_written => {
                            SendError::Unreachable { address, source }
                        }
                        error => error,
                    });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_follow_each_other_while_answers_come_soon_and_gather_where_they_do_not() {
        let (mut state, now) = (State::new(), Instant::now());
        let late = now + ANSWERED_SOON;
        for last in 0..8 {
            assert!(state.may_write(now), "{last}");
            assert_eq!(state.may_write(late), last < 2, "{last}");
            state.unanswered.push_back((last, now));
        }
        assert!(!state.may_write(now));
        state.unanswered.drain(..7);
        assert!(state.may_write(late));
    }
}

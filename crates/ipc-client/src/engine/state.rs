//! What an engine knows: what waits, what is on its way, and until when nothing is sent.
//!
//! The other files of the engine come here. Nothing here sends.

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

/// How often it is said what is waited for, at most.
pub(super) const SAY_EVERY: Duration = Duration::from_secs(5);

/// How long a client lives before it watches its home: one that sends a message and ends starts no
/// thread for that.
const WATCH_AFTER: Duration = Duration::from_secs(3);

/// With so many frames of messages unanswered no further one is written. What gathers meanwhile
/// goes together, into one seal and one commit. Frames of requests alone, whose replies may take
/// long, do not count.
const FRAMES_UNANSWERED_MAX: usize = 8;

/// The same where the first of them is not answered [soon](ANSWERED_SOON), as by an inbox that
/// commits each: then one end works at one frame while the other gathers the next.
const LATE_FRAMES_UNANSWERED_MAX: usize = 2;

/// A server that only keeps messages in memory has answered by then.
const ANSWERED_SOON: Duration = Duration::from_micros(250);

/// Bytes that a session adds to a frame, and more than most have.
const SESSION_BYTES: usize = 2048;

pub(super) struct State {
    pub(super) queue: Queue,
    pub(super) link: Link,
    /// What was sent over the channel and has no answer.
    pub(super) in_flight: InFlight<Chunk>,
    /// How many requests are among that.
    pub(super) requests: usize,
    /// The last message of each frame that has no answer yet, and when it was sent; one of requests
    /// alone is not among them.
    pub(super) unanswered: VecDeque<(u64, Instant)>,
    /// The session that the channel has.
    pub(super) session_sent: Option<Generation>,
    /// From which entry on the server takes none until it is told that this is known.
    pub(super) resume: Option<u64>,
    /// Requests that are asked for again later.
    pub(super) delayed: Vec<(Instant, Chunk)>,
    pub(super) posts: Vec<Post>,
    /// The number of the next of them.
    pub(super) next_post: u64,
    /// A first message has come to its end, or a channel was opened.
    pub(super) has_begun: bool,
    /// What is sent next goes by POST, which says what is wrong.
    pub(super) post_next: bool,
    /// Until then no channel is asked for.
    pub(super) no_channel_until: Option<Instant>,
    pub(super) has_told_no_channel: bool,
    /// How many in a row were asked for in vain.
    pub(super) openings_without_answer: u32,
    /// No more go into one POST: the server has refused as many.
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
    /// The session is of a login, and nothing was accepted with it yet.
    pub(super) is_session_unproved: bool,
    pub(super) backoff: Backoff,
    pub(super) retries: LogThrottle,
    /// Nothing is sent before.
    pub(super) paused_until: Option<Instant>,
    /// What the server said when it could take nothing: so it is with all that waits until then.
    pub(super) no_room: Option<SendError>,
    /// When calls have to be looked through: for those whose time is over, and for what to say.
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

    /// When the next call ends, or there is something to say.
    pub(super) fn next_look(&self, now: Instant) -> Option<Instant> {
        let waiting = self.queue.iter().chain(self.delayed.iter().map(|(_, chunk)| chunk));
        let ends = waiting.map(|chunk| chunk.call.end().0);
        let sent = self.in_flight.iter().filter(|chunk| !chunk.call.is_over());
        let answers = sent.map(|chunk| chunk.call.end_once_there().min(now + SAY_EVERY));
        ends.chain(answers).chain(self.posts.iter().flat_map(Post::ends)).min()
    }

    /// The latest moment at which something that waits ends.
    pub(super) fn last_end(&self, otherwise: Instant) -> Instant {
        self.queue.iter().map(|chunk| chunk.call.end().0).max().unwrap_or(otherwise)
    }

    /// The server has answered: what failed before is over.
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

    /// Whether a further frame may be written: not where several have no answer, and the first of
    /// them has not had one soon.
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

    /// Waits before anything is sent again.
    pub(super) fn pause(
        &mut self,
        error: &SendError,
        retry_after: Option<Duration>,
        left: Duration,
        now: Instant,
    ) {
        // Without random numbers pauses lose their jitter, and the next seal will say so.
        let random = random().map_or(u32::MAX / 2, u32::from_be_bytes);
        // A call with no time left ends by itself; others go on.
        let pause = self.backoff.next(None, left.max(LAST_CHANCE), random).unwrap_or_default();
        let pause = pause.max(retry_after.unwrap_or_default());
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

    /// A request whose reply did not come in the time that the server gives it. It has the request.
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
        // The first one may have been there only to bring it.
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

    /// Whether what waits has to go by POST, all of it.
    pub(super) fn only_misfits_wait(&self, session_bytes: usize) -> bool {
        let bytes_max = self.entries_bytes_max(session_bytes);
        self.queue.iter().all(|chunk| Queue::is_misfit(chunk, bytes_max))
    }

    pub(super) fn close_channel(&mut self, why: &str, cx: &mut Context<'_>) {
        if let Link::Open(channel) = &mut self.link {
            channel.close(CloseCode::Normal, why);
            // What does not go out at once is not waited for: nobody misses it.
            let _ = channel.poll_flush(cx);
        }
        self.link = Link::Closed;
        self.drain_until = None;
        self.session_sent = None;
        self.resume = None;
        self.in_flight = InFlight::default();
        self.unanswered.clear();
        self.requests = 0;
    }

    /// When there is something to do although nothing comes.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        let channel = match &self.link {
            Link::Open(channel) => Some(channel.wake_at()),
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

    /// Requests leave a connection to everything else, where there are several.
    pub(super) fn may_request(&self, connections_max: usize) -> bool {
        self.posts.iter().filter(|post| post.is_request).count() < (connections_max - 1).max(1)
    }

    /// How many bytes of entries a frame holds at least, with a session of that length; before
    /// there is a channel, one of a channel as it mostly is.
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

    /// Ends the calls of POSTs whose time is over; what is on its way stays so.
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

//! The entries that wait to be sent, in order.
//!
//! An entry that is sent again goes back to its place, before all entries of later calls. No
//! message of a stream goes by POST while an earlier message of the stream is under way: the later
//! one might arrive first.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::time::Instant;

use crate::call::Stream;
use crate::engine::active_call::{ActiveCall, Chunk};

/// The most bytes that the member with the reply's wait adds to the entry of a request.
pub(crate) const REPLY_WAIT_BYTES: usize = 48;

/// Entries that wait, as chunks of calls.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    chunks: VecDeque<Chunk>,
    /// The number of the next call.
    next_order: u64,
    /// An upper bound for the longest waiting entry, in bytes: the longest since the queue was last
    /// empty.
    longest: usize,
    /// Whether the queue has held, since it was last empty, a call with too many levels for a
    /// channel.
    has_deep: bool,
    /// Streams with a POST under way.
    held: Vec<Arc<Stream>>,
}

/// From this many messages on, two frames are worth their cost.
const HALVES_FROM: usize = 8;

/// The most chunks that [`Queue::half_of_many`] counts.
const HALVES_COUNTED_MAX: usize = 512;

/// The limits of one frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FrameLimits {
    pub(crate) entries: usize,
    pub(crate) bytes: usize,
    /// How many more requests may wait for a reply.
    pub(crate) requests: usize,
}

/// How an entry can be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fit {
    /// In a frame of a channel, or by POST.
    Channel,
    /// Only by POST: the entry is too long, or has too many levels.
    Post,
}

impl Queue {
    /// Adds a call to the end of the queue.
    pub(crate) fn push(&mut self, call: std::rc::Rc<ActiveCall>, now: Instant) {
        let (order, range) = (self.next_order, 0..call.messages.len());
        self.next_order += 1;
        self.note(&call);
        self.chunks.push_back(Chunk { call, range, order, sent_at: now });
    }

    /// Updates `longest` and `has_deep` for a call that is about to be queued.
    fn note(&mut self, call: &ActiveCall) {
        if self.chunks.is_empty() {
            (self.longest, self.has_deep) = (0, false);
        }
        self.longest = self.longest.max(call.messages.longest() + REPLY_WAIT_BYTES);
        self.has_deep |= call.is_deep;
    }

    /// Whether an entry may be too large for a frame that holds `bytes_max`. This check is cheaper
    /// than a search through the queue.
    fn may_have_misfits(&self, bytes_max: usize) -> bool {
        self.has_deep || self.longest > bytes_max
    }

    /// Puts the parts of a chunk without an answer back into their place.
    pub(crate) fn requeue(&mut self, chunk: &Chunk) {
        for chunk in chunk.open() {
            self.note(&chunk.call);
            let key = (chunk.order, chunk.range.start);
            // Usually the place is in front of all others.
            let at = self.chunks.partition_point(|other| (other.order, other.range.start) < key);
            self.chunks.insert(at, chunk);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// The number of waiting messages, but not more than two.
    pub(crate) fn count_up_to_two(&self) -> usize {
        match self.chunks.len() {
            0 => 0,
            1 => self.chunks[0].len().min(2),
            _ => 2,
        }
    }

    /// Half of the number of waiting messages. `None` if they are too few for two frames.
    pub(crate) fn half_of_many(&self) -> Option<usize> {
        let messages: usize = self.chunks.iter().take(HALVES_COUNTED_MAX).map(Chunk::len).sum();
        (messages >= HALVES_FROM).then(|| messages.div_ceil(2))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Chunk> {
        self.chunks.iter()
    }

    /// Takes out the chunks for which `is_out` returns true.
    pub(crate) fn take_out(&mut self, mut is_out: impl FnMut(&Chunk) -> bool) -> Vec<Chunk> {
        if !self.chunks.iter().any(&mut is_out) {
            return Vec::new();
        }
        let (out, left): (Vec<_>, Vec<_>) = self.chunks.drain(..).partition(|chunk| is_out(chunk));
        self.chunks = left.into();
        out
    }

    /// Takes all chunks.
    pub(crate) fn take_all(&mut self) -> Vec<Chunk> {
        self.chunks.drain(..).collect()
    }

    /// Whether the chunk's stream has no POST under way.
    fn is_free(&self, chunk: &Chunk) -> bool {
        self.held.is_empty()
            || chunk
                .call
                .stream()
                .is_none_or(|stream| !self.held.iter().any(|held| Arc::ptr_eq(held, &stream)))
    }

    /// How the first entry of a chunk can be sent if a frame holds `bytes_max` bytes of entries.
    fn fit(chunk: &Chunk, bytes_max: usize) -> Fit {
        let first = chunk.range.start;
        let bytes = chunk.call.messages.text_bytes(first..first + 1) + reply_wait_bytes(chunk);
        let is_short = bytes <= bytes_max;
        if is_short && !chunk.call.is_deep { Fit::Channel } else { Fit::Post }
    }

    /// Whether the first entry of a chunk is too large for a channel's frame, which holds
    /// `bytes_max` bytes of entries.
    pub(crate) fn is_misfit(chunk: &Chunk, bytes_max: usize) -> bool {
        Self::fit(chunk, bytes_max) == Fit::Post
    }

    /// Takes the next frame for a channel: the first waiting entries, within the limits. Drops
    /// entries whose caller has stopped waiting. Leaves an entry that must go by POST, and all
    /// later ones of its stream.
    pub(crate) fn take_frame(&mut self, limits: FrameLimits, frame: &mut Vec<Chunk>) {
        let (mut entries, mut bytes, mut requests) = (0, 0, 0);
        let mut at = 0;
        let mut blocked: Vec<Arc<Stream>> = Vec::new();
        while at < self.chunks.len() && entries < limits.entries {
            let chunk = &self.chunks[at];
            if chunk.call.is_over() {
                self.chunks.remove(at);
                continue;
            }
            let stream = chunk.call.stream();
            let is_blocked = stream
                .as_ref()
                .is_some_and(|stream| blocked.iter().any(|other| Arc::ptr_eq(other, stream)));
            let is_request = chunk.call.is_request();
            if is_blocked || !self.is_free(chunk) || (is_request && requests >= limits.requests) {
                at += 1;
                continue;
            }
            if Self::fit(chunk, limits.bytes) == Fit::Post {
                blocked.extend(stream);
                at += 1;
                continue;
            }
            let around = reply_wait_bytes(chunk) + usize::from(entries > 0);
            let room = limits.bytes.saturating_sub(bytes + around);
            let count = fitting(chunk, limits.entries - entries, room);
            if count == 0 {
                break;
            }
            requests += usize::from(is_request);
            entries += count;
            let Some(chunk) = self.take_first(at, count) else { break };
            bytes += chunk.bytes() + around;
            frame.push(chunk);
        }
    }

    /// Takes the content of the next POST: one request, messages of one batch, or single messages.
    /// With `channel_bytes_max`, the size of a channel's frame, it takes only an entry that is too
    /// large for it. `may_request` says whether a request may be taken.
    pub(crate) fn take_post(
        &mut self,
        channel_bytes_max: Option<usize>,
        messages_max: usize,
        bytes_max: usize,
        may_request: bool,
        is_in_flight: impl Fn(&Arc<Stream>) -> bool,
    ) -> Option<Vec<Chunk>> {
        if channel_bytes_max.is_some_and(|bytes_max| !self.may_have_misfits(bytes_max)) {
            return None;
        }
        let mut group: Vec<Chunk> = Vec::new();
        let (mut messages, mut bytes) = (0, 0);
        let mut at = 0;
        let mut passed: Vec<Arc<Stream>> = Vec::new();
        while at < self.chunks.len() && messages < messages_max {
            let chunk = &self.chunks[at];
            if chunk.call.is_over() {
                self.chunks.remove(at);
                continue;
            }
            let stream = chunk.call.stream();
            let is_behind = stream.as_ref().is_some_and(|stream| {
                passed.iter().any(|other| Arc::ptr_eq(other, stream)) || is_in_flight(stream)
            });
            let is_wanted = match channel_bytes_max {
                None => true,
                Some(bytes_max) => Self::fit(chunk, bytes_max) == Fit::Post,
            };
            // A request has a POST of its own. So has a batch.
            let is_alone = chunk.call.is_request() || stream.is_some();
            let is_request = chunk.call.is_request();
            if is_behind
                || !self.is_free(chunk)
                || !is_wanted
                || (is_request && !may_request)
                || (is_alone && messages > 0)
            {
                passed.extend(stream);
                at += 1;
                continue;
            }
            // With a channel, only this one entry must go by POST.
            let count_max = if channel_bytes_max.is_some() { 1 } else { messages_max - messages };
            let mut count = fitting(chunk, count_max, bytes_max.saturating_sub(bytes));
            if count == 0 {
                if messages > 0 {
                    break;
                }
                count = 1;
            }
            messages += count;
            // The rest of a batch waits until the POST of this part has ended.
            let Some(chunk) = self.take_first(at, count) else { break };
            bytes += chunk.bytes() + 1;
            group.push(chunk);
            if is_alone || channel_bytes_max.is_some() {
                break;
            }
        }
        if group.is_empty() {
            return None;
        }
        for stream in group.iter().filter_map(|chunk| chunk.call.stream()) {
            if !self.held.iter().any(|held| Arc::ptr_eq(held, &stream)) {
                self.held.push(stream);
            }
        }
        Some(group)
    }

    /// Takes the first messages of the chunk at a position. The rest stays there.
    fn take_first(&mut self, at: usize, count: usize) -> Option<Chunk> {
        let chunk = self.chunks.get_mut(at)?;
        if count >= chunk.len() {
            return self.chunks.remove(at);
        }
        let split = chunk.range.start + count;
        let first = Chunk { range: chunk.range.start..split, ..chunk.clone() };
        chunk.range.start = split;
        Some(first)
    }

    /// Notes that a POST with messages of these streams has ended.
    pub(crate) fn release(&mut self, streams: &[Arc<Stream>]) {
        self.held.retain(|held| !streams.iter().any(|stream| Arc::ptr_eq(held, stream)));
    }
}

/// Bytes that an entry on a channel has beside its text.
fn reply_wait_bytes(chunk: &Chunk) -> usize {
    if chunk.call.is_request() { REPLY_WAIT_BYTES } else { 0 }
}

/// How many of the first entries of a chunk fit into `bytes_max`.
fn fitting(chunk: &Chunk, count_max: usize, bytes_max: usize) -> usize {
    let (first, most) = (chunk.range.start, chunk.len().min(count_max));
    if most == 0 || chunk.call.messages.text_bytes(first..first + most) <= bytes_max {
        return most;
    }
    let (mut fits, mut too_many) = (0, most);
    while fits + 1 < too_many {
        let middle = usize::midpoint(fits, too_many);
        match chunk.call.messages.text_bytes(first..first + middle) <= bytes_max {
            true => fits = middle,
            false => too_many = middle,
        }
    }
    fits
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::time::Duration;

    use ipc_protocol::MessageId;
    use tokio::sync::{mpsc, oneshot};

    use super::*;
    use crate::call::{BatchEvent, BatchSender, Call, EntryStatus, Kind, Messages};
    use crate::error::SendError;
    use crate::receipt::{Reply, Sent};

    /// Receivers of the calls of a test.
    #[derive(Default)]
    struct Waiting {
        sends: Vec<oneshot::Receiver<Result<Sent, SendError>>>,
        requests: Vec<oneshot::Receiver<Result<Reply, SendError>>>,
        batches: Vec<(mpsc::UnboundedReceiver<BatchEvent>, oneshot::Receiver<Infallible>)>,
    }

    fn id(number: u8) -> MessageId {
        MessageId::from_random([number; 16])
    }

    fn push(queue: &mut Queue, messages: Messages, is_deep: bool, kind: Kind) {
        let now = Instant::now();
        let call =
            Call { messages, begun_at: now, timeout: Duration::from_secs(30), is_deep, kind };
        queue.push(ActiveCall::new(call), now);
    }

    impl Waiting {
        fn send(&mut self, queue: &mut Queue, number: u8, bytes: usize) {
            let (done, result) = oneshot::channel();
            self.sends.push(result);
            let body = format!(r#"{{"t":"{}"}}"#, "x".repeat(bytes));
            push(queue, Messages::one(Some(id(number)), &body), false, Kind::Send(done));
        }

        fn request(&mut self, queue: &mut Queue, number: u8) {
            let (done, result) = oneshot::channel();
            self.requests.push(result);
            let kind = Kind::Request { reply_wait: Duration::from_secs(30), done };
            push(queue, Messages::one(Some(id(number)), "{}"), false, kind);
        }

        fn batch(
            &mut self,
            queue: &mut Queue,
            stream: &Arc<Stream>,
            numbers: std::ops::Range<u8>,
            is_deep: bool,
        ) {
            let mut messages = Messages::with_capacity(numbers.len(), 0);
            let number = u64::from(numbers.start);
            numbers.for_each(|number| messages.push(id(number), "{}"));
            let ((events, received), (is_wanted, wanted)) =
                (mpsc::unbounded_channel(), oneshot::channel());
            self.batches.push((received, wanted));
            let sender = BatchSender { number, events, stream: Arc::clone(stream), is_wanted };
            push(queue, messages, is_deep, Kind::Batch(sender));
        }
    }

    fn numbers(chunks: &[Chunk]) -> Vec<u8> {
        let of = |chunk: &Chunk| {
            chunk.range.clone().map(|at| chunk.call.messages.id(at)).collect::<Vec<_>>()
        };
        let ids = chunks.iter().flat_map(of);
        ids.map(|found| (0..=255).find(|number| id(*number) == found).unwrap()).collect()
    }

    fn frame(queue: &mut Queue, entries: usize, bytes: usize, requests: usize) -> Vec<Chunk> {
        let mut frame = Vec::new();
        queue.take_frame(FrameLimits { entries, bytes, requests }, &mut frame);
        frame
    }

    #[test]
    fn a_frame_takes_what_waits_in_order_within_its_limits() {
        let (mut queue, mut waiting) = (Queue::default(), Waiting::default());
        (0..5).for_each(|number| waiting.send(&mut queue, number, 10));
        (5..8).for_each(|number| waiting.request(&mut queue, number));
        assert_eq!(numbers(&frame(&mut queue, 3, 1000, 9)), [0, 1, 2]);
        let two = frame(&mut queue, 9, 200, 1);
        assert_eq!(numbers(&two), [3, 4], "there is no room for a third");
        assert_eq!(numbers(&frame(&mut queue, 9, 1000, 1)), [5], "one more request may wait");
        assert!(frame(&mut queue, 9, 1000, 0).is_empty());
        waiting.send(&mut queue, 8, 10);
        assert_eq!(
            numbers(&frame(&mut queue, 9, 1000, 0)),
            [8],
            "waiting requests hold up no message"
        );
        assert_eq!(numbers(&frame(&mut queue, 9, 1000, 9)), [6, 7]);
    }

    #[test]
    fn what_is_put_back_goes_before_what_came_after_it_and_what_has_an_answer_does_not_go() {
        let (mut queue, mut waiting, stream) =
            (Queue::default(), Waiting::default(), Arc::default());
        waiting.batch(&mut queue, &stream, 0..4, false);
        waiting.send(&mut queue, 4, 10);
        waiting.send(&mut queue, 5, 10);
        let first = frame(&mut queue, 4, 1000, 9);
        let second = frame(&mut queue, 1, 1000, 9);
        assert_eq!((numbers(&first), numbers(&second)), (vec![0, 1, 2, 3], vec![4]));
        first[0].settle(1..3, &EntryStatus::Accepted, Instant::now());
        second.iter().chain(&first).for_each(|chunk| queue.requeue(chunk));
        assert_eq!(numbers(&frame(&mut queue, 9, 1000, 9)), [0, 3, 4, 5]);
    }

    #[test]
    fn nothing_of_a_stream_overtakes_what_goes_by_post() {
        let (mut queue, mut waiting, stream) =
            (Queue::default(), Waiting::default(), Arc::default());
        waiting.batch(&mut queue, &stream, 0..2, false);
        waiting.batch(&mut queue, &stream, 2..3, true);
        waiting.batch(&mut queue, &stream, 3..5, false);
        waiting.send(&mut queue, 5, 10);
        assert!(
            queue.take_post(Some(1000), 1, 1000, true, |_| false).is_none(),
            "earlier messages go first"
        );
        assert_eq!(
            numbers(&frame(&mut queue, 9, 1000, 9)),
            [0, 1, 5],
            "later messages of the stream wait for the POST"
        );
        assert!(
            queue.take_post(Some(1000), 1, 1000, true, |_| true).is_none(),
            "earlier messages are in flight"
        );
        let post = queue.take_post(Some(1000), 1, 1000, true, |_| false).unwrap();
        assert_eq!((numbers(&post), numbers(&frame(&mut queue, 9, 1000, 9))), (vec![2], vec![]));
        queue.release(&[stream]);
        assert_eq!(numbers(&frame(&mut queue, 9, 1000, 9)), [3, 4]);
    }

    #[test]
    fn a_request_and_a_batch_have_a_post_of_their_own_and_messages_share_one() {
        let (mut queue, mut waiting, stream) =
            (Queue::default(), Waiting::default(), Arc::default());
        waiting.send(&mut queue, 0, 10);
        waiting.request(&mut queue, 1);
        waiting.send(&mut queue, 2, 10);
        waiting.batch(&mut queue, &stream, 3..6, false);
        let mut post = |may_request| {
            let group = queue.take_post(None, 2, 1000, may_request, |_| false);
            group.as_deref().map(numbers)
        };
        assert_eq!(post(true), Some(vec![0, 2]));
        assert_eq!(post(true), Some(vec![1]));
        assert_eq!(post(false), Some(vec![3, 4]), "no more than the limit of a POST");
        assert_eq!(post(true), None, "the rest of the batch waits for its first part");
        queue.release(&[stream]);
        assert_eq!(numbers(&queue.take_post(None, 2, 1000, true, |_| false).unwrap()), [5]);
    }

    #[test]
    fn what_nobody_waits_for_any_more_is_dropped() {
        let (mut queue, mut waiting) = (Queue::default(), Waiting::default());
        (0..3).for_each(|number| waiting.send(&mut queue, number, 10));
        waiting.sends.remove(1);
        assert_eq!(numbers(&frame(&mut queue, 9, 1000, 9)), [0, 2]);
        assert!(queue.is_empty());
    }
}

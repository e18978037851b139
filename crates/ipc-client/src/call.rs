//! Calls on their way from the caller to the engine. Plain values.

use std::convert::Infallible;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ipc_protocol::{MessageId, write_channel_entry};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::error::SendError;
use crate::receipt::{Reply, Sent};

/// An entry is `{"id":"…","body":…}`: the offset of the id, its length, and the offset of the body.
const ID_BEGINS: usize = br#"{"id":""#.len();
const ID_BYTES: usize = 36;
const BODY_BEGINS: usize = ID_BEGINS + ID_BYTES + br#"","body":"#.len();

/// The bytes that a message adds to a batch beside its body: its id, the members around it, and a
/// comma.
pub(crate) const ENTRY_BYTES: usize = BODY_BEGINS + 2;

/// Contiguous messages, written as the entries of a frame, with a comma between them.
#[derive(Debug, Default)]
pub(crate) struct Messages {
    text: Vec<u8>,
    /// Where the text of each message ends. Empty for a single message.
    ends: Vec<u32>,
    /// Bytes of the longest entry.
    longest: usize,
    /// Whether the id of a single message is still to be drawn.
    needs_id: bool,
}

impl Messages {
    /// A single message. Without an id it gets one from [`draw_id`](Self::draw_id).
    pub(crate) fn one(id: Option<MessageId>, body: &str) -> Self {
        let mut text = Vec::with_capacity(body.len() + ENTRY_BYTES);
        write_channel_entry(&mut text, id.unwrap_or(MessageId::from_bytes([0; 16])), body, None);
        let longest = text.len();
        Messages { text, ends: Vec::new(), longest, needs_id: id.is_none() }
    }

    /// Gives a single message an id from `draw`, if it has none.
    pub(crate) fn draw_id<E>(
        &mut self,
        draw: impl FnOnce() -> Result<MessageId, E>,
    ) -> Result<(), E> {
        if self.needs_id {
            let id = draw()?.to_string();
            self.text[ID_BEGINS..ID_BEGINS + ID_BYTES].copy_from_slice(id.as_bytes());
            self.needs_id = false;
        }
        Ok(())
    }

    /// Empty, with room for this many messages and bytes.
    pub(crate) fn with_capacity(messages: usize, bytes: usize) -> Self {
        Messages {
            text: Vec::with_capacity(bytes),
            ends: Vec::with_capacity(messages),
            longest: 0,
            needs_id: false,
        }
    }

    /// Adds a message to a batch.
    pub(crate) fn push(&mut self, id: MessageId, body: &str) {
        if !self.ends.is_empty() {
            self.text.push(b',');
        }
        let begin = self.text.len();
        write_channel_entry(&mut self.text, id, body, None);
        self.longest = self.longest.max(self.text.len() - begin);
        self.ends.push(u32::try_from(self.text.len()).unwrap_or(u32::MAX));
    }

    /// The number of messages.
    pub(crate) fn len(&self) -> usize {
        match self.ends.len() {
            0 => usize::from(!self.text.is_empty()),
            messages => messages,
        }
    }

    /// Bytes of all entries, including commas.
    pub(crate) fn bytes(&self) -> usize {
        self.text.len()
    }

    /// Bytes of the longest entry.
    pub(crate) fn longest(&self) -> usize {
        self.longest
    }

    /// The text of a contiguous range: entries with commas between them.
    pub(crate) fn text(&self, range: Range<usize>) -> &[u8] {
        if self.ends.is_empty() {
            return &self.text;
        }
        let begin = match range.start {
            0 => 0,
            // After the comma.
            start => self.ends[start - 1] as usize + 1,
        };
        &self.text[begin..self.ends[range.end - 1] as usize]
    }

    /// Bytes of the text of this range.
    pub(crate) fn text_bytes(&self, range: Range<usize>) -> usize {
        self.text(range).len()
    }

    /// The id of a message.
    pub(crate) fn id(&self, index: usize) -> MessageId {
        let text = &self.text(index..index + 1)[ID_BEGINS..ID_BEGINS + ID_BYTES];
        let id = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
        id.expect("`write_channel_entry` wrote it")
    }

    /// The body of a message.
    pub(crate) fn body(&self, index: usize) -> &str {
        let text = self.text(index..index + 1);
        std::str::from_utf8(&text[BODY_BEGINS..text.len() - 1])
            .expect("it was written from a `str`")
    }
}

/// A call, with the channel for its result.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) messages: Messages,
    pub(crate) begun_at: Instant,
    /// How long the call may take.
    pub(crate) timeout: Duration,
    /// Whether it must go by POST, because it has too many levels for a channel's frame.
    pub(crate) is_deep: bool,
    pub(crate) kind: Kind,
}

/// The kind of a call.
#[derive(Debug)]
pub(crate) enum Kind {
    /// A message.
    Send(oneshot::Sender<Result<Sent, SendError>>),
    /// A message that asks for a reply, and how long its caller waits for the reply.
    Request { reply_wait: Duration, done: oneshot::Sender<Result<Reply, SendError>> },
    /// Many messages of a stream, in order.
    Batch(BatchSender),
}

/// The server's answer for a message.
#[derive(Clone, Debug)]
pub(crate) enum EntryStatus {
    Accepted,
    Duplicate,
    Refused(SendError),
}

/// News about a batch.
#[derive(Debug)]
pub(crate) enum BatchEvent {
    /// The answers for the next messages of the batch, in order.
    Settled { batch: u64, statuses: Vec<EntryStatus> },
    /// The messages of the stream without an answer will not be sent.
    Failed(SendError),
}

/// The channel for the results of a batch.
#[derive(Debug)]
pub(crate) struct BatchSender {
    /// The number of the batch in its stream, counted from 0.
    pub(crate) number: u64,
    pub(crate) events: mpsc::UnboundedSender<BatchEvent>,
    pub(crate) stream: Arc<Stream>,
    /// Closed when the caller has stopped waiting.
    pub(crate) is_wanted: oneshot::Sender<Infallible>,
}

/// The batches of one `send_all`. When one of them fails, all end. An answer to one gives all of
/// them more time.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    has_failed: AtomicBool,
    /// How many batches were sent at least once.
    sent: AtomicU64,
    /// When a batch last had an answer.
    progress_at: Mutex<Option<Instant>>,
}

impl Stream {
    /// Notes that a batch has failed. Later batches are not sent.
    pub(crate) fn fail(&self) {
        self.has_failed.store(true, Ordering::Release);
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::Acquire)
    }

    /// Notes that a batch is sent.
    pub(crate) fn note_sent(&self, batch: u64) {
        self.sent.fetch_max(batch + 1, Ordering::AcqRel);
    }

    /// How many batches were sent.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Acquire)
    }

    pub(crate) fn note_progress(&self, now: Instant) {
        *self.progress_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
    }

    /// When a batch last had an answer, or `begun_at` if that is later.
    pub(crate) fn progress_at(&self, begun_at: Instant) -> Instant {
        let progress_at = *self.progress_at.lock().unwrap_or_else(PoisonError::into_inner);
        progress_at.map_or(begun_at, |at| at.max(begun_at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u8) -> MessageId {
        MessageId::from_random([number; 16])
    }

    #[test]
    fn a_message_is_found_among_others_with_its_id_and_its_body() {
        let mut messages = Messages::with_capacity(3, 0);
        for number in 0..3 {
            messages.push(id(number), &format!(r#"{{"n":{number}}}"#));
        }
        assert_eq!(messages.len(), 3);
        for index in 0..3 {
            assert_eq!(messages.id(index), id(u8::try_from(index).unwrap()));
            assert_eq!(messages.body(index), format!(r#"{{"n":{index}}}"#));
        }
        let one = Messages::one(Some(id(7)), "{}");
        assert_eq!((one.len(), one.id(0), one.body(0)), (1, id(7), "{}"));
        let mut one = Messages::one(None, "{}");
        for number in [8, 9] {
            one.draw_id(|| Ok::<_, ()>(id(number))).unwrap();
            assert_eq!((one.id(0), one.body(0)), (id(8), "{}"));
        }
        assert_eq!(Messages::default().len(), 0);
    }

    #[test]
    fn the_text_of_some_is_what_a_frame_has_between_its_brackets() {
        let mut messages = Messages::with_capacity(3, 0);
        for number in 0..3 {
            messages.push(id(number), r#"{"a":[1]}"#);
        }
        let text = String::from_utf8(messages.text(1..3).to_vec()).unwrap();
        let entries: Vec<serde_json::Value> = serde_json::from_str(&format!("[{text}]")).unwrap();
        assert_eq!(entries.len(), 2);
        assert_eq!(entries[0]["id"], id(1).to_string());
        assert_eq!(messages.text_bytes(0..3), messages.bytes());
        assert_eq!(messages.text_bytes(0..1) + 1, ENTRY_BYTES + r#"{"a":[1]}"#.len());
    }
}

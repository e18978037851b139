//! What a caller asked for, on its way from the caller to the engine. Plain values.

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

/// What an entry has in front of its id, and between that and its body; behind the body it has a
/// brace.
const ID_BEGINS: usize = br#"{"id":""#.len();
const ID_BYTES: usize = 36;
const BODY_BEGINS: usize = ID_BEGINS + ID_BYTES + br#"","body":"#.len();

/// What a message costs among others beside its body: its id, the members around it, and a comma.
pub(crate) const ENTRY_BYTES: usize = BODY_BEGINS + 2;

/// Messages that follow each other, written as the entries of a frame, with a comma between them.
#[derive(Debug, Default)]
pub(crate) struct Messages {
    text: Vec<u8>,
    /// Where each ends; empty for a single one.
    ends: Vec<u32>,
    /// Bytes of the longest.
    longest: usize,
    /// The id of the single one has yet to be drawn.
    needs_id: bool,
}

impl Messages {
    /// A single message. Without an id it gets one by [`draw_id`](Self::draw_id).
    pub(crate) fn one(id: Option<MessageId>, body: &str) -> Self {
        let mut text = Vec::with_capacity(body.len() + ENTRY_BYTES);
        write_channel_entry(&mut text, id.unwrap_or(MessageId::from_bytes([0; 16])), body, None);
        let longest = text.len();
        Messages { text, ends: Vec::new(), longest, needs_id: id.is_none() }
    }

    /// Gives a single message the id that `draw` draws, if it has none.
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

    /// Room for as many messages and bytes.
    pub(crate) fn with_capacity(messages: usize, bytes: usize) -> Self {
        Messages {
            text: Vec::with_capacity(bytes),
            ends: Vec::with_capacity(messages),
            longest: 0,
            needs_id: false,
        }
    }

    /// Adds a message to those of a batch.
    pub(crate) fn push(&mut self, id: MessageId, body: &str) {
        if !self.ends.is_empty() {
            self.text.push(b',');
        }
        let begin = self.text.len();
        write_channel_entry(&mut self.text, id, body, None);
        self.longest = self.longest.max(self.text.len() - begin);
        self.ends.push(u32::try_from(self.text.len()).unwrap_or(u32::MAX));
    }

    /// How many messages there are.
    pub(crate) fn len(&self) -> usize {
        match self.ends.len() {
            0 => usize::from(!self.text.is_empty()),
            messages => messages,
        }
    }

    /// Bytes of all of them, commas included.
    pub(crate) fn bytes(&self) -> usize {
        self.text.len()
    }

    /// Bytes of the longest of them.
    pub(crate) fn longest(&self) -> usize {
        self.longest
    }

    /// The text of some that follow each other: entries with commas between them.
    pub(crate) fn text(&self, range: Range<usize>) -> &[u8] {
        if self.ends.is_empty() {
            return &self.text;
        }
        let begin = match range.start {
            0 => 0,
            // Behind the comma.
            start => self.ends[start - 1] as usize + 1,
        };
        &self.text[begin..self.ends[range.end - 1] as usize]
    }

    /// How many bytes the text of these has.
    pub(crate) fn text_bytes(&self, range: Range<usize>) -> usize {
        self.text(range).len()
    }

    /// The id of a message.
    pub(crate) fn id(&self, index: usize) -> MessageId {
        let text = &self.text(index..index + 1)[ID_BEGINS..ID_BEGINS + ID_BYTES];
        let id = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
        id.expect("it was written here")
    }

    /// The body of a message.
    pub(crate) fn body(&self, index: usize) -> &str {
        let text = self.text(index..index + 1);
        std::str::from_utf8(&text[BODY_BEGINS..text.len() - 1]).expect("it was text")
    }
}

/// A call, and who waits for what becomes of it.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) messages: Messages,
    pub(crate) begun_at: Instant,
    /// How long it may take.
    pub(crate) timeout: Duration,
    /// Goes by POST: it has too many levels for a channel's frame.
    pub(crate) is_deep: bool,
    pub(crate) kind: Kind,
}

/// Which call it is.
#[derive(Debug)]
pub(crate) enum Kind {
    /// A message.
    Send(oneshot::Sender<Result<Sent, SendError>>),
    /// A message that asks for a reply, which is waited for as long.
    Request { reply_wait: Duration, done: oneshot::Sender<Result<Reply, SendError>> },
    /// Many messages of a stream, in order.
    Batch(BatchSender),
}

/// What became of a message.
#[derive(Clone, Debug)]
pub(crate) enum EntryStatus {
    Accepted,
    Duplicate,
    Refused(SendError),
}

/// What becomes known of a batch.
#[derive(Debug)]
pub(crate) enum BatchEvent {
    /// What became of the next messages of the batch, in order.
    Settled { batch: u64, statuses: Vec<EntryStatus> },
    /// The messages of the stream that are not settled will not be sent any more.
    Failed(SendError),
}

/// The way back of a batch.
#[derive(Debug)]
pub(crate) struct BatchSender {
    /// Which batch of its stream it is, counted from 0.
    pub(crate) number: u64,
    pub(crate) events: mpsc::UnboundedSender<BatchEvent>,
    pub(crate) stream: Arc<Stream>,
    /// Closed once nobody waits any more.
    pub(crate) is_wanted: oneshot::Sender<Infallible>,
}

/// The batches of one `send_all`. One that is given up ends all, and an answer to one gives all
/// more time.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    has_failed: AtomicBool,
    /// How many batches were sent, at least once each.
    sent: AtomicU64,
    /// When something became known of one last.
    progress_at: Mutex<Option<Instant>>,
}

impl Stream {
    /// A batch was given up: those behind it are not sent.
    pub(crate) fn fail(&self) {
        self.has_failed.store(true, Ordering::Release);
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::Acquire)
    }

    /// A batch is sent.
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

    /// When something became known last; at least `begun_at`.
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

//! Puts a client's frame into the inbox: opens its envelope in place, and makes messages of its
//! entries.
//!
//! The driver comes here with each message, and records the results itself.

use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use ipc_envelope::{Freshness, KeyRing};
use ipc_inbox::{NotifyGuard, Pending, Put, PutError};
use ipc_protocol::{
    ChannelFrame, ChannelMessage, Frame, FrameError, FrameHead, MessageId, ProblemCode, Route,
    Settled,
};
use zeroize::{Zeroize as _, Zeroizing};

use super::closing::Closing;
use super::parsed::{ParsedFrame, ReadFrame};
use crate::admit;
use crate::authenticate::Sender;
use crate::sealed_body::{INLINE_BYTES_MAX, not_opened};
use crate::state::State;

/// A message as it arrived. It is wiped when it is dropped.
pub(super) struct Sealed {
    bytes: BytesMut,
    /// Where the plaintext is in `bytes`, once the envelope was opened.
    plaintext: Option<Range<usize>>,
    /// The ring that opened it, and which of its keys did.
    opened_by: Option<(Arc<KeyRing>, usize)>,
    /// What is known of a long message.
    found: Found,
}

/// What was found in a long message on a thread that may block.
enum Found {
    Nothing,
    /// The session token, while the sender is not known yet.
    Head(Option<Zeroizing<String>>),
    Frame(Result<ParsedFrame, FrameError>),
}

impl Sealed {
    pub(super) fn new(bytes: BytesMut) -> Self {
        Sealed { bytes, plaintext: None, opened_by: None, found: Found::Nothing }
    }

    /// Whether the message is so long that processing it would delay other connections.
    pub(super) fn is_long(&self) -> bool {
        self.bytes.len() > INLINE_BYTES_MAX
    }

    /// Whether the frame of a long message was [found](find).
    pub(super) fn has_frame(&self) -> bool {
        matches!(self.found, Found::Frame(_))
    }

    /// The session token of a long message whose head was [found](find); `None` if only more work
    /// can tell, or nothing is left to be asked.
    pub(super) fn head_session(&self) -> Option<Option<Zeroizing<String>>> {
        match &self.found {
            Found::Head(session) => Some(session.clone()),
            Found::Nothing | Found::Frame(_) => None,
        }
    }

    /// The frame that was [found](find).
    ///
    /// # Errors
    /// If the plaintext is none, or nothing was found.
    pub(super) fn frame(&self) -> Result<ReadFrame<'_>, FrameError> {
        match (&self.found, &self.plaintext) {
            (Found::Frame(Ok(frame)), Some(plaintext)) => {
                Ok(ReadFrame::Before(frame, &self.bytes[plaintext.clone()]))
            }
            (Found::Frame(Err(error)), _) => Err(error.clone()),
            _ => Err(FrameError::NotAnObject),
        }
    }

    /// The ring that opened it, and which of its keys did: the key of the answers.
    pub(super) fn opened_by(&self) -> Option<&(Arc<KeyRing>, usize)> {
        self.opened_by.as_ref()
    }

    /// Opens the envelope, unless it is open already, and returns its plaintext.
    ///
    /// # Errors
    /// Those of every other route.
    pub(super) fn open(&mut self, keys: &Arc<KeyRing>, now_secs: u64) -> Result<&[u8], Closing> {
        let plaintext = match &self.plaintext {
            Some(plaintext) => plaintext.clone(),
            None => {
                let freshness = Freshness::at(now_secs);
                let start = self.bytes.as_ptr().addr();
                let opened = keys.open_in_place(&mut self.bytes, Some(freshness));
                let opened = opened.map_err(|error| not_opened(&error, freshness))?;
                self.opened_by = Some((Arc::clone(keys), opened.key_index()));
                let opened = opened.plaintext();
                // The plaintext is a part of the buffer.
                let start = opened.as_ptr().addr() - start;
                self.plaintext.insert(start..start + opened.len()).clone()
            }
        };
        Ok(&self.bytes[plaintext])
    }
}

/// Parses a frame of a channel.
pub(super) fn parse(
    plaintext: &[u8],
    entries_max: usize,
) -> Result<ChannelMessage<'_, ChannelFrame<'_>>, FrameError> {
    let frame = Frame::parse_channel_frame(plaintext, entries_max);
    frame.and_then(|frame| frame.addressed_to(Route::MessageChannel))
}

/// Opens a long message. Checks its JSON if the sender is known; otherwise only finds the session
/// token, because the body may be hostile.
///
/// # Errors
/// If the envelope does not open, or the sender is not known and there is no frame.
pub(super) fn find(
    mut message: Sealed,
    keys: &Arc<KeyRing>,
    now_secs: u64,
    (is_sender_known, entries_max): (bool, usize),
) -> Result<Sealed, Closing> {
    let plaintext = message.open(keys, now_secs)?;
    let found = if is_sender_known {
        let frame = parse(plaintext, entries_max);
        Found::Frame(frame.map(|frame| ParsedFrame::of(frame, plaintext)))
    } else {
        let head = parse_head(plaintext)?;
        Found::Head(head.session().map(|token| Zeroizing::new(token.to_owned())))
    };
    message.found = found;
    Ok(message)
}

/// Parses the members around the body of a channel's frame.
pub(super) fn parse_head(plaintext: &[u8]) -> Result<FrameHead<'_>, Closing> {
    FrameHead::parse(plaintext)
        .and_then(|head| head.addressed_to(Route::MessageChannel))
        .map_err(malformed)
}

impl Drop for Sealed {
    fn drop(&mut self) {
        self.bytes.as_mut().zeroize();
    }
}

pub(super) fn malformed(error: FrameError) -> Closing {
    admit::malformed(error).into()
}

/// How many entries of a frame ask for a reply.
pub(super) fn requests(frame: &ChannelFrame<'_>) -> usize {
    frame.entries.iter().filter(|entry| entry.is_ok_and(|entry| entry.reply_wait.is_some())).count()
}

/// The kind of an entry.
#[derive(Debug)]
pub(super) enum PendingEntry {
    /// The entry is invalid and is not put.
    Bad(ProblemCode),
    Message,
    /// A message whose sender waits this long for a reply.
    Request(MessageId, Duration),
}

/// The entries of a frame that are being put.
pub(super) struct Putting<'s> {
    /// The number of the first entry.
    pub(super) first: u64,
    pub(super) sender: Sender,
    put: Step<'s>,
}

/// The result of putting messages, and the notification of receivers that wait for some.
type Answer<T> = (T, NotifyGuard);

enum Step<'s> {
    None,
    One(Pending<'s, Answer<Result<Put, PutError>>>),
    All(Pending<'s, Answer<Vec<Result<Put, PutError>>>>),
}

/// The results of messages, in their order.
pub(super) enum Puts {
    One(Option<Result<Put, PutError>>),
    All(std::vec::IntoIter<Result<Put, PutError>>),
}

impl<'s> Putting<'s> {
    /// Puts the entries of a frame in one step. Fills `pending_entries` with the kind of each.
    pub(super) fn begin(
        frame: ChannelFrame<'_>,
        sender: Sender,
        pending_entries: &mut Vec<PendingEntry>,
        state: &'s State,
    ) -> Self {
        pending_entries.clear();
        pending_entries.extend(frame.entries.iter().map(|entry| {
            match entry {
                Err(code) => PendingEntry::Bad(*code),
                Ok(entry) => entry
                    .reply_wait
                    .map_or(PendingEntry::Message, |wait| PendingEntry::Request(entry.id, wait)),
            }
        }));
        let mut messages = frame.entries.iter().filter_map(|entry| {
            let entry = entry.as_ref().ok()?;
            Some(sender.message(entry.id, entry.body, entry.reply_wait.is_some()))
        });
        let put = match (messages.next(), messages.next()) {
            (None, _) => Step::None,
            (Some(message), None) => Step::One(state.inbox.put_deferred(message, state.inbox_wait)),
            (Some(first), Some(second)) => {
                let mut all = Vec::with_capacity(frame.entries.len());
                all.extend([first, second]);
                all.extend(messages);
                Step::All(state.inbox.put_all_deferred(all, state.inbox_wait))
            }
        };
        Putting { first: frame.first, sender, put }
    }

    /// Puts entries again that found no room: those from the number `from` on, of a frame that was
    /// opened and parsed before.
    ///
    /// # Errors
    /// None is expected, since the frame was valid before.
    pub(super) fn begin_again(
        message: &mut Sealed,
        keys: &Arc<KeyRing>,
        from: u64,
        sender: Sender,
        pending_entries: &mut Vec<PendingEntry>,
        state: &'s State,
        entries_max: usize,
    ) -> Result<Self, Closing> {
        let frame = if message.has_frame() {
            message.frame()
        } else {
            parse(message.open(keys, 0)?, entries_max).map(ReadFrame::Now)
        };
        let mut frame = frame.and_then(ReadFrame::into_body).map_err(malformed)?;
        let gone =
            usize::try_from(from - frame.first).unwrap_or(usize::MAX).min(frame.entries.len());
        frame.entries.drain(..gone);
        frame.first = from;
        Ok(Self::begin(frame, sender, pending_entries, state))
    }

    /// Polls for the results.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<(Puts, NotifyGuard)> {
        match &mut self.put {
            Step::None => Poll::Ready((Puts::One(None), NotifyGuard::none())),
            Step::One(put) => {
                Pin::new(put).poll(context).map(|(put, notify)| (Puts::One(Some(put)), notify))
            }
            Step::All(put) => Pin::new(put)
                .poll(context)
                .map(|(puts, notify)| (Puts::All(puts.into_iter()), notify)),
        }
    }
}

impl Iterator for Puts {
    type Item = Result<Put, PutError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Puts::One(put) => put.take(),
            Puts::All(puts) => puts.next(),
        }
    }
}

/// The code that the protocol has for a stored message.
pub(super) fn code_of(put: Put) -> &'static str {
    match put {
        Put::Accepted => Settled::ACCEPTED,
        Put::Duplicate => Settled::DUPLICATE,
    }
}

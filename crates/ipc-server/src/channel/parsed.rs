//! A frame of a channel whose JSON was checked before, without the text that it was read from.
//!
//! `driver` has long messages checked on a thread that may block, and comes here for the result. It
//! has positions in the plaintext, so that no text is checked or copied twice.

use std::ops::Range;
use std::time::Duration;

use ipc_protocol::{
    ChannelEntry, ChannelFrame, ChannelMessage, FrameError, MessageId, ProblemCode,
};
use zeroize::Zeroizing;

/// A frame that was checked before.
pub(super) struct ParsedFrame {
    id: MessageId,
    session: Option<Zeroizing<String>>,
    body: Result<Body, FrameError>,
}

struct Body {
    first: u64,
    resume: Option<u64>,
    entries: Vec<Result<Entry, ProblemCode>>,
}

struct Entry {
    id: MessageId,
    /// Where the body is in the plaintext.
    body: Range<usize>,
    reply_wait: Option<Duration>,
}

impl ParsedFrame {
    /// Keeps what was read from `plaintext`.
    pub(super) fn of(frame: ChannelMessage<'_, ChannelFrame<'_>>, plaintext: &[u8]) -> Self {
        let id = frame.id();
        let session = frame.session().map(|token| Zeroizing::new(token.to_owned()));
        let entry_of = |entry: ChannelEntry<'_>| {
            // The body is a part of the plaintext.
            let start = entry.body.as_ptr().addr() - plaintext.as_ptr().addr();
            let body = start..start + entry.body.len();
            Entry { id: entry.id, body, reply_wait: entry.reply_wait }
        };
        let body = frame.into_body().map(|frame| Body {
            first: frame.first,
            resume: frame.resume,
            entries: frame.entries.into_iter().map(|entry| entry.map(entry_of)).collect(),
        });
        ParsedFrame { id, session, body }
    }

    fn body_in<'a>(&self, plaintext: &'a [u8]) -> Result<ChannelFrame<'a>, FrameError> {
        let body = self.body.as_ref().map_err(Clone::clone)?;
        let entry_in = |entry: &Entry| {
            // Neither fails, since the entry was read from this text.
            let text = plaintext.get(entry.body.clone()).ok_or(ProblemCode::MalformedFrame)?;
            let body = std::str::from_utf8(text).map_err(|_| ProblemCode::MalformedFrame)?;
            Ok(ChannelEntry { id: entry.id, body, reply_wait: entry.reply_wait })
        };
        let entries = body.entries.iter().map(|entry| match entry {
            Ok(entry) => entry_in(entry),
            Err(code) => Err(*code),
        });
        Ok(ChannelFrame { first: body.first, resume: body.resume, entries: entries.collect() })
    }
}

/// A frame that was read just now, or checked before.
pub(super) enum ReadFrame<'a> {
    Now(ChannelMessage<'a, ChannelFrame<'a>>),
    /// With the plaintext.
    Before(&'a ParsedFrame, &'a [u8]),
}

impl<'a> ReadFrame<'a> {
    pub(super) fn id(&self) -> MessageId {
        match self {
            ReadFrame::Now(frame) => frame.id(),
            ReadFrame::Before(frame, _) => frame.id,
        }
    }

    pub(super) fn session(&self) -> Option<&str> {
        match self {
            ReadFrame::Now(frame) => frame.session(),
            ReadFrame::Before(frame, _) => frame.session.as_ref().map(|token| token.as_str()),
        }
    }

    /// What the client says.
    ///
    /// # Errors
    /// If the body is none of a channel.
    pub(super) fn into_body(self) -> Result<ChannelFrame<'a>, FrameError> {
        match self {
            ReadFrame::Now(frame) => frame.into_body(),
            ReadFrame::Before(frame, plaintext) => frame.body_in(plaintext),
        }
    }
}

//! Seals frames, opens replies, and draws the random numbers that both need.
//!
//! `exchange` and `channel` come here. What goes over which connection is not known here.

use std::cell::RefCell;
use std::time::{SystemTime, UNIX_EPOCH};

use ipc_envelope::{Freshness, HEADER_BYTES, KeyRing, OVERHEAD_BYTES_MAX, OpenError};
use ipc_protocol::{ChannelAnswer, Frame, MessageId};
use zeroize::Zeroizing;

use crate::clock;
use crate::error::SendError;
use crate::random::Pool;

/// The keys of a client, with the random numbers for them.
pub(crate) struct Sealer {
    ring: KeyRing,
    randomness: RefCell<Pool>,
}

impl Sealer {
    pub(crate) fn new(ring: KeyRing) -> Self {
        Sealer { ring, randomness: RefCell::new(Pool::new()) }
    }

    pub(crate) fn ring(&self) -> &KeyRing {
        &self.ring
    }

    /// An id for a channel, a batch or a login.
    ///
    /// # Errors
    /// [`SendError::NoRandomness`].
    pub(crate) fn draw_id(&self) -> Result<MessageId, SendError> {
        self.randomness.borrow_mut().draw_id()
    }

    /// An initialisation vector.
    ///
    /// # Errors
    /// [`SendError::NoRandomness`].
    pub(crate) fn draw_iv(&self) -> Result<[u8; 16], SendError> {
        self.randomness.borrow_mut().take()
    }

    /// Makes `buffer`, which is used again, the raw envelope of what `write` appends.
    ///
    /// # Errors
    /// [`SendError::NoRandomness`].
    pub(crate) fn seal_into(
        &self,
        buffer: &mut Vec<u8>,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), SendError> {
        let iv = self.draw_iv()?;
        buffer.clear();
        buffer.resize(HEADER_BYTES, 0);
        write(buffer);
        buffer.reserve(OVERHEAD_BYTES_MAX);
        self.ring.seal_in_place(buffer, unix_now_secs(), iv);
        Ok(())
    }

    /// Opens a raw envelope and reads the frame in it, which must be one to `id`.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub(crate) fn open<T>(
        &self,
        token: &[u8],
        id: MessageId,
        read: impl FnOnce(&Frame<'_>) -> Option<T>,
    ) -> Result<T, String> {
        read_frame(&self.plaintext(token)?, id, read)
    }

    /// Opens a raw envelope and reads what a server says on the channel `id`.
    ///
    /// # Errors
    /// What is wrong with it, in words, or by `read`, which gives `None` for an answer that cannot
    /// be one.
    pub(crate) fn open_channel_answer(
        &self,
        token: &[u8],
        id: MessageId,
        read: impl FnOnce(&ChannelAnswer<'_>) -> Option<()>,
    ) -> Result<(), String> {
        let plaintext = self.plaintext(token)?;
        Frame::parse_channel_answer(&plaintext)
            .and_then(|frame| frame.reply_to(id)?.into_body())
            .ok()
            .and_then(|answer| read(&answer))
            .ok_or_else(|| "what the server said is no answer to what was sent".to_owned())
    }

    fn plaintext(&self, token: &[u8]) -> Result<Zeroizing<Vec<u8>>, String> {
        let freshness = Freshness::at(unix_now_secs());
        self.ring.open(token, Some(freshness)).map_err(|error| not_opened(error, freshness))
    }

    /// Opens an envelope that is base64url text, as [`open`](Self::open) does a raw one.
    ///
    /// # Errors
    /// As `open`.
    pub(crate) fn open_text<T>(
        &self,
        text: &[u8],
        id: MessageId,
        read: impl FnOnce(&Frame<'_>) -> Option<T>,
    ) -> Result<T, String> {
        let mut token = Zeroizing::new(text.to_vec());
        let freshness = Freshness::at(unix_now_secs());
        let opened = self.ring.open_base64url_in_place(&mut token, Some(freshness));
        let opened = opened.map_err(|error| not_opened(error, freshness))?;
        read_frame(opened.plaintext(), id, read)
    }
}

fn not_opened(error: OpenError, freshness: Freshness) -> String {
    match error {
        OpenError::Stale { sealed_at_secs, now_secs } => {
            clock::of_reply(sealed_at_secs, now_secs, freshness)
        }
        _ => "the reply was not sealed with the keys of this home".to_owned(),
    }
}

fn read_frame<T>(
    plaintext: &[u8],
    id: MessageId,
    read: impl FnOnce(&Frame<'_>) -> Option<T>,
) -> Result<T, String> {
    Frame::parse(plaintext)
        .and_then(|frame| frame.reply_to(id))
        .ok()
        .and_then(|frame| read(&frame))
        .ok_or_else(|| "the reply is none, or not to what was sent".to_owned())
}

/// Seconds since the Unix epoch by this host's clock; 0 for a clock before it, which the server
/// will call stale.
pub(crate) fn unix_now_secs() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

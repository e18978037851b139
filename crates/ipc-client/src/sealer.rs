//! Seals frames, opens replies, and draws the random numbers for both.
//!
//! `exchange` and `channel` use it. It does not know which bytes go over which connection.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{SystemTime, UNIX_EPOCH};

use ipc_envelope::{Freshness, HEADER_BYTES, KeyRing, OVERHEAD_BYTES_MAX, OpenError};
use ipc_protocol::{ChannelAnswer, Frame, MessageId};
use zeroize::Zeroizing;

use crate::clock;
use crate::error::SendError;
use crate::random::Pool;

/// What is said of a reply that none of the keys opens.
pub(crate) const NOT_OURS: &str = "the reply was not sealed with the keys of this home";

/// The keys of a client, with the random numbers for them.
pub(crate) struct Sealer {
    ring: RefCell<Rc<KeyRing>>,
    randomness: RefCell<Pool>,
}

impl Sealer {
    pub(crate) fn new(ring: KeyRing) -> Self {
        let ring = RefCell::new(Rc::new(ring));
        Sealer { ring, randomness: RefCell::new(Pool::new()) }
    }

    /// The keys that seal now.
    pub(crate) fn ring(&self) -> Rc<KeyRing> {
        Rc::clone(&self.ring.borrow())
    }

    /// From now on these seal.
    pub(crate) fn set_ring(&self, ring: KeyRing) {
        *self.ring.borrow_mut() = Rc::new(ring);
    }

    /// Draws an id for a channel, a batch or a login.
    ///
    /// # Errors
    /// [`SendError::NoRandomness`].
    pub(crate) fn draw_id(&self) -> Result<MessageId, SendError> {
        self.randomness.borrow_mut().draw_id()
    }

    /// Draws an initialisation vector.
    ///
    /// # Errors
    /// [`SendError::NoRandomness`].
    pub(crate) fn draw_iv(&self) -> Result<[u8; 16], SendError> {
        self.randomness.borrow_mut().take()
    }

    /// Replaces the content of `buffer` by the raw envelope of what `write` appends. The memory is
    /// used again.
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
        self.ring().seal_in_place(buffer, unix_now_secs(), iv);
        Ok(())
    }

    /// Opens a raw envelope and reads the frame in it, which must have the id `id`.
    ///
    /// # Errors
    /// What is wrong with the envelope or the frame.
    pub(crate) fn open<T>(
        &self,
        token: &[u8],
        sealed_with: &Rc<KeyRing>,
        id: MessageId,
        read: impl FnOnce(&Frame<'_>) -> Option<T>,
    ) -> Result<T, String> {
        read_frame(&self.plaintext(token, sealed_with)?, id, read)
    }

    /// Opens a raw envelope and reads a server's answer on the channel `id`.
    ///
    /// # Errors
    /// What is wrong with the envelope or the answer. `read` returns `None` for an invalid answer.
    pub(crate) fn open_channel_answer(
        &self,
        token: &[u8],
        sealed_with: &Rc<KeyRing>,
        id: MessageId,
        read: impl FnOnce(&ChannelAnswer<'_>) -> Option<()>,
    ) -> Result<(), String> {
        let plaintext = self.plaintext(token, sealed_with)?;
        Frame::parse_channel_answer(&plaintext)
            .and_then(|frame| frame.reply_to(id)?.into_body())
            .ok()
            .and_then(|answer| read(&answer))
            .ok_or_else(|| "the answer is invalid, or is not to entries in flight".to_owned())
    }

    fn plaintext(
        &self,
        token: &[u8],
        sealed_with: &Rc<KeyRing>,
    ) -> Result<Zeroizing<Vec<u8>>, String> {
        let freshness = Freshness::at(unix_now_secs());
        let opened = self.with_either(sealed_with, |ring| ring.open(token, Some(freshness)));
        opened.map_err(|error| not_opened(error, freshness))
    }

    /// Opens with the keys of now, or else with those of before.
    fn with_either<T>(
        &self,
        before: &Rc<KeyRing>,
        mut open: impl FnMut(&KeyRing) -> Result<T, OpenError>,
    ) -> Result<T, OpenError> {
        let now = self.ring();
        match open(&now) {
            Err(error)
                if !matches!(error, OpenError::Stale { .. }) && !Rc::ptr_eq(&now, before) =>
            {
                open(before)
            }
            opened => opened,
        }
    }

    /// Opens an envelope in base64url text, as [`open`](Self::open) does a raw one.
    ///
    /// # Errors
    /// As `open`.
    pub(crate) fn open_text<T>(
        &self,
        text: &[u8],
        sealed_with: &Rc<KeyRing>,
        id: MessageId,
        read: impl FnOnce(&Frame<'_>) -> Option<T>,
    ) -> Result<T, String> {
        let freshness = Freshness::at(unix_now_secs());
        let opened = self.with_either(sealed_with, |ring| {
            let mut token = Zeroizing::new(text.to_vec());
            let opened = ring.open_base64url_in_place(&mut token, Some(freshness))?;
            Ok(Zeroizing::new(opened.plaintext().to_vec()))
        });
        let plaintext = opened.map_err(|error| not_opened(error, freshness))?;
        read_frame(&plaintext, id, read)
    }
}

fn not_opened(error: OpenError, freshness: Freshness) -> String {
    match error {
        OpenError::Stale { sealed_at_secs, now_secs } => {
            clock::of_reply(sealed_at_secs, now_secs, freshness)
        }
        _ => NOT_OURS.to_owned(),
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
        .ok_or_else(|| "the reply is invalid, or is not to this request".to_owned())
}

/// Seconds since the Unix epoch by this host's clock. 0 for a clock before it: the server then
/// refuses the envelope as stale.
pub(crate) fn unix_now_secs() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

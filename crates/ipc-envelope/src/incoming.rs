//! A token that arrives in pieces. The MAC of a raw token is computed as it arrives, so that little
//! work is left at the end.
//!
//! The code that receives long tokens comes here. Nothing is decrypted before the whole token has
//! arrived and its MAC is verified.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use zeroize::Zeroize;

use crate::primitives::RunningMac;
use crate::token::{TAG_BYTES, ciphertext_bytes};
use crate::{Freshness, KeyRing, OpenError};

/// A token shorter than this is not hashed while it arrives: hashing it at the end takes little
/// time.
const HASHED_AHEAD_BYTES_MIN: usize = 8 * 1024;

/// The bytes of a token that have arrived so far. They are wiped when dropped.
///
/// The bytes are private, so that no caller can change them between hashing and decryption.
///
/// ```
/// use std::sync::Arc;
/// use ipc_envelope::{Incoming, Key, KeyRing};
///
/// let ring = Arc::new(KeyRing::new(Key::from_bytes([1; 32])));
/// let token = ring.seal(b"in two pieces", 0, [2; 16]);
/// let mut incoming = Incoming::raw(&ring);
/// let (first, second) = token.split_at(40);
/// incoming.extend(first);
/// incoming.extend(second);
/// assert_eq!(incoming.open(None)?, b"in two pieces");
/// # Ok::<(), ipc_envelope::OpenError>(())
/// ```
pub struct Incoming {
    ring: Arc<KeyRing>,
    bytes: Vec<u8>,
    is_raw: bool,
    running_mac: Option<RunningMac>,
    /// The position of the plaintext in `bytes`, once the token is open.
    plaintext: Option<Range<usize>>,
    /// The key that opened it.
    key_index: usize,
}

impl Incoming {
    /// Starts to receive a raw token, which `ring` will open.
    pub fn raw(ring: &Arc<KeyRing>) -> Self {
        Self::new(ring, true)
    }

    /// Starts to receive a token as base64url text, which `ring` will open.
    pub fn base64url(ring: &Arc<KeyRing>) -> Self {
        Self::new(ring, false)
    }

    fn new(ring: &Arc<KeyRing>, is_raw: bool) -> Self {
        Incoming {
            ring: Arc::clone(ring),
            bytes: Vec::new(),
            is_raw,
            running_mac: None,
            key_index: 0,
            plaintext: None,
        }
    }

    /// Whether the token is raw, not text.
    pub fn is_raw(&self) -> bool {
        self.is_raw
    }

    /// How many bytes have arrived.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether no byte has arrived.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// How many bytes fit before the buffer must grow.
    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Reserves room for exactly `more` bytes beyond those that have arrived. If the buffer moves,
    /// the old memory is not wiped: the bytes in it are still sealed.
    pub fn reserve_exact(&mut self, more: usize) {
        debug_assert!(self.plaintext.is_none(), "no bytes may follow after the token is open");
        self.bytes.reserve_exact(more);
    }

    /// Appends the next bytes.
    pub fn extend(&mut self, piece: &[u8]) {
        self.bytes.extend_from_slice(piece);
        if self.is_raw && self.bytes.len() >= HASHED_AHEAD_BYTES_MIN {
            // The last bytes may be the tag, which the MAC does not cover.
            let signed = &self.bytes[..self.bytes.len() - TAG_BYTES];
            self.running_mac.get_or_insert_with(|| self.ring.running_mac()).update(signed);
        }
    }

    /// Opens the token in place, as [`KeyRing::open_in_place`] or
    /// [`KeyRing::open_base64url_in_place`] does, and returns its plaintext. An open token stays
    /// open: a second call returns the plaintext without checking the time again.
    ///
    /// # Errors
    /// Those of these two functions.
    pub fn open(&mut self, freshness: Option<Freshness>) -> Result<&[u8], OpenError> {
        let plaintext = match self.plaintext.take() {
            Some(plaintext) => plaintext,
            None => {
                let start = self.bytes.as_ptr().addr();
                let opened = match self.is_raw {
                    true => self.ring.open_with_mac(
                        &mut self.bytes,
                        self.running_mac.take(),
                        freshness,
                    )?,
                    false => self.ring.open_base64url_in_place(&mut self.bytes, freshness)?,
                };
                self.key_index = opened.key_index();
                // The plaintext is a part of the buffer.
                let start = opened.plaintext().as_ptr().addr() - start;
                start..start + opened.plaintext().len()
            }
        };
        Ok(&self.bytes[self.plaintext.insert(plaintext).clone()])
    }

    /// Which key of the ring opened the token: see [`Opened::key_index`](crate::Opened::key_index).
    /// 0 before it was opened.
    pub fn key_index(&self) -> usize {
        self.key_index
    }

    /// The token's MAC, once the token is open. Two tokens have the same MAC only if they are the
    /// same token.
    pub fn mac(&self) -> Option<[u8; 32]> {
        let plaintext = self.plaintext.as_ref()?;
        let signed_end = plaintext.start + ciphertext_bytes(plaintext.len());
        self.bytes.get(signed_end..)?.first_chunk::<TAG_BYTES>().copied()
    }

    /// Wipes the bytes that have arrived, and frees their memory.
    pub fn clear(&mut self) {
        // `zeroize` is called on the slice, since it wipes a vector byte by byte.
        self.bytes.as_mut_slice().zeroize();
        self.bytes = Vec::new();
        self.running_mac = None;
        self.plaintext = None;
        self.key_index = 0;
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        self.clear();
    }
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming").field("bytes", &self.bytes.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Key;

    fn ring(keys: &[u8]) -> Arc<KeyRing> {
        Arc::new(
            KeyRing::from_keys(keys.iter().map(|byte| Key::from_bytes([*byte; 32])).collect())
                .unwrap(),
        )
    }

    fn arrived(ring: &Arc<KeyRing>, token: &[u8], piece: usize) -> Incoming {
        fill(Incoming::raw(ring), token, piece)
    }

    fn fill(mut incoming: Incoming, token: &[u8], piece: usize) -> Incoming {
        for piece in token.chunks(piece) {
            incoming.reserve_exact(piece.len());
            incoming.extend(piece);
        }
        incoming
    }

    #[test]
    fn the_mac_of_an_open_token_is_its_last_32_bytes() {
        let ring = ring(&[1]);
        for plaintext in [&b""[..], &[7; 15], &[7; 16], &[7; 10_000]] {
            let token = ring.seal(plaintext, 0, [2; 16]);
            let text = ring.seal_base64url(plaintext, 0, [2; 16]);
            let as_text = fill(Incoming::base64url(&ring), text.as_bytes(), 1000);
            for mut incoming in [arrived(&ring, &token, 1000), as_text] {
                assert_eq!(incoming.mac(), None, "nothing of it is believed before it is open");
                assert_eq!(incoming.open(None).unwrap(), plaintext);
                assert_eq!(incoming.mac().unwrap(), token[token.len() - 32..]);
                incoming.clear();
                assert_eq!(incoming.mac(), None);
            }
        }
    }

    #[test]
    fn a_token_opens_however_it_is_cut_and_whichever_key_made_it() {
        for plaintext_bytes in [0, 10, HASHED_AHEAD_BYTES_MIN - 80, HASHED_AHEAD_BYTES_MIN, 50_000]
        {
            let plaintext = vec![7; plaintext_bytes];
            for key in [1, 2] {
                let token = ring(&[key]).seal(&plaintext, 0, [3; 16]);
                for piece in [1, 31, 64, 4096, token.len()] {
                    let mut incoming = arrived(&ring(&[1, 2]), &token, piece);
                    assert_eq!(incoming.open(None).unwrap(), plaintext);
                }
            }
        }
    }

    #[test]
    fn a_token_that_is_open_stays_so_and_one_that_was_stale_may_open_later() {
        let ring = ring(&[1]);
        let token = ring.seal(&vec![7; 20_000], 1000, [3; 16]);
        let mut incoming = arrived(&ring, &token, 4096);
        assert!(incoming.open(Some(Freshness::at(2000))).is_err());
        for now_secs in [1000, 2000] {
            assert_eq!(incoming.open(Some(Freshness::at(now_secs))).unwrap(), vec![7; 20_000]);
        }
        incoming.clear();
        assert!(incoming.is_empty() && incoming.open(None).is_err());
    }

    #[test]
    fn a_changed_byte_anywhere_is_found_however_the_token_is_cut() {
        let token = ring(&[1]).seal(&vec![7; 20_000], 0, [3; 16]);
        for place in [0, 30, HASHED_AHEAD_BYTES_MIN - 1, 15_000, token.len() - 33, token.len() - 1]
        {
            let mut changed = token.clone();
            changed[place] ^= 1;
            for piece in [64, 5000, token.len()] {
                let mut incoming = arrived(&ring(&[1, 2]), &changed, piece);
                assert_eq!(incoming.open(None).unwrap_err(), OpenError::Invalid, "byte {place}");
            }
        }
    }

    #[test]
    fn a_token_that_lacks_its_end_or_has_more_is_none() {
        let token = ring(&[1]).seal(&vec![7; 20_000], 0, [3; 16]);
        for length in [0, 10, 9000, token.len() - 16, token.len() - 1] {
            assert_eq!(
                arrived(&ring(&[1]), &token[..length], 4096).open(None).unwrap_err(),
                OpenError::Invalid
            );
        }
        let longer = [&token[..], &[0; 16]].concat();
        assert_eq!(arrived(&ring(&[1]), &longer, 4096).open(None).unwrap_err(), OpenError::Invalid);
    }

    #[test]
    fn a_stale_token_is_stale_and_text_is_read_too() {
        let ring = ring(&[1]);
        let token = ring.seal(&vec![7; 20_000], 0, [3; 16]);
        let stale = arrived(&ring, &token, 4096).open(Some(Freshness::at(1000))).map(|_| ());
        assert_eq!(stale, Err(OpenError::Stale { sealed_at_secs: 0, now_secs: 1000 }));
        let text = ring.seal_base64url(b"text", 0, [3; 16]);
        let mut text = fill(Incoming::base64url(&ring), text.as_bytes(), 10);
        assert_eq!(text.open(None).unwrap(), b"text");
    }
}

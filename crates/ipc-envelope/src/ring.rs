//! The key ring: seals with its first key, opens with every key.
//!
//! Raw and text tokens are sealed and opened here. The ring holds only keyed state, does not change
//! after it is made, and uses no clock and no randomness. The order of the checks in
//! [`KeyRing::open_in_place`] matters most in this file: no field of a token is trusted before its
//! MAC is verified.

use std::fmt;

use thiserror::Error;
use zeroize::Zeroizing;

use crate::base64url;
use crate::key::{Key, KeyError, keys_from_text};
use crate::primitives::{Chain, Cipher, RunningMac, Signer, pad};
use crate::token::{self, BLOCK_BYTES, HEADER_BYTES, OVERHEAD_BYTES_MAX, Shape, TAG_BYTES};

/// The default for how old a message may be: 60 seconds.
pub const AGE_SECS_MAX_DEFAULT: u64 = 60;

/// The default for how far a message's time may be ahead of the opener's clock: 60 seconds,
/// Fernet's own limit.
pub const AHEAD_SECS_MAX_DEFAULT: u64 = 60;

/// The limits beyond which a token is stale. A token exactly at a limit is fresh: at 60, a token of
/// exactly 60 seconds opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Freshness {
    /// The opener's time, in seconds since the Unix epoch.
    pub now_secs: u64,
    /// How many seconds may have passed since the token was sealed.
    pub age_secs_max: u64,
    /// How many seconds the sealer's clock may be ahead.
    pub ahead_secs_max: u64,
}

impl Freshness {
    /// The default limits at `now_secs`, in seconds since the Unix epoch: [`AGE_SECS_MAX_DEFAULT`]
    /// and [`AHEAD_SECS_MAX_DEFAULT`].
    pub const fn at(now_secs: u64) -> Self {
        Self {
            now_secs,
            age_secs_max: AGE_SECS_MAX_DEFAULT,
            ahead_secs_max: AHEAD_SECS_MAX_DEFAULT,
        }
    }

    /// Whether a token of `sealed_at_secs`, which may be any number, is within the limits.
    const fn admits(&self, sealed_at_secs: u64) -> bool {
        self.now_secs.saturating_sub(sealed_at_secs) <= self.age_secs_max
            && sealed_at_secs.saturating_sub(self.now_secs) <= self.ahead_secs_max
    }
}

/// Why a token was not opened.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum OpenError {
    /// No key of the ring made this token, or the bytes are not a token. The error deliberately
    /// does not say which check failed.
    #[error("not a valid token")]
    Invalid,
    /// A key holder made this token, but too long ago, or with a clock too far ahead. Reported only
    /// after the MAC is verified.
    #[error(
        "stale token: sealed at {sealed_at_secs} by the sender's clock, opened at {now_secs} by this clock (Unix seconds)"
    )]
    Stale {
        /// The token's time, in seconds since the Unix epoch.
        sealed_at_secs: u64,
        /// The opener's time, as the caller gave it, in seconds since the Unix epoch.
        now_secs: u64,
    },
}

/// The content of a token whose MAC, and time unless `freshness` was `None`, was verified.
///
/// `Debug` shows the length of the plaintext, never the plaintext.
#[derive(Clone, Copy)]
pub struct Opened<'t> {
    plaintext: &'t [u8],
    sealed_at_secs: u64,
}

impl<'t> Opened<'t> {
    /// The plaintext, a part of the token's buffer.
    pub fn plaintext(&self) -> &'t [u8] {
        self.plaintext
    }

    /// When the token was sealed, by the sender's clock, in seconds since the Unix epoch.
    pub fn sealed_at_secs(&self) -> u64 {
        self.sealed_at_secs
    }
}

impl fmt::Debug for Opened<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened")
            .field("plaintext_bytes", &self.plaintext.len())
            .field("sealed_at_secs", &self.sealed_at_secs)
            .finish()
    }
}

/// One key of a ring, ready to use.
struct Keyed {
    signer: Signer,
    cipher: Cipher,
}

impl Keyed {
    fn new(key: &Key) -> Self {
        Self { signer: Signer::new(key.signing()), cipher: Cipher::new(key.encryption()) }
    }
}

/// One or more keys: the first seals, all open.
///
/// Make a ring once and share it between threads: making it computes the HMAC states and AES key
/// schedules. It is wiped when dropped. `Debug` shows only the number of keys.
///
/// # Initialization vectors
/// Every seal takes an IV of 16 bytes. Draw a new one from a cryptographic random number generator
/// for each token. A repeated IV shows which plaintexts begin alike, and a predictable one lets an
/// attacker test guesses.
pub struct KeyRing {
    first: Keyed,
    others: Vec<Keyed>,
}

impl KeyRing {
    /// Makes a ring of one key.
    pub fn new(first: Key) -> Self {
        Self { first: Keyed::new(&first), others: Vec::new() }
    }

    /// Makes a ring from the text of a key file, which [`keys_from_text`] reads.
    ///
    /// # Errors
    /// Those of [`keys_from_text`].
    pub fn from_text(text: &str) -> Result<Self, KeyError> {
        Self::from_keys(keys_from_text(text)?)
    }

    /// Makes a ring from keys, in order: the first seals, all open.
    ///
    /// # Errors
    /// [`KeyError::NoKeys`] if `keys` is empty.
    pub fn from_keys(keys: Vec<Key>) -> Result<Self, KeyError> {
        let mut keyed = keys.iter().map(Keyed::new);
        let first = keyed.next().ok_or(KeyError::NoKeys)?;
        Ok(Self { first, others: keyed.collect() })
    }

    /// How many keys there are, at least 1.
    #[expect(clippy::len_without_is_empty, reason = "a ring is never empty")]
    pub fn len(&self) -> usize {
        1 + self.others.len()
    }

    /// Makes a raw token in the buffer of its plaintext.
    ///
    /// `buffer` has [`HEADER_BYTES`] bytes of any value, then the plaintext. It becomes the whole
    /// token, at most [`OVERHEAD_BYTES_MAX`] bytes longer than the plaintext. The buffer grows by
    /// at most 48 bytes. Reserve these, so that it does not move and leave plaintext in freed
    /// memory. `now_secs` is in seconds since the Unix epoch; for `iv` see [`KeyRing`].
    ///
    /// # Panics
    /// If `buffer` is shorter than [`HEADER_BYTES`], which is an error in the calling program.
    pub fn seal_in_place(&self, buffer: &mut Vec<u8>, now_secs: u64, iv: [u8; 16]) {
        assert!(
            buffer.len() >= HEADER_BYTES,
            "the buffer must begin with HEADER_BYTES reserved bytes"
        );
        let Keyed { signer, cipher } = &self.first;
        lay_out(buffer, now_secs, &iv);
        Chain::new(cipher, signer, &iv, HEADER_BYTES).advance(buffer, usize::MAX);
    }

    /// Begins to make a raw token in the buffer of its plaintext. `buffer` is laid out as for
    /// [`seal_in_place`](Self::seal_in_place), and gets the token's length. [`Sealing::advance`]
    /// then seals it chunk by chunk, so that the first chunk can be sent before the last is sealed.
    ///
    /// # Panics
    /// As `seal_in_place`.
    pub fn begin_seal(&self, buffer: &mut Vec<u8>, now_secs: u64, iv: [u8; 16]) -> Sealing {
        assert!(
            buffer.len() >= HEADER_BYTES,
            "the buffer must begin with HEADER_BYTES reserved bytes"
        );
        let Keyed { signer, cipher } = &self.first;
        lay_out(buffer, now_secs, &iv);
        Sealing(Chain::owned(cipher, signer, &iv, HEADER_BYTES))
    }

    /// Makes a raw token. `now_secs` is in seconds since the Unix epoch; for `iv` see [`KeyRing`].
    pub fn seal(&self, plaintext: &[u8], now_secs: u64, iv: [u8; 16]) -> Vec<u8> {
        let mut buffer = Vec::with_capacity(plaintext.len() + OVERHEAD_BYTES_MAX);
        buffer.resize(HEADER_BYTES, 0);
        buffer.extend_from_slice(plaintext);
        self.seal_in_place(&mut buffer, now_secs, iv);
        buffer
    }

    /// Makes a token as canonical, padded base64url text, which every Fernet library reads.
    pub fn seal_base64url(&self, plaintext: &[u8], now_secs: u64, iv: [u8; 16]) -> String {
        base64url::encode(&self.seal(plaintext, now_secs, iv))
    }

    /// Opens a raw token in its buffer.
    ///
    /// Checks, in this order: length and version; the MAC, in constant time, with each key in turn;
    /// the time, unless `freshness` is `None`; then decrypts in place and checks the padding.
    /// `token` may have any length: limits are the caller's task.
    ///
    /// # Errors
    /// [`OpenError::Stale`] for a token with a valid MAC outside the limits of `freshness`;
    /// [`OpenError::Invalid`] for everything else. `token` is unchanged unless the MAC is valid and
    /// the padding is not, which only a key holder can bring about.
    pub fn open_in_place<'t>(
        &self,
        token: &'t mut [u8],
        freshness: Option<Freshness>,
    ) -> Result<Opened<'t>, OpenError> {
        self.open_with_mac(token, None, freshness)
    }

    /// Like [`open_in_place`](Self::open_in_place), for a token whose beginning `running_mac` has
    /// hashed.
    pub(crate) fn open_with_mac<'t>(
        &self,
        token: &'t mut [u8],
        running_mac: Option<RunningMac>,
        freshness: Option<Freshness>,
    ) -> Result<Opened<'t>, OpenError> {
        let verified = self.verify(token, running_mac, freshness)?;
        let ciphertext = &mut token[HEADER_BYTES..verified.signed_bytes];
        let plaintext =
            verified.cipher.decrypt_in_place(&verified.iv, ciphertext).ok_or(OpenError::Invalid)?;
        Ok(Opened { plaintext, sealed_at_secs: verified.sealed_at_secs })
    }

    /// Computes the MAC with the first key while a token arrives.
    pub(crate) fn running_mac(&self) -> RunningMac {
        RunningMac::new(&self.first.signer)
    }

    /// Opens a raw token and returns its plaintext, which is wiped when dropped.
    ///
    /// # Errors
    /// Those of [`KeyRing::open_in_place`].
    pub fn open(
        &self,
        token: &[u8],
        freshness: Option<Freshness>,
    ) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let verified = self.verify(token, None, freshness)?;
        let ciphertext = &token[HEADER_BYTES..verified.signed_bytes];
        let mut plaintext = Zeroizing::new(vec![0; ciphertext.len()]);
        let plaintext_bytes = verified
            .cipher
            .decrypt_into(&verified.iv, ciphertext, &mut plaintext)
            .ok_or(OpenError::Invalid)?;
        plaintext.truncate(plaintext_bytes);
        Ok(plaintext)
    }

    /// Opens a token from base64url text and returns its plaintext, which is wiped when dropped.
    ///
    /// Only the canonical, padded spelling without white space is read, so that one token has one
    /// text.
    ///
    /// # Errors
    /// Those of [`KeyRing::open_in_place`]. Text that is not base64url is [`OpenError::Invalid`]
    /// too.
    pub fn open_base64url(
        &self,
        text: &[u8],
        freshness: Option<Freshness>,
    ) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let mut buffer = Zeroizing::new(base64url::decode(text).ok_or(OpenError::Invalid)?);
        let plaintext_bytes = self.open_in_place(&mut buffer, freshness)?.plaintext.len();
        buffer.copy_within(HEADER_BYTES..HEADER_BYTES + plaintext_bytes, 0);
        buffer.truncate(plaintext_bytes);
        Ok(buffer)
    }

    /// Opens a token from base64url text in its buffer, without any allocation.
    ///
    /// # Errors
    /// Those of [`KeyRing::open_base64url`]. The content of `text` is unspecified afterwards.
    pub fn open_base64url_in_place<'t>(
        &self,
        text: &'t mut [u8],
        freshness: Option<Freshness>,
    ) -> Result<Opened<'t>, OpenError> {
        self.open_in_place(base64url::decode_in_place(text).ok_or(OpenError::Invalid)?, freshness)
    }

    /// Does all checks that must pass before a token may be decrypted.
    ///
    /// The time that this takes shows which key of the ring made the token, and nothing about the
    /// key itself.
    fn verify(
        &self,
        token: &[u8],
        running_mac: Option<RunningMac>,
        freshness: Option<Freshness>,
    ) -> Result<Verified<'_>, OpenError> {
        let Shape { sealed_at_secs, iv, tag, signed_bytes } =
            Shape::of(token).ok_or(OpenError::Invalid)?;
        let signed = &token[..signed_bytes];
        let first = running_mac.unwrap_or_else(|| self.running_mac());
        let key = if first.verifies(signed, &tag) {
            &self.first
        } else {
            let mut others = self.others.iter();
            others.find(|key| key.signer.verifies(signed, &tag)).ok_or(OpenError::Invalid)?
        };
        match freshness {
            Some(freshness) if !freshness.admits(sealed_at_secs) => {
                Err(OpenError::Stale { sealed_at_secs, now_secs: freshness.now_secs })
            }
            _ => Ok(Verified { cipher: &key.cipher, sealed_at_secs, iv, signed_bytes }),
        }
    }
}

/// Lays out a buffer of [`HEADER_BYTES`] bytes of any value and a plaintext for sealing: writes the
/// header and the padding, and makes room for the tag.
fn lay_out(buffer: &mut Vec<u8>, now_secs: u64, iv: &[u8; BLOCK_BYTES]) {
    let plaintext_end = buffer.len();
    let signed_bytes = HEADER_BYTES + token::ciphertext_bytes(plaintext_end - HEADER_BYTES);
    buffer.reserve(signed_bytes + TAG_BYTES - plaintext_end);
    buffer.resize(signed_bytes, 0);
    pad(&mut buffer[plaintext_end..]);
    buffer.resize(signed_bytes + TAG_BYTES, 0);
    buffer[..HEADER_BYTES].copy_from_slice(&token::header(now_secs, iv));
}

/// A token that is being sealed, from [`KeyRing::begin_seal`].
///
/// Its keyed state is wiped when dropped.
pub struct Sealing(Chain<aes::Aes128>);

impl Sealing {
    /// Continues until at least the first `bytes` of `rest`, or all, are final, and returns how
    /// many are final. `rest` must be the whole buffer of `begin_seal` without the final bytes of
    /// earlier calls. When the result is the length of `rest`, the token is complete.
    ///
    /// # Panics
    /// If `rest` is shorter than the tag, 32 bytes: then it is not the rest of the buffer.
    pub fn advance(&mut self, rest: &mut [u8], bytes: usize) -> usize {
        self.0.advance(rest, bytes)
    }
}

impl fmt::Debug for Sealing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealing").finish_non_exhaustive()
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyRing").field("keys", &self.len()).finish_non_exhaustive()
    }
}

/// The proof that a token may be decrypted, with the values that decryption needs. Only
/// [`KeyRing::verify`] makes one.
struct Verified<'r> {
    cipher: &'r Cipher,
    sealed_at_secs: u64,
    iv: [u8; BLOCK_BYTES],
    signed_bytes: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_742_413_130;
    const IV: [u8; 16] = [9; 16];

    fn ring(bytes: &[u8]) -> KeyRing {
        KeyRing::from_keys(bytes.iter().map(|byte| Key::from_bytes([*byte; 32])).collect()).unwrap()
    }

    #[test]
    fn a_ring_is_shared_between_threads() {
        fn shared<T: Send + Sync + 'static>() {}
        shared::<KeyRing>();
        shared::<Key>();
        shared::<OpenError>();
    }

    #[test]
    fn debug_shows_neither_keys_nor_plaintext() {
        let ring = ring(&[1, 2]);
        assert_eq!(format!("{ring:?}"), "KeyRing { keys: 2, .. }");
        let mut token = ring.seal(b"secret", NOW, IV);
        let opened = ring.open_in_place(&mut token, None).unwrap();
        assert_eq!(
            format!("{opened:?}"),
            format!("Opened {{ plaintext_bytes: 6, sealed_at_secs: {NOW} }}")
        );
    }

    #[test]
    fn the_first_key_seals_and_all_open() {
        let rotated = ring(&[3, 2, 1]);
        assert_eq!(rotated.len(), 3);
        for old in [1, 2, 3] {
            assert_eq!(*rotated.open(&ring(&[old]).seal(b"old", NOW, IV), None).unwrap(), b"old");
        }
        let token = rotated.seal(b"new", NOW, IV);
        assert_eq!(token, ring(&[3]).seal(b"new", NOW, IV));
        assert_eq!(ring(&[2, 1]).open(&token, None).err(), Some(OpenError::Invalid));
    }

    #[test]
    fn a_ring_needs_a_key() {
        assert_eq!(KeyRing::from_keys(Vec::new()).err(), Some(KeyError::NoKeys));
        assert_eq!(KeyRing::from_text("# none").err(), Some(KeyError::NoKeys));
        assert_eq!(KeyRing::new(Key::from_bytes([1; 32])).len(), 1);
    }

    #[test]
    fn a_ring_is_read_from_text_with_its_order() {
        let text: String = [1, 2]
            .map(|byte| Key::from_bytes([byte; 32]).to_base64url().to_string() + "\n")
            .concat();
        let read = KeyRing::from_text(&text).unwrap();
        assert_eq!(read.len(), 2);
        assert_eq!(read.seal(b"", NOW, IV), ring(&[1]).seal(b"", NOW, IV));
        assert!(read.open(&ring(&[2]).seal(b"", NOW, IV), None).is_ok());
    }

    #[test]
    fn sealing_in_place_uses_the_room_that_is_there() {
        for plaintext_bytes in 0..100 {
            let mut buffer = Vec::with_capacity(plaintext_bytes + OVERHEAD_BYTES_MAX);
            buffer.resize(HEADER_BYTES + plaintext_bytes, 7);
            let start = buffer.as_ptr();
            ring(&[1]).seal_in_place(&mut buffer, NOW, IV);
            assert_eq!(buffer.as_ptr(), start);
            assert_eq!(buffer, ring(&[1]).seal(&vec![7; plaintext_bytes], NOW, IV));
        }
    }

    #[test]
    #[should_panic(expected = "HEADER_BYTES")]
    fn sealing_in_place_without_room_for_the_header_is_a_programming_error() {
        ring(&[1]).seal_in_place(&mut vec![0; HEADER_BYTES - 1], NOW, IV);
    }

    #[test]
    fn a_refused_token_is_left_as_it_was() {
        let ring = ring(&[1]);
        let sealed = ring.seal(b"hello", NOW, IV);
        let mut stale = sealed.clone();
        assert!(ring.open_in_place(&mut stale, Some(Freshness::at(NOW + 61))).is_err());
        assert_eq!(stale, sealed);
        let mut flipped = sealed.clone();
        flipped[30] ^= 1;
        let before = flipped.clone();
        assert!(ring.open_in_place(&mut flipped, None).is_err());
        assert_eq!(flipped, before);
    }

    #[test]
    fn freshness_has_inclusive_limits_at_any_time() {
        let admits = |now_secs, sealed_at_secs| Freshness::at(now_secs).admits(sealed_at_secs);
        for now in [61, NOW, u64::MAX - 61] {
            assert!(admits(now, now) && admits(now, now - 60) && admits(now, now + 60));
            assert!(!admits(now, now - 61) && !admits(now, now + 61));
        }
        assert!(
            admits(0, 0)
                && admits(u64::MAX, u64::MAX)
                && admits(0, 60)
                && admits(u64::MAX, u64::MAX - 60)
        );
        assert!(
            !admits(0, u64::MAX)
                && !admits(u64::MAX, 0)
                && !admits(NOW, 0)
                && !admits(NOW, u64::MAX)
        );
        let exact = Freshness { now_secs: NOW, age_secs_max: 0, ahead_secs_max: 0 };
        assert!(exact.admits(NOW) && !exact.admits(NOW - 1) && !exact.admits(NOW + 1));
        let any = Freshness { now_secs: NOW, age_secs_max: u64::MAX, ahead_secs_max: u64::MAX };
        assert!(any.admits(0) && any.admits(u64::MAX));
    }
}

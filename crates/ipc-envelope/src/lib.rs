//! Seals and opens Fernet envelopes: bytes in, bytes out.
//!
//! Both ends of the protocol seal their frames here, the server its session tokens, and a home its
//! sealed files. Nothing here reads a file, opens a socket, reads a clock or draws random numbers:
//! time and initialization vector are arguments, so that tests of expiry need no sleep.
//!
//! # Which type do I use when
//!
//! - [`Key`]: one 32-byte Fernet key, made from random bytes or read from its text form.
//! - [`KeyRing`]: seals and opens tokens. Make it once from one key ([`KeyRing::new`]) or from the
//!   text of a key file ([`KeyRing::from_text`]) and share it. The first key seals and all open, so
//!   that keys can be rotated.
//! - [`Freshness`]: how old a token may be, and how far ahead of the clock. Messages are opened
//!   with it. Session tokens and files at rest, which have their own expiry or none, are opened
//!   with `None`.
//! - [`Opened`]: the result of [`KeyRing::open_in_place`], returned only after the MAC was
//!   verified: the plaintext and the time of sealing.
//! - [`OpenError`], [`KeyError`]: the errors. Opening a token has one error for all failures except
//!   staleness, and reports staleness only for a token that a key holder made.
//!
//! The `…_in_place` calls work in the caller's buffer and are meant for messages;
//! [`KeyRing::seal`], [`KeyRing::open`] and their base64url forms allocate and are meant for small
//! things.
//!
//! # Example
//!
//! ```
//! use ipc_envelope::{Freshness, HEADER_BYTES, Key, KeyRing, OpenError};
//!
//! // In a program: a key of 32 random bytes, the time, and 16 new random bytes for every token.
//! let ring = KeyRing::new(Key::from_bytes([7; 32]));
//! let (now_secs, iv) = (1_742_413_130, [9; 16]);
//!
//! // Sealing in one buffer: room for the header, then the plaintext. It becomes the whole token.
//! let mut buffer = vec![0; HEADER_BYTES];
//! buffer.extend_from_slice(br#"{"test": 1}"#);
//! ring.seal_in_place(&mut buffer, now_secs, iv);
//!
//! // The other end, five seconds later.
//! let opened = ring.open_in_place(&mut buffer, Some(Freshness::at(now_secs + 5)))?;
//! assert_eq!(opened.plaintext(), br#"{"test": 1}"#);
//! assert_eq!(opened.sealed_at_secs(), now_secs);
//!
//! // As text, which every Fernet library makes and reads.
//! let token = ring.seal_base64url(b"hello", now_secs, iv);
//! assert_eq!(*ring.open_base64url(token.as_bytes(), None)?, b"hello");
//!
//! let late = Freshness::at(now_secs + 61);
//! assert!(matches!(ring.open_base64url(token.as_bytes(), Some(late)), Err(OpenError::Stale { .. })));
//! # Ok::<(), OpenError>(())
//! ```
//!
//! # Format
//!
//! Fernet, version `0x80` (<https://github.com/fernet/spec>):
//!
//! ```text
//! 0x80 (1) | seconds since the Unix epoch, big-endian (8) | IV (16) | AES-128-CBC, PKCS#7 (16·n, n ≥ 1) | HMAC-SHA256 (32)
//! ```
//!
//! The MAC covers everything before it. A key is the signing key (16 bytes), then the encryption
//! key (16 bytes). In text both are base64url with padding (RFC 4648, section 5), and only the
//! canonical spelling is read.

mod base64url;
mod incoming;
mod key;
mod primitives;
mod ring;
mod token;

pub use incoming::Incoming;
pub use key::{KEYS_MAX, Key, KeyError, keys_from_text};
pub use ring::{
    AGE_SECS_MAX_DEFAULT, AHEAD_SECS_MAX_DEFAULT, Freshness, KeyRing, OpenError, Opened, Sealing,
};
pub use token::{HEADER_BYTES, OVERHEAD_BYTES_MAX, TOKEN_BYTES_MIN};

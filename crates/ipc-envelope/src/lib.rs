//! Seals and opens Fernet envelopes: bytes in, bytes out.
//!
//! Both ends of the protocol, the session tokens of the server and the sealed files of a home come
//! here. Nothing here reads a file, opens a socket, looks at a clock or draws random numbers: time
//! and initialization vector are arguments, so that expiry is tested without sleeping.
//!
//! # Which type do I use when
//!
//! - [`Key`]: one 32-byte Fernet key, made from random bytes or read from its text form.
//! - [`KeyRing`]: what seals and opens. Make it once from one key ([`KeyRing::new`]) or from the
//!   text of a key file ([`KeyRing::from_text`]) and share it: the first key seals, all open, which
//!   is how a key is rotated.
//! - [`Freshness`]: how old or how far ahead of the clock a token may be. Messages are opened with
//!   it; session tokens and files at rest, which carry an expiry of their own or none, are opened
//!   with `None`.
//! - [`Opened`]: what [`KeyRing::open_in_place`] hands out, and only after the MAC was found good:
//!   the plaintext and the time of sealing.
//! - [`OpenError`], [`KeyError`]: what can go wrong. A token has one answer for every failure but
//!   staleness, and staleness is only ever told of a token that a key holder made.
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
//! let ring = KeyRing::new(Key::from_bytes([7; 32])); // 32 bytes from the operating system, in earnest
//! let (now_secs, iv) = (1_742_413_130, [9; 16]); //      the clock, and 16 fresh random bytes for every token
//!
//! // Sealing in one buffer: room for the header, then the plaintext; afterwards it holds the whole token.
//! let mut buffer = vec![0; HEADER_BYTES];
//! buffer.extend_from_slice(br#"{"test": 1}"#);
//! ring.seal_in_place(&mut buffer, now_secs, iv);
//!
//! // The other end, five seconds later.
//! let opened = ring.open_in_place(&mut buffer, Some(Freshness::at(now_secs + 5)))?;
//! assert_eq!(opened.plaintext(), br#"{"test": 1}"#);
//! assert_eq!(opened.sealed_at_secs(), now_secs);
//!
//! // As text, the form every Fernet library makes and reads.
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

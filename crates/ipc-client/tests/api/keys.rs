//! The key with which both ends of a test seal, and the time.
#![allow(clippy::unwrap_used)]

use std::time::{SystemTime, UNIX_EPOCH};

use ipc_envelope::KeyRing;

/// A secret that no log may show.
pub(crate) const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// The key that follows it where a test rotates.
pub(crate) const NEXT_KEY: &str = "8PHy8_T19vf4-fr7_P3-_wABAgMEBQYHCAkKCwwNDg8=";

pub(crate) fn now_secs() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// Seals with [`KEY`], and opens with both.
pub(crate) fn ring() -> KeyRing {
    KeyRing::from_text(&format!("{KEY}\n{NEXT_KEY}\n")).unwrap()
}

//! Opens any bytes as a raw token. All functions that open one must agree, with each other and with
//! the `fernet` crate.
//!
//! A fuzzer cannot guess a MAC. Each input is therefore also opened with a valid MAC in place of
//! its last bytes, so that the checks after the MAC are reached too.

#![cfg_attr(fuzzing, no_main)]

use std::sync::{Arc, LazyLock};

use fernet::Fernet;
use hmac::{Hmac, KeyInit, Mac};
use ipc_envelope::{Freshness, Incoming, Key, KeyRing, OpenError};

ipc_fuzz::target!(envelope);

const FIRST_KEY: [u8; 32] = *b"first signing...first encrypting";
const SECOND_KEY: [u8; 32] = *b"second signing..secondencrypting";

const TAG_BYTES: usize = 32;

/// November 2023, a time in the past on every host.
const PAST_SECS: u64 = 1_700_000_000;

static RING: LazyLock<Arc<KeyRing>> = LazyLock::new(|| {
    let keys = [FIRST_KEY, SECOND_KEY].map(Key::from_bytes);
    Arc::new(KeyRing::from_keys(Vec::from(keys)).expect("two keys"))
});

fn envelope(input: &[u8]) -> bool {
    let mut is_opened = opens(input).is_some();
    for key in [FIRST_KEY, SECOND_KEY] {
        let token = signed(input, &key);
        let ours = opens(&token);
        // The `fernet` crate refuses tokens from the future, by the clock of this host.
        if time_of(&token).is_none_or(|sealed_at_secs| sealed_at_secs <= PAST_SECS) {
            assert_eq!(ours, opened_by_theirs(&token, &key));
        }
        is_opened |= ours.is_some();
    }
    sealed_and_changed(input);
    is_opened
}

/// Opens a token with each function that can. Returns `None` if all refuse it.
fn opens(token: &[u8]) -> Option<Vec<u8>> {
    let opened = RING.open(token, None).map(|plaintext| plaintext.to_vec());
    assert!(opened.as_ref().err().is_none_or(|error| *error == OpenError::Invalid));

    let mut buffer = token.to_vec();
    let in_place = RING.open_in_place(&mut buffer, None);
    let sealed_at_secs = in_place.as_ref().ok().map(|opened| opened.sealed_at_secs());
    assert_eq!(in_place.map(|opened| opened.plaintext().to_vec()), opened);

    let mut incoming = Incoming::raw(&RING);
    for piece in token.chunks(1 + token.len() / 3) {
        incoming.extend(piece);
    }
    assert_eq!(incoming.open(None).map(<[u8]>::to_vec), opened);

    if let Some(sealed_at_secs) = sealed_at_secs {
        assert_eq!(Some(sealed_at_secs), time_of(token));
        // For every value of the time field a token is fresh at both limits, and stale a second
        // beyond them.
        for (now_secs, is_fresh) in [
            (sealed_at_secs, true),
            (sealed_at_secs.saturating_add(60), true),
            (sealed_at_secs.saturating_sub(60), true),
            (sealed_at_secs.saturating_add(61), sealed_at_secs > u64::MAX - 61),
            (sealed_at_secs.saturating_sub(61), sealed_at_secs < 61),
        ] {
            let opened = RING.open(token, Some(Freshness::at(now_secs)));
            let stale = OpenError::Stale { sealed_at_secs, now_secs };
            assert_eq!(opened.err(), (!is_fresh).then_some(stale));
        }
    }
    opened.ok()
}

fn time_of(token: &[u8]) -> Option<u64> {
    token.get(1..9)?.try_into().ok().map(u64::from_be_bytes)
}

/// The input with its last 32 bytes replaced by the MAC of the others.
fn signed(input: &[u8], key: &[u8; 32]) -> Vec<u8> {
    let mut token = input[..input.len().saturating_sub(TAG_BYTES)].to_vec();
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(&key[..16]).expect("any length is good");
    mac.update(&token);
    token.extend_from_slice(&mac.finalize().into_bytes());
    token
}

fn opened_by_theirs(token: &[u8], key: &[u8; 32]) -> Option<Vec<u8>> {
    let theirs = Fernet::new(&Key::from_bytes(*key).to_base64url()).expect("it is a key");
    let text = base64_simd::URL_SAFE.encode_to_string(token);
    theirs.decrypt(&text).ok()
}

/// Seals the input and opens it again. With one bit changed it must not open.
fn sealed_and_changed(input: &[u8]) {
    let number = input.iter().fold(7_usize, |sum, byte| sum * 31 % 65_521 + usize::from(*byte));
    let mut token = RING.seal(input, number as u64, [input.len() as u8; 16]);
    assert_eq!(opens(&token).as_deref(), Some(input));
    let place = number % token.len();
    token[place] ^= 1 << (number % 8);
    assert_eq!(opens(&token), None);
}

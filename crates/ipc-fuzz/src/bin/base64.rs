//! Opens any bytes as the text of a token. Every function that reads one must accept only the
//! canonical spelling of RFC 4648, and must find the plaintext of the raw token.

#![cfg_attr(fuzzing, no_main)]

use std::sync::{Arc, LazyLock};

use ipc_envelope::{Incoming, Key, KeyRing, OpenError};

ipc_fuzz::target!(base64);

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static RING: LazyLock<Arc<KeyRing>> =
    LazyLock::new(|| Arc::new(KeyRing::new(Key::from_bytes([0x17; 32]))));

fn base64(input: &[u8]) -> bool {
    text_opens(input);
    // A fuzzer cannot guess a MAC, so the input, and the bytes that it decodes to, are sealed
    // first.
    let sealed = RING.seal(input, 0, [3; 16]);
    let text = RING.seal_base64url(input, 0, [3; 16]);
    assert_eq!(text, encoded(&sealed));
    assert_eq!(text_opens(text.as_bytes()).as_deref(), Some(input));
    let mut changed = text.into_bytes();
    let place = input.len() * 7 % changed.len();
    changed[place] = input.first().copied().unwrap_or(b'=');
    let spells_the_same = decoded(&changed).is_some_and(|bytes| bytes == sealed);
    assert_eq!(text_opens(&changed).is_some(), spells_the_same);
    decoded(input).is_some()
}

/// Opens the text of a token with each function that can. Returns `None` if all refuse it.
fn text_opens(text: &[u8]) -> Option<Vec<u8>> {
    let opened = RING.open_base64url(text, None).map(|plaintext| plaintext.to_vec());
    let mut buffer = text.to_vec();
    let in_place = RING.open_base64url_in_place(&mut buffer, None);
    assert_eq!(in_place.map(|opened| opened.plaintext().to_vec()), opened);
    let mut incoming = Incoming::base64url(&RING);
    for piece in text.chunks(1 + text.len() / 3) {
        incoming.extend(piece);
    }
    assert_eq!(incoming.open(None).map(<[u8]>::to_vec), opened);
    match decoded(text) {
        Some(token) => assert_eq!(opened, RING.open(&token, None).map(|opened| opened.to_vec())),
        None => assert_eq!(opened, Err(OpenError::Invalid)),
    }
    // The text of a key is the same spelling, of 32 bytes.
    if let Ok(text) = std::str::from_utf8(text) {
        let key = Key::from_base64url(text);
        assert_eq!(key.is_ok(), decoded(text.as_bytes()).is_some_and(|bytes| bytes.len() == 32));
        assert!(key.is_err() || *key.expect("it is one").to_base64url() == text);
    }
    opened.ok()
}

/// Decodes a text bit by bit. Returns `None` unless [`encoded`] makes the same text of the bytes.
fn decoded(text: &[u8]) -> Option<Vec<u8>> {
    let padding = text.iter().rev().take_while(|byte| **byte == b'=').count();
    let (mut bytes, mut bits, mut bits_count) = (Vec::new(), 0_u32, 0);
    for letter in &text[..text.len() - padding] {
        bits = bits << 6 | ALPHABET.iter().position(|known| known == letter)? as u32;
        bits_count += 6;
        if bits_count >= 8 {
            bits_count -= 8;
            bytes.push((bits >> bits_count) as u8);
            bits &= (1 << bits_count) - 1;
        }
    }
    (encoded(&bytes).as_bytes() == text).then_some(bytes)
}

fn encoded(bytes: &[u8]) -> String {
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for letter in 0..4 {
            let index = (bits >> (18 - 6 * letter) & 63) as usize;
            text.push(if letter > group.len() { '=' } else { char::from(ALPHABET[index]) });
        }
    }
    text
}

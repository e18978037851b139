//! Properties that hold for every input.

use ipc_envelope::{
    Freshness, HEADER_BYTES, Key, KeyRing, OVERHEAD_BYTES_MAX, OpenError, TOKEN_BYTES_MIN,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::support::{IV, NOW, ring};

/// Plaintexts with every remainder of the block size, so that the text tokens have every kind of
/// base64 padding.
fn plaintext() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..200)
}

fn refused(token: &[u8]) -> bool {
    let in_place = ring().open_in_place(&mut token.to_vec(), None).err();
    in_place == ring().open(token, None).err() && in_place == Some(OpenError::Invalid)
}

fn text_refused(text: &[u8]) -> bool {
    let in_place = ring().open_base64url_in_place(&mut text.to_vec(), None).err();
    in_place == ring().open_base64url(text, None).err() && in_place == Some(OpenError::Invalid)
}

#[test]
fn every_single_flipped_bit_of_a_token_is_refused() {
    for plaintext in [&b""[..], b"hello", &[7; 40]] {
        let token = ring().seal(plaintext, NOW, IV);
        for bit in 0..token.len() * 8 {
            let mut flipped = token.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(refused(&flipped), "bit {bit}");
        }
    }
}

#[test]
fn every_truncation_and_extension_of_a_token_is_refused() {
    let token = ring().seal(&[7; 40], NOW, IV);
    for length in 0..token.len() {
        assert!(refused(&token[..length]), "first {length}");
        assert!(refused(&token[token.len() - length..]), "last {length}");
    }
    for extra in 1..=48 {
        assert!(refused(&[&token[..], &vec![0; extra]].concat()), "{extra} more");
    }
}

#[test]
fn every_truncation_of_a_text_is_refused() {
    for plaintext_bytes in [0, 16, 32] {
        let text = ring().seal_base64url(&vec![7; plaintext_bytes], NOW, IV);
        assert!((0..text.len()).all(|length| text_refused(&text.as_bytes()[..length])));
    }
}

#[test]
fn every_alias_of_a_text_is_refused() {
    // One, two and three blocks: their text ends with "==", with "=" and without padding.
    for (plaintext_bytes, padding) in [(0, 2), (16, 1), (32, 0)] {
        let text = ring().seal_base64url(&vec![7; plaintext_bytes], NOW, IV);
        let bare = text.trim_end_matches('=');
        assert_eq!(text.len() - bare.len(), padding);
        assert!(ring().open_base64url(text.as_bytes(), None).is_ok());

        for count in (0..=5).filter(|count| *count != padding) {
            assert!(
                text_refused(format!("{bare}{}", "=".repeat(count)).as_bytes()),
                "{count} padding characters"
            );
        }
        for space in [" ", "\n", "\r\n", "\t", "\0", "\u{a0}"] {
            assert!(text_refused(format!("{text}{space}").as_bytes()));
            assert!(text_refused(format!("{space}{text}").as_bytes()));
            for place in (0..text.len()).step_by(4) {
                assert!(text_refused(
                    format!("{}{space}{}", &text[..place], &text[place..]).as_bytes()
                ));
            }
        }
        assert!(text_refused(format!("{text}\n\n\n\n").as_bytes()));
        if padding > 0 {
            assert!(text_refused(text.replace('=', "%3D").as_bytes()));
        }

        // The last character has bits that belong to no byte. Only zero bits are canonical.
        if padding > 0 {
            let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
            let good = alphabet.chars().filter(|last| {
                let alias = format!("{}{last}{}", &bare[..bare.len() - 1], "=".repeat(padding));
                !text_refused(alias.as_bytes())
            });
            assert_eq!(good.count(), 1);
        }
    }
}

proptest! {
    #[test]
    fn whatever_is_sealed_is_opened(plaintext in plaintext(), key: [u8; 32], now: u64, iv: [u8; 16]) {
        let ring = KeyRing::new(Key::from_bytes(key));
        let fresh = Some(Freshness::at(now));
        let mut token = ring.seal(&plaintext, now, iv);
        prop_assert!(token.len() >= TOKEN_BYTES_MIN && token.len() <= plaintext.len() + OVERHEAD_BYTES_MAX);
        prop_assert_eq!(&*ring.open(&token, fresh).unwrap(), &plaintext);

        let mut buffer = vec![0xee; HEADER_BYTES];
        buffer.extend_from_slice(&plaintext);
        ring.seal_in_place(&mut buffer, now, iv);
        prop_assert_eq!(&buffer, &token);

        let opened = ring.open_in_place(&mut token, fresh).unwrap();
        prop_assert_eq!(opened.plaintext(), &plaintext);
        prop_assert_eq!(opened.sealed_at_secs(), now);

        let mut text = ring.seal_base64url(&plaintext, now, iv).into_bytes();
        prop_assert_eq!(&*ring.open_base64url(&text, fresh).unwrap(), &plaintext);
        prop_assert_eq!(ring.open_base64url_in_place(&mut text, fresh).unwrap().plaintext(), &plaintext);
    }

    #[test]
    fn no_changed_byte_of_a_token_passes(plaintext in plaintext(), place: Index, change in 1..=u8::MAX) {
        let mut token = ring().seal(&plaintext, NOW, IV);
        let place = place.index(token.len());
        token[place] ^= change;
        prop_assert!(refused(&token));
    }

    #[test]
    fn no_changed_byte_of_a_text_passes(plaintext in plaintext(), place: Index, change in 1..=u8::MAX) {
        let mut text = ring().seal_base64url(&plaintext, NOW, IV).into_bytes();
        let place = place.index(text.len());
        text[place] ^= change;
        prop_assert!(text_refused(&text));
    }

    #[test]
    fn the_standard_alphabet_is_refused(plaintext in plaintext(), iv: [u8; 16]) {
        let text = ring().seal_base64url(&plaintext, NOW, iv);
        let standard = text.replace('-', "+").replace('_', "/");
        prop_assert!(standard == text || text_refused(standard.as_bytes()));
    }

    #[test]
    fn another_key_opens_nothing(plaintext in plaintext(), key: [u8; 32]) {
        let token = KeyRing::new(Key::from_bytes(key)).seal(&plaintext, NOW, IV);
        prop_assert!(refused(&token));
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in vec(any::<u8>(), 0..300), now: u64) {
        let fresh = Some(Freshness::at(now));
        prop_assert!(ring().open(&bytes, fresh).is_err());
        prop_assert!(ring().open_in_place(&mut bytes.clone(), fresh).is_err());
        prop_assert!(ring().open_base64url(&bytes, fresh).is_err());
        prop_assert!(ring().open_base64url_in_place(&mut bytes.clone(), fresh).is_err());
    }

    #[test]
    fn no_text_makes_it_panic(any_text: String, near in "gAAAA[A-Za-z0-9_=+/ \n#-]{80,150}") {
        for text in [any_text, near] {
            prop_assert!(ring().open_base64url(text.as_bytes(), None).is_err());
            prop_assert!(ring().open_base64url_in_place(&mut text.clone().into_bytes(), None).is_err());
            let _ = Key::from_base64url(&text);
            let _ = KeyRing::from_text(&text);
        }
    }
}

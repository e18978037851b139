//! Tokens with a valid MAC that must be refused all the same, and hostile times.

use ipc_envelope::{Freshness, OpenError};

use crate::support::{IV, NOW, encrypt_unpadded, forge, ring, with_good_mac};

/// The outcome of all four ways to open a raw token, which must agree.
fn open_each_way(token: &[u8], freshness: Option<Freshness>) -> Result<Vec<u8>, OpenError> {
    let ring = ring();
    let opened = ring.open(token, freshness).map(|plaintext| plaintext.to_vec());
    let mut buffer = token.to_vec();
    assert_eq!(
        ring.open_in_place(&mut buffer, freshness).map(|opened| opened.plaintext().to_vec()),
        opened
    );
    let text = base64_simd::URL_SAFE.encode_to_string(token);
    assert_eq!(
        ring.open_base64url(text.as_bytes(), freshness).map(|plaintext| plaintext.to_vec()),
        opened
    );
    let in_place = &mut text.into_bytes();
    assert_eq!(
        ring.open_base64url_in_place(in_place, freshness).map(|opened| opened.plaintext().to_vec()),
        opened
    );
    opened
}

fn sealed_at(sealed_at_secs: u64) -> Vec<u8> {
    forge(
        0x80,
        sealed_at_secs,
        &encrypt_unpadded(b"hello\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b"),
    )
}

#[test]
fn the_forger_of_these_tests_makes_good_tokens_when_it_wants_to() {
    assert_eq!(sealed_at(NOW), ring().seal(b"hello", NOW, IV));
    assert_eq!(open_each_way(&sealed_at(NOW), None), Ok(b"hello".to_vec()));
}

#[test]
fn a_token_at_either_limit_of_time_opens_and_one_beyond_is_stale() {
    let fresh = Some(Freshness::at(NOW));
    for sealed_at_secs in [NOW, NOW - 60, NOW + 60] {
        assert_eq!(open_each_way(&sealed_at(sealed_at_secs), fresh), Ok(b"hello".to_vec()));
    }
    for sealed_at_secs in
        [NOW - 61, NOW + 61, 0, 1, u64::MAX, u64::MAX - 1, 1 << 63, i64::MAX as u64]
    {
        let stale = OpenError::Stale { sealed_at_secs, now_secs: NOW };
        assert_eq!(open_each_way(&sealed_at(sealed_at_secs), fresh), Err(stale));
        assert_eq!(open_each_way(&sealed_at(sealed_at_secs), None), Ok(b"hello".to_vec()));
    }
}

#[test]
fn a_clock_at_either_end_of_time_does_not_overflow() {
    for (now, sealed, fresh) in
        [(0, 0, true), (0, 60, true), (0, 61, false), (0, u64::MAX, false), (u64::MAX, 0, false)]
    {
        assert_eq!(open_each_way(&sealed_at(sealed), Some(Freshness::at(now))).is_ok(), fresh);
    }
}

#[test]
fn a_stale_token_says_clock_and_both_times() {
    let error = open_each_way(&sealed_at(7), Some(Freshness::at(NOW))).unwrap_err().to_string();
    assert!(
        error.contains("clock") && error.contains(" 7 ") && error.contains(&NOW.to_string()),
        "{error}"
    );
}

#[test]
fn a_time_is_not_believed_before_the_mac() {
    let mut token = sealed_at(NOW - 1_000);
    for place in [0, 5, 20, 30, 50] {
        token[place] ^= 0x10;
        assert_eq!(open_each_way(&token, Some(Freshness::at(NOW))), Err(OpenError::Invalid));
        token[place] ^= 0x10;
    }
}

#[test]
fn a_token_without_ciphertext_is_refused_with_a_good_mac() {
    let token = forge(0x80, NOW, b"");
    assert_eq!(token.len(), 57);
    assert_eq!(open_each_way(&token, None), Err(OpenError::Invalid));
}

#[test]
fn seventy_two_bytes_are_too_few_with_a_good_mac_and_seventy_three_enough() {
    let token = forge(0x80, NOW, &[0; 15]);
    assert_eq!(token.len(), 72);
    assert_eq!(open_each_way(&token, None), Err(OpenError::Invalid));
    let token = ring().seal(b"", NOW, IV);
    assert_eq!(token.len(), 73);
    assert_eq!(open_each_way(&token, None), Ok(Vec::new()));
}

#[test]
fn any_other_version_is_refused_with_a_good_mac() {
    for version in (0..=u8::MAX).filter(|version| *version != 0x80) {
        let token = forge(version, NOW, &encrypt_unpadded(&[16; 16]));
        assert_eq!(open_each_way(&token, None), Err(OpenError::Invalid), "{version:#04x}");
    }
    // The draft version 0x81, with a time in microseconds.
    let token = forge(0x81, NOW * 1_000_000, &encrypt_unpadded(&[16; 16]));
    assert_eq!(open_each_way(&token, Some(Freshness::at(NOW))), Err(OpenError::Invalid));
}

#[test]
fn a_ciphertext_of_broken_blocks_is_refused_with_a_good_mac() {
    for length in (0..100).filter(|length| length % 16 != 0) {
        assert_eq!(
            open_each_way(&forge(0x80, NOW, &vec![7; length]), None),
            Err(OpenError::Invalid),
            "{length}"
        );
    }
}

#[test]
fn bad_padding_is_refused_with_a_good_mac_and_nothing_more_is_said() {
    for last_bytes in [&[0][..], &[17], &[255], &[1, 2], &[3, 2, 3], &[2, 3, 3], &[0, 0]] {
        let mut blocks = vec![b'x'; 32];
        blocks[32 - last_bytes.len()..].copy_from_slice(last_bytes);
        let token = forge(0x80, NOW, &encrypt_unpadded(&blocks));
        assert_eq!(
            open_each_way(&token, Some(Freshness::at(NOW))),
            Err(OpenError::Invalid),
            "{last_bytes:?}"
        );
    }
    // Sixteen bytes of padding, the first of which has the wrong value.
    let mut block = [16; 16];
    block[0] = 15;
    assert_eq!(
        open_each_way(&forge(0x80, NOW, &encrypt_unpadded(&block)), None),
        Err(OpenError::Invalid)
    );
}

#[test]
fn nothing_but_a_header_and_a_good_mac_at_any_length_opens() {
    for length in 0..=41 {
        let signed: Vec<_> = [&[0x80][..], &[0; 40]].concat().into_iter().take(length).collect();
        assert_eq!(
            open_each_way(&with_good_mac(signed), None),
            Err(OpenError::Invalid),
            "{length}"
        );
    }
}

#[test]
fn stale_comes_before_padding_and_after_the_mac() {
    let token = forge(0x80, 0, &encrypt_unpadded(&[0; 16]));
    let stale = OpenError::Stale { sealed_at_secs: 0, now_secs: NOW };
    assert_eq!(open_each_way(&token, Some(Freshness::at(NOW))), Err(stale));
    assert_eq!(open_each_way(&token, None), Err(OpenError::Invalid));
}

#[test]
fn a_key_is_not_opened_by_half_of_it() {
    let mut same_encryption = crate::support::KEY;
    same_encryption[0] ^= 1;
    let other = ipc_envelope::KeyRing::new(ipc_envelope::Key::from_bytes(same_encryption));
    assert_eq!(other.open(&sealed_at(NOW), None).err(), Some(OpenError::Invalid));
}

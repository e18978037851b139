//! Base64url text with padding, in its canonical spelling (RFC 4648, sections 3.5 and 5).
//!
//! Keys and text tokens are encoded and decoded here; this file knows nothing else of either. With
//! a lenient decoder one token would have many spellings, and code that compares or remembers
//! tokens by their text would take one token for several.

use base64_simd::{AsOut, URL_SAFE};

/// Encodes `bytes` as padded base64url text.
pub(crate) fn encode(bytes: &[u8]) -> String {
    URL_SAFE.encode_to_string(bytes)
}

/// Decodes `text`. Returns `None` unless `text` is exactly what [`encode`] makes of the bytes.
pub(crate) fn decode(text: &[u8]) -> Option<Vec<u8>> {
    URL_SAFE.decode_to_vec(text).ok()
}

/// Like [`decode`], but writes to the front of `text` itself and returns that part.
///
/// The content of `text` is unspecified afterwards if it is refused.
pub(crate) fn decode_in_place(text: &mut [u8]) -> Option<&mut [u8]> {
    URL_SAFE.decode_inplace(text).ok()
}

/// Like [`decode`], but writes to `out`. Also returns `None` if `out` is too short.
pub(crate) fn decode_into<'o>(text: &[u8], out: &'o mut [u8]) -> Option<&'o [u8]> {
    if URL_SAFE.decoded_length(text).ok()? > out.len() {
        return None; // The decoder would panic.
    }
    URL_SAFE.decode(text, out.as_out()).ok().map(|decoded| &*decoded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

    /// All three decoders, which must agree.
    fn decode_each_way(text: &[u8]) -> Option<Vec<u8>> {
        let whole = decode(text);
        let mut in_place = text.to_vec();
        assert_eq!(decode_in_place(&mut in_place).map(|decoded| decoded.to_vec()), whole);
        let mut out = vec![0; text.len()];
        assert_eq!(decode_into(text, &mut out).map(<[u8]>::to_vec), whole);
        whole
    }

    #[test]
    fn the_vectors_of_rfc_4648_are_read_and_written() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
        ] {
            assert_eq!(encode(bytes.as_bytes()), text);
            assert_eq!(decode_each_way(text.as_bytes()).as_deref(), Some(bytes.as_bytes()));
        }
        assert_eq!(encode(&[0xfb, 0xff]), "-_8=");
    }

    #[test]
    fn missing_and_surplus_padding_is_refused() {
        for text in [
            "Zg", "Zg=", "Zg===", "Zg====", "Zm8", "Zm8==", "Zm9v=", "Zm9v==", "Zm9v====", "=",
            "==", "===", "====", "A", "A=", "A==", "A===", "Zg==Zg==", "Z=g=", "=Zg=", "Zm9vZg=",
            "Zg==Zm9v",
        ] {
            assert_eq!(decode_each_way(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn trailing_bits_that_are_not_zero_are_refused() {
        for last in ALPHABET {
            let one_byte = [b'Z', *last, b'=', b'='];
            assert_eq!(
                decode_each_way(&one_byte).is_some(),
                b"AQgw".contains(last),
                "{}",
                *last as char
            );
            let two_bytes = [b'Z', b'm', *last, b'='];
            let canonical = b"AEIMQUYcgkosw048".contains(last);
            assert_eq!(decode_each_way(&two_bytes).is_some(), canonical, "{}", *last as char);
        }
    }

    #[test]
    fn every_foreign_byte_is_refused_at_every_place() {
        // Long enough for the decoder's vector code, with steps of 16 and 32 bytes, and for the
        // remainder.
        for length in [4, 8, 32, 64, 100] {
            for place in 0..length {
                for byte in 0..=u8::MAX {
                    let mut text = vec![b'A'; length];
                    text[place] = byte;
                    let padding = byte == b'=' && place == length - 1;
                    assert_eq!(
                        decode(&text).is_some(),
                        ALPHABET.contains(&byte) || padding,
                        "{byte} at {place}"
                    );
                }
            }
        }
    }

    #[test]
    fn an_output_that_is_too_small_is_refused_without_a_panic() {
        assert_eq!(decode_into(b"Zm9v", &mut [0; 2]), None);
        assert_eq!(decode_into(b"Zm9v", &mut [0; 3]), Some(&b"foo"[..]));
    }

    proptest! {
        #[test]
        fn whatever_is_read_is_spelt_as_it_would_be_written(text in "[A-Za-f_=+/ -]{0,80}") {
            if let Some(bytes) = decode_each_way(text.as_bytes()) {
                prop_assert_eq!(encode(&bytes), text);
            }
        }

        #[test]
        fn whatever_is_written_is_read_again(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(decode_each_way(encode(&bytes).as_bytes()), Some(bytes));
        }
    }
}

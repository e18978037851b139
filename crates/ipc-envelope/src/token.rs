//! The layout of a raw token: the meaning of each byte.
//!
//! The key ring comes here to write a header and to split a token into its fields. Nothing here
//! knows a key, so a [`Shape`] is only what the bytes claim until its MAC is verified.

/// The bytes before the ciphertext: version 1, time 8, IV 16.
pub const HEADER_BYTES: usize = 1 + TIME_BYTES + BLOCK_BYTES;

/// The most that sealing adds to a plaintext, in bytes of raw token: header 25, padding 1 to 16,
/// MAC 32.
pub const OVERHEAD_BYTES_MAX: usize = HEADER_BYTES + BLOCK_BYTES + TAG_BYTES;

/// The length of the shortest raw token, that of an empty plaintext: header 25, one block of
/// padding 16, MAC 32.
pub const TOKEN_BYTES_MIN: usize = HEADER_BYTES + BLOCK_BYTES + TAG_BYTES;

/// The block size of AES, which is also the size of an IV.
pub(crate) const BLOCK_BYTES: usize = 16;

/// The size of an HMAC-SHA256 tag, which Fernet never shortens.
pub(crate) const TAG_BYTES: usize = 32;

const TIME_BYTES: usize = 8;

/// The only version. A draft of a second one, `0x81`, has microseconds in the time field. It is
/// refused like any other version, since its times would be read as far in the future.
const VERSION: u8 = 0x80;

/// The fields of a token. Length and version are checked. Nothing else may be trusted before the
/// MAC is verified.
pub(crate) struct Shape {
    pub(crate) sealed_at_secs: u64,
    pub(crate) iv: [u8; BLOCK_BYTES],
    pub(crate) tag: [u8; TAG_BYTES],
    /// How many bytes the MAC covers: everything before the tag. They are the header and the
    /// ciphertext, which has at least one block.
    pub(crate) signed_bytes: usize,
}

impl Shape {
    /// Splits `token` into its fields. Returns `None` if its length or version is not that of a
    /// token.
    ///
    /// Both are public and cheap to check, so bytes that cannot be a token are not hashed.
    pub(crate) fn of(token: &[u8]) -> Option<Self> {
        let (signed, tag) = token.split_last_chunk::<TAG_BYTES>()?;
        let (version, rest) = signed.split_first()?;
        let (time, rest) = rest.split_first_chunk::<TIME_BYTES>()?;
        let (iv, ciphertext) = rest.split_first_chunk::<BLOCK_BYTES>()?;
        let whole_blocks = !ciphertext.is_empty() && ciphertext.len().is_multiple_of(BLOCK_BYTES);
        (*version == VERSION && whole_blocks).then(|| Self {
            sealed_at_secs: u64::from_be_bytes(*time),
            iv: *iv,
            tag: *tag,
            signed_bytes: signed.len(),
        })
    }
}

/// Makes the header of a token.
pub(crate) fn header(sealed_at_secs: u64, iv: &[u8; BLOCK_BYTES]) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[0] = VERSION;
    header[1..1 + TIME_BYTES].copy_from_slice(&sealed_at_secs.to_be_bytes());
    header[1 + TIME_BYTES..].copy_from_slice(iv);
    header
}

/// The length of the ciphertext of a plaintext of `plaintext_bytes`: PKCS#7 (RFC 5652, section 6.3)
/// always pads, by 1 to 16 bytes.
pub(crate) const fn ciphertext_bytes(plaintext_bytes: usize) -> usize {
    plaintext_bytes - plaintext_bytes % BLOCK_BYTES + BLOCK_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sizes_are_those_of_the_specification() {
        assert_eq!((HEADER_BYTES, TOKEN_BYTES_MIN, OVERHEAD_BYTES_MAX), (25, 73, 73));
        for (plaintext, ciphertext) in
            [(0, 16), (1, 16), (15, 16), (16, 32), (17, 32), (31, 32), (32, 48)]
        {
            assert_eq!(ciphertext_bytes(plaintext), ciphertext);
        }
    }

    #[test]
    fn a_header_is_read_as_it_was_written() {
        let iv = *b"0123456789abcdef";
        let mut token = header(0x0102_0304_0506_0708, &iv).to_vec();
        assert_eq!(token[..9], [0x80, 1, 2, 3, 4, 5, 6, 7, 8]);
        token.extend_from_slice(&[0; BLOCK_BYTES]);
        token.extend_from_slice(&[5; TAG_BYTES]);
        let shape = Shape::of(&token).unwrap();
        assert_eq!(shape.sealed_at_secs, 0x0102_0304_0506_0708);
        assert_eq!((shape.iv, shape.tag, shape.signed_bytes), (iv, [5; TAG_BYTES], 41));
    }

    #[test]
    fn only_whole_blocks_and_at_least_one_make_a_token() {
        for length in 0..300 {
            let mut token = vec![0; length];
            if let Some(version) = token.first_mut() {
                *version = VERSION;
            }
            let expected =
                length >= TOKEN_BYTES_MIN && (length - TOKEN_BYTES_MIN).is_multiple_of(BLOCK_BYTES);
            assert_eq!(Shape::of(&token).is_some(), expected, "{length} bytes");
        }
    }

    #[test]
    fn every_version_but_the_one_is_refused() {
        for version in 0..=u8::MAX {
            let mut token = [0; TOKEN_BYTES_MIN];
            token[0] = version;
            assert_eq!(Shape::of(&token).is_some(), version == 0x80);
        }
    }
}

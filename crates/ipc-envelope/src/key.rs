//! One Fernet key, and the text form of keys in files.
//!
//! The code that makes, reads or writes keys comes here; the ring seals and opens. Keys leave this
//! file only as text that is wiped when dropped. The caller brings the random bytes and stores the
//! text.

use std::fmt;

use hkdf::Hkdf;
use sha2::{Digest as _, Sha256};
use thiserror::Error;
use zeroize::{Zeroize, Zeroizing};

use crate::base64url;

/// The most keys that [`keys_from_text`] reads. The limit bounds the work for a forged token, which
/// costs one MAC for each key.
pub const KEYS_MAX: usize = 16;

/// The `info` of HKDF: the purpose of a derived key and the version of the derivation (RFC 5869,
/// section 3.2).
const DERIVED_INFO: &[u8] = b"web-ipc envelope key v1";

const KEY_BYTES: usize = 32;
const KEY_CHARS: usize = 44;

/// A Fernet key: signing key (16 bytes), then encryption key (16 bytes).
///
/// A key is wiped when dropped, and `Debug` does not show it.
pub struct Key {
    signing: Zeroizing<[u8; 16]>,
    encryption: Zeroizing<[u8; 16]>,
}

impl Key {
    /// Makes a key of 32 bytes from a cryptographic random number generator.
    ///
    /// The bytes are copied. A caller that keeps a copy must wipe it.
    pub fn from_bytes(mut bytes: [u8; 32]) -> Self {
        let mut key =
            Self { signing: Zeroizing::new([0; 16]), encryption: Zeroizing::new([0; 16]) };
        key.signing.copy_from_slice(&bytes[..16]);
        key.encryption.copy_from_slice(&bytes[16..]);
        bytes.zeroize();
        key
    }

    /// Reads a key from its text form: 44 characters of base64url with padding, in the canonical
    /// spelling.
    ///
    /// # Errors
    /// [`KeyError::Malformed`] for anything else, white space around it included.
    pub fn from_base64url(text: &str) -> Result<Self, KeyError> {
        // 44 characters without padding decode to 33 bytes. These need room, and are then refused.
        let mut buffer = Zeroizing::new([0; KEY_BYTES + 1]);
        let decoded = (text.len() == KEY_CHARS)
            .then(|| base64url::decode_into(text.as_bytes(), &mut buffer[..]));
        let bytes = decoded.flatten().and_then(|bytes| <[u8; KEY_BYTES]>::try_from(bytes).ok());
        bytes.map(Self::from_bytes).ok_or(KeyError::Malformed)
    }

    /// The text form that [`Key::from_base64url`] reads. It is secret: write it only where others
    /// cannot read it.
    pub fn to_base64url(&self) -> Zeroizing<String> {
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        bytes[..16].copy_from_slice(&self.signing[..]);
        bytes[16..].copy_from_slice(&self.encryption[..]);
        Zeroizing::new(base64url::encode(&bytes[..]))
    }

    /// The first four bytes of SHA-256 of the key's 32 bytes: enough to tell the keys of a ring
    /// apart in a list or a log. They say nothing of the key.
    pub fn short_id(&self) -> [u8; 4] {
        let hash = Sha256::new().chain_update(&self.signing[..]).chain_update(&self.encryption[..]);
        let [a, b, c, d, ..] = <[u8; 32]>::from(hash.finalize());
        [a, b, c, d]
    }

    /// Derives the key of one client from this key and the client's peer name, so that no client
    /// has a key that opens the tokens of another.
    ///
    /// HKDF with SHA-256 (RFC 5869), without a salt: the input is the 32 bytes of this key, `info`
    /// is `web-ipc envelope key v1`, a zero byte and the name in ASCII lower case, since names of
    /// hosts have no case. The output is 32 bytes: the signing half, then the encryption half.
    pub fn derive_for(&self, peer_name: &str) -> Self {
        let mut input = Zeroizing::new([0; KEY_BYTES]);
        input[..16].copy_from_slice(&self.signing[..]);
        input[16..].copy_from_slice(&self.encryption[..]);
        let mut derived = [0; KEY_BYTES];
        Hkdf::<Sha256>::new(None, &input[..])
            .expand_multi_info(
                &[DERIVED_INFO, &[0], peer_name.to_ascii_lowercase().as_bytes()],
                &mut derived,
            )
            .expect("32 bytes are far below the 8,160 that HKDF with SHA-256 gives");
        let key = Self::from_bytes(derived);
        derived.zeroize();
        key
    }

    pub(crate) fn signing(&self) -> &[u8; 16] {
        &self.signing
    }

    pub(crate) fn encryption(&self) -> &[u8; 16] {
        &self.encryption
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

/// Reads keys from text, in order: one on each line, in the form of [`Key::from_base64url`], at
/// most [`KEYS_MAX`].
///
/// White space around a key, blank lines, lines that begin with `#` and a byte order mark before
/// the text are ignored. The result is never empty.
///
/// # Errors
/// [`KeyError::MalformedLine`] for any other line, [`KeyError::NoKeys`], [`KeyError::TooManyKeys`].
pub fn keys_from_text(text: &str) -> Result<Vec<Key>, KeyError> {
    let mut keys = Vec::new();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (index, line) in text.lines().enumerate() {
        let line = line.trim_ascii();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if keys.len() == KEYS_MAX {
            return Err(KeyError::TooManyKeys { keys_max: KEYS_MAX });
        }
        keys.push(
            Key::from_base64url(line).map_err(|_| KeyError::MalformedLine { line: index + 1 })?,
        );
    }
    if keys.is_empty() { Err(KeyError::NoKeys) } else { Ok(keys) }
}

/// Why a text is not a key or not a list of keys. The error never contains the text.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyError {
    /// The text is not 32 bytes in canonical base64url.
    #[error("not a key: 44 characters of base64url, the last of them '=', are expected")]
    Malformed,
    /// A line of a list is neither a key nor blank nor a comment.
    #[error(
        "line {line} is not a key: 44 characters of base64url, the last of them '=', are expected"
    )]
    MalformedLine {
        /// The line, counted from 1.
        line: usize,
    },
    /// A list has no key.
    #[error("no key found")]
    NoKeys,
    /// A list has more keys than the limit.
    #[error("more than {keys_max} keys")]
    TooManyKeys {
        /// The limit: [`KEYS_MAX`].
        keys_max: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TEXT: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

    fn counting_bytes() -> [u8; 32] {
        std::array::from_fn(|index| index as u8)
    }

    #[test]
    fn a_derived_key_is_that_of_another_implementation() {
        // Python's `cryptography` 48 derived it, with `HKDF(SHA256(), 32, None, b"web-ipc envelope
        // key v1\0worker1")`.
        let derived = Key::from_bytes(counting_bytes()).derive_for("worker1");
        assert_eq!(*derived.to_base64url(), "rqK6J2142iliaLW18Xyd7ZUN2YbfR-iAmTvKTVZbi60=");
    }

    #[test]
    fn a_short_id_is_that_of_sha256_of_the_bytes() {
        // `python3 -c 'import hashlib; print(hashlib.sha256(bytes(range(32))).hexdigest()[:8])'`
        assert_eq!(Key::from_bytes(counting_bytes()).short_id(), [0x63, 0x0d, 0xcd, 0x29]);
    }

    #[test]
    fn each_name_has_a_key_of_its_own_whatever_its_case() {
        let key = Key::from_bytes(counting_bytes());
        let text = |name| key.derive_for(name).to_base64url();
        assert_eq!(text("Worker1"), text("worker1"));
        for other in ["worker2", "worker1.example", "", "worker1\0"] {
            assert_ne!(text(other), text("worker1"), "{other:?}");
        }
        assert_ne!(text("worker1"), key.to_base64url());
        assert_ne!(Key::from_bytes([7; 32]).derive_for("worker1").to_base64url(), text("worker1"));
    }

    #[test]
    fn a_key_is_the_signing_half_then_the_encryption_half() {
        let key = Key::from_bytes(counting_bytes());
        assert_eq!(key.signing()[..], counting_bytes()[..16]);
        assert_eq!(key.encryption()[..], counting_bytes()[16..]);
        assert_eq!(*key.to_base64url(), TEXT);
        assert_eq!(*Key::from_base64url(TEXT).unwrap().to_base64url(), TEXT);
    }

    #[test]
    fn debug_shows_nothing_of_a_key() {
        assert_eq!(format!("{:?}", Key::from_bytes(counting_bytes())), "Key(..)");
    }

    #[test]
    fn a_byte_order_mark_before_the_keys_is_ignored_and_nowhere_else() {
        let keys = keys_from_text(&format!("\u{feff}{TEXT}\r\n{TEXT}\r\n")).unwrap();
        assert_eq!((keys.len(), keys[0].to_base64url().as_str()), (2, TEXT));
        let error = keys_from_text(&format!("{TEXT}\n\u{feff}{TEXT}\n")).unwrap_err();
        assert_eq!(error, KeyError::MalformedLine { line: 2 });
    }

    #[test]
    fn another_spelling_of_a_key_is_refused() {
        let standard_alphabet = Key::from_bytes([0xff; 32]).to_base64url().replace('_', "/");
        for text in [
            "",
            "=",
            TEXT.trim_end_matches('='),
            &format!("{TEXT}="),
            &format!("{TEXT}\n"),
            &format!(" {TEXT}"),
            &TEXT.replace("8=", "9="),   // trailing bits that are not zero
            &TEXT.replace("h8=", "8=="), // 31 bytes
            &TEXT.replace("8=", "8A"),   // 33 bytes
            &TEXT.replace('E', " "),
            &TEXT.replace('E', "é"),
            &standard_alphabet,
            &"A".repeat(44),
            &"=".repeat(44),
        ] {
            assert_eq!(Key::from_base64url(text).err(), Some(KeyError::Malformed), "{text:?}");
        }
    }

    #[test]
    fn a_list_is_read_in_order_past_blanks_and_comments() {
        let second = Key::from_bytes([0xff; 32]).to_base64url();
        let text = format!("# current\n{TEXT}\r\n\n \t\n  # old: {TEXT}\n  {}  \n", *second);
        let keys = keys_from_text(&text).unwrap();
        let texts: Vec<_> = keys.iter().map(|key| key.to_base64url().to_string()).collect();
        assert_eq!(texts, [TEXT, &**second]);
    }

    #[test]
    fn a_list_without_a_key_is_refused() {
        for text in ["", "\n", "# nothing\n \n"] {
            assert_eq!(keys_from_text(text).err(), Some(KeyError::NoKeys));
        }
    }

    #[test]
    fn a_bad_line_is_told_by_its_number_and_not_by_its_content() {
        for bad in [
            "hunter2",
            &TEXT[..43],
            &format!("{TEXT} # note"),
            &format!("{TEXT} {TEXT}"),
            "\u{feff}",
        ] {
            let error = keys_from_text(&format!("# keys\n\n{TEXT}\n{bad}\n")).unwrap_err();
            assert_eq!(error, KeyError::MalformedLine { line: 4 });
            assert!(!format!("{error} {error:?}").contains(bad));
        }
    }

    #[test]
    fn sixteen_keys_are_read_and_a_seventeenth_is_refused() {
        let sixteen = format!("{TEXT}\n").repeat(16);
        assert_eq!(keys_from_text(&sixteen).unwrap().len(), 16);
        assert_eq!(keys_from_text(&format!("{sixteen}\n# end\n")).unwrap().len(), 16);
        let seventeen = format!("{sixteen}{TEXT}");
        assert_eq!(keys_from_text(&seventeen).err(), Some(KeyError::TooManyKeys { keys_max: 16 }));
    }

    proptest! {
        #[test]
        fn every_key_survives_its_text_form(bytes: [u8; 32]) {
            let text = Key::from_bytes(bytes).to_base64url();
            let key = Key::from_base64url(&text).unwrap();
            prop_assert_eq!([*key.signing(), *key.encryption()].concat(), bytes);
        }

        #[test]
        fn no_text_makes_a_key_or_a_list_panic(text: String, near in "[A-Za-z0-9_=+/ \n#-]{40,50}") {
            for text in [&text, &near] {
                if let Ok(key) = Key::from_base64url(text) {
                    prop_assert_eq!(&*key.to_base64url(), text);
                }
                let _ = keys_from_text(text);
            }
        }
    }
}

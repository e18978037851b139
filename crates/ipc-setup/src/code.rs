//! The code that opens a sealed file, and how a key is made of it.
//!
//! Enrolment bundles and backups come here: both are sealed under a key that Argon2id makes of a
//! code and of a salt of their own. What they hold is not known here.

use std::fmt;
use std::str::FromStr;

use argon2::{Algorithm, Argon2, Params, Version};
use ipc_envelope::{Key, KeyRing};
use zeroize::Zeroizing;

use crate::SetupError;
use crate::bundle_error::{BundleError, CODE_CHARS, GROUP_CHARS};
use crate::random::random_bytes;

/// The characters of a code: Crockford's base32, without I, L, O and U.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// The code that opens a sealed file: 25 characters of Crockford's base32, 125 random bits.
///
/// `Display` writes five groups joined by hyphens. Reading ignores case, hyphens and white space,
/// and takes `O` for `0`, `I` and `L` for `1`. `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Code(Zeroizing<[u8; CODE_CHARS]>);

impl Code {
    /// A new code.
    ///
    /// # Errors
    /// [`HomeError::NoRandomness`](ipc_home::HomeError::NoRandomness).
    pub fn generate() -> Result<Self, SetupError> {
        let mut characters = Zeroizing::new(random_bytes::<CODE_CHARS>()?);
        for character in characters.iter_mut() {
            *character = ALPHABET[usize::from(*character % 32)];
        }
        Ok(Self(characters))
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, group) in self.0.chunks(GROUP_CHARS).enumerate() {
            if index > 0 {
                f.write_str("-")?;
            }
            group.iter().try_for_each(|character| write!(f, "{}", char::from(*character)))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Code(redacted)")
    }
}

impl FromStr for Code {
    type Err = BundleError;

    fn from_str(text: &str) -> Result<Self, BundleError> {
        let mut code = Zeroizing::new([0; CODE_CHARS]);
        let mut length = 0;
        for character in text.chars().filter(|c| *c != '-' && !c.is_whitespace()) {
            let upper = match character.to_ascii_uppercase() {
                'O' => '0',
                'I' | 'L' => '1',
                other => other,
            };
            let is_known = upper.is_ascii() && ALPHABET.contains(&(upper as u8));
            if !is_known || length == CODE_CHARS {
                return Err(BundleError::MalformedCode);
            }
            code[length] = upper as u8;
            length += 1;
        }
        if length == CODE_CHARS { Ok(Self(code)) } else { Err(BundleError::MalformedCode) }
    }
}

/// How many bytes the numbers of a [`Cost`] take.
pub(crate) const COST_BYTES: usize = 12;
/// How many random bytes the salt of a key has.
pub(crate) const SALT_BYTES: usize = 16;

/// What Argon2id costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cost {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

impl Cost {
    /// RFC 9106, section 4, second choice: 64 MiB and 3 passes; one lane, since the crate computes
    /// lanes one after the other.
    #[cfg(not(test))]
    pub(crate) const DEFAULT: Self = Self { memory_kib: 64 * 1024, passes: 3, lanes: 1 };
    /// Cheap, for tests.
    #[cfg(test)]
    pub(crate) const DEFAULT: Self = Self { memory_kib: 64, passes: 1, lanes: 1 };

    /// Four times the default in all: a file from elsewhere must not stop this host.
    const MAX: Self = Self { memory_kib: 256 * 1024, passes: 12, lanes: 4 };

    /// Memory in KiB, passes and lanes.
    pub(crate) fn numbers(self) -> [u32; 3] {
        [self.memory_kib, self.passes, self.lanes]
    }

    /// The three numbers as they stand in a sealed file: big-endian, four bytes each.
    pub(crate) fn to_bytes(self) -> [u8; COST_BYTES] {
        let mut bytes = [0; COST_BYTES];
        for (four, number) in bytes.chunks_exact_mut(4).zip(self.numbers()) {
            four.copy_from_slice(&number.to_be_bytes());
        }
        bytes
    }

    /// The cost that a file names; `None` if it is more than is allowed.
    pub(crate) fn from_bytes(bytes: [u8; COST_BYTES]) -> Option<Self> {
        let [m0, m1, m2, m3, p0, p1, p2, p3, l0, l1, l2, l3] = bytes;
        let cost = Self {
            memory_kib: u32::from_be_bytes([m0, m1, m2, m3]),
            passes: u32::from_be_bytes([p0, p1, p2, p3]),
            lanes: u32::from_be_bytes([l0, l1, l2, l3]),
        };
        let is_allowed = cost.memory_kib <= Self::MAX.memory_kib
            && cost.passes <= Self::MAX.passes
            && cost.lanes <= Self::MAX.lanes;
        is_allowed.then_some(cost)
    }

    /// The key of a file with this salt. `None` if the cost is none that Argon2id knows, or there
    /// is no memory for it.
    pub(crate) fn derive(self, code: &Code, salt: &[u8]) -> Option<KeyRing> {
        let params = Params::new(self.memory_kib, self.passes, self.lanes, Some(32)).ok()?;
        let mut key = Zeroizing::new([0; 32]);
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(&code.0[..], salt, &mut key[..])
            .ok()?;
        Some(KeyRing::new(Key::from_bytes(*key)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_SECS: u64 = 1_750_000_000;

    #[test]
    fn a_code_is_read_in_any_case_with_or_without_hyphens() {
        let code = Code::generate().unwrap();
        let text = code.to_string();
        assert_eq!(text.len(), 29);
        assert_eq!(text.split('-').count(), 5);
        for text in [text.clone(), text.to_lowercase(), text.replace('-', ""), format!(" {text}\n")]
        {
            assert_eq!(text.parse::<Code>().unwrap(), code);
        }
        let read = |text: &str| text.parse::<Code>().map(|code| code.to_string());
        assert_eq!(read("oil00-00000-00000-00000-00000").unwrap(), "01100-00000-00000-00000-00000");
        for text in
            ["", "A", "00000-00000-00000-00000-0000U", "000000000000000000000000000000", "ä"]
        {
            assert_eq!(read(text), Err(BundleError::MalformedCode), "{text}");
        }
        assert_eq!(format!("{code:?}"), "Code(redacted)");
        assert_ne!(Code::generate().unwrap(), code);
    }

    /// With the parameters written out, so that a change of the derivation is noticed.
    #[test]
    fn the_key_is_argon2id_of_the_code_without_hyphens() {
        let code: Code = "00000-00000-00000-00000-00000".parse().unwrap();
        let cost = Cost { memory_kib: 64, passes: 2, lanes: 1 };
        let mut key = [0; 32];
        Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::new(64, 2, 1, Some(32)).unwrap())
            .hash_password_into(b"0000000000000000000000000", b"saltsaltsaltsalt", &mut key)
            .unwrap();
        let token = KeyRing::new(Key::from_bytes(key)).seal(b"x", NOW_SECS, [0; 16]);
        let ring = cost.derive(&code, b"saltsaltsaltsalt").unwrap();
        assert_eq!(&ring.open(&token, None).unwrap()[..], b"x");
    }
}

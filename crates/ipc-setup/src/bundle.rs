//! The form of an enrolment bundle: text armour around bytes that only a code opens.
//!
//! Enrolment comes here to seal and to open. What is inside is not known here.
//!
//! | bytes | what |
//! |---:|---|
//! | 4 | `WIE1` |
//! | 4, 4, 4 | Argon2id (RFC 9106): memory in KiB, passes, lanes; big-endian |
//! | 16 | salt |
//! | n | a Fernet token under the 32 bytes that Argon2id makes of the code |
//! | 8 | the first bytes of SHA-256 of everything before |
//!
//! The last eight bytes tell a bundle that was damaged on its way from a wrong code, before the
//! costly key is derived. They protect against nobody: the token's own MAC does that.

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::SetupError;
use crate::bundle_error::{BUNDLE_TTL_SECS, BundleError};
use crate::code::{COST_BYTES, Code, Cost, SALT_BYTES};
use crate::random::random_bytes;

const BEGIN: &str = "-----BEGIN WEB-IPC ENROLMENT-----";
/// The last line of a bundle.
pub const BUNDLE_END: &str = "-----END WEB-IPC ENROLMENT-----";
const LINE_CHARS: usize = 64;
const MAGIC: &[u8; 4] = b"WIE1";
const CHECK_BYTES: usize = 8;
const HEAD_BYTES: usize = 4 + COST_BYTES + SALT_BYTES;

/// The longest bundle that is read, in bytes of text: that of a server with a copy of users of 6
/// MiB, which is encoded twice.
pub const BUNDLE_BYTES_MAX: usize = 12 * 1024 * 1024;

/// Seals a bundle under a code.
pub(crate) fn seal(
    plaintext: &[u8],
    code: &Code,
    cost: Cost,
    now_secs: u64,
) -> Result<String, SetupError> {
    let salt: [u8; SALT_BYTES] = random_bytes()?;
    let mut bytes = MAGIC.to_vec();
    bytes.extend(cost.to_bytes());
    bytes.extend(salt);
    let ring = cost.derive(code, &salt).ok_or(SetupError::BundleKey)?;
    bytes.extend(ring.seal(plaintext, now_secs, random_bytes()?));
    Ok(armoured(bytes))
}

/// A bundle whose form was checked. No key was derived yet.
pub(crate) struct Sealed {
    cost: Cost,
    salt: [u8; SALT_BYTES],
    token: Zeroizing<Vec<u8>>,
}

impl Sealed {
    /// Reads the armour and the header. This is cheap, whatever the header asks for.
    pub(crate) fn parse(text: &str) -> Result<Self, BundleError> {
        let bytes = unarmoured(text).ok_or(BundleError::NotABundle)?;
        if bytes.len() < HEAD_BYTES + CHECK_BYTES || !bytes.starts_with(b"WIE") {
            return Err(BundleError::NotABundle);
        }
        let (bytes, check) = bytes.split_at(bytes.len() - CHECK_BYTES);
        if check_of(bytes) != check {
            return Err(BundleError::Damaged);
        }
        let (head, token) = bytes.split_at(HEAD_BYTES);
        let mut cost = [0; COST_BYTES];
        cost.copy_from_slice(&head[MAGIC.len()..][..COST_BYTES]);
        let Some(cost) = Cost::from_bytes(cost).filter(|_| head.starts_with(MAGIC)) else {
            return Err(BundleError::Unsupported);
        };
        let mut salt = [0; SALT_BYTES];
        salt.copy_from_slice(&head[HEAD_BYTES - SALT_BYTES..]);
        Ok(Self { cost, salt, token: Zeroizing::new(token.to_vec()) })
    }

    /// Derives the key of the code and opens the token.
    fn open(mut self, code: &Code, now_secs: u64) -> Result<Zeroizing<Vec<u8>>, BundleError> {
        let ring = self.cost.derive(code, &self.salt).ok_or(BundleError::Unsupported)?;
        // Opened whatever its age: an old bundle with a wrong code is a wrong code.
        let opened =
            ring.open_in_place(&mut self.token, None).map_err(|_| BundleError::WrongCode)?;
        let sealed_at_secs = opened.sealed_at_secs();
        let ahead_secs = sealed_at_secs.checked_sub(now_secs);
        if let Some(secs) = ahead_secs.filter(|secs| *secs > SKEW_SECS_MAX) {
            return Err(BundleError::FromTheFuture { secs });
        }
        if now_secs.saturating_sub(sealed_at_secs) > BUNDLE_TTL_SECS {
            return Err(BundleError::Expired);
        }
        Ok(Zeroizing::new(opened.plaintext().to_vec()))
    }

    /// Memory in KiB, passes and lanes of Argon2id.
    pub(crate) fn cost(&self) -> [u32; 3] {
        self.cost.numbers()
    }

    /// Salt and token, as they stand in the bundle.
    pub(crate) fn salt_and_token(&self) -> (&[u8], &[u8]) {
        (&self.salt, &self.token)
    }
}

/// Opens a bundle.
pub(crate) fn open(
    text: &str,
    code: &Code,
    now_secs: u64,
) -> Result<Zeroizing<Vec<u8>>, BundleError> {
    Sealed::parse(text)?.open(code, now_secs)
}

/// Writes the armour around the bytes of a bundle, with their check behind them.
pub(crate) fn armoured(mut bytes: Vec<u8>) -> String {
    bytes.extend(check_of(&bytes));
    let encoded = base64_simd::STANDARD.encode_to_string(&bytes);
    let mut text = format!("{BEGIN}\n");
    for line in encoded.as_bytes().chunks(LINE_CHARS) {
        text.extend(line.iter().map(|byte| char::from(*byte)));
        text.push('\n');
    }
    text.push_str(BUNDLE_END);
    text.push('\n');
    text
}

/// The bytes within the armour; text around it does not count, as where a pipe adds a greeting.
fn unarmoured(text: &str) -> Option<Vec<u8>> {
    let (_, rest) = text.split_once(BEGIN)?;
    let (body, _) = rest.split_once(BUNDLE_END)?;
    let body: String = body.split_ascii_whitespace().collect();
    base64_simd::STANDARD.decode_to_vec(body.as_bytes()).ok()
}

fn check_of(bytes: &[u8]) -> [u8; CHECK_BYTES] {
    let mut check = [0; CHECK_BYTES];
    check.copy_from_slice(&Sha256::digest(bytes)[..CHECK_BYTES]);
    check
}

/// How far the clock of the host that made a bundle may be ahead, in seconds: as for envelopes.
const SKEW_SECS_MAX: u64 = 60;

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_SECS: u64 = 1_750_000_000;

    fn sealed() -> (String, Code) {
        let code = Code::generate().unwrap();
        (seal(b"what is inside", &code, Cost::DEFAULT, NOW_SECS).unwrap(), code)
    }

    #[test]
    fn a_bundle_opens_with_its_code_for_24_hours() {
        let (text, code) = sealed();
        for now_secs in [NOW_SECS - 60, NOW_SECS, NOW_SECS + BUNDLE_TTL_SECS] {
            assert_eq!(&open(&text, &code, now_secs).unwrap()[..], b"what is inside");
        }
        let expired = NOW_SECS + BUNDLE_TTL_SECS + 1;
        assert_eq!(open(&text, &code, expired), Err(BundleError::Expired));
        assert_eq!(
            open(&text, &code, NOW_SECS - 3600),
            Err(BundleError::FromTheFuture { secs: 3600 })
        );
        let around = format!("Welcome to host2\n{}\nbye", text.replace('\n', "\r\n"));
        assert!(open(&around, &code, NOW_SECS).is_ok());
        assert!(text.lines().all(|line| line.len() <= LINE_CHARS), "{text}");
    }

    #[test]
    fn another_code_is_refused_as_such_however_old_the_bundle_is() {
        let (text, _) = sealed();
        let other = Code::generate().unwrap();
        for now_secs in [NOW_SECS, NOW_SECS + 10 * BUNDLE_TTL_SECS] {
            assert_eq!(open(&text, &other, now_secs), Err(BundleError::WrongCode));
        }
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let (text, code) = sealed();
        let bytes = unarmoured(&text).unwrap();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            let body = base64_simd::STANDARD.encode_to_string(&changed);
            let error =
                open(&format!("{BEGIN}\n{body}\n{BUNDLE_END}"), &code, NOW_SECS).unwrap_err();
            let expected = if at < 3 { BundleError::NotABundle } else { BundleError::Damaged };
            assert_eq!(error, expected, "byte {at}");
        }
        for part in [&text[..text.len() / 2], "", "text", "-----BEGIN CERTIFICATE-----"] {
            assert_eq!(open(part, &code, NOW_SECS), Err(BundleError::NotABundle));
        }
    }

    #[test]
    fn a_change_with_a_new_check_is_refused_by_the_token() {
        let (text, code) = sealed();
        let bytes = unarmoured(&text).unwrap();
        for at in HEAD_BYTES..bytes.len() - CHECK_BYTES {
            let mut changed = bytes[..bytes.len() - CHECK_BYTES].to_vec();
            changed[at] ^= 1;
            assert_eq!(open(&armoured(changed), &code, NOW_SECS), Err(BundleError::WrongCode));
        }
    }

    #[test]
    fn a_bundle_that_costs_too_much_or_is_of_another_version_is_refused_at_once() {
        let (text, code) = sealed();
        let bytes = unarmoured(&text).unwrap();
        let good = &bytes[..bytes.len() - CHECK_BYTES];
        assert!(open(&armoured(good.to_vec()), &code, NOW_SECS).is_ok());
        // Version, memory, passes, lanes; and no memory at all.
        for (at, value) in [(3, b'2'), (4, 1), (8, 1), (12, 1)] {
            let mut changed = good.to_vec();
            changed[at] = value;
            assert_eq!(open(&armoured(changed), &code, NOW_SECS), Err(BundleError::Unsupported));
        }
        let mut changed = good.to_vec();
        changed[4..8].fill(0);
        assert_eq!(open(&armoured(changed), &code, NOW_SECS), Err(BundleError::Unsupported));
    }
}

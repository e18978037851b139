//! The strings of a pickle: UTF-8, and the escaped text of protocol 0.

use crate::error::{DecodeError, Unrepresentable};

const LONE_SURROGATE: DecodeError = DecodeError::Unrepresentable(Unrepresentable::LoneSurrogate);

/// Python writes half a surrogate pair as if it were a character, which is not UTF-8. `None` if
/// the bytes are something else than text.
pub(crate) fn utf8(bytes: &[u8]) -> Option<Result<&str, DecodeError>> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Some(Ok(text)),
        Err(error) => match bytes[error.valid_up_to()..] {
            [0xed, 0xa0..=0xbf, 0x80..=0xbf, ..] => Some(Err(LONE_SURROGATE)),
            _ => None,
        },
    }
}

/// Python's codec `raw-unicode-escape`: Latin-1, with `\uXXXX` and `\UXXXXXXXX` for the rest. Any
/// other character behind a backslash stands for itself, and the backslash too. `None` if the
/// bytes are something else.
pub(crate) fn raw_unicode_escape(bytes: &[u8]) -> Option<Result<String, DecodeError>> {
    let mut text = String::with_capacity(bytes.len());
    let mut rest = bytes;
    loop {
        let (character, behind) = match rest {
            [] => return Some(Ok(text)),
            [b'\\', b'u', behind @ ..] => hex(behind, 4)?,
            [b'\\', b'U', behind @ ..] => hex(behind, 8)?,
            [b'\\', next, behind @ ..] => {
                text.push('\\');
                (u32::from(*next), behind)
            }
            [byte, behind @ ..] => (u32::from(*byte), behind),
        };
        match char::from_u32(character) {
            Some(character) => text.push(character),
            None if character <= 0xffff => return Some(Err(LONE_SURROGATE)),
            None => return None,
        }
        rest = behind;
    }
}

/// The number in so many hexadecimal digits, and what is behind them.
fn hex(bytes: &[u8], digits: usize) -> Option<(u32, &[u8])> {
    let (digits, behind) = bytes.split_at_checked(digits)?;
    let number = digits.iter().try_fold(0_u32, |number, digit| {
        char::from(*digit).to_digit(16).map(|digit| number << 4 | digit)
    })?;
    Some((number, behind))
}

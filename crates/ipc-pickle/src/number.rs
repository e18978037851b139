//! The numbers of a pickle: text of protocol 0, and integers of any length.

use crate::error::{DecodeError, Unrepresentable};
use crate::graph::Value;

const LARGE_INT: DecodeError = DecodeError::Unrepresentable(Unrepresentable::LargeInt);
const NOT_FINITE: DecodeError = DecodeError::Unrepresentable(Unrepresentable::NotFinite);

/// The digits of the longest integer that JSON holds here.
const DIGITS_MAX: usize = 20;

/// An integer in decimal: an optional minus and digits without zeros in front. `None` if it is no
/// such text.
pub(crate) fn decimal<'p>(text: &[u8]) -> Option<Result<Value<'p>, DecodeError>> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let is_canonical = digits == b"0" || digits.first().is_some_and(|first| *first != b'0');
    if !is_canonical || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    if digits.len() > DIGITS_MAX {
        return Some(Err(LARGE_INT));
    }
    let number = std::str::from_utf8(text).ok()?.parse::<i128>().ok()?;
    Some(integer(number).ok_or(LARGE_INT))
}

/// An integer in two's complement, little-endian. No bytes are 0.
pub(crate) fn twos_complement<'p>(bytes: &[u8]) -> Result<Value<'p>, DecodeError> {
    let Some((top, _)) = bytes.split_last() else { return Ok(Value::Int(0)) };
    let filler = if *top >= 0x80 { 0xff } else { 0 };
    let mut wide = [filler; 16];
    let (low, high) = bytes.split_at(bytes.len().min(wide.len()));
    if high.iter().any(|byte| *byte != filler) {
        return Err(LARGE_INT);
    }
    wide[..low.len()].copy_from_slice(low);
    let number = i128::from_le_bytes(wide);
    // With bytes beyond the sixteenth the sign is theirs.
    if (number < 0) != (filler == 0xff) {
        return Err(LARGE_INT);
    }
    integer(number).ok_or(LARGE_INT)
}

fn integer<'p>(number: i128) -> Option<Value<'p>> {
    if let Ok(number) = i64::try_from(number) {
        return Some(Value::Int(number));
    }
    u64::try_from(number).ok().map(Value::LargeInt)
}

/// A float in decimal, as Python's `repr` writes it. `None` if it is no such text.
pub(crate) fn float_text<'p>(text: &[u8]) -> Option<Result<Value<'p>, DecodeError>> {
    let unsigned = text.strip_prefix(b"-").unwrap_or(text);
    if unsigned == b"inf" || unsigned == b"nan" {
        return Some(Err(NOT_FINITE));
    }
    let is_number =
        text.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-'));
    if !is_number {
        return None;
    }
    let number = std::str::from_utf8(text).ok()?.parse().ok()?;
    Some(float(number))
}

/// A float that is finite.
pub(crate) fn float<'p>(number: f64) -> Result<Value<'p>, DecodeError> {
    if number.is_finite() { Ok(Value::Float(number)) } else { Err(NOT_FINITE) }
}

//! Writes a JSON object as a pickled dict of protocol 4.
//!
//! The text is checked against the rules for messages first, so that the walk over it meets nothing
//! but JSON. What it writes are dicts, lists, strings, numbers, booleans and `None`, with no
//! reference and no class.

use ipc_protocol::{JsonError, JsonErrorKind, check_body};

use crate::error::EncodeError;
use crate::opcode as op;

/// Pickles the text of a JSON object. Python's `pickle.loads` makes a dict of it, with the members
/// in their order.
///
/// A number without fraction and exponent becomes an `int`, any other the `float` that is nearest,
/// as with Python's own `json`.
///
/// # Errors
/// [`EncodeError`] for a text that breaks a rule for messages, and for what is no object.
pub fn from_json(object: &str) -> Result<Vec<u8>, EncodeError> {
    check_body(object).map_err(EncodeError::NotJson)?;
    if !object.trim_ascii_start().starts_with('{') {
        return Err(EncodeError::NotAnObject);
    }
    // Strings grow by three bytes at most, and lose two quotes and a comma.
    let mut pickle = Vec::with_capacity(object.len() + object.len() / 2 + 16);
    pickle.extend([op::PROTO, op::PROTOCOL_WRITTEN]);
    let mut rest = object;
    while let Some(token) = rest.chars().next() {
        let length = match token {
            '{' => {
                pickle.extend([op::EMPTY_DICT, op::MARK]);
                1
            }
            '}' => {
                pickle.push(op::SETITEMS);
                1
            }
            '[' => {
                pickle.extend([op::EMPTY_LIST, op::MARK]);
                1
            }
            ']' => {
                pickle.push(op::APPENDS);
                1
            }
            'n' => {
                pickle.push(op::NONE);
                "null".len()
            }
            't' => {
                pickle.push(op::NEWTRUE);
                "true".len()
            }
            'f' => {
                pickle.push(op::NEWFALSE);
                "false".len()
            }
            '"' => {
                let length = string_length(rest);
                push_string(&mut pickle, &rest[1..length - 1]);
                length
            }
            '-' | '0'..='9' => {
                let end = rest.find([',', ']', '}', ' ', '\t', '\n', '\r']);
                let length = end.unwrap_or(rest.len());
                let offset = object.len() - rest.len();
                push_number(&mut pickle, &rest[..length])
                    .map_err(|kind| EncodeError::NotJson(JsonError { kind, offset }))?;
                length
            }
            // A colon, a comma, white space.
            _ => 1,
        };
        rest = &rest[length..];
    }
    pickle.push(op::STOP);
    Ok(pickle)
}

/// The bytes of the string that `rest` begins with, its quotes included.
fn string_length(rest: &str) -> usize {
    let mut is_escaped = false;
    let end = rest.bytes().skip(1).position(|byte| {
        let is_end = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        is_end
    });
    // In a checked text there is an end.
    end.map_or(rest.len(), |before| before + 2)
}

/// Pushes a string, given without its quotes.
fn push_string(pickle: &mut Vec<u8>, escaped: &str) {
    let unescaped;
    let text = if escaped.contains('\\') {
        unescaped = unescape(escaped);
        &unescaped
    } else {
        escaped
    };
    if let Ok(length) = u8::try_from(text.len()) {
        pickle.extend([op::SHORT_BINUNICODE, length]);
    } else if let Ok(length) = u32::try_from(text.len()) {
        pickle.push(op::BINUNICODE);
        pickle.extend(length.to_le_bytes());
    } else {
        pickle.push(op::BINUNICODE8);
        pickle.extend((text.len() as u64).to_le_bytes());
    }
    pickle.extend_from_slice(text.as_bytes());
}

/// The text that a checked string of JSON stands for.
fn unescape(escaped: &str) -> String {
    let mut text = String::with_capacity(escaped.len());
    let mut rest = escaped;
    while let Some(at) = rest.find('\\') {
        text.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let mut length = 1;
        let character = match rest.as_bytes().first() {
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                let (character, taken) = unicode_escape(rest);
                length = taken;
                character
            }
            // A quote, a backslash, a slash.
            Some(byte) => char::from(*byte),
            None => break,
        };
        text.push(character);
        rest = &rest[length..];
    }
    text.push_str(rest);
    text
}

/// The character of `uXXXX`, or of `uXXXX\uXXXX` for a surrogate pair, and the bytes that it takes.
fn unicode_escape(rest: &str) -> (char, usize) {
    let unit = |start: usize| {
        let digits = rest.get(start..start + 4);
        digits.and_then(|digits| u32::from_str_radix(digits, 16).ok()).unwrap_or(0)
    };
    let first = unit(1);
    if !(0xd800..0xe000).contains(&first) {
        return (char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER), 5);
    }
    // The check has seen both halves.
    let character = 0x10000 + ((first & 0x3ff) << 10) + (unit(7) & 0x3ff);
    (char::from_u32(character).unwrap_or(char::REPLACEMENT_CHARACTER), 11)
}

/// Pushes a number of a checked text.
fn push_number(pickle: &mut Vec<u8>, text: &str) -> Result<(), JsonErrorKind> {
    if text.contains(['.', 'e', 'E']) {
        // std rounds to the nearest double; the check has refused what is beyond its range.
        let number: f64 = text.parse().map_err(|_| JsonErrorKind::Syntax)?;
        pickle.push(op::BINFLOAT);
        pickle.extend(number.to_be_bytes());
        return Ok(());
    }
    let number: i128 = text.parse().map_err(|_| JsonErrorKind::IntegerTooLarge)?;
    if let Ok(number) = u8::try_from(number) {
        pickle.extend([op::BININT1, number]);
    } else if let Ok(number) = u16::try_from(number) {
        pickle.push(op::BININT2);
        pickle.extend(number.to_le_bytes());
    } else if let Ok(number) = i32::try_from(number) {
        pickle.push(op::BININT);
        pickle.extend(number.to_le_bytes());
    } else {
        // Of 65 bits at most with its sign.
        pickle.extend([op::LONG1, 9]);
        pickle.extend_from_slice(&number.to_le_bytes()[..9]);
    }
    Ok(())
}

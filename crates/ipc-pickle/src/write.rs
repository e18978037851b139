//! Writes the values of a pickle as JSON text. `decode` comes here.
//!
//! The walk keeps its path in a list of at most 127 levels and does not recurse. Each value that it
//! visits adds a byte to the text at least, so the limit of the text bounds its time too, however
//! often the pickle refers to one container.

use std::collections::HashSet;
use std::fmt::Write;

use ipc_protocol::{DEPTH_MAX, NAMES_MAX};

use crate::error::{DecodeError, Unrepresentable};
use crate::graph::{Container, Graph, Kind, Value};

/// The most levels of a message. The frame is one more.
const LEVELS_MAX: usize = DEPTH_MAX - 1;

/// More than a number, a bracket and the sign before it are long.
const SHORT_BYTES_MAX: usize = 64;

/// A container of the path, and how many of its items are written.
struct Level {
    number: usize,
    written: usize,
}

/// Where a container is in the walk.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Visit {
    Never,
    /// On the path from the top.
    Open,
    /// Written once, so its keys are known to differ.
    Checked,
}

/// Writes a dict. `bytes_expected` is the likely length.
pub(crate) fn object(
    graph: &Graph<'_>,
    top: Value<'_>,
    bytes_expected: usize,
    bytes_max: usize,
) -> Result<String, DecodeError> {
    match top {
        Value::Container(number) if graph.container(number).kind == Kind::Dict => (),
        _ => return Err(DecodeError::NotADict),
    }
    let mut writer = Writer {
        graph,
        text: String::with_capacity(bytes_expected.min(bytes_max)),
        bytes_max,
        keys_bytes: 0,
        path: Vec::new(),
        visits: vec![Visit::Never; graph.containers_count()],
    };
    writer.value(top)?;
    while writer.next_item()? {
        writer.make_room(0)?;
    }
    Ok(writer.text)
}

struct Writer<'g, 'p> {
    graph: &'g Graph<'p>,
    text: String,
    bytes_max: usize,
    /// The length of all keys of the dicts that were begun, each dict once.
    keys_bytes: usize,
    path: Vec<Level>,
    visits: Vec<Visit>,
}

impl<'p> Writer<'_, 'p> {
    /// Writes the next item of the innermost container, or its end. Returns whether there is more.
    fn next_item(&mut self) -> Result<bool, DecodeError> {
        let Some(level) = self.path.last_mut() else { return Ok(false) };
        let Container { kind, items } = self.graph.container(level.number);
        let at = level.written;
        let Some(item) = items.get(at) else {
            self.text.push(if *kind == Kind::Dict { '}' } else { ']' });
            self.visits[level.number] = Visit::Checked;
            self.path.pop();
            return Ok(true);
        };
        level.written += 1;
        let is_value = *kind == Kind::Dict && at % 2 == 1;
        if is_value {
            self.text.push(':');
        } else if at > 0 {
            self.text.push(',');
        }
        self.value(*item)?;
        Ok(true)
    }

    /// Writes a value, or the beginning of a container.
    fn value(&mut self, value: Value<'p>) -> Result<(), DecodeError> {
        match value {
            Value::None => self.text.push_str("null"),
            Value::Bool(true) => self.text.push_str("true"),
            Value::Bool(false) => self.text.push_str("false"),
            Value::Int(number) => self.display(format_args!("{number}")),
            Value::LargeInt(number) => self.display(format_args!("{number}")),
            // `Debug` writes the shortest text of the number, with a fraction or an exponent.
            Value::Float(number) => self.display(format_args!("{number:?}")),
            Value::Str(_) | Value::Unescaped(_) => {
                let text = self.graph.text(value).unwrap_or_default();
                self.make_room(quoted_length(text))?;
                quote(&mut self.text, text);
            }
            Value::Container(number) => self.open(number)?,
        }
        Ok(())
    }

    /// Checks that so many bytes more do not exceed the limit, and makes room for them and for the
    /// next short item. The capacity doubles, but not beyond the limit.
    fn make_room(&mut self, more: usize) -> Result<(), DecodeError> {
        let length = self.text.len();
        let needed = match length.checked_add(more) {
            Some(needed) if needed <= self.bytes_max => needed.saturating_add(SHORT_BYTES_MAX),
            _ => return Err(DecodeError::TooLong),
        };
        if needed > self.text.capacity() {
            let most = self.bytes_max.saturating_add(SHORT_BYTES_MAX);
            let capacity = self.text.capacity().saturating_mul(2).min(most).max(needed);
            self.text.reserve_exact(capacity - length);
        }
        Ok(())
    }

    fn display(&mut self, number: std::fmt::Arguments<'_>) {
        self.text.write_fmt(number).expect("a string takes any text");
    }

    fn open(&mut self, number: usize) -> Result<(), DecodeError> {
        let container = self.graph.container(number);
        match self.visits[number] {
            Visit::Open => return Err(DecodeError::Unrepresentable(Unrepresentable::Recursive)),
            Visit::Never if container.kind == Kind::Dict => self.check_keys(&container.items)?,
            _ => (),
        }
        if self.path.len() == LEVELS_MAX {
            return Err(DecodeError::TooDeep);
        }
        self.visits[number] = Visit::Open;
        self.path.push(Level { number, written: 0 });
        self.text.push(if container.kind == Kind::Dict { '{' } else { '[' });
        Ok(())
    }

    /// Checks that a dict has no key twice, and not too many.
    ///
    /// Each dict comes here once, and all its keys will be in the text. So they count before they
    /// are hashed: a long key to which many dicts refer costs no more time than its text may.
    fn check_keys(&mut self, items: &[Value<'p>]) -> Result<(), DecodeError> {
        let count = items.len() / 2;
        if count > NAMES_MAX {
            return Err(DecodeError::TooManyKeys);
        }
        for key in items.iter().step_by(2) {
            let length = self.graph.text(*key).unwrap_or_default().len();
            self.keys_bytes = self.keys_bytes.saturating_add(length);
        }
        if self.keys_bytes > self.bytes_max {
            return Err(DecodeError::TooLong);
        }
        let mut keys = HashSet::with_capacity(count);
        let is_new = |key| keys.insert(self.graph.text(key).unwrap_or_default());
        if items.iter().step_by(2).copied().all(is_new) {
            Ok(())
        } else {
            Err(DecodeError::DuplicateKey)
        }
    }
}

/// How long a string is as JSON.
fn quoted_length(text: &str) -> usize {
    let escapes = text.bytes().map(|byte| match byte {
        b'"' | b'\\' | b'\n' | b'\r' | b'\t' | 0x08 | 0x0c => 2,
        0..0x20 => 6,
        _ => 1,
    });
    escapes.sum::<usize>().saturating_add(2)
}

/// Appends a string of JSON (RFC 8259, section 7), with the escapes that must be there.
fn quote(json: &mut String, text: &str) {
    json.push('"');
    let mut plain = 0;
    for (at, byte) in text.bytes().enumerate() {
        let escape = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            0x08 => "\\b",
            0x0c => "\\f",
            0..0x20 => "",
            _ => continue,
        };
        json.push_str(&text[plain..at]);
        plain = at + 1;
        if escape.is_empty() {
            write!(json, "\\u{byte:04x}").expect("a string takes any text");
        } else {
            json.push_str(escape);
        }
    }
    json.push_str(&text[plain..]);
    json.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_string_takes_no_more_memory_than_its_text_may_have() {
        let (graph, long) = (Graph::default(), "\x01".repeat(900));
        let mut writer = Writer {
            graph: &graph,
            text: String::new(),
            bytes_max: 1000,
            keys_bytes: 0,
            path: Vec::new(),
            visits: Vec::new(),
        };
        assert_eq!(writer.value(Value::Str(&long)), Err(DecodeError::TooLong));
        assert_eq!(writer.text.capacity(), 0);
        // 300 bytes at first, which do not become 1200.
        for length in [300, 500, 192] {
            writer.value(Value::Str(&long[..length / 6])).unwrap();
        }
        assert!(writer.text.capacity() <= 1000 + SHORT_BYTES_MAX);
    }

    #[test]
    fn the_length_of_a_quoted_string_is_known_before() {
        let all: String = (0..0x100).filter_map(char::from_u32).collect();
        for text in ["", "plain", &all] {
            let mut quoted = String::new();
            quote(&mut quoted, text);
            assert_eq!(quoted.len(), quoted_length(text));
        }
    }
}

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
        path: Vec::new(),
        visits: vec![Visit::Never; graph.containers_count()],
    };
    writer.value(top)?;
    while writer.next_item()? {
        writer.check_length(0)?;
    }
    Ok(writer.text)
}

struct Writer<'g, 'p> {
    graph: &'g Graph<'p>,
    text: String,
    bytes_max: usize,
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
                self.check_length(text.len())?;
                quote(&mut self.text, text);
            }
            Value::Container(number) => self.open(number)?,
        }
        Ok(())
    }

    /// Checks that so many bytes more do not exceed the limit. Escapes may take a string beyond it,
    /// to six times its length, until the next check.
    fn check_length(&self, more: usize) -> Result<(), DecodeError> {
        match self.text.len().checked_add(more) {
            Some(length) if length <= self.bytes_max => Ok(()),
            _ => Err(DecodeError::TooLong),
        }
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
    fn check_keys(&self, items: &[Value<'p>]) -> Result<(), DecodeError> {
        let count = items.len() / 2;
        if count > NAMES_MAX {
            return Err(DecodeError::TooManyKeys);
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

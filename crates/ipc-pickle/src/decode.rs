//! Runs the instructions of a pickle that make data, and refuses all others.
//!
//! Both ends come here with bytes of a peer. The machine does not recurse, and its memory is
//! bounded by the number of values, each of which took the peer a byte at least.

use std::collections::HashMap;

use crate::error::{DecodeError, Limits, Unrepresentable};
use crate::graph::{Graph, Kind, Value};
use crate::{number, opcode as op, string, write};

/// Reads a pickled dict, of protocol 0 to 5, and returns it as the text of a JSON object that
/// obeys the rules for messages.
///
/// # Errors
/// [`DecodeError`] for a pickle that would do anything else than make data, is no pickle or no
/// dict, or holds what JSON does not; and beyond the limits.
pub fn to_json(pickle: &[u8], limits: &Limits) -> Result<String, DecodeError> {
    let mut machine = Machine::new(pickle, limits.values_max);
    let value = machine.run()?;
    write::object(&machine.graph, value, pickle.len(), limits.text_bytes_max)
}

struct Machine<'p> {
    pickle: &'p [u8],
    /// How many bytes were read.
    position: usize,
    /// Where the instruction began that is being run.
    offset: usize,
    /// Where the frame ends that is being read. What is not in a frame may follow it.
    frame_end: usize,
    stack: Vec<Value<'p>>,
    /// How many values were on the stack at each `MARK` that is still there.
    marks: Vec<usize>,
    memo: HashMap<u32, Value<'p>>,
    graph: Graph<'p>,
    /// How many values may still be pushed or remembered.
    values_left: usize,
}

impl<'p> Machine<'p> {
    fn new(pickle: &'p [u8], values_max: usize) -> Self {
        Machine {
            pickle,
            position: 0,
            offset: 0,
            frame_end: 0,
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
            graph: Graph::default(),
            values_left: values_max,
        }
    }

    /// Runs to `STOP`, which must be the last byte, and returns the one value that is left.
    fn run(&mut self) -> Result<Value<'p>, DecodeError> {
        loop {
            self.offset = self.position;
            let [opcode] = self.array()?;
            if opcode != op::STOP {
                self.step(opcode)?;
                continue;
            }
            return match self.stack[..] {
                [value] if self.marks.is_empty() && self.position == self.pickle.len() => Ok(value),
                _ => Err(self.malformed()),
            };
        }
    }

    fn step(&mut self, opcode: u8) -> Result<(), DecodeError> {
        match opcode {
            op::PROTO => {
                let [protocol] = self.array()?;
                if self.offset != 0 || protocol > op::PROTOCOL_MAX {
                    return Err(self.malformed());
                }
                Ok(())
            }
            op::FRAME => {
                let length = u64::from_le_bytes(self.array()?);
                let left = self.pickle.len() - self.position;
                let length = usize::try_from(length).ok().filter(|length| *length <= left);
                if self.offset < self.frame_end {
                    return Err(self.malformed());
                }
                self.frame_end = self.position + length.ok_or_else(|| self.malformed())?;
                Ok(())
            }

            op::NONE => self.push(Value::None),
            op::NEWTRUE => self.push(Value::Bool(true)),
            op::NEWFALSE => self.push(Value::Bool(false)),
            op::BININT1 => {
                let [number] = self.array()?;
                self.push(Value::Int(number.into()))
            }
            op::BININT2 => {
                let number = u16::from_le_bytes(self.array()?);
                self.push(Value::Int(number.into()))
            }
            op::BININT => {
                let number = i32::from_le_bytes(self.array()?);
                self.push(Value::Int(number.into()))
            }
            op::LONG1 => {
                let [length] = self.array()?;
                let number = number::twos_complement(self.take(length.into())?)?;
                self.push(number)
            }
            op::LONG4 => {
                let length = i32::from_le_bytes(self.array()?);
                let length = usize::try_from(length).map_err(|_| self.malformed())?;
                let number = number::twos_complement(self.take(length)?)?;
                self.push(number)
            }
            op::INT => {
                let number = match self.line()? {
                    b"00" => Ok(Value::Bool(false)),
                    b"01" => Ok(Value::Bool(true)),
                    text => number::decimal(text).ok_or_else(|| self.malformed())?,
                };
                self.push(number?)
            }
            op::LONG => {
                let text = self.line()?;
                let text = text.strip_suffix(b"L").unwrap_or(text);
                let number = number::decimal(text).ok_or_else(|| self.malformed())?;
                self.push(number?)
            }
            op::FLOAT => {
                let number = number::float_text(self.line()?).ok_or_else(|| self.malformed())?;
                self.push(number?)
            }
            op::BINFLOAT => {
                let number = number::float(f64::from_be_bytes(self.array()?))?;
                self.push(number)
            }

            op::SHORT_BINUNICODE => {
                let [length] = self.array()?;
                self.string(u64::from(length))
            }
            op::BINUNICODE => {
                let length = u32::from_le_bytes(self.array()?);
                self.string(u64::from(length))
            }
            op::BINUNICODE8 => {
                let length = u64::from_le_bytes(self.array()?);
                self.string(length)
            }
            op::UNICODE => {
                let text = string::raw_unicode_escape(self.line()?);
                let text = text.ok_or_else(|| self.malformed())??;
                let text = self.graph.add_string(text);
                self.push(text)
            }

            op::EMPTY_TUPLE => self.push_container(Kind::Tuple, Vec::new()),
            op::TUPLE1 => self.push_tuple(1),
            op::TUPLE2 => self.push_tuple(2),
            op::TUPLE3 => self.push_tuple(3),
            op::TUPLE => {
                let items = self.pop_to_mark()?;
                self.push_container(Kind::Tuple, items)
            }
            op::EMPTY_LIST => self.push_container(Kind::List, Vec::new()),
            op::LIST => {
                let items = self.pop_to_mark()?;
                self.push_container(Kind::List, items)
            }
            op::APPEND => {
                let item = self.pop()?;
                self.extend(Kind::List, [item])
            }
            op::APPENDS => {
                let items = self.pop_to_mark()?;
                self.extend(Kind::List, items)
            }
            op::EMPTY_DICT => self.push_container(Kind::Dict, Vec::new()),
            op::DICT => {
                let items = self.pop_to_mark()?;
                self.check_members(&items)?;
                self.push_container(Kind::Dict, items)
            }
            op::SETITEM => {
                let value = self.pop()?;
                let key = self.pop()?;
                self.check_members(&[key, value])?;
                self.extend(Kind::Dict, [key, value])
            }
            op::SETITEMS => {
                let items = self.pop_to_mark()?;
                self.check_members(&items)?;
                self.extend(Kind::Dict, items)
            }

            op::MARK => {
                self.count()?;
                self.marks.push(self.stack.len());
                Ok(())
            }
            op::POP_MARK => self.pop_to_mark().map(drop),
            op::POP => {
                // Python takes a mark away where nothing is above it.
                if self.marks.last() == Some(&self.stack.len()) {
                    self.marks.pop();
                    return Ok(());
                }
                self.pop().map(drop)
            }
            op::DUP => {
                let top = self.top()?;
                self.push(top)
            }

            op::PUT => {
                let index = self.index()?;
                self.remember(index)
            }
            op::BINPUT => {
                let [index] = self.array()?;
                self.remember(index.into())
            }
            op::LONG_BINPUT => {
                let index = u32::from_le_bytes(self.array()?);
                self.remember(index)
            }
            op::MEMOIZE => {
                let index = u32::try_from(self.memo.len()).map_err(|_| self.malformed())?;
                self.remember(index)
            }
            op::GET => {
                let index = self.index()?;
                self.recall(index)
            }
            op::BINGET => {
                let [index] = self.array()?;
                self.recall(index.into())
            }
            op::LONG_BINGET => {
                let index = u32::from_le_bytes(self.array()?);
                self.recall(index)
            }

            _ => Err(op::refusal(opcode, self.offset)),
        }
    }

    fn malformed(&self) -> DecodeError {
        DecodeError::Malformed { offset: self.offset }
    }

    /// Counts a value that takes memory.
    fn count(&mut self) -> Result<(), DecodeError> {
        self.values_left = self.values_left.checked_sub(1).ok_or(DecodeError::TooManyValues)?;
        Ok(())
    }

    /// The next bytes. None of an instruction lie outside of its frame.
    fn take(&mut self, length: usize) -> Result<&'p [u8], DecodeError> {
        let rest = &self.pickle[self.position..];
        let taken = rest.get(..length).ok_or_else(|| self.malformed())?;
        let end = self.position + length;
        if self.offset < self.frame_end && end > self.frame_end {
            return Err(self.malformed());
        }
        self.position = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        self.take(N).map(|bytes| bytes.try_into().expect("as many bytes as were asked for"))
    }

    /// The bytes up to the next line feed, which is read too.
    fn line(&mut self) -> Result<&'p [u8], DecodeError> {
        let rest = &self.pickle[self.position..];
        let length = rest.iter().position(|byte| *byte == b'\n').ok_or_else(|| self.malformed())?;
        self.take(length + 1).map(|line| &line[..length])
    }

    /// A number of the memo in decimal.
    fn index(&mut self) -> Result<u32, DecodeError> {
        match number::decimal(self.line()?) {
            Some(Ok(Value::Int(index))) => u32::try_from(index).map_err(|_| self.malformed()),
            _ => Err(self.malformed()),
        }
    }

    fn string(&mut self, length: u64) -> Result<(), DecodeError> {
        let length = usize::try_from(length).map_err(|_| self.malformed())?;
        let text = string::utf8(self.take(length)?).ok_or_else(|| self.malformed())?;
        self.push(Value::Str(text?))
    }

    fn push(&mut self, value: Value<'p>) -> Result<(), DecodeError> {
        self.count()?;
        self.stack.push(value);
        Ok(())
    }

    fn push_container(&mut self, kind: Kind, items: Vec<Value<'p>>) -> Result<(), DecodeError> {
        self.count()?;
        let container = self.graph.add(kind, items);
        self.stack.push(container);
        Ok(())
    }

    fn push_tuple(&mut self, length: usize) -> Result<(), DecodeError> {
        let start = self.stack.len().checked_sub(length).filter(|start| *start >= self.floor());
        let items = self.stack.split_off(start.ok_or_else(|| self.malformed())?);
        self.push_container(Kind::Tuple, items)
    }

    /// How many values lie below the last mark and cannot be reached.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn top(&self) -> Result<Value<'p>, DecodeError> {
        self.stack[self.floor()..].last().copied().ok_or_else(|| self.malformed())
    }

    fn pop(&mut self) -> Result<Value<'p>, DecodeError> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    /// Takes the last mark, and everything above it.
    fn pop_to_mark(&mut self) -> Result<Vec<Value<'p>>, DecodeError> {
        let start = self.marks.pop().ok_or_else(|| self.malformed())?;
        Ok(self.stack.split_off(start))
    }

    /// Adds items to the container on the top of the stack.
    fn extend(
        &mut self,
        kind: Kind,
        items: impl IntoIterator<Item = Value<'p>>,
    ) -> Result<(), DecodeError> {
        let top = self.top()?;
        let malformed = self.malformed();
        let container = self.graph.container_mut(top, kind).ok_or(malformed)?;
        container.items.extend(items);
        Ok(())
    }

    /// Checks that these are keys, each followed by its value.
    fn check_members(&self, items: &[Value<'p>]) -> Result<(), DecodeError> {
        if !items.len().is_multiple_of(2) {
            return Err(self.malformed());
        }
        if items.iter().step_by(2).any(|key| self.graph.text(*key).is_none()) {
            return Err(DecodeError::Unrepresentable(Unrepresentable::Key));
        }
        Ok(())
    }

    fn remember(&mut self, index: u32) -> Result<(), DecodeError> {
        self.count()?;
        let top = self.top()?;
        self.memo.insert(index, top);
        Ok(())
    }

    fn recall(&mut self, index: u32) -> Result<(), DecodeError> {
        let value = self.memo.get(&index).copied().ok_or_else(|| self.malformed())?;
        self.push(value)
    }
}

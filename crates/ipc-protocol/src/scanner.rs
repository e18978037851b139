//! Steps through a JSON text and refuses a text that breaks a rule of `json`.
//!
//! `json` checks whole texts with it. `frame`, `batch` and `channel` read members and elements
//! while the scanner checks them, so that a text is scanned once. Nothing here knows what a member
//! means.

use std::borrow::Cow;

use crate::json_error::{DEPTH_MAX, JsonError, JsonErrorKind, NAMES_MAX};

/// Up to this many names of an object are compared pair by pair. More are sorted first, so that a
/// peer's object with many names costs n log n, not n².
const NAMES_COMPARED_BY_PAIR: usize = 16;

#[derive(Debug)]
pub(crate) struct Scanner<'a> {
    text: &'a str,
    at: usize,
    /// The names of all open objects, innermost last. One vector for the whole text saves
    /// allocations.
    names: Vec<Cow<'a, str>>,
}

impl<'a> Scanner<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Scanner { text, at: 0, names: Vec::new() }
    }

    /// Steps over the text's only value and the white space around it.
    pub(crate) fn document(&mut self) -> Result<(), JsonError> {
        self.skip_space();
        self.value(1)?;
        self.end()
    }

    /// Steps over the white space behind the last value, and checks that the text ends there.
    pub(crate) fn end(&mut self) -> Result<(), JsonError> {
        self.skip_space();
        if self.at == self.text.len() { Ok(()) } else { self.fail(JsonErrorKind::Syntax) }
    }

    pub(crate) fn value(&mut self, depth: usize) -> Result<(), JsonError> {
        match self.peek() {
            Some(b'{') => self.object(depth, |scanner, _| scanner.value(depth + 1)),
            Some(b'[') => self.array(depth, |scanner| scanner.value(depth + 1)),
            Some(b'"') => self.string().map(|_| ()),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word("true"),
            Some(b'f') => self.word("false"),
            Some(b'n') => self.word("null"),
            _ => self.fail(JsonErrorKind::Syntax),
        }
    }

    /// Steps over a value and returns its text.
    pub(crate) fn text(&mut self, depth: usize) -> Result<&'a str, JsonError> {
        let start = self.at;
        self.value(depth)?;
        Ok(&self.text[start..self.at])
    }

    /// Steps over the object that begins here. `member` is called before each value, with the
    /// member's name, and must step over the value.
    pub(crate) fn object(
        &mut self,
        depth: usize,
        mut member: impl FnMut(&mut Self, &str) -> Result<(), JsonError>,
    ) -> Result<(), JsonError> {
        self.enter(depth)?;
        let first_name = self.names.len();
        let mut more = !self.take(b'}');
        while more {
            let name = self.name()?;
            member(self, &name)?;
            self.keep_name(name, first_name)?;
            more = self.another(b'}')?;
        }
        self.compare_names(first_name)
    }

    /// Steps over a member's name and the colon behind it. Returns the name unescaped.
    pub(crate) fn name(&mut self) -> Result<Cow<'a, str>, JsonError> {
        if self.peek() != Some(b'"') {
            return self.fail(JsonErrorKind::Syntax);
        }
        let name = unescape(self.string()?);
        self.skip_space();
        self.expect(b':')?;
        self.skip_space();
        Ok(name)
    }

    /// Remembers a name of the innermost object. `first` is the index in `names` of that object's
    /// first name.
    fn keep_name(&mut self, name: Cow<'a, str>, first: usize) -> Result<(), JsonError> {
        if self.names.len() - first >= NAMES_MAX {
            return self.fail(JsonErrorKind::TooManyNames);
        }
        self.names.push(name);
        Ok(())
    }

    /// Refuses a name that occurs twice in the innermost object. Called at the end of the object.
    fn compare_names(&mut self, first: usize) -> Result<(), JsonError> {
        if has_duplicate(&mut self.names[first..]) {
            return self.fail(JsonErrorKind::DuplicateName);
        }
        self.names.truncate(first);
        Ok(())
    }

    /// A scanner of the same text, behind the value that begins here. The value is not checked:
    /// brackets are counted and strings are stepped over. That finds the end of every value that is
    /// JSON.
    pub(crate) fn behind_the_value(&self) -> Result<Scanner<'a>, JsonError> {
        let mut ahead = Scanner { text: self.text, at: self.at, names: Vec::new() };
        let mut open = 0_usize;
        loop {
            match ahead.peek() {
                Some(b'"') => drop(ahead.string()?),
                Some(b'{' | b'[') => {
                    open += 1;
                    ahead.at += 1;
                }
                Some(b'}' | b']' | b',') if open == 0 => return Ok(ahead),
                Some(b'}' | b']') => {
                    open -= 1;
                    ahead.at += 1;
                }
                Some(_) => ahead.at += 1,
                None => return ahead.fail(JsonErrorKind::Syntax),
            }
        }
    }

    /// Steps over the array that begins here. `element` is called before each element, and must
    /// step over it.
    pub(crate) fn array(
        &mut self,
        depth: usize,
        mut element: impl FnMut(&mut Self) -> Result<(), JsonError>,
    ) -> Result<(), JsonError> {
        self.enter(depth)?;
        let mut more = !self.take(b']');
        while more {
            element(self)?;
            more = self.another(b']')?;
        }
        Ok(())
    }

    /// Steps over the opening bracket and the white space behind it.
    pub(crate) fn enter(&mut self, depth: usize) -> Result<(), JsonError> {
        if depth > DEPTH_MAX {
            return self.fail(JsonErrorKind::TooDeep);
        }
        self.at += 1;
        self.skip_space();
        Ok(())
    }

    /// Steps over the separator after an element. Returns true after a comma, false after the
    /// closing bracket.
    pub(crate) fn another(&mut self, close: u8) -> Result<bool, JsonError> {
        self.skip_space();
        if self.take(b',') {
            self.skip_space();
            return Ok(true);
        }
        self.expect(close).map(|()| false)
    }

    /// Steps over a string and returns it with its quotes.
    fn string(&mut self) -> Result<&'a str, JsonError> {
        let start = self.at;
        self.at += 1;
        loop {
            self.at += plain_len(&self.text.as_bytes()[self.at..]);
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(&self.text[start..self.at]);
                }
                Some(b'\\') => self.escape()?,
                _ => return self.fail(JsonErrorKind::Syntax),
            }
        }
    }

    fn escape(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        self.at += 1;
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
            Some(b'u') => {
                let lone = JsonError { kind: JsonErrorKind::LoneSurrogate, offset: start };
                match self.code_unit()? {
                    0xd800..=0xdbff => {
                        if !(self.take(b'\\') && self.peek() == Some(b'u')) {
                            return Err(lone);
                        }
                        if !(0xdc00..=0xdfff).contains(&self.code_unit()?) {
                            return Err(lone);
                        }
                    }
                    0xdc00..=0xdfff => return Err(lone),
                    _ => (),
                }
            }
            _ => return self.fail(JsonErrorKind::Syntax),
        }
        Ok(())
    }

    /// Steps over `uXXXX` and returns its value.
    fn code_unit(&mut self) -> Result<u32, JsonError> {
        self.at += 1;
        let mut unit = 0;
        for _ in 0..4 {
            let digit = self.peek().and_then(|byte| char::from(byte).to_digit(16));
            let Some(digit) = digit else { return self.fail(JsonErrorKind::Syntax) };
            unit = unit * 16 + digit;
            self.at += 1;
        }
        Ok(unit)
    }

    fn number(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        self.take(b'-');
        if !self.take(b'0') && self.digits() == 0 {
            return self.fail(JsonErrorKind::Syntax);
        }
        let mut is_integer = true;
        if self.take(b'.') {
            is_integer = false;
            if self.digits() == 0 {
                return self.fail(JsonErrorKind::Syntax);
            }
        }
        if let Some(b'e' | b'E') = self.peek() {
            is_integer = false;
            self.at += 1;
            let _signed = self.take(b'-') || self.take(b'+');
            if self.digits() == 0 {
                return self.fail(JsonErrorKind::Syntax);
            }
        }
        let number = &self.text[start..self.at];
        let refused = if !is_integer {
            !number.parse::<f64>().is_ok_and(f64::is_finite)
        } else {
            // 18 digits and a sign always fit 64 bits.
            number.len() > 19 && number.parse::<i64>().is_err() && number.parse::<u64>().is_err()
        };
        match (refused, is_integer) {
            (false, _) => Ok(()),
            (true, true) => Err(JsonError { kind: JsonErrorKind::IntegerTooLarge, offset: start }),
            (true, false) => Err(JsonError { kind: JsonErrorKind::NumberTooLarge, offset: start }),
        }
    }

    fn digits(&mut self) -> usize {
        let rest = &self.text.as_bytes()[self.at..];
        let count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += count;
        count
    }

    fn word(&mut self, word: &str) -> Result<(), JsonError> {
        let rest = &self.text.as_bytes()[self.at..];
        if rest.starts_with(word.as_bytes()) {
            self.at += word.len();
            return Ok(());
        }
        if word.as_bytes().starts_with(rest) {
            self.at = self.text.len();
        }
        self.fail(JsonErrorKind::Syntax)
    }

    pub(crate) fn skip_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    pub(crate) fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    pub(crate) fn take(&mut self, byte: u8) -> bool {
        let is_next = self.peek() == Some(byte);
        self.at += usize::from(is_next);
        is_next
    }

    fn expect(&mut self, byte: u8) -> Result<(), JsonError> {
        if self.take(byte) { Ok(()) } else { self.fail(JsonErrorKind::Syntax) }
    }

    fn fail<T>(&self, kind: JsonErrorKind) -> Result<T, JsonError> {
        Err(self.error(kind))
    }

    /// An error at the current position.
    pub(crate) fn error(&self, kind: JsonErrorKind) -> JsonError {
        let kind = match kind {
            // A syntax error at the end of the text means that the text is truncated.
            JsonErrorKind::Syntax if self.at == self.text.len() => JsonErrorKind::Truncated,
            kind => kind,
        };
        JsonError { kind, offset: self.at }
    }
}

/// Unescapes a checked JSON string, given with its quotes.
pub(crate) fn unescape(string: &str) -> Cow<'_, str> {
    let inner = &string[1..string.len() - 1];
    if inner.contains('\\') {
        Cow::Owned(serde_json::from_str(string).expect("a string that passed the scanner is JSON"))
    } else {
        Cow::Borrowed(inner)
    }
}

pub(crate) fn as_utf8(text: &[u8]) -> Result<&str, JsonError> {
    std::str::from_utf8(text)
        .map_err(|error| JsonError { kind: JsonErrorKind::NotUtf8, offset: error.valid_up_to() })
}

fn has_duplicate(names: &mut [Cow<'_, str>]) -> bool {
    if names.len() <= NAMES_COMPARED_BY_PAIR {
        return names.iter().enumerate().any(|(index, name)| names[..index].contains(name));
    }
    names.sort_unstable();
    names.windows(2).any(|pair| pair[0] == pair[1])
}

/// How many bytes at the start of `bytes` are neither a quote, a backslash nor a control character,
/// counted eight at a time, since most bytes of a text are such bytes.
pub(crate) fn plain_len(bytes: &[u8]) -> usize {
    const ONES: u64 = u64::from_ne_bytes([0x01; 8]);
    const HIGHS: u64 = u64::from_ne_bytes([0x80; 8]);
    // Sets the high bit of each byte that is zero, and perhaps of bytes above it. The lowest set
    // bit is exact.
    let zero_bytes = |word: u64| word.wrapping_sub(ONES) & !word & HIGHS;
    let (words, rest) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let control = word.wrapping_sub(ONES * 0x20) & !word & HIGHS;
        let special = control
            | zero_bytes(word ^ (ONES * u64::from(b'"')))
            | zero_bytes(word ^ (ONES * u64::from(b'\\')));
        if special != 0 {
            return index * 8 + (special.trailing_zeros() / 8) as usize;
        }
    }
    let is_plain = |byte: &&u8| !matches!(**byte, b'"' | b'\\' | 0..=0x1f);
    words.len() * 8 + rest.iter().take_while(is_plain).count()
}

/// Whether JSON writes a string without escapes.
pub(crate) fn is_plain(string: &str) -> bool {
    plain_len(string.as_bytes()) == string.len()
}

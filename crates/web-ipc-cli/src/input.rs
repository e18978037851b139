//! Reads JSON objects from an argument, from all of stdin, or from a line each.
//!
//! `--send` and `--request` come here. The text of an object is kept as it is. The error for a bad
//! text says what to do, and repeats no part of the text, which may be secret.

use std::fmt;
use std::io::{self, BufRead, Read};
use std::sync::Arc;

use ipc_protocol::{JsonError, JsonErrorKind, PLAINTEXT_BYTES_MAX_DEFAULT, check_json};
use serde_json::value::RawValue;

use crate::error::Failure;

/// The longest text of an object. A longer one would not fit into a frame.
pub(crate) const OBJECT_BYTES_MAX: usize = PLAINTEXT_BYTES_MAX_DEFAULT;

/// An example of an object as it is written in a shell.
const EXAMPLE: &str = r#"'{"key": "value"}'"#;

/// The mark that Windows' tools put before UTF-8. RFC 8259, section 8.1, lets a reader skip it.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// The source of a text, which decides what the advice is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Argument,
    Stdin,
    InputLine,
}

/// The result of [`next_line`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InputLine {
    /// The end of the input.
    End,
    /// A line, with its line feed if it has one.
    Whole,
    /// The first [`OBJECT_BYTES_MAX`] + 1 bytes of a line that is too long. The rest of the line is
    /// still in the input.
    TooLong,
}

/// The object in an argument. `name` is what an error calls it.
pub(crate) fn from_argument(text: &str, name: &str) -> Result<Box<RawValue>, Failure> {
    object(text.as_bytes(), name, Source::Argument)
}

/// The one object that is all of the input. It may have several lines.
pub(crate) fn from_all(input: impl Read, name: &str) -> Result<Box<RawValue>, Failure> {
    let mut text = Vec::new();
    let read = input.take(OBJECT_BYTES_MAX as u64 + 1).read_to_end(&mut text);
    read.map_err(|error| Failure::of(&error, None).while_doing("cannot read stdin"))?;
    if text.len() > OBJECT_BYTES_MAX {
        return Err(too_long(name, "send less at once"));
    }
    object(&text, name, Source::Stdin)
}

/// A line of an input: `line 3`, or of a file `line 3 of orders.jsonl`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    file: Option<Arc<str>>,
    number: u64,
}

impl Place {
    /// A line of this file, or of stdin. Lines are counted from 1.
    pub(crate) fn new(file: Option<Arc<str>>, number: u64) -> Self {
        Place { file, number }
    }

    /// This line and those up to another one.
    pub(crate) fn to(&self, last: &Place) -> String {
        match (&self.file, &last.file) {
            (one, other) if one != other => format!("{self} to {last}"),
            (file, _) => format!("lines {} to {}{}", self.number, last.number, of_file(file)),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}{}", self.number, of_file(&self.file))
    }
}

fn of_file(file: &Option<Arc<str>>) -> String {
    file.as_ref().map(|file| format!(" of {file}")).unwrap_or_default()
}

/// The object in a line from [`next_line`], or `None` if the line is blank.
pub(crate) fn from_line(line: &[u8], place: &Place) -> Result<Option<Box<RawValue>>, Failure> {
    if unmarked(line).trim_ascii().is_empty() {
        return Ok(None);
    }
    object(line, &place.to_string(), Source::InputLine).map(Some)
}

/// Reads the next line into `line`, but no more of it than the longest message may have.
pub(crate) fn next_line(input: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<InputLine> {
    line.clear();
    let read = input.by_ref().take(OBJECT_BYTES_MAX as u64 + 1).read_until(b'\n', line)?;
    Ok(match line.last() {
        _ if read == 0 => InputLine::End,
        Some(b'\n') => InputLine::Whole,
        _ if read > OBJECT_BYTES_MAX => InputLine::TooLong,
        _ => InputLine::Whole,
    })
}

/// The error for [`InputLine::TooLong`].
pub(crate) fn line_too_long(place: &Place) -> Failure {
    too_long(&place.to_string(), "give each object a line of its own")
}

fn too_long(name: &str, remedy: &str) -> Failure {
    Failure::bad_data(
        format!("{name} is longer than {OBJECT_BYTES_MAX} bytes, as long as a message may be"),
        Some(remedy.to_owned()),
    )
}

/// A text without the byte order mark before it.
fn unmarked(text: &[u8]) -> &[u8] {
    text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text)
}

fn object(text: &[u8], name: &str, source: Source) -> Result<Box<RawValue>, Failure> {
    let text = unmarked(text).trim_ascii();
    let checked = check_json(text).map_err(|error| refused(text, error, name, source))?;
    if !checked.starts_with('{') {
        let what = format!("{name} is JSON, but not an object");
        return Err(Failure::bad_data(what, like_this()));
    }
    RawValue::from_string(checked.to_owned())
        .map_err(|error| Failure::of(&error, None).while_doing(&format!("cannot read {name}")))
}

fn refused(text: &[u8], error: JsonError, name: &str, source: Source) -> Failure {
    let JsonError { kind, offset } = error;
    let place = offset + 1;
    let (what, remedy) = match kind {
        _ if text.is_empty() => (format!("{name} is empty"), like_this()),
        _ if text.starts_with(b"\xff\xfe") || text.starts_with(b"\xfe\xff") => (
            format!("{name} is UTF-16"),
            Some("give UTF-8; iconv -f UTF-16 -t UTF-8 makes it so".to_owned()),
        ),
        JsonErrorKind::NotUtf8 => (format!("{name} is not UTF-8, at byte {place}"), None),
        _ if source == Source::Argument && lacks_quotes(text) => {
            let remedy = format!("put single quotes around it: {EXAMPLE}");
            (format!("{name} is not JSON: a shell has taken its double quotes"), Some(remedy))
        }
        JsonErrorKind::Truncated if text.starts_with(b"{") => {
            let remedy = match source {
                Source::InputLine => "each object must be on one line; jq -c . makes it so",
                Source::Argument | Source::Stdin => "give the whole of it",
            };
            (format!("{name} ends in the middle of an object"), Some(remedy.to_owned()))
        }
        JsonErrorKind::Syntax if text.starts_with(b"{") && check_json(&text[..offset]).is_ok() => {
            let remedy = match source {
                Source::InputLine => {
                    "each object must be on a line of its own; jq -c . makes it so"
                }
                Source::Argument | Source::Stdin => {
                    "give one; --send takes many from stdin, one a line"
                }
            };
            (
                format!("{name} has more text after its first object, at byte {place}"),
                Some(remedy.to_owned()),
            )
        }
        JsonErrorKind::Syntax | JsonErrorKind::Truncated => {
            (format!("{name} is not JSON, at byte {place}"), like_this())
        }
        // It is JSON of a kind that readers interpret differently.
        kind => (format!("{name} cannot be sent: it has {kind}, at byte {place}"), None),
    };
    Failure::bad_data(what, remedy)
}

/// Whether this looks like an object that a shell took the quotes from, as it does with `{"a":1}`.
fn lacks_quotes(text: &[u8]) -> bool {
    !text.contains(&b'"') && text.contains(&b':')
}

fn like_this() -> Option<String> {
    Some(format!("write it like {EXAMPLE}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(result: Result<Box<RawValue>, Failure>) -> String {
        match result {
            Ok(object) => panic!("{object}"),
            Err(failure) => failure.to_string(),
        }
    }

    #[test]
    fn a_byte_order_mark_and_blanks_are_no_part_of_an_object() {
        for text in
            ["{\"a\": 1}", "\u{feff}{\"a\": 1}", " {\"a\": 1}\r\n", "\u{feff}\n{\"a\": 1}\n"]
        {
            assert_eq!(from_argument(text, "it").unwrap().get(), "{\"a\": 1}", "{text:?}");
            assert_eq!(
                from_line(text.as_bytes(), &Place::new(None, 1)).unwrap().unwrap().get(),
                "{\"a\": 1}",
                "{text:?}"
            );
            assert_eq!(from_all(text.as_bytes(), "it").unwrap().get(), "{\"a\": 1}", "{text:?}");
        }
        for blank in ["", "\n", " \t\r\n", "\u{feff}\r\n"] {
            assert!(
                from_line(blank.as_bytes(), &Place::new(None, 1)).unwrap().is_none(),
                "{blank:?}"
            );
        }
        // Elsewhere the mark is a character like others: it stays within a string, and is not JSON
        // outside.
        assert_eq!(
            from_argument("{\"a\":\"\u{feff}\"}", "it").unwrap().get(),
            "{\"a\":\"\u{feff}\"}"
        );
        assert!(refusal(from_argument("{\u{feff}}", "it")).contains("is not JSON, at byte 2"));
    }

    #[test]
    fn what_cannot_be_sent_is_told_with_what_to_do() {
        for (text, told) in [
            ("", "it is empty; write it like '{\"key\": \"value\"}'"),
            (
                "{a:1}",
                "it is not JSON: a shell has taken its double quotes; put single quotes around it: '{",
            ),
            ("a:1", "a shell has taken its double quotes"),
            ("{what: the time}", "a shell has taken its double quotes"),
            ("{\"a\":1", "it ends in the middle of an object; give the whole of it"),
            ("{", "it ends in the middle of an object"),
            ("nope", "it is not JSON, at byte 1; write it like '{"),
            ("{\"a\":1,}", "it is not JSON, at byte 8"),
            ("[1]", "it is JSON, but not an object; write it like '{"),
            ("\"a:b\"", "it is JSON, but not an object"),
            ("[1", "it is not JSON, at byte 3"),
            ("{\"a\":1} {\"b\":2}", "it has more text after its first object, at byte 9; give one"),
            (
                "{\"a\": 99999999999999999999}",
                "it cannot be sent: it has an integer that does not fit 64 bits (send it as a string), at byte 7",
            ),
            (
                "{\"a\":1,\"a\":2}",
                "it cannot be sent: it has a member name that occurs twice in its object",
            ),
            ("{\"a\":\"\\ud800\"}", "it cannot be sent: it has half of a surrogate pair"),
        ] {
            let refusal = refusal(from_argument(text, "it"));
            assert!(refusal.starts_with(told) || refusal.contains(told), "{text}: {refusal}");
        }
    }

    #[test]
    fn a_line_says_how_lines_are_made() {
        let refusal = |line: &[u8]| from_line(line, &Place::new(None, 3)).unwrap_err().to_string();
        assert_eq!(
            refusal(b"{\n"),
            "line 3 ends in the middle of an object; each object must be on one line; jq -c . makes it so"
        );
        assert_eq!(
            refusal(b"  \"a\": {\n"),
            "line 3 is not JSON, at byte 4; write it like '{\"key\": \"value\"}'"
        );
        assert!(refusal(b"{}{}\n").contains("each object must be on a line of its own"));
        assert!(refusal(b"\xff\xfe{\0}\0\n").starts_with("line 3 is UTF-16; give UTF-8"));
        assert_eq!(refusal(b"{\"a\":\"\xff\"}\n"), "line 3 is not UTF-8, at byte 7");
        // No shell has taken the quotes of a text that comes from a file.
        assert!(refusal(b"{a:1}\n").contains("is not JSON, at byte 2"));
    }

    /// An endless input that counts the bytes that were read.
    struct Endless(usize);

    impl Read for Endless {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            buffer.fill(b'x');
            self.0 += buffer.len();
            Ok(buffer.len())
        }
    }

    #[test]
    fn no_more_is_read_of_a_line_than_the_longest_message_has() {
        let mut input = io::BufReader::new(Endless(0));
        let mut line = Vec::new();
        assert_eq!(next_line(&mut input, &mut line).unwrap(), InputLine::TooLong);
        assert_eq!(line.len(), OBJECT_BYTES_MAX + 1);
        assert!(input.get_ref().0 < OBJECT_BYTES_MAX + 64 * 1024);
        let told = line_too_long(&Place::new(None, 7)).to_string();
        assert!(
            told.contains("line 7 is longer than 16777216 bytes") && told.contains("own"),
            "{told}"
        );

        let mut input = Endless(0);
        let told = refusal(from_all(&mut input, "the request"));
        assert!(told.contains("the request is longer than 16777216 bytes"), "{told}");
        assert!(input.0 < 2 * OBJECT_BYTES_MAX + 64 * 1024);
    }

    #[test]
    fn a_line_is_named_with_its_file() {
        let place = |file: Option<&str>, number| Place::new(file.map(Arc::from), number);
        assert_eq!(place(None, 3).to_string(), "line 3");
        assert_eq!(place(None, 3).to(&place(None, 5)), "lines 3 to 5");
        assert_eq!(place(Some("a"), 3).to(&place(Some("a"), 5)), "lines 3 to 5 of a");
        assert_eq!(place(Some("a"), 3).to(&place(Some("b"), 1)), "line 3 of a to line 1 of b");
        assert_eq!(place(Some("a"), 3).to(&place(None, 1)), "line 3 of a to line 1");
    }

    #[test]
    fn lines_come_one_by_one_the_last_one_also_without_its_end() {
        let mut longest = vec![b' '; OBJECT_BYTES_MAX];
        longest.extend(b"\n{}");
        let mut input = longest.as_slice();
        let mut line = Vec::new();
        assert_eq!(next_line(&mut input, &mut line).unwrap(), InputLine::Whole);
        assert_eq!(line.len(), OBJECT_BYTES_MAX + 1);
        assert_eq!(next_line(&mut input, &mut line).unwrap(), InputLine::Whole);
        assert_eq!(line, b"{}");
        assert_eq!(next_line(&mut input, &mut line).unwrap(), InputLine::End);
    }
}

//! Escapes text from others, so that a terminal neither obeys it nor shows it misleadingly.
//!
//! Code that shows a name, a message or an error comes here. It escapes control characters, C1
//! included, characters that are invisible, and those that change the direction of text.

use std::borrow::Cow;
use std::fmt::Write as _;

use serde::ser::Error as _;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

/// The invisible characters of the categories Cf, Zl and Zp (Unicode 17): zero widths, joiners,
/// text directions, line and paragraph separators, tags. Visible signs of Cf, such as the Arabic
/// number sign, are left out.
const UNSEEN: [(char, char); 15] = [
    ('\u{ad}', '\u{ad}'),
    ('\u{61c}', '\u{61c}'),
    ('\u{180e}', '\u{180e}'),
    ('\u{200b}', '\u{200f}'),
    ('\u{2028}', '\u{202e}'),
    ('\u{2060}', '\u{2064}'),
    ('\u{2066}', '\u{206f}'),
    ('\u{feff}', '\u{feff}'),
    ('\u{fff9}', '\u{fffb}'),
    ('\u{13430}', '\u{1343f}'),
    ('\u{1bca0}', '\u{1bca3}'),
    ('\u{1d173}', '\u{1d17a}'),
    ('\u{e0001}', '\u{e0001}'),
    ('\u{e0020}', '\u{e007e}'),
    ('\u{e007f}', '\u{e007f}'),
];

/// Whether a character is escaped.
fn must_be_escaped(character: char) -> bool {
    match character {
        ' '..='~' => false,
        _ => {
            character.is_control()
                || UNSEEN.iter().any(|(first, last)| (*first..=*last).contains(&character))
        }
    }
}

/// Escapes a text as Rust does, so that it stays on one line: `\n`, `\u{9b}`, `\u{202e}`.
pub(crate) fn printable(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut shown, character| {
        if must_be_escaped(character) {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
        shown
    })
}

/// Escapes a line of JSON as JSON does (`\u009b`, `\u202e`), which does not change its value.
///
/// In valid JSON these characters are only within strings, except for white space between values
/// and the line feed at the end, which stay as they are.
pub(crate) fn json_line(line: &str) -> Cow<'_, str> {
    let is_space = |character| matches!(character, '\n' | '\r' | '\t');
    let is_escaped = |character| must_be_escaped(character) && !is_space(character);
    if !line.contains(is_escaped) {
        return Cow::Borrowed(line);
    }
    let mut escaped = String::with_capacity(line.len() + 16);
    for character in line.chars() {
        if is_escaped(character) {
            for unit in character.encode_utf16(&mut [0; 2]) {
                write!(escaped, "\\u{unit:04x}").expect("a string takes all");
            }
        } else {
            escaped.push(character);
        }
    }
    Cow::Owned(escaped)
}

/// A name in a line of JSON, escaped always: a JSON parser reads the same name, and a terminal
/// shows it safely.
pub(crate) struct JsonName<'a>(pub(crate) &'a str);

impl Serialize for JsonName<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !self.0.contains(must_be_escaped) {
            return serializer.serialize_str(self.0);
        }
        let quoted = serde_json::to_string(self.0).map_err(S::Error::custom)?;
        let escaped =
            RawValue::from_string(json_line(&quoted).into_owned()).map_err(S::Error::custom)?;
        escaped.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_or_not_show_is_escaped_and_nothing_else() {
        assert_eq!(printable("' é\\ 李\n\u{1b}[31m"), "' é\\ 李\\n\\u{1b}[31m");
        assert_eq!(printable("a\u{9b}b\u{7f}c\u{202e}d"), "a\\u{9b}b\\u{7f}c\\u{202e}d");
        assert_eq!(
            printable("a\u{200b}\u{2028}\u{feff}\u{ad}\u{e0041}"),
            "a\\u{200b}\\u{2028}\\u{feff}\\u{ad}\\u{e0041}"
        );
        // Visible, or part of the writing of a language.
        let seen = "~ é ü 李\u{3000}李 שלום مرحبا \u{600} नमस्ते 😀 \u{301}";
        assert_eq!(printable(seen), seen);
    }

    #[test]
    fn a_json_line_says_the_same_after_it() {
        let value = serde_json::json!({"a\u{85}": "\u{9b}31m\u{7f}\u{202e}x\u{e0041}\u{feff}", "n": [1, "é"]});
        let line = format!("{value}\n");
        let shown = json_line(&line);
        assert!(
            shown.contains(r"\u009b31m\u007f\u202ex\udb40\udc41\ufeff") && shown.ends_with("}\n"),
            "{shown}"
        );
        assert!(!shown.trim_end().contains(must_be_escaped), "{shown:?}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
        let plain = "{\"a\":\t[1,\r\n\"é\"]}\n";
        assert!(matches!(json_line(plain), Cow::Borrowed(line) if line == plain));
    }

    #[test]
    fn a_name_in_json_is_escaped_everywhere() {
        let json = |name| serde_json::to_string(&[JsonName(name)]).unwrap();
        assert_eq!(json("Jürgen \"李\""), r#"["Jürgen \"李\""]"#);
        assert_eq!(json("a\u{202e}\"b\u{9b}\n"), r#"["a\u202e\"b\u009b\n"]"#);
    }
}

//! The rules for user names.
//!
//! Code with a user name from outside parses it here. Nothing here knows a database: a valid name
//! may belong to no user.

use std::fmt;
use std::str::FromStr;

use icu_properties::props::{DefaultIgnorableCodePoint, GeneralCategory};
use icu_properties::{CodePointMapData, CodePointSetData};
use ipc_protocol::{to_nfc, to_nfd};

/// The longest user name, in characters (Unicode scalar values): the `VARCHAR(80)` of the table.
pub const USERNAME_CHARS_MAX: usize = 80;

/// A user's name: 1 to [`USERNAME_CHARS_MAX`] characters, without control characters, invisible
/// characters, or white space at either end.
///
/// Names are compared in Unicode's normal form C: the two spellings of one accented letter are one
/// name. `Bob` and `bob` are two names.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Username(String);

impl Username {
    /// Parses `text` as the name of a new user.
    ///
    /// # Errors
    /// [`UsernameError`] with the first rule that `text` breaks.
    pub fn parse(text: impl Into<String>) -> Result<Self, UsernameError> {
        let name = Self::parse_existing(text)?;
        match name.0.chars().find(|character| is_unseen(*character)) {
            Some(character) => Err(UsernameError::Unseen { character }),
            None => Ok(name),
        }
    }

    /// Parses `text` as the name of an existing user, which another program may have added, or an
    /// older version that allowed invisible characters. Those are accepted here.
    ///
    /// # Errors
    /// [`UsernameError`] with the first rule that `text` breaks.
    pub fn parse_existing(text: impl Into<String>) -> Result<Self, UsernameError> {
        let text = to_nfc(&text.into());
        if text.is_empty() {
            return Err(UsernameError::Empty);
        }
        let chars = text.chars().count();
        if chars > USERNAME_CHARS_MAX {
            return Err(UsernameError::TooLong { chars });
        }
        // Checked before the white space, since a line break is both and "control character" is
        // more precise.
        if text.chars().any(char::is_control) {
            return Err(UsernameError::ControlCharacter);
        }
        if text.trim().len() != text.len() {
            return Err(UsernameError::SurroundingSpace);
        }
        Ok(Self(text))
    }

    /// The name as text, in normal form C.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name in normal form D, as another program may have stored it.
    pub(crate) fn to_nfd(&self) -> String {
        to_nfd(&self.0)
    }
}

/// Whether the character is invisible or changes the direction of the text beside it: the
/// categories Cf, Zl and Zp, with zero widths, joiners, directions and separators, and
/// default-ignorable characters such as fillers.
fn is_unseen(character: char) -> bool {
    if character.is_ascii() {
        return false;
    }
    matches!(
        CodePointMapData::<GeneralCategory>::new().get(character),
        GeneralCategory::Format
            | GeneralCategory::LineSeparator
            | GeneralCategory::ParagraphSeparator
    ) || CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(character)
}

/// The names that somebody who wants to delete an entry may mean by what was typed: that itself,
/// its normal forms, and what its escapes stand for. In this order, the first that is there is
/// meant.
#[must_use]
pub fn names_meant(presented: &str) -> Vec<String> {
    let mut names = vec![presented.to_owned(), to_nfc(presented), to_nfd(presented)];
    names.extend(unescaped(presented));
    names
}

/// Reverses the escapes of [`printable`]; `None` if there is none, or one that `printable` does not
/// make.
pub(crate) fn unescaped(shown: &str) -> Option<String> {
    let (mut name, mut rest) = (String::new(), shown);
    while let Some((before, escape)) = rest.split_once('\\') {
        name.push_str(before);
        let (character, after) = match escape.chars().next()? {
            'n' => ('\n', &escape[1..]),
            'r' => ('\r', &escape[1..]),
            't' => ('\t', &escape[1..]),
            _ => {
                let (digits, after) = escape.strip_prefix("u{")?.split_once('}')?;
                (char::from_u32(u32::from_str_radix(digits, 16).ok()?)?, after)
            }
        };
        name.push(character);
        rest = after;
    }
    name.push_str(rest);
    (rest.len() < shown.len()).then_some(name)
}

/// A name as another program wrote it, or a person typed it, with control characters and invisible
/// characters escaped. So the name stays on its line, shows every character, and cannot control a
/// terminal.
pub(crate) fn printable(name: &str) -> String {
    name.chars().fold(String::with_capacity(name.len()), |mut shown, character| {
        if character.is_control() || is_unseen(character) {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
        shown
    })
}

impl AsRef<str> for Username {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Username {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&printable(&self.0))
    }
}

impl FromStr for Username {
    type Err = UsernameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

/// Why a text is not a user name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UsernameError {
    /// The text is empty.
    #[error("a user name cannot be empty")]
    Empty,
    /// The text has more than [`USERNAME_CHARS_MAX`] characters.
    #[error("a user name has at most {USERNAME_CHARS_MAX} characters, not {chars}")]
    TooLong {
        /// How many characters the text has.
        chars: usize,
    },
    /// The text contains a control character, such as a line break, a tab or NUL.
    #[error("a user name cannot contain control characters")]
    ControlCharacter,
    /// The text contains a character that is invisible, or changes the direction of the text beside
    /// it.
    #[error("a user name cannot contain U+{:04X}, which is invisible", u32::from(*character))]
    Unseen {
        /// The first such character.
        character: char,
    },
    /// The text begins or ends with white space, which would be invisible.
    #[error("a user name cannot begin or end with white space")]
    SurroundingSpace,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_names_are_taken_as_they_are() {
        for name in [
            "a",
            "test1",
            "ipc-admin",
            "Zoë",
            "a b",
            "用户",
            "o'hara",
            "\"; DROP TABLE users;--",
            "-x",
        ] {
            assert_eq!(Username::parse(name).unwrap().as_str(), name);
        }
    }

    #[test]
    fn the_length_counts_characters_and_not_bytes() {
        let longest = "é".repeat(80);
        assert_eq!(Username::parse(longest.as_str()).unwrap().as_ref(), longest);
        assert_eq!(Username::parse("é".repeat(81)), Err(UsernameError::TooLong { chars: 81 }));
    }

    #[test]
    fn an_empty_name_is_refused() {
        assert_eq!(Username::parse(""), Err(UsernameError::Empty));
    }

    #[test]
    fn control_characters_are_refused_wherever_they_stand() {
        for name in ["a\nb", "a\n", "\0", "a\u{1b}[2Jb", "\t", "a\u{7f}", "a\u{85}b"] {
            assert_eq!(Username::parse(name), Err(UsernameError::ControlCharacter), "{name:?}");
        }
    }

    #[test]
    fn white_space_around_a_name_is_refused_in_any_script() {
        for name in [" a", "a ", " ", "\u{a0}a", "a\u{3000}"] {
            assert_eq!(Username::parse(name), Err(UsernameError::SurroundingSpace), "{name:?}");
        }
    }

    #[test]
    fn the_two_spellings_of_an_accented_letter_are_one_name() {
        let (nfc, nfd) =
            (Username::parse("Zo\u{eb}").unwrap(), Username::parse("Zoe\u{308}").unwrap());
        assert_eq!(nfc, nfd);
        assert_eq!((nfd.as_str(), nfc.to_nfd().as_str()), ("Zo\u{eb}", "Zoe\u{308}"));
        // The limit counts the characters of the normal form.
        assert!(Username::parse("e\u{301}".repeat(80)).is_ok());
    }

    #[test]
    fn characters_that_nobody_sees_are_refused_in_new_names_and_shown_with_escapes_in_old_ones() {
        for character in [
            '\u{200b}',
            '\u{200d}',
            '\u{202e}',
            '\u{2066}',
            '\u{2028}',
            '\u{2029}',
            '\u{feff}',
            '\u{ad}',
            '\u{3164}',
            '\u{34f}',
            '\u{fe0f}',
            '\u{e0041}',
        ] {
            for name in
                [format!("ipc{character}admin"), format!("{character}a"), format!("a{character}")]
            {
                let refused = Username::parse(name.as_str());
                // Some are white space too, which may not be at an end.
                assert!(
                    matches!(
                        refused,
                        Err(UsernameError::Unseen { .. } | UsernameError::SurroundingSpace)
                    ),
                    "{name:?}: {refused:?}"
                );
            }
            let old = Username::parse_existing(format!("ipc{character}admin")).unwrap();
            let shown = old.to_string();
            assert_eq!(shown, format!("ipc\\u{{{:x}}}admin", u32::from(character)));
            assert_eq!(unescaped(&shown).as_deref(), Some(old.as_str()));
        }
        for seen in ["用户", "Zoë", "مستخدم", "अ", "🦀", "a b"] {
            assert_eq!(Username::parse(seen).unwrap().to_string(), seen);
        }
    }

    #[test]
    fn what_was_never_escaped_is_not_unescaped() {
        for shown in ["", "bob", r"a\x", r"a\u{zz}", r"a\u{d800}", r"a\u{1", "a\\"] {
            assert_eq!(unescaped(shown), None, "{shown}");
        }
        assert_eq!(unescaped(r"a\n\u{1b}b").as_deref(), Some("a\n\u{1b}b"));
    }

    #[test]
    fn names_that_differ_in_case_are_two_names() {
        assert_ne!(Username::parse("Bob").unwrap(), Username::parse("bob").unwrap());
    }

    #[test]
    fn a_name_that_is_none_is_shown_on_one_line() {
        assert_eq!(printable(" o'hara\n\u{1b}[2J"), r" o'hara\n\u{1b}[2J");
    }

    #[test]
    fn a_name_prints_as_itself() {
        assert_eq!(format!("[{}]", "bob".parse::<Username>().unwrap()), "[bob]");
        assert_eq!(format!("[{:>5}]", "bob".parse::<Username>().unwrap()), "[  bob]");
    }
}

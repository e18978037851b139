//! What may be a user name.
//!
//! Everyone who has text from outside and needs a user comes here first. Nothing here knows a database: whether the
//! user exists is asked elsewhere.

use std::fmt;
use std::str::FromStr;

/// The longest user name, in characters (Unicode scalar values), as the `VARCHAR(80)` of the table says.
pub const USERNAME_CHARS_MAX: usize = 80;

/// A user's name: 1 to [`USERNAME_CHARS_MAX`] characters, no control characters, no white space around it.
///
/// Names are compared exactly, byte for byte: `Bob` and `bob` are two users, and so are two spellings of one accented
/// letter.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Username(String);

impl Username {
    /// Takes `text` as a user name if it may be one.
    ///
    /// # Errors
    /// [`UsernameError`] with the first rule that `text` breaks.
    pub fn parse(text: impl Into<String>) -> Result<Self, UsernameError> {
        let text = text.into();
        if text.is_empty() {
            return Err(UsernameError::Empty);
        }
        let chars = text.chars().count();
        if chars > USERNAME_CHARS_MAX {
            return Err(UsernameError::TooLong { chars });
        }
        // Before the white space, since a line break is both and "control character" says more.
        if text.chars().any(char::is_control) {
            return Err(UsernameError::ControlCharacter);
        }
        if text.trim().len() != text.len() {
            return Err(UsernameError::SurroundingSpace);
        }
        Ok(Self(text))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A name as another program wrote it, or somebody typed it, with its control characters escaped: it stays on its line, and
/// no terminal takes it as a command.
pub(crate) fn printable(name: &str) -> String {
    name.chars().fold(String::with_capacity(name.len()), |mut shown, character| {
        if character.is_control() {
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
        f.pad(&self.0)
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
    /// There is no character in it.
    #[error("a user name cannot be empty")]
    Empty,
    /// It has more than [`USERNAME_CHARS_MAX`] characters.
    #[error("a user name has at most {USERNAME_CHARS_MAX} characters, not {chars}")]
    TooLong {
        /// How many characters it has.
        chars: usize,
    },
    /// It holds a control character, such as a line break, a tab or NUL.
    #[error("a user name cannot hold control characters")]
    ControlCharacter,
    /// It begins or ends with white space, which nobody would see.
    #[error("a user name cannot begin or end with white space")]
    SurroundingSpace,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_names_are_taken_as_they_are() {
        for name in
            ["a", "test1", "ipc-admin", "Zoë", "a b", "用户", "o'hara", "\"; DROP TABLE users;--", "-x"]
        {
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

//! The rules for passwords.
//!
//! Code that sets a password parses it here, so that bcrypt never truncates one silently. Nothing
//! here hashes.

use std::fmt;

use ipc_protocol::{secret_to_nfc, secret_to_nfd};
use zeroize::Zeroizing;

/// The longest password, in bytes of UTF-8. bcrypt ignores everything after it.
pub const PASSWORD_BYTES_MAX: usize = 72;

/// A password that bcrypt reads completely: 1 to [`PASSWORD_BYTES_MAX`] bytes of UTF-8, without
/// NUL.
///
/// The text is in Unicode's normal form C, so that it is the same from every keyboard.
///
/// It is wiped from memory when dropped, and its `Debug` does not show it.
#[derive(Clone)]
pub struct Password(Zeroizing<String>);

impl Password {
    /// Parses `text` as a password. A refused text is wiped.
    ///
    /// # Errors
    /// [`PasswordError`] with the first rule that `text` breaks; it contains nothing of the text.
    pub fn parse(text: String) -> Result<Self, PasswordError> {
        let text = Zeroizing::new(text);
        // A text that is too long in any form is not normalised.
        if text.len() > NORMALISED_BYTES_MAX {
            return Err(PasswordError::TooLong { bytes: text.len() });
        }
        let text = secret_to_nfc(&text);
        check(&text)?;
        Ok(Self(text))
    }

    /// The password itself. The name is a warning: do not log or store the result.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(redacted)")
    }
}

/// The longest text that may have [`PASSWORD_BYTES_MAX`] bytes in a normal form.
const NORMALISED_BYTES_MAX: usize = 6 * PASSWORD_BYTES_MAX;

/// The forms in which a presented text may have been hashed, each once: in normal form C, in which
/// passwords are set here, and unchanged and in normal form D, since another program may have
/// hashed the text as it was typed. Only forms that can be set; ASCII text has one.
pub(crate) fn forms(presented: &str) -> Vec<Zeroizing<String>> {
    if presented.len() > NORMALISED_BYTES_MAX {
        return Vec::new();
    }
    let mut forms: Vec<Zeroizing<String>> = Vec::with_capacity(3);
    for form in
        [secret_to_nfc(presented), Zeroizing::new(presented.to_owned()), secret_to_nfd(presented)]
    {
        if check(&form).is_ok() && !forms.contains(&form) {
            forms.push(form);
        }
    }
    forms
}

/// Whether `text` can be set as a password.
pub(crate) fn check(text: &str) -> Result<(), PasswordError> {
    if text.is_empty() {
        return Err(PasswordError::Empty);
    }
    if text.len() > PASSWORD_BYTES_MAX {
        return Err(PasswordError::TooLong { bytes: text.len() });
    }
    if text.bytes().any(|byte| byte == 0) {
        return Err(PasswordError::Nul);
    }
    Ok(())
}

/// Why a text is not a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PasswordError {
    /// The text is empty.
    #[error("a password cannot be empty")]
    Empty,
    /// The text has more bytes than bcrypt reads.
    #[error(
        "a password has at most {PASSWORD_BYTES_MAX} bytes, which is all that bcrypt reads; this one has {bytes}"
    )]
    TooLong {
        /// How many bytes of UTF-8 the text has.
        bytes: usize,
    },
    /// The text contains a NUL byte, where some implementations of bcrypt stop reading.
    #[error("a password cannot hold a NUL byte")]
    Nul,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Password, PasswordError> {
        Password::parse(text.to_owned())
    }

    #[test]
    fn ordinary_passwords_are_taken_as_they_are() {
        for text in ["x", "pass321", " with space ", "pässword ✓", "a\nb"] {
            assert_eq!(parse(text).unwrap().expose(), text);
        }
    }

    #[test]
    fn the_two_spellings_of_an_accented_letter_are_one_password() {
        assert_eq!(parse("pa\u{308}ss").unwrap().expose(), parse("p\u{e4}ss").unwrap().expose());
        // The limit applies to the normalised text, which bcrypt gets.
        assert!(parse(&"a\u{308}".repeat(36)).is_ok());
    }

    #[test]
    fn a_presented_password_is_compared_in_each_form_it_may_have_been_hashed_in() {
        let texts = |presented: &str| {
            forms(presented).iter().map(|form| form.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(texts("pass321"), ["pass321"]);
        assert_eq!(texts("p\u{e4}ss"), ["p\u{e4}ss", "pa\u{308}ss"]);
        assert_eq!(texts("\u{212b}"), ["\u{c5}", "\u{212b}", "A\u{30a}"]);
        for none in ["", "a\0", &"x".repeat(73), &"x".repeat(1_000_000)] {
            assert!(texts(none).is_empty());
        }
    }

    #[test]
    fn an_empty_password_is_refused() {
        assert_eq!(parse("").unwrap_err(), PasswordError::Empty);
    }

    #[test]
    fn seventy_two_bytes_are_the_most() {
        assert!(parse(&"x".repeat(72)).is_ok());
        assert_eq!(parse(&"x".repeat(73)).unwrap_err(), PasswordError::TooLong { bytes: 73 });
    }

    #[test]
    fn the_limit_counts_bytes_and_not_characters() {
        assert!(parse(&"é".repeat(36)).is_ok());
        assert_eq!(parse(&"é".repeat(37)).unwrap_err(), PasswordError::TooLong { bytes: 74 });
    }

    #[test]
    fn a_nul_byte_is_refused_wherever_it_stands() {
        for text in ["\0", "a\0", "\0a", "a\0b"] {
            assert_eq!(parse(text).unwrap_err(), PasswordError::Nul, "{text:?}");
        }
    }

    #[test]
    fn the_refusal_of_a_long_password_names_the_limit_and_its_reason() {
        let message = parse(&"x".repeat(80)).unwrap_err().to_string();
        assert!(message.contains("72 bytes") && message.contains("bcrypt"), "{message}");
    }

    #[test]
    fn neither_debug_nor_an_error_shows_the_password() {
        let long = "secret".repeat(20);
        let refused = parse(&long).unwrap_err();
        for shown in [format!("{:?}", parse("secret").unwrap()), format!("{refused:?} {refused}")] {
            assert!(!shown.contains("secret"), "{shown}");
        }
    }
}

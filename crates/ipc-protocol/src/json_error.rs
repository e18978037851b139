//! The errors of a JSON text, and the limits of depth and size. `scanner` finds the errors; every
//! function that reads a text returns them.

/// How deep a text may nest. A frame is the first level, so its body has at most 127 levels, which
/// is serde_json's own limit: an application can parse every body that was accepted.
pub const DEPTH_MAX: usize = 128;

/// How many members an object may have. Names are compared with each other to find duplicates, and
/// this limit bounds the work that a peer can cause.
pub const NAMES_MAX: usize = 65_536;

/// Why a JSON text is refused, and where the error is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind}, at byte {}", .offset + 1)]
pub struct JsonError {
    /// Why the text is refused.
    pub kind: JsonErrorKind,
    /// The number of bytes before the error.
    pub offset: usize,
}

/// Why a JSON text is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JsonErrorKind {
    /// Not UTF-8 (RFC 8259, section 8.1).
    #[error("text that is not UTF-8")]
    NotUtf8,
    /// Not JSON (RFC 8259), `NaN` and `Infinity` included.
    #[error("text that is not JSON")]
    Syntax,
    /// JSON as far as it goes, but it ends too early: an empty text, `{"a":`, `[1`.
    #[error("text that ends in the middle of a JSON value")]
    Truncated,
    /// A member name that occurs twice in one object, compared after unescaping.
    #[error("a member name that occurs twice in its object")]
    DuplicateName,
    /// An object of more than [`NAMES_MAX`] members.
    #[error("an object of more than {NAMES_MAX} members")]
    TooManyNames,
    /// More than [`DEPTH_MAX`] levels.
    #[error("more than 128 nested levels")]
    TooDeep,
    /// An integer outside −2⁶³ … 2⁶⁴−1, which many readers round.
    #[error("an integer that does not fit 64 bits (send it as a string)")]
    IntegerTooLarge,
    /// A number beyond the range of a double.
    #[error("a number beyond the range of a double")]
    NumberTooLarge,
    /// Half of a surrogate pair (`\ud800`), which is not a character.
    #[error("half of a surrogate pair, which is not a character")]
    LoneSurrogate,
}

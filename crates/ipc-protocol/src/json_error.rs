//! What a JSON text may not hold, and the limits behind it. `scanner` finds it, and whoever reads a
//! text says it on.

/// How deep a text may nest. A frame is the first level, so that its body has one level less and is
/// read without complaint by serde_json, whose own limit leaves 127 levels.
pub const DEPTH_MAX: usize = 128;

/// How many members an object may have. Names are compared to find one that is given twice: what a
/// peer can make that cost has a bound.
pub const NAMES_MAX: usize = 65_536;

/// A JSON text that is refused: why, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind}, at byte {}", .offset + 1)]
pub struct JsonError {
    /// Why.
    pub kind: JsonErrorKind,
    /// Where: how many bytes of the text stand before it.
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
    /// A member name that its object has already, compared after unescaping.
    #[error("a member name that its object has already")]
    DuplicateName,
    /// An object of more than [`NAMES_MAX`] members.
    #[error("an object of more than {NAMES_MAX} members")]
    TooManyNames,
    /// More than [`DEPTH_MAX`] levels.
    #[error("more than 128 nested levels")]
    TooDeep,
    /// An integer outside −2⁶³ … 2⁶⁴−1, which readers round.
    #[error("an integer that does not fit 64 bits (send it as a string)")]
    IntegerTooLarge,
    /// A number whose magnitude no double reaches.
    #[error("a number beyond the range of a double")]
    NumberTooLarge,
    /// Half of a surrogate pair (`\ud800`), which is no character.
    #[error("half of a surrogate pair, which is no character")]
    LoneSurrogate,
}

//! The limits of a pickle, and why one is refused. Every other file comes here.

use ipc_protocol::{DEPTH_MAX, JsonError, NAMES_MAX, PLAINTEXT_BYTES_MAX_DEFAULT};

/// The most bytes of JSON text that a pickle may become, by default: 16 MiB.
pub const TEXT_BYTES_MAX_DEFAULT: usize = PLAINTEXT_BYTES_MAX_DEFAULT;

/// The most values that a pickle may push, by default: some 262,000. At the worst each takes
/// [`VALUE_BYTES_MAX`] bytes of memory while the pickle is read, 46 MB in all.
pub const VALUES_MAX_DEFAULT: usize = 1 << 18;

/// How many bytes of memory a value takes at most while the pickle is read: a list that holds
/// another one. A pickle has no more values than bytes.
pub const VALUE_BYTES_MAX: usize = 176;

/// How much a pickle may become. Depth and members are bounded as in every message: an object has
/// at most [`NAMES_MAX`] members, and there are at most [`DEPTH_MAX`] − 1 levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most bytes of JSON text. References to one value count each time.
    pub text_bytes_max: usize,
    /// The most values that are pushed or remembered. Each takes memory while the pickle is read.
    pub values_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { text_bytes_max: TEXT_BYTES_MAX_DEFAULT, values_max: VALUES_MAX_DEFAULT }
    }
}

/// Why a pickle is refused. Places are counted in bytes before the instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The pickle would import a name, call something, build an object or ask for one.
    #[error("a pickle that is not data: {opcode} at byte {}", .offset + 1)]
    Executes {
        /// The name of the instruction, as Python's `pickletools` has it, such as `GLOBAL`.
        opcode: &'static str,
        /// Where it is.
        offset: usize,
    },
    /// A value that JSON cannot hold.
    #[error("a pickle with what JSON cannot hold: {0}")]
    Unrepresentable(Unrepresentable),
    /// The pickle is another value than a dict.
    #[error("a pickle of something other than a dict")]
    NotADict,
    /// A dict whose instructions set a key twice, which no dict has.
    #[error("a pickle that sets a key of a dict twice")]
    DuplicateKey,
    /// Not a pickle of protocol 0 to 5, or one that ends too early or too late.
    #[error("not a pickle, at byte {}", .offset + 1)]
    Malformed {
        /// Where reading it ended.
        offset: usize,
    },
    /// More than 127 levels of dicts, lists and tuples.
    #[error("a pickle of more than {} levels", DEPTH_MAX - 1)]
    TooDeep,
    /// A dict of more than [`NAMES_MAX`] keys.
    #[error("a pickle with a dict of more than {NAMES_MAX} keys")]
    TooManyKeys,
    /// More than [`Limits::values_max`] values.
    #[error("a pickle of too many values")]
    TooManyValues,
    /// More than [`Limits::text_bytes_max`] bytes of JSON text.
    #[error("a pickle that is too long as JSON")]
    TooLong,
}

/// What JSON cannot hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unrepresentable {
    /// `bytes`, or a `str` of Python 2, which is bytes too.
    #[error("bytes")]
    Bytes,
    /// `bytearray`.
    #[error("a bytearray")]
    ByteArray,
    /// `set`.
    #[error("a set")]
    Set,
    /// `frozenset`.
    #[error("a frozenset")]
    FrozenSet,
    /// A key of a dict that is no `str`.
    #[error("a key that is no str")]
    Key,
    /// An `int` outside −2⁶³ … 2⁶⁴−1.
    #[error("an int that does not fit 64 bits (send it as a str)")]
    LargeInt,
    /// `nan`, `inf` or `-inf`.
    #[error("a float that is not finite")]
    NotFinite,
    /// A `str` with half of a surrogate pair.
    #[error("a str with half of a surrogate pair")]
    LoneSurrogate,
    /// A list, tuple or dict that holds itself.
    #[error("a structure that holds itself")]
    Recursive,
}

/// Why a JSON text cannot be pickled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The text breaks a rule for messages.
    #[error("a message that breaks a rule for JSON: {0}")]
    NotJson(JsonError),
    /// The text is a JSON value other than an object.
    #[error("a message must be a JSON object")]
    NotAnObject,
}

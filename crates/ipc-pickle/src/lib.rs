//! Python's pickle as data: a pickled dict becomes the text of a JSON object, and a JSON object
//! becomes a pickled dict. Nothing is imported, called or built on the way.
//!
//! The two ends come here for peers that run the unmodified Python tool, whose bodies are pickled
//! dicts. Nothing here opens a socket, uses a key or reads the clock.
//!
//! * a pickle of protocol 0 to 5 as JSON text: [`to_json`]
//! * JSON text as a pickle of protocol 4, which Python 3.4 and later read: [`from_json`]
//!
//! A pickle is a program for a stack machine. [`to_json`] runs only its instructions that make
//! data, and refuses each one that would import a name, call something, build an object or ask the
//! receiver for one: `GLOBAL`, `STACK_GLOBAL`, `INST`, `OBJ`, `REDUCE`, `BUILD`, `NEWOBJ`,
//! `NEWOBJ_EX`, `EXT1`, `EXT2`, `EXT4`, `PERSID`, `BINPERSID`, `NEXT_BUFFER` and
//! `READONLY_BUFFER`. It has no table of names that are harmless.
//!
//! No value is changed silently:
//!
//! | Python | JSON |
//! |---|---|
//! | `dict` with `str` keys | object, members in their order |
//! | `list`, `tuple` | array: a tuple comes back as a list, as with Python's own `json` |
//! | `str` | string |
//! | `int` from −2⁶³ to 2⁶⁴−1 | number without fraction |
//! | finite `float` | number with a fraction or an exponent, so that it stays a float |
//! | `True`, `False`, `None` | `true`, `false`, `null` |
//! | any other `int` or `float`, `bytes`, `bytearray`, `set`, `frozenset`, keys that are no `str`, half a surrogate pair, a structure that holds itself | refused: [`Unrepresentable`] |
//! | an object of any other class | refused: [`DecodeError::Executes`] |
//!
//! An object to which a pickle refers twice is written twice. [`Limits`] bound the text, so
//! references multiply nothing beyond it.
//!
//! ```
//! use ipc_pickle::{Limits, from_json, to_json};
//!
//! // pickle.dumps({"test": 1, "at": (1.0, None)})
//! let pickle = b"\x80\x04\x95\x1e\0\0\0\0\0\0\0}\x94(\x8c\x04test\x94K\x01\x8c\x02at\x94\
//!     G?\xf0\0\0\0\0\0\0N\x86\x94u.";
//! let text = to_json(pickle, &Limits::default())?;
//! assert_eq!(text, r#"{"test":1,"at":[1.0,null]}"#);
//!
//! let pickle = from_json(&text)?;
//! assert_eq!(to_json(&pickle, &Limits::default())?, text);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod decode;
mod encode;
mod error;
mod graph;
mod number;
mod opcode;
mod string;
mod write;

pub use decode::to_json;
pub use encode::from_json;
pub use error::{
    DecodeError, EncodeError, Limits, TEXT_BYTES_MAX_DEFAULT, Unrepresentable, VALUE_BYTES_MAX,
    VALUES_MAX_DEFAULT,
};

//! The instructions of a pickle, and those that are refused. `decode` and `encode` come here.
//!
//! Values and names are those of Python's `pickletools`, protocols 0 to 5.

use crate::error::{DecodeError, Unrepresentable};

pub(crate) const MARK: u8 = b'(';
pub(crate) const STOP: u8 = b'.';
pub(crate) const POP: u8 = b'0';
pub(crate) const POP_MARK: u8 = b'1';
pub(crate) const DUP: u8 = b'2';
pub(crate) const FLOAT: u8 = b'F';
pub(crate) const INT: u8 = b'I';
pub(crate) const BININT: u8 = b'J';
pub(crate) const BININT1: u8 = b'K';
pub(crate) const LONG: u8 = b'L';
pub(crate) const BININT2: u8 = b'M';
pub(crate) const NONE: u8 = b'N';
pub(crate) const UNICODE: u8 = b'V';
pub(crate) const BINUNICODE: u8 = b'X';
pub(crate) const APPEND: u8 = b'a';
pub(crate) const DICT: u8 = b'd';
pub(crate) const EMPTY_DICT: u8 = b'}';
pub(crate) const APPENDS: u8 = b'e';
pub(crate) const GET: u8 = b'g';
pub(crate) const BINGET: u8 = b'h';
pub(crate) const LONG_BINGET: u8 = b'j';
pub(crate) const LIST: u8 = b'l';
pub(crate) const EMPTY_LIST: u8 = b']';
pub(crate) const PUT: u8 = b'p';
pub(crate) const BINPUT: u8 = b'q';
pub(crate) const LONG_BINPUT: u8 = b'r';
pub(crate) const SETITEM: u8 = b's';
pub(crate) const TUPLE: u8 = b't';
pub(crate) const EMPTY_TUPLE: u8 = b')';
pub(crate) const SETITEMS: u8 = b'u';
pub(crate) const BINFLOAT: u8 = b'G';
pub(crate) const PROTO: u8 = 0x80;
pub(crate) const TUPLE1: u8 = 0x85;
pub(crate) const TUPLE2: u8 = 0x86;
pub(crate) const TUPLE3: u8 = 0x87;
pub(crate) const NEWTRUE: u8 = 0x88;
pub(crate) const NEWFALSE: u8 = 0x89;
pub(crate) const LONG1: u8 = 0x8a;
pub(crate) const LONG4: u8 = 0x8b;
pub(crate) const SHORT_BINUNICODE: u8 = 0x8c;
pub(crate) const BINUNICODE8: u8 = 0x8d;
pub(crate) const MEMOIZE: u8 = 0x94;
pub(crate) const FRAME: u8 = 0x95;

/// The latest protocol.
pub(crate) const PROTOCOL_MAX: u8 = 5;

/// The protocol of what is written here.
pub(crate) const PROTOCOL_WRITTEN: u8 = 4;

/// Each instruction that imports, calls, builds or asks the receiver for an object, with its name.
const EXECUTING: [(u8, &str); 15] = [
    (b'c', "GLOBAL"),
    (0x93, "STACK_GLOBAL"),
    (b'i', "INST"),
    (b'o', "OBJ"),
    (b'R', "REDUCE"),
    (b'b', "BUILD"),
    (0x81, "NEWOBJ"),
    (0x92, "NEWOBJ_EX"),
    (0x82, "EXT1"),
    (0x83, "EXT2"),
    (0x84, "EXT4"),
    (b'P', "PERSID"),
    (b'Q', "BINPERSID"),
    (0x97, "NEXT_BUFFER"),
    (0x98, "READONLY_BUFFER"),
];

/// Each instruction that makes data which JSON cannot hold.
const UNREPRESENTABLE: [(u8, Unrepresentable); 10] = [
    // STRING, BINSTRING, SHORT_BINSTRING: a `str` of Python 2.
    (b'S', Unrepresentable::Bytes),
    (b'T', Unrepresentable::Bytes),
    (b'U', Unrepresentable::Bytes),
    // BINBYTES, SHORT_BINBYTES, BINBYTES8.
    (b'B', Unrepresentable::Bytes),
    (b'C', Unrepresentable::Bytes),
    (0x8e, Unrepresentable::Bytes),
    (0x96, Unrepresentable::ByteArray),
    // EMPTY_SET, ADDITEMS.
    (0x8f, Unrepresentable::Set),
    (0x90, Unrepresentable::Set),
    (0x91, Unrepresentable::FrozenSet),
];

/// The refusal of an instruction that `decode` does not run.
pub(crate) fn refusal(opcode: u8, offset: usize) -> DecodeError {
    if let Some((_, name)) = EXECUTING.iter().find(|(code, _)| *code == opcode) {
        return DecodeError::Executes { opcode: name, offset };
    }
    match UNREPRESENTABLE.iter().find(|(code, _)| *code == opcode) {
        Some((_, why)) => DecodeError::Unrepresentable(*why),
        None => DecodeError::Malformed { offset },
    }
}

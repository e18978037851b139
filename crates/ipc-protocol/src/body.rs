//! Turns an application's value into the JSON text of a frame's body, or into an error if JSON
//! would change the value.
//!
//! serde_json writes a NaN as `null` and an `i128` of any size as digits. A receiver would read
//! something other than was sent, so a serializer around serde_json's refuses both.

use std::cell::RefCell;
use std::fmt::{self, Display};
use std::io;

use serde::{Serialize, Serializer, ser};

use crate::scanner::is_plain;

/// A value that cannot be sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BodyError {
    /// The value serialises to something other than a JSON object: a list, a number, a string …
    #[error("a message must be a JSON object, such as {{\"key\": \"value\"}}")]
    NotAnObject,
    /// JSON cannot represent the value exactly: it has a NaN or an infinity, an integer beyond 64
    /// bits, or a map with keys that cannot be strings. Or its own `Serialize` failed.
    #[error("the message cannot be written as JSON")]
    NotJson(#[source] serde_json::Error),
}

/// Serialises a message to the JSON text that goes into the frame's `body`.
///
/// # Errors
/// [`BodyError`]. This function does not look for a member name given twice, more than 127 levels,
/// or an object of more than [`NAMES_MAX`](crate::NAMES_MAX) members: the server refuses these.
pub fn to_body<T: Serialize + ?Sized>(value: &T) -> Result<String, BodyError> {
    let text = Text(RefCell::new(Vec::with_capacity(128)));
    let mut serializer = serde_json::Serializer::new(&text);
    value.serialize(Exact(&mut serializer, &text)).map_err(BodyError::NotJson)?;
    let text = text.0.into_inner();
    if text.first() != Some(&b'{') {
        // A raw JSON value may begin with white space.
        if text.trim_ascii_start().first() != Some(&b'{') {
            return Err(BodyError::NotAnObject);
        }
    }
    Ok(String::from_utf8(text).expect("serde_json writes UTF-8"))
}

/// The text so far. serde_json writes to it in small parts, without a buffer of its own. Plain
/// strings are copied into it directly, without serde_json.
struct Text(RefCell<Vec<u8>>);

impl io::Write for &Text {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A string of at least this length that needs no escapes is copied as a whole, which is faster:
/// serde_json looks at each byte by itself.
const COPIED_BYTES_MIN: usize = 32;

/// A serializer that passes everything on to `S`, with two exceptions: it refuses numbers that JSON
/// or its readers would change, and it copies long plain strings itself.
struct Exact<'t, S>(S, &'t Text);

/// A value whose parts go through [`Exact`] too.
struct Part<'v, 't, T: ?Sized>(&'v T, &'t Text);

impl<T: Serialize + ?Sized> Serialize for Part<'_, '_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(Exact(serializer, self.1))
    }
}

impl Text {
    /// Appends a string that needs no escapes. `write_empty` has serde_json append an empty string,
    /// and `value` goes between its quotes. For a `RawValue` serde_json writes no quotes, since its
    /// string is JSON already.
    fn write_plain<T>(&self, value: &str, write_empty: impl FnOnce() -> T) -> T {
        let start = self.0.borrow().len();
        let result = write_empty();
        let mut text = self.0.borrow_mut();
        let closing = if text[start..] == *b"\"\"" { text.pop() } else { None };
        text.extend_from_slice(value.as_bytes());
        text.extend(closing);
        result
    }
}

fn finite<E: ser::Error>(is_finite: bool) -> Result<(), E> {
    if is_finite { Ok(()) } else { Err(E::custom("a number that is NaN or infinite")) }
}

fn too_large<E: ser::Error>() -> E {
    E::custom("an integer that does not fit 64 bits (send it as a string)")
}

macro_rules! pass_on {
    ($($method:ident: $type:ty,)*) => {
        $(fn $method(self, value: $type) -> Result<S::Ok, S::Error> {
            self.0.$method(value)
        })*
    };
}

impl<'t, S: Serializer> Serializer for Exact<'t, S> {
    type Ok = S::Ok;
    type Error = S::Error;
    type SerializeSeq = Exact<'t, S::SerializeSeq>;
    type SerializeTuple = Exact<'t, S::SerializeTuple>;
    type SerializeTupleStruct = Exact<'t, S::SerializeTupleStruct>;
    type SerializeTupleVariant = Exact<'t, S::SerializeTupleVariant>;
    type SerializeMap = Exact<'t, S::SerializeMap>;
    type SerializeStruct = Exact<'t, S::SerializeStruct>;
    type SerializeStructVariant = Exact<'t, S::SerializeStructVariant>;

    pass_on! {
        serialize_bool: bool,
        serialize_i8: i8,
        serialize_i16: i16,
        serialize_i32: i32,
        serialize_i64: i64,
        serialize_u8: u8,
        serialize_u16: u16,
        serialize_u32: u32,
        serialize_u64: u64,
        serialize_char: char,
        serialize_bytes: &[u8],
        serialize_unit_struct: &'static str,
    }

    fn serialize_str(self, value: &str) -> Result<S::Ok, S::Error> {
        let Exact(serializer, text) = self;
        if value.len() >= COPIED_BYTES_MIN && is_plain(value) {
            return text.write_plain(value, || serializer.serialize_str(""));
        }
        serializer.serialize_str(value)
    }

    fn serialize_i128(self, value: i128) -> Result<S::Ok, S::Error> {
        match (i64::try_from(value), u64::try_from(value)) {
            (Ok(value), _) => self.0.serialize_i64(value),
            (_, Ok(value)) => self.0.serialize_u64(value),
            _ => Err(too_large()),
        }
    }

    fn serialize_u128(self, value: u128) -> Result<S::Ok, S::Error> {
        u64::try_from(value).map_err(|_| too_large()).and_then(|value| self.0.serialize_u64(value))
    }

    fn serialize_f32(self, value: f32) -> Result<S::Ok, S::Error> {
        finite(value.is_finite())?;
        self.0.serialize_f32(value)
    }

    fn serialize_f64(self, value: f64) -> Result<S::Ok, S::Error> {
        finite(value.is_finite())?;
        self.0.serialize_f64(value)
    }

    fn serialize_none(self) -> Result<S::Ok, S::Error> {
        self.0.serialize_none()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.0.serialize_some(&Part(value, self.1))
    }

    fn serialize_unit(self) -> Result<S::Ok, S::Error> {
        self.0.serialize_unit()
    }

    fn serialize_unit_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
    ) -> Result<S::Ok, S::Error> {
        self.0.serialize_unit_variant(name, index, variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        self.0.serialize_newtype_struct(name, &Part(value, self.1))
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        self.0.serialize_newtype_variant(name, index, variant, &Part(value, self.1))
    }

    fn serialize_seq(self, len: Option<usize>) -> Result<Self::SerializeSeq, S::Error> {
        self.0.serialize_seq(len).map(|inner| Exact(inner, self.1))
    }

    fn serialize_tuple(self, len: usize) -> Result<Self::SerializeTuple, S::Error> {
        self.0.serialize_tuple(len).map(|inner| Exact(inner, self.1))
    }

    fn serialize_tuple_struct(
        self,
        name: &'static str,
        len: usize,
    ) -> Result<Self::SerializeTupleStruct, S::Error> {
        self.0.serialize_tuple_struct(name, len).map(|inner| Exact(inner, self.1))
    }

    fn serialize_tuple_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Self::SerializeTupleVariant, S::Error> {
        self.0.serialize_tuple_variant(name, index, variant, len).map(|inner| Exact(inner, self.1))
    }

    fn serialize_map(self, len: Option<usize>) -> Result<Self::SerializeMap, S::Error> {
        self.0.serialize_map(len).map(|inner| Exact(inner, self.1))
    }

    fn serialize_struct(
        self,
        name: &'static str,
        len: usize,
    ) -> Result<Self::SerializeStruct, S::Error> {
        self.0.serialize_struct(name, len).map(|inner| Exact(inner, self.1))
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Self::SerializeStructVariant, S::Error> {
        self.0.serialize_struct_variant(name, index, variant, len).map(|inner| Exact(inner, self.1))
    }

    fn collect_str<T: Display + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.0.collect_str(value)
    }
}

macro_rules! parts {
    ($($compound:ident { $($method:ident($($name:ident: $type:ty)?)),* })*) => {
        $(impl<S: ser::$compound> ser::$compound for Exact<'_, S> {
            type Ok = S::Ok;
            type Error = S::Error;

            $(fn $method<T: Serialize + ?Sized>(&mut self, $($name: $type,)? value: &T) -> Result<(), S::Error> {
                self.0.$method($($name,)? &Part(value, self.1))
            })*

            fn end(self) -> Result<S::Ok, S::Error> {
                self.0.end()
            }
        })*
    };
}

parts! {
    SerializeSeq { serialize_element() }
    SerializeTuple { serialize_element() }
    SerializeTupleStruct { serialize_field() }
    SerializeTupleVariant { serialize_field() }
    SerializeMap { serialize_key(), serialize_value() }
    SerializeStruct { serialize_field(name: &'static str) }
    SerializeStructVariant { serialize_field(name: &'static str) }
}

impl<S> fmt::Debug for Exact<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Exact")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, HashMap};

    use serde_json::json;
    use serde_json::value::RawValue;

    #[derive(Serialize)]
    enum Kind {
        Unit,
        New(f64),
        Tuple(f64, u8),
        Struct { x: f64 },
    }

    #[derive(Serialize)]
    struct Wide {
        number: f64,
        maybe: Option<f32>,
        pair: (u8, f64),
        list: Vec<f64>,
        kinds: Vec<Kind>,
        text: &'static str,
        unit: (),
    }

    fn wide(number: f64) -> Wide {
        Wide {
            number: 1.5,
            maybe: None,
            pair: (1, 0.25),
            list: vec![number],
            kinds: vec![Kind::Unit, Kind::New(1.0), Kind::Tuple(2.0, 3), Kind::Struct { x: 4.0 }],
            text: "é\"",
            unit: (),
        }
    }

    #[test]
    fn what_can_be_sent_is_written_as_serde_json_writes_it() {
        assert_eq!(to_body(&wide(1e300)).unwrap(), serde_json::to_string(&wide(1e300)).unwrap());
        let value =
            json!({"a": [1, -2, 3.5, null, true, {"b": "c"}], "n": u64::MAX, "m": i64::MIN});
        assert_eq!(to_body(&value).unwrap(), value.to_string());
        assert_eq!(to_body(&json!({})).unwrap(), "{}");
        assert_eq!(to_body(&HashMap::from([(7, "x")])).unwrap(), r#"{"7":"x"}"#);
        assert_eq!(
            to_body(&BTreeMap::from([("a", u128::from(u64::MAX))])).unwrap(),
            r#"{"a":18446744073709551615}"#
        );
        assert_eq!(
            to_body(&BTreeMap::from([("a", i128::from(i64::MIN))])).unwrap(),
            r#"{"a":-9223372036854775808}"#
        );
    }

    #[test]
    fn raw_json_stays_as_it_is() {
        let raw = RawValue::from_string(" {\"a\" : 1.50} ".to_owned()).unwrap();
        assert_eq!(to_body(&raw).unwrap().trim(), "{\"a\" : 1.50}");
        assert_eq!(to_body(&json!({"in": 1})).unwrap(), r#"{"in":1}"#);
        assert_eq!(
            to_body(&BTreeMap::from([("r", &raw)])).unwrap().replace(' ', ""),
            r#"{"r":{"a":1.50}}"#
        );
    }

    #[test]
    fn long_strings_are_written_as_serde_json_writes_them_wherever_they_stand() {
        let plain = "x".repeat(COPIED_BYTES_MIN);
        for text in [
            plain.clone(),
            plain.clone() + "\"",
            plain.clone() + "\n",
            plain.clone() + "é",
            "\\".repeat(40),
        ] {
            let value = json!({"a": text, "b": [text, text], text.clone(): {"c": text, "d": 1}});
            assert_eq!(to_body(&value).unwrap(), value.to_string());
            let value = BTreeMap::from([(text.as_str(), Some((text.as_str(), 1)))]);
            assert_eq!(to_body(&value).unwrap(), serde_json::to_string(&value).unwrap());
        }
        let long = format!("{{\"list\":[{}1]}}", "1,".repeat(100));
        let raw = RawValue::from_string(long.clone()).unwrap();
        assert_eq!(to_body(&raw).unwrap(), long, "with quotes in it");
        let raw = RawValue::from_string(format!("[{}1]", "1,".repeat(100))).unwrap();
        let body = to_body(&BTreeMap::from([("r", &raw)])).unwrap();
        assert_eq!(body, format!("{{\"r\":{}}}", raw.get()), "and without");
    }

    proptest::proptest! {
        #[test]
        fn any_strings_are_written_as_serde_json_writes_them(texts in proptest::collection::vec(".{0,80}", 0..5)) {
            let value = json!({"texts": texts, "n": 1});
            proptest::prop_assert_eq!(to_body(&value).unwrap(), value.to_string());
        }
    }

    #[test]
    fn a_number_that_is_none_is_refused_wherever_it_stands() {
        for number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            for value in [Kind::New(number), Kind::Tuple(number, 1), Kind::Struct { x: number }] {
                assert!(matches!(to_body(&value), Err(BodyError::NotJson(_))));
            }
            assert!(matches!(to_body(&wide(number)), Err(BodyError::NotJson(_))));
            assert!(matches!(
                to_body(&BTreeMap::from([("a", Some(number))])),
                Err(BodyError::NotJson(_))
            ));
            assert!(matches!(
                to_body(&BTreeMap::from([("a", number as f32)])),
                Err(BodyError::NotJson(_))
            ));
        }
    }

    #[test]
    fn an_integer_beyond_64_bits_is_refused() {
        assert!(matches!(
            to_body(&BTreeMap::from([("a", u128::from(u64::MAX) + 1)])),
            Err(BodyError::NotJson(_))
        ));
        assert!(matches!(
            to_body(&BTreeMap::from([("a", i128::from(i64::MIN) - 1)])),
            Err(BodyError::NotJson(_))
        ));
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for value in [json!([]), json!(1), json!("x"), json!(null), json!(true)] {
            assert!(matches!(to_body(&value), Err(BodyError::NotAnObject)), "{value}");
        }
        assert!(matches!(
            to_body(&RawValue::from_string("[]".to_owned()).unwrap()),
            Err(BodyError::NotAnObject)
        ));
    }

    #[test]
    fn the_error_says_what_was_wrong() {
        let error = to_body(&BTreeMap::from([("a", f64::NAN)])).unwrap_err();
        assert_eq!(error.to_string(), "the message cannot be written as JSON");
        let cause = std::error::Error::source(&error).unwrap();
        assert_eq!(cause.to_string(), "a number that is NaN or infinite");
    }
}

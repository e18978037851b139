//! An application's value on its way into a frame: JSON text that says what the value said, or an error.
//!
//! serde_json writes a NaN as `null` and an `i128` of any size as digits. Both would arrive as something else than
//! was sent, so a serializer stands in front of it that refuses them.

use std::fmt::{self, Display};

use serde::{Serialize, Serializer, ser};

/// A value that cannot be sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BodyError {
    /// The value serialises to something other than a JSON object: a list, a number, a string …
    #[error("a message must be a JSON object, such as {{\"key\": \"value\"}}")]
    NotAnObject,
    /// The value cannot be written as JSON so that it arrives as it is: a NaN or an infinity, an integer beyond 64
    /// bits, a map whose keys are no strings, or an error of its own `Serialize`.
    #[error("the message cannot be written as JSON: {0}")]
    NotJson(#[source] serde_json::Error),
}

/// Serialises a message to the JSON text that goes into the frame's `body`.
///
/// # Errors
/// [`BodyError`]. What only a whole text shows (a member name given twice, more than 127 levels) the server
/// refuses.
pub fn to_body<T: Serialize + ?Sized>(value: &T) -> Result<String, BodyError> {
    let mut text = Vec::with_capacity(128);
    value.serialize(Exact(&mut serde_json::Serializer::new(&mut text))).map_err(BodyError::NotJson)?;
    if text.first() != Some(&b'{') {
        // A raw JSON value may begin with space.
        if text.trim_ascii_start().first() != Some(&b'{') {
            return Err(BodyError::NotAnObject);
        }
    }
    Ok(String::from_utf8(text).expect("serde_json writes UTF-8"))
}

/// Passes everything on but the numbers that JSON, or its readers, would change.
struct Exact<S>(S);

/// A value whose parts go through [`Exact`] too.
struct Part<'a, T: ?Sized>(&'a T);

impl<T: Serialize + ?Sized> Serialize for Part<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(Exact(serializer))
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

impl<S: Serializer> Serializer for Exact<S> {
    type Ok = S::Ok;
    type Error = S::Error;
    type SerializeSeq = Exact<S::SerializeSeq>;
    type SerializeTuple = Exact<S::SerializeTuple>;
    type SerializeTupleStruct = Exact<S::SerializeTupleStruct>;
    type SerializeTupleVariant = Exact<S::SerializeTupleVariant>;
    type SerializeMap = Exact<S::SerializeMap>;
    type SerializeStruct = Exact<S::SerializeStruct>;
    type SerializeStructVariant = Exact<S::SerializeStructVariant>;

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
        serialize_str: &str,
        serialize_bytes: &[u8],
        serialize_unit_struct: &'static str,
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
        self.0.serialize_some(&Part(value))
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
        self.0.serialize_newtype_struct(name, &Part(value))
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        self.0.serialize_newtype_variant(name, index, variant, &Part(value))
    }

    fn serialize_seq(self, len: Option<usize>) -> Result<Self::SerializeSeq, S::Error> {
        self.0.serialize_seq(len).map(Exact)
    }

    fn serialize_tuple(self, len: usize) -> Result<Self::SerializeTuple, S::Error> {
        self.0.serialize_tuple(len).map(Exact)
    }

    fn serialize_tuple_struct(
        self,
        name: &'static str,
        len: usize,
    ) -> Result<Self::SerializeTupleStruct, S::Error> {
        self.0.serialize_tuple_struct(name, len).map(Exact)
    }

    fn serialize_tuple_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Self::SerializeTupleVariant, S::Error> {
        self.0.serialize_tuple_variant(name, index, variant, len).map(Exact)
    }

    fn serialize_map(self, len: Option<usize>) -> Result<Self::SerializeMap, S::Error> {
        self.0.serialize_map(len).map(Exact)
    }

    fn serialize_struct(self, name: &'static str, len: usize) -> Result<Self::SerializeStruct, S::Error> {
        self.0.serialize_struct(name, len).map(Exact)
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Self::SerializeStructVariant, S::Error> {
        self.0.serialize_struct_variant(name, index, variant, len).map(Exact)
    }

    fn collect_str<T: Display + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.0.collect_str(value)
    }
}

macro_rules! parts {
    ($($compound:ident { $($method:ident($($name:ident: $type:ty)?)),* })*) => {
        $(impl<S: ser::$compound> ser::$compound for Exact<S> {
            type Ok = S::Ok;
            type Error = S::Error;

            $(fn $method<T: Serialize + ?Sized>(&mut self, $($name: $type,)? value: &T) -> Result<(), S::Error> {
                self.0.$method($($name,)? &Part(value))
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

impl<S> fmt::Debug for Exact<S> {
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
        let value = json!({"a": [1, -2, 3.5, null, true, {"b": "c"}], "n": u64::MAX, "m": i64::MIN});
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
        assert_eq!(to_body(&BTreeMap::from([("r", &raw)])).unwrap().replace(' ', ""), r#"{"r":{"a":1.50}}"#);
    }

    #[test]
    fn a_number_that_is_none_is_refused_wherever_it_stands() {
        for number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            for value in [Kind::New(number), Kind::Tuple(number, 1), Kind::Struct { x: number }] {
                assert!(matches!(to_body(&value), Err(BodyError::NotJson(_))));
            }
            assert!(matches!(to_body(&wide(number)), Err(BodyError::NotJson(_))));
            assert!(matches!(to_body(&BTreeMap::from([("a", Some(number))])), Err(BodyError::NotJson(_))));
            assert!(matches!(to_body(&BTreeMap::from([("a", number as f32)])), Err(BodyError::NotJson(_))));
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
        assert_eq!(
            error.to_string(),
            "the message cannot be written as JSON: a number that is NaN or infinite"
        );
    }
}

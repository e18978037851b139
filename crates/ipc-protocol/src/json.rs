//! Checks in one pass whether every reader understands a JSON text in the same way.
//!
//! RFC 8259 leaves open what happens to duplicate member names, large integers and lone surrogates,
//! and readers differ: one takes the last of two equal names, another the first, and many round a
//! large integer to a double. A frame allows none of these. Its rules are those of I-JSON (RFC
//! 7493), with integers of 64 bits. The pass builds no tree, so that a body stays text until the
//! application parses it.

use crate::json_error::JsonError;
use crate::scanner::{Scanner, as_utf8};

/// Checks a JSON text, with a value of any kind, against the rules above and returns it as text.
///
/// # Errors
/// The first [`JsonError`] in it.
pub fn check_json(text: &[u8]) -> Result<&str, JsonError> {
    let text = as_utf8(text)?;
    Scanner::new(text).document()?;
    Ok(text)
}

/// Checks a JSON text for the body of a frame. The rules are those of [`check_json`], with one
/// level less.
///
/// # Errors
/// The first [`JsonError`] in it.
pub fn check_body(text: &str) -> Result<(), JsonError> {
    let mut scanner = Scanner::new(text);
    scanner.skip_space();
    // The frame around it is the first level.
    scanner.value(2)?;
    scanner.end()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json_error::{DEPTH_MAX, JsonErrorKind, NAMES_MAX};
    use crate::scanner::plain_len;
    use proptest::prelude::*;

    fn refusal(text: &str) -> Option<JsonErrorKind> {
        check_json(text.as_bytes()).err().map(|error| error.kind)
    }

    #[test]
    fn plain_json_passes() {
        for text in [
            "{}",
            "[]",
            " { } ",
            r#"{"a":[1,-2,3.5,1e3,-0,0.0,true,false,null,"x",{"b":{}}]}"#,
            "\t[\r\n1 , 2\n]",
            r#""\u00e9\ud83d\ude00\"\\\/\b\f\n\r\t""#,
            "\"é😀\u{7f}\u{2028}\"",
            "18446744073709551615",
            "-9223372036854775808",
            "0",
            "1.7976931348623157e308",
            "123456789012345678901234567890.5",
        ] {
            assert_eq!(refusal(text), None, "{text}");
        }
    }

    #[test]
    fn a_body_has_one_level_less_than_a_text() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(check_json(nested(DEPTH_MAX).as_bytes()).is_ok());
        assert!(check_body(&nested(DEPTH_MAX - 1)).is_ok());
        assert_eq!(check_body(&nested(DEPTH_MAX)).unwrap_err().kind, JsonErrorKind::TooDeep);
        assert_eq!(check_body("{\"a\":1,\"a\":2}").unwrap_err().kind, JsonErrorKind::DuplicateName);
        assert_eq!(check_body(" {} {}").unwrap_err().kind, JsonErrorKind::Syntax);
        assert!(check_body(" {\"a\":1}\n").is_ok());
    }

    #[test]
    fn what_is_not_json_is_refused() {
        for text in [
            "}",
            "[1,]",
            "[,1]",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{a:1}",
            "{'a':1}",
            "{\"a\":1 \"b\":2}",
            "NaN",
            "Infinity",
            "-Infinity",
            "nan",
            "01",
            "+1",
            ".5",
            "0x10",
            "--1",
            "nulll",
            "1 2",
            "\"\\x\"",
            "\"\\u12\"",
            "\"\\u12g4\"",
            "\"a\nb\"",
            "\"\u{0}\"",
            "\u{feff}{}",
            "// c\n1",
            "[1]]",
            "{\"a\":1}}",
        ] {
            assert_eq!(refusal(text), Some(JsonErrorKind::Syntax), "{text:?}");
        }
    }

    #[test]
    fn a_text_that_ends_too_early_is_told_apart() {
        for text in [
            "",
            " ",
            "{",
            "[",
            "[1",
            "[1,",
            "-",
            "1.",
            "1e",
            "1e+",
            "tru",
            "\"",
            "\"\\",
            "{\"a\"",
            "{\"a\":",
            "{\"a\": ",
            "{\"a\":1",
            "{\"a\":1,",
            "[tru",
            "\"\\u12",
            "{\"a\":{\"b\":[1]",
        ] {
            let error = check_json(text.as_bytes()).unwrap_err();
            assert_eq!(
                error,
                JsonError { kind: JsonErrorKind::Truncated, offset: text.len() },
                "{text:?}"
            );
        }
        // An error before the end is reported as such, even if the text also ends too early.
        for text in ["[truf", "nul]", "{\"a\" 1", "\"a\n", "1 2"] {
            assert_eq!(refusal(text), Some(JsonErrorKind::Syntax), "{text:?}");
        }
    }

    #[test]
    fn an_error_says_what_and_where_counted_as_people_count() {
        let told = |text: &str| check_json(text.as_bytes()).unwrap_err().to_string();
        assert_eq!(told("{a:1}"), "text that is not JSON, at byte 2");
        assert_eq!(told("{\"a\":1"), "text that ends in the middle of a JSON value, at byte 7");
    }

    #[test]
    fn a_name_given_twice_is_refused_at_any_level_and_however_it_is_escaped() {
        for text in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"b":2,"a":3}"#,
            r#"[{"x":{"a":1,"a":2}}]"#,
            r#"{"a":1,"\u0061":2}"#,
            r#"{"":1,"":2}"#,
        ] {
            assert_eq!(refusal(text), Some(JsonErrorKind::DuplicateName), "{text}");
        }
        assert_eq!(
            refusal(r#"{"a":{"a":{"a":1}},"b":{"a":1}}"#),
            None,
            "the same name in another object is no duplicate"
        );
        assert_eq!(refusal(r#"{"a":1,"A":1}"#), None);
    }

    #[test]
    fn a_name_given_twice_is_found_among_many() {
        let members: Vec<_> = (0..1000).map(|index| format!(r#""k{index}":0"#)).collect();
        assert_eq!(refusal(&format!("{{{}}}", members.join(","))), None);
        assert_eq!(
            refusal(&format!(r#"{{{},"k500":1}}"#, members.join(","))),
            Some(JsonErrorKind::DuplicateName)
        );
    }

    #[test]
    fn an_object_has_a_bound_of_members_and_several_have_each_their_own() {
        let members = |count: usize| {
            let members: Vec<_> = (0..count).map(|index| format!(r#""{index}":0"#)).collect();
            format!("{{{}}}", members.join(","))
        };
        assert_eq!(refusal(&members(NAMES_MAX)), None);
        assert_eq!(refusal(&members(NAMES_MAX + 1)), Some(JsonErrorKind::TooManyNames));
        assert_eq!(refusal(&format!("[{0},{0}]", members(NAMES_MAX))), None);
        let inner = members(NAMES_MAX);
        assert_eq!(
            refusal(&format!(r#"{{"a":1,"b":{inner},"c":2}}"#)),
            None,
            "names around it are not its own"
        );
        // The scan ends there: the invalid value behind is not reached.
        let open = members(NAMES_MAX + 1).replace('}', ",NaN");
        assert_eq!(refusal(&open), Some(JsonErrorKind::TooManyNames));
    }

    #[test]
    fn the_last_level_that_is_taken_is_128() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert_eq!(refusal(&nested(DEPTH_MAX)), None);
        assert_eq!(refusal(&nested(DEPTH_MAX + 1)), Some(JsonErrorKind::TooDeep));
        let objects =
            |levels: usize| format!("{}1{}", r#"{"a":"#.repeat(levels), "}".repeat(levels));
        assert_eq!(refusal(&objects(DEPTH_MAX)), None);
        assert_eq!(refusal(&objects(DEPTH_MAX + 1)), Some(JsonErrorKind::TooDeep));
        assert_eq!(
            refusal(&nested(1_000_000)),
            Some(JsonErrorKind::TooDeep),
            "a hostile depth costs no stack"
        );
    }

    #[test]
    fn an_integer_beyond_64_bits_is_refused_with_its_place() {
        for number in [
            "18446744073709551616",
            "-9223372036854775809",
            "100000000000000000000000",
            "-18446744073709551615",
        ] {
            let text = format!(r#"{{"n":{number}}}"#);
            let error = check_json(text.as_bytes()).unwrap_err();
            assert_eq!(
                error,
                JsonError { kind: JsonErrorKind::IntegerTooLarge, offset: 5 },
                "{number}"
            );
        }
        assert_eq!(refusal("1e400"), Some(JsonErrorKind::NumberTooLarge));
        assert_eq!(refusal("-1e400"), Some(JsonErrorKind::NumberTooLarge));
    }

    #[test]
    fn half_a_surrogate_pair_is_refused() {
        for text in [
            r#""\ud800""#,
            r#""\udc00""#,
            r#""\ud800x""#,
            r#""\ud800\n""#,
            r#""\ud800\ud800""#,
            r#""\udc00\ud800""#,
            r#"{"\ud800":1}"#,
        ] {
            assert_eq!(refusal(text), Some(JsonErrorKind::LoneSurrogate), "{text}");
        }
        assert_eq!(refusal(r#""\ud800\u""#), Some(JsonErrorKind::Syntax));
    }

    #[test]
    fn bytes_that_are_not_utf8_are_refused_with_their_place() {
        let error = check_json(b"\"a\xff\"").unwrap_err();
        assert_eq!(error, JsonError { kind: JsonErrorKind::NotUtf8, offset: 2 });
    }

    /// JSON-like texts, with enough brackets and quotes that many of them are JSON.
    fn json_like() -> impl Strategy<Value = String> {
        let token = prop_oneof![
            Just("{"),
            Just("}"),
            Just("["),
            Just("]"),
            Just(","),
            Just(":"),
            Just("\"a\""),
            Just("\"b\""),
            Just("1"),
            Just("-0.5e3"),
            Just("true"),
            Just("null"),
            Just(" "),
            Just("\"\\u00e9\""),
            Just("\\"),
            Just("\""),
            Just("1e999"),
            Just("\"longer than eight bytes\"")
        ];
        prop::collection::vec(token, 0..12).prop_map(|tokens| tokens.concat())
    }

    fn any_value() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<u64>().prop_map(Into::into),
            any::<f64>().prop_filter("finite", |number| number.is_finite()).prop_map(Into::into),
            any::<String>().prop_map(Into::into),
        ];
        leaf.prop_recursive(6, 64, 8, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..8).prop_map(Into::into),
                prop::collection::btree_map(any::<String>(), inner, 0..20)
                    .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn whatever_serde_json_writes_passes(value in any_value()) {
            prop_assert_eq!(refusal(&serde_json::to_string(&value).unwrap()), None);
            prop_assert_eq!(refusal(&serde_json::to_string_pretty(&value).unwrap()), None);
        }

        #[test]
        fn what_passes_is_json_to_serde_json_and_what_is_no_json_to_it_does_not_pass(text in json_like()) {
            let theirs = serde_json::from_str::<serde_json::Value>(&text);
            match check_json(text.as_bytes()) {
                Ok(_) => prop_assert!(theirs.is_ok(), "we take what serde_json refuses: {text:?}"),
                Err(error) if error.kind == JsonErrorKind::DuplicateName => (),
                Err(_) => prop_assert!(theirs.is_err(), "we refuse what serde_json takes: {text:?}"),
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = check_json(&bytes);
        }

        #[test]
        fn plain_bytes_are_counted_as_one_by_one(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let slow = bytes.iter().take_while(|byte| !matches!(byte, b'"' | b'\\' | 0..=0x1f)).count();
            prop_assert_eq!(plain_len(&bytes), slow);
        }
    }
}

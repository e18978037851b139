//! JSON objects that are pickled and read again.

use ipc_pickle::{Limits, from_json, to_json};
use proptest::prelude::*;
use serde_json::Value;

fn there_and_back(text: &str) -> String {
    to_json(&from_json(text).unwrap(), &Limits::default()).unwrap()
}

#[test]
fn white_space_and_escapes_go_and_values_stay() {
    for (text, again) in [
        (" {\r\n\t\"a\" : [ 1 , -2.50 ] } ", r#"{"a":[1,-2.5]}"#),
        (r#"{"\u0061":"\ud83d\ude00\/\u000a\u0000"}"#, r#"{"a":"😀/\n\u0000"}"#),
        (r#"{"a":"\\\\\"\\"}"#, r#"{"a":"\\\\\"\\"}"#),
        (
            r#"{"a":1E2,"b":1.0,"c":-0.0,"d":1e-7,"e":1e300}"#,
            r#"{"a":100.0,"b":1.0,"c":-0.0,"d":1e-7,"e":1e300}"#,
        ),
        (r#"{"a":-0,"b":9007199254740993}"#, r#"{"a":0,"b":9007199254740993}"#),
        (
            r#"{"a":18446744073709551615,"b":-9223372036854775808}"#,
            r#"{"a":18446744073709551615,"b":-9223372036854775808}"#,
        ),
        (
            r#"{"":{},"a":[],"b":[[],{}],"c":true,"d":false,"e":null}"#,
            r#"{"":{},"a":[],"b":[[],{}],"c":true,"d":false,"e":null}"#,
        ),
    ] {
        assert_eq!(there_and_back(text), again, "{text}");
    }
}

#[test]
fn a_text_of_any_length_is_a_string() {
    for length in [0, 1, 255, 256, 65_536, 1_000_000] {
        let text = format!(r#"{{"a":"{}"}}"#, "x".repeat(length));
        assert_eq!(there_and_back(&text), text);
    }
}

#[test]
fn the_deepest_message_is_pickled_and_read() {
    let text = format!("{}null{}", r#"{"a":"#.repeat(127), "}".repeat(127));
    assert_eq!(there_and_back(&text), text);
}

fn any_object() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<u64>().prop_map(Into::into),
        any::<i8>().prop_map(Into::into),
        any::<f64>().prop_filter("finite", |number| number.is_finite()).prop_map(Into::into),
        any::<String>().prop_map(Into::into),
    ];
    let value = leaf.prop_recursive(6, 64, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Into::into),
            prop::collection::btree_map(any::<String>(), inner, 0..8)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    });
    prop::collection::btree_map(any::<String>(), value, 0..8)
        .prop_map(|members| Value::Object(members.into_iter().collect()))
}

proptest! {
    #[test]
    fn any_object_is_the_same_afterwards(object in any_object()) {
        let text = serde_json::to_string(&object).unwrap();
        let first = there_and_back(&text);
        prop_assert_eq!(there_and_back(&first), first.clone());
        // Texts are compared, since serde_json does not round each float to the nearest double.
        let normal = |text: &str| {
            let value: Value = serde_json::from_str(text).unwrap();
            serde_json::to_string(&value).unwrap().replace("e+", "e")
        };
        prop_assert_eq!(normal(&first), normal(&text));
    }
}

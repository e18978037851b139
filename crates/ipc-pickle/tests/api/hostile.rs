//! Pickles that Python would not have written, or that would do something.

use ipc_pickle::{DecodeError, EncodeError, Limits, Unrepresentable, from_json, to_json};
use ipc_protocol::JsonErrorKind;
use proptest::prelude::*;

fn read(pickle: &[u8]) -> Result<String, DecodeError> {
    to_json(pickle, &Limits::default())
}

#[test]
fn each_instruction_that_imports_calls_or_builds_is_refused_by_its_name() {
    let instructions: [(&str, &[u8]); 15] = [
        ("GLOBAL", b"cos\nsystem\n"),
        ("STACK_GLOBAL", b"\x8c\x02os\x8c\x06system\x93"),
        ("INST", b"(ios\nsystem\n"),
        ("OBJ", b"(}o"),
        ("REDUCE", b"})R"),
        ("BUILD", b"}}b"),
        ("NEWOBJ", b"})\x81"),
        ("NEWOBJ_EX", b"})}\x92"),
        ("EXT1", b"\x82\x01"),
        ("EXT2", b"\x83\x01\x00"),
        ("EXT4", b"\x84\x01\x00\x00\x00"),
        ("PERSID", b"P1\n"),
        ("BINPERSID", b"K\x01Q"),
        ("NEXT_BUFFER", b"\x97"),
        ("READONLY_BUFFER", b"}\x98"),
    ];
    for (name, instruction) in instructions {
        // As a whole, as a member, and thrown away before a good dict.
        for (before, behind) in [
            (&b"\x80\x05"[..], &b"."[..]),
            (b"\x80\x05}\x8c\x01a", b"s."),
            (b"\x80\x05", b"0}."),
            (b"", b"0}."),
        ] {
            let refused = read(&[before, instruction, behind].concat());
            let Err(DecodeError::Executes { opcode, .. }) = refused else {
                panic!("{name}: {refused:?}");
            };
            assert_eq!(opcode, name);
        }
    }
}

#[test]
fn no_other_byte_is_an_instruction_that_makes_an_object() {
    let known = b"().012FIJKLMNSTUBCVXadegjhlpqrstu]}GRbciobPQ\x80\x81\x82\x83\x84\x85\x86\x87\x88\
        \x89\x8a\x8b\x8c\x8d\x8e\x8f\x90\x91\x92\x93\x94\x95\x96\x97\x98";
    for byte in (0..=u8::MAX).filter(|byte| !known.contains(byte)) {
        assert_eq!(read(&[byte, b'}', b'.']), Err(DecodeError::Malformed { offset: 0 }), "{byte}");
    }
}

#[test]
fn the_strings_of_python_2_are_bytes() {
    for pickle in [&b"}S'a'\nNs."[..], b"}U\x01aNs.", b"}T\x01\0\0\0aNs."] {
        assert_eq!(read(pickle), Err(DecodeError::Unrepresentable(Unrepresentable::Bytes)));
    }
}

#[test]
fn a_key_that_is_set_twice_is_refused() {
    for pickle in
        [&b"}\x8c\x01aNs\x8c\x01aNs."[..], b"(\x8c\x01aNVa\nNd.", b"}(\x8c\x01aNX\x01\0\0\0aNu."]
    {
        assert_eq!(read(pickle), Err(DecodeError::DuplicateKey));
    }
}

#[test]
fn what_is_cut_off_or_goes_on_is_no_pickle() {
    let whole = b"\x80\x04\x95\x0c\0\0\0\0\0\0\0}\x94\x8c\x04test\x94K\x01s.";
    assert_eq!(read(whole).as_deref(), Ok(r#"{"test":1}"#));
    for length in 0..whole.len() {
        let refused = read(&whole[..length]);
        assert!(matches!(refused, Err(DecodeError::Malformed { .. })), "{length}: {refused:?}");
    }
    assert_eq!(read(&[whole, &b"."[..]].concat()), Err(DecodeError::Malformed { offset: 23 }));
}

#[test]
fn what_the_stack_machine_cannot_do_is_refused() {
    for pickle in [
        &b""[..],
        b".",
        b"0}.",
        b"1}.",
        b"2.",
        b"(.",
        b"(}.",
        b"}}.",
        b"a.",
        b"}Na.",
        b"]\x8c\x01aNs.",
        b"](\x8c\x01aNu.",
        b"}(NNe.",
        b"}(Nu.",
        b"(Nd.",
        b"N(\x85.",
        b"\x86.",
        b"}h\x00.",
        b"}g0\n.",
        b"}q\x00j\x01\0\0\0.",
        b"(q\x00.",
        b"}p-1\n.",
        b"}p\n.",
        b"}pa\n.",
        b"}p4294967296\n.",
        b"\x80\x06}.",
        b"}\x80\x04.",
        b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\xff}.",
        b"\x80\x04\x95\x03\0\0\0\0\0\0\0}\x8c\x01aNs.",
        b"\x80\x04\x95\x0c\0\0\0\0\0\0\0\x95\x01\0\0\0\0\0\0\0}.",
        b"}I1 \nNs.",
        b"}\x8c\x01aI0x1\ns.",
        b"}\x8c\x01aI007\ns.",
        b"}\x8c\x01aI1_0\ns.",
        b"}\x8c\x01aI\ns.",
        b"}\x8c\x01aL1LL\ns.",
        b"}\x8c\x01aF1.0 \ns.",
        b"}\x8c\x01aFinfinity\ns.",
        b"}\x8c\x01aF\ns.",
        b"}\x8c\x01a\x8b\xff\xff\xff\xffs.",
        b"}\x8c\x01a\x8b\xff\xff\xff\x7fs.",
        b"}\x8d\xff\xff\xff\xff\xff\xff\xff\xffNs.",
        b"}\x8c\x01\xffNs.",
        b"}\x8c\x03\xed\x20\x80Ns.",
        b"}V\\u12\nNs.",
        b"}V\\U00110000\nNs.",
        b"}V\\u+123\nNs.",
        b"}VaNs.",
    ] {
        let refused = read(pickle);
        assert!(matches!(refused, Err(DecodeError::Malformed { .. })), "{pickle:?}: {refused:?}");
    }
}

#[test]
fn integers_of_any_width_keep_their_value() {
    let number = |bytes: &[u8]| {
        let length = [u8::try_from(bytes.len()).unwrap()];
        read(&[b"}\x8c\x01n\x8a", &length[..], bytes, b"s."].concat())
    };
    for (bytes, text) in [
        (&b""[..], "0"),
        (b"\0\0\0", "0"),
        (b"\x80", "-128"),
        (b"\x80\0", "128"),
        (b"\xff\xff\xff\xff\xff\xff\xff\xff\0", "18446744073709551615"),
        (b"\0\0\0\0\0\0\0\x80", "-9223372036854775808"),
        (b"\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", "1"),
        (&[0xff; 40], "-1"),
    ] {
        assert_eq!(number(bytes), Ok(format!(r#"{{"n":{text}}}"#)), "{bytes:?}");
    }
    let mut sign_beyond = [0; 17];
    sign_beyond[15] = 0x80;
    let mut ones_beyond = [0xff; 17];
    ones_beyond[15] = 0x7f;
    for bytes in [
        &b"\0\0\0\0\0\0\0\0\x01"[..],
        b"\xff\xff\xff\xff\xff\xff\xff\x7f\xff",
        &sign_beyond,
        &ones_beyond,
        &[0x7f; 255],
    ] {
        let refused = Err(DecodeError::Unrepresentable(Unrepresentable::LargeInt));
        assert_eq!(number(bytes), refused, "{bytes:?}");
    }
}

/// A tuple that holds another one twice, which holds another one twice, and so on down to a list.
fn laughs(doublings: u8) -> Vec<u8> {
    let mut pickle = b"}\x8c\x01a]q\x000".to_vec();
    for number in 0..doublings {
        pickle.extend([b'h', number, b'h', number, 0x86, b'q', number + 1, b'0']);
    }
    pickle.extend([b'h', doublings, b's', b'.']);
    pickle
}

#[test]
fn references_multiply_nothing_beyond_the_limit() {
    assert_eq!(read(&laughs(2)).as_deref(), Ok(r#"{"a":[[[],[]],[[],[]]]}"#));
    let limits = Limits { text_bytes_max: 100_000, ..Limits::default() };
    let text = to_json(&laughs(10), &limits).unwrap();
    assert_eq!(text.matches("[]").count(), 1024);
    assert_eq!(to_json(&laughs(100), &limits), Err(DecodeError::TooLong));
    assert_eq!(read(&laughs(100)), Err(DecodeError::TooLong));
}

#[test]
fn the_limits_hold_to_the_byte_and_the_value() {
    let pickle = b"}\x8c\x01a]q\x00(h\x00N0e0Ns.";
    let limits = |text_bytes_max, values_max| Limits { text_bytes_max, values_max };
    assert_eq!(to_json(pickle, &limits(10, 8)).as_deref(), Ok(r#"{"a":null}"#));
    assert_eq!(to_json(pickle, &limits(9, 8)), Err(DecodeError::TooLong));
    assert_eq!(to_json(pickle, &limits(10, 7)), Err(DecodeError::TooManyValues));
    // Marks and the memo take memory too.
    for flood in [&b"("[..], b"2", b"\x94", b"N"] {
        let pickle = [b"}", &flood.repeat(1000)[..]].concat();
        assert_eq!(to_json(&pickle, &limits(100, 1000)), Err(DecodeError::TooManyValues));
    }
}

#[test]
fn a_hostile_depth_costs_no_stack() {
    for (open, close) in [(&b"("[..], &b"t"[..]), (b"(", b"l"), (b"](", b"e")] {
        let levels = 100_000;
        let nested = [b"}\x8c\x01a", &open.repeat(levels)[..], &close.repeat(levels), b"s."];
        assert_eq!(read(&nested.concat()), Err(DecodeError::TooDeep));
    }
    let chain = [b"}\x8c\x01a)", &b"\x85".repeat(200_000)[..], b"s."].concat();
    assert_eq!(read(&chain), Err(DecodeError::TooDeep));
}

#[test]
fn the_keys_of_all_dicts_count_before_any_are_compared() {
    // {"a": {K: None, "b": None, "b": None}, K: None}
    let key = "k".repeat(60);
    let pickle =
        [&b"}(\x8c\x01a}(\x8c\x3c"[..], key.as_bytes(), b"q\x00N\x8c\x01bN\x8c\x01bNuh\x00Nu."]
            .concat();
    let limits = |text_bytes_max| Limits { text_bytes_max, ..Limits::default() };
    assert_eq!(to_json(&pickle, &limits(122)), Err(DecodeError::TooLong));
    assert_eq!(to_json(&pickle, &limits(123)), Err(DecodeError::DuplicateKey));
}

#[test]
fn a_dict_has_a_bound_of_keys() {
    let dict = |count: u32| {
        let keys =
            (0..count).map(|key| [b"X\x04\0\0\0", format!("{key:04x}").as_bytes(), b"N"].concat());
        [b"}(", &keys.collect::<Vec<_>>().concat()[..], b"u."].concat()
    };
    assert!(read(&dict(65_536)).is_ok());
    // With 65,537 the last key has five digits.
    let more = [&dict(65_536)[..dict(65_536).len() - 2], b"\x8c\x0510000Nu."].concat();
    assert_eq!(read(&more), Err(DecodeError::TooManyKeys));
}

#[test]
fn what_is_no_object_or_breaks_a_rule_is_not_pickled() {
    for text in ["[1]", "1", "null", "\"{\"", " [{}]"] {
        assert_eq!(from_json(text), Err(EncodeError::NotAnObject), "{text}");
    }
    for (text, why) in [
        ("", JsonErrorKind::Truncated),
        ("{", JsonErrorKind::Truncated),
        ("{}}", JsonErrorKind::Syntax),
        (r#"{"a":NaN}"#, JsonErrorKind::Syntax),
        (r#"{"a":1,"a":2}"#, JsonErrorKind::DuplicateName),
        (r#"{"a":18446744073709551616}"#, JsonErrorKind::IntegerTooLarge),
        (r#"{"a":1e400}"#, JsonErrorKind::NumberTooLarge),
        (r#"{"a":"\ud800"}"#, JsonErrorKind::LoneSurrogate),
    ] {
        let Err(EncodeError::NotJson(error)) = from_json(text) else { panic!("{text}") };
        assert_eq!(error.kind, why, "{text}");
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let _ = read(&bytes);
    }

    #[test]
    fn no_instructions_make_it_panic_and_what_comes_out_is_a_message(
        pieces in prop::collection::vec(prop::sample::select(vec![
            &b"("[..], b"}", b"]", b")", b"\x8c\x01a", b"\x8c\x01b", b"N", b"K\x01", b"\x94", b"h\x00",
            b"h\x01", b"q\x00", b"s", b"u", b"a", b"e", b"t", b"l", b"d", b"\x85", b"\x86", b"0", b"1",
            b"2", b"I01\n", b"Vx\n", b"G\x3f\xf0\0\0\0\0\0\0", b"R", b"b", b".",
        ]), 0..24)
    ) {
        let pickle = [b"}", &pieces.concat()[..], b"."].concat();
        if let Ok(text) = read(&pickle) {
            prop_assert_eq!(ipc_protocol::check_body(&text), Ok(()));
            prop_assert_eq!(text.as_bytes()[0], b'{');
        }
    }
}

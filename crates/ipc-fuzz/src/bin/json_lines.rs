//! Reads any bytes as the input of `web-ipc --send`, one object on each line. Each line must be an
//! object that serde_json reads too, or blank, or refused with a text that contains nothing of the
//! line.

#![cfg_attr(fuzzing, no_main)]

use std::io::BufReader;

use input::{InputLine, Place};

// The command is a program, not a library, so its file is compiled here a second time.
#[path = "../../../web-ipc-cli/src/input.rs"]
mod input;

// The error type that this file takes from the command.
#[path = "../command_error.rs"]
mod error;

ipc_fuzz::target!(json_lines);

fn json_lines(input: &[u8]) -> bool {
    // The buffer is small, so that lines cross its end.
    let mut reader = BufReader::with_capacity(16, input);
    let (mut line, mut seen, mut number, mut are_good) = (Vec::new(), Vec::new(), 0, true);
    loop {
        match input::next_line(&mut reader, &mut line).expect("reading from memory cannot fail") {
            InputLine::End => break,
            InputLine::TooLong => panic!("{}", input::line_too_long(&Place::new(None, number))),
            InputLine::Whole => {
                assert!(!line.is_empty() && !line[..line.len() - 1].contains(&b'\n'));
                number += 1;
                are_good &= one_line(&line, number);
                seen.extend_from_slice(&line);
            }
        }
    }
    assert_eq!(seen, input, "a byte was lost");
    are_good && number > 0
}

/// Checks a line, and returns whether it can be sent.
fn one_line(line: &[u8], number: u64) -> bool {
    let place = Place::new(None, number);
    assert_eq!(place.to(&place), format!("lines {number} to {number}"));
    let object = match input::from_line(line, &place) {
        Ok(Some(object)) => object,
        Ok(None) => {
            assert!(is_blank(line));
            return true;
        }
        Err(failure) => {
            let said = failure.to_string();
            assert!(said.starts_with(&format!("line {number} ")), "{said}");
            assert!(said.len() < 250 && said.chars().all(|letter| (' '..='~').contains(&letter)));
            assert!(input::from_all(line, "it").is_err());
            return false;
        }
    };
    let text = object.get();
    assert!(!is_blank(line) && text.starts_with('{') && text.ends_with('}'));
    let position = line.windows(text.len()).position(|part| part == text.as_bytes());
    let around = [&line[..position.expect("the object is a part of the line")], &[]].concat();
    assert!(is_blank(&around));
    match serde_json::from_str::<serde_json::Value>(text) {
        Ok(value) => assert!(value.is_object()),
        Err(error) => assert!(error.to_string().starts_with("recursion limit"), "{error}"),
    }
    let alone = input::from_argument(text, "it").expect("it was accepted as a line");
    let all = input::from_all(line, "it").expect("it was accepted as a line");
    assert_eq!((alone.get(), all.get()), (text, text));
    true
}

fn is_blank(line: &[u8]) -> bool {
    line.strip_prefix("\u{feff}".as_bytes()).unwrap_or(line).trim_ascii().is_empty()
}

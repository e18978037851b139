//! Reads any text as a file of keys (`envelope.keys`, `session.key`). The result must be the keys
//! of its lines, or an error that names the first malformed line.

#![cfg_attr(fuzzing, no_main)]

use ipc_envelope::{KEYS_MAX, Key, KeyError, KeyRing, keys_from_text};

ipc_fuzz::target!(key_ring);

fn key_ring(input: &[u8]) -> bool {
    // The files are read as UTF-8, which refuses other bytes.
    let Ok(text) = std::str::from_utf8(input) else { return false };
    let read = keys_from_text(text);
    let ring = KeyRing::from_text(text);
    assert_eq!(ring.as_ref().map(KeyRing::len), read.as_ref().map(Vec::len));
    let lines = key_lines(text);
    let keys = match read {
        Ok(keys) => keys,
        Err(error) => {
            refused_with_reason(&lines, error);
            return false;
        }
    };
    let texts: Vec<_> = keys.iter().map(|key| key.to_base64url().to_string()).collect();
    assert_eq!(texts, lines.iter().map(|(_, line)| line.to_owned()).collect::<Vec<_>>());
    assert!((1..=KEYS_MAX).contains(&keys.len()));

    // The first key seals, all open.
    let ring = ring.expect("it has the same keys");
    let token = ring.seal(b"a plaintext", 1, [1; 16]);
    let first = KeyRing::from_text(&texts[0]).expect("a key");
    assert_eq!(
        first.open(&token, None).expect("the first key sealed it").as_slice(),
        b"a plaintext"
    );
    for text in &texts {
        // The MAC alone shows which key made a token. Of two keys with the same signing half, which
        // do not occur by chance, the ring takes the first.
        let signs_alike = |other: &&String| signing_half(other) == signing_half(text);
        if texts.iter().find(signs_alike) == Some(text) {
            let one = KeyRing::from_text(text).expect("a key");
            assert!(ring.open(&one.seal(b"", 1, [2; 16]), None).is_ok());
        }
    }
    true
}

fn signing_half(key: &str) -> Vec<u8> {
    let bytes = base64_simd::URL_SAFE.decode_to_vec(key).expect("the text of a key");
    bytes[..16].to_vec()
}

/// The lines that should be keys, with their numbers, counted from 1.
fn key_lines(text: &str) -> Vec<(usize, &str)> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let is_blank = |byte: char| byte.is_ascii_whitespace();
    (1..)
        .zip(text.split('\n'))
        .map(|(number, line)| (number, line.trim_matches(is_blank)))
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .collect()
}

/// Checks that the error reports the first fault, and contains nothing of the text.
fn refused_with_reason(lines: &[(usize, &str)], error: KeyError) {
    let bad = lines.iter().position(|(_, line)| Key::from_base64url(line).is_err());
    match error {
        KeyError::NoKeys => assert!(lines.is_empty()),
        KeyError::TooManyKeys { keys_max } => {
            assert!(lines.len() > keys_max && bad.is_none_or(|place| place >= keys_max));
        }
        KeyError::MalformedLine { line } => {
            let place = bad.expect("a line is malformed");
            assert!(place < KEYS_MAX && lines[place].0 == line);
        }
        error => panic!("{error}: not an error of a file"),
    }
}

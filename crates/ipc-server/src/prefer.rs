//! Parses the header `Prefer` (RFC 7240). Knows the form of `wait` only.

use std::borrow::Cow;

/// Returns the seconds of `wait=SECONDS` (section 4.3) in these values of the header. As section 2
/// requires, the name's case does not matter, the first of several counts, and a preference that
/// cannot be parsed is ignored.
pub(crate) fn wait_secs<'a>(mut values: impl Iterator<Item = &'a [u8]>) -> Option<u64> {
    let wait = values.find_map(|value| {
        split(value, b',').find_map(|preference| {
            // The parameters after semicolons are ignored.
            let preference = split(preference, b';').next().unwrap_or_default();
            let (name, word) =
                preference.split_at(preference.iter().position(|byte| *byte == b'=')?);
            name.trim_ascii()
                .eq_ignore_ascii_case(b"wait")
                .then(|| unquoted(word[1..].trim_ascii()))
        })
    })?;
    let digits = std::str::from_utf8(&wait).ok().filter(|text| !text.is_empty())?;
    // A number beyond 64 bits means a long time.
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().unwrap_or(u64::MAX))
}

/// Splits a text at each separator that is not inside a quoted string.
fn split(text: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    text.split(move |byte| {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_quoted => is_escaped = true,
            b'"' => is_quoted = !is_quoted,
            _ => return *byte == separator && !is_quoted,
        }
        false
    })
}

/// A token as it is, or the content of a quoted string (RFC 9110, section 5.6.4).
fn unquoted(word: &[u8]) -> Cow<'_, [u8]> {
    let Some(inner) = word.strip_prefix(b"\"").and_then(|word| word.strip_suffix(b"\"")) else {
        return Cow::Borrowed(word);
    };
    let mut is_escaped = false;
    let keep = |byte: &&u8| {
        is_escaped = **byte == b'\\' && !is_escaped;
        !is_escaped
    };
    Cow::Owned(inner.iter().filter(keep).copied().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(values: &[&str]) -> Option<u64> {
        wait_secs(values.iter().map(|value| value.as_bytes()))
    }

    #[test]
    fn every_form_of_a_wait_is_understood() {
        for value in [
            "wait=7",
            "Wait=7",
            "WAIT = 7",
            "wait\t=\t7",
            " wait =7 ",
            "wait=\"7\"",
            "wait = \"\\7\"",
            "respond-async, wait=7",
            "respond-async,wait=7;a=b",
            ",, wait=7,",
            "wait=7, wait=9",
            "wait=7; wait=9",
            "return=minimal; foo=\"some parameter\", wait=7",
            "foo=\"a, wait=9; wait=8\", wait=7",
            "foo=\"\\\", wait=9\", wait=7",
        ] {
            assert_eq!(wait(&[value]), Some(7), "{value}");
        }
        assert_eq!(wait(&["respond-async", "wait=7", "wait=9"]), Some(7));
        assert_eq!(wait(&["wait=99999999999999999999999"]), Some(u64::MAX));
    }

    #[test]
    fn what_is_no_wait_is_none() {
        for value in [
            "",
            "wait",
            "wait=",
            "wait=\"\"",
            "wait=x",
            "wait=-1",
            "wait=+1",
            "wait=1.5",
            "wait=7 8",
            "wait=\"7",
            "waiting=7",
            "foo; wait=7",
            "foo=\"wait=7\"",
            "foo=\", wait=7",
        ] {
            assert_eq!(wait(&[value]), None, "{value}");
        }
        assert_eq!(wait(&["wait=x", "wait=7"]), None, "the first one counts");
        assert_eq!(wait_secs([&b"wait=\xff"[..]].into_iter()), None);
    }
}

//! The reason why a request gets no reply: text of the application for its sender.
//!
//! The inbox cuts a reason to this form when the application gives it, and the server again before
//! it sends one of an inbox that did not. The client reads none that is longer.

/// The detail of a refusal with the code `not_answered`. After it, there may be `: ` and a reason.
const NOT_ANSWERED_TEXT: &str = "the application gave no reply";

/// How many bytes of UTF-8 a reason may have.
pub const REASON_BYTES_MAX: usize = 200;

/// `text` as a reason: control characters become spaces, those at either end are left out, and a
/// longer one than [`REASON_BYTES_MAX`] is cut between two characters.
pub fn to_reason(text: &str) -> String {
    let mut reason = String::with_capacity(text.len().min(REASON_BYTES_MAX));
    let is_blank = |char: char| char.is_whitespace() || char.is_control();
    for char in text.trim_matches(is_blank).chars() {
        let char = if char.is_control() { ' ' } else { char };
        if reason.len() + char.len_utf8() > REASON_BYTES_MAX {
            break;
        }
        reason.push(char);
    }
    reason
}

/// The detail of a refusal with [`NotAnswered`](crate::ProblemCode::NotAnswered).
pub fn detail_of_reason(reason: Option<&str>) -> String {
    match reason.map(to_reason).filter(|reason| !reason.is_empty()) {
        None => NOT_ANSWERED_TEXT.to_owned(),
        Some(reason) => format!("{NOT_ANSWERED_TEXT}: {reason}"),
    }
}

/// The reason in a detail that [`detail_of_reason`] has made; `None` if there is none in it.
pub fn reason_of_detail(detail: &str) -> Option<String> {
    let reason = to_reason(detail.strip_prefix(NOT_ANSWERED_TEXT)?.strip_prefix(": ")?);
    Some(reason).filter(|reason| !reason.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_has_one_line_and_is_cut_between_characters() {
        assert_eq!(to_reason("no such file"), "no such file");
        assert_eq!(to_reason(" a\r\nb\u{1b}[1m\u{9b}c\n"), "a  b [1m c");
        let long = format!("a{}", "\u{e9}".repeat(REASON_BYTES_MAX));
        let reason = to_reason(&long);
        assert_eq!(reason.len(), REASON_BYTES_MAX - 1);
        assert!(long.starts_with(&reason));
        assert_eq!(to_reason(&"\u{7}".repeat(3)), "", "nothing to read");
    }
    #[test]
    fn a_reason_comes_back_out_of_its_detail() {
        for (reason, detail) in [
            (None, "the application gave no reply"),
            (Some("status 3: bad"), "the application gave no reply: status 3: bad"),
        ] {
            assert_eq!(detail_of_reason(reason), detail);
            assert_eq!(reason_of_detail(detail).as_deref(), reason);
        }
        assert_eq!(detail_of_reason(Some("\n")), "the application gave no reply");
        for detail in
            ["", "why", "the application gave no reply: ", "the application gave no reply."]
        {
            assert_eq!(reason_of_detail(detail), None, "{detail}");
        }
    }
}

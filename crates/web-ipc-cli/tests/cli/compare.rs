//! Makes output comparable and compares it with what a case expects. It runs nothing.

/// In a case, a line that stands for any number of lines.
const ANY_LINES: &str = "...";
/// In a case, a part of a line that stands for any text.
const ANY_TEXT: &str = "[..]";

/// Whether real lines are as a case expects them.
pub(crate) fn lines_match(expected: &[String], real: &[String]) -> bool {
    match expected.split_first() {
        None => real.is_empty(),
        Some((first, rest)) if first == ANY_LINES => {
            (0..=real.len()).any(|skipped| lines_match(rest, &real[skipped..]))
        }
        Some((first, rest)) => real
            .split_first()
            .is_some_and(|(line, more)| text_matches(first, line) && lines_match(rest, more)),
    }
}

fn text_matches(expected: &str, real: &str) -> bool {
    let Some((before, after)) = expected.split_once(ANY_TEXT) else { return expected == real };
    let Some(real) = real.strip_prefix(before) else { return false };
    real.char_indices()
        .map(|(at, _)| at)
        .chain([real.len()])
        .any(|at| text_matches(after, &real[at..]))
}

/// A line of output with the log's time, module and line number replaced, and without blanks at its
/// end.
pub(crate) fn normalize(line: &str) -> String {
    let line = line.trim_end();
    let Some(rest) = line.get("[2025-03-19 19:38:50,608Z]".len()..) else { return line.to_owned() };
    let is_time =
        line.bytes().zip(*b"[9999-99-99 99:99:99,999Z]").all(|(byte, wanted)| match wanted {
            b'9' => byte.is_ascii_digit(),
            _ => byte == wanted,
        });
    if !is_time {
        return line.to_owned();
    }
    let replaced = rest.strip_prefix('[').and_then(|rest| {
        let (level, rest) = rest.split_once("][")?;
        let (place, text) = rest.split_once(']')?;
        let (module, number) = place.split_once(',')?;
        let is_place = !module.contains(':') && number.parse::<u32>().is_ok();
        is_place.then(|| format!("[TIME][{level}][WHERE]{text}"))
    });
    replaced.unwrap_or_else(|| format!("[TIME]{rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(expected: &str, real: &str) -> bool {
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        lines_match(&lines(expected), &lines(real))
    }

    #[test]
    fn every_line_must_be_there_and_no_other() {
        assert!(matches("", "") && matches("a\nb", "a\nb"));
        for real in ["", "a", "b\na", "a\nb\nc", "a\nb "] {
            assert!(!matches("a\nb", real), "{real:?}");
        }
    }

    #[test]
    fn dots_stand_for_lines_and_bracketed_dots_for_text() {
        assert!(
            matches("...", "")
                && matches("...", "a\nb")
                && matches("a\n...\nc", "a\nb\nc")
                && matches("a\n...", "a")
        );
        assert!(!matches("a\n...\nc", "a\nb") && !matches("...\nc", "c\nd"));
        assert!(
            matches("a[..]c", "abc")
                && text_matches("[..]", "")
                && matches("[..]b[..]", "abc")
                && matches("é[..]", "éé")
        );
        assert!(!matches("a[..]c", "abd") && !matches("[..]b[..]", "ac"));
    }

    #[test]
    fn time_and_place_of_a_log_line_are_replaced() {
        let line = "[2025-03-19 19:38:50,608Z][INFO][users,12]: Successfully created user [a,1]  ";
        assert_eq!(normalize(line), "[TIME][INFO][WHERE]: Successfully created user [a,1]");
    }

    #[test]
    fn a_log_line_of_another_form_shows_it() {
        assert_eq!(
            normalize("[2025-03-19T19:38:50,608][INFO][users,12]: a"),
            "[2025-03-19T19:38:50,608][INFO][users,12]: a"
        );
        assert_eq!(normalize("[2025-03-19 19:38:50,608Z][INFO] a"), "[TIME][INFO] a");
        assert_eq!(
            normalize("[2025-03-19 19:38:50,608Z][INFO][a::b,12]: a"),
            "[TIME][INFO][a::b,12]: a"
        );
        assert_eq!(normalize("Username: a"), "Username: a");
    }
}

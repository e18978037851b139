//! Makes two runs of one command comparable, and compares them.
//!
//! The console blocks of the pages and the real output of their commands come here. Values that
//! differ from run to run (times, ports, line numbers, rates, ids, the home's path) are replaced by
//! a word. Everything else must be equal.

/// How far a log line may have moved: server, client and test write to one log, in no fixed order.
const LOG_LINE_MOVES_MAX: usize = 3;

/// A line of the documentation that stands for any number of lines.
const ANY_LINES: &str = "...";

/// Replaces everything in a line that differs from run to run.
pub(super) fn normalize(line: &str) -> String {
    let line = without_code(without_home(line.trim_end()));
    let mut out = String::with_capacity(line.len());
    let mut at = 0;
    while let Some(next) = line[at..].chars().next() {
        let before = line[..at].chars().next_back();
        if let Some((length, word)) = variable(&line[at..], before) {
            out.push_str(word);
            at += length;
        } else {
            out.push(next);
            at += next.len_utf8();
        }
    }
    out
}

/// A fingerprint.
const SHA_256_SHAPE: &str = "hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh";

/// Shapes of fixed length: `9` is a digit, `h` a hexadecimal digit, anything else itself.
const SHAPES: &[(&str, &str)] = &[
    ("[9999-99-99 99:99:99,999Z]", "[TIME]"),
    ("hhhhhhhh-hhhh-hhhh-hhhh-hhhhhhhhhhhh", "UUID"),
    (SHA_256_SHAPE, "SHA256"),
    ("hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh", "SERIAL"),
    ("9999-99-99T99-99-99Z", "DATE"),
    ("9999-99-99T99:99:99Z", "DATE"),
    ("9999-99-99T99:99:99.999Z", "DATE"),
    ("9999-99-99 99:99:99", "DATE"),
    ("9999-99-99 99:99", "DATE"),
    ("9999-99-99", "DATE"),
];

/// If `text` begins with a value that differs from run to run: its length and the word that
/// replaces it.
fn variable(text: &str, before: Option<char>) -> Option<(usize, &'static str)> {
    let in_a_word = before.is_some_and(|c| c.is_ascii_alphanumeric());
    if !in_a_word {
        for (shape, word) in SHAPES {
            if has_shape(text, shape) {
                return Some((shape.len(), word));
            }
        }
    }
    source_line(text)
        .or_else(|| port(text, before))
        .or_else(|| if in_a_word { None } else { duration_or_rate(text) })
}

fn has_shape(text: &str, shape: &str) -> bool {
    text.len() >= shape.len()
        && text.bytes().zip(shape.bytes()).all(|(byte, wanted)| match wanted {
            b'9' => byte.is_ascii_digit(),
            b'h' => byte.is_ascii_hexdigit(),
            _ => byte == wanted,
        })
}

/// `[module,123]`
fn source_line(text: &str) -> Option<(usize, &'static str)> {
    let inside = text.strip_prefix('[')?;
    let (inside, _) = inside.split_once(']')?;
    let (module, number) = inside.split_once(',')?;
    let is_name =
        !module.is_empty() && module.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let is_number = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    (is_name && is_number).then_some((inside.len() + 2, "[WHERE]"))
}

/// `:40123` after a host
fn port(text: &str, before: Option<char>) -> Option<(usize, &'static str)> {
    before.filter(|c| c.is_ascii_alphanumeric() || *c == ']')?;
    let digits = text.strip_prefix(':')?.bytes().take_while(u8::is_ascii_digit).count();
    (4..=5).contains(&digits).then_some((digits + 1, ":PORT"))
}

/// `0.42 s`, `17 ms`, `1234/s`
fn duration_or_rate(text: &str) -> Option<(usize, &'static str)> {
    let number =
        text.bytes().take_while(|b| b.is_ascii_digit() || matches!(b, b'.' | b',')).count();
    if !text.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let rest = &text[number..];
    for (unit, word) in
        [("/s", "RATE"), (" s", "DURATION"), (" ms", "DURATION"), (" µs", "DURATION")]
    {
        let ends = |rest: &str| !rest.starts_with(|c: char| c.is_alphanumeric());
        if rest.strip_prefix(unit).is_some_and(ends) {
            return Some((number + unit.len(), word));
        }
    }
    None
}

/// `Code: 7K3QF-0T9XW-M2D4R-HB61Z-5YVCN`, which opens a bundle
fn without_code(line: String) -> String {
    let is_group =
        |group: &str| group.len() == 5 && group.bytes().all(|b| b.is_ascii_alphanumeric());
    match line.strip_prefix("Code: ") {
        Some(code) if code.split('-').count() == 5 && code.split('-').all(is_group) => {
            "Code: CODE".to_owned()
        }
        _ => line,
    }
}

/// The platform's data directory as a page shows it, and a temporary one, become one word.
fn without_home(line: &str) -> String {
    let mut line = line.to_owned();
    for ending in [".local/share/web-ipc", "Library/Application Support/web-ipc"] {
        while let Some(at) = line.find(ending) {
            let begin = line[..at]
                .rfind([' ', '\t', '"', '\'', '=', '(', '`'])
                .map_or(0, |space| space + 1);
            line.replace_range(begin..at + ending.len(), "HOME");
        }
    }
    line
}

/// Compares real output with that of a page. The error describes the first difference.
///
/// A line `...` of the page stands for any number of lines. Log lines may be swapped with near
/// neighbours. What only a slow machine logs is left out. All other lines must be in place.
pub(super) fn compare(page: &str, real: &str) -> Result<(), String> {
    let page = lines(page);
    let mut real = lines(real);
    real.retain(|line| !is_of_a_slow_machine(line));
    if matches(&page, &real) {
        return Ok(());
    }
    let first = page
        .iter()
        .zip(&real)
        .position(|(page, real)| page != real)
        .unwrap_or(page.len().min(real.len()));
    Err(format!(
        "the output differs from the page, perhaps at line {}\n--- the page\n{}\n--- the command\n{}",
        first + 1,
        page.join("\n"),
        real.join("\n")
    ))
}

/// A client logs such a line for each 5 s that it waits.
fn is_of_a_slow_machine(line: &str) -> bool {
    line.starts_with("[TIME][") && line.contains("]: waiting for ") && line.ends_with(" at most")
}

/// The normalized lines without trailing empty ones, which a page cannot show well.
fn lines(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = text.lines().map(normalize).collect();
    while lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    lines
}

fn matches(page: &[String], real: &[String]) -> bool {
    let mut parts = page.split(|line| line == ANY_LINES);
    let first = parts.next().unwrap_or_default();
    if page.iter().all(|line| line != ANY_LINES) {
        return same(page, real);
    }
    if real.len() < first.len() || !same(first, &real[..first.len()]) {
        return false;
    }
    let mut rest = &real[first.len()..];
    let parts: Vec<&[String]> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return false };
    for part in middle {
        let found = (0..=rest.len().saturating_sub(part.len()))
            .find(|at| rest.len() >= at + part.len() && same(part, &rest[*at..at + part.len()]));
        let Some(at) = found else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.len() >= last.len() && same(last, &rest[rest.len() - last.len()..])
}

/// Whether the lines are equal, except that log lines may have moved a little.
fn same(page: &[String], real: &[String]) -> bool {
    if page.len() != real.len() {
        return false;
    }
    let mut taken = vec![false; real.len()];
    page.iter().enumerate().all(|(at, line)| {
        let moves = if line.starts_with("[TIME][") { LOG_LINE_MOVES_MAX } else { 0 };
        let near = at.saturating_sub(moves)..=(at + moves).min(real.len() - 1);
        let found = near.into_iter().find(|other| !taken[*other] && real[*other] == *line);
        found.is_some_and(|other| {
            taken[other] = true;
            true
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_from_run_to_run_is_replaced() {
        for (line, expected) in [
            ("[2025-03-19 19:38:50,608Z][INFO][server,123]: up", "[TIME][INFO][WHERE]: up"),
            ("Starting web server localhost:3000", "Starting web server localhost:PORT"),
            (
                "127.0.0.1:40832 \"POST /client/auth\" 200",
                "127.0.0.1:PORT \"POST /client/auth\" 200",
            ),
            ("[::1]:40832 GET", "[::1]:PORT GET"),
            ("3 messages in 0.42 s (7/s)", "3 messages in DURATION (RATE)"),
            ("3 messages in 17 ms (1,200.5/s)", "3 messages in DURATION (RATE)"),
            ("id 6b0e2c58-8f7a-4b6e-9a77-3b8f0d3a1c22.", "id UUID."),
            ("good until 2026-12-24", "good until DATE"),
            ("\"at\":\"2026-11-27T21:08:15.049Z\",", "\"at\":\"DATE\","),
            ("good until 2026-12-24 18:00:00 UTC", "good until DATE UTC"),
            ("made /home/ada/.local/share/web-ipc", "made HOME"),
            ("kept \"/tmp/x/.local/share/web-ipc.2025-03-19T19-38-50Z\"", "kept \"HOME.DATE\""),
            ("ends with blanks  ", "ends with blanks"),
            ("Code: 7K3QF-0T9XW-M2D4R-HB61Z-5YVCN", "Code: CODE"),
        ] {
            assert_eq!(normalize(line), expected);
        }
    }

    #[test]
    fn what_is_the_same_in_every_run_stays() {
        for line in [
            "Username: test1",
            "[419] Authentication timeout, re-authenticating",
            "Received message: {\"test\":1}",
            "3 messages sent",
            "AES-128 and SHA-256",
            "port: 3000",
            "at 12:30",
            "5 seconds",
            "v1.2.3",
            "grüße – µ",
            "[INFO][a b,3]",
            "Code: 7K3QF-0T9XW",
        ] {
            assert_eq!(normalize(line), line);
        }
    }

    #[test]
    fn what_only_a_slow_machine_logs_is_left_out() {
        let waiting = "[2025-03-19 19:38:50,608Z][INFO][mod,430]: waiting for the login at 127.0.0.1:3000 for 5 s so far and 9 s more at most";
        assert!(compare("a\nb\n", &format!("a\n{waiting}\nb\n")).is_ok());
        assert!(compare("a\nb\n", "a\nwaiting for what is more at most\nb\n").is_err());
        assert!(compare("a\nb\n", &waiting.replace("waiting", "wanting")).is_err());
    }

    #[test]
    fn the_same_output_matches_and_another_does_not() {
        assert!(compare("a\nb\n", "a\nb\n\n").is_ok());
        for other in ["a\n", "a\nb\nc\n", "b\na\n", "a\nB\n", ""] {
            assert!(compare("a\nb\n", other).is_err(), "{other:?}");
        }
    }

    #[test]
    fn nothing_matches_nothing_only() {
        assert!(compare("", "").is_ok());
        assert!(compare("", "a\n").is_err());
    }

    #[test]
    fn three_dots_stand_for_any_number_of_lines() {
        for (page, real, good) in [
            ("...", "", true),
            ("...", "a\nb", true),
            ("a\n...", "a", true),
            ("a\n...", "a\nb\nc", true),
            ("a\n...", "b", false),
            ("...\nc", "a\nb\nc", true),
            ("...\nc", "a\nc\nb", false),
            ("a\n...\nc", "a\nc", true),
            ("a\n...\nc", "a", false),
            ("a\n...\nb\n...\nc", "a\nx\nb\ny\nc", true),
            ("a\n...\nb\n...\nc", "a\nx\ny\nc", false),
            ("a\n...\nb\n...\nb", "a\nb", false),
        ] {
            assert_eq!(compare(page, real).is_ok(), good, "{page:?} against {real:?}");
        }
    }

    #[test]
    fn log_lines_may_change_places_with_near_neighbours_only() {
        let log = |words: &[&str]| {
            words
                .iter()
                .map(|word| format!("[2025-03-19 19:38:50,608Z][INFO][a,1]: {word}\n"))
                .collect::<String>()
        };
        assert!(compare(&log(&["a", "b", "c"]), &log(&["b", "a", "c"])).is_ok());
        assert!(compare(&log(&["a", "b", "c"]), &log(&["a", "b", "b"])).is_err());
        let story = ["a", "b", "c", "d", "e", "f"];
        let far = ["b", "c", "d", "e", "a", "f"];
        assert!(compare(&log(&story), &log(&far)).is_err());
    }
}

//! Refuses lines of comments and of Markdown that are too wide for two windows side by side.
//!
//! `tidy` comes here with the path and the text of one file. rustfmt takes care of code. Lines that
//! cannot be wrapped may be wider: a row of a table, a line of a code block, the content of an HTML
//! comment, the definition of a link, a link alone.

use std::collections::BTreeSet;

use super::lexer::{self, Kind};
use super::read::TextFile;

/// The maximum width of a line, in characters.
const COLUMNS_MAX: usize = 100;

/// The lines of a Rust or Markdown file that are too wide.
pub(super) fn problems(file: &TextFile) -> Vec<String> {
    let too_wide = if file.path.ends_with(".rs") {
        wide_comments(&file.text)
    } else {
        let mut page = Markdown::default();
        let lines = file.text.lines().enumerate();
        lines
            .filter_map(|(at, line)| page.too_wide(line, line).map(|wide| (at + 1, wide)))
            .collect()
    };
    let said = |(line, columns)| {
        format!("{}:{line}: {columns} columns, of at most {COLUMNS_MAX}; wrap it", file.path)
    };
    too_wide.into_iter().map(said).collect()
}

/// The number of each comment line that is too wide, with its width. Comments after code do not
/// count.
fn wide_comments(source: &str) -> Vec<(usize, usize)> {
    let of_strings = lines_of_strings(source);
    let mut found = Vec::new();
    // The comment of the last line: its indentation and its marker.
    let mut open = None;
    let mut block = Markdown::default();
    for (number, line) in (1..).zip(source.lines()) {
        let start = line.len() - line.trim_start().len();
        let sign = ["///", "//!", "//"].into_iter().find(|sign| line[start..].starts_with(sign));
        let Some(sign) = sign.filter(|_| !of_strings.contains(&number)) else {
            open = None;
            continue;
        };
        if open != Some((start, sign)) {
            (open, block) = (Some((start, sign)), Markdown::default());
        }
        let text = &line[start + sign.len()..];
        let text = text.strip_prefix(' ').unwrap_or(text);
        found.extend(block.too_wide(text, line).map(|columns| (number, columns)));
    }
    found
}

/// The numbers of the lines that begin within a string.
fn lines_of_strings(source: &str) -> BTreeSet<usize> {
    let texts = lexer::tokens(source).into_iter().filter(|token| token.kind == Kind::Text);
    texts.flat_map(|token| token.line + 1..=token.line + token.text.matches('\n').count()).collect()
}

/// Reads a page, or a comment, line by line.
#[derive(Default)]
struct Markdown {
    /// The fence that will close the current code block.
    fence: Option<&'static str>,
    is_html_comment: bool,
    /// Whether the next line may belong to a list item, and so be indented.
    is_list: bool,
    /// Whether an indented line is code: after an empty line, or after such a line.
    may_be_code: bool,
}

impl Markdown {
    /// Reads the next line. Returns the width of `whole`, the line in the file, if it is too large.
    fn too_wide(&mut self, line: &str, whole: &str) -> Option<usize> {
        let may_be_wide = self.may_be_wide(line);
        let columns = whole.chars().count();
        (columns > COLUMNS_MAX && !may_be_wide).then_some(columns)
    }

    fn may_be_wide(&mut self, line: &str) -> bool {
        let text = line.trim();
        let fence = ["```", "~~~"].into_iter().find(|fence| text.starts_with(fence));
        if let Some(open) = self.fence {
            if fence == Some(open) {
                self.fence = None;
            }
            return true;
        }
        if self.is_html_comment || text.starts_with("<!--") {
            self.is_html_comment = !text.contains("-->");
            return true;
        }
        if fence.is_some() {
            self.fence = fence;
            return false;
        }
        if text.is_empty() {
            self.may_be_code = true;
            return false;
        }
        let is_indented = line.starts_with("    ");
        if is_indented && self.may_be_code && !self.is_list {
            return true;
        }
        self.may_be_code = false;
        let item = list_item(text);
        self.is_list = item.is_some() || (self.is_list && line.starts_with(' '));
        text.starts_with('|') || is_link_definition(text) || is_link(item.unwrap_or(text))
    }
}

/// The text after the marker of a list item.
fn list_item(text: &str) -> Option<&str> {
    let numbered = text.trim_start_matches(|sign: char| sign.is_ascii_digit());
    let signs: &[&str] =
        if numbered.len() < text.len() { &[". ", ") "] } else { &["- ", "* ", "+ "] };
    signs.iter().find_map(|sign| numbered.strip_prefix(sign)).map(str::trim_start)
}

/// Whether this is the definition of a link: `[name]: where`.
fn is_link_definition(text: &str) -> bool {
    text.starts_with('[')
        && text.split_once("]: ").is_some_and(|(_, target)| !target.contains(char::is_whitespace))
}

/// Whether this is only one link, an address or `[text](where)`, perhaps with a punctuation mark
/// after it.
fn is_link(text: &str) -> bool {
    let is_address = ["http://", "https://", "<http://", "<https://"]
        .into_iter()
        .any(|beginning| text.starts_with(beginning));
    let link = text.trim_end_matches(|sign: char| sign.is_ascii_punctuation() && sign != ')');
    let is_named = link.strip_prefix('[').and_then(|link| link.split_once("](")).is_some_and(
        |(name, target)| {
            !name.contains(']')
                && target.find([')', ' ']).is_some_and(|end| end + 1 == target.len())
                && target.ends_with(')')
        },
    );
    (is_address && !text.contains(char::is_whitespace)) || is_named
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A text of `columns` letters, with a space among them.
    fn words(columns: usize) -> String {
        format!("a {}", "b".repeat(columns - 2))
    }

    /// The numbers of the reported lines.
    fn lines(path: &str, text: &str) -> Vec<usize> {
        let problems = problems(&TextFile { path: path.into(), text: text.into() });
        let number = |problem: &String| problem.split(':').nth(1)?.parse().ok();
        problems.iter().map(|problem| number(problem).expect(problem)).collect()
    }

    #[test]
    fn what_is_too_wide_is_told_with_its_place_and_width() {
        let file = TextFile { path: "a.md".into(), text: format!("a\n{}\n", words(101)) };
        assert_eq!(problems(&file), ["a.md:2: 101 columns, of at most 100; wrap it"]);
    }

    #[test]
    fn a_line_may_be_as_wide_as_the_limit_and_is_counted_in_characters() {
        assert!(lines("a.md", &words(100)).is_empty());
        assert!(lines("a.md", &format!("a {}", "ä".repeat(98))).is_empty());
        assert_eq!(lines("a.md", &format!("a {}", "ä".repeat(99))), [1]);
        assert!(lines("a.rs", &format!("    // {}\n", words(93))).is_empty());
        assert_eq!(lines("a.rs", &format!("    // {}\n", words(94))), [1]);
    }

    #[test]
    fn every_kind_of_comment_counts_and_code_does_not() {
        for sign in ["//", "///", "//!", "////"] {
            assert_eq!(
                lines("a.rs", &format!("fn a() {{}}\n{sign} {}\n", words(100))),
                [2],
                "{sign}"
            );
        }
        assert!(lines("a.rs", &format!("fn a() {{}} // {}\n", words(100))).is_empty());
        assert!(lines("a.rs", &format!("let a = \"{}\";\n", words(100))).is_empty());
        assert!(lines("a.rs", &format!("let a = \"\n// {}\n\";\n", words(100))).is_empty());
    }

    #[test]
    fn paragraphs_headings_lists_and_quotes_must_fit() {
        for beginning in ["", "# ", "- ", "1. ", "> ", "  ", "[link](a) ", "<b>"] {
            let line = format!("{beginning}{}", words(101));
            assert_eq!(lines("a.md", &format!("{line}\n")), [1], "{beginning}");
        }
    }

    #[test]
    fn what_cannot_be_wrapped_may_be_wide() {
        let (wide, link) = (words(120), "x".repeat(120));
        for text in [
            format!("| {wide} |"),
            format!("```text\n{wide}\n```"),
            format!("~~~\n{wide}\n```\n{wide}\n~~~"),
            format!("<!-- {wide} -->"),
            format!("<!--\n{wide}\n-->"),
            format!("[a b]: https://{link}"),
            format!("https://{link}"),
            format!("- <https://{link}>"),
            format!("[a b](https://{link})"),
            format!("2. [a b](#{link}),"),
            format!("text:\n\n    {wide}\n\n    {wide}\n"),
        ] {
            assert!(lines("a.md", &text).is_empty(), "{text}");
            let comment: String = text.lines().map(|line| format!("/// {line}\n")).collect();
            assert!(lines("a.rs", &comment).is_empty(), "{comment}");
        }
    }

    #[test]
    fn what_only_looks_so_must_fit() {
        let (wide, link) = (words(101), "x".repeat(120));
        for (text, line) in [
            // A code block that is closed, or that belongs to another comment.
            (format!("```\n```\n{wide}"), 3),
            (format!("<!-- a -->\n{wide}"), 2),
            // An indented line that continues a paragraph or a list item is not code.
            (format!("text\n    {wide}"), 2),
            (format!("- item\n\n    {wide}"), 3),
            // More than a link alone.
            (format!("see https://{link}"), 1),
            (format!("[a](b) and [c](https://{link})"), 1),
            (format!("[a](https://{link}) b"), 1),
            (format!("[a]: b {wide}"), 1),
        ] {
            assert_eq!(lines("a.md", &text), [line], "{text}");
        }
        let two_comments = format!("/// ```\nfn a() {{}}\n/// {wide}\n");
        assert_eq!(lines("a.rs", &two_comments), [3]);
        let other_sign = format!("//! ```\n// {wide}\n");
        assert_eq!(lines("a.rs", &other_sign), [2]);
    }
}

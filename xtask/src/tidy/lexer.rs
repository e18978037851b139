//! Splits Rust source into words, signs and literals, each with its line.
//!
//! `module_tree` comes here. Comments are left out and a string is one literal, so that a word in
//! them is not taken for code. This file does not check the source: the compiler does.

/// The kind of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// An identifier or a keyword. A raw identifier has no `r#`.
    Word,
    /// One character of punctuation. `::` is two tokens.
    Sign,
    /// A string, as written between its quotes.
    Text,
    /// A number, a character or a lifetime.
    Other,
}

/// A token, borrowed from the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token<'a> {
    pub(super) kind: Kind,
    pub(super) text: &'a str,
    /// The line of the token, counted from 1.
    pub(super) line: usize,
}

impl Token<'_> {
    /// Whether the token is this word.
    pub(super) fn is_word(&self, word: &str) -> bool {
        self.kind == Kind::Word && self.text == word
    }

    /// Whether the token is this sign.
    pub(super) fn is_sign(&self, sign: &str) -> bool {
        self.kind == Kind::Sign && self.text == sign
    }
}

/// The tokens of `source`, in order. Invalid source gives any tokens, but never a panic.
pub(super) fn tokens(source: &str) -> Vec<Token<'_>> {
    let mut lexer = Lexer { source, at: 0, line: 1, found: Vec::new() };
    while lexer.step() {}
    lexer.found
}

struct Lexer<'a> {
    source: &'a str,
    /// The position of the next token, in bytes.
    at: usize,
    line: usize,
    found: Vec<Token<'a>>,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        &self.source[self.at..]
    }

    /// Steps over the next token, comment or space. Returns false at the end.
    fn step(&mut self) -> bool {
        let rest = self.rest();
        let Some(first) = rest.chars().next() else { return false };
        if first.is_whitespace() {
            self.skip(first.len_utf8());
        } else if rest.starts_with("//") {
            self.skip(rest.find('\n').unwrap_or(rest.len()));
        } else if rest.starts_with("/*") {
            self.skip(block_comment_len(rest));
        } else if let Some((opening, hashes)) = string_opening(rest) {
            self.string(opening, hashes);
        } else if let Some(name) =
            rest.strip_prefix("r#").filter(|name| name.starts_with(is_word_start))
        {
            self.skip(2);
            self.push(Kind::Word, word_len(name));
        } else if is_word_start(first) {
            self.push(Kind::Word, word_len(rest));
        } else if first.is_ascii_digit() {
            self.push(Kind::Other, word_len(rest));
        } else if first == '\'' {
            self.push(Kind::Other, quote_len(rest));
        } else {
            self.push(Kind::Sign, first.len_utf8());
        }
        true
    }

    fn skip(&mut self, len: usize) {
        self.line += self.rest()[..len].matches('\n').count();
        self.at += len;
    }

    fn push(&mut self, kind: Kind, len: usize) {
        self.found.push(Token { kind, text: &self.rest()[..len], line: self.line });
        self.skip(len);
    }

    /// Reads a string whose opening quote ends after `opening` bytes. `hashes` is the number of
    /// hashes that close a raw string.
    fn string(&mut self, opening: usize, hashes: Option<usize>) {
        self.skip(opening);
        let rest = self.rest();
        let closing = format!("\"{}", "#".repeat(hashes.unwrap_or(0)));
        let len = match hashes {
            Some(_) => rest.find(&closing),
            None => unescaped(rest, '"'),
        };
        self.push(Kind::Text, len.unwrap_or(rest.len()));
        self.skip(closing.len().min(self.rest().len()));
    }
}

fn is_word_start(character: char) -> bool {
    character == '_' || character.is_alphabetic()
}

fn word_len(rest: &str) -> usize {
    rest.find(|character: char| character != '_' && !character.is_alphanumeric())
        .unwrap_or(rest.len())
}

/// The length of a string's opening, quote included, and the number of hashes if it is raw. `None`
/// if no string begins here.
fn string_opening(rest: &str) -> Option<(usize, Option<usize>)> {
    let prefix = ["br", "cr", "r", "b", "c"]
        .into_iter()
        .find(|prefix| rest.starts_with(prefix))
        .unwrap_or("");
    let after = &rest[prefix.len()..];
    let hashes = after.len() - after.trim_start_matches('#').len();
    let is_raw = prefix.ends_with('r');
    (after[hashes..].starts_with('"') && (is_raw || hashes == 0))
        .then(|| (prefix.len() + hashes + 1, is_raw.then_some(hashes)))
}

/// The position, in bytes, of the first `quote` without a backslash before it.
fn unescaped(rest: &str, quote: char) -> Option<usize> {
    let mut is_escaped = false;
    rest.char_indices().find_map(|(at, character)| {
        let found = character == quote && !is_escaped;
        is_escaped = character == '\\' && !is_escaped;
        found.then_some(at)
    })
}

/// The length of a token that begins with `'`: a character such as `'a'` and `'\''`, or a lifetime
/// such as `'a`.
fn quote_len(rest: &str) -> usize {
    let after = &rest[1..];
    let Some(first) = after.chars().next() else { return 1 };
    if first == '\\' || after[first.len_utf8()..].starts_with('\'') {
        return unescaped(after, '\'').map_or(rest.len(), |at| at + 2);
    }
    1 + word_len(after)
}

/// The length of a block comment, which may contain others.
fn block_comment_len(rest: &str) -> usize {
    let (mut at, mut depth) = (2, 1);
    while depth > 0 {
        let Some(next) = rest[at..].find(['*', '/']).map(|found| at + found) else {
            return rest.len();
        };
        let (len, deeper) = match &rest.as_bytes()[next..] {
            [b'/', b'*', ..] => (2, 1),
            [b'*', b'/', ..] => (2, -1),
            _ => (1, 0),
        };
        at = next + len;
        depth += deeper;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(source: &str) -> Vec<&str> {
        tokens(source).into_iter().map(|token| token.text).collect()
    }

    #[test]
    fn words_and_signs_are_found_with_their_lines() {
        let found = tokens("use a::b;\n\nfn c() {}\n");
        let with_lines: Vec<_> = found.iter().map(|token| (token.text, token.line)).collect();
        let first = [("use", 1), ("a", 1), (":", 1), (":", 1), ("b", 1), (";", 1)];
        let third = [("fn", 3), ("c", 3), ("(", 3), (")", 3), ("{", 3), ("}", 3)];
        assert_eq!(with_lines, [first, third].concat());
    }

    #[test]
    fn comments_are_left_out_and_their_lines_counted() {
        let found = tokens("// use a;\n/* use b; /* use c;\n */ use d; */ e /* */ f /// g\n/**/h");
        let with_lines: Vec<_> = found.iter().map(|token| (token.text, token.line)).collect();
        assert_eq!(with_lines, [("e", 3), ("f", 3), ("h", 4)]);
    }

    #[test]
    fn a_string_is_one_token_however_it_is_written() {
        for (source, text) in [
            (r#""use a; // b""#, "use a; // b"),
            (r#""a \" b \\""#, r#"a \" b \\"#),
            ("r\"a \\\"", "a \\"),
            ("r#\"a \" b\"#", "a \" b"),
            ("br##\"a \"# b\"##", "a \"# b"),
            ("b\"a\"", "a"),
            ("c\"a\"", "a"),
            ("cr#\"a\"#", "a"),
            ("\"\"", ""),
        ] {
            let source = format!("{source} end");
            let found = tokens(&source);
            assert_eq!(found.len(), 2, "{source}: {found:?}");
            assert_eq!((found[0].kind, found[0].text), (Kind::Text, text), "{source}");
            assert!(found[1].is_word("end"), "{source}");
        }
    }

    #[test]
    fn a_string_over_several_lines_counts_them() {
        let found = tokens("\"a\n\\\"\n\" end");
        assert_eq!((found[1].text, found[1].line), ("end", 3));
    }

    #[test]
    fn characters_and_lifetimes_are_told_apart() {
        assert_eq!(
            texts(r"'a' 'b '\'' '\\' '\u{1f}' '{' 'static 'ä'"),
            ["'a'", "'b", r"'\''", r"'\\'", r"'\u{1f}'", "'{'", "'static", "'ä'"]
        );
        assert_eq!(texts("b'\"' x"), ["b", "'\"'", "x"]);
        assert_eq!(texts("<'a>"), ["<", "'a", ">"]);
    }

    #[test]
    fn raw_words_are_words_and_numbers_are_not() {
        assert_eq!(
            texts("r#mod r#a 0x1f 1_000u8 1.5"),
            ["mod", "a", "0x1f", "1_000u8", "1", ".", "5"]
        );
        assert!(tokens("10").iter().all(|token| token.kind == Kind::Other));
    }

    #[test]
    fn what_is_cut_off_does_no_harm() {
        for source in ["\"a", "r#\"a\"", "/* a", "/*/", "'", "'\\", "r#", "b", "\"\\", "/", "ä\"ö"]
        {
            let _ = tokens(source);
        }
    }
}
